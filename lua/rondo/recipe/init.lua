-- recipe: what becomes of every tensor of a model, as a value that a file returns:
--
--   return rondo.recipe {
--     name = "w4",
--     { "*norm.weight", rondo.keep },               -- a pattern (rondo.pattern) and a scheme
--     { function(layer) return layer.kind == "head" end, rondo.int8 },
--     { "*_proj.weight", rondo.int4, name = "body" }, -- name: how a plan calls the rule
--     otherwise = rondo.keep,
--   }
--
-- The first rule that matches a tensor decides. A rule is one of
--   { pattern, scheme }    the pattern is laid on the tensor's name
--   { function, scheme }   function (layer) -> true where it matches; layer: rondo.recipe.layer
--   either with fixed = true   a policy leaves the layers that it decides as they are
--   function               function (layer) -> scheme, or nil to leave it to the next rule
--   a recipe               its rules stand in this place; what it says besides holds where this
--                          recipe does not say it
-- Functions are asked once for all tensors of like names, unless they look at a name, a depth or
-- weights, and must answer the same whenever they are asked.
--
-- Fields besides:
--   name        for messages and reports
--   otherwise   the scheme of tensors that no rule matches; without it they are an error
--   fallback    the scheme, or list of schemes of which the first that can be stored is taken, of
--               layers whose own the output's format has no place for; without it they are an
--               error. Names will do: "int8,keep"
--   transform   what is done to the tensors before: a list of functions (name, tensor) -> tensor or
--               nil, or of { function, by = "rows", name = "halve" }; see model:map
--   policy      function (plan): chooses schemes knowing all layers; see rondo.policy
--   revise      function (scheme, layer) -> scheme or nil: has the last word on a layer that is
--               quantized, and may look at its weight
--   fused       false: layers that engines fuse (q, k, v; gate, up; experts, in formats with a
--               layer for each) may have different schemes, scales and fallbacks
--   options     what may be told from outside, described as in rondo.options; then rules is a
--               function (values) -> a table of rules and of all fields but name and options
-- A recipe with options is called with them: recipe { bits = 3 }.

local options = require "rondo.options"
local pattern = require "rondo.pattern"
local scheme_of = require "rondo.scheme"

local recipe = {}

local hidden = setmetatable({}, { __mode = "k" })
local Recipe = { __name = "rondo.recipe", __metatable = "locked" }

--- Whether a value is a recipe.
function recipe.is(value)
  return type(value) == "table" and hidden[value] ~= nil
end

-- ---- Rules ----

-- Numbers of layers are not known yet: first and last may stand for anything.
local ANY_DEPTH = { first = 0, last = 0 }

-- item: the rule, which is told by its pattern where it has one.
local function rule_error(where, i, item, text)
  local condition = type(item) == "table" and rawget(item, 1)
  local said = type(condition) == "string" and (" ('%s')"):format(condition) or ""
  error(("%s: rule %d%s: %s"):format(where, i, said, text), 0)
end

-- "function at file.lua:12"
local function place_of(f)
  local info = debug.getinfo(f, "S")
  return ("function at %s:%d"):format(info.short_src:match "[^/]*$", info.linedefined)
end

local function check_pattern(where, i, text)
  local good, message = pcall(pattern.compile, text, ANY_DEPTH)
  if not good then rule_error(where, i, nil, (tostring(message):gsub("^[^:]*:%d+: ", ""))) end
end

local function check_fields(where, i, item)
  for key in pairs(item) do
    if key ~= 1 and key ~= 2 and key ~= "name" and key ~= "fixed" then
      rule_error(where, i, item, ("unknown field '%s' (known: fixed, name)"):format(tostring(key)))
    end
  end
  if item.fixed ~= nil and type(item.fixed) ~= "boolean" then
    rule_error(where, i, item, "fixed must be true or false, not a " .. type(item.fixed))
  end
  if item.name ~= nil and type(item.name) ~= "string" then
    rule_error(where, i, item, "name must be a string, not a " .. type(item.name))
  end
end

local function read_rule(where, i, item)
  if type(item) == "function" then return { decide = item, text = place_of(item) } end
  if type(item) ~= "table" then
    rule_error(where, i, item, "{ pattern, scheme }, a function or a recipe is expected, not a "
      .. type(item))
  end
  check_fields(where, i, item)
  local condition, scheme = item[1], item[2]
  if not scheme_of.is(scheme) then
    rule_error(where, i, item, "a scheme is expected behind the pattern (rondo.int4, rondo.keep), "
      .. "not a " .. type(scheme))
  end
  local tail = item.fixed and " (fixed)" or ""
  if type(condition) == "function" then
    return { test = condition, scheme = scheme, fixed = item.fixed,
             text = (item.name or place_of(condition)) .. tail }
  elseif type(condition) ~= "string" then
    rule_error(where, i, item, "a pattern or a function is expected, not a " .. type(condition))
  end
  check_pattern(where, i, condition)
  return { pattern = condition, scheme = scheme, fixed = item.fixed,
           text = (item.name or condition) .. tail }
end

-- ---- What a recipe says ----

local function is_callable(value)
  return type(value) == "function" and value or nil
end

-- A list of { function, options of model:map }.
local function check_transform(value)
  if type(value) ~= "table" or #value == 0 then return nil end
  local list = {}
  for i, item in ipairs(value) do
    local f, given = item, nil
    if type(item) == "table" then f, given = item[1], { by = item.by, name = item.name } end
    if type(f) ~= "function" then return nil end
    list[i] = { f, given or {} }
  end
  return list
end

recipe.fallback_says = "a scheme, a list of schemes, or names of schemes (\"int8,keep\"); keep, "
  .. "which always fits, stands at the end alone"

