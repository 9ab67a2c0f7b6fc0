-- The whole command against `cp` and `sync -f` of the same checkpoint, which is in the page cache.
local checkpoints = require "bench.checkpoints"
local measure = require "bench.measure"
local native = require "bench.native"
local scratch = require "bench.scratch"

local process = { title = "rondo quantize against cp and sync" }

local ROUNDS = 3

process.columns = {
  { title = "command", text = function(r) return r.name end },
  { title = "seconds", text = function(r) return measure.show(r.seconds) end },
  { title = "user", right = true, text = function(r) return ("%.2f"):format(r.user.median) end },
  { title = "system", right = true,
    text = function(r) return ("%.2f"):format(r.system.median) end },
  { title = "times cp", text = function(r) return measure.show(r.ratio) end },
}

local commands = {
  { name = "cp, sync -f" },
  { name = "int4 asym g32 packed", "--format", "packed" },
  { name = "int4 sym g128 packed", "--format", "packed", "--scheme", "sym", "--group-size", "128" },
  { name = "int4 asym g32 fake" },
  { name = "int4 asym g32 packed, search", "--format", "packed", "--mse-search" },
}

local function words_of(command, model, out)
  if command == commands[1] then
    return { "sh", "-c", 'cp -r --reflink=never "$0" "$1" && sync -f "$1"', model, out }
  end
  return { os.getenv "RONDO_BUILD" .. "/rondo", "quantize", model, out, table.unpack(command) }
end

-- All commands once; adds to their samples.
local function round(folder, samples)
  local model, out, copying = folder .. "/model", folder .. "/out", nil
  for i, command in ipairs(commands) do
    native.spawn { "sh", "-c", 'cat "$0"/*', model } -- into the page cache
    local used = native.spawn(words_of(command, model, out))
    scratch.remove(out)
    copying = copying or used.seconds
    local s = samples[i]
    s.seconds[#s.seconds + 1], s.ratio[#s.ratio + 1] = used.seconds, used.seconds / copying
    s.user[#s.user + 1], s.system[#s.system + 1] = used.user, used.system
  end
end

function process.run(settings)
  local samples = {}
  for i = 1, #commands do samples[i] = { seconds = {}, ratio = {}, user = {}, system = {} } end
  return scratch.with(settings.folder, function(folder)
    checkpoints.model(folder .. "/model", settings.size * 1e9)
    os.execute(("sync -f '%s'"):format(folder))
    for _ = 1, ROUNDS do round(folder, samples) end
    for i, record in ipairs(samples) do
      for name, values in pairs(record) do record[name] = measure.summary(values) end
      record.name = commands[i].name
    end
    return samples
  end)
end

return process
