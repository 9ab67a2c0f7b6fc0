-- Schemes as values.
local models = require "spec.support.models"
local rondo = require "rondo"

teardown(models.cleanup)

local int4, int8, nf4 = rondo.int4, rondo.int8, rondo.nf4

-- A scheme made again of its text.
local function remade(scheme)
  return assert(load("local rondo = ... return " .. tostring(scheme)))(rondo)
end

describe("a scheme", function()
  it("has the defaults of its type", function()
    assert.same({ "int4", "int", 4, true, 128, 1, false, "none", 1.0, "f32" },
      { int4.type, int4.data_type, int4.bits, int4.symmetric, int4.group_size, int4.group_dim,
        int4.full_range, int4.clip, int4.ratio, int4.scale })
    assert.equal("row", int8.group_size)
    assert.same({ 2, 3, 5, 6 }, { rondo.int2.bits, rondo.int3.bits, rondo.int5.bits,
                                  rondo.int6.bits })
    for _, name in ipairs { "nf4", "fp4", "e2m1" } do
      assert.same({ name, 4, 128 }, { rondo[name].data_type, rondo[name].bits,
                                      rondo[name].group_size })
    end
    assert.equal("keep", rondo.keep.type)
  end)

  it("gives another that differs where it is told to, and stays as it is", function()
    local body = int4 { group_size = 64, symmetric = false }
    local tender = body { group_size = 32 }
    assert.same({ 64, false, 32, false }, { body.group_size, body.symmetric, tender.group_size,
                                            tender.symmetric })
    assert.has_error(function() body.group_size = 8 end,
      "a scheme cannot be changed (field 'group_size'); scheme { group_size = ... } makes another")
    int4 { group_size = { 4, 8 } }.group_size[1] = 9
    assert.same({ 4, 8 }, int4 { group_size = { 4, 8 } }.group_size)
  end)

  it("is equal to every one that says the same", function()
    assert.is_true(int4 { group_size = 128 } == int4)
    assert.is_true(int4 { group_size = 64 } { group_size = 128 } == int4)
    assert.is_true(int4 { group_size = { 1, 32 } } == int4 { group_size = 32 })
    assert.is_true(int4 { group_size = { 32, 1 } } == int4 { group_size = 32, group_dim = 0 })
    assert.is_false(int4 == rondo.int3)
    assert.is_true(int4 { p = 3 } == int4 { p = 3.0 })
    assert.is_false(int4 { ratio = 0.9 } == int4)
  end)

  it("is printed as the Lua that makes it, and goes into a plain table and back", function()
    assert.equal("rondo.int4", tostring(int4))
    assert.equal("rondo.int4 { group_size = 64, symmetric = false }",
      tostring(int4 { symmetric = false, group_size = 64 }))
    for _, scheme in ipairs { int4, rondo.keep, int8 { group_size = { 128, 128 } },
                              nf4 { ratio = 0.1, scale = "bf16" }, int4 { double = { bits = 6 } },
                              rondo.scheme.from { type = "int7", full_range = true },
                              rondo.scheme.from { type = "fp4_e2m1", group_size = "row" } } do
      assert.equal(scheme, remade(scheme))
      assert.equal(scheme, rondo.scheme.from(scheme:totable()))
      assert.is_nil(getmetatable(scheme:totable()))
    end
    assert.same({ type = "int4", group_size = 64 }, int4 { group_size = 64 }:totable())
  end)

  it("has a label for tables", function()
    assert.equal("int4 asym g32", int4 { symmetric = false, group_size = 32 }:label())
    assert.equal("nf4 row", nf4 { group_size = "row" }:label())
    assert.equal("int8 sym full-range g128 dim0",
      int8 { full_range = true, group_size = { 128, 1 } }:label())
    assert.equal("int4 sym g128 clip grid (steps = 20) p 1.5 importance",
      int4 { clip = { "grid", steps = 20 }, p = 1.5, importance = rondo.zeros { 4 } }:label())
    assert.equal("int4 sym g128 scale f16", int4 { scale = "f16" }:label())
    assert.equal("int4 sym g128 double 6-bit g256", int4 { double = { bits = 6 } }:label())
    assert.equal("nf4 g64 double 8-bit g256 dynamic",
      nf4 { group_size = 64, double = { map = "dynamic" } }:label())
    assert.equal("e2m1 g16 scale e4m3 tensor-scale", rondo.nvfp4:label())
    assert.equal("fp8 128x128", rondo.fp8 { group_size = { 128, 128 } }:label())
    assert.equal("int4 asym g32 zero float",
      int4 { group_size = 32, symmetric = false, zero = "float" }:label())
    assert.equal("nf4 g128 ratio 0.25", nf4 { ratio = 0.25, p = 2, scale = "f32" }:label())
    assert.equal("int4 sym g128 clip layer", int4 { clip = "layer" }:label())
    assert.equal("int4 sym g128 clip function", int4 { clip = function() end }:label())
    assert.equal("int4 sym g128 double 8-bit g64 without mean",
      int4 { double = { group_size = 64, mean = false } }:label())
  end)

  it("tells in plan and report what a scheme does besides", function()
    local folder = models.temporary()
    assert(rondo.safetensors.save(folder .. "/m.safetensors",
      { ["a.weight"] = rondo.randn({ 4, 8 }, 1) }))
    local model = assert(rondo.open(folder .. "/m.safetensors"))
    local options = { recipe = rondo.recipe {
      { "a.weight", int4 { group_size = 8, clip = "grid", scale = "f16" } } } }
    local expected = "int4 sym g8 scale f16 clip grid"
    assert.equal(expected, rondo.plan(model, options).rows[1].scheme)
    local report = assert(rondo.quantize(model, folder .. "/out", options))
    assert.equal(expected, report.layers[1].scheme)
  end)

  it("refuses what makes no sense, and says what would", function()
    for text, make in pairs {
      ["unknown option 'groupsize' (known: clip, double"] = function() int4 { groupsize = 1 } end,
      ["group_size must be an integer of at least 1"] = function() int4 { group_size = 0 } end,
      ["group_size must be an integer"] = function() int4 { group_size = { 1, 2, 3 } } end,
      ["unknown option 'symmetric'"] = function() nf4 { symmetric = false } end,
      ["scale must be one of f32, f16"] = function() int4 { scale = "f64" } end,
      ["full_range needs symmetric"] = function()
        int4 { full_range = true, symmetric = false }
      end,
      ["1 bit has no full range"] = function()
        rondo.scheme.from { type = "int1", full_range = true }
      end,
      ["p must be a number above 0, not inf"] = function() int4 { p = math.huge } end,
      ["leave ratio out"] = function() int4 { ratio = 0.9, clip = "layer" } end,
      ["a symmetric scheme does not have"] = function() int4 { zero = "float" } end,
      ["keep takes no options"] = function() rondo.keep { group_size = 1 } end,
      ["unknown option 'x' (known: bits, group_size, map, mean)"] = function()
        int4 { double = { x = 1 } }
      end,
      ["a table with a type is expected"] = function() rondo.scheme.from { type = "int99" } end,
      ["a scheme has no field 'bitz'"] = function() return int4.bitz end,
      ["rondo has no field 'int7'"] = function() return rondo.int7 end,
    } do
      local good, message = pcall(make)
      assert.is_false(good)
      assert.truthy(message:find(text, 1, true), message)
    end
  end)

  it("points at the line that asks for what makes no sense", function()
    local line
    local function ask()
      line = debug.getinfo(1, "l").currentline + 1
      local made = int4 { full_range = true, symmetric = false }
      return made
    end
    local function caller()
      local made = ask()
      return made
    end
    local _, message = pcall(caller)
    assert.equal(line, tonumber(message:match "^[^:]*:(%d+):"), message)
  end)
end)
