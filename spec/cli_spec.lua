-- The command as users run it: what it says, where it says it, how it ends.

local command = require "spec.support.command"
local core = require "rondo.core"
local json = require "rondo.json"
local lfs = require "lfs"
local models = require "spec.support.models"
local shell = require "spec.support.shell"

local run = command.run

local function floats(...) return ("<" .. ("f"):rep(select("#", ...))):pack(...) end

-- A small Llama: two layers' worth of linear tensors, lm_head, an embedding, a norm.
local function small_model(config)
  local function ramp(n)
    local list = {}
    for i = 1, n do list[i] = math.sin(i * 1.7) * (1 + i % 7) end
    return floats(table.unpack(list))
  end
  return models.folder({
    { "lm_head.weight", { 8, 6 }, bytes = ramp(48) },
    { "model.embed_tokens.weight", { 8, 6 }, bytes = ramp(48) },
    { "model.layers.0.mlp.up_proj.weight", { 10, 6 }, bytes = ramp(60) },
    { "model.layers.0.norm.weight", { 6 }, bytes = ramp(6) },
    { "model.layers.1.mlp.up_proj.bias", { 10 }, bytes = ramp(10) },
    { "model.layers.1.mlp.up_proj.weight", { 10, 6 }, bytes = ramp(60) },
  }, config or '{"model_type":"llama"}')
end

local function exists(path) return lfs.symlinkattributes(path) ~= nil end

