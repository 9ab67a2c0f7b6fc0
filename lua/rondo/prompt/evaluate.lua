-- evaluate: what is typed at the prompt, as Lua. A chunk is an expression, whose values are shown,
-- or statements; one that ends too early wants another line; one that ends in ";" shows nothing.
-- Errors become one line that names the call that failed.

local evaluate = {}

local CHUNK = "=prompt" -- how pieces of input are named in Lua's messages

-- The values of an expression come through a call, so that the calls in it are no tail calls: they
-- stay on the stack, where a failure is looked up.
local function keep(...)
  return ...
end

-- A message on one line, without places in rondo itself; the place within the input is told where
-- that has several lines.
local function one_line(message, text)
  local place = text:find "\n" and "line %1: " or ""
  return (message:gsub("^%S*rondo/[%w_/]+%.lua:%d+: ", ""):gsub("^prompt:(%d+): ", place)
    :gsub("%s*\n%s*", " "))
end

--- Compiles a piece of input.
-- @param text  one or more lines
-- @param env   its globals
-- @return { run = function () -> values, silent = whether nothing is to be shown }; or nil and
--         the message; or nil and nil where more lines are needed
function evaluate.compile(text, env)
  local bare = text:match "^(.-);%s*$"
  local expression = bare or text
  local fits, why = load("return " .. expression, CHUNK, "t", env)
  if fits then
    local chunk = load(("return (...)(%s\n)"):format(expression), CHUNK, "t", env)
    if chunk then
      return { silent = bare ~= nil, run = function() return chunk(keep) end }
    end
  end
  local chunk, message = load(text, CHUNK, "t", env)
  if chunk then return { silent = bare ~= nil, run = chunk } end
  if message:find "<eof>$" or not bare and why:find "<eof>$" then return nil end
  return nil, one_line(message, text)
end

-- The function that the prompt had called when things went wrong, as written there; nil where the
-- prompt itself went wrong.
local function failed_call(level)
  local called
  while true do
    local frame = debug.getinfo(level + 1, "nSf")
    if not frame then return nil end
    if frame.source == CHUNK then break end
    called, level = frame, level + 1
  end
  if called and called.func ~= error and called.func ~= assert then return called.name end
end

local function text_of(problem)
  if type(problem) == "string" then return problem end
  local meta = debug.getmetatable(problem)
  if type(meta) == "table" and meta.__tostring then return tostring(problem) end
  if type(problem) == "table" then return require("rondo.prompt.show").text(problem) end
  return ("an error object of type %s: %s"):format(type(problem), tostring(problem))
end

local function described(problem, input)
  local message = text_of(problem)
  local call, line = failed_call(3), one_line(message, input)
  local told = call and line:find("%f[%w_]" .. call .. "%f[^%w_]")
  if call and not told then line = call .. ": " .. line end
  if problem == "interrupted" then line = problem end
  return { message = line, trace = debug.traceback(message, 3) }
end

--- Runs a function.
-- @param input  the text that it was made of
-- @return its values, packed; or nil and { message, trace }: one line, and with the calls that led
--         to it
function evaluate.run(chunk, input)
  local function handler(problem) return described(problem, input) end
  local results = table.pack(xpcall(chunk, handler))
  if not results[1] then return nil, results[2] end
  return table.pack(table.unpack(results, 2, results.n))
end

return evaluate
