-- What a run leaves in the page cache: a checkpoint of more than half of the memory is let go of
-- behind the reader, a smaller one stays.

local core = require "rondo.core"

local folder

local function output_of(command)
  local pipe = assert(io.popen(command .. " 2>&1"))
  local text = pipe:read "a"
  pipe:close()
  return text
end

-- Bytes of a file that are in memory, or nil where fincore is missing.
local function cached(path)
  return tonumber(output_of("fincore --bytes --raw --noheadings --output RES " .. path))
end

local function memory()
  return tonumber(io.open("/proc/meminfo"):read("a"):match "MemTotal:%s*(%d+) kB") * 1024
end

-- A checkpoint of `size` bytes: a weight of 8 MiB, and what the file system need not store.
local function sparse_checkpoint(size)
  local path, weight = folder .. "/model.safetensors", 4096 * 1024 * 2
  local header = ('{"w":{"dtype":"BF16","shape":[4096,1024],"data_offsets":[0,%d]},'
    .. '"rest":{"dtype":"U8","shape":[%d],"data_offsets":[%d,%d]}}'):format(weight, size, weight,
    weight + size)
  header = header .. (" "):rep(-#header % 8)
  local file = assert(io.open(path, "wb"))
  file:write(string.pack("<I8", #header), header, ("\x80\x3f"):rep(weight // 2))
  file:seek("set", 8 + #header + weight + size - 1)
  file:write "\0"
  file:close()
  return path, weight
end

-- Quantizes the weight block by block; returns what of the file is in memory then.
local function remaining(size)
  local path, weight = sparse_checkpoint(size)
  os.execute("sync " .. path) -- what is not on the disk yet cannot be dropped
  local before = cached(path)
  local cp <close> = assert(core.checkpoint(path))
  local grid = core.grid("int", 4, true, false)
  for row = 1, 4096, 1024 do
    assert(core.quantize(grid, cp:block("w", row, 1024, 1, 1024), { words = true }))
  end
  return cached(path), before, weight
end

describe("the page cache", function()
  before_each(function()
    folder = os.tmpname() .. ".d"
    assert(os.execute("mkdir " .. folder))
  end)
  after_each(function() os.execute("rm -rf " .. folder) end)

  it("keeps a small checkpoint", function()
    if not cached "/proc/self/exe" then return pending "fincore is missing" end
    local after, before, weight = remaining(1024)
    assert.is_true(before >= weight and after >= weight)
  end)

  it("lets go of what was read of a checkpoint larger than half of the memory", function()
    if not cached "/proc/self/exe" then return pending "fincore is missing" end
    local after, _, weight = remaining(memory() * 3 // 4)
    assert.is_true(after < weight / 2, ("%d of %d bytes are left"):format(after, weight))
  end)
end)
