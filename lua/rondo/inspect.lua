-- inspect: what a model holds: its tensors and what each is, their statistics, histograms. Weights
-- are read tile by tile, so that a tensor larger than memory is no matter.

local core = require "rondo.core"
local layers_of = require "rondo.model.layers"
local model_of = require "rondo.model"
local order = require "rondo.model.order"
local sequence = require "rondo.sequence"
local shape_of = require "rondo.shape"
local source = require "rondo.model.source"
local tiles = require "rondo.tiles"

local inspect = {}

-- ---- What there is ----

-- What the parts of quantized layers are, by what their names end in.
local parts = {
  packed_weight = "codes", weight_packed = "codes", qweight = "codes",
  scale = "scales", scales = "scales", weight_scale = "scales", weight_scale_inv = "scales",
  weight_scale_2 = "scales", weight_global_scale = "scales", absmax = "scales",
  nested_absmax = "scales", SCB = "scales",
  packed_zp = "zero points", qzeros = "zero points", weight_zero_point = "zero points",
  biases = "zero points", g_idx = "groups", weight_g_idx = "groups", weight_shape = "shape",
  quant_map = "table", nested_quant_map = "table", bitsandbytes__nf4 = "state",
  bitsandbytes__fp4 = "state", weight_format = "layout",
}

-- The module that a tensor is of, and what it is there: "fc" and "absmax" of "fc.weight.absmax".
local function split(name)
  local path, part = name:match "^(.*)%.([^.]*)$"
  if not path then path, part = "", name end
  local dotted = "." .. path
  local above = dotted:match "^(.*)%.weight$" or dotted:match "^(.*)%.weight%.quant_state$"
  return above and above:sub(2) or path, part
end

-- What a tensor that is no layer's own is to the layer whose name it begins with.
local function kind_of_part(list, name)
  local path, part = split(name)
  if part:find "_bias$" then path, part = name:sub(1, -6), "bias" end
  if not parts[part] and part ~= "bias" then return "other" end
  for _, weight in ipairs(layers_of.tensor_names(path)) do
    if parts[part] and list.records[weight] then return parts[part] end
    if layers_of.what(list, weight) and layers_of.bias(list, weight) == name then return "bias" end
  end
  return "other"
end

local function kind_of(list, number, name)
  if list.records[name] then return "codes" end
  local what = layers_of.at(list, number)
  return what and what.kind or kind_of_part(list, name)
end

-- Puts the tensors of each module together, where the first of them stands.
local function gather(numbers, names)
  local first, place = {}, {}
  for i, number in ipairs(numbers) do
    local path = split(names[number])
    first[path] = first[path] or i
    place[number] = { first[path], i }
  end
  table.sort(numbers, function(a, b)
    local x, y = place[a], place[b]
    if x[1] ~= y[1] then return x[1] < y[1] end
    return x[2] < y[2]
  end)
end

--- The tensors of a model, numbers in names counted as numbers; of a quantized one those of a layer
--- together.
-- @return a rondo.sequence of { name, dtype, shape, elements, bytes, kind, file, offset }; kind:
--         "linear", "lm_head", "router", "expert", "embedding", "norm", "bias", "codes", "scales",
--         "zero points", "groups", "shape", "table", "state", "layout" (of quantized layers) or
--         "other"; file: a path; offset: of its first byte there
function inspect.tensors(model)
  local numbers, list = {}, model_of.layer_list(model)
  local names, files = list.names, model.checkpoint:files()
  for number = 1, #names do numbers[number] = number end
  order.arrange(numbers, function(number) return names[number] end)
  if model.quantization then gather(numbers, names) end
  return sequence.new(#numbers, function(i)
    local name = names[numbers[i]]
    local dtype, shape, bytes, file, offset = model.checkpoint:info(name)
    return { name = name, dtype = dtype, shape = shape, bytes = bytes,
             elements = shape_of.count(shape), kind = kind_of(list, numbers[i], name),
             file = files[file].path, offset = offset }
  end)
end

