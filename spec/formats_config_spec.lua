-- What config.json says of a quantization, where the tensors say something else: verify finds it,
-- and what would be read wrongly is not opened. The checkpoints are good but for one change.

local claims = require "rondo.formats.claims"
local json = require "rondo.json"
local models = require "spec.support.models"
local quantized = require "spec.support.quantized"
local raw = require "spec.support.raw"
local regex = require "rondo.formats.regex"
local rondo = require "rondo"

local A, B = "model.layers.0.self_attn.o_proj", "model.layers.1.self_attn.o_proj"
local KEPT = "model.layers.0.mlp.down_proj"

local source

local function make_source()
  source = quantized.model({ [A] = quantized.weight(16, 64, 1, "f32"),
                             [B] = quantized.weight(16, 64, 2, "f32"),
                             [KEPT] = quantized.weight(16, 64, 3, "f32") }, "f32")
end

local function made(format, scheme)
  return (quantized.quantize(source, format, { [A] = scheme, [B] = scheme }))
end

-- Changes config.json: f gets it and what it says of the quantization.
local function edit(folder, f)
  local config = quantized.json(folder)
  f(config.quantization_config or config, config)
  models.write(folder .. "/config.json", json.encode(config))
  return folder
end

-- Changes the tensors of the one file.
local function change(folder, f)
  local tensors, list = quantized.tensors(folder), {}
  f(tensors)
  for name, t in pairs(tensors) do list[#list + 1] = { name, t.dtype, t.shape, t.bytes } end
  table.sort(list, function(a, b) return a[1] < b[1] end)
  models.write(folder .. "/model.safetensors", raw.pack(list))
  return folder
end

-- The problems that verify finds are just that one of the configuration.
local function disagrees(folder, name, ...)
  local found = assert(rondo.verify(source, folder))
  assert.equal(1, #found.problems, json.encode(found.problems))
  local problem = found.problems[1]
  assert.same({ "configuration", name, false }, { problem.what, problem.name, found.good })
  for _, piece in ipairs { ... } do
    assert.truthy(problem.problem:find(piece, 1, true), problem.problem)
  end
end

local function fails(folder, ...)
  local opened, message = rondo.open(folder)
  assert.is_nil(opened)
  for _, piece in ipairs { folder, ... } do
    assert.truthy(message:find(piece, 1, true), message)
  end
end

local int4 = rondo.int4 { group_size = 32 }

local function group(said) return said.config_groups.group_0.weights end

describe("what the configuration says", function()
  setup(make_source)
  teardown(models.cleanup)

  for format, scheme in pairs {
    ["compressed-tensors"] = int4, gptq = int4, ["gptq-v2"] = int4 { symmetric = false },
    awq = int4, mlx = int4, bitsandbytes = rondo.nf4 { group_size = 64 }, modelopt = rondo.nvfp4,
    fp8 = rondo.fp8 { group_size = { 128, 128 } }, packed = int4 } do
    it("is right in what rondo writes: " .. format, function()
      assert.same({}, assert(rondo.verify(source, made(format, scheme))).problems)
    end)
  end

  it("may be anything", function()
    local strange = { 0, 33, -4, 4.5, 2^63, "x", "re:(", false, true, json.null, json.array {},
                      json.object { { "a", 1 } }, json.array { 1, 2 }, json.array { "x" },
                      json.array { json.array { 1 } } }
    local function each_place(value, visit)
      local keys = {}
      for key in pairs(value) do keys[#keys + 1] = key end
      for _, key in ipairs(keys) do
        visit(value, key)
        if type(value[key]) == "table" then each_place(value[key], visit) end
      end
    end
    for format, scheme in pairs {
      ["compressed-tensors"] = int4, gptq = int4, awq = int4, mlx = int4, modelopt = rondo.nvfp4,
      bitsandbytes = rondo.nf4 { group_size = 64 },
      fp8 = rondo.fp8 { group_size = { 128, 128 } } } do
      local folder = made(format, scheme)
      local config = quantized.json(folder)
      each_place(config.quantization_config, function(place, key)
        local before = place[key]
        for _, value in ipairs(strange) do
          place[key] = value
          models.write(folder .. "/config.json", json.encode(config))
          local opened = rondo.open(folder)
          local good, problems = pcall(claims.check, opened or assert(rondo.open(source)))
          assert(good, ("%s, %s = %s: %s"):format(format, key, json.encode(value), problems))
          if opened then opened:close() end
        end
        place[key] = before
      end)
    end
  end)

  it("compressed-tensors: bits, groups, symmetry, format, order", function()
    for _, case in ipairs {
      { "num_bits 8", function(said) group(said).num_bits = 8 end },
      { "no num_bits", function(said) group(said).num_bits = nil end },
      { "group_size 64", function(said) group(said).group_size = 64 end },
      { "strategy 'channel'", function(said) group(said).strategy = "channel" end },
      { "symmetric false", function(said) group(said).symmetric = false end },
      { "type 'float'", function(said) group(said).type = "float" end },
      { "format 'int-quantized'", function(said) said.format = "int-quantized" end },
      { "actorder 'group'", function(said) group(said).actorder = "group" end },
    } do
      disagrees(edit(made("compressed-tensors", int4), case[2]), A, case[1], "and 1 layer more")
    end
    -- the same kind of codes in another group size, in the words of another scheme
    local fp8 = made("compressed-tensors", rondo.fp8)
    disagrees(edit(fp8, function(said) group(said).strategy = "tensor" end), A,
              "strategy 'tensor'", "fp8 row")
  end)

  it("compressed-tensors: what is ignored and what is targeted", function()
    local folder = made("compressed-tensors", int4)
    edit(folder, function(said) said.ignore = json.array { "lm_head" } end)
    disagrees(folder, KEPT, "is not quantized, but 'ignore' does not name it")
    edit(folder, function(said) said.ignore = json.array { "lm_head", "re:.*down_proj$" } end)
    assert.is_true(assert(rondo.verify(source, folder)).good)
    edit(folder, function(said) said.ignore = json.array { "re:.*down_proj" } end)
    disagrees(folder, "lm_head", "is not quantized, but 'ignore' does not name it")
    edit(folder, function(said) said.ignore = json.array { "lm_head", KEPT, B } end)
    disagrees(folder, B, "leaves it out (ignore), but it is quantized")
    edit(folder, function(said)
      said.ignore = json.array {}
      said.config_groups.group_0.targets = json.array { "re:.*layers\\.0\\.self_attn\\.[a-o]_proj" }
    end)
    disagrees(folder, B, "leaves it out (targets), but it is quantized")
  end)

  it("gptq: bits, groups, symmetry, order, what is left out", function()
    for _, case in ipairs {
      { A, "bits 8", function(said) said.bits = 8 end },
      { A, "group_size 64", function(said) said.group_size = 64 end },
      { A, "sym false", function(said) said.sym = false end },
      { KEPT, "'dynamic' does not leave it out", function(said) said.dynamic = nil end },
      { B, "bits 2", function(said)
        said.dynamic["+:.*\\.1\\.self_attn.*"] = { bits = 2 }
      end },
      { B, "leaves it out (dynamic)", function(said)
        said.dynamic["-:model\\.layers\\.1\\..*"] = json.object {}
      end },
    } do
      disagrees(edit(made("gptq", int4), case[3]), case[1], case[2])
    end
    local twice = edit(made("gptq", int4), function(said) -- readers take the one or the other
      said.dynamic["+:.*self_attn.*"] = { bits = 8 }
      said.dynamic["+:model\\.layers.*"] = { bits = 4 }
    end)
    assert.is_true(assert(rondo.verify(source, twice)).good)
    local asymmetric = made("gptq-v2", int4 { symmetric = false })
    disagrees(edit(asymmetric, function(said) said.sym = true end), A, "sym true")
    local folder = made("gptq", int4)
    change(folder, function(tensors) tensors[B .. ".g_idx"] = nil end)
    disagrees(folder, B, "has no 'g_idx'")
    change(folder, function(tensors) tensors[A .. ".g_idx"] = nil end)
    assert.is_true(assert(rondo.verify(source, folder)).good)
    disagrees(edit(folder, function(said) said.desc_act = true end), A, "desc_act true", "g_idx")
  end)

  it("awq: groups, what is left out", function()
    disagrees(edit(made("awq", int4), function(said) said.group_size = 64 end), A,
              "group_size 64", "int4")
    disagrees(edit(made("awq", int4), function(said)
      said.modules_to_not_convert = json.array { "lm_head" }
    end), KEPT, "'modules_to_not_convert' does not name it")
    disagrees(edit(made("awq", int4), function(said)
      said.modules_to_not_convert = json.array { "lm_head", "down_proj", "layers.1" }
    end), B, "leaves it out (modules_to_not_convert), but it is quantized")
  end)

  it("fp8, bitsandbytes, modelopt", function()
    local source_before = source
    source = quantized.model({ [A] = quantized.weight(144, 192, 1, "f32"),
                               [B] = quantized.weight(144, 192, 2, "f32") }, "f32")
    local fp8 = rondo.fp8 { group_size = { 128, 128 } }
    disagrees(edit(made("fp8", fp8), function(said) said.weight_block_size = nil end), A,
              "says no weight_block_size", "fp8 128x128")
    disagrees(edit(made("fp8", fp8), function(said) said.fmt = "e5m2" end), A, "says fmt 'e5m2'",
              "fp8 128x128")
    source = source_before
    local nf4 = rondo.nf4 { group_size = 64 }
    disagrees(edit(made("bitsandbytes", nf4), function(said)
      said.bnb_4bit_quant_type = "fp4"
    end), A, "bnb_4bit_quant_type 'fp4'", "nf4")
    disagrees(edit(made("bitsandbytes", nf4), function(said)
      said.bnb_4bit_use_double_quant = true
    end), A, "bnb_4bit_use_double_quant true")
    disagrees(edit(made("bitsandbytes", nf4), function(said)
      said.load_in_4bit, said.load_in_8bit = false, true
    end), A, "load_in_8bit true")
    -- transformers keeps T5's wo, say, without a word: no layer of the name is quantized
    local family = edit(made("bitsandbytes", nf4), function(said)
      said.llm_int8_skip_modules = json.null
    end)
    assert.is_true(assert(rondo.verify(source, family)).good)
    disagrees(edit((quantized.quantize(source, "bitsandbytes", { [B] = nf4 })), function(said)
      said.llm_int8_skip_modules = json.null
    end), A, "'llm_int8_skip_modules' does not name it")
    disagrees(edit(made("modelopt", rondo.nvfp4), function(said)
      said.config_groups.group_0.weights.group_size = 32
    end), A, "group_size 32")
    local groups = edit(made("modelopt", rondo.nvfp4), function(said) -- each for some layers
      said.config_groups.group_1 = { targets = json.array { "re:.*mlp" },
                                     weights = { num_bits = 8, type = "float" } }
    end)
    assert.is_true(assert(rondo.verify(source, groups)).good)
    disagrees(edit(made("modelopt", rondo.nvfp4), function(said) said.quant_algo = "FP8" end), A,
              "quant_algo 'FP8'")
    disagrees(edit(made("modelopt", rondo.nvfp4), function(said)
      said.ignore = json.array { "lm_head", "model.layers.0*" }
    end), A, "leaves it out (ignore), but it is quantized")
  end)

  it("mlx: bits and groups that the tensors do not have, and two that differ", function()
    for name, value in pairs { bits = 8, group_size = 64 } do
      fails(edit(made("mlx", int4), function(_, config) config.quantization[name] = value end),
            A, "8 words in a row of 'weight' and 2 groups in 'scales'", "4 bits in groups of 32",
            name == "bits" and "says 8 bits in groups of 32" or "says 4 bits in groups of 64")
    end
    disagrees(edit(made("mlx", int4), function(said) said.bits = 8 end), "",
              "'quantization' and 'quantization_config' disagree on bits")
  end)

  it("describes another model than the source's", function()
    local folder = made("compressed-tensors", int4)
    edit(folder, function(_, config) config.num_hidden_layers = 7 end)
    disagrees(folder, "", "num_hidden_layers 7, that of the source 2")
    edit(folder, function(_, config)
      config.num_hidden_layers, config.torch_dtype = 2, "bfloat16"
      config.transformers_version, config.rope_theta = "5.0", 10000
    end)
    assert.is_true(assert(rondo.verify(source, folder)).good)
  end)
end)

describe("parts of quantized layers that belong to none", function()
  setup(make_source)
  teardown(models.cleanup)

  local function planned(folder)
    local model = assert(rondo.open(folder))
    return rondo.plan(model, { format = "fake" })
  end

  it("are not quantized where nothing says how", function()
    for format, scheme in pairs { ["compressed-tensors"] = int4, gptq = int4, mlx = int4,
                                  bitsandbytes = rondo.nf4 { group_size = 64 },
                                  fp8 = rondo.fp8 { group_size = { 128, 128 } } } do
      local folder = made(format, scheme)
      for _, remove in ipairs { function() os.remove(folder .. "/config.json") end, function()
        edit(folder, function(_, config)
          config.quantization_config, config.quantization = nil, nil
        end)
      end } do
        os.remove(folder .. "/quantize_config.json")
        remove()
        local done, message, code = planned(folder)
        assert.is_nil(done)
        assert.equal("format", code)
        assert.truthy(message:find("nothing says how", 1, true), message)
        assert.truthy(message:find("model.layers.", 1, true), message)
        models.write(folder .. "/config.json", "{}")
      end
    end
  end)

  it("are not read as another method's", function()
    local folder = made("compressed-tensors", int4)
    fails(edit(folder, function(said) said.quant_method = "gptq" end), A, "no codes as 'gptq'",
          "1 more like it")
    folder = made("gptq", int4)
    fails(edit(folder, function(said) said.quant_method = "mlx" end), A, "no codes as 'mlx'")
  end)

  it("are not left behind when the codes are gone", function()
    for format, case in pairs { gptq = { int4, "qweight" },
                                bitsandbytes = { rondo.nf4 { group_size = 64 }, "weight" },
                                mlx = { int4, "weight" }, modelopt = { rondo.nvfp4, "weight" },
                                ["compressed-tensors"] = { int4, "weight_packed" } } do
      local folder = change(made(format, case[1]), function(tensors)
        tensors[B .. "." .. case[2]] = nil
      end)
      fails(folder, B)
    end
  end)

  it("are no scales that go along with plain weights, nor what only sounds so", function()
    local folder = models.temporary()
    assert(rondo.safetensors.save(folder .. "/model.safetensors", {
      ["layers.0.fc.weight"] = rondo.randn({ 64, 64 }, 1),
      ["layers.0.fc.weight_scale"] = rondo.randn({ 64, 1 }, 2),
      ["layers.0.norm.scales"] = rondo.randn({ 64 }, 3),
      ["flow.0.scales"] = rondo.randn({ 64 }, 4), ["flow.0.biases"] = rondo.randn({ 64 }, 5),
      ["router.weight_scale"] = rondo.randn({ 1 }, 6), ["weight_scale"] = rondo.randn({ 1 }, 7),
      ["graph.g_idx"] = rondo.zeros({ 64 }, "i32") }))
    assert(planned(folder))
  end)

  it("a scale of nvfp4's tensor that is missing is named", function()
    fails(change(made("compressed-tensors", rondo.nvfp4), function(tensors)
      tensors[B .. ".weight_global_scale"] = nil
    end), B .. ".weight_global_scale' is missing")
  end)
end)

describe("expressions of Python's", function()
  it("match as re.match does, from the beginning", function()
    for _, case in ipairs {
      { "lm_head", "lm_head", true }, { "lm", "lm_head", true }, { "head", "lm_head", false },
      { ".*head$", "lm_head", true }, { "^a\\.b$", "a.b", true }, { "^a\\.b$", "axb", false },
      { "(q|k)_proj", "k_proj", true }, { "(?:q|k)_proj", "v_proj", false },
      { "^(?!.*down).*$", "a.down", false }, { "^(?!.*down).*$", "a.up", true },
      { "a{2,3}$", "aaa", true }, { "a{2,3}$", "aaaa", false }, { "a{2}b", "aab", true },
      { "[0-9]+\\.x", "12.x", true }, { "[^.]+\\.x", "ab.x", true }, { "[]a]b", "]b", true },
      { "\\d\\w\\s", "1a ", true }, { "a+?b", "aaab", true }, { "a??b", "b", true },
      { "x\\b.y", "x.y", true }, { "x\\By", "xy", true }, { "", "x", true }, { "a|b|", "", true },
      { "(a?)*c", "aac", true }, { "[a\\-z]", "-", true }, { "[a\\-z]", "b", false },
    } do
      assert.equal(case[3], regex.compile(case[1])(case[2]), case[1] .. " on " .. case[2])
    end
  end)

  it("are not guessed at", function()
    for _, expression in ipairs { "(?P<name>a)", "(a", "a)", "[a", "a**", "*a", "\\1", "(?<=a)b",
                                  "a{2000}", ("("):rep(3000), ("a"):rep(5000), "\\" } do
      assert.is_nil(regex.compile(expression), expression)
    end
  end)

  it("end soon", function()
    assert.is_nil(regex.compile("(a*)*b")(("a"):rep(40)))
    assert.is_nil(regex.compile("(a|a)*b")(("a"):rep(40)))
    assert.is_nil(regex.compile(".*x")(("a"):rep(1000000)))
    for _, nothing in ipairs { "(|)", "(?:(?=)|(?=))", "(?:^|^)" } do
      assert.is_nil(regex.compile(nothing:rep(30) .. "(?!)")("a"), nothing)
    end
    local hanging = regex.compile("(a*)*b") -- it is given up for good
    assert.is_false(hanging("c"))
    assert.is_nil(hanging(("a"):rep(40)))
    assert.is_nil(hanging("c"))
  end)
end)
