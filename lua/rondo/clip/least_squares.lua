-- least_squares: in turn takes the codes that are nearest to the weights for a scale (and a bias),
-- and the scale (and bias) of least squared error for these codes, `rounds` times; keeps the best.
-- For integers with zero = "float" (MLX's biases) and without zero points.

local strategy = require "rondo.strategy"

-- The weight as groups [groups, size].
local function in_groups(weight, scheme)
  local rows, cols = weight.shape[1], weight.shape[2]
  local size = scheme.group_size == "row" and cols or scheme.group_size
  return weight:to("f32"):reshape { rows * cols // size, size }
end

-- Sums along the groups, [groups, 1] in f64.
local function sums(t) return t:to("f64"):sum(2, { keep = true }) end

-- What divides safely: 1 where a number is 0.
local function divisor(t) return t:eq(0):pick(1, t) end

-- Scale and bias of least squared error for codes.
local function fit_affine(groups, codes, scales, biases)
  local n = groups.shape[2]
  local q, w = sums(codes), sums(groups)
  local qq, qw = sums(codes * codes), sums(codes * groups)
  local determinant = qq * n - q * q
  local flat = determinant:eq(0)
  local scale = (qw * n - q * w) / divisor(determinant)
  local bias = (w - scale * q) / n
  return flat:pick(scales, scale):to("f32"), flat:pick(biases, bias):to("f32")
end

local function fit_scale(groups, codes, scales)
  local qq = sums(codes * codes)
  return qq:eq(0):pick(scales, sums(codes * groups) / divisor(qq)):to("f32")
end

local function codes_of(groups, scheme, scales, biases)
  local safe = divisor(scales)
  if biases then return ((groups - biases) / safe):round():clamp(0, 2 ^ scheme.bits - 1) end
  local half = 2 ^ (scheme.bits - 1)
  return (groups / safe):round():clamp(-half, half - 1)
end

return strategy.new("least_squares", { rounds = 5 }, function(weight, scheme, options)
  local affine = scheme:zero_dtype() == "f32"
  local groups, start = in_groups(weight, scheme), scheme:quantize(weight)
  local best = strategy.best(weight, scheme, start.scales, start.zeros)
  local count, shape = groups.shape[1], start.scales.shape
  local scales = start.scales:reshape { count, 1 }
  local biases = affine and start.zeros:reshape { count, 1 } or nil
  for _ = 1, options.rounds do
    local codes = codes_of(groups, scheme, scales, biases)
    if affine then scales, biases = fit_affine(groups, codes, scales, biases)
    else scales = fit_scale(groups, codes, scales) end
    best:try(scales:reshape(shape), biases and biases:reshape(shape))
  end
  return best.scales, best.zeros
end, nil, function(scheme, _, cols)
  local size = scheme.group_size
  if scheme.data_type ~= "int" or scheme:zero_dtype() == "u8" then
    return "it is for integers without zero points (--scheme sym, symmetric = true) or with "
      .. "zero = \"float\""
  elseif type(size) ~= "number" and size ~= "row" or scheme.group_dim == 0 then
    return "it is for groups along the inputs"
  elseif cols and type(size) == "number" and cols % size ~= 0 then
    return ("%d inputs are no multiple of the group size %d"):format(cols, size)
  end
end)
