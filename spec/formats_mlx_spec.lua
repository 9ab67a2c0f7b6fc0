-- mlx: what the files hold, decoded bit by bit as MLX does, is what the scheme makes of the
-- weights; the configuration; what is refused.

local command = require "spec.support.command"
local models = require "spec.support.models"
local quantized = require "spec.support.quantized"
local raw = require "spec.support.raw"
local rondo = require "rondo"

local element, field, f32 = quantized.element, quantized.field, quantized.f32

-- The code in row i, column j of a stream of bits over each row.
local function code_of(parts, bits, cols, i, j)
  return field(parts.weight.bytes, i * cols * bits + j * bits, bits)
end

local function affine(bits, cols)
  return function(parts, i, j)
    local groups = parts.scales.shape[2]
    local at = i * groups + j // (cols // groups)
    local scale, bias = element(parts.scales, at), element(parts.biases, at)
    return f32(f32(code_of(parts, bits, cols, i, j) * scale) + bias)
  end
end

-- Codes are numbers, scales bytes of a type.
local function floats(bits, number, scale_of, size, cols)
  return function(parts, i, j)
    local scale = scale_of(element(parts.scales, i * (cols // size) + j // size))
    return f32(number(code_of(parts, bits, cols, i, j)) * scale)
  end
end

describe("mlx", function()
  teardown(models.cleanup)

  for _, bits in ipairs { 2, 3, 4, 5, 6, 8 } do
    it(("stores integers of %d bits"):format(bits), function()
      for _, dtype in ipairs { "f32", "f16", "bf16" } do
        for _, size in ipairs { { 7, 96, 32 }, { 5, 192, 64 }, { 1, 128, 128 } } do
          for _, symmetric in ipairs { true, false } do
            local rows, cols = size[1], size[2]
            local scheme = rondo["int" .. bits] { group_size = size[3], symmetric = symmetric }
            local _, all, parts = quantized.check({ format = "mlx", scheme = scheme,
              fitted = rondo["int" .. bits] { group_size = size[3], symmetric = false,
                                              zero = "float", scale = dtype },
              rows = rows, cols = cols, dtype = dtype }, affine(bits, cols))
            assert.same({ { rows, cols * bits // 32 }, { rows, cols // size[3] },
                          { rows, cols // size[3] } },
                        { parts.weight.shape, parts.scales.shape, parts.biases.shape })
            assert.same({ "U32", dtype:upper(), dtype:upper() },
                        { parts.weight.dtype, parts.scales.dtype, parts.biases.dtype })
            assert.equal(dtype:upper(), all[quantized.layer .. ".bias"].dtype)
          end
        end
      end
    end)
  end

  it("stores mxfp4, mxfp8 and nvfp4", function()
    local cases = {
      mxfp4 = { 4, quantized.e2m1, quantized.e8m0, 32 },
      mxfp8 = { 8, quantized.e4m3, quantized.e8m0, 32 },
      nvfp4 = { 4, quantized.e2m1, quantized.e4m3, 16 },
    }
    for mode, c in pairs(cases) do
      local bits, number, scale_of, size = table.unpack(c)
      local scheme = rondo[mode]
      local fitted = mode == "nvfp4" and scheme { tensor_scale = false } or scheme
      for _, dtype in ipairs { "f32", "f16", "bf16" } do
        local folder, _, parts = quantized.check({ format = "mlx", scheme = scheme,
          fitted = fitted, rows = 9, cols = 96, dtype = dtype },
          floats(bits, number, scale_of, size, 96))
        assert.same({ "U32", "U8" }, { parts.weight.dtype, parts.scales.dtype })
        assert.is_nil(parts.biases)
        assert.same({ group_size = size, bits = bits, mode = mode },
                    quantized.json(folder).quantization)
      end
    end
  end)

  it("describes itself, and the layers that differ", function()
    local a, b, c = "model.layers.0.self_attn.o_proj", "model.layers.0.mlp.down_proj",
      "model.layers.1.mlp.down_proj"
    local weights = { [a] = quantized.weight(8, 64, 1), [b] = quantized.weight(8, 64, 2),
                      [c] = quantized.weight(8, 64, 3) }
    local schemes = { [a] = rondo.int4 { group_size = 64 }, [b] = rondo.int4 { group_size = 64 },
                      [c] = rondo.int6 { group_size = 32 },
                      ["model.embed_tokens"] = rondo.mxfp4 }
    local folder = quantized.quantize(quantized.model(weights, "f32"), "mlx", schemes)
    local config = quantized.json(folder)
    assert.same({ group_size = 64, bits = 4, mode = "affine",
                  [c] = { group_size = 32, bits = 6, mode = "affine" },
                  ["model.embed_tokens"] = { group_size = 32, bits = 4, mode = "mxfp4" } },
                config.quantization)
    assert.same(config.quantization, config.quantization_config)
    local text = quantized.bytes(folder)["model.safetensors"]
    assert.truthy(text:sub(1, 4096):find('"format":"mlx"', 1, true))
    local opened = assert(rondo.open(folder))
    for path, weight in pairs(weights) do
      local fitted = schemes[path] { symmetric = false, zero = "float" }
      assert.equal(fitted:quantize(weight):dequantize(), opened:layer(path):dequantize())
    end
    assert.is_true(opened:layer "model.embed_tokens".quantized)
    assert.is_false(opened:layer "lm_head".quantized)
    opened:close()
  end)

  it("is the same with any number of threads, and as large as planned", function()
    local a, b = "model.layers.0.self_attn.o_proj", "model.layers.0.mlp.down_proj"
    quantized.check_threads(quantized.model({ [a] = quantized.weight(70, 96, 1, "bf16"),
                                              [b] = quantized.weight(33, 160, 2, "bf16") }, "bf16"),
      "mlx", { [a] = rondo.int3 { group_size = 32 }, [b] = rondo.nvfp4 })
  end)

  it("refuses what it has no place for", function()
    local function check(...) quantized.check_refusal("mlx", ...) end
    check(rondo.int4 { group_size = 32 }, 8, 40, "40 inputs", "32")
    check(rondo.scheme.from { type = "int7", group_size = 32 }, 8, 64, "not 7")
    check(rondo.int4 { group_size = 16 }, 8, 64, "not 16")
    check(rondo.int4 { group_size = "row" }, 8, 64, "not row")
    check(rondo.nf4 { group_size = 32 }, 8, 64, "rondo.int4, --bits 4", "mxfp8 or nvfp4")
    check(rondo.e2m1 { group_size = 32 }, 8, 64, "rondo.int4, --bits 4", "mxfp8 or nvfp4")
  end)

  it("refuses to read scales for each expert", function()
    local path = quantized.layer
    local model = quantized.model({ [path] = quantized.weight(8, 64, 5, "f32") }, "f32")
    local folder, list = quantized.quantize(model, "mlx", { [path] = rondo.nvfp4 }), {}
    for name, t in pairs(quantized.tensors(folder)) do
      list[#list + 1] = { name, t.dtype, t.shape, t.bytes }
    end
    list[#list + 1] = { path .. ".global_scale", "F32", { 1 }, ("<f"):pack(3) }
    table.sort(list, function(a, b) return a[1] < b[1] end)
    models.write(folder .. "/model.safetensors", raw.pack(list))
    local opened, message = rondo.open(folder)
    assert.is_nil(opened)
    assert.truthy(message:find(path, 1, true) and message:find("'global_scale'", 1, true), message)
  end)

  it("is asked for its scheme before the clip search is", function()
    local path = quantized.layer
    local model = quantized.model({ [path] = quantized.weight(8, 64, 5, "f32") }, "f32")
    local good, message = pcall(quantized.quantize, model, "mlx",
                                { [path] = rondo.int4 { group_size = 32, clip = "signed" } })
    assert.is_false(good)
    for _, text in ipairs { "clip signed: it is for integers without zero points", "least_squares",
                            "mlx stores it as int4 asym g32 zero float" } do
      assert.truthy(message:find(text, 1, true), message)
    end
  end)

  it("has groups in place of int8's whole rows, and of no others", function()
    local path = quantized.layer
    for cols, size in pairs { [128] = 64, [96] = 32 } do
      local made = quantized.model({ [path] = quantized.weight(8, cols, 5, "bf16") }, "bf16")
      local out = quantized.quantize(made, "mlx", { [path] = rondo.int8 })
      assert.same({ group_size = size, bits = 8, mode = "affine" },
                  quantized.json(out).quantization)
    end
    for _, scheme in ipairs { rondo.int4 { group_size = "row" },
                              rondo.int4 { full_range = true } } do
      local made = quantized.model({ [path] = quantized.weight(8, 128, 5, "bf16") }, "bf16")
      assert.is_false(pcall(quantized.quantize, made, "mlx", { [path] = scheme }))
    end
  end)

  it("takes no options that do nothing there", function()
    local model = quantized.model({ [quantized.layer] = quantized.weight(8, 64, 5, "f32") }, "f32")
    for said, given in pairs { ['scheme = "sym"'] = { scheme = "sym" },
                               full_range = { scheme = "sym", full_range = true },
                               ["config 'model.layers.0.self_attn.o_proj': scheme = \"sym\""] = {
                                 config = { [quantized.layer] = { scheme = "sym" } } } } do
      given.format = "mlx"
      local good, message = pcall(rondo.plan, model, given)
      assert.is_false(good)
      assert.truthy(message:find(said .. " does nothing in mlx", 1, true), message)
    end
    for option, args in pairs { scheme = { "--scheme", "sym" },
                                ["full-range"] = { "--scheme", "sym", "--full-range" } } do
      local code, text, err = command.run { "plan", model, "--format", "mlx", table.unpack(args) }
      assert.same({ 2, "" }, { code, text })
      assert.truthy(err:find(("option '--%s' does nothing with --format mlx"):format(option), 1,
                             true), err)
    end
  end)
end)
