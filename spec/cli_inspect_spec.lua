-- `rondo inspect` as users run it.

local command = require "spec.support.command"
local json = require "rondo.json"
local models = require "spec.support.models"
local quantized = require "spec.support.quantized"
local rondo = require "rondo"
local shell = require "spec.support.shell"

local run = command.run
local good = command.good
local small_model = models.llama

local function floats(...) return ("<" .. ("f"):rep(select("#", ...))):pack(...) end

describe("rondo inspect", function()
  teardown(models.cleanup)

  it("lists tensors and what they are, layers in their order", function()
    local text = good { "inspect", models.folder {
      { "h.10.fc.weight", { 2, 2 } }, { "h.2.fc.weight", { 2, 3 }, dtype = "BF16" },
      { "h.2.fc.bias", { 2 } }, { "wte.weight", { 9, 2 } }, { "ln_f.weight", { 2 } },
      { "steps", {}, dtype = "I64" } } }
    assert.truthy(text:find "h%.2%.fc%.weight +2x3 +bf16 +linear +12\n.*h%.10%.fc%.weight +2x2 ")
    for name, kind in pairs { ["h.2.fc.bias"] = "bias", ["wte.weight"] = "embedding",
                              ["ln_f.weight"] = "norm" } do
      assert.truthy(text:find("\n" .. name:gsub("%p", "%%%0") .. " +%S+ +f32 +" .. kind), text)
    end
    assert.truthy(text:find "\nsteps +scalar +i64 +other +8\n")
    assert.truthy(text:find "6 tensors in 1 file, 33 values of f32 %+ bf16 %+ i64, 124 B\n")
  end)

  it("lists the parts of a quantized layer together, and what each is", function()
    local wanted = {
      gptq = { rondo.int4 { group_size = 32 }, g_idx = "groups", qweight = "codes",
               qzeros = "zero points", scales = "scales" },
      bitsandbytes = { rondo.nf4 { group_size = 64 }, weight = "codes",
                       ["weight.absmax"] = "scales", ["weight.quant_map"] = "table",
                       ["weight.quant_state.bitsandbytes__nf4"] = "state" },
      ["compressed-tensors"] = { rondo.int4 { group_size = 32, symmetric = false },
                                 weight_packed = "codes", weight_scale = "scales",
                                 weight_shape = "shape", weight_zero_point = "zero points" },
    }
    local paths = { "model.layers.0.mlp.up_proj", "model.layers.0.self_attn.o_proj" }
    local source = quantized.model({ [paths[1]] = quantized.weight(16, 64, 1),
                                     [paths[2]] = quantized.weight(16, 64, 2) }, "f32")
    for format, parts in pairs(wanted) do
      local folder = quantized.quantize(source, format, { [paths[1]] = parts[1],
                                                          [paths[2]] = parts[1] })
      local list, last, seen = json.decode(good { "inspect", folder, "--json" }).tensors, nil, {}
      for _, t in ipairs(list) do
        local path, part = t.name:match "^(model%.layers%.0%.[%w_]+%.[%w_]+)%.(.*)$"
        if path and part ~= "bias" then
          assert.equal(parts[part], t.kind, t.name)
          seen[part] = true
        end
        if path ~= last then
          assert.is_nil(seen[path], t.name .. " is not beside its layer's other tensors")
          seen[path or ""], last = path ~= nil or nil, path
        end
      end
      for part in pairs(parts) do assert.truthy(part == 1 or seen[part], part) end
    end
  end)

  it("warns of parts of quantized layers where nothing says how they are quantized", function()
    local path = "model.layers.0.self_attn.o_proj"
    local source = quantized.model({ [path] = quantized.weight(16, 64, 1) }, "f32")
    local folder = quantized.quantize(source, "compressed-tensors",
                                      { [path] = rondo.int4 { group_size = 32 } })
    good { "inspect", folder }
    for _, what in ipairs { folder .. "/model.safetensors", folder } do
      local code, out, err = run { "inspect", what }
      assert.equal(0, code)
      assert.truthy(out:find(path .. ".weight_packed", 1, true))
      assert.equal(what ~= folder, err ~= "", err)
      assert.equal(what ~= folder, err:find("nothing says how", 1, true) ~= nil)
    end
    os.remove(folder .. "/config.json")
    for _, name in ipairs { "quantize", "plan" } do
      local out = name == "quantize" and models.temporary() .. "/out" or nil
      command.fails({ name, folder, out }, folder, path, "nothing says how")
    end
  end)

  it("gives statistics on request, opaque types without", function()
    local model = models.folder { { "a.weight", { 2, 3 }, bytes = floats(1, -3, 2, 0 / 0, 0, 5) },
                                  { "s", { 3 }, dtype = "F8_E4M3" } }
    local path = model .. "/model.safetensors"
    models.write(path, (shell.read_file(path):gsub("F8_E4M3", "F8_E8M0")))
    local report = json.decode(good { "inspect", model, "--stats", "--json" })
    local a, s = report.tensors[1], report.tensors[2]
    assert.same({ 5, 1, 0, 1, 1, -3, 5, 5 },
                { a.stats.count, a.stats.nans, a.stats.infinities, a.stats.zeros, a.stats.mean,
                  a.stats.min, a.stats.max, a.stats.absmax })
    assert.near((34 / 5) ^ 0.5, a.stats.std, 1e-12)
    assert.same({ "s", "f8_e8m0" }, { s.name, s.dtype })
    assert.is_nil(s.stats)
    assert.truthy(good({ "inspect", model, "--stats" }):find "a%.weight .* 1 +2%.608 +5 +1\n")
    local code, _, err = run { "inspect", model, "--hist", "s" }
    assert.equal(1, code)
    assert.truthy(err:find "s: the type f8_e8m0 has no numbers")
  end)

  it("draws a histogram of one tensor, found by the end of its name", function()
    local model = models.folder { { "m.a.weight", { 1, 8 },
                                    bytes = floats(0, 0, 0, 1, 1, 3, 4, 0 / 0) } }
    local text = good { "inspect", model, "--hist", "a.weight", "--bins", "4" }
    assert.truthy(text:find "^m%.a%.weight  f32 1x8: 8 values, mean ")
    assert.truthy(text:find(("\n           0  %s  3\n"):format(("#"):rep(50)), 1, true), text)
    local bar = ("#"):rep(34) -- 2 of 3, rounded up
    local last = ("\n           3  %-50s  2\n           4\n"):format(bar)
    assert.truthy(text:find(last, 1, true), text)
    local report = json.decode(good { "inspect", model, "--hist", "a.weight", "--bins", "4",
                                      "--json" })
    assert.same({ 3, 2, 0, 2 }, table.move(report.histogram.counts, 1, 4, 1, {}))
    assert.same({ 0, 4 }, { report.histogram.low, report.histogram.high })
  end)

  it("shows the layers of a packed checkpoint", function()
    local out = models.temporary() .. "/out"
    good { "quantize", small_model(), out, "--format", "packed", "--scheme", "sym" }
    local text = good { "inspect", out, "--stats" }
    assert.truthy(text:find "quantized: rondo")
    assert.truthy(text:find "quantized layer .*model%.layers%.1%.mlp%.up_proj +10x6 +f32 +linear "
                  .. "+int4 sym g32")
    assert.truthy(text:find "up_proj%.packed_weight +10x1 +i32 +codes")
    local histogram = good { "inspect", out, "--hist", "layers.1.mlp.up_proj" }
    assert.truthy(histogram:find "^model%.layers%.1%.mlp%.up_proj  f32 10x6: 60 values")
  end)

  it("lets no name steer the terminal", function()
    local model = models.folder { { "a\\u001b[31mb", { 1 } } }
    local code, out, err = run { "inspect", model }
    assert.is_nil((out .. err):find "\27")
    assert.truthy(code == 1 or out:find("a\\x1b[31mb", 1, true))
  end)
end)
