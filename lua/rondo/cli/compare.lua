-- cli.compare: `rondo compare A B`: the error of every layer, and what else differs.

local compare = require "rondo.compare"
local document = require "rondo.cli.document"
local output = require "rondo.cli.output"
local planning = require "rondo.cli.planning"
local progress = require "rondo.progress"
local sizes = require "rondo.sizes"
local text_table = require "rondo.text_table"

local LISTED = 20 -- names of a list; --json has all

local function shape_text(shape)
  return #shape == 0 and "scalar" or table.concat(shape, "x")
end

local function decibels(value)
  return value and ("%.2f"):format(value) or "inf"
end

local function types(entry)
  if entry.dtype_a == entry.dtype_b then return entry.dtype_a end
  return entry.dtype_a .. " " .. entry.dtype_b
end

local columns = {
  { title = "layer", text = function(l) return l.name == "" and "(weight)" or l.name end },
  { title = "shape", text = function(l) return shape_text(l.shape) end },
  { title = "dtype", text = types },
  { title = "MSE", right = true, text = function(l) return ("%.4g"):format(l.mse) end },
  { title = "rel. error", right = true,
    text = function(l) return ("%.4g"):format(l.relative_error) end },
  { title = "SNR dB", right = true, text = function(l) return decibels(l.snr_db) end },
  { title = "max |a-b|", right = true, text = function(l) return ("%.4g"):format(l.max_abs) end },
}

local function difference_text(t)
  if t.max_abs == nil then return "bytes differ" end
  if t.differing == 0 then return "same values" end
  return ("%s differ, by %.4g at most"):format(text_table.count(t.differing, "value"), t.max_abs)
end

local tensor_columns = {
  { title = "tensor", text = function(t) return t.name end },
  { title = "shape", text = function(t) return shape_text(t.shape) end },
  { title = "dtype", text = types },
  { title = "difference", text = difference_text },
}

local function list_names(lines, title, entries, text)
  if #entries == 0 then return end
  lines[#lines + 1] = title
  for i = 1, math.min(#entries, LISTED) do
    lines[#lines + 1] = "  " .. text_table.printable(text(entries[i]))
  end
  if #entries > LISTED then lines[#lines + 1] = ("  and %d more"):format(#entries - LISTED) end
end

-- Warns of places where just one of the models is finite: errors leave them out.
local function nonfinite_lines(lines, result)
  local found = {}
  for _, list in ipairs { result.layers, result.tensors } do
    for _, entry in ipairs(list) do
      if (entry.incomparable or 0) > 0 then found[#found + 1] = entry end
    end
  end
  list_names(lines, "NaN or infinity in just one of the two (the errors leave these out):", found,
    function(e) return ("%s: %s"):format(e.name, text_table.count(e.incomparable, "place")) end)
end

local function summary(result)
  local lines = compare.summary(result)
  nonfinite_lines(lines, result)
  local function named(e) return ("%s %s"):format(e.what, e.name) end
  list_names(lines, "shapes differ:", result.differing_shapes, function(e)
    return ("%s: %s, %s"):format(named(e), shape_text(e.shape_a), shape_text(e.shape_b))
  end)
  list_names(lines, "only in A:", result.only_a, named)
  list_names(lines, "only in B:", result.only_b, named)
  return lines
end

local function show(result)
  if #result.layers > 0 then
    output.table(columns, result.layers)
    output.lines { "" }
  end
  local different = {}
  for _, t in ipairs(result.tensors) do
    if not t.identical then different[#different + 1] = t end
  end
  if #different > 0 then
    output.table(tensor_columns, different)
    output.lines { "" }
  end
  return output.lines(summary(result))
end

-- ---- JSON ----

local no_error = { snr_db = true }
local layer_names = { "name", "shape", "dtype_a", "dtype_b", "quantized_a", "quantized_b", "mse",
                      "relative_error", "snr_db", "max_abs", "differing", "incomparable" }
local total_names = { "layers", "weights", "incomparable", "mse", "relative_error", "snr_db" }

local function write_json(result, o)
  local missing = { "name", "what" }
  return document.write {
    { "schema", 1 }, { "rondo", require("rondo.core").version }, { "a", o.a }, { "b", o.b },
    { "totals", document.object(result.totals, total_names, no_error) },
    { "changed", document.object(result.changed, total_names, no_error) },
    { "layers", document.records(result.layers, layer_names, no_error) },
    { "tensors", document.records(result.tensors, { "name", "shape", "dtype_a", "dtype_b",
                                                    "identical", "differing", "max_abs",
                                                    "incomparable" }) },
    { "differing_shapes", document.records(result.differing_shapes, { "name", "what", "shape_a",
                                                                      "shape_b" }) },
    { "only_a", document.records(result.only_a, missing) },
    { "only_b", document.records(result.only_b, missing) },
  }
end

return function(o)
  local a, b = planning.open(o.a), planning.open(o.b)
  local line <close> = output.progress(progress.new("comparing", { show = sizes.count }))
  local result, message = compare.run(a, b, function(done, total)
    line:update(done, total)
  end)
  line:clear()
  if not result then return nil, message end
  if o.json then
    write_json(result, o)
  else
    show(result)
  end
  if #result.layers + #result.tensors == 0 then
    return nil, ("%s and %s have no tensor in common"):format(o.a, o.b)
  end
  return true
end
