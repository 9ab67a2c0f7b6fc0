-- A clip search that answers with scales instead of ratios. Symmetric integers reach one step
-- further down than up, -8 .. 7; where the largest weight of a group is positive, a negative scale
-- turns that step towards it.
--
--   local signed = require "signed" -- in a recipe beside it
--   local scheme = rondo.int4 { clip = signed { steps = 12 } }

local rondo = require "rondo"

return rondo.strategy("signed", { low = 0.6, steps = 24 }, function(weight, scheme, options)
  local start = scheme:quantize(weight).scales
  local best, least = start, scheme:losses(weight, { scales = start })
  for i = 0, options.steps do
    local factor = options.low + (1 - options.low) * i / options.steps
    for _, scales in ipairs { start * factor, start * -factor } do
      local losses = scheme:losses(weight, { scales = scales })
      local better = losses:lt(least)
      best, least = better:pick(scales, best), better:pick(losses, least)
    end
  end
  return best, 0
end)
