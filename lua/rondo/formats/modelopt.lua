-- modelopt: NVFP4 checkpoints of NVIDIA's TensorRT Model Optimizer, which vLLM loads.
--
-- A layer P has P.weight (u8 [out, in / 2], the first of two codes in the low half), P.weight_scale
-- (f8_e4m3 [out, in / 16]) and P.weight_scale_2 (f32): W = weight * weight_scale * weight_scale_2.
-- Read, too: 8-bit floats (f8_e4m3 [out, in]) with a weight_scale of any shape (read.scales).
-- Layout and configuration: NVIDIA/TensorRT-Model-Optimizer.

local core = require "rondo.core"
local json = require "rondo.json"
local names = require "rondo.formats.names"
local read = require "rondo.formats.read"
local scheme_of = require "rondo.scheme"
local tensors = require "rondo.formats.tensors"

local modelopt = { name = "modelopt", experts = "split", metadata = "pt" }

-- ---- What a layer is stored in ----

--- See rondo.formats.
function modelopt.fit(scheme, about)
  local reason = read.no_linear(about)
  if scheme.data_type ~= "e2m1" or not scheme.tensor_scale or scheme.group_size ~= 16
    or scheme.group_dim == 0 then
    reason = reason or "modelopt holds nvfp4 alone: rondo.nvfp4, --dtype nvfp4"
  elseif about.shape[2] % 16 ~= 0 then
    reason = reason or ("%d inputs are no multiple of the group size 16"):format(about.shape[2])
  end
  if reason then return nil, reason end
  return scheme
end

local function outputs_of(shape)
  local rows, cols = shape[1], shape[2]
  return {
    tensors.words("weight", "codes", "u8", { rows, cols }, tensors.layout { bits = 4 }),
    tensors.new("weight_scale", "scale", "f8_e4m3", { rows, cols // 16 }),
    tensors.factor("weight_scale_2", {}),
  }
end

--- See rondo.formats.
function modelopt.outputs(about)
  return outputs_of(about.shape)
end

-- ---- Configuration ----

local function producer()
  return json.object { { "name", "rondo" }, { "version", core.version } }
end

--- See rondo.formats.
function modelopt.config(made)
  local group = json.object {
    { "weights", json.object { { "num_bits", 4 }, { "type", "float" }, { "group_size", 16 },
                               { "dynamic", false } } },
    { "targets", json.array { "Linear" } },
  }
  return { { "quantization_config", json.object {
    { "quant_method", "modelopt" }, { "quant_algo", "W4A16_NVFP4" }, { "producer", producer() },
    { "kv_cache_scheme", json.null }, { "ignore", names.kept(made) },
    { "config_groups", json.object { { "group_0", group } } },
  } } }
end

--- See rondo.formats.
function modelopt.files(made)
  local text = json.encode(json.object {
    { "producer", producer() },
    { "quantization", json.object {
      { "quant_algo", "W4A16_NVFP4" }, { "kv_cache_quant_algo", json.null }, { "group_size", 16 },
      { "exclude_modules", names.kept(made) },
    } },
  }, { indent = 2 })
  return { { "hf_quant_config.json", text .. "\n" } }
end

-- ---- Reading ----

-- Types of weights that are quantized, not all of which are read.
local codes = { u8 = true, i8 = true, f8_e4m3 = true }

local readers = {}

function readers.u8(words)
  local shape = { words[1], words[2] * 2 }
  return { scheme = scheme_of.ready.nvfp4, shape = shape, outputs = outputs_of(shape) }
end

function readers.f8_e4m3(shape, look, path)
  local size, scale, scales = read.scales(look, path, "weight_scale", shape)
  if not size then return nil, scale end
  return { scheme = scheme_of.types.fp8 { group_size = size, scale = scale }, shape = shape,
           outputs = { tensors.words("weight", "codes", "f8_e4m3", shape,
                                     tensors.layout { bits = 8 }), scales } }
end

local function read_layer(look, path, dtype)
  if not readers[dtype] then
    return nil, ("has codes of %s; nvfp4 and 8-bit floats are read"):format(dtype)
  elseif look.has(path, "pre_quant_scale") then
    return nil, "has a 'pre_quant_scale', by which inputs are multiplied, which is not read"
  end
  local shape, message = look.matrix(path, "weight")
  if not shape then return nil, message end
  return readers[dtype](shape, look, path)
end

--- See rondo.formats.
function modelopt.open(checkpoint, _, config)
  return read.records(checkpoint, config, function(look, name, dtype)
    local path = codes[dtype] and read.module(name, "weight")
    if path then return path, read_layer(look, path, dtype) end
  end, true)
end

return modelopt
