-- What is in tools: the check of the layers finds violations, the set-up names what is missing, and
-- the proof of the quotients holds on a part of what it looks at, and can fail.
local lfs = require "lfs"
local shell = require "spec.support.shell"

local sh, write_file = shell.sh, shell.write_file
local root = lfs.currentdir()
local folder

local function put(name, text)
  sh("mkdir -p %s", shell.quote((folder .. "/" .. name):match "^(.*)/"))
  write_file(folder .. "/" .. name, text)
end

describe("tools/check_layers.lua", function()
  before_each(function()
    folder = shell.temporary_folder()
    for i = 1, 20 do put(("src/core/file%d.c"):format(i), '#include "core/file.h"\n') end
  end)
  after_each(function() shell.remove(folder) end)

  local function check()
    return sh("cd %s && lua5.4 %s/tools/check_layers.lua", folder, root)
  end

  it("accepts what keeps to the layers", function()
    put("src/kernels/a.c", '#include "rondo/tensor.h"\n#include <math.h>\n')
    put("src/format/a.c", '#include "core/a.h"\n#include "format/b.h"\n#include <stdio.h>\n')
    put("src/bind/a.c", "#include <lua.h>\n#include <lauxlib.h>\n")
    put("src/main.c", '#include "rondo/rondo.h"\n')
    put("lua/rondo/model/init.lua", 'local a = require "rondo.core"\n')
    put("lua/rondo/cli/init.lua", 'local a = require "rondo.cli.parser"\n')
    local text, status = check()
    assert.equal("", text)
    assert.equal(0, status)
  end)

  it("finds every kind of violation", function()
    for name, text in pairs {
      ["src/kernels/a.c"] = '#include "core/pool.h"',
      ["src/core/a.c"] = '  #  include "format/a.h"',
      ["src/core/b.h"] = "#include <lua.h>", ["src/core/c.c"] = '#include "rondo/rondo.h"',
      ["src/core/d.c"] = "#include <rondo/rondo.h>", ["src/format/a.c"] = '#include "bind/bind.h"',
      ["src/format/b.c"] = '#include "lauxlib.h"', ["src/bind/a.c"] = '#include "host/host.h"',
      ["src/main.c"] = '#include "core/error.h"', ["include/rondo/a.h"] = '#include "core/error.h"',
      ["lua/rondo/model/a.lua"] = "require('rondo.cli.output')",
      ["lua/rondo/clip/a.lua"] = 'local x = require"rondo.plot"',
      ["lua/rondo/plan.lua"] = 'require ("rondo.repl")',
    } do
      put(name, text .. "\n")
      local found, status = check()
      assert.equal(1, status, name)
      assert.equal(1, select(2, found:gsub("\n", "\n")), found)
      assert.truthy(found:find(name, 1, true), found)
      os.remove(folder .. "/" .. name)
    end
  end)

  it("wants to see the sources", function()
    sh("rm -r %s/src", folder)
    assert.equal(1, (select(2, check())))
  end)

  it("looks into the kernels' objects", function()
    sh("mkdir -p %s/b/CMakeFiles/kernels_base.dir/src", folder)
    put("a.c", "int lua_gettop(void *); int f(void *L) { return lua_gettop(L); }\n")
    local function check_build()
      return sh("cd %s && lua5.4 %s/tools/check_layers.lua b", folder, root)
    end
    assert.truthy(check_build():find "no kernels' objects in b")
    sh("cd %s && cc -c a.c -o b/CMakeFiles/kernels_base.dir/src/a.c.o", folder)
    assert.truthy(check_build():find "a.c.o needs lua_gettop")
  end)
end)

