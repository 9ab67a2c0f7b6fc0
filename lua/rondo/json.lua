-- json: JSON text to Lua values and back, strictly.
--
-- Reading refuses what RFC 8259 does not allow, and a key twice in one object. Integers from -2^63
-- to 2^63-1 become Lua integers, other numbers floats; null becomes json.null; lists carry a mark
-- (json.array), so that an empty one is written as [] again. Writing is deterministic and refuses
-- NaN, infinity, and strings that are not UTF-8.

local core = require "rondo.core"
local sequence = require "rondo.sequence"

local json = { null = core.json_null }

local MAX_DEPTH = 64
local mark_of = core.json_kind

--- Marks a table as a list (also when it is empty) and returns it; without a table, a new one.
function json.array(list)
  return core.json_mark(list or {}, "array")
end

--- Whether a value carries the mark of a list.
function json.is_array(value)
  return mark_of(value) == "array"
end

--- An object with its members in the order given: json.object { { "key", value }, ... }.
-- Only for writing; the table holds the pairs, not the members.
function json.object(pairs_in_order)
  return core.json_mark(pairs_in_order or {}, "object")
end

--- Reads one JSON value.
-- @param text  the whole text, UTF-8
-- @param options  { nan = true } also takes NaN, Infinity and -Infinity
-- @return the value; or nil, message, code
function json.decode(text, options)
  return core.json_decode(text, options and options.nan or false)
end

-- ---- Writing ----

local write_value -- (out, value, indent, depth); indent nil: all on one line

local function fail(...) error(string.format(...), 0) end

local function quote(text)
  return core.json_quote(text) or fail "a JSON string must be UTF-8"
end

local function real(value)
  local finite = value == value and value ~= math.huge and value ~= -math.huge
  return finite and core.json_real(value) or fail "NaN and infinity have no JSON form"
end

