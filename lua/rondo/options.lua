-- options: one checker for every table of options. An option is described once; unknown names,
-- wrong types and values out of range are errors that say what is allowed.
--
-- A description is a table from option name to
--   { kind = "integer", min =, max =, default = }    whole numbers
--   { kind = "number", above = | min =, max = }      any finite number; `above` is exclusive;
--                                                    a float where the default is one
--   { kind = "boolean" }  { kind = "string" }  { kind = "table" }  { kind = "tensor" }
--   { kind = "choice", choices = { ... } }           one of these strings
--   { kind = "custom", check = f, says = "..." }     f(value) is the value to use, nil if unfit
-- with `required = true` where there is no default.

local core = require "rondo.core"

local options = {}

--- The option that weighs errors by column. The tensor is not copied.
options.importance = {
  kind = "custom", says = "a tensor of one finite number of at least 0 for each column",
  check = function(value)
    local fit = core.is_tensor(value) and value.rank == 1 and value:count_nonfinite() == 0
      and (#value == 0 or value:min() >= 0)
    return fit and value or nil
  end,
}

local function sorted_names(description)
  local names = {}
  for name in pairs(description) do names[#names + 1] = name end
  table.sort(names)
  return table.concat(names, ", ")
end

local function range_words(rule)
  local low = rule.above and ("above " .. rule.above) or rule.min and ("at least " .. rule.min)
  local high = rule.max and ("at most " .. rule.max)
  if low and high then return low .. " and " .. high end
  return low or high
end

local function in_range(rule, value)
  return not (rule.min and value < rule.min) and not (rule.max and value > rule.max)
    and not (rule.above and value <= rule.above)
end

-- Each kind: a function from rule and value to the value to use (nil: unfit), and words for it.
local kinds = {}

function kinds.integer(rule, value)
  local whole = math.type(value) ~= nil and math.tointeger(value)
  if whole and in_range(rule, whole) then return whole end
end

function kinds.number(rule, value)
  local finite = type(value) == "number" and math.abs(value) < math.huge
  if not finite or not in_range(rule, value) then return nil end
  return math.type(rule.default) == "float" and value + 0.0 or value
end

function kinds.boolean(_, value)
  if type(value) == "boolean" then return value end
end

function kinds.string(_, value)
  if type(value) == "string" then return value end
end

function kinds.table(_, value)
  if type(value) == "table" then return value end
end

function kinds.tensor(_, value)
  if core.is_tensor(value) then return value end
end

function kinds.choice(rule, value)
  for _, choice in ipairs(rule.choices) do
    if value == choice then return value end
  end
end

function kinds.custom(rule, value)
  return rule.check(value)
end

local function expectation(rule)
  if rule.says then return rule.says end
  if rule.kind == "choice" then
    return "one of " .. table.concat(rule.choices, ", ")
  end
  local article = rule.kind == "integer" and "an integer" or "a " .. rule.kind
  local range = range_words(rule)
  return range and (article .. " " .. range) or article
end

local function shown(value)
  if core.is_tensor(value) then
    return ("a tensor of %s {%s}"):format(value.dtype, table.concat(value.shape, ", "))
  end
  if type(value) == "string" then return string.format("%q", value) end
  if type(value) == "number" then return tostring(value) end
  return type(value) == "boolean" and tostring(value) or "a " .. type(value)
end

-- What is wrong with the description of an option, or nil.
local function fault_of(rule)
  if type(rule) ~= "table" or not kinds[rule.kind] then
    return "must be described as { kind = ..., default = ... }; kinds: " .. sorted_names(kinds)
  elseif rule.kind == "choice" and type(rule.choices) ~= "table" then
    return "needs choices, a list of strings"
  elseif rule.kind == "custom" and type(rule.check) ~= "function" then
    return "needs check, a function"
  elseif rule.default ~= nil and kinds[rule.kind](rule, rule.default) == nil then
    return ("has a default that is not %s: %s"):format(expectation(rule), shown(rule.default))
  end
end

--- Raises unless each option is described as above, as where others than rondo describe them.
function options.check_description(where, description, level)
  for name, rule in pairs(description) do
    local fault = fault_of(rule)
    if fault then error(("%s: option '%s' %s"):format(where, tostring(name), fault), level + 1) end
  end
end

--- Checks the value of one option and gives the value to use; raises otherwise.
-- @param where  what the option belongs to, for the message: "quant_weight"
-- @param level  as for options.check, but for the caller of this function (1)
function options.value(where, name, rule, value, level)
  local good = kinds[rule.kind](rule, value)
  if good == nil then
    local text = string.format("%s: %s must be %s, not %s", where, name, expectation(rule),
                               shown(value))
    level = level or 1
    error(text, level > 0 and level + 1 or 0)
  end
  return good
end

--- Checks a table of options against a description and fills in the defaults.
-- @param where  the function's name, for messages
-- @param given  the caller's table, or nil for all defaults; never changed
-- @param level  stack level the error points at, counted like in error(), -1 for none; default: the
--               caller of the function that calls check
-- @return a new table
function options.check(where, given, description, level)
  level = (level or 2) + 1
  if given == nil then given = {} end
  if type(given) ~= "table" then
    error(string.format("%s: options must be a table, not %s", where, shown(given)), level)
  end
  for name in pairs(given) do
    if description[name] == nil then
      error(string.format("%s: unknown option '%s' (known: %s)", where, tostring(name),
                          sorted_names(description)), level)
    end
  end
  local result = {}
  for name, rule in pairs(description) do
    local value = given[name]
    if value ~= nil then
      result[name] = options.value(where, name, rule, value, level)
    elseif rule.required then
      error(string.format("%s: option '%s' is missing (%s)", where, name, expectation(rule)), level)
    else
      result[name] = rule.default
    end
  end
  return result
end

return options
