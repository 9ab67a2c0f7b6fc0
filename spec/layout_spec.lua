local core = require "rondo.core"

local word_dtypes = { [8] = "u8", [16] = "i16", [32] = "i32", [64] = "i64" }

-- The field of a code.
local function field_of(o, code)
  if o.map then return o.map[(code & 15) + 1] end
  return (code + (o.add or 0)) & ((1 << o.bits) - 1)
end

-- The words of one line, bit by bit.
local function words_of_line(o, codes)
  local fields, bit, words = o.width // o.bits, {}, {}
  local count = (#codes + fields - 1) // fields
  if o.dense then count = (#codes * o.bits + o.width - 1) // o.width end
  for place = 0, (o.order and count * fields or #codes) - 1 do
    local number = o.order and place // fields * fields + o.order[place % fields + 1] or place
    local field = codes[number + 1] and field_of(o, codes[number + 1]) or 0
    local at = o.dense and place * o.bits or place // fields * o.width + place % fields * o.bits
    for b = 0, o.bits - 1 do bit[at + b] = field >> b & 1 end
  end
  for w = 1, count do
    words[w] = 0
    for b = 0, o.width - 1 do
      words[w] = words[w] | (bit[(w - 1) * o.width + b] or 0) << b
    end
  end
  return words
end

local function transposed(matrix)
  local result = {}
  for i, row in ipairs(matrix) do
    for j, value in ipairs(row) do
      result[j] = result[j] or {}
      result[j][i] = value
    end
  end
  return result
end

-- The matrix of words of a matrix of codes (as bytes without sign).
local function words_of(o, codes)
  local lines = o.dim == 1 and codes or transposed(codes)
  local words = {}
  for i, line in ipairs(lines) do words[i] = words_of_line(o, line) end
  return (o.dim == 1) ~= o.transposed and words or transposed(words)
end

local function masked(o, words)
  local mask = o.width == 64 and -1 or (1 << o.width) - 1
  for _, row in ipairs(words) do
    for i, word in ipairs(row) do row[i] = word & mask end
  end
  return words
end

local function shuffled(count)
  local list = {}
  for i = 1, count do list[i] = i - 1 end
  for i = count, 2, -1 do
    local k = math.random(i)
    list[i], list[k] = list[k], list[i]
  end
  return list
end

local function random_layout()
  local o = { bits = math.random(8), width = 8 << math.random(0, 3), dim = math.random(0, 1),
              dense = math.random(2) == 1, transposed = math.random(2) == 1,
              signed = math.random(2) == 1, add = math.random(0, 255) }
  o.word = word_dtypes[o.width]
  if not o.dense and math.random(3) == 1 then o.order = shuffled(o.width // o.bits) end
  if o.bits == 4 and math.random(2) == 1 then o.map, o.signed = shuffled(16), false end
  return o
end

local function random_codes(o, rows, cols)
  local codes, low = {}, o.signed and -(1 << o.bits - 1) or 0
  for i = 1, rows do
    codes[i] = {}
    for j = 1, cols do codes[i][j] = low + math.random(0, (1 << o.bits) - 1) end
  end
  return codes
end

describe("a layout of codes in words", function()
  local function check(o, rows, cols)
    local codes = random_codes(o, rows, cols)
    local layout = core.layout(o)
    local given = core.tensor(codes, o.signed and "i8" or "u8")
    local words = layout:pack(given)
    assert.same(words_of(o, codes), masked(o, words:totable()))
    assert.same({ layout:shape(rows, cols) }, words.shape)
    local back = layout:unpack(words, rows, cols)
    assert.equal(given.dtype, back.dtype)
    assert.same(codes, back:totable())
  end

  it("packs any bits, words, orders and directions, and unpacks them", function()
    math.randomseed(11)
    for _ = 1, 300 do check(random_layout(), math.random(1, 70), math.random(1, 80)) end
  end)

  it("works on lines longer than it takes at once, and on more of them", function()
    math.randomseed(12)
    for _ = 1, 6 do
      check(random_layout(), 3, 1100 + math.random(200))
      check(random_layout(), 1100 + math.random(200), 3)
    end
  end)

  it("packs no codes into no words", function()
    local words = core.layout { bits = 4, word = "i32" }:pack(core.zeros({ 0, 8 }, "u8"))
    assert.same({ 0, 1 }, words.shape)
  end)

  it("says how many codes go together", function()
    assert.equal(8, core.layout({ bits = 4, word = "i32" }):unit())
    assert.equal(10, core.layout({ bits = 3, word = "i32" }):unit())
    assert.equal(32, core.layout({ bits = 3, word = "i32", dense = true }):unit())
    assert.equal(8, core.layout({ bits = 5, dense = true }):unit())
  end)

  it("refuses what makes no sense", function()
    local function refuses(text, o)
      local good, message = pcall(core.layout, o)
      assert.is_false(good)
      assert.truthy(message:find(text, 1, true), message)
    end
    refuses("'bits' is an integer from 1 to 8", {})
    refuses("'bits' is an integer from 1 to 8", { bits = (1 << 32) + 4 })
    refuses("'dim' is an integer from 0 to 1", { bits = 4, dim = 2 })
    refuses("'order' holds each of 0 .. 1 once", { bits = 4, order = { 0, 0 } })
    refuses("'map' holds each of 0 .. 15 once", { bits = 4, map = { 0, 1 } })
    refuses("a map is for 4 bits", { bits = 8, map = shuffled(16) })
    refuses("a stream of bits has its own order", { bits = 4, dense = true, order = { 1, 0 } })
    local layout = core.layout { bits = 4, word = "i32" }
    assert.has_error(function() layout:pack(core.zeros({ 2, 2 }, "f32")) end)
    assert.has_error(function() layout:unpack(core.zeros({ 2, 2 }, "i32"), 2, 8) end)
  end)
end)
