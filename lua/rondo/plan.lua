-- plan: what becomes of every tensor of a model, decided before any computing and without touching
-- weights: source, scheme, deciding rule, output file, offset and size.
--
-- A plan is a list of jobs in the model's order. A job makes one or more output tensors from one
-- source tensor:
--   { action = "copy" }      the same bytes
--   { action = "cast" }      the same values in another dtype (the bias of a packed layer)
--   { action = "dequantize" }  the values of a layer that the source holds quantized
--   { action = "quantize" }  a layer: what the format stores of it (rondo.formats)
--
-- Models have up to some million tensors, so a plan keeps five references or numbers for each: its
-- name, its group (see rondo.model.layers), the decision that it shares with others, its shard, the
-- number of its first output; and 8 bytes for each output's offset. A job is made of these when it
-- is carried out. What a decision means for the tensors of a group (shapes, bytes) is worked out
-- once and remembered for a while.

local config_of = require "rondo.model.config"
local core = require "rondo.core"
local layers_of = require "rondo.model.layers"
local decide = require "rondo.recipe.decide"
local formats = require "rondo.formats"
local linear = require("rondo.model.layer").linear
local mlx_names = require "rondo.formats.mlx_names"
local parts = require "rondo.recipe.parts"
local pieces = require "rondo.formats.pieces"
local plan_options = require "rondo.plan_options"
local recipe_of = require "rondo.recipe"
local sequence = require "rondo.sequence"
local shape_of = require "rondo.shape"
local sizes = require "rondo.sizes"
local source = require "rondo.model.source"
local stored = require "rondo.formats.stored"
local strays = require "rondo.formats.strays"
local tensors = require "rondo.formats.tensors"
local text_table = require "rondo.text_table"

local plan = {}

local function model_of() return require "rondo.model" end

--- Describes the options of plan.make, for rondo.options.
plan.description = plan_options.description

-- ---- Deciding ----

local quantizable = { f32 = true, f16 = true, bf16 = true }

local actions = { copy = "copy", unpack = "dequantize", bias = "cast", quantize = "quantize" }

-- What is done with tensors: one table for all with which the same is done.
-- @param what    "copy"; "quantize"; "unpack": a layer of a packed source that is kept is written
--                as plain values; "bias": that of a packed layer gets the scales' dtype
-- @param detail  the scheme to quantize with, or the dtype of a bias
-- @param asked   the scheme as the recipe says it: groups along the inputs
-- @param wanted  the scheme that the rule wants, where the tensor can be quantized
-- @param fallback  where it does not get that: { rule, reason }, the rule's text in two, and plain,
--                  what it was before
local function decision(o, what, rule, detail, asked, wanted, fallback)
  local same = o.decisions[detail or what] or {}
  o.decisions[detail or what] = same
  local key = rule .. (asked and asked ~= detail and " transposed" or "")
    .. (fallback and tostring(wanted) or "")
  if not same[key] then
    same[key] = { what = what, action = actions[what], rule = rule, asked = asked,
                  wanted = wanted, fallback = fallback }
    if what == "bias" then same[key].dtype = detail else same[key].scheme = detail end
  end
  return same[key]
end

-- Why a tensor cannot be quantized whatever a recipe says, or nil.
local function unfit(what, dtype)
  if not what then return "no layer's weight" end
  if not linear[what.kind] and what.kind ~= "embedding" then
    return what.kind == "norm" and "a norm" or "no matrix of a layer"
  end
  if not quantizable[dtype] then return "dtype " .. dtype end
end

