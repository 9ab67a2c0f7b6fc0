-- formats.mlx_names: what mlx-lm calls modules. It renames what a checkpoint holds while it loads
-- (`sanitize` of its models), and looks for what a configuration says of a layer under the name
-- that comes out. Weights may stand under either name; stacked experts under that one only, since
-- it would split and turn them otherwise.
--
-- Found in ml-explore/mlx-lm, mlx_lm/models.

local mlx_names = {}

local function set(list)
  local out = {}
  for word in list:gmatch "%S+" do out[word] = true end
  return out
end

-- Families whose module of all experts is called otherwise than switch_mlp, by model_type.
local containers = {
  afmoe = "experts", dots1 = "experts", gpt_oss = "experts", Klear = "experts", llama4 = "experts",
  llama4_text = "experts",
  gemma4 = "experts.switch_glu", gemma4_text = "experts.switch_glu",
  gemma4_unified = "experts.switch_glu",
}

-- Families with experts in switch_mlp.
local common = set [[
  bailing_moe bailing_moe_linear deepseek deepseek_v2 deepseek_v3 deepseek_v32 ernie4_5_moe
  exaone_moe glm4_moe glm4_moe_lite glm_moe_dsa granitemoe granitemoehybrid hunyuan jamba
  joyai_llm_flash kimi_k2 kimi_k25 kimi_linear kimi_vl laguna lfm2_moe longcat_flash mellum
  mimo_v2_flash minimax minimax_m2 mixtral nemotron_h olmoe phimoe phixtral qwen2_moe qwen3_5_moe
  qwen3_moe qwen3_next qwen3_vl_moe solar_open step3p5 ]]

--- Words for modules of stacked experts in checkpoints of mlx-lm.
mlx_names.stacks = set "switch_mlp switch_glu"

--- What the module of all experts is called in models of these types (a set).
function mlx_names.container(types)
  for model_type in pairs(types) do
    if containers[model_type] then return containers[model_type] end
  end
  return "switch_mlp"
end

--- Whether that is known, and no guess.
function mlx_names.is_known(types)
  for model_type in pairs(types) do
    if containers[model_type] or common[model_type] then return true end
  end
  return false
end

-- Patterns of paths and what they become, by model_type.
local renamed = {
  gpt_neox = { { "^gpt_neox%.layers%.", "model.h." }, { "^gpt_neox%.", "model." },
               { "^embed_out$", "model.embed_out" } },
  kimi_linear = { { "%.block_sparse_moe%.", ".mlp." } },
  lfm2_moe = { { "%.w1$", ".gate_proj" }, { "%.w2$", ".down_proj" }, { "%.w3$", ".up_proj" } },
  step3p5 = { { "%.moe%.gate$", ".mlp.gate.gate" }, { "%.share_expert%.", ".mlp.share_expert." } },
}

-- Layers that are cut or put together while they are loaded, by model_type: their own names mean
-- nothing then.
local recut = { granitemoehybrid = set "input_linear output_linear",
                hunyuan = set "qkv_proj gate_and_up_proj" }

-- Whether a tensor that is stored as it is stands in checkpoints of mlx-lm under another name, or
-- turned: behind the language model's module, in a stack of experts, of a convolution.
local function is_its_own(name)
  for stack in pairs(mlx_names.stacks) do
    if name:find("." .. stack .. ".", 1, true) then return true end
  end
  return name:find "^language_model%." ~= nil or name:find "conv1d%.weight$" ~= nil
end

--- The first tensor of a checkpoint of mlx-lm that a plan leaves as other engines do not look for
--- it, or nil.
function mlx_names.left(made)
  if (made.model.checkpoint:metadata() or {}).format ~= "mlx" then return nil end
  for number, name in ipairs(made.names) do
    local kept = made.decisions[number].what ~= "quantize"
    if is_its_own(name) and (kept or name:find "^language_model%.") then return name end
  end
end

--- Why nothing that a configuration says of a layer would be found, or nil.
function mlx_names.lost(path, types)
  local leaf = path:match "[^.]*$"
  for model_type in pairs(types) do
    if recut[model_type] and recut[model_type][leaf] then
      return ("mlx-lm cuts %s of %s while it loads them"):format(leaf, model_type)
    end
  end
end

--- The names under which mlx-lm may look for a layer, its own first.
-- @param parts  whether the model has parts beside its language model
function mlx_names.of(path, types, parts)
  local names = { path }
  for model_type in pairs(types) do
    for _, rule in ipairs(renamed[model_type] or {}) do
      local name, count = path:gsub(rule[1], rule[2])
      if count > 0 then names[#names + 1] = name end
    end
  end
  if path:find "^model%.language_model%." then
    names[#names + 1] = path:gsub("^model%.language_model%.", "language_model.model.")
  elseif parts and not path:find "^language_model%." then
    names[#names + 1] = "language_model." .. path
  end
  return names
end

return mlx_names
