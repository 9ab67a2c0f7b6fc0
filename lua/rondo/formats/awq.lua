-- awq: the checkpoints of AutoAWQ ("gemm"), which vLLM, transformers and mlx-lm load: 4 bits.
--
-- A layer P has
--   P.qweight  i32 [in, out / 8]  fields of the codes of eight outputs, in the order below
--   P.qzeros   i32 [groups, out / 8]  likewise
--   P.scales   f16 [groups, out]
-- and W = scale * (code - zero). Symmetric codes are stored + 8, which is their zero point then.
-- Layout and configuration: casper-hansen/AutoAWQ.

local core = require "rondo.core"
local json = require "rondo.json"
local names = require "rondo.formats.names"
local read = require "rondo.formats.read"
local remarks = require "rondo.formats.remarks"
local scheme_of = require "rondo.scheme"
local tensors = require "rondo.formats.tensors"
local text = require "rondo.model.text"

local awq = { name = "awq", experts = "split", metadata = "pt" }

local ORDER = { 0, 2, 4, 6, 1, 3, 5, 7 } -- the output whose code each field of a word holds

-- ---- What a layer is stored in ----

local function misfit(scheme, shape)
  local size = scheme.group_size
  if scheme.data_type ~= "int" or scheme.bits ~= 4 then
    return "awq holds integers of 4 bits: rondo.int4, --bits 4"
  elseif type(size) ~= "number" and size ~= "row" or scheme.group_dim == 0 then
    return "groups of awq run along the inputs: group_size = 128 or \"row\", group_dim = 1"
  elseif scheme.double or scheme.zero == "float" then
    return "scales of awq are f16, its zero points integers: leave double and zero out"
  elseif scheme.scale ~= "f32" and scheme.scale ~= "f16" then
    return ("scales of awq are f16, not %s: leave scale out"):format(scheme.scale)
  elseif shape[1] % 8 ~= 0 then
    return ("%d outputs are no multiple of 8, the codes of a word"):format(shape[1])
  elseif size ~= "row" and shape[2] % size ~= 0 then
    return ("%d inputs are no multiple of the group size %d"):format(shape[2], size)
  end
end

--- See rondo.formats.
function awq.fit(scheme, about)
  local reason = read.no_linear(about)
    or about.kind == "lm_head" and "engines never look for a quantized lm_head in awq"
    or misfit(scheme, about.shape)
  if reason then return nil, reason end
  return scheme { scale = "f16" }
end

local function words(part, role, rows, cols, signed)
  return tensors.words(part, role, "i32", { rows, cols }, tensors.layout {
    bits = 4, word = "i32", dim = 0, transposed = true, order = ORDER, signed = signed or nil,
    add = signed and 8 or nil })
end

local function outputs_of(scheme, shape)
  local rows, cols = shape[1], shape[2]
  local groups, signed = scheme:groups(cols), not scheme:has_zero()
  local eights = { groups, rows // 8 }
  return {
    words("qweight", "codes", rows, cols, signed),
    signed and tensors.constant("qzeros", "i32", eights,
                                function() return core.full(eights, -0x77777778, "i32") end)
      or words("qzeros", "zero", rows, groups),
    tensors.new("scales", "scale", tensors.scale_dtypes[scheme.scale], { groups, rows },
                { transposed = true }),
  }
end

--- See rondo.formats.
function awq.outputs(about, scheme)
  return outputs_of(scheme, about.shape)
end

-- ---- Configuration ----

awq.remark = remarks.maker { remarks.experts }

--- The configuration has one group size for all layers.
function awq.check(layers)
  local first, first_path
  for path, layer in layers do
    local size = layer.scheme.group_size
    first, first_path = first or size, first_path or path
    if size ~= first then
      return ("awq has one group size for all layers, but %s has %s and %s has %s"):format(
        first_path, tostring(first), path, tostring(size))
    end
  end
end

-- GPTQModel takes all linear layers of a block for quantized, but for those named here.
local function left_out(made)
  local list = {}
  for path in require("rondo.plan").kept(made) do
    if read.in_block(path) then
      list[#list + 1] = { "-:" .. names.pattern(path), json.object {} }
    end
  end
  return #list > 0 and { "dynamic", json.object(list) } or nil
end

--- See rondo.formats.
function awq.config(made)
  local most, kept = read.most_common(made), names.kept(made)
  local size = most and most.group_size or 128
  return { { "quantization_config", json.object {
    { "quant_method", "awq" }, { "bits", 4 }, { "group_size", size == "row" and -1 or size },
    { "zero_point", true }, { "version", "gemm" },
    { "modules_to_not_convert", #kept > 0 and kept or json.null }, left_out(made),
  } } }
end

-- ---- Reading ----

local function read_layer(look, path)
  local qweight, message = look.matrix(path, "qweight")
  if not qweight then return nil, message end
  local scale, scales = look.float_matrix(path, "scales")
  if not scale then return nil, scales end
  local size
  size, message = read.group_size(qweight[1], scales[1])
  if not size then return nil, message end
  local scheme = scheme_of.types.int4 { group_size = size, symmetric = false, scale = scale }
  local shape = { qweight[2] * 8, qweight[1] }
  return { scheme = scheme, shape = shape, outputs = outputs_of(scheme, shape) }
end

-- What the configuration says that is not read, or nil.
local function unread(said)
  for _, name in ipairs { "bits", "w_bit" } do
    local _, message = read.integer(said, name, 4, 4)
    if message then return message end
  end
  local version = said.version
  if version == nil or version == json.null then return nil end
  if type(version) ~= "string" or version:lower() ~= "gemm" then
    return ("quantization_config: version %s is not read (known: gemm)"):format(
      text.value(version))
  end
end

--- See rondo.formats.
function awq.open(checkpoint, said, config)
  local message = unread(said)
  if message then return nil, message, "unsupported" end
  message = select(2, read.said_size(said, "group_size", "q_group_size"))
  if message then return nil, message, "format" end
  return read.records(checkpoint, config, function(look, name)
    local path = read.module(name, "qweight")
    if path then return path, read_layer(look, path) end
  end)
end

return awq
