-- Experts that a model holds stacked in tensors of rank 3: split into layers of their own, or
-- stacked by projection, as engines want them.

local core = require "rondo.core"
local models = require "spec.support.models"
local rondo = require "rondo"

local EXPERTS, HIDDEN, INNER = 3, 64, 32
local above = "model.layers.0.mlp.experts."

-- The weights of a model, [out, in] for each expert and projection; and its folder, where they
-- stand as the family stores them.
local function model(model_type, turned)
  local gate = core.randn({ EXPERTS, INNER, HIDDEN }, 1)
  local up = core.randn({ EXPERTS, INNER, HIDDEN }, 2) * 3
  local down = core.randn({ EXPERTS, HIDDEN, INNER }, 3)
  local both = core.zeros { EXPERTS, 2 * INNER, HIDDEN }
  both[(":, 1:%d, :"):format(INNER)] = gate
  both[(":, %d:%d, :"):format(INNER + 1, 2 * INNER)] = up
  local function stored(t) return turned and t:transpose():contiguous() or t end
  local folder = models.temporary()
  assert(rondo.safetensors.save(folder .. "/model.safetensors", {
    [above .. "gate_up_proj"] = stored(both), [above .. "down_proj"] = stored(down),
    ["model.layers.0.mlp.gate.weight"] = core.randn({ EXPERTS, HIDDEN }, 4),
    ["model.norm.weight"] = core.randn({ HIDDEN }, 5),
  }))
  models.write(folder .. "/config.json", ('{"model_type":"%s","hidden_size":%d,'
    .. '"num_hidden_layers":1,"torch_dtype":"float32"}'):format(model_type, HIDDEN))
  return { gate_proj = gate, up_proj = up, down_proj = down }, assert(rondo.open(folder))
end

local function recipe(scheme)
  return rondo.recipe { { "*experts.*", scheme }, otherwise = rondo.keep }
end

local function quantize(opened, format, scheme, given)
  local out = models.temporary() .. "/out"
  local o = { format = format, recipe = scheme and recipe(scheme) }
  for name, value in pairs(given or {}) do o[name] = value end
  local report, message = rondo.quantize(opened, out, o)
  assert(report, message)
  return assert(rondo.open(out)), report
end

-- Type of the model, whether its experts are turned, and what mlx-lm calls the module of them all.
local families = { ["[out, in]"] = { "qwen3_moe", false, "switch_mlp" },
                   ["[in, out]"] = { "llama4", true, "experts" } }

