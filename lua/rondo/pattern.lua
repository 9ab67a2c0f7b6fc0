-- pattern: the language that picks tensors and layers by name.
--
-- A name is read as segments between dots; a pattern matches a run of whole segments anywhere in
-- the name. It works on names of any length and any bytes but NUL, has no worst case that a hostile
-- name could use, and refuses malformed patterns with an error that says where.
--
--   norm                    the segment "norm": model.norm.weight, not model.layernorm.weight
--   *norm.weight            `*` in a segment: any characters of it, none included
--   a.*.b                   a segment that is only `*`: any number of segments, none included
--   embed_tokens|lm_head    either pattern
--   {q,k,v}_proj            either text; items may hold dots, stars and braces of their own
--   layers.{0-3,7}          a whole number: 0, 1, 2, 3 or 7, never the 3 of 31
--   layers.{first,4-last}   first and last are numbers of the context (see compile)
--
-- Since a pattern may match anywhere, a segment `*` at its start or end changes nothing. All other
-- characters stand for themselves, upper and lower case differ, and blanks around `|` and around
-- the items of braces are ignored. There is no way to quote the five special characters * | { } ,
-- (the last only inside braces); where a name has one, `*` can stand for it.

local pattern = {}

local MAX_VARIANTS = 1000 -- texts that the braces of one pattern may stand for
local MAX_DEPTH = 16 -- braces within braces
local FEW_VALUES = 4 -- of a number in braces that is written out
local FAST_NAME = 255 -- longer names take the path that never tries a place twice

-- Reading. A pattern becomes a list of variants (no alternatives left); a variant is a list of
-- tokens { kind = "text" | "star" | "dot" | "number", at = byte position, ... }.

local function fail(state, at, why)
  local shown = #state.text <= 200 and state.text or state.text:sub(1, 200) .. "..."
  local before = utf8.len(state.text, 1, at - 1, true) or at - 1
  error({ malformed = ("malformed pattern '%s', at character %d: %s")
    :format(shown:gsub("%c", "?"), before + 1, why) })
end

