-- The rockspec: LuaRocks builds a clone, and what it installs works.
local lfs = require "lfs"
local shell = require "spec.support.shell"

local sh = shell.sh
local root = lfs.currentdir()

describe("the rockspec", function()
  it("builds and installs", function()
    if not shell.has "luarocks" then return pending "needs luarocks" end
    if os.getenv "LD_PRELOAD" then return pending "has nothing to do with sanitizers" end
    local folder = shell.temporary_folder()
    finally(function() shell.remove(folder) end)
    local text, status = sh("mkdir %s/clone && cd %s && "
      .. "tar -c --exclude=./build* --exclude=./.git . | tar -x -C %s/clone && "
      .. "cd %s/clone && env HOME=%s MAKEFLAGS=-j$(nproc) "
      .. "luarocks --lua-version 5.4 --tree %s/tree make --deps-mode none", folder, root, folder,
      folder, folder, folder)
    assert.equal(0, status, text)
    local tree = folder .. "/tree"
    text = sh("cd / && env LUA_PATH='%s/share/lua/5.4/?.lua;%s/share/lua/5.4/?/init.lua;;' "
      .. "LUA_CPATH='%s/lib/lua/5.4/?.so;;' lua5.4 -e 'print(require([[rondo]]).zeros({ 2 }):sum(),"
      .. " package.searchpath([[rondo.core]], package.cpath))'", tree, tree, tree)
    assert.equal(("0.0\t%s/lib/lua/5.4/rondo/core.so\n"):format(tree), text)
    text = sh("cd / && %s/bin/rondo --version", tree)
    assert.truthy(text:find "^rondo %d", text)
  end)
end)
