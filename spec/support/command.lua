-- command: runs the built `rondo` as users do and tells what it wrote and how it ended.

local shell = require "spec.support.shell"

local command = {}

--- The program: RONDO_BUILD names the build folder, "build" where it is not set.
function command.program()
  local build = os.getenv "RONDO_BUILD" or "build"
  if build:sub(1, 1) ~= "/" then build = os.getenv "PWD" .. "/" .. build end
  return build .. "/rondo"
end

--- Runs rondo.
-- @param arguments  list of strings
-- @param o  input: bytes for stdin (default none); prefix: words of shell before the program
--           ("timeout 5"); output: where stdout goes instead
-- @return exit code, stdout, stderr
function command.run(arguments, o)
  o = o or {}
  local words = { "NO_COLOR=", o.prefix or "", shell.quote(command.program()) }
  for _, argument in ipairs(arguments) do words[#words + 1] = shell.quote(argument) end
  local input, out, err = os.tmpname(), os.tmpname(), os.tmpname()
  shell.write_file(input, o.input or "")
  local _, _, status = os.execute(("%s <%s >%s 2>%s"):format(table.concat(words, " "), input,
    o.output or out, err))
  local texts = { shell.read_file(out), shell.read_file(err) }
  for _, name in ipairs { input, out, err } do os.remove(name) end
  return status, texts[1], texts[2]
end

return command
