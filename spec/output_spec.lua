-- Output folders: they appear whole or not at all, destroy nothing that they should not, and
-- leave nothing behind.
local core = require "rondo.core"
local lfs = require "lfs"
local shell = require "spec.support.shell"

local sh, read_file, write_file = shell.sh, shell.read_file, shell.write_file
local names = shell.names
local root -- a fresh folder for each test

local function path(name) return root .. "/" .. name end

-- What lies in the folder beside the names that are expected there.
local function assert_only(folder, expected)
  table.sort(expected)
  assert.same(expected, names(folder))
end

local function is_link(name) return lfs.symlinkattributes(name, "mode") == "link" end

local function make_model(name)
  assert(lfs.mkdir(path(name)))
  write_file(path(name) .. "/config.json", "{}")
  write_file(path(name) .. "/model.safetensors", "weights of " .. name)
end

-- Writes and publishes an output of two files.
local function produce(where, options)
  local out, message, code = core.output(where, options)
  if not out then return nil, message, code end
  assert(out:write("config.json", "new"))
  local file = assert(out:file("model.safetensors", 6))
  assert(file:write(3, "def"))
  assert(file:write(0, "abc"))
  assert(file:close())
  return out:publish()
end

local function assert_new(folder)
  assert.same({ "config.json", "model.safetensors" }, names(folder))
  assert.equal("new", read_file(folder .. "/config.json"))
  assert.equal("abcdef", read_file(folder .. "/model.safetensors"))
end

