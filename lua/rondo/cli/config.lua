-- cli.config: the file behind --config: a Lua file that returns a table of settings by layer. It
-- may compute its table (loops, strings, mathematics) and reaches nothing outside itself.

local output = require "rondo.cli.output"

local function copy(library, without)
  local result = {}
  for name, value in pairs(library) do
    if name ~= without then result[name] = value end
  end
  return result
end

local function environment()
  return { string = copy(string, "dump"), table = copy(table), math = copy(math), ipairs = ipairs,
           pairs = pairs, tonumber = tonumber, tostring = tostring, type = type, select = select,
           error = error, assert = assert }
end

-- An error raised in the file as one text that names the file.
local function reason(path, problem)
  local text = type(problem) == "string" and problem
    or ("an error object of type " .. type(problem))
  return text:find(path, 1, true) and text or path .. ": " .. text
end

--- Reads the file. Raises a failure where it cannot be read, and wrong usage where what it holds is
--- no configuration; what the table says is checked by rondo.plan.
-- @param command  for the hint at --help
return function(path, command)
  local file, why = io.open(path, "rb")
  if not file then output.failure("cannot read --config " .. why) end
  local text
  text, why = file:read "a"
  file:close()
  if not text then output.failure(("cannot read --config %s: %s"):format(path, why)) end
  local chunk, problem = load(text:gsub("^#[^\n]*", ""), "@" .. path, "t", environment())
  if not chunk then output.usage(reason(path, problem), command) end
  local good, value = pcall(chunk)
  if not good then output.usage(reason(path, value), command) end
  if type(value) ~= "table" then
    output.usage(("%s: a configuration file returns a table, not %s"):format(path,
      value == nil and "nothing" or "a " .. type(value)), command)
  end
  return value
end
