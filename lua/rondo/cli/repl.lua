-- cli.repl: `rondo repl [MODEL]`: the prompt. On a terminal with line editing where the system has
-- it; from a pipe or file it evaluates what comes, prints results alone, and ends at the first
-- error.

local complete = require "rondo.prompt.complete"
local core = require "rondo.core"
local lfs = require "lfs"
local output = require "rondo.cli.output"
local planning = require "rondo.cli.planning"
local session_of = require "rondo.prompt.session"
local show = require "rondo.prompt.show"

local CANDIDATES = 120 -- of a completion, shown
local FIRST, NEXT = "> ", ">> " -- what stands before a line, and before one that goes on

local function greet(model)
  output.lines { ("rondo %s   help() says what there is, Ctrl-D leaves"):format(core.version) }
  if model then output.lines { "m = " .. tostring(model) } end
end

-- The file of the history, in folders that are made; nil where there is no place for it.
local function history_file()
  local home, state = os.getenv "HOME", os.getenv "XDG_STATE_HOME"
  if not state or state:sub(1, 1) ~= "/" then
    if not home or home:sub(1, 1) ~= "/" then return nil end
    state = home .. "/.local/state"
  end
  local path = ""
  for part in (state .. "/rondo"):gmatch "[^/]+" do
    path = path .. "/" .. part
    lfs.mkdir(path)
  end
  return lfs.attributes(path, "mode") == "directory" and path .. "/history" or nil
end

-- Candidates below the line, when the line itself cannot go on.
local function candidates_text(found, typed, replacement)
  if #found < 2 or replacement ~= typed then return nil end
  local some = table.move(found, 1, math.min(#found, CANDIDATES), 1, {})
  local lines = complete.columns(some, show.width())
  if #found > #some then lines[#lines + 1] = ("... %d more"):format(#found - #some) end
  return table.concat(lines, "\n")
end

-- Reads lines with editing, or nil where the system has none.
local function editing_reader(session)
  if os.getenv "TERM" == "dumb" then return nil end
  local editor = core.editor(history_file())
  if not editor then return nil end
  local function completer(text)
    local start, replacement, found = session:complete(text)
    return start, replacement, candidates_text(found, text:sub(start), replacement)
  end
  return function(prompt) return editor:read(prompt, completer) end
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
local function turn(session, read)
  local line, cancelled = read(session.pending and NEXT or FIRST)
  if not line then
    if cancelled then session:cancel() end
    return cancelled
  end
  local result = session:feed(line)
  if result.text then output.lines { result.text } end
  output.finish()
  return true, result.error
end

-- On a terminal, behind the ^C that it shows for itself.
local function complain(failure)
  output.hint(failure == "interrupted" and "\ninterrupted" or "error: " .. failure)
end

-- Until the input ends; from a pipe, until the first error.
local function converse(session, read, terminal, attempt)
  local kept, more, failure
  repeat
    kept, more, failure = attempt(turn, session, read)
    if not kept then
      session:cancel()
      more, failure = true, "interrupted"
    end
    if failure and not terminal then return nil, failure end
    if failure then complain(failure) end
  until not more
  if terminal then output.text "\n" end
  if session.pending and not terminal then return nil, "the input ends within a statement" end
  return true
end

local function uninterrupted(f, ...) return true, f(...) end

return function(o, attempt)
  local terminal = core.isatty(0) and core.isatty(1)
  local session = session_of.new()
  local model = o.model and planning.open(o.model)
  if model then rawset(_G, "m", model) end
  if terminal then greet(model) end
  local read = terminal and editing_reader(session) or plain_reader(terminal)
  return converse(session, read, terminal, attempt or uninterrupted)
end
