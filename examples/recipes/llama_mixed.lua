-- For Llama and its like (Mistral, Qwen): 4 bits with a clip ratio searched for each layer, smaller
-- groups where an error costs most: the values and the way back from the MLP.
--
--   rondo quantize MODEL OUT --recipe examples/recipes/llama_mixed.lua --format packed
local rondo = require "rondo"
local int4, int8, keep = rondo.int4, rondo.int8, rondo.keep

local body = int4 { group_size = 128, symmetric = false, clip = "layer" }
local tender = body { group_size = 32 }

return rondo.recipe {
  name = "llama-mixed",
  { "*norm.weight", keep },
  { "embed_tokens", keep },
  { "*.bias", keep },
  { "lm_head", int8 },
  { "layers.{first,last}.mlp.down_proj.weight", int8 },
  { "mlp.down_proj.weight", tender },
  { "self_attn.{q,k,v}_proj.weight", tender },
  { "*_proj.weight", body },
}
