-- The command's private memory against the size of the checkpoint, whose weights are all 0 (they
-- take no space on disk, and as much in memory as any).
local checkpoints = require "bench.checkpoints"
local native = require "bench.native"
local scratch = require "bench.scratch"

local memory = { title = "peak memory of rondo quantize --format packed" }

local INTERVAL = 0.002 -- seconds between looks at the process

memory.columns = {
  { title = "checkpoint GB", right = true, text = function(r) return ("%g"):format(r.size) end },
  { title = "private MiB", right = true,
    text = function(r) return ("%.1f"):format(r.anonymous / 2 ^ 20) end },
  { title = "resident MiB, mapped files included", right = true,
    text = function(r) return ("%.1f"):format(r.resident / 2 ^ 20) end },
}

function memory.run(settings)
  return scratch.with(settings.folder, function(folder)
    local records, model, out = {}, folder .. "/model", folder .. "/out"
    for i, size in ipairs(settings.sizes) do
      checkpoints.model(model, size * 1e9, true)
      local used = native.spawn({ os.getenv "RONDO_BUILD" .. "/rondo", "quantize", model, out,
                                  "--format", "packed" }, INTERVAL)
      records[i] = { size = size, anonymous = used.anonymous, resident = used.resident }
      scratch.remove(out)
      scratch.remove(model)
    end
    return records
  end)
end

return memory
