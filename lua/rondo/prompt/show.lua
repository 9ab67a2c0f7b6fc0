-- show: any value as text for people. Values that print themselves are asked to; tables are shown
-- by what they hold, lists of records as columns. What is long or deep is cut, and says so.
-- Values may come from files that nobody vouches for: control characters are shown as escapes.

local core = require "rondo.core"
local text_table = require "rondo.text_table"

local DEPTH = 2 -- tables within tables that are shown with an entry on each line
local ENTRIES = 40 -- of a table with an entry on each line
local ITEMS = 100 -- of a list of numbers and the like
local RECORDS = 20 -- rows of columns
local STRING = 2000 -- bytes of a string

local INDENT = "  "

-- ---- Values on one line ----

local escapes = { ["\n"] = "\\n", ["\t"] = "\\t", ["\r"] = "\\r", ['"'] = '\\"', ["\\"] = "\\\\" }

local function quoted(text)
  return '"' .. text_table.printable(text:sub(1, STRING + 1):gsub('[\n\t\r"\\]', escapes), STRING)
    .. '"'
end

local function prints_itself(value)
  local meta = debug.getmetatable(value)
  return type(meta) == "table" and rawget(meta, "__tostring") ~= nil
end

local function is_plain_table(value)
  return type(value) == "table" and not prints_itself(value)
end

-- Anything but a plain table.
local function scalar(value)
  if type(value) == "string" then return quoted(value) end
  if type(value) == "function" then return require("rondo.prompt.docs").signature(value) end
  if value == core.json_null then return "null" end
  return tostring(value)
end

local function key_text(key)
  if type(key) == "string" and key:find "^[%a_][%w_]*$" then return key end
  return "[" .. scalar(key) .. "]"
end

-- Booleans, numbers, strings, the rest.
local function key_before(a, b)
  if type(a) ~= type(b) then return type(a) < type(b) end
  if type(a) == "number" or type(a) == "string" then return a < b end
  return tostring(a) < tostring(b)
end

