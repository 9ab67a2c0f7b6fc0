-- Models whose tensors are changed or left out.
local models = require "spec.support.models"
local rondo = require "rondo"

teardown(models.cleanup)

local function model_of(tensors)
  local path = models.temporary() .. "/m.safetensors"
  assert(rondo.safetensors.save(path, tensors))
  return assert(rondo.open(path)), path
end

local function saved(model, options)
  local folder = models.temporary() .. "/out"
  assert(model:save(folder, options))
  return assert(rondo.open(folder))
end

local function stack()
  return rondo.arange(0, 23):to("f32"):reshape { 2, 3, 4 }
end

describe("model:map", function()
  local tensors = {
    ["a.weight"] = rondo.tensor { { 1, 2, 3 }, { 4, 5, 6 } }, ["b.bias"] = rondo.tensor { 7, 8 },
    ["c.experts.down_proj"] = stack(), ["d"] = rondo.tensor({ 5, 6 }, "i64"),
  }

  it("changes what the function gives, in the source's dtype, and saves it", function()
    local half = model_of { ["a.weight"] = tensors["a.weight"]:to "f16" }
    local doubled = half:map(function(_, t) return t:to "f32" * 2 end)
    assert.equal("f16", doubled["a.weight"].dtype)
    assert.same({ { 2, 4, 6 }, { 8, 10, 12 } }, doubled["a.weight"]:totable())
    local again = saved(doubled)
    assert.equal("f16", again["a.weight"].dtype)
    assert.same({ { 2, 4, 6 }, { 8, 10, 12 } }, again["a.weight"]:totable())
    assert.same({ { 1, 2, 3 }, { 4, 5, 6 } }, half["a.weight"]:totable())
  end)

  it("leaves the others, of any type, bit for bit", function()
    local model = model_of(tensors)
    local out = saved(model:map(function(name, t) if name == "b.bias" then return t + 1 end end))
    assert.same({ 8, 9 }, out["b.bias"]:totable())
    for _, name in ipairs { "a.weight", "c.experts.down_proj", "d" } do
      assert.equal(tensors[name]:bytes(), out[name]:bytes())
      assert.equal(tensors[name].dtype, out[name].dtype)
    end
  end)

  it("gives rows with their numbers where it is asked to", function()
    local model, seen = model_of(tensors), {}
    local by_rows = model:map(function(name, block, row)
      seen[#seen + 1] = ("%s %dx%d"):format(name, block.shape[1], block.shape[2])
      if name == "c.experts.down_proj" then
        return block + rondo.arange(row, row + block.shape[1] - 1):to("f32"):reshape { -1, 1 } * 100
      end
    end, { by = "rows" })
    local out = saved(by_rows)
    local expected = stack():totable()
    for e = 1, 2 do
      for r = 1, 3 do
        for c = 1, 4 do expected[e][r][c] = expected[e][r][c] + 100 * (3 * (e - 1) + r) end
      end
    end
    assert.same(expected, out["c.experts.down_proj"]:totable())
    assert.same(expected, by_rows["c.experts.down_proj"]:totable())
    assert.same({ { 1, 2, 3 }, { 4, 5, 6 } }, out["a.weight"]:totable())
    assert.matches("experts.down_proj 6x4", table.concat(seen, "\n"))
  end)

  it("goes by pieces through a tensor that is larger than one", function()
    local rows = 70000
    local model = model_of {
      ["a.weight"] = rondo.arange(1, rows * 64):to("f32"):reshape { rows, 64 },
    }
    local most = 0
    local out = saved(model:map(function(_, block)
      most = math.max(most, block.shape[1])
      return block + 1
    end, { by = "rows" }))
    assert.is_true(most < rows)
    local w = out["a.weight"]
    assert.equal(2, w[1][1])
    assert.equal(rows * 64 + 1, w[rows][64])
    assert.is_true(w:eq(model["a.weight"] + 1):all())
  end)

  it("composes, and is quantized like any model", function()
    local model = model_of { ["layers.0.fc.weight"] = rondo.randn({ 8, 32 }, 5) }
    local twice = model:map(function(_, t) return t * 2 end):map(function(_, t) return t + 1 end)
    local expected = rondo.rtn.quant_weight(model["layers.0.fc.weight"] * 2 + 1,
      { group_size = 8, scheme = "sym" })
    local recipe = rondo.recipe { { "fc", rondo.int4 { group_size = 8 } } }
    local out = models.temporary() .. "/out"
    assert(rondo.quantize(twice, out, { recipe = recipe }))
    assert.is_true(assert(rondo.open(out))["layers.0.fc.weight"]:eq(expected):all())
  end)

  it("runs before a recipe that names it", function()
    local model = model_of { ["layers.0.fc.weight"] = rondo.randn({ 8, 32 }, 5) }
    local function twice(_, t) return t * 2 end
    local function more(_, t) return t + 1 end
    local recipe = rondo.recipe { { "fc", rondo.int4 { group_size = 8 } },
                                  transform = { twice, { more, by = "rows" } } }
    local out = models.temporary() .. "/out"
    assert(rondo.quantize(model, out, { recipe = recipe }))
    local expected = rondo.rtn.quant_weight(model["layers.0.fc.weight"] * 2 + 1,
      { group_size = 8, scheme = "sym" })
    assert.is_true(assert(rondo.open(out))["layers.0.fc.weight"]:eq(expected):all())
  end)

  it("refuses what it cannot store, and names the tensor", function()
    local model = model_of(tensors)
    for text, f in pairs {
      ["map: a.weight: the function must keep the shape [2, 3], not make it [3, 2]"] =
        function(name, t) if name == "a.weight" then return t:t() end end,
      ["map: a.weight: the function gives a tensor or nil, not a number"] =
        function(name) if name == "a.weight" then return 3 end end,
    } do
      local good, message = pcall(model.save, model:map(f), models.temporary() .. "/out")
      assert.is_false(good)
      assert.truthy(message:find(text, 1, true), message)
    end
    assert.has_error(function() model:map(3) end)
  end)
end)

describe("model:filter", function()
  it("leaves tensors out", function()
    local model = model_of { ["layers.0.a.weight"] = rondo.zeros { 2, 2 },
                             ["layers.1.a.weight"] = rondo.full({ 2, 2 }, 3),
                             ["layers.1.norm.weight"] = rondo.zeros { 2 } }
    local rest = model:filter(function(name) return name:find "^layers%.1" end)
    assert.same({ "layers.1.a.weight", "layers.1.norm.weight" }, rest.names)
    assert.is_false(rest:has "layers.0.a.weight")
    assert.equal(3, rest["a.weight"][1][1]) -- the only one that ends so
    local paths = {}
    for path in rest:layers() do paths[#paths + 1] = path end
    assert.same({ "layers.1.a" }, paths)
    assert.same({ "layers.1.a.weight", "layers.1.norm.weight" }, saved(rest).names)
    local made = assert(rondo.plan(rest, { recipe = rondo.recipe { { "a", rondo.int4 },
                                                                 otherwise = rondo.keep } }))
    assert.equal(1, made.totals.quantized)
  end)
end)

describe("a layer", function()
  it("has statistics", function()
    local model = model_of { ["a.weight"] = rondo.tensor { { 1, -5 }, { 2, 2 } } }
    local stats = model:layer("a"):stats()
    assert.same({ 4, -5, 2, 5, 0.0 }, { stats.count, stats.min, stats.max, stats.absmax,
                                        stats.mean })
    assert.is_true(math.abs(stats.std - math.sqrt(34 / 4)) < 1e-12)
  end)
end)
