-- The benchmarks' command; bench/run.sh builds and then runs it.
--
--   --repeats N        timings of each kernel (5)
--   --mib N            size of the weights in memory for kernels, in MiB (128, and at least four
--                      times the last cache)
--   --size GB          size of the checkpoint for `process` (2)
--   --sizes GB,GB...   sizes of the checkpoints for `memory` (1,2,4,8)
--   --out FILE         the JSON file to write (bench/out/DATE-TIME.json)
--   --folder DIR       where checkpoints are made and removed again (the build's folder)
--
-- Each section runs in a process of its own (bench/section.lua). The machine may be shared: every
-- kernel is timed between two copies of memory, and its fraction of the copy is what counts.
local child = require "bench.child"
local json = require "rondo.json"
local machine = require "bench.machine"
local targets = require "bench.targets"
local text_table = require "rondo.text_table"

local sections = { "bandwidth", "kernels", "isa", "search", "process",
                   "writers", "memory", "plan", "start" }

local function fail(message)
  io.stderr:write("bench: ", message, "\n")
  os.exit(2)
end

local function sizes_from(text)
  local sizes = {}
  for word in text:gmatch "[^,]+" do
    sizes[#sizes + 1] = tonumber(word) or fail("--sizes: " .. text)
  end
  return sizes
end

local options = {
  ["--repeats"] = { "repeats", math.tointeger }, ["--mib"] = { "mib", math.tointeger },
  ["--size"] = { "size", tonumber }, ["--sizes"] = { "sizes", sizes_from },
  ["--folder"] = { "folder", tostring }, ["--out"] = { "out", tostring },
}

local function parse(words)
  local settings = { repeats = 5, mib = math.max(128, machine.last_cache() * 4 // 2 ^ 20 | 0),
                     size = 2, sizes = { 1, 2, 4, 8 }, folder = os.getenv "RONDO_BUILD",
                     out = os.date "bench/out/%Y%m%d-%H%M%S.json" }
  local chosen, known, i = {}, {}, 1
  for _, name in ipairs(sections) do known[name] = true end
  while words[i] do
    local option = options[words[i]]
    if option then
      local value = words[i + 1]
      settings[option[1]] = value and option[2](value)
        or fail(words[i] .. " wants a value")
      i = i + 1
    elseif known[words[i]] then
      chosen[words[i]] = true
    else
      fail(words[i] .. " is neither an option nor one of " .. table.concat(sections, ", "))
    end
    i = i + 1
  end
  return settings, next(chosen) and chosen or known
end

local function show(title, columns, rows)
  print("\n" .. title)
  for _, line in ipairs(text_table.lines(columns, rows)) do print("  " .. line) end
end

local function write(path, document)
  local file = assert(io.open(path, "w"))
  assert(file:write(json.encode(document, { indent = 1 }), "\n"))
  assert(file:close())
  print("\n" .. path)
end

local settings, chosen = parse(arg)
local facts, results = machine.facts(), {}
show("machine", machine.columns, facts)
for _, name in ipairs(sections) do
  if chosen[name] then
    local section = require("bench.sections." .. name)
    results[name] = child.run(name, settings)
    show(name .. ": " .. section.title, section.columns, results[name])
  end
end
local reached, measured = targets.judge(results), {}
for _, target in ipairs(reached) do
  if target.value then measured[#measured + 1] = target end
end
if #measured > 0 then
  show(("targets: %d of %d were measured"):format(#measured, #reached), targets.columns, measured)
end
write(settings.out, { machine = facts, settings = settings, results = results, targets = reached })
