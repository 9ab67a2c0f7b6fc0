-- formats.regex: regular expressions of Python's, in which configurations name modules: literals,
-- `.`, classes, groups, `|`, `* + ? {m,n}` (lazy, too), `^ $ \b \B`, looking ahead. What goes
-- beyond that, and expressions that need too many steps, are not understood.

local regex = {}

local LONGEST = 4096 -- bytes of an expression
-- Expressions come with checkpoints and may be made to hang.
local STEPS = 100000 -- of one match; an expression that once needs more is given up
local MOST_STEPS = 20000000 -- of all matches of an expression, as many as 100,000 honest ones need
local MOST = 1000 -- repetitions that a number in braces may ask for

local function misunderstood() error(regex, 0) end

-- ---- Characters ----

local escaped_classes = { d = "%d", D = "%D", w = "[%w_]", W = "[^%w_]", s = "%s", S = "%S" }
local escaped_bytes = { n = "\n", t = "\t", r = "\r", f = "\f", v = "\v" }

-- Whether a byte is meant, of what stands behind a backslash.
local function escape(letter)
  local class = escaped_classes[letter]
  if class then return function(byte) return byte:find("^" .. class) ~= nil end end
  local meant = escaped_bytes[letter] or letter
  if letter == "" or letter:find "^%w" and meant == letter then misunderstood() end
  return function(byte) return byte == meant end, meant
end

-- One item of a class in brackets at `at`: its test, its byte where it is just one, and what is
-- behind it.
local function class_item(text, at)
  local letter = text:sub(at, at)
  if letter == "" then misunderstood() end
  if letter ~= "\\" then return function(byte) return byte == letter end, letter, at + 1 end
  local test, byte = escape(text:sub(at + 1, at + 1))
  return test, byte, at + 2
end

