-- Scripts without trust that mean harm: each must fail to reach what it is after, or be stopped,
-- and leave a host that works. All attacks run in one process, each in a host of its own.
local lfs = require "lfs"
local rondo = require "rondo"
local shell = require "spec.support.shell"

local sh, read_file, write_file = shell.sh, shell.read_file, shell.write_file
local root = lfs.currentdir()
local build = os.getenv "RONDO_BUILD" or "build"
if build:sub(1, 1) ~= "/" then build = root .. "/" .. build end

-- Name, script, and how it must end: the code of the error and a pattern that its message matches;
-- "ok" for scripts that find out themselves that they got nowhere, "time" for those whose few steps
-- take long, which the limit of time ends.
local attacks = {
  -- What reaches the world.
  { "io", "io.open('/etc/passwd')", "usage", "'io' is not available" },
  { "print", "print 'x'", "usage", "'print' is not available" },
  { "os.execute", "os.execute 'true'", "usage", "nil value %(field 'execute'%)" },
  { "os.exit", "os.exit(0)", "usage", "field 'exit'" },
  { "os.remove", "os.remove '/tmp/none'", "usage", "field 'remove'" },
  { "os.getenv", "os.getenv 'HOME'", "usage", "field 'getenv'" },
  { "os.setlocale", "os.setlocale ''", "usage", "field 'setlocale'" },
  { "os.tmpname", "os.tmpname()", "usage", "field 'tmpname'" },
  { "dofile", "dofile '/etc/passwd'", "usage", "'dofile' is not available" },
  { "loadfile", "loadfile '/etc/passwd'", "usage", "'loadfile' is not available" },
  { "package.loadlib", "package.loadlib('libc.so.6', 'system')", "usage", "'package' is not" },
  { "package.loaded", "package.loaded.os.exit()", "usage", "'package' is not available" },
  { "require of a library", "require 'io'", "usage", "module 'io' is not available" },
  { "require of lfs", "require 'lfs'", "usage", "module 'lfs' is not available" },
  { "require of native code", "require 'rondo.core'", "usage", "module 'rondo.core' is not" },
  { "require of the sandbox", "require 'rondo.sandbox'", "usage", "is not available" },
  { "require of the command", "require 'rondo.cli'", "usage", "is not available" },
  { "require of a path", "require '../../etc/passwd'", "usage", "is not available" },
  { "require with a __tostring", [[
    local n = 0
    require(setmetatable({}, { __tostring = function() n = n + 1
      return n > 1 and 'io' or 'rondo' end }))]], "usage", "is not available" },
  { "globals of the real state", "rawget(_G, 'debug').getregistry()", "usage", "nil value" },
  { "_ENV", "local _ENV = setmetatable({}, { __index = _ENV }) io.write 'x'", "usage", "'io' is" },
  { "metatable of the globals", "getmetatable(_G).__index = nil", "usage", "." },
  { "another metatable for the globals", "setmetatable(_G, nil)", "usage", "protected metatable" },
  { "debug", "debug.sethook()", "usage", "'debug' is not available" },
  { "string.dump", "string.dump(function() end)", "usage", "field 'dump'" },
  { "dump as a method", "('').dump(function() end)", "usage", "field 'dump'" },
  { "bytecode", "assert(load('\27Lua'))", "usage", "binary chunk" },
  { "bytecode by pieces", [[
    local parts = { '\27', 'Lua', 'T' }
    assert(load(function() return table.remove(parts, 1) end, 'x', 'b'))]], "usage",
    "binary chunk" },
  { "load with another environment", "assert(load('return io', 'x', 't', {})() == nil)", "ok" },
  { "load of a global", "load 'return io.open' ()", "usage", "'io' is not available" },
  { "a finalizer", "setmetatable({}, { __gc = function() end })", "usage", "finalizers" },
  { "a finalizer put in later", [[
    local meta = {}
    setmetatable({}, meta)
    meta.__gc = function() warn 'ESCAPED' end
    for _ = 1, 10 do pcall(setmetatable, {}, meta) end
    collectgarbage()]], "ok" },
  { "a finalizer by __index", [[
    setmetatable({}, setmetatable({}, { __index = { __gc = function() warn 'ESCAPED' end } }))
    collectgarbage()]], "ok" },
  { "a finalizer through a coroutine", [[
    coroutine.wrap(function() setmetatable({}, { __gc = coroutine.wrap(function() end) }) end)()]],
    "usage", "finalizers" },
  { "the metatable of strings", "getmetatable('').__index = {}", "usage", "." },
  { "a metatable for strings", "setmetatable('', {})", "usage", "." },
  { "libraries of the host", [[
    string.format, table.concat, math.floor, coroutine.wrap, rawequal = nil, nil, nil, nil, nil
    assert(('x'):format() == 'x')
    require('rondo').rtn.quant_weight = nil]], "ok" },
  { "methods of tensors", "getmetatable(require('rondo').zeros { 1 }).__index = nil", "usage",
    "." },
  { "a tensor's memory", "require('rondo').zeros({ 4 })[5] = 1", "usage", "out of range" },
  { "a tensor's fields", "require('rondo').zeros({ 4 }).shape = { 1 << 40 }", "usage", "." },
  { "the step counter", [[
    for _, f in pairs { coroutine.create, collectgarbage, table.concat, load, warn } do
      assert(not pcall(f, nil, nil, nil, -1e300) or true)
    end
    while true do end]], "limit", "limit of 10000000 steps" },
  { "the number of threads", "require('rondo').threads(64)", "usage", "cannot set the number" },
  { "the collector", "collectgarbage 'stop'", "usage", "only 'collect' and 'count'" },
  { "a module's loader", "require('rondo').model.open('/etc/passwd')", "usage", "may not read" },

  -- Files that nobody has granted.
  { "a model elsewhere", "require('rondo').open '/etc'", "usage", "may not read /etc" },
  { "a climbing path", "require('rondo').open(INPUTS .. '/../secret')", "usage", "may not read" },
  { "a link that leads out", "require('rondo').open(INPUTS .. '/link')", "usage", "may not read" },
  { "a link that leads nowhere", [[
    require('rondo').safetensors.save(OUTPUTS .. '/dangling', {})]], "usage", "may not write" },
  { "a folder of a like name", "require('rondo').open(INPUTS .. '2')", "usage", "may not read" },
  { "a relative path", "require('rondo').open 'README.md'", "usage", "may not read" },
  { "an empty path", "require('rondo').open ''", "usage", "may not read" },
  { "a path with a NUL", "require('rondo').open(INPUTS .. '/\0/../../etc')", "usage", "NUL byte" },
  { "safetensors elsewhere", "require('rondo').safetensors.load '/etc/passwd'", "usage",
    "may not read" },
  { "saving elsewhere", "require('rondo').safetensors.save('/tmp/x', {})", "usage",
    "may not write /tmp/x" },
  { "saving into the inputs", "require('rondo').safetensors.save(INPUTS .. '/x', {})", "usage",
    "may not write" },
  { "quantizing to elsewhere", [[
    local rondo = require 'rondo'
    local model = rondo.open(INPUTS .. '/model.safetensors')
    rondo.quantize(model, '/tmp/out', { overwrite = true })]], "usage", "may not write /tmp/out" },
  { "quantizing a model elsewhere", "require('rondo').quantize('/etc', OUTPUTS .. '/x')", "usage",
    "may not read /etc" },
  { "planning with a model elsewhere", "require('rondo').plan '/etc'", "usage", "may not read" },
  { "comparing with a model elsewhere", "require('rondo').compare('/etc', '/etc')", "usage",
    "may not read /etc" },
  { "a configuration elsewhere", "require('rondo').model.config '/etc/passwd'", "usage",
    "may not read" },

  -- What does not end.
  { "a loop", "while true do end", "limit", "steps" },
  { "a numeric loop", "for _ = 1, math.huge do end", "limit", "steps" },
  { "goto", "::again:: goto again", "limit", "steps" },
  { "a tail call", "local function f() return f() end f()", "limit", "steps" },
  { "pcall in a loop", "while true do pcall(function() while true do end end) end", "limit", "." },
  { "pcall of pcall", [[
    local function spin() while true do end end
    while true do pcall(pcall, pcall, pcall, spin) end]], "limit", "." },
  { "nested pcalls", [[
    local function f() while true do pcall(f) end end
    f()]], "limit", "." },
  { "xpcall with a handler that loops", [[
    while true do
      xpcall(function() while true do end end, function() while true do end end)
    end]], "limit", "." },
  { "a handler that errs", [[
    local function handler() error(setmetatable({}, { __index = error })) end
    while true do xpcall(error, handler) end]], "limit", "." },
  { "a coroutine that loops", "coroutine.wrap(function() while true do end end)()", "limit", "." },
  { "coroutines in a loop", "while true do coroutine.wrap(function() end)() end", "limit", "." },
  { "a coroutine for every few steps", [[
    while true do
      pcall(coroutine.wrap(function() for _ = 1, 10 do end end))
    end]], "limit", "." },
  { "two coroutines that take turns", [[
    local co = coroutine.create(function() while true do coroutine.yield() end end)
    while true do coroutine.resume(co) end]], "limit", "." },
  { "coroutines in coroutines", [[
    local function f() while true do pcall(coroutine.wrap(f)) end end
    f()]], "limit", "." },
  { "__close", [[
    local endless = setmetatable({}, { __close = function() while true do end end })
    while true do pcall(function() local x <close> = endless end) end]], "limit", "." },
  { "many __close in a coroutine", [[
    local endless = setmetatable({}, { __close = function() while true do end end })
    local co = coroutine.create(function()
      local a <close>, b = endless
      local c <close>, d = endless
      coroutine.yield()
    end)
    coroutine.resume(co)
    coroutine.close(co)]], "limit", "." },
  { "__tostring of the error", [[
    error(setmetatable({}, { __tostring = function() while true do end end }))]], "limit", "." },
  { "__index that loops", [[
    return setmetatable({}, { __index = function(t, k) return t[k .. 'x'] end }).x]], "usage",
    "stack overflow" },
  { "recursion", "local function f() return 1 + f() end f()", "memory", "not enough memory" },
  { "recursion through C", [[
    local function f(s) return (s:gsub('.', f)) end
    f 'x']], "usage", "stack overflow" },
  { "recursion through metamethods", [[
    local t = setmetatable({}, {})
    getmetatable(t).__concat = function(a, b) return a .. b end
    return t .. t]], "usage", "stack overflow" },
  { "recursion through __tostring", [[
    local meta = {}
    meta.__tostring = function(self) return tostring(self) end
    tostring(setmetatable({}, meta))]], "usage", "stack overflow" },
  { "nested brackets", "assert(load('return ' .. ('('):rep(1000000) .. '1'))", "usage",
    "overflow" },
  { "a pattern that tries too much", "(('a'):rep(30)):find(('a*'):rep(30) .. 'b')", "limit", "." },
  { "a quadratic pattern", "(('a'):rep(1000000)):find('a*b')", "limit", "." },
  { "gsub that tries too much", "(('a'):rep(100)):gsub(('a-'):rep(20) .. 'b', '')", "limit", "." },
  { "gmatch that tries too much", [[
    for _ in (('a'):rep(100)):gmatch(('a?'):rep(90) .. ('a'):rep(90)) do end]], "limit", "." },
  { "unbalanced text", "(('('):rep(100000)):find('%b()')", "limit", "." },
  { "a pattern that nests", "(('x'):rep(1000)):find(('(x'):rep(1000))", "usage", "." },
  { "patterns in pcall", "while true do pcall(string.find, ('a'):rep(1e5), '.-b') end", "limit",
    "." },
  { "rondo's own patterns", [[
    local test = require('rondo').pattern.compile(('*a'):rep(300)).test
    while true do test(('a'):rep(100000)) end]], "limit", "." },
  { "nothing, repeated", "assert((''):rep(1 << 62) == '' and (''):rep(1e9, '') == '')", "ok" },
  { "moving nothing", "table.move({}, 1, 1 << 62, 2)", "limit", "." },
  { "moving nothing, as text", "table.move({}, '1', '4611686018427387904', 2)", "limit", "." },
  { "inserting into a __len", [[
    table.insert(setmetatable({}, { __len = function() return 1 << 62 end }), 1, 0)]], "limit",
    "." },
  { "removing from a __len", [[
    table.remove(setmetatable({}, { __len = function() return 1 << 62 end }), 1)]], "limit", "." },
  { "joining a __len", [[
    table.concat(setmetatable({}, { __len = function() return 1 << 62 end, __index = rawlen }))]],
    "limit", "." },
  { "unpacking a __len", [[
    table.unpack(setmetatable({}, { __len = function() return 1 << 62 end }))]], "limit", "." },
  { "sorting with a bad order", [[
    local t = {}
    for i = 1, 1000 do t[i] = i % 7 end
    while true do pcall(table.sort, t, function() return true end) end]], "limit", "." },
  { "sorting a lot", [[
    local t = {}
    for i = 1, 100000 do t[i] = i end
    while true do table.sort(t) end]], "limit", "." },
  { "long strings that are equal", [[
    local a, b = ('x'):rep(1000):rep(10000), ('x'):rep(1000):rep(10000)
    while a == b do end]], "time", "." },
  { "an empty table of many places", [[
    local t = {}
    for i = 1, 500000 do t[i .. ''] = 1 end
    for k in pairs(t) do t[k] = nil end
    while next(t) == nil do end]], "time", "." },
  { "collecting in a loop", [[
    local t = {}
    for i = 1, 100000 do t[i] = {} end
    while true do collectgarbage() end]], "limit", "." },
  { "loading comments", [[
    local text = '--' .. ('x'):rep(10000000)
    while true do load(text) end]], "limit", "." },
  { "warning in a loop", [[
    while true do warn('@on') end]], "limit", "." },
  { "a reader without end", "load(function() return ' ' end)", "limit", "." },
  { "a reader that collects", "load(collectgarbage)", "limit", "." },
  { "copies of many arguments", [[
    local function f(...) while true do g = select('#', ...) end end
    f(table.unpack({}, 1, 200000))]], "time", "." },

  -- What is too large.
  { "a long string", "('x'):rep(1000):rep(1000000)", "memory", "not enough memory" },
  { "a string of many pieces", "('x'):rep(1e9)", "limit", "." },
  { "a doubling string", "local s = 'x' while true do s = s .. s end", "memory", "." },
  { "a growing table", "local t = {} while true do t[#t + 1] = {} end", "memory", "." },
  { "a growing string", "local s = 'x' while true do s = s .. 'x' end", "limit", "." },
  { "memory in pcall", "while true do pcall(string.rep, 'x', 5e7) end", "limit", "." },
  { "memory that stays full", [[
    local t = {}
    pcall(function() while true do t[#t + 1] = ('x'):rep(1000000) .. #t end end)
    while true do pcall(string.rep, 'x', 1000000) end]], "limit", "." },
  { "a buffer", [[
    local t = {}
    for i = 1, 1000 do t[i] = ('x'):rep(100):rep(1000) end]], "memory", "." },
  { "many arguments", "table.unpack({}, 1, 2000000)", "usage", "too many results" },
  { "many coroutines", [[
    local t = {}
    while true do t[#t + 1] = coroutine.create(function() end) end]], "limit", "." },
  { "a wide format", "string.format('%99999d', 1)", "usage", "invalid" },
  { "a huge tensor", "require('rondo').zeros { 1 << 20, 1 << 20 }", "memory", "not enough memory" },
  { "a large tensor", "require('rondo').zeros { 20000000 }", "memory", "." },
  { "a tensor beyond 2^63", "require('rondo').zeros { 1 << 40, 1 << 40 }", "usage", "too large" },
  { "tensors in a loop", [[
    local kept = {}
    while true do kept[#kept + 1] = require('rondo').zeros { 1000000 } end]], "memory", "." },
  { "sums in a loop", [[
    local t = require('rondo').zeros { 5000000 }
    while true do t:sum() end]], "limit", "." },
  { "equal tensors in a loop", [[
    local a, b = require('rondo').zeros { 5000000 }, require('rondo').zeros { 5000000 }
    while true do pcall(function() return a == b end) end]], "limit", "." },
  { "summaries in a loop", [[
    local t = require('rondo').zeros { 5000000 }
    while true do pcall(t.count_nonfinite, t) end]], "limit", "." },
  { "searches in a loop", [[
    local rondo = require 'rondo'
    local w = rondo.randn { 1000, 1000 }
    while true do pcall(rondo.rtn.search_clip, w, {}) end]], "time", "." },
  { "many open models", [[
    local t = {}
    for i = 1, 1000 do t[i] = require('rondo').open(INPUTS .. '/model.safetensors') end]], "usage",
    "too many models" },
  { "many models, one after the other", [[
    for _ = 1, 1000 do assert(require('rondo').open(INPUTS .. '/model.safetensors')) end]], "ok" },
  { "models with long headers", [[
    local t = {}
    for i = 1, 60 do t[i] = require('rondo').open(INPUTS .. '/long.safetensors') end]], "memory",
    "not enough memory for another model" },
  { "deep JSON", "require('rondo').json.decode(('['):rep(1000000))", "ok" },
}

local folder

local function compile(source, target)
  local text, status = sh("unset LD_PRELOAD\ncc -std=c11 -D_GNU_SOURCE -Wall -Wextra -Werror " ..
    "-I%s/include %s/%s -o %s -L%s -lrondo -Wl,-rpath,%s -Wl,--allow-shlib-undefined", root, root,
    source, target, build, build)
  assert(status == 0, text)
end

-- A granted folder of models, one for outputs, and beside them what nobody has granted.
local function make_folders()
  for _, name in ipairs { "inputs", "inputs2", "outputs", "secret" } do
    assert(lfs.mkdir(folder .. "/" .. name))
  end
  local tensors = { ["layers.0.mlp.up_proj.weight"] = rondo.randn { 8, 128 } }
  for _, name in ipairs { "inputs/model", "inputs2/model", "secret/model" } do
    assert(rondo.safetensors.save(folder .. "/" .. name .. ".safetensors", tensors))
  end
  assert(rondo.safetensors.save(folder .. "/inputs/long.safetensors", tensors,
    { note = ("x"):rep(5000000) }))
  assert(lfs.link("../secret/model.safetensors", folder .. "/inputs/link", true))
  assert(lfs.link("../secret/none", folder .. "/outputs/dangling", true))
end

-- Runs attacks in the survivor with a limit of time; returns what went otherwise than it must.
local function survive(list, milliseconds)
  local names, wrong = {}, {}
  local words = ("local INPUTS, OUTPUTS = '%s/inputs', '%s/outputs' "):format(folder, folder)
  for i, attack in ipairs(list) do
    names[i] = ("%s/%d.lua"):format(folder, i)
    write_file(names[i], words .. attack[2])
  end
  local text, status = sh("timeout 600 %s/survivor %d %s/inputs %s/outputs %s", folder,
    milliseconds, folder, folder, table.concat(names, " "))
  assert.equal(0, status, text)
  local i = 0
  for line in text:gmatch "[^\n]+" do
    i = i + 1
    local attack = assert(list[i], line)
    local code, message = line:match "^(%l+) alive ?(.*)$"
    local wanted = attack[3] == "time" and "limit" or attack[3]
    local good = code == wanted and (attack[4] == nil or message:find(attack[4]))
    if not good then wrong[#wrong + 1] = attack[1] .. ": " .. line end
  end
  assert.equal(#list, i)
  return wrong
end

describe("a script without trust", function()
  setup(function()
    folder = shell.temporary_folder()
    compile("spec/support/survivor.c", folder .. "/survivor")
    make_folders()
  end)
  teardown(function() shell.remove(folder) end)

  it("fails with every attack, and its host goes on", function()
    local quick, slow = {}, {}
    for _, attack in ipairs(attacks) do
      table.insert(attack[3] == "time" and slow or quick, attack)
    end
    assert.truthy(#quick + #slow >= 120)
    assert.same({}, survive(quick, 60000))
    assert.same({}, survive(slow, 1000))
  end)

  -- The same digest of many matches by Lua's own functions, and by those that count steps.
  it("has the patterns of Lua", function()
    local digest = read_file "spec/support/pattern_digest.lua"
    local expected = {}
    assert(load(digest, "=digest", "t", setmetatable({
      warn = function(text) expected[#expected + 1] = text end }, { __index = _G })))()
    assert.truthy(#expected >= 20)
    write_file(folder .. "/digest.lua", digest)
    local text = sh("%s/survivor 60000 none none %s/digest.lua", folder, folder)
    local found = {}
    for line in text:gmatch "warning ([^\n]*)\n" do found[#found + 1] = line end
    assert.same(expected, found)
    assert.truthy(text:find "\nok alive ")
  end)
end)
