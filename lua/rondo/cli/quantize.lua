-- cli.quantize: `rondo quantize MODEL OUT`: the plan carried out, the report shown.

local output = require "rondo.cli.output"
local planning = require "rondo.cli.planning"
local progress = require "rondo.progress"
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
  local t, lines = report.totals, {}
  local written = ("%s written in %s"):format(text_table.printable(o.out),
                                              sizes.duration(seconds))
  if t.layers == 0 then
    return { ("nothing quantized: %d tensors copied"):format(t.tensors), written }
  end
  lines[1] = ("%d of %d tensors quantized: relative error %.4g, SNR %s dB, MSE %.4g"):format(
    t.layers, t.tensors, t.relative_error, decibels(t.snr_db), t.mse)
  lines[2] = ("%s -> %s (%.2fx), %.2f bits per quantized weight"):format(
    sizes.show(t.bytes_before), sizes.show(t.bytes_after),
    t.bytes_after > 0 and t.bytes_before / t.bytes_after or 1, t.bits_per_weight)
  if #report.fallbacks > 0 then
    lines[3] = ("fallbacks: %s has no place for %s as their rules want them; the report says why")
      :format(report.options.format, text_table.count(#report.fallbacks, "tensor"))
  end
  if report.options.format == "fake" then
    lines[3] = output.fake_note
  end
  if #report.left_files > 0 then
    local left = table.concat(report.left_files, ", ")
    lines[#lines + 1] = "not copied: " .. text_table.printable(left)
  end
  lines[#lines + 1] = written
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
