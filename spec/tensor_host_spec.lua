-- Tensors in a host that has set its own rounding, and in programs whose finalizers run while
-- tensors are made.

local core = require "rondo.core"
local shell = require "spec.support.shell"
local values = require "spec.support.values"

local T = core.tensor

describe("a host's floating-point environment", function()
  local folder, set

  setup(function()
    folder = shell.temporary_folder()
    local library = folder .. "/environment.so"
    local text, status = shell.sh(
      "unset LD_PRELOAD\ncc -std=c11 -shared -fPIC -o %s spec/support/environment.c -lm", library)
    assert.equal(0, status, text)
    set = {}
    for _, name in ipairs { "upward", "flush", "default" } do
      set[name] = assert(package.loadlib(library, "host_" .. name))
    end
  end)

  teardown(function() shell.sh("rm -r %s", folder) end)

  -- What f returns while the host has set `mode`.
  local function under(mode, f)
    set[mode]()
    local results = table.pack(pcall(f))
    set.default()
    assert(results[1], results[2])
    return table.unpack(results, 2, results.n)
  end

  -- Differences of the modes themselves, so that the specs below can fail.
  it("is set by these specs", function()
    local one, small = 1.0, 0x1p-1022
    local up = under("upward", function() return one / 3 end)
    assert.not_equal(one / 3, up)
    if io.popen("uname -m"):read "l" == "x86_64" then
      assert.equal(0.0, under("flush", function() return small / 2 end))
    end
    assert.equal(0x1p-1023, small / 2)
  end)

  it("does not change single elements", function()
    local f16, bf16 = T({ 0x1p-24, 1 }, "f16"), T({ 0x1p-130, 1 }, "bf16")
    local small = T({ 0x1p-140, 1 }, "f32")
    local read = function()
      return f16[1], bf16:totable()[1], small["1:1"]:item(), T(0x1p-140, "f32"):item()
    end
    assert.same({ 0x1p-24, 0x1p-130, 0x1p-140, 0x1p-140 }, { under("flush", read) })
    local t = core.zeros({ 4 }, "f32")
    under("upward", function()
      t[1] = 0.7
      t["2"] = (1 << 24) + 1
      t["3:3"] = 0.7
      t[4] = T { 0.7 }:item()
    end)
    values.check(t, "f32", { 0x1.666666p-1, 0x1p24, 0x1.666666p-1, 0x1.666666p-1 })
    local large = core.from_bytes(string.pack("<I8", ~0x7fe), "u64", { 1 })
    assert.equal(0x1.fffffffffffffp63, under("upward", function() return large[1] end))
    assert.equal(0x1.fffffffffffffp63, under("upward", function() return large:sum() end))
  end)

  it("does not change what is made", function()
    local made = function()
      return core.full({ 1 }, 0.2, "f16"):bytes(), core.arange(0, 0.3, 0.1, "f64"):bytes()
    end
    local f16, ramp = under("upward", made)
    assert.equal(string.pack("<I2", 0x3266), f16)
    assert.equal(string.pack("<ddd", 0, 0.1, 0.2), ramp) -- 0.3 / 0.1 is 2.9999999999999996
  end)

  it("does not change reductions and statistics", function()
    local f = function()
      return T({ 1, 1, 2 }, "f64"):mean(), T({ 1, 1 }, "f64"):norm(),
        T({ 1, 2, 4, 4 }, "f64"):std(), T({ 0, 1, 2 }):std()
    end
    local expected = { 4 / 3, math.sqrt(2), math.sqrt(27 / 16), math.sqrt(2 / 3) }
    assert.same(expected, { f() })
    assert.same(expected, { under("upward", f) })
    local state = core.zeros({ 8 }, "f64")
    local small = T({ 0x1p-1040, 0x1p-1050 }, "f64")
    under("flush", function() core.stats(small, state) end)
    assert.same({ 2.0, 0x1p-1041 + 0x1p-1051, 0x1p-1050, 0x1p-1040 },
      { state[1], state[5], state[7], state[8] })
    assert.equal(0x1p-1040, under("flush", function() return small:max() end))
  end)

  it("does not change merged statistics", function()
    local n = 1 << 17
    local t, near, up = core.full({ n }, 1), core.zeros({ 8 }, "f64"), core.zeros({ 8 }, "f64")
    t[-1] = 1.1
    for _ = 1, 2 do core.stats(t, near) end
    under("upward", function()
      for _ = 1, 2 do core.stats(t, up) end
    end)
    assert.is_true(near == up)
  end)

  -- The scale 9/7 is 0x3fa49249 to nearest, one more upwards; 7 times the former is 9, and -4.5 is
  -- -3.5 of it, which goes to -4. 2^-130 is 2^19 of the smallest floats, its scale 74898 of them, 7
  -- times which are 0x7fffe; where they are flushed it is 0.
  it("does not change what is quantized, on any thread", function()
    local rtn = require "rondo.rtn"
    local rows = {}
    for i = 1, 500 do rows[i] = { 9, -4.5, 0x1p-130, 0 } end
    local w = T(rows, "f32")
    local quantized = function()
      return rtn.quant_weight(w, { scheme = "sym", group_size = 2 }):bytes()
    end
    local expected = string.pack("<I4I4I4I4", 0x41100000, 0xc0a49249, 0x7fffe, 0):rep(500)
    assert.is_true(expected == quantized())
    assert.is_true(expected == under("upward", quantized))
    assert.is_true(expected == under("flush", quantized))
  end)

  it("does not change what is shown", function()
    local t = T({ 0.125, 0.25, 0.625, 2.0005 }, "f64")
    assert.equal(t:show(), under("upward", function() return t:show() end))
    local scalar = T(0.1, "f64")
    assert.equal("f64 scalar   0.1", under("upward", function() return tostring(scalar) end))
    local _, edges = under("upward", function()
      return T({ 0, 1 }, "f64"):hist { bins = 3 }
    end)
    assert.same({ 0.0, 0x1.5555555555555p-2, 0x1.5555555555555p-1, 1.0 }, edges)
  end)
end)

