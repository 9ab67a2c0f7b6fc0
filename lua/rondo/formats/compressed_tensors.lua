-- compressed-tensors: the checkpoints of llm-compressor, which vLLM and transformers load.
--
-- What a layer P is stored in follows from its scheme:
--   int2, int4, int8       pack-quantized: P.weight_packed (i32; a field is the code + 2^(bits-1),
--                          or the code where there are zero points), P.weight_scale,
--                          P.weight_shape and P.weight_zero_point (i32, packed along the outputs)
--   int8 row, activations  int-quantized: P.weight (i8), P.weight_scale
--   fp8                    float-quantized: P.weight (f8_e4m3), P.weight_scale for a row, a block
--                          or the tensor; mxfp8-quantized with e8m0 scales
--   e2m1 g16, e4m3 scales  nvfp4-pack-quantized: P.weight_packed (u8), P.weight_scale,
--                          P.weight_global_scale, by which the scales are divided
--   e2m1 g32, e8m0 scales  mxfp4-pack-quantized: P.weight_packed, P.weight_scale (u8)
-- Layout and configuration: vllm-project/compressed-tensors.

local core = require "rondo.core"
local json = require "rondo.json"
local names = require "rondo.formats.names"
local read = require "rondo.formats.read"
local remarks = require "rondo.formats.remarks"
local scheme_of = require "rondo.scheme"
local shape_of = require "rondo.shape"
local tensors = require "rondo.formats.tensors"

local ceil_div = shape_of.ceil_div

local compressed = { name = "compressed-tensors", experts = "split", metadata = "pt" }

-- ---- What a layer is stored in ----

local function is_block(size) return type(size) == "table" end

-- The format of a layer, in the words of the configuration; nil, reason where there is none.
local function format_of(scheme, activations)
  local size = scheme.group_size
  if scheme.data_type == "int" then
    if scheme.bits == 8 and size == "row" and activations == "dynamic" then
      if scheme:has_zero() then
        return nil, "8-bit activations go with symmetric weights: --scheme sym, or "
          .. "--activations none"
      end
      return "int-quantized"
    end
    return "pack-quantized"
  elseif scheme.data_type == "fp8" then
    return scheme.scale == "e8m0" and "mxfp8-quantized" or "float-quantized"
  elseif scheme.data_type == "e2m1" and scheme.tensor_scale then
    return "nvfp4-pack-quantized"
  elseif scheme.data_type == "e2m1" and scheme.scale == "e8m0" then
    return "mxfp4-pack-quantized"
  end
  return nil, "compressed-tensors holds int2, int4, int8, fp8, mxfp4, mxfp8 and nvfp4: --bits 4, "
    .. "--dtype nvfp4"
end

local packed_bits = { [2] = true, [4] = true, [8] = true }
local wanted_sizes = { ["nvfp4-pack-quantized"] = 16, ["mxfp4-pack-quantized"] = 32,
                       ["mxfp8-quantized"] = 32 }

-- Why a format has no place for a scheme, or nil.
local function misfit(scheme, format)
  local size, wanted = scheme.group_size, wanted_sizes[format]
  if wanted and size ~= wanted then
    return ("groups of %s are %d weights long"):format(format, wanted)
  elseif scheme.group_dim == 0 then
    return "groups of compressed-tensors run along the inputs: group_dim = 1"
  elseif scheme.double then
    return "scales of compressed-tensors are not quantized in turn: leave double out"
  elseif scheme.zero == "float" and scheme:has_zero() then
    return "zero points of compressed-tensors are integers: leave zero out"
  elseif format == "pack-quantized" and not packed_bits[scheme.bits] then
    return ("integers of compressed-tensors have 2, 4 or 8 bits, not %d"):format(scheme.bits)
  elseif format == "pack-quantized" and (is_block(size) or size == "tensor") then
    return "integers of compressed-tensors have groups along a row: group_size = 128 or \"row\""
  elseif format == "float-quantized" and type(size) == "number" then
    return "8-bit floats have a scale for a row, a block or the tensor, or are rondo.mxfp8"
  end
