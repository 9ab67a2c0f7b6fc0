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
--           ("timeout 5"); environment: words like "NO_COLOR=1"; output: where stdout goes instead
-- @return exit code, stdout, stderr
function command.run(arguments, o)
  o = o or {}
  local folder = shell.temporary_folder()
  local words = { "env -u NO_COLOR", o.environment or "", o.prefix or "",
                  shell.quote(command.program()) }
  for _, argument in ipairs(arguments) do words[#words + 1] = shell.quote(argument) end
  shell.write_file(folder .. "/in", o.input or "")
  local line = ("%s <%s/in >%s 2>%s/err"):format(table.concat(words, " "), folder,
    o.output or folder .. "/out", folder)
  local _, status = shell.sh("%s", line)
  local out = o.output and "" or shell.read_file(folder .. "/out")
  local err = shell.read_file(folder .. "/err")
  shell.remove(folder)
  return status, out, err
end

return command
