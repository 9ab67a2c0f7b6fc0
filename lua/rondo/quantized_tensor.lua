-- quantized_tensor: codes, scales and zero points of a matrix: what scheme:quantize gives, and what
-- a layer of a quantized checkpoint is stored as.
--
-- Fields: codes (i8; u8 with zero points, and of fp8, where they are its bits) as a matrix, scales
-- (f32) and zeros (u8; f32 for zero = "float"; or nil) by group, stored (how the scales are stored,
-- see find in params.lua), scheme, shape (of the weight).

local core = require "rondo.core"
local params = require "rondo.params"
local shape_of = require "rondo.shape"

local quantized_tensor = {}

-- ---- Weights ----

local wide = { f32 = true, f16 = true, bf16 = true }

--- A weight as a matrix of a type that kernels read; raises for what is no weight, at `level` above
--- the caller.
function quantized_tensor.matrix(where, weight, level)
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
  local matrix = quantized_tensor.matrix("error", weight, 2)
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

--- Makes one of its fields.
function quantized_tensor.new(fields)
  return setmetatable(fields, Quantized)
end

return quantized_tensor
