-- source: rows and columns of a weight, whatever lies behind it. Kernels, strategies and writers
-- see nothing else.
--
-- A source has
--   rows, cols   its shape as one matrix: all leading dimensions are flattened into rows
--   slices       matrices that stand one below the other (experts); 1 for a plain weight
--   dtype        of what read gives: the stored type where it is plain, f32 where it is dequantized
--   read(self, row, rows, col, cols) -> tensor [rows, cols], or nil, message, code; 1-based
--   block    called like read where there is one: a rectangle that kernels read by themselves

local shape_of = require "rondo.shape"

local source = {}

local blocks = { f32 = true, f16 = true, bf16 = true } -- dtypes that kernels quantize

--- A tensor of a checkpoint, read block by block with pread.
function source.stored(checkpoint, name, dtype, shape)
  local rows, cols = shape_of.matrix(shape)
  local stored = {
    rows = rows, cols = cols, dtype = dtype, slices = #shape == 3 and shape[1] or 1,
    read = function(_, row, height, col, width)
      return checkpoint:read(name, row, height, col, width)
    end,
  }
  if blocks[dtype] and checkpoint.block then
    function stored.block(_, row, height, col, width)
      return checkpoint:block(name, row, height, col, width)
    end
  end
  return stored
end

--- One of a source's slices as a source of its own; index from 1.
function source.slice(whole, index)
  if whole.slices == 1 then return whole end
  local height = whole.rows // whole.slices
  local above = (index - 1) * height
  local slice = { rows = height, cols = whole.cols, dtype = whole.dtype, slices = 1 }
  function slice.read(_, row, rows, col, cols)
    return whole:read(above + row, rows, col, cols)
  end
  if whole.block then
    function slice.block(_, row, rows, col, cols)
      return whole:block(above + row, rows, col, cols)
    end
  end
  return slice
end

return source
