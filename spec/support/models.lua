-- models: small checkpoints in temporary folders, written byte by byte so that the specs do not
-- lean on rondo's own writer; and where the shared data lies.

local lfs = require "lfs"

local models = {}

-- ---- Shared data ----

--- The path of something in the shared folder, or nil where the folder is absent.
-- RONDO_SHARED names the folder; otherwise it stands beside the project.
function models.shared(name)
  local root = os.getenv "RONDO_SHARED"
  if not root then
    local here = debug.getinfo(1, "S").source:match "^@(.*)spec/support/[^/]*$"
    root = (here == "" and "." or here or ".") .. "/../shared"
  end
  local path = root .. "/" .. name
  return lfs.attributes(path) and path or nil
end

-- ---- Temporary folders ----

local folders = {}

local function remove(path)
  if lfs.symlinkattributes(path, "mode") == "directory" then
    for name in lfs.dir(path) do
      if name ~= "." and name ~= ".." then remove(path .. "/" .. name) end
    end
  end
  os.remove(path)
end

--- A new empty folder; removed by models.cleanup.
function models.temporary()
  local path = os.tmpname()
  os.remove(path)
  assert(lfs.mkdir(path))
  folders[#folders + 1] = path
  return path
end

--- Removes all folders made so far: call it in teardown or finally.
function models.cleanup()
  for _, path in ipairs(folders) do remove(path) end
  folders = {}
end

--- Writes a whole file.
function models.write(path, bytes)
  local file = assert(io.open(path, "wb"))
  assert(file:write(bytes))
  assert(file:close())
  return path
end

-- ---- safetensors ----

local sizes = { F64 = 8, F32 = 4, F16 = 2, BF16 = 2, F8_E4M3 = 1, I64 = 8, I32 = 4, U8 = 1, I8 = 1 }

local function count(shape)
  local n = 1
  for _, d in ipairs(shape) do n = n * d end
  return n
end

--- The bytes of a safetensors file. A tensor is { name, shape, dtype = "F32", bytes = zeros };
-- names are plain ASCII without quotes.
function models.safetensors(tensors)
  local entries, data, at = {}, {}, 0
  for i, tensor in ipairs(tensors) do
    local name, shape, dtype = tensor[1], tensor[2], tensor.dtype or "F32"
    local size = count(shape) * sizes[dtype]
    entries[i] = ('"%s":{"dtype":"%s","shape":[%s],"data_offsets":[%d,%d]}'):format(name, dtype,
      table.concat(shape, ","), at, at + size)
    data[i] = tensor.bytes or ("\0"):rep(size)
    assert(#data[i] == size)
    at = at + size
  end
  local header = "{" .. table.concat(entries, ",") .. "}"
  header = header .. (" "):rep(-#header % 8)
  return ("<I8"):pack(#header) .. header .. table.concat(data)
end

--- One safetensors file in a temporary folder: its path.
function models.file(tensors)
  return models.write(models.temporary() .. "/model.safetensors", models.safetensors(tensors))
end

--- A folder in Hugging Face layout: its path.
-- @param config  the text of config.json, or nil for none
function models.folder(tensors, config)
  local path = models.temporary()
  models.write(path .. "/model.safetensors", models.safetensors(tensors))
  if config then models.write(path .. "/config.json", config) end
  return path
end

--- The same in several files with an index: shards is a list of lists of tensors.
function models.sharded(shards, config)
  local path, map = models.temporary(), {}
  for i, tensors in ipairs(shards) do
    local name = ("model-%05d-of-%05d.safetensors"):format(i, #shards)
    models.write(path .. "/" .. name, models.safetensors(tensors))
    for _, tensor in ipairs(tensors) do map[#map + 1] = ('"%s":"%s"'):format(tensor[1], name) end
  end
  models.write(path .. "/model.safetensors.index.json",
    '{"weight_map":{' .. table.concat(map, ",") .. "}}")
  if config then models.write(path .. "/config.json", config) end
  return path
end

--- A small Llama: linear tensors of two layers, lm_head, an embedding, a norm.
function models.llama(config)
  local function ramp(n)
    local list = {}
    for i = 1, n do list[i] = math.sin(i * 1.7) * (1 + i % 7) end
    return ("<" .. ("f"):rep(n)):pack(table.unpack(list))
  end
  return models.folder({
    { "lm_head.weight", { 8, 6 }, bytes = ramp(48) },
    { "model.embed_tokens.weight", { 8, 6 }, bytes = ramp(48) },
    { "model.layers.0.mlp.up_proj.weight", { 10, 6 }, bytes = ramp(60) },
    { "model.layers.0.norm.weight", { 6 }, bytes = ramp(6) },
    { "model.layers.1.mlp.up_proj.bias", { 10 }, bytes = ramp(10) },
    { "model.layers.1.mlp.up_proj.weight", { 10, 6 }, bytes = ramp(60) },
  }, config or '{"model_type":"llama"}')
end

return models
