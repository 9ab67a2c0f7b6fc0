-- text: names and paths in messages. Whatever a file or caller named, the message stays one line
-- of printable UTF-8 of bounded length.

local text = {}

local MAX_SHOWN = 90 -- bytes of a name; messages hold two or three

local function escape(byte)
  return ("\\x%02x"):format(byte:byte())
end

-- The first `limit` bytes of s, not ending inside a character.
local function head(s, limit)
  if #s <= limit then return s end
  while limit > 0 and s:find("^[\x80-\xbf]", limit + 1) do limit = limit - 1 end
  return s:sub(1, limit) .. "..."
end

--- The name as it may stand in a message, without quotes.
function text.show(s, limit)
  s = head(s, limit or MAX_SHOWN)
  if utf8.len(s) and not s:find("\xc2[\x80-\x9f]") then return (s:gsub("%c", escape)) end
  return (s:gsub("[%c\x80-\xff]", escape))
end

--- The name in quotes: 'model.norm.weight'.
function text.quote(s, limit)
  return "'" .. text.show(s, limit) .. "'"
end

--- A value that a file has in the wrong place.
function text.value(value)
  if type(value) == "string" then return text.quote(value) end
  return type(value) == "table" and "a list or object" or tostring(value)
end

--- A path: its end says more than its start.
function text.path(path)
  if #path <= 2 * MAX_SHOWN then return text.show(path, 2 * MAX_SHOWN) end
  local tail = path:sub(-2 * MAX_SHOWN):gsub("^[\x80-\xbf]+", "")
  return "..." .. text.show(tail, 2 * MAX_SHOWN)
end

--- 260032 as "260,032".
function text.thousands(n)
  local digits = ("%d"):format(n)
  local grouped = digits:reverse():gsub("(%d%d%d)", "%1,"):reverse():gsub("^,", "")
  return grouped
end

return text
