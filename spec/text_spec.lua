-- What the command's output is made of: sizes, tables, the progress line.

local progress = require "rondo.progress"
local sizes = require "rondo.sizes"
local text_table = require "rondo.text_table"

describe("sizes", function()
  it("are read with decimal and binary units", function()
    for text, bytes in pairs {
      ["1"] = 1, ["4096"] = 4096, ["5GB"] = 5000000000, ["500MiB"] = 524288000, ["1kB"] = 1000,
      ["1 KiB"] = 1024, ["1.5GiB"] = 1610612736, ["2tb"] = 2000000000000, ["10B"] = 10,
      ["1TiB"] = 1099511627776, ["0.5kB"] = 500, ["1.MB"] = 1000000,
    } do
      assert.equal(bytes, sizes.parse(text), text)
      assert.equal("integer", math.type(sizes.parse(text)))
    end
  end)

  it("refuse everything else", function()
    for _, text in ipairs { "", "GB", "5G", "-1", "+1", "0", "0.5", "1e3", "0x10", "5 GB x", "5PB",
                            "99999999TB", "nan", "inf", "5,5GB", "1MBs" } do
      assert.is_nil(sizes.parse(text), text)
    end
  end)

  it("are shown with three digits", function()
    for bytes, text in pairs {
      [0] = "0 B", [999] = "999 B", [1000] = "1.00 kB", [9994] = "9.99 kB", [9996] = "10.0 kB",
      [99960] = "100 kB", [999499] = "999 kB", [999500] = "1.00 MB", [1048576] = "1.05 MB",
      [5000000000] = "5.00 GB", [123456789012345] = "123 TB",
    } do
      assert.equal(text, sizes.show(bytes))
    end
    assert.equal("1.05 M", sizes.count(1048576))
    assert.equal("12", sizes.count(12))
    assert.equal("1.50 k", sizes.count(1500))
  end)

  it("have durations beside them", function()
    assert.equal("0.41 s", sizes.duration(0.414))
    assert.equal("12.3 s", sizes.duration(12.34))
    assert.equal("1:00 min", sizes.duration(59.96))
    assert.equal("4:05 min", sizes.duration(245))
    assert.equal("2:03:04 h", sizes.duration(7384.2))
  end)
end)

describe("tables", function()
  local columns = {
    { title = "name", text = function(r) return r[1] end },
    { title = "n", right = true, text = function(r) return tostring(r[2]) end },
    { title = "what", text = function(r) return r[3] or "" end },
  }

  it("align names left and numbers right, without blanks at the end", function()
    local lines = text_table.lines(columns, { { "a", 1, "x" }, { "longer", 1234 } })
    assert.same({ "name       n  what",
                  "a          1  x",
                  "longer  1234" }, lines)
  end)

  it("count characters, not bytes", function()
    local lines = text_table.lines(columns, { { "äöü", 1, "x" }, { "abcd", 2, "y" } })
    assert.same({ "name  n  what", "äöü   1  x", "abcd  2  y" }, lines)
  end)

  it("show the heading in style", function()
    local lines = text_table.lines(columns, {}, function(text) return "<" .. text .. ">" end)
    assert.same({ "<name  n  what>" }, lines)
  end)

  it("let no control character through", function()
    assert.equal("a\\x1b[31mb\\x0ac", text_table.printable "a\27[31mb\nc")
    assert.equal("\\xff\\x00", text_table.printable "\xff\0")
    assert.equal("\\xc2\\x9b1m", text_table.printable "\xc2\x9b1m") -- C1's control sequence
    assert.equal("ä", text_table.printable "ä")
  end)

  it("cut long cells between characters", function()
    assert.equal(("x"):rep(400) .. "...", text_table.printable(("x"):rep(500)))
    assert.equal("ab...", text_table.printable("abä", 3))
  end)
end)

describe("the progress line", function()
  local now, written, line

  -- A line on a pretended terminal with a pretended clock.
  local function start(o)
    now, written = 100, {}
    o = o or {}
    o.stream = { write = function(_, ...) written[#written + 1] = table.concat { ... } end,
                 flush = function() end }
    o.columns, o.clock = o.columns or 100, function() return now end
    line = progress.new("working", o)
  end

  it("says how far, how fast and how long", function()
    start()
    now = 110
    line:update(25e6, 100e6, "layers.3.fc")
    assert.equal("\r\27[Kworking [####............]  25%  25.0 MB of 100 MB  2.50 MB/s  0:30 left"
      .. "  layers.3.fc", written[1])
  end)

  it("is not drawn for short works, nor more than ten times a second", function()
    start()
    for i = 1, 200 do
      now = 100 + i / 100
      line:update(i, 200)
    end
    assert.is_true(#written >= 15 and #written <= 18)
    start()
    now = 100.2
    line:update(1, 2)
    assert.equal(0, #written)
    line:clear()
    assert.equal(0, #written)
  end)

  it("never wraps: names are cut at their start, then left out", function()
    for _, columns in ipairs { 20, 40, 80, 90, 120 } do
      start { columns = columns }
      now = 110
      line:update(5, 10, ("model.layers."):rep(20) .. "end")
      local shown = written[1]:gsub("^\r\27%[K", "")
      assert.is_true(#shown < columns, columns)
      if columns == 120 then assert.truthy(shown:find "%.%.%.[%w.]+end$") end
    end
  end)

  it("copes with nothing done, nothing to do and too much done", function()
    start()
    now = 101
    line:update(0, 100)
    assert.equal("\r\27[Kworking [................]   0%  0 B of 100 B", written[1])
    now = 102
    line:update(0, 0)
    assert.truthy(written[2]:find("100%", 1, true))
    now = 103
    line:update(150, 100)
    assert.truthy(written[3]:find("100%", 1, true))
  end)

  it("goes away for other output, once", function()
    start()
    now = 101
    line:update(1, 2)
    line:clear()
    line:clear()
    assert.equal(2, #written)
    assert.equal("\r\27[K", written[2])
  end)

  it("shows amounts of another kind", function()
    start()
    now = 110
    line:update(1, 1000)
    assert.truthy(written[1]:find("0 B/s  2:46:30 left", 1, true), written[1])
    start { show = sizes.count }
    now = 101
    line:update(1500, 3000)
    assert.truthy(written[1]:find("1.50 k of 3.00 k  1.50 k/s", 1, true))
  end)

  it("does nothing where stderr is no terminal", function()
    if require("rondo.core").isatty(2) then pending "stderr is a terminal here" end
    local quiet = progress.new "working"
    quiet:update(1, 2)
    quiet:clear()
    assert.is_nil(quiet.stream)
  end)
end)