-- Every variant of `left` followed by every variant of `right`.
local function product(state, at, left, right)
  if #left * #right > MAX_VARIANTS then
    fail(state, at, ("the braces stand for more than %d texts"):format(MAX_VARIANTS))
  end
  local out = {}
  for _, a in ipairs(left) do
    for _, b in ipairs(right) do
      local joined = table.move(a, 1, #a, 1, {})
      out[#out + 1] = table.move(b, 1, #b, #joined + 1, joined)
    end
  end
  return out
end

-- The number that a word in braces stands for, and whether it came from the context; or nil.
local function number_of(state, at, word)
  if word:find("^%d+$") then
    if #word > 9 then fail(state, at, "'" .. word .. "' is too large for a layer number") end
    return tonumber(word), false
  end
  local value = state.context and state.context[word]
  if value then return value, true end
  if word == "first" or word == "last" then
    fail(state, at, "'" .. word .. "' stands for a layer number, and no model is given here")
  end
end

local function range(state, at, low_word, high_word)
  local low, low_named = number_of(state, at, low_word)
  local high, high_named = number_of(state, at, high_word)
  if not low then return nil end -- plain text with a hyphen
  if not high then
    fail(state, at, ("'%s' is not a number; a range is written {0-3}"):format(high_word))
  end
  if low > high and not (low_named or high_named) then
    fail(state, at, ("the range %d-%d runs backwards"):format(low, high))
  end
  return { low, high }
end

-- An item that is a number or a range: its interval and the position after it; or nil.
local function interval(state, at)
  local low, high, stop = state.text:match("^%s*([%w_]+)%s*%-%s*([%w_]+)%s*()%f[,}]", at)
  if low then return range(state, at, low, high), stop end
  local word, after = state.text:match("^%s*([%w_]+)%s*()%f[,}]", at)
  if not word or word:find("^0%d") then return nil end
  local value = number_of(state, at, word)
  return value and { value, value }, after
end

local sequence -- forward: sequence(state, depth) -> variants, reads up to `|`, `,`, `}` or the end

-- Reads a group; state.at stands on its `{`.
local function group(state, depth)
  local open, variants, numbers = state.at, {}, {}
  if depth == MAX_DEPTH then fail(state, open, "braces nested too deeply") end
  repeat
    state.at = state.at + 1
    local found, after = interval(state, state.at)
    if found then
      numbers[#numbers + 1], state.at = found, after
    else
      local start = state.at
      local items = sequence(state, depth + 1)
      if #items[1] == 0 and state.at <= #state.text then
        fail(state, start, "an empty item in braces")
      end
      table.move(items, 1, #items, #variants + 1, variants)
    end
    local stop = state.text:sub(state.at, state.at)
    if stop == "" then fail(state, open, "'{' is never closed") end
    if stop == "|" then fail(state, state.at, "inside braces write ',' instead of '|'") end
  until stop == "}"
  state.at = state.at + 1
  if #numbers > 0 then variants[#variants + 1] = { { kind = "number", at = open, numbers } } end
  return variants
end

local kinds = { ["*"] = "star", ["."] = "dot" }

function sequence(state, depth)
  local variants = { {} }
  state.at = state.text:match("^%s*()", state.at)
  while true do
    local at = state.at
    local char = state.text:sub(at, at)
    if char == "" or char == "|" or char == "}" or (char == "," and depth > 0) then
      return variants
    elseif char == "{" then
      variants = product(state, at, variants, group(state, depth))
    elseif kinds[char] then
      variants = product(state, at, variants, { { { kind = kinds[char], at = at } } })
      state.at = at + 1
    else
      local set = depth > 0 and "^[^*.|{},]+" or "^[^*.|{}]+"
      local text = state.text:match(set, at)
      state.at = at + #text
      if state.text:find("^[|},]", state.at) or state.at > #state.text then
        text = text:gsub("%s+$", "") -- blanks before the end of an alternative or item
      end
      if text ~= "" then
        variants = product(state, at, variants, { { { kind = "text", at = at, text = text } } })
      end
    end
  end
end

-- Checking and cutting. A variant becomes a list of groups, each a list of segments that follow one
-- another; between groups lie any number of segments. A segment is a list of tokens without dots.

local function check_number(state, segment, i)
  for _, side in ipairs { segment[i - 1] or false, segment[i + 1] or false } do
    local digit = side and side.kind == "text"
      and side.text:find(side == segment[i - 1] and "%d$" or "^%d")
    if digit or (side and side.kind == "number") then
      fail(state, segment[i].at, "a number in braces is a whole one: no digit can stand beside it")
    end
  end
end

local function add_segment(state, groups, segment, at)
  local plain = false
  for i, token in ipairs(segment) do
    plain = plain or token.kind ~= "star"
    if token.kind == "number" then check_number(state, segment, i) end
  end
  if #segment == 0 then fail(state, at, "an empty segment; names have text between dots") end
  if plain then
    table.insert(groups[#groups], segment)
  elseif #groups[#groups] > 0 then
    groups[#groups + 1] = {}
  end
end

-- Texts that braces put side by side are one text.
local function append(segment, token)
  local last = segment[#segment]
  if last and last.kind == "text" and token.kind == "text" then
    segment[#segment] = { kind = "text", at = last.at, text = last.text .. token.text }
  elseif not (last and last.kind == "star" and token.kind == "star") then
    segment[#segment + 1] = token
  end
end

local function cut(state, variant, at)
  local groups, segment = { {} }, {}
  for _, token in ipairs(variant) do
    if token.kind == "dot" then
      add_segment(state, groups, segment, token.at)
      segment = {}
      at = token.at
    else
      append(segment, token)
    end
  end
  add_segment(state, groups, segment, at)
  if #groups[#groups] == 0 then groups[#groups] = nil end
  return groups
end

local function parse(text, context)
  local state = { text = text, context = context, at = 1 }
  local parsed = {}
  repeat
    local start = state.at
    local variants = sequence(state, 0)
    local stop = text:sub(state.at, state.at)
    if stop == "}" then fail(state, state.at, "'}' without '{'") end
    if #variants[1] == 0 then fail(state, start, "an empty pattern") end
    for _, variant in ipairs(variants) do parsed[#parsed + 1] = cut(state, variant, start) end
    state.at = state.at + 1
  until stop == ""
  return parsed
end

-- Matching. Both ways below find the groups one after the other, each as early as it can be: since
-- a group covers a fixed number of segments, no later place could help what follows.

local function in_intervals(digits, intervals)
  if #digits > 9 or (#digits > 1 and digits:byte() == 48) then return false end
  local n = tonumber(digits)
  for _, pair in ipairs(intervals) do
    if n >= pair[1] and n <= pair[2] then return true end
  end
  return false
end

-- The sure way: one segment at a time. A segment is split at its stars into pieces; a piece that
-- starts at a given place has at most one end, so taking each as early as possible is enough.

-- The end (exclusive) of the tokens first..last laid on `text` from `at`, or nil.
local function lay(text, at, tokens, first, last)
  for i = first, last do
    local token = tokens[i]
    if token.kind == "text" then
      if text:sub(at, at + #token.text - 1) ~= token.text then return nil end
      at = at + #token.text
    else
      local digits, stop = text:match("^%f[%d](%d+)()", at)
      if not digits or not in_intervals(digits, token[1]) then return nil end
      at = stop
    end
  end
  return at
end

-- Where the piece next starts at or after `at`: its end, or nil. Plain texts are found by C.
local function seek(text, at, tokens, first, last)
  while true do
    local token = tokens[first]
    local start = token.kind == "text" and text:find(token.text, at, true)
      or token.kind == "number" and text:find("%f[%d]", at)
    if not start then return nil end
    local stop = lay(text, start, tokens, first, last)
    if stop then return stop end
    at = start + 1
  end
end

-- Whether the piece lies at the very end of text, starting at or after `at`.
local function seek_end(text, at, tokens, first, last)
  local start = #text + 1
  for i = last, first, -1 do
    if tokens[i].kind == "text" then
      start = start - #tokens[i].text
    else
      while start > at and text:find("^%d", start - 1) do start = start - 1 end
    end
  end
  return start >= at and lay(text, start, tokens, first, last) == #text + 1
end

local function segment_matches(text, tokens)
  local at, first, anchored = 1, 1, true
  for i = 1, #tokens + 1 do
    if i > #tokens or tokens[i].kind == "star" then
      local last_piece = i > #tokens
      if first == i then
        if last_piece then return true end -- ends in a star
      elseif last_piece and not anchored then
        return seek_end(text, at, tokens, first, i - 1)
      elseif anchored then
        at = lay(text, 1, tokens, first, i - 1)
        if last_piece then return at == #text + 1 end
      else
        at = seek(text, at, tokens, first, i - 1)
      end
      if not at then return false end
      first, anchored = i + 1, false
    end
  end
end

local function group_at(segments, place, wanted)
  for i, tokens in ipairs(wanted) do
    if not segment_matches(segments[place + i - 1], tokens) then return false end
  end
  return true
end

local function split(name)
  local segments = {}
  for segment in (name .. "."):gmatch("([^.]*)%.") do segments[#segments + 1] = segment end
  return segments
end

local function slow_match(name, groups)
  local segments, place = split(name), 1
  for _, wanted in ipairs(groups) do
    while true do
      if place + #wanted - 1 > #segments then return false end
      if group_at(segments, place, wanted) then break end
      place = place + 1
    end
    place = place + #wanted
  end
  return true
end

-- The fast way: one string.find a group. %f[^.\0] is the start of a segment, %f[.\0] its end; where
-- the group starts or ends with a star, there is simply no such frontier. Only for groups with at
-- most one other star and none in a segment with a number: a place found has one reading then.

local function segment_source(tokens, is_first, is_last)
  local parts, numbers, stars, inner = {}, {}, 0, 0
  for i, token in ipairs(tokens) do
    if token.kind == "text" then
      parts[#parts + 1] = token.text:gsub("%p", "%%%0")
    elseif token.kind == "number" then
      parts[#parts + 1] = "(%d+)"
      numbers[#numbers + 1] = token[1]
    elseif not (is_first and i == 1) and not (is_last and i == #tokens) then
      parts[#parts + 1] = "[^.]*"
      inner = inner + 1
    end
    if token.kind == "star" then stars = stars + 1 end
  end
  if is_first and tokens[1].kind ~= "star" then table.insert(parts, 1, "%f[^.\0]") end
  if is_last and tokens[#tokens].kind ~= "star" then parts[#parts + 1] = "%f[.\0]" end
  return table.concat(parts), numbers, stars, inner
end

-- A group as a Lua pattern and the intervals of its captures; nil where the fast way will not do.
local function group_source(segments)
  local sources, intervals, inner = {}, {}, 0
  for i, tokens in ipairs(segments) do
    local source, numbers, stars, left = segment_source(tokens, i == 1, i == #segments)
    if #numbers > 0 and stars > 0 then return nil end
    sources[i], inner = source, inner + left
    table.move(numbers, 1, #numbers, #intervals + 1, intervals)
  end
  if inner > 1 or #intervals > 2 then return nil end
  return table.concat(sources, "%."), intervals
end

-- find_group(name, at) -> the position after the group found at or after `at`, or nil
local function finder(segments)
  local source, intervals = group_source(segments)
  if not source then return nil end
  local find = string.find
  if #intervals == 0 then
    return function(name, at)
      local _, stop = find(name, source, at)
      return stop and stop + 1
    end
  end
  return function(name, at)
    while true do
      local start, stop, a, b = find(name, source, at)
      if not start then return nil end
      if in_intervals(a, intervals[1]) and (not b or in_intervals(b, intervals[2])) then
        return stop + 1
      end
      at = start + 1
    end
  end
end

-- The longest text that every name matched must hold; "" when there is none. Looking for it first
-- is what makes a pattern cheap on the many names that it does not match.
local function needle_of(groups)
  local best, run = "", ""
  local function flush()
    best, run = #run > #best and run or best, ""
  end
  for _, segments in ipairs(groups) do
    for i, tokens in ipairs(segments) do
      if i > 1 then run = run .. "." end
      for _, token in ipairs(tokens) do
        if token.kind == "text" then run = run .. token.text else flush() end
      end
    end
    flush()
  end
  return best
end

local function full_test(groups)
  local finders = {}
  for i, segments in ipairs(groups) do
    finders[i] = finder(segments)
    if not finders[i] then return function(name) return slow_match(name, groups) end end
  end
  local first, count = finders[1], #finders
  return function(name)
    if #name > FAST_NAME then return slow_match(name, groups) end
    local at = first(name, 1)
    for i = 2, count do
      at = at and name:find(".", at, true) -- a group starts in a segment after the one before
      if not at then return false end
      at = finders[i](name, at)
    end
    return at ~= nil
  end
end

local function variant_test(groups)
  if #groups == 0 then return function() return true end end
  local needle, test, find = needle_of(groups), full_test(groups), string.find
  if needle == "" then return test end
  return function(name) return find(name, needle, 1, true) ~= nil and test(name) end
end

-- The values of a number as texts; nil for more than a few.
local function values_of(token)
  local list = {}
  for _, pair in ipairs(token[1]) do
    for n = math.max(pair[1], 0), pair[2] do
      if #list == FEW_VALUES then return nil end
      list[#list + 1] = { { kind = "text", at = token.at, text = tostring(n) } }
    end
  end
  return list
end

local function replaced(list, place, item)
  local copy = table.move(list, 1, #list, 1, {})
  copy[place] = item
  return copy
end

-- Appends the variants that a variant comes to when a number of few values that is a whole segment
-- is written out, for at most `times` numbers: texts are found faster.
local function write_out(groups, times, out)
  for g, segments in ipairs(times > 0 and groups or {}) do
    for s, tokens in ipairs(segments) do
      local values = #tokens == 1 and tokens[1].kind == "number" and values_of(tokens[1])
      for _, text in ipairs(values or {}) do
        write_out(replaced(groups, g, replaced(segments, s, text)), times - 1, out)
      end
      if values then return out end
    end
  end
  out[#out + 1] = groups
  return out
end

local function any_test(parsed)
  local tests, written = {}, {}
  for _, groups in ipairs(parsed) do write_out(groups, #parsed == 1 and 2 or 0, written) end
  for i, groups in ipairs(written) do tests[i] = variant_test(groups) end
  if #tests == 1 then return tests[1] end
  return function(name)
    for i = 1, #tests do
      if tests[i](name) then return true end
    end
    return false
  end
end

-- The matcher: m(name) or m:match(name) -> boolean, m.text the pattern as written, m.test the
-- bare function for loops over many names.
local methods = {}
local Matcher = { __name = "rondo.matcher", __metatable = "locked", __index = methods }

local function check_name(name, what)
  if type(name) ~= "string" then
    error(("bad argument #1 to '%s' (string expected, got %s)"):format(what, type(name)), 3)
  end
end

function methods:match(name)
  check_name(name, "match")
  return self.test(name)
end

function Matcher:__call(name)
  check_name(name, "matcher")
  return self.test(name)
end

function Matcher:__tostring()
  return "pattern '" .. self.text .. "'"
end

-- The bare functions by pattern and context. Matchers are tables that whoever asked for one may
-- change, so each compile makes a new one.
local cache = setmetatable({}, { __mode = "v" })

local function context_key(context)
  local keys = {}
  for name, value in pairs(context) do
    if type(name) ~= "string" or math.type(value) ~= "integer" or value < -1 then
      error("bad argument #2 to 'compile' (a context maps names to layer numbers)", 3)
    end
    keys[#keys + 1] = ("%s=%d"):format(name, value)
  end
  table.sort(keys)
  return table.concat(keys, "\0")
end

-- compile(text [, context]) -> matcher. The context maps words to layer numbers, usually
-- { first = 0, last = number of layers - 1 } (-1 for a model without layers: nothing matches);
-- without it a pattern that says first or last in braces is refused. Raises for malformed text.
function pattern.compile(text, context)
  check_name(text, "compile")
  local key = context and text .. "\0" .. context_key(context) or text
  local test = cache[key]
  if not test then
    local ok, parsed = pcall(parse, text, context)
    if not ok then error(parsed.malformed or parsed, parsed.malformed and 2 or 0) end
    test = any_test(parsed)
    cache[key] = test
  end
  return setmetatable({ text = text, test = test }, Matcher)
end

return pattern
