-- scheme: how a weight matrix becomes codes. A scheme is a value that nobody changes: grid, groups,
-- clip ratio. The arithmetic belongs to the C core (src/kernels/quant.c).
--
-- Fields (read-only):
--   data_type   "int", or with 4 bits "nf4", "fp4", "fp4_e2m1_bnb", "fp4_e2m1", "e2m1"
--   bits        1..16 (codes exist up to 8)
--   scheme      "asym" or "sym"; codebooks ("nf4", ...) have no zero point in either
--   group_size  weights that share a scale; -1: all of a row (of a column for group_dim 0)
--   group_dim   1: groups run along a row, the input channels; 0: along a column
--   full_range  sym: scale by 2^(bits-1) rather than 2^(bits-1)-1
--   quantile    clip ratio in (0, 1]
--   grid        the native number grid

local core = require "rondo.core"

local scheme = {}

scheme.float_types = { "nf4", "fp4", "fp4_e2m1", "fp4_e2m1_bnb", "e2m1" }
scheme.data_types = { "int", "nf4", "fp4", "fp4_e2m1", "fp4_e2m1_bnb", "e2m1" }

local methods = {}

--- Whether groups have a zero point of their own.
function methods:has_zero()
  return self.data_type == "int" and self.scheme == "asym"
end

--- Groups along a line of `length` weights.
function methods:groups(length)
  if self.group_size == -1 then return length > 0 and 1 or 0 end
  return (length + self.group_size - 1) // self.group_size
end

--- The group size in elements for lines of that length; the core wants at least 1.
function methods:group_elements(length)
  local whole = math.max(length, 1)
  return self.group_size == -1 and whole or math.min(self.group_size, whole)
end

--- Short text for tables: "int4 asym g32", "nf4 row", "int8 sym full-range g128 dim0".
function methods:label()
  local parts = {}
  if self.data_type == "int" then
    parts[1] = "int" .. self.bits
    parts[2] = self.scheme
    if self.full_range then parts[3] = "full-range" end
  else
    parts[1] = self.data_type
  end
  parts[#parts + 1] = self.group_size == -1 and "row" or "g" .. self.group_size
  if self.group_dim == 0 then parts[#parts + 1] = "dim0" end
  return table.concat(parts, " ")
end

local meta = { __index = methods, __metatable = "locked", __name = "rondo.scheme" }

--- Makes a scheme; all fields but `grid` are required and already checked, or this raises.
function scheme.new(fields)
  local symmetric = fields.scheme == "sym"
  local value = {}
  for name, field in pairs(fields) do value[name] = field end
  value.full_range = fields.data_type == "int" and symmetric and fields.full_range
  value.grid = core.grid(fields.data_type, fields.bits, symmetric, value.full_range)
  return setmetatable(value, meta)
end

return scheme
