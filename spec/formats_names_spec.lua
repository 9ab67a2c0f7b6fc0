-- What quantized checkpoints call things, and which layers engines take together, held against
-- small decoders of the rules by which engines look modules up.

local command = require "spec.support.command"
local json = require "rondo.json"
local models = require "spec.support.models"
local quantized = require "spec.support.quantized"
local rondo = require "rondo"

local element = quantized.element

-- A folder with a model of these weights ({ rows, cols } or { experts, rows, cols } by module path,
-- stacked experts under their own name) and of this configuration.
local function model(shapes, config)
  local folder, tensors, seed = models.temporary(), {}, 0
  for path, shape in pairs(shapes) do
    local name = #shape == 3 and path or path .. ".weight"
    seed = seed + #path
    tensors[name] = (rondo.randn(shape, seed) * (1 + seed % 7)):to "bf16"
  end
  assert(rondo.safetensors.save(folder .. "/model.safetensors", tensors))
  local given = { model_type = "llama", num_hidden_layers = 2, torch_dtype = "bfloat16" }
  for key, value in pairs(config or {}) do given[key] = value end
  models.write(folder .. "/config.json", json.encode(given))
  return folder
end

local function quantize(folder, options)
  local out = models.temporary() .. "/out"
  assert(rondo.quantize(folder, out, options))
  return out
end

-- What a plan decides: by module path, the label of the scheme or "keep"; and the rules.
local function decided(folder, options)
  local schemes, rules = {}, {}
  for _, row in ipairs(assert(rondo.plan(folder, options)).rows) do
    local path = row.name:gsub("%.weight$", "")
    schemes[path], rules[path] = row.scheme or "keep", row.rule
  end
  return schemes, rules
end

local layer = "model.layers.0."

-- The layers that vLLM makes one matrix of (packed_modules_mapping of its models).
local fused = {
  { "self_attn", "q_proj", "k_proj", "v_proj" }, { "mlp", "gate_proj", "up_proj" },
  { "self_attn", "q_a_proj", "kv_a_proj_with_mqa" },
  { "linear_attn", "in_proj_qkv", "in_proj_z" }, { "linear_attn", "in_proj_b", "in_proj_a" },
}

local function paths_of(family)
  local paths = {}
  for i = 2, #family do paths[i - 1] = layer .. family[1] .. "." .. family[i] end
  return paths
end

