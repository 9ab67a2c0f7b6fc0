-- formats.names: what engines call layers where they do not call them what checkpoints do.
--
-- vLLM and SGLang look up what a configuration says of a layer under the name of the module that
-- they make of it: self_attn.qkv_proj for q_proj, k_proj and v_proj (which they look for besides
-- in some formats, but not in all), mlp.experts for all experts of a layer, or its first expert, by
-- the names of Llama's projections whatever the family calls them. The names of these modules stand
-- beside those of the layers, wherever all layers of a module are treated alike.
--
-- Found in vllm-project/vllm: utils/gptq_utils.py, utils/quant_utils.py, compressed_tensors_moe.py
-- and bitsandbytes.py.

local json = require "rondo.json"
local parts = require "rondo.recipe.parts"

local names = {}

local function plan() return require "rondo.plan" end

local FIRST_EXPERT = { ".0.gate_proj", ".0.up_proj", ".0.down_proj" }

--- The modules that engines make of layers that are treated alike, in the order of their first
--- layers: list of { name, experts (whether it is all experts of a layer), scheme (nil: kept) }.
function names.modules(made)
  local by_name, list = {}, {}
  local function add(path, kind, scheme)
    local name = kind == "expert" and parts.experts(path)
      or kind == "linear" and parts.fused(path)
    local known = name and by_name[name]
    if known then
      known.mixed = known.mixed or known.scheme ~= scheme
    elseif name then
      by_name[name] = { name = name, experts = kind == "expert", scheme = scheme }
      list[#list + 1] = by_name[name]
    end
  end
  for path, layer in plan().layers(made) do add(path, layer.kind, layer.scheme) end
  for path, kind in plan().kept(made) do add(path, kind) end
  local alike = {}
  for _, module in ipairs(list) do
    if not module.mixed then alike[#alike + 1] = module end
  end
  return alike
end

--- A list of paths, each of which stands there once; add with names.add.
function names.list()
  return { seen = {} }
end

function names.add(list, path)
  if not list.seen[path] then list.seen[path], list[#list + 1] = true, path end
end

--- Adds the names under which engines ask for the first expert of a module of experts.
function names.add_experts(list, module)
  for _, tail in ipairs(FIRST_EXPERT) do names.add(list, module.name .. tail) end
end

--- The paths of the linear layers that a plan does not quantize, and of the modules that engines
--- make of them; a list for json.
function names.kept(made)
  local list = names.list()
  for path in plan().kept(made) do names.add(list, path) end
  for _, module in ipairs(names.modules(made)) do
    if not module.scheme then names.add(list, module.name) end
    if not module.scheme and module.experts then names.add_experts(list, module) end
  end
  return names.array(list)
end

--- The list as rondo.json writes it.
function names.array(list)
  return json.array(table.move(list, 1, #list, 1, {}))
end

--- A pattern of Python's that is exactly that path, or that of a module in it where `below` says
--- so. Engines that turn the two outermost modules of a model with a language model round are
--- matched, too.
function names.pattern(path, below)
  local escaped = path:gsub("[%.%+%*%?%^%$%(%)%[%]%{%}%|\\]", "\\%0")
  local turned = escaped:gsub("^model\\%.language_model\\%.",
                              "(?:model\\.language_model|language_model\\.model)\\.")
  return "^" .. turned .. (below and "(?:\\.|$)" or "$")
end

return names
