-- quantized: what schemes do with a weight in memory.
-- The functions of this module are the methods of schemes.
--
-- A weight is a tensor of a floating type: a matrix, or rank 1, which counts as one row. NaN and
-- infinity are errors. Scales are rounded to the type that they are stored in before codes are
-- computed (the packed format does that afterwards, as the reference does).

local core = require "rondo.core"
local params = require "rondo.params"
local quantized_tensor = require "rondo.quantized_tensor"

local methods = {}

-- ---- Weights ----

-- Raises with what the core has returned in place of a result.
local function raise(where, weight, what, row, col, level)
  if what == "scale" then
    error(("%s: the scale of the group at row %d, column %d is not finite"):format(where, row, col),
          level + 1)
  end
  local value = weight[row][col]
  error(("%s: %s at row %d, column %d"):format(where, value ~= value and "NaN" or "infinity", row,
                                               col), level + 1)
end

local function check_scheme(self, where, matrix, level)
  local reason = self.type == "keep" and "it quantizes nothing" or self:refusal(matrix.shape[2])
  if reason then error(("%s: %s: %s"):format(where, tostring(self), reason), level + 1) end
end

local function find(self, where, matrix, level)
  local found, what, row, col = params.find(matrix, self)
  if not found then raise(where, matrix, what, row, col, level + 1) end
  return found
end

-- ---- Methods of schemes ----

--- Quantizes a weight.
-- @return a quantized tensor: codes (i8; u8 with zero points, and of fp8, where they are its bits)
--         as a matrix, scales (f32) and zeros (u8; f32 for zero = "float"; or nil) by group, stored
--         (how the scales are stored, see find in params.lua), scheme, shape; methods dequantize(),
--         bits(), error(weight)
function methods:quantize(weight)
  local matrix = quantized_tensor.matrix("quantize", weight, 2)
  check_scheme(self, "quantize", matrix, 2)
  if self.bits > 8 then
    error(("quantize: %s: codes have at most 8 bits; scheme:loss works with more")
      :format(tostring(self)), 2)
  end
  local found = find(self, "quantize", matrix, 2)
  local o = params.given(self, matrix.shape[1], matrix.shape[2], found)
  o.codes = true
  local codes = assert(core.quantize(self.grid, matrix, o)).codes
  return quantized_tensor.new { codes = codes, scales = found.scales, zeros = found.zeros,
                                stored = found.stored, scheme = self, shape = weight.shape }
end

--- The relative squared error of a weight under the scheme; see error of quantized tensors.
function methods:loss(weight)
  if self.type == "keep" then return 0 end
  local matrix = quantized_tensor.matrix("loss", weight, 2)
  check_scheme(self, "loss", matrix, 2)
  local found = find(self, "loss", matrix, 2)
  local o = params.given(self, matrix.shape[1], matrix.shape[2], found)
  o.sums = core.sums()
  assert(core.quantize(self.grid, matrix, o))
  local error, norm = o.sums:values()
  return norm > 0 and error / norm or 0
end

-- What losses may be given, for params.losses.
local function given_of(self, ratios)
  if core.is_tensor(ratios) and ratios.rank == 2 then
    return { ratios = ratios:to("f32"):contiguous() }
  elseif core.is_tensor(ratios) then
    return { candidates = ratios:totable() }
  elseif type(ratios) == "table" and ratios.scales then
    return { scales = ratios.scales:to("f32"):contiguous(),
             zeros = ratios.zeros and ratios.zeros:to(self:zero_dtype() or "u8"):contiguous() }
  elseif type(ratios) == "table" then
    return { candidates = ratios }
  end
end

-- Raises unless what is given by group has a value for each group of the matrix.
local function check_shapes(self, matrix, given, level)
  local shape = params.shape(self, matrix.shape[1], matrix.shape[2])
  for _, name in ipairs { "ratios", "scales", "zeros" } do
    local tensor = given[name]
    if tensor and (tensor.rank ~= 2 or tensor.shape[1] ~= shape[1]
                   or tensor.shape[2] ~= shape[2]) then
      error(("losses: %s must be of shape {%d, %d}, one for each group, not {%s}")
        :format(name, shape[1], shape[2], table.concat(tensor.shape, ", ")), level + 1)
    end
  end
end

local function check_ratios(given, level)
  local ratios = given.ratios or given.candidates and core.tensor(given.candidates, "f32")
  if not ratios or (ratios:gt(0) & ratios:le(1)):all() then return end
  local bad = ratios[~(ratios:gt(0) & ratios:le(1))][1]
  error(("losses: ratios must be above 0 and at most 1, not %s"):format(bad), level + 1)
end

--- Errors by group: the sums of importance * |difference|^p (f64).
-- @param ratios  clip ratios by group, as scheme:ratios makes them; or a list of ratios for all
--                groups, then the result has a third dimension with an error for each; or
--                { scales, zeros } by group
function methods:losses(weight, ratios)
  local matrix, given = quantized_tensor.matrix("losses", weight, 2), given_of(self, ratios)
  check_scheme(self, "losses", matrix, 2)
  if not given then
    error("losses: ratios by group, a list of ratios, or { scales, zeros } are expected, not a "
      .. type(ratios), 2)
  end
  check_shapes(self, matrix, given, 2)
  check_ratios(given, 2)
  local losses, what, row, col = params.losses(matrix, self, given)
  if not losses then raise("losses", matrix, what, row, col, 2) end
  return losses
end

--- Clip ratios for a weight, one for each group, all of them `value` (f32).
function methods:ratios(weight, value)
  if type(value) ~= "number" then
    error("ratios: a number is expected, not a " .. type(value), 2)
  end
  local matrix = quantized_tensor.matrix("ratios", weight, 2)
  return core.full(params.shape(self, matrix.shape[1], matrix.shape[2]), value, "f32")
end

return methods
