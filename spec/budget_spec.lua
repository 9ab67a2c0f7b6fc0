-- The budget: the least error within a size.
local models = require "spec.support.models"
local rondo = require "rondo"
local solve = require "rondo.policy.solve"

local int2, int3, int4, int6, int8 = rondo.int2, rondo.int3, rondo.int4, rondo.int6, rondo.int8

teardown(models.cleanup)

local function units_of(list)
  local units = {}
  for i, unit in ipairs(list) do units[i] = { errors = unit[1], bytes = unit[2] } end
  return units
end

-- Every assignment, tried: the least sum of errors within the limit.
local function least_error(units, limit)
  local best = math.huge
  local function try(u, error, bytes)
    if bytes > limit then return end
    if u > #units then
      best = math.min(best, error)
      return
    end
    for c in ipairs(units[u].errors) do
      try(u + 1, error + units[u].errors[c], bytes + units[u].bytes[c])
    end
  end
  try(1, 0, 0)
  return best
end

local function sums(units, chosen)
  local error, bytes = 0, 0
  for u, c in ipairs(chosen) do
    error, bytes = error + units[u].errors[c], bytes + units[u].bytes[c]
  end
  return error, bytes
end

describe("the solver", function()
  it("takes what pays most for its bytes, and fills what is left", function()
    local units = units_of { { { 10, 1 }, { 4, 8 } }, { { 6, 5 }, { 4, 8 } },
                             { { 3, 1 }, { 4, 6 } } }
    assert.same({ 1, 1, 1 }, solve(units, 12))
    assert.same({ 2, 1, 1 }, solve(units, 16))
    assert.same({ 2, 1, 2 }, solve(units, 18))
    assert.same({ 2, 2, 2 }, solve(units, 22))
    local none, least = solve(units, 11)
    assert.is_nil(none)
    assert.equal(12, least)
    assert.same({}, solve({}, 0))
  end)

  it("is near the best of all assignments, within the limit, and the same again", function()
    math.randomseed(11)
    for _ = 1, 60 do
      local list = {}
      for u = 1, 5 do
        local errors, bytes, size = {}, {}, math.random(1, 4)
        for c = 1, 4 do
          errors[c] = math.random() * 4.0 ^ -c * size
          bytes[c] = size * (c + 1) * 100 + math.random(0, 9)
        end
        list[u] = { errors, bytes }
      end
      local units = units_of(list)
      local limit = 2000 + math.random(0, 3000)
      local chosen = solve(units, limit)
      local best = least_error(units, limit)
      assert.equal(best == math.huge, chosen == nil)
      if chosen then
        local error, bytes = sums(units, chosen)
        assert.is_true(bytes <= limit)
        assert.is_true(error <= 2 * best + 1e-12, error .. " of " .. best)
        assert.same(chosen, solve(units, limit))
        for c = 1, 4 do
          local other, other_bytes = sums(units, { c, c, c, c, c })
          assert.is_true(other_bytes > limit or error <= other)
        end
      end
    end
  end)
end)

local choices = { int2 { group_size = "row" }, int2 { group_size = 32, symmetric = false },
                  int3 { group_size = "row" }, int3 { group_size = 32 }, int4,
                  int4 { group_size = 32, symmetric = false }, int6, int8 }

-- Bits of a weight and the summed relative error, of a report: not of the policy's own table.
local function outcome(model, fields)
  fields[1] = { "*_proj.weight", int4 }
  fields.otherwise = rondo.keep
  local report = assert(rondo.quantize(model, models.temporary() .. "/out",
    { recipe = rondo.recipe(fields), format = "packed" }))
  local sum, schemes = 0, {}
  for _, layer in ipairs(report.layers) do
    sum = sum + layer.relative_error
    schemes[layer.name] = layer.scheme
  end
  return report.totals.bits_per_weight, sum, schemes, report
end

local function uniform(model, scheme)
  return outcome(model, { revise = function() return scheme end })
end

