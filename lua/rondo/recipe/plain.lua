-- recipe.plain: the recipe that the plain options of rondo.plan and of the command stand for: one
-- scheme for all linear layers but those that are excluded, kept by kind, or configured.

local recipe_of = require "rondo.recipe"
local scheme_of = require "rondo.scheme"

local keep = scheme_of.types.keep

local other_kinds = { embedding = "embedding", norm = "norm", other = "not a linear layer",
                      bias = "not a linear layer" }
local quantizable = { f32 = true, f16 = true, bf16 = true }

local is_data_type = {}
for _, name in ipairs(scheme_of.data_types) do is_data_type[name] = true end

local function keep_other_kinds(layer)
  local reason = other_kinds[layer.kind]
  if reason then return keep, reason end
end

local function keep_other_types(layer)
  local dtype = layer.dtype
  if not quantizable[dtype] then return keep, "dtype " .. dtype .. " is not quantized" end
end

-- A dtype that is a scheme by itself.
local function whole_scheme(o)
  local clip = o.mse_search and "layer" or o.clip
  return scheme_of.ready[o.dtype] { clip = clip, ratio = clip == "none" and o.quantile or nil }
end

local function scheme_for(o, config)
  if not is_data_type[o.dtype] then return whole_scheme(o) end
  local bits = config and config.bits or o.bits
  return scheme_of.of_reference {
    data_type = bits == 4 and o.dtype or "int", bits = bits, full_range = o.full_range,
    scheme = config and config.scheme or o.scheme, group_dim = o.group_dim,
    group_size = config and config.group_size or o.group_size,
    ratio = not o.mse_search and (config and (config.quantile or 1.0) or o.quantile) or nil,
    clip = o.mse_search and "layer" or o.clip,
    scale_dtype = o.format == "packed" and o.scale_dtype or nil,
  }
end

local function configured(o)
  return function(layer)
    local config = o.config[layer.name]
    if config then return scheme_for(o, config), "config '" .. layer.name .. "'" end
  end
end

local function keep_delicate(layer)
  if layer.tied then return keep, "tied to the embedding" end
  if layer.kind == "head" then return keep, "lm_head is kept" end
  if layer.kind == "router" then return keep, "routers are kept" end
end

--- @param o  checked options, see rondo.plan_options
return function(o)
  local rules = { keep_other_kinds }
  for _, rule in ipairs(o.exclude) do
    rules[#rules + 1] = { rule.text, keep, name = "exclude " .. rule.text }
  end
  rules[#rules + 1] = keep_other_types
  if next(o.config) then rules[#rules + 1] = configured(o) end
  rules[#rules + 1] = o.reference and function(layer)
    if layer.tied then return keep, "tied to the embedding" end
  end or keep_delicate
  local scheme = scheme_for(o)
  rules[#rules + 1] = function() return scheme, "linear layer" end
  return recipe_of.new(rules)
end
