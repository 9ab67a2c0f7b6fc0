-- Checkpoints for measuring: Llama-shaped, bf16, of about a given size; or of very many tensors.
-- The same arguments give the same bytes.
local core = require "rondo.core"
local json = require "rondo.json"

local checkpoints = {}

local HIDDEN, INNER, VOCABULARY = 2048, 5632, 32000

-- The tensors of such a model: { name, rows, cols }.
local function layout(bytes)
  local list, left = {}, bytes / 2
  local function add(name, rows, cols)
    list[#list + 1] = { name = name .. ".weight", rows = rows, cols = cols }
    left = left - rows * cols
  end
  add("model.embed_tokens", VOCABULARY, HIDDEN)
  add("lm_head", VOCABULARY, HIDDEN)
  local layer = 0
  while left > 0 do
    local function put(name, rows, cols)
      add(("model.layers.%d.%s"):format(layer, name), rows, cols)
    end
    for _, name in ipairs { "q_proj", "k_proj", "v_proj", "o_proj" } do
      put("self_attn." .. name, HIDDEN, HIDDEN)
    end
    put("mlp.gate_proj", INNER, HIDDEN)
    put("mlp.up_proj", INNER, HIDDEN)
    put("mlp.down_proj", HIDDEN, INNER)
    layer = layer + 1
  end
  return list, layer
end

local function header_of(tensors)
  local members, offset = {}, 0
  for i, t in ipairs(tensors) do
    local bytes = t.rows * t.cols * 2
    members[i] = ('"%s":{"dtype":"BF16","shape":[%d,%d],"data_offsets":[%d,%d]}'):format(
      t.name, t.rows, t.cols, offset, offset + bytes)
    offset = offset + bytes
  end
  local text = "{" .. table.concat(members, ",") .. "}"
  text = text .. (" "):rep(-#text % 8)
  return string.pack("<s8", text), offset
end

-- Normal values times log-normal ones, whose tails are as heavy as those of trained weights.
local function random_bytes(rows, cols, seed)
  local shape = { rows, cols }
  local w = core.randn(shape, seed) * (core.randn(shape, seed + 1) * 0.4):exp() * (0.6 / cols ^ 0.5)
  return w:to("bf16"):bytes()
end

-- The data of all tensors: one of a few random matrices for each shape, in turn.
local function write_random(file, tensors)
  local pool, VARIANTS = {}, 3
  for i, t in ipairs(tensors) do
    local key = t.rows .. "x" .. t.cols .. "/" .. i % VARIANTS
    pool[key] = pool[key] or random_bytes(t.rows, t.cols, 2 * i)
    assert(file:write(pool[key]))
  end
end

local function write_config(folder, layers)
  local file = assert(io.open(folder .. "/config.json", "w"))
  assert(file:write(json.encode(json.object {
    { "architectures", json.array { "LlamaForCausalLM" } }, { "model_type", "llama" },
    { "hidden_size", HIDDEN }, { "intermediate_size", INNER }, { "num_hidden_layers", layers },
    { "num_attention_heads", 16 }, { "vocab_size", VOCABULARY },
    { "tie_word_embeddings", false }, { "torch_dtype", "bfloat16" },
  }, { indent = 2 }), "\n"))
  assert(file:close())
end

--- Makes a model of about that many bytes in a new folder.
-- @param zeros  all weights are 0 and take no space on disk
function checkpoints.model(folder, bytes, zeros)
  assert(os.execute(("mkdir '%s'"):format(folder)))
  local tensors, layers = layout(bytes)
  local header, size = header_of(tensors)
  local file = assert(io.open(folder .. "/model.safetensors", "wb"))
  assert(file:write(header))
  if zeros then
    assert(file:seek("cur", size - 1))
    assert(file:write "\0")
  else
    write_random(file, tensors)
  end
  assert(file:close())
  write_config(folder, layers)
end

--- Makes one file of `count` tensors [1, 1], named as those of a mixture of experts.
function checkpoints.many(path, count)
  local tensors = {}
  for i = 0, count - 1 do
    local name = ("model.layers.%d.mlp.experts.%d.down_proj.weight"):format(i // 1000, i % 1000)
    tensors[i + 1] = { name = name, rows = 1, cols = 1 }
  end
  local header, size = header_of(tensors)
  local file = assert(io.open(path, "wb"))
  assert(file:write(header, ("\0"):rep(size)))
  assert(file:close())
end

return checkpoints
