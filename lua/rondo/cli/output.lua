-- cli.output: what the command writes: results to stdout, remarks to stderr, colours only on a
-- terminal. Writing that fails (a full disk behind `> file`) raises a failure.

local text_table = require "rondo.text_table"

local output = {}

--- Stands below sizes of fake output, which are those of the source.
output.fake_note =
  "(fake: quantized values in the source's dtype; --format packed stores the codes)"

local is_error_colour, bold_on_stdout -- found out at first use

local function coloured(descriptor)
  local no_color = os.getenv "NO_COLOR"
  if no_color and no_color ~= "" or os.getenv "TERM" == "dumb" then return false end
  return (require("rondo.core").isatty(descriptor))
end

--- A heading for stdout: bold on a terminal.
function output.heading(text)
  if bold_on_stdout == nil then bold_on_stdout = coloured(1) end
  return bold_on_stdout and "\27[1m" .. text .. "\27[0m" or text
end

--- Raises a failure of the world; the command ends with exit code 1 and this message.
function output.failure(message)
  error({ failure = message }, 0)
end

--- Raises wrong usage; the command ends with exit code 2, this message and a hint at --help.
function output.usage(message, command)
  error(require("rondo.cli.parser").usage_error(message, command), 0)
end

local function check(good, why)
  if not good then output.failure("cannot write to standard output: " .. tostring(why)) end
end

--- Writes text to stdout.
function output.text(text)
  check(io.stdout:write(text))
  return true
end

--- Writes lines to stdout, a few thousand at a time.
function output.lines(lines)
  for i = 1, #lines, 4096 do
    check(io.stdout:write(table.concat(lines, "\n", i, math.min(i + 4095, #lines)), "\n"))
  end
  return true
end

--- Writes lines as they come, a few thousand at a time: produce(emit) calls emit(line) for each.
function output.stream(produce)
  local lines = {}
  produce(function(line)
    lines[#lines + 1] = line
    if #lines == 4096 then
      output.lines(lines)
      lines = {}
    end
  end)
  return output.lines(lines)
end

--- Writes a table, see rondo.text_table.
function output.table(columns, rows)
  return output.stream(function(emit) text_table.write(columns, rows, output.heading, emit) end)
end

--- Makes sure that everything has left the program.
function output.finish()
  check(io.stdout:flush())
  return true
end

-- One line, however the message came about.
local function one_line(message)
  return (tostring(message):gsub("%s*\n%s*", " "))
end

local drawing -- the progress line that is on the terminal, if any

--- The progress line to take away before anything is written to stderr.
function output.progress(line)
  drawing = line
  return line
end

local function remark(prefix, message)
  if drawing then drawing:clear() end
  if is_error_colour == nil then is_error_colour = coloured(2) end
  if is_error_colour then prefix = "\27[1m" .. prefix .. "\27[0m" end
  io.stderr:write(prefix, message, "\n")
end

--- Says on stderr what went wrong.
function output.complain(message)
  remark("rondo: ", one_line(message))
end

--- The same for a message of several lines, as a traceback is.
function output.trouble(message)
  remark("rondo: ", message)
end

--- A second line below a complaint.
function output.hint(text)
  io.stderr:write(text, "\n")
end

--- Shows what is handed to warn() on stderr from now on; "@off" and "@on" work as in Lua.
function output.catch_warnings()
  local on = true
  rawset(_G, "warn", function(first, ...)
    local text = table.concat({ first, ... })
    if select("#", ...) == 0 and text:sub(1, 1) == "@" then
      if text == "@on" then on = true elseif text == "@off" then on = false end
    elseif on then
      remark("rondo: warning: ", one_line(text))
    end
  end)
end

return output
