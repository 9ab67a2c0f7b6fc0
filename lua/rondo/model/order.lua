-- order: names of tensors in the order of the model. Files list names by their letters, layers.10
-- before layers.2; here numbers count as numbers.
--
-- Promises: names that differ first in a whole number between dots come by that number, and take
-- only the places that names of their kind had; everything else stays where it was.

local order = {}

-- The next segment that is a whole number, from byte `at`: what is before it, its digits without
-- leading zeros, and where it ends.
local function next_number(name, at)
  local start, stop, digits = name:find("%f[^.\0](%d+)%f[.\0]", at)
  if not start then return nil end
  if #digits > 1 then digits = digits:gsub("^0+(.)", "%1") end
  return name:sub(1, start - 1), digits, stop + 1
end

local function smaller(a, b)
  if #a ~= #b then return #a < #b end
  return a < b
end

local MAX_DEPTH = 8 -- numbers of a name that count; real ones have three at most

local arrange -- forward

-- The items of one group, whose names agree up to a number, in the order of that number.
local function sorted_group(group, name_of, depth)
  if #group.numbers > 1 then table.sort(group.numbers, smaller) end
  local out = {}
  for _, digits in ipairs(group.numbers) do
    local items = group.buckets[digits]
    if #items > 1 and depth < MAX_DEPTH then arrange(items, name_of, items.at, depth + 1) end
    table.move(items, 1, #items, #out + 1, out)
  end
  return out
end

-- Rearranges items in place, comparing names from byte `at` on.
function arrange(items, name_of, at, depth)
  local groups, list = {}, {}
  for place, item in ipairs(items) do
    local before, digits, stop = next_number(name_of(item), at)
    if before then
      local group = groups[before]
      if not group then
        group = { places = {}, numbers = {}, buckets = {} }
        groups[before], list[#list + 1] = group, group
      end
      local bucket = group.buckets[digits]
      if not bucket then
        bucket = { at = stop }
        group.buckets[digits] = bucket
        group.numbers[#group.numbers + 1] = digits
      end
      bucket[#bucket + 1] = item
      group.places[#group.places + 1] = place
    end
  end
  for _, group in ipairs(list) do
    local sorted = sorted_group(group, name_of, depth)
    for i, place in ipairs(group.places) do items[place] = sorted[i] end
  end
end

--- Rearranges a list in place.
-- @param name_of  gives the name of an item; without it the items are names
function order.arrange(items, name_of)
  arrange(items, name_of or function(item) return item end, 1, 1)
end

return order
