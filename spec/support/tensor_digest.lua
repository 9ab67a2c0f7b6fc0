-- Prints one line per case: what operations on tensors give for odd sizes and hard values. Run by
-- tensor_memory_spec under each instruction set and several numbers of threads; all runs must print
-- the same.

local core = require "rondo.core"

-- Arguments: threads, and the largest size.
core.threads(math.tointeger(tonumber(arg[1])))
local largest = tonumber(arg[2])

-- A checksum over bytes: words of eight bytes times odd factors, one for each place. (Integer
-- arithmetic is not among the kernels that are compared.)
local function digest(tensor)
  local bytes = tensor:bytes()
  bytes = bytes .. ("\0"):rep(-#bytes % 8)
  local words = core.from_bytes(bytes, "i64", { #bytes // 8 })
  local factors = core.arange(1, #words, 1, "i64") * 0x9e3779b97f4a7c15 * 2 + 1
  return string.format("%016x", (words * factors):sum())
end

-- Random numbers among zeros, infinities, NaNs, denormals and ties.
local function hard(n, seed)
  local t = core.randn({ n }, seed, "f64") * 100
  local special = { 0, -0.0, 1 / 0, -1 / 0, 0 / 0, 1e-310, -3e-40, 0.5, 2.5, -1.5, 1e300, 65520 }
  for i, x in ipairs(special) do
    if i <= n then t[(i * 7919) % n + 1] = x end
  end
  return t
end

local floats = { "f64", "f32", "f16", "bf16", "f8_e4m3", "f8_e5m2" }
local integers = { "i8", "u8", "i32", "i64", "u64" }

local function line(dtype, n, what, value)
  local text = core.is_tensor(value) and digest(value) or string.format("%q", value)
  print(dtype, n, what, text)
end

local function arithmetic(dtype, x, y, n)
  line(dtype, n, "+", x + y)
  line(dtype, n, "-", x - y)
  line(dtype, n, "*", x * y)
  line(dtype, n, "minimum", x:minimum(y))
  line(dtype, n, "maximum", x:maximum(3))
  line(dtype, n, "lt", x:lt(y))
  line(dtype, n, "pick", x:gt(1):pick(x, y))
  local unary = { "neg", "abs", "round", "floor", "sign", "square", "sqrt", "exp", "log" }
  for _, name in ipairs(unary) do
    line(dtype, n, name, x[name](x))
  end
end

local function reductions(dtype, x, n)
  for _, name in ipairs { "sum", "mean", "std", "norm", "min", "max", "argmin", "argmax" } do
    local value = x[name](x)
    line(dtype, n, name, value == value and value or "nan")
  end
  local rows = #x // 3
  if rows == 0 then return end
  local m = x:rows(1, 3 * rows):reshape { rows, 3 }
  for _, name in ipairs { "sum", "std", "max", "argmin" } do
    line(dtype, n, name .. " 1", m[name](m, 1))
    line(dtype, n, name .. " 2", m[name](m, 2))
  end
end

for _, n in ipairs { 1, 33, 1023, largest } do
  local x, y = hard(n, 1), hard(n, 2)
  for _, dtype in ipairs(floats) do
    local a, b = x:to(dtype), y:to(dtype)
    line(dtype, n, "to", a)
    arithmetic(dtype, a, b, n)
    line(dtype, n, "/", a / b)
    line(dtype, n, "//", a // b)
    line(dtype, n, "%", a % b)
    reductions(dtype, a, n)
    reductions(dtype, a[a:abs():lt(1 / 0)], n)
  end
  for _, dtype in ipairs(integers) do
    local a, b = x:to(dtype), y:to(dtype)
    line(dtype, n, "to", a)
    arithmetic(dtype, a, b, n)
    reductions(dtype, a, n)
  end
end
