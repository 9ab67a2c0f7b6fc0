-- Broken quantized checkpoints of every format: an error that names the file and the layer, never a
-- traceback, a crash, a hang or a huge allocation. Each is made of a good one by one change.

local json = require "rondo.json"
local models = require "spec.support.models"
local quantized = require "spec.support.quantized"
local raw = require "spec.support.raw"
local rondo = require "rondo"

local LAYER = "model.layers.0.mlp.down_proj"

-- A checkpoint in a form that can be changed: { tensors = { [name] = { dtype, shape, bytes } },
-- config }.
local function made(format, scheme, given)
  local model = quantized.model({ [LAYER] = quantized.weight(16, 64, 1) }, "f32")
  local folder = quantized.quantize(model, format, { [LAYER] = scheme }, given)
  return { tensors = quantized.tensors(folder), config = quantized.json(folder) }
end

local function copy(value)
  if type(value) ~= "table" then return value end
  local result = json.is_array(value) and json.array {} or {}
  for key, item in pairs(value) do result[key] = copy(item) end
  return result
end

local function written(checkpoint)
  local folder, list = models.temporary(), {}
  for name, t in pairs(checkpoint.tensors) do
    list[#list + 1] = { name, t.dtype, t.shape, t.bytes }
  end
  table.sort(list, function(a, b) return a[1] < b[1] end)
  models.write(folder .. "/model.safetensors", raw.pack(list))
  models.write(folder .. "/config.json", json.encode(checkpoint.config))
  for name, value in pairs(checkpoint.files or {}) do
    models.write(folder .. "/" .. name, json.encode(value))
  end
  return folder
end

local function tensor(dtype, shape, bytes)
  return { dtype = dtype, shape = shape, bytes = bytes }
end

local function pack(format, ...) return ("<" .. format):pack(...) end

-- Opening fails with a message of one line that names the folder and has all the texts.
local function fails(checkpoint, ...)
  local folder = written(checkpoint)
  local good, opened, message = pcall(rondo.open, folder)
  assert(good, opened)
  assert(opened == nil, "it was opened")
  for _, piece in ipairs { folder, ... } do
    assert(message:find(piece, 1, true), ("%q does not say %q"):format(message, piece))
  end
  assert.is_nil(message:find "\n")
end

-- Opening, reading and quantizing what was opened end well or with a message, and soon.
local function survives(checkpoint, what)
  local folder = written(checkpoint)
  local good, opened, message = pcall(rondo.open, folder)
  assert(good, what .. ": " .. tostring(opened))
  if not opened then
    assert(type(message) == "string" and message:find(folder, 1, true), what)
    return
  end
  local function check(f)
    local done, why = pcall(f)
    assert(done or not tostring(why):find "attempt to" and not tostring(why):find "stack traceback",
           what .. ": " .. tostring(why))
  end
  for _, layer in opened:layers "all" do
    check(function() return layer.weight:sum() end)
  end
  check(function() return rondo.plan(opened, { format = "fake" }) end)
  opened:close()
end

local cases = {
  { "compressed-tensors", "int4", rondo.int4 { group_size = 32, symmetric = false },
    key = "quantization_config" },
  { "compressed-tensors", "int8", rondo.int8, key = "quantization_config" },
  { "compressed-tensors", "fp8", rondo.fp8, key = "quantization_config" },
  { "compressed-tensors", "nvfp4", rondo.nvfp4, key = "quantization_config" },
  { "compressed-tensors", "mxfp4", rondo.mxfp4, key = "quantization_config" },
  { "gptq", "int4", rondo.int4 { group_size = 32, symmetric = false },
    key = "quantization_config" },
  { "gptq-v2", "int8", rondo.int8, key = "quantization_config" },
  { "awq", "int4", rondo.int4 { group_size = 32 }, key = "quantization_config" },
  { "mlx", "int3", rondo.int3 { group_size = 32 }, key = "quantization" },
  { "mlx", "mxfp8", rondo.mxfp8, key = "quantization" },
  { "bitsandbytes", "nf4", rondo.nf4 { group_size = 32 }, key = "quantization_config" },
  { "bitsandbytes", "nf4 double", rondo.nf4 { group_size = 32, double = { map = "dynamic" } },
    key = "quantization_config" },
  { "bitsandbytes", "int8", rondo.int8, key = "quantization_config" },
  { "fp8", "blocks", rondo.fp8 { group_size = { 128, 128 } }, key = "quantization_config" },
  { "modelopt", "nvfp4", rondo.nvfp4, key = "quantization_config" },
  { "packed", "int4", rondo.int4 { group_size = 32, symmetric = false },
    key = "quantization_config" },
}

local strange = { 0, 33, -4, 4.5, 2^63, "x", false, json.null, json.array {}, { a = 1 },
                  json.array { 1, 2, 3 }, json.array { "x" } }

-- Every place in a table that can be replaced: visit(table, key).
local function each_place(value, visit)
  for key, item in pairs(copy(value)) do
    visit(value, key)
    if type(item) == "table" then each_place(value[key], visit) end
  end
end

describe("broken quantized checkpoints", function()
  teardown(models.cleanup)

  for _, case in ipairs(cases) do
    local format, kind, scheme = case[1], case[2], case[3]
    local label = format .. " " .. kind

    it("say which tensor of a layer is missing or wrong: " .. label, function()
      local good = made(format, scheme)
      local names = {}
      for name in pairs(good.tensors) do
        if name:find(LAYER, 1, true) and name ~= LAYER .. ".bias" then
          names[#names + 1] = name
        end
      end
      assert.is_true(#names >= 2)
      for _, name in ipairs(names) do
        local part = name:sub(#LAYER + 2)
        local broken = copy(good)
        broken.tensors[name] = nil
        -- Without codes there is no layer, without these no zero points, no groups, or the default.
        local optional = { weight_packed = true, weight = true, qweight = true,
                           weight_zero_point = true, g_idx = true, weight_format = true }
        if not optional[part] then fails(broken, LAYER, part:match "quant_state" or part) end
        survives(broken, "without " .. part)
        for _, other in ipairs {
          tensor("F32", { 3, 5 }, ("\0"):rep(60)), tensor("F64", { 2 }, ("\0"):rep(16)),
          tensor("I32", {}, "\0\0\0\0"), tensor("U8", { 0, 64 }, ""), tensor("F16", { 0 }, ""),
          tensor("I64", { 1, 1, 1, 1 }, ("\0"):rep(8)), tensor("BOOL", { 1 }, "\1"),
          tensor("U8", { 1099511627776, 0 }, ""), tensor("I32", { 0, 4611686018427387904 }, "") } do
          broken.tensors[name] = other
          survives(broken, part .. " of " .. other.dtype)
        end
        local t = good.tensors[name]
        local longer = copy(t)
        longer.shape = json.array { 1, table.unpack(t.shape) }
        broken.tensors[name] = longer
        survives(broken, part .. " of higher rank")
        if #t.shape > 0 and t.shape[1] > 1 then
          local shorter = copy(t)
          shorter.shape[1] = t.shape[1] - 1
          shorter.bytes = t.bytes:sub(1, #t.bytes // t.shape[1] * (t.shape[1] - 1))
          broken.tensors[name] = shorter
          -- A block has less rows then, too; a state may have blanks at its end.
          if not name:find "quant_state" and kind ~= "blocks" then fails(broken, LAYER) end
        end
      end
    end)

    it("hold anything in any key of the configuration: " .. label, function()
      local good = made(format, scheme)
      each_place(good.config[case.key], function(place, key)
        local before = place[key]
        for _, value in ipairs(strange) do
          place[key] = value
          survives(good, ("%s = %s"):format(key, tostring(value)))
        end
        place[key] = before
      end)
      local before = good.config
      for _, value in ipairs(strange) do
        good.config = copy(before)
        good.config[case.key] = value
        survives(good, "configuration " .. tostring(value))
      end
    end)

    it("hold any bits in scales and codes: " .. label, function()
      local good = made(format, scheme)
      for _, byte in ipairs { "\0", "\xff", "\x7f", "\x80" } do
        local broken = copy(good)
        for name, t in pairs(good.tensors) do
          if name:find(LAYER, 1, true) then
            broken.tensors[name] = tensor(t.dtype, t.shape, byte:rep(#t.bytes))
            survives(broken, name)
            broken.tensors[name] = t
          end
        end
      end
    end)
  end

  -- A file beside config.json says the same as the block does.
  for _, case in ipairs { { "gptq", rondo.int4 { group_size = 32 }, "quantize_config.json" },
                          { "awq", rondo.int4 { group_size = 32 }, "quant_config.json" },
                          { "modelopt", rondo.nvfp4, "hf_quant_config.json" } } do
    it("hold anything in a file beside config.json: " .. case[3], function()
      local good = made(case[1], case[2])
      local block = good.config.quantization_config
      good.config.quantization_config = nil
      good.files = { [case[3]] = block }
      each_place(block, function(place, key)
        local before = place[key]
        for _, value in ipairs(strange) do
          place[key] = value
          survives(good, ("%s: %s = %s"):format(case[3], key, tostring(value)))
        end
        place[key] = before
      end)
      for _, value in ipairs(strange) do
        good.files[case[3]] = value
        survives(good, case[3] .. " of " .. tostring(value))
      end
    end)
  end

  it("name absurd bits and group sizes", function()
    local good = made("gptq", rondo.int4 { group_size = 32 })
    for _, value in ipairs { 0, 33, -4, "x", 4.5, json.array { 4 } } do
      local broken = copy(good)
      broken.config.quantization_config.bits = value
      fails(broken, "bits must be an integer from 2 to 8")
    end
    for _, value in ipairs { 3, 5, 6, 7 } do
      local broken = copy(good)
      broken.config.quantization_config.bits = value
      fails(broken, value .. " bits are not read: 2, 4 or 8 are")
    end
    for _, value in ipairs { 0, -2, "x", 32.5, 2^40 } do
      local broken = copy(good)
      broken.config.quantization_config.group_size = value
      fails(broken, "group_size must")
    end
    good = made("awq", rondo.int4 { group_size = 32 })
    for _, value in ipairs { 0, 33, -4, "x", 4.5, 8 } do
      local broken = copy(good)
      broken.config.quantization_config.bits = value
      fails(broken, "bits must be an integer from 4 to 4")
    end
    good = made("compressed-tensors", rondo.int4 { group_size = 32 })
    for _, value in ipairs { 0, -4, "x", 4.5, 17, 2^40 } do
      local broken = copy(good)
      broken.config.quantization_config.config_groups.group_0.weights.num_bits = value
      fails(broken, "num_bits must be an integer from 1 to 16")
    end
    for _, value in ipairs { 0, -2, "x", 4.5 } do
      local broken = copy(good)
      broken.config.quantization_config.config_groups.group_0.weights.group_size = value
      fails(broken, "group_size must")
    end
    good = made("mlx", rondo.int4 { group_size = 32 })
    for _, name in ipairs { "bits", "group_size" } do
      for _, value in ipairs { 0, 33, -4, "x", 4.5 } do
        local broken = copy(good)
        broken.config.quantization[name] = value
        fails(broken, LAYER, "is not read")
      end
    end
    good = made("fp8", rondo.fp8 { group_size = { 128, 128 } })
    for _, value in ipairs { 0, "x", json.array { 0, 128 }, json.array { 128 },
                             json.array { 128, -1 }, json.array { 128, "x" } } do
      local broken = copy(good)
      broken.config.quantization_config.weight_block_size = value
      fails(broken, "weight_block_size must be two positive integers")
    end
  end)

  it("have inputs that name no group", function()
    local good = made("gptq", rondo.int4 { group_size = 32 })
    local name = LAYER .. ".g_idx"
    for _, group in ipairs { -1, 2, 1 << 30, -1 << 31 } do
      local broken = copy(good)
      broken.tensors[name].bytes = pack("i4", group) .. good.tensors[name].bytes:sub(5)
      fails(broken, LAYER, "g_idx", tostring(group))
    end
    local broken = copy(good)
    broken.tensors[name].dtype = "F32"
    broken.tensors[name].bytes = pack("f", 0 / 0):rep(64)
    fails(broken, LAYER, "g_idx", "f32")
  end)

  it("lie about the shape of packed weights", function()
    local good = made("compressed-tensors", rondo.int4 { group_size = 32 })
    local name = LAYER .. ".weight_shape"
    for _, shape in ipairs { { 16, 65 }, { 17, 64 }, { -16, 64 }, { 16, -64 }, { 0, 0 },
                             { 16, 1 << 62 }, { math.mininteger, math.mininteger } } do
      local broken = copy(good)
      broken.tensors[name].bytes = pack("i8i8", shape[1], shape[2])
      fails(broken, LAYER)
    end
  end)

  it("have states of bitsandbytes that are none", function()
    local good = made("bitsandbytes",
                      rondo.nf4 { group_size = 32, double = { map = "dynamic" } })
    local name = LAYER .. ".weight.quant_state.bitsandbytes__nf4"
    local text = good.tensors[name].bytes
    local function with(bytes, ...)
      local broken = copy(good)
      broken.tensors[name] = tensor("U8", { #bytes }, bytes)
      fails(broken, LAYER, "quant_state.bitsandbytes__nf4", ...)
    end
    local function changed(key, value)
      local state = json.decode(text)
      state[key] = value
      return json.encode(state)
    end
    for length = 0, #text - 30, 7 do with(text:sub(1, length), "no JSON object") end
    with("[1, 2]", "quant_state")
    with("3", "no JSON object")
    for _, value in ipairs { 0, -64, 63, 64.5, 1 << 40, "64", json.array { 64 } } do
      with(changed("blocksize", value), "blocksize")
    end
    for _, value in ipairs { json.array { 16 }, json.array { 16, 64, 1 }, json.array { -16, 64 },
                             json.array { 16, 64.5 }, json.array { "16", 64 }, "x",
                             json.array { 1 << 40, 1 << 40 } } do
      with(changed("shape", value), "shape")
    end
    with(changed("shape", json.array { 16, 48 }), "run over the ends of rows")
    with(changed("nested_blocksize", 255), "nested_blocksize")
    with(changed("nested_offset", "x"), "nested_offset")
    with(changed("nested_offset", json.null), "nested_offset")
    with((" "):rep(1 << 20), "4096 bytes")
    local broken = copy(good)
    broken.tensors[name].bytes = changed("shape", json.array { 1 << 31, 1 << 31 })
    broken.tensors[name].shape = { #broken.tensors[name].bytes }
    fails(broken, LAYER)
  end)

  it("have code tables of their own", function()
    local good = made("bitsandbytes", rondo.nf4 { group_size = 32 })
    local name = LAYER .. ".weight.quant_map"
    good.tensors[name].bytes = pack("f", 0.5) .. good.tensors[name].bytes:sub(5)
    fails(good, LAYER, "quant_map")
  end)

  it("have LLM.int8 codes that are arranged otherwise", function()
    local good = made("bitsandbytes", rondo.int8)
    good.tensors[LAYER .. ".weight_format"].bytes = "\2"
    fails(good, LAYER, "weight_format")
  end)
end)
