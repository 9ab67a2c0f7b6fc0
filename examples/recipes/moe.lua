-- For mixtures of experts. Experts are nearly all of the weights and each sees few tokens: 4 bits,
-- or fewer (--set experts=3). What every token passes through gets 8; the routers, where a small
-- error picks another expert, stay.
--
--   rondo quantize MODEL OUT --recipe examples/recipes/moe.lua --format packed
local rondo = require "rondo"

local function kind(name)
  return function(layer) return layer.kind == name end
end

return rondo.recipe {
  name = "moe",
  options = { experts = { kind = "integer", min = 2, max = 6, default = 4 } },
  rules = function(o)
    return {
      { kind "router", rondo.keep, name = "routers" },
      { kind "expert", rondo["int" .. o.experts] { group_size = 64, symmetric = false },
        name = "experts" },
      { function(layer) return layer.part end, rondo.int8, name = "shared" },
      { "lm_head", rondo.int8 },
      otherwise = rondo.keep,
    }
  end,
}
