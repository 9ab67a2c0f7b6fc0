-- awq: what the files hold, decoded bit by bit as AutoAWQ does, is what the scheme makes of the
-- weights; the configuration; what is refused.

local models = require "spec.support.models"
local quantized = require "spec.support.quantized"
local rondo = require "rondo"

local element, field, f32 = quantized.element, quantized.field, quantized.f32

local ORDER = { [0] = 0, 2, 4, 6, 1, 3, 5, 7 } -- field -> output
local FIELD = {}
for at, output in pairs(ORDER) do FIELD[output] = at end

-- The field of an output in a row of words.
local function interleaved(tensor, row, rows, i)
  local word = row * (rows // 8) + i // 8
  return field(tensor.bytes, word * 32 + FIELD[i % 8] * 4, 4)
end

local function decoder(rows, cols)
  return function(parts, i, j)
    local group = j // (cols // parts.scales.shape[1])
    local difference = interleaved(parts.qweight, j, rows, i)
      - interleaved(parts.qzeros, group, rows, i)
    return f32(difference * element(parts.scales, group * rows + i))
  end
end

describe("awq", function()
  teardown(models.cleanup)

  for _, dtype in ipairs { "f32", "f16", "bf16" } do
    it("stores integers of 4 bits, " .. dtype, function()
      for _, size in ipairs { { 40, 96, 32 }, { 8, 128, 128 }, { 24, 37, "row" } } do
        for _, symmetric in ipairs { true, false } do
          local rows, cols = size[1], size[2]
          local scheme = rondo.int4 { group_size = size[3], symmetric = symmetric }
          local _, _, parts = quantized.check({ format = "awq", scheme = scheme,
            fitted = scheme { scale = "f16" }, rows = rows, cols = cols, dtype = dtype },
            decoder(rows, cols))
          local groups = size[3] == "row" and 1 or cols // size[3]
          assert.same({ { cols, rows // 8 }, { groups, rows // 8 }, { groups, rows } },
                      { parts.qweight.shape, parts.qzeros.shape, parts.scales.shape })
          assert.same({ "I32", "I32", "F16" }, { parts.qweight.dtype, parts.qzeros.dtype,
                                                 parts.scales.dtype })
          assert.is_nil(parts.g_idx)
          if symmetric then
            for at = 0, #parts.qzeros.bytes // 4 - 1 do
              assert.equal(0x88888888, element(parts.qzeros, at) & 0xffffffff)
            end
          end
        end
      end
    end)
  end

  it("describes itself", function()
    local folder = quantized.check({ format = "awq", scheme = rondo.int4 { group_size = 32 },
      fitted = rondo.int4 { group_size = 32, scale = "f16" }, rows = 16, cols = 64 },
      decoder(16, 64))
    assert.same({ quant_method = "awq", bits = 4, group_size = 32, zero_point = true,
                  version = "gemm", modules_to_not_convert = { "lm_head" } },
                quantized.json(folder).quantization_config)
    folder = quantized.check({ format = "awq", scheme = rondo.int4 { group_size = "row" },
      fitted = rondo.int4 { group_size = "row", scale = "f16" }, rows = 16, cols = 50 },
      decoder(16, 50))
    assert.equal(-1, quantized.json(folder).quantization_config.group_size)
  end)

  it("is the same with any number of threads, and as large as planned", function()
    local a, b = "model.layers.0.self_attn.o_proj", "model.layers.0.mlp.down_proj"
    quantized.check_threads(quantized.model({ [a] = quantized.weight(80, 96, 1, "bf16"),
                                              [b] = quantized.weight(32, 160, 2, "bf16") }, "bf16"),
      "awq", { [a] = rondo.int4 { group_size = 32, symmetric = false },
               [b] = rondo.int4 { group_size = 32 } })
  end)

  it("refuses what it has no place for", function()
    local function check(...) quantized.check_refusal("awq", ...) end
    check(rondo.int4 { group_size = 32 }, 20, 64, "20 outputs", "8")
    check(rondo.int4 { group_size = 32 }, 16, 48, "48 inputs", "32")
    check(rondo.int8, 16, 64, "4 bits: rondo.int4, --bits 4")
    check(rondo.nf4 { group_size = 32 }, 16, 64, "4 bits: rondo.int4, --bits 4")
    check(rondo.int4 { group_size = 32, scale = "bf16" }, 16, 64, "f16, not bf16")
  end)

  it("refuses a quantized lm_head and several group sizes", function()
    local a, b = "model.layers.0.self_attn.o_proj", "model.layers.0.mlp.down_proj"
    local model = quantized.model({ [a] = quantized.weight(16, 64, 1),
                                    [b] = quantized.weight(16, 64, 2) }, "f32")
    local scheme = rondo.int4 { group_size = 32 }
    assert.error_matches(function() quantized.quantize(model, "awq", { lm_head = scheme }) end,
                         "lm_head.weight.*lm_head")
    assert.error_matches(function()
      quantized.quantize(model, "awq", { [a] = scheme, [b] = scheme { group_size = 64 } })
    end, "one group size for all layers")
  end)
end)
