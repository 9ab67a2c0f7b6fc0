-- stream: a scheme over one matrix of any size, tile by tile. Knows nothing of files or names:
-- reads from a source, hands finished pieces to a sink.
--
-- A source is { rows, cols, dtype, read = function(self, row, rows, col, cols) -> tensor or nil,
-- message, code }; places are 1-based. It may have a function block, called like read, that gives
-- what the kernels read by themselves (core.checkpoint's blocks). A sink is a function (role,
-- tensor, row, col) that stores a 2-D piece of an output at that place and returns true, or nil,
-- message, code. Roles: "values" and "words" (packed codes), "scale", "zero" (zero points, packed
-- when codes are).

local core = require "rondo.core"
local params = require "rondo.params"
local tensors = require "rondo.formats.tensors"
local tiles = require "rondo.tiles"

local stream = {}

--- The clip ratios that the reference's search tries: 1 - i/200 for i = 0 .. 39.
stream.search_ratios = {}
for i = 0, 39 do stream.search_ratios[i + 1] = 1 - i / 200 end

-- Keeps what only goes together in one piece: words of codes, words of zero points.
local function align(o, scheme, store)
  local codes, zeros = store.codes.layout, store.zero and scheme:has_zero() and store.zero.layout
  local side = codes.dim == 1 and "col_align" or "row_align"
  o[side] = tiles.lcm(o[side], codes.unit)
  if not zeros then return end
  if zeros.dim == o.group_dim then
    o.whole_groups = zeros.unit
  elseif zeros.dim == 1 then
    o.col_align = tiles.lcm(o.col_align, zeros.unit)
  else
    o.row_align = tiles.lcm(o.row_align, zeros.unit * o.group_rows)
  end
end

-- How a matrix of the source's shape is cut for this scheme and what is stored of it, if anything.
local function band_options(source, scheme, store)
  local layout = params.layout(scheme, source.rows, source.cols)
  local o = { group_dim = layout.group_dim, group = layout.group_size,
              group_rows = layout.group_rows, row_align = layout.group_rows, col_align = 1,
              whole_groups = 1 }
  if store then align(o, scheme, store) end
  return o
end

-- Words for a weight or scale that cannot be quantized, at a 1-based place of the whole matrix.
local function place_message(source, what, row, col)
  local place = string.format("row %d, column %d", row, col)
  if what == "scale" then
    return "the scale of the group at " .. place
      .. " is not finite; its weights span more than its type holds"
  end
  local tile, message, code = source:read(row, 1, col, 1)
  if not tile then return message, code end
  local value = tile[1][1]
  return (value ~= value and "NaN" or "infinity") .. " at " .. place
end

-- What a kernel has returned in place of a result: nil, and why.
local function failed(source, tile, what, row, col)
  if what == "read" then return nil, row, col end -- message, code
  local message, code = place_message(source, what, tile.row + row - 1, tile.col + col - 1)
  return nil, message, code or "nonfinite"
end

local function tensor_of(source, piece)
  return source:read(piece.row, piece.rows, piece.col, piece.cols)
end

local function tile_of(source, piece)
  local get = source.block or source.read
  return get(source, piece.row, piece.rows, piece.col, piece.cols)
end

-- Ranges of the groups of a band that is visited piece by piece.
local function collect_ranges(source, scheme, band, options)
  local columns = scheme.group_dim == 0
  local line, lines = band.cols, band.rows
  if columns then line, lines = lines, line end
  local groups = (line + options.group_size - 1) // options.group_size
  options.ranges = core.clear_ranges(core.zeros({ lines, groups, 2 }, "f32"))
  options.range_groups = groups
  for _, piece in ipairs(band.pieces) do
    local tile, message, code = tile_of(source, piece)
    if not tile then return nil, message, code end
    options.offset = piece.offset
    local done, what, row, col = core.ranges(scheme.grid, tile, options)
    if not done then return failed(source, piece, what, row, col) end
  end
  return true
end

-- Visits the tiles of all bands: visit(tile, place, options, band) returns true, or nil, message,
-- code. options holds the ranges where a band has pieces.
local function each_tile(source, scheme, o, base, visit)
  for band in tiles.bands(source.rows, source.cols, o) do
    local options = { group_size = o.group }
    for name, value in pairs(base) do options[name] = value end
    if band.pieces then
      local done, message, code = collect_ranges(source, scheme, band, options)
      if not done then return nil, message, code end
    end
    for _, piece in ipairs(band.pieces or { band }) do
      local tile, message, code = tile_of(source, piece)
      if not tile then return nil, message, code end
      options.offset = piece.offset
      local done
      done, message, code = visit(tile, piece, options, band)
      if not done then return nil, message, code end
    end
  end
  return true