-- A class whose "[" stands before `at`.
local function class(text, at)
  local negated, tests, first = text:sub(at, at) == "^", {}, true
  if negated then at = at + 1 end
  while first or text:sub(at, at) ~= "]" do
    local test, low, high
    test, low, at = class_item(text, at)
    if low and text:find("^%-[^%]]", at) then
      local single
      single, high, at = class_item(text, at + 1)
      if not high then misunderstood() end
      test = function(byte) return byte >= low and byte <= high or single(byte) end
    end
    tests[#tests + 1], first = test, false
  end
  return function(byte)
    for _, test in ipairs(tests) do
      if test(byte) then return not negated end
    end
    return negated
  end, at + 1
end

-- ---- Matchers ----

-- A matcher is a function (state, at, behind) -> whether the text matches from byte `at` on and
-- behind(at of what follows) is true. state: { text, steps }; each matcher spends some.

local function spend(state)
  state.steps = state.steps - 1
  if state.steps < 0 then misunderstood() end
end

local function one(test)
  return function(state, at, behind)
    spend(state)
    return at <= #state.text and test(state.text:sub(at, at)) and behind(at + 1)
  end
end

local function sequence(list)
  local function from(i, state, at, behind)
    spend(state)
    if i > #list then return behind(at) end
    return list[i](state, at, function(next_at) return from(i + 1, state, next_at, behind) end)
  end
  return function(state, at, behind) return from(1, state, at, behind) end
end

local function either(list)
  return function(state, at, behind)
    for _, matcher in ipairs(list) do
      spend(state)
      if matcher(state, at, behind) then return true end
    end
    return false
  end
end

local function repeated(matcher, low, high, lazy)
  local function from(count, state, at, behind)
    spend(state)
    local function more()
      return count < high and matcher(state, at, function(next_at)
        if next_at == at and count >= low then return false end -- nothing can be repeated for ever
        return from(count + 1, state, next_at, behind)
      end)
    end
    if count < low then return more() end
    if lazy then return behind(at) or more() end
    return more() or behind(at)
  end
  return function(state, at, behind) return from(0, state, at, behind) end
end

local function ahead(matcher, wanted)
  return function(state, at, behind)
    spend(state)
    return matcher(state, at, function() return true end) == wanted and behind(at)
  end
end

local function word_at(text, at) return text:find("^[%w_]", at) ~= nil end

local places = {
  ["^"] = function(_, at) return at == 1 end,
  ["$"] = function(text, at) return at == #text + 1 or at == #text and text:sub(at) == "\n" end,
  b = function(text, at)
    return (at > 1 and word_at(text, at - 1)) ~= word_at(text, at)
  end,
}
function places.B(text, at) return not places.b(text, at) end

local function place(name)
  return function(state, at, behind)
    spend(state)
    return places[name](state.text, at) and behind(at)
  end
end

-- ---- Reading ----

local alternatives

-- A group whose "(" stands before `at`; its matcher and what is behind it.
local function group(text, at)
  local looking, wanted = false, true
  if text:find("^%?:", at) then at = at + 2
  elseif text:find("^%?[=!]", at) then
    looking, wanted, at = true, text:sub(at + 1, at + 1) == "=", at + 2
  elseif text:find("^%?", at) then misunderstood() end
  local matcher
  matcher, at = alternatives(text, at)
  if text:sub(at, at) ~= ")" then misunderstood() end
  return looking and ahead(matcher, wanted) or matcher, at + 1
end

local function atom(text, at)
  local letter = text:sub(at, at)
  if letter == "(" then return group(text, at + 1) end
  if letter == "^" or letter == "$" then return place(letter), at + 1 end
  if letter == "." then return one(function(byte) return byte ~= "\n" end), at + 1 end
  if letter == "[" then
    local test, behind = class(text, at + 1)
    return one(test), behind
  elseif letter == "\\" then
    local name = text:sub(at + 1, at + 1)
    if name == "b" or name == "B" then return place(name), at + 2 end
    return one((escape(name))), at + 2
  elseif letter:find "[%*%+%?]" then misunderstood() end
  return one(function(byte) return byte == letter end), at + 1
end

-- How often what stands before `at` is repeated: least, most, and what is behind that; or nil.
local function repetition(text, at)
  local letter = text:sub(at, at)
  if letter == "*" then return 0, math.huge, at + 1 end
  if letter == "+" then return 1, math.huge, at + 1 end
  if letter == "?" then return 0, 1, at + 1 end
  local low, comma, high, behind = text:match("^{(%d*)(,?)(%d*)}()", at)
  if not low or low == "" and high == "" then return nil end
  local least = tonumber(low) or 0
  local most = comma == "" and least or tonumber(high) or math.huge
  if least > MOST or most < least then misunderstood() end
  return least, most, behind
end

local function run(text, at)
  local list = {}
  while at <= #text and not text:find("^[|)]", at) do
    local matcher
    matcher, at = atom(text, at)
    local low, high, behind = repetition(text, at)
    if low then
      local lazy = text:sub(behind, behind) == "?"
      if text:find("^[%*%+]", behind) then misunderstood() end
      matcher, at = repeated(matcher, low, high, lazy), lazy and behind + 1 or behind
    end
    list[#list + 1] = matcher
  end
  return sequence(list), at
end

function alternatives(text, at)
  local list = {}
  repeat
    if #list > 0 then at = at + 1 end
    list[#list + 1], at = run(text, at)
  until text:sub(at, at) ~= "|"
  return #list == 1 and list[1] or either(list), at
end

local function read(text)
  if #text > LONGEST then misunderstood() end
  local matcher, at = alternatives(text, 1)
  if at <= #text then misunderstood() end
  return matcher
end

-- What f gives, or nil where that is not understood. Other errors, a host's limit say, go on.
local function understood(f, ...)
  local good, result = pcall(f, ...)
  if good then return result end
  local deep = type(result) == "string" and result:find("stack overflow", 1, true)
  if result ~= regex and not deep then error(result, 0) end
  return nil
end

local function finished() return true end

--- What an expression matches from the beginning of a text on, as re.match of Python's.
-- @return a function (text) -> true, false, or nil where that takes too long, as from then on for
--         all texts; nil for an expression that is not understood
function regex.compile(expression)
  local matcher, left = understood(read, expression), MOST_STEPS
  return matcher and function(text)
    local state = { text = text, steps = math.min(STEPS, left) }
    left = left - state.steps
    local found = understood(matcher, state, 1, finished)
    left = found == nil and 0 or left + state.steps
    return found
  end
end

return regex
