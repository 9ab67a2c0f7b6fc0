-- Every kernel over weights in memory, larger than the caches, beside copies of memory.
local cases = require "bench.cases"
local core = require "rondo.core"
local machine = require "bench.machine"
local measure = require "bench.measure"

local kernels = { title = "weights a second, bytes moved, and the latter against a copy" }

kernels.columns = {
  { title = "case", text = function(r) return r.name end },
  { title = "threads", right = true, text = function(r) return ("%d"):format(r.threads) end },
  { title = "Mweights/s", right = true,
    text = function(r) return ("%.0f"):format(r.weights / r.seconds.median / 1e6) end },
  { title = "GB/s", right = true,
    text = function(r) return ("%.2f"):format(r.bytes / r.seconds.median / 1e9) end },
  { title = "of copy", text = function(r) return measure.show(r.fraction) end },
}

--- settings.few: only the cases that instruction sets are compared with.
function kernels.run(settings)
  local records = {}
  for _, case in ipairs(settings.few and cases.few() or cases.all()) do
    local bytes, weights, run = cases.prepare(case, settings.mib)
    for _, threads in ipairs(machine.thread_counts()) do
      core.threads(threads)
      local seconds, fraction = measure.beside_copy(settings.repeats, threads, bytes, run)
      records[#records + 1] = { name = case.name, threads = threads, weights = weights,
                                bytes = bytes, seconds = seconds, fraction = fraction }
    end
    collectgarbage() -- the outputs
  end
  return records
end

return kernels
