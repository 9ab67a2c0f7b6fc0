-- mlx: the checkpoints of mlx-lm, which MLX, LM Studio and Ollama load.
--
-- A layer P has P.weight (u32, the codes of a row as one stream of bits, the first lowest),
-- P.scales and, where codes are integers, P.biases, both [out, groups]. By mode, which follows from
-- the scheme:
--   affine  2, 3, 4, 5, 6 or 8 bits, groups of 32, 64 or 128, scales and biases in the model's
--           type: W = scale * code + bias
--   mxfp4, mxfp8, nvfp4  scales are bytes of E8M0, for nvfp4 of E4M3
-- A scheme of integers is stored with biases whatever its zero points are: zero = "float". There is
-- no scale for a whole row: int8, which has that unless it says otherwise, gets groups.
-- Layout and configuration: ml-explore/mlx and mlx-lm.

local json = require "rondo.json"
local mlx_names = require "rondo.formats.mlx_names"
local read = require "rondo.formats.read"
local scheme_of = require "rondo.scheme"
local tensors = require "rondo.formats.tensors"
local text = require "rondo.model.text"

local mlx = { name = "mlx", metadata = "mlx", experts = "stack" }

-- ---- What a layer is stored in ----

local integer_bits = { [2] = true, [3] = true, [4] = true, [5] = true, [6] = true, [8] = true }
local integer_sizes = { [32] = true, [64] = true, [128] = true }

-- Those that are not integers, by mode: data type, group size, type of scales; the type that their
-- bytes hold.
local float_modes = { mxfp4 = { "e2m1", 32, "e8m0", "f8_e8m0" },
                      mxfp8 = { "fp8", 32, "e8m0", "f8_e8m0" },
                      nvfp4 = { "e2m1", 16, "e4m3", "f8_e4m3" } }

local function mode_of(scheme)
  if scheme.data_type == "int" then return "affine" end
  for mode, m in pairs(float_modes) do
    if scheme.data_type == m[1] and scheme.group_size == m[2] and scheme.scale == m[3] then
      return mode
    end
  end
end

local quantizable = { linear = true, lm_head = true, expert = true, router = true,
                      embedding = true }

-- The scheme with groups of MLX's own size, or of the next that divides the inputs, in place of
-- int8's whole rows.
local function grouped(scheme, cols)
  if scheme.type ~= "int8" or scheme.group_size ~= "row" then return scheme end
  return scheme { group_size = cols % 64 == 0 and 64 or 32 }
end

