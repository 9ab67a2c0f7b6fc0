-- formats.pieces: the matrices that a layer is stored as. Most layers are one, or one for each
-- expert in a tensor of its own. Experts that a model holds stacked in tensors of rank 3 are cut as
-- engines want them: split into a layer for each expert and projection ("split"), or one for each
-- projection, the experts still stacked ("stack", as mlx-lm has them).
--
-- A piece is { tail, drop, shape, first, count, row, rows, turned, below }: what stands in its path
-- in place of the last `drop` segments of the layer's (nil: it has the layer's path), so that it
-- holds for all layers of a shape; its shape in the output; matrices first .. first+count-1 (from
-- 1) of the source, of which it has rows row+1 .. row+rows of the output channels; turned: they are
-- stored [in, out]; below: engines put the next projection below it.

local mlx_names = require "rondo.formats.mlx_names"
local source = require "rondo.model.source"

local pieces = {}

-- The projections in a tensor of stacked experts, one below the other, by the last segment of its
-- path.
local projections = {
  gate_up_proj = { "gate_proj", "up_proj" }, gate_proj = { "gate_proj" }, up_proj = { "up_proj" },
  down_proj = { "down_proj" }, w1 = { "w1" }, w2 = { "w2" }, w3 = { "w3" },
}

-- What mlx-lm calls projections, and what they are called beside a Mixtral's: by families that keep
-- experts in block_sparse_moe, and by LFM2.
local llamas = { w1 = "gate_proj", w2 = "down_proj", w3 = "up_proj" }
local mixtrals = { gate_proj = "w1", down_proj = "w2", up_proj = "w3" }

local containers = { experts = true, switch_mlp = true, switch_glu = true }

-- The path above the modules that hold all experts of a layer, how many segments those and the leaf
-- are, the last of these modules and the leaf: "P", 2, "experts", "w1" of "P.experts.w1"; "P", 3,
-- "switch_glu", "w1" of "P.experts.switch_glu.w1".
local function place_of(path)
  local above, container, leaf = path:match "^(.-)%.?([^.]*)%.([^.]*)$"
  if not above then return "", 1, "", path end
  if container ~= "switch_glu" then return above, 2, container, leaf end
  local outer, count = above:gsub("%.?experts$", "")
  return outer, 2 + count, container, leaf
end

-- The end of the path of projection `name` of all experts, for mlx-lm; nil where nobody knows it.
local function stack_tail(types, container, name)
  name = llamas[name] or name
  if container == "moe" then return "mlp.switch_mlp." .. name end -- Step-3.5
  return containers[container] and mlx_names.container(types) .. "." .. name
end

-- The same of expert `number`, for engines that have a layer for each.
local function expert_tail(types, above, container, name, number)
  if not containers[container] then return nil end
  local mixtral = above:find "block_sparse_moe$" or types.lfm2_moe
  if mixtral and mlx_names.stacks[container] then name = mixtrals[name] or name end
  return ("experts.%d.%s"):format(number, name)
end

-- Experts of the output's layers, cut from a tensor of `experts` matrices of [rows, cols]; nil
-- where nobody knows what to call them.
local function cut(how, about, names, experts, rows, cols)
  local list, height, turned = {}, rows // #names, about.transposed
  local above, drop, container = place_of(about.path)
  local function add(tail, shape, i, first, count)
    list[#list + 1] = tail and { tail = tail, drop = drop, shape = shape, first = first,
                                 count = count, row = (i - 1) * height, rows = height,
                                 turned = turned, below = i < #names } or nil
  end
  for i, name in ipairs(names) do
    if how == "stack" then
      add(stack_tail(about.types, container, name), { experts, height, cols }, i, 1, experts)
    end
    for number = 1, how == "split" and experts or 0 do
      add(expert_tail(about.types, above, container, name, number - 1), { height, cols }, i, number,
          1)
    end
  end
  return #list > 0 and list or nil
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
  local unknown = ("nobody knows what to call the experts in '%s' one by one"):format(about.path)
  if not names then
    return nil, unknown
  elseif about.types.gpt_oss and #names > 1 then
    return nil, "the rows of its gate and up projections are interleaved"
  end
  local rows, cols = shape[2], shape[3]
  if about.transposed then rows, cols = cols, rows end
  if rows % #names ~= 0 then
    return nil, ("its %d outputs are no %d projections"):format(rows, #names)
  end
  local list = cut(how, about, names, shape[1], rows, cols)
  if not list then return nil, unknown end
  return list
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
function pieces.stack_of(path, types)
  local above, number, name = path:match "^(.*)%.experts%.(%d+)%.([^.]*)$"
  if not projections[name] then return nil end
  return above .. "." .. stack_tail(types, "experts", name), tonumber(number) + 1
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
