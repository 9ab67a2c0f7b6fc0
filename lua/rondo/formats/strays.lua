-- formats.strays: tensors that are parts of quantized layers by their names, but of no layer that
-- is read: something of it is missing, or the configuration says another method, or none.

local stored = require "rondo.formats.stored"
local text = require "rondo.model.text"

local strays = {}

-- What names of such tensors end in.
local parts = {
  "weight_packed", "weight_scale", "weight_scale_inv", "weight_scale_2", "weight_global_scale",
  "weight_shape", "weight_zero_point", "weight_g_idx", "qweight", "qzeros", "g_idx",
  "packed_weight", "packed_zp", "SCB", "weight.absmax", "weight.nested_absmax",
  "weight.quant_map", "weight.nested_quant_map", "weight.quant_state.bitsandbytes__nf4",
  "weight.quant_state.bitsandbytes__fp4",
}

-- By the last segment: the parts that end in it.
local by_end = { scales = { "scales" } }
for _, part in ipairs(parts) do
  local last = part:match "[^.]*$"
  by_end[last] = by_end[last] or {}
  table.insert(by_end[last], part)
end

-- The module and part of a name, or nil.
local function split(name)
  for _, part in ipairs(by_end[name:match "[^.]*$"] or {}) do
    if name == part then return "", part end
    if name:sub(-#part - 1) == "." .. part then return name:sub(1, -#part - 2), part end
  end
end

-- Those that plain models have as well: they say something beside codes alone.
local common = { weight_scale = true, g_idx = true }

local floats = { f64 = true, f32 = true, f16 = true, bf16 = true }

-- Whether a module whose codes nobody reads is none that has a plain weight as well (scales go
-- along with weights that are quantized while a model runs). Many things are called scales; with
-- biases and without a weight they are a layer's where others are quantized so.
local function is_stray(checkpoint, path, part, others)
  local weight = checkpoint:info(stored.member(path, "weight"))
  if part == "scales" then
    return weight == "u32" or not weight and others
      and checkpoint:has(stored.member(path, "biases"))
  end
  return not floats[weight] and (weight ~= nil or not common[part])
end

--- The first tensor in file order that is a part of a layer which nobody reads.
-- @param records  of the layers that are read, or nil
-- @return its module and part, and how many modules have such; nil where there is none
function strays.find(checkpoint, records)
  local names, group_of, first = checkpoint:names(), checkpoint:groups()
  local wanted, any, known = {}, false, {}
  for group, number in ipairs(first) do
    wanted[group] = split(names[number]) ~= nil
    any = any or wanted[group]
  end
  if not any then return nil end
  for _, record in ipairs(records or {}) do known[record.name] = true end
  local path_found, part_found, count = nil, nil, 0
  for number, name in ipairs(names) do
    local path, part = nil, nil
    if wanted[group_of[number]] then path, part = split(name) end
    if path and not known[path] and is_stray(checkpoint, path, part, records ~= nil) then
      known[path], count = true, count + 1
      if not path_found then path_found, part_found = path, part end
    end
  end
  return path_found, part_found, count
end

--- Why a checkpoint in which there are such is not read, or nil.
-- @param method  that the configuration says, or nil
function strays.complaint(checkpoint, method, records)
  local path, part, count = strays.find(checkpoint, records)
  if not path then return nil end
  local more = count > 1 and (" (and %d more like it)"):format(count - 1) or ""
  if method then
    return ("layer %s%s has '%s', but no codes as %s stores them: they are missing, or the "
      .. "configuration says the wrong method"):format(text.quote(path), more, part,
        text.quote(method))
  end
  return ("%s%s is of a quantized layer, but nothing says how it is quantized: no "
    .. "quantization_config in config.json, no file that stands in for it"):format(
      text.quote(stored.member(path, part)), more)
end

return strays
