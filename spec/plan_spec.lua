-- Plans of many tensors: tensors whose names differ in numbers only are decided together, and that
-- must not show; lists are made on demand; memory stays small.
local json = require "rondo.json"
local models = require "spec.support.models"
local rondo = require "rondo"
local sequence = require "rondo.sequence"
local shell = require "spec.support.shell"

local sanitized = (os.getenv "LD_PRELOAD" or ""):find "san" ~= nil

teardown(models.cleanup)

-- Rules and schemes of a plan by tensor.
local function rules_of(path, options)
  local made, rules = assert(rondo.plan(path, options)), {}
  for _, row in ipairs(made.rows) do rules[row.name] = row.scheme or row.rule end
  return rules, made
end

describe("a plan", function()
  it("prints a summary, at the prompt too", function()
    local path = models.file { { "a.q.weight", { 6, 4 } }, { "a.norm.weight", { 6 } } }
    local made = assert(rondo.plan(path, { bits = 4 }))
    local lines = {}
    for line in tostring(made):gmatch "[^\n]+" do lines[#lines + 1] = line end
    assert.same({
      "plan for " .. path .. ": fake, 1 file",
      "  1 of 2 tensors are quantized (24 weights, 32 bits each)",
    }, { lines[1], lines[2] })
    assert.truthy(lines[3]:find(("become %d bytes of files"):format(made.totals.bytes_after)))
    assert.equal(3, #lines)
    assert.equal(tostring(made), require("rondo.prompt.show").text(made))
  end)

  it("tells tensors of like names apart by shape and by neighbours", function()
    local rules = rules_of(models.file {
      { "layers.0.mlp.gate.weight", { 6, 4 } }, { "layers.0.mlp.up.weight", { 6, 4 } },
      { "layers.1.mlp.gate.weight", { 6, 4 } },
      { "layers.2.mlp.gate.weight", { 6, 4 } }, { "layers.2.mlp.up.weight", { 7, 4 } },
      { "layers.0.proj.weight", { 4, 4 } }, { "layers.1.proj.weight", { 4 } },
      { "layers.2.proj.weight", { 4, 4 }, dtype = "F64" },
    })
    assert.same({
      ["layers.0.mlp.gate.weight"] = "int4 asym g32", ["layers.0.mlp.up.weight"] = "int4 asym g32",
      ["layers.1.mlp.gate.weight"] = "routers are kept",
      ["layers.2.mlp.gate.weight"] = "routers are kept",
      ["layers.2.mlp.up.weight"] = "int4 asym g32",
      ["layers.0.proj.weight"] = "int4 asym g32", ["layers.1.proj.weight"] = "not a linear layer",
      ["layers.2.proj.weight"] = "dtype f64 is not quantized",
    }, rules)
  end)

  it("tells one digit from two where names do", function()
    local rules = rules_of(models.file {
      { "ln1.weight", { 2, 2 } }, { "ln2.weight", { 2, 2 } }, { "ln12.weight", { 2, 2 } },
      { "ln34.weight", { 2, 2 } }, { "ln.1.weight", { 2, 2 } },
    })
    assert.same({ ["ln1.weight"] = "norm", ["ln2.weight"] = "norm",
                  ["ln12.weight"] = "int4 asym g32", ["ln34.weight"] = "int4 asym g32",
                  ["ln.1.weight"] = "int4 asym g32" }, rules)
  end)

  it("singles layers out by name", function()
    local tensors = {}
    for i = 0, 11 do tensors[i + 1] = { ("layers.%d.fc.weight"):format(i), { 2, 2 } } end
    local rules = rules_of(models.file(tensors), {
      exclude = { "layers.{3,11}.fc" }, config = { ["layers.10.fc"] = { bits = 8 } },
    })
    for i = 0, 11 do
      local expected = i == 10 and "int8 asym g32" or (i == 3 or i == 11)
        and "exclude layers.{3,11}.fc" or "int4 asym g32"
      assert.equal(expected, rules[("layers.%d.fc.weight"):format(i)], i)
    end
  end)

  it("gives the scales' dtype to the biases of packed layers alone", function()
    local path = models.file {
      { "layers.0.fc.bias", { 2 } }, { "layers.0.fc.weight", { 2, 2 } },
      { "layers.1.fc.weight", { 2, 2 } }, { "layers.1.norm.bias", { 2 } },
      { "layers.2.fc.bias", { 2 } }, { "layers.2.fc.weight", { 2, 2 } },
    }
    local rules, made = rules_of(path, { format = "packed", scale_dtype = "float16",
                                         exclude = { "layers.2" } })
    assert.equal("bias of a packed layer", rules["layers.0.fc.bias"])
    assert.equal("not a linear layer", rules["layers.1.norm.bias"])
    assert.equal("not a linear layer", rules["layers.2.fc.bias"])
    assert.equal(4, made.rows[1].bytes_after)
    assert.equal(8, made.rows[5].bytes_after)
  end)

  it("refuses a configuration for what is no layer's whole path", function()
    local path = models.file { { "a.fc.weight", { 2, 2 } }, { "a.norm.weight", { 2 } } }
    for _, name in ipairs { "fc", "a.fc.weight", "a.norm", "b" } do
      local good, message = pcall(rondo.plan, path, { config = { [name] = { bits = 8 } } })
      assert.is_false(good)
      assert.matches(name, message, 1, true)
    end
  end)

  it("has rows that are made when they are looked at", function()
    local made = assert(rondo.plan(models.file { { "a.weight", { 2, 2 } }, { "b", { 3 } } }))
    assert.equal(2, #made.rows)
    assert.is_nil(made.rows[0] or made.rows[3] or made.rows.name)
    assert.equal("b", made.rows[2].name)
    assert.has_error(function() made.rows[1] = {} end)
    local read = assert(json.decode(json.encode(made.rows)))
    assert.equal("a.weight", read[1].name)
    assert.equal(2, #read)
  end)
end)

describe("a sequence", function()
  it("answers like a list", function()
    local squares = sequence.new(3, function(i) return i * i end)
    local seen = {}
    for i, square in ipairs(squares) do seen[i] = square end
    assert.same({ 1, 4, 9 }, seen)
    assert.equal("[1,4,9]", json.encode(squares))
    assert.equal("[]", json.encode(sequence.new(0, error)))
    assert.is_false(sequence.is {})
  end)
end)

describe("memory", function()
  -- Experts of [4, 64], as many as asked for.
  local function many(count)
    local tensors = {}
    for i = 0, count - 1 do
      tensors[i + 1] = { ("model.layers.%d.mlp.experts.%d.up_proj.weight"):format(i // 64, i % 64),
                         { 4, 64 }, dtype = "BF16" }
    end
    return models.folder(tensors, '{"architectures": ["MixtralForCausalLM"]}')
  end

  -- Prints how much the peak grows by the second of two models, in bytes.
  local script = [[
    local rondo = require "rondo"
    local function peak()
      return 1024 * io.open("/proc/self/status"):read("a"):match "VmHWM:%s*(%d+)"
    end
    local options = load("return " .. arg[4])()
    assert(rondo.quantize(arg[1], arg[3] .. "/small", options))
    local before = peak()
    assert(rondo.quantize(arg[2], arg[3] .. "/large", options))
    print(peak() - before)
  ]]

  it("is a few kilobytes for each tensor", function()
    if sanitized then pending "sanitizers keep freed memory" return end
    local count, small = 8000, many(100)
    local large = many(count)
    for _, options in ipairs { "{}", '{ format = "packed" }', "{ shard_size = 1e5 }" } do
      local grown = tonumber((shell.sh("%s %s %s %s %s", shell.lua_script(script), small, large,
                                       models.temporary(), shell.quote(options))))
      assert.is_true(grown / count < 3000, options .. ": " .. grown / count)
    end
  end)
end)
