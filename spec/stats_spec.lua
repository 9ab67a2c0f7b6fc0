-- Summaries, differences and histograms tile by tile: against plain Lua over the same numbers, and
-- the same whatever the pieces and the number of threads.

local core = require "rondo.core"
local inspect = require "rondo.inspect"
local stream = require "rondo.stream"
local tiles = require "rondo.tiles"

local nan, inf = 0 / 0, math.huge

local function state_of(list, dtype)
  local state = core.zeros({ 8 }, "f64")
  core.stats(core.tensor(list, dtype), state)
  return state:totable()
end

-- mean and sum of squared distances in the straightforward way
local function naive(list)
  local sum, squares = 0, 0
  for _, x in ipairs(list) do sum = sum + x end
  for _, x in ipairs(list) do squares = squares + (x - sum / #list) ^ 2 end
  return sum / #list, squares
end

describe("summaries", function()
  it("count what is finite, not a number, infinite and zero", function()
    local s = state_of({ 1, nan, -0.0, inf, 0, -3, -inf, 2, nan }, "f32")
    assert.same({ 5, 2, 2, 2 }, table.move(s, 1, 4, 1, {}))
    assert.same({ 0, 14, -3, 2 }, table.move(s, 5, 8, 1, {}))
  end)

  it("work for every arithmetic type", function()
    for _, dtype in ipairs { "f64", "f32", "f16", "bf16", "f8_e4m3", "f8_e5m2", "i8", "i16", "i32",
                             "i64", "u8", "u16", "u32", "u64" } do
      local s = state_of({ 1, 2, 3, 6 }, dtype)
      assert.same({ 4, 0, 0, 0, 3, 14, 1, 6 }, s, dtype)
    end
    assert.same({ 4, 0, 0, 1, 0.75, 0.75, 0, 1 }, state_of({ true, false, true, true }, "bool"))
  end)

  it("lose no digits where the mean is large", function()
    local list = {}
    for i = 1, 100000 do list[i] = 1e9 + i % 3 end -- deviations of 1 around 1e9
    local s = state_of(list, "f64")
    local mean, squares = naive(list)
    assert.near(mean, s[5], 1e-6)
    assert.near(squares, s[6], squares * 1e-9)
  end)

  it("are the same in any number of threads, and nearly so in any pieces", function()
    local t = core.randn({ 300000 }, 5)
    local threads = core.threads()
    finally(function() core.threads(threads) end)
    local results = {}
    for i, n in ipairs { 1, 2, 7 } do
      core.threads(n)
      local state = core.zeros({ 8 }, "f64")
      core.stats(t, state)
      results[i] = state
    end
    assert.is_true(results[1] == results[2] and results[1] == results[3])
    local pieces = core.zeros({ 8 }, "f64")
    core.stats(t["1:1000"], pieces)
    core.stats(t["1001:250000"], pieces)
    core.stats(t["250001:300000"], pieces)
    local whole = results[1]:totable()
    for i, value in ipairs(pieces:totable()) do
      assert.near(whole[i], value, math.abs(whole[i]) * 1e-12 + 1e-15)
    end
  end)

  it("refuse what they cannot work on", function()
    local state = core.zeros({ 8 }, "f64")
    local t = core.zeros({ 4, 4 })
    assert.error_matches(function() core.stats(t:transpose(1, 2), state) end, "row%-major")
    assert.error_matches(function() core.stats(t, core.zeros({ 8 })) end, "f64 {8} is expected")
    assert.error_matches(function() core.stats(t, core.zeros({ 7 }, "f64")) end, "f64 {8}")
    assert.error_matches(function() core.stats(1, state) end, "tensor expected")
  end)
end)

describe("differences", function()
  it("count places, the largest distance and what cannot be compared", function()
    local x = core.tensor({ 1, 2, nan, nan, inf, inf, -0.0, 5 }, "f32")
    local y = core.tensor({ 1, -2, nan, 1, inf, -inf, 0, 5.5 }, "f64")
    local state = core.zeros({ 3 }, "f64")
    core.difference(x, y, state)
    assert.same({ 4, 4, 2 }, state:totable())
    core.difference(core.tensor { 10 }, core.tensor { 0 }, state)
    assert.same({ 5, 10, 2 }, state:totable())
  end)

  it("want as many elements on both sides", function()
    assert.error_matches(function()
      core.difference(core.zeros { 2 }, core.zeros { 3 }, core.zeros({ 3 }, "f64"))
    end, "differ in their number of elements")
  end)
end)

describe("histograms", function()
  it("put cuts into the upper bar and the top into the last", function()
    local counts = core.zeros({ 4 }, "i64")
    core.histogram(core.tensor { 0, 0.99, 1, 2, 3, 4, -0.1, 4.1, nan, inf, -inf }, 0, 4, counts)
    assert.same({ 2, 1, 1, 2 }, counts:totable())
  end)

  it("hold their own at the ends of the number line", function()
    local counts = core.zeros({ 3 }, "i64")
    core.histogram(core.tensor({ 0, 5e-324 }, "f64"), 0, 5e-324, counts)
    assert.same({ 1, 0, 1 }, counts:totable())
    assert.error_matches(function()
      core.histogram(core.zeros { 1 }, -1.7e308, 1.7e308, counts)
    end, "finite range")
    assert.error_matches(function() core.histogram(core.zeros { 1 }, 1, 1, counts) end, "range")
    assert.error_matches(function() core.histogram(core.zeros { 1 }, nan, 1, counts) end, "range")
  end)

  it("count every value whatever the threads", function()
    local t = core.rand({ 200000 }, 3)
    local threads = core.threads()
    finally(function() core.threads(threads) end)
    local first
    for _, n in ipairs { 1, 5 } do
      core.threads(n)
      local counts = core.zeros({ 10 }, "i64")
      core.histogram(t, 0, 1, counts)
      local list, sum = counts:totable(), 0
      for _, count in ipairs(list) do sum = sum + count end
      assert.equal(200000, sum)
      first = first or list
      assert.same(first, list)
    end
  end)
end)

describe("inspecting a source", function()
  it("gives the statistics of all tiles together", function()
    local limit = tiles.limit
    finally(function() tiles.limit = limit end)
    tiles.limit = 10
    local t = core.tensor { { 1, 2, 3, 4 }, { 5, 6, 7, 8 }, { -9, 0, nan, 2 } }
    local s = assert(inspect.stats(stream.matrix(t)))
    assert.same({ 11, 1, 0, 1, -9, 8, 9 },
                { s.count, s.nans, s.infinities, s.zeros, s.min, s.max, s.absmax })
    local mean, squares = naive { 1, 2, 3, 4, 5, 6, 7, 8, -9, 0, 2 }
    assert.near(mean, s.mean, 1e-12)
    assert.near((squares / 11) ^ 0.5, s.std, 1e-12)
  end)

  it("draws constants, and nothing where nothing is finite", function()
    local h = assert(inspect.histogram(stream.matrix(core.full({ 2, 3 }, 1e20)), 5))
    assert.same({ 0, 0, 6, 0, 0 }, h.counts)
    h = assert(inspect.histogram(stream.matrix(core.full({ 2, 3 }, nan)), 5))
    assert.is_nil(h.counts)
    assert.is_nil(h.stats.mean)
    h = assert(inspect.histogram(stream.matrix(core.tensor({ { -1.7e308, 1.7e308 } }, "f64")), 5))
    assert.is_nil(h.counts)
  end)
end)
