-- packed: the packed layers of neural_compressor's RTN module (WeightOnlyLinear) in a checkpoint,
-- with everything that is needed to read them back in config.json.
--
-- A layer P has P.packed_weight (codes masked to b bits, field e of a word at bit b*e, the last
-- word filled with zeros), P.scale, P.packed_zp where there are zero points, and P.bias in the
-- scales' dtype. The words run along dimension compression_dim. config.json gains
--   "quantization_config": { "quant_method": "rondo", "schema": 1, "format": "packed",
--     "layers": { P: { tensor, bits, group_size, scheme, data_type, full_range, group_dim,
--                      compression_dtype, compression_dim, scale_dtype, source_dtype, shape } } }
-- Dequantized values are f32, equal to those of the "fake" format before they are rounded to the
-- source's dtype (but for the sign of zeros, which codes do not hold).

local core = require "rondo.core"
local scheme_of = require "rondo.scheme"
local stored = require "rondo.formats.stored"
local tensors = require "rondo.formats.tensors"
local text = require "rondo.model.text"

local packed = { name = "packed", reference = true }

-- ---- What a layer is stored in ----

local function member_of(list, value)
  for _, known in ipairs(list) do
    if value == known then return true end
  end
  return false
end

local scale_types = { f32 = true, f16 = true, bf16 = true }

--- See rondo.formats.
function packed.fit(scheme)
  local size = scheme.group_size
  if type(size) == "table" or size == "tensor" then
    return nil, "the packed format has no scale for a " .. (size == "tensor" and "whole tensor"
      or ("block of %dx%d"):format(size[1], size[2]))
  elseif not scale_types[scheme.scale] then
    return nil, ("scales of the packed format are f32, f16 or bf16, not %s"):format(scheme.scale)
  elseif scheme.double then
    return nil, "the packed format has no double quantization of scales"
  elseif not member_of(scheme_of.data_types, scheme.data_type) or scheme.zero == "float" then
    return nil, "the packed format holds integers with integer zero points and 4-bit codebooks"
  elseif scheme.bits > 8 then
    return nil, ("packed codes have at most 8 bits, not %d"):format(scheme.bits)
  end
  return scheme
end

