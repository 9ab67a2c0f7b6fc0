-- complete: what may follow what has been typed. In a string these are names of tensors, where the
-- string indexes a model or is handed to one of its methods, else names of files; elsewhere fields,
-- methods, globals and keywords. Nothing is called to find out: values are looked up by name.

local docs = require "rondo.prompt.docs"
local lfs = require "lfs"

local complete = {}

local keywords = { "and", "break", "do", "else", "elseif", "end", "false", "for", "function",
                   "goto", "if", "in", "local", "nil", "not", "or", "repeat", "return", "then",
                   "true", "until", "while" }

-- Methods of models that take a name.
local takes_name = { tensor = true, has = true, info = true, layer = true, tied_to = true }

-- ---- Where the cursor is ----

-- Where the string that begins at `at` ends, or nil.
local function closing_quote(text, at, mark)
  local i = at + 1
  while i <= #text do
    local c = text:sub(i, i)
    if c == mark then return i end
    i = i + (c == "\\" and 2 or 1)
  end
end

-- The place of the last byte of what opens the string that text ends in, and what closes it; nil
-- outside of strings; false in a comment.
local function open_string(text)
  local i = 1
  while true do
    local at = text:find("[\"'%[%-]", i)
    if not at then return nil end
    local mark, level = text:sub(at, at), text:match("^%[(=*)%[", at)
    local close = at
    if text:find("^%-%-", at) then
      return false
    elseif level then
      mark = "]" .. level .. "]"
      close = select(2, text:find(mark, at, true))
      if not close then return at + #level + 1, mark end
    elseif mark == '"' or mark == "'" then
      close = closing_quote(text, at, mark)
      if not close then return at, mark end
    end
    i = close + 1
  end
end

-- A field that is there without calling anything of the user's; models and rondo itself answer by
-- functions of their own, which may be asked.
local function field(value, name)
  local class = docs.class_of(value)
  if type(value) == "table" and not class then
    local found = rawget(value, name)
    if found ~= nil or value ~= require "rondo" then return found end
  elseif type(value) == "string" then
    return string[name]
  elseif not class then
    return nil
  end
  local there, found = pcall(function() return value[name] end)
  return there and found or nil
end

-- The value of "a.b.c" or a["b"][1], or nil.
local function value_of(path, env)
  local first, rest = path:match "^([%a_][%w_]*)(.*)$"
  if not first then return nil end
  local value = env[first]
  while value ~= nil and rest ~= "" do
    local name, after = rest:match "^%.([%a_][%w_]*)(.*)$"
    if not name then name, after = rest:match "^%[\"([^\"]*)\"%](.*)$" end
    if not name then name, after = rest:match "^%['([^']*)'%](.*)$" end
    if not name then
      name, after = rest:match "^%[(%d+)%](.*)$"
      name = math.tointeger(name)
    end
    if not name then return nil end
    value, rest = field(value, name), after
  end
  return value
end

-- The chain of names, indices and dots that text ends in.
local function chain_at_end(text)
  local start = #text + 1
  while true do
    local before = text:sub(1, start - 1)
    local at = before:match "()[%w_]+$" or before:match "()%[\"[^\"]*\"%]$"
      or before:match "()%['[^']*'%]$" or before:match "()%[%d+%]$" or before:match "()%.$"
    if not at then break end
    start = at
  end
  return text:sub(start)
end

-- ---- What there is ----

