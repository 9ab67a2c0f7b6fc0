-- Plots: what is drawn for values whose picture can be worked out by hand.

local core = require "rondo.core"
local plot = require "rondo.plot"
local shell = require "spec.support.shell"

local T = core.tensor

local function lines_of(shown)
  local lines = {}
  for line in (tostring(shown) .. "\n"):gmatch "([^\n]*)\n" do lines[#lines + 1] = line end
  return lines
end

describe("a histogram", function()
  local values = T { 0, 0, 0, 0, 1, 1, 2, 4 }

  it("has a bar for each bin, the longest as wide as there is room", function()
    assert.same({
      "0  ################  4",
      "1  ########          2",
      "2  ####              1",
      "3  ####              1",
      "4",
    }, lines_of(plot.histogram(values, { bins = 4, width = 22, ascii = true })))
    assert.same({
      "0  ████████████████  4",
      "1  ████████          2",
      "2  ████              1",
      "3  ████              1",
      "4",
    }, lines_of(plot.histogram(values, { bins = 4, width = 22, ascii = false })))
  end)

  it("draws eighths of a column", function()
    local list = {}
    for _ = 1, 128 do list[#list + 1] = 0 end
    list[#list + 1] = 2
    local lines = lines_of(plot.histogram(list, { bins = 2, width = 24, ascii = false }))
    assert.equal("1  ▏                   1", lines[2])
  end)

  it("tells what lies outside", function()
    local lines = lines_of(plot.histogram(T { 1, 2, 3, 0 / 0, 1 / 0 },
      { bins = 2, low = 2, high = 4, ascii = true }))
    assert.equal("(3 more outside, NaN or infinite)", lines[#lines])
  end)

  it("takes tensors of any type and shape, views and lists", function()
    local o = { bins = 3, width = 30, ascii = true }
    local expected = tostring(plot.histogram({ 1, 2, 3, 4, 5, 6 }, o))
    for _, dtype in ipairs { "f32", "bf16", "i32", "u8" } do
      local t = T({ { 1, 2, 3 }, { 4, 5, 6 } }, dtype)
      assert.equal(expected, tostring(plot.histogram(t, o)))
      assert.equal(expected, tostring(plot.histogram(t:t(), o)))
    end
  end)
end)

describe("a sparkline", function()
  it("has a mark for each value", function()
    assert.equal("▁▂▃▄▅▆▇█", tostring(plot.sparkline({ 1, 2, 3, 4, 5, 6, 7, 8 },
      { ascii = false })))
    assert.equal("_.-=+*#@", tostring(plot.sparkline({ 1, 2, 3, 4, 5, 6, 7, 8 },
      { ascii = true })))
    assert.equal("_?@", tostring(plot.sparkline({ 1, 0 / 0, 3 }, { ascii = true })))
    assert.equal("+++", tostring(plot.sparkline({ 5, 5, 5 }, { ascii = true })))
    assert.equal("", tostring(plot.sparkline({}, { ascii = true })))
  end)

  it("has the means of runs where there are more values than columns", function()
    local list = {}
    for i = 1, 20 do
      for j = 1, 3 do list[#list + 1] = (i <= 10 and 0 or 6) + j end
    end
    assert.equal(("_"):rep(10) .. ("@"):rep(10),
      tostring(plot.sparkline(list, { width = 20, ascii = true })))
  end)
end)

describe("a line", function()
  it("goes through its values", function()
    assert.same({
      "          3     *",
      "               *",
      "              **",
      "          0  **",
      "             1  4",
    }, lines_of(plot.line({ 0, 1, 2, 3 }, { height = 4, ascii = true })))
    assert.same({
      "          3     █",
      "               █",
      "              ▄▀",
      "          0  ▄▀",
      "             1  4",
    }, lines_of(plot.line({ 0, 1, 2, 3 }, { height = 4, ascii = false })))
  end)

  it("reaches from the least to the greatest of runs", function()
    local list = {}
    for i = 1, 140 do list[i] = i % 2 end
    local lines = lines_of(plot.line(list, { width = 20, height = 3, ascii = true }))
    assert.equal("          1  *******", lines[1])
    assert.equal("             *******", lines[2])
    assert.equal("          0  *******", lines[3])
    assert.equal("             1   140", lines[4])
  end)

  it("leaves gaps where values are not finite", function()
    local lines = lines_of(plot.line({ 1, 0 / 0, 1, 2 }, { height = 2, ascii = true }))
    assert.equal("          2     *", lines[1])
    assert.equal("          1  * **", lines[2])
  end)
end)

describe("a heat map", function()
  local function heat(t, o)
    o.colour = o.colour or false
    return lines_of(plot.heat(t, o))
  end

  it("shows mean magnitudes of blocks, light to dark", function()
    local t = T { { 0, 0, 1, -1 }, { 0, 0, -1, 1 }, { 3, 3, -9, 9 }, { 3, -3, 9, 9 } }
    local wide = core.zeros { 4, 40 }
    for c = 1, 40 do
      local source = t[(":, %d"):format((c - 1) // 10 + 1)]
      wide[(":, %d"):format(c)] = source
    end
    local lines = heat(wide, { width = 20, height = 2, ascii = true })
    assert.equal((" "):rep(10) .. ("."):rep(10), lines[1])
    assert.equal(("-"):rep(10) .. ("@"):rep(10), lines[2])
    assert.equal("4x40: mean |x| of 2 x 20 blocks, 0 (light) to 9 (dark)", lines[3])
    assert.same({ "    ▒▒▒▒", "▓▓▓▓████" }, {
      table.unpack(heat(T { { 0, 0, 0, 0, 4, 4, 4, 4 }, { 6, 6, 6, 6, 8, 8, 8, 8 } },
        { ascii = false }), 1, 2) })
  end)

  it("marks what is not finite", function()
    assert.equal(" ?", heat(T { { 0, 0 / 0 }, { 1, 1 } }, { ascii = true })[1])
  end)

  it("uses 24 greys where there are colours", function()
    local lines = heat(T { { 0, 23 } }, { colour = true })
    assert.equal("\27[48;5;232m \27[48;5;255m \27[0m", lines[1])
  end)

  it("works in pieces on matrices that are larger", function()
    local t = core.full({ 3000, 3000 }, -2, "f8_e4m3")
    t["1:1500, :"] = 1
    local lines = heat(t, { height = 2, width = 20, ascii = true })
    assert.equal((" "):rep(20), lines[1])
    assert.equal(("@"):rep(20), lines[2])
  end)

  it("wants a matrix", function()
    assert.has.error(function() plot.heat(T { 1, 2 }) end,
      "bad argument #1 to 'heat' (a matrix expected, got shape { 2 })")
  end)
end)

describe("plots", function()
  it("refuse what they cannot draw, and options they do not have", function()
    assert.has.error(function() plot.line(3) end,
      "bad argument #1 to 'line' (a tensor, a layer or a list of numbers expected, got number)")
    local good, message = pcall(plot.sparkline, { 1 }, { wide = 3 })
    assert.is_false(good)
    assert.truthy(message:find("unknown option 'wide' (known: ascii, width)", 1, true))
  end)

  it("follow the locale", function()
    local script = shell.lua_script [[print(require("rondo.plot").sparkline { 1, 2 })]]
    for locale, marks in pairs { ["LANG=C.UTF-8"] = "▁█", ["LC_ALL=en_GB.utf8 LANG=C"] = "▁█",
                                 ["LANG=C"] = "_@", ["LC_ALL=C LANG=C.UTF-8"] = "_@",
                                 ["LANG="] = "_@" } do
      local text = shell.sh("env -u LC_ALL -u LC_CTYPE %s %s", locale, script)
      assert.equal(marks .. "\n", text, locale)
    end
  end)
end)
