-- cli.options: the options of the commands: how each is spelled, what it takes, which do not go
-- together. A wrong value is an error that names the option and what is allowed.

local formats = require "rondo.formats"
local sizes = require "rondo.sizes"

local cli_options = {}

-- ---- Values ----
-- A converter takes the text given and returns the value, or nil and what is allowed (or nil, nil
-- and what is wrong).

local function integer(min, max)
  return function(text)
    local value = text:find "^[+-]?%d+$" and math.tointeger(tonumber(text))
    if value and value >= min and value <= max then return value end
    return nil, ("an integer from %d to %d"):format(min, max)
  end
end

local function group_size(text)
  if text == "row" then return -1 end
  local value = text:find "^[+-]?%d+$" and math.tointeger(tonumber(text))
  if value and (value == -1 or value >= 1) then return value end
  return nil, "an integer of at least 1, or -1 or row for one group a row"
end

local function ratio(text)
  local plain = text:find "^%d*%.?%d*$" or text:find "^%d*%.?%d*[eE][+-]?%d+$"
  local value = plain and tonumber(text)
  if value and value > 0 and value <= 1 then return value + 0.0 end
  return nil, "a number above 0 and at most 1"
end

-- choices: the words as they are shown; aliases: other words for them.
local function choice(choices, aliases)
  local values = {}
  for _, word in ipairs(choices) do values[word] = word end
  for alias, word in pairs(aliases or {}) do values[alias] = word end
  return function(text)
    if values[text] then return values[text] end
    return nil, "one of " .. table.concat(choices, ", ")
  end
end

local function size(text)
  local value = sizes.parse(text)
  if value then return value end
  return nil, sizes.form
end

local function glob(text)
  local good, why = pcall(require("rondo.pattern").compile, text)
  if good then return text end
  return nil, nil, tostring(why)
end

-- Names of schemes, as rondo.plan takes them.
local function fallback(text)
  if require("rondo.recipe").fallback(text) then return text end
  return nil, "names of rondo's schemes with commas between, keep last if at all (keep; int8,keep; "
    .. "mxfp8); with options they stand in a recipe, as its fallback"
end

local function setting(text)
  if text:find "^[%a_][%w_]*=" then return text end
  return nil, "NAME=VALUE"
end

local words = { i8 = "int8", i16 = "int16", i32 = "int32", i64 = "int64" }
local floats = { f32 = "float32", f16 = "float16", bf16 = "bfloat16" }

-- ---- The options ----

