-- Quantized checkpoints as others write them: where they say that they are quantized, and how; the
-- shapes of their scales; what lies beside the weights. Values are worked out here.

local json = require "rondo.json"
local lfs = require "lfs"
local models = require "spec.support.models"
local quantized = require "spec.support.quantized"
local raw = require "spec.support.raw"
local rondo = require "rondo"

local LAYER = "model.layers.0.mlp.down_proj"

local function pack(format, list)
  return ("<" .. format:rep(#list)):pack(table.unpack(list))
end

local function tensor(dtype, shape, bytes)
  return { dtype = dtype, shape = shape, bytes = bytes }
end

--- A folder of tensors by name, with a norm beside them; config and files are for rondo.json.
local function folder_of(tensors, config, files)
  local folder, list = models.temporary(), {
    { "model.norm.weight", "F32", { 4 }, pack("f", { 1, 2, 3, 4 }) },
  }
  for name, t in pairs(tensors) do list[#list + 1] = { name, t.dtype, t.shape, t.bytes } end
  table.sort(list, function(a, b) return a[1] < b[1] end)
  models.write(folder .. "/model.safetensors", raw.pack(list, '{"format":"pt"}'))
  if config then models.write(folder .. "/config.json", json.encode(config)) end
  for name, value in pairs(files or {}) do
    models.write(folder .. "/" .. name, type(value) == "string" and value or json.encode(value))
  end
  return folder
end

local function values_of(folder, path)
  local opened <close> = assert(rondo.open(folder))
  local layer = assert(opened:layer(path or LAYER))
  assert(layer.quantized, "it is taken for a plain layer")
  return layer:dequantize():totable()
end

-- ---- Small layers of every kind ----

-- Two outputs of eight inputs in 4 bits would not fill a word of their zero points: eight of each.
-- Codes (i + j) % 16, zero points 8, scales 0.5.
local function four_bits(pack_line)
  local want = {}
  for i = 1, 8 do
    want[i] = {}
    for j = 1, 8 do want[i][j] = ((i + j) % 16 - 8) * 0.5 end
  end
  return pack_line(function(i, j) return (i + j) % 16 end), want
end

local function word(field)
  local bits = 0
  for n = 0, 7 do bits = bits | field(n) << 4 * n end
  return bits
end

local function gptq_layer()
  return four_bits(function(code)
    local words = {}
    for i = 1, 8 do words[i] = word(function(n) return code(i, n + 1) end) end
    return { [LAYER .. ".qweight"] = tensor("I32", { 1, 8 }, pack("I4", words)),
             [LAYER .. ".qzeros"] = tensor("I32", { 1, 1 }, pack("I4", { 0x77777777 })),
             [LAYER .. ".scales"] = tensor("F16", { 1, 8 }, ("\0\x38"):rep(8)),
             [LAYER .. ".g_idx"] = tensor("I32", { 8 }, ("\0"):rep(32)) }
  end)
end

local function awq_layer()
  local order = { 0, 2, 4, 6, 1, 3, 5, 7 }
  return four_bits(function(code)
    local words = {}
    for j = 1, 8 do words[j] = word(function(n) return code(order[n + 1] + 1, j) end) end
    return { [LAYER .. ".qweight"] = tensor("I32", { 8, 1 }, pack("I4", words)),
             [LAYER .. ".qzeros"] = tensor("I32", { 1, 1 }, pack("I4", { 0x88888888 })),
             [LAYER .. ".scales"] = tensor("F16", { 1, 8 }, ("\0\x38"):rep(8)) }
  end)
end

local E2M1 = { 0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6 }

-- [2, 16]: all codes up and down, block scales 2 and 3 (e4m3 0x40, 0x44), 0.25 for the tensor.
local function nvfp4_layer(shape)
  local bytes, want = {}, { {}, {} }
  for j = 0, 15 do
    want[1][j + 1] = E2M1[j + 1] * 0.5
    want[2][j + 1] = E2M1[16 - j] * 0.75
  end
  for j = 0, 14, 2 do bytes[#bytes + 1] = j | j + 1 << 4 end
  for j = 0, 14, 2 do bytes[#bytes + 1] = 15 - j | 14 - j << 4 end
  return { [LAYER .. ".weight"] = tensor("U8", { 2, 8 }, pack("B", bytes)),
           [LAYER .. ".weight_scale"] = tensor("F8_E4M3", { 2, 1 }, "\x40\x44"),
           [LAYER .. ".weight_scale_2"] = tensor("F32", shape or {}, pack("f", { 0.25 })) }, want
end

-- ---- Where it is said ----

local gptq_keys = { bits = 4, group_size = 8, damp_percent = 0.01, desc_act = false, sym = true,
                    true_sequential = true, model_name_or_path = json.null }
local awq_keys = { zero_point = true, q_group_size = 8, w_bit = 4, version = "GEMM" }
local modelopt_keys = { producer = { name = "modelopt", version = "0.29.0" },
                        quantization = { quant_algo = "NVFP4", kv_cache_quant_algo = json.null,
                                         group_size = 16, exclude_modules = { "lm_head" } } }

local plain = { model_type = "llama" }

describe("what says that a checkpoint is quantized", function()
  teardown(models.cleanup)

  local cases = {
    { "quantize_config.json", gptq_keys, gptq_layer, "gptq" },
    { "quant_config.json", awq_keys, awq_layer, "awq" },
    { "quantize_config.json", awq_keys, awq_layer, "awq" },
    { "hf_quant_config.json", modelopt_keys, nvfp4_layer, "modelopt" },
  }
  for _, case in ipairs(cases) do
    local name, keys, layer, method = table.unpack(case)

    it("may be a file beside config.json: " .. method .. " in " .. name, function()
      local tensors, want = layer()
      for _, config in ipairs { plain, false } do
        local folder = folder_of(tensors, config or nil, { [name] = keys })
        assert.same(want, values_of(folder))
        local opened <close> = assert(rondo.open(folder))
        assert.equal(method, opened.quantization)
        local mapped = opened:filter(function() return true end)
        assert.same(want, mapped:layer(LAYER):dequantize():totable())
      end
    end)

    it("goes along with a copy alone: " .. method .. " in " .. name, function()
      local tensors, want = layer()
      local folder, out = folder_of(tensors, plain, { [name] = keys }), models.temporary()
      local opened <close> = assert(rondo.open(folder))
      assert(opened:save(out, { overwrite = true }))
      assert.same(want, values_of(out))
      assert(rondo.quantize(folder, out, { format = "fake", bits = 8, overwrite = true }))
      assert.is_nil(lfs.attributes(out .. "/" .. name))
      local made <close> = assert(rondo.open(out))
      assert.is_nil(made.quantization)
      assert.same({ #want, #want[1] }, made:layer(LAYER).weight.shape)
    end)
  end

  it("is config.json first", function()
    local tensors, want = gptq_layer()
    local config = { quantization_config = { quant_method = "gptq", bits = 4, group_size = 8 } }
    assert.same(want, values_of(folder_of(tensors, config, { ["quant_config.json"] = awq_keys })))
  end)

  it("is not any file of such a name", function()
    local weight = { [LAYER .. ".weight"] = tensor("F32", { 1, 2 }, pack("f", { 1, 2 })) }
    for _, value in ipairs { { per_channel = true, reduce_range = true }, "[1]", "3",
                             { quantization = { quant_algo = json.null } } } do
      local folder = folder_of(weight, plain, { ["quantize_config.json"] = value })
      local opened <close> = assert(rondo.open(folder))
      assert.is_nil(opened.quantization)
    end
    local folder = folder_of(weight, plain, { ["quant_config.json"] = "{" })
    local opened, message = rondo.open(folder)
    assert.is_nil(opened)
    assert.truthy(message:find("quant_config.json", 1, true), message)
  end)

  it("is missed where tensors are of quantized layers", function()
    for _, make in ipairs { gptq_layer, awq_layer } do
      local folder = folder_of(make(), plain)
      local made, message = rondo.plan(folder)
      assert.is_nil(made)
      for _, piece in ipairs { folder, LAYER .. ".", "nothing says how it is quantized" } do
        assert.truthy(message:find(piece, 1, true), message)
      end
      made, message = rondo.plan(folder .. "/model.safetensors")
      assert.is_nil(made)
      assert.truthy(message:find(LAYER .. ".", 1, true), message)
    end
  end)

  it("may lack quant_method, or write it otherwise", function()
    local function method_of(block)
      local folder = folder_of({}, { quantization_config = block })
      local opened <close> = assert(rondo.open(folder))
      return opened.quantization
    end
    assert.equal("gptq", method_of { quant_method = "GPTQ", bits = 4, group_size = 32 })
    assert.equal("gptq", method_of(gptq_keys))
    assert.equal("awq", method_of(awq_keys))
    assert.equal("mlx", method_of { bits = 4, group_size = 64 })
    assert.equal("mlx", method_of { bits = 4, group_size = 64, mode = "affine" })
    assert.equal("modelopt", method_of { quant_algo = "NVFP4", ignore = { "lm_head" },
                                         config_groups = { group_0 = {} } })
    assert.equal("modelopt", method_of { quant_method = "modelopt_fp4", quant_algo = "NVFP4" })
    assert.equal("compressed-tensors", method_of { config_groups = { group_0 = {} } })
    assert.equal("compressed-tensors", method_of { quant_method = "compressed_tensors" })
    assert.equal("fp8", method_of { weight_block_size = { 128, 128 } })
    assert.equal("unknown", method_of { something = 1 })
  end)

  it("is gone wherever it stood, once the quantization is another", function()
    local tensors, want = gptq_layer()
    local block = { quant_method = "gptq", bits = 4, group_size = 8 }
    local config = { model_type = "llava", text_config = { hidden_size = 8,
                     quantization_config = block, model_type = "llama" }, vision_config = {} }
    local folder, out = folder_of(tensors, config), models.temporary()
    assert.same(want, values_of(folder))
    assert(rondo.quantize(folder, out, { format = "fake", overwrite = true, exclude = { "*" } }))
    config.text_config.quantization_config = nil
    assert.same(config, quantized.json(out))
    local made <close> = assert(rondo.open(out))
    assert.is_nil(made.quantization)
    assert.same(want, made:layer(LAYER).weight:totable())
    assert(rondo.quantize(folder, out, { format = "compressed-tensors", scheme = "sym",
                                         group_size = 8, overwrite = true }))
    local written = quantized.json(out)
    assert.is_nil(written.text_config.quantization_config)
    assert.equal("compressed-tensors", written.quantization_config.quant_method)
  end)
end)

-- ---- Scales ----

-- 8-bit floats 1, 2, ... 8 times the scale of their group.
local function float8(rows, cols, part, dtype, shape, scales, scale_of)
  local bytes, want = {}, {}
  for i = 1, rows do
    want[i] = {}
    for j = 1, cols do
      local code = 0x38 + (i + j) % 3 * 8 -- 1, 2, 4
      bytes[#bytes + 1] = string.char(code)
      want[i][j] = 2.0 ^ ((i + j) % 3) * scale_of(i, j)
    end
  end
  return { [LAYER .. ".weight"] = tensor("F8_E4M3", { rows, cols }, table.concat(bytes)),
           [LAYER .. "." .. part] = tensor(dtype, shape, scales) }, want
end

local function compressed(weights)
  return { quantization_config = { quant_method = "compressed-tensors", format = "float-quantized",
                                   config_groups = { group_0 = { targets = { "Linear" },
                                                                 weights = weights } } } }
end

local by_tensor = { num_bits = 8, type = "float", symmetric = true, strategy = "tensor" }

describe("scales of 8-bit floats", function()
  teardown(models.cleanup)

  local fp8 = { quantization_config = { quant_method = "fp8", activation_scheme = "static" } }
  local unset = { quantization_config = { quant_method = "fp8", activation_scheme = "static",
                                          weight_block_size = json.null } }
  local one = { F32 = pack("f", { 0.5 }), F16 = "\0\x38", BF16 = "\0\x3f", F8_E8M0 = "\x7e" }

  local function check(config, ...)
    local tensors, want = float8(...)
    assert.same(want, values_of(folder_of(tensors, config)))
  end

  it("may be one number of any shape", function()
    for _, shape in ipairs { {}, { 1 }, { 1, 1 } } do
      for dtype, bytes in pairs(one) do
        local function scale() return 0.5 end
        check(fp8, 3, 8, "weight_scale", dtype, shape, bytes, scale)
        check(unset, 3, 8, "weight_scale_inv", dtype, shape, bytes, scale)
        check(unset, 200, 8, "weight_scale_inv", dtype, shape, bytes, scale)
        check(compressed(by_tensor), 3, 8, "weight_scale", dtype, shape, bytes, scale)
      end
    end
  end)

  it("are of the tensor where nothing says blocks, however small it is", function()
    local function scheme_of(config, ...)
      local opened <close> = assert(rondo.open(folder_of((float8(...)), config)))
      return opened:layer(LAYER).source.layer.scheme
    end
    local function scale() return 0.5 end
    local by_block = { num_bits = 8, type = "float", strategy = "block",
                       block_structure = { 128, 128 } }
    local one_block = rondo.fp8 { group_size = { 128, 128 } }
    for _, shape in ipairs { {}, { 1 }, { 1, 1 } } do
      for _, config in ipairs { fp8, unset, compressed(by_tensor) } do
        assert.equal(rondo.fp8 { group_size = "tensor" },
                     scheme_of(config, 3, 8, "weight_scale", "F32", shape, one.F32, scale))
      end
      assert.equal(one_block, scheme_of(compressed(by_block), 3, 8, "weight_scale", "F32", shape,
                                        one.F32, scale))
    end
    assert.equal(one_block, scheme_of({ quantization_config = { quant_method = "fp8",
      weight_block_size = { 128, 128 } } }, 3, 8, "weight_scale_inv", "F32", { 1, 1 }, one.F32,
      scale))
  end)

  it("may be one for each row, in a line or in a column", function()
    local list = {}
    for i = 1, 5 do list[i] = i / 4 end
    for _, config in ipairs { fp8, compressed(by_tensor) } do
      for _, shape in ipairs { { 5 }, { 5, 1 } } do
        check(config, 5, 8, "weight_scale", "F32", shape, pack("f", list),
              function(i) return i / 4 end)
      end
    end
  end)

  it("may be one for each block, with dimensions of 1 between", function()
    local function scale(i, j) return 1 + (i - 1) // 128 * 2 + (j - 1) // 128 end
    for _, shape in ipairs { { 2, 2 }, { 2, 1, 2, 1 }, { 1, 2, 2 } } do
      check(fp8, 130, 129, "weight_scale_inv", "F32", shape, pack("f", { 1, 2, 3, 4 }), scale)
    end
    -- Exponents: 1, 2, 4, 8.
    check(fp8, 130, 129, "weight_scale_inv", "F8_E8M0", { 2, 2 }, "\x7f\x80\x81\x82",
          function(i, j) return 2.0 ^ ((i - 1) // 128 * 2 + (j - 1) // 128) end)
  end)

  it("may be groups of a row", function()
    local weights = { num_bits = 8, type = "float", symmetric = true, strategy = "group",
                      group_size = 4 }
    check(compressed(weights), 3, 8, "weight_scale", "F32", { 3, 2 },
          pack("f", { 1, 2, 3, 4, 5, 6 }),
          function(i, j) return (i - 1) * 2 + (j - 1) // 4 + 1 end)
  end)

  it("are refused in words that say what would fit", function()
    local tensors = float8(4, 8, "weight_scale", "F32", { 3 }, pack("f", { 1, 2, 3 }),
                           function() return 1 end)
    for _, config in ipairs { fp8, compressed(by_tensor) } do
      local folder = folder_of(tensors, config)
      local opened, message = rondo.open(folder)
      assert.is_nil(opened)
      for _, piece in ipairs { folder, LAYER, "'weight_scale' of the shape [3]",
                               "neither the tensor, nor its rows, nor blocks of 128x128" } do
        assert.truthy(message:find(piece, 1, true), message)
      end
    end
  end)
end)

describe("scales of other codes", function()
  teardown(models.cleanup)

  it("of nvfp4's tensor may have any shape of one number", function()
    for _, shape in ipairs { {}, { 1 }, { 1, 1 } } do
      local tensors, want = nvfp4_layer(shape)
      local config = { quantization_config = { quant_method = "modelopt", quant_algo = "NVFP4" } }
      assert.same(want, values_of(folder_of(tensors, config)))
      tensors[LAYER .. ".weight_packed"] = tensors[LAYER .. ".weight"]
      tensors[LAYER .. ".weight"] = nil
      tensors[LAYER .. ".weight_scale_2"] = nil
      tensors[LAYER .. ".weight_global_scale"] = tensor("F32", shape, pack("f", { 4 }))
      assert.same(want, values_of(folder_of(tensors, compressed { num_bits = 4, type = "float",
                                                                  group_size = 16 })))
    end
  end)

  it("of int8 may be one number, with and without a zero point", function()
    local codes, want, shifted = {}, { {}, {} }, { {}, {} }
    for i = 1, 2 do
      for j = 1, 4 do
        codes[#codes + 1] = i * 40 - j * 30
        want[i][j], shifted[i][j] = codes[#codes] * 0.5, (codes[#codes] + 3) * 0.5
      end
    end
    local config = compressed { num_bits = 8, type = "int", strategy = "tensor" }
    for _, shape in ipairs { {}, { 1 }, { 1, 1 } } do
      local tensors = { [LAYER .. ".weight"] = tensor("I8", { 2, 4 }, pack("b", codes)),
                        [LAYER .. ".weight_scale"] = tensor("F32", shape, pack("f", { 0.5 })) }
      assert.same(want, values_of(folder_of(tensors, config)))
      tensors[LAYER .. ".weight_zero_point"] = tensor("I8", shape, "\xfd")
      assert.same(shifted, values_of(folder_of(tensors, config)))
    end
  end)
end)

-- ---- What lies beside ----

describe("what a quantization has beside weights", function()
  teardown(models.cleanup)

  local function one(value) return tensor("F32", { 1 }, pack("f", { value })) end
  local static = { quant_method = "fp8", activation_scheme = "static", kv_cache_scheme = "static" }
  local attention = "model.layers.0.self_attn"

  local function checkpoint()
    local tensors, want = float8(4, 8, "weight_scale", "F32", {}, pack("f", { 0.5 }),
                                 function() return 0.5 end)
    tensors[LAYER .. ".input_scale"], tensors[LAYER .. ".activation_scale"] = one(1), one(2)
    tensors[attention .. ".k_scale"], tensors[attention .. ".v_scale"] = one(3), one(4)
    tensors[attention .. ".k_proj.k_scale"] = one(5)
    tensors[attention .. ".k_proj.output_scale"] = one(6)
    tensors[attention .. ".k_proj.weight"] = tensor("F32", { 1, 8 }, pack("f", want[1]))
    return tensors, want
  end

  local function names_of(folder)
    local list = {}
    for name in pairs(quantized.tensors(folder)) do list[#list + 1] = name end
    table.sort(list)
    return list
  end

  it("is left out where the quantization is another, and said", function()
    local folder, out = folder_of((checkpoint()), { quantization_config = static }),
      models.temporary()
    local report = assert(rondo.quantize(folder, out, { format = "fake", overwrite = true }))
    assert.same({ LAYER .. ".weight", attention .. ".k_proj.weight", "model.norm.weight" },
                names_of(out))
    local said = {
      { part = "activation_scale", tensors = 1 }, { part = "input_scale", tensors = 1 },
      { part = "k_scale", tensors = 2 }, { part = "output_scale", tensors = 1 },
      { part = "v_scale", tensors = 1 },
    }
    assert.same(said, json.decode(json.encode(report.left_out)))
    assert.same(said, quantized.json(out, "rondo-report.json").left_out)
    assert.truthy(tostring(assert(rondo.plan(folder))):find(
      "left out with the source's quantization: 1 activation_scale, 1 input_scale, 2 k_scale, "
      .. "1 output_scale, 1 v_scale", 1, true))
  end)

  it("goes along with a copy", function()
    local tensors = checkpoint()
    local folder, out = folder_of(tensors, { quantization_config = static }), models.temporary()
    local opened <close> = assert(rondo.open(folder))
    assert(opened:save(out, { overwrite = true }))
    assert.same(names_of(folder), names_of(out))
  end)

  it("is nothing that verifying misses, here or there", function()
    local folder, out = folder_of((checkpoint()), { quantization_config = static }),
      models.temporary()
    assert(rondo.quantize(folder, out, { format = "compressed-tensors", scheme = "sym",
                                         group_size = 8, overwrite = true }))
    assert.same({}, assert(rondo.verify(folder, out)).problems)
    local kept = quantized.tensors(out) -- with scales of a cache, as others write them
    kept[attention .. ".k_scale"], kept["model.norm.weight"] = one(3), nil
    local again = folder_of(kept, quantized.json(out))
    assert.same({}, assert(rondo.verify(folder, again)).problems)
  end)

  it("may be scales and zero points of weights that are plain, or symmetric", function()
    local tensors, want = float8(4, 8, "weight_scale", "F32", { 1 }, pack("f", { 0.5 }),
                                 function() return 0.5 end)
    tensors[LAYER .. ".weight_zero_point"] = tensor("F8_E4M3", { 1 }, "\0")
    local dense = attention .. ".k_proj"
    tensors[dense .. ".weight"] = tensor("F32", { 1, 8 }, pack("f", want[1]))
    tensors[dense .. ".weight_scale"] = one(1)
    tensors[dense .. ".weight_zero_point"] = tensor("I8", { 1 }, "\0")
    local folder, out = folder_of(tensors, compressed(by_tensor)), models.temporary()
    assert.same(want, values_of(folder))
    assert(rondo.quantize(folder, out, { format = "fake", overwrite = true }))
    assert.same({ LAYER .. ".weight", dense .. ".weight", "model.norm.weight" }, names_of(out))
  end)
end)

describe("storage that is another than usual", function()
  teardown(models.cleanup)

  local function refuses(tensors, config, ...)
    local folder = folder_of(tensors, config)
    local opened, message = rondo.open(folder)
    assert.is_nil(opened)
    for _, piece in ipairs { folder, LAYER, ... } do
      assert.truthy(message:find(piece, 1, true), message)
    end
  end

  it("is refused where it is sparse or another layout", function()
    refuses({ [LAYER .. ".compressed"] = tensor("F8_E4M3", { 2, 4 }, ("\x38"):rep(8)),
              [LAYER .. ".bitmask"] = tensor("U8", { 2, 1 }, "\x0f\x0f"),
              [LAYER .. ".shape"] = tensor("I64", { 2 }, pack("i8", { 2, 8 })),
              [LAYER .. ".weight_scale"] = tensor("F32", { 2, 1 }, pack("f", { 1, 1 })) },
            compressed(by_tensor), "'bitmask'", "sparse-24-bitmask")
    refuses({ [LAYER .. ".weight_packed"] = tensor("I32", { 1, 8 }, ("\0"):rep(32)),
              [LAYER .. ".scale_packed"] = tensor("F16", { 1, 8 }, ("\0"):rep(16)),
              [LAYER .. ".meta"] = tensor("I16", { 8, 1 }, ("\0"):rep(16)) },
            compressed(by_tensor), "marlin-24")
    refuses({ [LAYER .. ".weight"] = tensor("F8_E5M2", { 2, 8 }, ("\0"):rep(16)),
              [LAYER .. ".weight_scale"] = tensor("F32", { 1 }, pack("f", { 1 })) },
            compressed(by_tensor), "'weight_scale'", "'weight' of f8_e5m2")
    local tensors = nvfp4_layer()
    tensors[LAYER .. ".pre_quant_scale"] = tensor("BF16", { 16 }, ("\0\x3f"):rep(16))
    refuses(tensors, { quantization_config = { quant_algo = "NVFP4_AWQ" } }, "pre_quant_scale")
  end)

  it("is read where ModelOpt has 8-bit floats", function()
    local tensors, want = float8(4, 8, "weight_scale", "F32", {}, pack("f", { 0.5 }),
                                 function() return 0.5 end)
    assert.same(want, values_of(folder_of(tensors, plain, { ["hf_quant_config.json"] = {
      quantization = { quant_algo = "FP8" } } })))
  end)

  it("is read where 8-bit floats have mxfp4 among them", function()
    local bytes, want = {}, { {} }
    for j = 0, 31 do want[1][j + 1] = E2M1[j % 16 + 1] * 4 end
    for j = 0, 30, 2 do bytes[#bytes + 1] = j % 16 | (j + 1) % 16 << 4 end
    local tensors = { [LAYER .. ".weight"] = tensor("I8", { 1, 16 }, pack("B", bytes)),
                      [LAYER .. ".scale"] = tensor("F8_E8M0", { 1, 1 }, "\x81") }
    assert.same(want, values_of(folder_of(tensors, { quantization_config = {
      quant_method = "fp8", weight_block_size = { 128, 128 } } })))
  end)

  -- Codes 0 to 15 twice a row, absmax 1 and 2: nf4 values are the map's.
  it("is read where bitsandbytes' bytes stand in a type of the model's", function()
    local map = { -1, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453,
                  -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0,
                  0.07958029955625534, 0.16093020141124725, 0.24611230194568634,
                  0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023,
                  1 }
    local bytes, want = {}, { {}, {} }
    for i = 1, 2 do
      for j = 0, 31 do want[i][j + 1] = quantized.f32(map[j % 16 + 1]) * i end
      for j = 0, 30, 2 do bytes[#bytes + 1] = (j % 16) << 4 | (j + 1) % 16 end
    end
    local state = '{"quant_type":"nf4","blocksize":32,"dtype":"bfloat16","shape":[2,32]}'
    local config = { quantization_config = { quant_method = "bitsandbytes", load_in_4bit = true } }
    for dtype, size in pairs { U8 = 1, BF16 = 2, F16 = 2, F32 = 4 } do
      local tensors = {
        [LAYER .. ".weight"] = tensor(dtype, { 32 // size, 1 }, pack("B", bytes)),
        [LAYER .. ".weight.absmax"] = tensor("F32", { 2 }, pack("f", { 1, 2 })),
        [LAYER .. ".weight.quant_map"] = tensor("F32", { 16 }, pack("f", map)),
        [LAYER .. ".weight.quant_state.bitsandbytes__nf4"] = tensor("U8", { #state }, state) }
      local folder = folder_of(tensors, config)
      assert.same(want, values_of(folder))
      local opened <close> = assert(rondo.open(folder))
      assert.same(want[2], opened:layer(LAYER).source:read(2, 1, 1, 32):totable()[1])
      tensors[LAYER .. ".weight"].shape = { 16 // size, 1 }
      tensors[LAYER .. ".weight"].bytes = pack("B", bytes):sub(1, 16)
      refuses(tensors, config, ".weight")
    end
  end)
end)
