-- mse: searches the scale, and then the zero point beside it, and then the scale once more in
-- smaller steps: what clips one side of a range only. Schemes without zero points get the scale.

local core = require "rondo.core"

-- Tries candidates, each { scales, zeros } by group, and keeps the best by group.
local function keep_best(weight, scheme, best, candidates)
  for _, candidate in ipairs(candidates) do
    local losses = scheme:losses(weight, candidate)
    local better = losses:lt(best.losses)
    best.losses = better:pick(losses, best.losses)
    best.scales = better:pick(candidate.scales, best.scales)
    best.zeros = better:pick(candidate.zeros, best.zeros)
  end
end

local function scaled(best, first, last, step)
  local list = {}
  for factor = first, last, step do
    list[#list + 1] = { scales = best.scales * factor, zeros = best.zeros }
  end
  return list
end

local function shifted(best, most, largest)
  local list = {}
  for by = -most, most do
    local zeros = (best.zeros:to("f32") + by):clamp(0, largest):to("u8")
    if by ~= 0 then list[#list + 1] = { scales = best.scales, zeros = zeros } end
  end
  return list
end

return require("rondo.strategy").new("mse", { low = 0.6, steps = 20, shift = 2 },
                                     function(weight, scheme, options)
  local start = scheme:quantize(weight)
  local zeros = start.zeros or core.zeros(start.scales.shape, "u8")
  local best = { scales = start.scales, zeros = zeros }
  local step = (1 - options.low) / options.steps
  best.losses = scheme:losses(weight, best)
  keep_best(weight, scheme, best, scaled(best, options.low, 1 - step / 2, step))
  if scheme:has_zero() then
    keep_best(weight, scheme, best, shifted(best, options.shift, 2 ^ scheme.bits - 1))
  end
  keep_best(weight, scheme, best, scaled(best, 1 - step * 0.75, 1 + step * 0.8, step / 4))
  return best.scales, best.zeros
end)