for stored, family in pairs(families) do
  describe("experts stored " .. stored, function()
    local weights, opened = model(table.unpack(family))

    -- That each expert of the quantized model is what the scheme makes of it alone.
    local function check(format, scheme, fitted, given)
      local result = quantize(opened, format, scheme, given)
      for projection, weight in pairs(weights) do
        for expert = 1, EXPERTS do
          local path = ("%s%d.%s"):format(above, expert - 1, projection)
          local values = assert(result:layer(path)):dequantize()
          local expected = fitted:quantize(weight[expert]):dequantize()
          assert.same({ weight.shape[2], weight.shape[3] }, values.shape)
          assert.is_true(values:eq(expected):all(), format .. " " .. path)
        end
      end
      assert.is_false(result:has(above .. "gate_up_proj"))
    end

    it("are split into a layer for each and each projection", function()
      local int4 = rondo.int4 { group_size = 32 }
      local asymmetric = int4 { symmetric = false }
      check("compressed-tensors", int4, int4)
      check("compressed-tensors", rondo.fp8, rondo.fp8)
      check("gptq-v2", asymmetric, asymmetric { scale = "f16" })
      check("awq", asymmetric, asymmetric { scale = "f16" })
      check("bitsandbytes", rondo.nf4 { group_size = 32 }, rondo.nf4 { group_size = 32 })
      local blocks = rondo.fp8 { group_size = { 128, 128 } }
      check("fp8", blocks, blocks, { recipe = rondo.recipe { -- 32 rows fill no block
        { "*experts.*", rondo.fp8 }, otherwise = rondo.keep, fused = false } })
    end)

    it("are stacked by projection for mlx", function()
      local result = quantize(opened, "mlx", rondo.int4 { group_size = 32 })
      local fitted = rondo.int4 { group_size = 32, symmetric = false, zero = "float" }
      for projection, weight in pairs(weights) do
        local layer = assert(result:layer(("model.layers.0.mlp.%s.%s"):format(family[3],
                                                                              projection)))
        local values = layer:dequantize()
        for expert = 1, EXPERTS do
          local expected = fitted:quantize(weight[expert]):dequantize()
          assert.is_true(values[expert]:eq(expected):all(), projection .. " " .. expert)
        end
      end
    end)

    it("share the scale of the tensor between gate and up of an expert", function()
      local result = quantize(opened, "modelopt", rondo.nvfp4)
      for expert = 1, EXPERTS do
        local function scale_of(projection)
          local name = ("%s%d.%s.weight_scale_2"):format(above, expert - 1, projection)
          return assert(result:tensor(name)):reshape({ 1 })[1]
        end
        local largest = math.max(weights.gate_proj[expert]:abs():max(),
                                 weights.up_proj[expert]:abs():max())
        assert.equal(scale_of "gate_proj", scale_of "up_proj")
        assert.is_true(math.abs(scale_of "up_proj" * 2688 / largest - 1) < 1e-6)
        assert.is_false(scale_of "down_proj" == scale_of "up_proj")
      end
    end)

    it("are searched as others are, and reported as one tensor", function()
      local result, report = quantize(opened, "compressed-tensors", rondo.int4 {
        group_size = 32, clip = "layer" })
      local ratio
      for _, layer in ipairs(report.layers) do
        if layer.tensor == above .. "down_proj" then ratio = layer.clip_ratio end
      end
      assert.is_true(ratio < 1)
      local clipped = rondo.int4 { group_size = 32, ratio = ratio }
      local values = result:layer(above .. "1.down_proj"):dequantize()
      assert.is_true(values:eq(clipped:quantize(weights.down_proj[2]):dequantize()):all())
    end)

    it("stay as they stand in rondo's own formats", function()
      local scheme = rondo.int4 { group_size = 16 }
      local result = quantize(opened, "packed", scheme)
      assert.is_true(result:has(above .. "gate_up_proj.packed_weight"))
      local fake = quantize(opened, "fake", scheme)
      assert.is_true(fake:tensor(above .. "gate_up_proj")
        :eq(result:layer(above .. "gate_up_proj"):dequantize()):all())
    end)
  end)
end

describe("experts that cannot be cut", function()
  local function refused(opened, format, text)
    local good, message = pcall(rondo.plan, opened, { format = format,
                                                      recipe = recipe(rondo.int4 {
                                                        group_size = 32 }) })
    assert.is_false(good)
    assert.truthy(tostring(message):find(text, 1, true), message)
  end

  it("are gpt-oss', whose gate and up rows are interleaved; down is not cut either", function()
    local _, opened = model("gpt_oss", true)
    refused(opened, "compressed-tensors", "gate_up_proj (rule *experts.*): rondo.int4 "
      .. "{ group_size = 32 }: the rows of its gate and up projections are interleaved")
    local result, report = quantize(opened, "compressed-tensors", nil, {
      fallback = "keep", recipe = rondo.recipe {
        { "layers.*", rondo.int4 { group_size = 32 } }, otherwise = rondo.keep } })
    assert.is_true(result:has(above .. "gate_up_proj"))
    assert.is_true(result:has(above .. "down_proj"))
    assert.equal(1, #report.layers)
  end)

  it("are those in tensors of their own, for mlx", function()
    local folder = models.temporary()
    assert(rondo.safetensors.save(folder .. "/model.safetensors", {
      [above .. "0.up_proj.weight"] = core.randn({ 32, 64 }, 1),
      [above .. "1.up_proj.weight"] = core.randn({ 32, 64 }, 2),
    }))
    refused(assert(rondo.open(folder)), "mlx", "mlx-lm reads experts that are stacked")
  end)
end)
