-- Each table of kernels that runs here against the baseline: by turns, in processes of their own,
-- beside copies of memory.
local child = require "bench.child"
local core = require "rondo.core"
local measure = require "bench.measure"

local isa = { title = "instruction sets against the baseline" }

local ROUNDS = 3

isa.columns = {
  { title = "case", text = function(r) return r.name end },
  { title = "threads", right = true, text = function(r) return ("%d"):format(r.threads) end },
  { title = "isa", text = function(r) return r.isa end },
  { title = "of copy", text = function(r) return measure.show(r.fraction) end },
  { title = "times baseline", text = function(r) return measure.show(r.speedup) end },
}

local function rounds(settings, tables)
  local all, few = {}, { few = true, repeats = settings.repeats, mib = settings.mib }
  for round = 1, ROUNDS do
    all[round] = {}
    for _, name in ipairs(tables) do all[round][name] = child.run("kernels", few, name) end
  end
  return all
end

function isa.run(settings)
  local _, tables = core.isa()
  local all, records, base = rounds(settings, tables), {}, tables[1]
  for i, case in ipairs(all[1][base]) do
    for _, name in ipairs(tables) do
      local fractions, speedups = {}, {}
      for round = 1, ROUNDS do
        fractions[round] = all[round][name][i].fraction.median
        speedups[round] = fractions[round] / all[round][base][i].fraction.median
      end
      records[#records + 1] = { name = case.name, threads = case.threads, isa = name,
                                fraction = measure.summary(fractions),
                                speedup = measure.summary(speedups) }
    end
  end
  return records
end

return isa
