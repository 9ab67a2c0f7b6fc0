-- The search over the reference's 40 clip ratios, counted in plain passes (packed output) over the
-- same weights, with every table of kernels that runs here.
local cases = require "bench.cases"
local child = require "bench.child"
local core = require "rondo.core"
local machine = require "bench.machine"
local measure = require "bench.measure"

local search = { title = "40 clip ratios, in plain passes" }

search.columns = {
  { title = "case", text = function(r) return r.name end },
  { title = "threads", right = true, text = function(r) return ("%d"):format(r.threads) end },
  { title = "isa", text = function(r) return r.isa end },
  { title = "Mweights/s", right = true,
    text = function(r) return ("%.0f"):format(r.weights / r.seconds.median / 1e6) end },
  { title = "passes", text = function(r) return measure.show(r.passes, "%.1f") end },
}

local fields = {
  { group = 128 }, { group = 128, symmetric = true }, { group = 32 },
  { group = 32, symmetric = true }, {}, { group = 128, data_type = "nf4" },
  { group = 128, group_dim = 0 },
}

local function with(case, out)
  local changed = { out = out }
  for name, value in pairs(case) do changed[name] = value end
  return cases.make(changed)
end

local function measured(case, threads, settings)
  local _, _, plain = cases.prepare(with(case, "packed"), settings.mib)
  local whole = with(case, "search")
  local _, weights, run = cases.prepare(whole, settings.mib)
  core.threads(threads)
  plain()
  local seconds, passes, before = {}, {}, measure.seconds(plain)
  for i = 1, settings.repeats do
    seconds[i] = measure.seconds(run)
    local after = measure.seconds(plain)
    passes[i] = seconds[i] / ((before + after) / 2)
    before = after
  end
  return { name = whole.name, threads = threads, isa = core.isa(), weights = weights,
           seconds = measure.summary(seconds), passes = measure.summary(passes) }
end

--- settings.here: with the table of this process alone, rather than with each in turn.
function search.run(settings)
  local records = {}
  if settings.here then
    for _, case in ipairs(fields) do
      for _, threads in ipairs(machine.thread_counts()) do
        records[#records + 1] = measured(case, threads, settings)
        collectgarbage()
      end
    end
    return records
  end
  local _, tables = core.isa()
  for _, name in ipairs(tables) do
    local here = { here = true, repeats = math.min(settings.repeats, 3),
                   mib = math.min(settings.mib, 64) }
    for _, record in ipairs(child.run("search", here, name)) do records[#records + 1] = record end
  end
  return records
end

return search
