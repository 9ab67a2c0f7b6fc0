-- From plan to published checkpoint: the same numbers however the weights are cut into tiles, exact
-- sizes, side files, errors that leave nothing behind.

local json = require "rondo.json"
local lfs = require "lfs"
local rondo = require "rondo"
local shell = require "spec.support.shell"
local tiles = require "rondo.tiles"

local rtn = rondo.rtn
local nan = 0 / 0
local read_file, write_file, listing = shell.read_file, shell.write_file, shell.names

local folder, source
local count = 0

local function fresh(name)
  count = count + 1
  return string.format("%s/%s-%d", folder, name or "out", count)
end

-- A model with odd sizes, biases, experts, tied embeddings, opaque and empty tensors.
local function make_source(path)
  assert(lfs.mkdir(path))
  assert(rondo.safetensors.save(path .. "/model.safetensors", {
    ["model.embed_tokens.weight"] = rondo.randn({ 40, 21 }, 1):to("bf16"),
    ["model.layers.0.self_attn.q_proj.weight"] = rondo.randn({ 33, 21 }, 2):to("bf16"),
    ["model.layers.0.self_attn.q_proj.bias"] = rondo.randn({ 33 }, 3):to("bf16"),
    ["model.layers.0.mlp.gate.weight"] = rondo.randn({ 4, 21 }, 4):to("bf16"),
    ["model.layers.0.mlp.experts.gate_up_proj"] = rondo.randn({ 3, 10, 21 }, 5):to("f16"),
    ["model.layers.1.mlp.down_proj.weight"] = rondo.randn({ 17, 70 }, 6),
    ["model.layers.1.input_layernorm.weight"] = rondo.full({ 21 }, 1, "bf16"),
    ["model.layers.1.empty.weight"] = rondo.zeros({ 0, 21 }, "bf16"),
    ["lm_head.weight"] = rondo.randn({ 40, 21 }, 7):to("bf16"),
    ["position_ids"] = rondo.arange(0, 20, 1, "i64"),
  }, { format = "pt", note = "kept" }))
  write_file(path .. "/config.json", '{\n  "model_type": "qwen2_moe",\n  "hidden_size": 21,\n'
             .. '  "x": 1E+20\n}\n')
  write_file(path .. "/tokenizer.json", '{"t": 1}')
  write_file(path .. "/pytorch_model.bin", "old weights")
  assert(lfs.mkdir(path .. "/original"))
  return path
end

setup(function()
  folder = os.tmpname()
  os.remove(folder)
  assert(lfs.mkdir(folder))
  source = make_source(folder .. "/source")
end)

teardown(function() os.execute("rm -rf '" .. folder .. "'") end)

local quantized = {
  "model.layers.0.self_attn.q_proj.weight", "model.layers.0.mlp.experts.gate_up_proj",
  "model.layers.1.mlp.down_proj.weight", "model.layers.1.empty.weight",
}
local kept = {
  "model.embed_tokens.weight", "model.layers.0.self_attn.q_proj.bias",
  "model.layers.0.mlp.gate.weight", "model.layers.1.input_layernorm.weight", "lm_head.weight",
  "position_ids",
}

local schemes = {
  { }, { scheme = "sym", group_size = 8 }, { dtype = "nf4", group_size = -1 },
  { dtype = "e2m1", group_size = 5 }, { bits = 3, scheme = "sym", full_range = true },
  { bits = 8, group_size = 7, quantile = 0.9 }, { group_dim = 0, group_size = 4 },
  { group_dim = 0, group_size = -1, scheme = "sym" }, { bits = 2, mse_search = true },
  { group_dim = 0, dtype = "fp4", mse_search = true },
}

