-- The grids and ways of storing scales that formats need: affine integers, 8-bit floats, a scale of
-- the tensor's own, scales on bitsandbytes' dynamic map. Expected values are worked out here, in
-- numbers that are rounded to f32 one operation at a time.

local core = require "rondo.core"
local params = require "rondo.params"
local rondo = require "rondo"

local function f32(x) return (string.unpack("f", string.pack("f", x))) end

-- Half to even.
local function nearest_integer(x)
  local below = math.floor(x)
  local rest = x - below
  if rest == 0.5 then return below % 2 == 0 and below or below + 1 end
  return rest < 0.5 and below or below + 1
end

local function weights(rows, cols, seed)
  local w = core.randn({ rows, cols }, seed)
  return w * w * w
end

-- Rows that rules stumble over, COLS wide.
local COLS = 70
local function hard_weights()
  local w = weights(12, COLS, 1)
  w[1] = 0.0
  w[2] = 5.0
  w[3] = w[3]:abs() + 1000
  w[4] = w[4] * 1e-9
  w[5] = w[5]:abs()
  w[6] = -w[6]:abs()
  w[7] = w[7] * 1e30
  w[8] = w[8] * 1e-30
  w["9, 1:40"] = 0.0
  return w
end

-- ---- Affine integers ----

-- MLX's rule; low and high are clipped already.
local function affine_params(low, high, bits)
  local scale = math.max(f32(f32(high - low) / ((1 << bits) - 1)), f32(1e-7))
  local edge = high
  if math.abs(low) > math.abs(high) then edge = low else scale = -scale end
  local code = nearest_integer(f32(edge / scale))
  if code == 0 then return scale, 0 end
  return f32(edge / code), edge
end

local function affine_code(x, scale, zero, bits)
  local code = nearest_integer(f32(f32(x - zero) / scale))
  return math.max(0, math.min((1 << bits) - 1, code))
end

