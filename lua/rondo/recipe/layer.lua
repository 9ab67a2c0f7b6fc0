-- recipe.layer: a tensor of a plan as the functions of a recipe see it. Nothing is read before a
-- field that needs it is asked for.
--
-- Fields of every tensor:
--   name, tensor_name   of the layer, and of its tensor; the same where the tensor is no layer's
--   kind                q, k, v, o, gate, up, down or linear; expert, router, head, embedding,
--                       norm, bias, other
--   part                q, k, v, o, gate, up, down of an expert, too; nil for the rest
--   shape, rank, dtype, depth (from 0, or nil), depth_count (how many such depths, or nil), tied,
--   transposed, quantized (see rondo.model.layer), weight (the tensor)
-- and of layers whatever else a layer of model:layers() has. Methods: stats(), loss(scheme).
--
-- It remembers whether something was asked that tensors of like names need not share: where that
-- was not so, an answer holds for all of them (see rondo.recipe.decide).

local classify = require "rondo.model.classify"
local layers_of = require "rondo.model.layers"
local parts = require "rondo.recipe.parts"
local source = require "rondo.model.source"

local layer = {}

local state_of = setmetatable({}, { __mode = "k" })

local function model_of() return require "rondo.model" end

-- The description in rondo.model.layer, or nil for a tensor that is no layer's weight.
local function described(state)
  if state.layer == nil then
    state.layer = state.what and model_of().layer_of(state.made.model, state.name) or false
  end
  return state.layer or nil
end

local function path_of(state)
  return state.what and layers_of.path(state.made.list, state.name) or state.name
end

-- ---- What tensors of like names share ----

local common = {}

function common.part(state)
  local kind = state.what and state.what.kind
  return (kind == "linear" or kind == "expert") and parts.of(path_of(state)) or nil
end

function common.kind(state)
  if not state.what then return state.name:find "bias$" and "bias" or "other" end
  local kind = state.what.kind
  if kind == "linear" then return common.part(state) or kind end
  return kind == "lm_head" and "head" or kind
end

local function stored(state)
  local record = state.made.list.records[state.name]
  if record then return record.dtype, table.move(record.shape, 1, #record.shape, 1, {}) end
  return state.made.model.checkpoint:info(state.name)
end

function common.dtype(state)
  return (stored(state))
end

function common.shape(state)
  return (select(2, stored(state)))
end

function common.rank(state)
  return #common.shape(state)
end

function common.transposed(state)
  return state.what ~= nil and state.what.transposed
end

function common.quantized(state)
  return state.made.list.records[state.name] ~= nil
end

-- ---- What each has for itself ----

local own = { name = path_of }

function own.tensor_name(state)
  return state.name
end

function own.depth(state)
  return (classify.depth(path_of(state)))
end

function own.depth_count(state)
  local depth, above = classify.depth(path_of(state))
  return depth and layers_of.counts(state.made.list)[above]
end

function own.weight(state)
  local found = described(state)
  if found then return found.weight end
  local tensor, message = state.made.model.checkpoint:tensor(state.name)
  if not tensor then error(message, 0) end
  return tensor
end

-- Whether another module uses the same tensor: a question to few groups.
local function is_tied(state)
  local groups = state.made.tied_groups
  if not groups then
    groups = {}
    if next(state.made.tied) then
      for number, name in ipairs(state.made.names) do
        if state.made.tied[name] then groups[state.made.group_of[number]] = true end
      end
    end
    state.made.tied_groups = groups
  end
  if groups[state.made.group_of[state.number]] then state.singled = true end
  return state.made.tied[state.name] or false
end

-- ---- Weights ----

local methods = {}

--- Statistics of the weight; see rondo.inspect.stats.
function methods:stats()
  local state = state_of[self]
  if described(state) then return described(state):stats() end
  local from = source.stored(state.made.model.checkpoint, state.name, stored(state))
  local stats, message = require("rondo.inspect").stats(from)
  if not stats then error(message, 0) end
  return stats
end

--- What quantizing with a scheme loses: the sum of squared differences over the sum of squares. A
--- group runs as it would in the plan, whichever way the weight is stored.
function methods:loss(scheme)
  local state = state_of[self]
  if scheme.type == "keep" then return 0.0 end
  local result, message = require("rondo.recipe.measure")(state.made, described(state), scheme)
  if not result then error(message, 0) end
  return result.norm > 0 and result.error / result.norm or (result.error > 0 and 1.0 or 0.0)
end

-- ---- The object ----

local Layer = { __name = "rondo.recipe.layer", __metatable = "locked" }

local function known_fields(state)
  local names = { "tied", "stats", "loss" }
  for _, list in ipairs { common, own } do
    for name in pairs(list) do names[#names + 1] = name end
  end
  table.sort(names)
  local more = described(state) and ", and those of a layer" or ""
  return table.concat(names, ", ") .. more
end

function Layer.__index(self, key)
  local state = state_of[self]
  if common[key] then
    if not state.shared then state.singled = true end
    return common[key](state)
  end
  if key == "tied" then return is_tied(state) end
  state.singled = true
  if methods[key] then return methods[key] end
  if own[key] then return own[key](state) end
  local found = described(state)
  local good, value = pcall(function() return found[key] end)
  if not good then
    error(("%s has no field '%s' (known: %s)"):format(state.name, tostring(key),
      known_fields(state)), 2)
  end
  return value
end

function Layer.__newindex(_, key)
  error(("a layer cannot be changed (field '%s')"):format(tostring(key)), 2)
end

function Layer.__tostring(self)
  local state = state_of[self]
  return ("%s %s %s [%s]"):format(common.kind(state), path_of(state), common.dtype(state),
    table.concat(common.shape(state), ", "))
end

--- The tensor of that number.
-- @param what    of layers.at
-- @param shared  whether that holds for all tensors of its group
function layer.new(made, number, what, shared)
  local self = {}
  state_of[self] = { made = made, number = number, name = made.names[number], what = what,
                     shared = shared }
  return setmetatable(self, Layer)
end

--- Calls f(layer), and tells whether the answer may be another for tensors of like names.
-- @return whether it may, and what f returned (two values)
function layer.ask(self, f)
  local state = state_of[self]
  state.singled = false
  local first, second = f(self)
  return state.singled, first, second
end

return layer