end

-- Why a layer's shape does not fit, or nil.
local function misshape(scheme, shape)
  local size, cols = scheme.group_size, shape[#shape]
  if type(size) == "number" and cols % size ~= 0 then
    return ("%d inputs are no multiple of the group size %d"):format(cols, size)
  elseif is_block(size) and (shape[1] % size[1] ~= 0 or cols % size[2] ~= 0) then
    return ("the shape %dx%d is no multiple of the block %dx%d, by which readers guess the block")
      :format(shape[1], cols, size[1], size[2])
  end
end

local own_scales = { ["nvfp4-pack-quantized"] = true, ["mxfp4-pack-quantized"] = true,
                     ["mxfp8-quantized"] = true }
local float_scales = { f32 = true, f16 = true, bf16 = true }

-- The scheme with scales in the model's type, unless it says another that can be stored.
local function with_scale(scheme, format, dtype)
  if own_scales[format] then return scheme end
  if not float_scales[scheme.scale] then
    return nil, ("scales of compressed-tensors are f32, f16 or bf16, not %s: leave scale out")
      :format(scheme.scale)
  end
  return scheme.scale == "f32" and dtype ~= "f32" and scheme { scale = dtype } or scheme
end

--- See rondo.formats.
function compressed.fit(scheme, about)
  local format, reason = format_of(scheme, about.options.activations)
  reason = reason or read.no_linear(about) or misfit(scheme, format)
    or misshape(scheme, about.shape)
  if reason then return nil, reason end
  return with_scale(scheme, format, about.dtype)
end

-- ---- Tensors ----

local layout = tensors.layout

local function numbers(part, scheme, rows, cols, more)
  return tensors.new(part, "scale", tensors.scale_dtypes[scheme.scale], { rows, cols }, more)
end

local makers = {}

makers["pack-quantized"] = function(scheme, rows, cols)
  local bits, groups = scheme.bits, scheme:groups(cols)
  local asymmetric = scheme:has_zero()
  local codes = layout { bits = bits, word = "i32", signed = not asymmetric,
                         add = not asymmetric and 1 << bits - 1 or nil }
  return {
    tensors.words("weight_packed", "codes", "i32", { rows, cols }, codes),
    numbers("weight_scale", scheme, rows, groups),
    tensors.constant("weight_shape", "i64", { 2 },
                     function() return core.tensor({ rows, cols }, "i64") end),
    asymmetric and tensors.words("weight_zero_point", "zero", "i32", { rows, groups },
                                 layout { bits = bits, word = "i32", dim = 0 }) or nil,
  }
end

makers["int-quantized"] = function(scheme, rows, cols)
  return { tensors.words("weight", "codes", "i8", { rows, cols },
                         layout { bits = 8, word = "i8", signed = true }),
           numbers("weight_scale", scheme, rows, 1) }
end

makers["float-quantized"] = function(scheme, rows, cols)
  local size, height, width = scheme.group_size, rows, 1
  if is_block(size) then height, width = ceil_div(rows, size[1]), ceil_div(cols, size[2]) end
  local scales = numbers("weight_scale", scheme, height, width)
  if size == "tensor" then
    scales = tensors.new("weight_scale", "scale", tensors.scale_dtypes[scheme.scale], { 1 })
  end
  return { tensors.words("weight", "codes", "f8_e4m3", { rows, cols }, layout { bits = 8 }),
           scales }
end

makers["mxfp8-quantized"] = function(_, rows, cols)
  return { tensors.words("weight", "codes", "f8_e4m3", { rows, cols }, layout { bits = 8 }),
           tensors.new("weight_scale", "scale", "u8", { rows, cols // 32 }, { as = "f8_e8m0" }) }
end

makers["mxfp4-pack-quantized"] = function(_, rows, cols)
  return { tensors.words("weight_packed", "codes", "u8", { rows, cols }, layout { bits = 4 }),
           tensors.new("weight_scale", "scale", "u8", { rows, cols // 32 }, { as = "f8_e8m0" }) }
end

makers["nvfp4-pack-quantized"] = function(_, rows, cols)
  return {
    tensors.words("weight_packed", "codes", "u8", { rows, cols }, layout { bits = 4 }),
    tensors.new("weight_scale", "scale", "f8_e4m3", { rows, cols // 16 }),
    tensors.factor("weight_global_scale", { 1 }, true),
  }
end

local function outputs_of(format, scheme, shape)
  return makers[format](scheme, shape[#shape - 1], shape[#shape])
end

--- See rondo.formats.
function compressed.outputs(about, scheme)
  return outputs_of(format_of(scheme, about.options.activations), scheme, about.shape)
end

-- ---- What transformers cannot load ----

-- Kinds of floats that it unpacks to bf16.
local function is_small_float(scheme)
  return scheme.data_type == "e2m1" or scheme.scale == "e8m0"
end

local function fails_for_experts(layer)
  local scheme, size = layer.scheme, layer.scheme.group_size
  if layer.kind ~= "expert" then return false end
  if scheme.data_type == "fp8" then return is_block(size) or scheme.scale == "e8m0" end
  return scheme.tensor_scale
end

compressed.remark = remarks.maker {
  { function(layer) return layer.scheme:has_zero() end,
    "transformers refuses zero points, which vLLM reads (--scheme sym, symmetric = true)" },
  { function(layer) return is_small_float(layer.scheme) and layer.dtype ~= "bf16" end,
    "transformers unpacks 4-bit floats and mxfp8 to bf16, which fails in a model of another type" },
  { fails_for_experts, "transformers does not load experts of nvfp4, mxfp8 and fp8 in blocks" },
}

-- ---- Configuration ----

local function strategy_of(scheme, format)
  local size = scheme.group_size
  if format == "nvfp4-pack-quantized" then return "tensor_group" end
  if is_block(size) then return "block" end
  return type(size) == "number" and "group" or size == "tensor" and "tensor" or "channel"
end

local function weights_of(scheme, format)
  local size = scheme.group_size
  local fields = {
    { "num_bits", scheme.bits }, { "type", scheme.data_type == "int" and "int" or "float" },
    { "symmetric", not scheme:has_zero() }, { "strategy", strategy_of(scheme, format) },
  }
  if type(size) == "number" then fields[#fields + 1] = { "group_size", size } end
  if is_block(size) then fields[#fields + 1] = { "block_structure", json.array(size) } end
  if scheme.scale == "e8m0" then fields[#fields + 1] = { "scale_dtype", "torch.uint8" } end
  fields[#fields + 1] = { "dynamic", false }
  return json.object(fields)
end

-- What engines do to activations on their way into a layer; null: nothing.
local function activations_of(scheme, format, wanted)
  if wanted == "none" or format ~= "int-quantized" and format ~= "float-quantized" then
    return json.null
  end
  local block = is_block(scheme.group_size)
  local fields = { { "num_bits", 8 }, { "type", format == "int-quantized" and "int" or "float" },
                   { "symmetric", true }, { "strategy", block and "group" or "token" } }
  if block then fields[#fields + 1] = { "group_size", scheme.group_size[2] } end
  fields[#fields + 1] = { "dynamic", true }
  return json.object(fields)
end

-- The layers by format and scheme, in the order in which they come up, with the names by which
-- engines ask for experts.
local function groups_of(made)
  local groups, by_scheme, of = {}, {}, {}
  for path, layer in require("rondo.plan").layers(made) do
    local format = format_of(layer.scheme, made.options.activations)
    local key = format .. " " .. tostring(layer.scheme)
    if not by_scheme[key] then
      by_scheme[key] = { format = format, scheme = layer.scheme,
                          paths = names.list() }
      groups[#groups + 1] = by_scheme[key]
    end
    names.add(by_scheme[key].paths, path)
    of[layer.scheme] = by_scheme[key]
  end
  for _, module in ipairs(names.modules(made)) do
    if module.experts and module.scheme then names.add_experts(of[module.scheme].paths, module) end
  end
  return groups
end

-- One group takes all linear layers but those to be ignored. Of several, each names its layers:
-- engines look for the class of a fused layer before the names of its parts.
local function config_group(group, single, formats, wanted)
  local fields = {
    { "targets", single and json.array { "Linear" } or names.array(group.paths) },
    { "weights", weights_of(group.scheme, group.format) },
    { "input_activations", activations_of(group.scheme, group.format, wanted) },
    { "output_activations", json.null },
  }
  -- Older readers refuse this one.
  if formats > 1 then fields[#fields + 1] = { "format", group.format } end
  return json.object(fields)
end

--- See rondo.formats.
function compressed.config(made)
  local groups, described, seen, formats = groups_of(made), {}, {}, 0
  for _, group in ipairs(groups) do
    if not seen[group.format] then seen[group.format], formats = true, formats + 1 end
  end
  for i, group in ipairs(groups) do
    described[i] = { "group_" .. i - 1,
                     config_group(group, #groups == 1, formats, made.options.activations) }
  end
  local format = formats > 1 and "mixed-precision" or groups[1] and groups[1].format or "dense"
  return { { "quantization_config", json.object {
    { "quant_method", "compressed-tensors" }, { "format", format },
    { "quantization_status", "compressed" }, { "global_compression_ratio", json.null },
    { "kv_cache_scheme", json.null }, { "ignore", names.kept(made) },
    { "config_groups", json.object(described) },
  } } }
end

-- ---- Reading ----

local function targets(group, path)
  for _, target in ipairs(type(group.targets) == "table" and group.targets or {}) do
    if target == path then return true end
  end
  return false
end

-- The weights part of the groups of a configuration, that of the group which names a layer first.
local function group_weights(described, path)
  local list = {}
  local groups = described.config_groups ~= json.null and described.config_groups or {}
  for _, group in pairs(groups) do
    if type(group.weights) == "table" then
      table.insert(list, targets(group, path) and 1 or #list + 1, group.weights)
    end
  end
  return list
end

-- The bits of codes, `cols` of which fill so many words; where several would, what the
-- configuration says. Or nil, message.
local function bits_of(described, path, words, cols)
  local function fill(bits)
    return packed_bits[bits] and cols <= 32 * words and ceil_div(cols * bits, 32) == words
  end
  for _, weights in ipairs(group_weights(described, path)) do
    if fill(weights.num_bits) then return weights.num_bits end
  end
  for bits in pairs(packed_bits) do
    if fill(bits) then return bits end
  end
  return nil, ("has %d words for %d codes; 2, 4 and 8 bits are read"):format(words, cols)
end

-- The block that the configuration says, or nil.
local function block_of(described, path)
  for _, weights in ipairs(group_weights(described, path)) do
    local block = weights.block_structure
    if type(block) == "table" and math.type(block[1]) == "integer"
      and math.type(block[2]) == "integer" and block[1] > 0 and block[2] > 0 then
      return { block[1], block[2] }
    end
  end
end

-- What is wrong with the groups of a configuration, or nil.
local function misconfigured(described)
  local groups = described.config_groups
  if groups == nil or groups == json.null then return nil end
  if type(groups) ~= "table" then return "quantization_config: config_groups must be an object" end
  for _, group in pairs(groups) do
    if type(group) ~= "table" then
      return "quantization_config: each of config_groups must be an object"
    end
    local weights = type(group.weights) == "table" and group.weights or {}
    local _, bad_bits = read.integer(weights, "num_bits", 1, 16)
    local _, bad_size = read.said_size(weights, "group_size")
    if bad_bits or bad_size then return bad_bits or bad_size end
  end
end

local readers = {}

-- P.weight_packed of 32-bit words: integers.
function readers.i32(look, path, described)
  local shape, message = look.integers(path, "weight_shape", 2)
  if not shape then return nil, message end
  local words, scale, scales, bits, size
  words, message = look.matrix(path, "weight_packed")
  if not words then return nil, message end
  if shape[1] ~= words[1] or shape[2] < 0 then
    return nil, ("says the shape %dx%d, but 'weight_packed' has %d rows"):format(shape[1], shape[2],
                                                                                 words[1])
  end
  scale, scales = look.float_matrix(path, "weight_scale")
  if not scale then return nil, scales end
  bits, message = bits_of(described, path, words[2], shape[2])
  if not bits then return nil, message end
  size, message = read.group_size(shape[2], scales[2])
  if not size then return nil, message end
  local scheme = scheme_of.types["int" .. bits] {
    group_size = size, symmetric = not look.has(path, "weight_zero_point"), scale = scale }
  local layer = { scheme = scheme, shape = shape, outputs = outputs_of("pack-quantized", scheme,
                                                                       shape) }
  return read.with_groups(look, path, layer, "weight_g_idx")
end

-- P.weight_packed of bytes: 4-bit floats.
function readers.u8(look, path)
  local words, message = look.matrix(path, "weight_packed")
  if not words then return nil, message end
  local shape = { words[1], words[2] * 2 }
  local nvfp4 = look.has(path, "weight_global_scale")
    or look.dtype(path, "weight_scale") == "f8_e4m3"
  local format = nvfp4 and "nvfp4-pack-quantized" or "mxfp4-pack-quantized"
  local scheme = scheme_of.ready[nvfp4 and "nvfp4" or "mxfp4"]
  return { scheme = scheme, shape = shape, outputs = outputs_of(format, scheme, shape) }
end

-- Beside int-quantized, whose weights are symmetric: with zero points, as they come.
function readers.i8(look, path, described)
  local shape, message = look.matrix(path, "weight")
  if not shape then return nil, message end
  local size, scale, scales = read.scales(look, path, "weight_scale", shape,
                                          block_of(described, path))
  if not size then return nil, scale end
  local asymmetric = look.has(path, "weight_zero_point")
  local words = asymmetric and layout { bits = 8, word = "i8", add = 128 }
    or layout { bits = 8, word = "i8", signed = true }
  local outputs = { tensors.words("weight", "codes", "i8", shape, words), scales }
  if asymmetric then
    local count = shape_of.count(scales.shape)
    local height = (size == "row" or type(size) == "number") and shape[1] or 1
    outputs[3] = tensors.words("weight_zero_point", "zero", "i8",
                               { height, count // math.max(height, 1) }, words)
  end
  return { shape = shape, outputs = outputs, scheme = scheme_of.types.int8 {
    group_size = size, scale = scale, symmetric = not asymmetric } }
end

function readers.f8_e4m3(look, path, described)
  local shape, message = look.matrix(path, "weight")
  if not shape then return nil, message end
  local size, scale, scales = read.scales(look, path, "weight_scale", shape,
                                          block_of(described, path))
  if not size then return nil, scale end
  return { scheme = scheme_of.types.fp8 { group_size = size, scale = scale }, shape = shape,
           outputs = { tensors.words("weight", "codes", "f8_e4m3", shape, layout { bits = 8 }),
                       scales } }
end

-- Layouts that are not read, by a part that only they have.
local unread = { bitmask = "sparse-24-bitmask", scale_packed = "marlin-24" }

local packed_types = { i32 = true, u8 = true }
local weight_types = { i8 = true, f8_e4m3 = true }

--- See rondo.formats.
function compressed.open(checkpoint, described, config)
  local wrong = misconfigured(described)
  if wrong then return nil, wrong, "format" end
  return read.records(checkpoint, config, function(look, name, dtype)
    for part, layout_name in pairs(unread) do
      local path = read.module(name, part)
      if path then
        return path, nil, ("has '%s': it is stored as %s, which is not read"):format(part,
                                                                                 layout_name)
      end
    end
    local path = read.module(name, "weight_packed")
    if path and not packed_types[dtype] then
      return path, nil, ("has 'weight_packed' of %s; i32 and u8 are read"):format(dtype)
    elseif not path and weight_types[dtype] then
      path = read.module(name, "weight")
    end
    if path then return path, readers[dtype](look, path, described) end
  end, true)
end

return compressed
