-- compare: how far one checkpoint is from another, layer by layer, whatever form each is stored in
-- (plain, fake-quantized, packed). Layers are matched by their names, experts also where the one
-- has them in one tensor and the other each in its own; everything else by the names of tensors.
--
-- Memory is bounded by a few tiles. A layer's mean squared and relative error are those of
-- rondo-report.json: the same kernel over the same rows, A being what the error is measured
-- against.

local config_of = require "rondo.model.config"
local core = require "rondo.core"
local kinds = require "rondo.model.layer"
local pieces = require "rondo.formats.pieces"
local shape_of = require "rondo.shape"
local side_by_side = require "rondo.model.side_by_side"
local source_of = require "rondo.model.source"
local text_table = require "rondo.text_table"

local compare = {}

-- ---- Two matrices ----

local measured = { f32 = true, f16 = true, bf16 = true } -- what the error kernel reads

-- Adds one pair of tiles to the sums and differences.
local function add_tiles(a, b, state)
  if not measured[a.dtype] then a = a:to("f32") end
  if not measured[b.dtype] then b = b:to("f32") end
  core.squared_error(a, b, { sums = state.sums })
end

local function add_difference(a, b, state)
  core.difference(a:contiguous(), b:contiguous(), state.difference)
end

local function take_differences(entry, state)
  local differing, largest, incomparable = table.unpack(state.difference:totable())
  entry.differing, entry.incomparable = math.tointeger(differing), math.tointeger(incomparable)
  entry.max_abs = largest
end

local function same_shape(a, b)
  return table.concat(a, ",") == table.concat(b, ",")
end

-- ---- Layers ----

local function errors(entry, error, norm, weights)
  entry.mse = weights > 0 and error / weights or 0
  entry.relative_error = norm > 0 and error / norm or (error > 0 and 1 or 0)
  entry.snr_db = error > 0 and norm > 0 and -10 * math.log(error / norm, 10) or nil
  return entry
end

-- Compares what a and b have of the layer called `name`: a list of { source of a, of b }.
-- mse: mean of (a-b)^2 over the places finite in both; relative_error: its sum over that of a^2;
-- snr_db: -10 log10 of that, nil where nothing was lost.
local function compare_layers(name, shape, a, b, both, advance)
  local entry = { name = name, shape = shape, dtype_a = a.dtype, dtype_b = b.dtype,
                  quantized_a = a.quantized, quantized_b = b.quantized,
                  weights = shape_of.count(shape) }
  local state = { sums = core.sums(), difference = core.zeros({ 3 }, "f64") }
  for _, pair in ipairs(both) do
    local done, message, code = side_by_side.each_tile(pair[1], pair[2], function(x, y)
      add_tiles(x, y, state)
      add_difference(x, y, state)
    end, advance)
    if not done then return nil, ("%s: %s"):format(name, message), code end
  end
  take_differences(entry, state)
  entry.error, entry.norm = state.sums:values()
  return errors(entry, entry.error, entry.norm, entry.weights)
end

