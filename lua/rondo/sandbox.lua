-- sandbox: the globals of scripts that nobody vouches for. They compute, and use rondo's public
-- modules; files, processes, environment, native code, bytecode, the debug library and finalizers
-- are out of reach. What they loop for ever, the host interrupts. They get copies of libraries and
-- modules, so that what they change is theirs alone, and see no metatable but their own.
--
-- rondo.sandbox(poll) makes one such table; poll() raises when the script is to stop. It also takes
-- string.dump from the whole state and locks the metatable of strings, which scripts reach through
-- any string.

local public = { ["rondo"] = true, ["rondo.rtn"] = true, ["rondo.safetensors"] = true,
                 ["rondo.json"] = true, ["rondo.model"] = true, ["rondo.pattern"] = true,
                 ["rondo.scheme"] = true, ["rondo.compare"] = true }

local allowed = { "assert", "error", "ipairs", "next", "pairs", "pcall", "rawequal", "rawget",
                  "rawlen", "rawset", "select", "tonumber", "tostring", "type", "warn", "xpcall",
                  "_VERSION" }

-- Known names that are not there get an error of their own instead of "a nil value".
local withheld = { "io", "debug", "package", "dofile", "loadfile", "print" }

local require, load, setmetatable, rawget, type = require, load, setmetatable, rawget, type
local select, error, collectgarbage, tostring = select, error, collectgarbage, tostring
local real_metatable, getmetatable, pairs = debug.getmetatable, getmetatable, pairs
local pcall = pcall

local function copy(library, names)
  local result = {}
  for i = 1, #names do result[names[i]] = library[names[i]] end
  return result
end

local function copy_all(library)
  local result = {}
  for name, value in pairs(library) do result[name] = value end
  return result
end

-- Its own copy of a module, of the lists in it too; functions are the module's.
local function copy_module(module)
  local result = {}
  for name, value in pairs(module) do
    local list = type(value) == "table" and real_metatable(value) == nil
    result[name] = list and copy_module(value) or value
  end
  return result
end

-- The number of threads is the host's to choose.
local function limited_threads(n)
  if n == nil then return require("rondo.core").threads() end
  error("a script without trust cannot set the number of threads", 2)
end

-- The copy of rondo itself, which gets its modules by `load` when they are first used.
local function copy_rondo(load_module)
  local module = require "rondo"
  local rondo = copy_all(module)
  rondo.threads = limited_threads
  for name, value in pairs(rondo) do
    if type(value) == "table" then rondo[name] = load_module("rondo." .. name) end
  end
  return setmetatable(rondo, { __metatable = "locked", __index = function(self, name)
    if not pcall(function() return module[name] end) then
      error(("rondo has no field '%s'"):format(tostring(name)), 2)
    end
    self[name] = load_module("rondo." .. name)
    return self[name]
  end })
end

local function limited_require()
  local loaded = {}
  local function load_module(name)
    if not loaded[name] then
      loaded[name] = name == "rondo" and copy_rondo(load_module) or copy_module(require(name))
    end
    return loaded[name]
  end
  return function(name)
    if public[name] then return load_module(name) end
    error(("module '%s' is not available to this script"):format(tostring(name)), 2)
  end
end

-- getmetatable and setmetatable. Finalizers run at any time and cannot be interrupted; a metatable
-- that is not the script's own could give it some.
local function limited_metatables()
  local own = setmetatable({}, { __mode = "k" })
  local function get(value)
    local meta = real_metatable(value)
    if meta == nil or own[meta] then return getmetatable(value) end
    return "locked"
  end
  local function set(value, meta)
    if type(meta) == "table" then
      if rawget(meta, "__gc") ~= nil then
        error("a script without trust cannot have finalizers (__gc)", 2)
      end
      own[meta] = true
    end
    return setmetatable(value, meta)
  end
  return get, set
end

local function limited_collectgarbage(what)
  if what == nil or what == "collect" or what == "count" then return collectgarbage(what) end
  error("a script without trust can only 'collect' and 'count'", 2)
end

-- A script could make coroutines faster than each of them notices that it is to stop.
local function polled(poll, call)
  return function(...)
    poll()
    return call(...)
  end
end

local function environment(poll)
  rawset(string, "dump", nil)
  getmetatable("").__metatable = "locked"
  local globals = copy(_G, allowed)
  globals.string, globals.table = copy_all(string), copy_all(table)
  globals.math, globals.utf8 = copy_all(math), copy_all(utf8)
  globals.coroutine = copy_all(coroutine)
  for _, name in ipairs { "create", "resume", "wrap" } do
    globals.coroutine[name] = polled(poll, coroutine[name])
  end
  globals.os = copy(os, { "clock", "date", "difftime", "time" })
  globals.require = limited_require()
  globals.getmetatable, globals.setmetatable = limited_metatables()
  globals.collectgarbage = limited_collectgarbage
  globals._G = globals

  -- Text only; nil is an environment of its own choice, no argument is this one.
  function globals.load(chunk, name, _, ...)
    if select("#", ...) == 0 then return load(chunk, name, "t", globals) end
    return load(chunk, name, "t", (...))
  end

  local is_withheld = {}
  for _, name in ipairs(withheld) do is_withheld[name] = true end
  return setmetatable(globals, { __metatable = "locked", __index = function(_, name)
    if not is_withheld[name] then return nil end
    error(("'%s' is not available to this script, which runs without trust"):format(name), 2)
  end })
end

return environment
