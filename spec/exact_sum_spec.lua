-- Sums of errors: exact, so that neither their order nor how a matrix is cut matters. The truths
-- are arithmetic on integers and powers of two.

local core = require "rondo.core"

local function sum(...)
  local sums = core.sums()
  for _, value in ipairs { ... } do sums:add(value, 0) end
  return (sums:values())
end

describe("core.sums", function()
  it("keeps two sums apart, which begin at 0", function()
    local sums = core.sums()
    assert.same({ 0, 0 }, { sums:values() })
    sums:add(1.5, 3)
    sums:add(2, 0.25)
    assert.same({ 3.5, 3.25 }, { sums:values() })
  end)

  it("gives single values back", function()
    for exponent = -1074, 1023 do
      assert.equal(2.0 ^ exponent, sum(2.0 ^ exponent))
    end
    for _, value in ipairs { 0x1.fffffffffffffp1023, 0x0.fffffffffffffp-1022, 0x1p-1022, math.pi,
                             0x1.8p-1074 } do
      assert.equal(value, sum(value))
    end
  end)

  it("loses nothing that is small beside what is large", function()
    assert.equal(0x1p53 + 2, sum(0x1p53, 1, 1))
    assert.equal(0x1p53 + 2, sum(1, 0x1p53, 1))
    local values = {}
    for i = 1, 1000 do values[i] = 0x1p-40 end
    values[1001] = 0x1p60
    for i = 1, 24 do values[1001 + i] = 0x1p3 end
    values[1026] = 64 -- 2^60 + 256 + 1000 * 2^-40
    assert.equal(0x1p60 + 256, sum(table.unpack(values)))
  end)

  it("rounds once, to nearest, ties to even", function()
    assert.equal(0x1p53, sum(0x1p53, 1))
    assert.equal(0x1p53 + 4, sum(0x1p53 + 2, 1))
    assert.equal(0x1p53 + 2, sum(0x1p53, 1, 0x1p-1074))
    assert.equal(0x1p54, sum(0x1p54 - 2, 1)) -- into the next power of two
    assert.equal(0x1p-1022, sum(0x0.fffffffffffffp-1022, 0x1p-1074))
  end)

  it("agrees with sums of integers", function()
    local state, total, sums = 1, 0, core.sums()
    for _ = 1, 20000 do
      state = state * 6364136223846793005 + 1442695040888963407
      local value = state >> 20 -- 44 bits: 20000 of them fit 63
      total = total + value
      sums:add(value + 0.0, value / 1024)
    end
    local error, norm = sums:values()
    assert.equal(total + 0.0, error)
    assert.equal(total / 1024, norm)
  end)

  it("passes infinity and NaN on", function()
    local inf = math.huge
    assert.equal(inf, sum(1, inf, 2))
    assert.equal(inf, sum(0x1.fffffffffffffp1023, 0x1p1000))
    local nan = sum(0 / 0, inf)
    assert.is_true(nan ~= nan)
  end)

  it("takes numbers only", function()
    assert.error_matches(function() core.sums():add(1) end, "number expected")
    assert.error_matches(function() core.sums():add("x", 1) end, "number expected")
  end)
end)
