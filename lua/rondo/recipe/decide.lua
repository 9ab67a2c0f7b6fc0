-- recipe.decide: a recipe laid on a model: which rule decides each tensor, and for what scheme.
--
-- Tensors whose names differ in numbers only (src/format/groups.h) go through the rules together:
-- a pattern without digits, first and last cannot tell them apart, and neither does a function that
-- asks only for what they share. Of the rules that can, each tensor is asked alone.

local layer_of = require "rondo.recipe.layer"
local layers_of = require "rondo.model.layers"
local packed = require "rondo.formats.packed"
local parts = require "rondo.recipe.parts"
local pattern = require "rondo.pattern"

local decide = {}

-- ---- Rules ----

local function tells_numbers(text)
  return text:find "%d" or text:find "first" or text:find "last"
end

-- The name that patterns see: of a packed layer, the one its weight had.
local function plain_name(made, name)
  local record = made.list.records[name]
  return record and packed.plain_name(made.model, record.name) or name
end

-- A rule as a function (layer, name) -> whether it may tell numbers apart, scheme or nil, text.
local function compiled(rule, context)
  if rule.pattern then
    local test, single = pattern.compile(rule.pattern, context).test, tells_numbers(rule.pattern)
    return function(_, name) return single, test(name) and rule.scheme or nil, rule.text end
  elseif rule.test then
    return function(layer)
      local single, good = layer_of.ask(layer, rule.test)
      return single, good and rule.scheme or nil, rule.text
    end
  end
  return function(layer)
    local single, scheme, text = layer_of.ask(layer, rule.decide)
    return single, scheme, text or rule.text
  end
end

