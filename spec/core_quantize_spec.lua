-- What keeps the native functions over tiles from doing harm, whatever they are handed. They are
-- not public; the Lua half checks its callers itself.

local core = require "rondo.core"

local grid = core.grid("int", 4, false, false)
local tile = core.randn({ 4, 32 }, 1)

local function refuses(expected, f, ...)
  local good, message = pcall(f, ...)
  assert.is_false(good)
  assert.is_truthy(tostring(message):find(expected, 1, true), message)
end

describe("core.quantize", function()
  it("heeds offset and range_groups only together with ranges", function()
    local plain = assert(core.quantize(grid, tile, { group_size = 32, scale = true }))
    local q = assert(core.quantize(grid, tile, { group_size = 32, scale = true, offset = 320000,
                                                 range_groups = 10001 }))
    assert.is_true(q.scale == plain.scale)
    local ranges = core.clear_ranges(core.zeros { 4, 2, 2 })
    refuses("offset lies outside", core.quantize, grid, tile,
            { group_size = 32, ranges = ranges, range_groups = 2, offset = 64, values = true })
    refuses("'ranges' must be", core.quantize, grid, tile,
            { group_size = 32, ranges = ranges, range_groups = 3, values = true })
  end)

  it("refuses outputs of the wrong kind, and those that share memory with the tile", function()
    refuses("must not share memory", core.quantize, grid, tile, { values = tile })
    refuses("must not share memory", core.quantize, grid, tile:rows(1, 2),
            { values = tile:rows(2, 3) })
    refuses("'values' must be a writable row-major tensor of f32 with 128 elements", core.quantize,
            grid, tile, { values = core.zeros { 4, 31 } })
    refuses("'codes' must be a writable", core.quantize, grid, tile,
            { codes = core.zeros { 4, 32 } })
    refuses("'sums' must come from", core.quantize, grid, tile, { sums = core.zeros { 2 } })
    refuses("'values' must be a writable", core.quantize, grid, tile, { values = 1 })
    local other = core.zeros({ 8, 32 })
    assert(core.quantize(grid, other:rows(1, 4), { values = other:rows(5, 8) }))
  end)

  it("packs codes that have a word each, in rows longer than what is computed at once", function()
    local w = core.randn({ 3, 3000 }, 5)
    for _, dim in ipairs { 0, 1 } do
      for _, bits in ipairs { 5, 8 } do
        local o = { group_size = 32, group_dim = dim, word_dtype = "i8", word_dim = 0,
                    words = true }
        local words = assert(core.quantize(core.grid("int", bits, false, false), w, o)).words
        o.words, o.codes = nil, true
        local codes = assert(core.quantize(core.grid("int", bits, false, false), w, o)).codes
        assert.is_true(words:bytes() == codes:bytes())
      end
    end
  end)

  it("gives the values of the stored scale, with codes or without", function()
    for _, dim in ipairs { 0, 1 } do
      local o = { group_size = 8, group_dim = dim, values = true, scale_dtype = "f16" }
      local without = assert(core.quantize(grid, tile, o)).values
      o.codes, o.scale, o.zero = true, true, true
      local with = assert(core.quantize(grid, tile, o))
      assert.is_true(without == with.values)
      local expected = core.dequantize(grid, with.codes, with.scale:to("f16"):to("f32"), with.zero,
                                       8, dim)
      assert.is_true(expected == with.values)
      o.scale_dtype = nil
      assert.is_false(assert(core.quantize(grid, tile, o)).values == without)
    end
    refuses("scales of more than 8 bits", core.quantize, core.grid("int", 9, false, false), tile,
            { scale_dtype = "f16" })
  end)

  it("checks numbers before it narrows them", function()
    refuses("group_dim is 0 or 1", core.quantize, grid, tile, { group_dim = 1 << 32 })
    refuses("group_size is at least 1", core.quantize, grid, tile, { group_size = 0 })
    refuses("field 'group_size' must be an integer", core.quantize, grid, tile,
            { group_size = 0.5 })
    local codes = core.zeros({ 2, 8 }, "u8")
    refuses("words are i8", core.quantize, grid, tile, { words = true, word_dtype = "f32" })
    refuses("word_dim is 0 or 1", core.quantize, grid, tile, { words = true, word_dim = 1 << 32 })
    refuses("group_dim is 0 or 1", core.dequantize, grid, codes, core.zeros { 2, 1 }, nil, 8,
            1 << 32)
    refuses("row-major pairs", core.clear_ranges, core.zeros({ 4, 6 })[":, 1:2"])
    refuses("at least one ratio", core.losses, grid, tile,
            { ratios = core.zeros { 0 }, losses = core.zeros({ 0 }, "f64") })
  end)

  it("keeps its buffers alive while finalizers run", function()
    -- A field that exists only through __index is not seen: nothing else could keep it alive.
    local hidden = setmetatable({}, { __index = { values = core.zeros { 4, 32 } } })
    assert.is_nil(assert(core.quantize(grid, tile, hidden)).values)
  end)
end)