describe("layers that engines fuse", function()
  for _, family in ipairs(fused) do
    local paths, words = paths_of(family), table.concat(family, ", ", 2)

    it("have one scale of the tensor: " .. words, function()
      local shapes = {}
      for _, path in ipairs(paths) do shapes[path] = { 16, 32 } end
      local folder = model(shapes)
      for format, part in pairs { modelopt = ".weight_scale_2",
                                  ["compressed-tensors"] = ".weight_global_scale" } do
        for _, given in ipairs { { dtype = "nvfp4" },
                                 { recipe = rondo.recipe { { "layers.*", rondo.nvfp4 },
                                                           otherwise = rondo.keep } } } do
          given.format = format
          local tensors = quantized.tensors(quantize(folder, given))
          local first = element(tensors[paths[1] .. part], 0)
          for _, path in ipairs(paths) do assert.equal(first, element(tensors[path .. part], 0)) end
        end
      end
    end)

    it("fall back together: " .. words, function()
      local shapes = { [layer .. "self_attn.o_proj"] = { 16, 32 } }
      for _, path in ipairs(paths) do shapes[path] = { 16, 32 } end
      shapes[paths[2]] = { 12, 32 } -- not as many as the int4 codes of a word or two
      local folder = model(shapes)
      for _, given in ipairs { { fallback = "keep", scheme = "sym" },
                               { recipe = rondo.recipe {
                                   { "layers.*", rondo.int4 { group_size = 32 } },
                                   otherwise = rondo.keep, fallback = { rondo.int8, rondo.keep } } }
                             } do
        given.format = "gptq"
        local schemes, rules = decided(folder, given)
        local want = given.recipe and "int8 sym row scale f16" or "keep"
        assert.equal("int4 sym g32 scale f16", schemes[layer .. "self_attn.o_proj"])
        local reason = "12 outputs are no multiple of 8, the codes of a word"
        for i, path in ipairs(paths) do
          assert.equal(want, schemes[path])
          local why = i == 2 and reason
            or ("it goes with %s: %s"):format(paths[2]:match "[^.]*$", reason)
          assert.truthy(rules[path]:find("instead: " .. why .. ")", 1, true), rules[path])
        end
        assert.equal(#paths, assert(rondo.plan(folder, given)).totals.fallbacks)
      end
    end)
  end

  it("differ where the recipe says fused = false", function()
    local q, k = layer .. "self_attn.q_proj", layer .. "self_attn.k_proj"
    local folder = model { [q] = { 16, 32 }, [k] = { 12, 32 } }
    local schemes = decided(folder, { format = "gptq", recipe = rondo.recipe {
      { "layers.*", rondo.int4 { group_size = 32 } }, otherwise = rondo.keep, fused = false,
      fallback = rondo.keep } })
    assert.same({ "int4 sym g32 scale f16", "keep" }, { schemes[q], schemes[k] })
  end)

  it("are an error without a fallback that fits them all", function()
    local q, k = layer .. "self_attn.q_proj", layer .. "self_attn.k_proj"
    local folder = model { [q] = { 16, 32 }, [k] = { 12, 30 } }
    local good, message = pcall(rondo.plan, folder, { format = "gptq", scheme = "sym",
      fallback = { rondo.int8 } })
    assert.is_false(good)
    assert.truthy(message:find(k, 1, true), message)
    assert.truthy(message:find("no fallback fits", 1, true), message)
  end)

  it("are warned of where plain options tell them apart, for formats that engines load", function()
    local folder = model { [layer .. "self_attn.q_proj"] = { 16, 32 },
                           [layer .. "self_attn.k_proj"] = { 16, 32 } }
    for format, warned in pairs { packed = false, mlx = false, gptq = true } do
      local code, _, err = command.run { "plan", folder, "--format", format, "--exclude",
                                         "*k_proj*" }
      assert.equal(0, code)
      local text = "engines fuse q, k and v, which need the same scheme, but " .. layer
      assert.equal(warned, err:find(text, 1, true) ~= nil, err)
    end
  end)

  it("fill blocks of fp8, but for the last of them", function()
    local q, k, v = layer .. "self_attn.q_proj", layer .. "self_attn.k_proj",
      layer .. "self_attn.v_proj"
    local function schemes(rows)
      local folder = model { [q] = { rows[1], 128 }, [k] = { rows[2], 128 },
                             [v] = { rows[3], 128 } }
      return decided(folder, { format = "fp8", dtype = "fp8", fallback = "keep" })
    end
    local block = "fp8 128x128"
    local found = schemes { 256, 128, 64 }
    assert.same({ block, block, block }, { found[q], found[k], found[v] })
    found = schemes { 256, 64, 64 }
    assert.same({ "keep", "keep", "keep" }, { found[q], found[k], found[v] })
    -- DeepSeek-V3's own shapes: 1536 and 576 outputs.
    local a, b = layer .. "self_attn.q_a_proj", layer .. "self_attn.kv_a_proj_with_mqa"
    found = decided(model { [a] = { 1536, 128 }, [b] = { 576, 128 } },
                    { format = "fp8", dtype = "fp8" })
    assert.same({ block, block }, { found[a], found[b] })
    -- Alone, 64 outputs do no harm.
    found = decided(model { [q] = { 64, 128 } }, { format = "fp8", dtype = "fp8" })
    assert.equal(block, found[q])
  end)
end)

describe("the experts of a layer", function()
  local above = layer .. "mlp.experts."
  local function shapes(down)
    local list = { [layer .. "mlp.gate"] = { 2, 32 } }
    for expert = 0, 1 do
      list[above .. expert .. ".gate_proj"] = { 32, 32 }
      list[above .. expert .. ".up_proj"] = { 32, 32 }
      list[above .. expert .. ".down_proj"] = down
    end
    return list
  end

  it("have one scheme in formats that engines load", function()
    local folder = model(shapes { 32, 32 })
    local function mixed(together)
      return rondo.recipe { { "*down_proj", rondo.int8 { group_size = 32 } },
                            { "mlp.gate", rondo.keep }, fused = together,
                            otherwise = rondo.int4 { group_size = 32 } }
    end
    for _, format in ipairs { "compressed-tensors", "gptq" } do
      local good, message = pcall(rondo.plan, folder, { format = format, recipe = mixed() })
      assert.is_false(good)
      assert.truthy(message:find("engines fuse the experts of a layer, which need the same scheme, "
        .. "but " .. above .. "0.down_proj gets int8", 1, true), message)
      assert(rondo.plan(folder, { format = format, recipe = mixed(false) }))
    end
    assert(rondo.plan(folder, { format = "packed", recipe = mixed() }))
  end)

  it("fall back together", function()
    local list = shapes { 32, 32 }
    list[above .. "1.down_proj"] = { 28, 32 }
    list[layer .. "self_attn.o_proj"] = { 16, 32 }
    local schemes = decided(model(list), { format = "gptq", scheme = "sym", fallback = "keep" })
    for path in pairs(list) do
      local want = path:find "o_proj" and "int4 sym g32 scale f16" or "keep"
      assert.equal(want, schemes[path])
    end
  end)

  it("are one unit of a budget", function()
    local folder = model(shapes { 32, 32 })
    local schemes = decided(folder, { format = "compressed-tensors", recipe = rondo.recipe {
      { "mlp.gate", rondo.keep }, otherwise = rondo.int4 { group_size = 32 },
      policy = rondo.policy.budget { bits = 7, choices = {
        rondo.int4 { group_size = 32 }, rondo.int8 { group_size = 32 } } } } })
    local first = schemes[above .. "0.down_proj"]
    for path in pairs(shapes { 32, 32 }) do
      if path:find "experts" then assert.equal(first, schemes[path]) end
    end
  end)

  it("stay stacked, all of them, where one tensor of them cannot be cut", function()
    local folder = model { [above .. "gate_up_proj"] = { 2, 64, 32 },
                           [above .. "down_proj"] = { 2, 32, 32 } }
    local biases = { [above .. "down_proj_bias"] = rondo.randn({ 2, 32 }, 1):to "bf16" }
    assert(rondo.safetensors.save(folder .. "/model-2.safetensors", biases))
    local all = { weight_map = { [above .. "gate_up_proj"] = "model.safetensors",
                                 [above .. "down_proj"] = "model.safetensors",
                                 [above .. "down_proj_bias"] = "model-2.safetensors" } }
    models.write(folder .. "/model.safetensors.index.json", json.encode(all))
    for _, format in ipairs { "compressed-tensors", "gptq", "mlx" } do
      local schemes = decided(folder, { format = format, group_size = 32, fallback = "keep" })
      assert.same({ "keep", "keep" }, { schemes[above .. "gate_up_proj"],
                                        schemes[above .. "down_proj"] })
    end
  end)
end)
