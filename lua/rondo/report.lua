-- report: what a quantization did to every layer, in numbers. The same input and options give the
-- same bytes: no clock, no machine, no number of threads.

local json = require "rondo.json"

local report = {}

-- mse: mean squared error; relative_error: sum of squared differences over sum of squares;
-- snr_db: -10 log10 of it, null where nothing was lost.
local function errors(into, error, norm, weights)
  into.mse = weights > 0 and error / weights or 0
  into.relative_error = norm > 0 and error / norm or (error > 0 and 1 or 0)
  into.snr_db = error > 0 and norm > 0 and -10 * math.log(error / norm, 10) or nil
  return into
end

report.errors = errors

local function layer_of(job, row, result)
  local s = job.scheme
  return errors({
    name = job.layer.name, tensor = job.name, shape = row.shape, dtype = row.dtype,
    scheme = s:label(), bits = s.bits, group_size = s.group_size, group_dim = s.group_dim,
    clip_ratio = result.ratio, bytes_before = row.bytes_before, bytes_after = row.bytes_after,
  }, result.error, result.norm, job.weights)
end

-- The options as the caller would write them again.
local function options_of(made)
  local o, config = made.options, {}
  for path, fields in pairs(o.config) do config[path] = fields end
  local exclude = {}
  for i, rule in ipairs(o.exclude) do exclude[i] = rule.text end
  local list = { bits = o.bits, group_size = o.group_size, scheme = o.scheme, dtype = o.dtype,
                 group_dim = o.group_dim, full_range = o.full_range, quantile = o.quantile,
                 mse_search = o.mse_search, format = o.format, config = config,
                 exclude = json.array(exclude), shard_size = math.tointeger(o.shard_size)
                   or o.shard_size, nonfinite = o.nonfinite }
  if o.format == "packed" then
    list.compression_dtype, list.compression_dim = o.compression_dtype, o.compression_dim
    list.scale_dtype = o.scale_dtype
  end
  return list
end

--- Makes the report of a plan that was carried out.
-- @param results  by tensor name, what execute.quantize returned
-- @return { schema, rondo, options, source, layers, totals, copied_files, left_files }
function report.make(made, results)
  local layers, error, norm = {}, 0, 0
  for i, job in ipairs(made.jobs) do
    local result = results[job.name]
    if job.action == "quantize" and result then
      layers[#layers + 1] = layer_of(job, made.rows[i], result)
      error, norm = error + result.error, norm + result.norm
    end
  end
  local t = made.totals
  local totals = errors({ layers = t.quantized, tensors = t.tensors, weights = t.weights,
                          bits_per_weight = t.bits, bytes_before = t.bytes_before,
                          bytes_after = t.bytes_after }, error, norm, t.weights)
  local files = {}
  for i, file in ipairs(made.model.checkpoint:files()) do
    files[i] = json.object { { "name", file.path:match("[^/]+$") }, { "size", file.size },
                             { "header_digest", file.header_digest } }
  end
  return {
    schema = 1, rondo = require("rondo.core").version, options = options_of(made),
    source = json.array(files), layers = json.array(layers), totals = totals,
    copied_files = json.array {}, left_files = json.array {},
  }
end

local order = { "schema", "rondo", "options", "source", "totals", "layers", "copied_files",
                "left_files" }
local layer_order = { "name", "tensor", "shape", "dtype", "scheme", "bits", "group_size",
                      "group_dim", "clip_ratio", "mse", "relative_error", "snr_db", "bytes_before",
                      "bytes_after" }
local total_order = { "layers", "tensors", "weights", "bits_per_weight", "bytes_before",
                      "bytes_after", "mse", "relative_error", "snr_db" }

local function ordered(fields, names)
  local pairs_of = {}
  for i, name in ipairs(names) do
    local value = fields[name]
    pairs_of[i] = { name, value == nil and json.null or value }
  end
  return json.object(pairs_of)
end

-- A list with a line for each of its items.
local function in_lines(items)
  if #items == 0 then return "[]" end
  return "[\n    " .. table.concat(items, ",\n    ") .. "\n  ]"
end

--- The report as JSON text, fields in a fixed order, a line for each layer.
function report.text(made)
  local layers, parts = {}, {}
  for i, layer in ipairs(made.layers) do
    layers[i] = json.encode(ordered(layer, layer_order))
  end
  local special = { totals = json.encode(ordered(made.totals, total_order), { indent = 2 }),
                    layers = in_lines(layers) }
  for i, name in ipairs(order) do
    local value = special[name] or json.encode(made[name], { indent = 2 })
    if name ~= "layers" then value = value:gsub("\n", "\n  ") end
    parts[i] = string.format('  "%s": %s', name, value)
  end
  return "{\n" .. table.concat(parts, ",\n") .. "\n}\n"
end

return report
