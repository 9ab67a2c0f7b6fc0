-- session: the prompt without a terminal: lines go in, texts come out. It keeps the globals of what
-- is typed, the lines of a piece of input that is not complete yet, and the last error.

local complete = require "rondo.prompt.complete"
local docs = require "rondo.prompt.docs"
local evaluate = require "rondo.prompt.evaluate"
local rondo = require "rondo"
local show = require "rondo.prompt.show"
local shown = require "rondo.shown"

local session = {}

-- ---- The globals ----

-- Functions that fail with nil, message, code: at the prompt that is an error like any other.
local checked = { "open", "plan", "quantize", "compare", "verify" }

local function raising(call)
  return function(...)
    local results = table.pack(call(...))
    if results[1] == nil and type(results[2]) == "string" then error(results[2], 0) end
    return table.unpack(results, 1, results.n)
  end
end

local function rondo_field(name)
  local known, value = pcall(function() return rondo[name] end)
  return known and value or nil
end

-- Lua's globals, then those of the prompt (`own`), then the fields of rondo. What is assigned
-- becomes a global of Lua.
local function globals(own)
  return setmetatable({}, {
    __metatable = "locked",
    __index = function(_, name)
      local value = rawget(_G, name)
      if value == nil then value = own[name] end
      if value == nil then value = rondo_field(name) end
      return value
    end,
    __newindex = function(_, name, value) rawset(_G, name, value) end,
  })
end

-- ---- Showing ----

-- The values on one line where they are short, else below each other.
local function results_text(results, width)
  local texts, room, short = {}, width, true
  for i = 1, results.n do
    texts[i] = show.text(results[i], width)
    room = room - #texts[i] - 3
    short = short and not texts[i]:find "\n" and room >= -3
  end
  return table.concat(texts, short and "   " or "\n")
end

-- ---- The session ----

local methods = {}

--- Takes one line of input.
-- @return { more = true } where the input is not complete, else { text, error }: text
--         is what to print, or nil; error is one line, or nil
function methods:feed(line)
  local text = self.pending and self.pending .. "\n" .. line or line
  self.pending = nil
  if text:find "^%s*$" then return {} end
  local chunk, message = evaluate.compile(text, self.env)
  if message then return { error = message } end
  if not chunk then
    self.pending = text
    return { more = true }
  end
  local function run()
    local results = table.pack(chunk.run())
    if results.n == 0 then return nil end
    self.own._ = results[1]
    return not chunk.silent and results_text(results, self.width()) or nil
  end
  local done, problem = evaluate.run(run, text)
  if done then return { text = done[1] } end
  self.problem = problem
  return { error = problem.message }
end

--- What may stand at the end of a line that is being typed; see rondo.prompt.complete.
function methods:complete(text)
  return complete.at_end(text, self.env, self.own)
end

--- Forgets the lines of input that is not complete.
function methods:cancel()
  self.pending = nil
end

local meta = { __index = methods, __name = "rondo.session" }

--- A new session.
-- @param width  a function that tells the columns that results have; the terminal's where absent
-- @return { env = the globals of what is typed, own = those that the prompt adds }
function session.new(width)
  local self = { width = width or show.width, own = {} }
  for _, name in ipairs(checked) do
    self.own[name] = raising(rondo[name])
    docs.alias(self.own[name], rondo[name])
  end
  self.own.rondo = rondo
  function self.own.trace()
    return shown(self.problem and self.problem.trace or "no error yet")
  end
  self.env = globals(self.own)
  return setmetatable(self, meta)
end

return session
