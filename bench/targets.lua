-- What rondo wants to reach, judged by what the sections have measured.
local targets = {}

targets.columns = {
  { title = "target", text = function(r) return r.name end },
  { title = "wanted", text = function(r) return ("%s %g"):format(r.bound, r.wanted) end },
  { title = "measured", right = true, text = function(r) return ("%.3g"):format(r.value) end },
  { title = "", text = function(r) return r.met and "met" or "NOT MET" end },
}

-- The record of a section whose fields have the wanted values; nil when it was not measured.
local function find(records, wanted)
  for _, record in ipairs(records or {}) do
    local same = true
    for name, value in pairs(wanted) do same = same and record[name] == value end
    if same then return record end
  end
end

-- The most threads that kernels were measured with.
local function all_threads(results)
  local most = 1
  for _, record in ipairs(results.kernels or {}) do most = math.max(most, record.threads) end
  return most
end

local function fraction(results, name, threads)
  local record = find(results.kernels, { name = name, threads = threads })
  return record and record.fraction.median
end

-- Weights a second of one case against another's, each beside its own copies.
local function relative(results, name, other)
  local a = find(results.kernels, { name = name, threads = 1 })
  local b = find(results.kernels, { name = other, threads = 1 })
  if not a or not b then return nil end
  local function speed(r) return r.fraction.median * r.weights / r.bytes end
  return speed(a) / speed(b)
end

local function passes(results, isa)
  local worst
  for _, record in ipairs(results.search or {}) do
    local counts = record.isa == isa and record.threads == 1 and record.name:find "^int4"
      and not record.name:find "dim0"
    if counts then worst = math.max(worst or 0, record.passes.median) end
  end
  return worst
end

local function median(records, name, field)
  local record = find(records, { name = name })
  return record and record[field].median
end

--- Judges the results, a table from a section's name to its records.
-- @return a list of { name, bound ("at least" or "at most"), wanted, value, met }; value is nil
--         where nothing was measured
function targets.judge(results)
  local list, all = {}, all_threads(results)
  local function add(name, bound, wanted, value)
    local met
    if value and bound == "at least" then met = value >= wanted end
    if value and bound == "at most" then met = value <= wanted end
    list[#list + 1] = { name = name, bound = bound, wanted = wanted, value = value, met = met }
  end
  for _, scheme in ipairs { "asym", "sym" } do
    for _, group in ipairs { 128, 32 } do
      local name = ("int4 %s g%d bf16 packed"):format(scheme, group)
      local half = group == 32 and 0.5 or 1
      add(name .. ", of copy, 1 thread", "at least", 0.6 * half, fraction(results, name, 1))
      add(name .. ", of copy, all threads", "at least", 0.8 * half,
          all > 1 and fraction(results, name, all) or nil)
    end
  end
  add("nf4 g128 against int4 sym g128", "at least", 0.5,
      relative(results, "nf4 g128 bf16 packed", "int4 sym g128 bf16 packed"))
  for _, scheme in ipairs { "asym", "sym" } do
    local name = ("int4 %s g128 bf16 packed"):format(scheme)
    add(("group_dim 0 against 1, int4 %s g128"):format(scheme), "at least", 0.5,
        relative(results, name .. " dim0", name))
  end
  add("search, passes, slowest int4 case, v4", "at most", 12, passes(results, "v4"))
  add("search, passes, slowest int4 case, v3", "at most", 20, passes(results, "v3"))
  for _, name in ipairs { "int4 asym g32 packed", "int4 sym g128 packed", "int4 asym g32 fake" } do
    add("rondo quantize, times cp, " .. name, "at most", 1.5,
        median(results.process, name, "ratio"))
  end
  local searched = "int4 asym g32 packed, search"
  add("rondo quantize, times cp, " .. searched, "at most", 3,
      median(results.process, searched, "ratio"))
  for _, record in ipairs(results.writers or {}) do
    if not record.name:find "^packed" then
      add("rondo quantize, times packed, " .. record.name, "at most", 2, record.ratio.median)
    end
  end
  add("rondo --version, ms", "at most", 10,
      median(results.start, "rondo --version", "milliseconds"))
  add("require 'rondo', ms", "at most", 5,
      median(results.start, "require 'rondo', without lua5.4", "milliseconds"))
  add("opening 100,000 tensors, s", "at most", 0.25, median(results.plan, "rondo.open", "seconds"))
  return list
end

return targets
