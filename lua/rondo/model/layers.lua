-- layers: which tensors of a model stand for layers, and what each layer is, from names, types and
-- shapes.
--
-- Tensors whose names differ only in numbers are looked at once (see src/format/groups.h), unless
-- their neighbours have a say: a model of 100,000 tensors has a few dozen such groups. Nothing is
-- kept for a single tensor; the layer objects are made when they are asked for.

local classify = require "rondo.model.classify"
local config = require "rondo.model.config"
local layer = require "rondo.model.layer"
local order = require "rondo.model.order"

local layers = {}

-- Quantized layers by the tensor that stands for them, and by the names their weight had.
local function index_records(records)
  local by_tensor, by_weight = {}, {}
  for _, record in ipairs(records or {}) do
    by_tensor[record.tensor_name] = record
    by_weight[record.name] = record
    by_weight[record.name == "" and "weight" or record.name .. ".weight"] = record
  end
  return by_tensor, by_weight
end

-- What classify asks about neighbours, see there.
local function neighbourhood(checkpoint, fields, by_weight)
  local look = { types = config.set(fields, "model_type"), classifier = false, leaves = {},
                 asked = false } -- asked: whether a neighbour was looked at
  look.hidden = config.get(fields, "hidden_size", "integer")
  local architectures = fields and fields.architectures
  for _, name in ipairs(type(architectures) == "table" and architectures or {}) do
    if name:find "Classification$" then look.classifier = true end
  end
  function look.info(name)
    look.asked = true
    local record = by_weight[name]
    if record then return record.dtype, record.shape end
    return checkpoint:info(name)
  end
  function look.has(name)
    look.asked = true
    return checkpoint:has(name)
  end
  return look
end

-- What layers are: one table for all that are the same.
local whats = { [false] = {}, [true] = {} }

local function what_of(kind, transposed)
  local same = whats[transposed]
  same[kind] = same[kind] or { kind = kind, transposed = transposed }
  return same[kind]
end

--- What the layer that stands in a tensor is: { kind, transposed }, for nobody to change; nil for a
--- tensor that is no layer's weight.
function layers.what(self, name)
  local record = self.records[name]
  if record then
    return what_of(classify.kind(self.look, record.name, record.name, record.dtype, record.shape))
  end
  local path = classify.path(name)
  if not path then return nil end
  local dtype, shape = self.checkpoint:info(name)
  if not dtype or path == name and #shape ~= 3 then return nil end
  return what_of(classify.kind(self.look, name, path, dtype, shape))
end

local EACH = {} -- stands for a group whose tensors are looked at one by one

--- The same for the tensor of that number, and whether it holds for its whole group.
function layers.at(self, number)
  local group, name = self.group_of[number], self.names[number]
  local known = self.whats[group]
  if known == nil then
    self.look.asked = self.records[name] ~= nil
    local found = layers.what(self, name)
    known = self.look.asked and EACH or found or false
    self.whats[group] = known
  end
  if known == EACH then return layers.what(self, name), false end
  return known or nil, true
end

-- How to find the depth of the tensors of a group, which is the same segment of all their names:
-- { pattern }; EACH where it is the first or last one, false where there is none.
local function depth_finder(name)
  local _, above = classify.depth(name)
  if not above then return false end
  local _, dots = above:gsub("%.", "")
  local pattern = "^((" .. ("[^.]*%."):rep(dots) .. "[^.]*)%.(%d+)%.)"
  return above ~= "" and name:find(pattern) and { pattern = pattern } or EACH
end

--- The number of the layer that the tensor of that number lies in, and the path up to it; see
--- classify.depth.
function layers.depth(self, number)
  local name, group = self.names[number], self.group_of[number]
  local known = self.depths[group]
  if known == nil then
    known = depth_finder(name)
    self.depths[group] = known
  end
  if not known then return nil end
  if known == EACH then return classify.depth(name) end
  if not known.start or name:find(known.start, 1, true) ~= 1 then -- not as the one before
    local start, above, digits = name:match(known.pattern)
    known.start, known.above, known.depth = start, above, tonumber(digits)
  end
  return known.depth, known.above
end

