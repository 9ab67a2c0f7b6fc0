-- What quantized checkpoints call things, and which layers engines take together, held against
-- small decoders of the rules by which engines look modules up.

local command = require "spec.support.command"
local json = require "rondo.json"
local models = require "spec.support.models"
local quantized = require "spec.support.quantized"
local rondo = require "rondo"
local shell = require "spec.support.shell"

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
                             [v] = { rows[3], 128 }, [layer .. "mlp.down_proj"] = { 128, 128 } }
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

describe("a router", function()
  it("is no part of a matrix, though it is called gate", function()
    local router, gate = layer .. "mlp.gate", layer .. "mlp.gate_proj"
    local folder = model { [router] = { 2, 32 }, [gate] = { 16, 32 },
                           [layer .. "mlp.up_proj"] = { 16, 32 } }
    local out = quantize(folder, { format = "compressed-tensors", recipe = rondo.recipe {
      { "mlp.gate", rondo.keep }, otherwise = rondo.int4 { group_size = 32 } } })
    assert.same({ router }, quantized.json(out).quantization_config.ignore)
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
                           [above .. "down_proj"] = { 2, 32, 32 },
                           [layer .. "self_attn.o_proj"] = { 16, 32 } }
    local biases = { [above .. "down_proj_bias"] = rondo.randn({ 2, 32 }, 1):to "bf16" }
    assert(rondo.safetensors.save(folder .. "/model-2.safetensors", biases))
    local all = { weight_map = { [above .. "gate_up_proj"] = "model.safetensors",
                                 [above .. "down_proj"] = "model.safetensors",
                                 [layer .. "self_attn.o_proj.weight"] = "model.safetensors",
                                 [above .. "down_proj_bias"] = "model-2.safetensors" } }
    models.write(folder .. "/model.safetensors.index.json", json.encode(all))
    for _, format in ipairs { "compressed-tensors", "gptq", "mlx" } do
      local schemes = decided(folder, { format = format, group_size = 32, fallback = "keep" })
      assert.same({ "keep", "keep" }, { schemes[above .. "gate_up_proj"],
                                        schemes[above .. "down_proj"] })
    end
  end)
end)

-- ---- How engines look up what a configuration says ----