local function outputs_of(shape, scheme, dtype, dim)
  local rows, cols = shape[#shape - 1], shape[#shape]
  local function dims(a, b)
    return #shape == 3 and { shape[1], a, b } or { a, b }
  end
  local signed = not scheme:has_zero() and scheme.bits > 1 -- one bit: 0 and 1
  local layout = tensors.layout { bits = scheme.bits, word = dtype, dim = dim, signed = signed }
  local height, width = rows, scheme:groups(cols)
  if scheme.group_dim == 0 then height, width = scheme:groups(rows), cols end
  return {
    tensors.words("packed_weight", "codes", dtype, shape, layout),
    tensors.new("scale", "scale", scheme.scale, dims(height, width)),
    scheme:has_zero() and tensors.words("packed_zp", "zero", dtype, dims(height, width), layout)
      or nil,
  }
end

--- See rondo.formats.
function packed.outputs(about, scheme)
  return outputs_of(about.shape, scheme, about.options.compression_dtype,
                    about.options.compression_dim)
end

--- See rondo.formats.
function packed.bias(scheme)
  return scheme.scale
end

-- ---- Writing ----

local field_order = { "tensor", "bits", "group_size", "scheme", "data_type", "full_range",
                      "group_dim", "compression_dtype", "compression_dim", "scale_dtype",
                      "source_dtype", "shape" }

-- What a reader must know of a layer that plan.layers gives.
local function fields_of(layer, o)
  local fields = layer.scheme:reference()
  fields.tensor, fields.shape, fields.source_dtype = layer.tensor, layer.shape, layer.dtype
  fields.compression_dtype, fields.compression_dim = o.compression_dtype, o.compression_dim
  fields.scale_dtype = layer.scheme.scale
  return fields
end

-- The value of quantization_config as JSON text, a line for each layer.
local function write_config(made, margin, emit)
  local json, o = require "rondo.json", made.options
  local function lines(block) return (block:gsub("\n", "\n" .. margin)) end
  local encode, divider, next_divider = json.encoder(field_order), lines "\n    ", lines ",\n    "
  emit(lines '{\n  "quant_method": "rondo",\n  "schema": 1,\n  "format": "packed",\n  "layers": {')
  for path, layer in require("rondo.plan").layers(made) do
    emit(divider .. core.json_quote(path) .. ": " .. encode(fields_of(layer, o)))
    divider = next_divider
  end
  emit(lines "\n  }\n}")
end

--- See rondo.formats.
function packed.config(made)
  return { { "quantization_config", function(margin, emit) write_config(made, margin, emit) end } }
end

-- ---- Reading ----

local word_types = { i8 = true, i16 = true, i32 = true, i64 = true }

local function whole_number(value, low, high)
  return math.type(value) == "integer" and value >= low and value <= high
end

-- What is wrong with a layer's entry in config.json, or nil.
local function complaint(fields)
  local checks = {
    { "tensor", type(fields.tensor) == "string" },
    { "bits", whole_number(fields.bits, 1, 8) },
    { "group_size", fields.group_size == -1
      or whole_number(fields.group_size, 1, math.maxinteger) },
    { "scheme", fields.scheme == "asym" or fields.scheme == "sym" },
    { "data_type", member_of(scheme_of.data_types, fields.data_type)
      and (fields.data_type == "int" or fields.bits == 4) },
    { "full_range", type(fields.full_range) == "boolean"
      and not (fields.full_range and fields.bits == 1) },
    { "group_dim", fields.group_dim == 0 or fields.group_dim == 1 },
    { "compression_dtype", word_types[fields.compression_dtype] ~= nil },
    { "compression_dim", fields.compression_dim == 0 or fields.compression_dim == 1 },
    { "scale_dtype", scale_types[fields.scale_dtype] ~= nil },
    { "source_dtype", scale_types[fields.source_dtype] ~= nil },
    { "shape", type(fields.shape) == "table" and (#fields.shape == 2 or #fields.shape == 3)
      and whole_number(fields.shape[1], 0, 1 << 40) and whole_number(fields.shape[2], 0, 1 << 40)
      and (fields.shape[3] == nil or whole_number(fields.shape[3], 0, 1 << 40)) },
  }
  for _, check in ipairs(checks) do
    if not check[2] then return "has a bad or missing \"" .. check[1] .. "\"" end
  end
end

local function layer_of(path, fields)
  local scheme = scheme_of.of_reference(fields)
  return { path = path, scheme = scheme, shape = fields.shape,
           outputs = outputs_of(fields.shape, scheme, fields.compression_dtype,
                                fields.compression_dim) }
end

-- Records make these when they are asked for them: there may be 100,000.
local function record_type(checkpoint, layers)
  local makers = {
    source = function(path) return stored.source(checkpoint, layer_of(path, layers[path])) end,
    parts = function(path) return stored.parts(layer_of(path, layers[path])) end,
    weight = function(path) return layers[path].tensor end,
  }
  return { __index = function(record, key) return makers[key] and makers[key](record.name) end }
end

local function record_of(checkpoint, path, fields)
  local bad = complaint(fields) or stored.complaint(checkpoint, layer_of(path, fields))
  if bad then
    return nil, ("quantization_config: layer '%s' %s"):format(path, bad), "format"
  end
  return { name = path, tensor_name = stored.member(path, "packed_weight"),
           dtype = fields.source_dtype, shape = fields.shape }
end

local function sorted_keys(t)
  local keys = {}
  for key in pairs(t) do keys[#keys + 1] = key end
  table.sort(keys)
  return keys
end

--- See rondo.formats.
function packed.open(checkpoint, described)
  if described.schema ~= 1 or described.format ~= "packed" then
    return nil, "quantization_config: this version of rondo reads schema 1, format \"packed\"",
      "unsupported"
  elseif type(described.layers) ~= "table" then
    return nil, "quantization_config: layers must be an object", "format"
  end
  local records, meta = {}, record_type(checkpoint, described.layers)
  for _, path in ipairs(sorted_keys(described.layers)) do
    if type(path) ~= "string" or type(described.layers[path]) ~= "table" then
      return nil, ("quantization_config: layer %s must be an object"):format(
        text.quote(tostring(path))), "format"
    end
    local record, message, code = record_of(checkpoint, path, described.layers[path])
    if not record then return nil, message, code end
    records[#records + 1] = setmetatable(record, meta)
  end
  return records
end

return packed