-- The number of items of a table's list, and its other keys in order.
local function parts(value)
  local length, keys = #value, {}
  for key in pairs(value) do
    if not (math.type(key) == "integer" and key >= 1 and key <= length) then
      keys[#keys + 1] = key
    end
  end
  table.sort(keys, key_before)
  return length, keys
end

-- The table on one line, or nil where it does not fit into `room` columns.
local function inline(value, room, nested)
  local length, keys = parts(value)
  if length + #keys == 0 then return "{}" end
  if length + #keys > room // 3 then return nil end
  local items = {}
  local function add(prefix, item)
    local shown
    if is_plain_table(item) then
      shown = not nested and inline(item, room, true) or nil
    else
      shown = scalar(item)
    end
    room = room - #prefix - (shown and utf8.len(shown) or room) - 2
    items[#items + 1] = prefix .. (shown or "")
    return shown and room >= 2 and not shown:find "\n"
  end
  for i = 1, length do
    if not add("", value[i]) then return nil end
  end
  for _, key in ipairs(keys) do
    if not add(key_text(key) .. " = ", value[key]) then return nil end
  end
  return "{ " .. table.concat(items, ", ") .. " }"
end

-- ---- Lists of records ----

-- What a cell shows, or nil for what has no place in one.
local function cell(value)
  if value == nil then return "" end
  if type(value) == "string" then return value end
  if math.type(value) == "float" then return ("%.5g"):format(value) end
  if type(value) == "table" and not prints_itself(value) then return inline(value, 30) end
  if type(value) == "function" then return nil end
  return (tostring(value):match "^[^\n]*")
end

-- The fields that columns are made of: those whose values fit into cells, `name` first.
local function columns_of(list, count)
  local fits, names = {}, {}
  for i = 1, count do
    for key, value in pairs(list[i]) do
      if type(key) == "string" then
        if fits[key] == nil then fits[key], names[#names + 1] = true, key end
        fits[key] = fits[key] and cell(value) ~= nil
      end
    end
  end
  table.sort(names, function(a, b)
    if (a == "name") ~= (b == "name") then return a == "name" end
    return a < b
  end)
  return names, fits
end

local function is_records(list, count)
  for i = 1, count do
    if not is_plain_table(list[i]) or #list[i] > 0 or next(list[i]) == nil then return false end
  end
  return count > 1
end

local function make_column(name, shown)
  local right = true
  for _, record in ipairs(shown) do
    if record[name] ~= nil and not math.type(record[name]) then right = false end
  end
  return { title = name, right = right, text = function(record) return cell(record[name]) end }
end

-- A list of records as columns, as many as fit; nil where it is none.
local function records(list, width)
  local count = math.min(#list, RECORDS)
  local length, keys = parts(list)
  if #keys > 0 or not is_records(list, count) then return nil end
  local shown, columns, left = table.move(list, 1, count, 1, {}), {}, {}
  local names, fits = columns_of(list, count)
  local room = width
  for _, name in ipairs(names) do
    local column = make_column(name, shown)
    local needed = fits[name] and utf8.len(text_table.lines({ column }, {})[1]) or math.huge
    if fits[name] then
      for _, record in ipairs(shown) do
        needed = math.max(needed, utf8.len(column.text(record)) or math.huge)
      end
    end
    if needed <= room then
      columns[#columns + 1], room = column, room - needed - 2
    else
      left[#left + 1] = name
    end
  end
  if #columns == 0 then return nil end
  local lines = text_table.lines(columns, shown)
  if length > count then lines[#lines + 1] = ("... %d more"):format(length - count) end
  if #left > 0 then lines[#lines + 1] = "(also: " .. table.concat(left, ", ") .. ")" end
  return lines
end

-- ---- Tables over several lines ----

local function summary(length, keys)
  return ("{ %s }"):format(text_table.count(length + #keys, "value"))
end

-- A list of scalars, as many on a line as fit.
local function filled(list, length, indent, width)
  local lines, line = {}, indent
  for i = 1, math.min(length, ITEMS) do
    local item = scalar(list[i]) .. (i < length and "," or "")
    if #line > #indent and #line + #item + 1 > width then
      lines[#lines + 1], line = line, indent
    end
    line = line .. (#line > #indent and " " or "") .. item
  end
  lines[#lines + 1] = line
  if length > ITEMS then lines[#lines + 1] = ("%s... %d more"):format(indent, length - ITEMS) end
  return lines
end

local function has_tables(list, length)
  for i = 1, math.min(length, ITEMS) do
    if is_plain_table(list[i]) then return true end
  end
  return false
end

local lines_of -- of a plain table, from its "{" to its "}"

-- A value behind `prefix`, over as many lines as it takes.
local function add_entry(lines, prefix, value, indent, width, depth, within)
  if not is_plain_table(value) then
    lines[#lines + 1] = prefix .. scalar(value):gsub("\n", "\n" .. indent .. INDENT)
    return
  end
  local flat = inline(value, width - utf8.len(prefix))
  local deep = depth >= DEPTH or within[value] or #value > 0
  if flat or deep then
    lines[#lines + 1] = prefix .. (flat or within[value] and "{ (again) }" or summary(parts(value)))
    return
  end
  local nested = lines_of(value, indent, width, depth + 1, within)
  lines[#lines + 1] = prefix .. nested[1]
  table.move(nested, 2, #nested, #lines + 1, lines)
end

local function add_entries(lines, value, indent, width, depth, within)
  local length, keys = parts(value)
  if length > 0 and not has_tables(value, length) then
    table.move(filled(value, length, indent, width), 1, ITEMS, #lines + 1, lines)
  else
    for i = 1, math.min(length, ENTRIES) do
      add_entry(lines, indent, value[i], indent, width, depth, within)
    end
    if length > ENTRIES then
      lines[#lines + 1] = ("%s... %d more"):format(indent, length - ENTRIES)
    end
  end
  for i = 1, math.min(#keys, ENTRIES) do
    add_entry(lines, indent .. key_text(keys[i]) .. " = ", value[keys[i]], indent, width, depth,
      within)
  end
  if #keys > ENTRIES then
    lines[#lines + 1] = ("%s... %d more"):format(indent, #keys - ENTRIES)
  end
end

function lines_of(value, indent, width, depth, within)
  local lines = { "{" }
  within[value] = true
  add_entries(lines, value, indent .. INDENT, width, depth, within)
  within[value] = nil
  lines[#lines + 1] = indent .. "}"
  return lines
end

-- ---- The whole ----

local show = {}

--- Columns of the terminal that stdout is; 80 where it is none.
function show.width()
  local _, columns = core.isatty(1)
  return columns or 80
end

--- A value as text, over several lines where it needs them.
-- @param width  columns; those of the terminal where it is absent
function show.text(value, width)
  width = width or show.width()
  if not is_plain_table(value) then return scalar(value) end
  local flat = inline(value, width)
  if flat then return flat end
  return table.concat(records(value, width) or lines_of(value, "", width, 0, {}), "\n")
end

return show
