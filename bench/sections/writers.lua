-- The whole command with each format against the packed one, of the same checkpoint, which is in
-- the page cache.
local checkpoints = require "bench.checkpoints"
local measure = require "bench.measure"
local native = require "bench.native"
local scratch = require "bench.scratch"

local writers = { title = "rondo quantize by format, against --format packed" }

local ROUNDS = 3

writers.columns = {
  { title = "format", text = function(r) return r.name end },
  { title = "seconds", text = function(r) return measure.show(r.seconds) end },
  { title = "processor", right = true,
    text = function(r) return ("%.2f"):format(r.processor.median) end },
  { title = "times packed", text = function(r) return measure.show(r.ratio) end },
}

-- Double quantization has no option of the command's.
local DOUBLE = [[
local rondo = require "rondo"
local nf4 = rondo.nf4 { group_size = 64, double = { map = "dynamic" } }
return rondo.recipe { { "*_proj.weight", nf4 }, otherwise = rondo.keep }
]]

local function int(bits, group, scheme)
  return { "--bits", bits, "--group-size", group, "--scheme", scheme }
end

-- name, format, further options; the first is what the others are compared with.
local cases = {
  { "packed int4 asym g128", "packed", int("4", "128", "asym") },
  { "packed int4 sym g128", "packed", int("4", "128", "sym") },
  { "compressed-tensors int4 sym g128", "compressed-tensors", int("4", "128", "sym") },
  { "compressed-tensors int4 asym g128", "compressed-tensors", int("4", "128", "asym") },
  { "compressed-tensors int8 row", "compressed-tensors", int("8", "row", "sym") },
  { "compressed-tensors fp8", "compressed-tensors", { "--dtype", "fp8" } },
  { "compressed-tensors nvfp4", "compressed-tensors", { "--dtype", "nvfp4" } },
  { "compressed-tensors mxfp4", "compressed-tensors", { "--dtype", "mxfp4" } },
  { "gptq int4 sym g128", "gptq", int("4", "128", "sym") },
  { "gptq int4 asym g128", "gptq", int("4", "128", "asym") },
  { "awq int4 asym g128", "awq", int("4", "128", "asym") },
  { "mlx int4 g64", "mlx", int("4", "64", "asym") },
  { "mlx int3 g64", "mlx", int("3", "64", "asym") },
  { "bitsandbytes nf4 g64", "bitsandbytes", { "--dtype", "nf4", "--group-size", "64" } },
  { "bitsandbytes nf4 g64 double", "bitsandbytes", { "--recipe", "RECIPE" } },
  { "bitsandbytes int8", "bitsandbytes", int("8", "row", "sym") },
  { "fp8", "fp8", { "--dtype", "fp8" } },
  { "modelopt nvfp4", "modelopt", { "--dtype", "nvfp4" } },
}

local function words_of(case, folder, out)
  local words = { os.getenv "RONDO_BUILD" .. "/rondo", "quantize", folder .. "/model", out,
                  "--format", case[2] }
  for _, word in ipairs(case[3]) do
    words[#words + 1] = word == "RECIPE" and folder .. "/double.lua" or word
  end
  return words
end

-- All cases once; adds to their samples.
local function round(folder, samples)
  local out, packed = folder .. "/out", nil
  native.spawn { "sh", "-c", 'cat "$0"/*', folder .. "/model" } -- into the page cache
  for i, case in ipairs(cases) do
    local used = native.spawn(words_of(case, folder, out))
    scratch.remove(out)
    packed = packed or used.seconds
    local s = samples[i]
    s.seconds[#s.seconds + 1], s.ratio[#s.ratio + 1] = used.seconds, used.seconds / packed
    s.processor[#s.processor + 1] = used.user + used.system
  end
end

function writers.run(settings)
  local samples = {}
  for i = 1, #cases do samples[i] = { seconds = {}, ratio = {}, processor = {} } end
  return scratch.with(settings.folder, function(folder)
    checkpoints.model(folder .. "/model", settings.size * 0.5e9)
    local file <close> = assert(io.open(folder .. "/double.lua", "w"))
    assert(file:write(DOUBLE))
    file:flush()
    os.execute(("sync -f '%s'"):format(folder))
    for _ = 1, ROUNDS do round(folder, samples) end
    for i, record in ipairs(samples) do
      for name, values in pairs(record) do record[name] = measure.summary(values) end
      record.name = cases[i][1]
    end
    return samples
  end)
end

return writers