-- Every module with a weight by its name; the names of those that are linear; and all names.
local function layer_map(model)
  local map, linear, names = {}, {}, {}
  for name, layer in model:layers "all" do
    map[name] = layer
    linear[name] = kinds.linear[layer.kind]
    names[#names + 1] = name
  end
  return map, linear, names
end

-- The layers to compare: linear in either model (a config.json may tell more than a single file).
local function drop_others(map, linear, other_linear)
  for name in pairs(map) do
    if not linear[name] and not other_linear[name] then map[name] = nil end
  end
end

-- ---- Other tensors ----

local opaque = side_by_side.opaque

-- Two tensors of one name: identical (the same type and bits), or how far they are apart.
local function compare_tensors(a, b, name, advance)
  local left, right = a:info(name), b:info(name)
  local entry = { name = name, shape = left.shape, dtype_a = left.dtype, dtype_b = right.dtype,
                  identical = left.dtype == right.dtype }
  if opaque[left.dtype] or opaque[right.dtype] then
    local same, message, code = entry.identical, nil, nil
    if same then same, message, code = side_by_side.same_bytes(a, b, left, right) end
    if same == nil then return nil, message, code end
    entry.identical = same
    return entry
  end
  local state = { difference = core.zeros({ 3 }, "f64") }
  local x, y = side_by_side.source(a, left), side_by_side.source(b, right)
  local done, message, code = side_by_side.each_tile(x, y, function(tile_a, tile_b)
    entry.identical = entry.identical and tile_a == tile_b
    add_difference(tile_a, tile_b, state)
  end, advance)
  if not done then return nil, message, code end
  take_differences(entry, state)
  return entry
end

-- ---- The whole ----

local function new_result()
  return { layers = {}, tensors = {}, differing_shapes = {}, only_a = {}, only_b = {} }
end

-- What a and b have of a layer: { name, shape, a, b, pairs }, pairs as compare_layers wants them;
-- false where shapes differ.
local function same_layer(a, b)
  if not same_shape(a.shape, b.shape) then return false end
  return { name = a.name, shape = a.shape, a = a, b = b, pairs = { { a.source, b.source } } }
end

-- Where another checkpoint has what one has in `layer`, under other names: a list as above, in
-- which a is the one; nil where it has not.
local function elsewhere(layer, others, types)
  local stack, number = pieces.stack_of(layer.name, types)
  local there = stack and others[stack]
  if there and number <= there.source.slices then
    return { { name = layer.name, shape = layer.shape, a = layer, b = there,
               pairs = { { layer.source, source_of.slice(there.source, number) } } } }
  end
  local list = {}
  for _, matrices in ipairs(side_by_side.by_path(
    side_by_side.matrices(layer, others, types) or {})) do
    local other, both = others[matrices[1].path], {}
    for i, m in ipairs(matrices) do both[i] = { m.from, source_of.slice(other.source, m.slice) } end
    list[#list + 1] = same_shape(matrices[1].shape, other.shape)
      and { name = other.name, shape = other.shape, a = layer, b = other, pairs = both } or nil
  end
  return #list > 0 and list or nil
end

-- The same with b for the one.
local function turned(list)
  for _, match in ipairs(list or {}) do
    match.a, match.b = match.b, match.a
    for _, pair in ipairs(match.pairs) do pair[1], pair[2] = pair[2], pair[1] end
  end
  return list
end

-- Notes the layers that are in one of the models alone; found: the names of those in both.
local function add_missing(result, maps, order, found)
  for _, side in ipairs { "a", "b" } do
    for _, name in ipairs(order[side]) do
      if maps[side][name] and not found[side][name] then
        table.insert(result["only_" .. side], { name = name, what = "layer" })
      end
    end
  end
end

-- All layers that both have: a list of matches in a's order, then b's.
local function match_layers(result, maps, order, types)
  local list, found = {}, { a = {}, b = {} }
  local function add(matches)
    for _, match in ipairs(matches or {}) do
      list[#list + 1] = match
      found.a[match.a.name], found.b[match.b.name] = true, true
    end
  end
  for _, name in ipairs(order.a) do
    local a, b = maps.a[name], maps.b[name]
    local match = a and b and same_layer(a, b)
    if match == false then
      found.a[name], found.b[name] = true, true
      table.insert(result.differing_shapes, { name = name, what = "layer", shape_a = a.shape,
                                              shape_b = b.shape })
    elseif a then add(match and { match } or elsewhere(a, maps.b, types.a)) end
  end
  for _, name in ipairs(order.b) do
    local b = maps.b[name]
    if b and not found.b[name] then add(turned(elsewhere(b, maps.a, types.b))) end
  end
  add_missing(result, maps, order, found)
  return list
end

local function add_all_layers(result, matches, advance)
  for _, match in ipairs(matches) do
    local entry, message, code = compare_layers(match.name, match.shape, match.a, match.b,
                                                match.pairs, advance)
    if not entry then return nil, message, code end
    result.layers[#result.layers + 1] = entry
  end
  return true
end

local function add_all_tensors(result, a, b, maps, advance)
  local left = side_by_side.others(a, function(path) return maps.a[path] end)
  local right = side_by_side.others(b, function(path) return maps.b[path] end)
  local in_a, in_b = {}, {}
  for _, name in ipairs(left) do in_a[name] = true end
  for _, name in ipairs(right) do in_b[name] = true end
  for _, name in ipairs(left) do
    if not in_b[name] then
      result.only_a[#result.only_a + 1] = { name = name, what = "tensor" }
    elseif not same_shape(a:info(name).shape, b:info(name).shape) then
      table.insert(result.differing_shapes, { name = name, what = "tensor",
                                              shape_a = a:info(name).shape,
                                              shape_b = b:info(name).shape })
    else
      local entry, message, code = compare_tensors(a, b, name, advance)
      if not entry then return nil, message, code end
      result.tensors[#result.tensors + 1] = entry
    end
  end
  for _, name in ipairs(right) do
    if not in_a[name] then result.only_b[#result.only_b + 1] = { name = name, what = "tensor" } end
  end
  return true
end

-- Sums over layers for which `wanted` holds.
local function sum_layers(layers, wanted)
  local total = { layers = 0, weights = 0, incomparable = 0 }
  local sums = core.sums()
  for _, entry in ipairs(layers) do
    if wanted(entry) then
      total.layers, total.weights = total.layers + 1, total.weights + entry.weights
      total.incomparable = total.incomparable + entry.incomparable
      sums:add(entry.error, entry.norm)
    end
  end
  local error, norm = sums:values()
  return errors(total, error, norm, total.weights)
end

local function weights_of(map)
  local count = 0
  for _, layer in pairs(map) do
    local n = 1
    for _, d in ipairs(layer.shape) do n = n * d end
    count = count + n
  end
  return count
end

-- ---- In words ----

local function total_line(words, t)
  return ("%s: relative error %.4g, SNR %s dB, MSE %.4g"):format(words, t.relative_error,
    t.snr_db and ("%.2f"):format(t.snr_db) or "inf", t.mse)
end

--- What a comparison comes to, as a list of lines.
function compare.summary(result)
  local lines, changed, total, same = {}, result.changed, result.totals, 0
  if total.layers > 0 then
    lines[1] = total_line(text_table.count(total.layers, "layer"), total)
    if changed.layers > 0 and changed.layers < total.layers then
      lines[2] = total_line(("%d of them changed"):format(changed.layers), changed)
    end
  end
  for _, t in ipairs(result.tensors) do same = same + (t.identical and 1 or 0) end
  if #result.tensors > 0 then
    lines[#lines + 1] = ("%d of %d other tensors are identical"):format(same, #result.tensors)
  end
  return lines
end

local Comparison = { __name = "rondo.comparison", __metatable = "locked" }

function Comparison.__tostring(result)
  local lines = { "comparison", table.unpack(compare.summary(result)) }
  for _, missing in ipairs { { "shapes differ", result.differing_shapes },
                             { "only in A", result.only_a }, { "only in B", result.only_b } } do
    if #missing[2] > 0 then lines[#lines + 1] = ("%s: %d"):format(missing[1], #missing[2]) end
  end
  return table.concat(lines, "\n  ")
end

-- ---- Comparing ----

--- Compares two models.
-- @param a, b  what rondo.open gives, or paths; errors are measured against a
-- @param progress  function (done, total), in weights, or nil
-- @return a table, or nil, message, code where something cannot be read:
--   layers            of both, in a's order, experts as the one that splits them calls them:
--                     { name, shape, weights, dtype_a, dtype_b, quantized_a, quantized_b, mse,
--                     relative_error, snr_db (nil: nothing lost), max_abs, differing,
--                     incomparable (places where just one is finite), error and norm (the sums
--                     behind relative_error) }
--   tensors           the others: { name, shape, dtype_a, dtype_b, identical (the same type and
--                     bits), and unless opaque: differing, max_abs, incomparable }
--   differing_shapes  { name, what, shape_a, shape_b }; what: "layer" or "tensor"
--   only_a, only_b    { name, what }
--   totals, changed   { layers, weights, incomparable, mse, relative_error, snr_db } over all
--                     layers, and over those that differ anywhere or are packed in just one model
function compare.run(a, b, progress)
  local message, code
  a, message, code = side_by_side.opened("compare", a, 1)
  if not a then return nil, message, code end
  b, message, code = side_by_side.opened("compare", b, 2)
  if not b then return nil, message, code end
  local result, maps, order = new_result(), {}, {}
  local linear_a, linear_b
  maps.a, linear_a, order.a = layer_map(a)
  maps.b, linear_b, order.b = layer_map(b)
  drop_others(maps.a, linear_a, linear_b)
  drop_others(maps.b, linear_b, linear_a)
  local done, total = 0, weights_of(maps.a)
  local function advance(count)
    done = math.min(done + count, total)
    if progress then progress(done, total) end
  end
  local good
  local types = { a = config_of.set(a.config, "model_type"),
                  b = config_of.set(b.config, "model_type") }
  good, message, code = add_all_layers(result, match_layers(result, maps, order, types), advance)
  if good then good, message, code = add_all_tensors(result, a, b, maps, advance) end
  if not good then return nil, message, code end
  result.totals = sum_layers(result.layers, function() return true end)
  result.changed = sum_layers(result.layers, function(entry)
    return entry.differing > 0 or entry.quantized_a ~= entry.quantized_b
  end)
  return setmetatable(result, Comparison)
end

return compare
