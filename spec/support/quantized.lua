-- quantized: quantized checkpoints for specs of formats: small models to quantize, and the tensors
-- of what was written, decoded bit by bit from what the formats' own projects say of them. Nothing
-- here uses rondo's packing or number types.

local json = require "rondo.json"
local lfs = require "lfs"
local models = require "spec.support.models"
local rondo = require "rondo"
local shell = require "spec.support.shell"

local quantized = {}

-- ---- Numbers ----

--- The nearest f32.
function quantized.f32(x) return (("<f"):unpack(("<f"):pack(x))) end

-- A float of one sign bit, `exponent` bits with that bias and `mantissa` bits; finite ones.
local function small_float(bits, exponent, mantissa, bias)
  local sign = bits >> exponent + mantissa == 1 and -1.0 or 1.0
  local e = bits >> mantissa & (1 << exponent) - 1
  local m = bits & (1 << mantissa) - 1
  if e == 0 then return sign * m * 2.0 ^ (1 - bias - mantissa) end
  return sign * (1 + m / (1 << mantissa)) * 2.0 ^ (e - bias)
end

function quantized.e4m3(bits) return small_float(bits, 4, 3, 7) end
function quantized.e2m1(bits) return small_float(bits, 2, 1, 1) end
function quantized.e8m0(bits) return 2.0 ^ (bits - 127) end

local readers = {
  F32 = function(bytes, i) return (("<f"):unpack(bytes, 4 * i + 1)) end,
  F16 = function(bytes, i) return small_float(("<I2"):unpack(bytes, 2 * i + 1), 5, 10, 15) end,
  BF16 = function(bytes, i)
    return (("<f"):unpack(("<I4"):pack(("<I2"):unpack(bytes, 2 * i + 1) << 16)))
  end,
  F8_E4M3 = function(bytes, i) return quantized.e4m3(bytes:byte(i + 1)) end,
  U8 = function(bytes, i) return bytes:byte(i + 1) end,
  I8 = function(bytes, i) return (("<i1"):unpack(bytes, i + 1)) end,
  I32 = function(bytes, i) return (("<i4"):unpack(bytes, 4 * i + 1)) end,
  U32 = function(bytes, i) return (("<I4"):unpack(bytes, 4 * i + 1)) end,
  I64 = function(bytes, i) return (("<i8"):unpack(bytes, 8 * i + 1)) end,
}

--- An element of a tensor; index from 0, in row-major order.
function quantized.element(tensor, index)
  return readers[tensor.dtype](tensor.bytes, index)
end

