-- What engines need to be told beyond the formats' own keys, as spec/interop found.

local models = require "spec.support.models"
local quantized = require "spec.support.quantized"
local rondo = require "rondo"

local q, gate, odd = "model.layers.0.self_attn.q_proj", "model.layers.0.mlp.gate_proj",
  "model.layers.1.self_attn.q_proj"

local function described(format, weights, schemes)
  local model = quantized.model(weights, "f32")
  local folder = quantized.quantize(model, format, schemes)
  return quantized.json(folder).quantization_config
end

describe("configurations of checkpoints with layers left out", function()
  teardown(models.cleanup)

  local int4 = rondo.int4 { group_size = 32 }
  local weights = { [q] = quantized.weight(32, 64, 1), [gate] = quantized.weight(32, 64, 2),
                    [odd] = quantized.weight(32, 64, 3) }

  it("name to transformers what gptq quantized in blocks, by the ends of paths", function()
    assert.same({ { "self_attn.q_proj" } },
                described("gptq", weights, { [q] = int4, [odd] = int4 })
                  .modules_in_block_to_quantize)
  end)

  it("name it by whole paths where an end does not tell layers apart", function()
    assert.same({ { gate, q } }, described("gptq", weights, { [q] = int4, [gate] = int4 })
                                   .modules_in_block_to_quantize)
  end)

  it("name to GPTQModel what awq left out of blocks", function()
    assert.same({ ["-:^model\\.layers\\.0\\.mlp\\.gate_proj$"] = {} },
                described("awq", weights, { [q] = int4, [odd] = int4 }).dynamic)
  end)
end)

describe("fp8 whose blocks transformers would misread", function()
  teardown(models.cleanup)

  local function remarks(rows, cols)
    local model = quantized.model({ [q] = quantized.weight(rows, cols, 1) }, "f32")
    local heard = {}
    local former = _G.warn
    _G.warn = function(...) heard[#heard + 1] = table.concat { ... } end -- luacheck: ignore 122
    local scheme = rondo.fp8 { group_size = { 128, 128 } }
    local good, message = pcall(quantized.quantize, model, "fp8", { [q] = scheme })
    _G.warn = former -- luacheck: ignore 122
    assert(good, message)
    return table.concat(heard, "\n")
  end

  it("is remarked on", function()
    assert.truthy(remarks(172, 64):find("gets " .. q .. " wrong, whose shape 172x64", 1, true))
    assert.truthy(remarks(64, 130):find("64x130", 1, true))
  end)

  it("is no other", function()
    for _, shape in ipairs { { 64, 128 }, { 576, 256 }, { 257, 128 } } do -- 576: refused there
      assert.equal("", remarks(shape[1], shape[2]))
    end
  end)
end)

describe("what transformers cannot load", function()
  local function remarks_of(folder, given)
    local said = {}
    stub(_G, "warn", function(text) said[#said + 1] = text end)
    assert(rondo.plan(assert(rondo.open(folder)), given))
    _G.warn:revert()
    return table.concat(said, "\n")
  end

  it("is remarked on: zero points and small floats of compressed-tensors", function()
    local function folder(dtype)
      return quantized.model({ [q] = quantized.weight(64, 64, 1, dtype) }, dtype)
    end
    local function remarked(dtype, more)
      local given = { format = "compressed-tensors", exclude = { "lm_head" } }
      for name, value in pairs(more) do given[name] = value end
      return remarks_of(folder(dtype), given)
    end
    assert.truthy(remarked("bf16", {}):find("refuses zero points", 1, true))
    assert.equal("", remarked("bf16", { scheme = "sym" }))
    for _, small in ipairs { "nvfp4", "mxfp4", "mxfp8" } do
      assert.equal("", remarked("bf16", { dtype = small }))
      for _, dtype in ipairs { "f16", "f32" } do
        assert.truthy(remarked(dtype, { dtype = small }):find("fails in a model of another type",
                                                              1, true))
      end
    end
    assert.equal("", remarked("f32", { dtype = "fp8" }))
  end)

  it("is remarked on: experts", function()
    local list, tensors = { "gate_proj", "up_proj", "down_proj" }, {}
    for expert = 0, 1 do
      for seed, part in ipairs(list) do
        tensors[("model.layers.0.mlp.experts.%d.%s"):format(expert, part)] =
          quantized.weight(32, 32, seed, "bf16")
      end
    end
    local folder = quantized.model(tensors, "bf16")
    for format, given in pairs { gptq = { scheme = "sym" }, awq = {},
                                 bitsandbytes = { dtype = "nf4" },
                                 ["compressed-tensors"] = { dtype = "nvfp4" } } do
      given.format = format
      assert.truthy(remarks_of(folder, given):find("transformers .* experts of "), format)
    end
    assert.equal("", remarks_of(folder, { format = "compressed-tensors", scheme = "sym" }))
  end)
end)
