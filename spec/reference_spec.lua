-- The seven reference functions against what the reference itself gave, bit for bit.

local core = require "rondo.core"
local rondo = require "rondo"
local rtn = require "rondo.rtn"
local shell = require "spec.support.shell"

-- The cases of a function and a look-up for their tensors.
local function reference(name)
  local base = "spec/fixtures/reference/" .. name
  local cases = assert(rondo.json.decode(shell.read_file(base .. ".json")))
  local tensors = assert(rondo.safetensors.load(base .. ".safetensors"))
  return cases, function(case, field) return tensors[case.case .. "." .. field] end
end

-- The parameters of a case as options.
local function options_of(case, extra)
  local o = {}
  for name, value in pairs(case) do o[name] = value end
  o.case, o.input, o.best_clip_ratio, o.shape, o.packed_error = nil, nil, nil, nil, nil
  for name, value in pairs(extra or {}) do o[name] = value end
  return o
end

local function describe_case(name, case)
  local parts = {}
  for field, value in pairs(case) do parts[#parts + 1] = field .. "=" .. tostring(value) end
  table.sort(parts)
  return name .. " {" .. table.concat(parts, ", ") .. "}"
end

local function assert_same(expected, got, what)
  if expected == nil then
    assert.is_nil(got, what)
  else
    assert.is_true(core.is_tensor(got), what)
    assert.equal(expected.dtype, got.dtype, what)
    assert.same(expected.shape, got.shape, what)
    assert.is_true(expected:bytes() == got:bytes(), what .. ": the bits differ")
  end
end

describe("reference data", function()
  for _, name in ipairs { "quantize_4bit", "qdq_weight_asym", "qdq_weight_sym", "quant_weight" } do
    it("is matched bit for bit by " .. name, function()
      local cases, tensor = reference(name)
      assert.is_true(#cases >= 96)
      for _, case in ipairs(cases) do
        local what, input = describe_case(name, case), tensor(case, "input")
        local before = input:bytes()
        assert_same(tensor(case, "output"), rtn[name](input, options_of(case)), what)
        local codes, scale, zero = rtn[name](input, options_of(case, { return_int = true }))
        assert_same(tensor(case, "codes"), codes, what .. " codes")
        assert_same(tensor(case, "scale"), scale, what .. " scale")
        assert_same(tensor(case, "zero"), zero, what .. " zero")
        assert.is_true(before == input:bytes(), what .. ": the input changed")
      end
    end)
  end

  it("is matched by qdq_weight_actor", function()
    for name, scheme in pairs { qdq_weight_asym = "asym", qdq_weight_sym = "sym" } do
      local cases, tensor = reference(name)
      for _, case in ipairs(cases) do
        local o = options_of(case, { scheme = scheme })
        assert_same(tensor(case, "output"), rtn.qdq_weight_actor(tensor(case, "input"), o),
                    describe_case("qdq_weight_actor", case))
      end
    end
    local cases, tensor = reference("quantize_4bit")
    for _, case in ipairs(cases) do
      local o = options_of(case, { scheme = "asym", num_bits = 4 })
      assert_same(tensor(case, "output"), rtn.qdq_weight_actor(tensor(case, "input"), o),
                  describe_case("qdq_weight_actor", case))
    end
  end)

  it("is matched by search_clip", function()
    local cases, tensor = reference("search_clip")
    assert.equal(42, #cases)
    for _, case in ipairs(cases) do
      local what = describe_case("search_clip", case)
      local ratio, means = rtn.search_clip(tensor(case, "input"), options_of(case))
      local losses = tensor(case, "losses"):totable()
      local sorted = table.move(losses, 1, #losses, 1, {})
      table.sort(sorted)
      if sorted[2] - sorted[1] > 1e-6 * sorted[1] then
        assert.equal(case.best_clip_ratio, ratio, what)
      end
      for i, loss in ipairs(losses) do
        assert.is_true(math.abs(means[i] - loss) <= 1e-6 * loss, what .. " loss " .. i)
      end
    end
  end)
end)

describe("rtn_quantize against the reference data", function()
  local folder, cases, tensor
  setup(function()
    folder = os.tmpname()
    os.remove(folder)
    assert(os.execute("mkdir " .. folder))
    cases, tensor = reference("rtn_quantize")
  end)
  teardown(function() os.execute("rm -rf " .. folder) end)

  local function model_of(case, bias)
    local path = folder .. "/" .. case.case .. ".safetensors"
    local content = { ["fc.weight"] = tensor(case, "weight"), ["fc.bias"] = bias }
    assert(rondo.safetensors.save(path, content))
    return assert(rondo.open(path))
  end

  local function options_for(case)
    local o = options_of(case)
    o.compression_dtype = ({ I8 = "int8", I16 = "int16", I32 = "int32", I64 = "int64" })
      [case.compression_dtype]
    return o
  end

  it("gives the fake-quantized layers bit for bit", function()
    assert.equal(420, #cases)
    for _, case in ipairs(cases) do
      local m = assert(rtn.rtn_quantize(model_of(case), options_for(case)))
      assert_same(tensor(case, "fake"), m["fc.weight"], describe_case("rtn_quantize", case))
    end
  end)

  it("gives the packed layers bit for bit, and they unpack to the fake ones", function()
    local unpackable = 0
    for _, case in ipairs(cases) do
      local what, o = describe_case("rtn_quantize", case), options_for(case)
      o.return_int = true
      local m = assert(rtn.rtn_quantize(model_of(case), o))
      if case.packed_error then
        unpackable = unpackable + 1
      else
        assert_same(tensor(case, "packed_weight"), m["fc.packed_weight"], what)
        assert_same(tensor(case, "scale"), m["fc.scale"], what)
        local zero = tensor(case, "packed_zp")
        if zero then assert_same(zero, m["fc.packed_zp"], what) end
        assert.equal(zero and 3 or 2, #m.names, what)
      end
      for name, layer in m:layers() do
        assert.equal("fc", name)
        local fake = tensor(case, "fake")
        -- Codes do not hold the sign of a zero: compare as numbers, exactly.
        assert.is_true(layer:dequantize():eq(fake):all(), what .. " unpacked")
      end
    end
    assert.equal(148, unpackable)
  end)
end)
