-- 4 bits for every linear layer, in groups of 128; all else stays.
--
--   rondo quantize MODEL OUT --recipe examples/recipes/w4.lua --format packed
--   ... --set group_size=64
local rondo = require "rondo"

local function is_linear(layer)
  return layer.part ~= nil or layer.kind == "linear" or layer.kind == "expert"
end

return rondo.recipe {
  name = "w4",
  options = {
    bits = { kind = "integer", min = 2, max = 6, default = 4 },
    group_size = { kind = "integer", min = 8, default = 128 },
  },
  rules = function(o)
    return {
      { is_linear, rondo["int" .. o.bits] { group_size = o.group_size }, name = "linear" },
      otherwise = rondo.keep,
    }
  end,
}
