-- cli.run: `rondo run SCRIPT [ARGS]`: a Lua script as `lua` would run it, with the module rondo at
-- hand. The script is the user's own: it may do everything that Lua can.

-- The traceback of an error in the script, without the frames of the command below it.
local function with_traceback(problem)
  if problem == "interrupted" then return problem end
  if type(problem) ~= "string" then
    local meta = debug.getmetatable(problem)
    if meta and meta.__tostring then return tostring(problem) end
    problem = ("(error object is a %s value)"):format(type(problem))
  end
  local trace = debug.traceback(problem, 2)
  local body = trace:match "^(.*)\n%s*%[C%]: in function 'xpcall'\n[^\n]*cli/run%.lua:"
  return (body or trace) .. "\n\t[C]: in ?"
end

local function complain(message)
  io.stdout:flush()
  require("rondo.cli.output").trouble(message)
  return 1
end

--- Runs a script.
-- @param path  its file, "-" for standard input
-- @param args  list of its arguments
-- @param program  what this program was called as
-- @return the exit code: 0, or 1 with the error and its traceback on stderr
return function(path, args, program)
  args[0], args[-1], args[-2] = path, "run", program
  rawset(_G, "arg", args)
  local chunk, problem = loadfile(path ~= "-" and path or nil)
  if not chunk then return complain(problem) end
  require("rondo.cli.output").catch_warnings()
  local good
  good, problem = xpcall(chunk, with_traceback, table.unpack(args, 1, #args))
  if problem == "interrupted" then error(problem, 0) end -- main says so, and ends the process
  return good and 0 or complain(problem)
end
