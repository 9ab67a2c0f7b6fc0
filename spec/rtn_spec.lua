-- The reference functions' manners: shapes, dtypes, options, values that are not finite, models.
-- Their numbers are compared with the reference in reference_spec.lua.

local rondo = require "rondo"
local rtn = rondo.rtn

local nan, inf = 0 / 0, math.huge

local function message_of(f, ...)
  local good, message = pcall(f, ...)
  assert.is_false(good, "an error was expected")
  return message
end

local function assert_message(expected, f, ...)
  local message = message_of(f, ...)
  assert.is_truthy(message:find(expected, 1, true), "got: " .. message)
end

describe("quant_weight", function()
  it("computes what one can compute by hand", function()
    -- sym, 4 bits: scale = 7/7 = 1; ties go to the even neighbour; -0.5 becomes -0.
    local w = rondo.tensor({ { 7, 0.5, 1.5, -0.5, -2.5 } }, "f32")
    local q = rtn.quant_weight(w, { scheme = "sym" })
    assert.same({ { 7, 0, 2, -0.0, -2 } }, q:totable())
    assert.equal(-inf, 1 / q[1][4])
    -- asym, 2 bits: lo = -1, hi = 2, scale = 1, zero = 1.
    local codes, scale, zero = rtn.quant_weight(rondo.tensor({ { -1, 0, 1, 2 } }, "f32"),
                                                { num_bits = 2, return_int = true })
    assert.same({ { 0, 1, 2, 3 } }, codes:totable())
    assert.same({ { 1 } }, scale:totable())
    assert.same({ { 1 } }, zero:totable())
    assert.equal("u8", codes.dtype)
    assert.equal("u8", zero.dtype)
  end)

  it("keeps a shorter last group with a scale of its own", function()
    local w = rondo.tensor({ { 7, 7, 7, 14, 14 } }, "f32")
    local _, scale = rtn.quant_weight(w, { scheme = "sym", group_size = 3, return_int = true })
    assert.same({ { 1, 2 } }, scale:totable())
  end)

  it("takes \"row\" and sizes beyond the row as a whole row", function()
    local w = rondo.randn({ 4, 10 }, 1)
    local whole = rtn.quant_weight(w)
    assert.is_true(whole == rtn.quant_weight(w, { group_size = "row" }))
    assert.is_true(whole == rtn.quant_weight(w, { group_size = 11 }))
    assert.is_true(whole == rtn.quant_weight(w, { group_size = 1e9 }))
  end)

  it("takes rank 1 as one row and rank 3 as slices", function()
    local w = rondo.randn({ 6, 8 }, 2)
    local row = rtn.quant_weight(w[1], { group_size = 4 })
    assert.same({ 8 }, row.shape)
    assert.is_true(row == rtn.quant_weight(w, { group_size = 4 })[1])
    local stacked, scale = rtn.quant_weight(w:reshape { 2, 3, 8 },
                                            { group_size = 4, return_int = true })
    assert.same({ 2, 3, 8 }, stacked.shape)
    assert.same({ 2, 3, 2 }, scale.shape)
    local codes = rtn.quant_weight(w, { group_size = 4, return_int = true })
    assert.is_true(stacked:reshape { 6, 8 } == codes)
  end)

  it("computes in f32 whatever the input, and views as their copies", function()
    local w = rondo.randn({ 5, 40 }, 3)
    for _, dtype in ipairs { "f16", "bf16" } do
      local half = w:to(dtype)
      local q = rtn.quant_weight(half, { group_size = 16 })
      assert.equal("f32", q.dtype)
      assert.is_true(q == rtn.quant_weight(half:to("f32"), { group_size = 16 }))
    end
    local turned = w:transpose()
    assert.is_true(rtn.quant_weight(turned) == rtn.quant_weight(turned:clone()))
    local middle = w["2:4, 3:21"]
    assert.is_true(rtn.quant_weight(middle) == rtn.quant_weight(middle:clone()))
  end)

  it("gives empty results for empty tensors", function()
    for _, shape in ipairs { { 0, 8 }, { 8, 0 }, { 0 }, { 2, 0, 4 } } do
      local w = rondo.zeros(shape)
      for _, data_type in ipairs { "int", "nf4" } do
        assert.same(shape, rtn.quant_weight(w, { data_type = data_type }).shape)
        assert.same(shape, rtn.quant_weight(w, { data_type = data_type, return_int = true }).shape)
      end
      assert.equal(1, (rtn.search_clip(w)))
    end
  end)

  it("gives zeros for groups of zeros and for scales that underflow", function()
    local tiny = rondo.full({ 1, 4 }, 1e-45)
    for _, o in ipairs { { scheme = "sym" }, { scheme = "asym" }, { data_type = "fp4" },
                         { scheme = "sym", full_range = true } } do
      for _, w in ipairs { rondo.zeros { 2, 4 }, tiny } do
        local q = rtn.quant_weight(w, o)
        assert.equal(0, q:abs():max())
      end
    end
  end)

  it("has more than 8 bits only for values", function()
    local w = rondo.randn({ 3, 64 }, 4)
    local q = rtn.quant_weight(w, { num_bits = 16 })
    assert.is_true(w:close(q, 1e-4))
    assert_message("at most 8 bits", rtn.quant_weight, w, { num_bits = 9, return_int = true })
  end)

  it("offers the true E2M1 grid", function()
    local w = rondo.tensor({ { 6, 0.4, 0.5, 0.75, 5, -1.25 } }, "f32")
    local q = rtn.quant_weight(w, { data_type = "e2m1" })
    assert.same({ { 6, 0.5, 0.5, 1, 4, -1 } }, q:totable()) -- ties to even
    local codes = rtn.quant_weight(w, { data_type = "e2m1", return_int = true })
    assert.same({ { 7, 1, 1, 2, 6, 10 } }, codes:totable())
  end)

  it("falls back to integers where a codebook has not 4 bits, as the reference", function()
    local w = rondo.randn({ 2, 32 }, 5)
    local o = { num_bits = 3, scheme = "sym" }
    local expected = rtn.quant_weight(w, o)
    o.data_type = "nf4"
    assert.is_true(expected == rtn.quant_weight(w, o))
  end)
end)

