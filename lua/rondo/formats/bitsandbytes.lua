-- bitsandbytes: checkpoints that transformers loads with it, mostly to be trained on (QLoRA).
--
-- A layer P is stored by its scheme:
--   nf4, fp4  P.weight (u8 [out * in / 2, 1], row after row, the first of two codes in the high
--             half), P.weight.absmax (f32, one for each block of a row), P.weight.quant_map and
--             P.weight.quant_state.bitsandbytes__nf4 (or fp4), JSON as bytes. With double, absmax
--             is u8, beside it P.weight.nested_absmax and P.weight.nested_quant_map
--   int8 row  LLM.int8: P.weight (i8), P.SCB (f32 [out], the largest magnitudes), P.weight_format
-- Layout and configuration: bitsandbytes-foundation/bitsandbytes.

local core = require "rondo.core"
local json = require "rondo.json"
local names = require "rondo.formats.names"
local read = require "rondo.formats.read"
local remarks = require "rondo.formats.remarks"
local scheme_of = require "rondo.scheme"
local shape_of = require "rondo.shape"
local stored = require "rondo.formats.stored"
local tensors = require "rondo.formats.tensors"

local ceil_div = shape_of.ceil_div

local bitsandbytes = { name = "bitsandbytes", experts = "split", metadata = "pt" }

local NESTED = 256 -- blocks that share a number where absmax is quantized in turn

local block_sizes = { [32] = true, [64] = true, [128] = true, [256] = true, [512] = true,
                      [1024] = true, [2048] = true, [4096] = true }

-- The values of the 16 codes, in the order of bitsandbytes' own codes, over the largest; and the
-- code that rondo has for each.
local maps = {
  nf4 = { values = { -1, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453,
                     -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0,
                     0.07958029955625534, 0.16093020141124725, 0.24611230194568634,
                     0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
                     0.7229568362236023, 1 },
          codes = { 7, 1, 2, 3, 4, 5, 6, 0, 8, 9, 10, 11, 12, 13, 14, 15 }, largest = 1 },
  fp4 = { values = { 0, 0.0625 / 12, 8 / 12, 1, 4 / 12, 6 / 12, 2 / 12, 3 / 12,
                     -0.0, -0.0625 / 12, -8 / 12, -1, -4 / 12, -6 / 12, -2 / 12, -3 / 12 },
          codes = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 }, largest = 12 },
}

-- ---- What a layer is stored in ----

local function misfit_double(double)
  if double and (double.bits ~= 8 or double.group_size ~= NESTED or not double.mean
                 or double.map ~= "dynamic") then
    return "bitsandbytes quantizes scales in turn with double = { map = \"dynamic\" } alone"
  end
end

local function misfit(scheme, shape)
  local size = scheme.group_size
  if scheme.scale ~= "f32" then
    return ("scales of bitsandbytes are f32, not %s: leave scale out"):format(scheme.scale)
  end
  if scheme.data_type == "int" then
    if scheme.bits ~= 8 or size ~= "row" or not scheme.symmetric or scheme.full_range
      or scheme.double then
      return "integers of bitsandbytes are rondo.int8: --bits 8 --scheme sym --group-size row"
    end
    return nil
  elseif not maps[scheme.data_type] then
    return "bitsandbytes holds nf4, fp4 or int8: rondo.nf4 { group_size = 64 }, --dtype nf4"
  elseif scheme.group_dim == 0 or not block_sizes[size] then
    return ("blocks of bitsandbytes are 32, 64, 128, ... 4096 weights of a row, not %s"):format(
      tostring(size))
  elseif shape[2] % size ~= 0 then
    return ("%d inputs are no multiple of the block size %d"):format(shape[2], size)
  end
  return misfit_double(scheme.double)
end

--- See rondo.formats.
function bitsandbytes.fit(scheme, about)
  local reason = read.no_linear(about) or misfit(scheme, about.shape)
  if reason then return nil, reason end
  return scheme
