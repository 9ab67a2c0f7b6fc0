-- formats.stored: the values of a layer that is stored as codes, scales and zero points, tile by
-- tile, whatever the format: the descriptions that it was written by (rondo.formats.tensors) say
-- where everything stands.
--
-- A layer is { path, scheme, shape, outputs }. Where groups are not plain runs of inputs, group_of
-- (i32, one for each column) says which group each is in.

local core = require "rondo.core"
local params = require "rondo.params"
local quantized_tensor = require "rondo.quantized_tensor"
local shape_of = require "rondo.shape"
local tensors = require "rondo.formats.tensors"

local stored = {}

local ceil_div = shape_of.ceil_div

--- A module's tensor: "fc" and "scale" give "fc.scale"; the layer without a name, "scale".
function stored.member(module, part)
  return module == "" and part or module .. "." .. part
end

-- ---- Checks ----

local function same_shape(a, b)
  local same = #a == #b
  for i, d in ipairs(a) do same = same and b[i] == d end
  return same
end

-- One number is one, whatever its shape.
local function alike(a, b)
  return same_shape(a, b) or shape_of.count(a) == 1 and shape_of.count(b) == 1
end

-- Checks that a tensor is there as described.
local function complaint(checkpoint, name, e)
  local dtype, shape = checkpoint:info(name)
  if not dtype then return ("tensor '%s' is missing"):format(name) end
  if dtype ~= e.dtype or not alike(shape, e.shape) then
    return ("tensor '%s' is %s [%s], where its layer needs %s [%s]"):format(name, dtype,
      table.concat(shape, ", "), e.dtype, table.concat(e.shape, ", "))
  end
end

--- What is wrong with the tensors of a layer, or nil.
function stored.complaint(checkpoint, layer)
  for _, e in ipairs(layer.outputs) do
    local bad = complaint(checkpoint, stored.member(layer.path, e.part), e)
    if bad then return bad end
  end
end

-- ---- Rectangles ----

-- Widens first .. first+count-1 (1-based) to whole units of `all`; returns first and count.
local function widened(first, count, unit, all)
  local low = (first - 1) // unit * unit
  return low + 1, math.min(ceil_div(first - 1 + count, unit) * unit, all) - low
end

local function crop(tensor, top, rows, left, cols)
  if rows == tensor.shape[1] and cols == tensor.shape[2] then return tensor end
  return tensor[("%d:%d, %d:%d"):format(top + 1, top + rows, left + 1, left + cols)]:contiguous()
end

-- Rows and columns of one of the matrices that stand in a tensor; [height, width] each.
local function read_matrix(r, e, height, width, row, rows, col, cols)
  local name, above = stored.member(r.layer.path, e.part), r.slice * height
  if not e.width then return r.checkpoint:read(name, above + row, rows, col, cols) end
  local first, count = (above + row - 1) * width + 1, rows * cols -- whole rows, see place_of
  local tensor, message, code
  if e.bytes then tensor, message, code = r.checkpoint:read_bytes(name, first - 1, count)
  elseif #e.shape == 1 then tensor, message, code = r.checkpoint:read(name, 1, 1, first, count)
  else tensor, message, code = r.checkpoint:read(name, first, count, 1, 1) end
  if not tensor then return nil, message, code end
  return tensor:reshape { rows, cols }
end

-- Codes, or zero points that are integers: a rectangle of a [height, width] matrix of them.
local function read_codes(r, e, height, width, place)
  local layout = e.layout
  local row, rows, col, cols = place.row, place.rows, place.col, place.cols
  if layout.dim == 1 then col, cols = widened(col, cols, layout.unit, width)
  else row, rows = widened(row, rows, layout.unit, height) end
  local all_rows, all_cols = layout.native:shape(height, width)
  local word_rows, word_cols = layout.native:shape(rows, cols)
  local first_row, first_col = tensors.place(layout, row, col)
  local words, message, code = read_matrix(r, e, all_rows, all_cols, first_row, word_rows,
                                           first_col, word_cols)
  if not words then return nil, message, code end
  return crop(layout.native:unpack(words:contiguous(), rows, cols), place.row - row, place.rows,
              place.col - col, place.cols)
end

