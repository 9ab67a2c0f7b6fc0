-- verify: whether a quantized checkpoint is what rounding its source to nearest gives, and all of
-- it. Looks at every weight; memory is bounded by a few tiles.
--
-- Every tensor of the source must be there, in its shape, and nothing else. What is not quantized
-- must hold the source's values, in its type or rounded to another. Of a quantized layer
--   * scales, zero points and values must be finite; no group whose weights are not 0 has a scale
--     of 0, unless its type has none as small; no zero point of gptq's version 1 is 0
--   * each weight has the code nearest to it under the stored scale, see rondo.verify.codes
--   * the root mean square error is at most LARGEST times that of the scheme's plain rounding
-- What config.json says must be what the tensors are and what the source's says of the model
-- (rondo.verify.configuration).
-- So this finds codes, scales and zero points that do not belong together, wherever the scales come
-- from: searches are not worse than plain rounding by their own objective. Codes that are not meant
-- to be the nearest (calibrated ones) fail.

local codes = require "rondo.verify.codes"
local config_of = require "rondo.model.config"
local configuration = require "rondo.verify.configuration"
local core = require "rondo.core"
local formats = require "rondo.formats"
local linear = require("rondo.model.layer").linear
local pieces = require "rondo.formats.pieces"
local report = require "rondo.report"
local shape_of = require "rondo.shape"
local side_by_side = require "rondo.model.side_by_side"
local source_of = require "rondo.model.source"
local text = require "rondo.model.text"

local verify = {}

local LARGEST = 4

local function add_problem(result, what, name, problem)
  table.insert(result.problems, { what = what, name = name, problem = problem })
end

local function dims(shape)
  return #shape == 0 and "scalar" or table.concat(shape, "x")
end

-- Notes that shapes differ; whether they do.
local function differ(result, what, name, shape, expected)
  if dims(shape) == dims(expected) then return false end
  add_problem(result, what, name, ("has the shape %s, not %s"):format(dims(shape),
                                                                     dims(expected)))
  return true
end

-- ---- What belongs together ----

-- Adds a layer of the source to those that are one stack in the quantized checkpoint, by its path:
-- { layer = the first of them, and matrices as above }. Whether it belongs there.
local function gather(stacks, layer, quantized, types)
  local path, number = pieces.stack_of(layer.name, types)
  if not quantized[path] then return false end
  stacks[path] = stacks[path] or { layer = layer }
  table.insert(stacks[path], { path = path, slice = number, from = layer.source })
  return true
end

-- ---- Values ----

-- Whether a source has the other's values, rounded to its type; or nil, message, code.
local function same_values(from, into, advance)
  local same = true
  local done, message, code = side_by_side.each_tile(from, into, function(x, y)
    same = same and x:to(y.dtype) == y
  end, advance)
  if not done then return nil, message, code end
  return same
end

-- Checks one layer that is not quantized, `matrices` being what it should hold; true, or nil,
-- message, code.
local function check_kept(result, other, matrices, advance)
  local same = true
  for _, matrix in ipairs(matrices) do
    local there = source_of.slice(other.source, matrix.slice)
    local equal, message, code = same_values(matrix.from, there, advance)
    if equal == nil then return nil, ("%s: %s"):format(other.name, message), code end
    same = same and equal
  end
  if not same then
    add_problem(result, "layer", other.name, "is not quantized, but differs from the source")
  end
  return true
end

