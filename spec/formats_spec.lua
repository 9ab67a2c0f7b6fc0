-- Quantized checkpoints of every format as models: codes and scales as they are, copies, comparing,
-- and any of them as the source of any other: the same as by way of a checkpoint of plain values.

local models = require "spec.support.models"
local quantized = require "spec.support.quantized"
local rondo = require "rondo"

local A, B = "model.layers.0.self_attn.o_proj", "model.layers.0.mlp.down_proj"

-- Format, what layers are quantized with, and as what they are stored (nil: the same).
local cases = {
  { "packed", rondo.int4 { group_size = 32, symmetric = false } },
  { "packed", rondo.nf4 { group_size = 32 } },
  { "packed", rondo.int8 { group_size = 32, group_dim = 0 } },
  { "compressed-tensors", rondo.int4 { group_size = 32 } },
  { "compressed-tensors", rondo.int8 },
  { "compressed-tensors", rondo.fp8 },
  { "compressed-tensors", rondo.fp8 { group_size = "tensor" } },
  { "compressed-tensors", rondo.mxfp4 },
  { "compressed-tensors", rondo.mxfp8 },
  { "gptq", rondo.int4 { group_size = 32, symmetric = false },
    rondo.int4 { group_size = 32, symmetric = false, zero = "positive", scale = "f16" } },
  { "gptq-v2", rondo.int8 { symmetric = false }, rondo.int8 { symmetric = false, scale = "f16" } },
  { "awq", rondo.int4 { group_size = 32, symmetric = false },
    rondo.int4 { group_size = 32, symmetric = false, scale = "f16" } },
  { "mlx", rondo.int3 { group_size = 32 },
    rondo.int3 { group_size = 32, symmetric = false, zero = "float" } },
  { "mlx", rondo.mxfp4 },
  { "mlx", rondo.nvfp4, rondo.nvfp4 { tensor_scale = false } },
  { "bitsandbytes", rondo.nf4 { group_size = 32 } },
  { "bitsandbytes", rondo.nf4 { group_size = 32, double = { map = "dynamic" } } },
  { "bitsandbytes", rondo.fp4 { group_size = 32 } },
  { "bitsandbytes", rondo.int8 },
  { "fp8", rondo.fp8 { group_size = { 128, 128 } } },
  { "modelopt", rondo.nvfp4 },
}

local weights, source

local function made(case)
  return (quantized.quantize(source, case[1], { [A] = case[2], [B] = case[2] }))
end

