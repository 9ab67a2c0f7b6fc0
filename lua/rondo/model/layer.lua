-- layer: one module with a weight, as model:layers() gives it. A description only: bytes are read
-- when layer.weight or layer.bias is asked for, and again each time.
--
-- Fields:
--   name         module path: the tensor's name without ".weight"; "" for a tensor "weight"; the
--                whole name for experts stacked in a tensor without that ending
--   tensor_name  the tensor it is stored in (of a packed layer: the one with the codes)
--   bias_name    the bias tensor, or nil
--   kind         "linear", "lm_head", "router", "expert", "embedding", "norm", "other"
--   shape, rank, dtype   of the weight, as stored (of a packed layer: as it was)
--   stacked      rank 3: one matrix for each expert
--   transposed   stored [in, out] (GPT-2's Conv1D) or [experts, in, out]
--   experts, out_features, in_features   of the matrices; nil unless the layer is linear
--   depth        the number of the layer it is in, as the name says (from 0), or nil
--   depth_count  how many such layers there are, or nil
--   tied         whether another module uses the same weight
--   quantized    whether it is stored as codes; its weight is dequantized then
--   model        the model
--   source       its rows, block by block (rondo.model.source)
--   weight, bias the tensors; raise when they cannot be read. bias is nil where there is none
-- Methods: layer:dequantize() gives the weight as f32; layer:stored(index) the codes, scales and
-- zero points of a quantized one (rondo.quantized_tensor), of a stacked one those of the matrix of
-- that number; layer:stats() its statistics, read piece by piece (see rondo.inspect.stats).

local source = require "rondo.model.source"
local text = require "rondo.model.text"

local layer = {}

local Layer = { __name = "rondo.layer", __metatable = "locked" }

-- Fields that may be nil.
local optional = {
  bias_name = true, depth = true, depth_count = true, experts = true, out_features = true,
  in_features = true,
}

-- Records of quantized layers, see rondo.model.formats; and their sources once they are made.
local records, sources = setmetatable({}, { __mode = "k" }), setmetatable({}, { __mode = "k" })

local lazy = {}

function lazy.source(self)
  if not records[self] then
    return source.stored(self.model.checkpoint, self.tensor_name, self.dtype, self.shape)
  end
  sources[self] = sources[self] or records[self].source
  return sources[self]
end

local function dequantized(self)
  local whole = self.source
  local values, message = whole:read(1, whole.rows, 1, whole.cols)
  if not values then return nil, message end
  return values:reshape(self.shape)
end

function lazy.weight(self)
  local tensor, message
  if self.quantized then
    tensor, message = dequantized(self)
  else
    tensor, message = self.model.checkpoint:tensor(self.tensor_name)
  end
  if not tensor then error(message, 3) end
  return tensor
end

function lazy.bias(self)
  if not self.bias_name then return nil end
  local tensor, message = self.model.checkpoint:tensor(self.bias_name)
  if not tensor then error(message, 3) end
  return tensor
end

local methods = {}

function methods:dequantize()
  return self.weight:to("f32")
end

function methods:stored(index)
  local whole = self.source
  index = index or 1
  if not self.quantized then
    error(("stored: layer %s is not quantized"):format(text.quote(self.name)), 2)
  elseif math.type(index) ~= "integer" or index < 1 or index > whole.slices then
    error(("stored: layer %s has matrices 1 to %d, not %s"):format(text.quote(self.name),
      whole.slices, text.value(index)), 2)
  end
  local found, message = whole:quantized(index)
  if not found then error(message, 2) end
  return found
end

function methods:stats()
  local stats, message = require("rondo.inspect").stats(self.source)
  if not stats then error(message, 2) end
  return stats
end

local function known_fields(self)
  local names = { "weight", "bias", "source", "dequantize", "stored", "stats" }
  for name in pairs(optional) do names[#names + 1] = name end
  for name in pairs(self) do
    if not optional[name] then names[#names + 1] = tostring(name) end
  end
  table.sort(names)
  return table.concat(names, ", ")
end

function Layer.__index(self, key)
  if lazy[key] then return lazy[key](self) end
  if methods[key] or optional[key] then return methods[key] end
  error(("a layer has no field '%s' (known: %s)"):format(text.show(tostring(key)),
    known_fields(self)), 2)
end

function Layer.__tostring(self)
  return ("%s %s %s [%s]%s"):format(self.kind, text.quote(self.name), self.dtype,
    table.concat(self.shape, ", "), self.transposed and " transposed" or "")
end

-- Sizes of the matrices inside.
local function set_features(self)
  local shape, first = self.shape, self.stacked and 2 or 1
  if not layer.linear[self.kind] or #shape ~= first + 1 then return end
  self.experts = self.stacked and shape[1] or nil
  self.out_features, self.in_features = shape[first], shape[first + 1]
  if self.transposed then
    self.out_features, self.in_features = self.in_features, self.out_features
  end
end

--- The kinds that are products with a matrix: what can be quantized.
layer.linear = { linear = true, lm_head = true, router = true, expert = true }

--- The other kinds.
layer.rest = { embedding = true, norm = true, other = true }

--- Makes a layer of a table with the fields above that are not derived from others.
-- @param record  of rondo.model.formats where it is quantized
function layer.new(fields, record)
  fields.rank = #fields.shape
  fields.stacked = fields.kind == "expert" and fields.rank == 3
  set_features(fields)
  records[fields] = record
  return setmetatable(fields, Layer)
end

return layer
