-- quantized: what schemes do with a weight in memory, and the quantized tensors that come of it.
-- The functions of this module are the methods of schemes.
--
-- A weight is a tensor of a floating type: a matrix, or rank 1, which counts as one row. NaN and
-- infinity are errors. Scales are rounded to the type that they are stored in before codes are
-- computed (the packed format does that afterwards, as the reference does).

local core = require "rondo.core"
local params = require "rondo.params"
local shape_of = require "rondo.shape"

local methods = {}

-- ---- Weights ----

local wide = { f32 = true, f16 = true, bf16 = true }

local function matrix_of(where, weight, level)
  if not core.is_tensor(weight) then
    error(("%s: the weight must be a tensor, not a %s"):format(where, type(weight)), level + 1)
  elseif weight.rank ~= 1 and weight.rank ~= 2 then
    error(("%s: the weight must be a matrix or one row, not of rank %d; its parts are weight[i]")
      :format(where, weight.rank), level + 1)
  end
  if not wide[weight.dtype] then weight = weight:to("f32") end
  if weight.rank == 1 then weight = weight:reshape { 1, #weight } end
  return weight:contiguous()
end

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

local function check_scheme(self, where, level)
  local reason = self.type == "keep" and "it quantizes nothing" or self:refusal(false)
  if reason then error(("%s: %s: %s"):format(where, tostring(self), reason), level + 1) end
end

local function find(self, where, matrix, level)
  local found, what, row, col = params.find(matrix, self)
  if not found then raise(where, matrix, what, row, col, level + 1) end
  return found
end

-- ---- Quantized tensors ----

local Quantized = { __name = "rondo.quantized" }
Quantized.__index = Quantized

--- The values again, f32.
function Quantized:dequantize()
  local rows, cols = self.codes.shape[1], self.codes.shape[2]
  local o = params.layout(self.scheme, rows, cols)
  return core.dequantize(self.scheme.grid, self.codes, self.scales, self.zeros, o.group_size,
                         o.group_dim, nil, o.group_rows):reshape(self.shape)
end

local scale_bits = { f32 = 32, f16 = 16, bf16 = 16, e4m3 = 8, e8m0 = 8 }

-- Bits of `count` scales and zero points, and of what is stored once.
local function group_bits(scheme, count)
  local dtype, double, scale = scheme:zero_dtype(), scheme.double, scale_bits[scheme.scale]
  local zero = dtype == "f32" and scale or dtype and scheme.bits or 0
  if not double then return count * (scale + zero) + (scheme.tensor_scale and 32 or 0) end
  local outer = (count + double.group_size - 1) // double.group_size
  return count * (double.bits + zero) + 32 * outer + (double.mean and 32 or 0)
end

--- Bits for each weight: codes, scales and zero points, and a scale of the tensor's own.
function Quantized:bits()
  local weights = shape_of.count(self.shape)
  local groups = self.scales.shape[1] * self.scales.shape[2]
  if weights == 0 then return 0 end
  return self.scheme.bits + group_bits(self.scheme, groups) / weights
end

--- The relative squared error against a weight: the sum of squared differences over the sum of
--- squares, 0 for a weight of zeros.
function Quantized:error(weight)
  local matrix = matrix_of("error", weight, 2)
  local sums = core.sums()
  local values = self:dequantize():reshape(self.codes.shape)
  if matrix.shape[1] ~= values.shape[1] or matrix.shape[2] ~= values.shape[2] then
    error(("error: the weight's shape is {%s}, not {%s}")
      :format(table.concat(weight.shape, ", "), table.concat(self.shape, ", ")), 2)
  end
  core.squared_error(matrix, values, { sums = sums })
  local error, norm = sums:values()
  return norm > 0 and error / norm or 0
end

function Quantized:__tostring()
  return ("%s of %s, %.3f bits a weight"):format(self.scheme:label(),
                                                 table.concat(self.shape, "x"), self:bits())
end

-- ---- Methods of schemes ----

--- Quantizes a weight.
-- @return a quantized tensor: codes (i8; u8 with zero points, and of fp8, where they are its bits)
--         as a matrix, scales (f32) and zeros (u8; f32 for zero = "float"; or nil) by group, stored
--         (how the scales are stored, see find in params.lua), scheme, shape; methods dequantize(),
--         bits(), error(weight)
function methods:quantize(weight)
  check_scheme(self, "quantize", 2)
  if self.bits > 8 then
    error(("quantize: %s: codes have at most 8 bits; scheme:loss works with more")
      :format(tostring(self)), 2)
  end
  local matrix = matrix_of("quantize", weight, 2)
  local found = find(self, "quantize", matrix, 2)
  local o = params.given(self, matrix.shape[1], matrix.shape[2], found)
  o.codes = true
  local codes = assert(core.quantize(self.grid, matrix, o)).codes
  return setmetatable({ codes = codes, scales = found.scales, zeros = found.zeros,
                        stored = found.stored, scheme = self, shape = weight.shape }, Quantized)
end

--- The relative squared error of a weight under the scheme; see error of quantized tensors.
function methods:loss(weight)
  if self.type == "keep" then return 0 end
  check_scheme(self, "loss", 2)
  local matrix = matrix_of("loss", weight, 2)
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
  check_scheme(self, "losses", 2)
  local matrix, given = matrix_of("losses", weight, 2), given_of(self, ratios)
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
  local matrix = matrix_of("ratios", weight, 2)
  return core.full(params.shape(self, matrix.shape[1], matrix.shape[2]), value, "f32")
end

return methods
