-- plot: pictures made of characters. Block characters where the locale is UTF-8, ASCII elsewhere;
-- a plot is a text that prints itself. Values are a tensor, a layer, or a list of numbers; whatever
-- is long is reduced by native code before it is drawn.

local core = require "rondo.core"
local options = require "rondo.options"
local shown = require "rondo.shown"

local plot = {}

local PIECE = 4 * 1024 * 1024 -- values that are in memory besides the tensor

-- ---- The terminal ----

local function has_colours()
  local no_color = os.getenv "NO_COLOR"
  return (not no_color or no_color == "") and (os.getenv "TERM" or "dumb") ~= "dumb"
    and core.isatty(1)
end

local function width_of_terminal()
  local _, columns = core.isatty(1)
  return columns or 80
end

local common = {
  width = { kind = "integer", min = 20, max = 1000 },
  ascii = { kind = "boolean" },
}

-- The options of one plot, checked: its own and the common ones.
local function check(name, given, own)
  local description = { width = common.width, ascii = common.ascii }
  for option, rule in pairs(own or {}) do description[option] = rule end
  local o = options.check(name, given, description, 4)
  o.width = o.width or width_of_terminal()
  if o.ascii == nil then o.ascii = not core.is_utf8() end
  return o
end

-- ---- Values ----

local function tensor_of(name, values)
  local meta = debug.getmetatable(values)
  if type(meta) == "table" and meta.__name == "rondo.layer" then values = values.weight end
  if core.is_tensor(values) then return values end
  if type(values) == "table" and meta == nil then return core.tensor(values, "f64") end
  error(("bad argument #1 to '%s' (a tensor, a layer or a list of numbers expected, got %s)")
    :format(name, type(values)), 4)
end

local function is_finite(x)
  return x - x == 0
end

local function range_of(values)
  local low, high = math.huge, -math.huge
  for _, x in ipairs(values) do
    if is_finite(x) then low, high = math.min(low, x), math.max(high, x) end
  end
  return low, high
end

-- Where the i-th of `count` runs of `length` values begins and ends.
local function run_of(i, count, length)
  return (i - 1) * length // count + 1, i * length // count
end

local function number(x)
  return ("%.4g"):format(x)
end

-- ---- Histogram ----

local eighths = { "▏", "▎", "▍", "▌", "▋", "▊", "▉", "█" }

