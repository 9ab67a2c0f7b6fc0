-- formats.read: what formats share: reasons that they have no place for a layer, what a plan comes
-- to for config.json; and for readers, looking at the tensors of a layer and making records of
-- layers (rondo.formats) that the tensors themselves describe.

local json = require "rondo.json"
local shape_of = require "rondo.shape"
local stored = require "rondo.formats.stored"
local tensors = require "rondo.formats.tensors"
local text = require "rondo.model.text"

local read = {}

-- ---- Fitting ----

local modules = { linear = true, lm_head = true, expert = true, router = true }

--- Why engines that look for linear modules would not find a layer, or nil; see fit of formats.
function read.no_linear(about)
  if not modules[about.kind] then return "only linear layers have a place in it" end
  if about.transposed then return "it is stored [in, out]; engines read [out, in]" end
  if #about.shape ~= 2 then return "experts that are stacked in one tensor have no place in it" end
end

--- The scheme of most of the layers that a plan quantizes, the first of several; nil without any.
function read.most_common(made)
  local count, most = {}, nil
  for _, layer in require("rondo.plan").layers(made) do
    local s = layer.scheme
    count[s] = (count[s] or 0) + 1
    if not most or count[s] > count[most] then most = s end
  end
  return most
end

--- What a path is within a block of the model: "mlp.gate" of "model.layers.3.mlp.gate", or nil.
function read.in_block(path)
  return path:match "%.%d+%.(.+)$"
end

-- ---- Looking ----

