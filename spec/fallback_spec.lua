-- Layers that a format has no place for: errors, fallbacks, and what plan, report, warnings and
-- config.json say of them.

local command = require "spec.support.command"
local json = require "rondo.json"
local models = require "spec.support.models"
local quantized = require "spec.support.quantized"
local rondo = require "rondo"
local shell = require "spec.support.shell"

local int4 = rondo.int4 { group_size = 32 }

-- Layers of 64 and of 44 inputs, the second of which take no groups of 32.
local good, odd = "model.layers.0.self_attn.o_proj", "model.layers.0.mlp.down_proj"
local folder = quantized.model({ [good] = quantized.weight(16, 64, 1, "bf16"),
                                 [odd] = quantized.weight(16, 44, 2, "bf16") }, "bf16")
local model = assert(rondo.open(folder))

local function rows(made)
  local list = {}
  for _, row in ipairs(made.rows) do list[row.name] = row end
  return list
end

local function recipe(fields)
  fields[1], fields.otherwise = { "*_proj.weight", fields[1] or int4 }, rondo.keep
  return rondo.recipe(fields)
end

local function plan(fields, given)
  local o = { format = "compressed-tensors", recipe = recipe(fields) }
  for name, value in pairs(given or {}) do o[name] = value end
  return rondo.plan(model, o)
end

