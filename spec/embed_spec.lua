-- rondo.h: hosts, what scripts may do in them, interruptions, the process behind the command, and
-- what is installed.
local lfs = require "lfs"
local rondo = require "rondo"
local shell = require "spec.support.shell"

local sh, quote, read_file, write_file = shell.sh, shell.quote, shell.read_file, shell.write_file
local root = lfs.currentdir()
local build = os.getenv "RONDO_BUILD" or "build"
if build:sub(1, 1) ~= "/" then build = root .. "/" .. build end

local folder -- for everything that is built and written here

-- Runs a command that must go well; its compilers are not under the sanitizers.
local function must(...)
  local text, status = sh("unset LD_PRELOAD\n" .. string.format(...))
  assert(status == 0, text)
  return text
end

local function compile(source, target, flags)
  must("cc -std=c11 -D_GNU_SOURCE -Wall -Wextra -Werror %s -o %s %s -pthread %s",
    root .. "/" .. source, target, flags, "-Wl,--allow-shlib-undefined")
end

local count = 0

-- Stores a script under a name of its own; returns the name.
local function script(source)
  count = count + 1
  local name = ("%s/script%d.lua"):format(folder, count)
  write_file(name, source)
  return name
end

-- Runs the host of spec/support/host.c; returns its output without the last newline, and status.
local function host(...)
  local text, status = sh("timeout 60 %s/host " .. select(1, ...), folder, select(2, ...))
  return text:gsub("\n$", ""), status
end

local function run(options, source, arguments)
  return (host("%s run %s -- %s", options, script(source), arguments or ""))
end

