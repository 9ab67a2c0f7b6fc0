-- cli.quantize: `rondo quantize MODEL OUT`: the plan carried out, the report shown.

local output = require "rondo.cli.output"
local planning = require "rondo.cli.planning"
local progress = require "rondo.progress"
local report_of = require "rondo.report"
local sizes = require "rondo.sizes"
local text_table = require "rondo.text_table"

local WORST = 10 -- layers shown

local function decibels(value)
  return type(value) == "number" and ("%.2f"):format(value) or "inf"
end

local columns = {
  { title = "layer", text = function(l) return l.name == "" and "(weight)" or l.name end },
  { title = "scheme", text = function(l) return l.scheme end },
  { title = "clip", right = true, text = function(l)
    return l.clip_ratio and ("%.3f"):format(l.clip_ratio) or "by group"
  end },
  { title = "MSE", right = true, text = function(l) return ("%.4g"):format(l.mse) end },
  { title = "rel. error", right = true,
    text = function(l) return ("%.4g"):format(l.relative_error) end },
  { title = "SNR dB", right = true, text = function(l) return decibels(l.snr_db) end },
  { title = "before", right = true, text = function(l) return sizes.show(l.bytes_before) end },
  { title = "after", right = true, text = function(l) return sizes.show(l.bytes_after) end },
}

-- The layers with the largest relative errors, the largest first, equal ones in their order.
local function worst_of(layers)
  local worst = {}
  for _, layer in ipairs(layers) do
    local place = #worst + 1
    while place > 1 and worst[place - 1].relative_error < layer.relative_error do
      place = place - 1
    end
    if place <= WORST then table.insert(worst, place, layer) end
    worst[WORST + 1] = nil
  end
  return worst
end

local function summary(report, o, seconds)
  local lines = report_of.summary(report)
  if report.totals.layers > 0 and report.options.format == "fake" then
    lines[#lines + 1] = output.fake_note
  end
  if #report.left_files > 0 then
    local left = table.concat(report.left_files, ", ")
    lines[#lines + 1] = "not copied: " .. text_table.printable(left)
  end
  lines[#lines + 1] = ("%s written in %s"):format(text_table.printable(o.out),
                                                  sizes.duration(seconds))
  return lines
end

local function show(report, o, seconds)
  local worst = worst_of(report.layers)
  if #worst > 0 then
    if #report.layers > WORST then
      output.lines { ("The %d of %d layers with the largest relative error:"):format(
        WORST, #report.layers) }
    end
    output.table(columns, worst)
    output.lines { "" }
  end
  output.lines(summary(report, o, seconds))
end

-- The report's file, byte for byte.
local function report_text(o)
  local path = o.out:gsub("/*$", "") .. "/rondo-report.json"
  local file, why = io.open(path, "rb")
  local text = file and file:read "a"
  if file then file:close() end
  if not text then output.failure(("%s: %s"):format(path, why or "cannot be read")) end
  return text
end

return function(o)
  local core = require "rondo.core"
  local started = core.monotonic()
  local made = planning.make(o)
  local line <close> = output.progress(progress.new "quantizing")
  local execute = require("rondo.quantize").execute
  local report, message, code = planning.guarded(o, execute, made, o.out, o.overwrite or false,
    function(done, total, name) line:update(done, total, name) end)
  line:clear()
  if not report then
    local replaceable = code == "exists" and not o.overwrite
      and not message:find("is not a folder", 1, true)
    local hint = replaceable and " (--overwrite replaces it)" or ""
    return nil, message .. hint
  end
  if o.json then return output.text(report_text(o)) end
  show(report, o, core.monotonic() - started)
  return true
end