-- Numbers by group, f32.
local function read_numbers(r, e, height, width, place)
  local row, rows, col, cols = place.row, place.rows, place.col, place.cols
  if e.transposed then
    height, width, row, rows, col, cols = width, height, col, cols, row, rows
  end
  local numbers, message, code = read_matrix(r, e, height, width, row, rows, col, cols)
  if not numbers then return nil, message, code end
  if e.transposed then numbers = numbers:transpose():contiguous() end
  return tensors.decode(e, numbers)
end

-- ---- A layer's rectangle ----

-- Where the groups of a rectangle stand in the matrix of all groups.
local function groups_of(r, place)
  local g = r.groups
  local row, last_row = (place.row - 1) // g.rows, (place.row + place.rows - 2) // g.rows
  local col, last_col = (place.col - 1) // g.cols, (place.col + place.cols - 2) // g.cols
  return { row = row + 1, rows = last_row - row + 1, col = col + 1, cols = last_col - col + 1 }
end

-- The scale of all groups is a number of its own, too, in some formats. As it is stored, which may
-- be what scales are divided by.
local function factor_of(r)
  local e = r.by_role.factor
  if not e then return nil end
  if not r.layer.factor then
    local found, message, code = r.checkpoint:tensor(stored.member(r.layer.path, e.part))
    if not found then return nil, message, code end
    r.layer.factor = found:reshape { 1 }:to("f32"):totable()[1]
  end
  return r.layer.factor
end

local function read_scales(r, place)
  local e, g = r.by_role.scale, r.groups
  local scales, message, code
  if r.layer.read_scales then
    scales, message, code = r.layer.read_scales(r, place)
  else
    scales, message, code = read_numbers(r, e, g.height, g.width, place)
  end
  if not scales or not r.by_role.factor then return scales, message, code end
  local factor
  factor, message, code = factor_of(r)
  if not factor then return nil, message, code end
  return r.by_role.factor.inverse and scales / factor or scales * factor
end

local function read_zeros(r, place)
  local e, g = r.by_role.zero, r.groups
  if not e or not r.layer.scheme:has_zero() then return nil end
  if e.layout then return read_codes(r, e, g.height, g.width, place) end
  return read_numbers(r, e, g.height, g.width, place)
end

-- Scales and zero points, one for each column, where columns name their groups.
local function by_column(r, place, scales, zeros)
  local groups = r.layer.group_of:totable()
  local function spread(t)
    if not t then return nil end
    local wide = core.zeros({ t.shape[1], place.cols }, t.dtype)
    for j = 1, place.cols do
      local group = groups[place.col + j - 1] + 1
      wide[(":, %d:%d"):format(j, j)] = t[(":, %d:%d"):format(group, group)]
    end
    return wide
  end
  return spread(scales), spread(zeros)
end

-- A run of rows or columns that lies in one group, or widened to whole groups; and what each group
-- has of it.
local function grouped(first, count, size, all)
  if (first - 1) // size == (first + count - 2) // size then return first, count, count end
  first, count = widened(first, count, size, all)
  return first, count, size
end

-- A rectangle of one matrix in which groups lie as in a matrix of its own: group_rows x group_cols
-- of it belong to each. So the scales have whole rows, too, where these are kept in one line.
local function place_of(r, row, rows, col, cols)
  local place, g = {}, r.groups
  if r.whole_rows then col, cols = 1, r.cols end
  place.row, place.rows, place.group_rows = grouped(row, rows, g.rows, r.rows)
  place.col, place.cols, place.group_cols = grouped(col, cols, g.cols, r.cols)
  return place
end

-- A place with codes, scales and zero points, factor, and how the groups of these lie in it as the
-- core wants it: group_size, group_dim, group_rows. Or nil, message, code.
local function read_parts(r, place)
  local message, code
  place.codes, message, code = read_codes(r, r.by_role.codes, r.rows, r.cols, place)
  if not place.codes then return nil, message, code end
  local at = groups_of(r, place)
  if r.layer.group_of then at.col, at.cols = 1, r.groups.width end
  place.scales, message, code = read_scales(r, at)
  if not place.scales then return nil, message, code end
  place.zeros, message, code = read_zeros(r, at)
  if message then return nil, message, code end
  local e = r.by_role.factor
  place.factor = e and (e.inverse and 1 / r.layer.factor or r.layer.factor)
  place.group_dim, place.group_size = r.groups.dim, place.group_cols
  if r.layer.group_of then
    place.scales, place.zeros = by_column(r, place, place.scales, place.zeros)
    place.group_size = 1
  elseif r.groups.dim == 0 then
    place.group_size, place.group_rows = place.group_rows, 1
  end
  return place
