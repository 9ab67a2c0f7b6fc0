-- formats.pieces: the matrices that a layer is stored as. Most layers are one, or one for each
-- expert in a tensor of its own. Experts that a model holds stacked in tensors of rank 3 are cut as
-- engines want them: split into a layer for each expert and projection ("split"), or one for each
-- projection, the experts still stacked ("stack", mlx-lm's switch_mlp).
--
-- A piece is { tail, drop, shape, first, count, row, rows, turned, below }: what stands in its path
-- in place of the last `drop` segments of the layer's (nil: it has the layer's path); its shape in
-- the output; matrices first .. first+count-1 (from 1) of the source, of which it has rows row+1 ..
-- row+rows of the output channels; turned: they are stored [in, out]; below: engines put the next
-- projection below it.

local source = require "rondo.model.source"

local pieces = {}

-- The projections in a tensor of stacked experts, one below the other, by the last segment of its
-- path; as mlx-lm calls them.
local projections = {
  gate_up_proj = { "gate_proj", "up_proj" }, gate_proj = { "gate_proj" }, up_proj = { "up_proj" },
  down_proj = { "down_proj" }, w1 = { "w1" }, w2 = { "w2" }, w3 = { "w3" },
}
local mlx_names = { w1 = "gate_proj", w2 = "down_proj", w3 = "up_proj" }

-- Experts of the output's layers, cut from a tensor of `experts` matrices of [rows, cols].
local function cut(how, names, experts, rows, cols, turned)
  local list, height = {}, rows // #names
  for i, name in ipairs(names) do
    local row, below = (i - 1) * height, i < #names
    if how == "stack" then
      list[#list + 1] = { tail = "switch_mlp." .. (mlx_names[name] or name), drop = 2,
                          shape = { experts, height, cols }, first = 1, count = experts,
                          row = row, rows = height, turned = turned, below = below }
    end
    for number = 1, how == "split" and experts or 0 do
      list[#list + 1] = { tail = ("%d.%s"):format(number - 1, name), drop = 1,
                          shape = { height, cols }, first = number, count = 1, row = row,
                          rows = height, turned = turned, below = below }
    end
  end
  return list
end

local function whole(about)
  local shape = about.shape
  return { { shape = shape, first = 1, count = #shape == 3 and shape[1] or 1,
             row = 0, rows = shape[#shape - 1] } }
end

--- The pieces of a layer in a format (see rondo.formats), or nil and why it has none.
function pieces.of(format, about)
  local shape, how = about.shape, format.experts
  if not how or #shape ~= 3 then return whole(about) end
  if about.biased then return nil, "the biases of its experts are stacked in a tensor" end
  local names = projections[about.path:match "[^.]*$"]
  if not names then
    return nil, ("nobody knows what to call the experts in '%s' one by one"):format(about.path)
  elseif about.interleaved and #names > 1 then
    return nil, "the rows of its gate and up projections are interleaved"
  end
  local rows, cols = shape[2], shape[3]
  if about.transposed then rows, cols = cols, rows end
  if rows % #names ~= 0 then
    return nil, ("its %d outputs are no %d projections"):format(rows, #names)
  end
  return cut(how, names, shape[1], rows, cols, about.transposed)
end

--- The path of a piece of the layer of that path.
function pieces.path(path, piece)
  if not piece.tail then return path end
  local above = path
  for _ = 1, piece.drop do above = above:match "^(.*)%.[^.]*$" or "" end
  return above == "" and piece.tail or above .. "." .. piece.tail
end

--- Where an expert that is a layer of its own stands when experts are stacked: the path of the
--- stack, and its number there; or nil.
function pieces.stack_of(path)
  local above, number, name = path:match "^(.*)%.experts%.(%d+)%.([^.]*)$"
  if not projections[name] then return nil end
  return above .. ".switch_mlp." .. (mlx_names[name] or name), tonumber(number) + 1
end

--- Matrix number `index` of a piece, as a source (rondo.model.source) of its own.
function pieces.source(all, piece, index)
  local matrix = source.slice(all, piece.first + index - 1)
  if not piece.turned and piece.rows == matrix.rows then return matrix end
  local part = { rows = piece.rows, cols = piece.turned and matrix.rows or matrix.cols,
                 dtype = matrix.dtype, slices = 1 }
  if piece.turned then
    function part.read(_, row, rows, col, cols)
      local tile, message, code = matrix:read(col, cols, piece.row + row, rows)
      if not tile then return nil, message, code end
      return tile:transpose():contiguous()
    end
    return part
  end
  function part.read(_, row, rows, col, cols)
    return matrix:read(piece.row + row, rows, col, cols)
  end
  if matrix.block then
    function part.block(_, row, rows, col, cols)
      return matrix:block(piece.row + row, rows, col, cols)
    end
  end
  return part
end

return pieces
