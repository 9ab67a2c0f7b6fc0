-- compressed-tensors: what the files hold, decoded bit by bit as its own decompressors do, is what
-- the scheme makes of the weights; the configuration; what is refused.

local models = require "spec.support.models"
local quantized = require "spec.support.quantized"
local rondo = require "rondo"

local element, field, f32 = quantized.element, quantized.field, quantized.f32

-- The group of a column, where a scale is [rows, groups].
local function group_at(parts, i, j, cols)
  local groups = parts.weight_scale.shape[2]
  return i * groups + j // (cols // groups)
end

-- P.weight_packed of i32: codes are a stream of bits over a row of whole words, offset by half of
-- their range; zero points the same down the rows of each column of groups.
local function packed_integer(bits)
  return function(parts, i, j)
    local cols = element(parts.weight_shape, 1)
    local words = parts.weight_packed.shape[2]
    local code = field(parts.weight_packed.bytes, i * words * 32 + j * bits, bits)
    local zero, at = 1 << bits - 1, group_at(parts, i, j, cols)
    if parts.weight_zero_point then
      local groups, fields = parts.weight_scale.shape[2], 32 // bits
      local group = at % groups
      local word = i // fields * groups + group
      zero = field(parts.weight_zero_point.bytes, word * 32 + i % fields * bits, bits)
    end
    return f32((code - zero) * element(parts.weight_scale, at))
  end
end

local function eight_bits(parts, i, j)
  local cols = parts.weight.shape[2]
  local scale = element(parts.weight_scale, group_at(parts, i, j, cols))
  return f32(element(parts.weight, i * cols + j) * scale)
end

local function nibble(parts, i, j)
  return field(parts.weight_packed.bytes, (i * parts.weight_packed.shape[2] * 2 + j) * 4, 4)
end

local function config_of(folder)
  local described = quantized.json(folder).quantization_config
  return described, described.config_groups.group_0
end

