-- Opening models: the real ones, names and their ends, order, ties, biases, errors.

local model = require "rondo.model"
local models = require "spec.support.models"

local open = model.open

-- f32 numbers as bytes.
local function floats(...)
  return ("<" .. ("f"):rep(select("#", ...))):pack(...)
end

local function names_of(m, kind)
  local list = {}
  for name in m:layers(kind) do list[#list + 1] = name end
  return list
end

local function count_of(m, kind)
  return #names_of(m, kind)
end

describe("a model", function()
  teardown(models.cleanup)

  -- Two layers of a Llama, in a file ordered by letters, with layers 2 and 10.
  local function llama(config)
    return models.folder({
      { "lm_head.weight", { 6, 4 } },
      { "model.embed_tokens.weight", { 6, 4 } },
      { "model.layers.0.mlp.down_proj.weight", { 4, 2 },
        bytes = floats(1, 2, 3, 4, 5, 6, 7, -8) },
      { "model.layers.0.self_attn.q_proj.bias", { 4 }, bytes = floats(9, 8, 7, 6) },
      { "model.layers.0.self_attn.q_proj.weight", { 4, 4 }, dtype = "BF16" },
      { "model.layers.10.mlp.down_proj.weight", { 4, 2 } },
      { "model.layers.10.mlp.experts.10.w1.weight", { 4, 4 } },
      { "model.layers.10.mlp.experts.2.w1.weight", { 4, 4 } },
      { "model.layers.2.mlp.down_proj.weight", { 4, 2 } },
      { "model.norm.weight", { 4 } },
    }, config or '{"tie_word_embeddings":false,"num_hidden_layers":11}')
  end

  it("lists its tensors in file order", function()
    local m = assert(open(llama()))
    assert.equal(10, #m.names)
    assert.equal("lm_head.weight", m.names[1])
    assert.equal("model.layers.10.mlp.down_proj.weight", m.names[6])
    assert.equal("model.norm.weight", m.names[10])
    m:close()
  end)

  it("gives its linear layers in the order of their numbers", function()
    local m <close> = assert(open(llama()))
    assert.same({
      "lm_head",
      "model.layers.0.mlp.down_proj",
      "model.layers.0.self_attn.q_proj",
      "model.layers.2.mlp.down_proj",
      "model.layers.10.mlp.down_proj",
      "model.layers.10.mlp.experts.2.w1",
      "model.layers.10.mlp.experts.10.w1",
    }, names_of(m))
    assert.same({ "model.embed_tokens" }, names_of(m, "embedding"))
    assert.same({ "lm_head" }, names_of(m, "lm_head"))
    assert.same({ "model.norm" }, names_of(m, "norm"))
    assert.same({ "model.layers.10.mlp.experts.2.w1", "model.layers.10.mlp.experts.10.w1" },
      names_of(m, "expert"))
    assert.equal(9, count_of(m, "all"))
    assert.has_error(function() m:layers "linaer" end)
  end)

  it("keeps the file's order where no number says otherwise", function()
    local m <close> = assert(open(models.file {
      { "b.1.x.weight", { 1, 1 } }, { "z.weight", { 1, 1 } }, { "b.0.x.weight", { 1, 1 } },
      { "a.weight", { 1, 1 } }, { "c.2.weight", { 1, 1 } }, { "c.01.weight", { 1, 1 } },
    }))
    assert.same({ "b.0.x", "z", "b.1.x", "a", "c.01", "c.2" }, names_of(m))
  end)

  it("describes a layer", function()
    local m <close> = assert(open(llama()))
    local layer = assert(m:layer "0.mlp.down_proj")
    assert.equal("model.layers.0.mlp.down_proj", layer.name)
    assert.equal("model.layers.0.mlp.down_proj.weight", layer.tensor_name)
    assert.equal("linear", layer.kind)
    assert.same({ 4, 2 }, layer.shape)
    assert.equal("f32", layer.dtype)
    assert.equal(2, layer.rank)
    assert.is_false(layer.stacked)
    assert.is_false(layer.transposed)
    assert.is_false(layer.tied)
    assert.is_false(layer.quantized)
    assert.equal(0, layer.depth)
    assert.equal(11, layer.depth_count)
    assert.equal(4, layer.out_features)
    assert.equal(2, layer.in_features)
    assert.is_nil(layer.experts)
    assert.is_nil(layer.bias_name)
    assert.is_nil(layer.bias)
    assert.equal(m, layer.model)
    assert.equal("linear 'model.layers.0.mlp.down_proj' f32 [4, 2]", tostring(layer))
    assert.same({ { 1, 2 }, { 3, 4 }, { 5, 6 }, { 7, -8 } }, layer.weight:totable())
    assert.error_matches(function() return layer.wieght end, "no field 'wieght'.*weight")
  end)

  it("finds a layer's bias", function()
    local m <close> = assert(open(llama()))
    local layer = assert(m:layer "self_attn.q_proj")
    assert.equal("model.layers.0.self_attn.q_proj.bias", layer.bias_name)
    assert.same({ 9, 8, 7, 6 }, layer.bias:totable())
    assert.equal("bf16", layer.dtype)
  end)

  it("gives the rows of a layer to kernels", function()
    local m <close> = assert(open(llama()))
    local source = m:layer("0.mlp.down_proj").source
    assert.equal(4, source.rows)
    assert.equal(2, source.cols)
    assert.same({ { 6 }, { -8 } }, source:read(3, 2, 2, 1):totable())
  end)

  it("says so where there is no such layer", function()
    local m <close> = assert(open(llama()))
    local layer, message, code = m:layer "0.mlp.dwn_proj"
    assert.is_nil(layer)
    assert.matches("no layer '0.mlp.dwn_proj'.*did you mean '0.mlp.down_proj.weight'", message)
    assert.equal("usage", code)
    local _, several = m:layer "down_proj"
    assert.matches("fits 3 tensors", several, 1, true)
    assert.is_nil((m:layer "0.self_attn.q_proj.bias"))
    assert.is_nil((m:layer ""))
  end)

  it("sees the sizes inside stacked and transposed layers", function()
    local m <close> = assert(open(models.file {
      { "layers.3.mlp.experts.down_proj", { 3, 4, 5 } },
      { "layers.3.mlp.experts.gate_up_proj", { 3, 10, 4 } },
      { "h.0.attn.c_attn.weight", { 4, 12 } },
    }))
    local down, attn = assert(m:layer "experts.down_proj"), assert(m:layer "c_attn")
    assert.equal("layers.3.mlp.experts.down_proj", down.name)
    assert.equal("layers.3.mlp.experts.down_proj", down.tensor_name)
    assert.is_true(down.stacked)
    assert.same({ 3, 4, 5, 3, 4 },
      { down.experts, down.out_features, down.in_features, down.depth, down.depth_count })
    assert.is_true(attn.transposed)
    assert.same({ 12, 4 }, { attn.out_features, attn.in_features })
  end)

  it("finds a tensor by its name or an end of it", function()
    local m <close> = assert(open(llama()))
    local full = "model.layers.0.mlp.down_proj.weight"
    for _, name in ipairs { full, "layers.0.mlp.down_proj.weight", "0.mlp.down_proj.weight" } do
      assert.same({ { 1, 2 }, { 3, 4 }, { 5, 6 }, { 7, -8 } }, m[name]:totable())
      assert.equal(full, m:info(name).name)
      assert.is_true(m:tensor(name) == m[full])
    end
    assert.is_true(m:has(full))
    assert.is_false(m:has "layers.0.mlp.down_proj.weight")
  end)

  it("prefers the full name to an end", function()
    local m <close> = assert(open(models.file {
      { "a.weight", { 1, 2 } }, { "weight", { 1, 3 } }, { "b.a.weight", { 1, 4 } },
    }))
    assert.same({ 1, 3 }, m["weight"].shape)
    assert.same({ 1, 2 }, m["a.weight"].shape)
    assert.same({ 1, 4 }, m["b.a.weight"].shape)
  end)

  it("says which tensors an ambiguous name fits", function()
    local m <close> = assert(open(llama()))
    local tensor, message, code = m:tensor "mlp.down_proj.weight"
    assert.is_nil(tensor)
    assert.matches("fits 3 tensors", message, 1, true)
    assert.matches("'model.layers.0.mlp.down_proj.weight'", message, 1, true)
    assert.equal("usage", code)
    assert.error_matches(function() return m["mlp.down_proj.weight"] end, "fits 3 tensors")
    local _, shorter = m:tensor "weight"
    assert.matches("and 6 more", shorter, 1, true)
  end)

  it("is nil for a tensor that a module does not have, and an error for no module", function()
    local m <close> = assert(open(llama()))
    assert.is_nil(m["model.layers.0.mlp.down_proj.bias"])
    assert.is_nil(m["layers.0.mlp.down_proj.bias"])
    assert.error_matches(function() return m["layers.0.mlp.dwn_proj.weight"] end,
      "no tensor 'layers.0.mlp.dwn_proj.weight' .*did you mean 'layers.0.mlp.down_proj.weight'")
    assert.error_matches(function() return m["down_proj.bias.x"] end, "no tensor")
    assert.error_matches(function() return m.nmaes end, "no tensor 'nmaes'.*fields:.*names")
    assert.error_matches(function() return m[1] end, "indexed by names")
    assert.error_matches(function() m.names = {} end, "cannot be changed")
    local lone <close> = assert(open(models.file { { "weight", { 1, 2 } } }))
    assert.is_nil(lone["bias"])
  end)

  it("suggests a name that is there", function()
    local m <close> = assert(open(llama()))
    local cases = {
      ["model.layer.2.mlp.down_proj.weight"] = "'model.layers.2.mlp.down_proj.weight'",
      ["layers.7.mlp.down_proj.weight"] = "'model.layers.0.mlp.down_proj.weight'",
      ["lm_haed.weight"] = "'lm_head.weight'",
    }
    for wrong, right in pairs(cases) do
      local _, message = m:tensor(wrong)
      assert.matches("did you mean " .. right, message, 1, true)
    end
    for _, hopeless in ipairs { "", "zzzzzzzzzzzzzzzzzzz", ("x"):rep(100000), "a\nb",
                              "\xff\xfe", "\xc2\x85" } do
      local tensor, message = m:tensor(hopeless)
      assert.is_nil(tensor)
      assert.is_nil(message:find "did you mean")
      assert.is_true(#message <= 512)
      assert.is_nil(message:find "%c")
      assert.is_truthy(utf8.len(message))
    end
  end)

  it("tells where a tensor lies", function()
    local path = llama()
    local m <close> = assert(open(path))
    local info = m:info "layers.0.self_attn.q_proj.bias"
    assert.equal("f32", info.dtype)
    assert.same({ 4 }, info.shape)
    assert.equal(16, info.nbytes)
    local file <close> = assert(io.open(info.file, "rb"))
    file:seek("set", info.offset)
    assert.equal(floats(9, 8, 7, 6), file:read(16))
    local nothing, message, code = m:info "nothing.here"
    assert.is_nil(nothing)
    assert.matches("no tensor", message)
    assert.equal("usage", code)
  end)

  it("reads instead of mapping where that is wanted", function()
    local path = llama()
    local m <close> = assert(open(path, { mode = "read" }))
    assert.same({ 9, 8, 7, 6 }, m["q_proj.bias"]:totable())
    assert.error_matches(function() open(path, { mode = "eat" }) end, "map, read")
    assert.error_matches(function() open(path, { mdoe = "map" }) end, "mdoe")
    assert.error_matches(function() open(3) end, "string expected")
  end)

  it("is one line of text", function()
    local path = llama()
    local m = assert(open(path))
    assert.equal(("model %s: 10 tensors, 128 parameters, f32 + bf16, 7 linear layers")
      :format(path), tostring(m))
    m:close()
    m:close()
    assert.is_string(tostring(m))
    assert.error_matches(function() return m["lm_head.weight"] end, "closed")
  end)

  it("keeps what was read after it is closed", function()
    local m = assert(open(llama()))
    local bias = m["q_proj.bias"]
    m:close()
    assert.same({ 9, 8, 7, 6 }, bias:totable())
  end)

  it("counts its layers", function()
    local m <close> = assert(open(llama()))
    assert.equal(11, m.depth)
    local bare <close> = assert(open(llama "{}"))
    assert.equal(11, bare.depth)
    assert.equal(11, bare:layer("2.mlp.down_proj").depth_count)
    local flat <close> = assert(open(models.file { { "weight", { 1, 1 } } }))
    assert.equal(0, flat.depth)
  end)

  it("does not take the number of an expert for that of a layer", function()
    local m <close> = assert(open(models.file { { "experts.3.w1.weight", { 1, 1 } },
      { "mlp.experts.5.layers.7.w.weight", { 1, 1 } } }))
    assert.is_nil(m:layer("experts.3.w1").depth)
    assert.is_nil(m:layer("experts.3.w1").depth_count)
    assert.equal(7, m:layer("layers.7.w").depth)
  end)

  it("does not count layers that predict further tokens", function()
    local tensors = {}
    for i = 0, 4 do tensors[i + 1] = { "model.layers." .. i .. ".fc.weight", { 1, 1 } } end
    local m <close> = assert(open(models.folder(tensors,
      '{"num_hidden_layers":4,"num_nextn_predict_layers":1}')))
    assert.equal(4, m:layer("layers.0.fc").depth_count)
    assert.equal(4, m:layer("layers.4.fc").depth)
    assert.equal(4, m.depth)
  end)

  it("has the layer with the empty name in a file whose tensor is weight", function()
    local m <close> = assert(open(models.file {
      { "bias", { 2 } }, { "weight", { 2, 3 }, bytes = floats(1, 2, 3, 4, 5, 6) },
    }))
    local name, layer = m:layers()()
    assert.equal("", name)
    assert.equal("weight", layer.tensor_name)
    assert.equal("bias", layer.bias_name)
    assert.is_nil(layer.depth)
    assert.same({ { 1, 2, 3 }, { 4, 5, 6 } }, layer.weight:totable())
    assert.equal("", m:layer("").name)
  end)

  it("opens a single file without the config beside it", function()
    local path = llama()
    local m <close> = assert(open(path .. "/model.safetensors"))
    assert.is_nil(m.config)
    assert.is_nil(m.folder)
    assert.same({}, m.tied)
    assert.equal(7, count_of(m))
  end)

  it("opens shards by their folder or their index", function()
    local path = models.sharded({ { { "model.layers.1.a.weight", { 1, 2 } } },
      { { "model.layers.0.a.weight", { 1, 3 } } } }, '{"model_type":"x"}')
    for _, spelling in ipairs { path, path .. "/model.safetensors.index.json" } do
      local m <close> = assert(open(spelling))
      assert.same({ "model.layers.0.a", "model.layers.1.a" }, names_of(m))
      assert.same({ 1, 3 }, m["0.a.weight"].shape)
      assert.equal(path, m.folder)
      assert.equal("x", m.config.model_type)
    end
  end)

  it("that cannot be opened is nil, message, code", function()
    local here = models.temporary()
    local function refused(path, expected, part)
      local m, message, code = open(path)
      assert.is_nil(m)
      assert.equal(expected, code)
      assert.matches(part, message, 1, true)
      assert.is_true(#message <= 512)
    end
    refused(here .. "/nothing", "io", "nothing")
    refused(llama "{", "format", "config.json")
    refused(llama '{"hidden_size":0}', "format", "hidden_size")
    refused(models.write(here .. "/x.safetensors", "12345"), "format", "x.safetensors")
  end)

  it("says how a foreign checkpoint is quantized, and opens it", function()
    local cases = {
      ['{"quantization_config":{"quant_method":"gptq","bits":4}}'] = "gptq",
      ['{"quantization_config":{"load_in_8bit":true}}'] = "bitsandbytes",
      ['{"quantization":{"group_size":64,"bits":4}}'] = "mlx",
      ['{"compression_config":{"format":"dense"}}'] = "compressed-tensors",
      ['{"text_config":{"quantization_config":{"quant_method":"awq"}}}'] = "awq",
      ['{"quantization_config":{}}'] = "unknown",
      ['{"quantization_config":null}'] = false,
      ["{}"] = false,
    }
    for config, method in pairs(cases) do
      local m <close> = assert(open(llama(config)))
      assert.equal(method or nil, m.quantization)
    end
  end)

  it("refuses a packed checkpoint that is not what its config says", function()
    local function refused(config, expected, part)
      local m, message, code = open(llama(config))
      assert.is_nil(m)
      assert.equal(expected, code)
      assert.matches(part, message, 1, true)
    end
    local function says(rest)
      return '{"quantization_config":{"quant_method":"rondo",' .. rest .. "}}"
    end
    refused(says '"schema":2,"format":"packed","layers":{}', "unsupported", "schema")
    refused(says '"schema":1,"format":"packed"', "format", "layers")
    refused(says '"schema":1,"format":"packed","layers":{"x":3}', "format", "'x'")
    refused(says '"schema":1,"format":"packed","layers":{"x":{}}', "format", "x")
  end)
end)

describe("tied weights", function()
  teardown(models.cleanup)

  local function ties(names, config)
    local tensors = {}
    for i, name in ipairs(names) do tensors[i] = { name, { 6, 4 } } end
    local m <close> = assert(open(models.folder(tensors, config)))
    local list = {}
    for i, tie in ipairs(m.tied) do
      list[i] = tie.name .. " -> " .. tie.target
      assert.equal(tie.target, m:tied_to(tie.name))
      assert.is_nil(m:tied_to(tie.target))
    end
    return table.concat(list, ", ")
  end

  local embed, head = "model.embed_tokens.weight", "lm_head.weight"

  it("follow the config where it says so", function()
    local tied = "lm_head.weight -> model.embed_tokens.weight"
    assert.equal(tied, ties({ embed }, '{"tie_word_embeddings":true}'))
    assert.equal(tied, ties({ embed, head }, '{"tie_word_embeddings":true}'))
    assert.equal(tied, ties({ embed }, '{"text_config":{"tie_word_embeddings":true}}'))
    assert.equal("", ties({ embed, head }, '{"tie_word_embeddings":false}'))
    assert.equal("", ties({ embed }, '{"tie_word_embeddings":false}'))
    assert.equal("", ties({ embed },
      '{"tie_word_embeddings":false,"architectures":["LlamaForCausalLM"]}'))
  end)

  it("follow the file where the config is silent", function()
    local causal = '{"architectures":["GemmaForCausalLM"]}'
    assert.equal("lm_head.weight -> model.embed_tokens.weight", ties({ embed }, causal))
    assert.equal("", ties({ embed, head }, causal))
    assert.equal("", ties({ embed }, '{"architectures":["GemmaModel"]}'))
    assert.equal("", ties({ embed }, "{}"))
    assert.equal("", ties({ embed }, nil))
  end)

  it("need a head at all", function()
    assert.equal("", ties({ embed },
      '{"architectures":["BertModel"],"tie_word_embeddings":true}'))
    assert.equal("", ties({ "fc.weight" }, '{"tie_word_embeddings":true}'))
  end)

  it("have the names of their family", function()
    local says = '"tie_word_embeddings":true}'
    assert.equal("lm_head.weight -> wte.weight",
      ties({ "wte.weight" }, '{"architectures":["GPT2LMHeadModel"]}'))
    assert.equal("embed_out.weight -> gpt_neox.embed_in.weight",
      ties({ "gpt_neox.embed_in.weight" }, "{" .. says))
    assert.equal("proj_out.weight -> model.decoder.embed_tokens.weight",
      ties({ "model.decoder.embed_tokens.weight" }, '{"model_type":"whisper",' .. says))
    assert.equal("language_model.lm_head.weight -> language_model.model.embed_tokens.weight",
      ties({ "language_model.model.embed_tokens.weight" }, "{" .. says))
    assert.equal("cls.predictions.decoder.weight -> bert.embeddings.word_embeddings.weight",
      ties({ "bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight" },
        "{" .. says))
  end)

  it("hold for T5's tables of encoder and decoder", function()
    assert.equal("lm_head.weight -> shared.weight, encoder.embed_tokens.weight -> shared.weight",
      ties({ "shared.weight", "encoder.embed_tokens.weight" },
        '{"architectures":["T5ForConditionalGeneration"]}'))
  end)

  it("do not join tensors of different shapes", function()
    local m <close> = assert(open(models.folder(
      { { embed, { 6, 4 } }, { head, { 7, 4 } } }, '{"tie_word_embeddings":true}')))
    assert.same({}, m.tied)
  end)

  it("show in the layers", function()
    local path = models.folder({ { embed, { 6, 4 } }, { head, { 6, 4 } } },
      '{"tie_word_embeddings":true}')
    local m <close> = assert(open(path))
    assert.is_true(m:layer("lm_head").tied)
    assert.is_true(m:layer("embed_tokens").tied)
  end)

  it("are named where the tensor is asked for that is not stored", function()
    local m <close> = assert(open(models.folder({ { embed, { 6, 4 } } },
                                                '{"tie_word_embeddings":true}')))
    local says = "'lm_head.weight' in .*: it is tied to 'model.embed_tokens.weight'"
    assert.error_matches(function() return m["lm_head.weight"] end, says)
    local tensor, message, code = m:tensor "lm_head.weight"
    assert.is_nil(tensor)
    assert.truthy(message:find(says))
    assert.equal("usage", code)
  end)
end)

describe("stories260K", function()
  local forms = { f32 = "f32", f16 = "f16", bf16 = "bf16", ["bf16-sharded"] = "bf16" }
  for form, dtype in pairs(forms) do
    it("opens as " .. form, function()
      local path = models.shared("models/stories260K-hf/" .. form)
      if not path then return pending "the shared models are absent" end
      local m <close> = assert(open(path))
      assert.equal(47, #m.names)
      assert.equal("model.embed_tokens.weight", m.names[1])
      assert.equal("model.norm.weight", m.names[47])
      assert.equal(64, m.config.hidden_size)
      assert.equal(5, m.depth)
      assert.equal("pt", m.metadata.format)
      assert.same({ { name = "lm_head.weight", target = "model.embed_tokens.weight" } }, m.tied)
      assert.equal(("model %s: 47 tensors, 260,032 parameters, %s, 35 linear layers")
        :format(path, dtype), tostring(m))
      local seen = {}
      for name, layer in m:layers() do
        local i = #seen
        seen[i + 1] = name
        assert.equal("linear", layer.kind)
        assert.equal(dtype, layer.dtype)
        assert.equal(i // 7, layer.depth)
        assert.equal(5, layer.depth_count)
        assert.is_nil(layer.bias_name)
        assert.same(layer.shape, layer.weight.shape)
      end
      assert.equal(35, #seen)
      assert.equal("model.layers.0.mlp.down_proj", seen[1])
      assert.equal("model.layers.4.self_attn.v_proj", seen[35])
      assert.same({ 64, 172 }, m["layers.3.mlp.down_proj.weight"].shape)
      assert.equal(1, count_of(m, "embedding"))
      assert.equal(11, count_of(m, "norm"))
      assert.equal(0, count_of(m, "lm_head"))
    end)
  end

  it("holds the same bf16 weights in one file and in shards", function()
    local one = models.shared "models/stories260K-hf/bf16"
    local many = models.shared "models/stories260K-hf/bf16-sharded"
    if not one then return pending "the shared models are absent" end
    local a <close> = assert(open(one))
    local b <close> = assert(open(many))
    assert.same(names_of(a, "all"), names_of(b, "all"))
    for _, name in ipairs(a.names) do assert.is_true(a[name] == b[name]) end
  end)
end)

describe("other real files", function()
  it("silero-vad has no linear layer: convolutions and an LSTM", function()
    local path = models.shared "models/silero-vad/silero_vad_16k.safetensors"
    if not path then return pending "the shared models are absent" end
    local m <close> = assert(open(path))
    assert.equal(15, #m.names)
    assert.same({}, names_of(m))
    assert.same({ "stft_conv", "conv1", "conv2", "conv3", "conv4", "final_conv" },
      names_of(m, "other"))
    assert.equal("conv4.bias", m:layer("conv4").bias_name)
  end)

  it("model2vec has only a table", function()
    for file, dtype in pairs { float32 = "f32", float16 = "f16", int8 = "i8" } do
      local path = models.shared("models/model2vec/" .. file .. ".safetensors")
      if not path then return pending "the shared models are absent" end
      local m <close> = assert(open(path))
      assert.same({ "embeddings" }, m.names)
      assert.same({}, names_of(m))
      assert.equal(dtype, m["embeddings"].dtype)
      assert.same({ 29528, 2 }, m:info("embeddings").shape)
    end
  end)
end)
