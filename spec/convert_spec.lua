-- Conversion between all types, against values decoded and rounded here in plain Lua, from the
-- definitions of the formats: every pattern of the narrow types, every border between two
-- neighbours from both sides, so that a value rounded twice would show.

local core = require "rondo.core"
local values = require "spec.support.values"

local T, check, fails = core.tensor, values.check, values.fails
local nan, inf = 0 / 0, math.huge

-- Exponent and mantissa bits, and whether all ones in the exponent mean infinity and NaN.
local formats = {
  f16 = { 5, 10, true }, bf16 = { 8, 7, true }, f8_e5m2 = { 5, 2, true }, f8_e4m3 = { 4, 3, false },
}

-- The value of a bit pattern, by the definition of the format.
local function decode(dtype, pattern)
  local exponent_bits, mantissa_bits, ieee = table.unpack(formats[dtype])
  local mantissa = pattern & (1 << mantissa_bits) - 1
  local exponent = pattern >> mantissa_bits & (1 << exponent_bits) - 1
  local sign = pattern >> (exponent_bits + mantissa_bits) == 1 and -1.0 or 1.0
  local top, bias = (1 << exponent_bits) - 1, (1 << exponent_bits - 1) - 1
  if exponent == top and ieee then return mantissa == 0 and sign * inf or nan end
  if exponent == top and mantissa == (1 << mantissa_bits) - 1 then return nan end
  local scale = 2.0 ^ (math.max(exponent, 1) - bias - mantissa_bits)
  if exponent > 0 then mantissa = mantissa + (1 << mantissa_bits) end
  return sign * mantissa * scale
end

local function width(dtype) return dtype:find "f8" and 1 or 2 end

local function all_patterns(dtype)
  local bytes, count, list = width(dtype), 1 << 8 * width(dtype), {}
  for i = 0, count - 1 do list[i + 1] = string.pack("<I" .. bytes, i) end
  return core.from_bytes(table.concat(list), dtype, { count })
end

