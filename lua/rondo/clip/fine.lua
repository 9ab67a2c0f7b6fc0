-- fine: coarse to fine. Each round tries `steps` ratios around the best so far, in all groups at
-- once, in steps that are smaller each time.

local strategy = require "rondo.strategy"

return strategy.new("fine", {
  low = { 0.5, above = 0, max = 1 }, steps = 8, rounds = 3,
}, function(weight, scheme, options)
  local width = (1 - options.low) / options.steps
  local best = scheme:ratios(weight, 1)
  local least = scheme:losses(weight, best)
  local function try(ratios)
    local losses = scheme:losses(weight, ratios)
    local better = losses:lt(least)
    best, least = better:pick(ratios, best), better:pick(losses, least)
  end
  for i = 1, options.steps do try(scheme:ratios(weight, 1 - i * width)) end
  for _ = 2, options.rounds do
    local center, step = best, 2 * width / (options.steps + 1)
    for i = 1, options.steps do try((center + (i * step - width)):clamp(options.low / 2, 1)) end
    width = step
  end
  return best
end, nil, strategy.shrinks)
