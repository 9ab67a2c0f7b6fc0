-- docs: library/rondo.lua, the annotations that editors read, as tables: what help() and completion
-- know. The text is in the module rondo.library, which the build makes.
--
-- docs.load() gives { functions, classes, values }, each by name and as a list in the file's order.
--   function: { name, class = of a method, params, returns, text }
--   class:    { name, parent, text, fields }; a module such as rondo.rtn is one, too
--   value:    { name, type, text }
-- params, returns and fields are lists of { name, optional, type, text }.

local docs = {}

-- ---- Reading ----

local opening = { ["("] = true, ["{"] = true, ["<"] = true, ["["] = true }
local closing = { [")"] = true, ["}"] = true, [">"] = true, ["]"] = true }

-- Cuts "type description": blanks belong to the type within brackets and after a colon or comma.
local function cut_type(text)
  local depth, before = 0, ""
  for i = 1, #text do
    local c = text:sub(i, i)
    if opening[c] then depth = depth + 1 elseif closing[c] then depth = depth - 1 end
    if c == " " and depth == 0 and before ~= ":" and before ~= "," then
      return text:sub(1, i - 1), text:sub(i + 1)
    end
    before = c
  end
  return text, ""
end

local tags = {}

function tags.param(block, rest)
  local name, optional, typed = rest:match "^([%w_.]+)(%??)%s+(.*)$"
  local kind, text = cut_type(typed)
  block.params[#block.params + 1] = { name = name, optional = optional ~= "", type = kind,
                                      text = text }
end

tags["return"] = function(block, rest)
  local kind, rest_text = cut_type(rest)
  local name, text = rest_text:match "^(%S+)%s*(.*)$"
  block.returns[#block.returns + 1] = { name = name, type = kind, text = text or "" }
end

function tags.class(block, rest)
  local name, parent = rest:match "^([%w_.]+):?%s*([%w_.]*)"
  block.class = { name = name, parent = parent ~= "" and parent or nil, fields = {},
                  text = block.text }
  block.text = {}
end

-- Lines between a class and one of its fields belong to the field.
function tags.field(block, rest)
  local name, optional, typed = rest:match "^([%w_]+)(%??)%s+(.*)$"
  local above = table.concat(block.text, " ")
  block.text = {}
  if not name then return end -- [integer] and the like
  local kind, text = cut_type(typed)
  local fields = block.class.fields
  fields[#fields + 1] = { name = name, optional = optional ~= "", type = kind,
                          text = text ~= "" and text or above }
end

function tags.type(block, rest)
  block.type = rest
end

local function new_block()
  return { text = {}, params = {}, returns = {} }
end

local function add(list, entry)
  list[#list + 1] = entry
  list[entry.name] = entry
end

-- What stands below a block of comments: a function, a table, a value. `variables` are the classes
-- of local variables, by name.
local function finish(result, block, line, variables)
  local class = block.class
  local variable = line:match "^local ([%w_]+) = {}"
  local path = line:match "^([%w_.]+) = "
  local name = line:match "^function ([%w_.:]+)%("
  if class then
    class.path = path
    add(result.classes, class)
    if variable then variables[variable] = class.name end
    if variable == "rondo" then class.path = variable end
  elseif name then
    local object, method = name:match "^([%w_]+):(.*)$"
    add(result.functions, { name = object and variables[object] .. ":" .. method or name,
                            class = object and variables[object], params = block.params,
                            returns = block.returns, text = block.text })
  elseif path and block.type then
    add(result.values, { name = path, type = block.type, text = block.text })
  end
end

local function parse(source)
  local result = { functions = {}, classes = {}, values = {} }
  local variables, block = {}, new_block()
  for line in source:gmatch "([^\n]*)\n" do
    local tag, rest = line:match "^%-%-%-@(%w+)%s*(.*)$"
    if tag then
      if tags[tag] then tags[tag](block, rest) end
    elseif line:find "^%-%-%-" then
      block.text[#block.text + 1] = line:sub(4)
    else
      finish(result, block, line, variables)
      block = new_block()
    end
  end
  return result
end

local loaded

--- The documentation; see the head of this file.
function docs.load()
  loaded = loaded or parse(require "rondo.library")
  return loaded
end

-- ---- Finding ----

--- The value of a name such as "rondo.rtn.quant_weight", or nil.
function docs.resolve(name)
  local value = { rondo = require "rondo" }
  for field in name:gmatch "[^.]+" do
    local there, found = pcall(function() return value[field] end)
    if not there or found == nil then return nil end
    value = found
  end
  return value
end

--- The documented class of a value: by the name in its metatable.
function docs.class_of(value)
  local meta = debug.getmetatable(value)
  local name = type(meta) == "table" and rawget(meta, "__name")
  return name and docs.load().classes[name] or nil
end

--- The class that is the module at a path such as "rondo.rtn", or nil.
function docs.class_at(path)
  for _, class in ipairs(docs.load().classes) do
    if class.path == path then return class end
  end
end

--- Calls visit(entry) for the methods of a class, in order.
function docs.each_method(class, visit)
  for _, entry in ipairs(docs.load().functions) do
    if entry.class == class.name then visit(entry) end
  end
end

-- Documented functions by what they are. Those that the prompt wraps are added by docs.alias.
local by_value = setmetatable({}, { __mode = "k" })
local is_filled = false

-- By class, an object or the table of methods, to know methods by value.
local function samples()
  local core, int4 = require "rondo.core", require("rondo").int4
  return {
    ["rondo.tensor"] = core.zeros { 1 }, ["rondo.scheme"] = int4,
    ["rondo.quantized"] = int4:quantize(core.zeros { 1, 1 }),
    ["rondo.model"] = require("rondo.model").wrap({}, {}),
    ["rondo.layer"] = require("rondo.model.layer").new { kind = "other", name = "", shape = {} },
    ["rondo.matcher"] = require("rondo.pattern").compile "x",
    ["rondo.recipe.layer"] = require("rondo.recipe.layer").methods,
    ["rondo.checkpoint"] = debug.getregistry()["rondo.checkpoint"].__index,
  }
end

local function fill()
  is_filled = true
  local objects = samples()
  for _, entry in ipairs(docs.load().functions) do
    local value
    if not entry.class then
      value = docs.resolve(entry.name)
    elseif objects[entry.class] then
      value = objects[entry.class][entry.name:match ":(.*)$"]
    end
    if value ~= nil then by_value[value] = entry end
  end
end

--- The entry of a function, or nil.
function docs.of_function(value)
  if not is_filled then fill() end
  return by_value[value]
end

--- Lets `wrapper` be documented as the function that it wraps.
function docs.alias(wrapper, wrapped)
  by_value[wrapper] = docs.of_function(wrapped)
end

--- "rondo.open(path [, options])".
function docs.call(entry)
  local texts = {}
  for i, param in ipairs(entry.params) do
    local comma = i > 1 and ", " or ""
    texts[i] = param.optional and ("%s[%s%s]"):format(i > 1 and " " or "", comma, param.name)
      or comma .. param.name
  end
  return ("%s(%s)"):format(entry.name, table.concat(texts))
end

--- A function as one line of text.
function docs.signature(value)
  local entry = docs.of_function(value)
  if entry then return "function " .. docs.call(entry) end
  local where = debug.getinfo(value, "S")
  if where.what == "C" then return "function (native)" end
  return ("function (%s:%d)"):format(where.short_src, where.linedefined)
end

return docs
