-- gptq: the checkpoints of AutoGPTQ and GPTQModel, which vLLM and transformers load.
--
-- A layer P of `bits` bits has
--   P.qweight  i32 [in * bits / 32, out]  fields of an output's codes, the first input lowest
--   P.qzeros   i32 [groups, out * bits / 32]
--   P.scales   f16 [groups, out]
--   P.g_idx    i32 [in]  the group of each input
-- and W = scale * (code - zero). Symmetric codes are stored + 2^(bits-1), their zero point. Version
-- 1 (checkpoint_format "gptq") stores zero - 1; readers do not agree on what a zero point of 0 is
-- then, so that groups have 1 .. 2^bits-1. Version 2 stores zero itself.
-- Layout and configuration: AutoGPTQ, ModelCloud/GPTQModel.

local core = require "rondo.core"
local json = require "rondo.json"
local names = require "rondo.formats.names"
local parts = require "rondo.recipe.parts"
local read = require "rondo.formats.read"
local remarks = require "rondo.formats.remarks"
local scheme_of = require "rondo.scheme"
local tensors = require "rondo.formats.tensors"
local text = require "rondo.model.text"

local gptq = {}

local allowed_bits = { [2] = true, [4] = true, [8] = true }

-- Why it has no place for a scheme in a layer of that shape, or nil.
local function misfit(scheme, shape)
  local size, fields = scheme.group_size, 32 // (scheme.bits or 32)
  if scheme.data_type ~= "int" or not allowed_bits[scheme.bits] then
    return "gptq holds integers of 2, 4 or 8 bits: rondo.int4, --bits 4"
  elseif type(size) ~= "number" and size ~= "row" or scheme.group_dim == 0 then
    return "groups of gptq run along the inputs: group_size = 128 or \"row\", group_dim = 1"
  elseif scheme.double or scheme.zero == "float" then
    return "scales of gptq are f16, its zero points integers: leave double and zero out"
  elseif shape[1] % fields ~= 0 then
    return ("%d outputs are no multiple of %d, the codes of a word"):format(shape[1], fields)
  elseif shape[2] % fields ~= 0 then
    return ("%d inputs are no multiple of %d, the codes of a word"):format(shape[2], fields)
  elseif size ~= "row" and shape[2] % size ~= 0 then
    return ("%d inputs are no multiple of the group size %d"):format(shape[2], size)
  end
end

local function fit_for(version)
  return function(scheme, about)
    local reason = read.no_linear(about) or misfit(scheme, about.shape)
    if not reason and scheme.scale ~= "f32" and scheme.scale ~= "f16" then
      reason = ("scales of gptq are f16, not %s: leave scale out"):format(scheme.scale)
    end
    if reason then return nil, reason end
    local changes = { scale = "f16" }
    if version == 1 and not scheme.symmetric then changes.zero = "positive" end
    return scheme(changes)
  end
end

-- ---- Tensors ----

-- 2^(bits-1) in every field, less 1 in version 1.
local function fill_of(bits, version)
  local zero, word = (1 << bits - 1) - (2 - version), 0
  for field = 0, 32 // bits - 1 do word = word | zero << field * bits end
  return word < 1 << 31 and word or word - (1 << 32)
end