describe("wrong input", function()
  local w = rondo.full({ 2, 8 }, 1)

  it("is an error that says what is allowed", function()
    local function refuses(expected, o)
      assert_message(expected, rtn.quant_weight, w, o)
    end
    refuses("num_bits must be an integer at least 1 and at most 16, not 0", { num_bits = 0 })
    refuses("num_bits must be an integer", { num_bits = 17 })
    refuses("num_bits must be an integer", { num_bits = 4.5 })
    refuses("num_bits must be an integer", { num_bits = "4" })
    refuses("num_bits must be an integer", { num_bits = nan })
    refuses("group_size must be -1", { group_size = 0 })
    refuses("group_size must be -1", { group_size = -2 })
    refuses("quantile must be a number above 0 and at most 1", { quantile = 0 })
    refuses("quantile must be a number", { quantile = 1.01 })
    refuses("quantile must be a number", { quantile = nan })
    refuses("scheme must be one of asym, sym", { scheme = "asymmetric" })
    refuses("data_type must be one of int, nf4", { data_type = "nf3" })
    refuses("return_int must be a boolean", { return_int = 1 })
    refuses("nonfinite must be one of error, keep", { nonfinite = "zero" })
    refuses("unknown option 'bits' (known: data_type", { bits = 4 })
    refuses("options must be a table", 4)
    refuses("1 bit has no full range", { num_bits = 1, scheme = "sym", full_range = true })
  end)

  it("names required options", function()
    assert_message("option 'num_bits' is missing", rtn.qdq_weight_actor, w, { scheme = "sym" })
    assert_message("option 'scheme' is missing", rtn.qdq_weight_actor, w, { num_bits = 4 })
    assert_message("data_type must be one of nf4", rtn.quantize_4bit, w, { data_type = "int" })
  end)

  it("points at the caller's line", function()
    local message = message_of(function() rtn.quant_weight(w, { num_bits = 0 }) end)
    assert.is_truthy(message:find("rtn_spec.lua:", 1, true), message)
  end)

  it("is a wrong dtype or rank, with the conversion to write", function()
    for _, dtype in ipairs { "f64", "i8", "i32", "bool" } do
      assert_message("not " .. dtype .. "; convert it with :to(\"f32\")", rtn.quant_weight,
                     rondo.zeros({ 2, 2 }, dtype))
    end
    assert_message("rank 1, 2 or 3, not 4", rtn.quant_weight, rondo.zeros { 1, 1, 1, 1 })
    assert_message("must be a tensor, not a table", rtn.quant_weight, { 1, 2 })
    assert_message("must be a tensor, not a nil", rtn.quant_weight)
  end)

  it("is a value that is not finite, with its place", function()
    for value, name in pairs { [inf] = "infinity", [-inf] = "infinity" } do
      local bad = rondo.full({ 3, 8 }, 1)
      bad["2, 5"] = value
      assert_message(name .. " at row 2, column 5", rtn.quant_weight, bad, { group_size = 4 })
    end
    local bad = rondo.full({ 70, 80 }, 1)
    bad["70, 80"], bad["41, 3"] = nan, nan
    for _, f in ipairs { rtn.quant_weight, rtn.qdq_weight_sym, rtn.quantize_4bit,
                         rtn.search_clip } do
      assert_message("NaN at row 41, column 3", f, bad)
    end
  end)

  it("passes through where asked, without touching its neighbours' range", function()
    local bad = rondo.tensor({ { 7, nan, 3, inf }, { 1, 2, 3, 7 } }, "f32")
    local q = rtn.quant_weight(bad, { scheme = "sym", nonfinite = "keep" })
    assert.equal(7, q[1][1])
    assert.is_true(q[1][2] ~= q[1][2])
    assert.equal(3, q[1][3])
    assert.equal(inf, q[1][4])
    assert.same({ 1, 2, 3, 7 }, q[2]:totable())
    assert_message("NaN at row 1, column 2", rtn.quant_weight, bad,
                   { nonfinite = "keep", return_int = true })
  end)

  it("is a range that f32 cannot hold", function()
    local wide = rondo.tensor({ { 1, 2 }, { -3e38, 3e38 } }, "f32")
    assert_message("the scale of the group at row 2, column 1 is not finite", rtn.quant_weight,
                   wide)
    assert.equal("f32", rtn.quant_weight(wide, { scheme = "sym" }).dtype)
  end)
end)