end

-- The state as JSON, filled with spaces to a length that does not depend on the offset.
local OFFSET_WIDTH = 24

local long_names = { f32 = "float32", f16 = "float16", bf16 = "bfloat16" }

local function state_text(scheme, shape, dtype, offset)
  local text = ('{"quant_type": "%s", "blocksize": %d, "dtype": "%s", "shape": [%d, %d]'):format(
    scheme.data_type, scheme.group_size, long_names[dtype], shape[1], shape[2])
  if not scheme.double then return text .. "}" end
  local number = offset and core.json_real(offset) or "0.0"
  return ('%s, "nested_blocksize": %d, "nested_dtype": "float32", "nested_offset": %s%s}'):format(
    text, NESTED, number, (" "):rep(OFFSET_WIDTH - #number))
end

local function bytes_tensor(text)
  return core.from_bytes(text, "u8", { 1, #text })
end

local function state_of(scheme, shape, dtype)
  local part = "weight.quant_state.bitsandbytes__" .. scheme.data_type
  local length = { #state_text(scheme, shape, dtype) }
  if not scheme.double then
    return tensors.constant(part, "u8", length,
                            function() return bytes_tensor(state_text(scheme, shape, dtype)) end)
  end
  return tensors.new(part, "state", "u8", length, { from = function(found)
    return bytes_tensor(state_text(scheme, shape, dtype, found.stored.mean * scheme.divisor))
  end })
end

local function nested(part, role, dtype, count, make)
  return tensors.new("weight." .. part, role, dtype, { count }, { from = function(found)
    local tensor = make(found.stored)
    return tensor:reshape { 1, #tensor }
  end })
end

local function four_bits(scheme, shape, dtype)
  local map, blocks = maps[scheme.data_type], shape[1] * shape[2] // scheme.group_size
  local field_of = {}
  for i, code in ipairs(map.codes) do field_of[code + 1] = i - 1 end
  local outputs = {
    tensors.new("weight", "codes", "u8", { shape[1] * shape[2] // 2, 1 }, {
      width = shape[2] // 2,
      layout = tensors.layout { bits = 4, order = { 1, 0 }, map = field_of,
                                signed = true } }),
    tensors.constant("weight.quant_map", "f32", { 16 },
                     function() return core.tensor(map.values, "f32") end),
    state_of(scheme, shape, dtype),
  }
  if not scheme.double then
    outputs[4] = tensors.new("weight.absmax", "scale", "f32", { blocks },
                             { width = scheme:groups(shape[2]), times = map.largest })
    return outputs
  end
  outputs[4] = nested("absmax", "scale", "u8", blocks, function(found) return found.codes end)
  outputs[5] = nested("nested_absmax", "nested", "f32", ceil_div(blocks, NESTED),
                      function(found) return found.scales * map.largest end)
  outputs[6] = nested("nested_quant_map", "nested_map", "f32", 256,
                      function(found) return found.map end)
  return outputs
end

local function eight_bits(shape)
  return {
    tensors.words("weight", "codes", "i8", shape,
                  tensors.layout { bits = 8, word = "i8", signed = true }),
    tensors.new("SCB", "scale", "f32", { shape[1] }, { width = 1, times = 127 }),
    tensors.constant("weight_format", "u8", {}, function() return core.zeros({ 1 }, "u8") end),
  }
end

--- See rondo.formats.
function bitsandbytes.outputs(about, scheme)
  if scheme.data_type == "int" then return eight_bits(about.shape) end
  return four_bits(scheme, about.shape, about.dtype)
end

-- ---- Configuration ----

bitsandbytes.remark = remarks.maker { remarks.experts }

--- The configuration has one kind of codes for all layers.
function bitsandbytes.check(layers)
  local first, first_path
  for path, layer in layers do
    first, first_path = first or layer.scheme, first_path or path
    if layer.scheme.type ~= first.type or (layer.scheme.double == nil) ~= (first.double == nil) then
      return ("bitsandbytes has one scheme for all layers, but %s has %s and %s has %s"):format(
        first_path, first:label(), path, layer.scheme:label())
    end
  end
end

--- See rondo.formats.
function bitsandbytes.config(made)
  local most = read.most_common(made) or scheme_of.types.nf4 { group_size = 64 }
  local four = most.data_type ~= "int"
  return { { "quantization_config", json.object {
    { "quant_method", "bitsandbytes" }, { "load_in_4bit", four }, { "load_in_8bit", not four },
    { "_load_in_4bit", four }, { "_load_in_8bit", not four },
    { "bnb_4bit_quant_type", four and most.data_type or "fp4" },
    { "bnb_4bit_use_double_quant", most.double ~= nil },
    { "bnb_4bit_compute_dtype", long_names[read.model_dtype(made.model.config)] },
    { "bnb_4bit_quant_storage", "uint8" }, { "llm_int8_threshold", 6.0 },
    { "llm_int8_has_fp16_weight", false }, { "llm_int8_enable_fp32_cpu_offload", false },
    { "llm_int8_skip_modules", names.kept(made) },
  } } }
end

-- ---- Reading ----

local short_names = { float32 = "f32", float16 = "f16", bfloat16 = "bf16" }

local MOST_STATE = 4096 -- bytes of a state; others write some 200

local function whole(value)
  return math.type(value) == "integer" and value > 0 and value <= 1 << 31
end

local function finite(value) return type(value) == "number" and value - value == 0 end

-- What is wrong with a state, or nil.
local function bad_state(state)
  local shape = json.is_array(state.shape) and state.shape or {}
  if #shape ~= 2 or not whole(shape[1]) or not whole(shape[2]) then
    return "a shape that is not two positive integers"
  elseif math.type(state.blocksize) ~= "integer" or not block_sizes[state.blocksize] then
    return "a blocksize that is not 32, 64, 128, ... 4096"
  elseif shape[2] % state.blocksize ~= 0 then
    return ("blocks of %d that run over the ends of rows of %d, which are not read"):format(
      state.blocksize, shape[2])
  elseif state.nested_blocksize ~= nil and state.nested_blocksize ~= NESTED then
    return ("a nested_blocksize that is not %d"):format(NESTED)
  elseif state.nested_blocksize ~= nil and not finite(state.nested_offset) then
    return "a nested_offset that is no number"
  end
end

-- The state of a 4-bit layer, checked; or nil, message.
local function read_state(look, path, kind)
  local part = "weight.quant_state.bitsandbytes__" .. kind
  local dtype, shape = look.dtype(path, part), look.shape(path, part)
  if dtype ~= "u8" or #shape ~= 1 or shape[1] > MOST_STATE then
    return nil, ("has no '%s' of at most %d bytes"):format(part, MOST_STATE)
  end
  local tensor, message = look.tensor(path, part)
  if not tensor then return nil, message end
  local state, why = json.decode(tensor:bytes())
  if type(state) ~= "table" then
    return nil, ("has a '%s' that is no JSON object%s"):format(part, why and ": " .. why or "")
  end
  why = bad_state(state)
  if why then return nil, ("has a '%s' with %s"):format(part, why) end
  return state
end

-- Whether the values of the codes are those that everybody has.
local function same_map(look, path, kind)
  local part, values = "weight.quant_map", maps[kind].values
  local dtype, shape = look.dtype(path, part), look.shape(path, part)
  if dtype ~= "f32" or #shape ~= 1 or shape[1] ~= #values then
    return nil, ("has no '%s' of %d values of f32"):format(part, #values)
  end
  local found, message = look.tensor(path, part)
  if not found then return nil, message end
  if found:close(core.tensor(values, "f32"), 1e-6) then return true end
  return nil, ("has a '%s' of its own, which is not read"):format(part)
end

-- Scales of rows that were quantized in turn.
local function nested_scales(look, path, state, largest)
  return function(r, place)
    local absmax, message, code = look.tensor(path, "weight.nested_absmax")
    if not absmax then return nil, message, code end
    local map, codes
    map, message, code = look.tensor(path, "weight.nested_quant_map")
    if not map then return nil, message, code end
    map = map:clone() -- a mapped file may have it at any address
    local width = r.groups.width
    local first, count = (place.row - 1) * width, place.rows * width
    codes, message, code = r.checkpoint:read(stored.member(path, "weight.absmax"), 1, 1,
                                             first + 1, count)
    if not codes then return nil, message, code end
    local low, high = first // NESTED, (first + count - 1) // NESTED
    local values = core.lookup(codes:reshape { count }, map)
    local scales = core.zeros({ count }, "f32")
    for block = low, high do
      local from = math.max(block * NESTED, first) - first + 1
      local to = math.min((block + 1) * NESTED, first + count) - first
      local range = ("%d:%d"):format(from, to)
      scales[range] = (values[range] * absmax[block + 1] + state.nested_offset) / largest
    end
    return scales:reshape { place.rows, width }
  end
end

local storage_sizes = { u8 = 1, bf16 = 2, f16 = 2, f32 = 4 }

local function read_four_bits(look, path, kind)
  local state, message = read_state(look, path, kind)
  if not state then return nil, message end
  local same
  same, message = same_map(look, path, kind)
  if not same then return nil, message end
  local nested_state = state.nested_blocksize ~= nil
  local scheme = scheme_of.types[kind] {
    group_size = state.blocksize, double = nested_state and { map = "dynamic" } or nil }
  local dtype = short_names[state.dtype] or "bf16"
  local layer = { scheme = scheme, shape = state.shape, dtype = dtype,
                  outputs = four_bits(scheme, state.shape, dtype) }
  -- Bytes of codes may stand in a tensor of the model's type (bnb_4bit_quant_storage).
  local codes, storage = layer.outputs[1], look.dtype(path, "weight")
  if storage ~= "u8" then
    layer.outputs[1] = tensors.new("weight", "codes", storage,
      { codes.nbytes // storage_sizes[storage], 1 },
      { width = codes.width, layout = codes.layout, bytes = true })
  end
  -- What others write of the state has another length.
  layer.outputs[3].shape = look.shape(path, layer.outputs[3].part)
  if nested_state then
    layer.read_scales = nested_scales(look, path, state, maps[kind].largest)
  end
  return layer
end

-- weight_format, which older files do not have, says how the codes are arranged; 0: row by row.
local function read_eight_bits(look, path)
  local shape, message = look.matrix(path, "weight")
  if not shape then return nil, message end
  local outputs = eight_bits(shape)
  local form = look.has(path, "weight_format") and look.shape(path, "weight_format")
  if not form then
    outputs[3] = nil
  elseif look.dtype(path, "weight_format") == "u8" and shape_of.count(form) == 1 then
    local found
    found, message = look.tensor(path, "weight_format")
    if not found then return nil, message end
    if found:max() ~= 0 then return nil, "has a 'weight_format' that is not 0, a plain matrix" end
  end
  return { scheme = scheme_of.types.int8, shape = shape, outputs = outputs }
end

--- See rondo.formats.
function bitsandbytes.open(checkpoint, _, config)
  return read.records(checkpoint, config, function(look, name, dtype)
    local path = (storage_sizes[dtype] or dtype == "i8") and read.module(name, "weight")
    if not path then return nil end
    if dtype == "i8" then return path, read_eight_bits(look, path) end
    for kind in pairs(maps) do
      if look.has(path, "weight.quant_state.bitsandbytes__" .. kind) then
        return path, read_four_bits(look, path, kind)
      end
    end
    if dtype ~= "u8" then return nil end
    return path, nil, "has no 'weight.quant_state.bitsandbytes__nf4' or '...fp4'"
  end)
end

return bitsandbytes
