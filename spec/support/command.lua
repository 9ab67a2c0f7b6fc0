-- command: runs the built `rondo` as users do and tells what it wrote and how it ended.

local assert = require "luassert"
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

--- Runs it; it must end well and write nothing to stderr. Returns stdout.
function command.good(arguments, o)
  local code, out, err = command.run(arguments, o)
  assert.same({ 0, "" }, { code, err }, table.concat(arguments, " "))
  return out
end

--- Runs it; it must fail with one line of `rondo: message` that holds all the texts.
function command.fails(arguments, ...)
  local code, out, err = command.run(arguments)
  assert.same({ 1, "" }, { code, out }, table.concat(arguments, " "))
  assert.truthy(err:find "^rondo: [^\n]+\n$", err)
  for _, text in ipairs { ... } do assert.truthy(err:find(text, 1, true), err) end
end

return command
