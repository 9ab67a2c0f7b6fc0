-- plan_options: what rondo.plan may be told, and whether it makes sense for a model.

local formats = require "rondo.formats"
local layers_of = require "rondo.model.layers"
local linear = require("rondo.model.layer").linear
local options = require "rondo.options"
local pattern = require "rondo.pattern"
local recipe_of = require "rondo.recipe"
local plain = require "rondo.recipe.plain"
local scheme_of = require "rondo.scheme"
local strategy = require "rondo.strategy"

local plan_options = {}

local function model_of() return require "rondo.model" end

local word_names = { i8 = "i8", i16 = "i16", i32 = "i32", i64 = "i64",
                     int8 = "i8", int16 = "i16", int32 = "i32", int64 = "i64" }
local scale_names = { f32 = "f32", f16 = "f16", bf16 = "bf16",
                      float32 = "f32", float16 = "f16", bfloat16 = "bf16" }

local function group_size(value)
  if value == "row" then return -1 end
  local whole = math.type(value) ~= nil and math.tointeger(value)
  if whole and (whole == -1 or whole >= 1) then return whole end
end

local function check_recipe(value)
  return recipe_of.is(value) and value or nil
end

local dtypes, is_whole = table.move(scheme_of.data_types, 1, #scheme_of.data_types, 1, {}), {}
for _, name in ipairs(scheme_of.whole) do dtypes[#dtypes + 1], is_whole[name] = name, true end

--- Describes the options of plan.make, for rondo.options.
plan_options.description = {
  recipe = { kind = "custom", check = check_recipe,
             says = "a recipe (rondo.recipe { ... }, or dofile of a file that returns one)" },
  bits = { kind = "integer", min = 1, max = 16, default = 4 },
  group_size = { kind = "custom", check = group_size, default = 32,
                 says = "-1 (a whole row), \"row\" or an integer of at least 1" },
  scheme = { kind = "choice", choices = { "asym", "sym" }, default = "asym" },
  dtype = { kind = "choice", choices = dtypes, default = "int" },
  group_dim = { kind = "integer", min = 0, max = 1, default = 1 },
  full_range = { kind = "boolean", default = false },
  quantile = { kind = "number", above = 0, max = 1, default = 1.0 },
  mse_search = { kind = "boolean", default = false },
  clip = { kind = "custom", check = strategy.check, says = strategy.says, default = "none" },
  format = { kind = "choice", choices = formats.names, default = "fake" },
  activations = { kind = "choice", choices = { "none", "dynamic" }, default = "dynamic" },
  fallback = { kind = "custom", says = recipe_of.fallback_says,
               check = recipe_of.fallback },
  config = { kind = "table" },
  exclude = { kind = "table" },
  compression_dtype = { kind = "custom", default = "i32", says = "int8, int16, int32 or int64",
                        check = function(value) return word_names[value] end },
  compression_dim = { kind = "integer", min = 0, max = 1, default = 1 },
  scale_dtype = { kind = "custom", default = "f32", says = "float32, float16 or bfloat16",
                  check = function(value) return scale_names[value] end },
  shard_size = { kind = "number", min = 1, default = 5e9 },
  nonfinite = { kind = "choice", choices = { "error", "keep" }, default = "error" },
}

-- Those that say what a recipe says otherwise.
local deciding = { "bits", "group_size", "scheme", "dtype", "group_dim", "full_range", "quantile",
                   "mse_search", "clip", "config", "exclude", "scale_dtype" }

local layer_rules = {
  bits = plan_options.description.bits,
  group_size = plan_options.description.group_size,
  scheme = plan_options.description.scheme,
  quantile = plan_options.description.quantile,
  gptq_perm = {
    kind = "custom", says = "a list of integers",
    check = function(value)
      if type(value) ~= "table" then return nil end
      for _, index in ipairs(value) do
        if math.type(index) ~= "integer" then return nil end
      end
      return value
    end,
  },
}

-- A layer's entry of the configuration, checked. Fields that are missing take the call's value,
-- but for quantile: 1.0, as in the reference. gptq_perm is accepted and unused, as there.
local function layer_config(where, path, given)
  local name = string.format("%s: config '%s'", where, path)
  if type(given) ~= "table" then
    error(name .. " must be a table of bits, group_size, scheme, quantile", 0)
  end
  local result = {}
  for field, value in pairs(given) do
    local rule = layer_rules[field]
    if not rule then
      error(string.format("%s: unknown field '%s' (known: bits, gptq_perm, group_size, quantile, "
                          .. "scheme)", name, tostring(field)), 0)
    end
    result[field] = options.value(name, field, rule, value, 0)
  end
  return result
end

local function check_config(where, model, config)
  local checked, list = {}, model_of().layer_list(model)
  for path, given in pairs(config or {}) do
    local what = type(path) == "string" and layers_of.named(list, path)
    if not what or not linear[what.kind] then
      local meant = not what and type(path) == "string" and model_of().meant_layer(model, path)
      error(string.format("%s: config names '%s', which is no linear layer of %s%s", where,
                          tostring(path), model.path,
                          meant and "; did you mean '" .. meant .. "'?" or ""), 0)
    end
    checked[path] = layer_config(where, path, given)
  end
  return checked
end

local function matches_any(names, matches)
  for _, name in ipairs(names) do
    if matches(name) then return true end
  end
  return false
end

local function check_exclude(where, model, list)
  local matchers = {}
  if not list then return matchers end
  local context = { first = 0, last = math.max(model.depth - 1, 0) }
  for i, text in ipairs(list) do
    local good, matcher = pcall(pattern.compile, text, context)
    if not good then error(string.format("%s: exclude[%d]: %s", where, i, matcher), 0) end
    matchers[i] = { text = text, matches = matcher.test }
    if not matches_any(model.names, matcher.test) then
      warn(string.format("exclude '%s' matches no tensor of %s", text, model.path))
    end
  end
  return matchers
end

-- Codebooks have 4 bits; only the reference function takes other numbers for "int".
local function check_bits(where, o, bits)
  if o.dtype ~= "int" and bits ~= 4 and not o.reference then
    error(string.format("%s: dtype %s has 4 bits; bits must be 4, not %d", where, o.dtype, bits), 0)
  end
  if o.format == "packed" and bits > 8 then
    error(string.format("%s: packed codes have at most 8 bits, not %d", where, bits), 0)
  end
end

-- What a dtype says that is a scheme by itself.
local said_by_whole = { "bits", "group_size", "scheme", "group_dim", "full_range", "config" }

local function check_whole(where, given, dtype)
  for _, name in ipairs(said_by_whole) do
    if given[name] ~= nil then
      error(("%s: dtype %s says how weights are grouped and scaled; leave %s out"):format(where,
        dtype, name), 0)
    end
  end
end

-- What does nothing where groups have a scale and a bias.
local function check_affine(where, o, said)
  if o.format == "mlx" and (said.full_range or said.scheme == "sym") then
    error(("%s: %s does nothing in mlx, whose groups have a scale and a bias; leave it out"):format(
      where, said.full_range and "full_range" or "scheme = \"sym\""), 0)
  end
end

-- Options that would do nothing. The reference function takes them all the same.
local function check_combination(where, o)
  if o.mse_search and o.quantile ~= 1 then
    error(where .. ": mse_search finds the clip ratio itself; leave quantile out", 0)
  elseif o.clip ~= "none" and (o.quantile ~= 1 or o.mse_search) then
    error(where .. ": clip finds clip ratios itself; leave quantile and mse_search out", 0)
  end
  check_affine(where, o, o)
  local symmetric = o.scheme == "sym" and o.dtype == "int"
  if o.full_range and not symmetric and not next(o.config or {}) then
    error(where .. ": full_range needs scheme = \"sym\" and dtype = \"int\"", 0)
  end
end

local function check_nonfinite(where, o)
  if o.nonfinite == "keep" and o.format ~= "fake" then
    error(where .. ": nonfinite = \"keep\" is for values: codes cannot hold NaN or infinity", 0)
  end
end

local function check_beside_recipe(where, given, level)
  for _, name in ipairs(deciding) do
    if given[name] ~= nil then
      error(("%s: options '%s' and 'recipe' exclude each other: the recipe decides"):format(where,
        name), level + 1)
    end
  end
end

--- Checks options for a model; raises for what makes no sense.
-- @return a table of all options, with exclude: a list of { text, matches }, config: checked;
--         reference; recipe: the one given, with named: words for it, or the one that the options
--         stand for
function plan_options.check(where, model, given, level, reference)
  if not model_of().is_model(model) then
    error(string.format("%s: a model from rondo.open is expected, not a %s", where, type(model)),
          level + 1)
  end
  local o = options.check(where, given, plan_options.description, level + 1)
  o.reference = reference or false
  if o.recipe then
    check_beside_recipe(where, given, level + 1)
    o.named = select(2, recipe_of.about(o.recipe))
    check_nonfinite(where, o)
    return o
  end
  if is_whole[o.dtype] then
    check_whole(where, given, o.dtype)
    o.bits = scheme_of.ready[o.dtype].bits
  else
    check_bits(where, o, o.bits)
  end
  if not reference then check_combination(where, o) end
  check_nonfinite(where, o)
  o.exclude = check_exclude(where, model, o.exclude)
  o.config = check_config(where, model, o.config)
  for path, config in pairs(o.config) do
    local named = string.format("%s: config '%s'", where, path)
    check_bits(named, o, config.bits or o.bits)
    check_affine(named, o, config)
  end
  o.recipe = plain(o)
  return o
end

return plan_options
