-- policy.budget: of several schemes, one for each layer, so that the whole fits a size and the sum
-- of the layers' relative errors is as small as can be found.
--
--   rondo.policy.budget { bits = 4.25, choices = { rondo.int3, rondo.int4, rondo.int8 } }
--
-- bits: of a weight, on average, scales and zero points included; or bytes: of all weight files.
-- Layers of fixed rules count, too.
-- sensitivity: function (layer) -> a factor for the layer's error (1). The errors are measured,
-- each layer with each scheme, as a report would say them. Layers that engines fuse get one scheme.
--
-- The search (rondo.policy.solve) finds no worse sum than any of the schemes for all layers would
-- have, where that fits. The same model and options give the same choice.

local options = require "rondo.options"
local scheme_of = require "rondo.scheme"
local solve = require "rondo.policy.solve"

local function check_choices(list)
  if type(list) ~= "table" or #list == 0 then return nil end
  for _, scheme in ipairs(list) do
    if not scheme_of.is(scheme) then return nil end
  end
  return table.move(list, 1, #list, 1, {})
end

local description = {
  bits = { kind = "number", above = 0 },
  bytes = { kind = "integer", min = 1 },
  choices = { kind = "custom", says = "a list of schemes", check = check_choices, required = true },
  sensitivity = { kind = "custom", says = "a function of a layer",
                  check = function(f) return type(f) == "function" and f or nil end },
}

-- ---- The table of errors and sizes ----

local function factor_of(sensitivity, layer)
  local factor = sensitivity and sensitivity(layer) or 1
  if type(factor) ~= "number" or not (factor >= 0 and factor < math.huge) then
    error(("budget: the sensitivity of %s must be a number of at least 0, not %s"):format(
      layer.name, tostring(factor)), 0)
  end
  return factor
end

local function count(shape)
  local n = 1
  for _, d in ipairs(shape) do n = n * d end
  return n
end

-- What the solver wants of layers that get one scheme.
local function measure(entries, plan, o)
  local unit = { entries = entries, weights = 0, errors = {}, bytes = {} }
  for c = 1, #o.choices do unit.errors[c], unit.bytes[c] = 0.0, 0 end
  for _, entry in ipairs(entries) do
    local factor = factor_of(o.sensitivity, entry.layer)
    unit.weights = unit.weights + count(entry.layer.shape)
    for c, scheme in ipairs(o.choices) do
      unit.errors[c] = unit.errors[c] + factor * entry.layer:loss(scheme)
      unit.bytes[c] = unit.bytes[c] + plan.bytes(entry, scheme)
    end
  end
  return unit
end

-- The same of a layer that keeps its scheme: there is nothing to choose.
local function measure_fixed(entry, plan, o)
  local unit = { entries = {}, weights = count(entry.layer.shape), errors = {}, bytes = {} }
  local bytes = plan.bytes(entry, entry.scheme)
  for c = 1, #o.choices do unit.errors[c], unit.bytes[c] = 0.0, bytes end
  return unit
end

-- ---- Choosing ----

-- said: what was asked for; weights: of all units.
local function choose(units, limit, said, weights)
  local chosen, least = solve(units, limit)
  if not chosen then
    error(("budget: %s cannot be met: the smallest choices need %d bytes more (%.4g bits a weight)")
      :format(said, least - limit, least * 8 / weights), 0)
  end
  return chosen
end

local function weights_of(units)
  local weights = 0
  for _, unit in ipairs(units) do weights = weights + unit.weights end
  return weights
end

local function apply(units, chosen, o)
  for u, unit in ipairs(units) do
    for _, entry in ipairs(unit.entries) do
      entry.scheme, entry.text = o.choices[chosen[u]], "budget"
    end
  end
end

-- What the layers may have of all bytes. Headers are a little longer or shorter with other choices,
-- so that it is found by looking at the whole; it shrinks with each round.
local function fit_files(units, plan, o)
  local said = o.bytes .. " bytes"
  local _, least = solve(units, -1)
  apply(units, solve(units, least), o)
  local limit = o.bytes - (plan.total() - least)
  while true do
    apply(units, choose(units, limit, said, weights_of(units)), o)
    local excess = plan.total() - o.bytes
    if excess <= 0 then return end
    limit = limit - excess
  end
end

local function fit_bits(units, o)
  local weights = weights_of(units)
  apply(units, choose(units, math.floor(o.bits * weights / 8), o.bits .. " bits", weights), o)
end

--- @param given  see the head of this file
-- @return a policy; see rondo.policy
return function(given)
  local o = options.check("budget", given, description, 3)
  if (o.bits == nil) == (o.bytes == nil) then
    error("budget: either bits or bytes is needed", 3)
  end
  return function(plan)
    local units = {}
    for u, entries in ipairs(plan.units) do units[u] = measure(entries, plan, o) end
    if #units == 0 then return end
    for _, entry in ipairs(plan.fixed) do units[#units + 1] = measure_fixed(entry, plan, o) end
    if o.bytes then return fit_files(units, plan, o) end
    return fit_bits(units, o)
  end
end
