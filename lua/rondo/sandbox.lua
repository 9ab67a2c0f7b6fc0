-- sandbox: the globals of scripts that nobody vouches for. They compute, and use rondo's public
-- modules; other files than the host grants, processes, environment, native code, bytecode, the
-- debug library and finalizers are out of reach. They get copies of libraries and modules, so that
-- what they change is theirs alone, and see no metatable but their own.
--
-- rondo.sandbox(charge) makes one such table. charge(steps) takes from the steps that a script has
-- left and raises when there are none, or when it is to stop: called by what would take long in one
-- call of a C function. The whole state loses string.dump and whatever starts processes, deletes
-- files or loads native code, and the metatable of strings is locked, which scripts reach through
-- any string.

local public = { ["rondo"] = true, ["rondo.rtn"] = true, ["rondo.safetensors"] = true,
                 ["rondo.json"] = true, ["rondo.model"] = true, ["rondo.pattern"] = true,
                 ["rondo.scheme"] = true, ["rondo.compare"] = true, ["rondo.clip"] = true }

local allowed = { "assert", "error", "ipairs", "next", "pairs", "pcall", "rawequal", "rawget",
                  "rawlen", "select", "tonumber", "tostring", "type", "xpcall",
                  "_VERSION" }

-- Steps that calls of C functions are charged for.
local COROUTINE = 100 -- those that a coroutine may take before it is first looked at
local WARNING = 1000 -- the host may show it to somebody
local BYTE = 1 / 16
local COMPARISON = 2 -- of two values in table.sort

-- Known names that are not there get an error of their own instead of "a nil value".
local withheld = { "io", "debug", "package", "dofile", "loadfile", "print" }

local require, load, setmetatable, rawget, type = require, load, setmetatable, rawget, type
local select, error, collectgarbage, tostring = select, error, collectgarbage, tostring
local real_metatable, getmetatable, pairs = debug.getmetatable, getmetatable, pairs
local pcall, tonumber, rawlen, required = pcall, tonumber, rawlen, package.loaded
local tointeger, max, log = math.tointeger, math.max, math.log

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

-- What is shared with the host's other scripts (schemes, strategies) has a locked metatable, past
-- which nothing may be set.
local function own_rawset(t, key, value)
  local meta = real_metatable(t)
  if type(t) == "table" and meta ~= nil and rawget(meta, "__metatable") ~= nil then
    error("rawset: a table with a locked metatable cannot be changed", 2)
  end
  return rawset(t, key, value)
end

-- The number of threads is the host's to choose.
local function limited_threads(n)
  if n == nil then return require("rondo.core").threads() end
  error("a script without trust cannot set the number of threads", 2)
end

-- The copy of rondo itself; what it loads at first use it loads through the copy, too.
local function copy_rondo(load_module)
  local module = require "rondo"
  local function copy_field(name, value)
    if type(value) ~= "table" or real_metatable(value) ~= nil then return value end
    local is_module = required["rondo." .. name] == value
    return is_module and load_module("rondo." .. name) or copy_module(value)
  end
  local rondo = {}
  for name, value in pairs(module) do rondo[name] = copy_field(name, value) end
  rondo.threads = limited_threads
  return setmetatable(rondo, { __metatable = "locked", __index = function(self, name)
    local there, value = pcall(function() return module[name] end)
    if not there then error(("rondo has no field '%s'"):format(tostring(name)), 2) end
    self[name] = copy_field(name, value)
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
    error(("module '%s' is not available to this script, which runs without trust"):format(
      tostring(name)), 2)
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

local function limited_collectgarbage(charge)
  return function(what)
    if what == nil or what == "collect" then
      charge(collectgarbage "count" * 1024 * BYTE)
      return collectgarbage "collect"
    end
    if what == "count" then return collectgarbage "count" end
    error("a script without trust can only 'collect' and 'count'", 2)
  end
end

local function charged(charge, steps, call)
  return function(...)
    charge(steps)
    return call(...)
  end
end

-- How many integers lie from first to last; 0 where the arguments are not numbers, which is for
-- the function that gets them to tell.
local function count(first, last)
  first, last = tointeger(tonumber(first)), tointeger(tonumber(last))
  return first and last and last >= first and last - first + 1.0 or 0
end

-- The functions of `table`. Those that loop over as many elements as #t or their arguments say
-- charge for them first, or loop here; #t is taken once, since a script's __len may say anything.
local function limited_table(charge)
  local limited, original = copy_all(table), table

  function limited.concat(t, separator, first, last)
    first, last = first or 1, last or #t
    charge(count(first, last))
    return original.concat(t, separator, first, last)
  end

  function limited.unpack(t, first, last)
    first, last = first or 1, last or #t
    charge(count(first, last))
    return original.unpack(t, first, last)
  end

  function limited.move(from, first, last, at, to)
    charge(count(first, last))
    return original.move(from, first, last, at, to or from)
  end

  function limited.sort(t, before)
    local n = type(t) == "table" and rawlen(t) or 0
    charge(COMPARISON * n * log(max(n, 2), 2))
    return original.sort(t, before)
  end

  function limited.insert(t, ...)
    if select("#", ...) ~= 2 then return original.insert(t, ...) end
    local size, at, value = #t + 1, tointeger(tonumber((...))), (select(2, ...))
    if not at or at < 1 or at > size then
      error("bad argument #2 to 'insert' (position out of bounds)", 2)
    end
    for i = size, at + 1, -1 do t[i] = t[i - 1] end
    t[at] = value
  end

  function limited.remove(t, ...)
    if (...) == nil then return original.remove(t) end
    local size, at = #t, tointeger(tonumber((...)))
    if not at or at ~= size and (at < 1 or at > size + 1) then
      error("bad argument #2 to 'remove' (position out of bounds)", 2)
    end
    local value = t[at]
    for i = at, size - 1 do t[i] = t[i + 1] end
    t[max(at, size)] = nil
    return value
  end

  return limited
end

-- Nothing of rondo needs these, so nothing can be made to use them.
local function disarm()
  for library, names in pairs {
    [string] = { "dump" }, [package] = { "loadlib" }, [io] = { "popen" },
    [os] = { "execute", "remove", "rename", "tmpname" },
  } do
    for _, name in ipairs(names) do rawset(library, name, nil) end
  end
  table.move({}, 1, #package.searchers - 1, 2, package.searchers) -- only what is linked in stays
  getmetatable("").__metatable = "locked"
end

local function environment(charge)
  disarm()
  local globals = copy(_G, allowed)
  globals.rawset = own_rawset
  globals.string, globals.table = copy_all(string), limited_table(charge)
  globals.math, globals.utf8 = copy_all(math), copy_all(utf8)
  globals.coroutine = copy_all(coroutine)
  for _, name in ipairs { "create", "resume", "wrap" } do
    globals.coroutine[name] = charged(charge, COROUTINE, coroutine[name])
  end
  globals.warn = charged(charge, WARNING, warn)
  globals.os = copy(os, { "clock", "date", "difftime", "time" })
  globals.require = limited_require()
  globals.getmetatable, globals.setmetatable = limited_metatables()
  globals.collectgarbage = limited_collectgarbage(charge)
  globals._G = globals

  -- Text only; nil is an environment of its own choice, no argument is this one.
  function globals.load(chunk, name, _, ...)
    if type(chunk) == "string" then charge(#chunk * BYTE) end
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
