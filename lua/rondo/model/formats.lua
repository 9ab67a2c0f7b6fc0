-- formats: layers of checkpoints that rondo itself has quantized. One entry for each quant_method
-- whose tensors do not stand under the names of the weights.
--
-- An entry is a function (checkpoint, quantization_config) that gives a list of records, or nil,
-- message, code:
--   name         the layer's module path
--   tensor_name  the tensor that stands for it in the file's order
--   dtype, shape of the weight before it was quantized
--   source       its values, see rondo.model.source; made anew with each access
--   parts        the tensors that it is made of, without the bias
-- A method without an entry (gptq, awq, ...) opens as plain tensors under the file's own names.

local text = require "rondo.model.text"

local formats = {}

local function sorted_keys(t)
  local keys = {}
  for key in pairs(t) do keys[#keys + 1] = key end
  table.sort(keys)
  return keys
end

-- What records make when they are asked for it: there may be 100,000 of them.
local function packed_record_type(checkpoint, layers)
  local packed = require "rondo.formats.packed"
  local makers = {
    source = function(path) return assert(packed.source(checkpoint, path, layers[path])) end,
    parts = function(path) return packed.parts(path, layers[path]) end,
  }
  return { __index = function(record, key) return makers[key] and makers[key](record.name) end }
end

local function packed_record(checkpoint, path, fields)
  local packed = require "rondo.formats.packed"
  local source, message, code = packed.source(checkpoint, path, fields)
  if not source then return nil, message, code end
  return { name = path, tensor_name = source.layout.words, dtype = fields.source_dtype,
           shape = fields.shape }
end

-- rondo's "packed" format.
function formats.rondo(checkpoint, config)
  if config.schema ~= 1 or config.format ~= "packed" then
    return nil, "quantization_config: this version of rondo reads schema 1, format \"packed\"",
      "unsupported"
  elseif type(config.layers) ~= "table" then
    return nil, "quantization_config: layers must be an object", "format"
  end
  local records, record_type = {}, packed_record_type(checkpoint, config.layers)
  for _, path in ipairs(sorted_keys(config.layers)) do
    if type(path) ~= "string" or type(config.layers[path]) ~= "table" then
      return nil, ("quantization_config: layer %s must be an object"):format(
        text.quote(tostring(path))), "format"
    end
    local record, message, code = packed_record(checkpoint, path, config.layers[path])
    if not record then return nil, message, code end
    records[#records + 1] = setmetatable(record, record_type)
  end
  return records
end

return formats
