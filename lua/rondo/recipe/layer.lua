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
-- layer.ask tells what a function asked: the answer to what tensors of like names share holds for
-- all of them, and that to a depth for all of that depth (see rondo.recipe.decide).
--
-- The objects are empty tables, of which a plan may make one for each of its tensors; what they
-- stand for lies in the view of the plan that they come from.

local layers_of = require "rondo.model.layers"
local parts = require "rondo.recipe.parts"
local source = require "rondo.model.source"

local layer = {}

-- What a function may have asked, the later the more.
local SHARED, DEPTH, OWN = 0, 1, 2

layer.SHARED, layer.DEPTH, layer.OWN = SHARED, DEPTH, OWN

local function model_of() return require "rondo.model" end

-- The view of a layer object, and its tensor's number.
local function view_of(self)
  local meta = debug.getmetatable(self)
  local view = meta and meta.view
  if not view then error("a layer is expected, as in layer:stats() and layer:loss(scheme)", 3) end
  return view, view.number_of[self]
end

local function what_of(view, number)
  return (layers_of.at(view.made.list, number))
end

-- The description in rondo.model.layer, or nil for a tensor that is no layer's weight.
local function described(view, number)
  local found = view.described[number]
  if not found and what_of(view, number) then
    found = model_of().layer_of(view.made.model, view.names[number])
    view.described[number] = found
  end
  return found
end

local function path_of(view, number)
  local name = view.names[number]
  return what_of(view, number) and layers_of.path(view.made.list, name) or name
end

-- ---- What tensors of like names share ----

local shared = {}

function shared.part(view, number)
  local what = what_of(view, number)
  local may_be = what and (what.kind == "linear" or what.kind == "expert")
  return may_be and parts.of(path_of(view, number)) or nil
end

function shared.kind(view, number)
  local what = what_of(view, number)
  if not what then return view.names[number]:find "bias$" and "bias" or "other" end
  if what.kind == "linear" then return shared.part(view, number) or what.kind end
  return what.kind == "lm_head" and "head" or what.kind
end

local function stored(view, number)
  local name = view.names[number]
  local record = view.made.list.records[name]
  if record then return record.dtype, table.move(record.shape, 1, #record.shape, 1, {}) end
  return view.made.model.checkpoint:info(name)
end

function shared.dtype(view, number)
  return (stored(view, number))
end

function shared.shape(view, number)
  return (select(2, stored(view, number)))
end

function shared.rank(view, number)
  return #shared.shape(view, number)
end

function shared.transposed(view, number)
  local what = what_of(view, number)
  return what ~= nil and what.transposed
end

function shared.quantized(view, number)
  return view.made.list.records[view.names[number]] ~= nil
end

-- ---- What those in the same numbered layer share ----

local by_depth = {}

function by_depth.depth(view, number)
  return (layers_of.depth(view.made.list, number))
end

function by_depth.depth_count(view, number)
  local depth, above = layers_of.depth(view.made.list, number)
  return depth and layers_of.counts(view.made.list)[above]
end

-- ---- What each has for itself ----

local own = { name = path_of }

function own.tensor_name(view, number)
  return view.names[number]
end

function own.weight(view, number)
  local found = described(view, number)
  if found then return found.weight end
  local tensor, message = view.made.model.checkpoint:tensor(view.names[number])
  if not tensor then error(message, 0) end
  return tensor
end

-- The groups with tensors that another module uses, too.
local function tied_groups(view)
  local made, groups = view.made, {}
  if next(made.tied) then
    for number, name in ipairs(view.names) do
      if made.tied[name] then groups[made.list.group_of[number]] = true end
    end
  end
  return groups
end

-- What all tensors of a group share, but for few groups.
function shared.tied(view, number)
  view.tied_groups = view.tied_groups or tied_groups(view)
  if view.tied_groups[view.made.list.group_of[number]] then view.asked = OWN end
  return view.made.tied[view.names[number]] or false
end

-- ---- Weights ----

local methods = {}

--- Statistics of the weight; see rondo.inspect.stats.
function methods:stats()
  local view, number = view_of(self)
  local found = described(view, number)
  if found then return found:stats() end
  local from = source.stored(view.made.model.checkpoint, view.names[number],
                             stored(view, number))
  local stats, message = require("rondo.inspect").stats(from)
  if not stats then error(message, 0) end
  return stats
end

--- What quantizing with a scheme loses: the sum of squared differences over the sum of squares. A
--- group runs as it would in the plan, whichever way the weight is stored.
function methods:loss(scheme)
  local view, number = view_of(self)
  if scheme.type == "keep" then return 0.0 end
  local result, message =
    require("rondo.recipe.measure")(view.made, described(view, number), scheme)
  if not result then error(message, 0) end
  return result.norm > 0 and result.error / result.norm or (result.error > 0 and 1.0 or 0.0)
end

--- The methods by name, for help.
layer.methods = methods

-- ---- The object ----

-- The functions above by name, and what they ask.
local getters, asks = {}, {}
for asked, list in pairs { [SHARED] = shared, [DEPTH] = by_depth, [OWN] = own } do
  for name, get in pairs(list) do getters[name], asks[name] = get, asked end
end

local function known_fields(view, number)
  local names = { "loss", "stats" }
  for name in pairs(getters) do names[#names + 1] = name end
  table.sort(names)
  local more = described(view, number) and ", and those of a layer" or ""
  return table.concat(names, ", ") .. more
end

-- A method, or a field of a layer of model:layers() that tensors without a layer do not have. It is
-- reached by tail calls, so that an error points at who asked.
local function other_field(view, number, key)
  if methods[key] then return methods[key] end
  local found = described(view, number)
  local good, value = pcall(function() return found[key] end)
  if good then return value end
  error(("%s has no field '%s' (known: %s)"):format(view.names[number], tostring(key),
    known_fields(view, number)), 2)
end

local function read(view, self, key)
  local number, asked = view.number_of[self], asks[key] or OWN
  -- Where neighbours say what a tensor is, its group shares nothing.
  if asked == SHARED and not select(2, layers_of.at(view.made.list, number)) then asked = OWN end
  if asked > view.asked then view.asked = asked end
  local get = getters[key]
  if get then return get(view, number) end
  return other_field(view, number, key)
end

--- What the layer objects of a plan have in shared.
function layer.view(made)
  local view = { made = made, names = made.list.names, asked = SHARED,
                 number_of = setmetatable({}, { __mode = "k" }),
                 described = setmetatable({}, { __mode = "v" }) }
  view.meta = {
    __name = "rondo.recipe.layer", __metatable = "locked", view = view,
    __index = function(self, key) return read(view, self, key) end,
    __newindex = function(_, key)
      error(("a layer cannot be changed (field '%s')"):format(tostring(key)), 2)
    end,
    __tostring = function(self)
      local number = view.number_of[self]
      return ("%s %s %s [%s]"):format(shared.kind(view, number), path_of(view, number),
        shared.dtype(view, number), table.concat(shared.shape(view, number), ", "))
    end,
  }
  return view
end

--- The tensor of that number.
function layer.new(view, number)
  local self = setmetatable({}, view.meta)
  view.number_of[self] = number
  return self
end

--- Calls f(layer), and tells what it asked.
-- @return SHARED, DEPTH or OWN, and what f returned (two values)
function layer.ask(view, self, f)
  view.asked = SHARED
  local first, second = f(self)
  return view.asked, first, second
end

return layer
