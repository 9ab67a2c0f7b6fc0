-- cli.plan: `rondo plan MODEL`: what every tensor would become, and the exact size of the output.

local document = require "rondo.cli.document"
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

local function write_json(made, o)
  return document.write {
    { "schema", 1 }, { "rondo", require("rondo.core").version }, { "model", o.model },
    { "totals", document.object(made.totals, { "tensors", "quantized", "weights", "bits",
                                               "bytes_before", "bytes_after" }) },
    { "files", document.records(made.files, { "name", "size" }) },
    { "tensors", document.records(made.rows, { "name", "shape", "dtype", "action", "rule", "scheme",
                                               "bits", "bytes_before", "bytes_after" },
                                  { scheme = true }) },
  }
end

return function(o)
  local made = planning.make(o)
  if o.json then return write_json(made, o) end
  return show(made)
end