local function zeros_of(scheme, rows, groups, version)
  local bits, fields = scheme.bits, 32 // scheme.bits
  if not scheme:has_zero() then
    local shape = { groups, (rows + fields - 1) // fields }
    return tensors.constant("qzeros", "i32", shape,
                            function() return core.full(shape, fill_of(bits, version), "i32") end)
  end
  return tensors.words("qzeros", "zero", "i32", { rows, groups }, tensors.layout {
    bits = bits, word = "i32", dim = 0, transposed = true,
    add = version == 1 and (1 << bits) - 1 or nil })
end

local function group_numbers(cols, size)
  return tensors.constant("g_idx", "i32", { cols }, function()
    return (core.arange(0, cols - 1, 1, "i32") // size):to("i32")
  end)
end

local function outputs_of(scheme, shape, version, with_groups)
  local rows, cols, bits = shape[1], shape[2], scheme.bits
  local groups, signed = scheme:groups(cols), not scheme:has_zero()
  return {
    tensors.words("qweight", "codes", "i32", { rows, cols }, tensors.layout {
      bits = bits, word = "i32", transposed = true, signed = signed,
      add = signed and 1 << bits - 1 or nil }),
    zeros_of(scheme, rows, groups, version),
    tensors.new("scales", "scale", tensors.scale_dtypes[scheme.scale], { groups, rows },
                { transposed = true }),
    with_groups and group_numbers(cols, scheme:group_elements(cols)) or nil,
  }
end

-- ---- Configuration ----

local function size_of(scheme)
  return scheme.group_size == "row" and -1 or scheme.group_size
end

-- What holds for layers of a scheme (nil: kept) otherwise than for most: a sign and fields; or nil.
local function difference(s, most)
  if not s then return "-:", json.object {} end
  if s.bits ~= most.bits or size_of(s) ~= size_of(most) or s.symmetric ~= most.symmetric then
    return "+:", json.object { { "bits", s.bits }, { "group_size", size_of(s) },
                               { "sym", s.symmetric } }
  end
end

-- What holds for some layers otherwise than for most: `dynamic` of GPTQModel. Patterns name layers,
-- and the modules that vLLM makes of them, which it does not look for by their layers. Of all
-- experts of a layer one pattern is enough.
local function dynamic_of(made, most)
  local list, whole = {}, {}
  local function add(path, scheme, below)
    local sign, fields = difference(scheme, most)
    if sign then list[#list + 1] = { sign .. names.pattern(path, below), fields } end
  end
  for _, module in ipairs(names.modules(made)) do
    if module.experts then whole[module.name] = true end
    add(module.name, module.scheme, module.experts)
  end
  for path, layer in require("rondo.plan").layers(made) do
    if layer.kind ~= "expert" or not whole[parts.experts(path)] then add(path, layer.scheme) end
  end
  for path, kind in require("rondo.plan").kept(made) do
    if kind ~= "expert" or not whole[parts.experts(path)] then add(path) end
  end
  return json.object(list)
end

-- Whether engines that look for the ends in paths, or for them at the end, keep those left out.
local function tell_apart(ends, left)
  for _, known in ipairs(ends) do
    for other in pairs(left) do
      if other:find(known, 1, true) then return false end
    end
  end
  return true
end

-- What is quantized where blocks have layers that are not: transformers reads this, not `dynamic`.
local function blocks_of(made)
  local left, ends, paths, seen = {}, {}, {}, {}
  for path in require("rondo.plan").kept(made) do
    if read.in_block(path) then left[read.in_block(path)] = true end
  end
  if not next(left) then return json.null end
  for path in require("rondo.plan").layers(made) do
    local known = read.in_block(path) or path
    if not seen[known] then seen[known], ends[#ends + 1] = true, known end
    paths[#paths + 1] = path
  end
  return json.array { json.array(tell_apart(ends, left) and ends or paths) }
end

local function described(made, version)
  local most = read.most_common(made) or scheme_of.types.int4
  local head = false
  for _, layer in require("rondo.plan").layers(made) do head = head or layer.kind == "lm_head" end
  return json.object {
    { "quant_method", "gptq" }, { "bits", most.bits }, { "group_size", size_of(most) },
    { "desc_act", false }, { "sym", most.symmetric }, { "lm_head", head },
    { "checkpoint_format", version == 1 and "gptq" or "gptq_v2" }, { "pack_dtype", "int32" },
    { "true_sequential", true }, { "static_groups", false },
    { "modules_in_block_to_quantize", blocks_of(made) }, { "dynamic", dynamic_of(made, most) },
    { "meta", json.object { { "quantizer", json.array { "rondo:" .. core.version } } } },
  }
end

local function format_of(version)
  return {
    name = version == 1 and "gptq" or "gptq-v2",
    experts = "split", metadata = "pt",
    fit = fit_for(version),
    outputs = function(about, scheme) return outputs_of(scheme, about.shape, version, true) end,
    remark = remarks.maker {
      { function(layer) return not layer.scheme.symmetric end,
        "vLLM reads symmetric codes of it alone (--scheme sym, symmetric = true)" },
      remarks.experts,
    },
    config = function(made) return { { "quantization_config", described(made, version) } } end,
    files = function(made)
      return { { "quantize_config.json",
                 json.encode(described(made, version), { indent = 2 }) .. "\n" } }
    end,
  }
end

--- The formats of both versions.
gptq.versions = { format_of(1), format_of(2) }

-- ---- Reading ----

-- Bits and inputs of a layer: the group of each input tells how many there are.
local function width_of(look, path, words, said_bits)
  local groups = look.shape(path, "g_idx")
  local cols = groups and #groups == 1 and groups[1]
  local bits = cols and cols > 0 and words[1] * 32 // cols or said_bits
  if not allowed_bits[bits] then
    return nil, ("has codes of %s bits; 2, 4 and 8 are read"):format(tostring(bits))
  elseif cols and cols * bits ~= words[1] * 32 then
    return nil, ("has a group for each of %d inputs in 'g_idx', but words for %d"):format(cols,
      words[1] * 32 // bits)
  end
  return bits, cols or words[1] * 32 // bits
end

-- said: version, bits and group_size of the configuration.
local function read_layer(look, path, said)
  local words, message = look.matrix(path, "qweight")
  if not words then return nil, message end
  local scale, scales = look.float_matrix(path, "scales")
  if not scale then return nil, scales end
  local bits, cols = width_of(look, path, words, said.bits)
  if not bits then return nil, cols end
  local size
  size, message = read.group_size(cols, scales[1], said.group_size)
  if not size then return nil, message end
  local scheme = scheme_of.types["int" .. bits] {
    group_size = size, symmetric = false, scale = scale,
    zero = said.version == 1 and "positive" or "integer" }
  local shape = { words[2], cols }
  local layer = { scheme = scheme, shape = shape,
                  outputs = outputs_of(scheme, shape, said.version, look.has(path, "g_idx")) }
  return read.with_groups(look, path, layer, "g_idx")
end

local versions = { gptq = 1, gptq_v2 = 2 }

-- What the configuration says, checked: version, bits, group_size; or nil, message, code.
local function checked(given)
  local format, said = given.checkpoint_format, {}
  if format == nil or format == json.null then format = "gptq" end
  said.version = versions[format]
  if not said.version then
    return nil, ("quantization_config: checkpoint_format %s is not read (known: gptq, gptq_v2)")
      :format(text.value(format)), "unsupported"
  end
  local message
  said.bits, message = read.integer(given, "bits", 2, 8)
  if message then return nil, message, "format" end
  if said.bits and not allowed_bits[said.bits] then
    return nil, ("quantization_config: %d bits are not read: 2, 4 or 8 are"):format(said.bits),
           "unsupported"
  end
  said.group_size, message = read.said_size(given, "group_size")
  if message then return nil, message, "format" end
  return said
end

--- See rondo.formats.
function gptq.open(checkpoint, given, config)
  local said, message, code = checked(given)
  if not said then return nil, message, code end
  return read.records(checkpoint, config, function(look, name)
    local path = read.module(name, "qweight")
    if path then return path, read_layer(look, path, said) end
  end)
end

return gptq
