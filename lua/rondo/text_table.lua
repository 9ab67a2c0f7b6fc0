-- text_table: aligned columns of plain text, for people. Cells come from files that nobody
-- vouches for: control characters, which could steer a terminal, are shown as \xNN.

local text_table = {}

local LONGEST = 400 -- bytes of a cell; longer ones end in "..."
local GAP = "  "

local function escape(byte)
  return ("\\x%02x"):format(byte:byte())
end

--- A text as one printable line; bytes that are not UTF-8 are shown as \xNN, too.
function text_table.printable(text, limit)
  limit = limit or LONGEST
  if #text > limit then
    while limit > 0 and text:find("^[\x80-\xbf]", limit + 1) do limit = limit - 1 end
    text = text:sub(1, limit) .. "..."
  end
  if not text:find "[%c\x80-\xff]" then return text end
  if utf8.len(text) and not text:find "\xc2[\x80-\x9f]" then
    return (text:gsub("%c", escape))
  end
  return (text:gsub("[%c\x80-\xff]", escape))
end

--- A number with its noun: "1 layer", "2 layers".
function text_table.count(n, noun)
  return ("%d %s%s"):format(n, noun, n == 1 and "" or "s")
end

local PLAIN = "[^ -~]" -- what is not found in plain ASCII, where bytes are columns

--- A cell as it is shown, and its width. Tables of 100,000 rows must not take long.
function text_table.cell(text)
  if #text <= LONGEST and not text:find(PLAIN) then return text, #text end
  text = text_table.printable(text)
  return text, utf8.len(text) or #text
end

-- The cells of a column as text, their widths, and the width of the column.
local function measure(column, rows)
  local cells, widths, text_of = {}, {}, column.text
  local _, most = text_table.cell(column.title)
  for r = 1, #rows do
    local text, width = text_table.cell(text_of(rows[r]))
    cells[r], widths[r] = text, width
    if width > most then most = width end
  end
  return cells, widths, most
end

-- Pads the cells of a column in place; those at the end of a line stay without blanks behind.
local function pad(cells, widths, most, right, last)
  local blanks = {}
  for n = 0, most do blanks[n] = (" "):rep(n) end
  for r = 1, #cells do
    local missing = blanks[most - widths[r]]
    if right then
      cells[r] = missing .. cells[r]
    elseif not last then
      cells[r] = cells[r] .. missing
    end
  end
end

--- Formats a table.
-- @param columns  list of { title =, text = function (row) -> string, right = true for numbers }
-- @param rows     list of anything that the columns' functions take
-- @param style    optional function (heading line) -> heading line, for colours
-- @return a list of lines without line ends, the heading first
function text_table.lines(columns, rows, style)
  local table_of, heading, lines = {}, {}, {}
  for c, column in ipairs(columns) do
    local cells, widths, most = measure(column, rows)
    local title, width = { column.title }, { utf8.len(column.title) }
    pad(cells, widths, most, column.right, c == #columns)
    pad(title, width, most, column.right, c == #columns)
    table_of[c], heading[c] = cells, title[1]
  end
  local first = table.concat(heading, GAP)
  lines[1] = style and style(first) or first
  local line = {}
  for r = 1, #rows do
    for c = 1, #columns do line[c] = table_of[c][r] end
    local text = table.concat(line, GAP)
    lines[r + 1] = text:sub(-1) == " " and text:match "^(.-) *$" or text
  end
  return lines
end

return text_table
