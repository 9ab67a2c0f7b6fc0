-- percentile: clips each group at the quantile of its magnitudes, interpolated between the two next
-- to it. Looks at no error.

local core = require "rondo.core"
local params = require "rondo.params"
local strategy = require "rondo.strategy"

return strategy.new("percentile", {
  quantile = { 0.99, above = 0, max = 1 },
}, function(weight, scheme, options)
  local o = params.layout(scheme, weight.shape[1], weight.shape[2])
  local rows, cols = o.group_rows, o.group_size
  if o.group_dim == 0 then rows, cols = o.group_size, 1 end
  local clipped = core.group_quantiles(weight, rows, cols, options.quantile)
  local largest = core.group_quantiles(weight, rows, cols, 1)
  return largest:gt(0):pick(clipped / largest, 1)
end, nil, strategy.shrinks)
