-- Output folders when the world fails: every system call that matters fails or kills the writer,
-- in turn. Afterwards OUT is absent, the old folder or the new one, and nothing else remains.
local lfs = require "lfs"
local shell = require "spec.support.shell"

local sh, quote, read_file, write_file = shell.sh, shell.quote, shell.read_file, shell.write_file
local root, out

-- Writes three files; prints "done", or the code and message of the failure.
local writer = shell.lua_script [[
  local core = require "rondo.core"
  local function fail(message, code)
    print(code, message)
    os.exit(1, true)
  end
  local out, message, code = core.output(arg[1], { overwrite = arg[2] == "overwrite" })
  if not out then fail(message, code) end
  local function check(ok, text, name) if not ok then fail(text, name) end return ok end
  check(out:write("config.json", "new"))
  local file = check(out:file("model.safetensors", 8))
  check(file:write(4, "new!"))
  check(file:write(0, "new "))
  check(file:close())
  check(out:copy("copy", (arg[1]:gsub("[^/]*$", "source"))))
  check(out:publish())
  print "done"]]

local function entries(folder)
  local names = {}
  for name in lfs.dir(folder or root) do
    if name ~= "." and name ~= ".." then names[#names + 1] = name end
  end
  table.sort(names)
  return table.concat(names, " ")
end

-- "absent", "old" or "new"; anything else is an error.
local function state()
  if not lfs.attributes(out) then return "absent" end
  local found = {}
  for name in entries(out):gmatch "%S+" do
    found[#found + 1] = name .. ": " .. read_file(out .. "/" .. name)
  end
  local files = table.concat(found, ", ")
  if files == "config.json: old, extra: old" then return "old" end
  assert.equal("config.json: new, copy: source, model.safetensors: new new!", files)
  return "new"
end

local function make_old()
  assert(lfs.mkdir(out))
  write_file(out .. "/config.json", "old")
  write_file(out .. "/extra", "old")
end

-- Runs the writer under strace; returns what it printed and its status.
local function traced(options, mode)
  return sh("env -u LD_PRELOAD strace -f -o %s/../trace -E LD_PRELOAD=%s %s %s %s %s", root,
    quote(os.getenv "LD_PRELOAD" or ""), options, writer, out, mode)
end

-- The same where one system call always fails.
local function without(call, err, mode)
  return traced(("-e trace=%s -e inject=%s:error=%s"):format(call, call, err), mode)
end

-- How often the writer makes each of these calls, in a run where all goes well.
local function count_calls(calls, mode)
  local text = traced("-e trace=" .. table.concat(calls, ","), mode)
  assert.equal("done\n", text)
  local counts, log = {}, read_file(root .. "/../trace")
  for _, call in ipairs(calls) do
    counts[call] = select(2, log:gsub("%f[%w]" .. call .. "%(", ""))
  end
  return counts, log
end

-- For every call of the writer in turn: the old state, inject, visit(call, k, text, status).
local function for_each_call(calls, mode, inject, visit)
  if mode == "overwrite" then make_old() end
  local counts = count_calls(calls, mode)
  for _, call in ipairs(calls) do
    for k = 1, counts[call] do
      shell.remove(out)
      if mode == "overwrite" then make_old() end
      local options = ("-e trace=%s -e inject=%s:%s:when=%d"):format(call, call, inject, k)
      visit(call, k, traced(options, mode))
    end
  end
  return counts
end

describe("output folders in a failing world", function()
  before_each(function()
    local folder = shell.temporary_folder()
    root = folder .. "/work"
    out = root .. "/out"
    assert(lfs.mkdir(root))
    write_file(root .. "/source", "source")
  end)
  after_each(function() shell.remove(root .. "/..") end)

  local has_strace = shell.has "strace"
  local function it_traced(what, test)
    it(what, function()
      if not has_strace then return pending "needs strace" end
      test()
    end)
  end

  it_traced("sync every file, then the folder, then its parent", function()
    local _, log = count_calls({ "openat", "fsync", "renameat2", "pwrite64" }, "new")
    local opened, synced, order = {}, {}, {}
    for line in log:gmatch "[^\n]+" do
      local name, fd = line:match 'openat%(.-, "([^"]*)", .*= (%d+)$'
      if fd then opened[fd] = name end
      local file = line:match "pwrite64%((%d+)," or line:match "fsync%((%d+)%) += 0"
      if line:find "fsync" then
        synced[opened[file]] = true
        order[#order + 1] = "sync " .. opened[file]:gsub("^out%.partial.*", "partial")
      elseif file then
        assert.is_nil(synced[opened[file]], "written after it was synced: " .. line)
      elseif line:find "renameat2" then
        order[#order + 1] = "rename"
      end
    end
    assert.same({ "sync config.json", "sync model.safetensors", "sync copy", "sync partial",
                  "rename", "sync " .. root }, order)
  end)

  local failing = { "mkdirat", "fallocate", "pwrite64", "fsync", "renameat2" }

  for _, mode in ipairs { "new", "overwrite" } do
    it_traced("report a full disk at any call and leave nothing (" .. mode .. ")", function()
      local before = mode == "new" and "absent" or "old"
      local total = 0
      for_each_call(failing, mode, "error=ENOSPC", function(call, k, text, status)
        local where = call .. " " .. k .. ": " .. text
        assert.equal(1, status, where)
        assert.truthy(text:find("^io\t.*No space left on device"), where)
        assert.equal(before, state(), where)
        assert.equal(mode == "new" and "source" or "out source", entries())
        total = total + 1
      end)
      assert.truthy(total >= 12)
    end)

    it_traced("fail for good when syncing fails once (" .. mode .. ")", function()
      for_each_call({ "fsync" }, mode, "error=EIO", function(_, k, text, status)
        assert.equal(1, status, text)
        assert.truthy(text:find("^io\t.*Input/output error"), text)
        assert.equal(mode == "new" and "absent" or "old", state(), "fsync " .. k)
        assert.equal(mode == "new" and "source" or "out source", entries())
      end)
    end)

    it_traced("are whole after kill -9 at any call, then swept (" .. mode .. ")", function()
      local calls = { "mkdirat", "flock", "fallocate", "pwrite64", "fsync", "renameat2",
                      "unlinkat" }
      local seen, total = {}, 0
      for_each_call(calls, mode, "signal=KILL", function(call, k, _, status)
        local where = call .. " " .. k
        assert.truthy(status ~= 0, where)
        local now = state()
        assert.truthy(now == "new" or now == (mode == "new" and "absent" or "old"), where)
        seen[now], total = true, total + 1
        local text = sh("%s %s overwrite", writer, out)
        assert.equal("done\n", text, where)
        assert.equal("new", state(), where)
        assert.equal("out source", entries(), where)
      end)
      assert.truthy(seen.new and (seen.absent or seen.old) and total >= 15)
    end)
  end

  it("are whole after kill -9 at any time, and the next run sweeps", function()
    local slow = shell.lua_script [[
      local core = require "rondo.core"
      local data = ("x"):rep(1 << 16)
      while true do
        local out = assert(core.output(arg[1], { overwrite = true }))
        for i = 1, 8 do assert(out:write(i .. ".safetensors", data)) end
        assert(out:publish())
      end]]
    for _ = 1, 15 do
      sh("%s %s & sleep %.3f; kill -KILL $!; wait $!", slow, out, 0.02 + 0.08 * math.random())
      if lfs.attributes(out) then
        assert.equal("8\n", (sh("ls %s | wc -l", out)))
        assert.equal(tostring(8 << 16) .. "\n", (sh("cat %s/* | wc -c", out)))
      end
    end
    shell.remove(out)
    assert.equal("done\n", (sh("%s %s new", writer, out)))
    assert.equal("out source", entries())
  end)

  it_traced("do without calls that a file system does not have", function()
    for _, case in ipairs { { "fallocate", "EOPNOTSUPP" }, { "renameat2", "EINVAL" },
                            { "renameat2", "ENOSYS" }, { "flock", "EBADF" } } do
      assert.equal("done\n", (without(case[1], case[2], "new")))
      assert.equal("new", state())
      assert.equal("out source", entries())
      shell.remove(out)
    end
  end)

  it_traced("leave an old folder alone that cannot be listed", function()
    make_old()
    local text, status = without("getdents64", "EIO", "overwrite")
    assert.equal(1, status)
    assert.truthy(text:find("Input/output error", 1, true), text)
    assert.equal("old", state())
    assert.equal("out source", entries())
  end)

  it_traced("tell at once when a file system cannot exchange folders", function()
    make_old()
    for _, err in ipairs { "EINVAL", "ENOSYS" } do
      local text, status = without("renameat2,pwrite64", err, "overwrite")
      assert.equal(1, status)
      assert.truthy(text:find("^unsupported\t.*remove or rename the old one"), text)
      assert.equal("old", state())
      assert.equal("out source", entries())
    end
    os.remove(out .. "/config.json")
    os.remove(out .. "/extra") -- an empty folder needs no exchange
    local options = "-e trace=renameat2 -e inject=renameat2:error=EINVAL:when=2+"
    assert.equal("done\n", (traced(options, "overwrite")))
    assert.equal("new", state())
  end)

  it_traced("go on after interrupted calls", function()
    for _, call in ipairs { "pwrite64", "fallocate" } do
      local options = ("-e trace=%s -e inject=%s:error=EINTR:when=1+2"):format(call, call)
      local text = traced(options, "new")
      assert.equal("done\n", text)
      assert.equal("new", state())
      shell.remove(out)
    end
  end)

  it("meet the limit of a file's size without a signal", function()
    local script = shell.lua_script [[
      local core = require "rondo.core"
      local out = assert(core.output(arg[1]))
      print(select(2, out:write("data", ("x"):rep(4096))))
      print(select(2, out:publish()))]]
    local text = sh("sh -c %s", quote(("trap '' XFSZ; ulimit -f 1; %s %s"):format(script, out)))
    local _, count = text:gsub("out/data: File too large\tio\n", "")
    assert.equal(2, count, text)
    assert.equal("source", entries())
  end)

  it("cannot be written by a forked child, which has no thread for it", function()
    require "spec.support.forking"(root .. "/..")
    local script = shell.lua_script [[
      package.cpath = arg[2] .. "/?.so;" .. package.cpath
      local core, forked = require "rondo.core", require "forking"
      local out = assert(core.output(arg[1]))
      local file = assert(out:file("data", 8))
      assert(file:queue(0, core.full({ 4 }, 0x6e, "u8"))) -- starts the thread
      if forked() then
        print(select(2, file:queue(4, core.full({ 4 }, 0x6d, "u8"))))
        print(select(2, file:close()))
        os.exit(0, true) -- and there is no thread to join
      end
      assert(file:queue(4, core.full({ 4 }, 0x6f, "u8")))
      assert(file:close() and out:publish())
      print "done"]]
    local text, status = sh("timeout 20 %s %s %s", script, out, root .. "/..")
    local failure = "cannot write " .. out .. "/data: Operation canceled\tio\n"
    assert.equal(failure .. failure .. "done\n", text)
    assert.equal(0, status)
    assert.equal("nnnnoooo", read_file(out .. "/data"))
    assert.equal("out source", entries())
  end)

  it("notice a full disk before the work", function()
    if not shell.can_mount() then return pending "needs unshare -rm" end
    local script = shell.lua_script [[
      local core = require "rondo.core"
      local out = assert(core.output(arg[1] .. "/out"))
      assert(out:write("small", "x"))
      print(select(2, out:file("data", 4 << 20)))
      print(select(2, out:publish()))
      out = assert(core.output(arg[1] .. "/out"))
      assert(out:write("small", "x"))
      print(out:publish())
      os.execute("ls " .. arg[1])]]
    local text = sh("unshare -rm sh -c %s",
      quote(("mount -t tmpfs -o size=1m none %s && %s %s"):format(root, script, root)))
    local failure = "cannot write " .. out .. "/data: No space left on device\tio\n"
    assert.equal(failure .. failure .. "true\nout\n", text)
  end)
end)
