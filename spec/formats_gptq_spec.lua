-- gptq: what the files of both versions hold, decoded bit by bit as AutoGPTQ does, is what the
-- scheme makes of the weights; zero points, groups, configuration; what is refused.

local models = require "spec.support.models"
local quantized = require "spec.support.quantized"
local rondo = require "rondo"

local element, field, f32 = quantized.element, quantized.field, quantized.f32

-- Codes fill the words of a column, zero points those of a row. Version 1 stores zero - 1.
local function decoder(bits, version, rows)
  local fields = 32 // bits
  return function(parts, i, j)
    local group = element(parts.g_idx, j)
    local word = j // fields * rows + i
    local code = field(parts.qweight.bytes, word * 32 + j % fields * bits, bits)
    word = group * (rows // fields) + i // fields
    local zero = field(parts.qzeros.bytes, word * 32 + i % fields * bits, bits)
    if version == 1 then zero = zero + 1 end -- without wrapping
    return f32((code - zero) * element(parts.scales, group * rows + i))
  end
end

local names = { "gptq", "gptq-v2" }

describe("gptq", function()
  teardown(models.cleanup)

  for version, format in ipairs(names) do
    for _, bits in ipairs { 2, 4, 8 } do
      it(("stores %d bits in version %d"):format(bits, version), function()
        local plain, fields = rondo["int" .. bits], 32 // bits
        for _, dtype in ipairs { "f32", "f16", "bf16" } do
          for _, size in ipairs { { 48, 96, 32 }, { 16, 256, 128 }, { 48, 112, "row" } } do
            for _, symmetric in ipairs { true, false } do
              local rows, cols = size[1], size[2]
              local scheme = plain { group_size = size[3], symmetric = symmetric }
              local fitted = scheme { scale = "f16" }
              if version == 1 and not symmetric then fitted = fitted { zero = "positive" } end
              local _, _, parts = quantized.check({ format = format, scheme = scheme,
                fitted = fitted, rows = rows, cols = cols, dtype = dtype },
                decoder(bits, version, rows))
              local groups = size[3] == "row" and 1 or cols // size[3]
              assert.same({ { cols // fields, rows }, { groups, rows // fields }, { groups, rows },
                            { cols } },
                          { parts.qweight.shape, parts.qzeros.shape, parts.scales.shape,
                            parts.g_idx.shape })
              assert.same({ "I32", "I32", "F16", "I32" }, { parts.qweight.dtype,
                parts.qzeros.dtype, parts.scales.dtype, parts.g_idx.dtype })
              for j = 0, cols - 1 do
                local want = size[3] == "row" and 0 or j // size[3]
                assert.equal(want, element(parts.g_idx, j))
              end
              assert.is_nil(parts.weight)
              assert.equal(dtype:upper(), parts.bias.dtype)
            end
          end
        end
      end)
    end
  end

  it("fills the zero points of symmetric layers with the words that everybody knows", function()
    local words = { [2] = 0x55555555, [4] = 0x77777777, [8] = 0x7f7f7f7f }
    for bits, word in pairs(words) do
      for version, format in ipairs(names) do
        local scheme = rondo["int" .. bits] { group_size = 32 }
        local _, _, parts = quantized.check({ format = format, scheme = scheme,
          fitted = scheme { scale = "f16" }, rows = 16, cols = 64 }, decoder(bits, version, 16))
        -- Version 2: one more in each field.
        local want = version == 1 and word or (word + word // ((1 << bits - 1) - 1)) & 0xffffffff
        for i = 0, #parts.qzeros.bytes // 4 - 1 do
          assert.equal(want, element(parts.qzeros, i) & 0xffffffff)
        end
      end
    end
  end)

  it("has no zero point of 0 in version 1, though weights be positive", function()
    local path = quantized.layer
    local w = rondo.rand({ 16, 64 }, 3) + 0.25
    local zeros = {}
    for version, format in ipairs(names) do
      local scheme = rondo.int4 { group_size = 32, symmetric = false }
      local tensors = quantized.tensors((quantized.quantize(quantized.model({ [path] = w }, "f32"),
                                                            format, { [path] = scheme })))
      local qzeros = tensors[path .. ".qzeros"]
      zeros[version] = {}
      for i = 0, 31 do zeros[version][i] = field(qzeros.bytes, 4 * i, 4) end
    end
    for i = 0, 31 do
      assert.equal(0, zeros[1][i]) -- that is 1
      assert.equal(0, zeros[2][i])
    end
  end)

  it("describes itself in config.json and quantize_config.json", function()
    local a, b, c = "model.layers.0.self_attn.o_proj", "model.layers.0.mlp.down_proj",
      "model.layers.1.mlp.down_proj"
    local model = quantized.model({ [a] = quantized.weight(32, 64, 1),
      [b] = quantized.weight(32, 64, 2), [c] = quantized.weight(32, 64, 3) }, "f32")
    for version, format in ipairs(names) do
      local folder = quantized.quantize(model, format, {
        [a] = rondo.int4 { group_size = 32, symmetric = false },
        [b] = rondo.int4 { group_size = 32, symmetric = false }, [c] = rondo.int8 })
      local described = quantized.json(folder).quantization_config
      local null = rondo.json.null
      assert.same({
        quant_method = "gptq", bits = 4, group_size = 32, desc_act = false, sym = false,
        lm_head = false, checkpoint_format = version == 1 and "gptq" or "gptq_v2",
        pack_dtype = "int32", true_sequential = true, static_groups = false,
        modules_in_block_to_quantize = null, meta = { quantizer = { "rondo:" .. rondo.version } },
        dynamic = {
          ["+:^model\\.layers\\.1\\.mlp\\.down_proj$"] = { bits = 8, group_size = -1, sym = true },
          ["-:^lm_head$"] = {},
        },
      }, described)
      assert.same(described, quantized.json(folder, "quantize_config.json"))
    end
  end)

  it("is the same with any number of threads, and as large as planned", function()
    local a, b = "model.layers.0.self_attn.o_proj", "model.layers.0.mlp.down_proj"
    local model = quantized.model({ [a] = quantized.weight(80, 96, 1, "bf16"),
                                    [b] = quantized.weight(32, 160, 2, "bf16") }, "bf16")
    for _, format in ipairs(names) do
      quantized.check_threads(model, format, {
        [a] = rondo.int4 { group_size = 32, symmetric = false }, [b] = rondo.int8 })
    end
  end)

  it("refuses what it has no place for", function()
    for _, format in ipairs(names) do
      local function check(...) quantized.check_refusal(format, ...) end
      check(rondo.int4 { group_size = 32 }, 32, 172, "172 inputs are no multiple of 8")
      check(rondo.int4 { group_size = 32 }, 20, 64, "20 outputs are no multiple of 8")
      check(rondo.int4 { group_size = 48 }, 32, 64, "64 inputs", "size 48")
      check(rondo.int3 { group_size = 32 }, 32, 64, "2, 4 or 8 bits: rondo.int4, --bits 4")
      check(rondo.nf4 { group_size = 32 }, 32, 64, "2, 4 or 8 bits: rondo.int4, --bits 4")
      check(rondo.int4 { group_size = 32, scale = "bf16" }, 32, 64, "f16, not bf16")
      check(rondo.int4 { group_size = { 8, 8 } }, 32, 64, "along the inputs")
    end
  end)

  -- Files with act-order name a group for each input.
  it("reads groups that are no runs of inputs", function()
    local rows, cols = 8, 16
    local function pack(list) return ("<" .. ("i4"):rep(#list)):pack(table.unpack(list)) end
    local group_of, codes, scales, words = {}, {}, {}, {}
    for j = 1, cols do group_of[j] = (j * 5 // 2) % 2 end
    for w = 1, cols * rows // 8 do codes[w] = 0 end
    local function code(i, j) return (3 * i + 7 * j) % 16 end -- from 0
    for j = 0, cols - 1 do
      for i = 0, rows - 1 do
        local w = j // 8 * rows + i + 1
        codes[w] = codes[w] | code(i, j) << j % 8 * 4
      end
    end
    for w, value in ipairs(codes) do words[w] = value < 1 << 31 and value or value - (1 << 32) end
    for n = 1, 2 * rows do scales[n] = ("<I2"):pack(0x3800 + n * 16) end
    local function scale(group, i) -- f16 of 0x3800 + n * 16
      return 0.5 * (1 + (group * rows + i + 1) * 16 / 1024)
    end
    local folder = models.folder({
      { "m.fc.qweight", { 2, rows }, dtype = "I32", bytes = pack(words) },
      { "m.fc.qzeros", { 2, 1 }, dtype = "I32", bytes = pack { 0x77777777, 0x33333333 } },
      { "m.fc.scales", { 2, rows }, dtype = "F16", bytes = table.concat(scales) },
      { "m.fc.g_idx", { cols }, dtype = "I32", bytes = pack(group_of) },
    }, '{"quantization_config":{"quant_method":"gptq","bits":4,"group_size":8,"desc_act":true}}')
    local opened = assert(rondo.open(folder))
    local values = opened:layer "m.fc":dequantize():totable()
    for i = 0, rows - 1 do
      for j = 0, cols - 1 do
        local group = group_of[j + 1]
        local want = (code(i, j) - (group == 0 and 8 or 4)) * scale(group, i)
        assert.equal(want, values[i + 1][j + 1])
      end
    end
    opened:close()
  end)
end)
