-- What the tensors of many model families are: names and shapes as their Hugging Face checkpoints
-- have them, with small sizes. The expected kinds were written down by hand.

local models = require "spec.support.models"
local open = require("rondo.model").open

-- One line a weight: name (without ".weight"), shape, what it is. A "!" before the shape: the name
-- is whole, there is no ".weight"; "T" behind the kind: stored transposed.
local function tensors_of(lines)
  local tensors, expected = {}, {}
  for name, bang, shape, kind, flag in lines:gmatch "(%S+)%s+(!?)([%d,]+)%s+(%S+)[ ]*(T?)" do
    local sizes = {}
    for d in shape:gmatch "%d+" do sizes[#sizes + 1] = tonumber(d) end
    local full = bang == "!" and name or name .. ".weight"
    tensors[#tensors + 1] = { full, sizes }
    if kind ~= "-" then
      expected[#expected + 1] = ("%s %s%s"):format(bang == "!" and name or name, kind,
        flag == "T" and " transposed" or "")
    end
  end
  assert(#tensors == select(2, lines:gsub("[^\n]*%S[^\n]*", "")))
  return tensors, expected
end

local function found(m)
  local list = {}
  for name, layer in m:layers "all" do
    assert.equal(name, layer.name)
    list[#list + 1] = ("%s %s%s"):format(name, layer.kind, layer.transposed and " transposed" or "")
  end
  return list
end

local gpt2 = [[
  wte                      64,4      embedding
  wpe                      16,4      embedding
  h.0.ln_1                 4         norm
  h.0.attn.c_attn          4,12      linear T
  h.0.attn.c_attn.bias     !12       -
  h.0.attn.c_proj          4,4       linear T
  h.0.attn.c_proj.bias     !4        -
  h.0.ln_2                 4         norm
  h.0.mlp.c_fc             4,16      linear T
  h.0.mlp.c_fc.bias        !16       -
  h.0.mlp.c_proj           16,4      linear T
  h.0.mlp.c_proj.bias      !4        -
  ln_f                     4         norm
]]

local families = {
  { "GPT-2", '{"model_type":"gpt2","architectures":["GPT2LMHeadModel"]}', gpt2 },
  { "GPT-2 without config.json", nil, gpt2 },
  { "GPT-2 turned round", '{"model_type":"gpt2"}',
    (gpt2:gsub("4,12 ", "12,4 "):gsub(" T\n", "\n")) },
  { "GPT-2, a part without attention", '{"model_type":"gpt2"}', [[
    h.0.mlp.c_fc      4,16      linear T
    h.0.mlp.c_proj    16,4      linear T
  ]] },
  { "GPT-BigCode, which has an ordinary c_attn", '{"model_type":"gpt_bigcode"}', [[
    transformer.wte                  64,4   embedding
    transformer.h.0.attn.c_attn      6,4    linear
    transformer.h.0.attn.c_proj      4,4    linear
    transformer.h.0.mlp.c_fc         16,4   linear
  ]] },
  { "Mixtral", '{"model_type":"mixtral","num_hidden_layers":1}', [[
    model.embed_tokens                                      64,4  embedding
    model.layers.0.self_attn.q_proj                         4,4   linear
    model.layers.0.block_sparse_moe.gate                    2,4   router
    model.layers.0.block_sparse_moe.experts.0.w1            8,4   expert
    model.layers.0.block_sparse_moe.experts.0.w2            4,8   expert
    model.layers.0.block_sparse_moe.experts.1.w1            8,4   expert
    model.layers.0.block_sparse_moe.experts.1.w2            4,8   expert
    model.layers.0.input_layernorm                          4     norm
    model.norm                                              4     norm
    lm_head                                                 64,4  lm_head
  ]] },
  { "Qwen2-MoE", '{"model_type":"qwen2_moe"}', [[
    model.embed_tokens                            64,4  embedding
    model.layers.0.mlp.gate                       2,4   router
    model.layers.0.mlp.experts.0.gate_proj        8,4   expert
    model.layers.0.mlp.experts.0.down_proj        4,8   expert
    model.layers.0.mlp.shared_expert.gate_proj    8,4   linear
    model.layers.0.mlp.shared_expert_gate         1,4   router
    model.layers.1.mlp.gate_proj                  8,4   linear
  ]] },
  { "Qwen3.5-MoE, experts in one tensor", '{"model_type":"qwen3_5_moe","hidden_size":4}', [[
    model.layers.0.mlp.gate                       2,4     router
    model.layers.0.mlp.experts.gate_up_proj       !2,16,4  expert
    model.layers.0.mlp.experts.down_proj          !2,4,8   expert
  ]] },
  { "Qwen3-VL-MoE, experts transposed", '{"model_type":"qwen3_vl_moe"}', [[
    model.language_model.layers.0.mlp.experts.gate_up_proj   !2,4,16  expert T
    model.language_model.layers.0.mlp.experts.down_proj      !2,8,4   expert T
    model.visual.patch_embed.proj                            4,3,2,2,2   other
    model.visual.pos_embed                                   9,4     embedding
    model.visual.blocks.0.attn.qkv                           12,4    linear
  ]] },
  { "Llama 4", '{"model_type":"llama4","text_config":{"hidden_size":4}}', [[
    language_model.model.layers.0.feed_forward.experts.gate_up_proj       !2,4,16 expert T
    language_model.model.layers.0.feed_forward.experts.down_proj          !2,8,4  expert T
    language_model.model.layers.0.feed_forward.router                     2,4     router
    language_model.model.layers.0.feed_forward.shared_expert.down_proj    4,8     linear
    language_model.lm_head                                                64,4    lm_head
  ]] },
  { "gpt-oss, where hidden and intermediate size agree", '{"model_type":"gpt_oss"}', [[
    model.layers.0.mlp.experts.gate_up_proj         !2,4,8  expert T
    model.layers.0.mlp.experts.gate_up_proj_bias    !2,8    -
    model.layers.0.mlp.experts.down_proj            !2,4,4  expert T
    model.layers.0.mlp.experts.down_proj_bias       !2,4    -
    model.layers.0.mlp.router                       2,4     router
    model.layers.0.mlp.router.bias                  !2      -
    model.layers.0.self_attn.sinks                  !4      -
  ]] },
  { "experts that only each other's shapes can tell apart", nil, [[
    layers.0.experts.gate_up_proj    !2,4,16  expert T
    layers.0.experts.down_proj       !2,8,4   expert T
    layers.1.experts.gate_up_proj    !2,16,4  expert
    layers.1.experts.down_proj       !2,4,8   expert
  ]] },
  { "experts whose bias tells the orientation", nil, [[
    layers.0.experts.w1          !2,4,6  expert T
    layers.0.experts.w1_bias     !2,6    -
    layers.0.experts.w2          !2,4,6  expert
    layers.0.experts.w2_bias     !2,4    -
  ]] },
  { "experts that only hidden_size can tell apart", '{"hidden_size":4}', [[
    layers.0.experts.w1    !2,6,4  expert
    layers.0.experts.w2    !2,4,6  expert
    layers.0.experts.w3    !2,4,6  expert T
    layers.1.experts.w2    !2,6,4  expert T
  ]] },
  { "experts that only the model type can tell", '{"model_type":"aria_text","hidden_size":4}', [[
    layers.0.mlp.experts.fc1    2,4,4   expert T
    layers.0.mlp.experts.fc2    2,4,4   expert T
    layers.0.mlp.router         2,4     router
  ]] },
  { "Granite-MoE", '{"model_type":"granitemoe","hidden_size":4}', [[
    model.layers.0.block_sparse_moe.input_linear     2,16,4  expert
    model.layers.0.block_sparse_moe.output_linear    2,4,8   expert
    model.layers.0.block_sparse_moe.router.layer     2,4     router
  ]] },
  { "Switch, Hunyuan, LFM2, Nemotron routers", nil, [[
    encoder.block.1.layer.1.mlp.router.classifier           2,4   router
    encoder.block.1.layer.1.mlp.experts.expert_0.wi         8,4   expert
    model.layers.0.mlp.gate.wg                              2,4   router
    model.layers.0.feed_forward.gate                        2,4   router
    backbone.layers.0.mixer.gate                            2,4   router
  ]] },
  { "a gate that is no router", nil, [[
    layers.0.mlp.gate      8,4  linear
    layers.0.mlp.up        8,4  linear
    layers.0.attn.gate     4,4  linear
    gate                   4,4  linear
  ]] },
  { "GPT-NeoX", '{"model_type":"gpt_neox","tie_word_embeddings":false}', [[
    gpt_neox.embed_in                                    64,4  embedding
    gpt_neox.layers.0.attention.query_key_value          12,4  linear
    gpt_neox.layers.0.attention.dense                    4,4   linear
    gpt_neox.layers.0.mlp.dense_h_to_4h                  16,4  linear
    gpt_neox.layers.0.post_attention_layernorm           4     norm
    gpt_neox.final_layer_norm                            4     norm
    embed_out                                            64,4  lm_head
  ]] },
  { "T5", '{"model_type":"t5"}', [[
    shared                                                        64,4  embedding
    encoder.embed_tokens                                          64,4  embedding
    encoder.block.0.layer.0.SelfAttention.q                       4,4   linear
    encoder.block.0.layer.0.SelfAttention.relative_attention_bias 32,2  embedding
    encoder.block.0.layer.0.layer_norm                            4     norm
    encoder.block.0.layer.1.DenseReluDense.wi_0                   8,4   linear
    decoder.final_layer_norm                                      4     norm
    lm_head                                                       64,4  lm_head
  ]] },
  { "BERT", '{"model_type":"bert","architectures":["BertForMaskedLM"]}', [[
    bert.embeddings.word_embeddings                      64,4  embedding
    bert.embeddings.position_embeddings                  16,4  embedding
    bert.embeddings.token_type_embeddings                2,4   embedding
    bert.embeddings.LayerNorm                            4     norm
    bert.encoder.layer.0.attention.self.query            4,4   linear
    bert.encoder.layer.0.attention.output.dense          4,4   linear
    bert.encoder.layer.0.output.LayerNorm                4     norm
    bert.pooler.dense                                    4,4   linear
    cls.predictions.transform.dense                      4,4   linear
    cls.predictions.decoder                              64,4  lm_head
  ]] },
  { "a classifier", '{"architectures":["LlamaForSequenceClassification"]}', [[
    model.embed_tokens                     64,4  embedding
    model.layers.0.self_attn.q_proj        4,4   linear
    score                                  2,4   lm_head
  ]] },
  { "the same head in a file without config.json", nil, [[
    score     2,4   linear
    output    2,4   linear
  ]] },
  { "Llama's own names", nil, [[
    tok_embeddings                     64,4  embedding
    layers.0.attention.wq              4,4   linear
    layers.0.attention_norm            4     norm
    layers.0.feed_forward.w1           8,4   linear
    norm                               4     norm
    output                             64,4  lm_head
  ]] },
  { "Whisper", '{"model_type":"whisper"}', [[
    model.encoder.conv1                              4,8,3  other
    model.encoder.embed_positions                    16,4   embedding
    model.encoder.layers.0.fc1                       8,4    linear
    model.encoder.layers.0.self_attn_layer_norm      4      norm
    model.decoder.embed_tokens                       64,4   embedding
    proj_out                                         64,4   lm_head
  ]] },
  { "MusicGen and Bark", nil, [[
    decoder.model.decoder.embed_tokens.0        64,4   embedding
    fine_acoustics.input_embeds_layers.3        64,4   embedding
    decoder.lm_heads.0                          64,4   lm_head
  ]] },
  { "names that only look like embeddings, norms or heads", nil, [[
    mlp.embed_proj                     4,4   linear
    encoder.embedding_hidden_mapping   4,4   linear
    layers.0.norm1.linear              4,4   linear
    layers.0.output                    4,4   linear
    layers.0.shared                    4,4   linear
    time_embed.0                       4,4   linear
    lm_head_norm_free                  4,4   linear
    router_free                        4,4   linear
    gate_proj                          4,4   linear
  ]] },
  { "Cohere's norms of rank 2, and other norms", nil, [[
    model.layers.0.self_attn.q_norm     2,4   norm
    visual.blocks.0.norm1               4     norm
    visual.ln_q                         4     norm
    visual.ln_post                      4     norm
    final_ln                            4     norm
    transformer.norm_f                  4     norm
  ]] },
  { "DeepSeek with a layer that predicts further tokens",
    '{"model_type":"deepseek_v3","num_hidden_layers":2,"num_nextn_predict_layers":1}', [[
    model.layers.0.self_attn.q_a_proj           4,4   linear
    model.layers.1.mlp.gate                     2,4   router
    model.layers.1.mlp.gate.e_score_correction_bias !2 -
    model.layers.1.mlp.experts.0.up_proj        8,4   expert
    model.layers.2.embed_tokens                 64,4  embedding
    model.layers.2.eh_proj                      4,8   linear
    model.layers.2.shared_head.head             64,4  lm_head
    model.layers.2.shared_head.norm             4     norm
  ]] },
}

describe("the layers of", function()
  teardown(models.cleanup)
  for _, family in ipairs(families) do
    it(family[1], function()
      local tensors, expected = tensors_of(family[3])
      local m = assert(open(models.folder(tensors, family[2])))
      assert.same(expected, found(m))
      assert.equal(#tensors, #m.names)
      local linear = 0
      for _, line in ipairs(expected) do
        local kind = line:match "^%S+ (%S+)"
        if kind ~= "embedding" and kind ~= "norm" and kind ~= "other" then linear = linear + 1 end
      end
      local count = 0
      for _ in m:layers() do count = count + 1 end
      assert.equal(linear, count)
      m:close()
    end)
  end
end)

describe("a tensor is no linear layer", function()
  teardown(models.cleanup)

  local function kind_of(tensor)
    local m <close> = assert(open(models.file { tensor }))
    local _, layer = m:layers "all" ()
    return layer and layer.kind
  end

  it("for each type but the plain floats", function()
    for dtype, kind in pairs { F64 = "linear", F32 = "linear", F16 = "linear", BF16 = "linear",
                               F8_E4M3 = "other", I8 = "other", U8 = "other", I32 = "other" } do
      assert.equal(kind, kind_of { "fc.weight", { 2, 4 }, dtype = dtype })
    end
  end)

  it("for ranks other than 2", function()
    for _, shape in ipairs { {}, { 4 }, { 2, 3, 4 }, { 2, 3, 1, 1 } } do
      assert.equal("other", kind_of { "fc.weight", shape })
    end
    assert.equal("linear", kind_of { "fc.weight", { 0, 4 } })
  end)

  it("where its name does not end in weight", function()
    for _, name in ipairs { "fc.bias", "lstm.weight_ih", "embeddings", "myweight", "fc.weights",
                            "experts.gate_up_proj_bias", "xexperts.w1" } do
      assert.is_nil(kind_of { name, { 2, 4 } })
    end
  end)

  it("where it could be a stack of experts but for its rank", function()
    assert.is_nil(kind_of { "mlp.experts.w1", { 8, 4 } })
  end)
end)
