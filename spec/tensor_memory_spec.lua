-- What tensors cost: memory that Lua's collector sees, views of mapped files, and the same bits on
-- every instruction set and with any number of threads.

local core = require "rondo.core"
local values = require "spec.support.values"

local build = os.getenv("RONDO_BUILD") or "build"

-- Runs a Lua program in a process of its own and returns what it prints.
local function run(environment, program, ...)
  local command = string.format(
    "%s LUA_PATH='%s/lua/?.lua;%s/lua/?/init.lua' LUA_CPATH='%s/lua/?.so' lua5.4 %s %s 2>&1",
    environment, build, build, build, program, table.concat({ ... }, " "))
  local pipe = assert(io.popen(command))
  local text = pipe:read "a"
  assert.is_true(pipe:close(), text)
  return text
end

local sanitized = (os.getenv "LD_PRELOAD" or ""):find "asan" ~= nil

describe("memory", function()
  it("of 200 temporaries of 16 MB stays small without a call of the collector", function()
    if sanitized then return pending "the sanitizer keeps freed memory" end
    local peak = tonumber(run("", "spec/support/temporaries.lua"):match "(%d+) kB")
    assert.is_true(peak < 100 * 1024, peak .. " kB")
  end)

  it("is not taken by empty tensors and views", function()
    local before = collectgarbage "count"
    local t, views = core.zeros { 1024, 1024 }, {}
    for i = 1, 100 do views[i] = t[i] end
    views[101] = core.zeros { 0, 1 << 40 }
    assert.equal(101, #views)
    assert.is_true(collectgarbage "count" - before < 4096 + 200)
  end)
end)

describe("a mapped file", function()
  local dir = os.tmpname()
  local file = dir .. ".safetensors"

  -- A tensor of 2^33 bytes, of which a handful is on disk.
  local function write_sparse()
    local header = string.format(
      '{"big":{"dtype":"I8","shape":[65536,131072],"data_offsets":[0,%d]}}', 1 << 33)
    header = header .. (" "):rep(-#header % 8)
    local f = assert(io.open(file, "wb"))
    f:write(string.pack("<s8", header))
    f:write("\5\6\7")
    f:seek("set", 8 + #header + (1 << 33) - 1)
    f:write("\9")
    f:close()
  end

  setup(write_sparse)

  teardown(function()
    os.remove(file)
    os.remove(dir)
  end)

  it("is read in place, read-only, and printed from a sample", function()
    local cp = assert(core.checkpoint(file))
    local t = assert(cp:tensor "big")
    assert.same({ 65536, 131072 }, t.shape)
    values.check(t["1, 1:4"], "i8", { 5, 6, 7, 0 })
    assert.equal(9, t[-1][-1])
    local start = os.clock()
    assert.truthy(tostring(t):find "^i8 65536x131072   mean ~")
    assert.truthy(t:show():find "\n  5  6  7  %.%.%.")
    assert.is_true(os.clock() - start < 2)
    values.fails(function() t[1] = 0 end, "read-only", "t:clone()")
    values.fails(function() t["1, 1"] = 0 end, "read-only")
    values.fails(function() t[1]["1:2"] = 0 end, "read-only")
    values.fails(function() t:rows(1, 1):reshape({ -1 })[1] = 0 end, "read-only")
    local row = t["1, 1:3"]:clone()
    row[1] = 1
    values.check(row, "i8", { 1, 6, 7 })
  end)

  it("stays readable through its views when all else is gone", function()
    local view
    do
      local cp = assert(core.checkpoint(file))
      view = cp:tensor("big")["1, 1:3"]
      cp:close()
    end
    collectgarbage()
    collectgarbage()
    values.check(view + 1, "i8", { 6, 7, 8 })
  end)

  it("is not read after it has been unmapped", function()
    local text = run("", "spec/support/late_reader.lua", file)
    assert.truthy(text:find("false\t.*the file behind this tensor has been closed\nfalse\n"), text)
  end)
end)

describe("the same bits", function()
  local expected
  local largest = sanitized and 2049 or 140001 -- from 2^17 on, work is spread over threads

  local function digest(isa, threads)
    return run("RONDO_ISA=" .. isa, "spec/support/tensor_digest.lua", threads, largest)
  end

  setup(function() expected = digest("base", 1) end)

  it("are printed for many operations", function()
    local _, lines = expected:gsub("\n", "")
    assert.is_true(lines > 500, expected)
  end)

  it("come from the portable kernels with 3 threads", function()
    assert.equal(expected, digest("base", 3))
  end)

  local _, tables = core.isa()
  for i = 2, #tables do
    it("come from " .. tables[i], function()
      assert.equal(expected, digest(tables[i], 1))
      assert.equal(expected, digest(tables[i], 3))
    end)
  end
end)
