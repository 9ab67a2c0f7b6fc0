-- `rondo quantize` as users run it, on small models and on the real one.

local command = require "spec.support.command"
local json = require "rondo.json"
local models = require "spec.support.models"
local shell = require "spec.support.shell"

local run = command.run
local good = command.good
local small_model = models.llama
local exists, names = shell.exists, shell.names


describe("rondo quantize", function()
  teardown(models.cleanup)

  it("shows the worst layers and the totals", function()
    local out = models.temporary() .. "/out"
    local text = good { "quantize", small_model(), out, "--bits", "3" }
    assert.truthy(text:find "^layer +scheme +clip +MSE")
    assert.truthy(text:find "model%.layers%.0%.mlp%.up_proj +int3 asym g32")
    assert.truthy(text:find "\n2 of 6 tensors quantized: relative error ")
    assert.truthy(text:find(out .. " written in ", 1, true))
  end)

  it("has a clip ratio of 1 where nothing is searched, however scales are found", function()
    for _, dtype in ipairs { "nvfp4", "fp8" } do
      local text = good { "quantize", small_model(), models.temporary() .. "/out", "--dtype",
                          dtype }
      assert.truthy(text:find "up_proj [^\n]* 1%.000 ", text)
      assert.falsy(text:find("by group", 1, true))
    end
  end)

  it("prints exactly the report with --json", function()
    local model = small_model()
    local out = models.temporary() .. "/out"
    local text = good { "quantize", model, out .. "/", "--json", "--mse-search" }
    assert.equal(shell.read_file(out .. "/rondo-report.json"), text)
    local report = assert(json.decode(text))
    assert.equal(2, #report.layers)
  end)

  it("names recipe, rule and layer where a function of a recipe fails, in one line", function()
    local model, weight = small_model(), "model.layers.0.mlp.up_proj.weight"
    local function refused(rules)
      local folder = models.temporary()
      local file = models.write(folder .. "/r.lua",
        'local rondo = require "rondo"\nreturn rondo.recipe { name = "w4",\n' .. rules
        .. "\n, otherwise = rondo.keep }")
      local code, _, err = run { "quantize", model, folder .. "/out", "--recipe", file }
      assert.equal(2, code, err)
      assert.is_false(exists(folder .. "/out"))
      assert.falsy(err:find "stack traceback")
      local line = err:match "^[^\n]*"
      assert.truthy(line:find(file, 1, true), line)
      assert.truthy(line:find(weight, 1, true), line)
      return line
    end
    local line = refused '{ "*up_proj.weight", rondo.int4 { clip = function() error "boom" end } }'
    assert.truthy(line:find("(rule *up_proj.weight)", 1, true), line)
    assert.truthy(line:find("r.lua:3: boom", 1, true), line)
    line = refused '{ "*up_proj.weight", rondo.int4 { clip = function() return 1 end } }'
    assert.truthy(line:find("ratios must be a tensor", 1, true), line)
    line = refused [[{ "*up_proj.weight", rondo.int4 }, transform = {
      function(name) if name:find "0.mlp.up_proj" then error "boom" end end }]]
    assert.truthy(line:find("r.lua:4: boom", 1, true), line)
    line = refused '{ "*up_proj.weight", rondo.int4 { importance = rondo.zeros { 3 } } }'
    assert.truthy(line:find("one value for each of 6 columns, not shape {3}", 1, true), line)
    assert.truthy(line:find("(rule *up_proj.weight)", 1, true), line)
  end)

  it("tells of weights of other kinds that stay behind", function()
    local model, out = small_model(), models.temporary() .. "/out"
    models.write(model .. "/pytorch_model.bin", "x")
    models.write(model .. "/tokenizer.json", "{}")
    local text = good { "quantize", model, out }
    assert.truthy(text:find("\nnot copied: pytorch_model.bin\n", 1, true), text)
    assert.is_true(exists(out .. "/tokenizer.json"))
    assert.is_false(exists(out .. "/pytorch_model.bin"))
  end)

  it("writes the same bytes with any number of threads", function()
    local model, folder = small_model(), models.temporary()
    for _, n in ipairs { "1", "5" } do
      good { "quantize", model, folder .. "/" .. n, "--threads", n, "--mse-search" }
    end
    local difference = shell.sh("diff -r %s/1 %s/5", folder, folder)
    assert.equal("", difference)
  end)

  -- A model that takes seconds: zeros cost no room on the disk.
  local function slow_model(rows)
    local path, bytes = models.temporary() .. "/model.safetensors", rows * 4096 * 4
    local header = ('{"a.weight":{"dtype":"F32","shape":[%d,4096],"data_offsets":[0,%d]}}'):format(
      rows, bytes)
    header = header .. (" "):rep(-#header % 8)
    models.write(path, ("<I8"):pack(#header) .. header)
    shell.sh("truncate -s %d %s", 8 + #header + bytes, path)
    return path
  end

  it("leaves nothing when it is interrupted", function()
    if not shell.has "timeout" then pending "no timeout command" end
    local model, folder = slow_model(32768), models.temporary()
    for signal, status in pairs { INT = 130, TERM = 143, HUP = 129 } do
      local code, out, err = run(
        { "quantize", model, folder .. "/out", "--mse-search", "--format", "packed" },
        { prefix = ("timeout --preserve-status -s %s 0.7"):format(signal) })
      assert.equal(status, code, err)
      assert.equal("", out)
      assert.truthy(err:find "^rondo: interrupted\n$", err)
      assert.same({}, names(folder))
    end
  end)

  it("sweeps away what a killed run has left", function()
    if not shell.has "timeout" then pending "no timeout command" end
    local model, folder = slow_model(32768), models.temporary()
    run({ "quantize", model, folder .. "/out", "--mse-search", "--format", "packed" },
        { prefix = "timeout -s KILL 0.7" })
    shell.sh "sleep 1" -- timeout kills itself as well and does not wait for the other's end
    local left = names(folder)
    assert.equal(1, #left)
    assert.truthy(left[1]:find "^out%.partial%-", left[1])
    good { "quantize", small_model(), folder .. "/out" }
    assert.same({ "out" }, names(folder))
  end)

  it("draws its progress on a terminal only", function()
    if not shell.has "script" then pending "no script command" end
    local line = ("cd %s && timeout 60 %s quantize %s out --mse-search --threads 1"):format(
      models.temporary(), command.program(), slow_model(16384))
    local text = shell.sh("script -qec %s /dev/null", shell.quote(line .. " >/dev/null"))
    assert.truthy(text:find "quantizing %[#+%] 100%%", text)
    assert.truthy(text:find("of 268 MB", 1, true), text)
  end)
end)

describe("the stories model", function()
  local source = models.shared "models/stories260K-hf"
  teardown(models.cleanup)

  local variants = { "bf16-sharded", "f32", "f16", "bf16" }
  local kinds = { asym = {}, sym = { "--scheme", "sym" }, nf4 = { "--dtype", "nf4" },
                  fp4 = { "--dtype", "fp4" } }

  -- Compares with the report: every layer of it exactly, and nothing else changed.
  local function check(input, out, what)
    local compare = require "rondo.compare"
    local report = assert(json.decode(shell.read_file(out .. "/rondo-report.json")))
    local result = assert(compare.run(input, out))
    local found = {}
    for _, layer in ipairs(result.layers) do found[layer.name] = layer end
    assert.equal(35, #report.layers, what)
    for _, layer in ipairs(report.layers) do
      local other = found[layer.name]
      assert.equal(layer.mse, other.mse, what .. layer.name)
      assert.equal(layer.relative_error, other.relative_error, what .. layer.name)
      assert.equal(layer.snr_db, other.snr_db, what .. layer.name)
      assert.is_true(layer.relative_error > 0 and layer.relative_error < 0.1, what .. layer.name)
    end
    assert.near(report.totals.relative_error, result.changed.relative_error, 1e-15)
    assert.equal(35, result.changed.layers)
    for _, tensor in ipairs(result.tensors) do assert.is_true(tensor.identical, tensor.name) end
    assert.equal(12, #result.tensors)
    assert.same({ 0, 0, 0 }, { #result.only_a, #result.only_b, #result.differing_shapes }, what)
    return report
  end

  for _, variant in ipairs(variants) do
    for _, form in ipairs { "fake", "packed" } do
      it(("gives the same errors to report and compare: %s, %s"):format(variant, form), function()
        if not source then pending "the shared models are absent" end
        local folder, input = models.temporary(), source .. "/" .. variant
        local plain = {}
        for _, search in ipairs { false, true } do
          for kind, words in pairs(kinds) do
            for _, group in ipairs { "-1", "32", "128" } do
              local what = ("%s %s %s %s "):format(kind, group, form, search)
              local out = folder .. "/" .. what:gsub(" ", "_")
              local arguments = { "quantize", input, out, "--format", form, "--group-size", group,
                                  table.unpack(words) }
              if search then arguments[#arguments + 1] = "--mse-search" end
              good(arguments)
              local error = check(input, out, what).totals.relative_error
              if search then assert.is_true(error <= plain[kind .. group] + 1e-7, what) end
              plain[kind .. group] = error
            end
          end
        end
      end)
    end
  end

  it("is compared by the command with the report's numbers", function()
    if not source then pending "the shared models are absent" end
    local input, out = source .. "/bf16-sharded", models.temporary() .. "/out"
    local report = json.decode(good { "quantize", input, out, "--json", "--group-size", "128" })
    local result = json.decode(good { "compare", input, out, "--json" })
    assert.equal(report.totals.relative_error, result.changed.relative_error)
    assert.equal(report.totals.mse, result.changed.mse)
    local text = good { "compare", input, out }
    assert.truthy(text:find(("35 layers: relative error %.4g, SNR %.2f dB"):format(
      report.totals.relative_error, report.totals.snr_db), 1, true), text)
    assert.truthy(text:find "12 of 12 other tensors are identical")
    -- The other way round, and packed against fake.
    local packed = models.temporary() .. "/packed"
    good { "quantize", input, packed, "--format", "packed", "--group-size", "128" }
    result = json.decode(good { "compare", out, packed, "--json" })
    assert.is_true(result.totals.relative_error < 1e-5) -- fake is packed, rounded to bf16
    assert.is_true(result.totals.relative_error > 0)
  end)

  it("is inspected in every variant", function()
    if not source then pending "the shared models are absent" end
    for _, variant in ipairs(variants) do
      local report = json.decode(good { "inspect", source .. "/" .. variant, "--stats", "--json" })
      assert.equal(47, report.totals.tensors)
      assert.equal(260032, report.totals.elements)
      assert.equal(0, report.tensors[1].stats.nans)
    end
  end)

  it("is quantized from a single file, too", function()
    if not source then pending "the shared models are absent" end
    local out = models.temporary() .. "/out"
    good { "quantize", source .. "/f32/model.safetensors", out }
    assert.same({ "model.safetensors", "rondo-report.json" }, names(out))
  end)
end)
