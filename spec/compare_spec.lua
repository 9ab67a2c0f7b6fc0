-- Comparing checkpoints: errors worked out by hand, what is missing, what is not a number, and that
-- cutting a layer into tiles changes nothing.

local compare = require "rondo.compare"
local model = require "rondo.model"
local models = require "spec.support.models"
local rondo = require "rondo"
local tiles = require "rondo.tiles"

local function floats(...) return ("<" .. ("f"):rep(select("#", ...))):pack(...) end
local function halves(...) return ("<" .. ("I2"):rep(select("#", ...))):pack(...) end

local nan, inf = 0 / 0, math.huge

local function by_name(list)
  local map = {}
  for _, entry in ipairs(list) do map[entry.name] = entry end
  return map
end

local function compared(a, b)
  return assert(compare.run(models.folder(a), models.folder(b)))
end

-- Folders of one model of experts in three forms: stacked as transformers has them, split, stacked
-- by projection as mlx-lm has them; the names of the split ones.
local function expert_folders()
  local path, stacked = "model.layers.0.mlp.", {}
  local split, by_projection, names = {}, {}, {}
  local gate_up, down = rondo.randn({ 3, 8, 6 }, 1), rondo.randn({ 3, 6, 4 }, 2)
  stacked[path .. "experts.gate_up_proj"], stacked[path .. "experts.down_proj"] = gate_up, down
  local parts = { gate_proj = gate_up[":, 1:4, :"]:contiguous(),
                  up_proj = gate_up[":, 5:8, :"]:contiguous(), down_proj = down }
  for name, part in pairs(parts) do
    by_projection[path .. "switch_mlp." .. name .. ".weight"] = part
    for number = 1, 3 do
      local expert = path .. "experts." .. number - 1 .. "." .. name
      split[expert .. ".weight"] = part[number]:contiguous()
      names[#names + 1] = expert
    end
  end
  local folders = {}
  for i, tensors in ipairs { stacked, split, by_projection } do
    folders[i] = models.temporary()
    assert(rondo.safetensors.save(folders[i] .. "/model.safetensors", tensors))
    models.write(folders[i] .. "/config.json", '{"model_type":"qwen3_moe"}')
  end
  return folders, names
end

describe("comparing two checkpoints", function()
  teardown(models.cleanup)

  it("finds experts in whichever tensors they are", function()
    local folders, names = expert_folders()
    for i, a in ipairs(folders) do
      for j, b in ipairs(folders) do
        local r = assert(compare.run(a, b))
        assert.same({ {}, {}, {}, {} },
                    { r.only_a, r.only_b, r.differing_shapes, r.tensors }, i .. " and " .. j)
        assert.same({ 3 * (8 * 6 + 6 * 4), 0 }, { r.totals.weights, r.totals.relative_error })
        local split = by_name(r.layers)
        for _, name in ipairs((i == 2 or j == 2) and names or {}) do
          assert.truthy(split[name], name)
        end
      end
    end
    local file = folders[2] .. "/model.safetensors"
    local tensors = assert(rondo.safetensors.load(file))
    local changed = names[5]
    local before = tensors[changed .. ".weight"]:clone()
    for name, tensor in pairs(tensors) do tensors[name] = tensor:clone() end
    tensors[changed .. ".weight"][2][3] = 100
    assert(rondo.safetensors.save(file, tensors))
    for i, a in ipairs(folders) do
      for _, r in ipairs { assert(compare.run(a, folders[2])),
                           assert(compare.run(folders[2], a)) } do
        for _, layer in ipairs(r.layers) do
          local expected = i ~= 2 and layer.name == changed and 1 or 0
          assert.equal(expected, layer.differing, layer.name)
        end
        if i ~= 2 then
          assert.near(100 - before:totable()[2][3], by_name(r.layers)[changed].max_abs, 1e-4)
        end
      end
    end
  end)

  it("gives errors that agree with a hand calculation", function()
    local r = compared({ { "a.fc.weight", { 2, 2 }, bytes = floats(1, -2, 3, 4) } },
                       { { "a.fc.weight", { 2, 2 }, bytes = floats(1, -2.5, 3, 5) } })
    assert.equal(1, #r.layers)
    local l = r.layers[1]
    assert.equal("a.fc", l.name)
    assert.same({ 2, 2 }, l.shape)
    assert.equal(1.25 / 4, l.mse)
    assert.equal(1.25 / 30, l.relative_error)
    assert.near(13.802112417116, l.snr_db, 1e-9) -- 10 log10(24)
    assert.equal(2, l.differing)
    assert.equal(1, l.max_abs)
    assert.equal(0, l.incomparable)
    assert.same({ l.mse, l.relative_error, 4 },
                { r.totals.mse, r.totals.relative_error, r.totals.weights })
    assert.same(r.totals, r.changed)
  end)

  it("measures against the first of the two", function()
    local one = { { "fc.weight", { 1, 1 }, bytes = floats(1) } }
    local three = { { "fc.weight", { 1, 1 }, bytes = floats(3) } }
    assert.equal(4, compared(one, three).layers[1].relative_error)
    assert.equal(4 / 9, compared(three, one).layers[1].relative_error)
  end)

  it("reads f32, f16, bf16, f64 and 8-bit floats as the numbers they are", function()
    local a = { { "fc.weight", { 1, 2 }, bytes = floats(1.5, -2) } }
    local others = { F16 = halves(0x3e00, 0xc000), BF16 = halves(0x3fc0, 0xc000),
                     F64 = ("<dd"):pack(1.5, -2), F8_E4M3 = "\x3c\xc0" }
    for dtype, bytes in pairs(others) do
      local r = compared(a, { { "fc.weight", { 1, 2 }, dtype = dtype, bytes = bytes } })
      assert.same({ 0, 0, 0 }, { r.layers[1].mse, r.layers[1].differing, r.layers[1].max_abs },
                  dtype)
      assert.is_nil(r.layers[1].snr_db)
      assert.equal(0, r.changed.layers)
    end
  end)

  it("leaves places out that are finite in one only, and counts them", function()
    local r = compared({ { "fc.weight", { 1, 5 }, bytes = floats(1, 2, nan, inf, -inf) } },
                       { { "fc.weight", { 1, 5 }, bytes = floats(2, nan, nan, inf, inf) } })
    local l = r.layers[1]
    assert.same({ 1, 1, 3, 2 }, { l.max_abs, l.relative_error, l.differing, l.incomparable })
    assert.equal(2, r.totals.incomparable)
  end)

  it("takes a layer of zeros that became something as wholly lost", function()
    local r = compared({ { "fc.weight", { 1, 2 } } },
                       { { "fc.weight", { 1, 2 }, bytes = floats(0, 2) } })
    assert.same({ 2, 1 }, { r.layers[1].mse, r.layers[1].relative_error })
    assert.is_nil(r.layers[1].snr_db)
  end)

  it("lists what only one has, and shapes that differ", function()
    local r = compared({ { "a.weight", { 2, 2 } }, { "b.weight", { 2, 2 } }, { "x", { 2 } },
                         { "y", { 3 } }, { "z.weight", { 2, 2 } } },
                       { { "a.weight", { 2, 3 } }, { "c.weight", { 2, 2 } }, { "x", { 4 } },
                         { "u", { 3 } }, { "z.weight", { 2, 2 } } })
    assert.same({ { name = "b", what = "layer" }, { name = "y", what = "tensor" } }, r.only_a)
    assert.same({ { name = "c", what = "layer" }, { name = "u", what = "tensor" } }, r.only_b)
    local shapes = by_name(r.differing_shapes)
    assert.same({ { 2, 2 }, { 2, 3 } }, { shapes.a.shape_a, shapes.a.shape_b })
    assert.same({ { 2 }, { 4 } }, { shapes.x.shape_a, shapes.x.shape_b })
    assert.equal(1, #r.layers)
    assert.equal("z", r.layers[1].name)
  end)

  it("compares everything else bit by bit", function()
    local r = compared(
      { { "same", { 2 }, bytes = floats(1, 2) }, { "sign", { 1 }, bytes = floats(0) },
        { "far", { 2 }, bytes = floats(1, 2) }, { "norm.weight", { 1 }, bytes = floats(1) },
        { "n", { 2 }, dtype = "I64", bytes = ("<i8i8"):pack(-5, 7) },
        { "scalar", {}, bytes = floats(3) }, { "empty", { 0, 4 } } },
      { { "same", { 2 }, bytes = floats(1, 2) }, { "sign", { 1 }, bytes = floats(-0.0) },
        { "far", { 2 }, bytes = floats(1.5, -2) },
        { "norm.weight", { 1 }, dtype = "BF16", bytes = halves(0x3f80) },
        { "n", { 2 }, dtype = "I64", bytes = ("<i8i8"):pack(-5, 9) },
        { "scalar", {}, bytes = floats(3) }, { "empty", { 0, 4 } } })
    assert.equal(0, #r.layers)
    local t = by_name(r.tensors)
    assert.is_true(t.same.identical and t.scalar.identical and t.empty.identical)
    assert.same({ false, 0, 0 }, { t.sign.identical, t.sign.differing, t.sign.max_abs })
    assert.same({ false, 2, 4 }, { t.far.identical, t.far.differing, t.far.max_abs })
    local norm = t["norm.weight"]
    assert.same({ false, 0, "f32", "bf16" },
                { norm.identical, norm.differing, norm.dtype_a, norm.dtype_b })
    assert.same({ false, 1, 2 }, { t.n.identical, t.n.differing, t.n.max_abs })
  end)

  it("compares types without arithmetic by their bytes", function()
    local function folder(bytes)
      local path = models.temporary()
      local file = models.safetensors { { "s", { 3 }, dtype = "F8_E4M3", bytes = bytes } }
      models.write(path .. "/model.safetensors", (file:gsub("F8_E4M3", "F8_E8M0")))
      return path
    end
    local same = assert(compare.run(folder "abc", folder "abc")).tensors[1]
    local other = assert(compare.run(folder "abc", folder "abd")).tensors[1]
    assert.same({ "f8_e8m0", true }, { same.dtype_a, same.identical })
    assert.is_false(other.identical)
    assert.is_nil(other.max_abs)
  end)

  it("takes a tensor as a layer when it is one in either model", function()
    local tensors = { { "transformer.wte.weight", { 4, 2 } }, { "score.weight", { 2, 2 } },
                      { "h.0.fc.weight", { 2, 2 } } }
    local a = models.folder(tensors, '{"architectures":["GPT2ForSequenceClassification"]}')
    local r = assert(compare.run(a, a .. "/model.safetensors"))
    assert.equal(2, #r.layers)
    assert.equal(1, #r.tensors)
    assert.equal(0, #r.only_a + #r.only_b)
  end)

  it("does not depend on how a layer is cut into tiles", function()
    local values, others = {}, {}
    for i = 1, 7 * 700 do
      values[i] = math.sin(i) * 10 ^ (i % 5)
      others[i] = values[i] * (1 + math.cos(3 * i) / 100)
    end
    local a = models.folder { { "fc.weight", { 7, 700 },
                                bytes = ("<" .. ("f"):rep(#values)):pack(table.unpack(values)) } }
    local b = models.folder { { "fc.weight", { 7, 700 },
                                bytes = ("<" .. ("f"):rep(#others)):pack(table.unpack(others)) } }
    local whole = assert(compare.run(a, b)).layers[1]
    local limit = tiles.limit
    finally(function() tiles.limit = limit end)
    for _, small in ipairs { 2000, 700, 512, 5 } do
      tiles.limit = small
      local cut = assert(compare.run(a, b)).layers[1]
      for _, field in ipairs { "mse", "relative_error", "differing", "max_abs" } do
        assert.equal(whole[field], cut[field])
      end
    end
  end)

  it("counts its progress up to all weights", function()
    local a = models.folder { { "a.weight", { 2, 3 } }, { "b.weight", { 4, 5 } } }
    local seen = {}
    assert(compare.run(a, a, function(done, total) seen[#seen + 1] = done .. "/" .. total end))
    assert.same({ "6/26", "26/26" }, seen)
  end)

  it("hands on what cannot be opened, and raises for what is no model", function()
    local a = models.folder { { "a.weight", { 2, 3 } } }
    local r, message, code = compare.run(a, a .. "/none")
    assert.is_nil(r)
    assert.equal("io", code)
    assert.truthy(message:find(a .. "/none", 1, true))
    assert.error_matches(function() compare.run(a, 7) end, "model or path expected, got number")
    assert.error_matches(function() compare.run({}, a) end, "bad argument #1")
  end)

  it("names file and tensor when a file is cut short behind its back", function()
    local a = models.folder { { "a.weight", { 64, 64 } } }
    local b = models.folder { { "a.weight", { 64, 64 } } }
    local opened = assert(model.open(a))
    local path = a .. "/model.safetensors"
    local file = assert(io.open(path, "rb"))
    local bytes = file:read "a"
    file:close()
    models.write(path, bytes:sub(1, -5000))
    local r, message = compare.run(opened, b)
    assert.is_nil(r)
    assert.truthy(message:find("a.weight", 1, true) or message:find("model.safetensors", 1, true))
  end)
end)