describe("a host", function()
  setup(function()
    folder = shell.temporary_folder()
    compile("spec/support/host.c", folder .. "/host", ("-I%s/include $(pkg-config --cflags " ..
      "lua5.4) -L%s -lrondo $(pkg-config --libs lua5.4) -Wl,-rpath,%s"):format(root, build, build))
  end)
  teardown(function() shell.remove(folder) end)

  it("knows its version", function()
    local version = read_file(root .. "/CMakeLists.txt"):match "project%(rondo VERSION ([%d.]+)"
    local a, b, c = version:match "^(%d+)%.(%d+)%.(%d+)$"
    assert.equal(("%s %d %s"):format(version, a * 10000 + b * 100 + c, version), (host "version"))
    assert.equal(version, require("rondo.core").version)
  end)

  it("opens rondo in a Lua state of one's own", function()
    assert.equal("own state: 0.1.0 2", (host "open"))
  end)

  describe("runs scripts", function()
    it("with arg and ... as under lua", function()
      local source = [[
        assert(arg[0]:match "script%d+%.lua$" and arg[-1] == nil and #arg == 3)
        assert(select("#", ...) == 3 and select(2, ...) == arg[2])
        warn(arg[1], "|", arg[2], "|", arg[3])]]
      for _, options in ipairs { "", "--trust" } do
        assert.equal("warning a b||c\nok: ", run(options, source, "'a b' '' c"))
      end
    end)

    it("one after the other, with the globals of the last", function()
      local first, second = script "n = (n or 0) + 1", script "warn(n)"
      for _, options in ipairs { "", "--trust" } do
        assert.equal("ok: \nok: \nwarning 2\nok: ",
          (host("%s run %s run %s run %s", options, first, first, second)))
      end
    end)

    it("and reports errors without raising them", function()
      local name = script "local t = nil\nreturn t.x"
      assert.equal(("usage: %s:2: attempt to index a nil value (local 't')"):format(name),
        (host("run %s", name)))
      assert.truthy(run("", "x ="):find "^usage: .*script%d+%.lua:1: unexpected symbol near <eof>$")
      assert.equal(("io: cannot open %s/none.lua"):format(folder),
        (host("run %s/none.lua", folder)):gsub(": No such.*", ""))
      assert.equal("usage: text", run("", "error('text', 0)"))
      assert.equal("usage: from a table", run("", [[
        error(setmetatable({}, { __tostring = function() return "from a table" end }))]]))
      assert.equal("usage: nil", run("", "error()"))
      assert.truthy(run("", [[
        error(setmetatable({}, { __tostring = function() error "again" end }))]]):find "^usage: ")
      assert.truthy(run("", "local function f() return f() + 1 end f()"):find "stack overflow")
      assert.truthy(run("", "error(('x'):rep(100000))"):find "^usage: .*xxx")
      assert.truthy(#run("", "error(('x'):rep(100000))") < 5000)
    end)

    it("and an error leaves the host usable", function()
      assert.equal("usage: stop\nwarning fine\nok: ",
        (host("run %s run %s", script "error('stop', 0)", script "warn 'fine'")))
    end)

    it("that end themselves", function()
      assert.equal("ok: ", run("--trust", "os.exit(true) error 'not reached'"))
      assert.equal("ok: ", run("--trust", "os.exit() error 'not reached'"))
      assert.equal("usage: the script ended with exit code 3", run("--trust", "os.exit(3)"))
      assert.equal("usage: the script ended with exit code 1", run("--trust", "os.exit(false)"))
      assert.equal("usage: the script ended with exit code 4",
        run("--trust", "coroutine.wrap(function() os.exit(4) end)()"))
    end)

    it("and prints nothing by itself", function()
      assert.equal("ok: ", run("", "warn('@on') require('rondo').zeros { 3 }"))
    end)
  end)

  describe("is set up", function()
    it("with a number of threads", function()
      local source = "warn(tostring(require('rondo').threads()))"
      for _, n in ipairs { 1, 3 } do
        assert.equal("warning " .. n .. "\nok: ", run("--threads " .. n, source))
      end
      local all = sh("nproc"):gsub("\n", "")
      assert.equal("warning " .. all .. "\nok: ", run("", source))
      for _, n in ipairs { -1, 1025 } do
        assert.equal("usage: the number of threads is 0 (all) to 1024", run("--threads " .. n, ""))
      end
    end)

    it("with a limit of memory, for tensors too", function()
      local limit = "--limit " .. 64 * 1000 * 1000
      assert.equal("memory: not enough memory", run(limit, "local s = ('x'):rep(1e9)"))
      assert.equal("memory: not enough memory", run(limit, [[
        local t = {}
        while true do t[#t + 1] = {} end]]))
      assert.equal("memory: not enough memory", run(limit, "require('rondo').zeros { 20000000 }"))
      assert.equal("memory: not enough memory\nwarning fine\nok: ", (host("%s run %s run %s", limit,
        script "x = require('rondo').zeros { 10000000 } y = x + x", script "warn 'fine'")))
      assert.equal("ok: ", run(limit, [[
        for _ = 1, 100 do require("rondo").zeros { 4000000 } end]]))
      assert.equal("memory: not enough memory", run(limit, [[
        local good, problem = pcall(require("rondo").zeros, { 20000000 })
        error(problem, 0)]]))
      assert.truthy(run("", "require('rondo').zeros { 1 << 20, 1 << 20 }"):find(
        "^memory: .*not enough memory for a tensor of shape 1048576x1048576"))
      assert.equal("memory: not enough memory", run("--limit 20000", "warn 'too late'"))
      assert.equal("memory: not enough memory", run("--limit 1", "warn 'too late'"))
    end)

    it("and limits are told as such wherever they are met", function()
      local source = [[
        local rondo = require "rondo"
        rondo.int4 { clip = function() %s end }:loss(rondo.randn { 8, 64 })]]
      for _, trust in ipairs { "", "--trust " } do
        assert.equal("memory: not enough memory", run(trust .. "--limit 64000000",
          source:format "rondo.zeros { 20000000 }"))
        assert.equal("limit: the script has reached its limit of 3000000 steps",
          run(trust .. "--steps 3000000", source:format "while true do end"))
      end
    end)

    it("or fails to be, wherever memory runs out", function()
      local name, failed, enough = script "require('rondo.rtn')", 0, 0
      for limit = 5000, 1205000, 15000 do
        local text, status = host("--limit %d run %s", limit, name)
        assert.equal(0, status)
        assert.truthy(text == "ok: " or text == "memory: not enough memory", text)
        if text == "ok: " then enough = enough + 1 else failed = failed + 1 end
      end
      assert.truthy(failed > 5 and enough > 5)
    end)

    it("by a host that was compiled for another version", function()
      assert.equal("ok: ", run("--size 0", ""))
      assert.equal("ok: ", run("--size 16", ""))
      assert.equal("usage: the config has a field that is not known",
        run("--size 16 --later 1", ""))
      assert.equal("ok: ", run("--size 4 --later 1", ""))
      -- an older version knew fewer fields: no callbacks then
      assert.equal("ok: ", run("--size -24", "warn 'unheard'"))
    end)
  end)

  describe("evaluates", function()
    it("expressions and chunks, whose value C gets", function()
      -- type, as a boolean, as an integer, as a number, length, text
      for code, value in pairs {
        ["6 * 7"] = "2 1 42 42 2 42", ["0.1"] = "3 1 0 0.10000000000000001 3 0.1",
        ["1e3"] = "3 1 1000 1000 6 1000.0", ["'a\\0b'"] = "4 1 0 0 3 a", ["'7'"] = "4 1 7 7 1 7",
        ["1 < 2"] = "1 1 0 0 4 true", ["false, 5"] = "1 0 0 0 5 false", ["nil"] = "0 0 0 0 3 nil",
        ["local x = 3 return x"] = "2 1 3 3 1 3", ["x = 1"] = "0 0 0 0 3 nil",
        [""] = "0 0 0 0 3 nil",
        ["math.mininteger"] = "2 1 -9223372036854775808 -9.2233720368547758e+18 20 "
          .. "-9223372036854775808",
        ["setmetatable({}, { __tostring = function() return 'mine' end })"] = "5 1 0 0 4 mine",
        ["require('rondo').zeros({ 2 }):sum()"] = "3 1 0 0 3 0.0",
      } do
        for _, options in ipairs { "", "--trust" } do
          assert.equal(value .. "\nok: ", (host("%s eval %s", options, quote(code))), code)
        end
      end
    end)

    it("with the globals of scripts", function()
      assert.equal("ok: \n2 1 5 5 1 5\nok: \n2 1 6 6 1 6\nok: ",
        (host("run %s eval n 'eval' 'n = n + 1 return n'", script "n = 5")))
    end)

    it("and reports errors", function()
      local nothing = "0 0 0 0 0 \n"
      assert.equal(nothing .. "usage: eval:1: wrong", (host("eval 'error \"wrong\"'")))
      assert.equal(nothing .. "usage: eval:1: unexpected symbol near '='", (host("eval '= 1'")))
      assert.equal(nothing .. "usage: eval:1: 'io' is not available to this script, which runs "
        .. "without trust", (host("eval 'io.write(1)'")))
      assert.truthy(host("eval '\27Lua'"):find "\nusage: .*attempt to load a binary chunk")
    end)
  end)

  describe("tells of an error", function()
    it("where in a script it arose", function()
      local name = script "local rondo = require 'rondo'\n\nrondo.zeros {-1}"
      assert.truthy(host("run %s error", name):find(
        ("\n1 usage|%s|3||%s:3: "):format(name, name), 1, true))
      name = script "\nx = = 1"
      assert.truthy(host("run %s error", name):find(("\n1 usage|%s|2||"):format(name), 1, true))
      name = script "return {\n bits = nothing.x }"
      assert.truthy(host("recipe m o %s error", name):find(("|%s|2||"):format(name), 1, true))
    end)

    it("which file and tensor it is about", function()
      local file = folder .. "/bad.safetensors"
      local header = '{"a.b":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}'
      write_file(file, ("<I8"):pack(#header) .. header .. "1234")
      local text = host("quantize %s %s/out error", file, folder)
      local code, shown, line, tensor = text:match "\n%d+ (%l+)|([^|]*)|(%d+)|([^|]*)|"
      assert.equal("format 0 a.b", ("%s %s %s"):format(code, line, tensor), text)
      assert.truthy(shown:find "bad.safetensors$", text)
      text = host("quantize %s/none %s/out error", folder, folder)
      assert.truthy(text:find("\n2 io|[^|]*none|0||"), text)
    end)

    it("that a function of a recipe has raised, though it is told in other words", function()
      local model = folder .. "/witnessed"
      assert(lfs.mkdir(model))
      assert(rondo.safetensors.save(model .. "/model.safetensors", {
        ["layers.0.mlp.up_proj.weight"] = rondo.randn { 8, 128 } }))
      write_file(model .. "/config.json", '{"model_type":"llama"}')
      local name = script [[
        local rondo = require "rondo"
        return rondo.recipe { { "*", rondo.int4 { clip = function()
          error "boom" end } }, otherwise = rondo.keep }]]
      local text = host("recipe %s %s/out %s error", model, folder, name)
      assert.truthy(text:find(("|%s|3|layers.0.mlp.up_proj.weight|"):format(name), 1, true), text)
      -- Called by a script, the place is still that of the error; one that is caught is forgotten.
      name = script(([[
        local rondo = require "rondo"
        local scheme = rondo.int4 { clip = function() error "boom" end }
        if arg[1] then pcall(scheme.loss, scheme, rondo.zeros { 1, 4 })
        error "later" end
        rondo.quantize(%q, "out", { recipe = rondo.recipe { { "*", scheme } } })]]):format(model))
      text = host("--trust run %s error", name)
      assert.truthy(text:find(("|%s|2|layers.0.mlp.up_proj.weight|"):format(name), 1, true), text)
      text = host("--trust run %s error -- x", name)
      assert.truthy(text:find(("|%s|4||"):format(name), 1, true), text)
    end)

    it("and of success", function()
      assert.equal("usage: stop\nok: \n0 ok||0||", (host("run %s run %s error",
        script "error('stop', 0)", script "")))
    end)
  end)

  describe("limits", function()
    it("the steps of a call", function()
      local text = host("--steps 100000 run %s error run %s", script "while true do end", script "")
      local words = "the script has reached its limit of 100000 steps"
      assert.equal(("limit: %s\n10 limit||0||%s\nok: "):format(words, words), text)
      assert.truthy(run("--trust --steps 100000", "while true do end"):find "^limit: ")
      assert.equal("ok: ", run("--steps 100000", "for _ = 1, 10000 do end"))
    end)

    it("each call anew", function()
      local half = script "for _ = 1, 60000 do end"
      assert.equal("ok: \nok: \nok: ",
        (host("--steps 100000 run %s run %s run %s", half, half, half)))
    end)

    it("the time of a call", function()
      local text = run("--time 50", "while true do end")
      assert.equal("limit: the script has reached its limit of 50 milliseconds", text)
      text = run("--trust --time 50", "while true do end")
      assert.equal("limit: the script has reached its limit of 50 milliseconds", text)
    end)

    it("the time of native work, in the midst of it", function()
      for _, options in ipairs { "", "--trust" } do -- it would take minutes on one thread
        local text = run(options .. " --threads 1 --time 2000", [[
          local rondo = require "rondo"
          local grid = rondo.clip.grid { over = "tensor", steps = 1000, divisions = 2000 }
          local scheme = rondo.int4 { group_size = "tensor", clip = grid, p = 1.5 }
          local weight = rondo.randn { 2048, 2048, seed = 1 }
          warn "begun"
          scheme:quantize(weight)
          warn "done"]])
        assert.equal("warning begun\nlimit: the script has reached its limit of 2000 milliseconds",
                     text)
      end
    end)

    it("what it needs not for its own state", function()
      assert.equal("ok: \nlimit: the script has reached its limit of 2000 steps",
        (host("--steps 2000 run %s run %s", script "", script "for _ = 1, 2000 do end")))
    end)

    it("quantization from one report of progress to the next", function()
      local setup_script = script [[
        rawset(require "rondo", "quantize", function(_, _, options)
          for i = 1, 50 do
            for _ = 1, 30000 do end
            options.progress(i, 50, "t")
          end
          if options.bits == 1 then while true do end end
          return {}
        end)]]
      local recipe = script "return { bits = 1 }"
      local text = host("--trust --steps 100000 run %s quantize m o recipe m o %s", setup_script,
        recipe)
      text = text:gsub("progress [^\n]*\n", ""):gsub("callback: [^\n]*\n", "")
      assert.equal("ok: \nok: \nlimit: the script has reached its limit of 100000 steps", text)
    end)
  end)

  describe("grants", function()
    local model, out

    setup(function()
      model, out = folder .. "/granted", folder .. "/outputs"
      assert(lfs.mkdir(model) and lfs.mkdir(out))
      assert(rondo.safetensors.save(model .. "/model.safetensors", {
        ["layers.0.mlp.up_proj.weight"] = rondo.randn { 8, 128 } }))
      write_file(model .. "/config.json", '{"model_type":"llama"}')
      assert(lfs.link(model, folder .. "/way", true))
    end)

    it("folders to scripts without trust", function()
      local text = run(("--inputs %s --outputs %s"):format(model, out), ([[
        local rondo, model, out = require "rondo", %q, %q
        assert(rondo.open(model))
        assert(rondo.open(model .. "/model.safetensors") and rondo.open(model .. "/../granted"))
        assert(rondo.quantize(model, out .. "/q", { format = "packed" }))
        assert(rondo.open(out .. "/q")) -- what it may write it may read
        assert(rondo.safetensors.save(out .. "/t.safetensors", { t = rondo.zeros { 1 } }))
        assert(rondo.compare(model, out .. "/q"))
        for _, path in ipairs { model .. "2", out .. "/..", "/", ".", model .. "/../way2" } do
          assert(not pcall(rondo.open, path), path)
        end
        assert(not pcall(rondo.quantize, model, model .. "/q"))]]):format(model, out))
      assert.equal("ok: ", text)
      assert.truthy(lfs.attributes(out .. "/q/config.json"))
    end)

    it("under any name that leads there", function()
      assert.equal("ok: ", run("--inputs " .. folder .. "/way", ([[
        assert(require("rondo").open(%q))]]):format(model)))
    end)

    it("nothing unless it is told to", function()
      local text = run("", ("require('rondo').open(%q)"):format(model))
      assert.truthy(text:find(("may not read %s: its host grants reading below no folder")
        :format(model), 1, true), text)
      assert.matches("^usage: [^\n:]*script%d+%.lua:1: this script may not read", text)
      text = host("eval %s", quote(("(require('rondo').open(%q))"):format(model)))
      assert.truthy(text:find("usage: eval:1: this script may not read", 1, true), text)
    end)

    it("itself what it quantizes, and only that", function()
      for i, source in ipairs { model, model .. "/model.safetensors", folder .. "/way" } do
        local text = host("quantize %s %s/by-host%d", source, folder, i)
        assert.truthy(text:find "ok: $", text)
      end
      local rules = script [[
        local rondo = require "rondo"
        return rondo.recipe { { function(l) return l.part end, rondo.int4 { group_size = 2 } },
          otherwise = rondo.keep,
          revise = function(scheme, l) return l:loss(scheme) > 1 and rondo.int8 end,
          policy = rondo.policy.budget { bits = 64, choices = { rondo.int4, rondo.nf4 } } }]]
      assert.matches("ok: $", (host("recipe %s %s/by-rules %s", model, folder, rules)))
      local recipe = script(("require('rondo').open(%q) return {}"):format(model))
      local text = host("recipe %s %s/by-recipe %s", model, folder, recipe)
      assert.truthy(text:find "^usage: .*may not read", text)
    end)
  end)

  describe("without trust", function()
    it("withholds what reaches the world", function()
      for _, source in ipairs {
        "io.open('/etc/passwd')", "print(1)", "os.execute('true')", "os.remove('x')",
        "os.rename('x', 'y')", "os.tmpname()", "os.exit()", "os.getenv('HOME')",
        "os.setlocale('C')",
        "dofile('/dev/null')", "loadfile('/dev/null')()", "require('io')", "require('lfs')",
        "require('rondo.core')", "require('rondo.cli')", "require('rondo.sandbox')",
        "require('rondo.cli.run')('/dev/null', {})", "require('package').loadlib('x', 'y')",
        "package.loadlib('libc.so.6', '*')", "package.loaded.io.write('x')", "debug.getregistry()",
        "require('debug')", "_G.io.write('x')", "_ENV.io.write('x')", "string.dump(function() end)",
        "(''):dump()", "(''):rep(1).dump(print)", "getmetatable('').__index.rep = nil",
        "getmetatable('').__index = {}", "getmetatable(_G).__index = nil", "setmetatable(_G, {})",
        "getmetatable(_ENV).__metatable = nil", "collectgarbage('stop')",
        "collectgarbage('setpause')",
        "setmetatable({}, { __gc = function() end })", "load('\27Lua')()",
        "load(function() return nil end, 'x', 'b')()()", "assert(load('return io'))().write('x')",
        "load('io.write(1)', 'x', 't')()", "load('return 1', 'x', 't', nil)().x = 1",
        "load('write(1)', 'x', 'bt', require('rondo'))()",
        "coroutine.wrap(function() return io.write('x') end)()",
        "getmetatable(require('rondo')).__index = 1", "setmetatable(require('rondo'), {})",
        "getmetatable(require('rondo').zeros { 1 }).__gc()", "rawget(_G, 'io').write(1)",
        "require('rondo').rtn.load()", "pcall(io.write, 'x') error()",
      } do
        assert.truthy(run("", source):find "^usage: ", source)
      end
    end)

    it("leaves what computing needs", function()
      assert.equal("ok: ", run("", [[
        local rondo = require "rondo"
        assert(_G == _ENV and _G._G == _G and io2 == nil)
        assert(load("return 6 * 7")() == 42 and load("x = 1; return x", "c", "t", {})() == 1)
        assert(load(function() return nil end)() == nil)
        assert(select(2, load("\27Lua")):find "binary")
        assert(("x"):rep(3) == "xxx" and string.format("%d", 3) == "3" and #table.pack(1, 2) == 2)
        assert(math.floor(2.5) == 2 and utf8.char(228) == "ä" and type(os.time()) == "number")
        assert(coroutine.wrap(function() coroutine.yield(5) end)() == 5)
        assert(setmetatable({}, { __index = { y = 2 } }).y == 2 and collectgarbage("count") > 0)
        assert((rondo.zeros { 2, 2 } + 1):sum() == 4)
        assert(require("rondo.rtn").quant_weight ~= nil and rondo.rtn == require "rondo.rtn")
        string.rep, math.floor = nil, nil -- its own copies
        assert(("x"):rep(2) == "xx")
        collectgarbage()]]))
      assert.equal("ok: ", run("", "assert(string.rep and math.floor)"))
    end)

    it("shows no metatable but the script's own", function()
      assert.equal("ok: ", run("", [[
        local rondo, json = require "rondo", require "rondo.json"
        local matcher = rondo.pattern.compile "a"
        for i, value in ipairs { "", json.decode "[]", json.array {}, json.object {}, matcher,
                                 json.array(json.object {}), rondo, _G, rondo.zeros { 1 },
                                 require("rondo.scheme").from { type = "int4",
                                                               group_size = 8 } } do
          assert(getmetatable(value) == "locked", i)
          assert(i == 1 or not pcall(setmetatable, value, {}))
        end
        assert(matcher.__index == nil and getmetatable({}) == nil and getmetatable(1) == nil)
        local own = { __index = function() return 7 end }
        assert(getmetatable(setmetatable({}, own)) == own and setmetatable({}, own).x == 7)
        assert(getmetatable(setmetatable({}, { __metatable = own })) == own)
        assert(json.is_array(json.decode "[]") and json.encode(json.array {}) == "[]")
        assert(not pcall(json.array, setmetatable({}, { __metatable = 1 })))]]))
    end)

    it("lets a script change its own copies of modules only", function()
      local first = script [[
        local rondo = require "rondo"
        rondo.quantize = function() return nil, "hijacked", "io" end
        rondo.open = nil
        assert(not pcall(rawset, rondo.int4, "bits", 3) and rondo.int4.bits == 4)
        rondo.rtn.quant_weight, rondo.json.encode = nil, nil
        table.insert(require("rondo.scheme").data_types, "mine")
        kept = rondo.pattern.compile "*"
        kept.test = nil
        assert(rondo.pattern.compile("*")("a") and rondo.json == require "rondo.json")
        assert(select(2, pcall(function() return rondo.nothing end)):find "no field 'nothing'")]]
      local recipe = script "return { dtype = 'mine' }"
      local text = host("run %s quantize %s/no-model o recipe %s/no-model o %s", first, folder,
        folder, recipe)
      local one, two = text:match "^ok: \n([^\n]*)\n([^\n]*)$"
      assert.truthy(one and one:find "^io: .*no%-model", text)
      assert.falsy(two:find "hijacked", text)
    end)

    it("keeps to the host's number of threads", function()
      assert.equal("warning 2\nok: ", run("--threads 2", [[
        local rondo = require "rondo"
        for _, n in ipairs { 0, 1, 64 } do assert(not pcall(rondo.threads, n)) end
        warn(tostring(rondo.threads()))]]))
    end)

    it("never runs bytecode", function()
      write_file(folder .. "/binary.lua", string.dump(load "return 1"))
      assert.truthy((host("run %s/binary.lua", folder)):find "^usage: .*attempt to load a binary")
      assert.equal("ok: ", (host("--trust run %s/binary.lua", folder)))
    end)

    it("does not look into the environment or the working folder for modules", function()
      local evil = folder .. "/evil"
      assert(lfs.mkdir(evil))
      for _, name in ipairs { "lfs", "argparse", "rondo" } do
        write_file(evil .. "/" .. name .. ".lua", "io.stderr:write 'evil' os.exit(9)")
      end
      local name = script "require('rondo').rtn.quant_weight = nil"
      local text = sh("cd %s && LUA_PATH='./?.lua' LUA_INIT='os.exit(8)' ../host run %s", evil,
        name)
      assert.equal("ok: \n", text)
      text = sh("cd %s && %s/rondo plan /nonexistent", evil, build)
      assert.falsy(text:find "evil", text)
      assert.truthy(text:find("/nonexistent", 1, true), text)
    end)
  end)

  it("has no threads left when its state has gone", function()
    write_file(folder .. "/states.c", [[
      #include <lauxlib.h>
      #include <lualib.h>
      #include <pthread.h>
      #include <rondo/rondo.h>
      #include <stdio.h>
      #include <unistd.h>
      int main(void) {
        for (int i = 0; i < 3; i++) {
          lua_State *L = luaL_newstate();
          luaL_openlibs(L);
          int bad = luaL_dostring(L, "last = setmetatable({}, { __gc = function() "
                                     "assert(t:sum() == 0) print 'summed' end })");
          luaL_requiref(L, "rondo", luaopen_rondo, 0);
          bad += luaL_dostring(L, "local r = require 'rondo' t = r.zeros { 1 << 18 } "
                                  "r.threads(3) t:sum() r.threads(2) t:sum()");
          if (bad) puts(lua_tostring(L, -1));
          lua_close(L);
        }
        int threads = 0; /* a joined thread may be counted for a moment still */
        for (int i = 0; i < 300 && threads != 1; i++) {
          char line[256];
          FILE *f = fopen("/proc/self/status", "r");
          while (fgets(line, sizeof line, f)) sscanf(line, "Threads: %d", &threads);
          fclose(f);
          usleep(10000);
        }
        printf("threads %d\n", threads);
        return 0;
      }]])
    must("cc -std=gnu11 -I%s/include $(pkg-config --cflags lua5.4) %s/states.c -o %s/states "
      .. "-L%s -lrondo $(pkg-config --libs lua5.4) -Wl,-rpath,%s -Wl,--allow-shlib-undefined",
      root, folder, folder, build, build)
    assert.equal("summed\nsummed\nsummed\nthreads 1\n", (sh("%s/states", folder)))
  end)

  it("has threads that leave signals to others, but for those they cause themselves", function()
    local source = [[
      local rondo = require "rondo"
      rondo.threads(2)
      rondo.zeros({ 1 << 18 }):sum()
      local masks = {}
      for task in require("lfs").dir "/proc/self/task" do
        local file = tonumber(task) and io.open("/proc/self/task/" .. task .. "/status")
        if file then masks[#masks + 1] = file:read("a"):match "SigBlk:%s*(%x+)" end
      end
      local own = 0
      for _, n in ipairs { 4, 5, 7, 8, 11, 31 } do own = own | 1 << (n - 1) end
      local blocked = 0
      for _, mask in ipairs(masks) do
        local bits = tonumber(mask, 16)
        assert(bits & own == 0, mask)
        if bits & 1 << 1 ~= 0 and bits & 1 << 14 ~= 0 then blocked = blocked + 1 end -- INT, TERM
      end
      warn(#masks .. " " .. blocked)]]
    local text = run("--trust", source)
    if os.getenv "LD_PRELOAD" then return end -- sanitizers have threads of their own
    assert.equal("warning 2 1\nok: ", text)
  end)

  it("has coroutines that do what Lua's own do", function()
    local source = [[
      local said = {}
      local function say(...)
        local values = table.pack(...)
        for i = 1, values.n do
          values[i] = tostring(values[i]):gsub("0x%x+", "0x")
        end
        said[#said + 1] = table.concat(values, " ")
      end
      local function closing(f)
        return setmetatable({}, { __close = f })
      end
      local co = coroutine.create(function(a, b) error("bad " .. coroutine.yield(a + b)) end)
      say(coroutine.resume(co, 1, 2))
      say(coroutine.resume(co, "x"))
      say(coroutine.resume(co))
      say(coroutine.status(co))
      say(coroutine.resume(coroutine.running()))
      say(select(2, pcall(coroutine.resume, 3)))
      say(select(2, pcall(coroutine.wrap, 3)))
      local wrapped = coroutine.wrap(function(...)
        local x <close> = closing(function(_, problem) say("closed", problem) end)
        coroutine.yield(select("#", ...), ...)
        error "end"
      end)
      say(wrapped(1, nil, 3))
      say(pcall(wrapped))
      say(pcall(wrapped))
      say(pcall(coroutine.wrap(function()
        local x <close> = closing(function() error("in close", 0) end)
        error {}
      end)))
      say(pcall(coroutine.wrap(function() error {} end)))
      local function count(n)
        return coroutine.wrap(function() for i = 1, n do coroutine.yield(i) end end)
      end
      for i in count(4) do for j in count(i) do say(i, j) end end
      co = coroutine.create(function() return coroutine.resume(co) end)
      say(coroutine.resume(co))
      say(select("#", coroutine.wrap(function() return table.unpack({}, 1, 1000) end)()))
      say(coroutine.resume(coroutine.create(function()
        return coroutine.wrap(function() return table.unpack({}, 1, 999990) end)()
      end)))
      say((select(2, pcall(function()
        local function deeper() return coroutine.wrap(deeper)() end
        deeper()
      end)):match "C stack overflow"))
      return table.concat(said, "\n")]]
    local expected = load(source, "=eval")()
    assert.equal(expected, (host("--trust eval %s", quote(source)):match "(true 3.*)\nok: $"))
  end)

  describe("is interrupted", function()
    local function interrupted(options, source)
      local name, started = script(source), os.time()
      local text = host("%s --interrupt 50 run %s run %s", options, name, script "warn 'fine'")
      assert.equal("interrupted: interrupted\nwarning fine\nok: ", text, source)
      assert.truthy(os.time() - started <= 10)
    end

    it("wherever a script loops", function()
      for _, options in ipairs { "", "--trust" } do
        interrupted(options, "while true do end")
        interrupted(options, "while true do pcall(error) end")
        interrupted(options, "while true do pcall(function() while true do end end) end")
        interrupted(options, "local function f() return pcall(f) end while true do f() end")
        interrupted(options, "while true do coroutine.wrap(function() end)() end")
        interrupted(options, "repeat local s = ('x'):rep(100) until s == ''")
      end
    end)

    it("also in coroutines", function()
      for _, options in ipairs { "", "--trust" } do
        interrupted(options, "coroutine.wrap(function() while true do end end)()")
        interrupted(options, [[
          local inner = coroutine.create(function() while true do pcall(error) end end)
          local outer = coroutine.create(function() coroutine.resume(inner) while true do end end)
          coroutine.resume(outer)
          while true do end]])
        interrupted(options, [[
          local function spin() while true do pcall(coroutine.wrap(spin)) end end
          while true do pcall(spin) end]])
        interrupted(options, [[
          local endless = setmetatable({}, { __close = function() while true do end end })
          coroutine.wrap(function() local x <close> = endless error "end" end)()]])
      end
    end)

    it("also in handlers of scripts without trust", function()
      interrupted("", [[
        while true do
          xpcall(function() while true do end end, function() while true do end end)
        end]])
      interrupted("", [[
        local endless = setmetatable({}, { __close = function() while true do end end })
        while true do pcall(function() local x <close> = endless end) end]])
    end)

    it("and unfinished outputs disappear", function()
      local out = folder .. "/interrupted"
      assert.equal("interrupted: interrupted", ((host("--trust --interrupt 100 run %s", script(([[
        local out = assert(require("rondo.core").output(%q))
        assert(out:write("file", "x"))
        while true do end]]):format(out))))))
      assert.equal("", (sh("ls -d %s*", out):gsub("ls: .*", "")))
    end)
  end)

  describe("quantizes", function()
    local fake = [[
      rawset(require "rondo", "quantize", function(model, out, options)
        if model == "missing" then return nil, "missing: no such model", "changed" end
        for i = 1, 3 do if options.progress then options.progress(i, 3, "t" .. i) end end
        warn(model, " ", out, " ", tostring(options.bits))
        return { report = true }
      end)]]

    it("with options from a recipe, and tells how far it is", function()
      local setup_script = script(fake)
      local recipe = script "local bits = 3\nreturn { bits = bits }"
      local busy = "callback: this host is busy with another call\n"
      local progress = ("progress 1 of 3 t1 here\n%sprogress 2 of 3 t2 here\n%s" ..
        "progress 3 of 3 t3 here\n%s"):format(busy, busy, busy)
      assert.equal("ok: \n" .. progress .. "warning m o nil\nok: ",
        (host("--trust run %s quantize m o", setup_script)))
      assert.equal("ok: \n" .. progress .. "warning m o 3\nok: ",
        (host("--trust run %s recipe m o %s", setup_script, recipe)))
      assert.equal("ok: \nchanged: missing: no such model",
        (host("--trust run %s quantize missing o", setup_script)))
      assert.equal("ok: \nprogress 1 of 3 t1 here\n" .. busy .. "interrupted: interrupted\nok: ",
        (host("--trust --stop-at 1 run %s quantize m o run %s", setup_script, script "")))
    end)

    it("only with recipes that are fit", function()
      assert.truthy((host("recipe m o %s/none.lua", folder)):find "^io: cannot open")
      assert.truthy((host("recipe m o %s", script "return 3"))
        :find "^usage: .*a recipe file returns rondo.recipe { ... } or .*not number")
      assert.truthy((host("recipe m o %s", script "io.write('x')")):find "^usage: .*'io'")
      assert.truthy((host("recipe m o %s", script "return { bit = 4 }")):find "^%l+: ")
    end)

    it("in the format that options say, with the recipe of a file beside them", function()
      local model = folder .. "/by-options"
      assert(lfs.mkdir(model))
      assert(rondo.safetensors.save(model .. "/model.safetensors", {
        ["layers.0.mlp.up_proj.weight"] = rondo.randn { 8, 128 } }))
      write_file(model .. "/config.json", '{"model_type":"llama"}')
      script [[
        local rondo = require "rondo"
        return rondo.recipe { { "*", rondo.int4 { group_size = 64 } }, otherwise = rondo.keep }]]
      local options = script(("return { format = 'compressed-tensors', recipe = 'script%d.lua' }")
        :format(count))
      local text = host("recipe %s %s/ct %s", model, folder, options)
      assert.matches("ok: $", text)
      local config = read_file(folder .. "/ct/config.json")
      assert.matches("pack%-quantized", config)
      assert.matches('"group_size":64', config)
      text = host("recipe %s %s/no %s", model, folder, script "return { recipe = '../r.lua' }")
      assert.matches("^usage: .*recipe is a recipe or the name of a file beside this one", text)
      text = host("recipe %s %s/no %s", model, folder, script "return { recipe = 'none.lua' }")
      assert.matches("^io: cannot open .*/none.lua", text)
      text = host("recipe %s %s/no %s", model, folder, script "return require 'beside'")
      assert.matches("module 'beside' is not available to this script, which runs without trust",
                     text)
    end)

    it("models that are there", function()
      local text = host("quantize %s/no-model %s/out", folder, folder)
      assert.truthy(text:find "^io: .*no%-model", text)
    end)
  end)

  it("does what docs/embedding.md shows", function()
    local program = read_file(root .. "/docs/embedding.md"):match "\n(    #include.-\n    }\n)"
    write_file(folder .. "/shown.c", (program:gsub("\n    ", "\n"):gsub("^    ", "")))
    must("cc -std=c11 -Wall -Wextra -Werror -I%s/include %s/shown.c -o %s/shown -L%s -lrondo "
      .. "-Wl,-rpath,%s -Wl,--allow-shlib-undefined", root, folder, folder, build, build)
    local function shown(code) return (sh("%s/shown %s", folder, quote(code))) end
    assert.equal("55.0\n", shown "require(\"rondo\").arange(1, 10):sum()")
    assert.equal("usage: eval:1: 'io' is not available to this script, which runs without trust\n",
      shown "io.open(\"x\")")
  end)

  it("lives beside others in other threads", function()
    local name = script [[
      local rondo = require "rondo"
      local t = rondo.arange(1, 1000)
      for _ = 1, 10 do t = t + 1 end
      assert(t:sum() == 510500)]]
    assert.equal(("ok\n"):rep(8):sub(1, -2), (host("--threads 2 --parallel 8 %s", name)))
  end)

  it("can be unloaded and loaded again", function()
    write_file(folder .. "/reload.c", [[
      #include <dlfcn.h>
      #include <rondo/rondo.h>
      #include <stdio.h>
      #include <string.h>
      static long resident(void) {
        long pages = 0, shared = 0;
        FILE *f = fopen("/proc/self/statm", "r");
        if (f == NULL || fscanf(f, "%ld %ld", &shared, &pages) != 2) return -1;
        fclose(f);
        return pages * 4;
      }
      int main(int argc, char **argv) {
        long before = 0;
        for (int i = 0; i < 300 && argc > 2; i++) {
          void *library = dlopen(argv[1], RTLD_NOW | RTLD_GLOBAL);
          if (library == NULL) return puts(dlerror());
          rondo *(*make)(const rondo_config *) = dlsym(library, "rondo_new");
          rondo_status (*run)(rondo *, const char *, int, const char *const *) =
              dlsym(library, "rondo_run");
          void (*end)(rondo *) = dlsym(library, "rondo_free");
          rondo *r = make(&(rondo_config){.threads = 3});
          if (run(r, argv[2], 0, NULL) != RONDO_OK) return puts("script failed");
          end(r);
          dlclose(library);
          if (i == 50) before = resident();
        }
        printf("%s\n", resident() - before <= 1024 ? "ok" : "grows");
        return 0;
      }]])
    must("cc -std=gnu11 -I%s/include %s/reload.c -o %s/reload -ldl", root, folder, folder)
    local text = sh("%s/reload %s/librondo.so %s", folder, build, script "require 'rondo'")
    if os.getenv "LD_PRELOAD" and text == "grows\n" then return end -- sanitizers keep freed memory
    assert.equal("ok\n", text)
  end)
end)

describe("the library", function()
  local function symbols(file, option)
    local list = {}
    for name in must("nm -D %s %s", option, file):gmatch "(%S+)\n" do list[#list + 1] = name end
    table.sort(list)
    return list
  end

  it("exports rondo's names only", function()
    local declared = { "luaopen_rondo", "luaopen_rondo_core" }
    for name in read_file "include/rondo/rondo.h":gmatch "RONDO_API [^;]-(rondo_[%w_]+)%(" do
      declared[#declared + 1] = name
    end
    table.sort(declared)
    assert.truthy(#declared >= 10)
    assert.same(declared, symbols(build .. "/librondo.so", "--defined-only"))
    assert.same({ "luaopen_rondo_core" }, symbols(build .. "/lua/rondo/core.so", "--defined-only"))
  end)

  -- Line editing is for the prompt of rondo_command, which has the terminal.
  it("leaves process, terminal and signals to its host", function()
    local forbidden, objects = {}, 0
    for name in ([[exit _exit quick_exit abort atexit printf vprintf puts putchar perror signal
                   sigaction sigprocmask setlocale fesetround chdir fchdir umask putenv setenv
                   unsetenv clearenv system popen fork vfork execve execvp posix_spawn raise kill
                   alarm setitimer setrlimit srand rand tcsetattr]]):gmatch "%S+" do
      forbidden[name] = true
    end
    local found = must("find %s/CMakeFiles -path '*_objects.dir/*' -o -path '*kernels_*'", build)
    for object in found:gmatch "(%S+%.o)\n" do
      objects = objects + 1
      for name in must("nm -u %s", object):gmatch "U ([^%s@]+)" do
        local editor = object:find "/bind/edit.c.o$"
        assert.falsy(forbidden[name] and not editor, object .. " needs " .. name)
      end
    end
    assert.truthy(objects > 50)
  end)
end)

describe("the command", function()
  before_each(function() folder = shell.temporary_folder() end)
  after_each(function() shell.remove(folder) end)

  it("works in any folder, without an environment", function()
    local preload = os.getenv "LD_PRELOAD"
    local text = sh("cd / && env -i %s %s/rondo --version",
      preload and "ASAN_OPTIONS=detect_leaks=0" or "", build)
    assert.truthy(text:find "^rondo 0%.1%.0 ", text)
  end)

  -- Runs a script that has begun an output and then does what follows; returns what it printed,
  -- its exit status at the end. env undoes what test runners do to signals.
  local function command(rest, redirection)
    local name = script(([[
      local out = assert(require("rondo.core").output(%q))
      assert(out:write("file", ("x"):rep(100000)))
      %s]]):format(folder .. "/out", rest))
    return (sh("env --default-signal=INT,TERM,HUP,PIPE timeout 30 %s/rondo run %s; echo status $?",
      build, name .. (redirection or "")))
  end

  local function assert_nothing_left()
    assert.equal("", (sh("ls -d %s/out*", folder):gsub("ls: .*", "")))
  end

  it("cleans up and dies of the signals that end it", function()
    for name, number in pairs { INT = 2, TERM = 15, HUP = 1 } do
      local text = command(("os.execute '(sleep 0.05; kill -%s $PPID) &'"):format(name) ..
        " while true do end")
      assert.truthy(text:find("status " .. 128 + number, 1, true), name .. ": " .. text)
      assert_nothing_left()
    end
  end)

  it("does not wait when it is asked twice", function()
    local text = command([[
      local co = coroutine.wrap(function() while true do end end)
      os.execute "(sleep 0.2; kill -TERM $PPID; sleep 3; kill -TERM $PPID) &"
      co()]])
    assert.truthy(text:find("status 143", 1, true), text)
  end)

  it("leaves ignored signals ignored", function()
    local name = script "os.execute 'kill -HUP $PPID' print 'alive'"
    assert.equal("alive\n", (sh("env --ignore-signal=HUP %s/rondo run %s", build, name)))
  end)

  it("cleans up when nobody reads what it prints", function()
    local text = command("while true do print(('x'):rep(1000)) end", " | head -c 10")
    assert.equal("xxxxxxxxxxstatus 0\n", text)
    assert_nothing_left()
  end)

  it("cleans up after os.exit and after errors", function()
    assert.truthy(command("os.exit(5)"):find "status 5")
    assert_nothing_left()
    assert.truthy(command("os.exit(false)"):find "status 1")
    assert.truthy(command("os.exit()"):find "status 0")
    assert.truthy(command("coroutine.wrap(function() os.exit(6) end)()"):find "status 6")
    assert.truthy(command("error 'stop'"):find "stop.*status 1\n")
    assert_nothing_left()
  end)

  it("meets a limit of file size as an error", function()
    local name = script(([[
      local out = assert(require("rondo.core").output(%q))
      print(select(2, out:write("file", ("x"):rep(100000))))]]):format(folder .. "/out"))
    local text = sh("ulimit -f 8; %s/rondo run %s", build, name)
    assert.truthy(text:find("out/file: File too large", 1, true), text)
    assert_nothing_left()
  end)

  it("takes no modules from the working folder for itself, but for scripts", function()
    for _, name in ipairs { "lfs", "argparse", "rondo" } do
      write_file(folder .. "/" .. name .. ".lua", "io.stderr:write 'evil' os.exit(9)")
    end
    write_file(folder .. "/mine.lua", "return 'mine'")
    local text = sh("cd %s && %s/rondo plan /nonexistent", folder, build)
    assert.falsy(text:find "evil", text)
    assert.truthy(text:find("/nonexistent", 1, true), text)
    assert.equal("mine\n", (sh("cd %s && %s/rondo run %s", folder, build, script [[
      require "rondo"
      print((require "mine"))]])))
  end)
end)

describe("what is installed", function()
  local prefix

  setup(function()
    folder = shell.temporary_folder()
    prefix = folder .. "/prefix"
    must("cmake --install %s --prefix %s", build, prefix)
  end)
  teardown(function() shell.remove(folder) end)

  local function lua(code)
    return (sh("cd / && env LUA_PATH='%s/share/lua/5.4/?.lua;%s/share/lua/5.4/?/init.lua;;' " ..
      "LUA_CPATH='%s/lib/lua/5.4/?.so;;' lua5.4 -e %s", prefix, prefix, prefix, quote(code)))
  end

  it("serves plain lua5.4", function()
    assert.equal("4\n", lua "print((require('rondo').zeros { 2, 2 } + 1):sum() // 1 | 0)")
    local found = lua "print(package.searchpath('rondo.core', package.cpath))"
    assert.truthy(found:find(prefix, 1, true))
  end)

  it("has the command, which needs no other file", function()
    must("mkdir %s/moved && cp %s/bin/rondo %s/moved/", folder, prefix, folder)
    assert.truthy(sh("cd / && %s/moved/rondo --version", folder):find "^rondo 0%.1%.0 ")
  end)

  local function check_example(binary)
    local text, status = sh("LD_LIBRARY_PATH=%s/lib:%s/lib/x86_64-linux-gnu %s nowhere %s/out",
      prefix, prefix, binary, folder)
    assert.equal(1, status, text)
    assert.truthy(text:find "io: [^\n]*nowhere", text)
  end

  it("builds a host with pkg-config", function()
    local found = must("find %s -name rondo.pc", prefix):match "^(.*)/rondo.pc\n$"
    must("PKG_CONFIG_PATH=%s cc -std=c11 -Wall -Werror %s/examples/hosts/progress.c -o %s/progress "
      .. "-Wl,--allow-shlib-undefined $(PKG_CONFIG_PATH=%s pkg-config --cflags --libs rondo)",
      found, root, folder, found)
    check_example(folder .. "/progress")
  end)

  it("builds a host with find_package", function()
    if not shell.has "c++" then return pending "needs c++" end
    must("cmake -S %s/examples/hosts -B %s/b -DCMAKE_PREFIX_PATH=%s " ..
      "-DCMAKE_EXE_LINKER_FLAGS=-Wl,--allow-shlib-undefined && cmake --build %s/b",
      root, folder, prefix, folder)
    check_example(folder .. "/b/progress")
  end)

  it("has headers that C++ takes", function()
    if not shell.has "c++" then return pending "needs c++" end
    write_file(folder .. "/host.cpp", [[
      #include <rondo/rondo.h>
      int main() { rondo_config c{}; return rondo_new(&c) == nullptr; }]])
    must("c++ -std=c++11 -Wall -Wextra -pedantic -Werror -fsyntax-only -I%s/include %s/host.cpp",
      prefix, folder)
  end)
end)