describe("a finalizer", function()
  local armed

  -- From now on, `act` is called in every cycle of the collector, which never rests.
  local function arm(act)
    local meta = {}
    armed = true
    function meta.__gc()
      if not armed then return end
      act()
      setmetatable({}, meta)
    end
    setmetatable({}, meta)
    collectgarbage("incremental", 1, 1000, 10)
  end

  after_each(function()
    armed = false
    collectgarbage("incremental", 200, 100, 13)
    collectgarbage()
  end)

  -- Calls f until it fails, at most 20000 times; returns the message.
  local function first_failure(f)
    for _ = 1, 20000 do
      local ok, message = pcall(f)
      if not ok then return message end
    end
    error "it has not failed"
  end

  -- A mask of n elements, of which a finalizer makes 1 or all true, in turn.
  local function restless_mask(n)
    local mask, all = core.zeros({ n }, "bool"), false
    mask[1] = true
    local rest = mask["2:"]
    arm(function()
      all = not all
      rest[":"] = all
    end)
    return mask
  end

  it("that changes a mask while its elements are taken ends that", function()
    local n = 5000
    local t, mask = core.arange(1, n), restless_mask(n)
    local message = first_failure(function()
      local list = t[mask]
      assert.is_true(#list == 1 or #list == n and list == t)
    end)
    assert.truthy(message:find("a finalizer has changed the mask", 1, true), message)
  end)

  it("that changes a mask while its elements are set ends that", function()
    local n = 5000
    local t, mask = core.zeros({ n }, "i32"), restless_mask(n)
    local one = T({ 7 }, "i32")
    local message = first_failure(function() t[mask] = one end)
    assert.truthy(message:find("the mask has 5000 true elements, the value the shape 1", 1, true),
      message)
    assert.equal(7, t:sum())
  end)

  it("may change the number of threads while tensors are computed", function()
    local before, n, now = core.threads(), 1 << 17, 1
    local t = core.arange(1, n)
    arm(function()
      now = now % 3 + 1
      core.threads(now)
    end)
    for _ = 1, 15 do
      local counts, _, outside = t:hist { bins = 4 }
      assert.same({ n // 4, n // 4, n // 4, n // 4 }, counts)
      assert.equal(0, outside)
      assert.truthy(tostring(t):find "   mean 65536   ")
      assert.equal(-n, (-t):to("i32")[-1])
      assert.equal(n, t:reshape({ 1, n }):max(2)[1])
      local bars = core.zeros({ 4 }, "i64")
      core.histogram(t, 1, n, bars)
      assert.equal(n, bars:sum())
    end
    armed = false
    core.threads(before)
  end)
end)