-- The number of layers under each path ("model.layers" -> 32).
local function count_depths(self)
  local counts = {}
  for number = 1, #self.names do
    local depth, above
    if layers.at(self, number) then depth, above = layers.depth(self, number) end
    if depth and depth >= (counts[above] or 0) then counts[above] = depth + 1 end
  end
  return counts
end

-- Layers that predict further tokens stand behind the last one and are not counted.
local function without_predictors(counts, fields)
  local wanted = config.get(fields, "num_hidden_layers", "integer")
  local extra = config.get(fields, "num_nextn_predict_layers", "integer")
  if not wanted or not extra or extra < 1 then return end
  for above, count in pairs(counts) do
    if count > wanted and count <= wanted + extra then counts[above] = wanted end
  end
end

--- A list of the model's layers: it answers the functions below.
-- @param names    of all tensors, by number
-- @param records, others  layers of a quantized checkpoint, and tensors that belong to none of
--                         them, see rondo.formats
function layers.new(checkpoint, names, fields, records, others)
  local by_tensor, by_weight = index_records(records)
  local self = { checkpoint = checkpoint, names = names, fields = fields, records = by_tensor,
                 others = others, whats = {}, depths = {},
                 look = neighbourhood(checkpoint, fields, by_weight) }
  self.group_of, self.first = checkpoint:groups()
  return self
end

--- The numbers of the layers' tensors, in the model's order.
function layers.ordered(self)
  if not self.numbers then
    local numbers = {}
    for number = 1, #self.names do
      if layers.at(self, number) then numbers[#numbers + 1] = number end
    end
    order.arrange(numbers, function(number) return self.names[number] end)
    self.numbers = numbers
  end
  return self.numbers
end

--- The number of layers under each path ("model.layers" -> 32).
function layers.counts(self)
  if not self.depth_counts then
    self.depth_counts = count_depths(self)
    without_predictors(self.depth_counts, self.fields)
  end
  return self.depth_counts
end

--- The bias of the layer that stands in a tensor, or nil.
function layers.bias(self, name)
  if self.has_biases == nil then
    self.has_biases = false
    for _, number in ipairs(self.first) do
      if self.names[number]:find "bias$" then self.has_biases = true end
    end
  end
  if not self.has_biases then return nil end
  local path = layers.path(self, name)
  return classify.bias(self.look, self.records[name] and path or name, path)
end

-- What the tensors of quantized layers are called, by format.
local codes = { "packed_weight", "weight_packed", "qweight" }

--- The tensors that a layer of that path can stand in.
function layers.tensor_names(path)
  local above = path == "" and "" or path .. "."
  local names = { above .. "weight", path ~= "" and path or nil }
  for _, part in ipairs(codes) do names[#names + 1] = above .. part end
  return names
end

--- The module path of the layer that stands in a tensor.
function layers.path(self, name)
  local record = self.records[name]
  return record and record.name or classify.path(name)
end

--- What the layer of exactly this path is, or nil.
function layers.named(self, path)
  for _, name in ipairs(layers.tensor_names(path)) do
    local what = layers.what(self, name)
    if what and layers.path(self, name) == path then return what end
  end
end

--- What is said of the layer that stands in a tensor: name, tensor_name, kind, transposed, dtype,
--- shape, quantized.
-- @param what  of layers.what
function layers.describe(self, name, what)
  local dtype, shape = self.checkpoint:info(name)
  local record = self.records[name]
  if record then
    dtype, shape = record.dtype, table.move(record.shape, 1, #record.shape, 1, {})
  end
  return { name = layers.path(self, name), tensor_name = name, kind = what.kind,
           transposed = what.transposed, dtype = dtype, shape = shape, quantized = record ~= nil }
end

--- The layer that stands in a tensor.
-- @param tied  whether the tensor is shared
function layers.make(self, model, name, what, tied)
  local fields, record = layers.describe(self, name, what), self.records[name]
  local depth, above = classify.depth(fields.name)
  fields.depth, fields.depth_count = depth, depth and layers.counts(self)[above]
  fields.bias_name, fields.tied, fields.model = layers.bias(self, name), tied, model
  return layer.new(fields, record)
end

return layers
