-- Checkpoints of many tensors or files: time, memory and descriptors stay within bounds.
local core = require "rondo.core"
local lfs = require "lfs"
local raw = require "spec.support.raw"
local shell = require "spec.support.shell"

local folder
local sanitized = (os.getenv "LD_PRELOAD" or ""):find "san" ~= nil

before_each(function() folder = shell.temporary_folder() end)
after_each(function() shell.remove(folder) end)

local function put(name, bytes) shell.write_file(folder .. "/" .. name, bytes) end

local one, index = raw.one, raw.index

local INDEX = "model.safetensors.index.json"

describe("large checkpoints", function()
  it("of 200 shards need few descriptors", function()
    local map = {}
    for i = 1, 200 do
      local name = ("s%03d.safetensors"):format(i)
      put(name, one("t" .. i, string.char(i)))
      map[i] = { "t" .. i, name }
    end
    put(INDEX, index(map))
    local script = shell.lua_script [[
      for _, mode in ipairs { "map", "read" } do
        local cp = assert(require("rondo.core").checkpoint(arg[1], mode))
        local tensors = {}
        for i = 1, 200 do tensors[i] = assert(cp:tensor("t" .. i)) end
        for i = 200, 1, -1 do
          assert(tensors[i]:bytes() == string.char(i, i))
          assert(cp:read("t" .. i, 1, 1, 2, 1):bytes() == string.char(i))
        end
        assert(cp:check())
      end
      io.write "fine"
    ]]
    assert.equal("fine", (shell.sh("ulimit -n 16; %s %s", script, folder)))
  end)

  it("give all descriptors back", function()
    put("s1.safetensors", one("a", "1"))
    put("s2.safetensors", one("b", "2"))
    put("broken.safetensors", "x")
    put(INDEX, index { { "a", "s1.safetensors" }, { "b", "s2.safetensors" } })
    local function descriptors()
      local count = 0
      for _ in lfs.dir "/proc/self/fd" do count = count + 1 end
      return count
    end
    collectgarbage()
    collectgarbage()
    local before = descriptors()
    for _ = 1, 500 do
      local checkpoint = assert(core.checkpoint(folder))
      assert(checkpoint:tensor "a")
      assert(checkpoint:read("b", 1, 1, 1, 1))
      checkpoint:close()
      assert(not core.checkpoint(folder .. "/broken.safetensors"))
    end
    assert.equal(before, descriptors())
  end)

  -- 100,000 names as real models have them, in the order of their data.
  local function many()
    local entries = {}
    for i = 0, 99999 do
      entries[i + 1] = ('"model.layers.%d.mlp.experts.%d.down_proj.weight":%s'):format(
        i // 1000, i % 1000, raw.entry("BF16", { 1, 1 }, 2 * i, 2 * i + 2))
    end
    return entries
  end

  local measure = [[
    local core = require "rondo.core"
    local function peak()
      return tonumber(io.open("/proc/self/status"):read("a"):match "VmHWM:%s*(%d+)")
    end
    local before, start = peak(), os.clock()
    local cp = assert(core.checkpoint(arg[1]))
    local seconds = os.clock() - start
    print(#cp, seconds, (peak() - before) * 1024)
  ]]

  local function measured(name)
    local count, seconds, bytes =
      shell.sh("%s %s/%s", shell.lua_script(measure), folder, name):match "(%S+)%s+(%S+)%s+(%S+)"
    return tonumber(count), tonumber(seconds), tonumber(bytes)
  end

  it("of 100,000 tensors open quickly, in memory of three headers", function()
    local header = "{" .. table.concat(many(), ",") .. "}"
    put("m.safetensors", raw.file(header, ("ab"):rep(100000)))
    local count, seconds, bytes = measured "m.safetensors"
    assert.equal(100000, count)
    assert.is_true(seconds < 1, seconds) -- 0.1 on an idle machine
    if not sanitized then assert.is_true(bytes <= 3 * #header, bytes / #header) end
  end)

  it("of a million tiny entries of metadata open in memory of three headers", function()
    local entries = {}
    for i = 0, 999999 do entries[i + 1] = ('"%05x":""'):format(i) end
    local header = '{"__metadata__":{' .. table.concat(entries, ",") .. "}}"
    put("m.safetensors", raw.file(header))
    local count, _, bytes = measured "m.safetensors"
    assert.equal(0, count)
    if not sanitized then assert.is_true(bytes <= 3 * #header, bytes / #header) end
    local metadata = assert(core.checkpoint(folder .. "/m.safetensors")):metadata()
    assert.equal("", metadata["00000"])
    assert.equal("", metadata["f423f"])
    assert.is_nil(metadata["f4240"])
  end)

  it("with an index of 100,000 names open quickly", function()
    local entries, map, shards = many(), {}, 10
    for s = 1, shards do
      local part, from = {}, (s - 1) * #entries // shards
      for i = from + 1, s * #entries // shards do
        part[#part + 1] = entries[i]:gsub("%[%d+,%d+%]}$", ("[%d,%d]}"):format(
          2 * (i - from - 1), 2 * (i - from)))
        map[i] = { entries[i]:match '"([^"]+)', ("s%02d.safetensors"):format(s) }
      end
      local header = "{" .. table.concat(part, ",") .. "}"
      put(("s%02d.safetensors"):format(s), raw.file(header, ("ab"):rep(#part)))
    end
    put(INDEX, index(map))
    local count, seconds = measured(INDEX)
    assert.equal(100000, count)
    assert.is_true(seconds < 1.5, seconds)
    local checkpoint = assert(core.checkpoint(folder))
    for _ = 1, 1000 do
      local pair = map[math.random(#map)]
      assert.is_true(checkpoint:has(pair[1]))
      assert.matches(pair[2], checkpoint:files()[select(4, checkpoint:info(pair[1]))].path, 1, true)
    end
  end)
end)