-- Each: option, name in the result, placeholder of the value (none: a flag), converter, help.
local quantization = {
  { "--recipe", "recipe", "FILE", nil,
    "A Lua file that returns rondo.recipe { ... }: rules that decide what becomes of each tensor, "
      .. "in place of the options from --bits to --exclude and of --scale-dtype." },
  { "--set", "set", "NAME=VALUE", setting,
    "An option of the recipe; may be repeated." },
  { "--bits", "bits", "N", integer(1, 16),
    "Bits of a code, 1 to 16; at most 8 with --format packed (default: 4)." },
  { "--group-size", "group_size", "N", group_size,
    "Weights that share a scale; -1 or row: a whole row (default: 32)." },
  { "--scheme", "scheme", "NAME", choice { "asym", "sym" },
    "Integers with a zero point (asym) or without (sym) (default: asym)." },
  { "--dtype", "dtype", "NAME", choice { "int", "nf4", "fp4", "fp4_e2m1", "fp4_e2m1_bnb", "e2m1",
                                         "fp8", "mxfp4", "mxfp8", "nvfp4" },
    "What codes stand for: int, nf4, fp4, fp4_e2m1, fp4_e2m1_bnb or e2m1; all but int have 4 bits "
      .. "and no zero point, whatever --scheme says. Or fp8, mxfp4, mxfp8, nvfp4, which say all of "
      .. "bits and groups (default: int)." },
  { "--group-dim", "group_dim", "D", integer(0, 1),
    "Groups run along the input (1) or the output channels (0) (default: 1)." },
  { "--full-range", "full_range", nil, nil,
    "Scale by 2^(bits-1), not 2^(bits-1)-1; needs --scheme sym." },
  { "--quantile", "quantile", "X", ratio,
    "Clip ratio of every group, above 0 and at most 1 (default: 1.0)." },
  { "--mse-search", "mse_search", nil, nil,
    "Search the clip ratio of every layer; takes the place of --quantile." },
  { "--clip", "clip", "NAME", choice { "none", "layer", "grid", "golden", "fine", "mse",
                                       "percentile", "signed", "least_squares", "neighbours" },
    "Search the scale of every group: none, layer (as --mse-search: one ratio for a layer), grid, "
      .. "golden, fine, mse, percentile; signed (symmetric integers), least_squares (integers, "
      .. "mlx), neighbours (nvfp4, mxfp4, mxfp8) (default: none)." },
  { "--format", "format", "NAME", choice(formats.names),
    "fake: dequantized weights under the same names and types, for any loader; packed: integer "
      .. "codes, scales and zero points of rondo's own; compressed-tensors, gptq, gptq-v2, awq, "
      .. "mlx, bitsandbytes, fp8, modelopt: what inference engines load (default: fake)." },
  { "--fallback", "fallback", "NAMES", fallback,
    "What becomes of layers that the format has no place for: keep, or names of schemes with "
      .. "commas between (int8,keep), of which each layer gets the first that fits; a recipe's own "
      .. "fallback may have options (default: an error that names the first)." },
  { "--activations", "activations", "WHAT", choice { "none", "dynamic" },
    "compressed-tensors: what engines do to the inputs of int8 and fp8 layers, nothing or "
      .. "quantize them as they come (default: dynamic)." },
  { "--config", "config", "FILE.lua", nil,
    "A Lua file that returns settings by layer: { [\"model.layers.0.mlp.up_proj\"] = { bits =, "
      .. "group_size =, scheme =, quantile = }, ... }. lm_head or a router named there is "
      .. "quantized, too." },
  { "--exclude", "exclude", "GLOB", glob,
    "Layers to keep: a run of whole dotted segments, * within a segment or for any number of them, "
      .. "a|b, {a,b}, {0-3}; may be repeated." },
  { "--nonfinite", "nonfinite", "WHAT", choice { "error", "keep" },
    "NaN and infinity in a weight: an error, or kept as they are (default: error)." },
  { "--compression-dtype", "compression_dtype", "NAME",
    choice({ "int8", "int16", "int32", "int64" }, words),
    "packed: words that hold the codes (default: int32)." },
  { "--compression-dim", "compression_dim", "D", integer(0, 1),
    "packed: codes fill words along rows (1) or columns (0) (default: 1)." },
  { "--scale-dtype", "scale_dtype", "NAME", choice({ "float32", "float16", "bfloat16" }, floats),
    "packed: type of scales and biases (default: float32)." },
  { "--shard-size", "shard_size", "SIZE", size,
    "Largest weight file: 5GB, 500MiB or bytes; MB is 10^6 bytes, MiB 2^20 (default: 5GB)." },
}

local threads = { "--threads", "threads", "N", integer(1, 1024),
                  "Threads to compute with, 1 to 1024 (default: all processors)." }
local json = { "--json", "json", nil, nil, "Print JSON for other programs, and nothing else." }
local overwrite = { "--overwrite", "overwrite", nil, nil, "Replace OUT where it exists." }

