-- modelopt: what the files hold, decoded bit by bit as TensorRT Model Optimizer does, is what the
-- scheme makes of the weights; the configuration; what is refused.

local models = require "spec.support.models"
local quantized = require "spec.support.quantized"
local rondo = require "rondo"

local element, field, f32 = quantized.element, quantized.field, quantized.f32

local function decoder(cols)
  return function(parts, i, j)
    local scale = f32(element(parts.weight_scale, i * (cols // 16) + j // 16)
                      * element(parts.weight_scale_2, 0))
    return f32(quantized.e2m1(field(parts.weight.bytes, (i * cols + j) * 4, 4)) * scale)
  end
end

describe("modelopt", function()
  teardown(models.cleanup)

  it("stores nvfp4", function()
    for _, dtype in ipairs { "f32", "f16", "bf16" } do
      for _, size in ipairs { { 7, 80 }, { 33, 16 }, { 1, 48 } } do
        local rows, cols = size[1], size[2]
        local folder, _, parts = quantized.check({ format = "modelopt", scheme = rondo.nvfp4,
          fitted = rondo.nvfp4, rows = rows, cols = cols, dtype = dtype }, decoder(cols))
        assert.same({ "U8", { rows, cols // 2 }, "F8_E4M3", { rows, cols // 16 }, "F32", {} },
                    { parts.weight.dtype, parts.weight.shape, parts.weight_scale.dtype,
                      parts.weight_scale.shape, parts.weight_scale_2.dtype,
                      parts.weight_scale_2.shape })
        local producer = { name = "rondo", version = rondo.version }
        assert.same({
          quant_method = "modelopt", quant_algo = "W4A16_NVFP4", producer = producer,
          kv_cache_scheme = rondo.json.null, ignore = { "lm_head" },
          config_groups = { group_0 = {
            weights = { num_bits = 4, type = "float", group_size = 16, dynamic = false },
            targets = { "Linear" } } },
        }, quantized.json(folder).quantization_config)
        assert.same({ producer = producer, quantization = {
          quant_algo = "W4A16_NVFP4", kv_cache_quant_algo = rondo.json.null, group_size = 16,
          exclude_modules = { "lm_head" } } }, quantized.json(folder, "hf_quant_config.json"))
      end
    end
  end)

  it("has the scale of the tensor from its largest weight", function()
    local path, w = quantized.layer, rondo.randn({ 8, 32 }, 4)
    local tensors = quantized.tensors((quantized.quantize(quantized.model({ [path] = w }, "f32"),
      "modelopt", { [path] = rondo.nvfp4 })))
    assert.equal(f32(w:abs():max() / (6 * 448)), element(tensors[path .. ".weight_scale_2"], 0))
  end)

  it("is the same with any number of threads, and as large as planned", function()
    local a, b = "model.layers.0.self_attn.o_proj", "model.layers.0.mlp.down_proj"
    quantized.check_threads(quantized.model({ [a] = quantized.weight(70, 96, 1, "bf16"),
                                              [b] = quantized.weight(33, 160, 2, "bf16") }, "bf16"),
      "modelopt", { [a] = rondo.nvfp4, [b] = rondo.nvfp4 })
  end)

  it("refuses what it has no place for", function()
    local function check(...) quantized.check_refusal("modelopt", ...) end
    check(rondo.nvfp4, 8, 40, "40 inputs", "16")
    check(rondo.mxfp4, 8, 64, "nvfp4 alone: rondo.nvfp4, --dtype nvfp4")
    check(rondo.int4, 8, 128, "nvfp4 alone: rondo.nvfp4, --dtype nvfp4")
  end)
end)