end

--- The ratio with the least loss, the first of several. Losses at many ratios are computed with
-- products in place of quotients (src/kernels/losses.c), which may put them off by a millionth, and
-- as differences from the first (breakpoints.c), by a millionth of the greatest: where several are
-- that close to the least, exactly(ratios) gives theirs by the reference's formula.
-- @return the ratio, or nil and what exactly returned behind nil
function stream.best_ratio(ratios, losses, exactly)
  local least, most, close = math.huge, 0, {}
  for _, loss in ipairs(losses) do least, most = math.min(least, loss), math.max(most, loss) end
  if most == 0 then return ratios[1] end
  for i, loss in ipairs(losses) do
    if loss <= least * (1 + 1e-5) + most * 3e-6 then close[#close + 1] = ratios[i] end
  end
  if #close < 2 then return close[1] or ratios[1] end
  local again, message, code = exactly(close)
  if not again then return nil, message, code end
  local best = 1
  for i = 2, #again do
    if again[i] < again[best] then best = i end
  end
  return close[best]
end

--- Adds to `losses` (f64 [n]) the squared error of the whole matrix at each of `ratios` (f32 [n]).
-- tick, if any, is called after each tile.
-- @return true, or nil, message, code
function stream.losses(source, scheme, ratios, losses, keep, tick, exact)
  local base = { group_dim = scheme.group_dim, keep = keep, ratios = ratios, losses = losses,
                 exact = exact }
  local o = band_options(source, scheme)
  return each_tile(source, scheme, o, base, function(tile, piece, options)
    local done, what, row, col = core.losses(scheme.grid, tile, options)
    if not done then return failed(source, piece, what, row, col) end
    if tick then tick() end
    return true
  end)
end

-- Where a tile's scales stand in the matrix of all scales.
local function scale_place(piece, o)
  if o.group_dim == 0 then return (piece.row - 1) // o.group + 1, piece.col end
  return (piece.row - 1) // o.group_rows + 1, (piece.col - 1) // o.group + 1
end

-- Hands words of codes, or of zero points, to the sink.
local function put_words(sink, e, row, col, words)
  row, col = tensors.place(e.layout, row, col)
  return sink(e.role, words, row, col)
end

local function put_numbers(sink, e, row, col, numbers)
  local encoded = tensors.encode(e, numbers)
  if e.transposed then encoded, row, col = encoded:transpose():contiguous(), col, row end
  return sink(e.role, encoded, row, col)
end

-- Hands scales and zero points of a tile or band to the sink.
local function put_params(sink, store, place, o, scales, zeros)
  local row, col = scale_place(place, o)
  local done, message, code = true, nil, nil
  if not store.scale.from then
    done, message, code = put_numbers(sink, store.scale, row, col, scales)
  end
  if not done or not zeros then return done, message, code end
  if not store.zero.layout then return put_numbers(sink, store.zero, row, col, zeros) end
  return put_words(sink, store.zero, row, col, store.zero.layout.native:pack(zeros))
end

-- Hands on what a format makes of all that was found.
local function put_found(sink, store, found)
  for _, e in pairs(store) do
    if e.from then
      local done, message, code = sink(e.role, e.from(found), 1, 1)
      if not done then return nil, message, code end
    end
  end
  return true
end

-- Scales and zero points of a band whose ranges were collected, in the layout of the outputs.
local function band_params(scheme, options)
  local scale, zero, at = core.params(scheme.grid, options.ranges, options)
  if not scale then return nil, zero, at end
  local lines, groups = options.ranges.shape[1], options.ranges.shape[2]
  local function laid_out(t)
    t = t and t:reshape { lines, groups }
    if t and scheme.group_dim == 0 then t = t:transpose():contiguous() end
    return t
  end
  return laid_out(scale), laid_out(zero)
end

-- Hands on all that was found of a place before it was quantized.
local function put_all_found(sink, store, place, o, found)
  local done, message, code = put_params(sink, store, place, o, found.stored.scales, found.zeros)
  if not done then return nil, message, code end
  return put_found(sink, store, found)
end

-- Fake quantization: values in the dtype of the output, nothing else.
local function fake(source, scheme, o, base, wanted, sink)
  base.values, base.values_dtype = true, wanted.values_dtype
  return each_tile(source, scheme, o, base, function(tile, piece, options)
    local result, what, row, col = core.quantize(scheme.grid, tile, options)
    if not result then return failed(source, piece, what, row, col) end
    return sink("values", result.values, piece.row, piece.col)
  end)
end

-- Codes, scales and zero points.
local function coded(source, scheme, o, base, wanted, sink)
  local store = wanted.store
  local layout = store.codes.layout
  tensors.ask(layout, base)
  base.scale, base.zero = true, true
  local done_band
  return each_tile(source, scheme, o, base, function(tile, piece, options, band)
    local result, what, row, col = core.quantize(scheme.grid, tile, options)
    if not result then return failed(source, piece, what, row, col) end
    local scales, zeros = result.scale, result.zero
    local done, message, code = put_words(sink, store.codes, piece.row, piece.col,
                                          tensors.words_of(layout, result, piece.rows, piece.cols))
    if not done then return nil, message, code end
    if done_band == band then return true end
    done_band = band
    if band.pieces then scales, zeros = band_params(scheme, options) end
    return put_all_found(sink, store, band, o, { scales = scales, zeros = zeros,
                                                 stored = params.stored(scales, base.factor) })
  end)
end

-- ---- Parameters that are found before anything is quantized ----

-- The scheme for columns col .. col+cols-1 of the matrix.
local function scheme_of_part(scheme, source, col, cols)
  if not scheme.importance or cols == source.cols then return scheme end
  local part = scheme.importance[("%d:%d"):format(col, col + cols - 1)]
  return scheme { importance = part }
end

-- Scales and zero points of a place, as params.of_groups gives them.
local function find(source, scheme, place, wanted)
  local get = params.look_at_values(scheme) and tensor_of or tile_of
  local weight, message, code = get(source, place)
  if not weight then return nil, message, code end
  local part = scheme_of_part(scheme, source, place.col, place.cols)
  local found, what, row, col = params.of_groups(weight, part, wanted.reference, wanted.keep,
                                                 wanted.of_what)
  if not found then return failed(source, place, what, row, col) end
  return found
end

-- Puts what was found of a part of a matrix into what is found of all of it.
local function paste(all, name, part, row, col)
  local tensor = part[name]
  if not tensor then return end
  all[name] = all[name] or core.zeros(all.shape, tensor.dtype)
  all[name][("%d:%d, %d:%d"):format(row, row + tensor.shape[1] - 1, col,
                                    col + tensor.shape[2] - 1)] = tensor
end

-- The same of a whole matrix, tile by tile.
local function find_by_tiles(source, scheme, o, wanted)
  local all = { shape = params.shape(scheme, source.rows, source.cols) }
  for band in tiles.bands(source.rows, source.cols, o) do
    local part, message, code = find(source, scheme, band, wanted)
    if not part then return nil, message, code end
    local row, col = scale_place(band, o)
    paste(all, "scales", part, row, col)
    paste(all, "zeros", part, row, col)
  end
  return all
end

-- Where a tile lies in the matrix that the parameters were found for.
local function place_options(options, place, tile)
  local row, col = tile.row - place.row, tile.col - place.col
  options.offset, options.line = col, row
  options.range_groups = options.scales.shape[2]
  if options.group_dim == 0 then
    options.offset, options.line, options.across = row, col, place.cols
  end
  return options
end

local function quantize_tile(source, scheme, place, tile, found, wanted, sink)
  local store = wanted.store
  local weight, message, code = tile_of(source, tile)
  if not weight then return nil, message, code end
  local options = params.given(scheme, place.rows, place.cols, found, wanted.reference)
  place_options(options, place, tile)
  options.keep, options.sums = wanted.keep, wanted.sums
  if store then tensors.ask(store.codes.layout, options)
  else options.values, options.values_dtype = true, wanted.values_dtype end
  local result, what, row, col = core.quantize(scheme.grid, weight, options)
  if not result then return failed(source, tile, what, row, col) end
  if not store then return sink("values", result.values, tile.row, tile.col) end
  return put_words(sink, store.codes, tile.row, tile.col,
                   tensors.words_of(store.codes.layout, result, tile.rows, tile.cols))
end

-- Quantizes a place of which `groups` were found, tile by tile.
local function quantize_place(source, scheme, place, parts, groups, o, wanted, sink)
  local found = params.as_stored(groups, scheme)
  for tile in parts do
    local done, message, code = quantize_tile(source, scheme, place, tile, found, wanted, sink)
    if not done then return nil, message, code end
  end
  return not wanted.store or put_all_found(sink, wanted.store, place, o, found)
end

local function one(value)
  return function(_, previous) if not previous then return value end end
end

-- Whether a matrix is looked at as a whole: where its parameters depend on all of it, or where a
-- group is larger than a tile.
local function is_whole(source, scheme, o)
  if params.need_whole(scheme) then return true end
  for band in tiles.bands(source.rows, source.cols, o) do
    if band.pieces then return true end
  end
  return false
end

-- Finds the parameters of all, then quantizes.
local function by_whole(source, scheme, o, wanted, sink)
  local place = { row = 1, col = 1, rows = source.rows, cols = source.cols }
  local parts = { group_dim = 1, group = o.group_dim == 1 and o.col_align or 1, whole_groups = 1,
                  row_align = wanted.store and o.row_align or 1, col_align = o.col_align }
  local groups, message, code
  if is_whole(source, scheme, o) then groups, message, code = find(source, scheme, place, wanted)
  else groups, message, code = find_by_tiles(source, scheme, o, wanted) end
  if not groups then return nil, message, code end
  return quantize_place(source, scheme, place, tiles.bands(source.rows, source.cols, parts), groups,
                        o, wanted, sink)
end

local function with_found(source, scheme, wanted, sink)
  local o = band_options(source, scheme, wanted.store)
  if scheme.double or is_whole(source, scheme, o) then
    return by_whole(source, scheme, o, wanted, sink)
  end
  for band in tiles.bands(source.rows, source.cols, o) do
    local groups, message, code = find(source, scheme, band, wanted)
    if not groups then return nil, message, code end
    local done
    done, message, code = quantize_place(source, scheme, band, one(band), groups, o, wanted, sink)
    if not done then return nil, message, code end
  end
  return true
end

--- Quantizes a matrix. A strategy that looks at groups one by one sees them tile by tile; others,
--- and a scale for the whole tensor, have the whole weight in memory, in its own type.
-- @param scheme  a rondo.scheme
-- @param wanted  ratio: clip ratio; keep: let NaN and infinity pass; sums: of core.sums, to which
--                squared error and squared norm are added; and either values_dtype (fake-quantized
--                values) or store: descriptions of what is stored (rondo.formats.tensors), by role;
--                reference: codes come from f32 scales whatever these are stored in; of_what: what
--                the matrix is, for messages
-- @param sink    see the head of this file
-- @return true, or nil, message, code
function stream.quantize(source, scheme, wanted, sink)
  if params.are_found(scheme, wanted.reference) then
    return with_found(source, scheme, wanted, sink)
  end
  local base = params.options(scheme, source.rows, source.cols, wanted.reference, wanted.keep,
                              wanted.amax)
  base.ratio, base.sums = wanted.ratio, wanted.sums
  local o = band_options(source, scheme, wanted.store)
  return (wanted.store and coded or fake)(source, scheme, o, base, wanted, sink)
end

--- The largest magnitude in a matrix; or nil, message, code.
-- @param scheme  any whose codes are what it is looked for
function stream.largest(source, scheme, keep)
  local most = 0
  for tile in tiles.plain(source.rows, source.cols) do
    local weight, message, code = tile_of(source, tile)
    if not weight then return nil, message, code end
    local ranges = core.clear_ranges(core.zeros({ 1, 1, 2 }, "f32"))
    local done, what, row, col = core.ranges(scheme.grid, weight, {
      group_dim = 1, group_rows = tile.rows, group_size = tile.cols, ranges = ranges, keep = keep })
    if not done then return failed(source, tile, what, row, col) end
    local range = ranges:reshape({ 2 }):totable()
    most = math.max(most, -range[1], range[2])
  end
  return most
end

--- A memory-resident matrix as a source.
function stream.matrix(tensor)
  return {
    rows = tensor.shape[1], cols = tensor.shape[2], dtype = tensor.dtype,
    read = function(_, row, rows, col, cols)
      return tensor[string.format("%d:%d, %d:%d", row, row + rows - 1, col, col + cols - 1)]
    end,
  }
end

return stream
