-- layers: the list of a model's layers, made once from names, types and shapes.
--
-- Kept small: for each layer the tensor's name, its kind, and whether it is transposed. The layer
-- objects are made when they are asked for.

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
  local look = { types = config.set(fields, "model_type"), classifier = false, leaves = {} }
  look.hidden = config.get(fields, "hidden_size", "integer")
  local architectures = fields and fields.architectures
  for _, name in ipairs(type(architectures) == "table" and architectures or {}) do
    if name:find "Classification$" then look.classifier = true end
  end
  function look.info(name)
    local record = by_weight[name]
    if record then return record.dtype, record.shape end
    return checkpoint:info(name)
  end
  function look.has(name) return checkpoint:has(name) end
  return look
end

-- The number of layers under each path ("model.layers" -> 32).
local function count_depths(names)
  local counts = {}
  for _, name in ipairs(names) do
    local depth, above = classify.depth(name)
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

-- The kind of the layer that a tensor stands for and whether it is transposed; nil for a tensor
-- that is no layer's weight.
local function identify(self, name)
  local record = self.records[name]
  if record then
    return classify.kind(self.look, record.name, record.name, record.dtype, record.shape)
  end
  local path = classify.path(name)
  if not path then return nil end
  local dtype, shape = self.checkpoint:info(name)
  if path == name and #shape ~= 3 then return nil end
  return classify.kind(self.look, name, path, dtype, shape)
end

--- Walks all tensors once.
-- @param records  layers of a quantized checkpoint, see rondo.model.formats
function layers.new(checkpoint, names, fields, records)
  local by_tensor, by_weight = index_records(records)
  local self = { checkpoint = checkpoint, records = by_tensor, names = {}, kinds = {}, flipped = {},
                 look = neighbourhood(checkpoint, fields, by_weight) }
  for _, name in ipairs(names) do
    local kind, transposed = identify(self, name)
    if kind then
      self.names[#self.names + 1] = name
      self.kinds[name] = kind
      self.flipped[name] = transposed or nil
    end
  end
  order.arrange(self.names)
  self.counts = count_depths(self.names)
  without_predictors(self.counts, fields)
  return self
end

--- The layer that stands in a tensor of the list.
-- @param tied  whether the tensor is shared
function layers.make(self, model, name, tied)
  local record = self.records[name]
  local path, dtype, shape
  if record then
    path, dtype = record.name, record.dtype
    shape = table.move(record.shape, 1, #record.shape, 1, {})
  else
    path = classify.path(name)
    dtype, shape = self.checkpoint:info(name)
  end
  local depth, above = classify.depth(path)
  return layer.new({
    name = path, tensor_name = name, kind = self.kinds[name], dtype = dtype, shape = shape,
    bias_name = classify.bias(self.look, record and path or name, path),
    transposed = self.flipped[name] or false,
    depth = depth, depth_count = depth and self.counts[above], tied = tied, model = model,
    quantized = record ~= nil,
  }, record and record.source)
end

return layers
