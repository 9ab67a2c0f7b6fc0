-- side_by_side: two checkpoints looked at together, for what compares or verifies them: the same
-- places of both, a tile at a time, and what else they hold beside layers.

local layers_of = require "rondo.model.layers"
local model_of = require "rondo.model"
local pieces = require "rondo.formats.pieces"
local source = require "rondo.model.source"
local tiles = require "rondo.tiles"

local side_by_side = {}

--- A model of what rondo.open gives, or of a path; raises for anything else, where the caller was
--- called. `where` and `position`: the function and argument for its message.
function side_by_side.opened(where, value, position)
  if type(value) == "string" then return model_of.open(value) end
  if model_of.is_model(value) then return value end
  error(("bad argument #%d to '%s' (model or path expected, got %s)"):format(position, where,
    type(value)), 3)
end

--- Reads two sources of the same shape tile by tile: visit(a, b) for each pair, advance(weights)
--- after it, if given. True, or nil, message, code.
function side_by_side.each_tile(a, b, visit, advance)
  if a.rows * a.cols == 0 then return true end
  for tile in tiles.plain(a.rows, a.cols) do
    local x, message, code = a:read(tile.row, tile.rows, tile.col, tile.cols)
    if not x then return nil, message, code end
    local y
    y, message, code = b:read(tile.row, tile.rows, tile.col, tile.cols)
    if not y then return nil, message, code end
    visit(x, y)
    if advance then advance(tile.rows * tile.cols) end
  end
  return true
end

--- The rows of a tensor that model:info describes.
function side_by_side.source(model, info)
  return source.stored(model.checkpoint, info.name, info.dtype, info.shape)
end

--- Types without arithmetic: their tensors are the same, byte by byte, or they differ.
side_by_side.opaque = { f4 = true, f6_e2m3 = true, f6_e3m2 = true, f8_e8m0 = true,
                        f8_e4m3fnuz = true, f8_e5m2fnuz = true, c64 = true }

-- ---- Layers ----

-- The matrices of the pieces that a layer was cut into; nil where these are not there.
local function cut_matrices(layer, about, how, others)
  local found = {}
  for _, piece in ipairs(pieces.of({ experts = how }, about) or {}) do
    local path = pieces.path(layer.name, piece)
    if not piece.tail or not others[path] then return nil end
    for index = 1, piece.count do
      found[#found + 1] = { path = path, slice = index, shape = piece.shape,
                            from = pieces.source(layer.source, piece, index) }
    end
  end
  return #found > 0 and found or nil
end

--- The matrices of a layer and where they are in another checkpoint, a list of { path, slice, shape
--- (of what has that path), from }; nil where they are not there. Experts that the one has in a
--- tensor may be cut in the other (rondo.formats.pieces).
-- @param others  the other's layers by their names
-- @param types   of the model, see rondo.model.config.set
function side_by_side.matrices(layer, others, types)
  local about = { path = layer.name, shape = layer.shape, transposed = layer.transposed,
                  types = types }
  for _, how in ipairs(layer.stacked and { "split", "stack" } or {}) do
    local found = cut_matrices(layer, about, how, others)
    if found then return found end
  end
  if not others[layer.name] then return nil end
  local found = {}
  for index = 1, layer.source.slices do
    found[index] = { path = layer.name, slice = index, shape = layer.shape,
                     from = source.slice(layer.source, index) }
  end
  return found
end

--- Lists of matrices that have a path in common, in their order.
function side_by_side.by_path(matrices)
  local lists, of = {}, {}
  for _, matrix in ipairs(matrices) do
    if not of[matrix.path] then
      of[matrix.path] = {}
      lists[#lists + 1] = of[matrix.path]
    end
    table.insert(of[matrix.path], matrix)
  end
  return lists
end

-- ---- Tensors ----

local BYTES = 8 * 1024 * 1024

--- Whether two tensors of one dtype and shape have the same bytes; or nil, message, code.
-- @param left, right  what model:info says of them
function side_by_side.same_bytes(a, b, left, right)
  for offset = 0, left.nbytes - 1, BYTES do
    local count = math.min(BYTES, left.nbytes - offset)
    local x, message, code = a.checkpoint:read_bytes(left.name, offset, count)
    if not x then return nil, message, code end
    local y
    y, message, code = b.checkpoint:read_bytes(right.name, offset, count)
    if not y then return nil, message, code end
    if x ~= y then return false end
  end
  return true
end

--- The tensors, in file order, that are neither weights of layers nor parts of such, nor of a
--- quantization otherwise.
-- @param wanted  function (layer) -> whether a layer counts
function side_by_side.others(model, wanted)
  local taken, names, list = {}, {}, model_of.layer_list(model)
  for _, name in ipairs(list.others) do taken[name] = true end
  for _, number in ipairs(layers_of.ordered(list)) do
    local name = list.names[number]
    if wanted(layers_of.path(list, name)) then
      local record = list.records[name]
      taken[name] = true
      for _, part in ipairs(record and record.parts or {}) do taken[part] = true end
    end
  end
  for _, name in ipairs(model.names) do
    if not taken[name] then names[#names + 1] = name end
  end
  return names
end

return side_by_side