-- Why the scheme's importance does not fit a tensor, or nil.
local function unfit_importance(scheme, transposed, shape)
  local importance, cols = scheme.importance, shape[#shape]
  if not importance then return nil end
  if transposed then
    return "importance goes by column; it has no meaning for a weight that is stored [in, out]"
  elseif importance.rank ~= 1 or #importance ~= cols then
    return ("importance must have one value for each of %d columns, not shape {%s}"):format(cols,
      table.concat(importance.shape, ", "))
  end
end

-- Whether engines put another layer below the one of that path, or below that piece of it, in one
-- matrix.
local function has_below(made, path, piece)
  if not made.fused then return false end
  if piece.below then return true end
  for _, other in ipairs(parts.below(path)) do
    if layers_of.named(made.list, other) then return true end
  end
  return false
end

-- What formats are told of a layer, see rondo.formats.
local function about_layer(made, name, what, shape, dtype)
  local path = layers_of.path(made.list, name)
  return { name = name, path = path, kind = what.kind, dtype = dtype, shape = shape,
           transposed = what.transposed, options = made.options, types = made.types,
           biased = what.kind == "expert" and made.model.checkpoint:has(path .. "_bias"),
           has_below = function(piece) return has_below(made, path, piece) end }
end

-- A scheme for a weight as it is stored: of one that is stored [in, out] groups run the other way.
local function turned(made, about, scheme)
  local cut = made.format.experts and #about.shape == 3 -- its pieces are turned
  return about.transposed and not cut and scheme:transposed() or scheme
end

-- A scheme as the format stores a layer with it; or nil and why it has no place for it, or why
-- nothing can be computed with it. keep goes always.
local function place(made, about, scheme)
  if scheme.type == "keep" then return scheme end
  local fit, why = formats.fit(made.format, scheme, about)
  if not fit then return nil, why end
  local shape = about.shape
  why = turned(made, about, fit):refusal(shape[about.transposed and #shape - 1 or #shape])
  if not why then return fit end
  if fit ~= scheme and not scheme:refusal() then
    why = ("%s; %s stores it as %s"):format(why, made.format.name, fit:label())
  end
  return nil, why
end

-- The first of the schemes for which there is a place, as it is stored; and why there is none for
-- the one before it. nil and the reason where there is none for any.
local function first_fit(made, about, schemes)
  local reason
  for _, scheme in ipairs(schemes) do
    local fit, why = place(made, about, scheme)
    if fit then return fit, reason end
    reason = reason or why
  end
  return nil, reason
end

local function refuse(where, name, rule, scheme, reason)
  error(("%s: %s (rule %s): %s: %s"):format(where, name, rule, tostring(scheme), reason), 0)
end

-- The rule's text where a layer gets another scheme than it wants, and the same in two.
local function instead(rule, fit, reason)
  local short = ("%s (%s instead"):format(rule, fit:label())
  return ("%s: %s)"):format(short, reason), { rule = short .. ")", reason = reason, plain = rule }
end

local NO_FALLBACK = "; a fallback would be taken instead: --fallback keep, fallback = rondo.keep "
  .. "in the recipe"

-- What a rule's scheme comes to in the output's format; where it is another one, why.
local function fitted(made, where, about, scheme, rule)
  local o = made.options
  local fit, reason = first_fit(made, about, { scheme, table.unpack(o.fallback) })
  if not fit then
    refuse(where, about.name, rule, scheme,
           reason .. (#o.fallback == 0 and NO_FALLBACK or "; no fallback fits either"))
  end
  return fit, reason
end

-- The decision for a scheme that the format has a place for.
-- @param wanted, reason  what the rule wants, and why it does not get it
local function decision_for(made, about, fit, rule, wanted, reason)
  local o, fallback = made.options, nil
  if reason then rule, fallback = instead(rule, fit, reason) end
  if fit.type == "keep" then
    return decision(o, made.list.records[about.name] and "unpack" or "copy", rule, nil, nil, wanted,
                    fallback)
  end
  return decision(o, "quantize", rule, turned(made, about, fit), fit, wanted, fallback)
end

-- Type and shape of a layer's weight.
local function weight_of(made, name)
  local record = made.list.records[name]
  if record then return record.dtype, record.shape end
  local dtype, shape = made.model.checkpoint:info(name)
  return dtype, shape
end

-- The decision that a rule's scheme means for a tensor. What cannot be quantized is copied.
-- @param open  whether a policy or revise is to follow: whether the scheme can be computed and
--              stored does not matter yet
local function decision_maker(made, where, open)
  local o = made.options
  return function(name, what, scheme, rule)
    local dtype, shape = weight_of(made, name)
    local reason = scheme.type ~= "keep" and unfit(what, dtype)
    if reason then rule = ("%s (kept: %s)"):format(rule, reason) end
    if reason or scheme.type == "keep" then
      return decision(o, made.list.records[name] and "unpack" or "copy", rule)
    end
    if open then return decision(o, "quantize", rule, scheme, scheme) end
    local wrong = unfit_importance(scheme, what.transposed, shape)
    if wrong then refuse(where, name, rule, scheme, wrong) end
    local about = about_layer(made, name, what, shape, dtype)
    local fit, why = fitted(made, where, about, scheme, rule)
    return decision_for(made, about, fit, rule, scheme, why)
  end
end

-- ---- Layers that engines take together ----

-- The layers of those numbers: { about, rule, wanted, reason } of each; reason: why it does not get
-- what the rule wants.
local function members_of(made, numbers)
  local members = {}
  for i, number in ipairs(numbers) do
    local name, chosen = made.names[number], made.decisions[number]
    local dtype, shape = weight_of(made, name)
    local fallback = chosen.fallback or {}
    members[i] = { about = about_layer(made, name, layers_of.at(made.list, number), shape, dtype),
                   rule = fallback.plain or chosen.rule, wanted = chosen.wanted,
                   reason = fallback.reason }
  end
  return members
end

-- Gives each member the scheme in which the format stores it for a fallback; or nil, the member
-- that it has no place for, why.
local function fit_all(made, members, fallback)
  for _, member in ipairs(members) do
    local why
    member.fit, why = place(made, member.about, fallback)
    if not member.fit then return nil, member, why end
  end
  return true
end

-- Whether all members fell back, and to the same.
local function fell_together(made, numbers)
  local first = made.decisions[numbers[1]]
  for _, number in ipairs(numbers) do
    local chosen = made.decisions[number]
    if not chosen.fallback or chosen.scheme ~= first.scheme then return false end
  end
  return true
end

local function first_with_reason(members)
  for _, member in ipairs(members) do
    if member.reason then return member end
  end
end

-- Decides layers anew of which one fell back: all get the first fallback that fits them all.
local function joiner(made, where)
  return function(words, numbers)
    if fell_together(made, numbers) then return end
    local members, good, blocked, why = members_of(made, numbers), nil, nil, nil
    for _, fallback in ipairs(made.options.fallback) do
      good, blocked, why = fit_all(made, members, fallback)
      if good then break end
    end
    if not good then
      refuse(where, blocked.about.name, blocked.rule, blocked.wanted,
             ("%s; no fallback fits %s together"):format(why, words))
    end
    local first = first_with_reason(members)
    local leaf = first.about.path:match "[^.]*$"
    for i, member in ipairs(members) do
      why = member.reason or ("it goes with %s: %s"):format(leaf, first.reason)
      made.decisions[numbers[i]] = decision_for(made, member.about, member.fit, member.rule,
                                                member.wanted, why)
    end
  end
end

-- Recipes are told of layers that do not go together; plain options, which cannot say otherwise,
-- are warned.
local function settle_partners(made, where)
  local named, warned = made.options.named, made.format.experts ~= "split"
  if not named and not made.format.experts then return end
  decide.settle_partners(made, made.decisions, function(text)
    if named then error(("%s: %s; fused = false lets them differ"):format(where, text), 0) end
    if not warned then warn(("%s: %s"):format(made.model.path, text)) end
    warned = true
  end, joiner(made, where))
end

-- Tensors of the source's quantization that the output does without, by what their names end in: a
-- list of { part, count }.
local function left_out_of(made)
  local list, of = {}, {}
  for _, name in ipairs(made.list.others) do
    local part = name:match "[^.]*$"
    if not of[part] then
      of[part] = { part, 0 }
      list[#list + 1] = of[part]
    end
    of[part][2] = of[part][2] + 1
  end
  table.sort(list, function(a, b) return a[1] < b[1] end)
  return list
end

-- Changes what depends on other tensors: the biases of packed layers follow them, and parts of a
-- packed source go with the tensor that stands for their layer.
local function follow(made, decisions, biases)
  local o, members, names, group_of, kept = made.options, {}, {}, {}, {}
  for _, record in pairs(made.list.records) do
    for i = 2, #record.parts do members[record.parts[i]] = true end
  end
  for _, name in ipairs(made.list.others) do members[name] = true end
  made.left_out = left_out_of(made)
  for number, name in ipairs(made.names) do
    if not members[name] then
      local at, chosen = #names + 1, decisions[number]
      if biases[name] and chosen.what == "copy" then
        local same = made.model.checkpoint:info(name) == biases[name]
        chosen = same and decision(o, "copy", "bias")
          or decision(o, "bias", "bias of a packed layer", biases[name])
      end
      names[at], group_of[at], kept[at] = name, made.group_of[number], chosen
    end
  end
  made.names, made.group_of, made.decisions = names, group_of, kept
end

-- The dtypes of the biases of quantized layers, by name, where the format says them.
local function said_biases(made)
  local biases, bias_of = {}, made.format.bias
  if not bias_of then return biases end
  for number, name in ipairs(made.names) do
    local chosen = made.decisions[number]
    local bias = chosen.what == "quantize" and layers_of.bias(made.list, name)
    if bias then biases[bias] = bias_of(chosen.scheme) end
  end
  return biases
end

local function settle(made)
  local biases, list = said_biases(made), made.list
  if next(biases) or next(list.records) or next(list.others) then
    follow(made, made.decisions, biases)
  end
end

local measure, finish, new -- forward

-- Another plan for the same model, with decisions of its own: of the packed format where the plan's
-- own stores values.
local function trial_of(made)
  local format = made.format.name == "fake" and "packed" or made.format.name
  local o = setmetatable({ format = format }, { __index = made.options })
  local trial = new(made.model, o)
  trial.fused = made.fused
  return trial, decision_maker(trial, "policy")
end

-- What a policy gets, see rondo.policy.
local function for_policy(made, entries)
  local plain = made.decisions
  local trial_of_sizes, size_decision = trial_of(made)
  local function bytes(entry, scheme)
    local chosen = size_decision(entry.name, entry.what, scheme, "policy")
    return measure(trial_of_sizes, chosen, entry.name).bytes_after
  end
  local function fit(entry, scheme)
    local dtype, shape = weight_of(made, entry.name)
    local about = about_layer(trial_of_sizes, entry.name, entry.what, shape, dtype)
    local found, why = place(trial_of_sizes, about, scheme)
    if not found and #made.options.fallback == 0 then
      refuse("policy", entry.name, entry.text, scheme, why .. NO_FALLBACK)
    end
    return found, why
  end
  local function total()
    local trial, make = trial_of(made)
    trial.decisions = table.move(plain, 1, #plain, 1, {})
    for _, entry in ipairs(entries) do
      trial.decisions[entry.number] = make(entry.name, entry.what, entry.scheme, "policy")
    end
    settle(trial)
    local done, message = finish(trial)
    if not done then error(message, 0) end
    return done.totals.bytes_after
  end
  return { layers = entries, units = decide.units(made, entries, made.fused), fit = fit,
           bytes = bytes, total = total, fallback = made.options.fallback,
           note = function(text) table.insert(made.notes, text) end }
end

local function decide_all(made, where)
  local o = made.options
  local body = recipe_of.body(o.recipe)
  made.fused = body.fused ~= false
  local open = body.policy ~= nil or body.revise ~= nil
  o.fallback = o.fallback or body.fallback or {}
  made.decisions = decide.all(made, body, where, decision_maker(made, where, open))
  decide.revise(made, body, made.decisions, decision_maker(made, where),
                function(entries) return for_policy(made, entries) end)
  if made.fused then settle_partners(made, where) end
  settle(made)
  local wrong = made.format.check and made.format.check(plan.layers(made))
  if wrong then error(("%s: %s"):format(where, wrong), 0) end
end

-- ---- Measuring ----

local function outputs_of(made, chosen, name, about)
  if chosen.what == "copy" then
    return { { role = "bytes", dtype = about.dtype, shape = about.shape, nbytes = about.nbytes } }
  elseif chosen.what ~= "quantize" then
    return { tensors.new(nil, "values", chosen.dtype or about.dtype, about.shape) }
  end
  local what = layers_of.what(made.list, name)
  return formats.outputs(made.format, about_layer(made, name, what, about.shape, about.dtype),
                         chosen.scheme)
end

-- What the source tensor is: dtype and shape (of a packed layer: as it was) and its bytes.
local function source_of(made, chosen, name)
  local record = chosen.what ~= "copy" and made.list.records[name]
  local dtype, shape, nbytes = made.model.checkpoint:info(name)
  if not record then return { dtype = dtype, shape = shape, nbytes = nbytes } end
  nbytes = 0
  for _, part in ipairs(record.parts) do
    nbytes = nbytes + select(3, made.model.checkpoint:info(part))
  end
  return { dtype = record.dtype, shape = record.shape, nbytes = nbytes }
end

function measure(made, chosen, name)
  local about, after = source_of(made, chosen, name), 0
  local outputs, list = outputs_of(made, chosen, name, about)
  local weights = shape_of.count(about.shape)
  for _, e in ipairs(outputs) do after = after + e.nbytes end
  return {
    shape = about.shape, dtype = about.dtype, action = chosen.action, rule = chosen.rule,
    fallback = chosen.fallback, scheme = chosen.scheme and chosen.scheme:label(), weights = weights,
    bits = weights > 0 and after * 8 / weights or 0, bytes_before = about.nbytes,
    bytes_after = after, outputs = outputs, pieces = list,
  }
end

local MOST_MEASURES = 1000 -- remembered; a model may have as many shapes as tensors

--- What the i-th job comes to: the fields of its row but the name, weights, outputs, and where its
--- rule does not get what it asks for, fallback: { rule, reason }, its text in two; one table for
--- many jobs, for nobody to change.
function plan.measure(made, i)
  local chosen, name = made.decisions[i], made.names[i]
  if made.list.records[name] then return measure(made, chosen, name) end
  local known, group = made.measures[chosen], made.group_of[i]
  if known and known[group] then return known[group] end
  if made.measure_count == MOST_MEASURES then made.measures, made.measure_count = {}, 0 end
  made.measures[chosen] = made.measures[chosen] or {}
  made.measures[chosen][group] = measure(made, chosen, name)
  made.measure_count = made.measure_count + 1
  return made.measures[chosen][group]
end

-- ---- Files ----

-- The name of an output of the i-th job, which comes to m.
local function output_name(made, i, m, e)
  local name = made.names[i]
  local path = (e.part or e.piece) and layers_of.path(made.list, name)
  if e.part then return stored.member(pieces.path(path, m.pieces[e.piece]), e.part) end
  local record = e.role == "values" and made.list.records[name]
  if record then return record.weight end
  return name
end

--- Iterates over the outputs of a shard, as the core wants it: name, dtype, shape; and the job's
--- number.
function plan.each_output(made, shard)
  local i, k, m = shard.first - 1, 0, { outputs = {} }
  return function()
    k = k + 1
    if k > #m.outputs then
      i, k = i + 1, 1
      if i > shard.last then return nil end
      m = plan.measure(made, i)
    end
    local e = m.outputs[k]
    return output_name(made, i, m, e), e.dtype, e.shape, i
  end
end

local function shard_name(i, n)
  return n == 1 and "model.safetensors" or string.format("model-%05d-of-%05d.safetensors", i, n)
end

-- Cuts the jobs into shards of at most so many bytes; the tensors of one job stay together. Counts
-- on the way.
local function make_shards(made)
  local shards, shard, outputs, limit = {}, nil, 1, made.options.shard_size
  local t = made.totals
  for i = 1, #made.names do
    local m = plan.measure(made, i)
    if not shard or shard.bytes > 0 and shard.bytes + m.bytes_after > limit then
      shard = { first = i, bytes = 0, first_output = outputs }
      shards[#shards + 1] = shard
    end
    shard.last, shard.bytes = i, shard.bytes + m.bytes_after
    made.shard_of[i], made.first_output[i] = shard, outputs
    outputs = outputs + #m.outputs
    t.tensor_bytes = t.tensor_bytes + m.bytes_before
    if made.decisions[i].fallback then t.fallbacks = t.fallbacks + 1 end
    if m.action == "dequantize" then
      t.dequantized = t.dequantized + 1
      t.dequantized_before = t.dequantized_before + m.bytes_before
      t.dequantized_after = t.dequantized_after + m.bytes_after
    elseif m.action == "quantize" then
      t.quantized, t.weights = t.quantized + 1, t.weights + m.weights
      t.quantized_bytes = t.quantized_bytes + m.bytes_after
    end
  end
  return shards
end

-- Gives a shard its name, size and the offsets of its tensors; nil, message, code where its header
-- would be too long.
local function lay_out(made, shard, name)
  local header, offsets, code = core.safetensors_layout(plan.each_output(made, shard),
                                                        made.metadata)
  if not header then
    return nil, string.format("%s: %s; smaller shards have shorter ones", name, offsets), code
  end
  shard.name, shard.header_bytes, shard.offsets = name, header, offsets
  shard.size = header + shard.bytes
  return true
end

-- ---- The index ----

local function index_head(made)
  local total = 0
  for _, shard in ipairs(made.shards) do total = total + shard.bytes end
  return '{\n  "metadata": {\n    "total_size": ' .. total .. '\n  },\n  "weight_map": {\n'
end

local INDEX_TAIL = "\n  }\n}\n"

local function index_line(name, file)
  return '    ' .. core.json_quote(name) .. ': "' .. file .. '"'
end

local function index_size(made)
  local size = #index_head(made) + #INDEX_TAIL - 2 -- no comma behind the last line
  for _, shard in ipairs(made.shards) do
    for name in plan.each_output(made, shard) do
      size = size + #index_line(name, shard.name) + 2
    end
  end
  return size
end

--- The text of model.safetensors.index.json, the names in bytewise order.
-- @param emit  function (piece of the text), called for one after the other
function plan.write_index(made, emit)
  local keys = {} -- name, NUL, file: names hold no NUL, so that the order is theirs
  for _, shard in ipairs(made.shards) do
    for name in plan.each_output(made, shard) do keys[#keys + 1] = name .. "\0" .. shard.name end
  end
  table.sort(keys)
  emit(index_head(made))
  for i, key in ipairs(keys) do
    emit(index_line(key:match "^(.*)%z(.*)$") .. (i < #keys and ",\n" or ""))
  end
  emit(INDEX_TAIL)
end

-- ---- The plan ----

local function row(made, i)
  local m = plan.measure(made, i)
  return { name = made.names[i], shape = m.shape, dtype = m.dtype, action = m.action,
           rule = m.rule, scheme = m.scheme, bits = m.bits, bytes_before = m.bytes_before,
           bytes_after = m.bytes_after }
end

-- The output tensors of the i-th job, with their places.
local function entries_of(made, i, m)
  local shard, entries = made.shard_of[i], {}
  for k, e in ipairs(m.outputs) do
    local number = made.first_output[i] - shard.first_output + k
    local entry = { name = output_name(made, i, m, e), file = shard.name,
                    offset = shard.header_bytes + shard.offsets[number] }
    for key, value in pairs(e) do entry[key] = value end
    entries[k] = entry
  end
  return entries
end

-- What is computed of each piece of a layer: { entries, path, sources }, sources(n) its n-th matrix
-- of `count`.
local function work_of(made, i, m, entries, all)
  local path, work = layers_of.path(made.list, made.names[i]), {}
  for number, piece in ipairs(m.pieces) do
    work[number] = { entries = {}, path = pieces.path(path, piece), count = piece.count,
                     source = function(n) return pieces.source(all, piece, n) end }
  end
  for _, e in ipairs(entries) do table.insert(work[e.piece].entries, e) end
  return work
end

-- What is common to the layers that engines fuse with one of that path, made at first use: one
-- table for all of them. Only those with a scale for the whole tensor have anything.
local function fusions_of(made)
  if made.fusions then return made.fusions end
  local fusions = {}
  made.fusions = { of = function(path)
    local key = made.fused and parts.fused(path) or path
    fusions[key] = fusions[key] or { sources = {} }
    return fusions[key]
  end }
  for number, chosen in ipairs(made.decisions) do
    if chosen.what == "quantize" and chosen.scheme.tensor_scale then
      local m, name = plan.measure(made, number), made.names[number]
      local all = model_of().layer_of(made.model, name).source
      for _, piece in ipairs(work_of(made, number, m, {}, all)) do
        table.insert(made.fusions.of(piece.path).sources, piece)
      end
    end
  end
  return made.fusions
end

--- The i-th job of a plan, made anew with each call: name, action, rule, entries, before, after
--- (bytes); of one that quantizes layer, scheme, ratio, reference (see rondo.formats), work; of a
--- cast source. work: for each piece of the layer (rondo.formats.pieces) { entries, path, count,
--- source(n): its n-th matrix, shared: { sources } of those that it shares a scale with }.
function plan.job(made, i)
  local name, chosen, m = made.names[i], made.decisions[i], plan.measure(made, i)
  local job = { name = name, action = chosen.action, rule = chosen.rule, before = m.bytes_before,
                after = m.bytes_after, entries = entries_of(made, i, m) }
  if chosen.what == "quantize" then
    job.layer, job.scheme = model_of().layer_of(made.model, name), chosen.scheme
    job.ratio, job.reference = made.ratios[i], made.format.reference or false
    job.work = work_of(made, i, m, job.entries, job.layer.source)
    for _, piece in ipairs(chosen.scheme.tensor_scale and job.work or {}) do
      piece.shared = fusions_of(made).of(piece.path)
    end
  elseif chosen.what == "unpack" then
    job.source = model_of().layer_of(made.model, name).source
  elseif chosen.what == "bias" then
    job.source = source.stored(made.model.checkpoint, name, m.dtype, m.shape)
  end
  return job
end

-- The number of the first job from i on that quantizes, or nil.
local function next_layer(made, i)
  while made.decisions[i] and made.decisions[i].what ~= "quantize" do i = i + 1 end
  return made.decisions[i] and i
end

--- The jobs that quantize, one after the other: for number, job in ...
function plan.quantizing(made)
  local i = 0
  return function()
    i = next_layer(made, i + 1)
    if i then return i, plan.job(made, i) end
  end
end

--- What is said of the layers that are quantized: for path, layer in ...; layer: { tensor (the name
--- of the weight where it is not quantized), kind, dtype, shape, scheme }. Of a layer that is cut
--- into pieces, those.
function plan.layers(made)
  local i, k, m, chosen, path, tensor = 0, 0, { pieces = {} }, nil, nil, nil
  return function()
    k = k + 1
    if k > #m.pieces then
      i, k = next_layer(made, i + 1), 1
      if not i then return nil end
      local name = made.names[i]
      local record = made.list.records[name]
      chosen, m, path = made.decisions[i], plan.measure(made, i), layers_of.path(made.list, name)
      tensor = record and record.weight or name
    end
    local piece = m.pieces[k]
    return pieces.path(path, piece),
           { tensor = tensor, dtype = m.dtype, shape = piece.shape, scheme = chosen.scheme,
             kind = layers_of.what(made.list, made.names[i]).kind }
  end
end

-- The heads that the checkpoint holds under the embedding's name only: layers all the same.
local function tied_heads(made)
  local paths = {}
  for _, tie in ipairs(made.model.tied) do
    if not made.model.checkpoint:has(tie.name) then
      paths[#paths + 1] = tie.name:match "^(.*)%.weight$" or tie.name
    end
  end
  return paths
end

--- The linear layers that are not quantized: for path, kind in ...
function plan.kept(made)
  local i, names, heads = 0, made.names, tied_heads(made)
  return function()
    while i < #names do
      i = i + 1
      local name = names[i]
      local what = made.decisions[i].what ~= "quantize" and layers_of.what(made.list, name)
      if what and linear[what.kind] then return layers_of.path(made.list, name), what.kind end
    end
    return table.remove(heads, 1), "lm_head"
  end
end

--- What is left out in words, or nil.
function plan.left_out(made)
  local counts = {}
  for i, entry in ipairs(made.left_out) do counts[i] = ("%d %s"):format(entry[2], entry[1]) end
  if #counts == 0 then return nil end
  return "left out with the source's quantization: " .. table.concat(counts, ", ")
end

local MOST_REASONS = 8 -- shown

--- Why rules do not get what they ask for, as lines: the most frequent reasons, and for how many
--- tensors each is.
-- @param reasons  a list with the reason of each tensor
function plan.reasons(reasons)
  local lines, counts, order = {}, {}, {}
  for _, reason in ipairs(reasons) do
    if not counts[reason] then counts[reason], order[#order + 1] = 0, reason end
    counts[reason] = counts[reason] + 1
  end
  table.sort(order, function(a, b)
    if counts[a] ~= counts[b] then return counts[a] > counts[b] end
    return a < b
  end)
  for i = 1, math.min(#order, MOST_REASONS) do
    lines[i] = ("%s: %s"):format(text_table.count(counts[order[i]], "tensor"),
                                 text_table.printable(order[i]))
  end
  if #order > MOST_REASONS then
    lines[#lines + 1] = text_table.count(#order - MOST_REASONS, "other reason")
  end
  return lines
end

-- The reason of each tensor that does not get what its rule wants.
local function reasons_of(made)
  local reasons = {}
  for _, chosen in ipairs(made.decisions) do
    if chosen.fallback then reasons[#reasons + 1] = chosen.fallback.reason end
  end
  return reasons
end

--- What a user should know of the way to an output, as lines for plan and report.
-- @param reasons  as for plan.reasons
-- @param totals   of a plan: dequantized, dequantized_before, dequantized_after
-- @param notes    what a policy says
function plan.remarks(format, reasons, totals, notes)
  local lines = {}
  if #reasons > 0 then
    lines[1] = ("fallbacks: %s has no place for %s as their rules want them"):format(format,
      text_table.count(#reasons, "tensor"))
    for _, line in ipairs(plan.reasons(reasons)) do lines[#lines + 1] = "  " .. line end
  end
  if totals.dequantized > 0 then
    lines[#lines + 1] = ("%s dequantized, not quantized again: %s become %s"):format(
      text_table.count(totals.dequantized, "layer"), sizes.show(totals.dequantized_before),
      sizes.show(totals.dequantized_after))
  end
  return table.move(notes, 1, #notes, #lines + 1, lines)
end

--- What a plan comes to, as a list of lines.
function plan.summary(made)
  local t = made.totals
  local lines = {
    ("%d of %d tensors are quantized (%d weights, %.4g bits each)"):format(
      t.quantized, t.tensors, t.weights, t.bits),
    ("%s of tensors become %d bytes of files (%s)"):format(
      sizes.show(t.bytes_before), t.bytes_after, sizes.show(t.bytes_after)),
  }
  local remarks = plan.remarks(made.format.name, reasons_of(made), t, made.notes)
  table.move(remarks, 1, #remarks, #lines + 1, lines)
  lines[#lines + 1] = plan.left_out(made)
  return lines
end

local Plan = { __name = "rondo.plan", __metatable = "locked" }

function Plan.__tostring(made)
  local head = ("plan for %s: %s, %s"):format(text_table.printable(made.model.path),
    made.options.format, text_table.count(#made.files, "file"))
  return table.concat({ head, table.unpack(plan.summary(made)) }, "\n  ")
end

local function add_totals(made)
  local t = made.totals
  for _, file in ipairs(made.model.checkpoint:files()) do
    t.bytes_before = t.bytes_before + file.size
  end
  for _, file in ipairs(made.files) do t.bytes_after = t.bytes_after + file.size end
  t.bits = t.weights > 0 and t.quantized_bytes * 8 / t.weights or 0
end

-- Completes a plan whose decisions stand: files, sizes, rows.
function finish(made)
  made.totals = { tensors = #made.names, quantized = 0, weights = 0, quantized_bytes = 0,
                  dequantized = 0, dequantized_before = 0, dequantized_after = 0,
                  fallbacks = 0, tensor_bytes = 0, bytes_before = 0, bytes_after = 0 }
  made.shards = make_shards(made)
  made.metadata = made.model.checkpoint:metadata() or {}
  made.metadata.format = made.format.metadata or made.metadata.format or "pt"
  for i, shard in ipairs(made.shards) do
    local done, message, code = lay_out(made, shard, shard_name(i, #made.shards))
    if not done then return nil, message, code end
    made.files[i] = { name = shard.name, size = shard.size }
  end
  if #made.shards > 1 then
    made.files[#made.files + 1] = { name = "model.safetensors.index.json",
                                    size = index_size(made) }
  end
  made.rows = sequence.new(#made.names, function(i) return row(made, i) end)
  add_totals(made)
  return setmetatable(made, Plan)
end

function new(model, o)
  o.decisions = {} -- those made so far, see decision
  local list, tied = model_of().layer_list(model)
  return { model = model, options = o, list = list, tied = tied, names = model.names,
           format = formats.get(o.format),
           types = config_of.set(model.config, "model_type"),
           group_of = list.group_of, shard_of = {}, first_output = {}, ratios = {}, files = {},
           measures = {}, measure_count = 0, left_out = {}, notes = {} }
end

-- Raises where rules want layers quantized and none is: an output that nobody asked for.
local function check_purpose(made, where)
  if made.totals.quantized > 0 or made.totals.fallbacks == 0 then return end
  error(("%s: nothing would be quantized: %s has no place for any of %s as their rules want them "
    .. "(%s)"):format(where, made.format.name, text_table.count(made.totals.fallbacks, "tensor"),
             table.concat(plan.reasons(reasons_of(made)), "; ")), 0)
end

-- What a user should know, though it stops nothing.
local function remark(made)
  local model = made.model
  local of_format = made.format.remark and made.format.remark(plan.layers(made), made)
  if of_format then warn(("%s: %s"):format(made.format.name, of_format)) end
  local left = made.format.experts == "split" and mlx_names.left(made)
  if left then
    warn(("%s was made for mlx-lm: experts that are quantized get their own names back, but %s "
          .. "stays as mlx-lm has it, and other engines may not read it"):format(model.path, left))
  end
  local t = made.totals
  if t.quantized == 0 and t.dequantized == 0 then
    warn(string.format("%s: nothing is quantized: no linear layer is left (convolutions, recurrent "
                       .. "weights, embeddings and norms are copied)", model.path))
  elseif model.quantization and #model_of().quantization_of(model).records == 0 then
    warn(string.format("%s: the configuration says \"%s\", but no layer is stored so: weights are "
                       .. "taken as they are", model.path, model.quantization))
  elseif model.quantization and t.quantized > 0 then
    local left_out = plan.left_out(made)
    warn(string.format("%s is quantized already; its dequantized weights are quantized again%s",
                       model.path, left_out and "; " .. left_out or ""))
  end
end

--- Plans the quantization of a model.
-- @param model  what rondo.open gives
-- @param given  options, see plan.description; nil for the defaults
-- @return { model, options, rows, files, totals } and what plan.job needs; rows: one per source
--         tensor in the model's order, for people (a rondo.sequence); files: { name, size } of
--         every weight file and the index. Or nil, message, code
-- Raises for options that make no sense; `where` names the caller in messages.
-- @param reference  as rtn.rtn_quantize: lm_head and routers are quantized too, a codebook with
--                   other than 4 bits means the integer rule, options without effect are accepted
function plan.make(model, given, level, where, reference)
  local o = plan_options.check(where or "plan", model, given, (level or 1) + 1, reference)
  if model.quantization and not formats.reads(model.quantization) then
    return nil, string.format("%s: already quantized (quant_method \"%s\"); quantize the original "
                              .. "checkpoint", model.path, model.quantization), "unsupported"
  end
  local stray = not model.quantization and strays.complaint(model.checkpoint)
  if stray then return nil, ("%s: %s"):format(model.path, stray), "format" end
  for _, step in ipairs(recipe_of.body(o.recipe).transform or {}) do
    model = model:map(step[1], step[2])
  end
  local planned = new(model, o)
  where = (where or "plan") .. (o.named and ": " .. o.named or "")
  decide_all(planned, where)
  local made, message, code = finish(planned)
  if not made then return nil, message, code end
  check_purpose(made, where)
  remark(made)
  return made
end

--- Plans a copy of the model as it is.
-- @return as above
function plan.copy(model, shard_size)
  local o = { format = "fake", shard_size = shard_size, copy = true, config = {}, exclude = {} }
  local made = new(model, o)
  made.decisions = {}
  for number = 1, #made.names do
    made.decisions[number] = decision(o, "copy", "not a linear layer")
  end
  return finish(made)
end

return plan
