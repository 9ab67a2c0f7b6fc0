-- scheme: how a weight becomes codes, as a value: a number grid, which weights share a scale, how
-- groups are clipped, how scales and zero points are stored. Nobody can change one; called with
-- options it gives another that differs in these: int4 { group_size = 64 }. Schemes that say the
-- same are the same value, so that == and tables by scheme work.
--
-- Types: int1 .. int16 (integers; codes exist up to 8 bits), the 4-bit codebooks nf4, fp4,
-- fp4_e2m1, fp4_e2m1_bnb, e2m1, fp8 (8-bit floats, E4M3), and keep: not quantized at all, which
-- takes no options. The options are `shared` and `integer` below. Fields: type, data_type ("int",
-- "fp8" or the codebook's name), bits, every option, grid, the native number grid, and divisor: a
-- group's scale is its range over that. A group runs along the input channels for group_dim 1,
-- along the output channels for 0.
--
-- The arithmetic belongs to the C core (src/kernels). What it cannot do yet is refused where a
-- scheme is about to be used: see refusal.

local core = require "rondo.core"
local options = require "rondo.options"
local strategy = require "rondo.strategy"

local scheme = {}

scheme.float_types = { "nf4", "fp4", "fp4_e2m1", "fp4_e2m1_bnb", "e2m1" }
scheme.data_types = { "int", "nf4", "fp4", "fp4_e2m1", "fp4_e2m1_bnb", "e2m1" }

-- ---- Options ----

local function whole(value)
  value = math.type(value) ~= nil and math.tointeger(value)
  return value and value >= 1 and value
end

-- A number of weights, "row", "tensor", or a block { output channels, input channels }.
local function check_group_size(value)
  if value == "row" or value == "tensor" then return value end
  if type(value) ~= "table" then return whole(value) or nil end
  local rows, cols = whole(value[1]), whole(value[2])
  if not rows or not cols or #value > 2 then return nil end
  return { rows, cols }
end

local double_description = {
  bits = { kind = "integer", min = 2, max = 8, default = 8 },
  group_size = { kind = "integer", min = 1, default = 256 },
  mean = { kind = "boolean", default = true },
  map = { kind = "choice", choices = { "int", "dynamic" }, default = "int" },
}

local function check_tensor_scale(value)
  if type(value) == "boolean" then return value end
  return math.type(value) and value > 0 and value < math.huge and value + 0.0 or nil
end

-- Options that every type has.
local shared = {
  group_size = { kind = "custom", check = check_group_size, default = 128,
                 says = "an integer of at least 1, \"row\", \"tensor\" or a block "
                   .. "{ output channels, input channels }" },
  group_dim = { kind = "integer", min = 0, max = 1, default = 1 },
  clip = { kind = "custom", check = strategy.check, says = strategy.says, default = "none" }, --
  -- layer: the ratio of rondo.stream.search_ratios with the least squared error over the whole
  -- layer; the others are strategies, see rondo.strategy. Their objective: importance * |error|^p.
  importance = options.importance,
  p = { kind = "number", above = 0, default = 2.0 },
  ratio = { kind = "number", above = 0, max = 1, default = 1.0 }, -- a clip ratio that is known
  scale = { kind = "choice", choices = { "f32", "f16", "bf16", "e4m3", "e8m0" }, default = "f32" },
  tensor_scale = { kind = "custom", check = check_tensor_scale, default = false,
                   says = "true, false or a positive number" }, -- one more for the tensor, above
  -- scales of e4m3; a number: that one
  double = { -- the scales quantized in turn; mean: less their mean
    kind = "custom", says = "a table of bits, group_size, mean, map",
    check = function(value) return options.check("double", value, double_description, -1) end },
}

-- Those of integers as well.
local integer = {
  symmetric = { kind = "boolean", default = true },
  full_range = { kind = "boolean", default = false }, -- scale by 2^(bits-1), not 2^(bits-1)-1
  zero = { kind = "choice", choices = { "integer", "positive", "float" }, default = "integer" },
  -- the zero point, which symmetric schemes do not have; positive: an integer of at least 1; float:
  -- the value of code 0
}

local function joined(...)
  local all = {}
  for _, part in ipairs { ... } do
    for name, rule in pairs(part) do all[name] = rule end
  end
  return all
end

-- With 8 bits and more, a row has precision enough for one scale.
local by_row = { group_size = joined(shared.group_size, { default = "row" }) }

-- ---- Types ----

-- type -> { data_type, bits, description of its options }
local types = { keep = { "keep", nil, {} } }
for bits = 1, 16 do
  types["int" .. bits] = { "int", bits, joined(shared, integer, bits >= 8 and by_row or nil) }
end
for _, name in ipairs(scheme.float_types) do types[name] = { name, 4, shared } end
types.fp8 = { "fp8", 8, joined(shared, by_row) }

-- Those that are fields of rondo, too.
local named = { int2 = true, int3 = true, int4 = true, int5 = true, int6 = true, int8 = true,
                nf4 = true, fp4 = true, e2m1 = true, fp8 = true, keep = true }

-- ---- Values ----

local fields_of = setmetatable({}, { __mode = "k" })
local known = setmetatable({}, { __mode = "v" }) -- schemes by their text

local methods = setmetatable({}, { __index = require "rondo.quantized" })
local Scheme = { __name = "rondo.scheme", __metatable = "locked" }

local function literal(value)
  if type(value) == "string" then return string.format("%q", value) end
  if core.is_tensor(value) then return string.format("<tensor %p>", value) end
  if math.type(value) == "float" then return core.json_real(value) end
  if type(value) ~= "table" or getmetatable(value) then return tostring(value) end
  if #value > 0 then return "{ " .. table.concat(value, ", ") .. " }" end
  local parts = {}
  for name, field in pairs(value) do parts[#parts + 1] = name .. " = " .. literal(field) end
  table.sort(parts)
  return "{ " .. table.concat(parts, ", ") .. " }"
end

-- Lua that makes the scheme again.
local function text_of(type_name, given)
  local prefix = "rondo." .. type_name
  if not named[type_name] then
    given = joined(given, { type = type_name })
    prefix = "rondo.scheme.from"
  end
  return next(given) == nil and prefix or prefix .. " " .. literal(given)
end

-- Options without those that say what holds anyway.
local function normal(given, description)
  local result = {}
  for name, value in pairs(given) do
    if value ~= description[name].default then result[name] = value end
  end
  local block = result.group_size
  if type(block) == "table" and math.min(block[1], block[2]) == 1 then
    result.group_dim = block[1] > 1 and 0 or nil
    result.group_size = math.max(block[1], block[2])
    return normal(result, description)
  end
  return result
end

-- What is wrong with how scales and zero points are to be stored, or nil.
local function storage_conflict(bits, o)
  local affine = o.symmetric == false and o.zero == "float"
  if o.zero == "positive" and (bits < 2 or bits > 8) then
    return ("zero = \"positive\" is for codes of 2 to 8 bits, not %d"):format(bits)
  elseif affine and bits > 8 then
    return ("zero = \"float\" is for codes of at most 8 bits, not %d"):format(bits)
  elseif affine and (o.scale == "e4m3" or o.scale == "e8m0") then
    return ("zero = \"float\" is stored in the type of scale: f32, f16 or bf16, not %s")
      :format(o.scale)
  elseif o.tensor_scale and o.scale ~= "e4m3" then
    return "tensor_scale lies above scales of e4m3; add scale = \"e4m3\""
  elseif o.tensor_scale and o.symmetric == false then
    return "tensor_scale is for schemes without a zero point"
  elseif o.double and o.scale ~= "f32" then
    return ("double says how scales are stored, so that scale = %q means nothing; leave it out")
      :format(o.scale)
  elseif o.double and o.double.map == "dynamic" and o.double.bits ~= 8 then
    return ("the dynamic map of double has 8 bits, not %d"):format(o.double.bits)
  end
end

-- What is wrong with options taken together, or nil.
local function conflict(bits, o, given)
  if o.clip ~= "none" and o.ratio ~= 1 then
    return "clip finds the ratio itself; leave ratio out"
  elseif type(o.group_size) ~= "number" and o.group_size ~= "row" and given.group_dim then
    return "group_dim is for groups of a number of weights or of a row; a block says it itself"
  elseif o.full_range and not o.symmetric then
    return "full_range needs symmetric = true; with a zero point there is one range only"
  elseif o.full_range and bits == 1 then
    return "1 bit has no full range; use more bits"
  elseif o.full_range and o.scale == "e8m0" then
    return "full_range makes scales of either sign, and those of e8m0 have none"
  elseif o.symmetric and given.zero then
    return "zero is the kind of zero point, which a symmetric scheme does not have"
  end
  return storage_conflict(bits, o)
end

-- The grids of integers with zero points of a kind.
local grid_types = { positive = "positive", float = "affine" }

local function make(type_name, given, level)
  local data_type, bits, description = table.unpack(types[type_name], 1, 3)
  if data_type == "keep" and next(given) ~= nil then
    error("keep takes no options: the tensor stays as it is", level)
  end
  local o = options.check(type_name, given, description, level)
  for name in pairs(given) do given[name] = o[name] end
  local wrong = bits and conflict(bits, o, given)
  if wrong then error(type_name .. ": " .. wrong, level) end
  given = normal(given, description)
  local text = text_of(type_name, given)
  if known[text] then return known[text] end
  local value = setmetatable({}, Scheme)
  local fields = options.check(type_name, given, description)
  fields.type, fields.data_type, fields.bits = type_name, data_type, bits
  if fields.clip == "layer" and (fields.p ~= 2 or fields.importance) then
    fields.clip = require("rondo.clip.grid") { over = "tensor" } -- tiles know squared errors alone
  end
  if data_type ~= "int" then fields.symmetric, fields.full_range = true, false end
  if bits then
    local grid = not fields.symmetric and grid_types[fields.zero] or data_type
    fields.grid = core.grid(grid, bits, fields.symmetric, fields.full_range)
    fields.divisor = core.divisor(fields.grid)
  end
  fields_of[value] = { fields = fields, given = given, text = text }
  known[text] = value
  return value
end

-- ---- Methods ----

--- Whether groups have a zero point of their own.
function methods:has_zero()
  return self.data_type == "int" and not self.symmetric
end

--- The dtype of zero points; nil without.
function methods:zero_dtype()
  return self:has_zero() and (self.zero == "float" and "f32" or "u8") or nil
end

--- Groups along a line of `length` weights.
function methods:groups(length)
  if self.group_size == "row" then return length > 0 and 1 or 0 end
  return (length + self.group_size - 1) // self.group_size
end

--- The group size in elements for lines of that length; the core wants at least 1.
function methods:group_elements(length)
  local most = math.max(length, 1)
  return self.group_size == "row" and most or math.min(self.group_size, most)
end

local function group_label(size)
  if type(size) == "table" then return ("%dx%d"):format(size[1], size[2]) end
  return type(size) == "number" and "g" .. size or size
end

-- Words for what a label tells only where it differs from the default.
local setting_labels = {
  { "scale", function(scale) return "scale " .. scale end },
  { "tensor_scale", function() return "tensor-scale" end },
  { "zero", function(zero) return "zero " .. zero end },
  { "double", function(double)
    return ("double %d-bit g%d%s%s"):format(double.bits, double.group_size,
      double.map == "int" and "" or " " .. double.map, double.mean and "" or " without mean")
  end },
  { "clip", function(clip)
    return "clip " .. (clip == "layer" and clip or strategy.label(clip))
  end },
  { "ratio", function(ratio) return "ratio " .. core.json_real(ratio) end },
  { "p", function(p) return "p " .. core.json_real(p) end },
  { "importance", function() return "importance" end },
}

--- Short text for tables and reports, the same in every run: "int4 asym g32", "nf4 row", "int8 sym
--- full-range g128 dim0"; behind it what else differs from the defaults: "scale f16 clip grid".
function methods:label()
  if self.type == "keep" then return "keep" end
  local parts = { self.type }
  if self.data_type == "int" then parts[2] = self.symmetric and "sym" or "asym" end
  if self.full_range then parts[#parts + 1] = "full-range" end
  parts[#parts + 1] = group_label(self.group_size)
  if self.group_dim == 0 then parts[#parts + 1] = "dim0" end
  for _, setting in ipairs(setting_labels) do
    local name, text = setting[1], setting[2]
    if fields_of[self].given[name] ~= nil then parts[#parts + 1] = text(self[name]) end
  end
  return table.concat(parts, " ")
end

--- A plain table that scheme.from makes the same scheme of: type, and the options that differ from
--- the type's defaults.
function methods:totable()
  local result = { type = self.type }
  for name in pairs(fields_of[self].given) do result[name] = self[name] end
  return result
end

--- The scheme for a weight that is stored [in, out]: its groups run along the other dimension.
function methods:transposed()
  local size = self.group_size
  if self.type == "keep" then return self end
  if self.importance then
    error(tostring(self) .. ": importance goes by column; it has no meaning for a weight that is "
      .. "stored [in, out]", 0)
  end
  if size == "tensor" then return self end
  if type(size) == "table" then return self { group_size = { size[2], size[1] } } end
  return self { group_dim = 1 - self.group_dim }
end

--- The scheme in the words of the reference (see rondo.rtn): bits, group_size (-1: a row), scheme,
--- data_type, full_range, group_dim.
function methods:reference()
  return { bits = self.bits, data_type = self.data_type, full_range = self.full_range,
           group_size = self.group_size == "row" and -1 or self.group_size,
           group_dim = self.group_dim, scheme = self.symmetric and "sym" or "asym" }
end

-- ---- What the core can do ----

--- Why nothing can be quantized with this scheme, or nil. The one place that knows.
-- @param cols  of the weights; nil: any
function methods:refusal(cols)
  if self.bits > 8 and self.scale ~= "f32" then
    return ("scales of %d-bit codes are f32, not %s"):format(self.bits, self.scale)
  end
  return strategy.refusal(self.clip, self, cols)
end

-- ---- The object ----

local function copy(value)
  return type(value) == "table" and not getmetatable(value) and joined(value) or value
end

function Scheme.__index(self, key)
  if methods[key] then return methods[key] end
  local own = fields_of[self].fields
  if own[key] == nil and not shared[key] and not integer[key] and key ~= "bits" then
    error(("a scheme has no field '%s'"):format(tostring(key)), 2)
  end
  return copy(own[key])
end

function Scheme.__newindex(_, key)
  error(("a scheme cannot be changed (field '%s'); scheme { %s = ... } makes another")
    :format(tostring(key), tostring(key)), 2)
end

function Scheme.__call(self, changes)
  if type(changes) ~= "table" then
    error(("%s: options must be a table, not a %s"):format(self.type, type(changes)), 2)
  end
  return make(self.type, joined(fields_of[self].given, changes), 2)
end

function Scheme.__tostring(self)
  return fields_of[self].text
end

--- The schemes with all their defaults, by type.
scheme.types = {}
for name in pairs(types) do scheme.types[name] = make(name, {}, 1) end

--- Those that are fields of rondo, and those of formats, which are, too.
scheme.ready = {}
for name in pairs(named) do scheme.ready[name] = scheme.types[name] end

--- Those that say all by themselves: nothing is left for group_size and the like to say.
scheme.whole = { "fp8", "mxfp4", "mxfp8", "nvfp4" }

scheme.ready.mxfp4 = make("e2m1", { group_size = 32, scale = "e8m0" }, 1)
scheme.ready.mxfp8 = make("fp8", { group_size = 32, scale = "e8m0" }, 1)
scheme.ready.nvfp4 = make("e2m1", { group_size = 16, scale = "e4m3", tensor_scale = true }, 1)

--- Whether a value is a scheme.
function scheme.is(value)
  return type(value) == "table" and fields_of[value] ~= nil
end

--- A scheme of a plain table: type, and options; see totable.
function scheme.from(given)
  local name = type(given) == "table" and given.type
  if not types[name] then
    error("scheme.from: a table with a type is expected: int1 .. int16, keep, fp8, "
      .. table.concat(scheme.float_types, ", "), 2)
  end
  local rest = joined(given)
  rest.type = nil
  return make(name, rest, 2)
end

--- A scheme in the words of the reference, see reference().
-- @param fields  bits, data_type, scheme, full_range, group_size, group_dim, already checked; and
--                ratio = 1, clip = "none", scale_dtype = "f32"
function scheme.of_reference(fields)
  local given = { group_size = fields.group_size == -1 and "row" or fields.group_size,
                  group_dim = fields.group_dim, ratio = fields.ratio, clip = fields.clip,
                  scale = fields.scale_dtype }
  if fields.data_type ~= "int" then return make(fields.data_type, given, 2) end
  given.symmetric = fields.scheme == "sym"
  given.full_range = given.symmetric and fields.full_range
  return make("int" .. fields.bits, given, 2)
end

return scheme
