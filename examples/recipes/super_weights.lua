-- 4 bits, but 8 for layers with super weights: single weights, in the first down projections as a
-- rule, that are many times larger than the others and that a model cannot do without. A group
-- that holds one has no precision left for the rest. This recipe looks at the weights.
--
--   rondo quantize MODEL OUT --recipe examples/recipes/super_weights.lua --format packed
--   ... --set times=40
local rondo = require "rondo"
local w4 = require "w4"

return rondo.recipe {
  name = "super-weights",
  options = { times = { kind = "number", min = 1, default = 60 } }, -- standard deviations
  rules = function(o)
    return {
      w4,
      revise = function(_, layer)
        if layer.part ~= "down" then return nil end
        local stats = layer:stats()
        return stats.absmax > o.times * stats.std and rondo.int8 or nil
      end,
    }
  end,
}
