-- recipe.measure: what quantizing a layer would lose, exactly as a report would say it.

local execute = require "rondo.execute"

local function nowhere() return true end

--- Quantizes a layer of a plan with a scheme and throws the values away.
-- @param layer   of model:layers()
-- @param scheme  as a recipe says it: groups along the inputs, however the weight is stored
-- @return { ratio, error, norm } (see execute.quantize), or nil, message, code
return function(made, layer, scheme)
  local job = { name = layer.tensor_name, layer = layer,
                scheme = layer.transposed and scheme:transposed() or scheme,
                entries = { { role = "values", dtype = layer.dtype, shape = layer.shape } } }
  return execute.quantize(job, made.options.nonfinite == "keep", nowhere)
end
