-- The best mixture of 2 to 8 bits that fits a size: so many bits a weight, or so many bytes for all
-- weight files. Values are weighed more, as attention is most sensitive there.
--
--   rondo quantize MODEL OUT --recipe examples/recipes/total_size.lua --format packed
--   ... --set bits=3.5
--   ... --set bytes=4000000000
local rondo = require "rondo"
local w4 = require "w4"

return rondo.recipe {
  name = "total-size",
  options = {
    bits = { kind = "number", above = 0, default = 4.25 },
    bytes = { kind = "integer", min = 1 }, -- counts in place of bits where it is given
  },
  rules = function(o)
    return {
      w4,
      policy = rondo.policy.budget {
        bits = not o.bytes and o.bits or nil, bytes = o.bytes,
        choices = {
          rondo.int2 { group_size = 64, symmetric = false }, rondo.int3 { group_size = 128 },
          rondo.int3 { group_size = 32, symmetric = false }, rondo.int4 { group_size = 128 },
          rondo.int4 { group_size = 32, symmetric = false }, rondo.int6 { group_size = 128 },
          rondo.int8,
        },
        sensitivity = function(layer) return layer.part == "v" and 2 or 1 end,
      },
    }
  end,
}
