-- bitsandbytes: what the files hold, decoded bit by bit as bitsandbytes does, is what the scheme
-- makes of the weights; the states as JSON; the configuration; what is refused.

local json = require "rondo.json"
local models = require "spec.support.models"
local quantized = require "spec.support.quantized"
local rondo = require "rondo"

local element, field, f32 = quantized.element, quantized.field, quantized.f32

local function state_of(parts, kind)
  return assert(json.decode(parts["weight.quant_state.bitsandbytes__" .. kind].bytes))
end

-- The largest magnitude of a block.
local function absmax_of(parts, state, block)
  local stored = element(parts["weight.absmax"], block)
  if not state.nested_blocksize then return stored end
  local value = element(parts["weight.nested_quant_map"], stored)
    * element(parts["weight.nested_absmax"], block // state.nested_blocksize)
  return f32(f32(value) + f32(state.nested_offset))
end

-- The first of two codes is in the high half of a byte.
local function four_bits(kind, cols)
  return function(parts, i, j)
    local at, state = i * cols + j, state_of(parts, kind)
    local code = field(parts.weight.bytes, at * 4 ~ 4, 4)
    return f32(element(parts["weight.quant_map"], code)
               * absmax_of(parts, state, at // state.blocksize))
  end
end

local maps = {
  nf4 = { -1, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
          -0.18477343022823334, -0.09105003625154495, 0, 0.07958029955625534, 0.16093020141124725,
          0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
          0.7229568362236023, 1 },
  fp4 = { 0, 0.0625 / 12, 8 / 12, 1, 4 / 12, 6 / 12, 2 / 12, 3 / 12,
          0, -0.0625 / 12, -8 / 12, -1, -4 / 12, -6 / 12, -2 / 12, -3 / 12 },
}

local long_names = { f32 = "float32", f16 = "float16", bf16 = "bfloat16" }

-- rondo's values are those of its own maps times scales, so that products are rounded elsewhere;
-- the offset of double quantization, which nearly cancels in small scales, is near 0.15.
local SHARE, NEAR_OFFSET = 0x1p-22, 0x1p-25
local SIZES = { { 9, 64, 32 }, { 11, 64, 64 }, { 3, 512, 128 }, { 37, 64, 32 } }

describe("bitsandbytes", function()
  teardown(models.cleanup)

  for kind, map in pairs(maps) do
    for _, double in ipairs { false, true } do
      it(("stores %s%s"):format(kind, double and " with double quantization" or ""), function()
        local nested = double and { map = "dynamic" } or nil
        for _, dtype in ipairs { "f32", "f16", "bf16" } do
          for _, size in ipairs(SIZES) do
            local rows, cols = size[1], size[2]
            local scheme = rondo[kind] { group_size = size[3], double = nested }
            local _, _, parts = quantized.check({ format = "bitsandbytes", scheme = scheme,
              fitted = scheme, rows = rows, cols = cols, dtype = dtype,
              share = SHARE,
              absolute = double and NEAR_OFFSET or 0 }, four_bits(kind, cols))
            local state, blocks = state_of(parts, kind), rows * cols // size[3]
            assert.same({ "U8", { rows * cols // 2, 1 }, { blocks } },
                        { parts.weight.dtype, parts.weight.shape, parts["weight.absmax"].shape })
            for i, want in ipairs(map) do
              assert.equal(f32(want), element(parts["weight.quant_map"], i - 1))
            end
            local want = { quant_type = kind, blocksize = size[3], dtype = long_names[dtype],
                           shape = { rows, cols } }
            if double then
              want.nested_blocksize, want.nested_dtype = 256, "float32"
              want.nested_offset = state.nested_offset
              assert.equal("number", type(state.nested_offset))
              assert.same({ (blocks + 255) // 256 }, parts["weight.nested_absmax"].shape)
              assert.same({ 256 }, parts["weight.nested_quant_map"].shape)
              assert.equal("U8", parts["weight.absmax"].dtype)
            else
              assert.equal("F32", parts["weight.absmax"].dtype)
            end
            assert.same(want, state)
          end
        end
      end)
    end
  end

  it("stores LLM.int8", function()
    for _, dtype in ipairs { "f32", "f16", "bf16" } do
      local _, _, parts = quantized.check({ format = "bitsandbytes", scheme = rondo.int8,
        fitted = rondo.int8, rows = 13, cols = 45, dtype = dtype, share = 0x1p-22 },
        function(parts, i, j)
          return f32(element(parts.weight, i * 45 + j) * element(parts.SCB, i) / 127)
        end)
      assert.same({ "I8", { 13, 45 }, "F32", { 13 }, "U8", {}, 0 },
                  { parts.weight.dtype, parts.weight.shape, parts.SCB.dtype, parts.SCB.shape,
                    parts.weight_format.dtype, parts.weight_format.shape,
                    element(parts.weight_format, 0) })
    end
  end)

  it("describes itself", function()
    local path = quantized.layer
    local function described(scheme, dtype)
      local model = quantized.model({ [path] = quantized.weight(8, 64, 1, dtype) }, dtype)
      return quantized.json((quantized.quantize(model, "bitsandbytes", { [path] = scheme })))
        .quantization_config
    end
    local want = {
      quant_method = "bitsandbytes", load_in_4bit = true, load_in_8bit = false,
      _load_in_4bit = true, _load_in_8bit = false, bnb_4bit_quant_type = "nf4",
      bnb_4bit_use_double_quant = true, bnb_4bit_compute_dtype = "bfloat16",
      bnb_4bit_quant_storage = "uint8", llm_int8_threshold = 6.0, llm_int8_has_fp16_weight = false,
      llm_int8_enable_fp32_cpu_offload = false, llm_int8_skip_modules = { "lm_head" },
    }
    assert.same(want, described(rondo.nf4 { group_size = 64, double = { map = "dynamic" } },
                                "bf16"))
    want.bnb_4bit_use_double_quant, want.bnb_4bit_quant_type = false, "fp4"
    want.bnb_4bit_compute_dtype = "float16"
    assert.same(want, described(rondo.fp4 { group_size = 64 }, "f16"))
    want.load_in_4bit, want.load_in_8bit, want._load_in_4bit, want._load_in_8bit = false, true,
      false, true
    assert.same(want, described(rondo.int8, "f16"))
  end)

  it("is the same with any number of threads, and as large as planned", function()
    local a, b = "model.layers.0.self_attn.o_proj", "model.layers.0.mlp.down_proj"
    local model = quantized.model({ [a] = quantized.weight(70, 128, 1, "bf16"),
                                    [b] = quantized.weight(33, 192, 2, "bf16") }, "bf16")
    for _, double in ipairs { false, true } do
      local scheme = rondo.nf4 { group_size = 64, double = double and { map = "dynamic" } or nil }
      quantized.check_threads(model, "bitsandbytes", { [a] = scheme, [b] = scheme })
    end
    quantized.check_threads(model, "bitsandbytes", { [a] = rondo.int8, [b] = rondo.int8 })
  end)

  it("refuses what it has no place for", function()
    local function check(...) quantized.check_refusal("bitsandbytes", ...) end
    check(rondo.nf4 { group_size = 64 }, 8, 96, "96 inputs", "64")
    check(rondo.nf4 { group_size = 48 }, 8, 96, "48")
    check(rondo.nf4 { group_size = "row" }, 8, 64, "row")
    check(rondo.int4 { group_size = 64 }, 8, 64,
          "rondo.int8: --bits 8 --scheme sym --group-size row")
    check(rondo.int8 { symmetric = false }, 8, 64, "int8")
    check(rondo.e2m1 { group_size = 64 }, 8, 64, "nf4, fp4 or int8: rondo.nf4", "--dtype nf4")
    check(rondo.nf4 { group_size = 64, scale = "f16" }, 8, 64, "f32, not f16")
    check(rondo.nf4 { group_size = 64, double = {} }, 8, 64, "dynamic")
  end)

  it("has one kind of codes for all layers", function()
    local a, b = "model.layers.0.self_attn.o_proj", "model.layers.0.mlp.down_proj"
    local model = quantized.model({ [a] = quantized.weight(8, 64, 1),
                                    [b] = quantized.weight(8, 64, 2) }, "f32")
    assert.error_matches(function()
      quantized.quantize(model, "bitsandbytes", { [a] = rondo.nf4 { group_size = 64 },
                                                  [b] = rondo.fp4 { group_size = 64 } })
    end, "one scheme for all layers")
  end)
end)
