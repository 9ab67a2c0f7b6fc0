-- cli.plan: `rondo plan MODEL`: what every tensor would become, and the exact size of the output.

local document = require "rondo.cli.document"
local json = require "rondo.json"
local output = require "rondo.cli.output"
local plan = require "rondo.plan"
local planning = require "rondo.cli.planning"
local text_table = require "rondo.text_table"

local function shape_text(shape)
  return #shape == 0 and "scalar" or table.concat(shape, "x")
end

-- Of a row but for its name: the same for many tensors.
local columns = {
  { title = "shape", text = function(m) return shape_text(m.shape) end },
  { title = "dtype", text = function(m) return m.dtype end },
  { title = "becomes", text = function(m) return m.scheme or m.action end },
  { title = "bits", right = true, text = function(m) return ("%.4g"):format(m.bits) end },
  { title = "bytes", right = true, text = function(m) return ("%d"):format(m.bytes_after) end },
  { title = "rule", text = function(m) return m.fallback and m.fallback.rule or m.rule end },
}

local file_columns = {
  { title = "file", text = function(f) return f.name end },
  { title = "bytes", right = true, text = function(f) return ("%d"):format(f.size) end },
}

-- The different measures of the jobs (see plan.measure), and for each job the place of its own.
local function distinct_measures(made)
  local list, place_of, places = {}, {}, {}
  for i = 1, #made.names do
    local m = plan.measure(made, i)
    if not place_of[m] then
      list[#list + 1], place_of[m] = m, #list + 1
    end
    places[i] = place_of[m]
  end
  return list, places
end

local function longest(names)
  local most = #"tensor"
  for _, name in ipairs(names) do
    local _, width = text_table.cell(name)
    if width > most then most = width end
  end
  return most
end

-- A line for each tensor, under a heading. What stands behind the name is formatted once for all
-- tensors that come to the same.
local function write_tensors(made, emit)
  local measures, places = distinct_measures(made)
  local endings, most, blanks = text_table.lines(columns, measures), longest(made.names), {}
  for n = 0, most do blanks[n] = (" "):rep(n + 2) end
  emit(output.heading("tensor" .. blanks[most - #"tensor"] .. endings[1]))
  for i, name in ipairs(made.names) do
    local text, width = text_table.cell(name)
    emit(text .. blanks[most - width] .. endings[places[i] + 1])
  end
end

local function show(made)
  output.stream(function(emit) write_tensors(made, emit) end)
  output.lines { "" }
  output.table(file_columns, made.files)
  output.lines { "", table.unpack(plan.summary(made)) }
  if made.options.format == "fake" and made.totals.quantized > 0 then
    output.lines { output.fake_note }
  end
  return true
end

local function write_json(made, o)
  return document.write {
    { "schema", 1 }, { "rondo", require("rondo.core").version }, { "model", o.model },
    { "totals", document.object(made.totals, { "tensors", "quantized", "weights", "bits",
                                               "fallbacks", "dequantized", "bytes_before",
                                               "bytes_after" }) },
    { "notes", json.array(made.notes) },
    { "files", document.records(made.files, { "name", "size" }) },
    { "tensors", document.named_records(made.names, function(i) return plan.measure(made, i) end,
        { "shape", "dtype", "action", "rule", "scheme", "bits", "bytes_before", "bytes_after" },
        { scheme = true }) },
  }
end

return function(o)
  local made = planning.make(o)
  if o.json then return write_json(made, o) end
  return show(made)
end
