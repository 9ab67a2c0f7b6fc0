-- The shared corpus of malformed and of odd but valid files: every verdict, every accepted tensor
-- bit for bit, limits on time and memory, and the sweeps over damaged copies. The generator and
-- its manifest know nothing of rondo. It lies in ../shared; RONDO_SHARED names another place.
local core = require "rondo.core"
local json = require "rondo.json"
local shell = require "spec.support.shell"

local shared = os.getenv "RONDO_SHARED" or "../shared"
local generator = shared .. "/corpus/make_corpus.py"
local sanitized = (os.getenv "LD_PRELOAD" or ""):find "san" ~= nil
local slower = sanitized and 20 or 4 -- than the figures of the manifest, on a busy machine

local root, manifest, missing

-- A temporary folder in memory where there is one: the sweeps write thousands of files.
local function quick_folder()
  local name, status = shell.sh "mktemp -d -p /dev/shm 2>/dev/null"
  return status == 0 and name:gsub("\n", "") or shell.temporary_folder()
end

setup(function()
  local file = io.open(generator)
  if not file then
    missing = generator .. " is not there"
  elseif not shell.has "python3" then
    missing = "python3 is not installed"
  end
  if file then file:close() end
  if missing then return end
  root = quick_folder()
  local output, status = shell.sh("env -u LD_PRELOAD python3 %s %s --special",
    shell.quote(generator), root)
  assert(status == 0, output)
  manifest = assert(json.decode(shell.read_file(root .. "/manifest.json")))
end)

teardown(function() if root then shell.remove(root) end end)

-- Like it, but pending without the corpus.
local function with_corpus(name, body)
  it(name, function()
    if missing then return pending(missing) end
    body()
  end)
end

