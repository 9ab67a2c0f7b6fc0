-- fp8: the checkpoints of DeepSeek-V3, which vLLM, SGLang and transformers load: 8-bit floats with
-- a scale for each block of 128 x 128.
--
-- A layer P has P.weight (f8_e4m3 [out, in]) and P.weight_scale_inv (f32, one a block), which
-- multiplies: W = weight * weight_scale_inv. Read, too: scales of other types (f16, bf16, e8m0) and
-- of other shapes (for the tensor, for each row), also under the names weight_scale and scale; and
-- layers of mxfp4 among them, as DeepSeek-V4 has its experts: P.weight (i8 [out, in / 2], the first
-- of two codes in the low half) and P.scale (f8_e8m0 [out, in / 32]).
-- Layout and configuration: deepseek-ai/DeepSeek-V3.

local json = require "rondo.json"
local names = require "rondo.formats.names"
local read = require "rondo.formats.read"
local scheme_of = require "rondo.scheme"
local shape_of = require "rondo.shape"
local tensors = require "rondo.formats.tensors"

local ceil_div = shape_of.ceil_div

local fp8 = { name = "fp8", experts = "split", metadata = "pt" }

-- ---- What a layer is stored in ----

local function is_block(size) return type(size) == "table" end

--- See rondo.formats.
function fp8.fit(scheme, about)
  local reason = read.no_linear(about)
  if scheme.group_size == "row" then scheme = scheme { group_size = { 128, 128 } } end
  local size = scheme.group_size
  if scheme.data_type ~= "fp8" then
    reason = reason or "fp8 holds 8-bit floats alone: rondo.fp8, --dtype fp8"
  elseif not is_block(size) or size[1] ~= 128 or size[2] ~= 128 then
    reason = reason or "fp8 has a scale for each block: rondo.fp8, or group_size = { 128, 128 }"
  elseif scheme.scale ~= "f32" and scheme.scale ~= "e8m0" or scheme.double then
    reason = reason or ("scales of fp8 are f32 or e8m0, not %s"):format(scheme.scale)
  end
  if not reason and about.shape[1] % 128 ~= 0 and about.has_below() then
    reason = ("%d outputs are no multiple of 128, and engines put another layer below them")
      :format(about.shape[1])
  end
  if reason then return nil, reason end
  return scheme
end

local function codes_of(shape)
  return tensors.words("weight", "codes", "f8_e4m3", shape, tensors.layout { bits = 8 })
end

--- See rondo.formats.
function fp8.outputs(about, scheme)
  local size, shape = scheme.group_size, about.shape
  return { codes_of(shape), tensors.new("weight_scale_inv", "scale", "f32",
    { ceil_div(shape[1], size[1]), ceil_div(shape[2], size[2]) }) }
end

-- ---- Configuration ----

-- Whether as many equal blocks as there are scales along a side are not those of 128.
local function ambiguous(side)
  local blocks = ceil_div(side, 128)
  return blocks > 1 and side % 128 ~= 0 and side % blocks == 0
end

--- Readers that go by the number of scales see no difference.
function fp8.remark(layers)
  for path, layer in layers do
    local rows, cols = layer.shape[1], layer.shape[2]
    if ambiguous(rows) or ambiguous(cols) then
      return ("transformers takes blocks for equal parts where it unpacks them, and gets %s wrong, "
              .. "whose shape %dx%d is no multiple of them"):format(path, rows, cols)
    end
  end
end

--- The configuration says once whether scales are powers of two.
function fp8.check(layers)
  local first, first_path
  for path, layer in layers do
    first, first_path = first or layer.scheme.scale, first_path or path
    if layer.scheme.scale ~= first then
      return ("fp8 has one type of scales for all layers, but %s has %s and %s has %s"):format(
        first_path, first, path, layer.scheme.scale)
    end
  end
end

--- See rondo.formats.
function fp8.config(made)
  local most = read.most_common(made)
  local fields = { { "quant_method", "fp8" }, { "fmt", "e4m3" }, { "activation_scheme", "dynamic" },
                   { "weight_block_size", json.array { 128, 128 } },
                   { "modules_to_not_convert", names.kept(made) } }
  if most and most.scale == "e8m0" then table.insert(fields, 4, { "scale_fmt", "ue8m0" }) end
  return { { "quantization_config", json.object(fields) } }
end

-- ---- Reading ----

-- The block that the configuration says, or nil; nil, message.
local function block_of(said)
  local block = said.weight_block_size
  if block == nil or block == json.null then return nil end
  local rows, cols = nil, nil
  if json.is_array(block) and #block == 2 then rows, cols = block[1], block[2] end
  if math.type(rows) ~= "integer" or math.type(cols) ~= "integer" or rows < 1 or cols < 1
    or rows > 1 << 31 or cols > 1 << 31 then
    return nil, "quantization_config: weight_block_size must be two positive integers"
  end
  return { rows, cols }
end

-- What the scales are called, or nil, message.
local function scales_of(look, path)
  for _, part in ipairs { "weight_scale_inv", "weight_scale", "scale" } do
    if look.has(path, part) then return part end
  end
  return nil, "has neither 'weight_scale_inv' nor 'weight_scale' nor 'scale'"
end

local readers = {}

function readers.i8(look, path)
  local words, message = look.matrix(path, "weight")
  if not words then return nil, message end
  local shape = { words[1], words[2] * 2 }
  return { scheme = scheme_of.ready.mxfp4, shape = shape, outputs = {
    tensors.words("weight", "codes", "i8", shape, tensors.layout { bits = 4, word = "i8" }),
    tensors.new("scale", "scale", "f8_e8m0", { shape[1], shape[2] // 32 }) } }
end

function readers.f8_e4m3(look, path, block)
  local shape, message = look.matrix(path, "weight")
  if not shape then return nil, message end
  local part
  part, message = scales_of(look, path)
  if not part then return nil, message end
  local size, scale, scales = read.scales(look, path, part, shape, block)
  if not size then return nil, scale end
  return { scheme = scheme_of.types.fp8 { group_size = size, scale = scale }, shape = shape,
           outputs = { codes_of(shape), scales } }
end

--- See rondo.formats.
function fp8.open(checkpoint, said, config)
  local block, message = block_of(said)
  if message then return nil, message, "format" end
  return read.records(checkpoint, config, function(look, name, dtype)
    local path = readers[dtype] and read.module(name, "weight")
    if path then return path, readers[dtype](look, path, block) end
  end, true)
end

return fp8
