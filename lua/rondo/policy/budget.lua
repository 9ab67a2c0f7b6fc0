-- policy.budget: of several schemes, one for each layer, so that the whole fits a size and the sum
-- of the layers' relative errors is as small as can be found.
--
--   rondo.policy.budget { bits = 4.25, choices = { rondo.int3, rondo.int4, rondo.int8 } }
--
-- bits: of a weight, on average, scales and zero points included; or bytes: of all weight files.
-- Layers of fixed rules count, too.
-- sensitivity: function (layer) -> a factor for the layer's error (1). The errors are measured,
-- each layer with each scheme, as a report would say them. Layers that engines fuse get one scheme.
-- A choice that the format has no place for in a layer is left out for it, and a note says so; a
-- layer without any is left to the recipe's fallback.
--
-- The search (rondo.policy.solve) finds no worse sum than any of the schemes for all layers would
-- have, where that fits. The same model and options give the same choice.

local options = require "rondo.options"
local scheme_of = require "rondo.scheme"
local solve = require "rondo.policy.solve"
local text_table = require "rondo.text_table"

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

-- Why a choice has no place in layers that get one scheme, or nil.
local function misfit(entries, plan, scheme)
  for _, entry in ipairs(entries) do
    local fit, why = plan.fit(entry, scheme)
    if not fit then return why end
  end
end

-- The choices for layers that get one scheme. In place of one that has no place stands the next
-- before it that has, or behind it; where none has, all stay, so that the fallback shows. left_out
-- hears of those without a place.
local function choices_for(entries, plan, choices, left_out)
  local list, first = {}, nil
  for c, scheme in ipairs(choices) do
    local why = misfit(entries, plan, scheme)
    if why then left_out(scheme, why, #entries) else first = first or scheme end
    list[c] = not why and scheme or list[c - 1] or false
  end
  for c, scheme in ipairs(choices) do list[c] = list[c] or first or scheme end
  return list
end

-- What a layer would lose with a scheme, as it would be stored.
local function loss_of(entry, plan, scheme)
  local fit = plan.fit(entry, scheme)
  for _, other in ipairs(fit and {} or plan.fallback) do
    fit = fit or plan.fit(entry, other)
  end
  return entry.layer:loss(fit or scheme)
end

-- The summed error and bytes of layers with a scheme.
local function cost_of(entries, plan, scheme, sensitivity)
  local error, bytes = 0.0, 0
  for _, entry in ipairs(entries) do
    error = error + factor_of(sensitivity, entry.layer) * loss_of(entry, plan, scheme)
    bytes = bytes + plan.bytes(entry, scheme)
  end
  return error, bytes
end

-- What the solver wants of layers that get one scheme.
local function measure(entries, plan, o, left_out)
  local unit = { entries = entries, weights = 0, errors = {}, bytes = {},
                 choices = choices_for(entries, plan, o.choices, left_out) }
  for _, entry in ipairs(entries) do
    unit.weights = unit.weights + count(entry.layer.shape)
  end
  for c, scheme in ipairs(unit.choices) do
    if scheme == unit.choices[c - 1] then
      unit.errors[c], unit.bytes[c] = unit.errors[c - 1], unit.bytes[c - 1]
    else
      unit.errors[c], unit.bytes[c] = cost_of(entries, plan, scheme, o.sensitivity)
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

-- ---- Choices that the format has no place for ----

-- A function that hears of them, and one that gives a note for each, with its first reason.
local function left_out_of(choices)
  local layers, reasons = {}, {}
  local function hear(scheme, why, count_of_layers)
    layers[scheme] = (layers[scheme] or 0) + count_of_layers
    reasons[scheme] = reasons[scheme] or why
  end
  local function notes()
    local list, told = {}, {}
    for _, scheme in ipairs(choices) do
      if layers[scheme] and not told[scheme] then
        told[scheme] = true
        list[#list + 1] = ("budget: %s is left out for %s: %s"):format(tostring(scheme),
          text_table.count(layers[scheme], "layer"), reasons[scheme])
      end
    end
    return list
  end
  return hear, notes
end

-- ---- Choosing ----

-- said: what was asked for; weights: of all units.
local function choose(units, limit, said, weights)
  local chosen, least = solve(units, limit)
  if not chosen then
    error(table.concat({ ("budget: %s cannot be met: the smallest choices need %d bytes more (%.4g "
      .. "bits a weight)"):format(said, least - limit, least * 8 / weights),
      table.unpack(units.notes) }, "; "), 0)
  end
  return chosen
end

local function weights_of(units)
  local weights = 0
  for _, unit in ipairs(units) do weights = weights + unit.weights end
  return weights
end

local function apply(units, chosen)
  for u, unit in ipairs(units) do
    for _, entry in ipairs(unit.entries) do
      entry.scheme, entry.text = unit.choices[chosen[u]], "budget"
    end
  end
end

-- What the layers may have of all bytes. Headers are a little longer or shorter with other choices,
-- so that it is found by looking at the whole; it shrinks with each round.
local function fit_files(units, plan, o)
  local said = o.bytes .. " bytes"
  local _, least = solve(units, -1)
  apply(units, solve(units, least))
  local limit = o.bytes - (plan.total() - least)
  while true do
    apply(units, choose(units, limit, said, weights_of(units)))
    local excess = plan.total() - o.bytes
    if excess <= 0 then return end
    limit = limit - excess
  end
end

local function fit_bits(units, o)
  local weights = weights_of(units)
  apply(units, choose(units, math.floor(o.bits * weights / 8), o.bits .. " bits", weights))
end

--- @param given  see the head of this file
-- @return a policy; see rondo.policy
return function(given)
  local o = options.check("budget", given, description, 3)
  if (o.bits == nil) == (o.bytes == nil) then
    error("budget: either bits or bytes is needed", 3)
  end
  return function(plan)
    local left_out, notes = left_out_of(o.choices)
    local units = {}
    for u, entries in ipairs(plan.units) do units[u] = measure(entries, plan, o, left_out) end
    units.notes = notes()
    for _, text in ipairs(units.notes) do plan.note(text) end
    if #units == 0 then return end
    for _, entry in ipairs(plan.fixed) do units[#units + 1] = measure_fixed(entry, plan, o) end
    if o.bytes then return fit_files(units, plan, o) end
    return fit_bits(units, o)
  end
end
