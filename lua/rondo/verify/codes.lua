-- verify.codes: whether codes, scales and zero points of a quantized layer are what rounding its
-- source to nearest gives.
--
-- Each weight w must have the code nearest to it under its group's stored scale and zero point.
-- Whoever computes codes with a scale s' and stores it rounded, as s, takes a code q with
-- |w - s'q| <= |w - s'n|, n being the nearest under s; so |w - sq| <= |w - sn| + |s - s'|(|q| +
-- |n|). That much is allowed: with d the relative rounding error of the scales' type, doubled for
-- arithmetic in that type, |w - v| <= |w - u| + d(|v| + |u|), v being the stored value and u the
-- nearest one; and d / 2 of half the range of codes, where a zero point is added in that type, or
-- 4d of one that is a number and is rounded as well. Scales that are quantized in turn are so after
-- their mean was taken off: one is off by a share of itself and of that mean. Tools that load a
-- model in f16 see its weights rounded, which moves each side by as much.

local core = require "rondo.core"
local params = require "rondo.params"
local scheme_of = require "rondo.scheme"
local stream = require "rondo.stream"
local tiles = require "rondo.tiles"

local codes = {}

--- Relative errors of rounding to the types of scales, doubled. Scales of e4m3 and e8m0 are rounded
--- before anybody computes codes.
codes.rounding = { f32 = 0x1p-20, f16 = 0x1p-10, bf16 = 0x1p-7, e4m3 = 0x1p-20, e8m0 = 0x1p-20 }

local DOUBLE_ROUNDING = 0x1p-3 -- of scales that are quantized in turn, with 8 bits
local SMALLEST_F16, SMALLEST_E4M3 = 0x1p-24, 0x1p-9

-- ---- What is found ----

-- By what is found: of one place, of several.
local words = {
  { "scale", "scale or zero point is not finite", "scales or zero points are not finite" },
  { "value", "value is not finite", "values are not finite" },
  { "zero", "group has a scale of 0, but weights that are not",
    "groups have a scale of 0, but weights that are not" },
  { "wrapped", "zero point is 0, on which readers of this format do not agree",
    "zero points are 0, on which readers of this format do not agree" },
  { "code", "weight has a code that is not the nearest",
    "weights have a code that is not the nearest" },
}