-- Checks one quantized layer, `matrices` being what it was made of.
local function check_quantized(result, layer, other, matrices, advance)
  local into, scheme = other.source, other.source.layer.scheme
  local state = { found = {}, sums = core.sums(), plain = 0, middle = true }
  for _, matrix in ipairs(matrices) do
    local done, message, code = codes.check(matrix.from, into, matrix.slice, state, advance)
    if not done then return nil, ("%s: %s"):format(other.name, message), code end
  end
  local error, norm = state.sums:values()
  local entry = { name = other.name, kind = layer.kind, shape = other.shape,
                  scheme = scheme:label(), weights = shape_of.count(other.shape), error = error,
                  norm = norm }
  report.errors(entry, error, norm, entry.weights)
  local faults = codes.faults(state.found)
  if #faults == 0 then
    entry.plain_error = norm > 0 and state.plain / norm or 0
    if entry.relative_error > LARGEST ^ 2 * entry.plain_error + codes.rounding[scheme.scale] ^ 2
    then
      faults[1] = ("the relative error is %.4g, but %.4g with plain rounding"):format(
        entry.relative_error, entry.plain_error)
    end
  end
  for _, fault in ipairs(faults) do add_problem(result, "layer", other.name, fault) end
  result.middle[other.name] = not scheme:has_zero() or state.middle
  result.layers[#result.layers + 1] = entry
  return true
end

-- Counts layers of the source by what the first of them became.
local function count_quantized(result, layer, other, count)
  if linear[layer.kind] and other.quantized then
    result.coverage.quantized_layers = result.coverage.quantized_layers + count
  end
end

-- Checks what a layer of the source became under one path.
local function check_matrices(result, layer, quantized, list, advance)
  local other = quantized[list[1].path]
  result.seen[other.tensor_name] = true
  if differ(result, "layer", other.name, other.shape, list[1].shape) then return true end
  if not other.quantized then return check_kept(result, other, list, advance) end
  return check_quantized(result, layer, other, list, advance)
end

local function check_layer(result, layer, quantized, types, advance)
  local matrices = side_by_side.matrices(layer, quantized, types)
  if not matrices then
    if not gather(result.stacks, layer, quantized, types) then
      add_problem(result, "layer", layer.name, "is missing")
    end
    return true
  end
  count_quantized(result, layer, quantized[matrices[1].path], 1)
  for _, list in ipairs(side_by_side.by_path(matrices)) do
    local done, message, code = check_matrices(result, layer, quantized, list, advance)
    if not done then return nil, message, code end
  end
  return true
end

-- The experts that were gathered, in the order of the stacks' paths.
local function check_stacks(result, quantized, advance)
  local paths = {}
  for path in pairs(result.stacks) do paths[#paths + 1] = path end
  table.sort(paths)
  for _, path in ipairs(paths) do
    local list = result.stacks[path]
    count_quantized(result, list.layer, quantized[path], #list)
    list[1].shape = { #list, table.unpack(list.layer.shape) }
    local done, message, code = check_matrices(result, list.layer, quantized, list, advance)
    if not done then return nil, message, code end
  end
  return true
end

local function check_tensor(result, a, b, name)
  local left, right = a:info(name), b:info(name)
  if differ(result, "tensor", name, right.shape, left.shape) then return true end
  local same, message, code
  if side_by_side.opaque[left.dtype] or side_by_side.opaque[right.dtype] then
    same = left.dtype == right.dtype
    if same then same, message, code = side_by_side.same_bytes(a, b, left, right) end
  else
    same, message, code = same_values(side_by_side.source(a, left), side_by_side.source(b, right))
  end
  if same == nil then return nil, ("%s: %s"):format(name, message), code end
  if not same then add_problem(result, "tensor", name, "differs from the source") end
  return true
end

-- ---- The whole ----

-- By name, and as a list. Of two with one name the quantized one counts: what it was made of should
-- be gone.
local function layers_of(model)
  local named, list = {}, {}
  for name, layer in model:layers "all" do
    if not named[name] or layer.quantized then named[name] = layer end
    list[#list + 1] = layer
  end
  return named, list
end

-- Every layer of the source, and that there are no others; true, or nil, message, code.
local function check_layers(result, a, b, progress)
  local _, list = layers_of(a)
  local quantized, others = layers_of(b)
  local types = config_of.set(a.config, "model_type")
  local done, total = 0, 0
  for _, layer in ipairs(list) do total = total + shape_of.count(layer.shape) end
  local function advance(count)
    done = done + count
    if progress then progress(math.min(done, total), total) end
  end
  for _, layer in ipairs(list) do
    local good, message, code = check_layer(result, layer, quantized, types, advance)
    if not good then return nil, message, code end
    if linear[layer.kind] then
      result.coverage.layers = result.coverage.layers + 1
      result.coverage.weights = result.coverage.weights + shape_of.count(layer.shape)
    end
  end
  local good, message, code = check_stacks(result, quantized, advance)
  if not good then return nil, message, code end
  for _, layer in ipairs(others) do
    if not result.seen[layer.tensor_name] then
      add_problem(result, "tensor", layer.tensor_name, "is not in the source")
    end
  end
  return true
end

local function all() return true end

-- The same of the tensors that are no layers' weights.
local function check_tensors(result, a, b)
  local in_source, there = {}, {}
  local left, right = side_by_side.others(a, all), side_by_side.others(b, all)
  for _, name in ipairs(right) do there[name] = true end
  for _, name in ipairs(left) do
    in_source[name] = true
    local done, message, code = true, nil, nil
    if there[name] then done, message, code = check_tensor(result, a, b, name)
    else add_problem(result, "tensor", name, "is missing") end
    if not done then return nil, message, code end
  end
  for _, name in ipairs(right) do
    if not in_source[name] then add_problem(result, "tensor", name, "is not in the source") end
  end
  return true
end

local function check_configuration(result, a, b)
  for _, problem in ipairs(configuration.model_problems(a.config, b.config)) do
    add_problem(result, "configuration", "", problem)
  end
  for _, found in ipairs(configuration.quantization_problems(b, result.middle)) do
    add_problem(result, "configuration", found.name, found.problem)
  end
end

-- Adds up what was found of the layers.
local function finish(result)
  local c, sums, weights = result.coverage, core.sums(), 0
  for _, entry in ipairs(result.layers) do
    weights = weights + entry.weights
    if linear[entry.kind] then
      c.quantized_weights = c.quantized_weights + entry.weights
    end
    sums:add(entry.error, entry.norm)
  end
  if #result.layers == 0 then add_problem(result, "layer", "", "nothing is quantized") end
  c.share = c.weights > 0 and c.quantized_weights / c.weights or 0
  local error, norm = sums:values()
  return { good = #result.problems == 0, problems = result.problems, layers = result.layers,
           coverage = c, totals = report.errors({ layers = #result.layers, weights = weights },
                                                error, norm, weights) }
end

-- Why a checkpoint cannot be verified, or nil.
local function refusal(model)
  if not model.quantization then
    return ("%s: config.json says nothing of a quantization; rondo compare tells how far it is "
            .. "from another"):format(text.path(model.path))
  elseif not formats.reads(model.quantization) then
    return ("%s: a quantization by %s is not read"):format(text.path(model.path),
      text.quote(model.quantization))
  end
end

--- Checks a quantized checkpoint against its source.
-- @param a  the source: what rondo.open gives, or a path
-- @param b  the quantized checkpoint, likewise
-- @param progress  function (done, total), in weights, or nil
-- @return a table, or nil, message, code where something cannot be read or is not quantized:
--   good      whether there are no problems
--   problems  a list of { what = "layer", "tensor" or "configuration", name, problem }
--   layers    the quantized ones: { name, kind, shape, scheme, weights, mse, relative_error,
--             snr_db (nil: nothing lost), plain_error: the relative error of plain rounding (nil
--             where something is wrong already), error and norm: the sums behind relative_error }
--   coverage  of the linear layers: { layers, weights, quantized_layers, quantized_weights, share }
--   totals    of the quantized layers: { layers, weights, mse, relative_error, snr_db }
function verify.run(a, b, progress)
  local message, code
  a, message, code = side_by_side.opened("verify", a, 1)
  if not a then return nil, message, code end
  b, message, code = side_by_side.opened("verify", b, 2)
  if not b then return nil, message, code end
  message = refusal(b)
  if message then return nil, message, "unsupported" end
  local result = { layers = {}, problems = {}, seen = {}, stacks = {}, middle = {},
                   coverage = { layers = 0, weights = 0, quantized_layers = 0,
                                quantized_weights = 0 } }
  local done
  done, message, code = check_layers(result, a, b, progress)
  if done then done, message, code = check_tensors(result, a, b) end
  if not done then return nil, message, code end
  check_configuration(result, a, b)
  return finish(result)
end

return verify
