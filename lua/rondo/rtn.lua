-- rtn: the seven functions of neural_compressor.torch.algorithms.rtn, with their names, parameters
-- and defaults, bit for bit (rounding half to even, float32 arithmetic whatever the input).
--
-- A weight is a tensor of f32, f16 or bf16. Rank 2 is [rows, cols]; rank 1 counts as one row; rank
-- 3 (experts) as its 2-D slices one below the other. Results are f32 and the input is never
-- changed. Every function takes an options table; unknown names and values are errors.
--
-- Where rondo differs from the reference on purpose:
--   * NaN or infinity is an error that names the place; nonfinite = "keep" lets the values pass
--     through (they count as 0 in their group's range), where no codes are asked for;
--   * a scale that underflows to 0 makes a group of zeros, one that overflows is an error;
--   * 1 bit with full_range, which is NaN in the reference, is an error;
--   * the clip search follows group_dim, group_dim 0 can be packed, 8-bit codes fit int8 words;
--   * one layer's weight_config does not leak into the next layer's, a field missing in it takes
--     the call's value, and a layer that does not exist is an error;
--   * unpacking honours the zero point.

local core = require "rondo.core"
local execute = require "rondo.execute"
local options = require "rondo.options"
local plan = require "rondo.plan"
local scheme_of = require "rondo.scheme"
local stream = require "rondo.stream"

local rtn = {}

-- ---- Options ----

local rules = {
  num_bits = { kind = "integer", min = 1, max = 16, default = 4 },
  quantile = { kind = "number", above = 0, max = 1, default = 1.0 },
  group_size = {
    kind = "custom", says = "-1 (a whole row), \"row\" or an integer of at least 1", default = -1,
    check = function(value)
      if value == "row" then return -1 end
      local whole = math.type(value) ~= nil and math.tointeger(value)
      if whole and (whole == -1 or whole >= 1) then return whole end
    end,
  },
  scheme = { kind = "choice", choices = { "asym", "sym" }, default = "asym" },
  data_type = { kind = "choice", choices = scheme_of.data_types, default = "int" },
  float_type = { kind = "choice", choices = scheme_of.float_types, default = "nf4" },
  flag = { kind = "boolean", default = false },
  nonfinite = { kind = "choice", choices = { "error", "keep" }, default = "error" },
}

local function but(rule, changes)
  local copy = {}
  for name, value in pairs(rule) do copy[name] = value end
  for name, value in pairs(changes) do copy[name] = value end
  return copy
end

local descriptions = {
  quantize_4bit = {
    quantile = rules.quantile, data_type = rules.float_type, return_int = rules.flag,
    nonfinite = rules.nonfinite,
  },
  qdq_weight_asym = {
    num_bits = rules.num_bits, quantile = rules.quantile, return_int = rules.flag,
    nonfinite = rules.nonfinite,
  },
  qdq_weight_sym = {
    num_bits = rules.num_bits, quantile = rules.quantile, return_int = rules.flag,
    full_range = rules.flag, nonfinite = rules.nonfinite,
  },
  qdq_weight_actor = {
    num_bits = but(rules.num_bits, { required = true }),
    scheme = but(rules.scheme, { required = true }),
    quantile = rules.quantile, data_type = rules.data_type, return_int = rules.flag,
    full_range = rules.flag, nonfinite = rules.nonfinite,
  },
  quant_weight = {
    num_bits = rules.num_bits, group_size = rules.group_size, scheme = rules.scheme,
    quantile = rules.quantile, data_type = rules.data_type, return_int = rules.flag,
    full_range = rules.flag, nonfinite = rules.nonfinite,
  },
  search_clip = {
    num_bits = rules.num_bits, group_size = but(rules.group_size, { default = 32 }),
    scheme = rules.scheme, data_type = rules.data_type, enable_full_range = rules.flag,
    group_dim = { kind = "integer", min = 0, max = 1, default = 1 }, nonfinite = rules.nonfinite,
    importance = options.importance,
  },
}

-- A codebook applies with 4 bits only; with others the reference falls back to the integer rule.
local function effective_type(o)
  return o.num_bits == 4 and o.data_type or "int"
end

local function scheme_from(where, o, level)
  local data_type, full_range = effective_type(o), o.full_range or o.enable_full_range or false
  if data_type == "int" and o.scheme == "sym" and full_range and o.num_bits == 1 then
    error(where .. ": 1 bit has no full range; use full_range = false or more bits", level + 1)
  end
  return scheme_of.of_reference {
    data_type = data_type, bits = o.num_bits, scheme = o.scheme, full_range = full_range,
    group_size = o.group_size or -1, group_dim = o.group_dim, ratio = o.quantile,
  }
end

-- ---- Weights ----

-- A weight as one matrix: rank 1 is a row, slices of rank 3 stand one below the other.
local function as_matrix(where, weight, level)
  if not core.is_tensor(weight) then
    error(string.format("%s: the weight must be a tensor, not a %s", where, type(weight)),
          level + 1)
  end
  local dtype, shape = weight.dtype, weight.shape
  if dtype ~= "f32" and dtype ~= "f16" and dtype ~= "bf16" then
    error(string.format("%s: the weight must be f32, f16 or bf16, not %s; convert it with "
                        .. ":to(\"f32\")", where, dtype), level + 1)
  end
  if #shape < 1 or #shape > 3 then
    error(string.format("%s: the weight must have rank 1, 2 or 3, not %d", where, #shape),
          level + 1)
  end
  local cols, rows = shape[#shape], 1
  for i = 1, #shape - 1 do rows = rows * shape[i] end
  return weight:contiguous():reshape { rows, cols }, shape
end

-- The matrix's shape [rows, n] in terms of the weight's: rank 3 keeps its slices.
local function restored(tensor, shape)
  if tensor == nil or #shape ~= 3 then return tensor end
  return tensor:reshape { shape[1], shape[2], tensor.shape[2] }
end

-- Raises for a NaN, an infinity or an overflowing scale; `matrix` is the tile they are in.
local function raise_place(where, matrix, what, row, col, level)
  local place = string.format("row %d, column %d", row, col)
  if what == "scale" then
    error(string.format("%s: the scale of the group at %s is not finite; its weights span more "
                        .. "than f32 holds", where, place), level + 1)
  end
  local value = matrix[row][col]
  local name = value ~= value and "NaN" or "infinity"
  error(string.format("%s: %s at %s (nonfinite = \"keep\" lets it pass where no codes are asked "
                      .. "for)", where, name, place), level + 1)
end

-- Quantizes a whole weight in memory. Returns the values, or codes, scale and zero.
local function apply(where, weight, scheme, o, level)
  if o.return_int and scheme.bits > 8 then
    error(string.format("%s: codes have at most 8 bits, not %d; leave return_int out", where,
                        scheme.bits), level + 1)
  end
  local matrix, shape = as_matrix(where, weight, level + 1)
  local wanted = {
    group_size = scheme:group_elements(matrix.shape[2]), ratio = scheme.ratio,
    keep = o.nonfinite == "keep", values = not o.return_int, codes = o.return_int,
    scale = o.return_int, zero = o.return_int,
  }
  local result, what, row, col = core.quantize(scheme.grid, matrix, wanted)
  if not result then raise_place(where, matrix, what, row, col, level + 1) end
  if not o.return_int then return result.values:reshape(shape) end
  return result.codes:reshape(shape), restored(result.scale, shape), restored(result.zero, shape)
end

-- ---- The functions over one weight ----

--- Quantizes and dequantizes to a 4-bit codebook; every row is one group.
-- @param weight  tensor, see the head of this file
-- @param o  quantile = 1.0: clip ratio in (0, 1]; data_type = "nf4" ("fp4", "fp4_e2m1_bnb",
--           "fp4_e2m1", "e2m1"); return_int = false; nonfinite = "error" ("keep")
-- @return f32 tensor of the weight's shape; with return_int i8 codes of that shape, f32 scale
--         [rows, 1], and nil
function rtn.quantize_4bit(weight, o)
  o = options.check("quantize_4bit", o, descriptions.quantize_4bit)
  o.num_bits, o.scheme = 4, "sym"
  return apply("quantize_4bit", weight, scheme_from("quantize_4bit", o, 2), o, 2)
end

--- Quantizes and dequantizes to unsigned integers with a zero point; every row is one group.
-- @param o  num_bits = 4: 1..16 (1..8 with return_int); quantile = 1.0; return_int = false;
--           nonfinite = "error"
-- @return f32 tensor; with return_int u8 codes, f32 scale [rows, 1], u8 zero point [rows, 1]
function rtn.qdq_weight_asym(weight, o)
  o = options.check("qdq_weight_asym", o, descriptions.qdq_weight_asym)
  o.data_type, o.scheme = "int", "asym"
  return apply("qdq_weight_asym", weight, scheme_from("qdq_weight_asym", o, 2), o, 2)
end

--- Quantizes and dequantizes to signed integers; every row is one group.
-- @param o  num_bits = 4; quantile = 1.0; full_range = false: scale by 2^(num_bits-1), with a
--           negative scale where max > |min|; return_int = false; nonfinite = "error"
-- @return f32 tensor; with return_int i8 codes, f32 scale [rows, 1], and nil
function rtn.qdq_weight_sym(weight, o)
  o = options.check("qdq_weight_sym", o, descriptions.qdq_weight_sym)
  o.data_type, o.scheme = "int", "sym"
  return apply("qdq_weight_sym", weight, scheme_from("qdq_weight_sym", o, 2), o, 2)
end

--- Chooses among the three functions above by data_type and scheme; every row is one group.
-- @param o  num_bits and scheme ("asym", "sym") are required; quantile = 1.0; data_type = "int";
--           return_int = false; full_range = false; nonfinite = "error"
function rtn.qdq_weight_actor(weight, o)
  o = options.check("qdq_weight_actor", o, descriptions.qdq_weight_actor)
  return apply("qdq_weight_actor", weight, scheme_from("qdq_weight_actor", o, 2), o, 2)
end

--- Quantizes and dequantizes in groups along the columns; a row that does not divide keeps a
--- shorter last group with a scale of its own.
-- @param o  num_bits = 4; group_size = -1 (or "row": a whole row); scheme = "asym" ("sym");
--           quantile = 1.0; data_type = "int"; return_int = false; full_range = false;
--           nonfinite = "error"
-- @return f32 tensor; with return_int codes, f32 scale [rows, groups], u8 zero point or nil
function rtn.quant_weight(weight, o)
  o = options.check("quant_weight", o, descriptions.quant_weight)
  return apply("quant_weight", weight, scheme_from("quant_weight", o, 2), o, 2)
end

--- Searches the clip ratio of a whole layer: of 1 - i/200, i = 0..39, the first with the least
--- mean squared error of quant_weight (differences in float32, summed in float64).
-- @param weight  a tensor, or a layer of model:layers()
-- @param o  num_bits = 4; group_size = 32; scheme = "asym"; data_type = "int";
--           enable_full_range = false; group_dim = 1 (0: groups along the rows of each slice);
--           nonfinite = "error"; importance: f32 tensor [cols], a weight per column for the error
-- @return the ratio, and the list of the 40 mean squared errors
function rtn.search_clip(weight, o)
  o = options.check("search_clip", o, descriptions.search_clip)
  if type(weight) == "table" and weight.tensor_name then weight = weight.weight end
  local scheme = scheme_from("search_clip", o, 2)
  local matrix, shape = as_matrix("search_clip", weight, 2)
  local slices = scheme.group_dim == 0 and #shape == 3 and shape[1] or 1
  local height = matrix.shape[1] // math.max(slices, 1)
  if o.importance and #o.importance ~= matrix.shape[2] then
    error(string.format("search_clip: importance must have one value per column, shape {%d}",
                        matrix.shape[2]), 2)
  end
  local importance = o.importance and o.importance:to("f32"):contiguous():clone()
  local function losses_at(ratios, exact)
    local losses = core.zeros({ #ratios }, "f64")
    for slice = 1, slices do
      local first = (slice - 1) * height
      local tile = slices > 1 and matrix:rows(first + 1, first + height) or matrix
      local done, what, row, col = core.losses(scheme.grid, tile, {
        group_dim = scheme.group_dim, keep = o.nonfinite == "keep",
        group_size = scheme:group_elements(tile.shape[scheme.group_dim + 1]),
        ratios = core.tensor(ratios, "f32"), losses = losses, weight = importance,
        exact = exact,
      })
      if not done then raise_place("search_clip", tile, what, row, col, 3) end
    end
    return losses:totable()
  end
  local means = losses_at(stream.search_ratios)
  local count = math.max(matrix.shape[1] * matrix.shape[2], 1)
  local best = stream.best_ratio(stream.search_ratios, means, function(close)
    return losses_at(close, true)
  end)
  for i, loss in ipairs(means) do means[i] = loss / count end
  return best, means
end

-- ---- Over a model ----

local description = {
  num_bits = rules.num_bits,
  group_size = but(rules.group_size, { default = 32 }),
  scheme = rules.scheme,
  quantile = rules.quantile,
  weight_config = { kind = "table" },
  return_int = rules.flag,
  data_type = rules.data_type,
  enable_full_range = rules.flag,
  enable_mse_search = rules.flag,
  group_dim = { kind = "integer", min = 0, max = 1, default = 1 },
  compression_dtype = plan.description.compression_dtype,
  compression_dim = plan.description.compression_dim,
  scale_dtype = plan.description.scale_dtype,
  nonfinite = rules.nonfinite,
}

--- Quantizes all linear layers of a model, lm_head and routers included, as the reference does (the
--- command leaves those two out by default).
--
-- The weights are looked at once, so that NaN, infinity and overflowing scales are errors here; the
-- quantized tensors are computed when they are asked for, so a model of any size fits.
-- @param model  what rondo.open gives
-- @param o  num_bits = 4; group_size = 32; scheme = "asym"; quantile = 1.0; data_type = "int";
--           enable_full_range = false; enable_mse_search = false (the searched ratio replaces any
--           quantile); group_dim = 1; nonfinite = "error";
--           weight_config = {}: by module path { bits, group_size, scheme, quantile, gptq_perm }: a
--           field that is missing takes the call's value, but quantile 1.0; gptq_perm is checked
--           and unused, as in the reference;
--           return_int = false: with it packed layers, for compression_dtype = "int32" ("int8",
--           "int16", "int64"), compression_dim = 1, scale_dtype = "float32"
-- @return a model: fake-quantized weights in the source's dtype, or with return_int
--         P.packed_weight, P.scale, P.packed_zp, P.bias; or nil, message, code where files cannot
--         be read
function rtn.rtn_quantize(model, o)
  o = options.check("rtn_quantize", o, description)
  if not require("rondo.model").is_model(model) then
    error("rtn_quantize: a model from rondo.open is expected, not a " .. type(model), 2)
  end
  local made, message, code = plan.make(model, {
    bits = o.num_bits, group_size = o.group_size, scheme = o.scheme, quantile = o.quantile,
    config = o.weight_config, format = o.return_int and "packed" or "fake", dtype = o.data_type,
    full_range = o.enable_full_range, mse_search = o.enable_mse_search, group_dim = o.group_dim,
    compression_dtype = o.compression_dtype, compression_dim = o.compression_dim,
    scale_dtype = o.scale_dtype, nonfinite = o.nonfinite,
  }, 2, "rtn_quantize", true)
  if not made then return nil, message, code end
  for number, job in plan.quantizing(made) do
    local good
    good, message, code = execute.check(job, o.nonfinite == "keep")
    if not good and code == "nonfinite" then error("rtn_quantize: " .. message, 2) end
    if not good then return nil, message, code end
    made.ratios[number] = job.ratio
  end
  return require("rondo.model.planned").model(made)
end

return rtn
