-- report: what a quantization did to every layer, in numbers. The same input and options give the
-- same bytes: no clock, no machine, no number of threads.

local core = require "rondo.core"
local json = require "rondo.json"
local layers_of = require "rondo.model.layers"
local plan_of = require "rondo.plan"
local recipe_of = require "rondo.recipe"
local sequence = require "rondo.sequence"
local sizes = require "rondo.sizes"
local text_table = require "rondo.text_table"

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

-- ---- Results ----

local Results = {}
Results.__index = Results

--- Where the results of a plan's jobs gather: three numbers a job.
function report.results(made)
  local function numbers() return core.zeros({ #made.names }, "f64") end
  return setmetatable({ ratio = numbers(), error = numbers(), norm = numbers() }, Results)
end

--- Keeps what execute.quantize returned for the i-th job.
function Results:add(i, result)
  self.ratio[i], self.error[i], self.norm[i] = result.ratio, result.error, result.norm
end

-- ---- What is in it ----

local function layer_of(made, i, results)
  local m, name = plan_of.measure(made, i), made.names[i]
  local s, ratio = made.decisions[i].scheme:reference(), results.ratio[i]
  return errors({
    name = layers_of.path(made.list, name), tensor = name, shape = m.shape, dtype = m.dtype,
    scheme = m.scheme, bits = s.bits, group_size = s.group_size, group_dim = s.group_dim,
    clip_ratio = ratio == ratio and ratio or nil, bytes_before = m.bytes_before,
    bytes_after = m.bytes_after,
  }, results.error[i], results.norm[i], m.weights)
end

-- What applies to a recipe and to plain options alike.
local function add_common(list, o)
  list.format, list.nonfinite = o.format, o.nonfinite
  list.shard_size = math.tointeger(o.shard_size) or o.shard_size
  if o.format == "packed" then
    list.compression_dtype, list.compression_dim = o.compression_dtype, o.compression_dim
  end
  return list
end

-- The options as the caller would write them again.
local function options_of(made)
  local o, config = made.options, {}
  if o.named then
    local name, _, values = recipe_of.about(o.recipe)
    return add_common({ recipe = name, set = next(values) and values or json.object() }, o)
  end
  for path, fields in pairs(o.config) do config[path] = fields end
  local exclude = {}
  for i, rule in ipairs(o.exclude) do exclude[i] = rule.text end
  local clip = tostring(o.clip):gsub('^"(.*)"$', "%1")
  local list = { bits = o.bits, group_size = o.group_size, scheme = o.scheme, dtype = o.dtype,
                 group_dim = o.group_dim, full_range = o.full_range, quantile = o.quantile,
                 mse_search = o.mse_search, clip = clip, config = config,
                 exclude = json.array(exclude) }
  if o.format == "packed" then list.scale_dtype = o.scale_dtype end
  return add_common(list, o)
end

-- What is not as the recipe wants it, and why: the rules say.
local function fallbacks_of(made)
  local list = {}
  for i, decision in ipairs(made.decisions) do
    if decision.fallback then
      list[#list + 1] = { tensor = made.names[i], rule = decision.rule,
                          reason = decision.fallback.reason }
    end
  end
  return list
end

-- What the output does without, see plan.left_out.
local function left_out_of(made)
  local list = {}
  for i, entry in ipairs(made.left_out) do
    list[i] = { part = entry[1], tensors = entry[2] }
  end
  return list
end

-- ---- In words ----

local function decibels(value)
  return type(value) == "number" and ("%.2f"):format(value) or "inf"
end

-- How many tensors there are, and how many of them are quantized.
local function count_line(t)
  if t.layers == 0 then
    local copied = text_table.count(t.tensors - t.dequantized, "tensor")
    return ("nothing quantized: %s copied%s"):format(copied,
      t.dequantized > 0 and (", %d dequantized"):format(t.dequantized) or "")
  end
  return ("%d of %d tensors quantized: relative error %.4g, SNR %s dB, MSE %.4g"):format(
    t.layers, t.tensors, t.relative_error, decibels(t.snr_db), t.mse)
end

local function size_line(t)
  local line = ("%s -> %s (%.2fx)"):format(sizes.show(t.bytes_before), sizes.show(t.bytes_after),
    t.bytes_after > 0 and t.bytes_before / t.bytes_after or 1)
  if t.layers == 0 then return line end
  return ("%s, %.2f bits per quantized weight"):format(line, t.bits_per_weight)
end

--- What a report comes to, as a list of lines.
function report.summary(made)
  local t, reasons = made.totals, {}
  for i, entry in ipairs(made.fallbacks) do reasons[i] = entry.reason end
  local remarks = plan_of.remarks(made.options.format, reasons, t, made.notes)
  return { count_line(t), size_line(t), table.unpack(remarks) }
end

local Report = { __name = "rondo.report", __metatable = "locked" }

function Report.__tostring(made)
  local head = ("report: %s"):format(made.options.format)
  return table.concat({ head, table.unpack(report.summary(made)) }, "\n  ")
end

-- ---- The report ----

--- Makes the report of a plan that was carried out.
-- @param results  of report.results, with all that was quantized
-- @return { schema, rondo, options, source, layers, fallbacks, notes, left_out, totals,
--         copied_files, left_files }; layers is a rondo.sequence; fallbacks: { tensor, rule,
--         reason } of those that the format has no place for as the recipe wants them; notes: what
--         a policy says; left_out: { part, tensors } of what the source's quantization has beside
--         weights, by what names end in
function report.make(made, results)
  local numbers, sums = {}, core.sums()
  for i, decision in ipairs(made.decisions) do
    if decision.action == "quantize" then
      numbers[#numbers + 1] = i
      sums:add(results.error[i], results.norm[i])
    end
  end
  local error, norm = sums:values()
  local layers = sequence.new(#numbers, function(k) return layer_of(made, numbers[k], results) end)
  local t = made.totals
  local totals = errors({ layers = t.quantized, tensors = t.tensors, weights = t.weights,
                          dequantized = t.dequantized, dequantized_before = t.dequantized_before,
                          dequantized_after = t.dequantized_after,
                          bits_per_weight = t.bits, bytes_before = t.bytes_before,
                          bytes_after = t.bytes_after }, error, norm, t.weights)
  local files = {}
  for i, file in ipairs(made.model.checkpoint:files()) do
    files[i] = { name = file.path:match("[^/]+$"), size = file.size,
                 header_digest = file.header_digest }
  end
  return setmetatable({
    schema = 1, rondo = core.version, options = options_of(made),
    source = files, layers = layers, totals = totals, fallbacks = fallbacks_of(made),
    notes = json.array(made.notes), left_out = left_out_of(made), copied_files = json.array {},
    left_files = json.array {},
  }, Report)
end

local order = { "schema", "rondo", "options", "source", "totals", "layers", "fallbacks", "notes",
                "left_out", "copied_files", "left_files" }
-- The fields of lists of records.
local record_orders = {
  source = { "name", "size", "header_digest" },
  layers = { "name", "tensor", "shape", "dtype", "scheme", "bits", "group_size", "group_dim",
             "clip_ratio", "mse", "relative_error", "snr_db", "bytes_before", "bytes_after" },
  fallbacks = { "tensor", "rule", "reason" },
  left_out = { "part", "tensors" },
}
local total_order = { "layers", "tensors", "dequantized", "weights", "bits_per_weight",
                      "bytes_before", "bytes_after", "mse", "relative_error", "snr_db" }

local function ordered(fields, names)
  local pairs_of = {}
  for i, name in ipairs(names) do
    local value = fields[name]
    pairs_of[i] = { name, value == nil and json.null or value }
  end
  return json.object(pairs_of)
end

-- Records, a line for each.
local function write_records(list, names, emit)
  local count, encode = #list, json.encoder(names)
  if count == 0 then return emit "[]" end
  emit "[\n    "
  for i, record in ipairs(list) do emit(encode(record) .. (i < count and ",\n    " or "")) end
  emit "\n  ]"
end

--- The report as JSON text, fields in a fixed order.
-- @param emit  function (piece of the text), called for one after the other
function report.write(made, emit)
  local divider = "{\n"
  for _, name in ipairs(order) do
    emit(string.format('%s  "%s": ', divider, name))
    divider = ",\n"
    if record_orders[name] then
      write_records(made[name], record_orders[name], emit)
    else
      local value = name == "totals" and ordered(made.totals, total_order) or made[name]
      emit((json.encode(value, { indent = 2 }):gsub("\n", "\n  ")))
    end
  end
  emit "\n}\n"
end

return report