describe("a budget", function()
  local shared = models.shared "models/stories260K-hf/f32"

  it("never loses more than one scheme for all of the same size would", function()
    if not shared then pending "shared/models/stories260K-hf is not there" return end
    local model, table_of = assert(rondo.open(shared)), {}
    for i, scheme in ipairs(choices) do
      local bits, sum = uniform(model, scheme)
      table_of[i] = { scheme = tostring(scheme), bits = bits, sum = sum }
    end
    for _, wanted in ipairs { 4.25, 3.5, 3.0 } do
      local bits, sum, schemes = outcome(model, {
        policy = rondo.policy.budget { bits = wanted, choices = choices },
      })
      assert.is_true(bits <= wanted)
      for _, other in ipairs(table_of) do
        if other.bits <= math.max(bits, wanted) then
          assert.is_true(sum <= other.sum, ("%g bits: %g, %s: %g"):format(wanted, sum, other.scheme,
                                                                          other.sum))
        end
      end
      for i = 0, 4 do
        local at = ("model.layers.%d."):format(i)
        assert.equal(schemes[at .. "self_attn.q_proj"], schemes[at .. "self_attn.k_proj"])
        assert.equal(schemes[at .. "self_attn.q_proj"], schemes[at .. "self_attn.v_proj"])
        assert.equal(schemes[at .. "mlp.gate_proj"], schemes[at .. "mlp.up_proj"])
      end
    end
  end)

  -- Layers of very different size; the small one is noisy.
  local function mixed()
    local path = models.temporary() .. "/m.safetensors"
    assert(rondo.safetensors.save(path, {
      ["layers.0.a_proj.weight"] = rondo.randn({ 64, 64 }, 1),
      ["layers.0.b_proj.weight"] = rondo.randn({ 64, 256 }, 2),
      ["layers.1.a_proj.weight"] = rondo.randn({ 64, 64 }, 3),
      ["norm.weight"] = rondo.randn({ 64 }, 4),
    }))
    return path
  end

  it("keeps files within so many bytes", function()
    local path, sizes = mixed(), {}
    for i, bytes in ipairs { 14000, 16000, 20000, 30000 } do
      local _, sum, _, report = outcome(path, {
        policy = rondo.policy.budget { bytes = bytes, choices = choices },
      })
      assert.is_true(report.totals.bytes_after <= bytes)
      sizes[i] = sum
    end
    assert.is_true(sizes[1] > sizes[2] and sizes[2] > sizes[3] and sizes[3] > sizes[4])
  end)

  it("weighs errors by sensitivity, and says that it decided", function()
    local path = mixed()
    local recipe = rondo.recipe { { "*_proj.weight", int4 }, otherwise = rondo.keep,
      policy = rondo.policy.budget { bits = 4.5, choices = { int3 { group_size = "row" }, int8 },
        sensitivity = function(layer) return layer.depth == 1 and 1000 or 1 end } }
    local made, found = assert(rondo.plan(path, { recipe = recipe, format = "packed" })), {}
    for _, row in ipairs(made.rows) do found[row.name] = { row.scheme, row.rule } end
    assert.same({ "int8 sym row", "budget" }, found["layers.1.a_proj.weight"])
    assert.same({ "int3 sym row", "budget" }, found["layers.0.b_proj.weight"])
    assert.is_true(made.totals.bits <= 4.5)
  end)

  it("leaves fixed rules alone, and counts their layers", function()
    local path = mixed()
    local function planned(wanted, fixed)
      local recipe = rondo.recipe { { "layers.0.b_proj", int8, fixed = fixed },
        { "*_proj.weight", int4 }, otherwise = rondo.keep,
        policy = rondo.policy.budget(wanted) }
      local made = assert(rondo.plan(path, { recipe = recipe, format = "packed" }))
      local found = {}
      for _, row in ipairs(made.rows) do found[row.name] = { row.scheme, row.rule } end
      return found, made.totals
    end
    local two = { int3 { group_size = "row" }, int4 { group_size = "row" } }
    -- 16,384 weights of 8.125 bits and 8,192 of 4.5 or 4, in words of 32 bits: 6.92 or 6.75.
    local found, totals = planned({ bits = 6.93, choices = two }, true)
    assert.same({ "int8 sym row", "layers.0.b_proj (fixed)" }, found["layers.0.b_proj.weight"])
    assert.same({ "int4 sym row", "budget" }, found["layers.1.a_proj.weight"])
    assert.is_true(totals.bits <= 6.93)
    found = planned({ bits = 6.8, choices = two }, true)
    assert.same({ "int8 sym row", "layers.0.b_proj (fixed)" }, found["layers.0.b_proj.weight"])
    assert.same({ "int3 sym row", "budget" }, found["layers.1.a_proj.weight"])
    assert.same("budget", planned({ bits = 6.93, choices = two })["layers.0.b_proj.weight"][2])
    found, totals = planned({ bytes = 22000, choices = two }, true)
    assert.equal("int8 sym row", found["layers.0.b_proj.weight"][1])
    assert.is_true(totals.bytes_after <= 22000)
    assert.matches("6.7 bits cannot be met", select(2, pcall(planned,
      { bits = 6.7, choices = two }, true)))
  end)

  it("leaves fixed rules alone whose schemes the format has no place for", function()
    local unfit = int4 { group_size = 96 } -- divides no row
    local recipe = rondo.recipe { { "layers.0.b_proj", unfit, fixed = true },
      { "*_proj.weight", unfit }, otherwise = rondo.keep, fallback = int8,
      policy = rondo.policy.budget { bits = 7.5, choices = { int4 { group_size = 32 }, int8 } } }
    local made = assert(rondo.plan(mixed(), { recipe = recipe, format = "compressed-tensors" }))
    local found = {}
    for _, row in ipairs(made.rows) do found[row.name] = row end
    assert.matches("^int8 sym row", found["layers.0.b_proj.weight"].scheme)
    assert.matches("^layers.0.b_proj %(fixed%) %(int8", found["layers.0.b_proj.weight"].rule)
    assert.matches("^int4 sym g32", found["layers.1.a_proj.weight"].scheme)
    assert.equal("budget", found["layers.1.a_proj.weight"].rule)
  end)

  it("leaves out what the format has no place for, layer by layer, and says so", function()
    local three, four = int3 { group_size = 32 }, int4 { group_size = 32 }
    local eight = int8 { group_size = 128 } -- divides few rows
    local recipe = rondo.recipe {
      { "*_proj.weight", four }, otherwise = rondo.keep, fallback = rondo.keep,
      policy = rondo.policy.budget { bits = 9, choices = { three, four, eight, int8 } } }
    local model, out = mixed(), models.temporary() .. "/out"
    local made = assert(rondo.plan(model, { recipe = recipe, format = "compressed-tensors" }))
    assert.equal(0, made.totals.fallbacks)
    local layers = made.totals.quantized
    assert.equal(2, #made.notes)
    assert.equal(("budget: %s is left out for %d layers: integers of compressed-tensors have 2, 4 "
      .. "or 8 bits, not 3"):format(tostring(three), layers), made.notes[1])
    assert.truthy(made.notes[2]:find("are no multiple of the group size 128", 1, true))
    local report = assert(rondo.quantize(model, out, { recipe = recipe,
                                                       format = "compressed-tensors" }))
    assert.same(made.notes, report.notes)
    for _, note in ipairs(made.notes) do
      assert.truthy(tostring(made):find(note, 1, true), tostring(made))
      assert.truthy(tostring(report):find(note, 1, true), tostring(report))
    end
    local file = assert(require("rondo.json").decode(
      require("spec.support.shell").read_file(out .. "/rondo-report.json")))
    assert.same(made.notes, file.notes)
    local _, message = pcall(rondo.plan, model, { format = "compressed-tensors",
      recipe = rondo.recipe { { "*_proj.weight", four }, fallback = rondo.keep,
        otherwise = rondo.keep, policy = rondo.policy.budget { bits = 3.5, choices = { three,
                                                                                      int8 } } } })
    assert.matches("3.5 bits cannot be met: .*; budget: .*int3.* is left out for 3 layers", message)
  end)

  it("measures a layer as the format stores it", function()
    local model, measured = mixed(), {}
    local function solved(format, choices_of)
      local recipe = rondo.recipe { { "*_proj.weight", int4 }, otherwise = rondo.keep,
        policy = function(plan)
          for _, entry in ipairs(plan.layers) do
            local fit = assert(plan.fit(entry, choices_of))
            measured[format] = (measured[format] or 0) + entry.layer:loss(fit)
            entry.scheme = choices_of
          end
        end }
      local report = assert(rondo.quantize(model, models.temporary() .. "/out",
                                           { recipe = recipe, format = format }))
      local sum = 0
      for _, layer in ipairs(report.layers) do sum = sum + layer.relative_error end
      return sum
    end
    for _, format in ipairs { "mlx", "compressed-tensors" } do
      assert.is_true(math.abs(solved(format, int4 { group_size = 32 }) - measured[format]) < 1e-12)
    end
    assert.is_true(measured.mlx ~= measured["compressed-tensors"])
  end)

  it("says what cannot be", function()
    for text, given in pairs {
      ["either bits or bytes is needed"] = { choices = choices },
      ["option 'choices' is missing"] = { bits = 4 },
      ["choices must be a list of schemes"] = { bits = 4, choices = { "int4" } },
    } do
      local good, message = pcall(rondo.policy.budget, given)
      assert.is_false(good)
      assert.truthy(message:find(text, 1, true), message)
    end
    local good, message = pcall(outcome, mixed(), {
      policy = rondo.policy.budget { bits = 1, choices = choices },
    })
    assert.is_false(good)
    assert.matches("budget: 1 bits cannot be met: the smallest choices need %d+ bytes more",
      message)
  end)
end)
