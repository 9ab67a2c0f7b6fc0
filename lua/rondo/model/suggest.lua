-- suggest: what a mistyped name was meant to be. Only for messages: nothing is found by guessing.
--
-- Names of layers differ mostly in their numbers, so the comparison is between names with every
-- number replaced by "#": a model of 100,000 tensors has a few dozen of those.

local suggest = {}

local MAX_STEMS = 500
local MAX_LENGTH = 200

local function stem_of(name)
  return (name:gsub("%d+", "#"))
end

local function segments_in(name)
  return select(2, name:gsub("%.", ".")) + 1
end

-- The last n segments of a stem.
local function tail(stem, n)
  local at = #stem
  for _ = 1, n do
    local dot = stem:sub(1, at):match "^.*()%."
    if not dot then return stem end
    at = dot - 1
  end
  return stem:sub(at + 2)
end

-- Insertions, deletions and replacements that make a into b.
local function distance(a, b)
  local row = {}
  for j = 0, #b do row[j] = j end
  for i = 1, #a do
    local diagonal = row[0]
    row[0] = i
    for j = 1, #b do
      local cost = a:byte(i) == b:byte(j) and 0 or 1
      local best = math.min(row[j] + 1, row[j - 1] + 1, diagonal + cost)
      diagonal, row[j] = row[j], best
    end
  end
  return row[#b]
end

local function stems(names)
  local examples, list = {}, {}
  for _, name in ipairs(names) do
    if #name <= MAX_LENGTH then
      local stem = stem_of(name)
      if not examples[stem] and #list < MAX_STEMS then
        examples[stem], list[#list + 1] = name, stem
      end
    end
  end
  return list, examples
end

-- The stem with the numbers of `name` put back in.
local function with_numbers(stem, name)
  local numbers = name:gmatch "%d+"
  return (stem:gsub("#", function() return numbers() or "#" end))
end

--- The name of the list that `name` most likely stands for, or nil.
-- @param exists  tells whether a text names a tensor (in full or by its end)
function suggest.name(names, name, exists)
  if #name > MAX_LENGTH then return nil end
  local wanted, count = stem_of(name), segments_in(name)
  local list, examples = stems(names)
  local best, least = nil, math.max(2, #wanted // 3) + 1
  for _, stem in ipairs(list) do
    local far = distance(wanted, tail(stem, count))
    if far < least then best, least = stem, far end
  end
  if not best then return nil end
  local numbered = with_numbers(tail(best, count), name)
  return exists(numbered) and numbered or examples[best]
end

return suggest
