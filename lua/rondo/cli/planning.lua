-- cli.planning: what quantize and plan share: opening the model and making the plan, with errors in
-- the words of the command line.

local cli_options = require "rondo.cli.options"
local output = require "rondo.cli.output"

local planning = {}

--- Opens a model; raises a failure where that does not work.
function planning.open(path)
  local model, message = require("rondo.model").open(path)
  if not model then output.failure(message) end
  return model
end

local limits = { interrupted = true, ["not enough memory"] = true }

-- Whether an error is a user's: raised in the recipe's file, or with no place of its own, as what
-- is said of options, layers and strategies.
local function is_usage(problem, path)
  if type(problem) ~= "string" or limits[problem] then return false end
  return path and problem:sub(1, #path + 1) == path .. ":" or not problem:find "^[^\n:]*:%d+: "
end

--- Calls f(...), which makes or carries out a plan. What it raises about options or the recipe is
--- wrong usage; anything else is a defect.
function planning.guarded(o, f, ...)
  local results = table.pack(xpcall(f, function(problem)
    local text = type(problem) == "string"
      and (problem:match "^plan: (.*)" or problem:match "^[^\n:]*:%d+: plan: (.*)")
    if not text and is_usage(problem, o.recipe) then return { usage = problem } end
    if not text then return debug.traceback(tostring(problem), 2) end
    return { usage = text }
  end, ...))
  if results[1] then return table.unpack(results, 2, results.n) end
  local problem = results[2]
  if type(problem) ~= "table" then error(problem, 0) end
  local file = o.config and problem.usage:find "^config" and o.config .. ": "
    or o.recipe and problem.usage:sub(1, #o.recipe) ~= o.recipe and o.recipe .. ": " or ""
  output.usage(file .. problem.usage, o.command)
end

--- The plan of rondo.plan for parsed options; raises failures and wrong usage.
function planning.make(o)
  local given = cli_options.for_plan(o)
  if o.config then given.config = require "rondo.cli.config"(o.config, o.command) end
  if o.recipe then given.recipe = require "rondo.cli.recipe"(o) end
  local make = require("rondo.plan").make
  local made, message = planning.guarded(o, make, planning.open(o.model), given)
  if not made then output.failure(message) end
  return made
end

return planning
