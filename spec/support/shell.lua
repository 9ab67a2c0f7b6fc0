-- What several specs need of the world outside: shell commands, children that run Lua against the
-- same build, files, folders that are removed again.
local lfs = require "lfs"

local shell = {}

function shell.quote(text) return "'" .. text:gsub("'", "'\\''") .. "'" end

function shell.read_file(name)
  local file = assert(io.open(name, "rb"))
  local text = file:read "a"
  file:close()
  return text
end

function shell.write_file(name, text)
  local file = assert(io.open(name, "wb"))
  assert(file:write(text))
  assert(file:close())
end

-- Whether anything lies at that path, be it a link to nowhere.
function shell.exists(path) return lfs.symlinkattributes(path) ~= nil end

-- The names in a folder, sorted.
function shell.names(folder)
  local list = {}
  for name in lfs.dir(folder) do
    if name ~= "." and name ~= ".." then list[#list + 1] = name end
  end
  table.sort(list)
  return list
end

-- Runs a command (a format and its values); returns its output, stderr included, and exit status.
function shell.sh(format, ...)
  local command = select("#", ...) > 0 and format:format(...) or format
  local pipe = assert(io.popen("{ " .. command .. "\n} 2>&1", "r"))
  local text = pipe:read "a"
  local _, _, status = pipe:close()
  return text, status
end

function shell.has(command)
  return select(2, shell.sh("command -v %s", command)) == 0
end

local temporary -- of this process

-- A new empty folder, without links in its path.
function shell.temporary_folder()
  local name = shell.sh("realpath \"$(mktemp -d)\""):gsub("\n$", "")
  assert(lfs.attributes(name, "mode") == "directory", name)
  return name
end

function shell.remove(folder)
  shell.sh("chmod -R u+rwx %s; rm -rf %s", shell.quote(folder), shell.quote(folder))
end

-- The words that run lua5.4 against the build under test.
function shell.lua()
  return ("env LUA_PATH=%s LUA_CPATH=%s lua5.4"):format(shell.quote(package.path),
    shell.quote(package.cpath))
end

-- Stores a script; returns the words that run it.
function shell.lua_script(source)
  if not temporary then
    temporary = shell.temporary_folder()
    shell.sh("chmod 755 %s", temporary)
    setmetatable(shell, { __gc = function() shell.remove(temporary) end })
  end
  local name = ("%s/%d.lua"):format(temporary, #shell.sh("ls %s", temporary))
  shell.write_file(name, source)
  return shell.lua() .. " " .. name
end

-- Runs a script where permissions count: as nobody when this is root. true and its output, or nil
-- when that is not possible.
function shell.lua_as_nobody(source, argument)
  local script, prefix = shell.lua_script(source), ""
  if shell.sh("id -u") == "0\n" then
    if not shell.has "setpriv" then return nil end
    prefix = "setpriv --reuid=65534 --regid=65534 --clear-groups "
    if shell.sh(prefix .. shell.lua() .. " -e 'require \"rondo.core\"'") ~= "" then return nil end
  end
  return true, (shell.sh(prefix .. script .. " " .. shell.quote(argument)))
end

-- Whether an unprivileged user namespace can mount things.
function shell.can_mount()
  return select(2, shell.sh("unshare -rm sh -c 'mount -t tmpfs none /mnt'")) == 0
end

-- Runs a command where { source, target } are bind mounts, in a namespace of its own.
function shell.with_mounts(mounts, command)
  local words = {}
  for i, mount in ipairs(mounts) do
    words[i] = ("mount --bind %s %s && "):format(shell.quote(mount[1]), shell.quote(mount[2]))
  end
  return (shell.sh("unshare -rm sh -c %s", shell.quote(table.concat(words) .. command)))
end

return shell