describe("search_clip", function()
  it("prefers the ratio that fits", function()
    -- An outlier at 7 and many multiples of 0.9: clipped to 0.9 the scale is 0.9, and all but the
    -- outlier are exact.
    local row = { 7 }
    for i = 1, 600 do row[i + 1] = 0.9 * (i % 6 + 1) end
    local ratio, means = rtn.search_clip(rondo.tensor({ row }, "f32"),
                                         { scheme = "sym", group_size = -1 })
    assert.equal(0.9, ratio)
    assert.is_true(math.abs(means[21] * 601 - 0.7 ^ 2) < 1e-5)
    assert.equal(1, (rtn.search_clip(rondo.tensor({ { 7, 1, -3 } }, "f32"), { scheme = "sym" })))
  end)

  it("follows group_dim and takes importance", function()
    local w = rondo.randn({ 48, 64 }, 6)
    local o = { group_size = 16, num_bits = 3 }
    local across, means = rtn.search_clip(w:transpose(), o)
    o.group_dim = 0
    local along, same = rtn.search_clip(w, o)
    assert.equal(across, along)
    -- Short rows try every ratio, blocks of columns follow their codes: rounded quotients both.
    for i, mean in ipairs(means) do assert.is_true(math.abs(mean - same[i]) <= 1e-6 * mean) end
    -- All weight on the first column: the loss is that column's alone.
    local importance = rondo.zeros { 64 }
    importance["1"] = 1
    local _, weighted = rtn.search_clip(w, { group_size = 16, importance = importance })
    local q = rtn.quant_weight(w, { group_size = 16 })
    local d = (w[":, 1"] - q[":, 1"])
    assert.is_true(math.abs(weighted[1] - (d * d):sum() / (48 * 64)) < 1e-9)
  end)
end)

