-- help: what the documentation says about a thing, as text.

local docs = require "rondo.prompt.docs"
local show = require "rondo.prompt.show"
local shown = require "rondo.shown"
local suggest = require "rondo.model.suggest"

local NAMES = 34 -- columns of names; longer ones push their text away

local function first_sentence(text)
  local whole = table.concat(text, " ")
  return (whole:match "^(.-[.:])%s" or whole):gsub("[.:]$", "")
end

local function add_all(lines, more)
  table.move(more, 1, #more, #lines + 1, lines)
end

-- The words of a text behind `first`; further lines begin with `indent`.
local function add_words(lines, first, text, indent, width)
  local line, is_empty = first, true
  for word in text:gmatch "%S+" do
    if not is_empty and #line + 1 + #word > width then
      lines[#lines + 1], line, is_empty = line, indent, true
    end
    line, is_empty = line .. (is_empty and "" or " ") .. word, false
  end
  lines[#lines + 1] = line:match "^(.-)%s*$"
end

local function add_text(lines, text)
  if #text > 0 then add_words(lines, "  ", table.concat(text, " "), "  ", show.width()) end
end

-- Two columns: names, and what they are, over several lines where that is long.
local function add_rows(lines, rows)
  local widest = 0
  for _, row in ipairs(rows) do widest = math.max(widest, #row[1]) end
  widest = math.min(widest, NAMES)
  local width = math.max(show.width(), widest + 34)
  for _, row in ipairs(rows) do
    local first = ("  %-" .. widest .. "s  "):format(row[1])
    add_words(lines, first, row[2], (" "):rep(widest + 4), width)
  end
end

-- What a parameter or field is: its choices, if it has some, and its text.
local function describe(item)
  if item.text == "" then return item.type end
  return item.type:find '"' and item.type .. ": " .. item.text or item.text
end

local function field_rows(class)
  local parent = class.parent and docs.load().classes[class.parent]
  local rows = parent and field_rows(parent) or {}
  for _, field in ipairs(class.fields) do rows[#rows + 1] = { field.name, describe(field) } end
  return rows
end

-- The fields of an options table go below the function that takes it.
local function add_options(lines, params)
  for _, param in ipairs(params) do
    local class = docs.load().classes[param.type]
    if class and param.type:find "options$" then
      lines[#lines + 1] = param.name .. ":"
      add_rows(lines, field_rows(class))
    end
  end
end

local function of_function(entry)
  local lines, rows = { docs.call(entry) }, {}
  add_text(lines, entry.text)
  for _, param in ipairs(entry.params) do
    if not param.type:find "options$" then rows[#rows + 1] = { param.name, describe(param) } end
  end
  for i, result in ipairs(entry.returns) do
    local about = result.name and result.name .. (result.text ~= "" and ", " .. result.text or "")
    local refused = i > 1 and (result.name == "message" or result.name == "code")
    if not refused then rows[#rows + 1] = { i == 1 and "returns" or "", about or result.type } end
  end
  if #rows > 0 then lines[#lines + 1] = "" end
  add_rows(lines, rows)
  add_options(lines, entry.params)
  return lines
end

-- Without "rondo." and, of methods, the name of their class.
local function short(call)
  return (call:gsub("^[%w_.]*:", ":"):gsub("^rondo%.", ""))
end

local function add_functions(lines, wanted)
  local rows = {}
  for _, entry in ipairs(docs.load().functions) do
    if wanted(entry) then
      rows[#rows + 1] = { short(docs.call(entry)), first_sentence(entry.text) }
    end
  end
  add_rows(lines, rows)
end

local function of_class(class)
  local lines = { class.path or class.name }
  add_text(lines, class.text)
  lines[#lines + 1] = ""
  add_rows(lines, field_rows(class))
  add_functions(lines, function(entry)
    return entry.class == class.name
      or class.path and not entry.class and entry.name:match "^(.*)%.[^.]*$" == class.path
  end)
  return lines
end

local function of_value(entry)
  local lines = { ("%s: %s"):format(entry.name, entry.type) }
  add_text(lines, entry.text)
  return lines
end

local function overview()
  local lines = { "help(x) tells about a function, an object or a name: help(open), help(m), "
    .. 'help "tensor:sum".', "" }
  add_functions(lines, function(entry) return not entry.class end)
  lines[#lines + 1] = ""
  lines[#lines + 1] = "Objects: help \"model\", \"layer\", \"tensor\", \"plan\", \"report\", "
    .. "\"comparison\"."
  lines[#lines + 1] = "At the prompt the rondo. in front may be left out; _ is the last result; "
    .. "a line that ends in ;"
  lines[#lines + 1] = "shows nothing; trace() shows where the last error came from."
  return lines
end

-- The lines of a name as people write it: with or without "rondo.", with . or : before methods.
-- "tensor" is a function and a class: both are told.
local function of_name(name)
  local known, lines = docs.load(), {}
  local full = name:find "^rondo%f[^%w_]" and name or "rondo." .. name
  local method = full:gsub("%.([%w_]+)$", ":%1")
  local function add(found, render)
    if not found then return end
    if #lines > 0 then lines[#lines + 1] = "" end
    add_all(lines, render(found))
  end
  add(known.functions[full] or known.functions[method], of_function)
  add(known.values[full], of_value)
  local class = known.classes[full]
  local module = docs.class_at(full)
  add(module, of_class)
  if class ~= module then add(class, of_class) end
  return #lines > 0 and lines or nil
end

-- The lines of the one thing whose name ends in `name`, or the names of several, or nil.
local function of_end(name)
  local known, found = docs.load(), {}
  for _, list in ipairs { known.functions, known.values } do
    for _, entry in ipairs(list) do
      if entry.name:match "[^.:]*$" == name then found[#found + 1] = entry.name end
    end
  end
  if #found < 2 then return found[1] and of_name(found[1]) end
  return { ("'%s' is the end of several names: %s"):format(name, table.concat(found, ", ")) }
end

local function unknown(name)
  local names = {}
  for _, list in pairs(docs.load()) do
    for _, entry in ipairs(list) do names[#names + 1] = entry.name end
  end
  local meant = suggest.name(names, "rondo." .. name, function() return false end)
  return { ("no documentation for '%s'%s"):format(name,
    meant and ("; did you mean '%s'?"):format(meant) or "") }
end

-- The class that a module's table is.
local function class_of_module(value)
  for _, class in ipairs(docs.load().classes) do
    if class.path and rawequal(docs.resolve(class.path), value) then return class end
  end
end

-- What is said of a value that has a name of its own, as rondo.clip.signed has, or nil.
local function of_named_value(what)
  for _, entry in ipairs(docs.load().values) do
    if rawequal(docs.resolve(entry.name), what) then return of_value(entry) end
  end
end

local function lines_for(what)
  if what == nil or what == require "rondo" then return overview() end
  if type(what) == "string" then return of_name(what) or of_end(what) or unknown(what) end
  if type(what) == "function" then
    local entry = docs.of_function(what)
    return entry and of_function(entry) or { docs.signature(what), "  no documentation" }
  end
  local lines = of_named_value(what) or {}
  local class = docs.class_of(what) or class_of_module(what)
  if class then
    if #lines > 0 then lines[#lines + 1] = "" end
    add_all(lines, of_class(class))
  end
  if #lines > 0 then return lines end
  return { ("no documentation for a value of type %s"):format(type(what)) }
end

--- What is known about a thing; see rondo.help.
return function(what)
  return shown(lines_for(what))
end
