-- cli: the `rondo` command. main(args) does what the arguments say and returns the exit code:
-- 0 done, 1 something outside failed (one line on stderr names it), 2 wrong usage.
--
-- Commands are functions of the parsed options. They return true; or nil and a message for a
-- failure; or raise one of the tables of cli.output for a failure or wrong usage deep inside.
-- Anything else that is raised is a defect of rondo and goes on to the caller with its traceback.

local cli = {}

local function version()
  local core = require "rondo.core"
  return ("rondo %s (%s kernels, %s)\n"):format(core.version, core.isa(), _VERSION)
end

local function fail(message)
  require("rondo.cli.output").complain(message)
  return 1
end

local function misused(problem)
  local output = require "rondo.cli.output"
  local prefix = problem.command and problem.command .. ": " or ""
  output.complain(prefix .. problem.usage)
  output.hint(problem.hint)
  return 2
end

-- Runs a command; its raised tables become exit codes.
local function guarded(command, ...)
  local results = table.pack(xpcall(command, function(problem)
    if type(problem) == "table" and (problem.usage or problem.failure) then return problem end
    if type(problem) ~= "string" or problem:find "\nstack traceback:" then return problem end
    return debug.traceback(problem, 2)
  end, ...))
  if results[1] then return table.unpack(results, 2, results.n) end
  local problem = results[2]
  if type(problem) ~= "table" then error(problem, 0) end
  if problem.usage then return nil, problem end
  return nil, problem.failure
end

local function execute(args)
  local parser = require "rondo.cli.parser"
  local o, problem = parser.parse(args)
  if not o then return nil, problem end
  local output = require "rondo.cli.output"
  if o.help then return output.text(o.help) end
  output.catch_warnings()
  if o.threads then require("rondo.core").threads(o.threads) end
  local done, why = require("rondo.cli." .. o.command)(o)
  if not done then return nil, why end
  return output.finish()
end

--- Does what the arguments say.
-- @param args  list of strings; args[0] may be the program's name
-- @return the exit code
function cli.main(args)
  local first = args[1]
  if first == "--version" then
    io.stdout:write(version())
    return 0
  end
  if first == "run" and args[2] and (args[2] == "-" or args[2]:sub(1, 1) ~= "-") then
    local script_args = table.move(args, 3, #args, 1, {})
    return require "rondo.cli.run"(args[2], script_args, args[0] or "rondo")
  end
  local done, problem = guarded(execute, args)
  if done then return 0 end
  if type(problem) == "table" then return misused(problem) end
  return fail(problem)
end

return cli
