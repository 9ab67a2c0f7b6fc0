-- classify: what a tensor is, from its name, type, shape and neighbours. All knowledge about how
-- model families name things is in the tables here, each with its reason.
--
-- Promises never to guess from values. Where a name could mean two things, shapes of neighbours
-- decide; where nothing decides, a weight that may be delicate (router, head) counts as that.
--
-- The neighbours come through `look`: look.info(name) -> dtype, shape or nil; look.has(name);
-- look.types the set of model types of the config; look.hidden its hidden_size or nil;
-- look.classifier whether the config's architecture is for classification; look.leaves an empty
-- table to remember things in.

local classify = {}

-- A set of words that is also their list.
local function set(list)
  local out = {}
  for word in list:gmatch "%S+" do
    out[word], out[#out + 1] = true, word
  end
  return out
end

-- Types that hold trained weights as they are. 8-bit floats come with scales of their own: such a
-- checkpoint is quantized already.
local plain = set "f64 f32 f16 bf16"

-- Last segments of modules that look rows up. A product with them never happens, so an error in a
-- row is not averaged away.
local embeddings = set [[
  embed embeds embedder embed_tokens embed_tokens_per_layer embed_positions embed_in emb
  embedding embeddings tok_embeddings tokens_embed positions_embed wte wpe codebook
  relative_attention_bias ]]

-- The same, where the segment ends so: word_embeddings, position_embedding, pos_embed, ...
local embedding_ends = { "_embedding$", "_embeddings$", "_embed$", "_embeds$" }

-- The same, only outside of the numbered layers: T5 and BART call the common table "shared".
local top_embeddings = set "shared"

-- The same, where a number follows: one table a codebook in MusicGen, Moshi and Bark.
local listed_embeddings = set "embed_tokens input_embeds_layers"

-- Norms, as patterns of the last segment in lower case. Most have rank 1; Cohere's q_norm has 2.
local norms = { "norms?_?%d*$", "norm_f$", "^ln_?%w?$", "^ln_", "_ln$" }

-- A layer's choice of experts. Small, and an error in it sends tokens to the wrong expert.
-- "gate" alone is the router of Mixtral (block_sparse_moe.gate), Qwen and DeepSeek (mlp.gate), LFM2
-- (feed_forward.gate), Nemotron-H (mixer.gate); gate_proj is an ordinary layer everywhere.
local routers = set "router shared_expert_gate"
local router_segment = set "router" -- router.layer (Granite), router.classifier (Switch)

-- Segments of the projection to the vocabulary, anywhere in the name: lm_head; GPT-NeoX has
-- embed_out, MusicGen lm_heads.0.
local heads = set "lm_head lm_heads embed_out"

-- Heads by the whole module path, each where the condition holds.
local function whisper(look) return look.types.whisper end
local function classifier(look) return look.classifier end
-- Llama's own format: "output" has the shape of "tok_embeddings".
local function like_tokens(look, shape)
  local _, other = look.info "tok_embeddings.weight"
  return other and #other == 2 and other[1] == shape[1] and other[2] == shape[2]
end
local head_paths = {
  output = like_tokens,
  proj_out = whisper,
  score = classifier,
  classifier = classifier,
  ["cls.predictions.decoder"] = function() return true end, -- BERT
}
-- DeepSeek's layers that predict further tokens carry a copy of the head: shared_head.head.
local function is_shared_head(leaf, parent)
  return leaf == "head" and parent:find "%f[^.\0]shared_head$" ~= nil
end

-- Layers of GPT-2's kind (Conv1D) store [in, out]. The block's own c_attn tells: [n, 3n] there, and
-- [3n, n] in a checkpoint that was turned round. Where it does not, the model type does.
local conv1d = set "c_attn c_proj c_fc q_attn"
local conv1d_types = set "gpt2 openai-gpt imagegpt decision_transformer"

-- Experts in one tensor of rank 3. Leaves in a segment "experts", with or without ".weight" behind;
-- JetMoe and Granite say input_linear and output_linear, Step-3 a plain "moe".
local stacked = set [[
  gate_up_proj gate_proj up_proj down_proj w1 w2 w3 fc1 fc2 input_linear output_linear ]]
local stacked_parents = set "experts moe block_sparse_moe switch_mlp" -- the last: mlx-lm
-- Leaves whose output is the hidden state; all others take it as input.
local to_hidden = set "down_proj w2 fc2 output_linear"
-- Families that store [experts, in, out]; the others store [experts, out, in]. Only asked when the
-- shapes leave it open.
local stacked_transposed = set [[
  gpt_oss llama4 llama4_text qwen3_vl_moe qwen3_vl_moe_text aria aria_text ]]

local function any(word, patterns)
  for _, pattern in ipairs(patterns) do
    if word:find(pattern) then return true end
  end
  return false
end

-- The last segment of a path and what is before it.
local function leaf_of(path)
  local parent, leaf = path:match "^(.*)%.([^.]*)$"
  if not parent then return path, "" end
  return leaf, parent
end

-- Whether one of the words, which hold letters and _ only, is a segment of the path.
local function has_segment(path, words)
  for i = 1, #words do
    local word = words[i]
    if path:find(word, 1, true) and path:find("%f[^.\0]" .. word .. "%f[.\0]") then return true end
  end
  return false
end

--- The module path of a weight: "P" for "P.weight", "" for "weight", and for what may be experts
-- stacked in a tensor without that ending its whole name (they are when the rank is 3). nil for a
-- tensor that is no module's weight.
function classify.path(name)
  if name:sub(-7) == ".weight" then return name:sub(1, -8) end
  if name == "weight" then return "" end
  if not name:find("experts.", 1, true) then return nil end
  local leaf, parent = leaf_of(name)
  if stacked[leaf] and leaf_of(parent) == "experts" then return name end
end

--- Its layer's number and the path up to it ("model.layers"); nil outside of numbered layers. The
-- number of an expert is none.
function classify.depth(path)
  local at = 1
  while true do
    local start, stop, digits = path:find("%f[^.\0](%d+)%f[.\0]", at)
    if not start then return nil end
    local before = path:sub(1, math.max(start - 2, 0))
    if #digits <= 9 and not before:find "experts?$" then return tonumber(digits), before end
    at = stop + 1
  end
end

-- What the last segment alone says. A model has few different ones: worked out once for each.
local function leaf_says(look, leaf)
  local says = look.leaves[leaf]
  if says == nil then
    says = any(leaf:lower(), norms) and "norm"
      or (embeddings[leaf] or any(leaf, embedding_ends)) and "embedding"
      or routers[leaf] and "router" or false
    look.leaves[leaf] = says
  end
  return says
end

local function is_table_by_place(path, leaf, parent)
  if leaf:find "^%d+$" then return listed_embeddings[(leaf_of(parent))] or false end
  return top_embeddings[leaf] and not classify.depth(path)
end

-- A "gate" is a router unless it is the gate of an MLP or of attention: beside an "up" of the same
-- shape, or inside a module named after attention.
local function is_gate(look, leaf, parent, shape)
  if leaf == "wg" and leaf_of(parent) == "gate" then return true end -- Hunyuan: mlp.gate.wg
  if leaf ~= "gate" or parent == "" or leaf_of(parent):lower():find "attn" then return false end
  if leaf_of(parent):lower():find "attention" then return false end
  for _, up in ipairs { ".up.weight", ".up_proj.weight" } do
    local _, other = look.info(parent .. up)
    if other and #other == 2 and other[1] == shape[1] and other[2] == shape[2] then return false end
  end
  return true
end

local function is_head(look, path, leaf, parent, shape)
  if has_segment(path, heads) or is_shared_head(leaf, parent) then return true end
  local condition = head_paths[path]
  return condition ~= nil and condition(look, shape)
end

local function is_conv1d(look, parent)
  local block = parent:match "^(.*)%.[^.]*$"
  local _, shape = look.info((block and block .. "." or "") .. "attn.c_attn.weight")
  if shape and #shape == 2 then
    if shape[2] == 3 * shape[1] then return true end
    if shape[1] == 3 * shape[2] then return false end
  end
  for model_type in pairs(look.types) do
    if conv1d_types[model_type] then return true end
  end
  return false
end

-- gate_up_proj [E, 2i, h] beside down_proj [E, h, i], or [E, h, 2i] beside [E, i, h]: only one of
-- the two readings can hold. nil when there is no such pair.
local function transposed_by_pair(look, parent, ending)
  local _, up = look.info(parent .. ".gate_up_proj" .. ending)
  local _, down = look.info(parent .. ".down_proj" .. ending)
  if not up or not down or #up ~= 3 or #down ~= 3 then return nil end
  if up[3] == down[2] and up[2] == 2 * down[3] then return false end
  if up[2] == down[3] and up[3] == 2 * down[2] then return true end
end

-- A size that must be the output (or the input) of [E, a, b] decides when only one of a, b has it.
local function transposed_by_size(shape, size, is_output)
  if shape[2] == shape[3] then return nil end
  if shape[2] == size then return not is_output end
  if shape[3] == size then return is_output end
end

local function is_transposed_stack(look, name, path, leaf, parent, shape)
  local found = transposed_by_pair(look, parent, name:sub(#path + 1))
  if found ~= nil then return found end
  local bias_name = classify.bias(look, name, path)
  local _, bias = look.info(bias_name or "")
  if bias_name and #bias == 2 then
    found = transposed_by_size(shape, bias[2], true)
    if found ~= nil then return found end
  end
  if look.hidden then
    found = transposed_by_size(shape, look.hidden, to_hidden[leaf] or false)
    if found ~= nil then return found end
  end
  for model_type in pairs(look.types) do
    if stacked_transposed[model_type] then return true end
  end
  return false
end

--- The bias that belongs to a weight: its name, or nil.
function classify.bias(look, name, path)
  local candidates = { path == "" and "bias" or path .. ".bias", path .. "_bias" }
  for i, candidate in ipairs(candidates) do
    if (i == 1 or path == name) and look.has(candidate) then return candidate end
  end
end

local expert_segment = set "experts"

local function matrix_kind(look, path, leaf, parent, shape)
  local says = leaf_says(look, leaf)
  if says then return says end
  if is_table_by_place(path, leaf, parent) then return "embedding" end
  if has_segment(path, router_segment) or is_gate(look, leaf, parent, shape) then
    return "router"
  end
  if is_head(look, path, leaf, parent, shape) then return "lm_head" end
  return has_segment(path, expert_segment) and "expert" or "linear"
end

--- What a weight is.
-- @return "linear", "lm_head", "router", "expert", "embedding", "norm" or "other"; and for the
-- first four whether it is stored [in, out] rather than [out, in]
function classify.kind(look, name, path, dtype, shape)
  local leaf, parent = leaf_of(path)
  if not plain[dtype] then return "other", false end
  if #shape == 2 then
    local kind = matrix_kind(look, path, leaf, parent, shape)
    return kind, conv1d[leaf] and is_conv1d(look, parent) or false
  elseif leaf_says(look, leaf) == "norm" then
    return "norm", false
  elseif #shape == 3 and stacked[leaf] and has_segment(parent, stacked_parents) then
    return "expert", is_transposed_stack(look, name, path, leaf, parent, shape)
  end
  return "other", false
end

return classify
