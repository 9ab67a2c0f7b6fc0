-- recipe.decide: a recipe laid on a model: which rule decides each tensor, and for what scheme.
--
-- Tensors whose names differ in numbers only (src/format/groups.h) go through the rules together:
-- a pattern without digits, first and last cannot tell them apart, and neither does a function that
-- asks only for what they share. Where functions ask for the depth besides, those of a depth go
-- together. Of other rules each tensor is asked alone.

local layer_of = require "rondo.recipe.layer"
local layers_of = require "rondo.model.layers"
local parts = require "rondo.recipe.parts"
local pattern = require "rondo.pattern"
local scheme_of = require "rondo.scheme"

local decide = {}

-- ---- Rules ----

local function names_ends(text)
  return text:find "first" or text:find "last"
end

local function tells_numbers(text)
  return text:find "%d" or names_ends(text)
end

-- The name that patterns see: of a packed layer, the one its weight had.
local function plain_name(made, name)
  local record = made.list.records[name]
  return record and record.weight or name
end

-- What a function of a recipe gave, checked.
local function scheme_or_nil(value, said)
  if not value or scheme_of.is(value) then return value or nil end
  error(("%s gives a scheme or nil, not a %s"):format(said, type(value)), 0)
end

-- A rule as a function (name, look) -> what it asked (see layer.ask), scheme or nil, text; look()
-- gives the layer. matched: rules whose pattern has matched a tensor.
local function compiled(view, rule, context, matched)
  if rule.pattern then
    local test = pattern.compile(rule.pattern, context).test
    local asked = tells_numbers(rule.pattern) and layer_of.OWN or layer_of.SHARED
    return function(name)
      if not test(name) then return asked, nil end
      matched[rule] = true
      return asked, rule.scheme, rule.text
    end
  elseif rule.test then
    return function(_, look)
      local asked, good = layer_of.ask(view, look(), rule.test)
      return asked, good and rule.scheme or nil, rule.text
    end
  end
  return function(_, look)
    local asked, scheme, text = layer_of.ask(view, look(), rule.decide)
    return asked, scheme_or_nil(scheme, rule.text), text or rule.text
  end
end

-- The first and last layer, which take counting, where patterns speak of them.
local function context_of(made, body)
  for _, rule in ipairs(body.rules) do
    if rule.pattern and names_ends(rule.pattern) then
      return { first = 0, last = made.model.depth - 1 }
    end
  end
end

