-- Checks who includes and requires whom: lua5.4 tools/check_layers.lua [BUILD]
--
--   kernels <- core <- format <- bind <- host; src/main.c sees rondo.h only; Lua's headers belong
--   to bind and host; in lua/rondo, what computes never requires what talks to people.
--
-- With BUILD, the folder of a build, also that the kernels' objects need nothing of Lua. Prints
-- each violation; the exit status is 1 when there are any.
local lfs = require "lfs"

-- What the files of a folder may include, as prefixes of "..." includes.
local layers = {
  { folder = "src/kernels", may = { "kernels/", "rondo/tensor.h" } },
  { folder = "src/core", may = { "core/", "kernels/", "rondo/tensor.h" } },
  { folder = "src/format", may = { "format/", "core/", "kernels/", "rondo/tensor.h" } },
  { folder = "src/bind", may = { "bind/", "format/", "core/", "kernels/", "rondo/tensor.h" },
    lua = true },
  { folder = "src/host", may = { "host/", "bind/", "format/", "core/", "kernels/", "rondo/" },
    lua = true },
  { folder = "src/main.c", may = { "rondo/rondo.h" } },
  { folder = "include/rondo", may = { "rondo/tensor.h" } },
}

local lua_headers = { ["lua.h"] = true, ["lauxlib.h"] = true, ["lualib.h"] = true,
                      ["luaconf.h"] = true, ["lua.hpp"] = true }

-- Modules below the first must not require those below the second.
local forbidden = {
  { from = "^lua/rondo/", except = "^lua/rondo/cli/", to = "^rondo%.cli%f[%W]" },
  { from = "^lua/rondo/", except = "^lua/rondo/cli/", to = "^rondo%.repl" },
  { from = "^lua/rondo/recipe", to = "^rondo%.plot" },
  { from = "^lua/rondo/policy", to = "^rondo%.plot" },
  { from = "^lua/rondo/clip", to = "^rondo%.plot" },
  { from = "^lua/rondo/model", to = "^rondo%.plot" },
}

local violations, checked = 0, 0

local function complain(...)
  violations = violations + 1
  print(string.format(...))
end

-- Calls visit(path) for every file at or below path.
local function walk(path, visit)
  local mode = lfs.symlinkattributes(path, "mode")
  if mode == "file" then return visit(path) end
  if mode ~= "directory" then return end
  for name in lfs.dir(path) do
    if name ~= "." and name ~= ".." then walk(path .. "/" .. name, visit) end
  end
end

local function starts_with_any(text, prefixes)
  for _, prefix in ipairs(prefixes) do
    if text:sub(1, #prefix) == prefix then return true end
  end
  return false
end

local function check_include(path, layer, open, name)
  if lua_headers[name] then
    if not layer.lua then complain("%s includes %s", path, name) end
  elseif (open == '"' or name:find "^rondo/") and not starts_with_any(name, layer.may) then
    complain("%s includes %s", path, name)
  end
end

local function check_c(path, layer)
  if not path:find "%.[ch]$" then return end
  checked = checked + 1
  for line in io.lines(path) do
    local open, name = line:match '^%s*#%s*include%s*(["<])([^">]+)[">]'
    if name then check_include(path, layer, open, name) end
  end
end

local function check_lua(path)
  if not path:find "%.lua$" then return end
  checked = checked + 1
  local number = 0
  for line in io.lines(path) do
    number = number + 1
    for name in line:gmatch "require%s*%(?%s*[\"']([%w_.]+)" do
      for _, rule in ipairs(forbidden) do
        local applies = path:find(rule.from) and not (rule.except and path:find(rule.except))
        if applies and name:find(rule.to) then
          complain("%s:%d requires %s", path, number, name)
        end
      end
    end
  end
end

local function check_objects(build)
  local objects = 0
  walk(build .. "/CMakeFiles", function(path)
    if not (path:find "/kernels_[^/]*%.dir/" and path:find "%.o$") then return end
    objects = objects + 1
    local pipe = assert(io.popen("nm -u '" .. path:gsub("'", "'\\''") .. "'"))
    for symbol in pipe:read("a"):gmatch "%S+" do
      if symbol:find "^lua" then complain("%s needs %s", path, symbol) end
    end
    pipe:close()
  end)
  if objects == 0 then complain("no kernels' objects in %s", build) end
end

for _, layer in ipairs(layers) do
  walk(layer.folder, function(path) check_c(path, layer) end)
end
walk("lua/rondo", check_lua)
if arg[1] then check_objects(arg[1]) end
if checked < 20 then complain("only %d files found: run this in the repository", checked) end
os.exit(violations == 0)
