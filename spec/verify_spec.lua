-- rondo verify: checkpoints of every format and scheme are found good, and bad after each of many
-- small changes.

local command = require "spec.support.command"
local json = require "rondo.json"
local lfs = require "lfs"
local models = require "spec.support.models"
local quantized = require "spec.support.quantized"
local raw = require "spec.support.raw"
local rondo = require "rondo"
local shell = require "spec.support.shell"
local tiles = require "rondo.tiles"

local A, B = "model.layers.0.self_attn.o_proj", "model.layers.0.mlp.down_proj"

-- Format, scheme, and the part of a layer that holds codes and scales. e4m3, e8m0: of scales.
local cases = {
  { "compressed-tensors", rondo.int4 { group_size = 32 }, "weight_packed", "weight_scale" },
  { "compressed-tensors", rondo.int4 { group_size = 32, symmetric = false }, "weight_packed",
    "weight_scale", "weight_zero_point" },
  { "compressed-tensors", rondo.int8, "weight", "weight_scale" },
  { "compressed-tensors", rondo.fp8, "weight", "weight_scale" },
  { "compressed-tensors", rondo.fp8 { group_size = "tensor" }, "weight", "weight_scale" },
  { "compressed-tensors", rondo.nvfp4, "weight_packed", "weight_scale" },
  { "compressed-tensors", rondo.mxfp4, "weight_packed", "weight_scale" },
  { "compressed-tensors", rondo.mxfp8, "weight", "weight_scale" },
  { "gptq", rondo.int4 { group_size = 32 }, "qweight", "scales", "qzeros" },
  { "gptq", rondo.int8 { symmetric = false }, "qweight", "scales", "qzeros" },
  { "gptq-v2", rondo.int2 { group_size = 32, symmetric = false }, "qweight", "scales", "qzeros" },
  { "awq", rondo.int4 { group_size = 32, symmetric = false }, "qweight", "scales", "qzeros" },
  { "mlx", rondo.int4 { group_size = 32 }, "weight", "scales", "biases" },
  { "mlx", rondo.int3 { group_size = 64 }, "weight", "scales", "biases" },
  { "mlx", rondo.nvfp4, "weight", "scales" },
  { "mlx", rondo.mxfp8, "weight", "scales" },
  { "bitsandbytes", rondo.nf4 { group_size = 64 }, "weight", "weight.absmax" },
  { "bitsandbytes", rondo.fp4 { group_size = 64, double = { map = "dynamic" } }, "weight",
    "weight.nested_absmax" },
  { "bitsandbytes", rondo.int8, "weight", "SCB" },
  { "fp8", rondo.fp8 { group_size = { 128, 128 } }, "weight", "weight_scale_inv" },
  { "modelopt", rondo.nvfp4, "weight", "weight_scale" },
  { "packed", rondo.int4 { group_size = 32, symmetric = false }, "packed_weight", "scale",
    "packed_zp" },
  { "packed", rondo.int8 { group_size = 16, group_dim = 0 }, "packed_weight", "scale" },
}

local sources, weights = {}, {}

local function made(case, dtype, given)
  return (quantized.quantize(sources[dtype or "f32"], case[1], { [A] = case[2], [B] = case[2] },
                             given))
end

