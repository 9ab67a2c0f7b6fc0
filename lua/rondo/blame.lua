-- blame: calls functions that users wrote, so that what they raise says whose fault it was.

local witness = require "rondo.witness"

-- What a host or the machine says, whatever function it meets.
local limits = { interrupted = true, ["not enough memory"] = true }

--- Calls f(...) and returns what it returns. An error in text gets `where` in front; others, and
--- those of a limit, go on as they are.
-- @param where  "clip function at my.lua:3: model.layers.0.mlp.up_proj.weight"
return function(where, f, ...)
  local results = table.pack(xpcall(f, witness, ...))
  if results[1] then return table.unpack(results, 2, results.n) end
  local problem = results[2]
  if type(problem) == "string" and not limits[problem] then
    problem = ("%s: %s"):format(where, problem)
  end
  error(problem, 0)
end