local function entries(kind)
  local list = {}
  for _, entry in ipairs(manifest.files) do
    if entry.kind == kind then list[#list + 1] = entry end
  end
  assert.is_true(#list > 20) -- an empty list would prove nothing
  return list
end

local function open(entry)
  local path = root .. "/" .. entry.file
  if entry.kind == "config" then return require("rondo.model.config").read(path) end
  return core.checkpoint(path)
end

-- ---- Verdicts ----

local function check_message(entry, message, code)
  local base = entry.file:match "[^/]+$"
  if type(message) ~= "string" or #message == 0 or #message > 512 then return "no fit message" end
  if not utf8.len(message) or message:find "[\0-\x1f\x7f]" then return "an unprintable message" end
  if not message:find(base, 1, true) then return "a message without the file's name" end
  if code ~= "format" and code ~= "io" then return "the code " .. tostring(code) end
end

local function judge(entry)
  local opened, message, code = open(entry)
  local got = opened and "accept" or "reject"
  if got ~= entry.verdict then return got .. " " .. tostring(message) end
  if not opened then return check_message(entry, message, code) end
end

local function judge_all(kind)
  local wrong = {}
  for _, entry in ipairs(entries(kind)) do
    local problem = judge(entry)
    if problem then wrong[#wrong + 1] = entry.tier .. " " .. entry.file .. ": " .. problem end
  end
  assert.same({}, wrong)
end

describe("the corpus' verdicts", function()
  for _, kind in ipairs { "safetensors", "index", "config" } do
    with_corpus("hold for all files of kind " .. kind, function() judge_all(kind) end)
  end

  with_corpus("hold on a small stack", function()
    if sanitized then return pending "sanitizers need more stack" end
    local names = {}
    for _, entry in ipairs(manifest.files) do
      if entry.family == "dos" and (entry.kind == "safetensors" or entry.kind == "index") then
        names[#names + 1] = shell.quote(root .. "/" .. entry.file)
      end
    end
    assert.is_true(#names > 10)
    local script = shell.lua_script [[
      local core = require "rondo.core"
      for _, name in ipairs(arg) do assert(not core.checkpoint(name)) end
      print "fine"
    ]]
    assert.equal("fine\n", (shell.sh("ulimit -s 256; %s %s", script, table.concat(names, " "))))
  end)
end)

-- ---- Content ----

local dtype_names = {}
for _, name in ipairs {
  "BOOL", "F4", "F6_E2M3", "F6_E3M2", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ",
  "F8_E5M2FNUZ", "I16", "U16", "F16", "BF16", "I32", "U32", "F32", "C64", "F64", "I64", "U64",
} do
  dtype_names[name] = name:lower()
end

-- Compares one tensor and stores its bytes under the next number for sha256sum.
local function check_tensor(checkpoint, wanted, sums, where)
  local name, dtype, shape, size, sum = table.unpack(wanted, 1, 5)
  local got_dtype, got_shape, got_size = checkpoint:info(name)
  assert.equal(dtype_names[dtype], got_dtype)
  assert.same(json.array(shape), json.array(got_shape))
  assert.equal(size, got_size)
  local tensor = assert(checkpoint:tensor(name))
  assert.equal(got_dtype, tensor.dtype)
  assert.same(json.array(shape), json.array(tensor.shape))
  local bytes = tensor:bytes()
  assert.equal(size, #bytes)
  sums[#sums + 1] = sum
  shell.write_file(("%s/%d"):format(where, #sums), bytes)
end

local function check_content(kind, mode)
  local where = quick_folder()
  finally(function() shell.remove(where) end)
  local sums = {}
  for _, entry in ipairs(entries(kind)) do
    if entry.verdict == "accept" then
      local checkpoint = assert(core.checkpoint(root .. "/" .. entry.file, mode))
      local count = entry.tensors and #entry.tensors or entry.expect and entry.expect.n_tensors
      assert.equal(count, #checkpoint, entry.file)
      assert.equal(count, #checkpoint:names())
      for _, wanted in ipairs(entry.tensors or {}) do
        check_tensor(checkpoint, wanted, sums, where)
      end
      checkpoint:close()
    end
  end
  assert.is_true(#sums > 20)
  local output = shell.sh("cd %s && env -u LD_PRELOAD sha256sum $(seq %d)", where, #sums)
  local i = 0
  for sum in output:gmatch "(%x+)  %d+\n" do
    i = i + 1
    assert.equal(sums[i], sum)
  end
  assert.equal(#sums, i)
end

describe("accepted files", function()
  for _, kind in ipairs { "safetensors", "index" } do
    for _, mode in ipairs { "map", "read" } do
      with_corpus(("of kind %s give exactly the listed tensors (mode %s)"):format(kind, mode),
        function() check_content(kind, mode) end)
    end
  end

  with_corpus("may be larger than memory and 32 bits", function()
    for _, entry in ipairs(entries "safetensors") do
      local last = entry.expect and entry.expect.last_offset
      if last then
        local checkpoint = assert(core.checkpoint(root .. "/" .. entry.file))
        local _, _, size, file, offset = checkpoint:info "after"
        local header = string.unpack("<I8", shell.sh("head -c 8 %s/%s", root, entry.file))
        assert.same({ 4, 1, 8 + header + last }, { size, file, offset })
        assert.equal(0.0, checkpoint:tensor("after"):item(1))
      end
    end
  end)
end)

-- ---- Limits ----

-- Kilobytes of resident memory, now and at most since the last call with reset.
local function memory(reset)
  if reset then
    local file = io.open("/proc/self/clear_refs", "w")
    if file then file:write "5" file:close() end
  end
  local status = shell.read_file "/proc/self/status"
  return tonumber(status:match "VmRSS:%s*(%d+)"), tonumber(status:match "VmHWM:%s*(%d+)")
end

with_corpus("opening keeps to the limits on time and memory", function()
  local checked = 0
  for _, entry in ipairs(manifest.files) do
    local ours = entry.kind == "safetensors" or entry.kind == "index" or entry.kind == "config"
    if ours and entry.limits then
      collectgarbage()
      local before = memory(true)
      local start = os.clock()
      open(entry)
      local seconds = os.clock() - start
      local _, most = memory()
      checked = checked + 1
      assert(seconds <= entry.limits.seconds * slower, entry.file .. " took " .. seconds)
      local grown = (most - before) / 1024
      assert(sanitized or grown <= entry.limits.rss_mb, entry.file .. " took MB: " .. grown)
    end
  end
  assert.is_true(checked >= 15)
end)

-- ---- Sweeps ----

local function truncations(bytes, sweep, try)
  assert(sweep.last == "size-1")
  for length = sweep.first, #bytes - 1 do try(bytes:sub(1, length)) end
end

local function appended(bytes, sweep, try)
  for _, count in ipairs(sweep.counts) do try(bytes .. ("\0"):rep(count)) end
end

local function other_lengths(bytes, sweep, try)
  for _, value in ipairs(sweep.values) do
    -- values from 2^63 on are floats in Lua; these few are exact or all ones at the end
    local length = math.tointeger(value) and string.pack("<i8", value)
    if length then try(length .. bytes:sub(9)) end
  end
  local ones = ("\xff"):rep(7)
  for _, first in ipairs { "\xf7", "\xf8", "\xff" } do try(first .. ones .. bytes:sub(9)) end
  try(("\0"):rep(7) .. "\x80" .. bytes:sub(9))
end

local function flips(bytes, sweep, try)
  assert(sweep.region == "first 8 bytes + header")
  local last = 8 + string.unpack("<I8", bytes)
  for at = 1, last do
    for _, mask in ipairs(sweep.xor) do
      try(bytes:sub(1, at - 1) .. string.char(bytes:byte(at) ~ mask) .. bytes:sub(at + 1))
    end
  end
end

local operations = { truncate_each = truncations, append_bytes = appended,
                     replace_len_u64 = other_lengths, flip_each_byte = flips }

local function run_sweep(sweep)
  local bytes = shell.read_file(root .. "/" .. sweep.base)
  local name, count, slowest = root .. "/sweep.safetensors", 0, 0
  operations[sweep.op](bytes, sweep, function(damaged)
    shell.write_file(name, damaged)
    local start = os.clock()
    local checkpoint, message = core.checkpoint(name)
    slowest = math.max(slowest, os.clock() - start)
    count = count + 1
    if not checkpoint then
      assert(utf8.len(message) and #message <= 512 and message:find("sweep.safetensors", 1, true))
    else
      assert(sweep.verdict ~= "reject", sweep.op .. " was accepted")
      for _, tensor in ipairs(checkpoint:names()) do assert(checkpoint:info(tensor)) end
      checkpoint:close()
    end
  end)
  assert.is_true(slowest < 0.05 * slower)
  return count
end

with_corpus("damaged copies of good files are refused, or answered", function()
  local sweeps, cases = 0, 0
  for _, sweep in ipairs(manifest.sweeps) do
    if sweep.base:find "^st/" then
      sweeps = sweeps + 1
      cases = cases + run_sweep(sweep)
    end
  end
  assert.equal(4, sweeps)
  assert.is_true(cases > 5000)
end)
