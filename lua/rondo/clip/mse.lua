-- mse: moves the two ends of each group's range by themselves, in turn, each to the best of `steps`
-- factors from `low` to 1 while the other stays; in the end the scale in smaller steps. So it
-- searches scale and zero point. Schemes without integer zero points have one end. (strategy.best
-- sees to zero points from 1 on.)

local strategy = require "rondo.strategy"

local function try_scales(best, first, last, step)
  local scales, zeros = best.scales, best.zeros
  for factor = first, last, step do best:try(scales * factor, zeros) end
end

-- ends: the range's low and high by group; which: the one that is moved.
local function move(best, ends, which, low, step)
  local largest, from = 2 ^ best.scheme.bits - 1, ends[which]
  for factor = low, 1, step do
    local moved = { low = ends.low, high = ends.high, [which] = from * factor }
    local scales = (moved.high - moved.low) / largest
    local zeros = (moved.low / scales):neg():round():clamp(0, largest):to "u8"
    local better = best:try(scales, zeros)
    ends[which] = better:pick(moved[which], ends[which])
  end
end

return strategy.new("mse", {
  low = { 0.4, above = 0, max = 0.99 }, steps = 20,
}, function(weight, scheme, options)
  local start = scheme:quantize(weight)
  local best = strategy.best(weight, scheme, start.scales, start.zeros)
  local step = (1 - options.low) / options.steps
  if scheme:zero_dtype() == "u8" then
    local zeros = best.zeros:to "f32"
    local ends = { low = -zeros * best.scales,
                   high = (2 ^ scheme.bits - 1 - zeros) * best.scales }
    for _, which in ipairs { "low", "high", "low" } do
      move(best, ends, which, options.low, step)
    end
  else
    try_scales(best, options.low, 1, step)
  end
  try_scales(best, 1 - step * 0.75, 1 + step * 0.8, step / 4)
  return best.scales, best.zeros
end, nil, strategy.shrinks)
