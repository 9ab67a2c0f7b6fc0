-- What must leave no memory behind, for the leak check of spec/run.sh: tensors, files, outputs and
-- their errors, some of them left open for the end of the state. arg[1]: a folder with a model.
local rondo = require "rondo"
local core = require "rondo.core"

local scratch = arg[1]
local out = scratch .. "/leak-output"

-- Errors of every kind, raised and returned.
assert(not rondo.open(scratch .. "/nowhere"))
assert(not rondo.open(scratch .. "/model/config.json"))
assert(not core.output(scratch .. "/nowhere/out"))
assert(not core.output(scratch .. "/model/out", { inputs = { scratch .. "/model" } }))
assert(not core.output(scratch .. "/model", { overwrite = false }))
assert(not pcall(core.output, out, { inputs = { 1 } }))
assert(not pcall(rondo.zeros, { -1 }))
assert(not pcall(rondo.rtn.quant_weight, rondo.zeros { 2, 2 }, { num_bits = 0 }))
assert(not rondo.json.decode("[1, 2"))

-- Outputs that are published, aborted, dropped and left open.
for _ = 1, 3 do
  local folder = assert(core.output(out, { inputs = { scratch .. "/model" }, overwrite = true }))
  assert(folder:write("config.json", "{}"))
  assert(folder:copy("copy", scratch .. "/model/config.json"))
  local file = assert(folder:file("data", 16))
  assert(not file:write(9, rondo.zeros { 2 }))
  assert(file:write(8, rondo.zeros { 2 }))
  assert(file:write(0, rondo.zeros { 2 }))
  assert(file:close())
  assert(not folder:write("config.json", "again"))
  assert(folder:publish())
end
core.output(out .. "2"):abort()
core.output(out .. "3"):file("data", 5)

-- Views that outlive their file, a coroutine that is never resumed, and a model left open.
local model = assert(rondo.open(scratch .. "/model"))
local view = model["model.layers.0.mlp.down_proj.weight"]
local tensors = assert(rondo.safetensors.load(scratch .. "/model/model.safetensors"))
assert(tensors["lm_head.weight"] == model["lm_head.weight"])
local sum = view:to("f32"):abs():sum()
local waiting = coroutine.wrap(function()
  local left = assert(core.output(out .. "4"))
  local file = left:file("data", 5)
  coroutine.yield(file)
end)
waiting()
assert(sum > 0)
