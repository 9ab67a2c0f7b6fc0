-- What is known and wanted by group in the native functions over tiles: clip ratios, scales and
-- zero points that are given, errors by group, blocks of rows, the types that scales are stored in.
-- Errors are summed here from the values that core.quantize gives.

local core = require "rondo.core"

local int4, asym = core.grid("int", 4, true, false), core.grid("int", 4, false, false)
local affine = core.grid("affine", 3)
local ROWS, COLS, GROUP = 5, 300, 32

local function weights()
  local w = core.randn({ ROWS, COLS }, 3)
  return w * w * w
end

-- Row and column, from 1, of the group of a weight in an array by group.
local function place(dim, row, col)
  if dim == 1 then return row, (col - 1) // GROUP + 1 end
  return (row - 1) // GROUP + 1, col
end

local function shape_by_group(dim)
  if dim == 1 then return { ROWS, (COLS + GROUP - 1) // GROUP } end
  return { (ROWS + GROUP - 1) // GROUP, COLS }
end

-- Errors by group of values against weights, in plain Lua.
local function errors_of(w, values, dim, power, weight)
  local shape = shape_by_group(dim)
  local sums = {}
  for i = 1, shape[1] do sums[i] = {} end
  local a, b = w:totable(), values:totable()
  for row = 1, ROWS do
    for col = 1, COLS do
      local i, g = place(dim, row, col)
      local difference = core.tensor({ a[row][col] }) - core.tensor({ b[row][col] })
      local e = math.abs(difference[1]) ^ power * (weight and weight[col] or 1)
      sums[i][g] = (sums[i][g] or 0) + e
    end
  end
  return core.tensor(sums, "f64")
end

-- Whether all are as near.
local function close(expected, found, relative, absolute)
  local limit = expected * (relative or 1e-12) + (absolute or 1e-30)
  return (expected - found):abs():le(limit):all()
end

describe("core.losses by group", function()
  local w = weights()
  local ratios = { 1, 0.9, 0.75 }
  local weight = core.rand({ COLS }, 9)

  for _, dim in ipairs { 1, 0 } do
    it("is the error of the values, with any norm and weights, group_dim " .. dim, function()
      for _, grid in ipairs { int4, asym, core.grid("nf4", 4, true, false) } do
        for _, power in ipairs { 2, 1, 2.5 } do
          local shape = shape_by_group(dim)
          local o = { group_size = GROUP, group_dim = dim, power = power, weight = weight }
          o.group_ratios = core.rand(shape, 4) * 0.5 + 0.5
          o.group_losses = core.zeros(shape, "f64")
          assert(core.losses(grid, w, o))
          o.values = true
          local values = assert(core.quantize(grid, w, o)).values
          assert.is_true(close(errors_of(w, values, dim, power, weight:totable()),
                               o.group_losses))
        end
      end
    end)

    it("at many ratios is that at each, group_dim " .. dim, function()
      local shape = shape_by_group(dim)
      local all = core.zeros({ shape[1], shape[2], #ratios }, "f64")
      for _, power in ipairs { 2, 1 } do
        all = all * 0
        local o = { group_size = GROUP, group_dim = dim, power = power, group_losses = all,
                    ratios = core.tensor(ratios, "f32") }
        assert(core.losses(asym, w, o))
        for i, ratio in ipairs(ratios) do
          local values = assert(core.quantize(asym, w, {
            group_size = GROUP, group_dim = dim, ratio = ratio, values = true })).values
          local expected = errors_of(w, values, dim, power)
          -- The kernel for squares sums x / scale - code in f32.
          local one = all[(":, :, %d:%d"):format(i, i)]:reshape(shape)
          local near = power == 2 and 1e-5 or nil
          assert.is_true(close(expected, one, near, near))
        end
      end
    end)
  end
end)

describe("core.losses at many ratios on stored scales", function()
  it("are those of the values, where scales are rounded to 0 too", function()
    local w = weights()
    w["2, :"] = w["2, :"] * 1e-4
    local storages = {
      { scale_dtype = "f16" }, { scale_dtype = "bf16" }, { scale_dtype = "f8_e4m3" },
      { scale_dtype = "f8_e4m3", factor = 0.001 }, { scale_dtype = "f8_e8m0" },
    }
    for _, grid in ipairs { int4, asym, core.grid("nf4", 4, true, false),
                            core.grid("fp8", 8, true, false), affine } do
      for i, o in ipairs(storages) do
        for _, dim in ipairs { 1, 0 } do
          if grid ~= affine or i < 3 then
            o.round_first, o.group_size, o.group_dim = true, GROUP, dim
            o.values, o.ratios, o.ratio = true, nil, 0.75
            local expected = errors_of(w, assert(core.quantize(grid, w, o)).values, dim, 2)
            local shape = shape_by_group(dim)
            o.ratios = core.tensor({ 1, 0.75 }, "f32")
            o.group_losses = core.zeros({ shape[1], shape[2], 2 }, "f64")
            assert(core.losses(grid, w, o))
            local found = o.group_losses[":, :, 2"]
            assert.is_true(close(expected, found, 1e-5, 1e-12))
          end
        end
      end
    end
  end)
end)

describe("core.quantize with what is given by group", function()
  local w = weights()

  it("takes ratios: each group as with that one ratio", function()
    for _, dim in ipairs { 1, 0 } do
      local shape = shape_by_group(dim)
      local chosen = core.zeros(shape)
      for i = 1, shape[1] do
        for g = 1, shape[2] do chosen[i][g] = (i + g) % 2 == 0 and 1 or 0.75 end
      end
      local function values(o)
        o.group_size, o.group_dim, o.values, o.scale = GROUP, dim, true, true
        return assert(core.quantize(asym, w, o))
      end
      local mixed = values { group_ratios = chosen }
      local whole, clipped = values { ratio = 1 }, values { ratio = 0.75 }
      for row = 1, ROWS do
        for col = 1, COLS do
          local i, g = place(dim, row, col)
          local from = (i + g) % 2 == 0 and whole or clipped
          assert.equal(from.values[row][col], mixed.values[row][col])
          assert.equal(from.scale[i][g], mixed.scale[i][g])
        end
      end
    end
  end)

  it("takes scales and zero points, for a part of the matrix too", function()
    for _, dim in ipairs { 1, 0 } do
      local o = { group_size = GROUP, group_dim = dim, values = true, scale = true, zero = true,
                  ratio = 0.8, codes = true }
      local first = assert(core.quantize(asym, w, o))
      local again = { group_size = GROUP, group_dim = dim, values = true, codes = true,
                      scales = first.scale, zeros = first.zero }
      assert.is_true(assert(core.quantize(asym, w, again)).values == first.values)
      -- Rows 2..4, columns 41..300: within groups.
      again.offset, again.line, again.range_groups = 40, 1, first.scale.shape[2]
      if dim == 0 then again.offset, again.line, again.across = 1, 40, COLS end
      local part = assert(core.quantize(asym, w["2:4, 41:300"]:contiguous(), again))
      assert.is_true(part.values == first.values["2:4, 41:300"]:contiguous())
      assert.is_true(part.codes == first.codes["2:4, 41:300"]:contiguous())
    end
  end)

  it("gives the codes of 0 where a scale is 0", function()
    for _, dim in ipairs { 1, 0 } do
      local zero = core.full(shape_by_group(dim), 9, "u8")
      local function codes(grid)
        return assert(core.quantize(grid, w * 100, {
          group_size = GROUP, group_dim = dim, scales = core.zeros(shape_by_group(dim)),
          zeros = zero, codes = true })).codes
      end
      assert.is_true(codes(asym) == core.full({ ROWS, COLS }, 9, "u8"))
      for _, grid in ipairs { int4, core.grid("nf4", 4, true, false) } do
        zero = nil
        assert.is_true(codes(grid) == core.zeros({ ROWS, COLS }, "i8"))
      end
    end
  end)

  it("refuses group_losses of a tile whose first rows are in the middle of groups", function()
    local function refuses(o)
      o.scales, o.group_losses = core.full({ 8, COLS }, 1), core.zeros({ 8, COLS, 1 }, "f64")
      o.group_size = GROUP
      assert.has_error.matches(function() core.losses(int4, w, o) end, "first row of its groups")
    end
    refuses { group_dim = 0, offset = GROUP + 1, range_groups = 2 }
    refuses { group_rows = 2, line = 3 }
  end)

  it("refuses what lies outside of what is given", function()
    local scales = core.full({ ROWS, 10 }, 1)
    local o = { group_size = GROUP, scales = scales, values = true, line = 1 }
    assert.has_error(function() core.quantize(int4, w, o) end)
    o.line, o.offset, o.range_groups = 0, 32, 10
    assert.has_error(function() core.quantize(int4, w, o) end)
    o.offset, o.line = 0, -1
    assert.has_error(function() core.quantize(int4, w, o) end)
    assert.has_error(function()
      core.quantize(int4, w, { group_size = GROUP, group_ratios = core.zeros { ROWS, 9 } })
    end)
  end)
end)

describe("blocks of rows", function()
  local w = weights()

  it("share a scale: ranges, parameters, codes and errors", function()
    local lines, groups = 3, 10 -- blocks of 2 x 32, the last of one row and 12 columns
    local o = { group_size = GROUP, group_rows = 2 }
    o.ranges = core.clear_ranges(core.zeros { lines, groups, 2 })
    assert(core.ranges(asym, w, o))
    local plain = w:totable()
    for line = 1, lines do
      for g = 1, groups do
        local low, high = math.huge, -math.huge
        for row = 2 * line - 1, math.min(2 * line, ROWS) do
          for col = GROUP * (g - 1) + 1, math.min(GROUP * g, COLS) do
            low, high = math.min(low, plain[row][col]), math.max(high, plain[row][col])
          end
        end
        assert.equal(low, o.ranges[line][g][1])
        assert.equal(high, o.ranges[line][g][2])
      end
    end
    local scale, zero = core.params(asym, o.ranges, {})
    local given = { group_size = GROUP, group_rows = 2, scales = scale, zeros = zero,
                    values = true, codes = true }
    local q = assert(core.quantize(asym, w, given))
    -- Row by row: a block is what its rows are with its scale.
    scale, zero = scale:reshape { lines, groups }, zero:reshape { lines, groups }
    for row = 1, ROWS do
      local line = (row + 1) // 2
      local one = assert(core.quantize(asym, w:rows(row, row), {
        group_size = GROUP, scales = scale:rows(line, line), zeros = zero:rows(line, line),
        values = true }))
      assert.is_true(one.values == q.values:rows(row, row))
    end
    assert.is_true(q.values == core.dequantize(asym, q.codes, scale, zero, GROUP, 1, nil, 2))
    local losses, by_row = core.zeros({ lines, groups }, "f64"), errors_of(w, q.values, 1, 2)
    assert(core.losses(asym, w, { group_size = GROUP, group_rows = 2, ranges = o.ranges,
                                  group_losses = losses }))
    for line = 1, lines do
      local expected = by_row:rows(2 * line - 1, math.min(2 * line, ROWS)):sum(1)
      assert.is_true(close(expected:reshape { groups }, losses:rows(line, line):reshape { groups }))
    end
  end)

  it("need ranges or scales, and lie along the rows", function()
    assert.has_error(function()
      core.quantize(int4, w, { group_size = GROUP, group_rows = 2, values = true })
    end, "bad argument #3 to 'quantize' (groups of several rows need ranges or scales)")
    assert.has_error(function()
      core.quantize(int4, w, { group_size = GROUP, group_rows = 2, group_dim = 0 })
    end, "bad argument #3 to 'quantize' (group_rows is at least 1, and 1 with group_dim 0)")
  end)
end)

describe("stored types of scales", function()
  -- One group a row, so that the largest magnitude is known.
  local function scales_of(grid, largest, dtype)
    local w = core.tensor({ { largest, -largest / 3 } }, "f32")
    return assert(core.quantize(grid, w, { scale = true, scale_dtype = dtype, round_first = true,
                                           values = true, codes = true }))
  end

  it("e8m0 is floor(log2(largest)) - floor(log2(the grid's largest))", function()
    local e2m1 = core.grid("e2m1", 4, true, false)
    for _, case in ipairs { { 6, 1 }, { 4, 1 }, { 7.99, 1 }, { 8, 2 }, { 3.999, 0.5 },
                            { 0.01, 0.001953125 } } do
      assert.equal(case[2], scales_of(e2m1, case[1], "f8_e8m0").scale[1][1])
    end
    for _, case in ipairs { { 4, 1 }, { 7, 1 }, { 8, 2 }, { 100, 16 } } do -- largest code 7
      assert.equal(case[2], scales_of(int4, case[1], "f8_e8m0").scale[1][1])
    end
  end)

  it("rounds before codes are computed where asked", function()
    local q = scales_of(int4, 7 * 1.03, "f8_e4m3") -- 1.03 lies nearest to 1 in steps of 1/8
    assert.equal(1, q.scale[1][1])
    assert.same({ { 7, -2 } }, q.codes:totable())
    assert.same({ { 7, -2 } }, q.values:totable())
    q = scales_of(asym, 7.5 * 1.03, "f8_e8m0") -- f32: 0.687, zero 4; stored: 1, zero round(2.575)
    assert.equal(1, q.scale[1][1])
    assert.same({ { 11, 0 } }, q.codes:totable())
    assert.same({ { 8, -3 } }, q.values:totable())
  end)
end)