local function assert_refused(code, words, ok, message, got)
  assert.is_nil(ok)
  assert.equal(code, got)
  assert.truthy(message:find(words, 1, true), message)
  assert.truthy(#message <= 512)
end

describe("output folders", function()
  before_each(function() root = shell.temporary_folder() end)
  after_each(function() shell.remove(root) end)

  describe("are published", function()
    it("with all their files, and nothing is left beside them", function()
      assert.is_true(produce(path "out"))
      assert_new(path "out")
      assert_only(root, { "out" })
    end)

    it("under every spelling of their path", function()
      local before = lfs.currentdir()
      finally(function() lfs.chdir(before) end)
      assert(lfs.mkdir(path "sub"))
      lfs.chdir(path "sub")
      for _, spelling in ipairs { "a", "./b", "c/", "d//", "e/.", "../f", "../sub/g/./",
                                  root .. "//h" } do
        assert.is_true(produce(spelling))
      end
      assert_only(path "sub", { "a", "b", "c", "d", "e", "g" })
      assert_only(root, { "f", "h", "sub" })
      for _, name in ipairs { "sub/a", "sub/e", "sub/g", "f", "h" } do assert_new(path(name)) end
    end)

    it("where a link leads, and the link stays", function()
      make_model "real"
      assert(lfs.link(path "real", path "link", true))
      assert.is_true(produce(path "link/", { overwrite = true }))
      assert_new(path "real")
      assert.is_true(is_link(path "link"))
      assert_only(root, { "link", "real" })
    end)

    it("with names as long as the file system takes", function()
      for _, name in ipairs { ("n"):rep(219), ("n"):rep(220), ("n"):rep(255), ("é"):rep(127) } do
        local out = assert(core.output(path(name)))
        assert.truthy(#out:partial() - #root - 1 <= 255)
        assert(out:write("config.json", "new"))
        assert.is_true(out:publish())
        assert.equal("new", read_file(path(name) .. "/config.json"))
      end
      assert.equal(4, #names(root))
    end)

    it("and tell their paths", function()
      local out = assert(core.output(root .. "/./out/"))
      assert.equal(path "out", out:path())
      local pattern = "^" .. path("out"):gsub("%p", "%%%0") .. "%.partial%-%d+%-%x+$"
      assert.truthy(out:partial():find(pattern))
      assert.equal("directory", lfs.attributes(out:partial(), "mode"))
      assert.is_nil(lfs.attributes(path "out"))
      out:abort()
    end)
  end)

  describe("refuse", function()
    it("paths that lead nowhere", function()
      write_file(path "file", "x")
      assert(lfs.link("nowhere", path "dangling", true))
      assert(lfs.link("loop", path "loop", true))
      assert_refused("io", path "missing", core.output(path "missing/out"))
      assert_refused("io", "parent folder", core.output(path "missing/.."))
      assert_refused("io", "Not a directory", core.output(path "file/out"))
      assert_refused("io", "leads nowhere", core.output(path "dangling", { overwrite = true }))
      assert_refused("io", "symbolic links", core.output(path "loop"))
      assert_refused("io", "File name too long", core.output(path(("n"):rep(256))))
      assert_refused("exists", "not a folder", core.output(path "file"))
      assert_refused("exists", "not a folder", core.output(path "file", { overwrite = true }))
      assert_refused("usage", "root folder", core.output("/", { overwrite = true }))
      assert_only(root, { "dangling", "file", "loop" })
    end)

    it("a parent without permission to write", function()
      assert(lfs.mkdir(path "parent"))
      sh("chmod 755 %s; chmod 555 %s/parent", root, root)
      local ok, text = shell.lua_as_nobody([[
        local out, message, code = require("rondo.core").output(arg[1])
        print(out, code, message)]], path "parent/out")
      if ok == nil then return pending "needs root and setpriv, or a plain user" end
      assert.truthy(text:find("nil\tio\tcannot create a folder beside", 1, true), text)
      assert.truthy(text:find("Permission denied", 1, true), text)
    end)

    it("wrong arguments, in Lua's wording", function()
      assert.error_matches(function() core.output() end, "bad argument #1 to 'output'")
      assert.error_matches(function() core.output("") end, "the path is empty")
      assert.error_matches(function() core.output("a\0b") end, "NUL byte")
      assert.error_matches(function() core.output(path "o", 1) end, "bad argument #2")
      assert.error_matches(function() core.output(path "o", { overwrit = true }) end,
        "unknown option 'overwrit' %(known: inputs, overwrite%)")
      assert.error_matches(function() core.output(path "o", { overwrite = 1 }) end, "true or false")
      for _, inputs in ipairs { "x", { 1 }, { "a\0" }, { "" } } do
        assert.error_matches(function() core.output(path "o", { inputs = inputs }) end,
          "list of paths")
      end
      assert_only(root, {})
    end)
  end)

  describe("and their inputs:", function()
    local function refused(words, where, inputs, overwrite)
      local ok, message, code = core.output(where, { inputs = inputs, overwrite = overwrite })
      assert_refused("usage", words, ok, message, code)
    end

    before_each(function()
      make_model "model"
      assert(lfs.mkdir(path "model/sub"))
      assert(lfs.mkdir(path "other"))
    end)

    it("the output is an input, however it is spelled", function()
      assert(lfs.link(path "model", path "link", true))
      for _, overwrite in ipairs { true, false } do
        for _, where in ipairs { "model", "model/", "./model/.", "other/../model", "link",
                                 "link/sub/.." } do
          refused("is the input", path(where), { path "model" }, overwrite)
        end
        refused("is the input", path "model", { path "link/" }, overwrite)
      end
      assert.equal("weights of model", read_file(path "model/model.safetensors"))
    end)

    it("the output lies inside an input", function()
      assert(lfs.link(path "model/sub", path "link", true))
      for _, where in ipairs { "model/out", "model/sub/out", "link/out", "other/../model/out" } do
        refused("inside the input", path(where), { path "model" })
      end
      refused("inside the input", path "model/out", { path "other", path "link/.." })
    end)

    it("the output holds an input", function()
      write_file(path "config.json", "{}")
      refused("holds the input", root, { path "model" }, true)
      refused("holds the input", path "model", { path "model/sub" }, true)
      refused("holds the input", path "model", { path "model/model.safetensors" }, true)
      assert(lfs.link(path "model/model.safetensors", path "other/model.safetensors", true))
      refused("holds the input", path "model", { path "other/model.safetensors" }, true)
      refused("holds the input", path "model", { path "other" }, true) -- by the link in it
    end)

    it("hard links and links inside the old folder count", function()
      make_model "old"
      assert(lfs.link(path "model/model.safetensors", path "old/shard.safetensors"))
      local options = { inputs = { path "model" }, overwrite = true }
      assert_refused("usage", "it holds the input", core.output(path "old", options))
      os.remove(path "old/shard.safetensors")
      assert(lfs.link(path "model", path "old/link", true))
      options.inputs = { path "old/link" }
      assert_refused("usage", "it holds the input", core.output(path "old", options))
    end)

    it("bind mounts are seen through", function()
      if not shell.can_mount() then return pending "needs unshare -rm" end
      assert(lfs.mkdir(path "mount"))
      assert(lfs.mkdir(path "mount2"))
      local script = shell.lua_script([[
        local core, root = require "rondo.core", arg[1]
        for _, case in ipairs {
          { "mount", "model" }, { "model", "mount" }, { "mount/out", "model" },
          { "model/out", "mount" }, { "model", "mount2" }, { "model", "mount2/x" },
          { "mount", "mount2/x" },
        } do
          local out, message, code = core.output(root .. "/" .. case[1],
            { inputs = { root .. "/" .. case[2] }, overwrite = true })
          print(case[1], case[2], out, code, message)
        end]])
      write_file(path "model/sub/x", "x")
      local text = shell.with_mounts({ { path "model", path "mount" },
                                       { path "model/sub", path "mount2" } }, script .. " " .. root)
      local _, count = text:gsub("\tnil\tusage\t", "")
      assert.equal(6, count, text)
      assert.truthy(text:find("mount\tmount2/x\tnil\texists\t", 1, true), text) -- a mount itself
    end)

    it("neighbours are welcome", function()
      assert.is_true(produce(path "model-w4", { inputs = { path "model" } }))
      assert.is_true(produce(path "model/w4", { inputs = { path "model/model.safetensors" } }))
      assert.is_true(produce(path "other", { inputs = { path "model" }, overwrite = true }))
      assert_new(path "model-w4")
      assert_new(path "model/w4")
      assert_new(path "other")
    end)

    it("an input that is not there is an error", function()
      assert_refused("io", path "gone", core.output(path "out", { inputs = { path "gone" } }))
      assert_only(root, { "model", "other" })
    end)
  end)

  describe("and what stands in their place:", function()
    it("nothing is replaced without overwrite", function()
      assert(lfs.mkdir(path "empty"))
      make_model "old"
      assert_refused("exists", "exists already", produce(path "empty"))
      assert_refused("exists", "exists already", produce(path "old", { overwrite = false }))
      assert.equal("weights of old", read_file(path "old/model.safetensors"))
      assert_only(root, { "empty", "old" })
    end)

    it("a folder created meanwhile is left alone", function()
      for _, overwrite in ipairs { false, true } do
        local out = assert(core.output(path "out", { overwrite = overwrite }))
        assert(out:write("config.json", "new"))
        assert(lfs.mkdir(path "out"))
        write_file(path "out/letter.txt", "keep me")
        assert_refused("exists", path "out", out:publish())
        assert.equal("keep me", read_file(path "out/letter.txt"))
        assert_only(root, { "out" })
        shell.remove(path "out")
      end
    end)

    it("with overwrite an empty folder or a checkpoint is replaced as a whole", function()
      assert(lfs.mkdir(path "empty"))
      assert.is_true(produce(path "empty", { overwrite = true }))
      assert_new(path "empty")
      assert.is_true(produce(path "absent", { overwrite = true }))
      assert_new(path "absent")
      for _, mark in ipairs { "config.json", "rondo-report.json", "x.safetensors" } do
        assert(lfs.mkdir(path "old"))
        write_file(path("old/" .. mark), "old")
        write_file(path "old/more", "old")
        assert(lfs.mkdir(path "old/sub"))
        assert(lfs.mkdir(path "old/sub/sub"))
        write_file(path "old/sub/sub/file", "old")
        assert.is_true(produce(path "old", { overwrite = true }))
        assert_new(path "old")
        shell.remove(path "old")
      end
      assert_only(root, { "absent", "empty" })
    end)

    it("what an old folder links to stays", function()
      make_model "old"
      assert(lfs.mkdir(path "elsewhere"))
      write_file(path "elsewhere/file", "keep me")
      assert(lfs.link(path "elsewhere", path "old/folder", true))
      assert(lfs.link(path "elsewhere/file", path "old/link", true))
      assert.is_true(produce(path "old", { overwrite = true }))
      assert_new(path "old")
      assert.equal("keep me", read_file(path "elsewhere/file"))
    end)

    it("folders that are no checkpoint, or more than one, are kept", function()
      local function kept(words, expected)
        local before = shell.sh("cd %s && find old | sort", root)
        local ok, message, code = produce(path "old", { overwrite = true })
        assert_refused(expected or "exists", words, ok, message, code)
        assert.equal(before, (shell.sh("cd %s && find old | sort", root)))
        assert_only(root, { "old" })
      end
      assert(lfs.mkdir(path "old"))
      write_file(path "old/thesis.txt", "x")
      kept "does not look like a checkpoint"
      write_file(path "old/config.json", "{}")
      assert(lfs.mkdir(path "old/.git"))
      kept "git repository"
      lfs.rmdir(path "old/.git")
      local before = lfs.currentdir()
      finally(function() lfs.chdir(before) end)
      assert(lfs.mkdir(path "old/a"))
      lfs.chdir(path "old/a")
      kept "holds the working folder"
      lfs.chdir(before)
      sh("cd %s/old/a && mkdir -p %s", root, ("d/"):rep(70))
      kept("not all of it can be looked at", "io")
    end)

    it("folders in which something is mounted are kept", function()
      if not shell.can_mount() then return pending "needs unshare -rm" end
      make_model "old"
      assert(lfs.mkdir(path "old/mount"))
      assert(lfs.mkdir(path "home"))
      write_file(path "home/file", "keep me")
      local script = shell.lua_script [[
        print(select(2, require("rondo.core").output(arg[1], { overwrite = true })))]]
      local command = script .. " " .. path "old"
      local text = shell.with_mounts({ { path "home", path "old/mount" } }, command)
      assert.truthy(text:find("something is mounted in it, at mount", 1, true), text)
      text = shell.with_mounts({ { path "old", path "old" } }, command)
      assert.truthy(text:find("it is where something is mounted", 1, true), text)
      assert.equal("keep me", read_file(path "home/file"))
    end)

    it("folders without permission to empty them are kept", function()
      make_model "old"
      assert(lfs.mkdir(path "old/sub"))
      write_file(path "old/sub/file", "x")
      sh("chmod 777 %s %s/old; chmod 555 %s/old/sub", root, root, root)
      local ok, text = shell.lua_as_nobody([[
        print(select(2, require("rondo.core").output(arg[1], { overwrite = true })))]], path "old")
      if not ok then return pending "needs root and setpriv, or a plain user" end
      assert.truthy(text:find("no permission to empty sub\texists", 1, true), text)
      assert_only(root, { "old" })
    end)
  end)

  describe("files", function()
    local out
    before_each(function() out = assert(core.output(path "out")) end)
    after_each(function() out:abort() end)

    it("take strings and tensors at any offset, in any order", function()
      local file = assert(out:file("data", 16))
      assert.is_true(file:write(12, core.tensor({ 1, 2 }, "i16")))
      assert.is_true(file:write(4, core.from_bytes("efghijkl", "u8", { 2, 4 })))
      assert.is_true(file:write(0, "abcd"))
      assert.is_true(file:write(16, ""))
      assert.is_true(file:close())
      assert.is_true(assert(out:file("empty", 0)):close())
      assert.is_true(out:publish())
      assert.equal("abcdefghijkl\1\0\2\0", read_file(path "out/data"))
      assert.equal("", read_file(path "out/empty"))
    end)

    it("with thousands of pieces in a shuffled order are complete", function()
      local n, order = 3000, {}
      for i = 1, n do table.insert(order, math.random(1, i), i) end
      local file = assert(out:file("data", 4 * n))
      for _, i in ipairs(order) do assert(file:write(4 * (i - 1), ("%4d"):format(i))) end
      assert.is_true(file:close())
      assert.is_true(out:publish())
      local expected = {}
      for i = 1, n do expected[i] = ("%4d"):format(i) end
      assert.equal(table.concat(expected), read_file(path "out/data"))
    end)

    it("are refused while a byte is missing", function()
      for _, case in ipairs {
        { {}, "bytes 0 to 7 of" }, { { 0, 1, 2, 4, 5, 6, 7 }, "bytes 3 to 3 of" },
        { { 4, 5, 6, 7 }, "bytes 0 to 3 of" }, { { 0, 1 }, "bytes 2 to 7 of" },
        { { 1, 2, 5 }, "bytes 0 to 0 of" },
      } do
        local folder = assert(core.output(path "holes"))
        local file = assert(folder:file("data", 8))
        for _, offset in ipairs(case[1]) do assert(file:write(offset, "x")) end
        assert_refused("usage", case[2], file:close())
        assert_refused("usage", case[2], folder:publish())
      end
      assert.is_nil(lfs.attributes(path "holes"))
    end)

    it("keep to their size", function()
      local file = assert(out:file("data", 4))
      assert_refused("usage", "do not fit", file:write(1, "abcd"))
      assert_refused("usage", "do not fit", file:write(5, ""))
      assert_refused("usage", "do not fit", file:write(math.maxinteger, "abcd"))
      assert.error_matches(function() file:write(-1, "a") end, "cannot be negative")
      assert.error_matches(function() file:write(0.5, "a") end, "no integer representation")
      assert.error_matches(function() file:write(0, {}) end, "bad argument")
      assert.error_matches(function() out:file("x", -1) end, "cannot be negative")
      assert.is_true(file:write(0, "abcd"))
      assert.is_true(file:close())
    end)

    it("have plain names, each once", function()
      for _, name in ipairs { "", ".", "..", "a/b", "/a", "../a", ("n"):rep(256) } do
        assert.error_matches(function() out:file(name, 1) end, "a file name without '/'")
        assert.error_matches(function() out:write(name, "") end, "a file name without '/'")
        assert.error_matches(function() out:copy(name, path "x") end, "a file name without '/'")
      end
      assert.error_matches(function() out:write("a\0b", "") end, "NUL byte")
      assert.is_true(out:write(("n"):rep(255), "x"))
      assert.is_true(out:write("twice", "x"))
      assert_refused("usage", "was written before", out:write("twice", "x"))
    end)

    it("of tensors that are not row-major are refused", function()
      local file = assert(out:file("data", 16))
      local t = core.tensor { { 1, 2 }, { 3, 4 } }
      assert.error_matches(function() file:write(0, t:transpose()) end, "row%-major")
      assert.is_true(file:write(0, t))
      assert.is_true(file:close())
    end)

    it("must be closed before publishing", function()
      local file = assert(out:file("data", 1))
      assert_refused("usage", "1 files that are not closed", out:publish())
      assert.error_matches(function() file:write(0, "x") end, "output of this file is closed")
      assert_only(root, {})
    end)

    it("that are dropped, or failed, forbid publishing", function()
      out:file("data", 1)
      collectgarbage()
      assert_refused("usage", "data was not finished", out:publish())
      local again = assert(core.output(path "out"))
      assert_refused("io", "out/huge", again:file("huge", math.maxinteger))
      assert_refused("io", "out/huge", again:publish())
      assert_only(root, {})
    end)

    it("after the end are errors", function()
      local file = assert(out:file("data", 1))
      assert(file:write(0, "x"))
      assert(file:close())
      assert.error_matches(function() file:close() end, "the file is closed")
      assert.error_matches(function() file:write(0, "x") end, "the file is closed")
      out:abort()
      out:abort()
      for _, method in ipairs { "publish", "path", "partial" } do
        assert.error_matches(function() out[method](out) end, "the output is closed")
      end
      assert.error_matches(function() out:write("a", "") end, "the output is closed")
    end)

    it("are copied by their bytes", function()
      local bytes = {}
      for i = 1, 300000 do bytes[i] = string.pack("<I4", i * 2654435761 % 2 ^ 32 // 1 | 0) end
      write_file(path "source", table.concat(bytes))
      sh("chmod 600 %s/source", root)
      assert(lfs.link(path "source", path "link", true))
      assert.is_true(out:copy("copy", path "link"))
      assert_refused("io", "not a regular file", out:copy("folder", root))
      assert_refused("io", path "gone", out:copy("gone", path "gone"))
      assert.is_true(out:publish())
      assert.equal(table.concat(bytes), read_file(path "out/copy"))
      assert.equal("file", lfs.symlinkattributes(path "out/copy", "mode"))
    end)
  end)

  describe("modes", function()
    local function mode(name) return (sh("stat -c %%a %s", path(name)):gsub("\n", "")) end
    local script = shell.lua_script [[
      local core = require "rondo.core"
      local out = assert(core.output(arg[1], { overwrite = arg[2] == "overwrite" }))
      assert(out:write("config.json", "new"))
      assert(out:write("fresh", "new"))
      assert(out:copy("copy", arg[0]))
      assert(out:publish())]]

    it("follow umask", function()
      for mask, expected in pairs { ["000"] = { "777", "666" }, ["022"] = { "755", "644" },
                                    ["077"] = { "700", "600" } } do
        assert.equal("", (sh("umask %s; %s %s", mask, script, path("out" .. mask))))
        assert.equal(expected[1], mode("out" .. mask))
        assert.equal(expected[2], mode("out" .. mask .. "/config.json"))
        assert.equal(expected[2], mode("out" .. mask .. "/copy"))
      end
    end)

    it("of a folder and files that are replaced stay", function()
      make_model "old"
      sh("chmod 2750 %s/old; chmod 640 %s/old/config.json", root, root)
      assert.equal("", (sh("umask 022; %s %s overwrite", script, path "old")))
      assert.equal("2750", mode "old")
      assert.equal("640", mode "old/config.json")
      assert.equal("644", mode "old/fresh")
    end)
  end)

  describe("leave nothing", function()
    it("when they are aborted, closed, collected or left by an error", function()
      core.output(path "a"):abort()
      do
        local out <close> = assert(core.output(path "b"))
        assert(out:write("file", "x"))
      end
      pcall(function()
        local out <close> = assert(core.output(path "c"))
        assert(out:write("file", "x"))
        error "stop"
      end)
      assert_only(root, {})
      assert(core.output(path "d")):write("file", "x")
      collectgarbage()
      assert_only(root, {})
    end)

    it("when the state closes with files open", function()
      local script = shell.lua_script [[
        local core = require "rondo.core"
        out = assert(core.output(arg[1]))
        file = assert(out:file("data", 10))
        other = assert(core.output(arg[1] .. "2"))
        other_file = assert(other:file("data", 10))
        setmetatable({}, { __gc = function()
          pcall(file.write, file, 0, "x")
          pcall(out.path, out)
        end })]]
      assert.equal("", (sh("%s %s", script, path "out")))
      assert_only(root, {})
    end)

    it("when a finalizer aborts what is in use", function()
      local script = shell.lua_script [[
        local core = require "rondo.core"
        collectgarbage("incremental", 1, 10000)
        local abort
        local function arm()
          setmetatable({}, { __gc = function() if abort then abort() end arm() end })
        end
        for _ = 1, 20 do arm() end
        local names = {} -- beforehand, so that what allocates below is the call itself
        for i = 1, 100 do names[i] = "n" .. i end
        local aborted = 0
        for _ = 1, 100 do
          local out = assert(core.output(arg[1]))
          local function kill() out:abort() end
          local fine, message = pcall(function()
            for i = 1, 100 do
              abort = kill
              local file, why = out:file(names[i], 0)
              abort = nil
              if not file then error(why, 0) end
              file:close()
            end
          end)
          abort = nil
          assert(fine or message:find "closed", message)
          if not fine then aborted = aborted + 1 end
          out:abort()
          assert(not pcall(out.path, out))
        end
        assert(aborted > 50, aborted)
        io.write "end"]]
      assert.equal("end", (sh("%s %s", script, path "out")))
      assert_only(root, {})
    end)

    it("of earlier runs that died", function()
      local dead = { "out.partial-1-0123456789abcdef", "out.partial-4194304-ffffffffffffffff" }
      local foreign = {
        "out.partial-1-0123456789abcde", "out.partial-1-0123456789abcdeff",
        "out.partial-1-0123456789ABCDEF", "out.partial--0123456789abcdef",
        "out.partial-x-0123456789abcdef", "out.partial-1_0123456789abcdef",
        "out.partial-1-0123456789abcdef.old", "xout.partial-1-0123456789abcdef",
        "ou.partial-1-0123456789abcdef", "out2.partial-1-0123456789abcdef",
        "out.partial-12345678901-0123456789abcdef",
      }
      assert(lfs.mkdir(path "elsewhere"))
      write_file(path "elsewhere/file", "keep me")
      for _, list in ipairs { dead, foreign } do
        for _, name in ipairs(list) do
          sh("mkdir -p %s/sub/sub; echo x > %s/sub/sub/file", path(name), path(name))
          assert(lfs.link(path "elsewhere", path(name) .. "/link", true))
        end
      end
      local link, plain = "out.partial-2-0123456789abcdef", "out.partial-3-0123456789abcdef"
      assert(lfs.link(path "elsewhere", path(link), true))
      write_file(path(plain), "a file")
      assert.is_true(produce(path "out"))
      local expected = { "elsewhere", "out", link, plain }
      table.move(foreign, 1, #foreign, #expected + 1, expected)
      assert_only(root, expected)
      assert.equal("keep me", read_file(path "elsewhere/file"))
    end)

    it("but what belongs to others", function()
      if sh("id -u") ~= "0\n" then return pending "needs root" end
      local theirs, mine = "out.partial-1-0123456789abcdef", "out.partial-2-0123456789abcdef"
      assert(lfs.mkdir(path(theirs)))
      assert(lfs.mkdir(path(mine)))
      sh("chown 65534 %s", path(theirs))
      assert.is_true(produce(path "out"))
      assert_only(root, { "out", theirs })
    end)

    it("but an input", function()
      local left = "out.partial-1-0123456789abcdef"
      make_model(left)
      assert.is_true(produce(path "out", { inputs = { path(left) } }))
      assert_only(root, { "out", left })
      local options = { inputs = { path(left) .. "/config.json" }, overwrite = true }
      assert.is_true(produce(path "out", options))
      assert_only(root, { "out", left })
      assert.is_true(produce(path "out", { overwrite = true }))
      assert_only(root, { "out" })
    end)

    it("of runs that have died meanwhile", function()
      local out = assert(core.output(path "out"))
      sh("mkdir %s", path "out.partial-1-0123456789abcdef")
      assert(out:write("config.json", "new"))
      assert.is_true(out:publish())
      assert_only(root, { "out" })
    end)

    it("but what is still alive", function()
      local first = assert(core.output(path "out"))
      local second = assert(core.output(path "out"))
      assert.equal("directory", lfs.attributes(first:partial(), "mode"))
      assert(first:write("config.json", "first"))
      assert(second:write("config.json", "second"))
      assert.is_true(first:publish())
      assert_refused("exists", "exists already", second:publish())
      assert.equal("first", read_file(path "out/config.json"))
      assert_only(root, { "out" })
    end)
  end)

  describe("with several writers", function()
    local script = shell.lua_script [[
      local core = require "rondo.core"
      for _ = 1, tonumber(arg[3]) do
        local out, message, code = core.output(arg[1], { overwrite = arg[2] == "overwrite" })
        if out then
          for i = 1, 20 do assert(out:write(i .. ".safetensors", arg[4])) end
          out, message, code = out:publish()
        end
        print(out, code, message)
      end]]

    local function race(mode, rounds)
      local words = {}
      for writer = 1, 4 do
        words[writer] = ("%s %s %s %d %d &"):format(script, path "out", mode, rounds, writer)
      end
      return (sh(table.concat(words, "\n") .. "\nwait"))
    end

    it("one wins whole", function()
      for _ = 1, 5 do
        local text = race("new", 1)
        local _, won = text:gsub("true\tnil", "")
        local _, lost = text:gsub("nil\texists", "")
        assert.same({ 1, 3 }, { won, lost }, text)
        assert.equal(20, #names(path "out"))
        assert_only(root, { "out" })
        shell.remove(path "out")
      end
    end)

    it("each replaces the other as a whole", function()
      local text = race("overwrite", 10)
      local _, won = text:gsub("true\tnil", "")
      local _, lost = text:gsub("nil\texists", "") -- replaced between check and exchange
      assert.equal(40, won + lost, text)
      assert.truthy(won >= 10, text)
      local writer = read_file(path "out/1.safetensors")
      for i = 1, 20 do assert.equal(writer, read_file(path("out/" .. i .. ".safetensors"))) end
      assert_only(root, { "out" })
    end)
  end)
end)
