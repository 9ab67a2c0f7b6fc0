-- Random texts and patterns through find, match, gmatch and gsub; a line of results for each few
-- hundred of them by warn. Errors count as results: that there is one, not its words. Both Lua's
-- own functions and those of a sandbox run this.
local random_state = 1

-- A generator of its own: the same numbers everywhere.
local function random(n)
  random_state = (random_state * 1103515245 + 12345) % 2147483648
  return (random_state >> 8) % n + 1
end

local function pick(list) return list[random(#list)] end

local letters = { "a", "b", "c", "A", "1", " ", ".", "-", "]", "(", ")", "\0", "\n", "\xe4", "%" }
local parts = { "a", "b", "c", ".", "%a", "%d", "%s", "%W", "%u", "%%", "%.", "[abc]", "[^ab]",
                "[a-c]", "[%a-]", "[]a]", "[^]]", "[%]]", "[a-]", "%f[%a]", "%f[^a]", "%bab",
                "%b()", "%1", "%2", "(", ")", "()", "^", "$", "\0",
                "\xe4", "[\xe0-\xff]", "]", "-" }
local ends = { "%", "[", "[^", "[a", "[%", "%b", "%ba", "%f", "%fa", "(", ")", "[]", "[^]", "[a-" }
local suffixes = { "", "", "", "*", "+", "-", "?" }
local replacements = { "x", "%0", "<%1>", "%2", "%%", "%", "%x", "", 5 }

local function text(most)
  local out = {}
  for i = 1, random(most) - 1 do out[i] = pick(letters) end
  return table.concat(out)
end

local function pattern()
  local out = {}
  if random(5) == 1 then out[1] = "^" end
  local open = 0
  for _ = 1, random(5) do
    local part = pick(parts)
    if part == "(" then open = open + 1 end
    if part == ")" and open > 0 then open = open - 1 end
    out[#out + 1] = part .. (part:find "^[()]" and "" or pick(suffixes))
  end
  if random(3) > 1 then out[#out + 1] = (")"):rep(open) end
  if random(8) == 1 then out[#out + 1] = pick(ends) end
  if random(5) == 1 then out[#out + 1] = "$" end
  return table.concat(out)
end

-- The results of a call as a text of printable characters.
local function show(ok, ...)
  if not ok then return "error" end
  local out = table.pack(...)
  for i = 1, out.n do
    out[i] = tostring(out[i]):gsub("[^%w]", function(c) return ("~%02x"):format(c:byte()) end)
  end
  return table.concat(out, ",")
end

local function all_matches(s, p, init)
  local out = {}
  for a, b in s:gmatch(p, init) do
    out[#out + 1] = tostring(a) .. "/" .. tostring(b)
    if #out > 50 then break end
  end
  return table.concat(out, ";")
end

local replacers = {
  function(a, b) return b or a end,
  function() return nil end,
  function(a) return #tostring(a) end,
  { a = "A", b = 1, ab = false, [1] = "one" },
  setmetatable({}, { __index = function(_, key) return key end }),
  function() return {} end,
}

-- Sums up texts: polynomial, modulo a prime.
local sum = 0
local function add(line)
  for i = 1, #line do sum = (sum * 257 + line:byte(i)) % 2305843009213693951 % 1000000007 end
end

local matched, failed = 0, 0
for round = 1, 3000 do
  local s, p, init = text(14), pattern(), random(20) - 8
  if random(2) == 1 then init = 1 end
  local found = show(pcall(string.find, s, p, init))
  if found == "error" then failed = failed + 1 elseif found ~= "nil" then matched = matched + 1 end
  add(found)
  add(show(pcall(string.find, s, text(3), init, true)))
  add(show(pcall(string.match, s, p, init)))
  add(show(pcall(all_matches, s, p, init)))
  local most = random(4) == 1 and random(4) - 1 or nil
  add(show(pcall(string.gsub, s, p, pick(replacements), most)))
  add(show(pcall(string.gsub, s, p, pick(replacers), most)))
  add(show(pcall(string.rep, s, random(5) - 2, text(3))))
  if round % 250 == 0 then warn(("%d %d %d %d"):format(round, matched, failed, sum)) end
end
for _, call in ipairs {
  { string.find, "abc", {} }, { string.find, 12, 2 }, { string.find, "", "", 10 },
  { string.find, "a", "", 2 }, { string.find, "a", "", 3 }, { string.gmatch, "a" },
  { string.gsub, "a", "a" }, { string.gsub, "a", "a", true }, { string.gsub, "hello", "", "-" },
  { string.gsub, "hello", "l*", "x" }, { string.gsub, "abc", "%w", "%0%0", 2 },
  { string.gsub, "abc", "(a)(b)(c)", "%3%2%1" }, { string.rep, "x", -1 },
  { string.rep, "", 5, "," }, { string.match, "key = value", "^(%w+)%s*=%s*(%w+)$" },
  { string.match, "x", ("()"):rep(32) }, { string.match, "x", ("()"):rep(33) },
  { string.find, "a\0b", "%z" }, { string.find, "a\0b", "\0" },
  { string.match, ("a"):rep(300), ("a?"):rep(150) }, { string.find, "aXb", "%f[%u]%u%f[%l]" },
  { string.gsub, "THE (quick) fox", "%f[%a]%a+", string.lower }, { string.match, "2026", "%d%d-$" },
  { string.gsub, "abc", ".", { a = 1, b = true } }, { string.find, "x", "x", math.mininteger },
} do
  warn(show(pcall(call[1], call[2], call[3], call[4])))
end