local function add_matching(list, names, prefix)
  for _, name in ipairs(names) do
    if name:sub(1, #prefix) == prefix then list[#list + 1] = name end
  end
end

-- The classes of a value's class, itself first.
local function lineage(class)
  local list = {}
  while class do
    list[#list + 1] = class
    class = class.parent and docs.load().classes[class.parent]
  end
  return list
end

local function add_string_keys(names, value)
  for key in next, value do
    if type(key) == "string" and key:find "^[%a_][%w_]*$" then names[#names + 1] = key end
  end
end

-- The fields of rondo and of its modules, those not loaded yet included.
local function add_documented(names, value)
  local modules = value == require "rondo" and "rondo"
  for _, class in ipairs(docs.load().classes) do
    if class.path and class.path ~= "rondo" and rawequal(package.loaded[class.path], value) then
      modules = class.path
    end
  end
  if not modules then return end
  local known = docs.load()
  for _, list in ipairs { known.functions, known.classes, known.values } do
    for _, entry in ipairs(list) do
      local parent, name = (entry.path or entry.name):match "^(.*)%.([%w_]+)$"
      local public = list ~= known.classes or entry.path
      if public and not entry.class and parent == modules then names[#names + 1] = name end
    end
  end
end

-- Names of fields (".") or methods (":") of a value.
local function members(value, mark)
  local names = {}
  if type(value) == "string" and mark == ":" then add_string_keys(names, string) end
  for _, class in ipairs(lineage(docs.class_of(value))) do
    if mark == "." then
      for _, entry in ipairs(class.fields) do names[#names + 1] = entry.name end
    end
    docs.each_method(class, function(entry) names[#names + 1] = entry.name:match ":(.*)$" end)
  end
  if type(value) == "table" and not docs.class_of(value) then
    add_string_keys(names, value)
    add_documented(names, value)
  end
  return names
end

local function globals(own)
  local names = table.move(keywords, 1, #keywords, 1, {})
  add_string_keys(names, _G)
  add_string_keys(names, own)
  add_documented(names, require "rondo")
  return names
end

-- Names up to the dot after `prefix`; in full where no other goes on like that.
local function next_segments(names, prefix)
  local stems, whole = {}, {}
  for _, name in ipairs(names) do
    local stem = prefix .. name:match("^%.?[^.]*%.?", #prefix + 1)
    if whole[stem] == nil then stems[#stems + 1] = stem end
    whole[stem] = whole[stem] == nil and name or false
  end
  if #stems == 1 and not whole[stems[1]] then return next_segments(names, stems[1]) end
  for i, stem in ipairs(stems) do stems[i] = whole[stem] or stem end
  return stems
end

-- Names of tensors, or paths of layers, that begin with prefix; where there are none, the ends of
-- names that do.
local function tensor_names(model, prefix, layers)
  local found, ends = {}, {}
  for _, full in ipairs(model.names) do
    local name = layers and full:gsub("%.weight$", "") or full
    local at = name:find("." .. prefix, 1, true)
    if name:sub(1, #prefix) == prefix then
      found[#found + 1] = name
    elseif at then
      ends[#ends + 1] = name:sub(at + 1)
    end
  end
  return next_segments(#found > 0 and found or ends, prefix)
end

local function is_model(value)
  local class = docs.class_of(value)
  return class ~= nil and class.name == "rondo.model"
end

-- Files whose path begins with prefix; folders end in a slash.
local function file_names(prefix)
  local folder, start = prefix:match "^(.*/)([^/]*)$"
  local shown = folder or ""
  local real = shown:gsub("^~", os.getenv "HOME" or "~")
  start = start or prefix
  local found = {}
  local good, iterate, state = pcall(lfs.dir, folder and real or ".")
  if not good then return found end
  for name in iterate, state do
    local hidden = name:sub(1, 1) == "." and start:sub(1, 1) ~= "."
    if name ~= "." and name ~= ".." and not hidden and name:sub(1, #start) == start then
      local mode = lfs.attributes(real .. name, "mode")
      found[#found + 1] = shown .. name .. (mode == "directory" and "/" or "")
    end
  end
  return found
end

-- ---- Choosing ----

-- In a string that begins at `quote`.
local function in_string(text, quote, mark, env)
  local before, prefix = text:sub(1, quote - 1), text:sub(quote + 1)
  before = before:gsub("%[=*$", mark:sub(1, 1) == "]" and "" or "%0")
  local index = before:match "^(.*)%[%s*$"
  local owner, method = before:match "^(.*):([%a_]+)%s*%(?%s*$"
  local base = index or takes_name[method] and owner
  local value = base and value_of(chain_at_end(base), env)
  if not is_model(value) then return quote + 1, file_names(prefix), mark end
  return quote + 1, tensor_names(value, prefix, method == "layer"), mark, index and "]" or ""
end

-- After m. where m is a model: its tensors, too, as m["name"].
local function add_tensors(list, value, base, prefix)
  if prefix == "" then return end
  for _, full in ipairs(value.names) do
    if full:sub(1, #prefix) == prefix or full:find("." .. prefix, 1, true) then
      list[#list + 1] = ('%s["%s"]'):format(base, full)
    end
  end
end

local function in_code(text, env, own)
  local prefix = text:match "[%a_]?[%w_]*$"
  local start = #text - #prefix + 1
  local mark = text:sub(start - 1, start - 1)
  local found = {}
  if mark ~= "." and mark ~= ":" then
    if prefix ~= "" then add_matching(found, globals(own), prefix) end
    return start, found
  end
  local base = chain_at_end(text:sub(1, start - 2))
  local value = value_of(base, env)
  if value == nil then return start, found end
  add_matching(found, members(value, mark), prefix)
  if mark == "." and #found == 0 and is_model(value) then
    add_tensors(found, value, base, prefix)
    return start - 1 - #base, found
  end
  return start, found
end

-- The longest text that all begin with.
local function common(list)
  local shared = list[1] or ""
  for _, text in ipairs(list) do
    while text:sub(1, #shared) ~= shared do shared = shared:sub(1, -2) end
  end
  while not utf8.len(shared) and #shared > 0 do shared = shared:sub(1, -2) end
  return shared
end

local function unique(list)
  table.sort(list)
  local kept = {}
  for _, text in ipairs(list) do
    if text ~= kept[#kept] then kept[#kept + 1] = text end
  end
  return kept
end

--- What may stand before the cursor.
-- @param text  the input up to the cursor
-- @param env   the globals of the prompt
-- @param own   those of them that are neither Lua's nor rondo's
-- @return start (from where text is to be replaced), replacement (what all candidates begin with,
--         or the only one with what closes its string), and the sorted list of candidates
function complete.at_end(text, env, own)
  local quote, mark = open_string(text)
  if quote == false then return #text + 1, "", {} end
  local start, found, closing, after
  if quote then
    start, found, closing, after = in_string(text, quote, mark, env)
  else
    start, found = in_code(text, env, own)
  end
  found = unique(found)
  local replacement = common(found)
  local is_whole = #found == 1 and closing and not found[1]:find "[./]$"
  if is_whole then replacement = replacement .. closing .. (after or "") end
  return start, #found > 0 and replacement or text:sub(start), found
end

--- Candidates in columns.
-- @return a list of lines
function complete.columns(found, width)
  local widest, shown = 1, {}
  for i, text in ipairs(found) do
    shown[i] = require("rondo.text_table").printable(text)
    widest = math.max(widest, #shown[i])
  end
  local across = math.max(1, (width + 2) // (widest + 2))
  local down = (#found + across - 1) // across
  local lines = {}
  for row = 1, down do
    local cells = {}
    for i = row, #found, down do cells[#cells + 1] = ("%-" .. widest .. "s"):format(shown[i]) end
    lines[row] = table.concat(cells, "  "):match "^(.-)%s*$"
  end
  return lines
end

return complete
