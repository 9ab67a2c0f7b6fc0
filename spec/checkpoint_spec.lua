-- Checkpoints over one or many files: finding tensors, reading parts of them, noticing change, and
-- the life of files, mappings and views. Files are made byte by byte; expected bytes are cut from
-- what was written.
local core = require "rondo.core"
local lfs = require "lfs"
local raw = require "spec.support.raw"
local shell = require "spec.support.shell"

local folder

before_each(function() folder = shell.temporary_folder() end)
after_each(function() shell.remove(folder) end)

local function put(name, bytes)
  shell.write_file(folder .. "/" .. name, bytes)
  return folder .. "/" .. name
end

local function open(name, mode)
  local checkpoint, message = core.checkpoint(name and folder .. "/" .. name or folder, mode)
  assert(checkpoint, message)
  return checkpoint
end

local function refuses(name, code, words)
  local checkpoint, message, got = core.checkpoint(name and folder .. "/" .. name or folder)
  assert.is_nil(checkpoint)
  assert.equal(code, got)
  assert.matches(words, message, 1, true)
end

local one, index = raw.one, raw.index

local INDEX = "model.safetensors.index.json"

-- Three tensors in two shards, the second file holding what the map lists first.
local function put_shards()
  put("s2.safetensors",
    raw.pack({ { "z", "U8", { 3 }, "abc" }, { "a.w", "U8", { 2 }, "de" } }, '{"n":"2"}'))
  put("s1.safetensors", raw.pack({ { "m.w", "F32", { 2, 2 }, raw.bytes(16) } }, '{"n":"1"}'))
  return put(INDEX, index { { "z", "s2.safetensors" }, { "m.w", "s1.safetensors" },
                            { "a.w", "s2.safetensors" } })
end