local function label(o)
  local parts = {}
  for name, value in pairs(o) do parts[#parts + 1] = name .. "=" .. tostring(value) end
  table.sort(parts)
  return "{" .. table.concat(parts, " ") .. "}"
end

-- What the functions over whole weights give, slice by slice.
local function expected_values(m, name, o)
  local w = m[name]
  local shape = w.shape
  local ratio = o.quantile
  if o.mse_search then
    ratio = rtn.search_clip(w, { num_bits = o.bits, data_type = o.dtype, group_dim = o.group_dim,
                                 scheme = o.scheme, group_size = o.group_size or 32 })
  end
  local function one(matrix)
    local turned = o.group_dim == 0 and matrix:transpose() or matrix
    local q = rtn.quant_weight(turned, {
      num_bits = o.bits, scheme = o.scheme, data_type = o.dtype, full_range = o.full_range,
      group_size = o.group_size or 32, quantile = ratio,
    })
    return o.group_dim == 0 and q:transpose() or q
  end
  if #shape == 2 then return one(w):to(w.dtype) end
  local all = rondo.zeros(shape, w.dtype)
  for i = 1, shape[1] do all[i .. ", :, :"] = one(w[i]):to(w.dtype) end
  return all
end

describe("quantize", function()
  for _, o in ipairs(schemes) do
    it("gives the numbers of the functions over whole weights " .. label(o), function()
      local m = assert(rondo.open(source))
      local out = fresh()
      assert(rondo.quantize(m, out, o))
      local q = assert(rondo.open(out))
      for _, name in ipairs(quantized) do
        assert.is_true(q[name] == expected_values(m, name, o), name)
      end
      for _, name in ipairs(kept) do assert.is_true(q[name] == m[name], name) end
      assert.same(#m.names, #q.names)
    end)
  end

  it("gives the same bytes however small the tiles are", function()
    local limit, columns = tiles.limit, tiles.columns
    finally(function() tiles.limit, tiles.columns = limit, columns end)
    local formats = { { format = "fake" }, { format = "packed" },
                      { format = "packed", compression_dim = 0, compression_dtype = "int8" },
                      { format = "packed", compression_dtype = "int64", scale_dtype = "float16" } }
    for _, base in ipairs(schemes) do
      for _, format in ipairs(formats) do
        local o = {}
        for name, value in pairs(base) do o[name] = value end
        for name, value in pairs(format) do o[name] = value end
        if o.mse_search and o.format == "packed" then o.mse_search = nil end
        local first
        for _, size in ipairs { limit, 100, 7 } do
          tiles.limit, tiles.columns = size, size == 7 and 1 or columns
          local out = fresh()
          assert(rondo.quantize(source, out, o))
          local bytes = read_file(out .. "/model.safetensors")
          first = first or bytes
          assert.is_true(bytes == first, label(o) .. " with tiles of " .. size)
        end
      end
    end
  end)

  it("reads packed layers back, equal to fake before it is rounded", function()
    local limit = tiles.limit
    finally(function() tiles.limit = limit end)
    local m = assert(rondo.open(source))
    for _, base in ipairs(schemes) do
      for dim = 0, 1 do
        local o = { format = "packed", compression_dim = dim }
        for name, value in pairs(base) do o[name] = value end
        local packed_dir, fake_dir = fresh(), fresh()
        local report = assert(rondo.quantize(m, packed_dir, o))
        o.format, o.compression_dim = "fake", nil
        assert(rondo.quantize(m, fake_dir, o))
        local packed, fake = assert(rondo.open(packed_dir)), assert(rondo.open(fake_dir))
        local seen = 0
        for _, layer in packed:layers() do
          local name = layer.name == "model.layers.0.mlp.experts.gate_up_proj" and layer.name
            or layer.name .. ".weight"
          if layer.quantized then
            seen = seen + 1
            local values = layer:dequantize()
            assert.equal("f32", values.dtype)
            assert.is_true(values:to(layer.dtype):eq(fake[name]):all(), label(o) .. name)
          end
        end
        assert.equal(#quantized, seen)
        assert.equal(#quantized, report.totals.layers)
        -- And a packed checkpoint is a source like any other.
        local again = fresh()
        assert(rondo.quantize(packed, again, { exclude = { "*" } }))
        local unpacked = assert(rondo.open(again))
        for _, name in ipairs(quantized) do
          assert.is_true(unpacked[name]:eq(fake[name]):all(), name)
        end
        assert.is_nil(unpacked.quantization)
      end
    end
  end)

  it("plans exact sizes, and writes them", function()
    local m = assert(rondo.open(source))
    for _, o in ipairs { {}, { format = "packed" }, { shard_size = 3000 },
                         { format = "packed", shard_size = 2000, scale_dtype = "bfloat16" } } do
      local made, out = assert(rondo.plan(m, o)), fresh()
      local report = assert(rondo.quantize(m, out, o))
      local total = 0
      for _, file in ipairs(made.files) do
        assert.equal(file.size, lfs.attributes(out .. "/" .. file.name, "size"), file.name)
        total = total + file.size
      end
      assert.equal(total, made.totals.bytes_after)
      assert.equal(total, report.totals.bytes_after)
      assert.equal(#m.names, #made.rows)
      if o.shard_size then assert.is_true(#made.files > 2) end
    end
  end)

  it("keeps shards below the size asked for, and lists every tensor in the index", function()
    local out = fresh()
    assert(rondo.quantize(source, out, { shard_size = 3000 }))
    local index = assert(json.decode(read_file(out .. "/model.safetensors.index.json")))
    local m = assert(rondo.open(source))
    local bytes = 0
    for _, name in ipairs(m.names) do
      assert.is_string(index.weight_map[name])
      bytes = bytes + m:info(name).nbytes
    end
    assert.equal(bytes, index.metadata.total_size)
    for _, name in ipairs(listing(out)) do
      if name:find("safetensors$") then
        local size, tensors = 0, 0
        for _, tensor in pairs(assert(rondo.safetensors.load(out .. "/" .. name))) do
          size, tensors = size + tensor.nbytes, tensors + 1
        end
        assert.is_true(size <= 3000 or tensors == 1, name)
        assert.is_truthy(name:find("^model%-%d%d%d%d%d%-of%-%d%d%d%d%d%.safetensors$"), name)
      end
    end
  end)

  it("copies side files, keeps config.json byte for byte, leaves other weights behind", function()
    local out = fresh()
    local report = assert(rondo.quantize(source, out))
    assert.same({ "config.json", "model.safetensors", "rondo-report.json", "tokenizer.json" },
                listing(out))
    assert.equal(read_file(source .. "/config.json"), read_file(out .. "/config.json"))
    assert.same({ "tokenizer.json" }, report.copied_files)
    assert.same({ "pytorch_model.bin" }, report.left_files)
    local _, metadata = assert(rondo.safetensors.load(out .. "/model.safetensors"))
    assert.same({ format = "pt", note = "kept" }, metadata)
    local packed = fresh()
    assert(rondo.quantize(source, packed, { format = "packed" }))
    local text = read_file(packed .. "/config.json")
    local plain = read_file(source .. "/config.json")
    assert.equal(plain:match("^(.*1E%+20)"), text:sub(1, #plain:match("^(.*1E%+20)")))
    assert.is_truthy(text:find('"quant_method": "rondo"', 1, true))
  end)

  it("writes a report without clock or machine, whose numbers hold", function()
    local m = assert(rondo.open(source))
    local one, two = fresh(), fresh()
    local threads = rondo.threads()
    finally(function() rondo.threads(threads) end)
    rondo.threads(1)
    local report = assert(rondo.quantize(m, one, { group_size = 8 }))
    rondo.threads(5)
    assert(rondo.quantize(m, two, { group_size = 8 }))
    for _, name in ipairs(listing(one)) do
      assert.is_true(read_file(one .. "/" .. name) == read_file(two .. "/" .. name), name)
    end
    local read = assert(json.decode(read_file(one .. "/rondo-report.json")))
    assert.equal(1, read.schema)
    assert.equal(#report.layers, #read.layers)
    local q = assert(rondo.open(one))
    local name = "model.layers.1.mlp.down_proj.weight"
    local d = m[name]:to("f64") - q[name]:to("f64")
    local w = m[name]:to("f64")
    for _, layer in ipairs(read.layers) do
      if layer.tensor == name then
        assert.is_true(math.abs(layer.mse / ((d * d):sum() / (17 * 70)) - 1) < 1e-6)
        assert.is_true(math.abs(layer.relative_error / ((d * d):sum() / (w * w):sum()) - 1) < 1e-6)
        assert.is_true(math.abs(layer.snr_db + 10 * math.log(layer.relative_error, 10)) < 1e-9)
      end
    end
  end)

  it("reports exactly what a comparison finds, however either is cut", function()
    local model, out = fresh(), fresh()
    assert(lfs.mkdir(model))
    assert(rondo.safetensors.save(model .. "/model.safetensors", {
      ["h.0.attn.c_attn.weight"] = rondo.randn({ 300, 900 }, 1),
      ["h.1.mlp.experts.down_proj"] = rondo.randn({ 3, 70, 530 }, 2):to("bf16"),
      ["h.2.fc.weight"] = rondo.randn({ 400, 777 }, 3):to("f16"),
    }))
    write_file(model .. "/config.json", '{"model_type": "gpt2"}')
    local limit = tiles.limit
    finally(function() tiles.limit = limit end)
    for _, options in ipairs { { group_size = -1 }, { group_size = 100 }, { group_dim = 0 } } do
      options.overwrite = true
      for _, size in ipairs { limit, 70000 } do
        tiles.limit = size
        local report = assert(rondo.quantize(model, out, options))
        tiles.limit = limit
        local found = assert(rondo.compare(model, out))
        assert.equal(3, #report.layers)
        for i, layer in ipairs(report.layers) do
          assert.equal(layer.name, found.layers[i].name)
          assert.equal(layer.mse, found.layers[i].mse)
          assert.equal(layer.relative_error, found.layers[i].relative_error)
        end
        assert.equal(report.totals.mse, found.totals.mse)
        assert.equal(report.totals.relative_error, found.totals.relative_error)
      end
    end
  end)

  it("quantizes by configuration and leaves out what is excluded", function()
    local m, out = assert(rondo.open(source)), fresh()
    assert(rondo.quantize(m, out, {
      exclude = { "down_proj", "experts" },
      config = { ["model.layers.0.mlp.gate"] = { bits = 8, group_size = "row", scheme = "sym" } },
    }))
    local q = assert(rondo.open(out))
    assert.is_true(q["down_proj.weight"] == m["down_proj.weight"])
    assert.is_true(q["gate_up_proj"] == m["gate_up_proj"])
    assert.is_true(q["mlp.gate.weight"]
      == rtn.quant_weight(m["mlp.gate.weight"], { num_bits = 8, scheme = "sym" }):to("bf16"))
    local made = assert(rondo.plan(m, { exclude = { "down_proj" } }))
    local rules = {}
    for _, row in ipairs(made.rows) do rules[row.name] = row.rule end
    assert.equal("exclude down_proj", rules["model.layers.1.mlp.down_proj.weight"])
    assert.equal("lm_head is kept", rules["lm_head.weight"])
    assert.equal("routers are kept", rules["model.layers.0.mlp.gate.weight"])
    assert.equal("linear layer", rules["model.layers.0.self_attn.q_proj.weight"])
  end)

  it("refuses wrong options and names what is wrong", function()
    local m = assert(rondo.open(source))
    local function refuses(expected, o)
      local good, message = pcall(rondo.plan, m, o)
      assert.is_false(good)
      assert.is_truthy(message:find(expected, 1, true), message)
    end
    refuses("bits must be an integer at least 1", { bits = 0 })
    refuses("dtype nf4 has 4 bits", { dtype = "nf4", bits = 8 })
    refuses("dtype nf4 has 4 bits", { dtype = "nf4", config = { ["lm_head"] = { bits = 8 } } })
    refuses("at most 8 bits", { bits = 9, format = "packed" })
    refuses("unknown option 'bit'", { bit = 4 })
    refuses("config names 'nope', which is no linear layer", { config = { nope = {} } })
    refuses("exclude[1]", { exclude = { "{" } })
    refuses("compression_dtype must be int8", { compression_dtype = "uint8" })
  end)

  it("leaves nothing behind when a weight is not finite, and names the place", function()
    local bad = fresh("bad")
    assert(lfs.mkdir(bad))
    local w = rondo.full({ 3, 5, 8 }, 1)
    w["2, 4, 7"] = nan
    assert(rondo.safetensors.save(bad .. "/model.safetensors",
                                  { ["model.layers.0.mlp.experts.down_proj"] = w }))
    local out = fresh()
    for _, group_dim in ipairs { 0, 1 } do
      local report, message, code = rondo.quantize(bad, out, { group_dim = group_dim })
      assert.is_nil(report)
      assert.equal("nonfinite", code)
      assert.is_truthy(message:find("experts.down_proj, slice 2: NaN at row 4, column 7", 1, true),
                       message)
      assert.is_nil(lfs.attributes(out))
    end
    for _, name in ipairs(listing(folder)) do assert.is_nil(name:find("partial", 1, true)) end
    assert(rondo.quantize(bad, out, { nonfinite = "keep" }))
    local q = assert(rondo.open(out))["down_proj"]
    assert.is_true(q[2][4][7] ~= q[2][4][7])
    assert.equal(1, q[1][1][1])
  end)

  it("notices an input that changed, and one that was cut short", function()
    local copy = fresh("copy")
    os.execute(string.format("cp -r '%s' '%s'", source, copy))
    local m = assert(rondo.open(copy))
    os.execute(string.format("touch -d '2001-01-01' '%s/model.safetensors'", copy))
    local out = fresh()
    local report, message, code = rondo.quantize(m, out)
    assert.is_nil(report)
    assert.equal("changed", code, message)
    assert.is_nil(lfs.attributes(out))
    local cut = assert(rondo.open(copy))
    os.execute(string.format("truncate -s 3000 '%s/model.safetensors'", copy))
    report, message, code = rondo.quantize(cut, out)
    assert.is_nil(report)
    assert.is_truthy(code == "io" or code == "changed" or code == "format", message)
    assert.is_truthy(message:find("model.safetensors", 1, true), message)
    assert.is_nil(lfs.attributes(out))
  end)

  it("calls progress with bytes that end at the total", function()
    local calls, last, total = 0, 0, nil
    assert(rondo.quantize(source, fresh(), { progress = function(done, all, name)
      assert.is_true(done >= last)
      assert.is_string(name)
      calls, last, total = calls + 1, done, all
    end }))
    assert.equal(total, last)
    assert.is_true(calls >= 10)
    -- Within a large tensor too.
    local limit, columns, small = tiles.limit, tiles.columns, calls
    finally(function() tiles.limit, tiles.columns = limit, columns end)
    tiles.limit, tiles.columns, calls, last = 64, 1, 0, 0
    assert(rondo.quantize(source, fresh(), { progress = function(done)
      assert.is_true(done >= last)
      calls, last = calls + 1, done
    end }))
    assert.equal(total, last)
    assert.is_true(calls > small + 50)
  end)

  it("saves a model as it is, and the model of rtn_quantize", function()
    local m = assert(rondo.open(source))
    local plain, out = fresh(), fresh()
    assert(m:save(plain))
    local copy = assert(rondo.open(plain))
    for _, name in ipairs(m.names) do assert.is_true(copy[name] == m[name], name) end
    local q = assert(rtn.rtn_quantize(m, { return_int = true, group_size = 8 }))
    assert(q:save(out))
    local saved = assert(rondo.open(out))
    for _, name in ipairs(q.names) do assert.is_true(saved[name] == q[name], name) end
    local _, message, code = q:save(out)
    assert.equal("exists", code, message)
    assert(q:save(out, { overwrite = true }))
    saved = assert(rondo.open(out))
    assert.equal("rondo", saved.quantization)
    -- A packed checkpoint saved again is itself.
    local again = fresh()
    assert(saved:save(again))
    assert.equal(read_file(out .. "/config.json"), read_file(again .. "/config.json"))
    local twice = assert(rondo.open(again))
    for _, name in ipairs(saved.names) do assert.is_true(twice[name] == saved[name], name) end
  end)
end)

describe("tiles", function()
  it("cover a matrix once, in whole words and groups, and are cut at certain columns", function()
    local columns = tiles.columns
    finally(function() tiles.columns = columns end)
    for _, o in ipairs {
      { rows = 7, cols = 23, group_dim = 1, group = 5, row_align = 1, col_align = 4, limit = 40,
        columns = 1 },
      { rows = 7, cols = 23, group_dim = 0, group = 3, row_align = 2, col_align = 1, limit = 30,
        columns = 1 },
      { rows = 50, cols = 3, group_dim = 0, group = 50, row_align = 1, col_align = 1, limit = 20,
        columns = 1 },
      { rows = 2, cols = 99, group_dim = 1, group = 99, row_align = 1, col_align = 8, limit = 20,
        columns = 1 },
      { rows = 3, cols = 900, group_dim = 1, group = 40, row_align = 1, col_align = 1,
        limit = 800 },
      { rows = 3, cols = 900, group_dim = 1, group = 900, row_align = 1, col_align = 8,
        limit = 800 },
      { rows = 5, cols = 900, group_dim = 0, group = 3, row_align = 2, col_align = 1,
        limit = 2000 },
      { rows = 5, cols = 600, group_dim = 0, group = 5, row_align = 1, col_align = 1,
        limit = 300 },
    } do
      o.whole_groups = 1
      tiles.columns = o.columns or columns
      local seen, cells = {}, 0
      for band in tiles.bands(o.rows, o.cols, o) do
        for _, piece in ipairs(band.pieces or { band }) do
          assert.equal(0, (piece.row - 1) % o.row_align)
          assert.equal(0, (piece.col - 1) % o.col_align)
          assert.equal(0, (piece.col - 1) % tiles.columns)
          if not band.pieces then
            local along = o.group_dim == 1 and piece.col or piece.row
            assert.equal(0, (along - 1) % o.group)
          end
          for r = piece.row, piece.row + piece.rows - 1 do
            for c = piece.col, piece.col + piece.cols - 1 do
              assert.is_nil(seen[r * 1000 + c])
              seen[r * 1000 + c], cells = true, cells + 1
            end
          end
        end
      end
      assert.equal(o.rows * o.cols, cells)
    end
  end)

  it("are none for an empty matrix", function()
    for _, shape in ipairs { { 0, 5 }, { 5, 0 }, { 0, 0 } } do
      assert.is_nil(tiles.plain(shape[1], shape[2])())
    end
  end)
end)
