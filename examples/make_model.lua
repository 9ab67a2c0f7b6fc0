-- Makes a small model to try rondo on: Llama-shaped, in Hugging Face layout, bf16, about 8 MB.
--
--   rondo run examples/make_model.lua DIR [SEED]
--
-- It has learnt nothing, but its weights look like trained ones do: tails heavier than a normal
-- distribution's, and a few input channels with outliers. The same seed gives the same bytes on
-- every machine.
local rondo = require "rondo"
local lfs = require "lfs"

local dir, seed = arg[1], tonumber(arg[2] or 1)
if not dir or not math.tointeger(seed) then
  io.stderr:write("usage: rondo run examples/make_model.lua DIR [SEED]\n")
  os.exit(2)
end

local hidden, inner, layers, heads, kv_heads, vocabulary = 256, 768, 4, 8, 4, 2048

-- A seed of its own for every random tensor.
local function next_seed()
  seed = seed + 1
  return seed
end

-- One factor per input channel: 1, but for one channel in 64, which is six times as large.
local function outliers(cols)
  local factors = {}
  for i = 1, cols do factors[i] = i % 64 == 17 and 6 or 1 end
  return rondo.tensor { factors }
end

-- A normal value times a log-normal one has heavy tails; the heavier, the larger tail is.
local function matrix(rows, cols, tail)
  local shape = { rows, cols }
  local spread = (rondo.randn(shape, next_seed()) * (tail or 0.4)):exp()
  local w = rondo.randn(shape, next_seed()) * spread * outliers(cols)
  return (w * (0.6 / cols ^ 0.5)):to "bf16"
end

local function norm()
  return (rondo.randn({ hidden }, next_seed()) * 0.1 + 1):to "bf16"
end

local tensors = {
  ["model.embed_tokens.weight"] = matrix(vocabulary, hidden),
  ["model.norm.weight"] = norm(),
  ["lm_head.weight"] = matrix(vocabulary, hidden),
}
local kv = hidden // heads * kv_heads
for i = 0, layers - 1 do
  local function put(name, tensor)
    tensors[("model.layers.%d.%s.weight"):format(i, name)] = tensor
  end
  put("input_layernorm", norm())
  put("self_attn.q_proj", matrix(hidden, hidden))
  put("self_attn.k_proj", matrix(kv, hidden))
  put("self_attn.v_proj", matrix(kv, hidden))
  put("self_attn.o_proj", matrix(hidden, hidden))
  put("post_attention_layernorm", norm())
  put("mlp.gate_proj", matrix(inner, hidden))
  put("mlp.up_proj", matrix(inner, hidden))
  put("mlp.down_proj", matrix(hidden, inner, 0.8))
end

local object, array, encode = rondo.json.object, rondo.json.array, rondo.json.encode

local config = object {
  { "architectures", array { "LlamaForCausalLM" } },
  { "model_type", "llama" },
  { "hidden_size", hidden },
  { "intermediate_size", inner },
  { "num_hidden_layers", layers },
  { "num_attention_heads", heads },
  { "num_key_value_heads", kv_heads },
  { "vocab_size", vocabulary },
  { "max_position_embeddings", 512 },
  { "hidden_act", "silu" },
  { "rms_norm_eps", 1e-5 },
  { "rope_theta", 10000 },
  { "tie_word_embeddings", false },
  { "bos_token_id", 1 },
  { "eos_token_id", 2 },
  { "torch_dtype", "bfloat16" },
}

-- A tokenizer in form only: every token is its number.
local tokens = {}
for i = 0, vocabulary - 1 do tokens[i + 1] = { ("<%04d>"):format(i), i } end
local tokenizer = object {
  { "version", "1.0" },
  { "model", object { { "type", "BPE" }, { "vocab", object(tokens) }, { "merges", array {} } } },
}

local function write(name, text)
  local file = assert(io.open(dir .. "/" .. name, "wb"))
  assert(file:write(text, "\n"))
  assert(file:close())
end

if lfs.attributes(dir, "mode") ~= "directory" then assert(lfs.mkdir(dir)) end
assert(rondo.safetensors.save(dir .. "/model.safetensors", tensors, { format = "pt" }))
write("tokenizer.json", encode(tokenizer))
write("generation_config.json", encode(object { { "bos_token_id", 1 }, { "eos_token_id", 2 } },
  { indent = 2 }))
write("config.json", encode(config, { indent = 2 })) -- last: where it is, the model is complete
print(("made %s: %d layers, %d tensors"):format(dir, layers, 9 * layers + 3))
