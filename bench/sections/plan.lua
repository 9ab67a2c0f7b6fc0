-- Opening and planning a checkpoint of 100,000 tensors, each time in a new process.
local checkpoints = require "bench.checkpoints"
local measure = require "bench.measure"
local native = require "bench.native"
local scratch = require "bench.scratch"

local plan = { title = "seconds for a checkpoint of 100,000 tensors" }

plan.columns = {
  { title = "what", text = function(r) return r.name end },
  { title = "seconds", text = function(r) return measure.show(r.seconds, "%.3f") end },
}

local script = [[
  local rondo = require "rondo"
  local monotonic = require("rondo.core").monotonic
  local begun = monotonic()
  local model = assert(rondo.open(arg[1]))
  local opened = monotonic()
  assert(rondo.plan(model))
  print(opened - begun, monotonic() - opened)
]]

local function open_and_plan(folder, path)
  local file = assert(io.open(folder .. "/plan.lua", "w"))
  assert(file:write(script))
  assert(file:close())
  local pipe = assert(io.popen(("lua5.4 '%s/plan.lua' '%s'"):format(folder, path)))
  local opening, planning = pipe:read("n", "n")
  assert(pipe:close())
  return opening, planning
end

function plan.run(settings)
  return scratch.with(settings.folder, function(folder)
    local path, opening, planning, command = folder .. "/many.safetensors", {}, {}, {}
    local rondo = os.getenv "RONDO_BUILD" .. "/rondo"
    checkpoints.many(path, 100000)
    for i = 1, settings.repeats do
      opening[i], planning[i] = open_and_plan(folder, path)
      command[i] = native.spawn({ rondo, "plan", path, "--json" }).seconds
    end
    return { { name = "rondo.open", seconds = measure.summary(opening) },
             { name = "rondo.plan", seconds = measure.summary(planning) },
             { name = "rondo plan --json, the whole process", seconds = measure.summary(command) } }
  end)
end

return plan