describe("compressed-tensors", function()
  teardown(models.cleanup)

  for _, bits in ipairs { 2, 4, 8 } do
    for _, dtype in ipairs { "f32", "f16", "bf16" } do
      it(("packs integers of %d bits, %s"):format(bits, dtype), function()
        local plain = rondo["int" .. bits]
        local sizes = { { 13, 96, 32 }, { 7, 128, 64 }, { 5, 128, 128 }, { 37, 100, "row" },
                        { 1, 3, "row" } }
        for _, size in ipairs(sizes) do
          for _, symmetric in ipairs { true, false } do
            local scheme = plain { group_size = size[3], symmetric = symmetric }
            local _, all, parts = quantized.check({
              format = "compressed-tensors", scheme = scheme, fitted = scheme { scale = dtype },
              rows = size[1], cols = size[2], dtype = dtype, given = { activations = "none" } },
              packed_integer(bits))
            local groups = size[3] == "row" and 1 or size[2] // size[3]
            assert.same({ size[1], (size[2] * bits + 31) // 32 }, parts.weight_packed.shape)
            assert.same({ "I32", dtype:upper(), "I64" }, { parts.weight_packed.dtype,
              parts.weight_scale.dtype, parts.weight_shape.dtype })
            assert.same({ size[1], groups }, parts.weight_scale.shape)
            assert.same({ size[1], size[2] }, { element(parts.weight_shape, 0),
                                                element(parts.weight_shape, 1) })
            assert.equal(not symmetric, parts.weight_zero_point ~= nil)
            if not symmetric then
              assert.same({ (size[1] * bits + 31) // 32, groups }, parts.weight_zero_point.shape)
            end
            assert.is_nil(parts.weight)
            assert.equal(dtype:upper(), parts.bias.dtype)
            assert.truthy(all["lm_head.weight"])
          end
        end
      end)
    end
  end

  it("fills words with zeros behind the codes of a row", function()
    for _, bits in ipairs { 2, 4, 8 } do
      for _, symmetric in ipairs { true, false } do
        local scheme = rondo["int" .. bits] { group_size = "row", symmetric = symmetric }
        local _, _, parts = quantized.check({
          format = "compressed-tensors", scheme = scheme, fitted = scheme, rows = 37, cols = 99,
          given = { activations = "none" } }, packed_integer(bits))
        local words, used = parts.weight_packed.shape[2], 99 * bits
        for row = 0, 36 do
          for bit = used, words * 32 - 1 do
            assert.equal(0, field(parts.weight_packed.bytes, row * words * 32 + bit, 1))
          end
        end
      end
    end
  end)

  it("describes packed integers", function()
    local scheme = rondo.int4 { group_size = 32, symmetric = false }
    local folder = quantized.check({
      format = "compressed-tensors", scheme = scheme, fitted = scheme, rows = 13, cols = 96 },
      packed_integer(4))
    local described, group = config_of(folder)
    assert.equal("compressed-tensors", described.quant_method)
    assert.equal("pack-quantized", described.format)
    assert.equal("compressed", described.quantization_status)
    assert.same({ "lm_head" }, described.ignore)
    assert.same({ "Linear" }, group.targets)
    assert.same({ num_bits = 4, type = "int", symmetric = false, strategy = "group",
                  group_size = 32, dynamic = false }, group.weights)
    assert.equal(rondo.json.null, group.input_activations)
    assert.equal(rondo.json.null, group.output_activations)
    assert.is_nil(group.format) -- older readers refuse it
  end)

  for _, dtype in ipairs { "f32", "f16", "bf16" } do
    it("stores int8 and fp8 of " .. dtype .. " as they are", function()
      for kind, name in pairs { int8 = "int-quantized", fp8 = "float-quantized" } do
        local scheme = rondo[kind]
        local folder, _, parts = quantized.check({
          format = "compressed-tensors", scheme = scheme, fitted = scheme { scale = dtype },
          rows = 21, cols = 51, dtype = dtype }, eight_bits)
        local described, group = config_of(folder)
        assert.equal(kind == "int8" and "I8" or "F8_E4M3", parts.weight.dtype)
        assert.same({ 21, 1 }, parts.weight_scale.shape)
        assert.equal(name, described.format)
        local type_name = kind == "int8" and "int" or "float"
        assert.same({ num_bits = 8, type = type_name, symmetric = true, strategy = "channel",
                      dynamic = false }, group.weights)
        assert.same({ num_bits = 8, type = type_name, symmetric = true, strategy = "token",
                      dynamic = true }, group.input_activations)
      end
    end)
  end

  it("packs int8 where activations stay as they are", function()
    local folder = quantized.check({
      format = "compressed-tensors", scheme = rondo.int8, fitted = rondo.int8, rows = 9, cols = 30,
      given = { activations = "none" } }, packed_integer(8))
    local described, group = config_of(folder)
    assert.equal("pack-quantized", described.format)
    assert.equal("channel", group.weights.strategy)
    assert.equal(rondo.json.null, group.input_activations)
  end)

  it("stores fp8 with a scale for blocks and for the tensor", function()
    local blocks = rondo.fp8 { group_size = { 128, 128 } }
    local folder, _, parts = quantized.check({
      format = "compressed-tensors", scheme = blocks, fitted = blocks { scale = "bf16" },
      rows = 128, cols = 256, dtype = "bf16" }, function(parts, i, j)
        local scale = element(parts.weight_scale, i // 128 * 2 + j // 128)
        return f32(element(parts.weight, i * 256 + j) * scale)
      end)
    local _, group = config_of(folder)
    assert.same({ 1, 2 }, parts.weight_scale.shape)
    assert.same({ num_bits = 8, type = "float", symmetric = true, strategy = "block",
                  block_structure = { 128, 128 }, dynamic = false }, group.weights)
    assert.same({ num_bits = 8, type = "float", symmetric = true, strategy = "group",
                  group_size = 128, dynamic = true }, group.input_activations)
    local whole = rondo.fp8 { group_size = "tensor" }
    folder, _, parts = quantized.check({
      format = "compressed-tensors", scheme = whole, fitted = whole, rows = 9, cols = 15 },
      function(parts_, i, j)
        return f32(element(parts_.weight, i * 15 + j) * element(parts_.weight_scale, 0))
      end)
    assert.same({ 1 }, parts.weight_scale.shape)
    assert.equal("tensor", select(2, config_of(folder)).weights.strategy)
  end)

  it("stores mxfp8 and mxfp4 with bytes of E8M0", function()
    local function scale_of(parts, i, j)
      return quantized.e8m0(element(parts.weight_scale, i * parts.weight_scale.shape[2] + j // 32))
    end
    local folder, _, parts = quantized.check({
      format = "compressed-tensors", scheme = rondo.mxfp8, fitted = rondo.mxfp8, rows = 7,
      cols = 96, dtype = "bf16" }, function(parts_, i, j)
        return f32(element(parts_.weight, i * 96 + j) * scale_of(parts_, i, j))
      end)
    assert.same({ "F8_E4M3", "U8" }, { parts.weight.dtype, parts.weight_scale.dtype })
    assert.equal("mxfp8-quantized", config_of(folder).format)
    folder, _, parts = quantized.check({
      format = "compressed-tensors", scheme = rondo.mxfp4, fitted = rondo.mxfp4, rows = 7,
      cols = 96, dtype = "f16" }, function(parts_, i, j)
        return f32(quantized.e2m1(nibble(parts_, i, j)) * scale_of(parts_, i, j))
      end)
    local described, group = config_of(folder)
    assert.same({ "U8", "U8" }, { parts.weight_packed.dtype, parts.weight_scale.dtype })
    assert.same({ { 7, 48 }, { 7, 3 } }, { parts.weight_packed.shape, parts.weight_scale.shape })
    assert.equal("mxfp4-pack-quantized", described.format)
    assert.same({ num_bits = 4, type = "float", symmetric = true, strategy = "group",
                  group_size = 32, scale_dtype = "torch.uint8", dynamic = false }, group.weights)
  end)

  -- The scale is divided by the global one; rondo's factor is the inverse of that, rounded.
  it("stores nvfp4 with a scale for the tensor", function()
    local folder, _, parts = quantized.check({
      format = "compressed-tensors", scheme = rondo.nvfp4, fitted = rondo.nvfp4, rows = 7,
      cols = 80, dtype = "bf16", share = 0x1p-22 }, function(parts_, i, j)
        local scale = f32(element(parts_.weight_scale, i * 5 + j // 16)
                          / element(parts_.weight_global_scale, 0))
        return f32(quantized.e2m1(nibble(parts_, i, j)) * scale)
      end)
    local described, group = config_of(folder)
    assert.same({ "U8", "F8_E4M3", "F32" }, { parts.weight_packed.dtype, parts.weight_scale.dtype,
                                              parts.weight_global_scale.dtype })
    assert.same({ 1 }, parts.weight_global_scale.shape)
    assert.equal("nvfp4-pack-quantized", described.format)
    assert.same({ num_bits = 4, type = "float", symmetric = true, strategy = "tensor_group",
                  group_size = 16, dynamic = false }, group.weights)
    assert.equal(rondo.json.null, group.input_activations)
  end)

  it("gives layers that engines fuse one global scale", function()
    local above, weights, schemes = "model.layers.1.self_attn.", {}, {}
    for i, name in ipairs { "q_proj", "k_proj", "v_proj" } do
      weights[above .. name] = rondo.randn({ 8, 32 }, i) * i
      schemes[above .. name] = rondo.nvfp4
    end
    local tensors = quantized.tensors((quantized.quantize(quantized.model(weights, "f32"),
                                                          "compressed-tensors", schemes)))
    local amax = 0
    for _, weight in pairs(weights) do amax = math.max(amax, weight:abs():max()) end
    for path in pairs(weights) do
      assert.near(448 * 6 / amax, element(tensors[path .. ".weight_global_scale"], 0),
                  448 * 6 / amax * 0x1p-22)
    end
  end)

  it("holds several schemes in groups of their own", function()
    local a, b, c = "model.layers.0.self_attn.o_proj", "model.layers.0.mlp.down_proj",
      "model.layers.1.mlp.down_proj"
    local weights = { [a] = quantized.weight(8, 64, 1), [b] = quantized.weight(8, 64, 2),
                      [c] = quantized.weight(8, 64, 3) }
    local schemes = { [a] = rondo.int4 { group_size = 32 }, [b] = rondo.fp8,
                      [c] = rondo.int4 { group_size = 32 } }
    local folder = quantized.quantize(quantized.model(weights, "f32"), "compressed-tensors",
                                      schemes)
    local described = quantized.json(folder).quantization_config
    assert.equal("mixed-precision", described.format)
    local of = {}
    for _, group in pairs(described.config_groups) do
      for _, path in ipairs(group.targets) do of[path] = group end
    end
    assert.equal(of[a], of[c])
    assert.same({ "pack-quantized", "float-quantized" }, { of[a].format, of[b].format })
    assert.same({ "lm_head" }, described.ignore)
    local opened = assert(rondo.open(folder))
    for path, scheme in pairs(schemes) do
      assert.equal(scheme:quantize(weights[path]):dequantize(), opened:layer(path):dequantize())
    end
    opened:close()
  end)

  it("is the same with any number of threads, and as large as planned", function()
    local a, b = "model.layers.0.self_attn.o_proj", "model.layers.0.mlp.down_proj"
    quantized.check_threads(quantized.model({ [a] = quantized.weight(70, 96, 1, "bf16"),
                                              [b] = quantized.weight(33, 160, 2, "bf16") }, "bf16"),
      "compressed-tensors", { [a] = rondo.int4 { group_size = 32, symmetric = false },
                              [b] = rondo.nvfp4 })
  end)

  it("refuses what it has no place for", function()
    local check = quantized.check_refusal
    local format = "compressed-tensors"
    check(format, rondo.int4 { group_size = 32 }, 8, 40, "40", "group size 32")
    check(format, rondo.int3 { group_size = 32 }, 8, 64, "2, 4 or 8 bits, not 3")
    check(format, rondo.nf4 { group_size = 32 }, 8, 64, "--bits 4, --dtype nvfp4")
    check(format, rondo.fp8 { group_size = 32 }, 8, 64, "8-bit floats")
    check(format, rondo.fp8 { group_size = { 128, 128 } }, 100, 128, "100x128", "128x128")
    check(format, rondo.int4 { group_size = { 32, 32 } }, 32, 32, "groups along a row")
    check(format, rondo.int4 { group_size = 32, group_dim = 0 }, 32, 32, "along the inputs")
    check(format, rondo.int4 { group_size = 32, scale = "e4m3" }, 8, 32, "f32, f16 or bf16")
    check(format, rondo.int4 { group_size = 32, double = {} }, 8, 32, "not quantized in turn")
    check(format, rondo.int4 { group_size = 32, symmetric = false, zero = "float" }, 8, 32,
          "zero points of compressed-tensors are integers")
  end)
end)
