-- One section of the benchmarks: lua5.4 bench/section.lua NAME SETTINGS FILE; see bench/child.lua.
local json = require "rondo.json"

local name, settings, path = table.unpack(arg)
local records = require("bench.sections." .. name).run(assert(json.decode(settings)))
local file = assert(io.open(path, "w"))
assert(file:write(json.encode(json.array(records))))
assert(file:close())
