-- cli: the `rondo` command. main(args) does what the arguments say and returns the exit code:
-- 0 done, 1 something outside failed (one line on stderr names it), 2 wrong usage.
--
-- Commands are functions of the parsed options. They return true; or nil and a message for a
-- failure; or raise one of the tables of cli.output for a failure or wrong usage deep inside.
-- Anything else that is raised is a defect of rondo and goes on to the caller with its traceback.

local cli = {}

-- The instruction set in use; RONDO_ISA may name one that is unknown or not supported here.
local function isa()
  local good, name = pcall(require("rondo.core").isa)
  if not good then error { usage = tostring(name) } end
  return name
end

local function show_version()
  local core = require "rondo.core"
  local text = ("rondo %s (%s kernels, %s)\n"):format(core.version, isa(), _VERSION)
  return io.stdout:write(text) and true
end

local function fail(message)
  require("rondo.cli.output").complain(message)
  return 1
end

local function misused(problem)
  local output = require "rondo.cli.output"
  local prefix = problem.command and problem.command .. ": " or ""
  output.complain(prefix .. problem.usage)
  if problem.hint then output.hint(problem.hint) end
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

local function execute(args, attempt)
  local parser = require "rondo.cli.parser"
  local o, problem = parser.parse(args)
  if not o then return nil, problem end
  local output = require "rondo.cli.output"
  if o.help then return output.text(o.help) end
  output.catch_warnings()
  isa()
  collectgarbage("incremental", 120, 200) -- models of 100,000 tensors: memory before speed
  if o.threads then require("rondo.core").threads(o.threads) end
  local done, why = require("rondo.cli." .. o.command)(o, attempt)
  if not done then return nil, why end
  return output.finish()
end

--- Does what the arguments say.
-- @param args  list of strings; args[0] may be the program's name
-- @param attempt  for the prompt: function (f, ...) -> true and what f gives, or false where it
--                 was interrupted and the prompt goes on; nil where nothing interrupts
-- @return the exit code
function cli.main(args, attempt)
  local first = args[1]
  if first == "run" and args[2] and (args[2] == "-" or args[2]:sub(1, 1) ~= "-") then
    local script_args = table.move(args, 3, #args, 1, {})
    return require "rondo.cli.run"(args[2], script_args, args[0] or "rondo")
  end
  local done, problem = guarded(first == "--version" and show_version or execute, args, attempt)
  if done then return 0 end
  if type(problem) == "table" then return misused(problem) end
  return fail(problem)
end

return cli
