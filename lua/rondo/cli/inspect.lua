-- cli.inspect: `rondo inspect MODEL`: tensors, quantized layers, statistics and a histogram.

local document = require "rondo.cli.document"
local inspect = require "rondo.inspect"
local output = require "rondo.cli.output"
local planning = require "rondo.cli.planning"
local progress = require "rondo.progress"
local sizes = require "rondo.sizes"
local strays = require "rondo.formats.strays"
local text_table = require "rondo.text_table"

local BINS = 24
local BAR = 50 -- columns of the longest bar

local function shape_text(shape)
  return #shape == 0 and "scalar" or table.concat(shape, "x")
end

local function number(value)
  return value and ("%.4g"):format(value) or "-"
end

-- ---- Reading ----

-- Adds statistics to quantized layers; returns a list of the tensors with theirs.
local function add_stats(model, tensors, layers)
  tensors = table.move(tensors, 1, #tensors, 1, {})
  local line <close> = output.progress(progress.new("reading", { show = sizes.count }))
  local done, total = 0, 0
  for _, t in ipairs(tensors) do total = total + t.elements end
  local function add(item, from)
    local stats, message = inspect.stats(from, function(count)
      done = done + count
      line:update(math.min(done, total), total, item.name)
    end)
    if not stats then output.failure(("%s: %s"):format(item.name, message)) end
    item.stats = stats
  end
  for _, t in ipairs(tensors) do
    if inspect.has_numbers(t.dtype) then add(t, inspect.source(model, t)) end
  end
  for _, l in ipairs(layers) do
    total = total + l.source.rows * l.source.cols
    add(l, l.source)
  end
  return tensors
end

local function find_histogram(model, o)
  local found, message = inspect.find(model, o.hist)
  if not found then output.usage(message, "inspect") end
  if not inspect.has_numbers(found.dtype) then
    output.failure(("%s: the type %s has no numbers to count"):format(found.name, found.dtype))
  end
  local made, why = inspect.histogram(found.source, o.bins or BINS)
  if not made then output.failure(("%s: %s"):format(found.name, why)) end
  made.name, made.dtype, made.shape = found.name, found.dtype, found.shape
  return made
end

-- ---- Text ----

local stat_columns = {
  { title = "mean", right = true, text = function(t) return number(t.stats and t.stats.mean) end },
  { title = "std", right = true, text = function(t) return number(t.stats and t.stats.std) end },
  { title = "|max|", right = true,
    text = function(t) return number(t.stats and t.stats.absmax) end },
  { title = "NaN/inf", right = true, text = function(t)
    return t.stats and ("%d"):format(t.stats.nans + t.stats.infinities) or "-"
  end },
}

local function tensor_columns(with_stats)
  local columns = {
    { title = "tensor", text = function(t) return t.name end },
    { title = "shape", text = function(t) return shape_text(t.shape) end },
    { title = "dtype", text = function(t) return t.dtype end },
    { title = "kind", text = function(t) return t.kind end },
    { title = "bytes", right = true, text = function(t) return ("%d"):format(t.bytes) end },
  }
  if with_stats then table.move(stat_columns, 1, #stat_columns, #columns + 1, columns) end
  return columns
end

local function layer_columns(with_stats)
  local columns = {
    { title = "quantized layer",
      text = function(l) return l.name == "" and "(weight)" or l.name end },
    { title = "shape", text = function(l) return shape_text(l.shape) end },
    { title = "was", text = function(l) return l.dtype end },
    { title = "kind", text = function(l) return l.kind end },
    { title = "scheme", text = function(l) return l.scheme end },
  }
  if with_stats then table.move(stat_columns, 1, #stat_columns, #columns + 1, columns) end
  return columns
end

-- What all tensors come to: { elements, bytes, types, by_type }: the types, most frequent first,
-- and the elements of each.
local function total_of(tensors)
  local t = { elements = 0, bytes = 0, types = {}, by_type = {} }
  local counts = t.by_type
  for _, tensor in ipairs(tensors) do
    t.elements, t.bytes = t.elements + tensor.elements, t.bytes + tensor.bytes
    if not counts[tensor.dtype] then t.types[#t.types + 1] = tensor.dtype end
    counts[tensor.dtype] = (counts[tensor.dtype] or 0) + tensor.elements
  end
  table.sort(t.types, function(a, b)
    if counts[a] ~= counts[b] then return counts[a] > counts[b] end
    return a < b
  end)
  return t
end

local function total_line(model, tensors)
  local t, files = total_of(tensors), model.checkpoint:files()
  local types = table.concat(t.types, " + ")
  return ("%s in %s, %s%s, %s%s"):format(text_table.count(#tensors, "tensor"),
    text_table.count(#files, "file"), text_table.count(t.elements, "value"),
    types ~= "" and " of " .. types or "", sizes.show(t.bytes), model.quantization
      and ", quantized: " .. text_table.printable(model.quantization) or "")
end

local function histogram_lines(h)
  local s = h.stats
  local lines = { ("%s  %s %s: %d values, mean %s, std %s, |max| %s, %d zeros, %d NaN, %d infinite")
    :format(text_table.printable(h.name), h.dtype, shape_text(h.shape),
            s.count + s.nans + s.infinities, number(s.mean), number(s.std), number(s.absmax),
            s.zeros, s.nans, s.infinities) }
  if not h.counts then
    lines[2] = s.count == 0 and "no finite values" or "the range is more than a float holds"
    return lines
  end
  local most = 1
  for _, count in ipairs(h.counts) do most = math.max(most, count) end
  local width = (h.high - h.low) / #h.counts
  for i, count in ipairs(h.counts) do
    local bar = math.ceil(count / most * BAR)
    lines[#lines + 1] = ("%12s  %-" .. BAR .. "s  %d"):format(
      ("%.4g"):format(h.low + (i - 1) * width), ("#"):rep(bar), count)
  end
  lines[#lines + 1] = ("%12s"):format(("%.4g"):format(h.high))
  return lines
end

local function show(model, tensors, layers, o)
  output.table(tensor_columns(o.stats), tensors)
  output.lines { "" }
  if #layers > 0 then
    output.table(layer_columns(o.stats), layers)
    output.lines { "" }
  end
  output.lines { total_line(model, tensors) }
end

-- ---- JSON ----

local stat_names = { "count", "nans", "infinities", "zeros", "mean", "std", "min", "max", "absmax" }

-- The statistics of all items as objects in a fixed order.
local function ordered_stats(items)
  for _, item in ipairs(items) do
    if item.stats then item.stats = document.object(item.stats, stat_names) end
  end
  return items
end

local function totals_of(tensors)
  local json = require "rondo.json"
  local t, elements_by_type = total_of(tensors), json.object {}
  for i, dtype in ipairs(t.types) do elements_by_type[i] = { dtype, t.by_type[dtype] } end
  return json.object { { "tensors", #tensors }, { "elements", t.elements }, { "bytes", t.bytes },
                       { "elements_by_dtype", elements_by_type } }
end

local function write_json(model, tensors, layers, histogram)
  local members = {
    { "schema", 1 }, { "rondo", require("rondo.core").version }, { "model", model.path },
    { "quantization", model.quantization or require("rondo.json").null },
    { "totals", totals_of(tensors) },
    { "files", document.records(model.checkpoint:files(), { "path", "size" }) },
    { "tensors", document.records(ordered_stats(tensors),
      { "name", "dtype", "shape", "elements", "bytes", "kind", "file", "offset", "stats" }) },
    { "layers", document.records(ordered_stats(layers),
      { "name", "kind", "dtype", "shape", "scheme", "settings", "stats" }) },
  }
  if histogram then
    ordered_stats { histogram }
    members[#members + 1] = { "histogram", document.object(histogram,
      { "name", "dtype", "shape", "low", "high", "counts", "stats" }) }
  end
  return document.write(members)
end

return function(o)
  local model = planning.open(o.model)
  if o.hist and not o.json and not o.stats then
    return output.lines(histogram_lines(find_histogram(model, o)))
  end
  local histogram = o.hist and find_histogram(model, o)
  local stray = not model.quantization and strays.complaint(model.checkpoint)
  if stray then warn(("%s: %s"):format(o.model, stray)) end
  local tensors, layers = inspect.tensors(model), inspect.quantized_layers(model)
  if o.stats then tensors = add_stats(model, tensors, layers) end
  if o.json then return write_json(model, tensors, layers, histogram) end
  show(model, tensors, layers, o)
  if histogram then
    output.lines { "" }
    output.lines(histogram_lines(histogram))
  end
  return true
end
