-- recipe.measure: what quantizing a layer would lose, exactly as a report would say it.

local execute = require "rondo.execute"
local source = require "rondo.model.source"

local function nowhere() return true end

--- Quantizes a layer of a plan with a scheme and throws the values away.
-- @param layer   of model:layers()
-- @param scheme  as a recipe says it: groups along the inputs, however the weight is stored
-- @return { ratio, error, norm } (see execute.quantize), or nil, message, code
return function(made, layer, scheme)
  local whole = layer.source
  local piece = { path = layer.name, count = whole.slices,
                  source = function(n) return source.slice(whole, n) end,
                  entries = { { role = "values", dtype = layer.dtype, shape = layer.shape } } }
  if scheme.tensor_scale then piece.shared = { sources = { piece } } end
  local job = { name = layer.tensor_name, rule = "measured", work = { piece }, entries = {},
                scheme = layer.transposed and scheme:transposed() or scheme }
  return execute.quantize(job, made.options.nonfinite == "keep", nowhere)
end
