-- Reductions, equality, closeness, histograms and printing of tensors, against values worked out by
-- hand.

local core = require "rondo.core"
local shell = require "spec.support.shell"
local values = require "spec.support.values"

local T, check, fails, f32 = core.tensor, values.check, values.fails, values.f32
local nan, inf = 0 / 0, math.huge

describe("reductions over all", function()
  local t = T { { 1, 2, 3 }, { 4, 5, 6 } }

  it("give Lua numbers", function()
    assert.equal(21, t:sum())
    assert.equal(3.5, t:mean())
    assert.equal(math.sqrt(35 / 12), t:std())
    assert.equal(math.sqrt(91), t:norm())
    assert.equal(1, t:min())
    assert.equal(6, t:max())
    assert.equal(1, t:argmin())
    assert.equal(6, t:argmax())
    assert.equal("float", math.type(t:sum()))
    assert.equal("float", math.type(t:max()))
  end)

  it("give integers for integers", function()
    local i = T({ -3, 4, 5 }, "i8")
    for _, pair in ipairs { { i:sum(), 6 }, { i:min(), -3 }, { i:max(), 5 }, { i:argmax(), 3 } } do
      assert.equal("integer", math.type(pair[1]))
      assert.equal(pair[2], pair[1])
    end
    assert.equal(2.0, i:mean())
    assert.equal(math.sqrt(38 / 3), i:std())
    assert.equal(math.sqrt(50), i:norm())
    assert.equal(255 * 1000, core.full({ 1000 }, 255, "u8"):sum())
    assert.equal(3, T({ true, true, false, true }):sum())
    assert.equal(true, T({ true, false }):max())
    assert.equal(false, T({ true, false }):min())
  end)

  it("sum integers exactly and wrap at 64 bits", function()
    local big = T({ math.maxinteger, math.maxinteger, math.mininteger }, "i64")
    assert.equal(math.maxinteger - 1, big:sum())
    assert.equal((2.0 ^ 63 - 2) / 3, big:mean())
    assert.equal(math.mininteger, T({ math.maxinteger, 1 }, "i64"):sum())
    assert.equal(2.0 ^ 63 + 2048, T({ 2.0 ^ 63, 2048 }, "u64"):sum())
    assert.equal(2.0 ^ 63, T({ 2.0 ^ 63, 2.0 ^ 63 }, "u64"):mean())
    assert.equal(2.0 ^ 63, T({ 2.0 ^ 63, 5 }, "u64"):max())
    assert.equal(5, T({ 2.0 ^ 63, 5 }, "u64"):min())
    assert.equal(2, T({ 2.0 ^ 63, 5 }, "u64"):argmin())
  end)

  it("sum floats in f64", function()
    assert.equal(16777216 + 1000, (T { 16777216, 1000 }):sum())
    local ones = core.full({ 20000 }, 1, "f16") -- past what f16 and, by ones, f16 sums can hold
    assert.equal(20000, ones:sum())
    assert.equal(1e8 + 3, T({ 1e8, 1, 1, 1 }):sum())
    assert.equal(3e38 * 2 / 2, f32(3e38) == T({ 3e38, 3e38 }):mean() and 3e38 or nan)
  end)

  it("are NaN where an element is", function()
    local bad = T { 1, nan, 3 }
    for _, name in ipairs { "sum", "mean", "std", "norm", "min", "max" } do
      local x = bad[name](bad)
      assert.is_true(x ~= x, name)
    end
    assert.equal(2, bad:argmin())
    assert.equal(2, bad:argmax())
    assert.equal(inf, T({ 1, inf }):sum())
    assert.equal(-inf, T({ 1, -inf }):min())
    assert.equal(inf, T({ inf, inf }):min())
    assert.equal(1, T({ inf, inf }):argmin())
    assert.equal(-inf, T({ -inf, -inf }):max())
    assert.equal(2, T({ 1, -inf, -inf }):argmin())
  end)

  it("of empty tensors: a sum is 0, a smallest there is not", function()
    local e = core.zeros { 0, 3 }
    assert.equal(0, e:sum())
    assert.equal(0, e:norm())
    assert.equal(0, e:count())
    assert.is_true(e:mean() ~= e:mean())
    assert.is_true(e:std() ~= e:std())
    for _, name in ipairs { "min", "max", "argmin", "argmax" } do
      fails(function() return e[name](e) end, name .. " of an empty tensor")
      fails(function() return e[name](e, 1) end, name .. " of an empty tensor")
      assert.same({ 0 }, e[name](e, 2).shape)
    end
    check(e:sum(1), "f32", { 0, 0, 0 })
    assert.equal(0, core.zeros({ 0 }, "i8"):sum())
  end)

  it("find the first of equal extremes, in every position", function()
    for _, n in ipairs { 1, 15, 16, 17, 511, 512, 513, 1025, 65536, 65537, 140000 } do
      for _, at in ipairs { 1, n // 2 + 1, n } do
        local x = core.zeros({ n }, "f32")
        x[at] = 2
        x[n] = 2
        assert.equal(at, x:argmax())
        assert.equal(2, x:max())
        x[at] = -1
        assert.equal(at, x:argmin())
        x[at] = nan
        assert.equal(at, x:argmax())
        local i = core.zeros({ n }, "i16")
        i[at] = -5
        i[n] = -5
        assert.equal(at, i:argmin())
        assert.equal(-5, i:min())
      end
    end
  end)
end)

describe("reductions along a dimension", function()
  local t = T { { 1, 2, 3 }, { 4, 5, 6 } }

  it("remove it, or keep it with size 1", function()
    check(t:sum(1), "f32", { 5, 7, 9 })
    check(t:sum(2), "f32", { 6, 15 })
    check(t:sum(-1), "f32", { 6, 15 })
    check(t:sum(2, { keep = true }), "f32", { { 6 }, { 15 } })
    check(t:sum(1, { keep = true }), "f32", { { 5, 7, 9 } })
    check(t:sum(1, { keep = false }), "f32", { 5, 7, 9 })
    check(t:mean(1), "f32", { 2.5, 3.5, 4.5 })
    check(t:std(1), "f32", { 1.5, 1.5, 1.5 })
    check(t:norm(2), "f32", { f32(math.sqrt(14)), f32(math.sqrt(77)) })
    check(t:min(1), "f32", { 1, 2, 3 })
    check(t:max(2), "f32", { 3, 6 })
    check(t:argmax(2), "i64", { 3, 3 })
    check(t:argmin(1), "i64", { 1, 1, 1 })
    check(T { 1, 2 }:sum(1), "f32", 3)
    assert.equal(3, T({ 1, 2 }):sum(1):item())
  end)

  it("work on every dimension of three", function()
    local c = core.arange(1, 24, 1, "i32"):reshape { 2, 3, 4 }
    check(c:sum(1), "i64", { { 14, 16, 18, 20 }, { 22, 24, 26, 28 }, { 30, 32, 34, 36 } })
    check(c:sum(2), "i64", { { 15, 18, 21, 24 }, { 51, 54, 57, 60 } })
    check(c:sum(3), "i64", { { 10, 26, 42 }, { 58, 74, 90 } })
    check(c:max(2), "i32", { { 9, 10, 11, 12 }, { 21, 22, 23, 24 } })
    assert.same({ 2, 1, 4 }, c:mean(2, { keep = true }).shape)
    check(c:transpose(1, 3):sum(1), "i64", { { 10, 58 }, { 26, 74 }, { 42, 90 } })
  end)

  it("give fitting types", function()
    local types = {
      { "f64", "f64", "f64" }, { "f32", "f32", "f32" }, { "f16", "f32", "f16" },
      { "bf16", "f32", "bf16" }, { "f8_e4m3", "f32", "f8_e4m3" }, { "i8", "i64", "i8" },
      { "u64", "u64", "u64" }, { "bool", "i64", "bool" },
    }
    for _, row in ipairs(types) do
      local x = core.full({ 2, 2 }, row[1] == "bool" and true or 1, row[1])
      assert.equal(row[2], x:sum(1).dtype)
      assert.equal(row[3], x:max(1).dtype)
      assert.equal(row[1] == "f64" and "f64" or "f32", x:mean(1).dtype)
      assert.equal(row[1] == "f64" and "f64" or "f32", x:std(1).dtype)
      assert.equal("i64", x:argmax(1).dtype)
      assert.equal("bool", x:any(1).dtype)
    end
    check(core.full({ 2, 40000 }, 2, "f16"):sum(2), "f32", { 80000, 80000 })
  end)

  it("give the same along rows, columns and for the whole, bit for bit", function()
    for _, shape in ipairs { { 3, 7 }, { 100, 1030 }, { 1030, 100 }, { 17, 513 }, { 2, 70001 },
                             { 70001, 3 } } do
      for _, dtype in ipairs { "f32", "bf16", "f64", "i32" } do
        local x = core.randn(shape, 5, "f64") * 100
        x = x:to(dtype)
        local columns = x:t():clone()
        for _, name in ipairs { "sum", "std", "min", "argmax", "norm", "mean" } do
          local down = x[name](x, 1)
          assert.is_true(down == columns[name](columns, 2), name)
          assert.is_true(down == columns:t()[name](columns:t(), 1), name)
          local column = x[":, 2"]
          local one = T(column[name](column), down.dtype)
          assert.equal(one:item(), down[2], name)
        end
      end
    end
  end)

  it("refuse dimensions that are not there, and unknown options", function()
    fails(function() t:sum(3) end, "dimension 3 out of range (1 to 2, or -1 to -2 from the end)")
    fails(function() t:sum(0) end, "dimension 0 out of range")
    fails(function() t:sum "x" end, "number expected, got string")
    fails(function() T(1):sum(1) end, "out of range (there is none)")
    fails(function() t:sum(1, { kepe = true }) end, "the only option is keep")
    fails(function() t:sum(1, { keep = 1 }) end, "keep is true or false")
    fails(function() t:sum(1, true) end, "table expected")
    fails(function() t:sum(nil, { foo = 1 }) end, "the only option is keep")
  end)
end)

describe("equality", function()
  it("is that of dtype, shape and bits", function()
    local t = T { { 1, 2 }, { 3, 4 } }
    assert.is_true(t == t:clone())
    assert.is_true(t == t:t():clone():t())
    assert.is_true(t:t() == T { { 1, 3 }, { 2, 4 } })
    assert.is_false(t == t:t())
    assert.is_false(t == t:to "f64")
    assert.is_false(t == t:reshape { 4 })
    assert.is_true(T { 0 } ~= T { -0.0 })
    assert.is_true(core.zeros { 0, 2 } == core.zeros { 0, 2 })
    assert.is_false(core.zeros { 0, 2 } == core.zeros { 0, 3 })
  end)

  it("takes NaN for equal to NaN, whatever its bits", function()
    local patterns = { f64 = { "<I8I8", 0x7ff8000000000000, 0xfff0000000000001 },
                       f32 = { "<I4I4", 0x7fc00000, 0xff800001 },
                       f16 = { "<I2I2", 0x7e00, 0xfc01 }, bf16 = { "<I2I2", 0x7fc0, 0xff81 },
                       f8_e5m2 = { "<BB", 0x7e, 0xfd }, f8_e4m3 = { "<BB", 0x7f, 0xff } }
    for dtype, p in pairs(patterns) do
      local size = string.packsize(p[1]) // 2
      local bytes = string.pack(table.unpack(p))
      local x = core.from_bytes(bytes:sub(1, size), dtype, { 1 })
      local y = core.from_bytes(bytes:sub(size + 1), dtype, { 1 })
      assert.is_true(x == y, dtype)
      assert.is_false(x == core.zeros({ 1 }, dtype))
      local infinity = T({ inf }, dtype)
      if dtype ~= "f8_e4m3" then assert.is_false(x == infinity, dtype) end
    end
  end)

  it("never raises", function()
    local t = T { 1 }
    assert.is_false(t == 1)
    assert.is_false(t == nil)
    assert.is_false(t == {})
    assert.is_false(t == io.stdout)
    assert.is_false(io.stdout == t)
    assert.is_false(t == core.from_bytes("a", "f8_e8m0", { 1 }))
  end)

  it("sees a difference anywhere", function()
    for _, at in ipairs { 1, 512, 513, 70000 } do
      local x = core.arange(1, 70000)
      local y = x:clone()
      y[at] = -1
      assert.is_false(x == y)
    end
  end)
end)

describe("close", function()
  it("compares with an absolute tolerance", function()
    assert.is_true(T({ 1 }):close(T { 1 + 2 ^ -21 }))
    assert.is_false((T({ 1 }):close(T { 1 + 2 ^ -19 })))
    assert.is_true(T({ 1, 2 }):close(T { 1.5, 2.5 }, 0.5))
    assert.is_false((T({ 1, 2 }):close(T { 1.5, 2.5625 }, 0.5)))
    assert.is_true(T({ 1 }):close(T({ 1 }, "i8"), 0))
    assert.is_true(T({ nan, inf, -inf }):close(T { nan, inf, -inf }))
    assert.is_false((T({ inf }):close(T { -inf })))
    assert.is_false((T({ inf }):close(T { 1 }, inf)))
    assert.is_false((T({ nan }):close(T { 0 }, inf)))
    assert.is_true(T({ { 1, 2 }, { 3, 4 } }):t():close(T { { 1, 3 }, { 2, 4 } }))
  end)

  it("says where the first difference lies", function()
    local ok, why = T({ { 1, 2 }, { 3, 4 } }):close(T { { 1, 2 }, { 3.5, 5 } })
    assert.is_false(ok)
    assert.equal("element [2, 1] is 3.0 and 3.5", why)
    ok, why = T({ 1 }):close(T { 1, 2 })
    assert.is_false(ok)
    assert.equal("the shapes are 1 and 2", why)
    local x = core.zeros { 3000 }
    local y = x:clone()
    y[2000] = 1
    assert.equal("element [2000] is 0.0 and 1.0", select(2, x:close(y)))
  end)

  it("refuses what is no tolerance", function()
    fails(function() T({ 1 }):close(T { 1 }, -1) end, "tolerance")
    fails(function() T({ 1 }):close(T { 1 }, nan) end, "tolerance")
    fails(function() T({ 1 }):close(1) end, "tensor expected, got number")
  end)
end)

describe("histograms", function()
  it("count values between equally spaced edges", function()
    local counts, edges, outside = T({ 0, 0.5, 1, 1.5, 2, 4 }):hist { bins = 4 }
    assert.same({ 2, 2, 1, 1 }, counts)
    assert.same({ 0, 1, 2, 3, 4 }, edges)
    assert.equal(0, outside)
    counts, edges, outside = T({ -5, 0, 1, 9, nan, inf }):hist { bins = 2, low = 0, high = 2 }
    assert.same({ 1, 1 }, counts)
    assert.same({ 0, 1, 2 }, edges)
    assert.equal(4, outside)
    assert.equal(32, #T({ 1, 2 }):hist())
  end)

  it("work on views, integers, equal values and nothing", function()
    assert.same({ 1, 0, 1 }, (T({ { 1, 9 }, { 4, 9 } })[":, 1"]:hist { bins = 3 }))
    assert.same({ 2, 1 }, (T({ 1, 2, 9 }, "i64"):hist { bins = 2 }))
    local counts, edges = T({ 3, 3 }):hist { bins = 2 }
    assert.same({ 0, 2 }, counts)
    assert.same({ 2.5, 3, 3.5 }, edges)
    assert.same({ 0, 0 }, (core.zeros({ 0 }):hist { bins = 2 }))
    local long = core.arange(0, 299999):reshape { 1000, 300 }
    assert.same({ 100000, 100000, 100000 }, (long:hist { bins = 3 }))
    assert.same({ 100000, 100000, 100000 }, (long:t():hist { bins = 3 }))
  end)

  it("refuse wrong options", function()
    local t = T { 1, 2 }
    fails(function() t:hist { bin = 3 } end, "the options are bins, low and high")
    fails(function() t:hist { bins = 0 } end, "bins is 1 to")
    fails(function() t:hist { bins = 1.5 } end, "bins is 1 to")
    fails(function() t:hist { low = 3, high = 1 } end, "does not lie above")
    fails(function() t:hist { low = nan } end, "low is a finite number")
    fails(function() t:hist { high = "9" } end, "high is a finite number")
  end)

  it("and values that are not finite", function()
    assert.same({ 3, 1, 2 }, { T({ nan, inf, -inf, 1 }):count_nonfinite() })
    assert.same({ 0, 0, 0 }, { T({ 1 }, "i8"):count_nonfinite() })
  end)
end)

-- The line with the marks that the locale of this process has.
local function drawn(line)
  if core.is_utf8() then return line end
  local ascii = { ["▁"] = "_", ["▂"] = ".", ["▃"] = "-", ["▄"] = "=", ["▅"] = "+", ["▆"] = "*",
                  ["▇"] = "#", ["█"] = "@" }
  return (line:gsub(utf8.charpattern, ascii))
end

describe("printing", function()
  it("follows the locale", function()
    local script = shell.lua_script [[print(require("rondo").arange(0, 9))]]
    local blocks, ascii = "▄▄▄▄▄▄▄▄█", "========@"
    for locale, bars in pairs { ["LANG=C.UTF-8"] = blocks, ["LC_ALL=en_GB.utf8 LANG=C"] = blocks,
                                ["LC_ALL=C LANG=C.UTF-8"] = ascii, ["LANG="] = ascii } do
      local text = shell.sh("env -u LC_ALL -u LC_CTYPE %s %s", locale, script)
      assert.equal("f32 10   mean 4.5   std 2.87   |max| 9   " .. bars .. "\n", text, locale)
    end
  end)

  it("is one line", function()
    -- 0 to 9: nine bars of one value each but for the last, which also holds 9.
    assert.equal(drawn "f32 10   mean 4.5   std 2.87   |max| 9   ▄▄▄▄▄▄▄▄█",
                 tostring(core.arange(0, 9)))
    -- Variance 13 / 4; bars of 5 / 9 from -3 on hold values in the places 0, 3, 5 and 8.
    assert.equal(drawn "i8 2x2   mean -0.5   std 1.8   |max| 3   █▁▁█▁█▁▁█",
                 tostring(T({ { -3, -1 }, { 0, 2 } }, "i8")))
    assert.equal("f32 3   mean 1   std 0   |max| 1   1 NaN!   1 inf!",
                 tostring(T { nan, inf, 1 }))
    assert.equal("f16 2   2 NaN!", tostring(T({ nan, nan }, "f16")))
    assert.equal("bool 3   2 of 3 true", tostring(T { true, false, true }))
    assert.equal("f32 scalar   3.25", tostring(T(3.25)))
    assert.equal("i64 scalar   -7", tostring(T(-7, "i64")))
    assert.equal("f32 0x5   empty", tostring(core.zeros { 0, 5 }))
    assert.equal("f8_e8m0 2x3   6 bytes, opaque",
                 tostring(core.from_bytes("abcdef", "f8_e8m0", { 2, 3 })))
    assert.equal("f32 2   mean 0   std 0   |max| 0", tostring(core.zeros { 2 }))
  end)

  it("draws nine bars, four deviations to either side", function()
    -- A normal distribution, cut at multiples of 8/9 of a deviation: 34 % in the middle, then
    -- 24 %, 9 %, 1.7 % and 0.15 %; in sevenths of the highest bar, rounded down: 7, 4 (4.98), 1, 0.
    local line = tostring(core.randn { 300, 300 })
    assert.is_truthy(line:find(drawn "▁▁▂▅█▅▂▁▁", 1, true)
      or line:find(drawn "▁▁▂▆█▅▂▁▁", 1, true), line)
  end)

  it("is quick on long tensors, from a marked sample", function()
    local t = core.full({ 4097, 4096 }, 0.5, "f8_e4m3")
    assert.equal("f8_e4m3 4097x4096   mean ~0.5   std ~0   |max| ~0.5", tostring(t))
    local m = core.full({ 4097, 4096 }, true)
    assert.equal("bool 4097x4096   ~100% true", tostring(m))
  end)

  it("shows corners", function()
    local lines = {}
    for line in T({ { 1, -2.5 }, { 1e-10, nan } }):show():gmatch "[^\n]+" do
      lines[#lines + 1] = line
    end
    assert.equal("      1   -2.5", lines[2])
    assert.equal("  1e-10    NaN", lines[3])
    assert.equal(3, #lines)
    local big = core.arange(1, 90, 1, "u8"):reshape { 9, 10 }:show()
    assert.equal(table.concat({
      "   1   2   3  ...   8   9  10",
      "  11  12  13  ...  18  19  20",
      "  21  22  23  ...  28  29  30",
      "  ...",
      "  61  62  63  ...  68  69  70",
      "  71  72  73  ...  78  79  80",
      "  81  82  83  ...  88  89  90" }, "\n"), big:match "\n(.*)")
    assert.equal("  0  1  2  3  4  5  6  7", core.arange(0, 7):show():match "\n(.*)")
    assert.equal("   true  false", T({ true, false }):show():match "\n(.*)")
    assert.equal(table.concat({
      "[1, 1, :, :]", "  0  1", "  2  3", "[1, 2, :, :]", "  4  5", "  6  7" }, "\n"),
      core.arange(0, 7):reshape({ 1, 2, 2, 2 }):show():match "\n(.*)")
    assert.equal("f32 scalar   2", T(2):show())
    assert.equal("f32 0x2   empty", core.zeros({ 0, 2 }):show())
  end)
end)
