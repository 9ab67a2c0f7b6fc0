-- Opening packed checkpoints: layers read back, and what is wrong with their configuration.

local model = require "rondo.model"
local models = require "spec.support.models"
local rondo = require "rondo"

local open = model.open

local function names_of(m, kind)
  local list = {}
  for name in m:layers(kind) do list[#list + 1] = name end
  return list
end

describe("a packed checkpoint", function()
  teardown(models.cleanup)

  -- Deterministic f32 numbers in [-1, 1).
  local seed = 1
  local function noise(shape)
    local n, out = 1, {}
    for _, d in ipairs(shape) do n = n * d end
    for i = 1, n do
      seed = (seed * 1103515245 + 12345) & 0x7fffffff
      out[i] = ("<f"):pack((seed >> 8) / (1 << 22) - 1)
    end
    return table.concat(out)
  end

  -- The same model packed and fake-quantized: every layer has to say the same.
  local function compare(tensors, config, expected)
    for _, tensor in ipairs(tensors) do tensor.bytes = noise(tensor[2]) end
    local source, into = models.folder(tensors, config), models.temporary()
    for _, format in ipairs { "packed", "fake" } do
      assert(rondo.quantize(source, into .. "/" .. format, { format = format, group_size = 3 }))
    end
    local packed <close> = assert(open(into .. "/packed"))
    local fake <close> = assert(open(into .. "/fake"))
    assert.equal("rondo", packed.quantization)
    assert.is_nil(fake.quantization)
    local quantized = {}
    for name, layer in packed:layers "all" do
      local other = assert(fake:layer(name))
      for _, field in ipairs { "name", "kind", "dtype", "rank", "transposed", "stacked", "depth",
                               "depth_count", "tied", "bias_name", "in_features", "experts" } do
        assert.equal(other[field], layer[field], name .. ": " .. field)
      end
      assert.same(other.shape, layer.shape)
      assert.same(other.weight:totable(), layer.weight:totable())
      assert.equal("f32", layer:dequantize().dtype)
      if layer.quantized then quantized[#quantized + 1] = name end
    end
    assert.same(expected, quantized)
    assert.equal(#names_of(fake, "all"), #names_of(packed, "all"))
    assert.equal(tostring(fake):match "[%d,]+ parameters, f32",
      tostring(packed):match "[%d,]+ parameters, f32")
  end

  it("has the layers of the model it was made of", function()
    compare({ { "wte.weight", { 6, 4 } }, { "h.0.attn.c_attn.weight", { 4, 12 } },
      { "h.0.attn.c_attn.bias", { 12 } }, { "h.0.attn.c_proj.weight", { 4, 4 } },
      { "h.0.ln_1.weight", { 4 } } }, '{"model_type":"gpt2"}',
      { "h.0.attn.c_attn", "h.0.attn.c_proj" })
  end)

  it("tells the orientation of layers by their neighbours, packed as they are", function()
    compare({ { "h.0.attn.c_attn.weight", { 4, 12 } }, { "h.0.attn.c_proj.weight", { 4, 4 } } },
      "{}", { "h.0.attn.c_attn", "h.0.attn.c_proj" })
    compare({ { "layers.0.mlp.experts.down_proj", { 2, 8, 4 } },
      { "layers.0.mlp.experts.down_proj_bias", { 2, 4 } },
      { "layers.0.mlp.experts.gate_up_proj", { 2, 4, 16 } },
      { "layers.0.mlp.router.weight", { 2, 4 } } }, "{}",
      { "layers.0.mlp.experts.down_proj", "layers.0.mlp.experts.gate_up_proj" })
  end)

  it("may be the layer with the empty name", function()
    compare({ { "weight", { 3, 5 } }, { "bias", { 3 } } }, nil, { "" })
  end)
end)
