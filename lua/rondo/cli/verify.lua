-- cli.verify: `rondo verify SOURCE QUANTIZED`: whether a quantized checkpoint is complete and what
-- rounding its source gives.

local document = require "rondo.cli.document"
local output = require "rondo.cli.output"
local planning = require "rondo.cli.planning"
local progress = require "rondo.progress"
local sizes = require "rondo.sizes"
local text_table = require "rondo.text_table"

local LISTED = 20 -- problems; --json has all

local function number(value)
  return value and ("%.4g"):format(value) or "-"
end

local columns = {
  { title = "layer", text = function(l) return l.name == "" and "(weight)" or l.name end },
  { title = "shape", text = function(l) return table.concat(l.shape, "x") end },
  { title = "scheme", text = function(l) return l.scheme end },
  { title = "rel. error", right = true, text = function(l) return number(l.relative_error) end },
  { title = "plain", right = true, text = function(l) return number(l.plain_error) end },
}

local function problem_text(p)
  return ("  %s%s"):format(p.name ~= "" and p.name .. ": " or "", p.problem)
end

local function summary(result)
  local c, t = result.coverage, result.totals
  local lines = { ("%d of %s quantized: %.2f%% of %d weights"):format(c.quantized_layers,
    text_table.count(c.layers, "linear layer"), 100 * c.share, c.weights) }
  if t.layers > 0 then
    lines[2] = ("%s: relative error %.4g, MSE %.4g"):format(
      text_table.count(t.layers, "quantized layer"), t.relative_error, t.mse)
  end
  if result.good then
    lines[#lines + 1] = "all tensors are there and hold what they should"
    return lines
  end
  lines[#lines + 1] = text_table.count(#result.problems, "problem") .. ":"
  for i = 1, math.min(#result.problems, LISTED) do
    lines[#lines + 1] = text_table.printable(problem_text(result.problems[i]))
  end
  if #result.problems > LISTED then
    lines[#lines + 1] = ("  and %d more"):format(#result.problems - LISTED)
  end
  return lines
end

local function show(result)
  if #result.layers > 0 then
    output.table(columns, result.layers)
    output.lines { "" }
  end
  return output.lines(summary(result))
end

local nullable = { snr_db = true, plain_error = true }
local error_names = { "layers", "weights", "mse", "relative_error", "snr_db" }

local function write_json(result, o)
  return document.write {
    { "schema", 1 }, { "rondo", require("rondo.core").version }, { "source", o.source },
    { "quantized", o.quantized }, { "good", result.good },
    { "coverage", document.object(result.coverage, { "layers", "weights", "quantized_layers",
                                                     "quantized_weights", "share" }) },
    { "totals", document.object(result.totals, error_names, nullable) },
    { "problems", document.records(result.problems, { "what", "name", "problem" }) },
    { "layers", document.records(result.layers, { "name", "kind", "shape", "scheme", "weights",
      "mse", "relative_error", "snr_db", "plain_error" }, nullable) },
  }
end

return function(o)
  local a, b = planning.open(o.source), planning.open(o.quantized)
  local line <close> = output.progress(progress.new("verifying", { show = sizes.count }))
  local result, message = require("rondo.verify").run(a, b, function(done, total)
    line:update(done, total)
  end)
  line:clear()
  if not result then return nil, message end
  if o.json then write_json(result, o) else show(result) end
  if result.good then return true end
  return nil, ("%s: %s"):format(o.quantized, text_table.count(#result.problems, "problem"))
end
