-- none: no clipping; every group keeps its whole range.

return require("rondo.strategy").new("none", {}, function(weight, scheme)
  return scheme:ratios(weight, 1)
end)
