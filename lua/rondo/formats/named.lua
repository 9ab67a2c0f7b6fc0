-- formats.named: sets of modules as configurations name them: paths, parts of paths, expressions of
-- Python's. A set answers for 100,000 modules in turn however many names it has: an expression is
-- tried where a path begins as it does.

local regex = require "rondo.formats.regex"

local named = {}

local Set = {}
Set.__index = Set

--- An empty set.
function named.new()
  return setmetatable({ values = {}, names = {}, expressions = {}, lengths = {},
                        seen = {} }, Set)
end

--- Adds a path; value: what find gives for it.
function Set:add(path, value)
  if not self.values[path] then
    self.values[path] = {}
    self.names[#self.names + 1] = path
  end
  table.insert(self.values[path], value)
end

-- The letters that all texts begin with which an expression matches.
local function beginning(expression)
  if expression:find("|", 1, true) then return "" end
  local letters, at = {}, expression:match "^%^?()"
  while true do
    local letter, behind = expression:match("^\\(%p)()", at)
    if not letter then letter, behind = expression:match("^([%w_%-])()", at) end
    if not letter or expression:find("^[%*%?{]", behind) then return table.concat(letters) end
    letters[#letters + 1], at = letter, behind
  end
end

--- Adds all paths that an expression matches from their beginning on.
function Set:add_expression(expression, value)
  local start = beginning(expression)
  if not self.expressions[start] then self.expressions[start] = {} end
  if not self.seen[#start] then
    self.seen[#start] = true
    self.lengths[#self.lengths + 1] = #start
  end
  table.insert(self.expressions[start], { matches = regex.compile(expression), value = value })
end

--- The values of a path, a list; and whether some expression cannot be understood, so that there
--- may be more.
function Set:find(path)
  local exact, found, unknown = self.values[path] or {}, {}, false
  table.move(exact, 1, #exact, 1, found)
  for _, length in ipairs(self.lengths) do
    local start = path:sub(1, length)
    for _, e in ipairs(#start == length and self.expressions[start] or {}) do
      local matches
      if e.matches then matches = e.matches(path) end
      if matches then found[#found + 1] = e.value end
      unknown = unknown or matches == nil
    end
  end
  return found, unknown
end

--- Whether a run of whole segments of the path is in the set.
function Set:has_run(path)
  local starts = { 1 }
  for dot in path:gmatch "()%." do starts[#starts + 1] = dot + 1 end
  for i = 1, #starts do
    for j = i, #starts do
      local last = starts[j + 1] and starts[j + 1] - 2 or #path
      if self.values[path:sub(starts[i], last)] then return true end
    end
  end
  return false
end

--- Whether any of the set's paths is a part of the text.
function Set:has_part(path)
  if self:has_run(path) then return true end
  for _, name in ipairs(self.names) do
    if path:find(name, 1, true) then return true end
  end
  return false
end

return named
