-- least_squares: in turn takes the codes that are nearest to the weights for a scale (and a bias),
-- and the scale (and bias) of least squared error for these codes, `rounds` times; keeps the best.
-- For integers with zero = "float" (MLX's biases) and without zero points.

local core = require "rondo.core"
local strategy = require "rondo.strategy"

-- A matrix as groups [groups, size]; those that rows end in are filled up with zeros.
local function in_groups(matrix, size)
  local rows, cols = matrix.shape[1], matrix.shape[2]
  local whole = (cols + size - 1) // size * size
  local filled = matrix:to "f32"
  if whole > cols then
    filled = core.zeros({ rows, whole }, "f32")
    filled[(":, 1:%d"):format(cols)] = matrix:to "f32"
  end
  return filled:reshape { rows * whole // size, size }
end

-- Sums along the groups, [groups, 1] in f64.
local function sums(t) return t:to("f64"):sum(2, { keep = true }) end

-- What divides safely: 1 where a number is 0.
local function divisor(t) return t:eq(0):pick(1, t) end

-- Scale and bias of least squared error for codes. n: the weights of each group.
local function fit_affine(groups, codes, n, scales, biases)
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
  local affine, rows, cols = scheme:zero_dtype() == "f32", weight.shape[1], weight.shape[2]
  local size = scheme:group_elements(cols)
  local groups, start = in_groups(weight, size), scheme:quantize(weight)
  local there = in_groups(core.full({ rows, cols }, 1, "f32"), size) -- 0 in what fills a group up
  local n = sums(there)
  local best = strategy.best(weight, scheme, start.scales, start.zeros)
  local count, shape = groups.shape[1], start.scales.shape
  local scales = start.scales:reshape { count, 1 }
  local biases = affine and start.zeros:reshape { count, 1 } or nil
  for _ = 1, options.rounds do
    local codes = codes_of(groups, scheme, scales, biases) * there
    if affine then scales, biases = fit_affine(groups, codes, n, scales, biases)
    else scales = fit_scale(groups, codes, scales) end
    best:try(scales:reshape(shape), biases and biases:reshape(shape))
  end
  return best.scales, best.zeros
end, nil, function(scheme)
  local size = scheme.group_size
  if scheme.data_type ~= "int" or scheme:zero_dtype() == "u8" then
    return "it is for integers without zero points (--scheme sym, symmetric = true) or with "
      .. "zero = \"float\""
  elseif scheme.scale == "e8m0" then
    return "scales of e8m0 are powers of two; clip = \"neighbours\" finds better ones"
  elseif type(size) ~= "number" and size ~= "row" or scheme.group_dim == 0 then
    return "it is for groups along the inputs"
  end
end)
