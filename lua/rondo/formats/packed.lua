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
local shape_of = require "rondo.shape"

local ceil_div = shape_of.ceil_div

local packed = {}

--- Bits of the words that codes are packed into.
packed.word_bits = { i8 = 8, i16 = 16, i32 = 32, i64 = 64 }

--- [rows, cols] with the packed dimension counted in words.
-- @param packing  dim: 0 or 1, fields: codes in a word
function packed.in_words(packing, rows, cols)
  if packing.dim == 1 then return rows, ceil_div(cols, packing.fields) end
  return ceil_div(rows, packing.fields), cols
end

--- A module's tensor: "fc" and "scale" give "fc.scale"; the layer without a name, "scale".
function packed.member(module, name)
  return module == "" and name or module .. "." .. name
end

-- ---- Writing ----

local field_order = { "tensor", "bits", "group_size", "scheme", "data_type", "full_range",
                      "group_dim", "compression_dtype", "compression_dim", "scale_dtype",
                      "source_dtype", "shape" }

--- The name under which a packed layer's weight stood before it was packed.
function packed.plain_name(model, path)
  return model.config.quantization_config.layers[path].tensor
end

-- What a reader must know of a layer that plan.layers gives.
local function fields_of(layer)
  local fields = layer.scheme:reference()
  fields.tensor, fields.shape, fields.source_dtype = layer.tensor, layer.shape, layer.dtype
  fields.compression_dtype, fields.compression_dim = layer.packing.dtype, layer.packing.dim
  fields.scale_dtype = layer.scheme.scale
  return fields
end

--- The value of config.json's quantization_config.
-- @param each  iterator over layers, see plan.layers
function packed.config(each)
  local layers = {}
  for path, layer in each do layers[path] = fields_of(layer) end
  return { quant_method = "rondo", schema = 1, format = "packed", layers = layers }
end

--- The same as JSON text, a line for each layer.
-- @param margin  what stands before each line but the first
-- @param emit    function (piece of the text), called for one after the other
function packed.write_config(each, margin, emit)
  local json = require "rondo.json"
  local function lines(text) return (text:gsub("\n", "\n" .. margin)) end
  local encode, divider, next_divider = json.encoder(field_order), lines "\n    ", lines ",\n    "
  emit(lines '{\n  "quant_method": "rondo",\n  "schema": 1,\n  "format": "packed",\n  "layers": {')
  for path, layer in each do
    emit(divider .. core.json_quote(path) .. ": " .. encode(fields_of(layer)))
    divider = next_divider
  end
  emit(lines "\n  }\n}")
end

-- ---- Reading ----

local scale_types = { f32 = true, f16 = true, bf16 = true }
local source_types = scale_types

local function whole_number(value, low, high)
  return math.type(value) == "integer" and value >= low and value <= high
end

local function member_of(list, value)
  for _, known in ipairs(list) do
    if value == known then return true end
  end
  return false
end

-- What is wrong with a layer's entry in config.json, or nil.
local function complaint(fields)
  if type(fields) ~= "table" then return "is not an object" end
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
    { "compression_dtype", packed.word_bits[fields.compression_dtype] ~= nil },
    { "compression_dim", fields.compression_dim == 0 or fields.compression_dim == 1 },
    { "scale_dtype", scale_types[fields.scale_dtype] ~= nil },
    { "source_dtype", source_types[fields.source_dtype] ~= nil },
    { "shape", type(fields.shape) == "table" and (#fields.shape == 2 or #fields.shape == 3)
      and whole_number(fields.shape[1], 0, 1 << 40) and whole_number(fields.shape[2], 0, 1 << 40)
      and (fields.shape[3] == nil or whole_number(fields.shape[3], 0, 1 << 40)) },
  }
  for _, check in ipairs(checks) do
    if not check[2] then return "has a bad or missing \"" .. check[1] .. "\"" end
  end
end