--- The quantized layers of a checkpoint: a list of { name, kind, dtype, shape, scheme, settings,
--- source }; dtype: before it was quantized, as far as is known; scheme: the label of the one that
--- its codes, scales and zero points are of; settings: the same as a table (scheme:totable()).
--- Empty for other models.
function inspect.quantized_layers(model)
  local list = {}
  if not model.quantization then return list end
  for name, layer in model:layers "all" do
    if layer.quantized then
      local values = layer.source
      local scheme = values.layer.scheme
      list[#list + 1] = { name = name, kind = layer.kind, dtype = layer.dtype, shape = layer.shape,
                          scheme = scheme:label(), settings = scheme:totable(), source = values }
    end
  end
  return list
end

-- ---- Statistics ----

local arithmetic = { f64 = true, f32 = true, f16 = true, bf16 = true, f8_e4m3 = true,
                     f8_e5m2 = true, i8 = true, u8 = true, i16 = true, u16 = true, i32 = true,
                     u32 = true, i64 = true, u64 = true, bool = true }

--- Whether there is arithmetic on a type.
function inspect.has_numbers(dtype)
  return arithmetic[dtype] or false
end

--- The rows of a tensor of inspect.tensors.
function inspect.source(model, tensor)
  return source.stored(model.checkpoint, tensor.name, tensor.dtype, tensor.shape)
end

local function each_tile(from, visit, progress)
  if from.rows * from.cols == 0 then return true end
  for tile in tiles.plain(from.rows, from.cols) do
    local values, message, code = from:read(tile.row, tile.rows, tile.col, tile.cols)
    if not values then return nil, message, code end
    visit(values:contiguous())
    if progress then progress(tile.rows * tile.cols) end
  end
  return true
end

--- Statistics of a source.
-- @param progress  function (values just read), or nil
-- @return { count, nans, infinities, zeros, mean, std, min, max, absmax }: count of the finite
--         values, to which the rest refers (std: of the population); mean, std, min, max, absmax
--         are nil where there is none. Or nil, message, code
function inspect.stats(from, progress)
  local state = core.zeros({ 8 }, "f64")
  local done, message, code = each_tile(from, function(tile) core.stats(tile, state) end, progress)
  if not done then return nil, message, code end
  local count, nans, infinities, zeros, mean, squares, low, high = table.unpack(state:totable())
  local stats = { count = math.tointeger(count), nans = math.tointeger(nans),
                  infinities = math.tointeger(infinities), zeros = math.tointeger(zeros) }
  if count > 0 then
    stats.mean, stats.std = mean, (squares / count) ^ 0.5
    stats.min, stats.max, stats.absmax = low, high, math.max(math.abs(low), math.abs(high))
  end
  return stats
end

-- A range that is not empty around all values.
local function range_of(stats)
  local low, high = stats.min, stats.max
  if low == high then
    local margin = math.max(math.abs(low) / 1000, 0.5)
    low, high = low - margin, high + margin
  end
  return low, high
end

--- A histogram of a source.
-- @param bins  bars of equal width, 1 to 2^20
-- @return { low, high, counts, stats }; counts is nil where no value is finite, or the range is
--         more than f64 holds. Or nil, message, code
function inspect.histogram(from, bins)
  local stats, message, code = inspect.stats(from)
  if not stats then return nil, message, code end
  local result = { stats = stats }
  if stats.count == 0 then return result end
  result.low, result.high = range_of(stats)
  if result.high - result.low == math.huge then return result end
  local counts = core.zeros({ bins }, "i64")
  local done, why, kind = each_tile(from, function(tile)
    core.histogram(tile, result.low, result.high, counts)
  end)
  if not done then return nil, why, kind end
  result.counts = counts:totable()
  return result
end

--- Finds a tensor, or a quantized layer, by its name or an unambiguous end of it.
-- @return { name, dtype, shape, source }, or nil, message, code
function inspect.find(model, name)
  local info, message, code = model:info(name)
  if info then
    return { name = info.name, dtype = info.dtype, shape = info.shape,
             source = inspect.source(model, info) }
  end
  local layer = model:layer((name:gsub("%.weight$", "")))
  if layer and layer.quantized then
    return { name = layer.name, dtype = layer.source.dtype, shape = layer.shape,
             source = layer.source }
  end
  return nil, message, code
end

return inspect
