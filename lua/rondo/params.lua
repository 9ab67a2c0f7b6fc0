-- params: scales and zero points of the groups of a matrix: how a scheme cuts it into groups, the
-- search for clip ratios, and how scales are stored: in which type, with one of the tensor's own
-- above them, or quantized in turn.
--
-- What is kept by group has the shape { rows, groups } where groups run along the rows (a block:
-- rows of blocks), and { groups, cols } for group_dim 0. Functions that look at weights return nil
-- and what the core says where these are not finite: nil, "weight" or "scale", row, column.

local ceil_div = require("rondo.shape").ceil_div
local core = require "rondo.core"
local double_of = require "rondo.double"
local f32 = require "rondo.f32"
local strategy = require "rondo.strategy"

local params = {}

local dtype_of = { f32 = "f32", f16 = "f16", bf16 = "bf16", e4m3 = "f8_e4m3", e8m0 = "f8_e8m0" }

--- How groups of a matrix lie, as options of the native functions: group_dim, group_size,
--- group_rows.
function params.layout(scheme, rows, cols)
  local size = scheme.group_size
  if size == "tensor" then size = { rows, cols } end
  if type(size) == "table" then
    return { group_dim = 1, group_rows = math.max(size[1], 1), group_size = math.max(size[2], 1) }
  end
  local line = scheme.group_dim == 1 and cols or rows
  return { group_dim = scheme.group_dim, group_rows = 1, group_size = scheme:group_elements(line) }
end

--- The shape of what is kept by group.
function params.shape(scheme, rows, cols)
  local o = params.layout(scheme, rows, cols)
  if o.group_dim == 0 then return { ceil_div(rows, o.group_size), cols } end
  return { ceil_div(rows, o.group_rows), ceil_div(cols, o.group_size) }
end

--- The largest magnitude of a weight; 0 where some are not finite, which the core tells by and by.
function params.largest(weight)
  if weight.shape[1] == 0 or weight.shape[2] == 0 then return 0 end
  local found = math.max(-weight:min(), weight:max())
  return found < math.huge and found or 0
end

-- What the scales of a tensor are multiplied by: as much as makes the largest that a group can have
-- the largest that E4M3 has. Not less than the smallest normal f32, where products would lose bits.
--- The scheme with that scale for the whole tensor.
-- @param amax  the largest magnitude in it, or in all tensors that share the scale
function params.with_factor(scheme, amax)
  local factor = amax == 0 and 1 or math.max(f32(amax / (448 * scheme.divisor)), 0x1p-126)
  return scheme { tensor_scale = factor }
end

-- The scheme with the scale of the tensor that is to be found.
local function settled(scheme, weight)
  if scheme.tensor_scale ~= true then return scheme end
  return params.with_factor(scheme, params.largest(weight))
end

--- Options of the native functions: layout, and how scales are stored.
-- @param reference  in the order of the reference, where codes come from f32 scales whatever these
--                   are stored in
function params.options(scheme, rows, cols, reference, keep)
  local o = params.layout(scheme, rows, cols)
  o.scale_dtype, o.round_first = dtype_of[scheme.scale], not reference
  o.factor, o.keep = scheme.tensor_scale or nil, keep
  return o
end

local function options_of(scheme, weight, reference, keep)
  return params.options(scheme, weight.shape[1], weight.shape[2], reference, keep)
end

--- Scales as a reader of the stored ones sees them.
function params.rounded(scheme, scales)
  return core.round_scales(scheme.grid, scales, {
    scale_dtype = dtype_of[scheme.scale], round_first = true, factor = scheme.tensor_scale or nil })
end

--- Scales as they are stored: { scales, factor }, of those that codes are computed with.
function params.stored(scales, factor)
  if not factor then return { scales = scales } end
  return { scales = (scales / factor):to("f8_e4m3"):to("f32"), factor = factor }
end

-- Ranges of blocks of rows; the core finds those of other groups on its way.
local function add_ranges(scheme, weight, o)
  if o.group_rows == 1 then return true end
  local shape = params.shape(scheme, weight.shape[1], weight.shape[2])
  o.ranges = core.clear_ranges(core.zeros({ shape[1], shape[2], 2 }, "f32"))
  return core.ranges(scheme.grid, weight, o)
end

local function weight_of(scheme, weight)
  local importance = scheme.importance
  if not importance then return nil end
  if #importance ~= weight.shape[2] then
    error(("importance must have one value for each of %d columns, not shape {%s}")
      :format(weight.shape[2], table.concat(importance.shape, ", ")), 0)
  end
  return importance:to("f32"):contiguous()
end

--- Errors by group, f64: the sums of importance * |difference|^p.
-- @param given  ratios (f32, by group), or scales and zeros; or candidates, a list of ratios for
--               all groups: the result has one dimension more then
function params.losses(weight, scheme, given, reference, keep)
  scheme = settled(scheme, weight)
  local o = options_of(scheme, weight, reference, keep)
  local shape = params.shape(scheme, weight.shape[1], weight.shape[2])
  o.power, o.weight = scheme.p, weight_of(scheme, weight)
  o.group_ratios, o.scales, o.zeros = given.ratios, given.scales, given.zeros
  if given.candidates then
    o.ratios = core.tensor(given.candidates, "f32")
    shape[3] = #given.candidates
  end
  o.group_losses = core.zeros(shape, "f64")
  local good, what, row, col = add_ranges(scheme, weight, o)
  if good then good, what, row, col = core.losses(scheme.grid, weight, o) end
  if not good then return nil, what, row, col end
  return o.group_losses
end

