-- cli.plan: `rondo plan MODEL`: what every tensor would become, and the exact size of the output.

local output = require "rondo.cli.output"
local planning = require "rondo.cli.planning"
local sizes = require "rondo.sizes"
local text_table = require "rondo.text_table"

local function shape_text(shape)
  return #shape == 0 and "scalar" or table.concat(shape, "x")
end

local columns = {
  { title = "tensor", text = function(r) return r.name end },
  { title = "shape", text = function(r) return shape_text(r.shape) end },
  { title = "dtype", text = function(r) return r.dtype end },
  { title = "becomes", text = function(r) return r.scheme or r.action end },
  { title = "bits", right = true, text = function(r) return ("%.4g"):format(r.bits) end },
  { title = "bytes", right = true, text = function(r) return ("%d"):format(r.bytes_after) end },
  { title = "rule", text = function(r) return r.rule end },
}

local file_columns = {
  { title = "file", text = function(f) return f.name end },
  { title = "bytes", right = true, text = function(f) return ("%d"):format(f.size) end },
}

local function show(made)
  local t = made.totals
  output.lines(text_table.lines(columns, made.rows, output.heading))
  output.lines { "" }
  output.lines(text_table.lines(file_columns, made.files, output.heading))
  output.lines {
    "",
    ("%d of %d tensors are quantized (%d weights, %.4g bits each)"):format(
      t.quantized, t.tensors, t.weights, t.bits),
    ("%s of tensors become %d bytes of files (%s)"):format(
      sizes.show(t.bytes_before), t.bytes_after, sizes.show(t.bytes_after)),
  }
  return true
end

local function document(made, o)
  local json = require "rondo.json"
  local tensors, files = json.array {}, json.array {}
  for i, r in ipairs(made.rows) do
    tensors[i] = json.object {
      { "name", r.name }, { "shape", json.array(r.shape) }, { "dtype", r.dtype },
      { "action", r.action }, { "rule", r.rule }, { "scheme", r.scheme or json.null },
      { "bits", r.bits }, { "bytes_before", r.bytes_before }, { "bytes_after", r.bytes_after },
    }
  end
  for i, f in ipairs(made.files) do
    files[i] = json.object { { "name", f.name }, { "size", f.size } }
  end
  local t = made.totals
  return json.encode(json.object {
    { "schema", 1 }, { "rondo", require("rondo.core").version }, { "model", o.model },
    { "totals", json.object {
      { "tensors", t.tensors }, { "quantized", t.quantized }, { "weights", t.weights },
      { "bits", t.bits }, { "bytes_before", t.bytes_before }, { "bytes_after", t.bytes_after } } },
    { "files", files }, { "tensors", tensors },
  }, { indent = 2 }) .. "\n"
end

return function(o)
  local made = planning.make(o)
  if o.json then return output.text(document(made, o)) end
  return show(made)
end