local function names(folder)
  local list = {}
  for name in lfs.dir(folder) do
    if name ~= "." and name ~= ".." then list[#list + 1] = name end
  end
  table.sort(list)
  return list
end

-- Runs it; it must end well and write nothing to stderr. Returns stdout.
local function good(arguments, o)
  local code, out, err = run(arguments, o)
  assert.same({ 0, "" }, { code, err }, table.concat(arguments, " "))
  return out
end

-- Runs it; it must fail with one line of `rondo: message` that holds all the texts.
local function fails(arguments, ...)
  local code, out, err = run(arguments)
  assert.same({ 1, "" }, { code, out }, table.concat(arguments, " "))
  assert.truthy(err:find "^rondo: [^\n]+\n$", err)
  for _, text in ipairs { ... } do assert.truthy(err:find(text, 1, true), err) end
end

describe("rondo", function()
  teardown(models.cleanup)

  it("tells its version, quickly and on stdout", function()
    assert.equal(("rondo %s (%s kernels, %s)\n"):format(core.version, core.isa(), _VERSION),
                 good { "--version" })
  end)

  it("explains itself and every command on stdout", function()
    local help = good { "--help" }
    assert.equal(help, good { "-h" })
    for _, name in ipairs { "quantize", "plan", "inspect", "compare", "run" } do
      assert.truthy(help:find("\n  " .. name .. " ", 1, true), name)
      local own = good { name, "--help" }
      assert.truthy(own:find("^Usage: rondo " .. name .. " "), own)
      assert.equal(own, good { name, "-h" })
      for line in own:gmatch "[^\n]*" do assert.is_true(#line <= 100, line) end
    end
  end)

  it("documents every option of the command line", function()
    local help = good { "quantize", "--help" }
    for _, option in ipairs { "--bits N", "--group-size N", "--scheme NAME", "--dtype NAME",
      "--group-dim D", "--full-range", "--quantile X", "--mse-search", "--format NAME",
      "--config FILE.lua", "--exclude GLOB", "--compression-dtype NAME", "--compression-dim D",
      "--scale-dtype NAME", "--threads N", "--shard-size SIZE", "--json", "--overwrite" } do
      assert.truthy(help:find("\n  " .. option, 1, true), option)
    end
  end)

  it("writes no colours where nobody looks", function()
    local model = small_model()
    assert.is_nil(good({ "inspect", model }):find "\27")
    assert.is_nil(good({ "plan", model }):find "\27")
  end)

  it("fails when its output has no room", function()
    if not exists "/dev/full" then pending "no /dev/full" end
    local code, _, err = run({ "plan", small_model() }, { output = "/dev/full" })
    assert.equal(1, code)
    assert.truthy(err:find "^rondo: cannot write to standard output: ", err)
  end)
end)

describe("wrong usage", function()
  local model, out
  setup(function()
    model = small_model()
    out = models.temporary() .. "/out"
  end)
  teardown(models.cleanup)

  -- { what the message holds, arguments after `quantize MODEL OUT` }
  local options = {
    { "unknown option '--bit'\nDid you mean", "--bit", "4" },
    { "'--bits' must be an integer from 1 to 16, not '0'", "--bits", "0" },
    { "'--bits' must be an integer from 1 to 16, not '17'", "--bits", "17" },
    { "'--bits' must be an integer from 1 to 16, not '4.0'", "--bits", "4.0" },
    { "'--bits' must be an integer from 1 to 16, not 'four'", "--bits=four" },
    { "'--bits' must be an integer from 1 to 16, not ''", "--bits=" },
    { "'--bits' must be an integer from 1 to 16, not '-4'", "--bits", "-4" },
    { "'--bits' must be an integer", "--bits", "99999999999999999999" },
    { "'--bits' requires an argument", "--bits" },
    { "'--bits' must be used at most 1 time", "--bits", "4", "--bits", "8" },
    { "'--group-size' must be an integer of at least 1, or -1 or row", "--group-size", "0" },
    { "'--group-size' must be", "--group-size", "-2" },
    { "'--group-size' must be", "--group-size", "rows" },
    { "'--group-size' must be", "--group-size", "32.5" },
    { "'--scheme' must be one of asym, sym, not 'symmetric'", "--scheme", "symmetric" },
    { "'--dtype' must be one of int, nf4, fp4, fp4_e2m1, fp4_e2m1_bnb, e2m1, not 'int4'",
      "--dtype", "int4" },
    { "'--group-dim' must be an integer from 0 to 1, not '2'", "--group-dim", "2" },
    { "'--quantile' must be a number above 0 and at most 1, not '0'", "--quantile", "0" },
    { "'--quantile' must be", "--quantile", "1.01" },
    { "'--quantile' must be", "--quantile", "-0.5" },
    { "'--quantile' must be", "--quantile", "nan" },
    { "'--quantile' must be", "--quantile", "." },
    { "'--quantile' must be", "--quantile", "0x1p-1" },
    { "'--format' must be one of fake, packed, not 'gguf'", "--format", "gguf" },
    { "'--compression-dtype' must be one of int8, int16, int32, int64", "--format", "packed",
      "--compression-dtype", "uint8" },
    { "'--compression-dim' must be", "--format", "packed", "--compression-dim", "2" },
    { "'--scale-dtype' must be one of float32, float16, bfloat16", "--format", "packed",
      "--scale-dtype", "float64" },
    { "'--threads' must be an integer from 1 to 1024, not '0'", "--threads", "0" },
    { "'--threads' must be an integer from 1 to 1024, not '1025'", "--threads", "1025" },
    { "'--shard-size' must be bytes, or a number with B, kB, MB, GB", "--shard-size", "5G" },
    { "'--shard-size' must be", "--shard-size", "0" },
    { "'--shard-size' must be", "--shard-size", "-5GB" },
    { "'--nonfinite' must be one of error, keep", "--nonfinite", "ignore" },
    { "'--exclude': malformed pattern '{a', at character 1", "--exclude", "{a" },
    { "'--exclude': malformed pattern", "--exclude", "" },
    { "'--full-range' does not take arguments", "--full-range=yes" },
    { "'--bits' must be 4 with --dtype nf4, not 8", "--dtype", "nf4", "--bits", "8" },
    { "'--bits' must be 4 with --dtype e2m1, not 3", "--bits", "3", "--dtype", "e2m1" },
    { "'--full-range' does nothing with --dtype fp4", "--dtype", "fp4", "--full-range" },
    { "'--full-range' needs --scheme sym", "--full-range" },
    { "'--full-range' needs --scheme sym", "--full-range", "--scheme", "asym" },
    { "'--full-range' needs --bits 2 or more", "--full-range", "--scheme", "sym", "--bits", "1" },
    { "'--quantile' and '--mse-search' exclude each other", "--quantile", "0.9", "--mse-search" },
    { "'--bits' must be at most 8 with --format packed, not 9", "--format", "packed", "--bits",
      "9" },
    { "'--compression-dtype' needs --format packed", "--compression-dtype", "int8" },
    { "'--compression-dim' needs --format packed", "--format", "fake", "--compression-dim", "0" },
    { "'--scale-dtype' needs --format packed", "--scale-dtype", "float16" },
    { "too many arguments", "third" },
    { "unknown option '-b'", "-b", "4" },
  }

  it("of options ends with 2, says what is allowed, and writes nothing", function()
    for _, case in ipairs(options) do
      local arguments = { "quantize", model, out, table.unpack(case, 2) }
      local code, stdout, err = run(arguments)
      local what = table.concat(case, " ") .. "\n" .. err
      assert.same({ 2, "" }, { code, stdout }, what)
      local message = case[1]:gsub("\n", " ") -- a message is one line
      assert.truthy(err:find(message, 1, true), what)
      assert.truthy(err:find "^rondo: quantize: ", what)
      assert.truthy(err:find "\nTry 'rondo quantize %-%-help'%.\n$", what)
      assert.is_false(exists(out), what)
    end
    assert.same({}, names(out:match "^(.*)/"))
  end)

  it("of options is the same for plan", function()
    for _, i in ipairs { 2, 12, 30, #options - 9 } do
      local code, stdout, err = run { "plan", model, table.unpack(options[i], 2) }
      assert.same({ 2, "" }, { code, stdout })
      assert.truthy(err:find(options[i][1], 1, true), err)
    end
  end)

  it("of commands ends with 2 and a hint", function()
    for message, arguments in pairs {
      ["no command given\nCommands: quantize, plan, inspect, compare, repl, run."] = {},
      ["unknown command 'quantise' Did you mean 'quantize'?"] = { "quantise", "a", "b" },
      ["unknown option '--verbose'"] = { "--verbose" },
      ["missing argument 'MODEL'\nTry 'rondo quantize --help'."] = { "quantize" },
      ["missing argument 'OUT'\nTry 'rondo quantize --help'."] = { "quantize", "a" },
      ["missing argument 'MODEL'\nTry 'rondo plan --help'."] = { "plan" },
      ["missing argument 'MODEL'\nTry 'rondo inspect --help'."] = { "inspect" },
      ["missing argument 'B'\nTry 'rondo compare --help'."] = { "compare", "a" },
      ["missing argument 'SCRIPT'\nTry 'rondo run --help'."] = { "run" },
      ["unknown option '--bits'"] = { "inspect", "a", "--bits", "4" },
      ["option '--bins' needs --hist NAME"] = { "inspect", "a", "--bins", "5" },
      ["'--bins' must be an integer from 2 to 400, not '1'"] = { "inspect", "a", "--bins", "1" },
      ["option '--hist' requires an argument"] = { "inspect", "a", "--hist" },
      ["unknown option '--stats'"] = { "compare", "a", "b", "--stats" },
    } do
      local code, out_text, err = run(arguments)
      assert.same({ 2, "" }, { code, out_text }, message .. err)
      assert.truthy(err:find(message, 1, true), err)
    end
  end)

  it("of --hist names what there is", function()
    local code, _, err = run { "inspect", model, "--hist", "up_proj.weight" }
    assert.equal(2, code)
    assert.truthy(err:find("model.layers.1.mlp.up_proj.weight", 1, true), err)
    code, _, err = run { "inspect", model, "--hist", "model.layers.0.nrom.weight" }
    assert.equal(2, code)
    assert.truthy(err:find("no tensor 'model.layers.0.nrom.weight'", 1, true), err)
  end)
end)

describe("the world's failures", function()
  teardown(models.cleanup)

  it("end with 1 and one line that names the place", function()
    local model, folder = small_model(), models.temporary()
    local out = folder .. "/out"
    fails({ "quantize", folder .. "/none", out }, folder .. "/none", "No such file")
    fails({ "plan", folder .. "/none" }, folder .. "/none")
    fails({ "inspect", folder }, folder)
    fails({ "compare", model, folder .. "/none" }, folder .. "/none")
    fails({ "quantize", model, model }, model)
    fails({ "quantize", model, model .. "/inside" }, model)
    fails({ "quantize", model, folder .. "/no/such/out" }, folder .. "/no/such")
    fails({ "plan", model, "--config", folder .. "/none.lua" }, "--config", folder .. "/none.lua")
    fails({ "plan", model, "--config", folder }, folder)
    assert.is_false(exists(out))
  end)

  it("name file and tensor of a broken model", function()
    local model = small_model()
    local path = model .. "/model.safetensors"
    models.write(path, shell.read_file(path):sub(1, -2))
    fails({ "plan", model }, path)
    models.write(path, "\255\255\255\255\255\255\255\127{}")
    fails({ "inspect", model }, path)
  end)

  it("name tensor and place of a weight that is not a number", function()
    local model = models.folder { { "a.b.weight", { 2, 3 }, bytes = floats(1, 2, 3, 4, 0 / 0, 6) } }
    local out = models.temporary() .. "/out"
    fails({ "quantize", model, out }, "a.b.weight", "NaN at row 2, column 2")
    assert.same({}, names(out:match "^(.*)/"))
    good { "quantize", model, out, "--nonfinite", "keep" }
    assert.is_true(exists(out .. "/model.safetensors"))
  end)

  it("keep an output that exists, unless told otherwise", function()
    local model, folder = small_model(), models.temporary()
    local out = folder .. "/out"
    lfs.mkdir(out)
    models.write(out .. "/notes", "old")
    fails({ "quantize", model, out }, out, "exists", "--overwrite")
    fails({ "quantize", model, out, "--overwrite" }, out, "does not look like a checkpoint")
    models.write(out .. "/config.json", "{}")
    assert.same({ "config.json", "notes" }, names(out))
    good { "quantize", model, out, "--overwrite" }
    assert.same({ "config.json", "model.safetensors", "rondo-report.json" }, names(out))
    assert.same({ "out" }, names(folder))
  end)

  it("have no tensor in common when two models share nothing", function()
    local a = models.folder { { "a.weight", { 2, 2 } } }
    local b = models.folder { { "b.weight", { 2, 2 } } }
    local code, out, err = run { "compare", a, b }
    assert.equal(1, code)
    assert.truthy(out:find "only in A:\n  layer a\nonly in B:\n  layer b\n")
    assert.truthy(err:find "^rondo: .* have no tensor in common\n$", err)
  end)
end)

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
      ["int16 asym g32"] = { "--bits", "16", "--quantile", "1e-3" },
      ["int2 asym g32"] = { "--bits", "2", "--mse-search", "--quantile", "1.0", "--threads", "3",
                            "--overwrite", "--nonfinite", "keep", "--shard-size", "1.5 GiB" },
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

describe("rondo quantize", function()
  teardown(models.cleanup)

  it("shows the worst layers and the totals", function()
    local out = models.temporary() .. "/out"
    local text = good { "quantize", small_model(), out, "--bits", "3" }
    assert.truthy(text:find "^layer +scheme +clip +MSE")
    assert.truthy(text:find "model%.layers%.0%.mlp%.up_proj +int3 asym g32")
    assert.truthy(text:find "\n2 of 6 tensors quantized: relative error ")
    assert.truthy(text:find(out .. " written in ", 1, true))
  end)

  it("prints exactly the report with --json", function()
    local model = small_model()
    local out = models.temporary() .. "/out"
    local text = good { "quantize", model, out .. "/", "--json", "--mse-search" }
    assert.equal(shell.read_file(out .. "/rondo-report.json"), text)
    local report = assert(json.decode(text))
    assert.equal(2, #report.layers)
  end)

  it("tells of weights of other kinds that stay behind", function()
    local model, out = small_model(), models.temporary() .. "/out"
    models.write(model .. "/pytorch_model.bin", "x")
    models.write(model .. "/tokenizer.json", "{}")
    local text = good { "quantize", model, out }
    assert.truthy(text:find("\nnot copied: pytorch_model.bin\n", 1, true), text)
    assert.is_true(exists(out .. "/tokenizer.json"))
    assert.is_false(exists(out .. "/pytorch_model.bin"))
  end)

  it("writes the same bytes with any number of threads", function()
    local model, folder = small_model(), models.temporary()
    for _, n in ipairs { "1", "5" } do
      good { "quantize", model, folder .. "/" .. n, "--threads", n, "--mse-search" }
    end
    local difference = shell.sh("diff -r %s/1 %s/5", folder, folder)
    assert.equal("", difference)
  end)

  -- A model that takes seconds: zeros cost no room on the disk.
  local function slow_model(rows)
    local path, bytes = models.temporary() .. "/model.safetensors", rows * 4096 * 4
    local header = ('{"a.weight":{"dtype":"F32","shape":[%d,4096],"data_offsets":[0,%d]}}'):format(
      rows, bytes)
    header = header .. (" "):rep(-#header % 8)
    models.write(path, ("<I8"):pack(#header) .. header)
    shell.sh("truncate -s %d %s", 8 + #header + bytes, path)
    return path
  end

  it("leaves nothing when it is interrupted", function()
    if not shell.has "timeout" then pending "no timeout command" end
    local model, folder = slow_model(32768), models.temporary()
    for signal, status in pairs { INT = 130, TERM = 143, HUP = 129 } do
      local code, out, err = run(
        { "quantize", model, folder .. "/out", "--mse-search", "--format", "packed" },
        { prefix = ("timeout --preserve-status -s %s 0.7"):format(signal) })
      assert.equal(status, code, err)
      assert.equal("", out)
      assert.truthy(err:find "^rondo: interrupted\n$", err)
      assert.same({}, names(folder))
    end
  end)

  it("sweeps away what a killed run has left", function()
    if not shell.has "timeout" then pending "no timeout command" end
    local model, folder = slow_model(32768), models.temporary()
    run({ "quantize", model, folder .. "/out", "--mse-search", "--format", "packed" },
        { prefix = "timeout -s KILL 0.7" })
    shell.sh "sleep 1" -- timeout kills itself as well and does not wait for the other's end
    local left = names(folder)
    assert.equal(1, #left)
    assert.truthy(left[1]:find "^out%.partial%-", left[1])
    good { "quantize", small_model(), folder .. "/out" }
    assert.same({ "out" }, names(folder))
  end)

  it("draws its progress on a terminal only", function()
    if not shell.has "script" then pending "no script command" end
    local line = ("cd %s && timeout 20 %s quantize %s out --mse-search --format packed"):format(
      models.temporary(), command.program(), slow_model(4096))
    local text = shell.sh("script -qec %s /dev/null", shell.quote(line .. " >/dev/null"))
    assert.truthy(text:find "quantizing %[#+%] 100%%", text)
    assert.truthy(text:find("of 67.1 MB", 1, true), text)
  end)
end)

describe("rondo inspect", function()
  teardown(models.cleanup)

  it("lists tensors and what they are, layers in their order", function()
    local text = good { "inspect", models.folder {
      { "h.10.fc.weight", { 2, 2 } }, { "h.2.fc.weight", { 2, 3 }, dtype = "BF16" },
      { "h.2.fc.bias", { 2 } }, { "wte.weight", { 9, 2 } }, { "ln_f.weight", { 2 } },
      { "steps", {}, dtype = "I64" } } }
    assert.truthy(text:find "h%.2%.fc%.weight +2x3 +bf16 +linear +12\n.*h%.10%.fc%.weight +2x2 ")
    for name, kind in pairs { ["h.2.fc.bias"] = "bias", ["wte.weight"] = "embedding",
                              ["ln_f.weight"] = "norm" } do
      assert.truthy(text:find("\n" .. name:gsub("%p", "%%%0") .. " +%S+ +f32 +" .. kind), text)
    end
    assert.truthy(text:find "\nsteps +scalar +i64 +other +8\n")
    assert.truthy(text:find "6 tensors in 1 file, 33 values of f32 %+ bf16 %+ i64, 124 B\n")
  end)

  it("gives statistics on request, opaque types without", function()
    local model = models.folder { { "a.weight", { 2, 3 }, bytes = floats(1, -3, 2, 0 / 0, 0, 5) },
                                  { "s", { 3 }, dtype = "F8_E4M3" } }
    local path = model .. "/model.safetensors"
    models.write(path, (shell.read_file(path):gsub("F8_E4M3", "F8_E8M0")))
    local report = json.decode(good { "inspect", model, "--stats", "--json" })
    local a, s = report.tensors[1], report.tensors[2]
    assert.same({ 5, 1, 0, 1, 1, -3, 5, 5 },
                { a.stats.count, a.stats.nans, a.stats.infinities, a.stats.zeros, a.stats.mean,
                  a.stats.min, a.stats.max, a.stats.absmax })
    assert.near((34 / 5) ^ 0.5, a.stats.std, 1e-12)
    assert.same({ "s", "f8_e8m0" }, { s.name, s.dtype })
    assert.is_nil(s.stats)
    assert.truthy(good({ "inspect", model, "--stats" }):find "a%.weight .* 1 +2%.608 +5 +1\n")
    local code, _, err = run { "inspect", model, "--hist", "s" }
    assert.equal(1, code)
    assert.truthy(err:find "s: the type f8_e8m0 has no numbers")
  end)

  it("draws a histogram of one tensor, found by the end of its name", function()
    local model = models.folder { { "m.a.weight", { 1, 8 },
                                    bytes = floats(0, 0, 0, 1, 1, 3, 4, 0 / 0) } }
    local text = good { "inspect", model, "--hist", "a.weight", "--bins", "4" }
    assert.truthy(text:find "^m%.a%.weight  f32 1x8: 8 values, mean ")
    assert.truthy(text:find(("\n           0  %s  3\n"):format(("#"):rep(50)), 1, true), text)
    local bar = ("#"):rep(34) -- 2 of 3, rounded up
    local last = ("\n           3  %-50s  2\n           4\n"):format(bar)
    assert.truthy(text:find(last, 1, true), text)
    local report = json.decode(good { "inspect", model, "--hist", "a.weight", "--bins", "4",
                                      "--json" })
    assert.same({ 3, 2, 0, 2 }, table.move(report.histogram.counts, 1, 4, 1, {}))
    assert.same({ 0, 4 }, { report.histogram.low, report.histogram.high })
  end)

  it("shows the layers of a packed checkpoint", function()
    local out = models.temporary() .. "/out"
    good { "quantize", small_model(), out, "--format", "packed", "--scheme", "sym" }
    local text = good { "inspect", out, "--stats" }
    assert.truthy(text:find "quantized: rondo")
    assert.truthy(text:find "packed layer .*model%.layers%.1%.mlp%.up_proj +10x6 +f32 +linear "
                  .. "+int4 sym g32")
    assert.truthy(text:find "up_proj%.packed_weight +10x1 +i32 +codes")
    local histogram = good { "inspect", out, "--hist", "layers.1.mlp.up_proj" }
    assert.truthy(histogram:find "^model%.layers%.1%.mlp%.up_proj  f32 10x6: 60 values")
  end)

  it("lets no name steer the terminal", function()
    local model = models.folder { { "a\\u001b[31mb", { 1 } } }
    local code, out, err = run { "inspect", model }
    assert.is_nil((out .. err):find "\27")
    assert.truthy(code == 1 or out:find("a\\x1b[31mb", 1, true))
  end)
end)

describe("rondo run", function()
  teardown(models.cleanup)

  local function script(text)
    return models.write(models.temporary() .. "/s.lua", text)
  end

  it("gives the script its arguments, as lua does", function()
    local file = script [[
      print(arg[0], #arg, arg[1], arg[2], arg[3])
      print(select("#", ...), ...)
      print(arg[-1], arg[-2] ~= nil, arg[-3])
    ]]
    local out = good { "run", file, "-1", "--help", "a b" }
    assert.equal(("%s\t3\t-1\t--help\ta b\n3\t-1\t--help\ta b\nrun\ttrue\tnil\n"):format(file), out)
  end)

  it("has rondo and all of Lua at hand", function()
    local out = good({ "run", "-", "x" }, { input = [[
      local rondo = require "rondo"
      print(rondo.version, arg[0], ..., io.type(io.stdout), os.time() > 0, debug ~= nil)
    ]] })
    assert.equal(core.version .. "\t-\tx\tfile\ttrue\ttrue\n", out)
  end)

  it("shows errors with the script's own traceback and ends with 1", function()
    local file = script "local function f() error('boo') end\nf()\n"
    local code, out, err = run { "run", file }
    assert.same({ 1, "" }, { code, out })
    assert.equal(("rondo: %s:1: boo\nstack traceback:\n\t[C]: in function 'error'\n"
      .. "\t%s:1: in local 'f'\n\t%s:2: in main chunk\n\t[C]: in ?\n"):format(file, file, file),
      err)
  end)

  it("shows other error values", function()
    for text, message in pairs {
      ["error({})"] = "(error object is a table value)",
      ["error(setmetatable({}, { __tostring = function() return 'mine' end }))"] = "mine",
      ["return +"] = "unexpected symbol near '+'",
      ["error()"] = "nil",
    } do
      local code, _, err = run { "run", script(text) }
      assert.equal(1, code)
      assert.truthy(err:find "^rondo: " and err:find(message, 1, true), err)
    end
    fails({ "run", "/no/such/script.lua" }, "cannot open /no/such/script.lua")
  end)

  it("ends as the script says", function()
    for text, status in pairs { ["os.exit(7)"] = 7, ["os.exit(true)"] = 0, ["os.exit(false)"] = 1,
                                ["os.exit(3, true)"] = 3, ["return 9"] = 0 } do
      assert.equal(status, (run { "run", script("io.write 'x'; " .. text) }), text)
    end
    assert.equal("x", select(2, run { "run", script "io.write 'x' os.exit(7)" }))
  end)

  it("shows warnings", function()
    local code, out, err = run({ "run", "-" }, { input = [[
      warn("one ", "two") warn("@off") warn("three") warn("@on") warn("four\nlines")]] })
    assert.same({ 0, "" }, { code, out })
    assert.equal("rondo: warning: one two\nrondo: warning: four lines\n", err)
  end)
end)

-- ---- The real model ----

describe("the stories model", function()
  local source = models.shared "models/stories260K-hf"
  teardown(models.cleanup)

  local variants = { "bf16-sharded", "f32", "f16", "bf16" }
  local kinds = { asym = {}, sym = { "--scheme", "sym" }, nf4 = { "--dtype", "nf4" },
                  fp4 = { "--dtype", "fp4" } }

  -- Compares with the report: every layer of it exactly, and nothing else changed.
  local function check(input, out, what)
    local compare = require "rondo.compare"
    local report = assert(json.decode(shell.read_file(out .. "/rondo-report.json")))
    local result = assert(compare.run(input, out))
    local found = {}
    for _, layer in ipairs(result.layers) do found[layer.name] = layer end
    assert.equal(35, #report.layers, what)
    for _, layer in ipairs(report.layers) do
      local other = found[layer.name]
      assert.equal(layer.mse, other.mse, what .. layer.name)
      assert.equal(layer.relative_error, other.relative_error, what .. layer.name)
      assert.equal(layer.snr_db, other.snr_db, what .. layer.name)
      assert.is_true(layer.relative_error > 0 and layer.relative_error < 0.1, what .. layer.name)
    end
    assert.near(report.totals.relative_error, result.changed.relative_error, 1e-15)
    assert.equal(35, result.changed.layers)
    for _, tensor in ipairs(result.tensors) do assert.is_true(tensor.identical, tensor.name) end
    assert.equal(12, #result.tensors)
    assert.same({ 0, 0, 0 }, { #result.only_a, #result.only_b, #result.differing_shapes }, what)
    return report
  end

  for _, variant in ipairs(variants) do
    for _, form in ipairs { "fake", "packed" } do
      it(("gives the same errors to report and compare: %s, %s"):format(variant, form), function()
        if not source then pending "the shared models are absent" end
        local folder, input = models.temporary(), source .. "/" .. variant
        local plain = {}
        for _, search in ipairs { false, true } do
          for kind, words in pairs(kinds) do
            for _, group in ipairs { "-1", "32", "128" } do
              local what = ("%s %s %s %s "):format(kind, group, form, search)
              local out = folder .. "/" .. what:gsub(" ", "_")
              local arguments = { "quantize", input, out, "--format", form, "--group-size", group,
                                  table.unpack(words) }
              if search then arguments[#arguments + 1] = "--mse-search" end
              good(arguments)
              local error = check(input, out, what).totals.relative_error
              if search then assert.is_true(error <= plain[kind .. group] + 1e-7, what) end
              plain[kind .. group] = error
            end
          end
        end
      end)
    end
  end

  it("is compared by the command with the report's numbers", function()
    if not source then pending "the shared models are absent" end
    local input, out = source .. "/bf16-sharded", models.temporary() .. "/out"
    local report = json.decode(good { "quantize", input, out, "--json", "--group-size", "128" })
    local result = json.decode(good { "compare", input, out, "--json" })
    assert.equal(report.totals.relative_error, result.changed.relative_error)
    assert.equal(report.totals.mse, result.changed.mse)
    local text = good { "compare", input, out }
    assert.truthy(text:find(("35 layers: relative error %.4g, SNR %.2f dB"):format(
      report.totals.relative_error, report.totals.snr_db), 1, true), text)
    assert.truthy(text:find "12 of 12 other tensors are identical")
    -- The other way round, and packed against fake.
    local packed = models.temporary() .. "/packed"
    good { "quantize", input, packed, "--format", "packed", "--group-size", "128" }
    result = json.decode(good { "compare", out, packed, "--json" })
    assert.is_true(result.totals.relative_error < 1e-5) -- fake is packed, rounded to bf16
    assert.is_true(result.totals.relative_error > 0)
  end)

  it("is inspected in every variant", function()
    if not source then pending "the shared models are absent" end
    for _, variant in ipairs(variants) do
      local report = json.decode(good { "inspect", source .. "/" .. variant, "--stats", "--json" })
      assert.equal(47, report.totals.tensors)
      assert.equal(260032, report.totals.elements)
      assert.equal(0, report.tensors[1].stats.nans)
    end
  end)

  it("is quantized from a single file, too", function()
    if not source then pending "the shared models are absent" end
    local out = models.temporary() .. "/out"
    good { "quantize", source .. "/f32/model.safetensors", out }
    assert.same({ "model.safetensors", "rondo-report.json" }, names(out))
  end)
end)