describe("a layer that a format has no place for", function()
  it("is an error that names tensor, rule, scheme and reason", function()
    local fine, message = pcall(plan, {})
    assert.is_false(fine)
    for _, text in ipairs { odd .. ".weight", "rule *_proj.weight", tostring(int4),
                            "44 inputs are no multiple of the group size 32",
                            "--fallback keep, fallback = rondo.keep in the recipe" } do
      assert.truthy(message:find(text, 1, true), message)
    end
  end)

  it("is kept where the recipe or the caller says so", function()
    for _, made in ipairs { assert(plan { fallback = rondo.keep }),
                            assert(plan({}, { fallback = "keep" })) } do
      local row = rows(made)[odd .. ".weight"]
      assert.equal("copy", row.action)
      assert.equal("*_proj.weight (keep instead: 44 inputs are no multiple of the group size 32)",
                   row.rule)
      assert.equal(1, made.totals.fallbacks)
      assert.equal("quantize", rows(made)[good .. ".weight"].action)
    end
  end)

  it("gets the first scheme of a list that fits", function()
    local made = assert(plan { fallback = { rondo.int4 { group_size = 48 }, rondo.int8,
                                            rondo.keep } })
    assert.equal("int8 sym row scale bf16", rows(made)[odd .. ".weight"].scheme)
    local fine, message = pcall(plan, { fallback = { rondo.int4 { group_size = 48 } } })
    assert.is_false(fine)
    assert.truthy(message:find(odd, 1, true))
    assert.truthy(message:find("no fallback fits either", 1, true), message)
  end)

  it("gets the first of several names", function()
    for _, named in ipairs { "int8,keep", "int4, int8" } do
      local row = rows(assert(plan({}, { fallback = named })))[odd .. ".weight"]
      assert.equal("int8 sym row scale bf16", row.scheme)
    end
    local code, text = command.run { "plan", folder, "--format", "compressed-tensors",
                                     "--fallback", "int4,int8" }
    assert.equal(0, code)
    assert.truthy(text:find("linear layer (int8 sym row scale bf16 instead)", 1, true), text)
  end)

  it("cannot fall back further than to what is kept", function()
    for _, given in ipairs { { rondo.keep, rondo.int8 }, { rondo.keep, rondo.keep }, "keep,int8",
                             "int9", "int8,", "" } do
      local fine, message = pcall(plan, {}, { fallback = given })
      assert.is_false(fine)
      assert.truthy(message:find("keep, which always fits, stands at the end alone", 1, true),
                    message)
    end
    assert.is_false(pcall(recipe, { fallback = { rondo.keep, rondo.int8 } }))
    local code, _, err = command.run { "plan", folder, "--fallback", "keep,int8" }
    assert.equal(2, code)
    assert.truthy(err:find("keep last if at all", 1, true), err)
    assert.truthy(err:find("with options they stand in a recipe", 1, true), err)
  end)

  it("is one, too, whose clip search has nothing to find", function()
    local signed = rondo.int4 { group_size = 32, clip = "signed" }
    local function mlx(fallback)
      return rondo.plan(model, { format = "mlx", recipe = rondo.recipe {
        { "o_proj.weight", signed }, otherwise = rondo.keep, fallback = fallback } })
    end
    local fine, message = pcall(mlx)
    assert.is_false(fine)
    for _, text in ipairs { tostring(signed), "with zero = \"float\" least_squares does as much",
                            "mlx stores it as int4 asym g32 scale bf16 zero float" } do
      assert.truthy(message:find(text, 1, true), message)
    end
    local made = assert(mlx { rondo.int4 { group_size = 32, clip = "grid" }, rondo.keep })
    local row = rows(made)[good .. ".weight"]
    assert.equal("int4 asym g32 scale bf16 zero float clip grid", row.scheme)
    assert.truthy(row.rule:find("instead: clip signed: it is for integers without", 1, true))
    assert.equal(1, made.totals.fallbacks)
  end)

  it("is told by the command's plan with the reason once, below the table", function()
    local code, text = command.run { "plan", folder, "--format", "compressed-tensors",
                                     "--fallback", "keep" }
    assert.equal(0, code)
    assert.truthy(text:find("linear layer (keep instead)\n", 1, true), text)
    local reason = "44 inputs are no multiple of the group size 32"
    assert.truthy(text:find("as their rules want them\n  1 tensor: " .. reason .. "\n", 1, true),
                  text)
    assert.equal(1, select(2, text:gsub(reason, "")))
    code, text = command.run { "plan", folder, "--format", "compressed-tensors", "--fallback",
                               "keep", "--json" }
    assert.equal(0, code)
    assert.truthy(text:find("(keep instead: " .. reason .. ")", 1, true), text)
  end)

  it("is told in summary, report and the command's last lines", function()
    local made = assert(plan { fallback = "keep" })
    assert.truthy(tostring(made):find("compressed-tensors has no place for 1 tensor", 1, true))
    local out = models.temporary() .. "/out"
    local code, text = command.run { "quantize", folder, out, "--format",
                                     "compressed-tensors", "--fallback", "keep" }
    assert.equal(0, code)
    assert.truthy(text:find("compressed-tensors has no place for 1 tensor", 1, true), text)
    local report = assert(json.decode(shell.read_file(out .. "/rondo-report.json")))
    local reason = "44 inputs are no multiple of the group size 32"
    assert.truthy(text:find("as their rules want them\n  1 tensor: " .. reason .. "\n", 1, true),
                  text)
    assert.same({ { tensor = odd .. ".weight", reason = reason,
                    rule = "linear layer (keep instead: " .. reason .. ")" } }, report.fallbacks)
    local again = assert(rondo.quantize(folder, out, { format = "compressed-tensors",
                                                       fallback = "keep", overwrite = true }))
    assert.same(report.fallbacks, again.fallbacks)
    local config = assert(json.decode(shell.read_file(out .. "/config.json")))
    assert.same({ "lm_head", odd }, config.quantization_config.ignore)
  end)

  it("does not matter before policy and revise have spoken", function()
    local revised = assert(plan { revise = function(_, layer)
      if layer.shape[2] % 32 ~= 0 then return rondo.int8 end
    end })
    assert.equal("int8 sym row scale bf16", rows(revised)[odd .. ".weight"].scheme)
    assert.equal(0, revised.totals.fallbacks)
    local budget = rondo.policy.budget { bits = 9, choices = { rondo.int4 { group_size = 4 },
                                                               rondo.int8 } }
    local made = assert(plan { rondo.int4 { group_size = 48 }, policy = budget })
    assert.equal(2, made.totals.quantized)
  end)
end)

