-- Reads a view of a mapped file while the Lua state closes, after the mapping has been finalized:
-- prints the error that this has to be.

local core = require "rondo.core"

local box = {}
Keep = setmetatable({}, { __gc = function() -- luacheck: ignore
  print(pcall(function() return box.view:sum() end))
  print(box.view == box.other)
end })
local cp = assert(core.checkpoint(arg[1]))
box.view = assert(cp:tensor "big")["1, 1:3"]
box.other = assert(cp:tensor "big")["1, 1:3"]
assert(box.view:sum() == 18 and box.view == box.other)
