-- policy.solve: one of several choices for each of many units, the sum of errors small, the sum of
-- bytes within a limit.
--
-- A price for a byte makes the choices independent; the lowest price at which they fit is found by
-- bisection. That is the best there is for the bytes it uses, and leaves some unused: single units
-- then take better choices while they fit, most gain for a byte first. The same is done from every
-- choice for all units that fits, and the best of these is the answer. Ties go to the first.

-- The choice of a unit at a price: the least error + price * bytes, of those the fewest bytes.
local function at_price(unit, price)
  local best, best_value = 1, unit.errors[1] + price * unit.bytes[1]
  for c = 2, #unit.errors do
    local value = unit.errors[c] + price * unit.bytes[c]
    if value < best_value or value == best_value and unit.bytes[c] < unit.bytes[best] then
      best, best_value = c, value
    end
  end
  return best
end

local function all_at(units, price)
  local chosen, bytes = {}, 0
  for u, unit in ipairs(units) do
    chosen[u] = at_price(unit, price)
    bytes = bytes + unit.bytes[chosen[u]]
  end
  return chosen, bytes
end

local function smallest(units)
  local chosen, bytes = {}, 0
  for u, unit in ipairs(units) do
    local best = 1
    for c = 2, #unit.bytes do
      local fewer = unit.bytes[c] < unit.bytes[best]
      local same = unit.bytes[c] == unit.bytes[best]
      if fewer or same and unit.errors[c] < unit.errors[best] then best = c end
    end
    chosen[u], bytes = best, bytes + unit.bytes[best]
  end
  return chosen, bytes
end

local ROUNDS = 200 -- of the bisection: prices differ in the last bit long before

local function by_price(units, limit)
  local chosen, bytes = all_at(units, 0)
  if bytes <= limit then return chosen, bytes end
  local low, high, found, found_bytes = 0, 1.0, nil, nil
  for _ = 1, ROUNDS do
    local price = found and (low + high) / 2 or high
    chosen, bytes = all_at(units, price)
    if bytes <= limit then
      high, found, found_bytes = price, chosen, bytes
    elseif found then
      low = price
    else
      low, high = price, 2 * high
    end
    if found and (low + high) / 2 == low then break end
  end
  if found then return found, found_bytes end
  return smallest(units)
end

-- All changes of single units that lower the error, most gain for a byte first.
local function improvements(units, chosen)
  local list = {}
  for u, unit in ipairs(units) do
    for c = 1, #unit.errors do
      local gain = unit.errors[chosen[u]] - unit.errors[c]
      local more = unit.bytes[c] - unit.bytes[chosen[u]]
      if gain > 0 then
        list[#list + 1] = { unit = u, choice = c, rate = more > 0 and gain / more or math.huge }
      end
    end
  end
  table.sort(list, function(a, b)
    if a.rate ~= b.rate then return a.rate > b.rate end
    if a.unit ~= b.unit then return a.unit < b.unit end
    return a.choice < b.choice
  end)
  return list
end

-- Improves in place what fits; returns the bytes.
local function fill(units, chosen, bytes, limit)
  repeat
    local changed, done = false, {}
    for _, step in ipairs(improvements(units, chosen)) do
      local unit = units[step.unit]
      local after = bytes + unit.bytes[step.choice] - unit.bytes[chosen[step.unit]]
      if not done[step.unit] and after <= limit then
        chosen[step.unit], bytes, changed, done[step.unit] = step.choice, after, true, true
      end
    end
  until not changed
  return bytes
end

local function total_error(units, chosen)
  local sum = 0.0
  for u, unit in ipairs(units) do sum = sum + unit.errors[chosen[u]] end
  return sum
end

local function uniform(units, c)
  local chosen, bytes = {}, 0
  for u, unit in ipairs(units) do chosen[u], bytes = c, bytes + unit.bytes[c] end
  return chosen, bytes
end

--- @param units  list of { errors, bytes }: lists by choice, of the same length in all
-- @param limit  bytes
-- @return list of choices by unit; or nil and the fewest bytes possible
return function(units, limit)
  local _, least = smallest(units)
  if least > limit then return nil, least end
  local best, best_error
  local function try(chosen, bytes)
    if bytes > limit then return end
    fill(units, chosen, bytes, limit)
    local error = total_error(units, chosen)
    if not best or error < best_error then best, best_error = chosen, error end
  end
  try(by_price(units, limit))
  for c = 1, #(units[1] or { errors = {} }).errors do try(uniform(units, c)) end
  return best or {}
end