describe("quantized checkpoints", function()
  setup(function()
    weights = { [A] = quantized.weight(40, 96, 1), [B] = quantized.weight(136, 160, 2) }
    source = quantized.model(weights, "f32")
  end)
  teardown(models.cleanup)

  for _, case in ipairs(cases) do
    local label = case[1] .. " " .. case[2]:label()

    it("give codes, scales and zero points as they are: " .. label, function()
      local fitted, opened = case[3] or case[2], assert(rondo.open(made(case)))
      for path, weight in pairs(weights) do
        local want, got = fitted:quantize(weight), opened:layer(path):stored()
        assert.equal(want:dequantize(), got:dequantize())
        assert.equal(want.codes, got.codes)
        assert.equal(want.scales, got.scales)
        assert.equal(want.zeros, got.zeros)
        assert.same(want.shape, got.shape)
        assert.equal(want:bits(), got:bits())
        assert.equal(want:error(weight), got:error(weight))
      end
      opened:close()
    end)

    it("are copied as they are: " .. label, function()
      local folder, copy = made(case), models.temporary()
      local opened = assert(rondo.open(folder))
      assert(opened:save(copy, { overwrite = true }))
      opened:close()
      local before, after = quantized.tensors(folder), quantized.tensors(copy)
      for name, tensor in pairs(before) do
        assert.equal(tensor.bytes, after[name].bytes)
        after[name] = nil
      end
      assert.is_nil(next(after))
      assert.same(quantized.json(folder), quantized.json(copy))
    end)

    it("are compared with their source and with others: " .. label, function()
      local folder = made(case)
      local found = assert(rondo.compare(source, folder))
      assert.same({ {}, {}, {} }, { found.only_a, found.only_b, found.differing_shapes })
      local opened = assert(rondo.open(folder))
      for _, entry in ipairs(found.layers) do
        if weights[entry.name] then
          local values, w = opened:layer(entry.name):dequantize(), weights[entry.name]
          local lost = (values - w):to("f64"):square():sum() / w:to("f64"):square():sum()
          assert.near(lost, entry.relative_error, lost * 1e-6)
          assert.is_true(entry.quantized_b)
        end
      end
      opened:close()
      for _, t in ipairs(found.tensors) do assert(t.identical or case[1] == "packed", t.name) end
      local other = made(cases[4])
      found = assert(rondo.compare(folder, other))
      assert.same({ {}, {}, {} }, { found.only_a, found.only_b, found.differing_shapes })
      assert.is_true(found.totals.relative_error < 0.2)
    end)

    it("are read piece by piece: " .. label, function()
      local opened = assert(rondo.open(made(case)))
      for path in pairs(weights) do
        local layer = opened:layer(path)
        local values, whole = layer:dequantize(), layer.source
        for _, place in ipairs { { 1, 1, 1, 1 }, { 7, 9, 33, 40 }, { 2, 38, 1, 96 },
                                 { 40, 1, 90, 7 }, { 5, 2, 31, 2 } } do
          local row, rows, col, cols = table.unpack(place)
          assert.equal(values[("%d:%d, %d:%d"):format(row, row + rows - 1, col, col + cols - 1)],
                       assert(whole:read(row, rows, col, cols)))
        end
      end
      opened:close()
    end)

    it("become int4 without a detour: " .. label, function()
      local folder = made(case)
      local plain = models.temporary()
      local opened = assert(rondo.open(folder))
      local tensors = {}
      for path in pairs(weights) do tensors[path .. ".weight"] = opened:layer(path):dequantize() end
      opened:close()
      assert(rondo.safetensors.save(plain .. "/model.safetensors", tensors))
      local scheme = rondo.int4 { group_size = 32, scale = "f16" }
      local schemes = { [A] = scheme, [B] = scheme }
      local direct = quantized.tensors((quantized.quantize(folder, "compressed-tensors", schemes)))
      local detour = quantized.tensors((quantized.quantize(plain, "compressed-tensors", schemes)))
      for name, tensor in pairs(detour) do
        assert.equal(tensor.dtype, direct[name].dtype)
        assert.equal(tensor.bytes, direct[name].bytes)
        direct[name] = nil
      end
      local others = {} -- those that were no layers' parts
      for name in pairs(direct) do others[#others + 1] = name end
      table.sort(others)
      assert.same({ "lm_head.weight", "model.embed_tokens.weight", B .. ".bias", A .. ".bias",
                    "model.norm.weight" }, others)
    end)
  end

  it("name layers that are not quantized, and matrices that are not there", function()
    local opened = assert(rondo.open(made(cases[1])))
    assert.error_matches(function() opened:layer "lm_head":stored() end,
                         "'lm_head' is not quantized")
    assert.error_matches(function() opened:layer(A):stored(2) end, "matrices 1 to 1, not 2")
    opened:close()
  end)

  it("give codes of groups that are no runs of inputs", function()
    local folder = models.folder({
      { "fc.qweight", { 2, 8 }, dtype = "I32", bytes = ("\x9a\x78\x56\x34"):rep(16) },
      { "fc.qzeros", { 2, 1 }, dtype = "I32", bytes = ("\x77"):rep(8) },
      { "fc.scales", { 2, 8 }, dtype = "F16", bytes = ("\0\x3c"):rep(8) .. ("\0\x40"):rep(8) },
      { "fc.g_idx", { 16 }, dtype = "I32", bytes = ("\1\0\0\0\0\0\0\0"):rep(8) },
    }, '{"quantization_config":{"quant_method":"gptq","bits":4,"group_size":8}}')
    local opened = assert(rondo.open(folder))
    local layer = opened:layer "fc"
    local got = layer:stored()
    assert.equal(layer:dequantize(), got:dequantize())
    assert.same({ 10, 9, 8, 7, 6, 5, 4, 3, 10, 9, 8, 7, 6, 5, 4, 3 }, got.codes[1]:totable())
    assert.same({ 2.0, 1.0, 2.0, 1.0 }, got.scales["1, 1:4"]:totable())
    opened:close()
  end)
end)
