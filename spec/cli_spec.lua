-- The command as users run it: what it says, where it says it, how it ends; and scripts.

local command = require "spec.support.command"
local core = require "rondo.core"
local lfs = require "lfs"
local models = require "spec.support.models"
local shell = require "spec.support.shell"

local run = command.run
local good = command.good
local fails = command.fails
local small_model = models.llama
local exists, names = shell.exists, shell.names

local function floats(...) return ("<" .. ("f"):rep(select("#", ...))):pack(...) end


describe("rondo", function()
  teardown(models.cleanup)

  it("tells its version, quickly and on stdout", function()
    assert.equal(("rondo %s (%s kernels, %s)\n"):format(core.version, core.isa(), _VERSION),
                 good { "--version" })
  end)

  it("explains itself and every command on stdout", function()
    local help = good { "--help" }
    assert.equal(help, good { "-h" })
    for _, name in ipairs { "quantize", "plan", "inspect", "compare", "verify", "run" } do
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
    { "unknown option '--bit'; did you mean", "--bit", "4" },
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
    { "'--dtype' must be one of int, nf4, fp4, fp4_e2m1, fp4_e2m1_bnb, e2m1, fp8, mxfp4, mxfp8, "
        .. "nvfp4, not 'int4'", "--dtype", "int4" },
    { "'--group-dim' must be an integer from 0 to 1, not '2'", "--group-dim", "2" },
    { "'--quantile' must be a number above 0 and at most 1, not '0'", "--quantile", "0" },
    { "'--quantile' must be", "--quantile", "1.01" },
    { "'--quantile' must be", "--quantile", "-0.5" },
    { "'--quantile' must be", "--quantile", "nan" },
    { "'--quantile' must be", "--quantile", "." },
    { "'--quantile' must be", "--quantile", "0x1p-1" },
    { "'--format' must be one of fake, packed, compressed-tensors, gptq, gptq-v2, awq",
      "--format", "gguf" },
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
    { "'--activations' needs --format compressed-tensors", "--format", "gptq", "--activations",
      "none" },
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
      ["no command given\nCommands: quantize, plan, inspect, compare, verify, repl, run."] = {},
      ["unknown command 'quantise'; did you mean 'quantize'?"] = { "quantise", "a", "b" },
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
