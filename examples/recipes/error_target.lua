-- As few bits for every layer as keep its relative squared error below a target, measured layer by
-- layer. Layers that engines fuse get one scheme, the one that the most delicate of them needs.
--
--   rondo quantize MODEL OUT --recipe examples/recipes/error_target.lua --format packed
--   ... --set error=0.005
local rondo = require "rondo"
local w4 = require "w4"

local ladder = {
  rondo.int2 { group_size = 32, symmetric = false }, rondo.int3 { group_size = 64 },
  rondo.int3 { group_size = 32, symmetric = false }, rondo.int4 { group_size = 128 },
  rondo.int4 { group_size = 32, symmetric = false }, rondo.int6 { group_size = 128 }, rondo.int8,
}

-- What the format has no place for loses all.
local function worst_loss(plan, unit, scheme)
  local worst = 0
  for _, entry in ipairs(unit) do
    local fit = plan.fit(entry, scheme)
    worst = math.max(worst, fit and entry.layer:loss(fit) or math.huge)
  end
  return worst
end

local function first_good(plan, unit, target)
  for _, scheme in ipairs(ladder) do
    if worst_loss(plan, unit, scheme) <= target then return scheme end
  end
  return rondo.keep
end

return rondo.recipe {
  name = "error-target",
  options = { error = { kind = "number", above = 0, default = 0.01 } },
  rules = function(o)
    return {
      w4,
      policy = function(plan)
        for _, unit in ipairs(plan.units) do
          local scheme = first_good(plan, unit, o.error)
          for _, entry in ipairs(unit) do entry.scheme, entry.text = scheme, "error target" end
        end
      end,
    }
  end,
}
