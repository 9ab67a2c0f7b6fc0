-- golden: golden-section search between two ratios, in all groups at once. The error is no smooth
-- function of the ratio, so the minimum found is a local one.

local strategy = require "rondo.strategy"

local PHI = (5 ^ 0.5 - 1) / 2

return strategy.new("golden", {
  low = { 0.4, above = 0, max = 1 }, high = { 1.0, above = 0, max = 1 }, rounds = 12,
}, function(weight, scheme, options)
  local low, high = scheme:ratios(weight, options.low), scheme:ratios(weight, options.high)
  for _ = 1, options.rounds do
    local left, right = high - (high - low) * PHI, low + (high - low) * PHI
    local lower = scheme:losses(weight, left):lt(scheme:losses(weight, right))
    low, high = lower:pick(low, left), lower:pick(right, high)
  end
  return (low + high) / 2
end, function(options)
  return options.low >= options.high
    and ("low must be less than high (%g), not %g"):format(options.high, options.low) or nil
end, strategy.shrinks)