-- Changes the tensors of a checkpoint in one file.
local function change(folder, f)
  local tensors, list = quantized.tensors(folder), {}
  f(tensors)
  for name, t in pairs(tensors) do list[#list + 1] = { name, t.dtype, t.shape, t.bytes } end
  table.sort(list, function(a, b) return a[1] < b[1] end)
  models.write(folder .. "/model.safetensors", raw.pack(list))
  return folder
end

local function good(folder, dtype)
  local found = assert(rondo.verify(sources[dtype or "f32"], folder))
  assert.same({}, found.problems)
  assert.is_true(found.good)
  return found
end

-- One of the problems is that one.
local function bad(folder, name, problem)
  local found = assert(rondo.verify(sources.f32, folder))
  assert.is_false(found.good)
  for _, p in ipairs(found.problems) do
    if p.name == name and p.problem:find(problem, 1, true) then return found, p.problem end
  end
  error(("%s: %q is not among %s"):format(name, problem, json.encode(found.problems)))
end

local function with_byte(bytes, at, byte)
  return bytes:sub(1, at - 1) .. string.char(byte) .. bytes:sub(at + 1)
end

local sizes = { F32 = 4, F16 = 2, BF16 = 2, F8_E4M3 = 1, U8 = 1 }
local zero = { F32 = "\0\0\0\0", F16 = "\0\0", BF16 = "\0\0", F8_E4M3 = "\0" }
local nan = { F32 = "\0\0\xc0\x7f", F16 = "\0\x7e", BF16 = "\xc0\x7f", F8_E4M3 = "\x7f" }

-- A tensor with one element replaced.
local function with_element(t, index, bytes)
  local size = sizes[t.dtype]
  t.bytes = t.bytes:sub(1, (index - 1) * size) .. bytes .. t.bytes:sub(index * size + 1)
end

describe("rondo.verify", function()
  setup(function()
    for _, dtype in ipairs { "f32", "f16", "bf16" } do
      weights[dtype] = { [A] = quantized.weight(48, 128, 1, dtype),
                         [B] = quantized.weight(144, 192, 2, dtype) }
      sources[dtype] = quantized.model(weights[dtype], dtype)
    end
  end)
  teardown(models.cleanup)

  for _, case in ipairs(cases) do
    local format, scheme, codes, scales, zeros = table.unpack(case, 1, 5)
    local label = format .. " " .. scheme:label()

    it("finds good what is good: " .. label, function()
      for dtype in pairs(sources) do
        local found = good(made(case, dtype), dtype)
        assert.equal(2, #found.layers)
        for _, layer in ipairs(found.layers) do
          local opened = assert(rondo.open(made(case, dtype)))
          local w = weights[dtype][layer.name]:to("f32")
          local lost = (opened:layer(layer.name):dequantize() - w):to("f64"):square():sum()
            / w:to("f64"):square():sum()
          assert.near(lost, layer.relative_error, lost * 1e-6)
          opened:close()
        end
        local c = found.coverage
        assert.same({ 3, 48 * 128 + 144 * 192 + 24 * 32, 2, 48 * 128 + 144 * 192 },
                    { c.layers, c.weights, c.quantized_layers, c.quantized_weights })
        assert.equal(c.quantized_weights / c.weights, c.share)
      end
    end)

    it("finds changed codes: " .. label, function()
      local first = made(case)
      for _, at in ipairs { 401, 1000, 1501 } do
        local folder = models.temporary()
        for name, text in pairs(quantized.bytes(first)) do
          models.write(folder .. "/" .. name, text)
        end
        change(folder, function(tensors)
          local t = tensors[A .. "." .. codes]
          t.bytes = with_byte(t.bytes, at, t.bytes:byte(at) ~ 0x66)
        end)
        local _, problem = bad(folder, A, "a code that is not the nearest")
        assert.truthy(problem:find "^[1-4] weights? ")
      end
    end)

    it("finds changed scales: " .. label, function()
      local folder = change(made(case), function(tensors)
        local t = tensors[B .. "." .. scales]
        local size = sizes[t.dtype]
        if #t.bytes >= 8 * size then -- those of two groups in each other's place
          local a, b = t.bytes:sub(1, size), t.bytes:sub(-size)
          assert.not_equal(a, b)
          with_element(t, 1, b)
          with_element(t, #t.bytes // size, a)
        else
          t.bytes = t.bytes:gsub(("."):rep(size), function(one)
            if t.dtype == "U8" then return string.char(one:byte() + 1) end
            return ("<f"):pack(("<f"):unpack(one) * 1.5)
          end)
        end
      end)
      bad(folder, B, "a code that is not the nearest")
    end)

    it("finds scales that are none: " .. label, function()
      local first = made(case)
      local dtype = quantized.tensors(first)[A .. "." .. scales].dtype
      local e8m0 = dtype == "U8" and scheme.scale == "e8m0"
      local not_finite = dtype == "U8" and (e8m0 and "\xff" or "\x7f") or nan[dtype]
      bad(change(first, function(tensors)
        with_element(tensors[A .. "." .. scales], 1, not_finite)
      end), A, "not finite")
      if e8m0 or scheme.double then return end
      bad(change(made(case), function(tensors)
        with_element(tensors[A .. "." .. scales], 1, dtype == "U8" and "\0" or zero[dtype])
      end), A, "a scale of 0, but weights that are not")
    end)

    if zeros then
      it("finds changed zero points: " .. label, function()
        bad(change(made(case), function(tensors)
          local t = tensors[A .. "." .. zeros]
          local at = sizes[t.dtype] or 1 -- of a float, its sign and exponent
          t.bytes = with_byte(t.bytes, at, t.bytes:byte(at) ~ 0x33)
        end), A, "a code that is not the nearest")
      end)
    end

    it("finds layers that are made of others, or gone: " .. label, function()
      local other = quantized.model({ [A] = quantized.weight(48, 128, 7),
                                      [B] = weights.f32[B] }, "f32")
      local folder = quantized.quantize(other, format, { [A] = scheme, [B] = scheme })
      local found = bad(folder, A, "a code that is not the nearest")
      assert.equal(1, #found.problems)
      folder = made(case)
      local parts = {}
      change(folder, function(tensors)
        for name in pairs(tensors) do
          if name:find(A .. ".", 1, true) == 1 and name ~= A .. ".bias" then
            parts[#parts + 1] = name
            tensors[name] = nil
          end
        end
      end)
      assert.is_true(#parts >= 2)
      local config = quantized.json(folder)
      if format == "packed" then -- which names its layers
        assert.is_nil(rondo.verify(sources.f32, folder))
        config.quantization_config.layers[A] = nil
        models.write(folder .. "/config.json", json.encode(config))
      end
      bad(folder, A, "is missing")
    end)
  end

  it("finds every code that is one off", function()
    local case = cases[1]
    local first = made(case)
    for trial = 1, 40 do
      local at, high = trial * 97 % 3072 + 1, trial % 2 == 1
      change(first, function(tensors)
        local t = tensors[A .. ".weight_packed"]
        local byte = t.bytes:byte(at)
        t.bytes = with_byte(t.bytes, at, byte ~ (high and 0x10 or 0x01))
      end)
      local _, problem = bad(first, A, "1 weight has a code")
      local weight = (at - 1) * 2 + (high and 1 or 0) -- 64 bytes a row
      assert.truthy(problem:find(("row %d, column %d)"):format(weight // 128 + 1,
                                                               weight % 128 + 1), 1, true))
      change(first, function(tensors)
        local t = tensors[A .. ".weight_packed"]
        t.bytes = with_byte(t.bytes, at, t.bytes:byte(at) ~ (high and 0x10 or 0x01))
      end)
    end
    good(first)
  end)

  describe("knows how others compute", function()
    -- A checkpoint of one layer, changed by f(tensors); its problems.
    local function problems_of(weight, dtype, format, scheme, f)
      local source = quantized.model({ [A] = weight }, dtype)
      local folder = quantized.quantize(source, format, { [A] = scheme })
      change(folder, f)
      local found = assert(rondo.verify(source, folder))
      return found.problems[1] and found.problems[1].problem
    end

    -- The scale is 171 * 2^-14. 254 / 171 is 190 / 128 in bf16, and less 8, -6.515625, a tie there,
    -- which goes to -6.5 and then to -6: the code 2, though 1 is the nearest.
    it("codes with zero points, in bf16", function()
      local weight = rondo.zeros({ 8, 32 }, "bf16")
      weight[1][1], weight[1][2], weight[1][3] = 254 * 0x1p-14, 5 / 32, 245 * 0x1p-14
      local scheme = rondo.int4 { group_size = 32, symmetric = false }
      local function with(at, byte)
        return problems_of(weight, "bf16", "compressed-tensors", scheme, function(tensors)
          local t = tensors[A .. ".weight_packed"]
          assert.equal(171 * 0x1p-14, quantized.element(tensors[A .. ".weight_scale"], 0))
          assert.equal("\xf1\x01", t.bytes:sub(1, 2))
          t.bytes = with_byte(t.bytes, at, byte)
        end)
      end
      assert.is_nil(with(1, 0xf2))
      assert.truthy(with(2, 0x02):find("1 weight has a code that is not the nearest", 1, true))
    end)

    -- bitsandbytes chooses codes by the absmax of a block and quantizes that one afterwards, less
    -- the mean of all: what is stored for a block of small weights is far from it.
    it("blocks of small weights with double quantization", function()
      local weight = quantized.weight(48, 128, 1, "f32")
      for col = 1, 128 do weight[5][col] = 1e-6 end
      local scheme = rondo.nf4 { group_size = 64, double = { map = "dynamic" } }
      local function with(row)
        return problems_of(weight, "f32", "bitsandbytes", scheme, function(tensors)
          local t = tensors[A .. ".weight"]
          t.bytes = t.bytes:sub(1, (row - 1) * 64) .. ("\xff"):rep(64) .. t.bytes:sub(row * 64 + 1)
        end)
      end
      assert.is_nil(with(5))
      assert.truthy(with(6):find("a code that is not the nearest", 1, true))
    end)

    -- 4.2e-8 is 2^-24 in f16, and 1e-6 is 17 of them: 127 / 17 is 7, while 4.2e-8 were 5.
    it("weights that were rounded to f16", function()
      local weight = quantized.weight(8, 64, 1, "f32")
      for col = 1, 64 do weight[2][col] = 0 end
      weight[2][1], weight[2][2] = 1e-6, 4.2e-8
      local function with(code)
        return problems_of(weight, "f32", "bitsandbytes", rondo.int8, function(tensors)
          with_element(tensors[A .. ".SCB"], 2, ("<f"):pack(17 * 0x1p-24))
          local t = tensors[A .. ".weight"]
          assert.equal(127, t.bytes:byte(65))
          t.bytes = with_byte(t.bytes, 66, code)
        end)
      end
      assert.is_nil(with(7))
      assert.truthy(with(20):find("1 weight has a code that is not the nearest", 1, true))
    end)
  end)

  it("is the same however a layer is cut into tiles", function()
    local before = tiles.limit
    for _, limit in ipairs { before, 1000, 130 } do
      tiles.limit = limit
      for _, number in ipairs { 2, 5, 6, 11, 18, 20, 23 } do
        local folder = made(cases[number])
        good(folder)
        change(folder, function(tensors)
          local t = tensors[B .. "." .. cases[number][3]]
          t.bytes = with_byte(t.bytes, 3001, t.bytes:byte(3001) ~ 0x66)
        end)
        bad(folder, B, "a code that is not the nearest")
      end
    end
    tiles.limit = before
  end)

  it("knows searched, clipped and shared scales", function()
    local int4 = rondo.int4 { group_size = 32 }
    for _, clip in ipairs { "grid", "golden", "fine", "mse", "percentile", "layer", "signed",
                            "least_squares" } do
      good(made { "compressed-tensors", int4 { clip = rondo.clip[clip] or clip } })
    end
    good(made { "compressed-tensors", int4 { full_range = true } })
    good(made { "mlx", int4 { symmetric = false, zero = "float",
                              clip = rondo.clip.least_squares } })
    good(made { "compressed-tensors", rondo.mxfp4 { clip = rondo.clip.neighbours } })
    good(made { "compressed-tensors", rondo.nvfp4 { clip = rondo.clip.neighbours } })
    for _, scale in ipairs { "f16", "bf16" } do
      good(made { "packed", int4 { scale = scale } })
      good(made { "packed", int4 { symmetric = false, scale = scale } })
      good(made { "packed", rondo.nf4 { group_size = 32, scale = scale } })
    end
    local fused, schemes = {}, {}
    for i, name in ipairs { "q_proj", "k_proj", "v_proj" } do
      fused["model.layers.0.self_attn." .. name] = rondo.randn({ 16, 64 }, i) * i
      schemes["model.layers.0.self_attn." .. name] = rondo.nvfp4
    end
    local model = quantized.model(fused, "f32")
    for _, format in ipairs { "compressed-tensors", "modelopt" } do
      local folder = quantized.quantize(model, format, schemes)
      assert.same({}, assert(rondo.verify(model, folder)).problems)
    end
  end)

  -- Plain rounding with zero points has nearly no error here, without them it has some.
  it("takes zero points that are all in the middle for none", function()
    local asymmetric = rondo.int4 { group_size = 32, symmetric = false }
    local plain = quantized.model({ [A] = asymmetric:quantize(weights.f32[A]):dequantize() },
                                  "f32")
    for _, format in ipairs { "gptq", "gptq-v2", "awq" } do
      local folder = quantized.quantize(plain, format, { [A] = rondo.int4 { group_size = 32 } })
      local found = assert(rondo.verify(plain, folder))
      assert.same({}, found.problems)
      assert.is_true(found.layers[1].relative_error > 1e-4)
      assert.near(found.layers[1].relative_error, found.layers[1].plain_error, 1e-5)
    end
  end)

  it("says when scales explain no such error", function()
    local case = { "compressed-tensors", rondo.int8 { group_size = 32, ratio = 0.1 },
                   given = { activations = "none" } }
    bad(made(case), A, "the relative error is")
  end)

  it("finds experts that were cut", function()
    local path = "model.layers.0.mlp.experts."
    local model = models.temporary()
    assert(rondo.safetensors.save(model .. "/model.safetensors", {
      [path .. "gate_up_proj"] = rondo.randn({ 3, 32, 64 }, 1),
      [path .. "down_proj"] = rondo.randn({ 3, 64, 32 }, 2) }))
    models.write(model .. "/config.json", '{"model_type":"qwen3_moe","num_hidden_layers":1}')
    local recipe = rondo.recipe { { "**.experts.*", rondo.int4 { group_size = 32 } } }
    for _, format in ipairs { "compressed-tensors", "mlx", "packed" } do
      local folder = models.temporary()
      assert(rondo.quantize(model, folder, { format = format, recipe = recipe, overwrite = true }))
      local found = assert(rondo.verify(model, folder))
      assert.same({}, found.problems)
      assert.equal(1, found.coverage.share)
      assert.same({ 2, 2 }, { found.coverage.layers, found.coverage.quantized_layers })
    end
  end)

  -- As mlx-lm makes them of a model that has a layer for each expert.
  it("finds experts that were stacked", function()
    local path = "model.layers.0.mlp."
    local shapes = { gate_proj = { 3, 32, 64 }, up_proj = { 3, 32, 64 }, down_proj = { 3, 64, 32 } }
    local split, stacked = {}, {}
    for name, shape in pairs(shapes) do
      local w = rondo.randn(shape, #name)
      stacked[path .. "switch_mlp." .. name .. ".weight"] = w
      for i = 1, 3 do
        split[("%sexperts.%d.%s.weight"):format(path, i - 1, name)] = w[i]:contiguous()
      end
    end
    local function model_of(tensors)
      local folder = models.temporary()
      assert(rondo.safetensors.save(folder .. "/model.safetensors", tensors))
      models.write(folder .. "/config.json", '{"model_type":"qwen3_moe","num_hidden_layers":1}')
      return folder
    end
    local recipe = rondo.recipe { fused = false, { "**.gate_proj.weight", rondo.keep },
                                  { "**.switch_mlp.*", rondo.int4 { group_size = 32 } } }
    local folder = models.temporary()
    assert(rondo.quantize(model_of(stacked), folder, { format = "mlx", recipe = recipe,
                                                       overwrite = true }))
    local source = model_of(split)
    local found = assert(rondo.verify(source, folder))
    assert.same({}, found.problems)
    local c = found.coverage
    assert.same({ 9, 6, 2 / 3 }, { c.layers, c.quantized_layers, c.share })
    local function problem_of(name)
      for _, p in ipairs(assert(rondo.verify(source, folder)).problems) do
        if p.name == path .. "switch_mlp." .. name then return p.problem end
      end
    end
    change(folder, function(tensors)
      for _, name in ipairs { "gate_proj", "down_proj" } do -- of the last expert
        local t = tensors[path .. "switch_mlp." .. name .. ".weight"]
        t.bytes = with_byte(t.bytes, #t.bytes, t.bytes:byte(-1) ~ 0x80)
      end
    end)
    assert.equal("is not quantized, but differs from the source", problem_of "gate_proj")
    assert.truthy(problem_of("down_proj"):find("1 weight has a code that is not the nearest", 1,
                                               true))
    split[path .. "experts.2.up_proj.weight"] = nil
    source = model_of(split)
    assert.equal("has the shape 3x32x64, not 2x32x64", problem_of "up_proj")
  end)

  it("finds tensors that are missing, changed, of other shapes, or too many", function()
    local case = cases[1]
    bad(change(made(case), function(t) t["model.norm.weight"] = nil end), "model.norm",
        "is missing")
    bad(change(made(case), function(t) t[A .. ".bias"] = nil end), A .. ".bias", "is missing")
    bad(change(made(case), function(t)
      t[A .. ".bias"].bytes = with_byte(t[A .. ".bias"].bytes, 7, 0x11)
    end), A .. ".bias", "differs from the source")
    bad(change(made(case), function(t)
      t["lm_head.weight"].bytes = with_byte(t["lm_head.weight"].bytes, 8, 0)
    end), "lm_head", "differs from the source")
    bad(change(made(case), function(t)
      local bias = t[A .. ".bias"]
      bias.shape, bias.bytes = { 47 }, bias.bytes:sub(1, 188)
    end), A .. ".bias", "has the shape 47, not 48")
    bad(change(made(case), function(t) t["lm_head.weight"].shape = { 32, 24 } end), "lm_head",
        "has the shape 32x24, not 24x32")
    bad(change(made(case), function(t)
      t.extra = { dtype = "F32", shape = { 1 }, bytes = "\0\0\0\0" }
    end), "extra", "is not in the source")
    bad(change(made(case), function(t)
      t[A .. ".weight"] = { dtype = "F32", shape = { 48, 128 }, bytes = ("\0"):rep(24576) }
    end), A .. ".weight", "is not in the source")
  end)

  it("finds layers of another size", function()
    local other = quantized.model({ [A] = quantized.weight(56, 128, 1), [B] = weights.f32[B] },
                                  "f32")
    local folder = quantized.quantize(other, "compressed-tensors",
                                      { [A] = cases[1][2], [B] = cases[1][2] })
    bad(folder, A, "has the shape 56x128, not 48x128")
  end)

  it("finds what an index does not have, or has elsewhere", function()
    local folder = made(cases[1], "f32", { shard_size = 8000 })
    good(folder)
    local path = folder .. "/model.safetensors.index.json"
    local text = shell.read_file(path)
    local name = A .. ".weight_packed"
    local file = text:match('"' .. name:gsub("%p", "%%%0") .. '": "([^"]*)"')
    local another
    for found in text:gmatch '"(model%-%d+%-of%-%d+%.safetensors)"' do
      if found ~= file then another = found end
    end
    models.write(path, (text:gsub('("' .. name:gsub("%p", "%%%0") .. '": )"[^"]*"',
                                  '%1"' .. another .. '"')))
    local found, message = rondo.verify(sources.f32, folder)
    assert.is_nil(found)
    assert.truthy(message:find(name, 1, true), message)
    models.write(path, (text:gsub('    "' .. (A .. ".bias"):gsub("%p", "%%%0") .. '": "[^"]*",\n',
                                  "")))
    bad(folder, A .. ".bias", "is missing")
    models.write(path, text)
    os.remove(folder .. "/" .. file)
    found, message = rondo.verify(sources.f32, folder)
    assert.is_nil(found)
    assert.truthy(message:find(file, 1, true), message)
  end)

  it("says what it cannot verify", function()
    local folder = quantized.quantize(sources.f32, "fake", { [A] = rondo.int4 })
    local found, message, code = rondo.verify(sources.f32, folder)
    assert.same({ nil, "unsupported" }, { found, code })
    assert.truthy(message:find("says nothing of a quantization", 1, true))
    folder = made(cases[1])
    models.write(folder .. "/config.json", '{"quantization_config":{"quant_method":"hqq"}}')
    found, message, code = rondo.verify(sources.f32, folder)
    assert.same({ nil, "unsupported" }, { found, code })
    assert.truthy(message:find("'hqq' is not read", 1, true))
    models.write(folder .. "/config.json", '{"quantization_config":{"quant_method":"gptq"}}')
    found, message, code = rondo.verify(sources.f32, folder)
    assert.same({ nil, "format" }, { found, code })
    assert.truthy(message:find("no codes as 'gptq' stores them", 1, true), message)
    folder = quantized.quantize(sources.f32, "fake", { [A] = rondo.int4 })
    models.write(folder .. "/config.json", '{"quantization_config":{"quant_method":"gptq"}}')
    bad(folder, "", "nothing is quantized")
    assert.error_matches(function() rondo.verify(1, folder) end, "bad argument #1 to 'verify'")
    assert.is_nil(rondo.verify(folder .. "/none", folder))
  end)

  it("takes quantized sources", function()
    local fp8 = made { "fp8", rondo.fp8 { group_size = { 128, 128 } } }
    local out = quantized.quantize(fp8, "compressed-tensors",
                                   { [A] = cases[1][2], [B] = cases[1][2] })
    assert.same({}, assert(rondo.verify(fp8, out)).problems)
    assert.is_false(assert(rondo.verify(sources.f32, out)).good)
  end)

  it("is a command", function()
    local folder = made(cases[2])
    local text = command.good { "verify", sources.f32, folder }
    assert.truthy(text:find "\nmodel%.layers%.0%.mlp%.down_proj +144x192 +int4 asym g32 +%S+ +%S+")
    assert.truthy(text:find("\n2 of 3 linear layers quantized: 97.78% of 34560 weights\n", 1, true),
                  text)
    assert.truthy(text:find "\nall tensors are there and hold what they should\n$")
    local found = json.decode(command.good { "verify", sources.f32, folder, "--json" })
    assert.same({ 1, rondo.version, sources.f32, folder, true },
                { found.schema, found.rondo, found.source, found.quantized, found.good })
    assert.same({ 2, 0 }, { #found.layers, #found.problems })
    change(folder, function(t) t[A .. ".bias"] = nil end)
    local code, out, err = command.run { "verify", sources.f32, folder }
    assert.same({ 1, "rondo: " .. folder .. ": 1 problem\n" }, { code, err })
    assert.truthy(out:find("\n1 problem:\n  " .. A .. ".bias: is missing\n", 1, true), out)
    code, out = command.run { "verify", sources.f32, folder, "--json" }
    found = json.decode(out)
    assert.equal(1, code)
    assert.is_false(found.good)
    assert.same({ what = "tensor", name = A .. ".bias", problem = "is missing" },
                found.problems[1])
    command.fails({ "verify", sources.f32, sources.f32 }, sources.f32, "rondo compare")
    command.fails({ "verify", sources.f32, folder .. "/none" }, folder .. "/none")
    assert.equal(2, (command.run { "verify", sources.f32 }))
    assert.equal("directory", lfs.attributes(folder, "mode"))
  end)
end)
