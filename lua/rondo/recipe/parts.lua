-- parts: what a linear layer is to its block (q, k, v, o, gate, up, down), by its name, and which
-- layers engines fuse into one matrix.

local parts = {}

local function set(list)
  local out = {}
  for word in list:gmatch "%S+" do out[word] = true end
  return out
end

-- Last segments of paths, by part. w1, w2, w3 are Llama's own and Mixtral's.
local words = {
  q = set "q_proj query wq q q_lin to_q",
  k = set "k_proj key wk k k_lin to_k",
  v = set "v_proj value wv v v_lin to_v",
  o = set "o_proj out_proj wo o out_lin to_out",
  gate = set "gate_proj w1 gate wi_0",
  up = set "up_proj w3 up wi_1 c_fc fc1 dense_h_to_4h",
  down = set "down_proj w2 fc2 dense_4h_to_h",
}

local by_word = {}
for part, list in pairs(words) do
  for word in pairs(list) do by_word[word] = part end
end

-- Words that mean one thing in attention and another in the MLP.
local function by_parent(leaf, parent)
  if leaf ~= "c_proj" and leaf ~= "dense" then return nil end
  if parent:find "attn" or parent:find "attention" then return "o" end
  return leaf == "c_proj" and parent:find "mlp" and "down" or nil
end

--- The part that the layer of that path is, or nil.
function parts.of(path)
  local parent, leaf = path:match "^(.*)%.([^.]*)$"
  if not parent then parent, leaf = "", path end
  return by_word[leaf] or by_parent(leaf, parent)
end

-- What engines (vLLM, SGLang) fuse into one matrix: what they call it, the last segments of the
-- layers that it is made of, from the top, and words for them.
local fused = {
  { "qkv_proj", "q_proj k_proj v_proj", "q, k and v" },
  { "qkv_proj", "query key value", "q, k and v" },
  { "qkv_proj", "wq wk wv", "q, k and v" },
  { "qkv_proj", "q k v", "q, k and v" },
  { "qkv_proj", "q_lin k_lin v_lin", "q, k and v" },
  { "qkv_proj", "to_q to_k to_v", "q, k and v" },
  { "gate_up_proj", "gate_proj up_proj", "gate and up" },
  { "gate_up_proj", "w1 w3", "gate and up" },
  { "gate_up_proj", "gate up", "gate and up" },
  { "gate_up_proj", "wi_0 wi_1", "gate and up" },
  { "fused_qkv_a_proj", "q_a_proj kv_a_proj_with_mqa", "q_a and kv_a" }, -- DeepSeek's MLA
  { "in_proj_qkvz", "in_proj_qkv in_proj_z", "in_proj_qkv and in_proj_z" }, -- Qwen3.5's deltas
  { "in_proj_ba", "in_proj_b in_proj_a", "in_proj_b and in_proj_a" },
}

local families = {}
for _, f in ipairs(fused) do
  local family = { name = f[1], words = f[3], leaves = {} }
  for leaf in f[2]:gmatch "%S+" do
    table.insert(family.leaves, leaf)
    families[leaf] = family
  end
end

-- The last segment of a path and what is before it.
local function cut(path)
  local above, leaf = path:match "^(.*)%.([^.]*)$"
  return above or "", leaf or path
end

local function under(above, leaf) return above == "" and leaf or above .. "." .. leaf end

--- What engines fuse the layer of that path with: the path they share, and their family { name,
--- words, leaves }, the same table for all of them; or nil.
function parts.partners(path)
  local above, leaf = cut(path)
  if families[leaf] then return above, families[leaf] end
end

--- The path of the matrix that engines make of the layer of that path and its partners, or nil.
function parts.fused(path)
  local above, family = parts.partners(path)
  return family and under(above, family.name)
end

--- The paths of the layers that stand below the layer of that path in that matrix.
function parts.below(path)
  local above, family = parts.partners(path)
  local paths, seen = {}, false
  for _, leaf in ipairs(family and family.leaves or {}) do
    if seen then paths[#paths + 1] = under(above, leaf) end
    seen = seen or under(above, leaf) == path
  end
  return paths
end

--- The path of the module that holds all experts of a layer, by that of one of them, or of a tensor
--- of them all.
function parts.experts(path)
  return path:match "^(.*%f[%w_]experts)%.%d+%." or (cut(path))
end

return parts
