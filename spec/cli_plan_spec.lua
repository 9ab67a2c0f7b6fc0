-- `rondo plan`, and what --config may say, as users run it.

local command = require "spec.support.command"
local core = require "rondo.core"
local json = require "rondo.json"
local lfs = require "lfs"
local models = require "spec.support.models"
local shell = require "spec.support.shell"

local run = command.run
local good = command.good
local small_model = models.llama
local exists = shell.exists

describe("rondo plan", function()
  local model
  setup(function() model = small_model() end)
  teardown(models.cleanup)

  local function planned(...)
    local plan = assert(json.decode(good { "plan", model, "--json", ... }))
    local map = {}
    for _, t in ipairs(plan.tensors) do map[t.name] = t end
    return plan, map
  end

  it("shows every tensor, its rule, and the exact sizes", function()
    local text = good { "plan", model }
    assert.truthy(text:find("model.layers.0.mlp.up_proj.weight", 1, true))
    assert.truthy(text:find "lm_head%.weight +8x6 +f32 +copy")
    assert.truthy(text:find "2 of 6 tensors are quantized")
    local plan, tensors = planned()
    assert.equal(6, #plan.tensors)
    assert.equal("int4 asym g32", tensors["model.layers.0.mlp.up_proj.weight"].scheme)
    assert.equal("copy", tensors["lm_head.weight"].action)
    assert.equal("copy", tensors["model.embed_tokens.weight"].action)
    assert.equal(json.null, tensors["model.layers.0.norm.weight"].scheme)
    assert.same({ 6, 2, 120 }, { plan.totals.tensors, plan.totals.quantized,
                                 plan.totals.weights })
  end)

  it("takes -1, =-1 and row for one group a row", function()
    for _, words in ipairs { { "--group-size", "-1" }, { "--group-size=-1" },
                             { "--group-size", "row" }, { "--group-size=row" } } do
      local _, tensors = planned(table.unpack(words))
      assert.equal("int4 asym row", tensors["model.layers.0.mlp.up_proj.weight"].scheme)
    end
  end)

  it("understands what the options say", function()
    for scheme, words in pairs {
      ["int8 sym g16"] = { "--bits=8", "--scheme", "sym", "--group-size", "16" },
      ["int4 sym full-range g32"] = { "--scheme", "sym", "--full-range" },
      ["nf4 g32"] = { "--dtype", "nf4", "--scheme", "sym" },
      ["fp4_e2m1_bnb g32"] = { "--dtype=fp4_e2m1_bnb", "--bits", "4" },
      ["e2m1 g3 dim0"] = { "--dtype", "e2m1", "--group-dim", "0", "--group-size", "3" },
      ["int16 asym g32 ratio 0.001"] = { "--bits", "16", "--quantile", "1e-3" },
      ["int2 asym g32 clip layer"] = { "--bits", "2", "--mse-search", "--quantile", "1.0",
                                       "--threads", "3", "--overwrite", "--nonfinite", "keep",
                                       "--shard-size", "1.5 GiB" },
    } do
      local _, tensors = planned(table.unpack(words))
      assert.equal(scheme, tensors["model.layers.0.mlp.up_proj.weight"].scheme)
    end
  end)

  it("keeps what is excluded, takes in what is asked for", function()
    local _, tensors = planned("--exclude", "layers.0", "--exclude=nothing|norm.weight")
    assert.equal("copy", tensors["model.layers.0.mlp.up_proj.weight"].action)
    assert.truthy(tensors["model.layers.0.mlp.up_proj.weight"].rule:find("layers.0", 1, true))
    assert.equal("quantize", tensors["model.layers.1.mlp.up_proj.weight"].action)
    local file = models.write(models.temporary() .. "/c.lua", "return { lm_head = { bits = 8 } }")
    _, tensors = planned("--config", file)
    assert.equal("int8 asym g32", tensors["lm_head.weight"].scheme)
  end)

  it("remarks on a pattern that matches nothing, and goes on", function()
    local code, out, err = run { "plan", small_model(), "--exclude", "nothing.such" }
    assert.equal(0, code)
    assert.truthy(out:find("up_proj", 1, true))
    assert.truthy(err:find("^rondo: warning: exclude 'nothing.such' matches no tensor of "), err)
  end)

  it("remarks on rules of a recipe that match nothing, not on those that come too late", function()
    local folder = models.temporary()
    local file = models.write(folder .. "/r.lua", [[
      local rondo = require "rondo"
      return rondo.recipe { name = "w4", { "*up_proj.weight", rondo.int4 },
        { "*layers.0.mlp.up_proj.weight", rondo.int8 }, { "*upproj.weight", rondo.int8 },
        { "layers.last.nothing", rondo.int8, name = "last" }, otherwise = rondo.keep }]])
    for _, words in ipairs { { "plan", model, "--recipe", file },
                             { "quantize", model, folder .. "/out", "--recipe", file } } do
      local code, _, err = run(words)
      assert.equal(0, code, err)
      local remarks = {}
      for line in err:gmatch "[^\n]+" do
        remarks[#remarks + 1] = line:match "^rondo: warning: (recipe .* matches no tensor) of "
      end
      assert.same({ "recipe 'w4': rule '*upproj.weight' matches no tensor",
                    "recipe 'w4': rule 'layers.last.nothing' matches no tensor" }, remarks)
    end
  end)

  it("gives the sizes that quantize then writes, to the byte", function()
    for _, words in ipairs {
      { "--shard-size", "300" }, { "--shard-size", "0.25KiB", "--format", "packed" },
      { "--format", "packed", "--compression-dtype", "int8", "--scale-dtype", "float16" },
      { "--format", "packed", "--compression-dim", "0", "--group-dim", "0", "--bits", "3" },
      { "--dtype", "nf4", "--format", "packed", "--group-size", "5" }, {},
    } do
      local plan = planned(table.unpack(words))
      local out = models.temporary() .. "/out"
      good { "quantize", model, out, table.unpack(words) }
      local total = 0
      for _, file in ipairs(plan.files) do
        assert.equal(lfs.attributes(out .. "/" .. file.name, "size"), file.size, file.name)
        total = total + file.size
      end
      assert.equal(plan.totals.bytes_after, total)
      local sharded = words[1] == "--shard-size"
      assert.equal(sharded, #plan.files > 2)
      assert.equal(sharded, exists(out .. "/model.safetensors.index.json"))
    end
  end)

  it("takes paths that look like options behind --", function()
    local folder = models.temporary()
    shell.sh("cp -r %s %s", model, folder .. "/-x")
    local there = ("sh -c 'cd %s && exec \"$0\" \"$@\"'"):format(folder)
    local out = good({ "plan", "--json", "--", "-x" }, { prefix = there })
    assert.equal("-x", json.decode(out).model)
  end)

  it("is quick for 100,000 tensors", function()
    local tensors = {}
    for i = 0, 99999 do
      tensors[i + 1] = { ("model.layers.%d.mlp.x%d.weight"):format(i // 1000, i % 1000), { 2, 2 } }
    end
    local many = models.file(tensors)
    local started = core.monotonic()
    local _, out = run { "plan", many }
    assert.truthy(out:find "100000 of 100000 tensors are quantized")
    assert.is_true(core.monotonic() - started < 30)
  end)
end)

describe("--config", function()
  local model
  setup(function() model = small_model() end)
  teardown(models.cleanup)

  local function config(text)
    return models.write(models.temporary() .. "/c.lua", text)
  end

  it("sets layers by module path", function()
    local file = config [[#! a first line as scripts have it
      local t = {}
      for i, bits in ipairs { 8, 2 } do
        t[("model.layers.%d.mlp.up_proj"):format(i - 1)] = { bits = bits, scheme = "sym" }
      end
      return t]]
    local plan = json.decode(good { "plan", model, "--json", "--config", file })
    local schemes = {}
    for _, t in ipairs(plan.tensors) do schemes[t.name] = t.scheme end
    assert.equal("int8 sym g32", schemes["model.layers.0.mlp.up_proj.weight"])
    assert.equal("int2 sym g32", schemes["model.layers.1.mlp.up_proj.weight"])
  end)

  it("is wrong usage, with the file's name, when it holds anything else", function()
    for text, message in pairs {
      ["return {"] = ":1: unexpected symbol",
      ["x = y.z"] = ":1: attempt to index a nil value",
      ["error { }"] = "an error object of type table",
      ["error('no', 0)"] = "no",
      ["return 4"] = "returns a table, not a number",
      [""] = "returns a table, not nothing",
      ["\27Lua"] = "attempt to load a binary chunk",
      ["return os.remove('x')"] = "global 'os'",
      ["return io.open('x')"] = "global 'io'",
      ["return require('lfs')"] = "global 'require'",
      ["return load('x')"] = "global 'load'",
      ["return string.dump(print)"] = "field 'dump'",
      ["return { ['model.none'] = { bits = 4 } }"] = "'model.none', which is no linear layer",
      ["return { ['model.layers.1.mlp.upproj'] = { bits = 4 } }"] =
        "did you mean 'model.layers.1.mlp.up_proj'?",
      ["return { ['model.layers.0.mlp.up_proj'] = { bits = 99 } }"] = "bits must be",
      ["return { ['model.layers.0.mlp.up_proj'] = { bit = 4 } }"] = "unknown field 'bit'",
      ["return { ['model.layers.0.mlp.up_proj'] = 4 }"] = "must be a table",
      ["return { ['model.layers.0.mlp.up_proj'] = { group_size = 0 } }"] = "group_size must be",
    } do
      local file = config(text)
      local code, out, err = run { "plan", model, "--config", file }
      assert.same({ 2, "" }, { code, out }, text)
      assert.truthy(err:find("^rondo: plan: [^\n]+\nTry 'rondo plan %-%-help'%.\n$"), err)
      assert.truthy(err:find(file, 1, true), err)
      assert.truthy(err:find(message, 1, true), err)
    end
  end)
end)