local function misfit(scheme, about)
  local size, mode, cols = scheme.group_size, mode_of(scheme), about.shape[#about.shape]
  if not quantizable[about.kind] then
    return "only linear layers and embeddings have a place in mlx"
  end
  if about.transposed then return "it is stored [in, out]; MLX reads [out, in]" end
  if about.kind == "expert" and #about.shape == 2 then
    return "mlx-lm reads experts that are stacked in one tensor"
  end
  if not mode then
    return "mlx holds integers (rondo.int4, --bits 4), mxfp4, mxfp8 or nvfp4 (--dtype mxfp4)"
  end
  if scheme.group_dim == 0 then return "groups of mlx run along the inputs: group_dim = 1" end
  if scheme.full_range then return "groups of mlx have a scale and a bias: leave full_range out" end
  if scheme.double then return "scales of mlx are not quantized in turn: leave double out" end
  if mode == "affine" and not integer_bits[scheme.bits] then
    return ("integers of mlx have 2, 3, 4, 5, 6 or 8 bits, not %d"):format(scheme.bits)
  elseif mode == "affine" and not integer_sizes[size] then
    return ("groups of mlx are 32, 64 or 128 weights long (--group-size 64), not %s"):format(
      tostring(size))
  elseif cols % size ~= 0 then
    return ("%d inputs are no multiple of the group size %d"):format(cols, size)
  end
end

local float_scales = { f32 = true, f16 = true, bf16 = true }

--- See rondo.formats.
function mlx.fit(scheme, about)
  scheme = grouped(scheme, about.shape[#about.shape])
  local reason = misfit(scheme, about)
  if reason then return nil, reason end
  if mode_of(scheme) == "nvfp4" then return scheme { tensor_scale = false } end
  if scheme.data_type ~= "int" then return scheme end
  if not float_scales[scheme.scale] then
    return nil, ("scales of mlx are f32, f16 or bf16, not %s: leave scale out"):format(scheme.scale)
  end
  local scale = scheme.scale == "f32" and about.dtype or scheme.scale
  return scheme { symmetric = false, full_range = false, zero = "float", scale = scale }
end

local function outputs_of(scheme, shape)
  local mode, by_group = mode_of(scheme), table.move(shape, 1, #shape, 1, {})
  by_group[#shape] = scheme:groups(shape[#shape])
  local codes = tensors.words("weight", "codes", "u32", shape, tensors.layout {
    bits = scheme.bits, word = "u32", dense = true })
  if mode ~= "affine" then
    return { codes, tensors.new("scales", "scale", "u8", by_group,
                                { as = float_modes[mode][4] }) }
  end
  return { codes, tensors.new("scales", "scale", scheme.scale, by_group),
           tensors.new("biases", "zero", scheme.scale, by_group) }
end

--- See rondo.formats.
function mlx.outputs(about, scheme)
  return outputs_of(scheme, about.shape)
end

-- ---- Configuration ----

local function fields_of(scheme)
  return { { "group_size", scheme.group_size }, { "bits", scheme.bits },
           { "mode", mode_of(scheme) } }
end

-- Whether a model has parts beside its language model.
local function has_parts(config)
  return type(config) == "table" and (type(config.text_config) == "table"
                                      or type(config.vision_config) == "table")
end

-- Most layers' scheme, and that of each that has another, under each name that mlx-lm may look for.
-- What a layer's entry leaves out would be the mode's default, so it says all.
local function described(made)
  local most, parts = read.most_common(made), has_parts(made.model.config)
  local fields = fields_of(most or scheme_of.types.int4 { group_size = 64 })
  for path, layer in require("rondo.plan").layers(made) do
    for _, name in ipairs(layer.scheme ~= most and mlx_names.of(path, made.types, parts) or {}) do
      fields[#fields + 1] = { name, json.object(fields_of(layer.scheme)) }
    end
  end
  return json.object(fields)
end

--- What of the names is a guess, or will not be found.
function mlx.remark(layers, made)
  for path, layer in layers do
    local lost = mlx_names.lost(path, made.types)
    if lost then return ("%s: %s is not read there as it is"):format(lost, path) end
    if layer.kind == "expert" and not mlx_names.is_known(made.types) then
      return ("nobody here knows what mlx-lm calls the experts of such a model; they are named %s")
        :format(path)
    end
  end
end

--- mlx-lm reads `quantization`; `quantization_config` is for the hub.
function mlx.config(made)
  return { { "quantization", described(made) }, { "quantization_config", described(made) } }
end

-- ---- Reading ----

-- What the configuration says of a layer; or nil, message.
local function said_of(said, path)
  local own = type(said[path]) == "table" and said[path] or said
  local bits, size, mode = own.bits or said.bits, own.group_size or said.group_size, own.mode
  mode = mode or own == said and said.mode or "affine"
  if mode == "affine" and integer_bits[bits] and integer_sizes[size] then
    return mode, bits, size
  elseif float_modes[mode] then
    return mode
  end
  return nil, ("is of mode %s with %s bits and group size %s, which is not read"):format(
    text.value(mode), text.value(bits), text.value(size))
end

-- Bits and group sizes that so many words and groups in a row can be, in words.
local function candidates(words, groups)
  local list = {}
  for _, size in ipairs { 32, 64, 128 } do
    local bits = words * 32 // math.max(size * groups, 1)
    if integer_bits[bits] and bits * size * groups == words * 32 then
      list[#list + 1] = ("%d bits in groups of %d"):format(bits, size)
    end
  end
  return #list > 0 and table.concat(list, ", or ") or "no bits and groups that there are"
end

-- What is wrong with integers of which the configuration says bits and group size, or nil.
local function unlike(look, path, bits, size)
  local codes, scales = look.shape(path, "weight"), look.shape(path, "scales")
  local words, groups = codes[#codes] or 0, scales[#scales] or 0
  if groups * bits * size == words * 32 then return nil end
  return ("has %d words in a row of 'weight' and %d groups in 'scales': %s, where the "
    .. "configuration says %d bits in groups of %d"):format(words, groups,
      candidates(words, groups), bits, size)
end

local function scheme_for(look, path, said)
  local mode, bits, size = said_of(said, path)
  if not mode then return nil, bits end
  if mode == "nvfp4" then return scheme_of.ready.nvfp4 { tensor_scale = false } end
  if mode ~= "affine" then return scheme_of.ready[mode] end
  local scale, scales = look.floats(path, "scales")
  if not scale then return nil, scales end
  local message = unlike(look, path, bits, size)
  if message then return nil, message end
  return scheme_of.types["int" .. bits] { group_size = size, symmetric = false, zero = "float",
                                          scale = scale }
end

--- See rondo.formats.
function mlx.open(checkpoint, said, config)
  return read.records(checkpoint, config, function(look, name, dtype)
    local path = dtype == "u32" and read.module(name, "weight")
    if not path then return nil end
    local scheme, message = scheme_for(look, path, said)
    if not scheme then return path, nil, message end
    if look.has(path, "global_scale") then
      return path, nil, "has a 'global_scale', a scale for each expert, which is not read"
    end
    local words = look.shape(path, "weight")
    if #words ~= 2 and #words ~= 3 then return path, nil, "has a 'weight' that is no matrix" end
    local shape = table.move(words, 1, #words, 1, {})
    shape[#shape] = shape[#shape] * 32 // scheme.bits
    return path, { scheme = scheme, shape = shape, outputs = outputs_of(scheme, shape) }
  end)
end

return mlx
