-- cli.repl: `rondo repl [MODEL]`: the prompt. On a terminal with line editing where the build has
-- it; from a pipe or file it evaluates what comes, prints results alone, and ends at the first error.

local core = require "rondo.core"
local output = require "rondo.cli.output"
local planning = require "rondo.cli.planning"
local session_of = require "rondo.prompt.session"

local FIRST, NEXT = "> ", ">> " -- what stands before a line, and before one that goes on

local function greet(model)
  output.lines { ("rondo %s   help() says what there is, Ctrl-D leaves"):format(core.version) }
  if model then output.lines { "m = " .. tostring(model) } end
end

-- Reads lines without editing.
local function plain_reader(terminal)
  return function(prompt)
    if terminal then
      output.text(prompt)
      output.finish()
    end
    return io.read "l"
  end
end

-- One line read and evaluated. Returns whether there may be more, and what failed, if anything.
local function turn(session, read, go_on)
  local line, cancelled = read(session.pending and NEXT or FIRST)
  if not line then
    if cancelled then session:cancel() end
    return cancelled
  end
  local result = session:feed(line)
  if not go_on() then error("interrupted", 0) end
  if result.text then output.lines { result.text } end
  output.finish()
  return true, result.error
end

-- Ctrl-C may come at any moment between two lines, too.
local function guarded_turn(session, read, go_on)
  local results = table.pack(pcall(turn, session, read, go_on))
  if results[1] then return table.unpack(results, 2, results.n) end
  if results[2] ~= "interrupted" or not go_on() then error(results[2], 0) end
  return true, results[2]
end

-- Until the input ends; from a pipe, until the first error.
local function converse(session, read, terminal, go_on)
  local more, failure
  repeat
    more, failure = guarded_turn(session, read, go_on)
    if failure and not terminal then return nil, failure end
    if failure then output.hint(failure == "interrupted" and failure or "error: " .. failure) end
  until not more
  if terminal then output.text "\n" end
  if session.pending then return nil, "the input ends within a statement" end
  return true
end

local function always() return true end

return function(o, go_on)
  local terminal = core.isatty(0) and core.isatty(1)
  local session = session_of.new()
  local model = o.model and planning.open(o.model)
  if model then rawset(_G, "m", model) end
  if terminal then greet(model) end
  return converse(session, plain_reader(terminal), terminal, go_on or always)
end
