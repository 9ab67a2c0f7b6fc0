-- Compares a clip search of one's own with the built-in grid on every linear layer of a model:
--
--   rondo run examples/compare_strategies.lua MODEL STRATEGY.lua
--
-- Errors are sums of squared differences over sums of squares. Fails where the grid is better.

local rondo = require "rondo"

local path, file = ...
if not path or not file then
  io.stderr:write("usage: rondo run examples/compare_strategies.lua MODEL STRATEGY.lua\n")
  os.exit(2)
end
local model, own = assert(rondo.open(path)), dofile(file)
local scheme = rondo.int4 { group_size = 32 }
local worse = 0

print(("%-40s %10s %10s %10s"):format("layer", "no clip", "grid", own.name))
for name, layer in model:layers() do
  local weight = layer.weight
  local none, grid = scheme:loss(weight), scheme { clip = "grid" }:loss(weight)
  local found = scheme { clip = own }:loss(weight)
  print(("%-40s %10.6f %10.6f %10.6f"):format(name, none, grid, found))
  if found > grid then worse = worse + 1 end
end
assert(worse == 0, worse .. " layers are better with the grid")