end

local function read_slice(r, row, rows, col, cols)
  local p, message, code = read_parts(r, place_of(r, row, rows, col, cols))
  if not p then return nil, message, code end
  local values = core.dequantize(r.layer.scheme.grid, p.codes, p.scales, p.zeros, p.group_size,
                                 p.group_dim, nil, p.group_rows)
  return crop(values, row - p.row, rows, col - p.col, cols)
end

-- One of the matrices as codes, scales and zero points of a scheme; or nil, message, code.
local function read_quantized(r, slice)
  r.slice = slice - 1
  local p, message, code = read_parts(r, place_of(r, 1, r.rows, 1, r.cols))
  if not p then return nil, message, code end
  local scheme, kept = r.layer.scheme, nil
  if r.layer.group_of then scheme = scheme { group_size = 1 } end
  if not scheme.double then kept = params.stored(p.scales, p.factor) end
  local signed = not scheme:has_zero() and scheme.data_type ~= "fp8"
  return quantized_tensor.new { codes = p.codes:to(signed and "i8" or "u8"), scales = p.scales,
                                zeros = p.zeros, scheme = scheme, shape = { r.rows, r.cols },
                                stored = kept }
end

-- ---- The source ----

-- What readers of the slices share.
local function reader_of(checkpoint, layer)
  local shape, scheme = layer.shape, layer.scheme
  local r = { checkpoint = checkpoint, layer = layer, by_role = {}, slice = 0,
              rows = shape[#shape - 1], cols = shape[#shape] }
  for _, e in ipairs(layer.outputs) do
    r.by_role[e.role] = e
    r.whole_rows = r.whole_rows or e.width ~= nil
  end
  local o, by_group = params.layout(scheme, r.rows, r.cols), params.shape(scheme, r.rows, r.cols)
  local columns = o.group_dim == 0
  r.groups = { dim = o.group_dim, height = by_group[1], width = by_group[2],
               rows = columns and o.group_size or o.group_rows,
               cols = columns and 1 or o.group_size }
  return r
end

local function empty(rows, cols)
  return core.zeros({ rows, cols }, "f32")
end

-- Rows that may run over several slices.
local function read_rows(r, row, rows, col, cols)
  if rows == 0 or cols == 0 then return empty(rows, cols) end
  local first, last = (row - 1) // r.rows, (row + rows - 2) // r.rows
  r.slice = first
  if first == last then return read_slice(r, row - first * r.rows, rows, col, cols) end
  local values, filled = empty(rows, cols), 0
  for slice = first, last do
    r.slice = slice
    local from = math.max(row - slice * r.rows, 1)
    local to = math.min(row + rows - 1 - slice * r.rows, r.rows)
    local part, message, code = read_slice(r, from, to - from + 1, col, cols)
    if not part then return nil, message, code end
    values[("%d:%d, :"):format(filled + 1, filled + to - from + 1)] = part
    filled = filled + to - from + 1
  end
  return values
end

--- The names of the tensors that a layer is made of, the one that stands for it first.
function stored.parts(layer)
  local names = {}
  for i, e in ipairs(layer.outputs) do names[i] = stored.member(layer.path, e.part) end
  return names
end

--- A layer's values.
-- @return a source (rondo.model.source) of f32, with `layer`
function stored.source(checkpoint, layer)
  local r = reader_of(checkpoint, layer)
  return {
    rows = r.rows * (layer.shape[3] and layer.shape[1] or 1), cols = r.cols, dtype = "f32",
    slices = layer.shape[3] and layer.shape[1] or 1, layer = layer,
    read = function(_, row, rows, col, cols) return read_rows(r, row, rows, col, cols) end,
    --- The matrix of that number (from 1) as a rondo.quantized_tensor; or nil, message, code.
    quantized = function(_, slice) return read_quantized(r, slice) end,
    --- A rectangle as it is stored, of the matrix of that number (from 1) and, as groups are
    --- whole, with more than asked for: { row, rows, col, cols, codes, scales, zeros, group_size,
    --- group_dim, group_rows, see core.dequantize; factor: the tensor's own, that scales have in
    --- them }; or nil, message, code.
    parts = function(_, slice, row, rows, col, cols)
      r.slice = slice - 1
      return read_parts(r, place_of(r, row, rows, col, cols))
    end,
  }
end

return stored