describe("rtn_quantize", function()
  local folder, path
  setup(function()
    folder = os.tmpname()
    os.remove(folder)
    assert(os.execute("mkdir " .. folder))
    path = folder .. "/m.safetensors"
    assert(rondo.safetensors.save(path, {
      ["a.weight"] = rondo.randn({ 12, 40 }, 7):to("bf16"), ["a.bias"] = rondo.randn({ 12 }, 8),
      ["b.weight"] = rondo.randn({ 6, 12 }, 9), ["lm_head.weight"] = rondo.randn({ 5, 6 }, 10),
      ["embed_tokens.weight"] = rondo.randn({ 5, 40 }, 11),
      ["norm.weight"] = rondo.randn({ 6 }, 12),
    }))
  end)
  teardown(function() os.execute("rm -rf " .. folder) end)

  it("quantizes linear layers, lm_head included, in the source's dtype", function()
    local m = assert(rondo.open(path))
    local q = assert(rtn.rtn_quantize(m, { group_size = 8 }))
    for _, name in ipairs { "a.weight", "b.weight", "lm_head.weight" } do
      local expected = rtn.quant_weight(m[name], { group_size = 8 }):to(m[name].dtype)
      assert.is_true(q[name] == expected, name)
    end
    for _, name in ipairs { "a.bias", "embed_tokens.weight", "norm.weight" } do
      assert.is_true(q[name] == m[name], name)
    end
    assert.same(m.names, q.names)
  end)

  it("applies weight_config to the layer it names and to no other", function()
    local m = assert(rondo.open(path))
    local q = assert(rtn.rtn_quantize(m, {
      group_size = 8, quantile = 0.9,
      weight_config = { a = { bits = 8, scheme = "sym", gptq_perm = { 0, 1 } } },
    }))
    local a = rtn.quant_weight(m["a.weight"], { num_bits = 8, scheme = "sym", group_size = 8 })
    assert.is_true(q["a.weight"] == a:to("bf16"))
    assert.is_true(q["b.weight"] == rtn.quant_weight(m["b.weight"],
                                                     { group_size = 8, quantile = 0.9 }))
  end)

  it("refuses wrong configurations", function()
    local m = assert(rondo.open(path))
    local function refuses(expected, config)
      assert_message(expected, rtn.rtn_quantize, m, { weight_config = config })
    end
    refuses("config names 'c', which is no linear layer", { c = { bits = 8 } })
    refuses("config names 'norm'", { norm = { bits = 8 } })
    refuses("unknown field 'bit'", { a = { bit = 8 } })
    refuses("bits must be an integer", { a = { bits = 0 } })
    refuses("gptq_perm must be a list of integers", { a = { gptq_perm = { 0.5 } } })
    refuses("must be a table", { a = 4 })
    assert_message("a model from rondo.open is expected", rtn.rtn_quantize, path)
    assert_message("packed codes have at most 8 bits", rtn.rtn_quantize, m,
                   { num_bits = 9, return_int = true })
  end)

  it("packs along either dimension and group dimension, and unpacks", function()
    local m = assert(rondo.open(path))
    for _, o in ipairs {
      { group_dim = 0, group_size = 5, compression_dim = 0, compression_dtype = "int8" },
      { group_dim = 0, group_size = 5, num_bits = 3, compression_dtype = "int64" },
      { group_size = 7, num_bits = 8, compression_dtype = "int8", scheme = "sym" },
      { group_size = -1, num_bits = 1, scheme = "sym", compression_dim = 0 },
      { data_type = "nf4", group_dim = 0, compression_dtype = "int16" },
    } do
      local fake = assert(rtn.rtn_quantize(m, o))
      o.return_int = true
      local packed = assert(rtn.rtn_quantize(m, o))
      for name, layer in packed:layers() do
        local values = layer:dequantize()
        assert.equal("f32", values.dtype)
        assert.is_true(values:to(layer.dtype):eq(fake[name .. ".weight"]):all(), name)
      end
    end
  end)

  it("stores the bias in the scales' dtype", function()
    local m = assert(rondo.open(path))
    local q = assert(rtn.rtn_quantize(m, { return_int = true, scale_dtype = "float16" }))
    assert.equal("f16", q["a.scale"].dtype)
    assert.is_true(q["a.bias"] == m["a.bias"]:to("f16"))
  end)

  it("searches a ratio per layer that replaces any quantile", function()
    local m = assert(rondo.open(path))
    local q = assert(rtn.rtn_quantize(m, { enable_mse_search = true, quantile = 0.5,
                                           num_bits = 2 }))
    for name, layer in m:layers() do
      local ratio = rtn.search_clip(layer, { num_bits = 2 })
      local expected = rtn.quant_weight(layer.weight, { num_bits = 2, group_size = 32,
                                                        quantile = ratio })
      assert.is_true(q[name .. ".weight"] == expected:to(layer.dtype), name)
    end
  end)

  it("raises for values that are not finite, with the tensor's name", function()
    local bad = rondo.full({ 4, 4 }, 1)
    bad["3, 2"] = nan
    local bad_path = folder .. "/bad.safetensors"
    assert(rondo.safetensors.save(bad_path, { ["fc.weight"] = bad }))
    local m = assert(rondo.open(bad_path))
    assert_message("fc.weight: NaN at row 3, column 2", rtn.rtn_quantize, m)
    local kept = assert(rtn.rtn_quantize(m, { nonfinite = "keep" }))["fc.weight"]
    assert.is_true(kept[3][2] ~= kept[3][2])
    assert.equal(1, kept[3][1])
  end)

  it("takes a file whose only tensor is `weight` as the layer without a name", function()
    local lone = folder .. "/lone.safetensors"
    assert(rondo.safetensors.save(lone, { weight = rondo.randn({ 4, 8 }, 13) }))
    local m = assert(rondo.open(lone))
    local q = assert(rtn.rtn_quantize(m, { return_int = true }))
    assert.same({ "packed_weight", "packed_zp", "scale" }, (function()
      local names = table.move(q.names, 1, #q.names, 1, {})
      table.sort(names)
      return names
    end)())
    assert.is_truthy(rtn.rtn_quantize(m, { weight_config = { [""] = { bits = 8 } } })["weight"])
  end)

  it("takes the first ratio of those that lose the same, as the reference does", function()
    local generator = 12345
    local function random(n)
      generator = (generator * 1103515245 + 12345) % 2147483648
      return generator // 65536 % n
    end
    for _ = 1, 300 do
      local rows = {}
      for r = 1, 4 do rows[r] = { (random(17) - 8) / 8 } end
      local w, best, least = rondo.tensor(rows, "f32"), nil, math.huge
      for i = 0, 39 do
        local ratio = 1 - i / 200
        local y = rtn.quant_weight(w, { num_bits = 4, scheme = "sym", quantile = ratio })
        local loss = (w - y):to("f64"):square():sum()
        if loss < least then best, least = ratio, loss end
      end
      local found = rtn.search_clip(w, { num_bits = 4, scheme = "sym", group_size = -1 })
      assert.equal(best, found)
    end
  end)
end)
