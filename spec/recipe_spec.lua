-- Recipes: which rule decides which tensor.
local json = require "rondo.json"
local models = require "spec.support.models"
local rondo = require "rondo"
local shell = require "spec.support.shell"

local int3, int4, int8, keep = rondo.int3, rondo.int4, rondo.int8, rondo.keep

teardown(models.cleanup)

-- A llama of so many layers, 8 wide.
local function llama(layers, more)
  local tensors = { { "model.embed_tokens.weight", { 16, 8 } }, { "lm_head.weight", { 16, 8 } },
                    { "model.norm.weight", { 8 } } }
  for i = 0, layers - 1 do
    for _, part in ipairs { "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
                            "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj",
                            "mlp.down_proj" } do
      tensors[#tensors + 1] = { ("model.layers.%d.%s.weight"):format(i, part), { 8, 8 } }
    end
    tensors[#tensors + 1] = { ("model.layers.%d.input_layernorm.weight"):format(i), { 8 } }
  end
  for _, tensor in ipairs(more or {}) do tensors[#tensors + 1] = tensor end
  return models.folder(tensors, '{"architectures":["LlamaForCausalLM"]}')
end

local function row_map(made)
  local rows = {}
  for _, row in ipairs(made.rows) do
    rows[row.name:gsub("^model%.", ""):gsub("%.weight$", "")] = row
  end
  return rows
end

local function plan(path, rules, options)
  options = options or {}
  options.recipe = rondo.recipe(rules)
  return row_map(assert(rondo.plan(path, options)))
end

local function refused(f, ...)
  local good, message = pcall(f, ...)
  assert.is_false(good)
  return message
end

describe("the rules of a recipe", function()
  it("decide by the first that matches, with numbers of layers", function()
    local rows = plan(llama(12), {
      { "*norm.weight", keep }, { "embed_tokens|lm_head", keep },
      { "layers.{first,last}.*", int8 }, { "layers.{2-3,11}", int3 },
      { "*_proj.weight", int4, name = "body" },
    })
    local expected = { [0] = "int8 sym row", [2] = "int3 sym g128", [3] = "int3 sym g128",
                       [11] = "int8 sym row" }
    for i = 0, 11 do
      assert.equal(expected[i] or "int4 sym g128",
        rows[("layers.%d.mlp.down_proj"):format(i)].scheme)
      assert.equal("copy", rows[("layers.%d.input_layernorm"):format(i)].action)
    end
    assert.equal("body", rows["layers.5.mlp.up_proj"].rule)
    assert.equal("layers.{first,last}.*", rows["layers.11.mlp.up_proj"].rule)
    assert.equal("*norm.weight", rows["layers.11.input_layernorm"].rule)
  end)

  it("may be functions of the layer", function()
    local asked = 0
    local rows = plan(llama(12), {
      { function(l) return l.kind == "norm" or l.kind == "embedding" end, keep, name = "kinds" },
      { function(l) return l.depth == l.depth_count and l.depth end, int8 }, -- never: from 0
      { function(l) return l.kind == "v" and l.depth >= 10 end, int8 },
      function(l) if l.name:find "up_proj$" then return int3, "thin" end end,
      { function(l) asked = asked + 1 return l.part == "down" and l.shape[1] == 8 end,
        int4 { group_size = 4 } },
      otherwise = int4, fused = false,
    })
    assert.equal("kinds", rows["norm"].rule)
    assert.equal("int8 sym row", rows["layers.10.self_attn.v_proj"].scheme)
    assert.equal("int4 sym g128", rows["layers.9.self_attn.v_proj"].scheme)
    assert.same({ "int3 sym g128", "thin" },
      { rows["layers.3.mlp.up_proj"].scheme, rows["layers.3.mlp.up_proj"].rule })
    assert.equal("int4 sym g4", rows["layers.7.mlp.down_proj"].scheme)
    assert.same({ "int4 sym g128", "otherwise" },
      { rows["lm_head"].scheme, rows["lm_head"].rule })
    assert.is_true(asked < 30, asked) -- once for tensors of like names, but v, which depth parts
  end)

  it("ask a function once for each depth where that is all it asks", function()
    local names = {}
    local rows = plan(llama(12), {
      { function(l)
          if l.part ~= "down" then return false end
          return l.depth % 3 == 0 or l.depth == l.depth_count - 1
        end, int8 },
      { function(l) -- looks at the name from depth 7 on
          if l.part ~= "o" or l.depth < 7 then return false end
          names[#names + 1] = l.name
          return l.name:find "layers%.9%." ~= nil
        end, int3 },
      { "*_proj.weight", int4 }, otherwise = keep,
    })
    for i = 0, 11 do
      local down = (i % 3 == 0 or i == 11) and "int8 sym row" or "int4 sym g128"
      assert.equal(down, rows[("layers.%d.mlp.down_proj"):format(i)].scheme)
      assert.equal(i == 9 and "int3 sym g128" or "int4 sym g128",
        rows[("layers.%d.self_attn.o_proj"):format(i)].scheme)
    end
    assert.equal(5, #names)
  end)

  it("ask no more than once for each depth of 40 experts", function()
    local tensors, asked = {}, 0
    for i = 0, 119 do
      local name = ("model.layers.%d.mlp.experts.%d.down_proj.weight"):format(i // 40, i % 40)
      tensors[i + 1] = { name, { 8, 8 } }
    end
    local rows = plan(models.folder(tensors), { { function(l)
      asked = asked + 1
      return l.depth == 1
    end, int8 }, otherwise = int4 })
    for i = 0, 119 do
      local row = rows[("layers.%d.mlp.experts.%d.down_proj"):format(i // 40, i % 40)]
      assert.equal(i // 40 == 1 and "int8 sym row" or "int4 sym g128", row.scheme)
    end
    assert.is_true(asked <= 4, asked) -- and once to find out what it asks
  end)

  it("see kinds and parts", function()
    local path = llama(1, { { "model.layers.0.mlp.experts.0.w1.weight", { 8, 8 } },
                            { "model.layers.0.mlp.gate.weight", { 2, 8 } },
                            { "model.layers.0.self_attn.q_proj.bias", { 8 } },
                            { "model.other", { 3 } } })
    local seen = {}
    plan(path, { function(l) seen[l.tensor_name:match "([^.]*%.[^.]*)$"] = { l.kind, l.part }
                             return keep end })
    assert.same({ "q", "q" }, seen["q_proj.weight"])
    assert.same({ "o", "o" }, seen["o_proj.weight"])
    assert.same({ "down", "down" }, seen["down_proj.weight"])
    assert.same({ "expert", "gate" }, seen["w1.weight"])
    assert.same({ "router" }, seen["gate.weight"])
    assert.same({ "bias" }, seen["q_proj.bias"])
    assert.same({ "head" }, seen["lm_head.weight"])
    assert.same({ "embedding" }, seen["embed_tokens.weight"])
    assert.same({ "other" }, seen["model.other"])
  end)

  it("must cover every tensor, and an error has the line to add", function()
    local message = refused(rondo.plan, llama(3), {
      recipe = rondo.recipe { name = "thin", { "*_proj.weight", int4 },
                              { "embed_tokens|lm_head", keep } },
    })
    assert.matches("recipe 'thin': no rule for model.norm.weight of .* and 3 other tensors",
      message)
    assert.truthy(message:find('add { "norm.weight", rondo.keep }, { "input_layernorm.weight", '
      .. 'rondo.keep }, or otherwise = rondo.keep', 1, true), message)
  end)

  it("copy what cannot be quantized", function()
    local rows = plan(llama(1), { { "*", int4 } })
    assert.same({ "copy", "* (kept: a norm)" }, { rows.norm.action, rows.norm.rule })
    assert.equal("int4 sym g128", rows.embed_tokens.scheme)
  end)

  it("turn with weights that are stored the other way round", function()
    local path = models.folder({ { "h.0.attn.c_attn.weight", { 8, 24 } } },
                               '{"model_type":"gpt2"}')
    local made = assert(rondo.plan(path, { recipe = rondo.recipe { { "*", int4 } } }))
    assert.equal("int4 sym g128 dim0", made.rows[1].scheme)
  end)

  it("give partners one scheme, or say that they need not", function()
    local rules = { { "q_proj|up_proj", int8 }, { "*_proj", int4 }, otherwise = keep, name = "x" }
    local message = refused(plan, llama(2), rules)
    assert.truthy(message:find("engines fuse q, k and v, which need the same scheme, but "
      .. "model.layers.0.self_attn.q_proj gets int8 sym row (q_proj|up_proj) and "
      .. "model.layers.0.self_attn.k_proj gets int4 sym g128 (*_proj)", 1, true), message)
    rules.fused = false
    assert.equal("int8 sym row", plan(llama(2), rules)["layers.1.mlp.up_proj"].scheme)
    plan(llama(2), { { "layers.first", int8 }, { "layers.{first}", int8 }, { "*_proj", int4 },
                     otherwise = keep }) -- layers may differ
  end)

  it("refuse at once what no kernel can do", function()
    local message = refused(plan, llama(1), { { "down_proj", rondo.scheme.from {
      type = "int9", scale = "f16" } }, otherwise = keep, name = "nine" })
    assert.matches("recipe 'nine': model.layers.0.mlp.down_proj.weight %(rule down_proj%)",
      message)
    assert.matches("scales of 9%-bit codes are f32, not f16", message)
  end)

  it("refuse answers of functions that are no schemes", function()
    for text, rules in pairs {
      ["function at recipe_spec.lua:%d+ gives a scheme or nil, not a string"] =
        { function() return "int4" end },
      ["^recipe 'r': model.embed_tokens.weight: revise gives a scheme or nil, not a boolean"] =
        { name = "r", { "*", int4 }, revise = function() return true end },
      ["^recipe 'r': model.embed_tokens.weight: policy gives a scheme or nil, not a number"] =
        { name = "r", { "*", int4 }, policy = function(p) p.layers[1].scheme = 4 end },
    } do
      assert.matches(text, refused(plan, llama(1), rules))
    end
  end)

  it("let a policy choose for partners together", function()
    local seen = {}
    local rows = plan(llama(2), { { "*_proj", int4 }, otherwise = keep, policy = function(p)
      for _, unit in ipairs(p.units) do
        seen[#seen + 1] = #unit
        for _, entry in ipairs(unit) do
          if entry.layer.part == "gate" or entry.layer.part == "up" then
            entry.scheme, entry.text = int3, "mine"
          end
        end
      end
      assert.equal(14, #p.layers)
      -- 8x8 weights: a word of 32 bits for each row, and a scale of 32
      assert.equal(8 * 4 + 8 * 4, p.bytes(p.layers[1], int4))
      assert.equal(8 * 8 * 4, p.bytes(p.layers[1], keep))
    end })
    table.sort(seen)
    assert.same({ 1, 1, 1, 1, 2, 2, 3, 3 }, seen)
    assert.same({ "int3 sym g128", "mine" },
      { rows["layers.1.mlp.gate_proj"].scheme, rows["layers.1.mlp.gate_proj"].rule })
    assert.equal("*_proj", rows["layers.1.mlp.down_proj"].rule)
  end)

  it("are checked where they are written", function()
    for text, rules in pairs {
      ["rule 2: malformed pattern 'a{'"] = { { "a", keep }, { "a{", keep } },
      ["rule 1 ('a'): a scheme is expected behind the pattern"] = { { "a", "int4" } },
      ["rule 1: a pattern or a function is expected"] = { { 3, int4 } },
      ["rule 1 ('a'): unknown field 'nme' (known: fixed, name)"] = { { "a", int4, nme = "b" } },
      ["rule 1 ('a'): fixed must be true or false, not a number"] = { { "a", int4, fixed = 1 } },
      ["unknown option 'otherwize'"] = { otherwize = keep },
      ["otherwise must be a scheme"] = { otherwise = "keep" },
      ["options and rules belong together"] = { options = {} },
      ["rule 1: { pattern, scheme }, a function or a recipe is expected, not a nil"] =
        { nil, { "a", keep } },
      ["option 'bits' must be described as { kind"] =
        { options = { bits = 4 }, rules = function() end },
      ["option 'bits' must be described"] =
        { options = { bits = { kind = "whole" } }, rules = function() end },
      ["option 'bits' has a default that is not an integer at most 6: 8"] =
        { options = { bits = { kind = "integer", max = 6, default = 8 } }, rules = function() end },
    } do
      local message = refused(rondo.recipe, rules)
      assert.truthy(message:find(text, 1, true), message)
      assert.matches("recipe_spec.lua", message)
    end
  end)
end)

describe("a recipe", function()
  it("is extended and merged by standing in another", function()
    local base = rondo.recipe { { "*_proj", int4 }, otherwise = keep, fused = false }
    local rows = plan(llama(2), { { "down_proj", int8 }, base, { "lm_head", int3 } })
    assert.equal("int8 sym row", rows["layers.0.mlp.down_proj"].scheme)
    assert.equal("int4 sym g128", rows["layers.0.mlp.up_proj"].scheme)
    assert.equal("int3 sym g128", rows.lm_head.scheme)
    assert.equal("otherwise", rows.norm.rule)
    rows = plan(llama(1), { base, otherwise = int8 }) -- its own word comes first
    assert.equal("int8 sym row", rows.lm_head.scheme)
  end)

  it("is named by what goes wrong in its transform", function()
    local function broken(transform)
      local recipe = rondo.recipe { name = "r", { "*", int4 }, transform = transform }
      return refused(rondo.quantize, llama(1), models.temporary() .. "/out", { recipe = recipe })
    end
    assert.matches("^recipe 'r': transform 2: %S+: recipe_spec.lua:%d+: oh$",
      (broken { function() end, function() error "oh" end }:gsub(": %S*/", ": ")))
    assert.matches("^recipe 'r': halve: %S+: the function gives a tensor or nil",
      broken { { function() return 2 end, name = "halve", by = "rows" } })
  end)

  it("has options with defaults and checks", function()
    local base = rondo.recipe {
      name = "sized", options = { bits = { kind = "integer", min = 2, max = 6, default = 4 } },
      rules = function(o) return { { "*_proj", rondo["int" .. o.bits] }, otherwise = keep } end,
    }
    assert.equal("int4 sym g128", plan(llama(1), { base })["layers.0.mlp.up_proj"].scheme)
    assert.equal("int3 sym g128",
      plan(llama(1), { base { bits = 3 } })["layers.0.mlp.up_proj"].scheme)
    assert.matches("recipe 'sized': bits must be an integer", refused(base, { bits = 9 }))
    assert.matches("recipe 'sized': unknown option 'b'", refused(base, { b = 9 }))
    assert.matches("has no options", refused(rondo.recipe { otherwise = keep }, { b = 9 }))
  end)

  it("may overrule after looking at weights", function()
    -- Layer 1 holds one large value among small ones, which costs the small ones everything.
    local function bytes(f)
      local packed = {}
      for i = 1, 64 do packed[i] = ("<f"):pack(f(i)) end
      return table.concat(packed)
    end
    local path = models.file {
      { "layers.0.fc.weight", { 8, 8 }, bytes = bytes(function(i) return i % 8 - 4 end) },
      { "layers.1.fc.weight", { 8, 8 },
        bytes = bytes(function(i) return i == 1 and 7 or 0.4 end) },
    }
    local stats = {}
    local rows = plan(path, { { "*", int4 { group_size = "row" } },
      revise = function(scheme, layer)
        stats[layer.depth] = layer:stats()
        assert.equal(int4 { group_size = "row" }, scheme)
        return layer:loss(scheme) > 0.01 and int8
      end })
    assert.same({ "int4 sym row", "*" },
      { rows["layers.0.fc"].scheme, rows["layers.0.fc"].rule })
    assert.same({ "int8 sym row", "revise" },
      { rows["layers.1.fc"].scheme, rows["layers.1.fc"].rule })
    assert.equal(7, stats[1].max)
    assert.equal(-4, stats[0].min)
  end)

  it("says what a layer would lose as the report says it", function()
    local path = models.temporary() .. "/m.safetensors"
    assert(rondo.safetensors.save(path, { ["fc.weight"] = rondo.randn({ 16, 40 }, 3) }))
    local said
    local recipe = rondo.recipe { { "*", int3 { group_size = 8, clip = "layer" } },
      revise = function(scheme, layer) said = layer:loss(scheme) end }
    local report = assert(rondo.quantize(path, models.temporary() .. "/out", { recipe = recipe }))
    assert.equal(report.layers[1].relative_error, said)
    assert.is_true(said > 0 and report.layers[1].clip_ratio < 1)
  end)

  it("writes several schemes into one checkpoint, whose values hold", function()
    local tensors, path = {}, models.temporary() .. "/m.safetensors"
    for i, name in ipairs { "a", "b", "c" } do
      tensors["layers.0." .. name .. ".weight"] = rondo.randn({ 8, 64 }, i)
    end
    assert(rondo.safetensors.save(path, tensors))
    local recipe = rondo.recipe { { "a", int4 { group_size = 32, symmetric = false } },
                                  { "b", rondo.nf4 { group_size = 16, scale = "f16" } },
                                  otherwise = keep }
    local out = models.temporary() .. "/out"
    assert(rondo.quantize(path, out, { recipe = recipe, format = "packed" }))
    local packed = assert(rondo.open(out))
    local function reference(name, options)
      return rondo.rtn.quant_weight(tensors["layers.0." .. name .. ".weight"], options)
    end
    assert.is_true(packed:layer("layers.0.a"):dequantize():eq(
      reference("a", { group_size = 32, scheme = "asym" })):all())
    assert.equal("f16", packed:info("layers.0.b.scale").dtype)
    assert.is_true(packed:layer("layers.0.b"):dequantize():close(
      reference("b", { group_size = 16, data_type = "nf4" }), 1e-3, 1e-6))
    assert.is_true(packed["layers.0.c.weight"]:eq(tensors["layers.0.c.weight"]):all())
  end)

  it("leaves no place for plain options", function()
    local message = refused(rondo.plan, llama(1), { recipe = rondo.recipe { otherwise = keep },
                                                    bits = 3 })
    assert.matches("options 'bits' and 'recipe' exclude each other", message)
  end)
end)

describe("the command", function()
  local function recipe_file(text, folder, name)
    return models.write((folder or models.temporary()) .. "/" .. (name or "recipe.lua"), text)
  end

  local function rondo_command(...)
    local words = {}
    for i, word in ipairs { ... } do words[i] = shell.quote(word) end
    return shell.sh("%s/rondo %s", os.getenv "RONDO_BUILD" or "build", table.concat(words, " "))
  end

  local sized = [[
    local rondo = require "rondo"
    return rondo.recipe { name = "sized",
      options = { bits = { kind = "integer", min = 2, max = 6, default = 4 } },
      rules = function(o)
        return { { "*_proj.weight", rondo["int" .. o.bits] }, otherwise = rondo.keep }
      end }]]

  it("plans and quantizes by a recipe, with settings", function()
    local path, file = llama(2), recipe_file(sized)
    local text = rondo_command("plan", path, "--recipe", file, "--set", "bits=3", "--json")
    local tensors = assert(json.decode(text)).tensors
    assert.same({ "int3 sym g128", "*_proj.weight" }, { tensors[4].scheme, tensors[4].rule })
    local out = models.temporary() .. "/out"
    local report = assert(json.decode((rondo_command("quantize", path, out, "--recipe", file,
                                                     "--format", "packed", "--json"))))
    assert.equal("sized", report.options.recipe)
    assert.same({ bits = 4 }, report.options.set)
    assert.equal("int4 sym g128", report.layers[1].scheme)
  end)

  it("finds what lies beside a recipe", function()
    local folder = models.temporary()
    recipe_file(sized, folder, "base.lua")
    local file = recipe_file([[
      return require("rondo").recipe { require "base" { bits = 2 } }]], folder)
    assert.matches("int2 sym g128", (rondo_command("plan", llama(1), "--recipe", file)))
  end)

  it("says what is wrong with a recipe, and with what stands beside it", function()
    local path, file = llama(1), recipe_file(sized)
    for text, arguments in pairs {
      ["'--bits' and '--recipe' exclude"] = { "--recipe", file, "--bits", "3" },
      ["'--scale-dtype' and '--recipe' exclude"] = { "--recipe", file, "--scale-dtype", "float16" },
      ["'--set' needs --recipe"] = { "--set", "a=b" },
      ["'--set' must be NAME=VALUE, not 'bits'"] = { "--recipe", file, "--set", "bits" },
      ["bits must be an integer at least 2 and at most 6, not 7"] = { "--recipe", file, "--set",
                                                                     "bits=7" },
      ["unknown option 'bitz' (known: bits)"] = { "--recipe", file, "--set", "bitz=7" },
      ["returns rondo.recipe { ... }, not a number"] = { "--recipe", recipe_file "return 3" },
      ["recipe.lua: recipe 'x': rule 1 ('a'): a scheme is expected"] = { "--recipe", recipe_file [[
        return require("rondo").recipe { name = "x", { "a", "int4" } }]] },
      ["recipe.lua: recipe 'x': fused must be a boolean, not 3"] = { "--recipe", recipe_file [[
        return require("rondo").recipe { name = "x", fused = 3 }]] },
      ["recipe.lua: recipe 'x': rule 2 ('b'): a scheme"] = { "--recipe", recipe_file [[
        return require("rondo").recipe { name = "x", options = {}, rules = function()
          return { { "a", require("rondo").keep }, { "b", 4 } }
        end }]] },
      ["no field 'colour'"] = { "--recipe", recipe_file [[
        return require("rondo").recipe { function(l) return l.colour end }]] },
    } do
      local said, status = rondo_command("plan", path, table.unpack(arguments))
      assert.truthy(said:find(text, 1, true), said)
      assert.equal(2, status)
    end
  end)
end)
