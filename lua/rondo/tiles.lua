-- tiles: cuts a weight matrix into pieces that are quantized one at a time, so that memory is
-- bounded by a piece however large the matrix is.
--
-- A band is the smallest rectangle whose groups and packed words lie wholly inside it, repeated
-- while it fits. A band small enough is one tile. Where even one band is larger than a tile (a
-- group that runs over millions of weights), the band is cut into pieces that are visited twice:
-- first to collect the groups' ranges, then to quantize.

local tiles = {}

-- Weights in a tile; some 16 MiB of f32. A constant: losses are folded tile by tile, and must not
-- depend on the machine.
tiles.limit = 4 * 1024 * 1024
-- Columns are cut at multiples of this: the core sums errors over so many of a row first, so that
-- those of a matrix do not depend on its tiles.
tiles.columns = 256
local MOST_ROWS = 65536 -- per tile: narrow matrices have bookkeeping per row

local function gcd(a, b)
  while b ~= 0 do a, b = b, a % b end
  return a
end

--- The least common multiple of two positive integers.
function tiles.lcm(a, b)
  return a // gcd(a, b) * b
end

local lcm = tiles.lcm

-- The largest multiple of `unit` that is at most `value`, but at least one unit.
local function multiple(value, unit)
  return math.max(value // unit, 1) * unit
end

-- Pieces of a band that is too large for one tile: cuts along the group dimension.
local function cut(band, o, limit)
  local pieces = {}
  if o.group_dim == 1 then
    local width = multiple(limit // band.rows, lcm(o.col_align, tiles.columns))
    for col = 1, band.cols, width do
      pieces[#pieces + 1] = { row = band.row, rows = band.rows, col = band.col + col - 1,
                              cols = math.min(width, band.cols - col + 1), offset = col - 1 }
    end
  else
    local height = multiple(limit // band.cols, o.row_align)
    for row = 1, band.rows, height do
      pieces[#pieces + 1] = { row = band.row + row - 1, col = band.col, cols = band.cols,
                              rows = math.min(height, band.rows - row + 1), offset = row - 1 }
    end
  end
  return pieces
end

--- Iterates over the bands of a [rows, cols] matrix, in row-major order.
-- @param o  group_dim 0 or 1, group: weights per group along it, row_align and col_align: packed
--           words must not be cut (1 where nothing is packed), whole_groups: how many groups must
--           stay together (packed zero points; 1 otherwise), limit: weights per tile
-- @return an iterator of bands { row, rows, col, cols, pieces }: 1-based place and size; pieces is
--         nil where the band is one tile, else the list of its pieces (each with its offset)
function tiles.bands(rows, cols, o)
  if rows == 0 or cols == 0 then return function() end end
  local limit = o.limit or tiles.limit
  local along = lcm(o.group * o.whole_groups, o.group_dim == 1 and o.col_align or o.row_align)
  local unit_rows, unit_cols = o.row_align, o.col_align
  if o.group_dim == 1 then unit_cols = along else unit_rows = along end
  unit_cols = lcm(unit_cols, tiles.columns)
  unit_rows, unit_cols = math.min(unit_rows, rows), math.min(unit_cols, cols)
  local whole = unit_rows * unit_cols <= limit
  local height, width = unit_rows, unit_cols
  if whole then
    width = multiple(math.min(limit // unit_rows, cols), unit_cols)
    if width >= cols - cols % unit_cols then width = cols end
    if width == cols and unit_rows * cols <= limit then
      height = multiple(math.min(limit // cols, MOST_ROWS), unit_rows)
    elseif width == cols then
      width = multiple(limit // unit_rows, unit_cols)
    end
  elseif o.group_dim == 0 then
    width = math.min(multiple(limit // (4 * o.row_align), unit_cols), cols)
  end
  local row, col = 1, 1
  return function()
    if row > rows then return nil end
    local band = { row = row, rows = math.min(height, rows - row + 1),
                   col = col, cols = math.min(width, cols - col + 1) }
    if not whole then band.pieces = cut(band, o, limit) end
    col = col + width
    if col > cols then row, col = row + height, 1 end
    return band
  end
end

--- Plain tiles for reading a matrix once: whole rows, or parts of a row that is too long.
function tiles.plain(rows, cols)
  return tiles.bands(rows, cols, { group_dim = 1, group = 1, row_align = 1, col_align = 1,
                                   whole_groups = 1 })
end

return tiles
