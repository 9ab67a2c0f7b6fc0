-- Arithmetic, comparisons and masks on tensors: values worked out by hand, types of results,
-- stretching, rounding, and what is refused.

local core = require "rondo.core"
local values = require "spec.support.values"

local T, check, fails, f32 = core.tensor, values.check, values.fails, values.f32
local nan, inf = 0 / 0, math.huge

local a, b

describe("arithmetic", function()
  before_each(function()
    a = T { { 1, 2, 3 }, { 4, 5, 6 } }
    b = T { { 1, 2, 4 }, { 8, 16, 32 } }
  end)

  it("works element by element", function()
    check(a + b, "f32", { { 2, 4, 7 }, { 12, 21, 38 } })
    check(a - b, "f32", { { 0, 0, -1 }, { -4, -11, -26 } })
    check(a * b, "f32", { { 1, 4, 12 }, { 32, 80, 192 } })
    check(a / b, "f32", { { 1, 1, 0.75 }, { 0.5, 0.3125, 0.1875 } })
    check(-a, "f32", { { -1, -2, -3 }, { -4, -5, -6 } })
    check(a:neg()[1], "f32", { -1, -2, -3 })
    check(a // 2, "f32", { { 0, 1, 1 }, { 2, 2, 3 } })
    check(a % 4, "f32", { { 1, 2, 3 }, { 0, 1, 2 } })
    check(a ^ 2, "f32", { { 1, 4, 9 }, { 16, 25, 36 } })
  end)

  it("takes numbers on both sides", function()
    check(a + 1, "f32", { { 2, 3, 4 }, { 5, 6, 7 } })
    check(1 - a, "f32", { { 0, -1, -2 }, { -3, -4, -5 } })
    check(2 * a["1"], "f32", { 2, 4, 6 })
    check(6 / a[1], "f32", { 6, 3, 2 })
    check(7 // T { 2, -2 }, "f32", { 3, -4 })
    check(7 % T { 4, -4 }, "f32", { 3, -1 })
    check(2 ^ T { 3, -1 }, "f32", { 8, 0.5 })
  end)

  it("stretches dimensions of size 1 and missing ones", function()
    check(a + T { 10, 20, 30 }, "f32", { { 11, 22, 33 }, { 14, 25, 36 } })
    check(a + T { { 10 }, { 20 } }, "f32", { { 11, 12, 13 }, { 24, 25, 26 } })
    check(T { 1, 2 } * T { { 3 }, { 4 } }, "f32", { { 3, 6 }, { 4, 8 } })
    check(T(2) * T(3), "f32", 6)
    check(a + T(1), "f32", { { 2, 3, 4 }, { 5, 6, 7 } })
    assert.same({ 2, 0 }, (core.zeros { 2, 0 } + T { { 1 } }).shape)
    assert.same({ 3, 2, 4 }, (core.zeros { 3, 1, 4 } + core.zeros { 2, 1 }).shape)
    fails(function() return a + T { 1, 2 } end, "shapes 2x3 and 2 do not fit together")
    fails(function() return a + core.zeros { 3, 2 } end, "shapes 2x3 and 3x2")
    fails(function() return core.zeros { 0 } + core.zeros { 2 } end, "shapes 0 and 2")
  end)

  it("takes views", function()
    check(a:t() + b:t(), "f32", { { 2, 12 }, { 4, 21 }, { 7, 38 } })
    check(a[":, 2"] - b[":, 1"], "f32", { 1, -3 })
    check(a:reshape { 3, 2 }:t() * 2, "f32", { { 2, 6, 10 }, { 4, 8, 12 } })
  end)

  it("gives new tensors and leaves its operands alone", function()
    local sum = a + a
    sum[1] = 0
    check(a, "f32", { { 1, 2, 3 }, { 4, 5, 6 } })
  end)

  it("gives f32 for f32, rounded once an operation", function()
    check(T { 0.1 } + T { 0.2 }, "f32", { f32(f32(0.1) + f32(0.2)) })
    check(T { 1 } / 3, "f32", { f32(1 / 3) })
    check(T { 16777216 } + 1, "f32", { 16777216 })
    check(T { 3e38 } * 10, "f32", { inf })
    check(T({ 0.1 }, "f64") + T({ 0.2 }, "f64"), "f64", { 0.1 + 0.2 })
  end)

  it("gives the type that holds both", function()
    local table_of_types = {
      { "f64", "f32", "f64" }, { "f32", "f16", "f32" }, { "f32", "bf16", "f32" },
      { "f16", "bf16", "f32" }, { "f16", "f8_e4m3", "f16" }, { "bf16", "f8_e5m2", "bf16" },
      { "f8_e4m3", "f8_e5m2", "f32" }, { "f8_e4m3", "f8_e4m3", "f8_e4m3" },
      { "i8", "i8", "i8" }, { "i8", "i32", "i32" }, { "u8", "u16", "u16" }, { "i8", "u8", "i16" },
      { "i16", "u8", "i16" }, { "i16", "u16", "i32" }, { "i8", "u32", "i64" },
      { "i64", "u32", "i64" }, { "i64", "u64", "f64" }, { "i8", "u64", "f64" },
      { "i64", "f32", "f32" }, { "i32", "f16", "f16" }, { "u8", "f64", "f64" },
      { "bool", "i8", "i8" }, { "bool", "f16", "f16" }, { "bool", "u64", "u64" },
    }
    for _, row in ipairs(table_of_types) do
      local x, y = core.full({ 2 }, 1, row[1]), core.full({ 2 }, 1, row[2])
      check(x * y, row[3], { 1, 1 })
      check(y * x, row[3], { 1, 1 })
    end
  end)

  it("lets a number take the tensor's type, but for a float among integers", function()
    for _, dtype in ipairs { "f64", "f32", "f16", "bf16", "f8_e4m3", "f8_e5m2" } do
      check(core.full({ 1 }, 1, dtype) + 1, dtype, { 2 })
      check(core.full({ 1 }, 1, dtype) + 0.5, dtype, { 1.5 })
    end
    for _, dtype in ipairs { "i8", "u8", "i16", "u16", "i32", "u32", "i64", "u64" } do
      check(core.full({ 1 }, 2, dtype) * 3, dtype, { 6 })
      check(core.full({ 1 }, 2, dtype) * 3.0, "f32", { 6 })
    end
    check(T { true, false } + 1, "i64", { 2, 1 })
    check(T { true, false } * 0.5, "f32", { 0.5, 0 })
  end)

  it("computes half types in f32 and rounds once", function()
    -- 1 + 2^-8 is a tie of bf16 (8 digits): half to even gives 1; three times it is no tie.
    check(T({ 1 }, "bf16") + 2 ^ -8, "bf16", { 1 })
    check(T({ 1 }, "bf16") + 3 * 2 ^ -8, "bf16", { 1 + 2 ^ -6 })
    check(T({ 2048 }, "f16") + 1, "f16", { 2048 })
    check(T({ 2050 }, "f16") + 1, "f16", { 2052 })
    check(T({ 60000 }, "f16") + T({ 60000 }, "f16"), "f16", { inf })
    check(T({ 448 }, "f8_e4m3") * 2, "f8_e4m3", { nan })
    check(T({ 2049 }, "f32") * T({ 1 }, "f16"), "f32", { 2049 })
  end)

  it("wraps integers", function()
    check(T({ 250, 255 }, "u8") + 10, "u8", { 4, 9 })
    check(T({ 127, -128 }, "i8") + T({ 1, -1 }, "i8"), "i8", { -128, 127 })
    check(T({ 100 }, "i8") * 3, "i8", { 44 })
    check(T({ 0 }, "u16") - 1, "u16", { 65535 })
    check(T({ math.maxinteger }, "i64") + 1, "i64", { math.mininteger })
    check(T({ 2.0 ^ 63 }, "u64") + T({ 2.0 ^ 63 }, "u64"), "u64", { 0 })
    check(-T({ -128, 5 }, "i8"), "i8", { -128, -5 })
    check(T({ -128 }, "i8"):abs(), "i8", { -128 })
    check(T({ 3, 200 }, "u8") ^ 2, "u8", { 9, 64 })
    check(T({ -2 }, "i32") ^ 0, "i32", { 1 })
  end)

  it("divides integers to f32, or downwards to integers", function()
    check(T({ 1, 7 }, "i32") / T({ 2, 4 }, "i32"), "f32", { 0.5, 1.75 })
    check(T({ 7, -7, 7, -7 }, "i32") // T({ 2, 2, -2, -2 }, "i32"), "i32", { 3, -4, -4, 3 })
    check(T({ 7, -7, 7, -7 }, "i8") % T({ 4, 4, -4, -4 }, "i8"), "i8", { 3, 1, -1, -3 })
    check(T({ 2.0 ^ 63 + 2048 }, "u64") // 2, "u64", { 2 ^ 62 + 1024 | 0 })
    check(T({ math.mininteger }, "i64") // -1, "i64", { math.mininteger })
    check(T({ math.mininteger }, "i64") % -1, "i64", { 0 })
    check(T({ 2, 3 }, "i16") ^ -1, "f32", { 0.5, f32(1 / 3) })
    check(T({ 4 }, "i16") ^ 0.5, "f32", { 2 })
    fails(function() return T({ 1 }, "i8") // 0 end, "attempt to perform 'n//0'")
    fails(function() return T({ 1 }, "u8") % T({ 0 }, "u8") end, "attempt to perform 'n%%0'")
    check(T { 1, -1, 0 } / 0, "f32", { inf, -inf, nan })
    check(T { 5 } // 0, "f32", { inf })
    check(T { 5, -5.5 } % inf, "f32", { 5, inf })
  end)

  it("gives one NaN, whatever went in", function()
    local odd = core.from_bytes(string.pack("<I4I4", 0xffc12345, 0x7f812345), "f32", { 2 })
    local quiet = string.pack("<I4I4", 0x7fc00000, 0x7fc00000)
    for _, t in ipairs { odd + 1, 1 - odd, odd * odd, odd / 2, odd:sqrt(), odd:minimum(0),
                         T { -1, -2 }:sqrt(), T { 0, 0 } / 0, T { inf, -inf } * 0, odd:round() } do
      assert.equal(quiet, t:bytes())
    end
    -- Sign and magnitude are bits, also of NaN.
    assert.equal(string.pack("<I4I4", 0x7fc12345, 0x7f812345), odd:abs():bytes())
    assert.equal(string.pack("<I4I4", 0x7fc12345, 0xff812345), (-odd):bytes())
  end)

  it("refuses what is no number", function()
    fails(function() return a + "1" end, "perform arithmetic on a tensor and a string value")
    fails(function() return {} * a end, "a table value")
    fails(function() return a / nil end, "a nil value")
    fails(function() return a + true end, "a boolean value")
    fails(function() return T { true } + T { false } end, "no arithmetic on two bool tensors")
    fails(function() return -T { true } end, "neg: no arithmetic on a bool tensor")
    fails(function() return a < a end, "a:lt(b)")
    fails(function() return a <= 1 end, "element by element")
    fails(function() return a .. "" end, "concatenate")
  end)
end)

describe("functions of one tensor", function()
  it("give what they say", function()
    check(T { -1.5, 0, -0.0, 2 }:abs(), "f32", { 1.5, 0, 0, 2 })
    check(T { 1.5, 0, -0.0 }:neg(), "f32", { -1.5, -0.0, 0 })
    check(T { 4, 2, 0, -0.0, inf }:sqrt(), "f32", { 2, f32(2 ^ 0.5), 0, -0.0, inf })
    check(T { -2, 0, 3, nan, -0.0 }:sign(), "f32", { -1, 0, 1, nan, -0.0 })
    check(T { -2, 3 }:square(), "f32", { 4, 9 })
    check(T({ -2, 0, 3 }, "i8"):sign(), "i8", { -1, 0, 1 })
    check(T({ 2.0 ^ 63 }, "u64"):sign(), "u64", { 1 })
    check(T({ -3, 3 }, "i16"):abs(), "i16", { 3, 3 })
    check(T({ 4 }, "i32"):sqrt(), "f32", { 2 })
    check(T({ -5 }, "i8"):floor(), "i8", { -5 })
  end)

  it("round half to even and keep the sign of zero", function()
    for _, dtype in ipairs { "f64", "f32", "f16", "bf16" } do
      check(T({ 0.5, 1.5, 2.5, -0.5, -1.5, -0.0, 2.75, -2.25 }, dtype):round(), dtype,
            { 0, 2, 2, -0.0, -2, -0.0, 3, -2 })
      check(T({ 0.5, -0.5, -1.5, -0.0, 2, -2 }, dtype):floor(), dtype, { 0, -1, -2, -0.0, 2, -2 })
      check(T({ 0.5, -0.5, 1.5, -0.0, 2, -2 }, dtype):ceil(), dtype, { 1, -0.0, 2, -0.0, 2, -2 })
    end
    check(T { 8388607.5, 8388609, 16777217, 1e30, inf, -inf, nan, 4194304.5 }:round(), "f32",
          { 8388608, 8388609, 16777216, f32(1e30), inf, -inf, nan, 4194304 })
    check(T({ 4503599627370495.5, 2 ^ 52 + 1, 1e300, 0.49999999999999994 }, "f64"):round(), "f64",
          { 4503599627370496, 2 ^ 52 + 1, 1e300, 0 })
    check(T { 8388607.5, -8388607.5 }:floor(), "f32", { 8388607, -8388608 })
  end)

  -- e and log values to 20 digits; the nearest f32 is unique.
  it("exp and log", function()
    check(T { 0, 1, -1, 10, -200, 100, -inf, inf, nan }:exp(), "f32",
          { 1, f32(2.7182818284590452354), f32(0.36787944117144232160),
            f32(22026.465794806716517), 0, inf, 0, inf, nan })
    check(T { 1, 10, 0.5, 0, -0.0, -1, inf, nan, 1e-45 }:log(), "f32",
          { 0, f32(2.3025850929940456840), f32(-0.69314718055994530942), -inf, -inf, nan, inf,
            nan, f32(-103.27892990343184) })
    local close = T({ 2.7182818284590452354, 1.1051709180756476248, 3.7200759760208359630e-44,
                      1.7928227943945156e308 }, "f64")
    local e = T({ 1, 0.1, -100, 709.78 }, "f64"):exp()
    assert.is_true((e / close - 1):abs():max() < 1e-15)
    local x = core.arange(-40, 40, 0.173, "f64")
    assert.is_true((x:exp():log() - x):abs():max() < 1e-14)
    check(T({ -745.2, 710, -inf, inf }, "f64"):exp(), "f64", { 0, inf, 0, inf })
    check(T({ 1, 0 }, "i8"):exp(), "f32", { f32(2.7182818284590452354), 1 })
  end)

  it("powers", function()
    check(T { -2, 3 } ^ 3, "f32", { -8, 27 })
    check(T { 4, 9 } ^ 0.5, "f32", { 2, 3 })
    check(T { 2, -2, -1.5 } ^ 65, "f32", { 2.0 ^ 65, -2.0 ^ 65, f32(-1.5 ^ 65) })
    check(T { 0, 1, -1, nan } ^ 0, "f32", { 1, 1, 1, 1 })
    check(T { 8, -8, 0 } ^ (1 / 3), "f32", { 2, nan, 0 })
    check(T { -2, -1, 0, 1, inf, -inf } ^ nan, "f32", { nan, nan, nan, nan, nan, nan })
    check(T { -2, -0.5, -1 } ^ inf, "f32", { inf, 0, 1 })
    check(T { 2 } ^ T { 10 }, "f32", { 1024 })
  end)

  it("clamp", function()
    local t = T { -2, 0.5, 3, nan, -0.0 }
    check(t:clamp(-1, 1), "f32", { -1, 0.5, 1, nan, -0.0 })
    check(t:clamp(0), "f32", { 0, 0.5, 3, nan, 0 })
    check(t:clamp(nil, 1), "f32", { -2, 0.5, 1, nan, -0.0 })
    check(T { 1, 5 }:clamp(T { 2, 2 }, T { 3, 3 }), "f32", { 2, 3 })
    check(T({ 1, 5 }, "i8"):clamp(2, 4), "i8", { 2, 4 })
    check(T({ 1, 200 }, "u8"):clamp(-5, 300), "u8", { 1, 200 })
    fails(function() t:clamp() end, "bound expected")
    fails(function() t:clamp(2, 1) end, "below the lower")
    fails(function() t:clamp(nan, 1) end, "NaN")
    fails(function() t:clamp "1" end, "string")
  end)

  it("minimum and maximum of two", function()
    check(T { 1, 5, nan, 0, -0.0 }:minimum(T { 2, 3, 1, -0.0, 0 }), "f32",
          { 1, 3, nan, -0.0, -0.0 })
    check(T { 1, 5, 2, 0, -0.0 }:maximum(T { 2, 3, nan, -0.0, 0 }), "f32", { 2, 5, nan, 0, 0 })
    local x, y = T({ 0, -0.0, nan }, "f64"), T({ -0.0, 0, 1 }, "f64")
    check(x:minimum(y), "f64", { -0.0, -0.0, nan })
    check(x:maximum(y), "f64", { 0, 0, nan })
    check(T { 1, 5 }:maximum(3), "f32", { 3, 5 })
    check(T({ 1, 200 }, "u8"):minimum(-5), "u8", { 0, 0 })
    check(T({ -1, 5 }, "i64"):maximum(T({ 3, 3 }, "i64")), "i64", { 3, 5 })
    check(T({ 2.0 ^ 63, 5 }, "u64"):maximum(7), "u64", { 2.0 ^ 63, 7 })
    check(T({ 2.0 ^ 63, 5 }, "u64"):minimum(7), "u64", { 7, 5 })
  end)
end)

describe("comparisons", function()
  it("give masks", function()
    local t = T { 1, 2, 3 }
    check(t:lt(2), "bool", { true, false, false })
    check(t:le(2), "bool", { true, true, false })
    check(t:gt(2), "bool", { false, false, true })
    check(t:ge(2), "bool", { false, true, true })
    check(t:eq(2), "bool", { false, true, false })
    check(t:ne(2), "bool", { true, false, true })
    check(t:lt(T { 3, 2, 4 }), "bool", { true, false, true })
    check(t:eq(T { { 1 }, { 3 } }), "bool", { { true, false, false }, { false, false, true } })
    check(T { true, false }:eq(true), "bool", { true, false })
  end)

  it("follow IEEE 754", function()
    local t = T { nan, 0, inf }
    check(t:eq(t), "bool", { false, true, true })
    check(t:ne(t), "bool", { true, false, false })
    check(t:le(nan), "bool", { false, false, false })
    check(t:eq(-0.0), "bool", { false, true, false })
    check(t:lt(inf), "bool", { false, true, false })
  end)

  it("round a number to the tensor's float type, if it fits", function()
    check(T { 0.1 }:eq(0.1), "bool", { true })
    check(T({ 0.1 }, "bf16"):eq(0.1), "bool", { true })
    check(T({ 0.1 }, "f64"):eq(0.1), "bool", { true })
    check(T({ 448, -448 }, "f8_e4m3"):lt(1000), "bool", { true, true })
    check(T({ 448, -448 }, "f8_e4m3"):gt(-1000), "bool", { true, true })
    check(T({ 65504 }, "f16"):lt(1e6), "bool", { true })
    check(T({ 16777216 }):eq(16777217), "bool", { true })
  end)

  it("are exact among integers and between types", function()
    local big = T({ math.maxinteger, math.maxinteger - 1 }, "i64")
    check(big:eq(math.maxinteger), "bool", { true, false })
    check(big:lt(T({ 2.0 ^ 63 }, "u64")), "bool", { true, true })
    check(T({ -1 }, "i64"):lt(T({ 0 }, "u64")), "bool", { true })
    check(T({ 2.0 ^ 63 }, "u64"):gt(-1), "bool", { true })
    check(T({ 200 }, "u8"):gt(T({ -56 }, "i8")), "bool", { true })
    check(T({ 3 }, "i8"):lt(3.5), "bool", { true })
    check(T({ 16777217 }, "i32"):gt(T { 16777216 }), "bool", { true })
    check(T({ 0.1 }, "f32"):lt(T({ 0.1 }, "f64")), "bool", { f32(0.1) < 0.1 })
    check(T({ 1 }, "bf16"):eq(T({ 1 }, "f16")), "bool", { true })
  end)

  it("refuse what is no number", function()
    fails(function() return T({ 1 }):lt "1" end, "compare a tensor and a string")
    fails(function() return T({ 1 }):lt() end, "value expected")
    fails(function() return T({ 1 }).lt(1, 2) end, "tensor expected, got number")
  end)
end)

describe("masks", function()
  local m, n = T { true, true, false, false }, T { true, false, true, false }

  it("are joined", function()
    check(m & n, "bool", { true, false, false, false })
    check(m | n, "bool", { true, true, true, false })
    check(m ~ n, "bool", { false, true, true, false })
    check(~m, "bool", { false, false, true, true })
    check(m & true, "bool", { true, true, false, false })
    check(false | m, "bool", { true, true, false, false })
    check(m:land(n), "bool", { true, false, false, false })
    check(m:lor(n), "bool", { true, true, true, false })
    check(m:lnot(), "bool", { false, false, true, true })
    check(T({ 2, 0 }):land(T({ 1, 1 }, "i8")), "bool", { true, false })
    check(T({ 2, 0, nan }):lnot(), "bool", { false, true, false })
    check(m & T { { true }, { false } }, "bool", { { true, true, false, false },
                                                   { false, false, false, false } })
  end)

  it("and bits of integers too", function()
    check(T({ 12, 255 }, "u8") & 10, "u8", { 8, 10 })
    check(T({ 12 }, "u8") | T({ 3 }, "u8"), "u8", { 15 })
    check(T({ 12 }, "i8") ~ 5, "i8", { 9 })
    check(~T({ 0, 5 }, "i8"), "i8", { -1, -6 })
    check(~T({ 0 }, "u16"), "u16", { 65535 })
    fails(function() return T({ 1 }) & 1 end, "bitwise operation on a float tensor")
    fails(function() return ~T({ 1 }) end, "bitwise operation on a float tensor")
    fails(function() return m & "x" end, "string value")
    fails(function() return T({ 1 }, "i8") & 1.5 end, "float")
    fails(function() return m:land(1) end, "tensor expected, got number")
  end)

  it("count", function()
    assert.equal(2, m:count())
    assert.is_true(m:any())
    assert.is_false(m:all())
    assert.is_true(T({ true, true }):all())
    assert.is_false(T({ false }):any())
    local t = T { { true, false }, { true, true } }
    check(t:any(1), "bool", { true, true })
    check(t:all(1), "bool", { true, false })
    check(t:count(2), "i64", { 1, 2 })
    check(t:all(2, { keep = true }), "bool", { { false }, { true } })
    assert.is_false(core.zeros({ 0 }, "bool"):any())
    assert.is_true(core.zeros({ 0 }, "bool"):all())
    assert.equal(2, T({ 0, -0.0, nan, 5 }):count())
  end)

  it("pick", function()
    check(m:pick(T { 1, 2, 3, 4 }, T { 5, 6, 7, 8 }), "f32", { 1, 2, 7, 8 })
    check(m:pick(1, 0), "f32", { 1, 1, 0, 0 })
    check(m:pick(T({ 1, 2, 3, 4 }, "i8"), 0), "i8", { 1, 2, 0, 0 })
    check(m:pick(0, T({ 1, 2, 3, 4 }, "i8")), "i8", { 0, 0, 3, 4 })
    check(m:pick(T({ 1 }, "f16"), T({ 2 }, "bf16")), "f32", { 1, 1, 2, 2 })
    check(m:pick(T { nan }, T { -0.0 }), "f32", { nan, nan, -0.0, -0.0 })
    check(T { { true }, { false } }:pick(T { 1, 2 }, 9), "f32", { { 1, 2 }, { 9, 9 } })
    check(T(true):pick(T { 1, 2 }, T { { 3 }, { 4 } }), "f32", { { 1, 2 }, { 1, 2 } })
    check(T({ true, false }):pick(T({ 2.0 ^ 63 }, "u64"), 1), "u64", { 2.0 ^ 63, 1 })
    check(T({ true, false }):pick(T({ 0.1 }, "f64"), 1), "f64", { 0.1, 1 })
    check(T({ true, false }):pick(T { true }, T { false }), "bool", { true, false })
    fails(function() return T({ 1 }):pick(1, 2) end, "a bool tensor expected")
    fails(function() return m:pick(1) end, "tensor or number expected")
    fails(function() return m:pick(T { 1, 2 }, 0) end, "do not fit together")
    fails(function() return m:pick(T { 1, 2 }, T { 1, 2, 3 }) end, "shapes 2 and 3")
  end)
end)

describe("long tensors", function()
  -- Longer than a chunk and than what is given to several threads; not a multiple of either.
  local n = 200003
  local x = core.arange(1, n, 1, "f64")

  it("come out the same at every place", function()
    local y = x:to "f32"
    assert.equal((n * (n + 1)) / 1.0, (x + x):sum())
    assert.is_true((y + y) == (x * 2):to "f32")
    assert.is_true((y / 2) == (x / 2):to "f32")
    assert.equal(n - 1000, y:gt(1000):count())
    assert.is_true(y:gt(1000):pick(y, 0) == y * y:gt(1000))
    assert.is_true(y:reshape { n, 1 } * T { { 2, 3 } } == (T { { 2 }, { 3 } } * y):t())
  end)
end)
