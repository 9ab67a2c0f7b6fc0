-- cli.recipe: the file behind --recipe: a Lua file that returns a recipe. It is the user's own, as
-- a script of `rondo run` is, and may do everything that Lua can; `require` finds what lies beside
-- it.

local output = require "rondo.cli.output"
local recipe_of = require "rondo.recipe"

-- The names and texts of --set NAME=VALUE.
local function settings(list, command)
  local texts = {}
  for _, text in ipairs(list or {}) do
    local name, value = text:match "^([%a_][%w_]*)=(.*)$"
    if texts[name] then
      output.usage(("option '--set': '%s' is set twice"):format(name), command)
    end
    texts[name] = value
  end
  return texts
end

-- An error as text, without the place in this file.
local function reason(problem)
  if type(problem) ~= "string" then return "an error object of type " .. type(problem) end
  return (problem:gsub("^%S*cli/recipe%.lua:%d+: ", ""))
end

-- The file in front of a message that does not begin with a place in some file.
local function with_file(path, message)
  if message:find "^[^\n:]*:%d+: " then return message end
  return ("%s: %s"):format(path, message)
end

-- Runs the file, with its folder in front of package.path for as long.
local function run(path, command)
  local chunk, problem = loadfile(path)
  if not chunk then
    local unreadable = problem:find("^cannot ")
    if unreadable then output.failure(problem) end
    output.usage(problem, command)
  end
  local saved = package.path
  package.path = (path:match "^(.*/)" or "./") .. "?.lua;" .. saved
  local good, value = pcall(chunk)
  package.path = saved
  if not good then output.usage(with_file(path, reason(value)), command) end
  if not recipe_of.is(value) then
    output.usage(("%s: a recipe file returns rondo.recipe { ... }, not %s"):format(path,
      value == nil and "nothing" or "a " .. type(value)), command)
  end
  return value
end

--- The recipe of parsed options, with what --set says; raises failures and wrong usage.
return function(o)
  local recipe, texts = run(o.recipe, o.command), settings(o.set, o.command)
  local good, made = pcall(function()
    if next(texts) then recipe = recipe(recipe_of.values(recipe, texts)) end
    recipe_of.body(recipe)
    return recipe
  end)
  if not good then output.usage(with_file(o.recipe, reason(made)), o.command) end
  return made
end