-- "int8,keep" as a list of schemes, with false for names that are none's.
local function named_schemes(text)
  local list = {}
  for name in (text .. ","):gmatch "%s*([^,]-)%s*," do
    list[#list + 1] = scheme_of.ready[name] or false
  end
  return list
end

--- A list of schemes from what is given as fallback; nil for what is none.
function recipe.fallback(value)
  if type(value) == "string" then value = named_schemes(value) end
  if scheme_of.is(value) then return { value } end
  if type(value) ~= "table" or #value == 0 then return nil end
  for i, scheme in ipairs(value) do
    if not scheme_of.is(scheme) or scheme.type == "keep" and i < #value then return nil end
  end
  return value
end

local said = {
  fallback = { kind = "custom", says = recipe.fallback_says, check = recipe.fallback },
  otherwise = { kind = "custom", says = "a scheme",
                check = function(value) return scheme_of.is(value) and value or nil end },
  transform = { kind = "custom", says = "a list of functions or { function, by = \"rows\" }",
                check = check_transform },
  policy = { kind = "custom", says = "a function", check = is_callable },
  revise = { kind = "custom", says = "a function", check = is_callable },
  fused = { kind = "boolean" },
}

local head = { name = { kind = "string" }, options = { kind = "table" },
               rules = { kind = "custom", says = "a function", check = is_callable } }

-- Splits a table into its list of rules, of n, and its named fields. A rule that is nil (a variable
-- that nobody has set) must not hide those behind it.
local function split(given)
  local list, fields = { n = 0 }, {}
  for key, value in pairs(given) do
    local is_rule = math.type(key) == "integer" and key > 0
    if is_rule then list[key], list.n = value, math.max(list.n, key) else fields[key] = value end
  end
  return list, fields
end

-- { rules, otherwise, transform, policy, revise, fused } of a list of rules and named fields.
local function read_body(where, list, fields)
  local body, rules = options.check(where, fields, said, -1), {}
  for i, step in ipairs(body.transform or {}) do
    step[2].name = ("%s: %s"):format(where, step[2].name or "transform " .. i)
  end
  for i = 1, list.n do
    local item = list[i]
    if recipe.is(item) then
      local inner = recipe.body(item)
      table.move(inner.rules, 1, #inner.rules, #rules + 1, rules)
      for name in pairs(said) do
        if body[name] == nil then body[name] = inner[name] end
      end
    else
      rules[#rules + 1] = read_rule(where, i, item)
    end
  end
  body.rules = rules
  return body
end

local function where_of(name)
  return name and ("recipe '%s'"):format(name) or "recipe"
end

-- Calls f; errors in what it was given point at that level.
local function raised_at(level, f, ...)
  local good, result = pcall(f, ...)
  if not good then error(result, type(result) == "string" and level + 1 or 0) end
  return result
end

local function make(about)
  local self = {}
  hidden[self] = about
  return setmetatable(self, Recipe)
end

--- Makes a recipe; see the head of this file.
function recipe.new(given, level)
  level = (level or 1) + 1
  if type(given) ~= "table" then
    error("recipe: a table of rules is expected, not a " .. type(given), level)
  end
  local list, fields = split(given)
  local about = {}
  for name, rule in pairs(head) do
    if fields[name] ~= nil then
      about[name] = options.value("recipe", name, rule, fields[name], level)
      fields[name] = nil
    end
  end
  if (about.options == nil) ~= (about.rules == nil) then
    error("recipe: options and rules belong together: rules = function (options) ... end", level)
  elseif about.rules and (next(fields) or list.n > 0) then
    error("recipe: with options, all but the name is what the function rules returns", level)
  end
  about.where = where_of(about.name)
  if about.options then options.check_description(about.where, about.options, level) end
  if not about.rules then
    about.body = raised_at(level, read_body, about.where, list, fields)
  end
  return make(about)
end

--- What a recipe comes to: { rules, otherwise, transform, policy, revise, fused }.
function recipe.body(self)
  local about = hidden[self]
  if not about.body then
    about.values = options.check(about.where, about.given, about.options, -1)
    local made = about.rules(about.values)
    if type(made) ~= "table" then
      error(about.where .. ": the function rules returns a table, not a " .. type(made), 0)
    end
    about.body = read_body(about.where, split(made))
  end
  return about.body
end

--- The name of a recipe, words for it in messages, and the values of its options.
function recipe.about(self)
  recipe.body(self)
  local about = hidden[self]
  return about.name or "recipe", about.where, about.values or {}
end

-- ---- Options ----

local words = { ["true"] = true, ["false"] = false }

local function from_text(rule, text)
  if rule.kind == "integer" or rule.kind == "number" then return tonumber(text) or text end
  if rule.kind == "boolean" and words[text] ~= nil then return words[text] end
  return text
end

--- The values of options that were given as texts.
-- @param texts  by name
function recipe.values(self, texts)
  local description, values = hidden[self].options or {}, {}
  for name, text in pairs(texts) do
    local rule = description[name]
    values[name] = text
    if rule then values[name] = from_text(rule, text) end
  end
  return values
end

function Recipe.__call(self, given)
  local about = hidden[self]
  if not about.options then error(about.where .. " has no options", 2) end
  options.check(about.where, given, about.options, 2)
  local merged = {}
  for _, values in ipairs { about.given or {}, given } do
    for name, value in pairs(values) do merged[name] = value end
  end
  return make { name = about.name, where = about.where, options = about.options,
                rules = about.rules, given = merged }
end

function Recipe.__tostring(self)
  return hidden[self].where
end

function Recipe.__index(_, key)
  error(("a recipe has no field '%s'"):format(tostring(key)), 2)
end

function Recipe.__newindex(_, key)
  error(("a recipe cannot be changed (field '%s'); put it into another one to extend it")
    :format(tostring(key)), 2)
end

return recipe