local function joined(list, ...)
  local all = table.move(list, 1, #list, 1, {})
  for _, option in ipairs { ... } do all[#all + 1] = option end
  return all
end

local bins = { "--bins", "bins", "N", integer(2, 400), "Bars of the histogram (default: 24)." }

--- The options of each command.
cli_options.of = {
  quantize = joined(quantization, threads, json, overwrite),
  plan = joined(quantization,
    { "--threads", "threads", "N", integer(1, 1024), "Taken and unused: a plan computes nothing." },
    json, { "--overwrite", "overwrite", nil, nil, "Taken and unused: a plan writes nothing." }),
  inspect = {
    { "--stats", "stats", nil, nil,
      "Mean, deviation, range and NaN alarm of every tensor (reads the weights)." },
    { "--hist", "hist", "NAME", nil,
      "A histogram of one tensor, by its full name or an unambiguous end of it." },
    bins, threads, json,
  },
  compare = { threads, json },
  verify = { threads, json },
}

-- ---- What goes together ----

-- Options of one format, with their defaults, which may be spelled out anywhere.
local of_format = { { "compression_dtype", "--compression-dtype", "int32", "packed" },
                    { "compression_dim", "--compression-dim", 1, "packed" },
                    { "scale_dtype", "--scale-dtype", "float32", "packed" },
                    { "activations", "--activations", "dynamic", "compressed-tensors" } }

local whole = { fp8 = true, mxfp4 = true, mxfp8 = true, nvfp4 = true }

local function whole_conflict(o)
  for _, name in ipairs { "bits", "group_size", "scheme", "group_dim", "full_range", "config" } do
    if o[name] ~= nil then
      return ("option '--%s' does nothing with --dtype %s, which says it all; leave it out"):format(
        (name:gsub("_", "-")), o.dtype)
    end
  end
end

local function codebook_conflict(o)
  if whole[o.dtype] then return whole_conflict(o) end
  if o.bits and o.bits ~= 4 then
    return ("option '--bits' must be 4 with --dtype %s, not %d"):format(o.dtype, o.bits)
  elseif o.full_range then
    return ("option '--full-range' does nothing with --dtype %s; leave it out"):format(o.dtype)
  end
end

local function full_range_conflict(o)
  if o.scheme ~= "sym" and not o.config then -- a configuration may make single layers sym
    return "option '--full-range' needs --scheme sym; asym has one range only"
  elseif o.scheme == "sym" and o.bits == 1 then
    return "option '--full-range' needs --bits 2 or more"
  end
end

-- What a recipe says otherwise.
local deciding = { "bits", "group_size", "scheme", "dtype", "group_dim", "full_range", "quantile",
                   "mse_search", "clip", "config", "exclude", "scale_dtype" }

local function recipe_conflict(o)
  if not o.recipe then
    return o.set and "option '--set' needs --recipe FILE; it sets an option of the recipe"
  end
  for _, name in ipairs(deciding) do
    if o[name] ~= nil then
      return ("options '--%s' and '--recipe' exclude each other: the recipe decides"):format(
        (name:gsub("_", "-")))
    end
  end
end

local function quantization_conflict(o)
  if o.out == "" then return "argument 'OUT' must name a folder" end
  local by_recipe = recipe_conflict(o)
  if by_recipe then return by_recipe end
  if o.nonfinite == "keep" and o.format and o.format ~= "fake" then
    return "option '--nonfinite' keep needs --format fake: codes cannot hold NaN or infinity"
  end
  if o.format == "mlx" and (o.full_range or o.scheme == "sym") then
    return ("option '--%s' does nothing with --format mlx, whose groups have a scale and a bias; "
            .. "leave it out"):format(o.full_range and "full-range" or "scheme")
  end
  if o.dtype and o.dtype ~= "int" then
    local conflict = codebook_conflict(o)
    if conflict then return conflict end
  elseif o.full_range then
    local conflict = full_range_conflict(o)
    if conflict then return conflict end
  end
  if o.mse_search and o.quantile and o.quantile ~= 1 then
    return "options '--quantile' and '--mse-search' exclude each other: the search finds the ratio"
  elseif o.clip and (o.mse_search or o.quantile and o.quantile ~= 1) then
    return ("options '--clip' and '--%s' exclude each other: the search finds the ratios"):format(
      o.mse_search and "mse-search" or "quantile")
  end
  if o.format == "packed" and o.bits and o.bits > 8 then
    return ("option '--bits' must be at most 8 with --format packed, not %d"):format(o.bits)
  end
  for _, option in ipairs(of_format) do
    local name, flag, default, format = table.unpack(option)
    if o[name] ~= nil and o[name] ~= default and o.format ~= format then
      return ("option '%s' needs --format %s"):format(flag, format)
    end
  end
end

--- What is wrong with the options of a command, taken together; nil where nothing is.
-- @param o  command, and the options given, no defaults filled in
function cli_options.conflict(o)
  if o.command == "quantize" or o.command == "plan" then return quantization_conflict(o) end
  if o.bins and not o.hist then return "option '--bins' needs --hist NAME" end
end

local plan_names = {}
for _, option in ipairs(quantization) do plan_names[#plan_names + 1] = option[2] end

--- The options for rondo.plan: those of the command line that it knows.
function cli_options.for_plan(o)
  local result = {}
  for _, name in ipairs(plan_names) do
    if name ~= "set" then result[name] = o[name] end
  end
  return result
end

return cli_options