local function bar(share, room, ascii)
  if ascii then return ("#"):rep(math.ceil(share * room)) end
  local units = math.ceil(share * room * 8)
  return eighths[8]:rep(units // 8) .. (eighths[units % 8] or "")
end

--- Counts of values in bins of equal width, one bar a line.
-- @param o  bins = 24, low, high (the extremes of the values), width, ascii
function plot.histogram(values, o)
  o = check("histogram", o, {
    bins = { kind = "integer", min = 1, max = 1000, default = 24 },
    low = { kind = "number" }, high = { kind = "number" },
  })
  local counts, edges, outside = tensor_of("histogram", values)
    :hist { bins = o.bins, low = o.low, high = o.high }
  local most, label, figures = math.max(1, table.unpack(counts)), 0, 0
  for i, count in ipairs(counts) do
    label = math.max(label, #number(edges[i]), #number(edges[i + 1]))
    figures = math.max(figures, #("%d"):format(count))
  end
  local room, lines = math.max(o.width - label - figures - 4, 8), {}
  for i, count in ipairs(counts) do
    local drawn = bar(count / most, room, o.ascii)
    lines[i] = ("%" .. label .. "s  %s%s  %" .. figures .. "d"):format(number(edges[i]), drawn,
      (" "):rep(room - utf8.len(drawn)), count)
  end
  lines[#lines + 1] = ("%" .. label .. "s"):format(number(edges[#edges]))
  if outside > 0 then lines[#lines + 1] = ("(%d more outside, NaN or infinite)"):format(outside) end
  return shown(lines)
end

-- ---- Sparkline ----

local levels = { "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█" }
local ascii_levels = { "_", ".", "-", "=", "+", "*", "#", "@" }

-- At most `count` numbers: the values, or reduce(run) of as many runs of them.
local function reduced(flat, count, reduce)
  local length = #flat
  if length <= count then return flat:totable() end
  local list = {}
  for i = 1, count do list[i] = reduce(flat:rows(run_of(i, count, length))) end
  return list
end

--- A line of tiny bars: a value each, or the means of runs where there are more than columns.
-- @param o  width, ascii
function plot.sparkline(values, o)
  o = check("sparkline", o)
  local flat = tensor_of("sparkline", values):to("f64"):reshape { -1 }
  local list = reduced(flat, o.width, function(run) return run:mean() end)
  local low, high = range_of(list)
  local marks, drawn = o.ascii and ascii_levels or levels, {}
  for i, x in ipairs(list) do
    local share = high > low and (x - low) / (high - low) or 0.5
    drawn[i] = is_finite(x) and marks[math.min(math.floor(share * 8) + 1, 8)] or "?"
  end
  return shown(table.concat(drawn))
end

-- ---- Line ----

-- For each column its least and greatest value, in units from 0 to `top`; nil where none is finite.
local function spans_of(flat, columns, top)
  local lows = reduced(flat, columns, function(run) return run:min() end)
  local highs = reduced(flat, columns, function(run) return run:max() end)
  local low = range_of(lows)
  local _, high = range_of(highs)
  local function unit(x)
    return high > low and math.floor((x - low) / (high - low) * top + 0.5) or top // 2
  end
  local spans = {}
  for i = 1, #lows do
    local good = is_finite(lows[i]) and is_finite(highs[i])
    spans[i] = good and { unit(lows[i]), unit(highs[i]) } or false
  end
  return spans, low, high
end

-- Lets each span reach the one before, so that the curve has no gaps.
local function connect(spans)
  for i = #spans, 2, -1 do
    local span, before = spans[i], spans[i - 1]
    if span and before then
      spans[i] = { math.min(span[1], before[2] + 1), math.max(span[2], before[1] - 1) }
    end
  end
end

-- The character of the cell that holds the units 2 * row and 2 * row + 1 of a column.
local function cell_of(span, row, ascii)
  local function holds(unit) return span and span[1] <= unit and unit <= span[2] end
  local lower, upper = holds(2 * row), holds(2 * row + 1)
  if ascii then return (lower or upper) and "*" or " " end
  return lower and upper and "█" or lower and "▄" or upper and "▀" or " "
end

--- Values one after the other as a curve; where there are more than columns, from the least to the
--- greatest of each run.
-- @param o  height = 12, width, ascii
function plot.line(values, o)
  o = check("line", o, { height = { kind = "integer", min = 2, max = 200, default = 12 } })
  local flat = tensor_of("line", values):to("f64"):reshape { -1 }
  local label = 11 -- what "%.4g" needs at most
  local spans, low, high = spans_of(flat, o.width - label - 2, 2 * o.height - 1)
  connect(spans)
  local lines = {}
  for row = o.height - 1, 0, -1 do
    local cells = {}
    for i, span in ipairs(spans) do cells[i] = cell_of(span, row, o.ascii) end
    local text = low <= high and (row == 0 and number(low) or row == o.height - 1 and number(high))
    lines[#lines + 1] = ("%" .. label .. "s  %s"):format(text or "", table.concat(cells))
      :match "^(.-) *$"
  end
  local last = ("%d"):format(#flat)
  lines[#lines + 1] = (" "):rep(label + 2) .. "1"
    .. (" "):rep(math.max(#spans - 1 - #last, 1)) .. last
  return shown(lines)
end

-- ---- Heat map ----

local shades = { " ", "░", "▒", "▓", "█" }
local ascii_shades = { " ", ".", ":", "-", "=", "+", "*", "#", "%", "@" }

-- The mean magnitude of each column of the rows first..last, piece by piece.
local function column_means(matrix, first, last)
  local cols = matrix.shape[2]
  local step, sums = math.max(PIECE // cols, 1), nil
  for row = first, last, step do
    local piece = matrix:rows(row, math.min(row + step - 1, last)):to("f32"):abs():sum(1)
    sums = sums and sums + piece or piece
  end
  return sums / (last - first + 1)
end

-- Mean magnitudes of blocks: a list of rows of numbers.
local function block_means(matrix, height, width)
  local rows, cols = matrix.shape[1], matrix.shape[2]
  height, width = math.min(height, rows), math.min(width, cols)
  local means = {}
  for i = 1, height do
    local line = column_means(matrix, run_of(i, height, rows))
    means[i] = reduced(line, width, function(run) return run:mean() end)
  end
  return means
end

local GREYS, FIRST_GREY = 24, 232 -- of the 256 colours

local function painter(o, low, high)
  local marks = o.ascii and ascii_shades or shades
  local count = o.colour and GREYS or #marks
  return function(x)
    if not is_finite(x) then return "?" end
    local share = high > low and (x - low) / (high - low) or 0.5
    local level = math.min(math.floor(share * count), count - 1)
    if o.colour then return ("\27[48;5;%dm "):format(FIRST_GREY + level) end
    return marks[level + 1]
  end
end

--- The mean magnitude of the blocks of a matrix, light to dark.
-- @param o  height = 16 lines at most, width, ascii, colour
function plot.heat(values, o)
  o = check("heat", o, { height = { kind = "integer", min = 1, max = 200, default = 16 },
                         colour = { kind = "boolean" } })
  if o.colour == nil then o.colour = has_colours() end
  local matrix = tensor_of("heat", values)
  if matrix.rank ~= 2 or matrix.shape[1] * matrix.shape[2] == 0 then
    error(("bad argument #1 to 'heat' (a matrix expected, got shape { %s })")
      :format(table.concat(matrix.shape, ", ")), 2)
  end
  local means = block_means(matrix, o.height, o.width)
  local low, high = math.huge, -math.huge
  for _, row in ipairs(means) do
    local least, most = range_of(row)
    low, high = math.min(low, least), math.max(high, most)
  end
  local paint, lines = painter(o, low, high), {}
  for i, row in ipairs(means) do
    local cells = {}
    for j, x in ipairs(row) do cells[j] = paint(x) end
    lines[i] = table.concat(cells) .. (o.colour and "\27[0m" or "")
  end
  lines[#lines + 1] = ("%dx%d: mean |x| of %d x %d blocks, %s (%s) to %s (%s)"):format(
    matrix.shape[1], matrix.shape[2], #means, #means[1], number(low),
    o.colour and "dark" or "light", number(high), o.colour and "light" or "dark")
  return shown(lines)
end

return plot