describe("opening", function()
  it("takes the index, model.safetensors, or the only file of a folder", function()
    refuses(nil, "io", "no safetensors file")
    put(".hidden.safetensors", "")
    put("b.safetensors", one("b", "1"))
    assert.same({ "b" }, open():names())
    assert.same({ "b" }, core.checkpoint(folder .. "/"):names())
    put("a.safetensors", one("a", "1"))
    refuses(nil, "usage", '"a.safetensors", "b.safetensors"')
    put("model.safetensors", one("single", "1"))
    assert.same({ "single" }, open():names())
    put(INDEX, index { { "a", "a.safetensors" }, { "b", "b.safetensors" } })
    assert.same({ "a", "b" }, open():names())
    assert.same({ "a", "b" }, open(INDEX):names())
    assert.same({ "single" }, open("model.safetensors"):names())
    os.remove(folder .. "/" .. INDEX)
    lfs.link("nowhere", folder .. "/" .. INDEX, true)
    refuses(nil, "io", INDEX)
  end)

  it("takes relative paths", function()
    put("f.safetensors", one("x", "1"))
    local before = lfs.currentdir()
    finally(function() lfs.chdir(before) end)
    lfs.chdir(folder)
    local checkpoint = core.checkpoint "f.safetensors"
    assert.equal("f.safetensors", checkpoint:files()[1].path)
    assert.same({ "x" }, core.checkpoint("."):names())
    assert.is_nil((core.checkpoint ""))
    lfs.chdir(before) -- the folder stays the one it was
    assert.equal("11", checkpoint:tensor("x"):bytes())
    assert.is_true(checkpoint:check())
  end)

  it("follows links, as the Hugging Face cache has them", function()
    shell.sh("mkdir -p %s/blobs %s/snapshots/1", folder, folder)
    put("blobs/0a", one("x", "1"))
    put("blobs/0b", index { { "x", "model-1.safetensors" } })
    lfs.link("../../blobs/0a", folder .. "/snapshots/1/model-1.safetensors", true)
    lfs.link("../../blobs/0b", folder .. "/snapshots/1/" .. INDEX, true)
    local checkpoint = open "snapshots/1"
    assert.equal("11", checkpoint:tensor("x"):bytes())
    assert.is_true(checkpoint:check())
  end)

  it("holds the index against the shards", function()
    put("s1.safetensors", one("a", "1"))
    put("s2.safetensors", one("b", "2"))
    local cases = {
      { { { "a", "s1.safetensors" }, { "c", "s2.safetensors" } }, "lacks it" },
      { { { "a", "s2.safetensors" }, { "b", "s2.safetensors" } }, "lacks it" },
      { { { "a", "s2.safetensors" }, { "b", "s1.safetensors" } }, 'but it is in "s' },
      { { { "a", "none.safetensors" } }, "none.safetensors" },
      { { { "a", "../s1.safetensors" } }, "plain name" },
      { { { "a", "" } }, "empty" },
      { {}, "empty" },
    }
    for _, case in ipairs(cases) do
      put(INDEX, index(case[1]))
      local checkpoint, message = core.checkpoint(folder)
      assert.is_nil(checkpoint)
      assert.matches(case[2], message, 1, true)
      assert.matches(INDEX, message, 1, true)
    end
    put("s2.safetensors", one("a", "2"))
    put(INDEX, index { { "a", "s1.safetensors" }, { "b", "s2.safetensors" } })
    refuses(nil, "format", 'tensor "a" is in "s1.safetensors", but it is in "s2.safetensors"')
  end)

  it("warns of a wrong total_size and of tensors that are not listed", function()
    put("s.safetensors", raw.pack { { "a", "U8", { 1 }, "1" }, { "b", "U8", { 1 }, "2" } })
    local script = shell.lua_script [[ print(#assert(require("rondo.core").checkpoint(arg[1]))) ]]
    local function output(metadata)
      put(INDEX, ('{"metadata":%s,"weight_map":{"a":"s.safetensors"}}'):format(metadata))
      return shell.sh(script:gsub("lua5.4", "lua5.4 -W") .. " " .. folder)
    end
    for _, right in ipairs {
      '{"total_size":1}', '{"total_size":2.5}', '{"total_size":"x"}', '{"total_size":[[{}]]}',
      "[1]",
      '[{"total_size":2}]', '{"x":{"total_size":2},"y":[[]]}', "null", "2", "{}", "[]",
    } do
      assert.matches("^Lua warning: [^\n]*1 tensors in the shards are not[^\n]*\n1\n$",
        output(right))
    end
    for _, wrong in ipairs { "2", "-1", "1000000000000000000000000000000" } do
      assert.matches("total_size is wrong: the tensors have 1 bytes",
        output(('{"x":[{"total_size":1}],"total_size":%s}'):format(wrong)))
    end
  end)
end)

describe("a checkpoint", function()
  it("lists names by shard and place, whatever the order of the map", function()
    put_shards()
    local checkpoint = open()
    assert.same({ "m.w", "z", "a.w" }, checkpoint:names())
    assert.equal(3, #checkpoint)
    assert.is_true(checkpoint:has "a.w")
    assert.is_false(checkpoint:has "w" or checkpoint:has "" or checkpoint:has "a.w\0")
    assert.same({ n = "1" }, checkpoint:metadata())
    assert.equal("checkpoint (3 tensors)", tostring(checkpoint))
  end)

  it("tells dtype, shape, size, file and place", function()
    put_shards()
    local checkpoint = open()
    local files = checkpoint:files()
    assert.same({ folder .. "/s1.safetensors", folder .. "/s2.safetensors" },
      { files[1].path, files[2].path })
    for i, file in ipairs(files) do
      assert.equal(lfs.attributes(file.path, "size"), file.size)
      assert.matches("^%x+$", file.header_digest)
      assert.equal(16, #file.header_digest, i)
    end
    for name, expected in pairs { ["m.w"] = { "f32", { 2, 2 }, 16, 1 }, z = { "u8", { 3 }, 3, 2 },
                                  ["a.w"] = { "u8", { 2 }, 2, 2 } } do
      local dtype, shape, size, file, offset = checkpoint:info(name)
      assert.same(expected, { dtype, shape, size, file })
      local bytes = shell.read_file(files[file].path):sub(offset + 1, offset + size)
      assert.equal(checkpoint:tensor(name):bytes(), bytes)
    end
    assert.is_nil(checkpoint:info "none")
  end)

  it("resolves an unambiguous end of a name on whole segments", function()
    local names = { "a.b.w", "x.b.w", "b", "long.tail.bias", "w" }
    local tensors = {}
    for i, name in ipairs(names) do tensors[i] = { name, "U8", { 1 }, "x" } end
    put("m.safetensors", raw.pack(tensors))
    local checkpoint = open()
    for given, full in pairs { ["a.b.w"] = "a.b.w", b = "b", w = "w", bias = "long.tail.bias",
                               ["tail.bias"] = "long.tail.bias", ["x.b.w"] = "x.b.w" } do
      assert.equal(full, (checkpoint:resolve(given)))
    end
    local function candidates(name)
      local full, list = checkpoint:resolve(name)
      assert.is_nil(full)
      return list
    end
    assert.same({ "a.b.w", "x.b.w" }, candidates "b.w")
    for _, none in ipairs { "ias", "il.bias", "", ".bias", "long", "long.tail", "q.a.b.w", "." } do
      assert.same({}, candidates(none))
    end
  end)

  it("gives nil, a message and a code for a name it has not", function()
    put_shards()
    local checkpoint = open()
    for _, method in ipairs { "tensor", "read", "read_bytes" } do
      local result, message, code = checkpoint[method](checkpoint, "no\nne", 1, 1, 1, 1)
      assert.is_nil(result)
      assert.matches('no tensor "no\\x0ane"', message, 1, true)
      assert.equal("usage", code)
    end
  end)
end)

describe("reading parts", function()
  local rows, cols, bytes = 7, 5, raw.bytes(7 * 5 * 2)
  local checkpoint

  before_each(function()
    put("m.safetensors", raw.pack {
      { "flat", "U16", { rows, cols }, bytes }, { "deep", "U16", { 1, rows, 1, cols }, bytes },
      { "list", "U16", { rows * cols }, bytes }, { "scalar", "U16", {}, bytes:sub(1, 2) },
      { "none", "U16", { 0, 4 }, "" }, { "tail", "U16", { 4, 0 }, "" },
      { "four", "F4", { 2, 4 }, "\1\2\3\4" }, { "c", "C64", { 2, 1 }, raw.bytes(16) },
    })
    checkpoint = open "m.safetensors"
  end)

  -- The bytes of a rectangle, cut from what was written.
  local function cut(row, height, col, width)
    local parts = {}
    for r = row, row + height - 1 do
      local at = ((r - 1) * cols + col - 1) * 2
      parts[#parts + 1] = bytes:sub(at + 1, at + width * 2)
    end
    return table.concat(parts)
  end

  it("cuts any rectangle out of rows and columns", function()
    for _, name in ipairs { "flat", "deep" } do
      for row = 1, rows do
        for height = 0, rows - row + 1 do
          for col = 1, cols do
            local width = math.min(cols - col + 1, height % 4 + col % 2)
            local tile = assert(checkpoint:read(name, row, height, col, width))
            assert.same({ height, width }, tile.shape)
            assert.equal("u16", tile.dtype)
            assert.equal(cut(row, height, col, width), tile:bytes())
          end
        end
      end
    end
    assert.equal(bytes, checkpoint:read("flat", 1, rows, 1, cols):bytes())
    assert.equal(bytes:sub(7, 16), checkpoint:read("list", 1, 1, 4, 5):bytes())
    assert.equal(bytes:sub(1, 2), checkpoint:read("scalar", 1, 1, 1, 1):bytes())
    assert.equal("", checkpoint:read("none", 1, 0, 1, 4):bytes())
    assert.same({ 4, 0 }, checkpoint:read("tail", 1, 4, 1, 0).shape)
    assert.equal(raw.bytes(16):sub(9), checkpoint:read("c", 2, 1, 1, 1):bytes())
  end)

  it("reads raw bytes of any type", function()
    assert.equal("\2\3", checkpoint:read_bytes("four", 1, 2):bytes())
    local part = checkpoint:read_bytes("flat", 3, 20)
    assert.equal("u8", part.dtype)
    assert.same({ 20 }, part.shape)
    assert.equal(bytes:sub(4, 23), part:bytes())
    assert.equal("", checkpoint:read_bytes("flat", #bytes, 0):bytes())
    assert.equal("", checkpoint:read_bytes("none", 0, 0):bytes())
  end)

  it("uses storage that is given", function()
    local store = core.zeros({ 4, 5 }, "u16")
    local tile = checkpoint:read("flat", 2, 3, 2, 2, store)
    assert.same({ 3, 2 }, tile.shape)
    assert.equal(cut(2, 3, 2, 2), tile:bytes())
    assert.equal(tile:bytes() .. ("\0"):rep(40 - 12), store:bytes())
    local block = core.zeros({ 30 }, "u8")
    assert.equal(bytes:sub(1, 30), checkpoint:read_bytes("flat", 0, 30, block):bytes())
    assert.equal(bytes:sub(1, 30), block:bytes())
    for _, bad in ipairs {
      core.zeros({ 5 }, "u16"), core.zeros({ 9 }, "i16"), core.zeros({ 9 }, "f32"),
      core.zeros({ 3, 3 }, "u16"):t(), checkpoint:tensor "list", "x", 1, {},
    } do
      assert.has_error(function() checkpoint:read("flat", 2, 3, 2, 2, bad) end)
    end
    local kept = checkpoint:read("flat", 2, 3, 2, 2, core.zeros({ 6 }, "u16"))
    collectgarbage()
    collectgarbage()
    assert.equal(cut(2, 3, 2, 2), kept:bytes())
  end)

  it("raises for places outside", function()
    local function fails(method, ...)
      local arguments = table.pack(...)
      assert.has_error(function()
        checkpoint[method](checkpoint, table.unpack(arguments, 1, arguments.n))
      end)
    end
    local odd = { 0, -1, 1 << 31, (1 << 53) + 1, math.maxinteger, math.mininteger, 1.5, 1e300,
                  0 / 0, "x", {}, false }
    for _, value in ipairs(odd) do
      fails("read", "flat", value, 1, 1, 1)
      fails("read", "flat", 1, 1, value, 1)
      if value ~= 0 then
        fails("read", "flat", 1, value, 1, 1)
        fails("read", "flat", 1, 1, 1, value)
        fails("read_bytes", "flat", value, 1)
        fails("read_bytes", "flat", 1, value)
      end
    end
    fails("read", "flat", rows, 2, 1, 1)
    fails("read", "flat", 1, 1, cols, 2)
    fails("read", "flat", rows + 2, 0, 1, 1)
    fails("read_bytes", "flat", #bytes, 1)
    fails("read_bytes", "flat", #bytes + 1, 0)
    fails("read", "four", 1, 1, 1, 2)
    fails("read", "flat")
    fails "read"
    assert.matches("1 to 7 expected",
      select(2, pcall(checkpoint.read, checkpoint, "flat", 9, 1, 1, 1)))
  end)

  it("is an error when the file became shorter", function()
    checkpoint:read("flat", 1, 1, 1, 1)
    shell.sh("truncate -s -16 %s/m.safetensors", folder)
    local tile, message, code = checkpoint:read("c", 2, 1, 1, 1)
    assert.is_nil(tile)
    assert.matches("m.safetensors: the file ends at byte", message, 1, true)
    assert.equal("changed", code)
  end)
end)

describe("change", function()
  local function changed(checkpoint, words)
    local same, message, code = checkpoint:check()
    assert.is_nil(same)
    assert.matches(words, message, 1, true)
    assert.equal("changed", code)
  end

  it("is noticed by check() in every file", function()
    local edits = {
      ["printf x >> %s/s1.safetensors"] = "s1.safetensors: changed since it was opened",
      ["touch -d '1 hour ago' %s/s2.safetensors"] = "s2.safetensors",
      ["rm %s/s2.safetensors"] = "s2.safetensors",
      ["cd %s && cp -p s1.safetensors t && mv t s1.safetensors"] = "another file has its name",
      -- the same size and modification time, another byte: only the change time tells
      ["cd %s && cp -p s1.safetensors t && sed s/a/b/ t > s1.safetensors && "
        .. "touch -r t s1.safetensors"] = "s1.safetensors",
      ["printf ' ' >> %s/" .. INDEX] = INDEX,
      ["rm %s/" .. INDEX] = INDEX,
    }
    for edit, words in pairs(edits) do
      put_shards()
      local checkpoint = open()
      assert.is_true(checkpoint:check())
      assert.equal("", (shell.sh(edit, folder)))
      changed(checkpoint, words)
    end
  end)

  it("is noticed when a file is opened again", function()
    put_shards()
    for _, mode in ipairs { "map", "read" } do
      local checkpoint = open(nil, mode)
      put("s1.safetensors", raw.pack { { "m.w", "F32", { 2, 2 }, raw.bytes(16, 1) } })
      local tensor, message, code = checkpoint:tensor "m.w"
      assert.is_nil(tensor)
      assert.matches("s1.safetensors: changed", message, 1, true)
      assert.equal("changed", code)
      assert.equal("abc", checkpoint:tensor("z"):bytes())
    end
  end)

  it("shows in the fingerprint, which tells nothing else", function()
    put_shards()
    local before = open():fingerprint()
    local lines = {}
    for line in before:gmatch "[^\n]+" do lines[#lines + 1] = line end
    assert.equal(3, #lines)
    assert.matches("^model.safetensors.index.json %d+ %x+$", lines[1])
    assert.matches("^s1.safetensors %d+ %x+$", lines[2])
    shell.sh("cd %s && touch -d '1 hour ago' * && mkdir copy && cp s* model* copy", folder)
    assert.equal(before, open():fingerprint())
    assert.equal(before, open("copy"):fingerprint())
    put("copy/s1.safetensors", raw.pack({ { "m.w", "F32", { 4, 1 }, raw.bytes(16) } }, '{"n":"1"}'))
    assert.are_not.equal(before, open("copy"):fingerprint())
  end)
end)

describe("the life of a checkpoint", function()
  local methods = { "names", "has", "info", "resolve", "tensor", "read", "read_bytes", "files",
                    "metadata", "check", "fingerprint" }

  it("ends with close(), which may come again", function()
    for _, sequence in ipairs {
      function(c) c:close() c:close() end, function(c) c:close() collectgarbage() end,
      function(c) local d <close> = c end, -- luacheck: ignore
      function(c) pcall(function() local d <close> = c error "x" end) end, -- luacheck: ignore
      function(c) debug.getmetatable(c).__gc(c) end,
      function(c) debug.getmetatable(c).__gc(c) c:close() collectgarbage() end,
    } do
      put_shards()
      local checkpoint = open()
      sequence(checkpoint)
      for _, method in ipairs(methods) do
        assert.has_error(function() checkpoint[method](checkpoint, "z", 1, 1, 1, 1) end,
          "the checkpoint is closed")
      end
      assert.has_error(function() return #checkpoint end, "the checkpoint is closed")
      assert.equal("checkpoint (closed)", tostring(checkpoint))
    end
  end)

  it("leaves views valid", function()
    put_shards()
    local checkpoint = open()
    local views = { checkpoint:tensor "m.w", checkpoint:tensor("z"), checkpoint:tensor("m.w"):t() }
    checkpoint:close()
    checkpoint = nil -- luacheck: ignore
    for _ = 1, 3 do collectgarbage() end
    os.remove(folder .. "/s1.safetensors")
    assert.equal(raw.bytes(16), views[1]:bytes())
    assert.equal("abc", views[2]:bytes())
    local column = views[3]:rows(1, 1)
    views = nil -- luacheck: ignore
    for _ = 1, 3 do collectgarbage() end
    assert.equal(raw.bytes(16):sub(1, 4) .. raw.bytes(16):sub(9, 12), column:bytes())
    assert.equal(raw.bytes(16):sub(1, 4), coroutine.wrap(function(t)
      return t:rows(1, 1):bytes():sub(1, 4)
    end)(column))
  end)

  it("shares one mapping a file, given back with the last view", function()
    put_shards()
    local function mapped()
      local count = 0
      for line in io.lines "/proc/self/maps" do
        if line:find(folder, 1, true) then count = count + 1 end
      end
      return count
    end
    local checkpoint = open()
    assert.equal(0, mapped())
    local tensors = { checkpoint:tensor "z", checkpoint:tensor "a.w", checkpoint:tensor "z" }
    assert.equal(1, mapped())
    checkpoint:close()
    collectgarbage()
    collectgarbage()
    assert.equal(1, mapped())
    tensors = #tensors -- luacheck: ignore
    collectgarbage()
    collectgarbage()
    assert.equal(0, mapped())
  end)

  it("refuses every wrong receiver and argument", function()
    put_shards()
    local checkpoint = open()
    local meta = debug.getmetatable(checkpoint)
    local wrong = {
      false, 0, 1, -1, 1.5, 0 / 0, math.maxinteger, "x", {}, print, coroutine.create(print),
      io.stdout, setmetatable({}, meta), core.zeros({ 1 }, "f32"), n = 14,
    }
    local functions = { meta.__gc, meta.__close, meta.__len, meta.__tostring, checkpoint.close }
    for _, method in ipairs(methods) do functions[#functions + 1] = checkpoint[method] end
    for _, f in ipairs(functions) do
      for i = 1, wrong.n do assert.is_false((pcall(f, wrong[i], "z", 1, 1, 1, 1))) end
      assert.is_false((pcall(f)))
    end
    for _, name in ipairs { "has", "info", "resolve", "tensor", "read", "read_bytes" } do
      for _, value in ipairs { {}, true, print } do
        assert.has_error(function() checkpoint[name](checkpoint, value, 1, 1, 1, 1) end)
      end
    end
    for _, value in ipairs { {}, true, "a\0b" } do
      assert.has_error(function() core.checkpoint(value) end)
    end
    assert.has_error(function() core.checkpoint(folder, "both") end)
    assert.equal("locked", getmetatable(checkpoint))
    assert.equal(3, #checkpoint)
  end)

  it("may end while it is used, in a finalizer", function()
    local many = {}
    for i = 1, 1000 do many["tensor" .. i] = core.zeros({ 1 }, "u8") end
    assert(require("rondo.safetensors").save(folder .. "/many.safetensors", many))
    local script = shell.lua_script [[
      local core = require "rondo.core"
      collectgarbage("incremental", 1, 10000)
      local close
      local function arm()
        setmetatable({}, { __gc = function() if close then close() end arm() end })
      end
      for _ = 1, 20 do arm() end
      -- What allocates while close is set is the call itself.
      local calls = {
        function(cp) close = cp.kill return cp.checkpoint:names() end,
        function(cp) close = cp.kill return cp.checkpoint:files() end,
        function(cp) close = cp.kill return cp.checkpoint:resolve "none" end,
        function(cp) close = cp.kill return cp.checkpoint:fingerprint() end,
        function(cp) close = cp.kill return cp.checkpoint:tensor(cp.name) end,
        function(cp) close = cp.kill return cp.checkpoint:read(cp.name, 1, 1, 1, 1) end,
        function(cp) close = cp.kill return cp.checkpoint:read_bytes(cp.name, 0, 1) end,
        function(cp) close = cp.kill return { cp.checkpoint:info(cp.name) } end,
      }
      for _, call in ipairs(calls) do
        local closed = 0
        for _ = 1, 20 do
          local cp = { checkpoint = assert(core.checkpoint(arg[1])), name = "tensor1" }
          function cp.kill() cp.checkpoint:close() end
          repeat
            local fine, message = pcall(call, cp)
            close = nil
            if not fine then assert(message:find("the checkpoint is closed", 1, true), message) end
          until not fine
          closed = closed + (tostring(cp.checkpoint):find "closed" and 1 or 0)
        end
        assert(closed == 20, closed)
      end
      io.write "end"]]
    assert.equal("end", (shell.sh("%s %s/many.safetensors", script, folder)))
  end)

  it("may end in any order with the state", function()
    put_shards()
    local script = shell.lua_script [[
      local core = require "rondo.core"
      local orders = { { 1, 2, 3 }, { 1, 3, 2 }, { 2, 1, 3 },
                       { 2, 3, 1 }, { 3, 1, 2 }, { 3, 2, 1 } }
      local made = {}
      for _, order in ipairs(orders) do
        local kept = {}
        local makers = {
          function() kept.checkpoint = core.checkpoint(arg[1]) end,
          function()
            kept.checkpoint = kept.checkpoint or core.checkpoint(arg[1])
            kept.view = kept.checkpoint:tensor "z"
          end,
          function()
            kept.user = setmetatable({}, { __gc = function()
              local fine, text = pcall(function() return kept.view:bytes() end)
              assert(not fine or text == "abc")
              pcall(function() kept.checkpoint:close() end)
              pcall(function() return core.checkpoint(arg[1]):tensor("z"):bytes() end)
            end })
          end,
        }
        for _, i in ipairs(order) do makers[i]() end
        kept.self = kept
        made[#made + 1] = kept
      end
      if arg[2] == "collect" then made = nil collectgarbage() collectgarbage() end
      io.write "end"
    ]]
    script = script:gsub("lua5.4", "lua5.4 -W")
    assert.equal("end", (shell.sh("%s %s", script, folder)))
    assert.equal("end", (shell.sh("%s %s collect", script, folder)))
  end)
end)
