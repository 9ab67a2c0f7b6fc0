-- grid: tries `steps` ratios, 1, 1 - 1/divisions, 1 - 2/divisions, ..., and takes the first with
-- the least error: for each group, for a row of groups together, or one for the whole tensor. The
-- last is the reference's search.

local strategy = require "rondo.strategy"

local MOST = 1 << 22 -- errors in memory at a time

return strategy.new("grid", {
  steps = 40, divisions = 200, over = "group",
}, function(weight, scheme, options)
  local best, least = scheme:ratios(weight, 1), nil
  local groups = best.shape[1] * best.shape[2]
  local together = math.max(8, MOST // math.max(groups, 1)) -- the core does many side by side
  for first = 0, options.steps - 1, together do
    local candidates = {}
    for i = first, math.min(first + together, options.steps) - 1 do
      candidates[#candidates + 1] = 1 - i / options.divisions
    end
    local losses = strategy.shared(scheme:losses(weight, candidates), options.over, scheme)
    local ratios = ((losses:argmin(3):to "f64" + (first - 1)) / options.divisions):neg() + 1
    local lowest = options.steps > together and losses:min(3) or nil
    local better = least and lowest:lt(least)
    best = better and better:pick(ratios, best) or ratios
    least = better and better:pick(lowest, least) or lowest
  end
  return (scheme:ratios(weight, 1) * best):to "f32"
end, function(options)
  return options.steps > options.divisions
    and ("steps must be at most divisions (%d), not %d"):format(options.divisions, options.steps)
    or nil
end, strategy.shrinks)