-- Scales and zero points at clip ratios by group, or all the same.
local function from_ratios(weight, scheme, o, ratios)
  local good, what, row, col = add_ranges(scheme, weight, o)
  if not good then return nil, what, row, col end
  o.group_ratios, o.ratio = ratios, scheme.ratio
  if o.ranges then
    local shape = { o.ranges.shape[1], o.ranges.shape[2] }
    local scales, zeros, at = core.params(scheme.grid, o.ranges, o)
    if not scales then
      return nil, "scale", (at - 1) // shape[2] * o.group_rows + 1,
             (at - 1) % shape[2] * o.group_size + 1
    end
    return { scales = scales:reshape(shape), zeros = zeros and zeros:reshape(shape) }
  end
  o.scale, o.zero = true, true
  good, what, row, col = core.quantize(scheme.grid, weight, o)
  if not good then return nil, what, row, col end
  return { scales = good.scale, zeros = good.zero }
end

-- The weight as a search sees it: what is not finite passes through and counts as 0.
local function searchable(weight, keep)
  if not keep or weight:count_nonfinite() == 0 then return weight end
  return weight:abs():lt(math.huge):pick(weight, 0):to(weight.dtype):contiguous()
end

local function search_of(clip)
  if clip == "none" then return nil end
  return clip == "layer" and require("rondo.clip.grid") { over = "tensor" } or clip
end

-- What the scheme's strategy finds, or no clipping.
local function searched(weight, scheme, reference, of_what)
  local bare, search = scheme { clip = "none" }, search_of(scheme.clip)
  local shape = params.shape(scheme, weight.shape[1], weight.shape[2])
  local function unclipped(answer)
    if answer.ratios then return { ratios = core.full(shape, 1, "f32") } end
    local plain = assert(from_ratios(weight, bare, options_of(bare, weight, reference)))
    plain.zeros = plain.zeros or core.zeros(shape, "u8")
    return plain
  end
  local function losses(answer)
    if answer.scales and not reference then
      answer.scales = params.rounded(bare, answer.scales)
      if bare:zero_dtype() == "f32" then answer.zeros = params.rounded(bare, answer.zeros) end
    end
    return assert(params.losses(weight, bare, answer, reference))
  end
  return strategy.search(search, weight, bare, shape, unclipped, losses, of_what)
end

--- Whether parameters are found by looking at the values of a weight; otherwise the core's kernels
--- alone look at it, and a block of a checkpoint will do.
function params.look_at_values(scheme)
  return search_of(scheme.clip) ~= nil or scheme.tensor_scale == true
end

--- The scales and zero points of a matrix, before it is settled how they are stored.
-- @param weight     a tensor, or a block where params.look_at_values is false
-- @param reference  scales stay f32 until they are written, and codes come from them, as in the
--                   reference's packed layers
-- @param of_what    what the weight is, for messages; or nil
-- @return { scales, zeros, factor }: scales (f32, rounded to the type of scale), zero points (u8,
--         or f32 for zero = "float"; nil without), the tensor's own scale; nil, what, row, column
function params.of_groups(weight, scheme, reference, keep, of_what)
  local seen, found = weight, {}
  if params.look_at_values(scheme) then
    seen = searchable(weight:contiguous(), keep)
    scheme = settled(scheme, seen)
  end
  if search_of(scheme.clip) then
    local good, what, row, col = from_ratios(seen, scheme { clip = "none" },
                                             options_of(scheme, seen, reference))
    if not good then return nil, what, row, col end
    found = searched(seen, scheme, reference, of_what)
  end
  local o = options_of(scheme, weight, reference, keep)
  if not found.scales then
    local what, row, col
    found, what, row, col = from_ratios(weight, scheme, o, found.ratios)
    if not found then return nil, what, row, col end
  end
  return { scales = found.scales, zeros = scheme:has_zero() and found.zeros or nil,
           factor = o.factor }
end

--- Settles how the scales of a whole tensor are stored.
-- @param groups  what params.of_groups gives
-- @return { scales, zeros, stored }: scales that codes are computed with, and how they are stored:
--         { scales = f32 of values of that type, factor = the tensor's own }, or with double what
--         rondo.double says
function params.as_stored(groups, scheme)
  local found = { scales = groups.scales, zeros = groups.zeros }
  if scheme.double then found.scales, found.stored = double_of(groups.scales, scheme.double)
  else found.stored = params.stored(groups.scales, groups.factor) end
  return found
end

--- Both in one, for a matrix in memory.
function params.find(weight, scheme, reference, keep, of_what)
  local groups, what, row, col = params.of_groups(weight, scheme, reference, keep, of_what)
  if not groups then return nil, what, row, col end
  return params.as_stored(groups, scheme)
end

--- Options of core.quantize with parameters that were found.
function params.given(scheme, rows, cols, found, reference)
  local o = params.layout(scheme, rows, cols)
  o.scales, o.zeros = found.scales, found.zeros
  if reference then o.scale_dtype = dtype_of[scheme.scale] end
  return o
end

--- Whether parameters are found before anything is quantized; otherwise the core does both in one
--- go.
function params.are_found(scheme, reference)
  return type(scheme.clip) == "table" or type(scheme.group_size) == "table"
    or scheme.group_size == "tensor" or scheme.double ~= nil
    or scheme.tensor_scale == true
    or (scheme.clip == "layer" and scheme.scale ~= "f32" and not reference)
end

--- Whether the whole weight must be looked at at once for any of them.
function params.need_whole(scheme)
  local search = search_of(scheme.clip)
  return scheme.group_size == "tensor" or scheme.tensor_scale == true
    or (search ~= nil and strategy.needs_whole(search))
end

return params
