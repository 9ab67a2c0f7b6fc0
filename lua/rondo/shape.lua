-- shape: arithmetic on shapes, which are lists of dimensions.

local shape = {}

--- Elements of a tensor of that shape; 1 for a scalar.
function shape.count(dims)
  local n = 1
  for _, d in ipairs(dims) do n = n * d end
  return n
end

--- Rows and columns when all leading dimensions are flattened into rows; rank 1 is one row.
function shape.matrix(dims)
  local rows = 1
  for i = 1, #dims - 1 do rows = rows * dims[i] end
  return rows, dims[#dims] or 1
end

--- a / b rounded up, for integers a >= 0 and b > 0.
function shape.ceil_div(a, b)
  return (a + b - 1) // b
end

return shape
