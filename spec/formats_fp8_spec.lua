-- fp8: what the files hold, decoded bit by bit as DeepSeek's own code does, is what the scheme
-- makes of the weights; the configuration; what is refused.

local models = require "spec.support.models"
local quantized = require "spec.support.quantized"
local rondo = require "rondo"

local element, f32 = quantized.element, quantized.f32

local function decoder(cols)
  local across = (cols + 127) // 128
  return function(parts, i, j)
    return f32(element(parts.weight, i * cols + j)
               * element(parts.weight_scale_inv, i // 128 * across + j // 128))
  end
end

describe("fp8", function()
  teardown(models.cleanup)

  it("stores blocks, also where they are cut off by the edges", function()
    for _, dtype in ipairs { "f32", "f16", "bf16" } do
      for _, size in ipairs { { 128, 128 }, { 130, 257 }, { 7, 100 }, { 256, 1 } } do
        local rows, cols = size[1], size[2]
        local scheme = rondo.fp8 { group_size = { 128, 128 } }
        local folder, _, parts = quantized.check({ format = "fp8", scheme = scheme,
          fitted = scheme, rows = rows, cols = cols, dtype = dtype }, decoder(cols))
        assert.same({ "F8_E4M3", { rows, cols }, "F32",
                      { (rows + 127) // 128, (cols + 127) // 128 } },
                    { parts.weight.dtype, parts.weight.shape, parts.weight_scale_inv.dtype,
                      parts.weight_scale_inv.shape })
        assert.same({ quant_method = "fp8", fmt = "e4m3", activation_scheme = "dynamic",
                      weight_block_size = { 128, 128 }, modules_to_not_convert = { "lm_head" } },
                    quantized.json(folder).quantization_config)
      end
    end
  end)

  it("stores scales that are powers of two, as f32", function()
    local scheme = rondo.fp8 { group_size = { 128, 128 }, scale = "e8m0" }
    local folder, _, parts = quantized.check({ format = "fp8", scheme = scheme, fitted = scheme,
                                               rows = 140, cols = 130 }, decoder(130))
    for i = 0, 3 do
      assert.equal(0, math.log(element(parts.weight_scale_inv, i), 2) % 1)
    end
    assert.equal("ue8m0", quantized.json(folder).quantization_config.scale_fmt)
  end)

  it("reads scales of bf16, and one of the whole tensor", function()
    local codes = ("\x38\x3c\xc0\x00"):rep(2) -- 1, 1.5, -2, 0
    local folder = models.folder({
      { "m.a.weight", { 2, 4 }, dtype = "F8_E4M3", bytes = codes },
      { "m.a.weight_scale_inv", { 1, 2 }, dtype = "BF16", bytes = "\x00\x3f\x80\x3f" },
      { "m.b.weight", { 2, 4 }, dtype = "F8_E4M3", bytes = codes },
      { "m.b.weight_scale", {}, dtype = "F32", bytes = ("<f"):pack(4) },
    }, '{"quantization_config":{"quant_method":"fp8","weight_block_size":[2,2]}}')
    local opened = assert(rondo.open(folder))
    assert.same({ { 0.5, 0.75, -2.0, 0.0 }, { 0.5, 0.75, -2.0, 0.0 } },
                opened:layer "m.a":dequantize():totable())
    assert.same({ { 4.0, 6.0, -8.0, 0.0 }, { 4.0, 6.0, -8.0, 0.0 } },
                opened:layer "m.b":dequantize():totable())
    opened:close()
  end)

  it("is the same with any number of threads, and as large as planned", function()
    local a, b = "model.layers.0.self_attn.o_proj", "model.layers.0.mlp.down_proj"
    local scheme = rondo.fp8 { group_size = { 128, 128 } }
    quantized.check_threads(quantized.model({ [a] = quantized.weight(270, 96, 1, "bf16"),
                                              [b] = quantized.weight(33, 300, 2, "bf16") }, "bf16"),
      "fp8", { [a] = scheme, [b] = scheme })
  end)

  it("refuses what it has no place for", function()
    local function check(...) quantized.check_refusal("fp8", ...) end
    check(rondo.fp8 { group_size = "tensor" }, 8, 64, "{ 128, 128 }")
    check(rondo.fp8 { group_size = { 64, 128 } }, 8, 64, "{ 128, 128 }")
    check(rondo.int8, 8, 64, "fp8 holds 8-bit floats alone: rondo.fp8, --dtype fp8")
    check(rondo.fp8 { group_size = { 128, 128 }, scale = "bf16" }, 8, 64, "not bf16")
  end)

  it("has one type of scales for all layers", function()
    local a, b = "model.layers.0.self_attn.o_proj", "model.layers.0.mlp.down_proj"
    local model = quantized.model({ [a] = quantized.weight(8, 64, 1),
                                    [b] = quantized.weight(8, 64, 2) }, "f32")
    local scheme = rondo.fp8 { group_size = { 128, 128 } }
    assert.error_matches(function()
      quantized.quantize(model, "fp8", { [a] = scheme, [b] = scheme { scale = "e8m0" } })
    end, "one type of scales")
  end)
end)