local function compile(made, body)
  local context, list = { first = 0, last = made.model.depth - 1 }, {}
  for i, rule in ipairs(body.rules) do list[i] = compiled(rule, context) end
  if body.otherwise then
    list[#list + 1] = function() return false, body.otherwise, "otherwise" end
  end
  return list
end

-- What the rules come to for a group, found out with one of its tensors: the rules that each must
-- be asked about, and the scheme and text that hold if none of them matches.
local function program_of(rules, layer, name)
  local program = { settled = {} }
  for _, rule in ipairs(rules) do
    local single, scheme, text = rule(layer, name)
    if single then
      program[#program + 1] = rule
    elseif scheme then
      program.scheme, program.text = scheme, text
      break
    end
  end
  return program
end

local function run(program, layer, name)
  for i = 1, #program do
    local _, scheme, text = program[i](layer, name)
    if scheme then return scheme, text end
  end
  return program.scheme, program.text
end

-- ---- Tensors that no rule matches ----

local MOST_SHOWN = 5

-- A pattern for a tensor and its like: the last two segments of its name.
local function line_for(name)
  local tail = name:match "([^.]*%.[^.]*)$" or name
  return ('{ "%s", rondo.keep }'):format((tail:gsub("%f[^.\0]%d+%f[.\0]", "*")))
end

local function complain(made, where, missing)
  local lines, seen = {}, {}
  for _, name in ipairs(missing) do
    local line = line_for(name)
    if not seen[line] then
      seen[line], lines[#lines + 1] = true, line
    end
  end
  local more = #lines > MOST_SHOWN and (", and %d more"):format(#lines - MOST_SHOWN) or ""
  error(("%s: no rule for %s of %s%s; add %s%s, or otherwise = rondo.keep"):format(where,
    missing[1], made.model.path,
    #missing > 1 and (" and %d other tensors"):format(#missing - 1) or "",
    table.concat(lines, ", ", 1, math.min(#lines, MOST_SHOWN)), more), 0)
end

-- ---- All tensors ----

-- Tensors that belong to a packed layer that another tensor stands for.
local function parts_of_records(made)
  local found = {}
  for _, record in pairs(made.list.records) do
    for i = 2, #record.parts do found[record.parts[i]] = true end
  end
  return found
end

-- The decision on one tensor, from the table of those on its group where they share it.
local function settle(settled, shared, name, what, scheme, text, make)
  if not shared then return make(name, what, scheme, text) end
  settled[scheme] = settled[scheme] or {}
  settled[scheme][text] = settled[scheme][text] or make(name, what, scheme, text)
  return settled[scheme][text]
end

--- Decides all tensors of a plan.
-- @param body   of recipe.body
-- @param where  for messages: "plan: recipe 'w4'"
-- @param make   function (name, what, scheme, text): the decision for a scheme; what: of
--               rondo.model.layers, or nil
-- @return list of decisions by number; raises where no rule matches a tensor
function decide.all(made, body, where, make)
  local rules, programs, hidden = compile(made, body), {}, parts_of_records(made)
  local decisions, missing = {}, {}
  local function one(number, name, group)
    local what, shared = layers_of.at(made.list, number)
    local layer, plain = layer_of.new(made, number, what, shared), plain_name(made, name)
    if not programs[group] then programs[group] = program_of(rules, layer, plain) end
    local program = programs[group]
    local scheme, text = run(program, layer, plain)
    if not scheme then
      missing[#missing + 1] = name
      return nil
    end
    shared = shared and not made.list.records[name]
    local decision = settle(program.settled, shared, name, what, scheme, text, make)
    if shared and #program == 0 then program.decision = decision end
    return decision
  end
  for number, name in ipairs(made.names) do
    local group = made.group_of[number]
    local program = programs[group]
    if hidden[name] then
      decisions[number] = make(name, nil, require("rondo.scheme").types.keep, "part of a layer")
    else
      decisions[number] = program and program.decision or one(number, name, group) or false
    end
  end
  if missing[1] then complain(made, where, missing) end
  return decisions
end

-- ---- Layers with their weights ----

-- The layers that are quantized: list of { number, name, what, layer, scheme, text }.
local function quantized(made, decisions)
  local list = {}
  for number, name in ipairs(made.names) do
    local decision = decisions[number]
    if decision.what == "quantize" then
      local what, shared = layers_of.at(made.list, number)
      list[#list + 1] = { number = number, name = name, what = what, scheme = decision.asked,
                          text = decision.rule,
                          layer = layer_of.new(made, number, what, shared) }
    end
  end
  return list
end

local function apply_revise(entry, revise)
  local scheme = revise(entry.scheme, entry.layer)
  if scheme and scheme ~= entry.scheme then entry.scheme, entry.text = scheme, "revise" end
end

--- Lets policy and revise change decisions. Arguments as above.
-- @param context  function (entries) -> what the policy gets
function decide.revise(made, body, decisions, make, context)
  if not body.policy and not body.revise then return end
  local entries = quantized(made, decisions)
  if body.policy then body.policy(context(entries)) end
  for _, entry in ipairs(entries) do
    if body.revise and entry.scheme.type ~= "keep" then apply_revise(entry, body.revise) end
    decisions[entry.number] = make(entry.name, entry.what, entry.scheme, entry.text)
  end
end

-- ---- Partners ----

local function differs(where, words, a, b)
  error(("%s: engines fuse %s, which need the same scheme: %s gets %s (%s), %s %s (%s); fused = "
    .. "false lets them differ"):format(where, words, a.path, a.label, a.rule, b.path, b.label,
    b.rule), 0)
end

-- Whether all layers with partners have one scheme, so that there is nothing to compare.
local function is_uniform(made, decisions)
  local first, has_partners = nil, {}
  for number, decision in ipairs(decisions) do
    local group = made.group_of[number]
    if has_partners[group] == nil then
      local path = layers_of.path(made.list, made.names[number])
      has_partners[group] = parts.partners(path or "") ~= nil
    end
    if has_partners[group] then
      first = first or decision
      if decision.scheme ~= first.scheme then return false end
    end
  end
  return true
end

--- Raises where layers that are fused would have different schemes.
function decide.check_partners(made, decisions, where)
  if is_uniform(made, decisions) then return end
  local known = {}
  for number, name in ipairs(made.names) do
    local path = layers_of.at(made.list, number) and layers_of.path(made.list, name)
    local shared, words = parts.partners(path or "")
    if shared then
      local decision, key = decisions[number], shared .. "\0" .. words
      local here = { path = path, scheme = decision.scheme, rule = decision.rule,
                     label = decision.scheme and decision.scheme:label() or "is kept" }
      known[key] = known[key] or here
      if known[key].scheme ~= here.scheme then differs(where, words, known[key], here) end
    end
  end
end

return decide
