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

-- The widths of the columns.
local function widths_of(columns, rows)
  local widths = {}
  for c, column in ipairs(columns) do widths[c] = select(2, text_table.cell(column.title)) end
  for r = 1, #rows do
    local row = rows[r]
    for c, column in ipairs(columns) do
      local _, width = text_table.cell(column.text(row))
      if width > widths[c] then widths[c] = width end
    end
  end
  return widths
end

local function without_blanks(line)
  return line:sub(-1) == " " and line:match "^(.-) *$" or line
end

-- A function (text of each column) -> line.
local function joiner(columns, widths)
  local blanks, cells = {}, {}
  return function(text_of)
    for c, column in ipairs(columns) do
      local text, width = text_table.cell(text_of(column))
      local missing = widths[c] - width
      if not blanks[missing] then blanks[missing] = (" "):rep(missing) end
      cells[c] = column.right and blanks[missing] .. text or text .. blanks[missing]
    end
    return table.concat(cells, GAP)
  end
end

--- Formats a table line by line, the heading first: 100,000 rows are looked at twice rather than
--- kept.
-- @param columns  list of { title =, text = function (row) -> string, right = true for numbers }
-- @param rows     list of anything that the columns' functions take
-- @param style    function (heading line) -> heading line, for colours; or nil
-- @param emit     function (line without line end)
function text_table.write(columns, rows, style, emit)
  local join = joiner(columns, widths_of(columns, rows))
  local first = without_blanks(join(function(column) return column.title end))
  emit(style and style(first) or first)
  for r = 1, #rows do
    local row = rows[r]
    emit(without_blanks(join(function(column) return column.text(row) end)))
  end
end

--- The same as a list of lines.
function text_table.lines(columns, rows, style)
  local lines = {}
  text_table.write(columns, rows, style, function(line) lines[#lines + 1] = line end)
  return lines
end

return text_table