describe("a format that has no place for any layer", function()
  it("is an error with all reasons and no output, whatever the fallback", function()
    local out = models.temporary() .. "/out"
    for _, name in ipairs { "plan", "quantize" } do
      local args = { name, folder, "--format", "compressed-tensors", "--group-size", "128",
                     "--fallback", "keep" }
      if name == "quantize" then table.insert(args, 3, out) end
      local code, text, err = command.run(args)
      assert.same({ 2, "" }, { code, text })
      for _, said in ipairs {
        "nothing would be quantized: compressed-tensors has no place for any of 2 tensors",
        "(1 tensor: 44 inputs are no multiple of the group size 128; 1 tensor: 64 inputs" } do
        assert.truthy(err:find(said, 1, true), err)
      end
      assert.is_nil(require("lfs").attributes(out))
    end
  end)

  it("is none where a recipe keeps every layer by itself", function()
    assert.equal(0, assert(rondo.plan(model, { recipe = rondo.recipe { otherwise = rondo.keep },
                                               format = "compressed-tensors" })).totals.quantized)
  end)
end)

describe("layers of a quantized source that are kept", function()
  local source = models.temporary() .. "/out"
  assert(rondo.quantize(model, source, { format = "compressed-tensors", recipe = recipe {},
                                         fallback = rondo.int8 }))
  local opened = assert(rondo.open(source))
  local warnings = {}

  before_each(function()
    warnings = {}
    stub(_G, "warn", function(text) warnings[#warnings + 1] = text end)
  end)
  after_each(function() _G.warn:revert() end)

  it("are dequantized, which plan, report and the command say", function()
    local made = assert(rondo.plan(opened, { format = "gptq", scheme = "sym", fallback = "keep" }))
    local row = rows(made)[odd .. ".weight_packed"] or rows(made)[odd .. ".weight"]
    assert.equal("dequantize", row.action)
    assert.equal(1, made.totals.dequantized)
    local said = ("1 layer dequantized, not quantized again: %s become 1.41 kB"):format(
      require("rondo.sizes").show(row.bytes_before))
    assert.truthy(tostring(made):find(said, 1, true), tostring(made))
    local report = assert(rondo.quantize(opened, models.temporary() .. "/out",
                                         { format = "gptq", scheme = "sym", fallback = "keep" }))
    assert.truthy(tostring(report):find(said, 1, true), tostring(report))
    assert.equal(1, report.totals.dequantized)
  end)

  it("may be all of them: that is no run in vain", function()
    local out = models.temporary() .. "/out"
    local report = assert(rondo.quantize(opened, out, { exclude = { "*" } }))
    assert.same({}, warnings)
    assert.equal(2, report.totals.dequantized)
    assert.truthy(tostring(report):find("nothing quantized: 5 tensors copied, 2 dequantized", 1,
                                        true), tostring(report))
    local plain = assert(rondo.open(out))
    assert.is_nil(plain.quantization)
    assert.is_true(plain[good .. ".weight"]:eq(opened:layer(good).weight:to "bf16"):all())
  end)
end)

describe("a quantized model", function()
  it("says where the weight of a layer is that stands nowhere under its name", function()
    local out = models.temporary() .. "/out"
    assert(rondo.quantize(model, out, { format = "compressed-tensors", fallback = "keep",
                                        recipe = recipe {} }))
    local opened = assert(rondo.open(out))
    local _, message = opened:tensor(good .. ".weight")
    assert.truthy(message:find(('it is quantized; model:layer("%s").weight dequantizes it')
      :format(good), 1, true), message)
    for _, name in ipairs { good, "layers.0.self_attn.o_proj", "o_proj", "o_proj.weight" } do
      local fine, why = pcall(function() return opened[name] end)
      assert.is_false(fine)
      assert.truthy(why:find("dequantizes it", 1, true), why)
    end
  end)
end)
