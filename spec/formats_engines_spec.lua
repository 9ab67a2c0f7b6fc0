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
