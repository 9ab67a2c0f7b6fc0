-- safetensors: files of named tensors, read into a table and written from one.
--
-- Reading is strict (see src/format/safetensors.h) and lazy: tensors are views of the mapped file
-- unless mode = "read". Writing is atomic and durable, and gives the bytes that the reference
-- implementation gives for the same tensors.

local core = require "rondo.core"

local safetensors = {}

local function check_options(options)
  for key in pairs(options) do
    if key ~= "mode" then
      error(("unknown option '%s' (known: mode)"):format(tostring(key)), 3)
    end
  end
  local mode = options.mode
  if mode ~= nil and mode ~= "map" and mode ~= "read" then
    error(("mode must be \"map\" or \"read\", not %s"):format(tostring(mode)), 3)
  end
  return mode
end

--- Opens all tensors of a file, or of a checkpoint folder or index.
-- @param path  of the file
-- @param options  mode: "map" (default; read-only views of the file, which must not be cut short
--   while they live) or "read" (copies)
-- @return a table from name to tensor, and the file's metadata (a table, or nil); or nil, message,
--   code
function safetensors.load(path, options)
  local checkpoint <close>, message, code = core.checkpoint(path, check_options(options or {}))
  if not checkpoint then return nil, message, code end
  local tensors = {}
  for _, name in ipairs(checkpoint:names()) do
    tensors[name], message, code = checkpoint:tensor(name)
    if not tensors[name] then return nil, message, code end
  end
  return tensors, checkpoint:metadata()
end

local function describe(tensors)
  local list = {}
  for name, tensor in pairs(tensors) do
    if type(name) ~= "string" then
      error(("tensor names must be strings, got a %s"):format(type(name)), 3)
    elseif not core.is_tensor(tensor) then
      error(("'%s' is not a tensor but a %s"):format(name, type(tensor)), 3)
    end
    list[#list + 1] = { name = name, dtype = tensor.dtype, shape = tensor.shape }
  end
  return list
end

-- A function that gives one entry of the list after the other, for the core.
local function each(list)
  local i = 0
  return function()
    i = i + 1
    local entry = list[i]
    if entry then return entry.name, entry.dtype, entry.shape end
  end
end

local function write_all(file, header, list, order, tensors)
  local done, message, code = file:write(header)
  for i = 1, #order do
    if not done then break end
    done, message, code = file:write(tensors[list[order[i]].name])
  end
  if not done then return nil, message, code end
  return file:commit()
end

--- Writes a file of tensors; an old one of that name is replaced when the new one is complete.
-- Saving over the file that the tensors are mapped from works. A new file's mode follows the
-- umask, an old one keeps its mode; where path is a symbolic link, the file it leads to is
-- replaced.
-- @param path  of the file
-- @param tensors  a table from name to tensor; views of any kind
-- @param metadata  a table from string to string, or nil
-- @return true; or nil, message, code
function safetensors.save(path, tensors, metadata)
  if type(tensors) ~= "table" then
    error(("bad argument #2 to 'save' (table expected, got %s)"):format(type(tensors)), 2)
  end
  local list = describe(tensors)
  local size, offsets, order, bytes = core.safetensors_layout(each(list), metadata)
  if not size then return nil, offsets, order end
  local file <close>, message, code = core.save(path, size + bytes)
  if not file then return nil, message, code end
  return write_all(file, core.safetensors_header(each(list), metadata), list, order, tensors)
end

return safetensors
