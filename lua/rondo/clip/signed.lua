-- signed: for symmetric integers, whose codes reach one further below 0 than above: tries for each
-- group the plain scale and the one of full_range, whose sign makes the largest weight the lowest
-- code, both at `steps` ratios from 1 down to `low`. Scales may come out negative.

local strategy = require "rondo.strategy"

return strategy.new("signed", {
  low = { 0.8, above = 0, max = 1 }, steps = { 9, min = 1 },
}, function(weight, scheme, options)
  local plain = scheme { full_range = false }:quantize(weight).scales
  local full = scheme { full_range = true }:quantize(weight).scales
  local best = strategy.best(weight, scheme, scheme.full_range and full or plain)
  local step = options.steps > 1 and (1 - options.low) / (options.steps - 1) or 0
  for i = 0, options.steps - 1 do
    best:try(plain * (1 - i * step))
    best:try(full * (1 - i * step))
  end
  return best.scales, best.zeros
end, nil, function(scheme)
  if scheme:zero_dtype() == "f32" then
    return "it is for integers without zero points; with zero = \"float\" least_squares does as "
      .. "much"
  elseif scheme.scale == "e8m0" then
    return "it makes scales of either sign, and those of e8m0 have none"
  elseif scheme.data_type ~= "int" or not scheme.symmetric or scheme.bits < 2 then
    return "it is for symmetric integers of 2 bits and more (--scheme sym, symmetric = true)"
  end
end)
