-- 4 bits, but 8 for the first and the last layer, which see the input and make the output, and for
-- the head. An extension of w4.lua, which lies beside it.
--
--   rondo quantize MODEL OUT --recipe examples/recipes/w4_ends8.lua --format packed
local rondo = require "rondo"
local w4 = require "w4"

local function at_an_end(layer)
  return layer.depth == 0 or layer.depth and layer.depth == layer.depth_count - 1
end

return rondo.recipe {
  name = "w4-ends8",
  { "lm_head", rondo.int8 },
  { function(layer) return layer.part and at_an_end(layer) end, rondo.int8, name = "ends" },
  w4,
}