-- Groups of `size` along the rows; to(x) rounds to the type that scales are stored in.
local function expected_affine(w, bits, size, ratio, to)
  local codes, scales, zeros = {}, {}, {}
  for i, row in ipairs(w:totable()) do
    codes[i], scales[i], zeros[i] = {}, {}, {}
    for first = 1, #row, size do
      local low, high = math.huge, -math.huge
      for j = first, math.min(first + size - 1, #row) do
        low, high = math.min(low, row[j]), math.max(high, row[j])
      end
      local scale, zero = affine_params(f32(low * ratio), f32(high * ratio), bits)
      scale, zero = to(scale), to(zero)
      table.insert(scales[i], scale)
      table.insert(zeros[i], zero)
      for j = first, math.min(first + size - 1, #row) do
        codes[i][j] = affine_code(row[j], scale, zero, bits)
      end
    end
  end
  return core.tensor(codes, "u8"), core.tensor(scales), core.tensor(zeros)
end

local function affine(bits, o)
  o.type, o.symmetric, o.zero = "int" .. bits, false, "float"
  return rondo.scheme.from(o)
end

describe("affine integers", function()
  local w = hard_weights()

  it("follow MLX's rule bit for bit", function()
    for bits = 1, 8 do
      for _, size in ipairs { 32, 7 } do
        local q = affine(bits, { group_size = size }):quantize(w)
        local codes, scales, zeros = expected_affine(w, bits, size, 1, f32)
        assert.is_true(q.scales == scales)
        assert.is_true(q.zeros:eq(zeros):all())
        assert.is_true(q.codes == codes)
      end
    end
  end)

  it("have values code * scale + zero", function()
    local q = affine(3, { group_size = 32 }):quantize(w)
    local codes, scales, zeros = q.codes:totable(), q.scales:totable(), q.zeros:totable()
    for i, row in ipairs(q:dequantize():totable()) do
      for j, value in ipairs(row) do
        local g = (j - 1) // 32 + 1
        assert.equal(f32(f32(codes[i][j] * scales[i][g]) + zeros[i][g]), value)
      end
    end
  end)

  it("clip both ends, and are stored in the type of the scale before codes are computed", function()
    local part = w:rows(2, 6)
    for dtype, bits in pairs { f16 = 4, bf16 = 6, f32 = 5 } do
      local function to(x) return core.tensor({ x }):to(dtype):to("f32")[1] end
      local q = affine(bits, { group_size = 32, ratio = 0.75, scale = dtype }):quantize(part)
      local codes, scales, zeros = expected_affine(part, bits, 32, 0.75, to)
      assert.is_true(q.scales == scales)
      assert.is_true(q.zeros:eq(zeros):all())
      assert.is_true(q.codes == codes)
      local bytes = dtype == "f32" and 32 or 16
      assert.equal(bits + 2 * bytes * 3 / COLS, q:bits())
    end
  end)

  it("run along the other dimension, and in blocks", function()
    local along = affine(4, { group_size = 5, group_dim = 0 }):quantize(w)
    local codes, scales, zeros = expected_affine(w:transpose(), 4, 5, 1, f32)
    assert.is_true(along.codes == codes:transpose():contiguous())
    assert.is_true(along.scales == scales:transpose():contiguous())
    assert.is_true(along.zeros:eq(zeros:transpose()):all())
    local block = affine(4, { group_size = { 6, 70 } }):quantize(w)
    codes, scales = expected_affine(w:reshape { 2, 6 * 70 }, 4, 420, 1, f32)
    assert.is_true(block.codes:reshape { 2, 420 } == codes)
    assert.is_true(block.scales == scales)
  end)

  it("are packed with their errors as they are without", function()
    local grid, bf16 = affine(4, {}).grid, weights(6, 512, 2):to "bf16"
    local function quantize(o)
      o.group_size, o.sums = 64, core.sums()
      return assert(core.quantize(grid, bf16, o)), o.sums:values()
    end
    local packed, error = quantize { words = true, scale = true, zero = true }
    local plain, sum = quantize { codes = true, values = true }
    assert.is_true(packed.words == core.layout({ bits = 4, word = "i32" }):pack(plain.codes))
    assert.equal(sum, error)
    local given = quantize { words = true, scales = packed.scale, zeros = packed.zero }
    assert.is_true(given.words == packed.words)
  end)

  it("say where scales do not fit their type, and what cannot be", function()
    local big = core.full({ 1, 8 }, 1e6)
    big[1][1] = -1e6
    assert.has_error.matches(function() affine(4, { scale = "f16" }):quantize(big) end,
                             "the scale of the group at row 1, column 1 is not finite")
    for expected, o in pairs { ["f32, f16 or bf16, not e4m3"] = { scale = "e4m3" },
                               ["at most 8 bits, not 9"] = { bits = 9 } } do
      assert.has_error.matches(function() affine(o.bits or 4, { scale = o.scale }) end, expected)
    end
  end)
end)

-- ---- Zero points from 1 on ----

describe("positive zero points", function()
  it("are 1 where they would be 0, with a scale that reaches the highest code then", function()
    local w = core.tensor { { 0.5, 30, 7, 15 }, { -0.25, 30, 7, 15 }, { -8, 22, 7, 15 },
                            { -9, -15, -1, -2 }, { 0, 0, 0, 0 } }
    local q = rondo.int4 { symmetric = false, zero = "positive", group_size = "row" }:quantize(w)
    assert.same({ { 1 }, { 1 }, { 4 }, { 15 }, { 7 } }, q.zeros:totable())
    local scales = { f32(30 / 14), f32(30 / 14), 2, 1, f32(2 / 15) }
    for row, scale in ipairs(scales) do assert.equal(scale, q.scales[row][1]) end
    assert.same({ { 1, 15, 4, 8 }, { 1, 15, 4, 8 }, { 0, 15, 8, 12 }, { 6, 0, 14, 13 },
                  { 7, 7, 7, 7 } }, q.codes:totable())
    local half = rondo.int4 { symmetric = false, zero = "positive", group_size = "row",
                              scale = "bf16" }:quantize(w)
    assert.same({ { 1 }, { 1 }, { 4 }, { 15 }, { 7 } }, half.zeros:totable())
    assert.equal(core.tensor({ f32(30 / 14) }):to("bf16"):to("f32")[1], half.scales[1][1])
    local losses = rondo.int4 { symmetric = false, zero = "positive", group_size = "row",
                                scale = "bf16" }:losses(w, { 1, 0.5 })
    local expected = half:dequantize() - w
    for row = 1, 5 do
      local error = (expected[row] * expected[row]):sum()
      assert.is_true(math.abs(losses[row][1][1] - error) <= 1e-5 * error)
    end
  end)
end)

-- ---- 8-bit floats ----

-- The values of E4M3 that are not negative, by code; 0x7f is NaN.
local e4m3 = {}
for code = 0, 0x7e do
  local exponent, mantissa = code >> 3, code & 7
  e4m3[code] = exponent == 0 and mantissa * 2.0 ^ -9 or (8 + mantissa) * 2.0 ^ (exponent - 10)
end

-- The nearest, of two as near the even one.
local function e4m3_code(x)
  local magnitude, best = math.min(math.abs(x), 448), 0
  for code = 1, 0x7e do
    local nearer = math.abs(e4m3[code] - magnitude) - math.abs(e4m3[best] - magnitude)
    if nearer < 0 or (nearer == 0 and code % 2 == 0) then best = code end
  end
  return best | (math.type(x) == "float" and 1 / x < 0 and 0x80 or 0)
end

describe("fp8", function()
  it("is the nearest of E4M3 of each weight over its scale, ties to even", function()
    local w = hard_weights():rows(1, 6)
    for i = 0, 69 do -- every 4th of the midpoints, and what lies beside them
      w[2][i + 1] = ((i % 2 == 0 and 1 or -1)
        * (e4m3[i * 126 // 70] + e4m3[i * 126 // 70 + 1]) / 2)
    end
    w[2][70] = 448
    for _, dim in ipairs { 1, 0 } do
      local turned = dim == 0 and w:transpose():contiguous() or w
      local q = rondo.fp8 { group_dim = dim }:quantize(turned)
      local codes, values = q.codes, q:dequantize()
      if dim == 0 then codes, values = codes:transpose(), values:transpose() end
      for row = 1, 6 do
        local scale = f32(w[row]:abs():max() / 448)
        assert.equal(scale, q.scales:reshape({ 6 })[row])
        for col = 1, COLS do
          local code = e4m3_code(scale == 0 and 0.0 or f32(w[row][col] / scale))
          assert.equal(code, codes[row][col])
          local sign = code > 0x7f and -1 or 1
          assert.equal(f32(sign * e4m3[code & 0x7f] * scale), values[row][col])
        end
      end
    end
    assert.equal("u8", rondo.fp8:quantize(w).codes.dtype)
    assert.equal(8 + 32 / COLS, rondo.fp8:quantize(w):bits())
  end)

  it("clamps what a given scale is too small for", function()
    local w = core.tensor { { 1000, -1000, 460, 464, 1, -0.0 } }
    local o = { scales = core.full({ 1, 1 }, 1), codes = true }
    local codes = assert(core.quantize(rondo.fp8.grid, w, o)).codes:totable()[1]
    assert.same({ 0x7e, 0xfe, 0x7e, 0x7e, 0x38, 0x80 }, codes)
  end)

  it("has powers of two for scales in mxfp8, by the rule of the microscaling formats", function()
    local w = weights(4, 64, 9)
    local q = rondo.mxfp8:quantize(w)
    for row = 1, 4 do
      for g = 1, 2 do
        local largest = w[row][("%d:%d"):format(32 * g - 31, 32 * g)]:abs():max()
        assert.equal(2.0 ^ (math.floor(math.log(largest, 2)) - 8), q.scales[row][g])
      end
    end
  end)
end)

describe("e2m1", function()
  it("takes the nearest, ties to even", function()
    local values = { 0, 0.5, 1, 1.5, 2, 3, 4, 6 }
    local w, expected = { 6 }, { 7 }
    for code = 0, 6 do
      local middle = (values[code + 1] + values[code + 2]) / 2
      for sign = 0, 1 do
        local even = code % 2 == 0 and code or code + 1
        for step, found in pairs { [-1] = code, [0] = even, [1] = code + 1 } do
          w[#w + 1] = (1 - 2 * sign) * middle * (1 + step * 2.0 ^ -22)
          expected[#expected + 1] = found == 0 and 0 or found + 8 * sign
        end
      end
    end
    local codes = rondo.e2m1 { group_size = "row" }:quantize(core.tensor { w }).codes
    assert.same({ expected }, codes:totable())
  end)
end)

-- ---- A scale of the tensor's own ----

-- The group's scale as E4M3 has it.
local function stored_scale(amax, factor)
  local over = f32(f32(amax / 6) / factor)
  return amax == 0 and 0 or math.max(e4m3[e4m3_code(over)], 2.0 ^ -9)
end

describe("tensor_scale", function()
  local w = weights(5, 64, 3)
  w["2, 1:16"] = 0.0
  w["3, 1:16"] = w["3, 1:16"] * 1e-6 -- rounds to 0

  local function check(found, amax)
    local factor = f32(amax / 2688)
    assert.equal(factor, found.stored.factor)
    for row = 1, 5 do
      for g = 1, 4 do
        local largest = w[row][("%d:%d"):format(16 * g - 15, 16 * g)]:abs():max()
        local stored = stored_scale(largest, factor)
        assert.equal(stored, found.stored.scales[row][g])
        assert.equal(f32(stored * factor), found.scales[row][g])
      end
    end
  end

  it("is so much that the largest group has the largest scale", function()
    local q = rondo.nvfp4:quantize(w)
    check(q, w:abs():max())
    assert.equal(448, q.stored.scales:max())
    assert.same({ 0, 2.0 ^ -9 }, { q.stored.scales[2][1], q.stored.scales[3][1] })
    local plain = rondo.e2m1 { group_size = 16 }
    local given = assert(core.quantize(plain.grid, w, { group_size = 16, scales = q.scales,
                                                        codes = true }))
    assert.is_true(given.codes == q.codes)
    assert.equal(4 + 8 / 16 + 32 / #w / 64, q:bits())
  end)

  it("may be that of tensors that share it", function()
    local amax = f32(3.5) * 8
    local shared = params.with_factor(rondo.nvfp4, amax)
    check(params.find(w, shared), amax)
    local found = params.find(w, shared { clip = "mse" })
    assert.equal(f32(amax / 2688), found.stored.factor)
    local scales = found.stored.scales
    assert.is_true(scales:to("f8_e4m3"):to("f32") == scales)
    assert.is_true((scales * found.stored.factor) == found.scales)
    local plain = params.find(w, shared)
    local losses = shared:losses(w, { scales = found.scales })
    assert.is_true(losses:le(shared:losses(w, { scales = plain.scales })):all())
  end)

  it("is 1 for zeros, and is refused without scales of e4m3", function()
    local q = rondo.nvfp4:quantize(core.zeros { 2, 32 })
    assert.equal(1, q.stored.factor)
    assert.is_true(q:dequantize() == core.zeros { 2, 32 })
    assert.has_error.matches(function() return rondo.e2m1 { tensor_scale = true } end,
                             "add scale = \"e4m3\"")
    assert.has_error.matches(function()
      return rondo.int4 { tensor_scale = true, scale = "e4m3", symmetric = false }
    end, "without a zero point")
    w = weights(2, 32, 1)
    w[2][7] = math.huge
    assert.has_error.matches(function() rondo.nvfp4:quantize(w) end,
                             "infinity at row 2, column 7")
  end)
end)

-- ---- Scales on the dynamic map ----

describe("double on the dynamic map", function()
  local scheme = rondo.nf4 { group_size = 16, double = { map = "dynamic", group_size = 5 } }
  local w = weights(4, 64, 4)
  local q = scheme:quantize(w)
  local map = q.stored.map:totable()

  it("has decades of centers of equal steps, 0 and 1", function()
    local expected = { 0, 1 }
    for decade = 0, 6 do
      for i = 0, 2 ^ decade - 1 do
        local center = (0.1 + 0.9 * (i + 0.5) / 2 ^ decade) * 10 ^ (decade - 6)
        table.insert(expected, center)
        table.insert(expected, -center)
      end
    end
    table.sort(expected)
    assert.equal(256, #map)
    for i, value in ipairs(expected) do
      assert.is_true(math.abs(value - map[i]) <= 2.0 ^ -22 * math.abs(value))
    end
  end)

  it("takes the nearest entry of each scale less the mean over its group's largest", function()
    local flat = {}
    for _, row in ipairs(rondo.nf4 { group_size = 16 }:quantize(w).scales:totable()) do
      for _, scale in ipairs(row) do flat[#flat + 1] = scale end
    end
    local mean = 0
    for _, scale in ipairs(flat) do mean = mean + scale / #flat end
    assert.is_true(math.abs(mean - q.stored.mean) < 1e-6 * mean)
    assert.equal(f32(q.stored.mean), q.stored.mean)
    for first = 1, #flat, 5 do
      local largest, last = 0, math.min(first + 4, #flat)
      for i = first, last do
        largest = math.max(largest, math.abs(f32(flat[i] - q.stored.mean)))
      end
      assert.equal(largest, q.stored.scales[(first + 4) // 5])
      for i = first, last do
        local over, best = f32(f32(flat[i] - q.stored.mean) / largest), 1
        for entry = 2, 256 do
          if math.abs(map[entry] - over) < math.abs(map[best] - over) then best = entry end
        end
        assert.equal(best - 1, q.stored.codes[i])
        assert.equal(f32(f32(map[best] * largest) + q.stored.mean),
                     q.scales[(i - 1) // 4 + 1][(i - 1) % 4 + 1])
      end
    end
  end)

  it("counts its bits, takes weights without scales, and has 8 bits", function()
    assert.equal(4 + (16 * 8 + 4 * 32 + 32) / 256, q:bits())
    assert.same({ 5, 0 }, scheme:quantize(core.zeros { 5, 0 }):dequantize().shape)
    assert.is_true(scheme:quantize(core.zeros { 5, 8 }):dequantize() == core.zeros { 5, 8 })
    local small = { map = "dynamic", bits = 6 }
    assert.has_error.matches(function() return scheme { double = small } end, "8 bits, not 6")
    assert.has_error.matches(function() return scheme { scale = "f16" } end, "leave it out")
  end)
end)

-- ---- In one go ----

describe("quantizing in one go", function()
  it("gives what finding the scales first gives", function()
    local w = hard_weights():rows(2, 6)
    for _, scheme in ipairs {
      rondo.int4 { scale = "f16" }, rondo.int3 { scale = "bf16", symmetric = false },
      rondo.int4 { scale = "e8m0", symmetric = false }, rondo.mxfp4, rondo.mxfp8,
      rondo.int4 { scale = "e4m3", full_range = true, ratio = 0.8 },
      affine(4, { scale = "bf16", group_size = 32 }), rondo.fp8 { scale = "bf16", group_size = 16 },
      rondo.nf4 { scale = "f16", group_size = 3, group_dim = 0 },
    } do
      assert.is_false(params.are_found(scheme))
      local q = scheme:quantize(w)
      local o = params.options(scheme, 5, COLS)
      o.ratio, o.codes, o.scale, o.zero, o.values = scheme.ratio, true, true, true, true
      local once = assert(core.quantize(scheme.grid, w, o))
      assert.is_true(once.codes == q.codes)
      assert.is_true(once.scale == q.scales)
      assert.is_true(once.zero == q.zeros)
      assert.is_true(once.values:eq(q:dequantize()):all())
    end
  end)
end)
