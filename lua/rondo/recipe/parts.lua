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

local families = { q = "q, k and v", k = "q, k and v", v = "q, k and v",
                   gate = "gate and up", up = "gate and up" }

--- What engines fuse the layer of that path with: the same pair of strings for all partners (the
--- path they share, and words for them); or nil.
function parts.partners(path)
  local family = families[parts.of(path)]
  if family then return path:match "^(.*)%.[^.]*$" or "", family end
end

return parts