local function break_line(out, indent, depth)
  if indent then out[#out + 1] = "\n" .. (" "):rep(indent * depth) end
end

local function write_members(out, members, indent, depth)
  if #members == 0 then
    out[#out + 1] = "{}"
    return
  end
  local seen = {}
  out[#out + 1] = "{"
  for i, member in ipairs(members) do
    local key, value = member[1], member[2]
    if type(key) ~= "string" then fail("a JSON key must be a string, got a %s", type(key)) end
    if seen[key] then fail("the JSON key '%s' comes twice", key) end
    seen[key] = true
    if i > 1 then out[#out + 1] = "," end
    break_line(out, indent, depth + 1)
    out[#out + 1] = quote(key)
    out[#out + 1] = indent and ": " or ":"
    write_value(out, value, indent, depth + 1)
  end
  break_line(out, indent, depth)
  out[#out + 1] = "}"
end

local function write_list(out, list, count, indent, depth)
  if count == 0 then
    out[#out + 1] = "[]"
    return
  end
  out[#out + 1] = "["
  for i = 1, count do
    if i > 1 then out[#out + 1] = "," end
    break_line(out, indent, depth + 1)
    write_value(out, list[i], indent, depth + 1)
  end
  break_line(out, indent, depth)
  out[#out + 1] = "]"
end

-- The number of elements when all keys are 1..n, else nil.
local function list_length(value)
  if sequence.is(value) then return #value end
  local count = 0
  for key in next, value do
    if math.type(key) ~= "integer" then return nil end
    count = count + 1
  end
  for i = 1, count do
    if rawget(value, i) == nil then return nil end
  end
  return count
end

local function sorted_members(value)
  local members = {}
  for key, item in next, value do
    if type(key) ~= "string" then
      fail("a table with the key %s is neither a JSON list nor a JSON object", tostring(key))
    end
    members[#members + 1] = { key, item }
  end
  table.sort(members, function(a, b) return a[1] < b[1] end)
  return members
end

local function write_table(out, value, indent, depth)
  if depth >= MAX_DEPTH then fail("JSON nested deeper than %d levels, or a cycle", MAX_DEPTH) end
  local mark = sequence.is(value) and "array" or mark_of(value)
  if mark == "object" then return write_members(out, value, indent, depth) end
  local count = list_length(value)
  if mark == "array" and not count then fail("a JSON list with holes or with other keys") end
  if count and (count > 0 or mark == "array") then
    return write_list(out, value, count, indent, depth)
  end
  write_members(out, sorted_members(value), indent, depth)
end

function write_value(out, value, indent, depth)
  local kind = type(value)
  if value == json.null then
    out[#out + 1] = "null"
  elseif kind == "table" then
    write_table(out, value, indent, depth)
  elseif kind == "string" then
    out[#out + 1] = quote(value)
  elseif math.type(value) == "integer" then
    out[#out + 1] = ("%d"):format(value)
  elseif kind == "number" then
    out[#out + 1] = real(value)
  elseif kind == "boolean" then
    out[#out + 1] = tostring(value)
  else
    fail("a %s has no JSON form", kind)
  end
end

--- Writes a value as JSON.
-- Lists are tables with the keys 1..n, or marked ones; other tables are objects, written in the
-- bytewise order of their keys, or in the order of json.object. Floats are written with the fewest
-- digits that read back exactly and always with a point or an exponent.
-- @param options  { indent = 2 } for one member a line; one line otherwise
-- @return the text; raises for what JSON cannot hold
function json.encode(value, options)
  local out = {}
  local done, message = pcall(write_value, out, value, options and options.indent, 0)
  if not done then error(message, 2) end
  return table.concat(out)
end

--- A writer of objects with the same keys, for lists of 100,000 of them.
-- @param names  the keys in order; a member that is nil is written as null
-- @return a function (table) -> its JSON text on one line, as json.encode would give it
function json.encoder(names)
  local keys, parts, last, last_text = {}, {}, nil, nil
  for i, name in ipairs(names) do keys[i] = (i > 1 and "," or "{") .. quote(name) .. ":" end
  local function text_of(value)
    if value == nil then return "null" end
    if type(value) == "string" then return quote(value) end
    if math.type(value) == "integer" then return ("%d"):format(value) end
    if type(value) ~= "table" then return json.encode(value) end
    if value ~= last then last, last_text = value, json.encode(value) end -- they share shapes
    return last_text
  end
  return function(fields)
    for i, name in ipairs(names) do
      parts[2 * i - 1], parts[2 * i] = keys[i], text_of(fields[name])
    end
    parts[2 * #names + 1] = "}"
    return table.concat(parts)
  end
end

-- ---- Changing one member of a text ----

-- The end of text that pattern (anchored with ^, for the reversed text) matches. Searching with $
-- would take quadratic time on long white space.
local function trailing(text, pattern)
  return text:reverse():match(pattern):reverse()
end

-- The white space before a member's key, and what stands between key and value, in the style of
-- the object's last member.
local function style(text, first, last_key, last_value)
  if not last_key then return "", ": " end
  local space = trailing(text:sub(first + 1, last_key - 1), "^[ \t\r\n]*")
  local colon = trailing(text:sub(last_key, last_value - 1), "^[ \t\r\n]*:[ \t\r\n]*")
  return space, colon
end

local function value_text(value, margin)
  if type(value) ~= "string" then
    value = json.encode(value, { indent = margin and math.max(#margin, 1) or nil })
  else
    local known, message = core.json_decode(value, true)
    if known == nil and message then error("splice: the new value is " .. message, 3) end
  end
  return (value:gsub("\n", "\n" .. (margin or "")))
end

-- Cuts a member out, with the comma that divides it from the one before or after it.
local function remove(text, key, value_end)
  local before = text:sub(1, key - 1)
  before = before:sub(1, #before - #trailing(before, "^[ \t\r\n]*"))
  local after = text:sub(value_end + 1)
  if before:sub(-1) == "," then return before:sub(1, -2) .. after end
  local rest = after:match "^[ \t\r\n]*,[ \t\r\n]*(.*)$"
  if rest then return text:sub(1, key - 1) .. rest end
  return before .. after:gsub("^[ \t\r\n]+", "", 1)
end

--- Where a member's value stands in the object that a JSON text is, or would if it were added: for
--- values that are too long for json.splice.
-- @return the text before the value, the text behind it, and the member's indentation, nil where
--   members share a line; or nil, message, code when text is not a JSON object
function json.place(text, key)
  local first, found_key, found, found_end, last_key, last, last_end =
    core.json_members(text, key)
  if not first then return nil, found_key, found end
  local space, colon = style(text, first, last_key, last)
  local margin = space:find("\n", 1, true) and trailing(space, "^[^\n]*") or nil
  if found then return text:sub(1, found - 1), text:sub(found_end + 1), margin end
  local at = last_end or first
  return text:sub(1, at) .. (last_key and "," or "") .. space .. core.json_quote(key) .. colon,
    text:sub(at + 1), margin
end

--- Replaces one member of the object that a JSON text is; every other byte stays.
-- @param text  an object; NaN and Infinity in it are let pass
-- @param key  of the member; when there is none it is added at the end, in the text's own style
-- @param value  JSON text, or any other value json.encode takes (a string is always JSON text);
--   lines after its first are indented as far as the member is. nil takes the member out
-- @return the new text; or nil, message, code when text is not a JSON object
function json.splice(text, key, value)
  if value == nil then
    local first, found_key, found, found_end = core.json_members(text, key)
    if not first then return nil, found_key, found end
    return found and remove(text, found_key, found_end) or text
  end
  local before, behind, margin = json.place(text, key)
  if not before then return nil, behind, margin end
  return before .. value_text(value, margin) .. behind
end

return json
