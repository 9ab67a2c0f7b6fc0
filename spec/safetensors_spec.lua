-- Safetensors files, read and written. Truth: the cases of the reference implementation's own
-- tests, rules of the format text, and bytes that the reference writer (safetensors 0.8.0) gave.
local core = require "rondo.core"
local lfs = require "lfs"
local raw = require "spec.support.raw"
local safetensors = require "rondo.safetensors"
local shell = require "spec.support.shell"

local folder, path

setup(function()
  folder = shell.temporary_folder()
  path = folder .. "/file.safetensors"
end)

teardown(function() shell.remove(folder) end)

local function put(bytes, name)
  local where = folder .. "/" .. (name or "file.safetensors")
  shell.write_file(where, bytes)
  return where
end

local function load(bytes, options) return safetensors.load(put(bytes), options) end

local function accepts(bytes)
  local tensors, metadata = load(bytes)
  assert.is_table(tensors, metadata)
  return tensors, metadata
end

local function refuses(bytes, words)
  local tensors, message, code = load(bytes)
  assert.is_nil(tensors)
  assert.equal("format", code)
  assert.is_truthy(utf8.len(message))
  assert.is_true(#message <= 512)
  assert.matches("file.safetensors", message, 1, true)
  if words then assert.matches(words, message, 1, true) end
end

local function no_leftovers()
  for name in lfs.dir(folder) do assert.is_nil(name:find(".partial", 1, true), name) end
end

local H = '{"test":{"dtype":"I32","shape":[2,2],"data_offsets":[0,16]}}'
local D = raw.bytes(16)

describe("reading", function()
  it("judges the reference tests' cases as they do", function()
    refuses("", "0 bytes")
    refuses("\60\0\0\0\0\0\0\0", "more than the file holds")
    refuses("\60\0\0\0\0\255\255\255" .. H .. D, "100000000")
    refuses("\1\0\0\0\0\0\0\0\255")
    refuses("\1\0\0\0\0\0\0\0{")
    assert.same({}, (accepts "\6\0\0\0\0\0\0\0{}\r \t\n"))
    assert.same({}, (accepts "\6\0\0\0\0\0\0\0\t\n{}\r "))
    accepts(raw.file(H, D))
    refuses(raw.file(H, D .. "extra data for a polyglot"), "belong to none")
    refuses(raw.file(H, D:sub(1, 14)),
            "the file is cut short: its header describes 16 bytes of tensors, 14 are there")
    accepts(raw.file '{"test":{"dtype":"I32","shape":[2,0],"data_offsets":[0, 0]}}')
    accepts(raw.file('{"test":{"dtype":"I32","shape":[],"data_offsets":[0,4]}}', "\0\0\0\0"))
    refuses(raw.file '{"test":{"dtype":"I32","shape":[2,2],"data_offsets":[0, 4]}}')
    for _, dim in ipairs { "18446744073709551614", "9223372036854775807" } do
      refuses(raw.file(('{"a":%s}'):format(raw.entry("I32", { 2, dim }, 0, 16)), D), "2^63-1")
    end
    local same = {}
    for i = 0, 9 do same[i + 1] = ('"w%d":%s'):format(i, raw.entry("F32", { 2, 2 }, 0, 16)) end
    refuses(raw.file("{" .. table.concat(same, ",") .. "}", D), "overlaps")
    accepts(raw.file('{"a":' .. raw.entry("F4", { 1, 2 }, 0, 1) .. "}", "\0"))
    refuses(raw.file('{"a":' .. raw.entry("F4", { 1, 3 }, 0, 2) .. "}", "\0\0"), "whole bytes")
    refuses(raw.file('{"a":' .. raw.entry("F4", { 1, 2 }, 0, 2) .. "}", "\0\0"), "extent")
    refuses(raw.file('{"a":' .. raw.entry("F32", { 1024, 1024 }, 0, 4194304) .. "}", "\0"))
  end)

  it("gives bytes, shape and dtype, mapped or copied", function()
    local bytes = raw.pack({
      { "f", "F32", { 2, 3 }, raw.bytes(24) }, { "s", "I64", {}, raw.bytes(8, 1) },
      { "e", "BF16", { 3, 0, 2 }, "" }, { "odd", "U8", { 5 }, raw.bytes(5, 2) },
      { "shifted", "F64", { 2 }, raw.bytes(16, 3) }, { "four", "F4", { 3, 4 }, raw.bytes(6, 4) },
      { "six", "F6_E2M3", { 4 }, raw.bytes(3, 5) }, { "c", "C64", { 1 }, raw.bytes(8, 6) },
    }, '{"format":"pt","":"x","\u{e9}":"\\u0000"}')
    for _, mode in ipairs { "map", "read" } do
      local tensors, metadata = load(bytes, { mode = mode })
      assert.same({ format = "pt", [""] = "x", ["\u{e9}"] = "\0" }, metadata)
      local t = tensors.f
      assert.same({ 2, 3 }, t.shape)
      assert.equal("f32", t.dtype)
      assert.equal(raw.bytes(24), t:bytes())
      assert.same({}, tensors.s.shape)
      assert.equal(string.unpack("<i8", raw.bytes(8, 1)), tensors.s:item())
      assert.same({ 3, 0, 2 }, tensors.e.shape)
      assert.equal("", tensors.e:bytes())
      assert.equal(raw.bytes(16, 3), tensors.shifted:bytes())
      assert.equal("f4", tensors.four.dtype)
      assert.same({ 3, 4 }, tensors.four.shape)
      assert.equal(raw.bytes(6, 4), tensors.four:bytes())
      assert.equal(raw.bytes(3, 5), tensors.six:bytes())
      assert.equal(raw.bytes(8, 6), tensors.c:bytes())
    end
    local _, none = load(raw.file("{}"))
    assert.is_nil(none)
  end)

  it("shows mapped tensors read-only and copies writable", function()
    local bytes = raw.pack { { "a", "F32", { 2 }, raw.bytes(8) } }
    local mapped = load(bytes).a
    assert.has_error(function() mapped[1] = 3 end)
    local copy = load(bytes, { mode = "read" }).a
    copy[1] = 3
    assert.equal(3.0, copy[1])
  end)

  it("says what is wrong with which tensor, and where", function()
    refuses(raw.file('{"a.b":{"dtype":"F33","shape":[4],"data_offsets":[0,16]}}', D), '"a.b"')
    refuses(raw.file('{"a":{"dtype":"F33","shape":[4],"data_offsets":[0,16]}}', D), "at byte 22")
    refuses(raw.file('{"q":{"dtype":"F32","shape":[-4],"data_offsets":[0,16]}}', D), '"q"')
    refuses(raw.file('{"' .. ("n"):rep(65536) .. '":7}'), '"nnnn')
    refuses(raw.file('{"\\u001b[31m\\n":7}'), "\\x1b[31m\\x0a")
    refuses(raw.file('{"x":{"dtype":"' .. ("F"):rep(9999) .. '","shape":[],"data_offsets":[0,0]}}'))
    refuses("version https://git-lfs.github.com/spec/v1\n", "git-lfs")
    refuses("GGUF\3\0\0\0\0\0\0\0\0", "GGUF")
    refuses("PK\3\4aaaaaaaaaaaa", "zip")
    refuses("<!DOCTYPE html>", "web page")
  end)

  it("is an error for what is no file", function()
    for _, name in ipairs { "/none", "/none/none", "/file.safetensors/x" } do
      local tensors, message, code = safetensors.load(folder .. name)
      assert.is_nil(tensors)
      assert.matches(name, message, 1, true)
      assert.equal("io", code)
    end
    local _, message, code = safetensors.load "/dev/zero"
    assert.matches("not a regular file", message)
    assert.equal("io", code)
    shell.sh("mkfifo %s/fifo", folder)
    assert.equal("io", select(3, safetensors.load(folder .. "/fifo")))
    assert.has_error(function() safetensors.load("a\0b") end)
    assert.has_error(function() safetensors.load {} end)
    assert.has_error(function() safetensors.load(path, { mood = "map" }) end)
    assert.has_error(function() safetensors.load(path, { mode = "maps" }) end)
  end)

  it("keeps mapped tensors valid without anything else", function()
    local views = load(raw.pack { { "a", "U8", { 3, 4 }, raw.bytes(12) } })
    local row = views.a:rows(2, 2)
    views = nil -- luacheck: ignore
    collectgarbage()
    collectgarbage()
    assert.equal(raw.bytes(12):sub(5, 8), row:bytes())
  end)
end)

-- The entries of a list one after the other, as the core asks for them.
local function each(list)
  local i = 0
  return function()
    i = i + 1
    if list[i] then return list[i].name, list[i].dtype, list[i].shape end
  end
end

describe("metadata", function()
  it("are read whatever their strings hold", function()
    local text = [[ { "a" : "b" ,"\u0041\"\\" : "\\\"", "" :"", "q\"q":"\u0000\"\n",
      "\ud83d\ude00\u00e9" : "{\"x\": 1}" ,"last"	:
      "\u00ff"} ]]
    shell.write_file(path, raw.pack({}, text))
    local tensors, metadata = safetensors.load(path)
    assert.same({}, tensors)
    assert.same({ a = "b", ["A\"\\"] = "\\\"", [""] = "", ["q\"q"] = "\0\"\n",
                  ["\u{1f600}\u{e9}"] = '{"x": 1}', last = "\u{ff}" }, metadata)
  end)
end)

describe("writing", function()
  local function saved(tensors, metadata)
    assert.is_true(safetensors.save(path, tensors, metadata))
    return shell.read_file(path)
  end

  it("gives the reference writer's bytes", function()
    assert.equal("\8\0\0\0\0\0\0\0{}      ", saved {})
    assert.equal('\40\0\0\0\0\0\0\0{"__metadata__":{"framework":"pt"}}     ',
      saved({}, { framework = "pt" }))
    local six = core.from_bytes(string.pack("<ffffff", 0, 1, 2, 3, 4, 5), "f32", { 1, 1, 2, 3 })
    assert.equal('\72\0\0\0\0\0\0\0{"attn0":{"dtype":"F32","shape":[1,1,2,3],'
      .. '"data_offsets":[0,24]}}       ' .. string.pack("<ffffff", 0, 1, 2, 3, 4, 5),
      saved { attn0 = six })
    local mixed = saved({
      b = core.from_bytes("\0\1\2", "u8", { 3 }),
      a = core.from_bytes(string.pack("<ff", 0, 1), "f32", { 2 }),
      c = core.from_bytes(string.pack("<dd", 0, 1), "f64", { 2 }),
      d = core.from_bytes("\1\0", "bool", { 2 }), e = core.from_bytes(("\0"):rep(8), "i64", { 1 }),
      ['z"\\\n\u{e9}/\u{7f}\1'] = core.from_bytes("\7\0", "i16", {}),
      A = core.zeros({ 0, 3 }, "f16"),
    }, { format = "pt" })
    local header = '{"__metadata__":{"format":"pt"},'
      .. '"e":{"dtype":"I64","shape":[1],"data_offsets":[0,8]},'
      .. '"c":{"dtype":"F64","shape":[2],"data_offsets":[8,24]},'
      .. '"a":{"dtype":"F32","shape":[2],"data_offsets":[24,32]},'
      .. '"A":{"dtype":"F16","shape":[0,3],"data_offsets":[32,32]},'
      .. '"z\\"\\\\\\n\u{e9}/\u{7f}\\u0001":{"dtype":"I16","shape":[],"data_offsets":[32,34]},'
      .. '"b":{"dtype":"U8","shape":[3],"data_offsets":[34,37]},'
      .. '"d":{"dtype":"BOOL","shape":[2],"data_offsets":[37,39]}}'
    assert.equal(raw.file(header .. (" "):rep(-#header % 8), ("\0"):rep(8)
      .. string.pack("<ddff", 0, 1, 0, 1) .. "\7\0\0\1\2\1\0"), mixed)
  end)

  it("orders by the reference's ranks and then bytewise by name", function()
    local order = { "BOOL", "F4", "F6_E2M3", "F6_E3M2", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0",
                    "F8_E4M3FNUZ", "F8_E5M2FNUZ", "I16", "U16", "F16", "BF16", "I32", "U32", "F32",
                    "C64", "F64", "I64", "U64" }
    local list = {}
    for i, dtype in ipairs(order) do
      list[2 * i - 1] = { name = ("t%02d"):format(99 - i), dtype = dtype, shape = { 8 } }
      list[2 * i] = { name = ("s%02d\u{e9}"):format(i), dtype = dtype, shape = { 0 } }
    end
    local size, offsets, places, bytes = core.safetensors_layout(each(list))
    local header = core.safetensors_header(each(list)):bytes()
    assert.equal(size, #header)
    assert.equal(#list, #places)
    local at = 0
    for i = 1, #places do
      local place = places[i]
      local rank = #order - (i - 1) // 2
      assert.equal(order[rank], list[place].dtype)
      assert.equal(i % 2 == 1 and "s" or "t", list[place].name:sub(1, 1))
      assert.equal(at, offsets[place])
      local bits = order[rank] == "BOOL" and 8 or tonumber(order[rank]:match "%d+")
      if i % 2 == 0 then at = at + bits end -- 8 elements; the other one has none
    end
    assert.equal(at, bytes)
    assert.equal(0, #header % 8)
    assert.equal(#header - 8, (string.unpack("<I8", header)))
  end)

  it("makes no header of more than 100,000,000 bytes", function()
    local list = {}
    for i = 1, 101 do
      list[i] = { name = i .. ("n"):rep(1000000), dtype = "f32", shape = { 1 } }
    end
    for _, name in ipairs { "safetensors_layout", "safetensors_header" } do
      local made, message, code = core[name](each(list))
      assert.is_nil(made)
      assert.matches("a header of 1010%d+ bytes is more than the 100000000 allowed", message)
      assert.equal("unsupported", code)
    end
    table.remove(list)
    table.remove(list)
    assert.equal(99, #select(2, core.safetensors_layout(each(list))))
  end)

  it("writes the elements of any view in row-major order", function()
    local t = core.from_bytes(raw.bytes(24), "u16", { 3, 4 })
    local expected = {}
    for col = 0, 3 do
      for row = 0, 2 do
        local at = 1 + 2 * (row * 4 + col)
        expected[#expected + 1] = raw.bytes(24):sub(at, at + 1)
      end
    end
    local file = saved { t = t:t() }
    assert.equal(table.concat(expected), file:sub(-24))
    local big = core.from_bytes(raw.bytes(60000), "u8", { 300, 200 }):t()
    assert.equal(big:bytes(), saved({ big = big }):sub(-60000))
  end)

  it("gives back what it was given, bit for bit", function()
    local given = {}
    for i, dtype in ipairs { "f64", "f32", "f16", "bf16", "f8_e4m3", "f8_e5m2", "i8", "u8", "i16",
                             "u16", "i32", "u32", "i64", "u64", "bool", "f4", "f6_e2m3", "f8_e8m0",
                             "c64" } do
      local bits = dtype == "bool" and 8 or tonumber(dtype:match "%d+")
      given[dtype .. ".x"] = core.from_bytes(raw.bytes(bits, i), dtype, { 4, 2 })
    end
    saved(given, { k = "v" })
    local got, metadata = safetensors.load(path)
    assert.same({ k = "v" }, metadata)
    for name, tensor in pairs(given) do
      assert.equal(tensor.dtype, got[name].dtype)
      assert.same({ 4, 2 }, got[name].shape)
      assert.equal(tensor:bytes(), got[name]:bytes())
      got[name] = nil
    end
    assert.is_nil(next(got))
  end)

  it("saves over the file that its tensors are mapped from", function()
    saved { a = core.from_bytes(raw.bytes(100), "u8", { 100 }),
            b = core.from_bytes(raw.bytes(9, 1), "u8", { 9 }) }
    local tensors = safetensors.load(path)
    tensors.c, tensors.b = tensors.b, nil
    saved(tensors)
    assert.equal(raw.bytes(100), tensors.a:bytes()) -- the old file is still mapped
    local again = safetensors.load(path)
    assert.equal(raw.bytes(100), again.a:bytes())
    assert.equal(raw.bytes(9, 1), again.c:bytes())
    no_leftovers()
  end)

  it("raises for what a file cannot hold", function()
    local t = core.zeros({ 1 }, "f32")
    for _, tensors in ipairs {
      { a = 1 }, { a = {} }, { t }, { ["\xff"] = t }, { ["a\0b"] = t }, { __metadata__ = t },
      { [true] = t },
    } do
      assert.has_error(function() safetensors.save(path, tensors) end)
    end
    for _, metadata in ipairs {
      1, "x", { 1 }, { a = 1 }, { a = {} }, { a = "\xff" }, { ["\xff"] = "a" },
    } do
      assert.has_error(function() safetensors.save(path, { a = t }, metadata) end)
    end
    assert.has_error(function() safetensors.save(path) end)
    assert.has_error(function() safetensors.save({}, {}) end)
    assert.has_error(function() safetensors.save("a\0b", {}) end)
    for _, list in ipairs {
      { { name = 1, dtype = "f32", shape = {} } }, { { name = "a" } },
      { { name = "a", dtype = "f32" } }, { { name = "a", dtype = "q", shape = {} } },
      { { name = "a", dtype = "f4", shape = { 1 } } },
      { { name = "a", dtype = "f32", shape = { -1 } } },
      { { name = "a", dtype = "f32", shape = { 1.5 } } },
      { { name = "a", dtype = "f32", shape = { 1 << 62, 4 } } },
      { { name = "a", dtype = "f32", shape = { 1 << 61 } } },
      { { name = "a", dtype = "u8", shape = { 1 << 62 } },
        { name = "b", dtype = "u8", shape = { 1 << 62 } } },
      { { name = "a", dtype = "f32", shape = {} }, { name = "a", dtype = "f16", shape = {} } },
    } do
      assert.has_error(function() core.safetensors_header(each(list)) end)
      assert.has_error(function() core.safetensors_layout(each(list)) end)
    end
    no_leftovers()
  end)
end)

describe("the saved file", function()
  local tensors

  before_each(function() tensors = { a = core.from_bytes(raw.bytes(4000), "u8", { 4000 }) } end)

  local function mode(name) return (shell.sh("stat -c %%a %s", name):gsub("\n", "")) end

  it("has the mode of the umask, or of the file it replaces", function()
    local script = shell.lua_script [[
      local rondo = require "rondo.safetensors"
      assert(rondo.save(arg[1], {}))
    ]]
    for mask, expected in pairs { ["000"] = "666", ["022"] = "644", ["077"] = "600" } do
      local name = folder .. "/mask" .. mask
      assert.equal("", shell.sh("umask %s; %s %s", mask, script, name))
      assert.equal(expected, mode(name))
      shell.sh("chmod 640 %s; umask 077; %s %s", name, script, name)
      assert.equal("640", mode(name))
    end
  end)

  it("replaces what a link leads to, and keeps the link", function()
    shell.sh("cd %s && mkdir deep && echo old > deep/target && ln -s deep/target link", folder)
    assert.is_true(safetensors.save(folder .. "/link", tensors))
    assert.equal("link", lfs.symlinkattributes(folder .. "/link", "mode"))
    assert.equal(raw.bytes(4000), safetensors.load(folder .. "/deep/target").a:bytes())
    shell.sh("ln -s nowhere %s/dangling", folder)
    local done, message, code = safetensors.save(folder .. "/dangling", tensors)
    assert.is_nil(done)
    assert.matches("dangling", message)
    assert.equal("io", code)
  end)

  it("is refused at once where the path has no name for a file", function()
    shell.sh("mkdir -p %s/there", folder)
    for _, name in ipairs { "", folder .. "/there/", folder .. "/absent/", "/" } do
      local file, message, code = core.save(name)
      assert.is_nil(file)
      assert.is_string(message)
      assert.equal("io", code)
    end
    no_leftovers()
  end)

  it("stays when a forked child ends", function()
    require "spec.support.forking"(folder)
    local script = shell.lua_script [[
      package.cpath = arg[1] .. "/?.so;" .. package.cpath
      local core, forked = require "rondo.core", require "forking"
      local file, other = assert(core.save(arg[1] .. "/kept")), assert(core.save(arg[1] .. "/both"))
      assert(file:write "x" and other:write "y")
      if forked() then
        local done, message, code = other:commit()
        assert(not done and code == "usage" and message:find "process")
        os.exit(0, true)
      end
      assert(file:commit() and other:commit())
      io.write "end"]]
    assert.equal("end", (shell.sh("%s %s", script, folder)))
    assert.equal("xy", shell.read_file(folder .. "/kept") .. shell.read_file(folder .. "/both"))
    no_leftovers()
  end)

  it("is refused where there is no place for it", function()
    shell.sh("mkdir -p %s/taken; mkfifo %s/pipe", folder, folder)
    for _, name in ipairs { "/taken", "/pipe", "/no/such", "/taken/", "/" .. ("n"):rep(256) } do
      local done, message, code = safetensors.save(folder .. name, tensors)
      assert.is_nil(done, name)
      assert.is_string(message)
      assert.equal("io", code)
    end
    assert.is_true(safetensors.save(folder .. "/" .. ("n"):rep(255), tensors))
    no_leftovers()
  end)

  it("is the old one after any failure", function()
    shell.write_file(path, "old")
    local script = shell.lua_script [[
      local core = require "rondo.core"
      local t = core.zeros({ 300, 200 }, "f32")
      local done, message, code = require("rondo.safetensors").save(arg[1], { a = t, b = t:t() })
      io.write(done and "done" or code .. " " .. message)
    ]]
    local output = shell.sh("trap '' XFSZ; ulimit -f 8; %s %s", script, path)
    assert.matches("^io .*file.safetensors.*large", output)
    assert.equal("old", shell.read_file(path))
    no_leftovers()
    if not shell.has "strace" or os.getenv "LD_PRELOAD" then return end
    for _, fault in ipairs {
      "fallocate:error=ENOSPC", "write:error=ENOSPC:when=1", "write:error=EIO:when=5",
      "fsync:error=EIO:when=1", "renameat:error=EIO", "fchmod:error=EPERM",
    } do
      output = shell.sh("strace -qq -f -o /dev/null -e inject=%s %s %s", fault, script, path)
      assert.matches("^io ", output, fault)
      assert.equal("old", shell.read_file(path), fault)
      no_leftovers()
    end
  end)
end)
