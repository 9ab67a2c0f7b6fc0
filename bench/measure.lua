-- Timings that hold on a noisy machine: medians, and ratios of what was timed side by side.
local core = require "rondo.core"
local machine = require "bench.machine"
local native = require "bench.native"

local measure = {}

-- Bytes copied beside each timing: a few hundredths of a second, and far more than the caches.
local COPIED = math.max(64 * 2 ^ 20, 2 * machine.last_cache()) // 1 | 0

--- Median and quartiles of a list of numbers.
function measure.summary(values)
  local sorted = table.move(values, 1, #values, 1, {})
  table.sort(sorted)
  local function at(fraction)
    local place = 1 + (#sorted - 1) * fraction
    local below = math.floor(place)
    local above = math.min(below + 1, #sorted)
    return sorted[below] + (sorted[above] - sorted[below]) * (place - below)
  end
  return { median = at(0.5), low = at(0.25), high = at(0.75) }
end

--- Seconds that a function takes.
function measure.seconds(run)
  local begun = core.monotonic()
  run()
  return core.monotonic() - begun
end

--- Bytes moved a second by a copy of memory on that many threads.
function measure.copy(threads)
  return native.bandwidth("copy", COPIED, threads)
end

--- Times run() `repeats` times, between copies of memory on as many threads, after a first time
--- that does not count.
-- @param bytes  what a run reads and writes
-- @return summary of the seconds, and of the bytes per second as a fraction of the copy's
function measure.beside_copy(repeats, threads, bytes, run)
  run()
  local seconds, fractions = {}, {}
  local before = measure.copy(threads)
  for i = 1, repeats do
    seconds[i] = measure.seconds(run)
    local after = measure.copy(threads)
    fractions[i] = bytes / seconds[i] / ((before + after) / 2)
    before = after
  end
  return measure.summary(seconds), measure.summary(fractions)
end

--- "0.61 (0.58-0.63)": the median, and between which values half of all lie.
function measure.show(summary, format)
  format = format or "%.2f"
  return (format .. " (" .. format .. "-" .. format .. ")"):format(summary.median, summary.low,
                                                                   summary.high)
end

return measure
