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

local function width_of(text)
  return utf8.len(text) or #text
end

local function pad(text, width, right)
  local blanks = (" "):rep(width - width_of(text))
  return right and blanks .. text or text .. blanks
end

-- The cells of all rows as text, and the width of every column.
local function measure(columns, rows)
  local cells, widths = {}, {}
  for c, column in ipairs(columns) do widths[c] = width_of(column.title) end
  for r, row in ipairs(rows) do
    local line = {}
    for c, column in ipairs(columns) do
      local text = text_table.printable(column.text(row))
      line[c] = text
      local width = width_of(text)
      if width > widths[c] then widths[c] = width end
    end
    cells[r] = line
  end
  return cells, widths
end

local function line_of(columns, cells, widths)
  local padded, last = {}, #columns
  for c, column in ipairs(columns) do
    local open_end = c == last and not column.right
    padded[c] = open_end and cells[c] or pad(cells[c], widths[c], column.right)
  end
  return (table.concat(padded, GAP):gsub(" +$", ""))
end

--- Formats a table.
-- @param columns  list of { title =, text = function (row) -> string, right = true for numbers }
-- @param rows     list of anything that the columns' functions take
-- @param style    optional function (heading line) -> heading line, for colours
-- @return a list of lines without line ends, the heading first
function text_table.lines(columns, rows, style)
  local cells, widths = measure(columns, rows)
  local titles = {}
  for c, column in ipairs(columns) do titles[c] = column.title end
  local heading = line_of(columns, titles, widths)
  local lines = { style and style(heading) or heading }
  for r = 1, #rows do lines[r + 1] = line_of(columns, cells[r], widths) end
  return lines
end

return text_table