-- Everything about a packed layer's tensors: shapes per slice, scheme, names.
local function layout_of(path, fields)
  local scheme = scheme_of.of_reference(fields)
  local shape = fields.shape
  local layout = {
    scheme = scheme, shape = shape, dim = fields.compression_dim,
    slices = shape[3] and shape[1] or 1,
    rows = shape[#shape - 1], cols = shape[#shape], dtype = fields.compression_dtype,
    fields = packed.word_bits[fields.compression_dtype] // fields.bits,
    scale_dtype = fields.scale_dtype, source_dtype = fields.source_dtype,
    words = packed.member(path, "packed_weight"),
    signed = not scheme:has_zero() and fields.bits > 1, -- one bit: 0 and 1
    scale = packed.member(path, "scale"),
    zero = scheme:has_zero() and packed.member(path, "packed_zp") or nil,
  }
  local line = scheme.group_dim == 1 and layout.cols or layout.rows
  layout.groups, layout.group = scheme:groups(line), scheme:group_elements(line)
  return layout
end

-- Checks that a tensor is there with that dtype and [rows, cols] in every slice.
local function check_tensor(checkpoint, layout, name, dtype, rows, cols)
  local found, shape = checkpoint:info(name)
  if not found then return "tensor '" .. name .. "' is missing" end
  local wanted = #layout.shape == 3 and { layout.slices, rows, cols } or { rows, cols }
  local same = found == dtype and #shape == #wanted
  for i, d in ipairs(wanted) do same = same and shape[i] == d end
  if not same then
    return string.format("tensor '%s' is %s [%s], but config.json says %s [%s]", name, found,
                         table.concat(shape, ", "), dtype, table.concat(wanted, ", "))
  end
end

local function check_tensors(checkpoint, layout)
  local scale_rows, scale_cols = layout.rows, layout.groups
  if layout.scheme.group_dim == 0 then scale_rows, scale_cols = layout.groups, layout.cols end
  local bad = check_tensor(checkpoint, layout, layout.words, layout.dtype,
                           packed.in_words(layout, layout.rows, layout.cols))
    or check_tensor(checkpoint, layout, layout.scale, layout.scale_dtype, scale_rows, scale_cols)
  if bad or not layout.zero then return bad end
  return check_tensor(checkpoint, layout, layout.zero, layout.dtype,
                      packed.in_words(layout, scale_rows, scale_cols))
end

-- ---- Tiles of a packed layer ----

local function gcd(a, b)
  while b ~= 0 do a, b = b, a % b end
  return a
end

-- Widens first .. first+count-1 (1-based) of `all` to whole units; returns first and count.
local function aligned(first, count, unit, all)
  local low = (first - 1) // unit * unit
  local high = math.min(ceil_div(first - 1 + count, unit) * unit, all)
  return low + 1, high - low
end

-- Units in which rows and columns of the codes can be read: whole words, whole groups.
local function units(layout)
  local row, col = 1, 1
  if layout.dim == 1 then col = layout.fields else row = layout.fields end
  if layout.groups > 1 then
    local group = layout.group
    if layout.scheme.group_dim == 1 then col = col // gcd(col, group) * group
    else row = row // gcd(row, group) * group end
  end
  return row, col
end

-- A piece of a matrix that is stored in words: codes [rows, cols], read as whole words.
local function read_codes(layout, checkpoint, name, above, full, place, signed)
  local row, rows, col, cols = place.row, place.rows, place.col, place.cols
  local along = layout.dim == 1
  local first, count = aligned(along and col or row, along and cols or rows, layout.fields,
                               along and full.cols or full.rows)
  local word, words = (first - 1) // layout.fields, ceil_div(count, layout.fields)
  local tile, message, code
  if along then
    tile, message, code = checkpoint:read(name, above + row, rows, word + 1, words)
  else
    tile, message, code = checkpoint:read(name, above + word + 1, words, col, cols)
  end
  if not tile then return nil, message, code end
  local codes = core.unpack(tile, layout.scheme.bits, layout.dim, along and rows or count,
                            along and count or cols, signed)
  local skip, length = (along and col or row) - first, along and cols or rows
  if skip == 0 and length == count then return codes end
  local range = string.format("%d:%d", skip + 1, skip + length)
  return codes[along and ":, " .. range or range .. ", :"]:contiguous()
end

-- Scales and zero points of an aligned piece, as core.dequantize wants them.
local function read_params(layout, checkpoint, slice, place)
  local columns = layout.scheme.group_dim == 0
  local full = { rows = columns and layout.groups or layout.rows,
                 cols = columns and layout.cols or layout.groups }
  local at = { row = place.row, rows = place.rows, col = place.col, cols = place.cols }
  local first, count = "col", "cols"
  if columns then first, count = "row", "rows" end
  at[first] = layout.groups > 1 and (place[first] - 1) // layout.group + 1 or 1
  at[count] = layout.groups > 1 and ceil_div(place[count], layout.group) or 1
  local scale, message, code = checkpoint:read(layout.scale, slice * full.rows + at.row, at.rows,
                                               at.col, at.cols)
  if not scale then return nil, message, code end
  if not layout.zero then return scale:to("f32") end
  local word_rows = packed.in_words(layout, full.rows, full.cols)
  local zero
  zero, message, code = read_codes(layout, checkpoint, layout.zero, slice * word_rows, full, at,
                                   false)
  if not zero then return nil, message, code end
  return scale:to("f32"), zero
end

-- Rows and columns of one slice (0-based), dequantized.
local function read_slice(layout, checkpoint, slice, row, rows, col, cols)
  local row_unit, col_unit = units(layout)
  local place = {}
  place.row, place.rows = aligned(row, rows, row_unit, layout.rows)
  place.col, place.cols = aligned(col, cols, col_unit, layout.cols)
  local word_rows = packed.in_words(layout, layout.rows, layout.cols)
  local codes, message, code = read_codes(layout, checkpoint, layout.words, slice * word_rows,
                                          { rows = layout.rows, cols = layout.cols }, place,
                                          layout.signed)
  if not codes then return nil, message, code end
  local scale, zero
  scale, zero, code = read_params(layout, checkpoint, slice, place)
  if not scale then return nil, zero, code end
  local s = layout.scheme
  local group = layout.groups > 1 and layout.group or math.max(place.rows, place.cols, 1)
  local values = core.dequantize(s.grid, codes, scale, zero, group, s.group_dim)
  if place.rows == rows and place.cols == cols then return values end
  local top, left = row - place.row, col - place.col
  return values[string.format("%d:%d, %d:%d", top + 1, top + rows, left + 1, left + cols)]
    :contiguous()
end

local function empty(rows, cols)
  return core.zeros({ rows, cols }, "f32")
end

-- Rows that may run over several slices.
local function read_rows(layout, checkpoint, row, rows, col, cols)
  if rows == 0 or cols == 0 then return empty(rows, cols) end
  local first, last = (row - 1) // layout.rows, (row + rows - 2) // layout.rows
  if first == last then
    return read_slice(layout, checkpoint, first, row - first * layout.rows, rows, col, cols)
  end
  local values, filled = empty(rows, cols), 0
  for slice = first, last do
    local from = math.max(row - slice * layout.rows, 1)
    local to = math.min(row + rows - 1 - slice * layout.rows, layout.rows)
    local part, message, code = read_slice(layout, checkpoint, slice, from, to - from + 1, col,
                                           cols)
    if not part then return nil, message, code end
    values[string.format("%d:%d, :", filled + 1, filled + to - from + 1)] = part
    filled = filled + to - from + 1
  end
  return values
end

--- The names of the tensors that a packed layer is made of.
-- @param fields  as below, once packed.source has taken them
function packed.parts(path, fields)
  local zero = scheme_of.of_reference(fields):has_zero()
  return { packed.member(path, "packed_weight"), packed.member(path, "scale"),
           zero and packed.member(path, "packed_zp") or nil }
end

--- Reads the description of one packed layer and checks its tensors.
-- @param path    the module's path, "" for a file whose only layer has no name
-- @param fields  its entry in config.json's quantization_config.layers
-- @return a source (rondo.model.source) of f32 with `layout`; or nil, message, "format"
function packed.source(checkpoint, path, fields)
  local bad = complaint(fields)
  local layout = not bad and layout_of(path, fields)
  bad = bad or check_tensors(checkpoint, layout)
  if bad then
    return nil, string.format("quantization_config: layer '%s' %s", path, bad), "format"
  end
  return {
    rows = layout.rows * layout.slices, cols = layout.cols, slices = layout.slices, dtype = "f32",
    layout = layout,
    read = function(_, row, rows, col, cols)
      return read_rows(layout, checkpoint, row, rows, col, cols)
    end,
  }
end

return packed
