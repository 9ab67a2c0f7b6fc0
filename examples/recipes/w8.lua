-- 8 bits for every linear layer and the head, a scale for each row: next to no loss.
--
--   rondo quantize MODEL OUT --recipe examples/recipes/w8.lua --format packed
local rondo = require "rondo"

return rondo.recipe {
  name = "w8",
  { "*norm", rondo.keep },
  { "embed_tokens|wte|wpe", rondo.keep },
  { function(layer) return layer.kind == "router" end, rondo.keep, name = "routers" },
  otherwise = rondo.int8, -- what is no matrix of a layer is copied all the same
}
