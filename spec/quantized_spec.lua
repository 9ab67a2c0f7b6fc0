-- Schemes on weights in memory: quantized tensors, losses, ratios; blocks, types of scales, double
-- quantization. Expected values are worked out here, or by the reference functions.

local core = require "rondo.core"
local rondo = require "rondo"

local function weights(rows, cols, seed)
  local w = core.randn({ rows, cols }, seed)
  return w * w * w
end

local affine = rondo.int3 { symmetric = false, zero = "float" }

local function refuses(expected, f, ...)
  local good, message = pcall(f, ...)
  assert.is_false(good)
  assert.is_truthy(tostring(message):find(expected, 1, true), message)
end

-- The sum of squared differences over the sum of squares, in plain Lua.
local function relative_error(w, values)
  local error, norm = 0, 0
  local a, b = w:totable(), values:totable()
  for i, row in ipairs(a) do
    for j, x in ipairs(row) do
      error, norm = error + (x - b[i][j]) ^ 2, norm + x ^ 2
    end
  end
  return error / norm
end

describe("scheme:quantize", function()
  it("gives what the reference functions give", function()
    for _, case in ipairs {
      { rondo.int4 { group_size = 32 }, { scheme = "sym", group_size = 32 } },
      { rondo.int4 { group_size = 32, symmetric = false }, { scheme = "asym", group_size = 32 } },
      { rondo.int8, { scheme = "sym", num_bits = 8 } },
      { rondo.int3 { full_range = true, ratio = 0.9 },
        { scheme = "sym", num_bits = 3, group_size = 128, full_range = true, quantile = 0.9 } },
      { rondo.nf4 { group_size = 64 }, { data_type = "nf4", group_size = 64 } },
    } do
      for _, dtype in ipairs { "f32", "bf16" } do
        local w = weights(7, 172, 1):to(dtype)
        local q = case[1]:quantize(w)
        case[2].return_int = true
        local codes, scale, zero = rondo.rtn.quant_weight(w, case[2])
        assert.is_true(q.codes == codes)
        assert.is_true(q.scales == scale)
        assert.is_true(q.zeros == zero)
        case[2].return_int = nil
        -- Codes do not have the sign of a zero.
        assert.is_true(q:dequantize():eq(rondo.rtn.quant_weight(w, case[2])):all())
        assert.equal(case[1], q.scheme)
        assert.same({ 7, 172 }, q.shape)
      end
    end
  end)

  it("takes rank 1 as a row, other strides, and f64", function()
    local w = weights(6, 40, 2)
    local scheme = rondo.int4 { group_size = 8 }
    local q = scheme:quantize(w[3])
    assert.same({ 40 }, q.shape)
    assert.is_true(q:dequantize() == scheme:quantize(w:rows(3, 3)):dequantize():reshape { 40 })
    local turned = w:transpose()
    assert.is_true(scheme:quantize(turned).codes == scheme:quantize(turned:clone()).codes)
    assert.is_true(scheme:quantize(w:to "f64").codes == scheme:quantize(w).codes)
  end)

  it("takes weights without rows or without columns", function()
    for _, shape in ipairs { { 5, 0 }, { 0, 5 }, { 0, 0 } } do
      for _, o in ipairs { {}, { scale = "f16" }, { group_dim = 0 }, { clip = "grid" },
                           { group_size = { 2, 3 } }, { group_size = "tensor" } } do
        local values = rondo.int4(o):quantize(core.zeros(shape)):dequantize()
        assert.same(shape, values.shape)
      end
    end
  end)

  it("counts bits: codes, scales, zero points", function()
    local w = weights(8, 100, 3)
    -- 4 groups a row: 32 scales for 800 weights.
    assert.equal(4 + 32 * 32 / 800, rondo.int4 { group_size = 32 }:quantize(w):bits())
    assert.equal(4 + 32 * (16 + 4) / 800,
      rondo.int4 { group_size = 32, symmetric = false, scale = "f16" }:quantize(w):bits())
    assert.equal(4 + 32 / 800, rondo.nf4 { group_size = "tensor" }:quantize(w):bits())
    assert.equal(4 + 2 * 4 * 8 / 800,
      rondo.e2m1 { group_size = { 4, 32 }, scale = "e8m0" }:quantize(w):bits())
    -- 32 scales of 6 bits, 4 outer ones, the mean.
    assert.equal(4 + (32 * 6 + 4 * 32 + 32) / 800,
      rondo.int4 { group_size = 32, double = { bits = 6, group_size = 8 } }:quantize(w):bits())
  end)

  it("tells its error, which is the scheme's loss", function()
    local w = weights(9, 70, 4)
    for _, scheme in ipairs { rondo.int4, rondo.int2 { symmetric = false, group_size = 16 },
                              rondo.nf4 { group_size = { 4, 16 } },
                              rondo.int3 { group_dim = 0 } } do
      local q = scheme:quantize(w)
      local expected = relative_error(w, q:dequantize())
      assert.is_true(math.abs(q:error(w) - expected) < 1e-6 * expected)
      assert.is_true(math.abs(scheme:loss(w) - expected) < 1e-6 * expected)
    end
    assert.equal(0, rondo.keep:loss(w))
    assert.equal(0, rondo.int4:loss(core.zeros { 2, 8 }))
    assert.equal("int4 sym g128 of 9x70, 4.457 bits a weight", tostring(rondo.int4:quantize(w)))
  end)

  it("refuses what it cannot quantize, and says where", function()
    local w = weights(4, 40, 5)
    refuses("quantize: rondo.keep: it quantizes nothing", rondo.keep.quantize, rondo.keep, w)
    refuses("codes have at most 8 bits", rondo.int4.quantize,
            rondo.scheme.from { type = "int12" }, w)
    refuses("the weight must be a tensor, not a table", rondo.int4.loss, rondo.int4, {})
    refuses("not of rank 3", rondo.int4.loss, rondo.int4, core.zeros { 2, 2, 2 })
    w[2][7] = 0 / 0
    refuses("quantize: NaN at row 2, column 7", rondo.int4.quantize, rondo.int4, w)
    refuses("loss: NaN at row 2, column 7", rondo.int4.loss, rondo.int4 { clip = "grid" }, w)
    refuses("losses: NaN at row 2, column 7", rondo.int4.losses, rondo.int4, w, { 1 })
    refuses("quantized_spec.lua", function() rondo.int4:ratios(w, "x") end)
    refuses("ratios: a number is expected, not a string", rondo.int4.ratios, rondo.int4, w, "x")
    w[2][7] = math.huge
    refuses("infinity at row 2, column 7", rondo.int4.quantize,
            rondo.int4 { group_size = { 2, 8 } }, w)
    refuses("the weight's shape is {2, 2}, not {1, 8}", function()
      rondo.int4:quantize(core.zeros { 1, 8 }):error(core.zeros { 2, 2 })
    end)
  end)
end)