-- The literal strings that a pattern of Python's stands for, each with whether it must end there.
local function strings_of(pattern)
  local before, group, behind = pattern:match "^(.-)%(%?:(.-)%)(.*)$"
  if not before then
    local ends = pattern:sub(-1) == "$"
    local text = pattern:gsub("^%^", ""):gsub("%$$", ""):gsub("\\(.)", "%1")
    return { { text = text, ends = ends } }
  end
  local list = {}
  for choice in (group .. "|"):gmatch "(.-)|" do
    for _, found in ipairs(strings_of(before .. choice .. behind)) do list[#list + 1] = found end
  end
  return list
end

-- re.match of patterns as simple as those here.
local function matches(pattern, name)
  assert.equal("^", pattern:sub(1, 1))
  for _, s in ipairs(strings_of(pattern)) do
    local found = name:sub(1, #s.text) == s.text
    if found and (not s.ends or name == s.text) then return true end
  end
  return false
end

local packed = { qkv_proj = { "q_proj", "k_proj", "v_proj" },
                 gate_up_proj = { "gate_proj", "up_proj" },
                 fused_qkv_a_proj = { "q_a_proj", "kv_a_proj_with_mqa" },
                 in_proj_qkvz = { "in_proj_qkv", "in_proj_z" },
                 in_proj_ba = { "in_proj_b", "in_proj_a" } }

local vllm = {}

-- vLLM's get_dynamic_override: false where a module is skipped, what overrides for it, or nil.
-- Order matters in Python; here no module may match two that differ.
function vllm.dynamic(config, name)
  local found
  for pattern, fields in pairs(config.dynamic) do
    if matches(pattern:sub(3), name) then
      local value = pattern:sub(1, 2) ~= "-:" and fields
      assert(found == nil or json.encode(found) == json.encode(value), name)
      found = value
    end
  end
  return found
end

local function has(list, wanted)
  for _, item in ipairs(list) do
    if item == wanted then return true end
  end
  return false
end

-- What is asked of each part of a fused module, which must agree; of another itself.
local function of_parts(name, ask)
  local above, leaf = name:match "^(.*%.)([^.]*)$"
  if not packed[leaf] then return ask(name) end
  local first = ask(above .. packed[leaf][1])
  for _, part in ipairs(packed[leaf]) do assert.equal(first, ask(above .. part), name) end
  return first
end

-- Whether vLLM skips a module: compressed-tensors (should_ignore_layer; of experts the scheme is
-- asked of the first's projections), awq (substrings of the name), fp8, bitsandbytes.
vllm.skips = {
  ["compressed-tensors"] = function(config, name, experts)
    local function ignored(path) return has(config.ignore, path) end
    if not experts then
      return ignored(name) or of_parts(name, ignored)
    end
    local first = ignored(name .. ".0.gate_proj")
    for _, tail in ipairs { "up_proj", "down_proj" } do
      assert.equal(first, ignored(name .. ".0." .. tail))
    end
    return first
  end,
  awq = function(config, name)
    return of_parts(name, function(path)
      for _, part in ipairs(config.modules_to_not_convert) do
        if path:find(part, 1, true) then return true end
      end
      return false
    end)
  end,
  fp8 = function(config, name, experts)
    if experts then
      for _, path in ipairs(config.modules_to_not_convert) do
        if path:find("experts", 1, true) and path:find(name, 1, true) then return true end
      end
      return false
    end
    return of_parts(name, function(path) return has(config.modules_to_not_convert, path) end)
  end,
  bitsandbytes = function(config, name)
    local at = 0
    repeat
      at = name:find(".", at + 1, true) or #name + 1
      if has(config.llm_int8_skip_modules, name:sub(1, at - 1)) then return true end
    until at > #name
    return false
  end,
  gptq = function(config, name) return vllm.dynamic(config, name) == false end,
}
vllm.skips["gptq-v2"] = vllm.skips.gptq

local function config_of(folder, options)
  return quantized.json(quantize(folder, options)).quantization_config
end

describe("overrides of gptq", function()
  local attention, mlp = layer .. "self_attn.", layer .. "mlp."

  it("are found for the module that vLLM fuses, and for its layers by GPTQModel", function()
    local shapes = { [mlp .. "gate_proj"] = { 32, 32 }, [mlp .. "up_proj"] = { 32, 32 },
                     [mlp .. "down_proj"] = { 32, 32 } }
    for _, name in ipairs { "q_proj", "k_proj", "v_proj" } do
      shapes[attention .. name] = { 16, 32 }
    end
    local config = config_of(model(shapes), { format = "gptq", recipe = rondo.recipe {
      { "self_attn", rondo.int8 { group_size = 32 } }, { "lm_head", rondo.keep },
      otherwise = rondo.int4 { group_size = 32 }, fallback = rondo.keep } })
    local eight = { bits = 8, group_size = 32, sym = true }
    local base = { bits = config.bits, group_size = config.group_size, sym = config.sym }
    for _, name in ipairs { "q_proj", "k_proj", "v_proj", "qkv_proj" } do
      assert.same(eight, vllm.dynamic(config, attention .. name) or base)
    end
    for _, name in ipairs { "gate_proj", "up_proj", "down_proj", "gate_up_proj" } do
      assert.equal(4, (vllm.dynamic(config, mlp .. name) or base).bits)
    end
  end)

  it("are found for all experts of a layer", function()
    local shapes = { [layer .. "self_attn.o_proj"] = { 16, 32 }, ["model.layers.1.mlp.experts.0.w2"]
                     = { 32, 32 }, ["model.layers.10.mlp.experts.0.w2"] = { 32, 32 } }
    for expert = 0, 1 do
      for _, name in ipairs { "w1", "w2", "w3" } do
        shapes[("%smlp.experts.%d.%s"):format(layer, expert, name)] = { 32, 32 }
      end
    end
    local config = config_of(model(shapes), { format = "gptq", recipe = rondo.recipe {
      { "layers.1.mlp.experts.*", rondo.int8 { group_size = 32 } }, { "lm_head", rondo.keep },
      otherwise = rondo.int4 { group_size = 32 } } })
    assert.equal(4, config.bits)
    for _, name in ipairs { "experts", "experts.0.w2", "experts.routed_experts" } do
      assert.equal(8, vllm.dynamic(config, "model.layers.1.mlp." .. name).bits)
      assert.is_nil(vllm.dynamic(config, "model.layers.10.mlp." .. name))
      assert.is_nil(vllm.dynamic(config, layer .. "mlp." .. name))
    end
  end)

  it("are found where an engine turns model.language_model round", function()
    local path = "language_model.layers.0.self_attn.o_proj"
    local config = config_of(model { ["model." .. path] = { 16, 32 },
                                     ["model.language_model.layers.0.mlp.down_proj"] = { 16, 32 },
                                     ["model.language_model.layers.1.mlp.down_proj"] = { 16, 32 } },
                             { format = "gptq", recipe = rondo.recipe {
      { "o_proj", rondo.int8 { group_size = 32 } }, otherwise = rondo.int4 { group_size = 32 } } })
    for _, name in ipairs { "model." .. path,
                            "language_model.model.layers.0.self_attn.o_proj" } do
      assert.equal(8, vllm.dynamic(config, name).bits)
    end
    assert.is_nil(vllm.dynamic(config, "model.language_model.layers.0.mlp.down_proj"))
  end)
end)

local SIZE = 128 -- fills the blocks of fp8

-- Families by how their experts stand in the checkpoint: what they are called.
local expert_families = {
  ["Qwen3-MoE's"] = { "mlp.experts", function(add)
    for expert = 0, 1 do
      for _, name in ipairs { "gate_proj", "up_proj", "down_proj" } do
        add(expert .. "." .. name, { SIZE, SIZE })
      end
    end
  end },
  ["Mixtral's"] = { "block_sparse_moe.experts", function(add)
    for expert = 0, 1 do
      for _, name in ipairs { "w1", "w2", "w3" } do add(expert .. "." .. name, { SIZE, SIZE }) end
    end
  end },
  ["those that are stacked"] = { "mlp.experts", function(add)
    add("gate_up_proj", { 2, 2 * SIZE, SIZE })
    add("down_proj", { 2, SIZE, SIZE })
  end },
}

for family, about in pairs(expert_families) do
  local container = layer .. about[1]
  local shapes = { [layer .. "self_attn.o_proj"] = { SIZE, SIZE } }
  for _, name in ipairs { "q_proj", "k_proj", "v_proj" } do
    shapes[layer .. "self_attn." .. name] = { SIZE, SIZE }
  end
  about[2](function(name, shape) shapes[container .. "." .. name] = shape end)
  local folder = model(shapes)

  local int4 = rondo.int4 { group_size = 32 }
  local schemes = { ["compressed-tensors"] = int4, gptq = int4, ["gptq-v2"] = int4,
                    awq = int4 { symmetric = false }, fp8 = rondo.fp8,
                    bitsandbytes = rondo.nf4 { group_size = 32 } }

  describe("experts, " .. family .. ",", function()
    for format, scheme in pairs(schemes) do
      it("are skipped by vLLM where they are kept, and nothing else is: " .. format, function()
        local config = config_of(folder, { format = format, recipe = rondo.recipe {
          { "experts", rondo.keep }, { "layers.*", scheme }, otherwise = rondo.keep } })
        local skips = vllm.skips[format]
        assert.is_true(skips(config, container, true))
        assert.is_false(skips(config, layer .. "self_attn.o_proj"))
        assert.is_false(skips(config, layer .. "self_attn.qkv_proj"))
      end)

      it("are quantized in vLLM where attention is kept: " .. format, function()
        local config = config_of(folder, { format = format, recipe = rondo.recipe {
          { "o_proj", scheme }, { "self_attn", rondo.keep }, { "layers.*", scheme },
          otherwise = rondo.keep } })
        local skips = vllm.skips[format]
        assert.is_false(skips(config, container, true))
        assert.is_false(skips(config, layer .. "self_attn.o_proj"))
        assert.is_true(skips(config, layer .. "self_attn.qkv_proj"))
      end)
    end

    it("have a scheme of their own in compressed-tensors", function()
      local config = config_of(folder, { format = "compressed-tensors", recipe = rondo.recipe {
        { "experts", rondo.int8 { group_size = 32 } },
        { "layers.*", rondo.int4 { group_size = 32 } }, otherwise = rondo.keep } })
      local bits = {}
      for _, group in pairs(config.config_groups) do
        for _, path in ipairs(group.targets) do bits[path] = group.weights.num_bits end
      end
      for _, name in ipairs { "gate_proj", "up_proj", "down_proj" } do
        assert.equal(8, bits[container .. ".0." .. name])
      end
      assert.equal(4, bits[layer .. "self_attn.o_proj"])
    end)
  end)
end

-- ---- mlx-lm ----

describe("names for mlx-lm", function()
  local above = layer .. "mlp."
  local function stacked(model_type, config)
    config = config or {}
    config.model_type = model_type
    return model({ [above .. "experts.gate_up_proj"] = { 2, 64, 32 },
                   [above .. "experts.down_proj"] = { 2, 32, 32 },
                   ["model.layers.1.mlp.experts.down_proj"] = { 2, 32, 32 } }, config)
  end

  -- The members of mlx-lm's modules, from mlx_lm/models/FAMILY.py.
  local modules = { qwen3_moe = "switch_mlp", mixtral = "switch_mlp", llama4 = "experts",
                    dots1 = "experts", afmoe = "experts", gemma4_text = "experts.switch_glu",
                    gemma4 = "experts.switch_glu" }

  for model_type, name in pairs(modules) do
    it("of stacked experts are the family's: " .. model_type, function()
      local out = quantize(stacked(model_type), { format = "mlx", group_size = 32 })
      local tensors = quantized.tensors(out)
      for _, projection in ipairs { "gate_proj", "up_proj", "down_proj" } do
        for _, part in ipairs { "weight", "scales", "biases" } do
          local tensor = tensors[("%s%s.%s.%s"):format(above, name, projection, part)]
          assert.truthy(tensor, projection)
          assert.equal(2, tensor.shape[1])
        end
      end
      assert.is_nil(tensors[above .. "experts.gate_up_proj"])
      assert.truthy(tensors["model.layers.1.mlp." .. name .. ".down_proj.weight"])
    end)
  end

  it("of stacked experts are a guess for a family that nobody knows, which is said", function()
    for model_type, warned in pairs { nobodys_moe = true, qwen3_moe = false } do
      local code, _, err = command.run { "plan", stacked(model_type), "--format", "mlx",
                                         "--group-size", "32" }
      assert.equal(0, code)
      assert.equal(warned, err:find("nobody here knows what mlx-lm calls the experts", 1, true)
                           ~= nil, err)
    end
  end)

  -- What mlx-lm calls what a checkpoint calls `path` once it is loaded (sanitize of the family).
  local sanitize = {
    llama = function(path) return path end,
    qwen3_5 = function(path)
      if path:find "^model%.language_model" then
        return (path:gsub("^model%.language_model", "language_model.model"))
      end
      return path:find "^language_model%." and path or "language_model." .. path
    end,
    gemma4 = function(path)
      return (path:gsub("^model%.language_model%.", "language_model.model."))
    end,
    qwen2_vl = function(path) return "language_model." .. path end,
    gpt_neox = function(path) return (path:gsub("^gpt_neox%.layers%.", "model.h.")) end,
    lfm2_moe = function(path) return (path:gsub("%.w2$", ".down_proj")) end,
  }
  local stems = { llama = "model.layers.0.", qwen3_5 = "model.language_model.layers.0.",
                  gemma4 = "model.language_model.layers.0.", qwen2_vl = "model.layers.0.",
                  gpt_neox = "gpt_neox.layers.0.", lfm2_moe = "model.layers.0." }
  for model_type, stem in pairs(stems) do
    it("of overrides are those that it looks for: " .. model_type, function()
      local a, b = stem .. "mlp.w2", stem .. "mlp.o_proj"
      local config = { model_type = model_type }
      if model_type == "qwen3_5" or model_type == "gemma4" then
        config.text_config = { num_hidden_layers = 1 }
      elseif model_type == "qwen2_vl" then
        config.vision_config = { depth = 1 }
      end
      local folder = model({ [a] = { 32, 32 }, [b] = { 32, 32 }, [stem .. "mlp.k"] = { 32, 32 } },
                           config)
      local said = quantized.json(quantize(folder, { format = "mlx", recipe = rondo.recipe {
        { "*w2*", rondo.int8 { group_size = 32 } },
        otherwise = rondo.int4 { group_size = 32 } } })).quantization
      local function bits(path) return (said[sanitize[model_type](path)] or said).bits end
      assert.same({ 8, 4 }, { bits(a), bits(b) })
    end)
  end

  it("that no override can name are warned of", function()
    local path = layer .. "self_attn.qkv_proj"
    local folder = model({ [path] = { 96, 32 } }, { model_type = "hunyuan" })
    local code, _, err = command.run { "plan", folder, "--format", "mlx", "--group-size", "32" }
    assert.equal(0, code)
    assert.truthy(err:find("mlx-lm cuts qkv_proj of hunyuan while it loads them", 1, true), err)
  end)
end)

describe("experts of a checkpoint of mlx-lm", function()
  local int4 = rondo.int4 { group_size = 32 }
  local families = {
    { "qwen3_moe", "mlp", { "gate_proj", "up_proj", "down_proj" } },
    { "mixtral", "block_sparse_moe", { "w1", "w3", "w2" } },
    { "llama4", "feed_forward", { "gate_proj", "up_proj", "down_proj" } },
    { "gemma4_text", "mlp", { "gate_proj", "up_proj", "down_proj" } },
    { "lfm2_moe", "feed_forward", { "w1", "w3", "w2" } },
  }
  for _, family in ipairs(families) do
    local model_type, block, projections = table.unpack(family)
    it("get their own names where they are split: " .. model_type, function()
      local experts = ("%s%s.experts."):format(layer, block)
      local turned = model_type == "llama4"
      local source = quantize(model({
        [experts .. "gate_up_proj"] = turned and { 2, 32, 128 } or { 2, 128, 32 },
        [experts .. "down_proj"] = turned and { 2, 64, 32 } or { 2, 32, 64 },
        [experts:gsub("0", "11") .. "down_proj"] = turned and { 2, 64, 32 } or { 2, 32, 64 },
      }, { model_type = model_type, hidden_size = 32 }),
                              { format = "mlx", group_size = 32 })
      local opened = assert(rondo.open(source))
      local out = quantize(source, { format = "compressed-tensors", recipe = rondo.recipe {
        { "layers.*", int4 }, otherwise = rondo.keep } })
      local result = assert(rondo.open(out))
      for i, projection in ipairs { "gate_proj", "up_proj", "down_proj" } do
        local stack
        for name, found in opened:layers() do
          if name:find(projection, 1, true) and name:find "%.0%." then stack = found end
        end
        for expert = 0, 1 do
          local path = ("%s%d.%s"):format(experts, expert, projections[i])
          local values = assert(result:layer(path)):dequantize()
          local want = int4 { scale = "bf16" }:quantize(stack:dequantize()[expert + 1])
          assert.is_true(values:eq(want:dequantize()):all(), path)
        end
      end
      assert(result:layer(experts:gsub("0", "11") .. "0." .. projections[3]))
      local text = shell.read_file(out .. "/model.safetensors")
      assert.equal("pt", json.decode(text:sub(9, 8 + ("<I8"):unpack(text))).__metadata__.format)
    end)
  end

  it("that stay stacked are warned of, and so are names behind the language model", function()
    local experts = layer .. "mlp.experts."
    local function warning(config, shapes, exclude)
      local source = quantize(model(shapes, config), { format = "mlx", group_size = 32 })
      local code, _, err = command.run { "plan", source, "--format", "gptq", "--scheme", "sym",
                                         "--exclude", exclude }
      assert.equal(0, code, err)
      return err:match "but (%S+) stays as mlx%-lm has it"
    end
    local stack = { [experts .. "gate_up_proj"] = { 2, 128, 32 },
                    [experts .. "down_proj"] = { 2, 32, 64 },
                    [layer .. "self_attn.o_proj"] = { 32, 32 } }
    local qwen = { model_type = "qwen3_moe", hidden_size = 32 }
    assert.equal(layer .. "mlp.switch_mlp.down_proj.weight", warning(qwen, stack, "*switch_mlp*"))
    assert.is_nil(warning(qwen, stack, "*nothing*"))
    local inside = "language_model.model.layers.0.self_attn.o_proj"
    assert.equal(inside .. ".weight", warning({}, { [inside] = { 32, 32 } }, "*nothing*"))
  end)
end)
