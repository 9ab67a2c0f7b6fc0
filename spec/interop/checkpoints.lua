-- Writes a model in every format, or one of them, for the checks beside this file.
--
--   lua5.4 checkpoints.lua MODEL OUT [FORMAT]     OUT/FORMAT/CASE/ is a checkpoint
--
-- Beside it lies what rondo itself makes of it: OUT/FORMAT/CASE.values.safetensors, the dequantized
-- weight of every quantized layer in f32.

local lfs = require "lfs"
local rondo = require "rondo"

local int2, int4, int8, fp8 = rondo.int2, rondo.int4, rondo.int8, rondo.fp8
local LAYERS = "*_proj.weight"

local function all(scheme) return { { LAYERS, scheme } } end

local g32 = int4 { group_size = 32 }
local g32_asym = g32 { symmetric = false }

-- Several schemes at once, those of layers that engines fuse alike.
local function mixed(first, second)
  return { { "layers.0.self_attn.*_proj.weight", first }, { LAYERS, second } }
end

local function of_bits(list, bits, changes)
  for _, b in ipairs(bits) do
    local scheme = rondo["int" .. b](changes)
    list["int" .. b .. (scheme.symmetric and "" or "-asym")] = all(scheme)
  end
end

local function gptq_cases()
  local cases = { row = all(int4 { group_size = "row" }), g128 = all(int4),
                  mixed = mixed(int8 { group_size = 32 }, g32) }
  of_bits(cases, { 2, 4, 8 }, { group_size = 32 })
  of_bits(cases, { 2, 4, 8 }, { group_size = 32, symmetric = false })
  return cases
end

local function mlx_cases()
  local cases = {
    mxfp4 = all(rondo.mxfp4), mxfp8 = all(rondo.mxfp8), nvfp4 = all(rondo.nvfp4),
    whole = { { LAYERS .. "|embed_tokens.weight|lm_head.weight", int4 { group_size = 64 } } },
    mixed = { { "self_attn.{q,k,v}_proj.weight", int8 { group_size = 64 } },
              { "o_proj.weight", rondo.nvfp4 }, { "{gate,up}_proj.weight", rondo.mxfp4 },
              { LAYERS, g32 } },
  }
  for _, size in ipairs { 32, 64, 128 } do
    for _, b in ipairs { 2, 3, 4, 5, 6, 8 } do
      cases[("int%d-g%d"):format(b, size)] = all(rondo["int" .. b] { group_size = size })
    end
  end
  return cases
end

local block = fp8 { group_size = { 128, 128 } }
local double = { map = "dynamic" }

local formats = {
  fake = { ["int4-g32"] = all(g32) },
  ["compressed-tensors"] = {
    ["int2-g32"] = all(int2 { group_size = 32 }), ["int4-g32"] = all(g32),
    ["int4-g32-asym"] = all(g32_asym), ["int4-row"] = all(int4 { group_size = "row" }),
    ["int4-row-asym"] = all(int4 { group_size = "row", symmetric = false }),
    ["int4-full-range"] = all(g32 { full_range = true }), ["int4-g128"] = all(int4),
    ["int8-g32"] = all(int8 { group_size = 32 }), ["int8"] = all(int8),
    ["int8-g32-asym"] = all(int8 { group_size = 32, symmetric = false }),
    ["int8-weight-only"] = { activations = "none", all(int8)[1] },
    fp8 = all(fp8), ["fp8-weight-only"] = { activations = "none", all(fp8)[1] },
    ["fp8-tensor"] = all(fp8 { group_size = "tensor" }), ["fp8-block"] = all(block),
    nvfp4 = all(rondo.nvfp4), mxfp4 = all(rondo.mxfp4), mxfp8 = all(rondo.mxfp8),
    ["int4-g32-sharded"] = { shard_size = 2e5, all(g32)[1] },
    ["mixed-bits"] = mixed(int8 { group_size = 32 }, g32), ["mixed-formats"] = mixed(fp8, g32),
  },
  gptq = gptq_cases(), ["gptq-v2"] = gptq_cases(),
  awq = { ["int4-g32"] = all(g32), ["int4-g32-asym"] = all(g32_asym),
          ["int4-g128-asym"] = all(int4 { symmetric = false }),
          ["int4-row-asym"] = all(int4 { group_size = "row", symmetric = false }) },
  mlx = mlx_cases(),
  bitsandbytes = {
    nf4 = all(rondo.nf4 { group_size = 64 }), ["nf4-g32"] = all(rondo.nf4 { group_size = 32 }),
    ["nf4-double"] = all(rondo.nf4 { group_size = 64, double = double }),
    fp4 = all(rondo.fp4 { group_size = 64 }),
    ["fp4-double"] = all(rondo.fp4 { group_size = 64, double = double }), int8 = all(int8),
  },
  fp8 = { f32 = all(block), e8m0 = all(block { scale = "e8m0" }) },
  modelopt = { nvfp4 = all(rondo.nvfp4) },
}

-- ---- Writing ----

local function quantize(model, out, format, rules)
  local recipe = { otherwise = rondo.keep }
  for i, rule in ipairs(rules) do recipe[i] = rule end
  local good, report, message = pcall(rondo.quantize, model, out, {
    format = format, recipe = rondo.recipe(recipe), fallback = "keep",
    activations = rules.activations, shard_size = rules.shard_size })
  if not good and report:find("nothing would be quantized", 1, true) then return nil end
  return assert(good, report) and assert(report, message)
end

local read_values = assert(loadfile(arg[0]:match "^(.*/)" .. "values.lua"))

-- Weights that are dequantized already tell nothing of their scheme.
local function fake_values(model, scheme)
  local values = {}
  for name, layer in model:layers() do
    if name:find "_proj$" then values[name] = scheme:quantize(layer.weight):dequantize() end
  end
  return values
end

-- A model may have no layer that a case has a place for: then there is nothing to check.
local function make_case(model, out, format, rules)
  if not quantize(model, out, format, rules) then
    print(out .. ": no layer fits")
  else
    local file = out .. ".values.safetensors"
    if format ~= "fake" then return read_values(out, file) end
    assert(rondo.safetensors.save(file, fake_values(model, rules[1][2])))
  end
end

local function main(source, out, only)
  local model <close> = assert(rondo.open(source))
  assert(lfs.mkdir(out))
  for format, cases in pairs(only and { [only] = formats[only] } or formats) do
    assert(lfs.mkdir(out .. "/" .. format))
    for name, rules in pairs(cases) do
      make_case(model, ("%s/%s/%s"):format(out, format, name), format, rules)
    end
  end
end

main(...)