-- Counts places of a kind; mask: which, place: function (row, column of the mask) -> of the matrix.
local function note(found, what, mask, place)
  local count = mask:count()
  if count == 0 then return end
  local at = mask:to("u8"):argmax() - 1
  local row, col = place(at // mask.shape[2], at % mask.shape[2])
  local known = found[what] or { count = 0, row = row, col = col }
  known.count = known.count + count
  found[what] = known
end

--- What was found, as a list of texts.
function codes.faults(found)
  local list = {}
  for _, word in ipairs(words) do
    local one = found[word[1]]
    if one then
      list[#list + 1] = one.count == 1
        and ("1 %s (at row %d, column %d)"):format(word[2], one.row, one.col)
        or ("%d %s (the first at row %d, column %d)"):format(one.count, word[3], one.row, one.col)
    end
  end
  return list
end

-- ---- A tile ----

local wide = { f32 = true, f16 = true, bf16 = true }

-- Rows and columns of a group.
local function group_shape(p)
  if p.group_dim == 0 then return p.group_size, 1 end
  return p.group_rows, p.group_size
end

-- Where the groups of a tile begin in the matrix.
local function group_place(p)
  local height, width = group_shape(p)
  return function(i, j) return p.row + i * height, p.col + j * width end
end

local function dequantized(scheme, p, of)
  return core.dequantize(scheme.grid, of, p.scales, p.zeros, p.group_size, p.group_dim, nil,
                         p.group_rows)
end

-- The share of |v| + |u| that is allowed.
local function allowed_share(scheme, p, stored, nearest)
  if not scheme.double then
    return (stored:abs() + nearest.values:abs()) * codes.rounding[scheme.scale]
  end
  local high = setmetatable({ scales = p.scales + p.scales:mean() }, { __index = p })
  return (dequantized(scheme, high, p.codes):abs()
          + dequantized(scheme, high, nearest.codes):abs()) * DOUBLE_ROUNDING
end

local function values_of_code(scheme, p, code)
  return dequantized(scheme, p, core.full({ p.rows, p.cols }, code, "u8"))
end

-- What zero points add to it. Those that are integers are added to a code, signed as it is.
local function allowed_of_zeros(scheme, p)
  local share, zeros = codes.rounding[scheme.scale], values_of_code(scheme, p, 0)
  if scheme:zero_dtype() == "f32" then return zeros:abs() * (4 * share) end
  return (values_of_code(scheme, p, 1 << scheme.bits - 1) - zeros) * (share / 2)
end

-- The nearest values, and by how much more than they the stored ones may be away.
local function nearest_values(scheme, p, weight, stored)
  local nearest = core.quantize(scheme.grid, weight, {
    group_size = p.group_size, group_dim = p.group_dim, group_rows = p.group_rows, keep = true,
    scales = p.scales, zeros = p.zeros, codes = true, values = true, values_dtype = "f32" })
  local allowed = allowed_share(scheme, p, stored, nearest)
  if p.zeros then allowed = allowed + allowed_of_zeros(scheme, p) end
  if scheme.scale == "f16" then -- the smallest are rounded by more
    allowed = allowed + SMALLEST_F16 * (1 << scheme.bits)
  end
  return nearest.values, allowed
end

-- The magnitude up to which a group's scale may be stored as 0.
local function least_of(scheme, p)
  if scheme.scale == "f16" then return SMALLEST_F16 * scheme.divisor end
  return scheme.scale == "e4m3" and SMALLEST_E4M3 * scheme.divisor * (p.factor or 1) or 0
end

-- Which groups have a scale of 0 and weights above what that may stand for.
local function zero_scales(scheme, p, weight)
  local mask, least = p.scales:eq(0), least_of(scheme, p)
  if not mask:any() then return mask end
  local height, width = group_shape(p)
  for i, line in ipairs(mask:totable()) do
    for j, zero in ipairs(line) do
      local row, col = (i - 1) * height + 1, (j - 1) * width + 1
      local group = zero and weight[("%d:%d, %d:%d"):format(
        row, math.min(row + height - 1, p.rows), col, math.min(col + width - 1, p.cols))]
      mask[i][j] = zero and group:to("f32"):abs():max() > least
    end
  end
  return mask
end

local function crop(tensor, p, tile)
  if p.rows == tile.rows and p.cols == tile.cols then return tensor end
  local row, col = tile.row - p.row + 1, tile.col - p.col + 1
  return tensor[("%d:%d, %d:%d"):format(row, row + tile.rows - 1, col, col + tile.cols - 1)]
    :contiguous()
end

local function not_finite(tensor) return tensor:abs():lt(math.huge):lnot() end

-- Scales and zero points; whether values can be looked at.
local function check_groups(scheme, p, weight, found)
  local place, broken = group_place(p), not_finite(p.scales)
  if scheme:zero_dtype() == "f32" then broken = broken:lor(not_finite(p.zeros)) end
  note(found, "scale", broken, place)
  if broken:any() then return false end
  note(found, "zero", zero_scales(scheme, p, weight), place)
  if scheme.zero == "positive" and p.zeros then note(found, "wrapped", p.zeros:eq(0), place) end
  return true
end

-- Looks at one tile: p, its parts, which may be more than the tile; weight: the source there.
local function check_tile(scheme, p, weight, tile, state)
  if not wide[weight.dtype] then weight = weight:to("f32") end
  weight = weight:contiguous()
  if not check_groups(scheme, p, weight, state.found) then return end
  if p.zeros then state.middle = state.middle and p.zeros:eq(1 << scheme.bits - 1):all() end
  local whole = dequantized(scheme, p, p.codes)
  local stored, place = crop(whole, p, tile), function(i, j) return tile.row + i, tile.col + j end
  local broken = not_finite(stored)
  note(state.found, "value", broken, place)
  if broken:any() then return end
  local nearest, allowed = nearest_values(scheme, p, weight, whole)
  local w = crop(weight, p, tile)
  core.squared_error(w, stored, { sums = state.sums })
  w = w:to("f32")
  local most = (w - crop(nearest, p, tile)):abs() + crop(allowed, p, tile) + w:abs() * 0x1p-22
    + (w - w:to("f16"):to("f32")):abs() * 2
  note(state.found, "code", (w - stored):abs():gt(most), place)
end

-- ---- A matrix ----

local TILE = 256 * 1024 -- weights: half a dozen tiles of f32 are looked at together

-- Tiles that do not cut through the rows of groups, unless these are very high.
local function tiles_of(scheme, rows, cols)
  local layout = params.layout(scheme, rows, cols)
  local height = layout.group_dim == 0 and layout.group_size or layout.group_rows
  if height >= rows or height * tiles.columns > TILE then height = 1 end
  return tiles.bands(rows, cols, { group_dim = 1, group = 1, row_align = height, col_align = 1,
                                   whole_groups = 1, limit = math.min(tiles.limit, TILE) })
end

-- Squared error of the scheme's plain rounding: scales from the groups' ranges.
-- @param middle  whether all zero points are the middle of the codes: then it is a symmetric one
local function plain_error(scheme, from, factor, middle)
  if middle and scheme:has_zero() then
    scheme = scheme_of.types[scheme.type] { group_size = scheme.group_size, scale = scheme.scale,
                                            group_dim = scheme.group_dim }
  end
  if factor then scheme = scheme { tensor_scale = factor } end
  local sums = core.sums()
  local done, message, code = stream.quantize(from, scheme, {
    ratio = 1, keep = true, sums = sums, values_dtype = "f32" }, function() return true end)
  if not done then return nil, message, code end
  return (sums:values())
end

--- Looks at matrix number `slice` of a quantized layer.
-- @param from   what it was made of (rondo.model.source)
-- @param into   the layer's values (rondo.formats.stored)
-- @param state  found, sums (of core.sums), plain (the squared error of plain rounding): added to;
--               middle: false from the first zero point on that is not the middle of the codes
-- @return true, or nil, message, code
function codes.check(from, into, slice, state, advance)
  local scheme, factor = into.layer.scheme, nil
  if from.rows * from.cols == 0 then return true end
  for tile in tiles_of(scheme, from.rows, from.cols) do
    local p, message, code = into:parts(slice, tile.row, tile.rows, tile.col, tile.cols)
    if not p then return nil, message, code end
    local weight
    weight, message, code = from:read(p.row, p.rows, p.col, p.cols)
    if not weight then return nil, message, code end
    check_tile(scheme, p, weight, tile, state)
    factor = p.factor
    advance(tile.rows * tile.cols)
  end
  if next(state.found) then return true end
  local error, message, code = plain_error(scheme, from, factor, state.middle)
  if not error then return nil, message, code end
  state.plain = state.plain + error
  return true
end

return codes