local function compile(view, body, context, matched)
  local list = {}
  for i, rule in ipairs(body.rules) do
    list[i] = compiled(view, rule, context, matched)
  end
  if body.otherwise then
    list[#list + 1] = function() return layer_of.SHARED, body.otherwise, "otherwise" end
  end
  return list
end

-- What the rules come to for a group, found out with one of its tensors: the rules that each must
-- be asked about, the scheme and text that hold if none of them matches, and what was asked.
local function program_of(rules, name, look)
  local program = { settled = {}, asked = layer_of.SHARED }
  for _, rule in ipairs(rules) do
    local asked, scheme, text = rule(name, look)
    if asked ~= layer_of.SHARED then
      program[#program + 1] = rule
      program.asked = math.max(program.asked, asked)
    elseif scheme then
      program.scheme, program.text = scheme, text
      break
    end
  end
  return program
end

-- @return scheme, text, and what was asked for them
local function run(program, name, look)
  local most = layer_of.SHARED
  for i = 1, #program do
    local asked, scheme, text = program[i](name, look)
    if asked > most then most = asked end
    if scheme then return scheme, text, most end
  end
  return program.scheme, program.text, most
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

-- ---- Rules that match no tensor ----

-- Whether a pattern that decides nothing matches a tensor that an earlier rule decides.
local function matches_any(made, rule, context)
  local test = pattern.compile(rule.pattern, context).test
  for _, name in ipairs(made.names) do
    if test(plain_name(made, name)) then return true end
  end
  return false
end

-- Plain options speak of their patterns themselves.
local function remark_unmatched(made, body, context, matched)
  local recipe = made.options.named
  if not recipe then return end
  for _, rule in ipairs(body.rules) do
    if rule.pattern and not matched[rule] and not matches_any(made, rule, context) then
      warn(("%s: rule '%s' matches no tensor of %s"):format(recipe, rule.pattern,
        made.model.path))
    end
  end
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

local function group_program(d, number, name, plain)
  local program, list = program_of(d.rules, plain, d.look), d.made.list
  program.shared = select(2, layers_of.at(list, number)) and not list.records[name]
  if program.asked == layer_of.DEPTH and program.shared then program.by_path = {} end
  d.programs[d.made.group_of[number]] = program
  return program
end

-- The decision for a scheme. Where the tensors of a group have the same one, it is remembered.
local function settle(d, number, name, program, scheme, text)
  local decision = d.make(name, layers_of.at(d.made.list, number), scheme, text)
  if program.shared then
    program.settled[scheme] = program.settled[scheme] or {}
    program.settled[scheme][text] = decision
    if #program == 0 then program.decision = decision end
  end
  return decision
end

-- The decisions on tensors of a group that have the path before the depth in common, by depth; and
-- the depth of this one.
local function by_depth(d, program, number)
  local depth, path = layers_of.depth(d.made.list, number)
  path, depth = path or "", depth or 0
  program.by_path[path] = program.by_path[path] or {}
  return program.by_path[path], depth
end

-- The decision on one tensor, or nil.
local function one(d, number, name, program)
  local plain, like, depth = name, nil, nil
  if d.has_records then plain = plain_name(d.made, name) end
  d.number, d.layer = number, nil
  program = program or group_program(d, number, name, plain)
  if program.by_path then
    like, depth = by_depth(d, program, number)
    if like[depth] then return like[depth] end
  end
  local scheme, text, asked = run(program, plain, d.look)
  if not scheme then return nil end
  local settled = program.settled[scheme]
  local decision = settled and settled[text] or settle(d, number, name, program, scheme, text)
  if like and asked <= layer_of.DEPTH then like[depth] = decision end
  return decision
end

--- Decides all tensors of a plan.
-- @param body   of recipe.body
-- @param where  for messages: "plan: recipe 'w4'"
-- @param make   function (name, what, scheme, text): the decision for a scheme; what: of
--               rondo.model.layers, or nil
-- @return list of decisions by number; raises where no rule matches a tensor
function decide.all(made, body, where, make)
  local context, matched = context_of(made, body), {}
  local view = layer_of.view(made)
  local d = { made = made, rules = compile(view, body, context, matched), programs = {},
              make = make, has_records = next(made.list.records) ~= nil }
  function d.look()
    d.layer = d.layer or layer_of.new(view, d.number)
    return d.layer
  end
  local hidden, decisions, missing = parts_of_records(made), {}, {}
  for number, name in ipairs(made.names) do
    local program = d.programs[made.group_of[number]]
    local decision = program and program.decision
    if hidden[name] then
      decision = make(name, nil, scheme_of.types.keep, "part of a layer")
    elseif not decision then
      decision = one(d, number, name, program)
    end
    if not decision then missing[#missing + 1] = name end
    decisions[number] = decision or false
  end
  if missing[1] then complain(made, where, missing) end
  remark_unmatched(made, body, context, matched)
  return decisions
end

-- ---- Layers with their weights ----

-- The layers that are quantized: list of { number, name, what, layer, scheme, text, fixed }. What a
-- fixed rule decides is told by its text, which says so.
local function quantized(made, body, decisions)
  local list, view, fixed = {}, layer_of.view(made), {}
  for _, rule in ipairs(body.rules) do fixed[rule.text] = rule.fixed end
  for number, name in ipairs(made.names) do
    local decision = decisions[number]
    if decision.what == "quantize" then
      list[#list + 1] = { number = number, name = name, what = layers_of.at(made.list, number),
                          scheme = decision.asked, text = decision.rule,
                          fixed = fixed[decision.rule] or false,
                          layer = layer_of.new(view, number) }
    end
  end
  return list
end

local function apply_revise(entry, revise, said)
  local scheme = scheme_or_nil(revise(entry.scheme, entry.layer), said)
  if scheme and scheme ~= entry.scheme then entry.scheme, entry.text = scheme, "revise" end
end

-- Lets a policy choose for the layers that no rule holds fast.
local function apply_policy(policy, about, entries)
  about.layers, about.fixed = {}, {}
  for _, entry in ipairs(entries) do
    table.insert(entry.fixed and about.fixed or about.layers, entry)
  end
  policy(about)
end

--- Lets policy and revise change decisions. Arguments as above.
-- @param context  function (entries) -> what the policy gets
function decide.revise(made, body, decisions, make, context)
  if not body.policy and not body.revise then return end
  local entries, recipe = quantized(made, body, decisions), made.options.named
  if body.policy then apply_policy(body.policy, context(entries), entries) end
  for _, entry in ipairs(entries) do
    local where = ("%s: %s: "):format(recipe, entry.name)
    scheme_or_nil(entry.scheme, where .. "policy")
    if body.revise and entry.scheme.type ~= "keep" then
      apply_revise(entry, body.revise, where .. "revise")
    end
    decisions[entry.number] = make(entry.name, entry.what, entry.scheme, entry.text)
  end
end

-- ---- Layers that engines take together ----
--
-- q, k and v become one matrix; so do the experts of a layer in formats that have a layer for each.
-- Both have one scheme. Where experts are stacked by projection, all of them are or none.

local EXPERTS = "the experts of a layer"

-- How the layers of a group are taken together: words, and how much of a name stands behind what
-- they share (nil for experts, whose numbers have any length); false for a layer by itself.
local function ties_of(made, number)
  local name, what = made.names[number], layers_of.at(made.list, number)
  if not what or what.kind ~= "linear" and what.kind ~= "expert" then return false end
  if what.kind == "expert" and made.format.experts then return { words = EXPERTS } end
  local shared, family = parts.partners(layers_of.path(made.list, name))
  return shared and { words = family.words, tail = #name - #shared } or false
end

-- Iterates over the tensors that are taken together with others: number, words, what they share.
local function tied(made)
  local number, by_group = 0, {}
  return function()
    while number < #made.names do
      number = number + 1
      local group, name = made.group_of[number], made.names[number]
      if by_group[group] == nil then by_group[group] = ties_of(made, number) end
      local ties = by_group[group]
      if ties and ties.tail then return number, ties.words, name:sub(1, -ties.tail - 1) end
      if ties then return number, ties.words, parts.experts(layers_of.path(made.list, name)) end
    end
  end
end

--- Layers that are not fixed in lists of those that are taken together, in the order of the first
--- of each.
-- @param fused  false: each alone
function decide.units(made, entries, fused)
  local units, known, keys = {}, {}, {}
  if fused then
    for number, words, shared in tied(made) do keys[number] = words .. "\0" .. shared end
  end
  for _, entry in ipairs(entries) do
    local key = keys[entry.number] or entry
    if not entry.fixed and not known[key] then
      known[key] = {}
      units[#units + 1] = known[key]
    end
    if not entry.fixed then table.insert(known[key], entry) end
  end
  return units
end

local function differ(made, decisions, words, a, b)
  local said = {}
  for i, number in ipairs { a, b } do
    local decision = decisions[number]
    said[i] = ("%s %s (%s)"):format(layers_of.path(made.list, made.names[number]),
      decision.scheme and "gets " .. decision.scheme:label() or "is kept", decision.rule)
  end
  return ("engines fuse %s, which need the same scheme, but %s and %s"):format(words, said[1],
                                                                              said[2])
end

-- Whether what was decided for two layers goes together. One that does not get what its rule wants
-- counts as if it did.
local function agree(made, words, a, b)
  if words == EXPERTS and made.format.experts == "stack" then
    return (a.wanted == nil) == (b.wanted == nil)
  elseif a.fallback or b.fallback then
    return a.wanted == b.wanted
  end
  return a.scheme == b.scheme
end

-- Compares layers that are taken together; see settle_partners.
-- @return by words and what they share, an empty list for those of which one does not get what its
--         rule wants
local function compare(made, decisions, differing)
  local firsts, fallen = {}, {}
  for number, words, shared in tied(made) do
    local chosen = decisions[number]
    local first = firsts[words] or {}
    firsts[words] = first
    local other = first[shared]
    if not other then
      first[shared] = number
    elseif not agree(made, words, decisions[other], chosen) then
      differing(differ(made, decisions, words, other, number))
    end
    if chosen.fallback and (made.format.experts == "split" or words == EXPERTS) then
      fallen[words] = fallen[words] or {}
      fallen[words][shared] = {}
    end
  end
  return fallen
end

--- Sees to it that layers that are taken together get one scheme.
-- @param differing  function (text): hears of those whose rules want different ones
-- @param join       function (words, numbers): decides the layers of those numbers anew, one of
--                   which does not get what its rule wants
function decide.settle_partners(made, decisions, differing, join)
  local fallen = compare(made, decisions, differing)
  if not next(fallen) then return end
  for number, words, shared in tied(made) do
    local list = fallen[words] and fallen[words][shared]
    if list then list[#list + 1] = number end
  end
  for words, lists in pairs(fallen) do
    for _, numbers in pairs(lists) do join(words, numbers) end
  end
end

return decide
