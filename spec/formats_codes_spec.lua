-- Random codes of odd shapes, and of the smallest that a format allows, both ways: files packed
-- here, bit by bit as the formats' projects describe them, are read as the values they stand for;
-- and weights that have exactly these codes are written as the same bytes. What fills a word behind
-- the last code is nobody's: random to be read, and not looked at where it was written.
--
-- Scales are powers of two, so that no value is rounded anywhere. To be written, each group has the
-- codes from which its scale follows.

local json = require "rondo.json"
local models = require "spec.support.models"
local quantized = require "spec.support.quantized"
local raw = require "spec.support.raw"
local rondo = require "rondo"

local PATH = quantized.layer
local random = math.random

-- ---- Packing ----

-- A line of fields as words of `size` bytes: a stream of bits, the lowest first; and which bits
-- are of fields.
local function words_of(fields, bits, size)
  local bytes, used, words, masks = {}, {}, {}, {}
  for i = 1, (#fields * bits + 8 * size - 1) // (8 * size) * size do bytes[i], used[i] = 0, 0 end
  local function set(at, bit, mask)
    bytes[at // 8 + 1] = bytes[at // 8 + 1] | bit << at % 8
    used[at // 8 + 1] = used[at // 8 + 1] | mask << at % 8
  end
  for k, field in ipairs(fields) do
    for b = 0, bits - 1 do set((k - 1) * bits + b, field >> b & 1, 1) end
  end
  for at = #fields * bits, 8 * #bytes - 1 do set(at, random(0, 1), 0) end
  for w = 1, #bytes // size do
    words[w] = string.char(table.unpack(bytes, (w - 1) * size + 1, w * size))
    masks[w] = string.char(table.unpack(used, (w - 1) * size + 1, w * size))
  end
  return words, masks
end

local sizes = { I32 = 4, U32 = 4, U8 = 1, I8 = 1, F8_E4M3 = 1 }

local function transposed(matrix)
  local result = {}
  for j = 1, #matrix[1] do
    result[j] = {}
    for i = 1, #matrix do result[j][i] = matrix[i][j] end
  end
  return result
end

local function joined(strings)
  local lines = {}
  for i, row in ipairs(strings) do lines[i] = table.concat(row) end
  return table.concat(lines)
end

-- A tensor of a matrix of strings; masks: the bits of them that count, or nil.
local function of_strings(dtype, strings, shape, masks)
  return { dtype = dtype, shape = shape or { #strings, #strings[1] }, bytes = joined(strings),
           mask = masks and joined(masks) }
end

-- Words along the rows of a matrix of fields, or along its columns.
local function along_rows(dtype, fields, bits, shape)
  local words, masks = {}, {}
  for i, row in ipairs(fields) do words[i], masks[i] = words_of(row, bits, sizes[dtype]) end
  return of_strings(dtype, words, shape, masks)
end

local function along_columns(dtype, fields, bits)
  local words, masks = {}, {}
  for j, column in ipairs(transposed(fields)) do
    words[j], masks[j] = words_of(column, bits, sizes[dtype])
  end
  return of_strings(dtype, transposed(words), nil, transposed(masks))
end

local packers = {
  F32 = function(x) return ("<f"):pack(x) end,
  -- Powers of two, and whole numbers times those, that f16 holds.
  F16 = function(x)
    local m, e = x, 15
    while m >= 2 do m, e = m / 2, e + 1 end
    while m < 1 do m, e = m * 2, e - 1 end
    return ("<I2"):pack(e << 10 | math.tointeger((m - 1) * 1024))
  end,
  U8 = function(x) return string.char(x) end,
  F8_E4M3 = function(x) return string.char(x) end,
  I64 = function(x) return ("<i8"):pack(x) end,
}

local function numbers(dtype, matrix, shape)
  local strings = {}
  for i, row in ipairs(matrix) do
    strings[i] = {}
    for j, x in ipairs(row) do strings[i][j] = packers[dtype](x) end
  end
  return of_strings(dtype, strings, shape)
end

-- ---- Random layers ----

local function matrix(rows, cols, value)
  local result = {}
  for i = 1, rows do
    result[i] = {}
    for j = 1, cols do result[i][j] = value(i, j) end
  end
  return result
end

local function mapped(m, f)
  return matrix(#m, #m[1], function(i, j) return f(m[i][j], i, j) end)
end

local function power() return 2.0 ^ random(-6, -1) end

-- Random codes, scales by group and zero points. To be written, a group of symmetric codes has one
-- of the two extremes, one with zero points both.
-- @param o  bits, group (nil: a row), symmetric, positive (zero points from 1 on)
local function integers(rows, cols, o, writing)
  local group, top = o.group or cols, (1 << o.bits) - 1
  local half = 1 << o.bits - 1
  local low = not o.symmetric and 0 or writing and 1 - half or -half
  local codes = matrix(rows, cols, function() return random(low, low < 0 and half - 1 or top) end)
  for i = 1, writing and rows or 0 do
    for first = 1, cols, group do
      local at = random(first, first + group - 1)
      if o.symmetric then
        codes[i][at] = random(2) == 1 and half - 1 or 1 - half
      else
        codes[i][at], codes[i][first + (at - first + 1) % group] = 0, top
      end
    end
  end
  local function zero() return random(o.positive or 0, top) end
  local layer = { codes = codes, scales = matrix(rows, cols // group, power),
                  zeros = not o.symmetric and matrix(rows, cols // group, zero) or nil }
  layer.values = mapped(codes, function(code, i, j)
    local g = (j - 1) // group + 1
    return (code - (layer.zeros and layer.zeros[i][g] or 0)) * layer.scales[i][g]
  end)
  return layer
end

local function scheme_of(o)
  return rondo["int" .. o.bits] { group_size = o.group or "row", symmetric = o.symmetric or false }
end

-- Codes of small floats, of which `largest` stands in each block of rows x cols, and none greater.
local function floats(rows, cols, o, writing)
  local count = 1 << o.bits
  local function code()
    local c
    repeat c = random(0, count - 1)
    until c ~= count >> 1 and math.abs(o.value(c)) <= o.value(o.largest)
    return c
  end
  local codes = matrix(rows, cols, code)
  local height, width = o.height or 1, o.width or cols
  for i = 1, writing and rows or 0, height do
    for j = 1, cols, width do
      codes[random(i, math.min(i + height - 1, rows))][random(j, math.min(j + width - 1, cols))] =
        o.largest
    end
  end
  return codes
end

local function blocks(rows, cols, height, width, value)
  return matrix((rows + height - 1) // height, (cols + width - 1) // width, value)
end

local function e4m3_value(code) return code & 127 == 127 and math.huge or quantized.e4m3(code) end

-- 8-bit floats with a scale for each block.
local function fp8(rows, cols, height, width, writing)
  local codes = floats(rows, cols, { bits = 8, value = e4m3_value, largest = 0x7e, height = height,
                                     width = width }, writing)
  local scales = blocks(rows, cols, height, width, power)
  return codes, scales, mapped(codes, function(code, i, j)
    return e4m3_value(code) * scales[(i - 1) // height + 1][(j - 1) // width + 1]
  end)
end

-- Groups with exponents of e8m0; largest: 6, or 384, from which all rules find the same exponent.
local function mx(rows, cols, bits, writing)
  local value, largest = quantized.e2m1, 7
  if bits == 8 then value, largest = e4m3_value, 0x7c end
  local codes = floats(rows, cols, { bits = bits, value = value, largest = largest, width = 32 },
                       writing)
  local exponents = blocks(rows, cols, 1, 32, function() return random(110, 130) end)
  return codes, exponents, mapped(codes, function(code, i, j)
    return value(code) * 2.0 ^ (exponents[i][(j - 1) // 32 + 1] - 127)
  end)
end

-- Groups of 16 with scales of e4m3, one of which is 448 so that the tensor's follows, and 2^-8 of
-- the tensor where it has one.
local function nv(rows, cols, factor, writing)
  local codes = floats(rows, cols, { bits = 4, value = quantized.e2m1, largest = 7, width = 16 },
                       writing)
  local scales = blocks(rows, cols, 1, 16, function() return random(0x10, 0x7e) end)
  scales[random(#scales)][random(#scales[1])] = 0x7e
  return codes, scales, mapped(codes, function(code, i, j)
    return quantized.e2m1(code) * quantized.e4m3(scales[i][(j - 1) // 16 + 1]) * factor
  end)
end

-- ---- Formats ----

-- Each case: { name, format, shapes, make }, the first of shapes the smallest;
-- make(rows, cols, writing) -> values, tensors by part, scheme, config.json.

local cases = {}

local function case(name, format, shapes, make)
  cases[#cases + 1] = { name = name, format = format, shapes = shapes, make = make }
end

local function quantization(method, fields)
  fields.quant_method = method
  return { quantization_config = fields }
end

for _, bits in ipairs { 2, 4, 8 } do
  local fields = 32 // bits
  local shapes = { { fields, fields }, { 3 * fields, 5 * fields }, { 7 * fields, 6 * fields, 2 } }
  for version, format in ipairs { "gptq", "gptq-v2" } do
    for _, symmetric in ipairs { true, false } do
      local kind = ("%s int%d %s"):format(format, bits, symmetric and "sym" or "asym")
      case(kind, format, shapes, function(rows, cols, writing, parts)
        local o = { bits = bits, symmetric = symmetric, group = parts and cols // parts,
                    positive = version == 1 and 1 or 0 }
        local layer, shift = integers(rows, cols, o, writing), symmetric and 1 << bits - 1 or 0
        local less = version == 1 and 1 or 0
        local zeros = mapped(layer.scales, function(_, i, g)
          return (symmetric and shift or layer.zeros[i][g]) - less
        end)
        local group_of = matrix(1, cols, function(_, j) return (j - 1) // (o.group or cols) end)
        local stored = mapped(layer.codes, function(code) return code + shift end)
        return layer.values, {
          qweight = along_columns("I32", transposed(stored), bits),
          qzeros = along_rows("I32", transposed(zeros), bits),
          scales = numbers("F16", transposed(layer.scales)),
          g_idx = along_rows("I32", group_of, 32, { cols }),
        }, scheme_of(o), quantization("gptq", { bits = bits, group_size = o.group or -1,
          desc_act = false, sym = symmetric,
          checkpoint_format = version == 1 and "gptq" or "gptq_v2" })
      end)
    end
  end
end

local AWQ_ORDER = { 0, 2, 4, 6, 1, 3, 5, 7 }

-- Outputs in the order of a word's fields.
local function awq_order(fields)
  return mapped(fields, function(_, i, j)
    return fields[i][(j - 1) // 8 * 8 + AWQ_ORDER[(j - 1) % 8 + 1] + 1]
  end)
end

for _, symmetric in ipairs { true, false } do
  case("awq int4 " .. (symmetric and "sym" or "asym"), "awq",
       { { 8, 2 }, { 24, 17 }, { 40, 21, 3 } }, function(rows, cols, writing, parts)
    local o = { bits = 4, symmetric = symmetric, group = parts and cols // parts }
    local layer, shift = integers(rows, cols, o, writing), symmetric and 8 or 0
    local stored = mapped(layer.codes, function(code) return code + shift end)
    local zeros = mapped(layer.scales, function(_, i, g)
      return symmetric and 8 or layer.zeros[i][g]
    end)
    return layer.values, {
      qweight = along_rows("I32", awq_order(transposed(stored)), 4),
      qzeros = along_rows("I32", awq_order(transposed(zeros)), 4),
      scales = numbers("F16", transposed(layer.scales)),
    }, scheme_of(o), quantization("awq", { bits = 4, group_size = o.group or -1,
                                           zero_point = true, version = "gemm" })
  end)
end

-- ---- compressed-tensors ----

local function compressed(format, weights)
  return quantization("compressed-tensors", { format = format, config_groups = {
    group_0 = { targets = { "Linear" }, weights = weights } } })
end

for _, bits in ipairs { 2, 4, 8 } do
  for _, symmetric in ipairs { true, false } do
    -- A whole row of 8 bits would be W8A8, and without zero points too small ones have no extremes.
    local shapes = bits == 8 and { { 1, 4, 2 }, { 19, 21, 3 }, { 33, 62, 2 } }
      or { { 1, 2 }, { 19, 21 }, { 33, 62, 2 } }
    case(("compressed-tensors int%d %s"):format(bits, symmetric and "sym" or "asym"),
         "compressed-tensors", shapes, function(rows, cols, writing, parts)
      local o = { bits = bits, symmetric = symmetric, group = parts and cols // parts }
      local layer, shift = integers(rows, cols, o, writing), symmetric and 1 << bits - 1 or 0
      local stored = mapped(layer.codes, function(code) return code + shift end)
      return layer.values, {
        weight_packed = along_rows("I32", stored, bits),
        weight_scale = numbers("F32", layer.scales),
        weight_shape = numbers("I64", { { rows, cols } }, { 2 }),
        weight_zero_point = layer.zeros and along_columns("I32", layer.zeros, bits),
      }, scheme_of(o), compressed("pack-quantized", { num_bits = bits, type = "int",
        symmetric = symmetric, strategy = parts and "group" or "channel",
        group_size = o.group or json.null })
    end)
  end
end

case("compressed-tensors W8A8", "compressed-tensors", { { 1, 1 }, { 5, 19 }, { 37, 63 } },
     function(rows, cols, writing)
  local o = { bits = 8, symmetric = true }
  local layer = integers(rows, cols, o, writing)
  return layer.values, { weight = along_rows("I8", layer.codes, 8),
                         weight_scale = numbers("F32", layer.scales) },
    rondo.int8, compressed("int-quantized", { num_bits = 8, type = "int", symmetric = true,
                                              strategy = "channel" })
end)

local function fp8_case(name, format, shapes, height, width, describe)
  case(name, format, shapes, function(rows, cols, writing)
    local h, w = height or rows, width or cols
    local codes, scales, values = fp8(rows, cols, h, w, writing)
    local part, shape, scheme, config = describe()
    return values, { weight = along_rows("F8_E4M3", codes, 8),
                     [part] = numbers("F32", scales, shape) }, scheme, config
  end)
end

fp8_case("compressed-tensors fp8 row", "compressed-tensors", { { 1, 1 }, { 7, 13 }, { 33, 50 } }, 1,
         nil, function()
  return "weight_scale", nil, rondo.fp8, compressed("float-quantized", { num_bits = 8,
    type = "float", symmetric = true, strategy = "channel" })
end)

fp8_case("compressed-tensors fp8 tensor", "compressed-tensors", { { 1, 1 }, { 7, 13 } }, nil, nil,
         function()
  return "weight_scale", { 1 }, rondo.fp8 { group_size = "tensor" }, compressed("float-quantized",
    { num_bits = 8, type = "float", symmetric = true, strategy = "tensor" })
end)

local block = rondo.fp8 { group_size = { 128, 128 } }

fp8_case("compressed-tensors fp8 block", "compressed-tensors", { { 128, 128 }, { 256, 128 } }, 128,
         128, function()
  return "weight_scale", nil, block, compressed("float-quantized", { num_bits = 8, type = "float",
    symmetric = true, strategy = "block", block_structure = { 128, 128 } })
end)

fp8_case("fp8", "fp8", { { 1, 1 }, { 130, 129 }, { 100, 260 } }, 128, 128, function()
  return "weight_scale_inv", nil, block, quantization("fp8", { weight_block_size = { 128, 128 } })
end)

local function fp4_bytes(codes) return along_rows("U8", codes, 4) end

case("compressed-tensors nvfp4", "compressed-tensors", { { 1, 16 }, { 7, 48 } },
     function(rows, cols, writing)
  local codes, scales, values = nv(rows, cols, 2.0 ^ -8, writing)
  return values, { weight_packed = fp4_bytes(codes), weight_scale = numbers("F8_E4M3", scales),
                   weight_global_scale = numbers("F32", { { 256 } }, { 1 }) }, rondo.nvfp4,
    compressed("nvfp4-pack-quantized", { num_bits = 4, type = "float", symmetric = true,
                                         strategy = "tensor_group", group_size = 16 })
end)

case("compressed-tensors mxfp4", "compressed-tensors", { { 1, 32 }, { 7, 96 } },
     function(rows, cols, writing)
  local codes, exponents, values = mx(rows, cols, 4, writing)
  return values, { weight_packed = fp4_bytes(codes), weight_scale = numbers("U8", exponents) },
    rondo.mxfp4, compressed("mxfp4-pack-quantized", { num_bits = 4, type = "float",
      symmetric = true, strategy = "group", group_size = 32 })
end)

case("compressed-tensors mxfp8", "compressed-tensors", { { 1, 32 }, { 7, 96 } },
     function(rows, cols, writing)
  local codes, exponents, values = mx(rows, cols, 8, writing)
  return values, { weight = along_rows("F8_E4M3", codes, 8),
                   weight_scale = numbers("U8", exponents) },
    rondo.mxfp8, compressed("mxfp8-quantized", { num_bits = 8, type = "float", symmetric = true,
                                                 strategy = "group", group_size = 32 })
end)

case("modelopt nvfp4", "modelopt", { { 1, 16 }, { 9, 80 } }, function(rows, cols, writing)
  local codes, scales, values = nv(rows, cols, 2.0 ^ -8, writing)
  return values, { weight = fp4_bytes(codes), weight_scale = numbers("F8_E4M3", scales),
                   weight_scale_2 = numbers("F32", { { 2.0 ^ -8 } }, {}) }, rondo.nvfp4,
    quantization("modelopt", { quant_algo = "W4A16_NVFP4" })
end)

-- ---- mlx ----

local function mlx(mode, bits, group)
  local fields = { mode = mode, bits = bits, group_size = group }
  return { quantization = fields, quantization_config = fields }
end

-- The bias is the value of the extreme further from zero; that has the code 0.
for _, bits in ipairs { 2, 3, 4, 5, 6, 8 } do
  for _, group in ipairs { 32, 64, 128 } do
    case(("mlx int%d g%d"):format(bits, group), "mlx", { { 1, group }, { 5, 3 * group } },
         function(rows, cols, writing)
      local o, top = { bits = bits, group = group }, (1 << bits) - 1
      local layer = integers(rows, cols, o, writing)
      local signs = mapped(layer.scales, function() return random(2) * 2 - 3 end)
      local scales = mapped(layer.scales, function(s, i, g) return s * signs[i][g] end)
      local biases = mapped(scales, function(s) return -s * random(top // 2 + 1, top) end)
      local values = mapped(layer.codes, function(code, i, j)
        local g = (j - 1) // group + 1
        return code * scales[i][g] + biases[i][g]
      end)
      return values, { weight = along_rows("U32", layer.codes, bits),
                       scales = numbers("F32", scales), biases = numbers("F32", biases) },
        rondo["int" .. bits] { group_size = group }, mlx("affine", bits, group)
    end)
  end
end

for bits, mode in pairs { [4] = "mxfp4", [8] = "mxfp8" } do
  case("mlx " .. mode, "mlx", { { 1, 32 }, { 7, 96 } }, function(rows, cols, writing)
    local codes, exponents, values = mx(rows, cols, bits, writing)
    return values, { weight = along_rows("U32", codes, bits), scales = numbers("U8", exponents) },
      rondo[mode], mlx(mode, bits, 32)
  end)
end

case("mlx nvfp4", "mlx", { { 1, 16 }, { 7, 48 } }, function(rows, cols, writing)
  local codes, scales, values = nv(rows, cols, 1, writing)
  return values, { weight = along_rows("U32", codes, 4), scales = numbers("U8", scales) },
    rondo.nvfp4, mlx("nvfp4", 4, 16)
end)

-- ---- bitsandbytes ----

local NF4 = { -1, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453,
              -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0,
              0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
              0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1 }
local FP4 = { 0, 0.0625, 8, 12, 4, 6, 2, 3, -0.0, -0.0625, -8, -12, -4, -6, -2, -3 } -- times 12

local function four_bits(kind, map, divisor, largest)
  local function value(code) return quantized.f32(map[code + 1]) end
  case("bitsandbytes " .. kind, "bitsandbytes", { { 1, 32 }, { 3, 96 } },
       function(rows, cols, writing)
    local codes = floats(rows, cols, { bits = 4, value = value, largest = largest, width = 32 },
                         writing)
    local scales = blocks(rows, cols, 1, 32, power)
    local values = mapped(codes, function(code, i, j)
      return value(code) * scales[i][(j - 1) // 32 + 1]
    end)
    -- The first of two codes stands in the high half.
    local swapped = mapped(codes, function(_, i, j)
      return codes[i][j % 2 == 1 and j + 1 or j - 1]
    end)
    local table_values = {}
    for i, x in ipairs(map) do table_values[i] = x / divisor end
    local state = ('{"quant_type":"%s","blocksize":32,"dtype":"float32","shape":[%d,%d]}'):format(
      kind, rows, cols)
    return values, {
      weight = along_rows("U8", swapped, 4, { rows * cols // 2, 1 }),
      ["weight.absmax"] = numbers("F32", mapped(scales, function(s) return s * divisor end),
                                  { rows * cols // 32 }),
      ["weight.quant_map"] = numbers("F32", { table_values }, { 16 }),
      ["weight.quant_state.bitsandbytes__" .. kind] = { dtype = "U8", shape = { #state },
                                                        bytes = state, json = true },
    }, rondo[kind] { group_size = 32 }, quantization("bitsandbytes", { load_in_4bit = true })
  end)
end

four_bits("nf4", NF4, 1, 15)
four_bits("fp4", FP4, 12, 3)

case("bitsandbytes int8", "bitsandbytes", { { 1, 1 }, { 5, 19 } }, function(rows, cols, writing)
  local layer = integers(rows, cols, { bits = 8, symmetric = true }, writing)
  local largest = mapped(layer.scales, function(s) return 127 * s end)
  return layer.values, { weight = along_rows("I8", layer.codes, 8),
                         SCB = numbers("F32", largest, { rows }),
                         weight_format = numbers("U8", { { 0 } }, {}) },
    rondo.int8, quantization("bitsandbytes", { load_in_8bit = true })
end)

-- ---- Both ways ----

local function read(parts, config)
  local folder, list = models.temporary(), {}
  for part, t in pairs(parts) do
    list[#list + 1] = { PATH .. "." .. part, t.dtype, t.shape, t.bytes }
  end
  table.sort(list, function(a, b) return a[1] < b[1] end)
  models.write(folder .. "/model.safetensors", raw.pack(list))
  models.write(folder .. "/config.json", json.encode(config))
  local opened <close> = assert(rondo.open(folder))
  return opened:layer(PATH):dequantize():totable()
end

local function masked(bytes, mask)
  local result = {}
  for i = 1, #bytes do
    result[i] = ("%02x"):format(bytes:byte(i) & (mask and mask:byte(i) or 255))
  end
  return table.concat(result)
end

local function same_tensors(parts, written)
  for name, t in pairs(written) do
    local part = name:match("^" .. PATH:gsub("%.", "%%.") .. "%.(.*)$")
    local want = part and part ~= "bias" and assert(parts[part], name .. " is written")
    if want and want.json then
      assert.same(json.decode(want.bytes), json.decode(t.bytes))
    elseif want then
      assert.same({ part, want.dtype, want.shape, masked(want.bytes, want.mask) },
                  { part, t.dtype, t.shape, masked(t.bytes, want.mask) })
    end
  end
  for part in pairs(parts) do assert(written[PATH .. "." .. part], part .. " is not written") end
end

-- Numbers with -0 as 0, which codes do not tell apart.
local function unsigned(values) return mapped(values, function(x) return x + 0.0 end) end

describe("codes of", function()
  setup(function() math.randomseed(20, 5) end)
  teardown(models.cleanup)

  for _, c in ipairs(cases) do
    it(c.name .. " are read", function()
      for _, shape in ipairs(c.shapes) do
        for _ = 1, 3 do
          local values, parts, _, config = c.make(shape[1], shape[2], false, shape[3])
          assert.same(unsigned(values), unsigned(read(parts, config)))
        end
      end
    end)

    it(c.name .. " are written", function()
      for _, shape in ipairs(c.shapes) do
        local values, parts, scheme = c.make(shape[1], shape[2], true, shape[3])
        local model = quantized.model({ [PATH] = rondo.tensor(values, "f32") }, "f32")
        local folder = quantized.quantize(model, c.format, { [PATH] = scheme })
        same_tensors(parts, quantized.tensors(folder))
      end
    end)
  end
end)