-- Neighbouring patterns of positive values, up to the largest.
local function positive(dtype)
  local list, pattern = {}, 0
  while true do
    local x = decode(dtype, pattern)
    if x ~= x or x == inf then return list end
    list[#list + 1] = x
    pattern = pattern + 1
  end
end

-- The double next to x > 0, upwards or downwards.
local function neighbour(x, step)
  local bits = string.unpack("<i8", string.pack("<d", x)) + step
  return (string.unpack("<d", string.pack("<i8", bits)))
end

local function is_same(a, b)
  return a == b and 1 / a == 1 / b or a ~= a and b ~= b
end

-- Checks source:to(dtype) against the wanted bit patterns, with both signs.
local function check_rounding(dtype, source_type, list, wanted)
  local bytes, both = width(dtype), {}
  for i, x in ipairs(list) do both[i] = -x end
  local sign = 1 << 8 * bytes - 1
  local up = T(list, source_type):to(dtype):bytes()
  local down = T(both, source_type):to(dtype):bytes()
  for i, pattern in ipairs(wanted) do
    local at = (i - 1) * bytes + 1
    local got = string.unpack("<I" .. bytes, up, at)
    local mirrored = string.unpack("<I" .. bytes, down, at)
    if got ~= pattern or mirrored ~= pattern | sign then
      error(string.format("%s %.17g: expected %x, got %x and %x", source_type, list[i], pattern,
                          got, mirrored))
    end
  end
end

describe("narrow floats", function()
  for dtype in pairs(formats) do
    it("widen exactly: " .. dtype, function()
      local wide, as_double = all_patterns(dtype):to "f32", all_patterns(dtype):to "f64"
      for i = 1, #wide do
        local want = decode(dtype, i - 1)
        if not is_same(wide[i], want) or not is_same(as_double[i], want) then
          error(string.format("%s %x: %g and %g for %g", dtype, i - 1, wide[i], as_double[i], want))
        end
      end
    end)

    it("come back from f32 and f64 with the same bits: " .. dtype, function()
      local patterns = all_patterns(dtype)
      for _, via in ipairs { "f32", "f64" } do
        local back = patterns:to(via):to(dtype)
        assert.is_true(back == patterns)
        -- Also the sign of NaNs stays; == takes all of them for equal.
        local signs = back:to("f32"):bytes()
        for i = 1, #patterns do
          local negative = i - 1 >= #patterns // 2
          if negative ~= (signs:byte(4 * i) >= 128) then error("the sign of " .. i - 1) end
        end
      end
    end)

    -- Between two neighbours: the middle goes to the even one, all else to the nearer one.
    it("are rounded half to even, once: " .. dtype, function()
      local list = positive(dtype)
      local inputs, wanted, singles, wanted_singles = {}, {}, {}, {}
      for i = 1, #list - 1 do
        local middle = (list[i] + list[i + 1]) / 2
        local even = i % 2 == 1 and i - 1 or i -- patterns count from 0
        local n = #inputs
        inputs[n + 1], inputs[n + 2], inputs[n + 3] = middle, neighbour(middle, 1),
          neighbour(middle, -1)
        wanted[n + 1], wanted[n + 2], wanted[n + 3] = even, i, i - 1
        if middle == values.f32(middle) then
          singles[#singles + 1], wanted_singles[#wanted_singles + 1] = middle, even
        end
      end
      check_rounding(dtype, "f64", inputs, wanted)
      check_rounding(dtype, "f32", singles, wanted_singles)
      assert.is_true(#singles > #list / 2)
    end)
  end

  it("overflow to infinity half a step above the largest, f8_e4m3 to NaN", function()
    local e4m3 = T({ 448, 464, neighbour(464, 1), 1e300, inf, -1e300, -inf }, "f64")
    check(e4m3:to "f8_e4m3", "f8_e4m3", { 448, 448, nan, nan, nan, nan, nan })
    check(T({ 65504, neighbour(65520, -1), 65520, 1e300 }, "f64"):to "f16", "f16",
          { 65504, 65504, inf, inf })
    check(T({ 57344, neighbour(61440, -1), 61440, -1e9 }, "f64"):to "f8_e5m2", "f8_e5m2",
          { 57344, 57344, inf, -inf })
    local largest = 0x1.fep127
    check(T({ largest, 0x1.fefffffp127, 0x1.ffp127, 1e300 }, "f64"):to "bf16", "bf16",
          { largest, largest, inf, inf })
    check(T({ 0x1.fffffefffffffp127, 0x1.ffffffp127, -1e300 }, "f64"):to "f32", "f32",
          { 0x1.fffffep127, inf, -inf })
  end)

  it("underflow to zeros that keep their sign", function()
    for dtype in pairs(formats) do
      local smallest = decode(dtype, 1)
      check(T({ smallest / 2, -smallest / 2, neighbour(smallest / 2, 1), 1e-300, -1e-300 }, "f64")
              :to(dtype), dtype, { 0.0, -0.0, smallest, 0.0, -0.0 })
    end
  end)

  it("meet each other with one rounding", function()
    check(T({ 1.0078125, 3.38953139e38, 1e-40, nan, -inf }, "bf16"):to "f16", "f16",
          { 1.0078125, inf, 0, nan, -inf })
    check(T({ 1.0009765625, 65504, 2 ^ -24, nan }, "f16"):to "bf16", "bf16",
          { 1, 65536, 2 ^ -24, nan })
    check(T({ 17, 0.1 }, "f16"):to "f8_e4m3", "f8_e4m3", { 16, 0.1015625 })
    check(T({ 448, 2 ^ -9 }, "f8_e4m3"):to "f8_e5m2", "f8_e5m2", { 448, 2 ^ -9 })
  end)
end)

local ranges = {
  i8 = { -128, 127 }, u8 = { 0, 255 }, i16 = { -32768, 32767 }, u16 = { 0, 65535 },
  i32 = { -2147483648, 2147483647 }, u32 = { 0, 4294967295 },
  i64 = { math.mininteger, math.maxinteger },
}

describe("floats to integers", function()
  it("round half to even", function()
    for dtype in pairs(ranges) do
      check(T({ 0.5, 1.5, 2.5, 3.49, 0.49999999999999994, 3.5 }, "f64"):to(dtype), dtype,
            { 0, 2, 2, 3, 0, 4 })
    end
    check(T({ -0.5, -1.5, -2.5, -0.0 }):to "i8", "i8", { 0, -2, -2, 0 })
    check(T({ 4503599627370495.5, 2 ^ 52 + 1, 2 ^ 53 + 2 }, "f64"):to "i64", "i64",
          { 4503599627370496, 4503599627370497, 9007199254740994 })
  end)

  it("are clamped to the range; NaN gives 0", function()
    for dtype, range in pairs(ranges) do
      check(T({ -1e300, 1e300, -inf, inf, nan }, "f64"):to(dtype), dtype,
            { range[1], range[2], range[1], range[2], 0 })
    end
    check(T({ 127.4, 127.5, -128.5, -128.6, -129 }, "f64"):to "i8", "i8",
          { 127, 127, -128, -128, -128 })
    check(T({ -0.5, -0.6, 255.5, 300 }):to "u8", "u8", { 0, 0, 255, 255 })
    check(T({ 2 ^ 63 - 1024, 2 ^ 63, -2 ^ 63 }, "f64"):to "i64", "i64",
          { math.maxinteger - 1023, math.maxinteger, math.mininteger })
    check(T({ 2 ^ 64 - 2048, 2 ^ 64, -1, nan }, "f64"):to "u64", "u64",
          { 2.0 ^ 64 - 2048, 2.0 ^ 64, 0, 0 })
  end)

  it("work from every float type", function()
    for _, dtype in ipairs { "f64", "f32", "f16", "bf16", "f8_e4m3", "f8_e5m2" } do
      check(T({ -2, 2.5, 1.5, nan }, dtype):to "i8", "i8", { -2, 2, 2, 0 })
    end
    check(T({ inf }, "f16"):to "i32", "i32", { 2147483647 })
  end)
end)

describe("integers to floats", function()
  it("round once", function()
    -- 2^24 + 1 and its like lie in the middle of two f32.
    check(T({ 16777217, 16777219, -16777217, 16777216 }, "i32"):to "f32", "f32",
          { 16777216, 16777220, -16777216, 16777216 })
    check(T({ 4294967295 }, "u32"):to "f32", "f32", { 4294967296 })
    -- 2^53 + 1 for f64; 2^60 + 2^36 + 1 lies just above a middle of two f32, and in f64 on it.
    check(T({ 9007199254740993, 9007199254740995 }, "i64"):to "f64", "f64",
          { 9007199254740992, 9007199254740996 })
    local base, half = 1 << 60, 1 << 36
    check(T({ base + half + 1, base + half, base + half - 1, -(base + half + 1) }, "i64")
            :to "f32", "f32", { base + 2 * half, base, base, -(base + 2 * half) })
    -- The same for f16, whose middle 2049 is also reached from above.
    check(T({ 2049, 2051, 65519, 65520, -70000 }, "i32"):to "f16", "f16",
          { 2048, 2052, 65504, inf, -inf })
    check(T({ 257, 259, (1 << 62) + (1 << 54) + 1, (1 << 62) + (1 << 54) }, "i64"):to "bf16",
          "bf16", { 256, 260, 2.0 ^ 62 + 2.0 ^ 55, 2.0 ^ 62 })
    check(T({ 449, 464, 465, -17 }, "i16"):to "f8_e4m3", "f8_e4m3", { 448, 448, nan, -16 })
    check(T({ 2.0 ^ 64 - 2048 }, "u64"):to "f32", "f32", { 2.0 ^ 64 })
  end)

  it("are exact where they fit", function()
    for _, from in ipairs { "i8", "i16", "i32", "i64" } do
      for _, to in ipairs { "f64", "f32", "f16" } do
        check(T({ -128, 0, 127 }, from):to(to), to, { -128, 0, 127 })
      end
    end
  end)
end)

describe("integers to integers", function()
  it("are clamped", function()
    for dtype, range in pairs(ranges) do
      check(T({ math.mininteger, math.maxinteger, 5 }, "i64"):to(dtype), dtype,
            { range[1], range[2], 5 })
      check(T({ 2.0 ^ 64 - 2048, 5 }, "u64"):to(dtype), dtype, { range[2], 5 })
    end
    check(T({ -1, 5 }, "i8"):to "u64", "u64", { 0, 5 })
    check(T({ 200 }, "u8"):to "i8", "i8", { 127 })
    check(T({ -1 }, "i64"):to "u8", "u8", { 0 })
  end)

  it("all from all, for values that all can hold", function()
    local all = { "i8", "u8", "i16", "u16", "i32", "u32", "i64", "u64" }
    for _, from in ipairs(all) do
      for _, to in ipairs(all) do check(T({ 0, 1, 127 }, from):to(to), to, { 0, 1, 127 }) end
    end
  end)
end)

describe("truth", function()
  it("is what is not 0", function()
    for _, dtype in ipairs { "f64", "f32", "f16", "bf16", "f8_e4m3", "f8_e5m2" } do
      check(T({ 0, -0.0, 2 ^ -9, -1, nan }, dtype):to "bool", "bool",
            { false, false, true, true, true })
    end
    for dtype in pairs(ranges) do
      check(T({ 0, 1, 100 }, dtype):to "bool", "bool", { false, true, true })
    end
    check(T({ 5e-324 }, "f64"):to "bool", "bool", { true })
  end)

  it("counts as 1", function()
    for dtype in pairs(ranges) do check(T({ true, false }):to(dtype), dtype, { 1, 0 }) end
    for dtype in pairs(formats) do check(T({ true, false }):to(dtype), dtype, { 1, 0 }) end
    -- Any byte but 0 in a file is true.
    local odd = core.from_bytes("\0\1\2\255", "bool", { 4 })
    check(odd, "bool", { false, true, true, true })
    check(odd:to "u8", "u8", { 0, 1, 1, 1 })
    assert.equal(3, odd:count())
  end)
end)

describe("conversion", function()
  it("takes views and empty tensors", function()
    local t = T { { 1.5, 2.5 }, { 3.5, 4.5 } }
    check(t:t():to "i8", "i8", { { 2, 4 }, { 2, 4 } })
    check(t[":, 2"]:to "f16", "f16", { 2.5, 4.5 })
    check(core.zeros({ 0 }):to "u64", "u64", {})
    check(T(2.5):to("i8"):reshape { 1 }, "i8", { 2 })
  end)

  it("gives the same for long tensors, cut into pieces", function()
    local n = 300001
    local t = core.arange(-150000, 150000, 1, "i32"):to "f32"
    assert.equal(n, #t)
    assert.is_true(t:to("i32") == core.arange(-150000, 150000, 1, "i32"))
    assert.is_true((t * 0.5):to("f16"):to("f32") == (t * 0.5):to("f64"):to("f16"):to("f32"))
    assert.equal(-128, t:to("i8")[1])
    assert.equal(127, t:to("i8")[n])
  end)

  it("refuses unknown types", function()
    fails(function() T({ 1 }):to "int" end, "unknown dtype 'int'")
    fails(function() T({ 1 }):to() end, "dtype name expected")
  end)
end)