describe("tools/setup.sh", function()
  -- A folder of commands: those that scripts need, without the ones that are left out.
  local function commands(without)
    assert(lfs.mkdir(folder .. "/bin"))
    for name in ([[sh env cat id mktemp nproc grep sed rm mkdir dirname basename realpath lua5.4
                   cc make cmake pkg-config busted luacheck clang-format objdump
                   python3 strace]]):gmatch "%S+" do
      local path = sh("command -v %s", name):match "^(/.*)\n$"
      if path and not without[name] then sh("ln -s %s %s/bin/%s", path, folder, name) end
    end
  end

  before_each(function() folder = shell.temporary_folder() end)
  after_each(function() shell.remove(folder) end)

  it("names what is missing where there is no apt", function()
    commands { cmake = true, ["lua5.4"] = true }
    local text, status = sh("env PATH=%s/bin sh examples/quickstart.sh", folder)
    assert.equal(1, status, text)
    assert.truthy(text:find("Lua 5.4, as the command lua5.4", 1, true), text)
    assert.truthy(text:find("CMake 3.25 or newer", 1, true), text)
    local packages = "packages are: lua5.4 cmake lua-filesystem lua-argparse\n"
    assert.truthy(text:find(packages, 1, true), text)
  end)

  it("asks for the test tools only where they are needed", function()
    commands { busted = true, strace = true }
    local text, status = sh(
      "env PATH=%s/bin sh -c 'root=%s; . tools/setup.sh; install_missing build'", folder, root)
    assert.equal("", text)
    assert.equal(0, status)
    text, status = sh("env CI= PATH=%s/bin sh spec/run.sh", folder)
    assert.equal(1, status, text)
    assert.truthy(text:find("packages are: lua-busted strace\n", 1, true), text)
  end)

  it("shows how far the build is, and all that it said where it fails", function()
    commands { cmake = true }
    local function build(lines)
      write_file(folder .. "/bin/cmake", "#!/bin/sh\n[ $1 = --preset ] && exit\n" .. lines)
      sh("chmod +x %s/bin/cmake", folder)
      return sh("env PATH=%s/bin sh -c 'root=%s; . tools/setup.sh; build_in %s/b default'", folder,
                folder, folder)
    end
    local make = "echo '[ 4%] Building C object a.o'; echo '[ 33%] Building C object b.o'; "
      .. "echo '[ 38%] Building C object c.o'; echo '[ 99%] Building C object d.o'; "
      .. "echo '[100%] Linking e'\n"
    local text, status = build(make)
    assert.same({ "building " .. folder .. "/b 33% 99%\n", 0 }, { text, status })
    text, status = build "echo '[1/4] Building C object a.o'; echo '[4/4] Linking e'\n"
    assert.same({ "building " .. folder .. "/b 25%\n", 0 }, { text, status })
    text, status = build "echo '[1/4] Building C object a.o'; echo 'a.c:1: wrong'; exit 3\n"
    assert.equal(1, status)
    assert.truthy(text:find("/b 25%\n", 1, true), text)
    assert.truthy(text:find("a.c:1: wrong\nsh: building failed\n", 1, true), text)
  end)

  it("refuses a CMake that is too old", function()
    commands { cmake = true }
    write_file(folder .. "/bin/cmake", "#!/bin/sh\necho cmake version 3.18.4\n")
    sh("chmod +x %s/bin/cmake", folder)
    local text, status = sh("env PATH=%s/bin sh examples/quickstart.sh", folder)
    assert.equal(1, status, text)
    assert.truthy(text:find("packages are: cmake\n", 1, true), text)
  end)
end)

describe("tools/check_quotient.c", function()
  before_each(function() folder = shell.temporary_folder() end)
  after_each(function() shell.remove(folder) end)

  -- Compiles it and looks at every 997th mantissa; edit changes the source before.
  local function check(edit)
    local source = shell.read_file "tools/check_quotient.c"
    if edit then source = edit(source) end
    write_file(folder .. "/check.c", source)
    local text, status = sh("unset LD_PRELOAD\ncc -O3 -march=native -ffp-contract=off -Wall "
      .. "-Wextra -Werror %s/check.c -lm -o %s/check", folder, folder)
    assert.equal(0, status, text)
    return sh("%s/check 258 997", folder)
  end

  it("finds no quotient near a cut that is not the rounded one", function()
    local text, status = check()
    assert.equal(0, status, text)
    local places, differences = text:match "^(%d+) places, (%d+) differences\n$"
    assert.truthy(tonumber(places) > 2e6, text)
    assert.equal("0", differences)
  end)

  it("finds those that a product alone gets wrong", function()
    local text, status = check(function(source)
      local changed, count = source:gsub("fmaf%(fmaf%(%-q, scale, x%), inverse, q%)", "q")
      assert.equal(1, count)
      return changed
    end)
    assert.equal(1, status, text)
    assert.truthy(tonumber(text:match "places, (%d+) differences") > 1000, text)
  end)
end)