--- `bits` bits of a stream of bytes, the first bit being the lowest of the first byte.
function quantized.field(bytes, first, bits)
  local value = 0
  for b = 0, bits - 1 do
    local at = first + b
    value = value | (bytes:byte(at // 8 + 1) >> at % 8 & 1) << b
  end
  return value
end

-- ---- Files ----

--- All tensors of a folder by name: { dtype, shape, bytes, file }.
function quantized.tensors(folder)
  local found = {}
  for name in lfs.dir(folder) do
    if name:find "%.safetensors$" then
      local text = shell.read_file(folder .. "/" .. name)
      local length = ("<I8"):unpack(text)
      for key, entry in pairs(assert(json.decode(text:sub(9, 8 + length)))) do
        if key ~= "__metadata__" then
          local first, last = table.unpack(entry.data_offsets)
          found[key] = { dtype = entry.dtype, shape = entry.shape, file = name,
                         bytes = text:sub(9 + length + first, 8 + length + last) }
        end
      end
    end
  end
  return found
end

--- config.json of a folder, or another file there.
function quantized.json(folder, name)
  return assert(json.decode(shell.read_file(folder .. "/" .. (name or "config.json"))))
end

-- ---- Models ----

quantized.layer = "model.layers.0.self_attn.o_proj"

--- A weight whose groups of 16 and more are of all kinds: of one sign, of zeros, with an outlier,
--- tiny.
function quantized.weight(rows, cols, seed, dtype)
  local w = rondo.randn({ rows, cols }, seed) * 0.05
  w["1, :"] = w["1, :"]:abs() + 0.01
  if rows > 4 then
    w["2, :"] = -w["2, :"]:abs() - 0.01
    w["3, :"] = 0
    w["4, :"] = w["4, :"] * 0x1p-9
    w[5][cols] = 1.5
  end
  return w:to(dtype or "f32")
end

local long_names = { f32 = "float32", f16 = "float16", bf16 = "bfloat16" }

--- A folder with a model of the weights given by module path, all of one dtype; beside them a norm,
--- an embedding and a linear layer of their own.
function quantized.model(weights, dtype)
  local folder, tensors = models.temporary(), {
    ["model.embed_tokens.weight"] = rondo.randn({ 24, 32 }, 90):to(dtype),
    ["model.norm.weight"] = rondo.randn({ 32 }, 91):to(dtype),
    ["lm_head.weight"] = rondo.randn({ 24, 32 }, 92):to(dtype),
  }
  for path, weight in pairs(weights) do
    tensors[path .. ".weight"] = weight
    tensors[path .. ".bias"] = rondo.randn({ weight.shape[1] }, 93):to(dtype)
  end
  assert(rondo.safetensors.save(folder .. "/model.safetensors", tensors))
  models.write(folder .. "/config.json", ('{"architectures":["LlamaForCausalLM"],"model_type":'
    .. '"llama","num_hidden_layers":2,"torch_dtype":"%s"}'):format(long_names[dtype]))
  return folder
end

--- Quantizes the layers named in `schemes` (path -> scheme), keeps the others.
-- @param given  further options of rondo.quantize
-- @return the folder made, and the report
function quantized.quantize(model, format, schemes, given)
  local rules, out = { otherwise = rondo.keep }, models.temporary()
  for path, scheme in pairs(schemes) do rules[#rules + 1] = { path .. ".weight", scheme } end
  local o = { format = format, recipe = rondo.recipe(rules), overwrite = true }
  for name, value in pairs(given or {}) do o[name] = value end
  return out, assert(rondo.quantize(model, out, o))
end

-- ---- Checks ----

-- Where two matrices differ first by more than a share of the value and an absolute number.
local function difference(value, expected, share, absolute)
  for i, row in ipairs(expected:totable()) do
    for j, want in ipairs(row) do
      local got = value(i - 1, j - 1)
      local near = math.abs(got - want) <= share * math.abs(want) + absolute -- false for NaN
      if not near then
        return ("row %d, column %d: %.9g, not %.9g"):format(i, j, got, want)
      end
    end
  end
end

--- Quantizes one layer of a size and holds the file against the scheme, and rondo.open against it.
-- @param case   format, scheme, fitted: the scheme as it is stored; rows, cols, dtype; given:
--               further options; share, absolute: by how much the format's arithmetic may differ
-- @param value  function (tensors by part, i, j) -> the weight in row i, column j (from 0)
-- @return the folder, and its tensors by name
function quantized.check(case, value)
  local path, dtype = quantized.layer, case.dtype or "f32"
  local w = quantized.weight(case.rows, case.cols, case.rows + case.cols, dtype)
  local folder = quantized.quantize(quantized.model({ [path] = w }, dtype), case.format,
                                    { [path] = case.scheme }, case.given)
  local all, parts = quantized.tensors(folder), {}
  for name, tensor in pairs(all) do
    local part = name:match("^" .. path:gsub("%.", "%%.") .. "%.(.*)$")
    if part then parts[part] = tensor end
  end
  local expected = case.fitted:quantize(w):dequantize()
  local share, absolute = case.share or 0, case.absolute or 0
  local wrong = difference(function(i, j) return value(parts, i, j) end, expected, share, absolute)
  assert(not wrong, wrong and tostring(case.scheme) .. ", file: " .. wrong)
  local opened = assert(rondo.open(folder))
  local read = assert(opened:layer(path))
  assert(read.quantized)
  local values = read:dequantize():totable()
  wrong = difference(function(i, j) return values[i + 1][j + 1] end, expected, share,
                     absolute)
  assert(not wrong, wrong and tostring(case.scheme) .. ", read: " .. wrong)
  opened:close()
  return folder, all, parts
end

--- The bytes of every file of a folder, by name.
function quantized.bytes(folder)
  local found = {}
  for name in lfs.dir(folder) do
    if name:sub(1, 1) ~= "." then found[name] = shell.read_file(folder .. "/" .. name) end
  end
  return found
end

--- Quantizes with one, two and three threads: the same bytes, of the sizes that were planned.
function quantized.check_threads(model, format, schemes, given)
  local before, first = rondo.threads(), nil
  for threads = 1, 3 do
    rondo.threads(threads)
    local bytes = quantized.bytes((quantized.quantize(model, format, schemes, given)))
    first = first or bytes
    for name, text in pairs(first) do
      assert(bytes[name] == text, ("%s differs with %d threads"):format(name, threads))
    end
  end
  rondo.threads(before)
  local rules = { otherwise = rondo.keep }
  for path, scheme in pairs(schemes) do rules[#rules + 1] = { path .. ".weight", scheme } end
  local o = { format = format, recipe = rondo.recipe(rules) }
  for name, value in pairs(given or {}) do o[name] = value end
  for _, file in ipairs(assert(rondo.plan(model, o)).files) do
    assert(#first[file.name] == file.size, file.name)
  end
end

--- That quantizing one layer is refused, with all the texts in the error; and that with
--- fallback = "keep" nothing is left to be quantized, for the same reason.
function quantized.check_refusal(format, scheme, rows, cols, ...)
  local path = quantized.layer
  local model = quantized.model({ [path] = quantized.weight(rows, cols, 5, "f32") }, "f32")
  local good, message = pcall(quantized.quantize, model, format, { [path] = scheme })
  assert(not good, "quantized although it has no place: " .. tostring(scheme))
  for _, piece in ipairs { path .. ".weight", ... } do
    assert(message:find(piece, 1, true), ("%q does not say %q"):format(message, piece))
  end
  local _, none = pcall(rondo.plan, model, { format = format, fallback = "keep", recipe =
    rondo.recipe { { path .. ".weight", scheme }, otherwise = rondo.keep } })
  local reason = none:match "nothing would be quantized: .* %(1 tensor: (.*)%)$"
  assert(reason and message:find(reason, 1, true), none)
end

return quantized