describe("groups of a scheme", function()
  it("may be blocks, and the whole tensor", function()
    local w = weights(10, 50, 6)
    -- A block is a row of a matrix of blocks.
    local q = rondo.int4 { group_size = { 5, 25 }, symmetric = false }:quantize(w)
    local tensor = rondo.int4 { group_size = "tensor", symmetric = false }:quantize(w)
    local values = q:dequantize()
    for i = 0, 1 do
      for j = 0, 1 do
        local place = ("%d:%d, %d:%d"):format(5 * i + 1, 5 * i + 5, 25 * j + 1, 25 * j + 25)
        local block = w[place]:clone():reshape { 1, 125 }
        local expected = rondo.rtn.quant_weight(block)
        assert.is_true(expected:eq(values[place]:clone():reshape { 1, 125 }):all())
      end
    end
    local expected = rondo.rtn.quant_weight(w:reshape { 1, 500 })
    assert.is_true(expected:reshape({ 10, 50 }):eq(tensor:dequantize()):all())
    assert.same({ 1, 1 }, tensor.scales.shape)
  end)

  it("have ratios and losses of their shape", function()
    local w = weights(6, 50, 7)
    for shape, scheme in pairs {
      [{ 6, 4 }] = rondo.int4 { group_size = 16 }, [{ 6, 1 }] = rondo.int8,
      [{ 2, 50 }] = rondo.int4 { group_size = 4, group_dim = 0 }, [{ 1, 1 }] = rondo.int4 {
        group_size = "tensor" }, [{ 2, 3 }] = rondo.nf4 { group_size = { 4, 20 } },
      [{ 6, 5 }] = affine { group_size = 10 }, [{ 3, 50 }] = affine { group_size = { 2, 1 } },
      [{ 3, 2 }] = affine { group_size = { 2, 30 }, scale = "bf16" },
      [{ 3, 1 }] = rondo.fp8 { group_size = { 2, 128 } }, [{ 1, 50 }] = rondo.fp8 {
        group_dim = 0 }, [{ 6, 2 }] = rondo.mxfp8, [{ 6, 3 }] = rondo.mxfp4 { group_size = 20 },
    } do
      local ratios = scheme:ratios(w, 0.75)
      assert.same(shape, ratios.shape)
      assert.is_true((ratios:eq(0.75)):all())
      local losses = scheme:losses(w, ratios)
      assert.same(shape, losses.shape)
      local total = relative_error(w, scheme { ratio = 0.75 }:quantize(w):dequantize())
      local norm = (w:to "f64" * w:to "f64"):sum()
      assert.is_true(math.abs(losses:sum() / norm - total) < 1e-6 * total)
      local many = scheme:losses(w, { 1, 0.75 })
      assert.same({ shape[1], shape[2], 2 }, many.shape)
      assert.is_true(math.abs(many[":, :, 2"]:sum() - losses:sum()) < 1e-5 * losses:sum())
      local q = scheme { ratio = 0.75 }:quantize(w)
      assert.is_true(scheme:losses(w, { scales = q.scales, zeros = q.zeros }) == losses)
    end
    refuses("are expected, not a number", rondo.int4.losses, rondo.int4, w, 1)
    refuses("losses: ratios must be of shape {6, 1}, one for each group, not {2, 3}",
            rondo.int4.losses, rondo.int4, w, core.full({ 2, 3 }, 1, "f32"))
    for text, ratio in pairs { ["-0.5"] = -0.5, ["0.0"] = 0, ["1.25"] = 1.25, nan = 0 / 0 } do
      for _, ratios in ipairs { core.full({ 6, 1 }, ratio, "f32"), { 1, ratio } } do
        refuses("losses: ratios must be above 0 and at most 1, not " .. text:gsub("^nan", ""),
                rondo.int4.losses, rondo.int4, w, ratios)
      end
    end
  end)
end)