--- The module of a tensor whose name ends in that part: "fc" of "fc.qweight" and "qweight".
function read.module(name, part)
  if name == part then return "" end
  if name:sub(-#part - 1) ~= "." .. part then return nil end
  return name:sub(1, -#part - 2)
end

local integers = { i32 = true, i64 = true }
local floats = { f32 = true, f16 = true, bf16 = true }

-- Questions about the parts of a module P. Answers are nil, message where the part is not as it
-- should be.
local function looker(checkpoint)
  local look = {}
  local function info(path, part) return checkpoint:info(stored.member(path, part)) end
  function look.has(path, part) return checkpoint:has(stored.member(path, part)) end
  function look.dtype(path, part) return (info(path, part)) end
  function look.shape(path, part) return select(2, info(path, part)) end
  --- Shape and type of a matrix.
  function look.matrix(path, part)
    local dtype, shape = info(path, part)
    if not dtype then return nil, ("has no tensor '%s'"):format(part) end
    if #shape ~= 2 then
      return nil, ("has '%s' of the shape [%s], which is no matrix"):format(part,
        table.concat(shape, ", "))
    end
    return shape, dtype
  end
  --- Type and shape of scales that are floats.
  function look.floats(path, part)
    local dtype, shape = info(path, part)
    if not dtype then return nil, ("has no tensor '%s'"):format(part) end
    if not floats[dtype] then
      return nil, ("has '%s' of %s; f16, bf16 and f32 are read"):format(part, dtype)
    end
    return dtype, shape
  end
  --- The same of a matrix.
  function look.float_matrix(path, part)
    local shape, message = look.matrix(path, part)
    if not shape then return nil, message end
    return look.floats(path, part)
  end
  --- A small tensor as a list of integers.
  function look.integers(path, part, count)
    local dtype, shape = info(path, part)
    if not dtype then return nil, ("has no tensor '%s'"):format(part) end
    if not integers[dtype] or shape_of.count(shape) ~= count then
      return nil, ("has '%s' of %d values of %s, not %d integers"):format(part,
        shape_of.count(shape), dtype, count)
    end
    local found, message = look.tensor(path, part)
    if not found then return nil, message end
    return found:reshape { count }:totable()
  end
  function look.tensor(path, part) return checkpoint:tensor(stored.member(path, part)) end
  return look
end

--- An integer of the configuration, nil where it is not there; or nil, message.
function read.integer(said, name, low, high)
  local value = said[name]
  if value == nil or value == json.null then return nil end
  if math.type(value) == "integer" and value >= low and value <= high then return value end
  return nil, ("quantization_config: %s must be an integer from %d to %d, not %s"):format(name, low,
    high, text.value(value))
end

--- The group size of a configuration, by any of its names; -1 is a whole row.
function read.said_size(said, ...)
  for _, name in ipairs { ... } do
    local size, message = read.integer(said, name, -1, 1 << 31)
    if size == 0 then message = ("quantization_config: %s must not be 0"):format(name) end
    if size or message then return not message and size or nil, message end
  end
end

--- The size of `groups` groups along `cols` inputs, as a scheme says it; said: what the
--- configuration has, which decides where several sizes make as many groups, or nil.
function read.group_size(cols, groups, said)
  if groups == 1 or groups == 0 and cols == 0 then return "row" end
  if said and said > 0 and shape_of.ceil_div(cols, said) == groups then return said end
  if groups > 0 and cols > 0 and cols % groups == 0 then return cols // groups end
  return nil, ("has %d groups of %d inputs"):format(groups, cols)
end

local exponents = { f8_e8m0 = true, u8 = true }

-- Whether a shape is that of a matrix, but for dimensions of 1.
local function is_matrix(shape, height, width)
  local dims, wanted = {}, {}
  for _, d in ipairs(shape) do dims[#dims + 1] = d ~= 1 and d or nil end
  for _, d in ipairs { height, width } do wanted[#wanted + 1] = d ~= 1 and d or nil end
  return table.concat(dims, ",") == table.concat(wanted, ",")
end

local USUAL = { 128, 128 }

-- The group size that scales of that shape are for, and the width of their matrix; or nil.
local function groups_by_shape(shape, rows, cols, said)
  local function fits(block)
    local width = shape_of.ceil_div(cols, block[2])
    return is_matrix(shape, shape_of.ceil_div(rows, block[1]), width) and width
  end
  local width = said and fits(said)
  if width then return said, width end
  if shape_of.count(shape) == 1 then return "tensor", 1 end
  if is_matrix(shape, rows, 1) then return "row", 1 end
  width = not said and fits(USUAL)
  if width then return USUAL, width end
  width = shape[#shape]
  if width > 0 and cols % width == 0 and is_matrix(shape, rows, width) then
    return cols // width, width
  end
end

--- Scales that may be for a tensor, a row, a block or groups of a row, as their shape says.
-- @param shape  of the weight
-- @param block  that of the configuration, or nil
-- @return the scheme's group_size and scale, and the description (rondo.formats.tensors) of the
--         scales; or nil, message
function read.scales(look, path, part, shape, block)
  local dtype, found = look.dtype(path, part), look.shape(path, part)
  local message
  if not exponents[dtype] then
    dtype, message = look.floats(path, part)
    if not dtype then return nil, message end
  end
  local size, width = groups_by_shape(found, shape[1], shape[2], block)
  if not size then
    block = block or USUAL
    return nil, ("has '%s' of the shape [%s], which fits neither the tensor, nor its rows, nor "
      .. "blocks of %dx%d, nor groups of a row"):format(part, table.concat(found, ", "), block[1],
      block[2])
  end
  local more = { as = exponents[dtype] and "f8_e8m0" or nil }
  if select(2, shape_of.matrix(found)) ~= width then more.width = width end
  return size, exponents[dtype] and "e8m0" or dtype,
    tensors.new(part, "scale", dtype, found, more)
end

--- A layer whose columns name their groups, where that is not what they are anyway.
-- @return the layer, or nil, message
function read.with_groups(look, path, layer, part)
  if not look.has(path, part) then return layer end
  local cols = layer.shape[#layer.shape]
  local groups, message = look.integers(path, part, cols)
  if not groups then return nil, message end
  local size, count = layer.scheme:group_elements(cols), layer.scheme:groups(cols)
  local plain = true
  for i, group in ipairs(groups) do
    if group < 0 or group >= count then
      return nil, ("says group %d in '%s', but there are %d"):format(group, part, count)
    end
    plain = plain and group == (i - 1) // size
  end
  if not plain then layer.group_of = look.tensor(path, part) end
  return layer
end

-- ---- Records ----

local dtypes = { float32 = "f32", float16 = "f16", bfloat16 = "bf16" }

--- The type that the model computes in, as config.json says it; bf16 where it does not.
function read.model_dtype(config)
  for _, key in ipairs { "torch_dtype", "dtype" } do
    local said = config and config[key]
    if type(said) == "string" then return dtypes[said:gsub("^torch%.", "")] or "bf16" end
  end
  return "bf16"
end

-- Sources and names are made when they are asked for: there may be 100,000 records.
local function record_type(checkpoint)
  local makers = { source = function(layer) return stored.source(checkpoint, layer) end,
                   parts = stored.parts }
  return { __index = function(record, key)
    return makers[key] and makers[key](rawget(record, "layer"))
  end }
end

-- Beyond these, products of dimensions could be more than an integer holds.
local function absurd(shape)
  local weights = 1
  for _, d in ipairs(shape) do
    if d < 0 or d > 1 << 31 then return true end
    weights = weights * d
    if weights > 1 << 50 then return true end
  end
  return false
end

local function bad_layer(path, message)
  return nil, ("layer %s %s"):format(text.quote(path), message), "format"
end

-- ---- What lies beside them ----

-- What engines do to activations and to the cache of keys and values, whatever has the scales.
local activations = {}
for _, what in ipairs { "input", "output", "activation", "q", "k", "v", "kv", "prob" } do
  for _, kind in ipairs { "scale", "scale_inv", "global_scale", "zero_point" } do
    activations[what .. "_" .. kind] = true
  end
end

-- What belongs to codes: with weights that are not quantized, or symmetric, it says nothing.
local of_codes = { weight_scale = true, weight_scale_inv = true, weight_zero_point = true,
                   weight_shape = true, weight_g_idx = true }

-- Why there are parts of a layer that is not read, or nil.
local function unread(checkpoint, path, part)
  local dtype = checkpoint:info(stored.member(path, "weight"))
  if floats[dtype] or not part:find "^weight_scale" then return nil end
  local found = dtype and "a 'weight' of " .. dtype or "no 'weight'"
  return ("has '%s', but %s, which is not read"):format(part, found)
end

-- The tensors of a quantization that are of no layer's values, by what their names end in; or nil,
-- path, message where a layer should have been read.
local function others_of(checkpoint, names, layers)
  local list = {}
  for _, name in ipairs(names) do
    local path, part = name:match "^(.*)%.([^.]*)$"
    if activations[part] then
      list[#list + 1] = name
    elseif of_codes[part] then
      local layer, own = layers[path], false
      local message = not layer and unread(checkpoint, path, part)
      if message then return nil, path, message end
      for _, known in ipairs(layer and stored.parts(layer) or {}) do own = own or known == name end
      if not own then list[#list + 1] = name end
    end
  end
  return list
end

--- The records of all layers of a checkpoint.
-- @param find  function (look, name, dtype) -> path and layer (see rondo.formats.stored, without
--              path) where that tensor stands for one; nil where it does not; path, nil, message
--              where the layer cannot be read
-- @param scaled  whether there may be scales for more than weights, which are no weights themselves
-- @return a list, and one of those scales' names; or nil, message, code
function read.records(checkpoint, config, find, scaled)
  local records, look, meta = {}, looker(checkpoint), record_type(checkpoint)
  local names, dtype, layers = checkpoint:names(), read.model_dtype(config), {}
  for _, name in ipairs(names) do
    local path, layer, message = find(look, name, (checkpoint:info(name)))
    if path and not layer then return bad_layer(path, message) end
    if path then
      layer.path = path
      message = stored.complaint(checkpoint, layer)
      if absurd(layer.shape) then message = "has a shape that is absurd" end
      if message then return bad_layer(path, message) end
      layers[path] = layer
      records[#records + 1] = setmetatable({
        name = path, weight = stored.member(path, "weight"), tensor_name = name, dtype = dtype,
        shape = layer.shape, layer = layer,
      }, meta)
    end
  end
  if not scaled then return records, {} end
  local others, path, message = others_of(checkpoint, names, layers)
  if not others then return bad_layer(path, message) end
  return records, others
end

return read
