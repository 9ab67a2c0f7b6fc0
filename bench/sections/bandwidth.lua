-- What the machine's memory can do: a copy counts the bytes read plus those written.
local machine = require "bench.machine"
local measure = require "bench.measure"
local native = require "bench.native"

local bandwidth = { title = "GB/s of memory, bytes read plus written" }

bandwidth.columns = {
  { title = "what", text = function(r) return r.kind end },
  { title = "threads", right = true, text = function(r) return ("%d"):format(r.threads) end },
  { title = "GB/s", text = function(r) return measure.show(r.gigabytes, "%.1f") end },
}

function bandwidth.run(settings)
  local records = {}
  for _, kind in ipairs { "copy", "read" } do
    for _, threads in ipairs(machine.thread_counts()) do
      local values = {}
      for i = 1, 4 * settings.repeats do
        values[i] = native.bandwidth(kind, settings.mib * 1024 * 1024, threads) / 1e9
      end
      records[#records + 1] = { kind = kind, threads = threads,
                                gigabytes = measure.summary(values) }
    end
  end
  return records
end

return bandwidth