describe("scales", function()
  it("are rounded to their type before codes are computed", function()
    local w = weights(3, 64, 8)
    for scale, dtype in pairs { f16 = "f16", bf16 = "bf16", e4m3 = "f8_e4m3" } do
      local plain = rondo.int4 { group_size = 32 }:quantize(w).scales
      local q = rondo.int4 { group_size = 32, scale = scale }:quantize(w)
      assert.is_true(plain:to(dtype):to "f32" == q.scales)
      for row = 1, 3 do
        for col = 1, 64 do
          local exact = w[row][col] / q.scales[row][(col - 1) // 32 + 1]
          local code = math.max(-8, math.min(7, exact))
          assert.is_true(math.abs(q.codes[row][col] - code) <= 0.5 + 1e-6)
        end
      end
    end
  end)

  it("are powers of two, by the rule of the microscaling formats", function()
    local w = weights(4, 64, 9)
    local q = rondo.e2m1 { group_size = 32, scale = "e8m0" }:quantize(w)
    for row = 1, 4 do
      for group = 1, 2 do
        local largest = w[row][("%d:%d"):format(32 * group - 31, 32 * group)]:abs():max()
        local exponent = math.floor(math.log(largest, 2)) - 2
        assert.equal(2.0 ^ exponent, q.scales[row][group])
      end
    end
  end)

  it("are quantized in turn", function()
    local w = weights(4, 64, 10)
    local single = rondo.int4 { group_size = 16 }:quantize(w).scales:totable()
    for _, mean in ipairs { true, false } do
      local q = rondo.int4 { group_size = 16, double = { bits = 6, group_size = 5, mean = mean } }
        :quantize(w)
      local flat, sum = {}, 0
      for _, row in ipairs(single) do
        for _, s in ipairs(row) do flat[#flat + 1], sum = s, sum + s end
      end
      local offset = mean and sum / #flat or 0
      for first = 1, #flat, 5 do
        local largest = 0
        for i = first, math.min(first + 4, #flat) do
          largest = math.max(largest, math.abs(flat[i] - offset))
        end
        for i = first, math.min(first + 4, #flat) do
          local step = largest / 31
          local code = (flat[i] - offset) / step
          local found = (q.scales[(i - 1) // 4 + 1][(i - 1) % 4 + 1] - offset) / step
          assert.is_true(math.abs(found - math.floor(found + 0.5)) < 1e-3) -- a whole number
          assert.is_true(math.abs(found - code) < 0.5 + 1e-3)              -- the nearest
        end
      end
    end
  end)
end)
