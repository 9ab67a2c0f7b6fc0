-- Every block of code in docs/recipes.md runs, and prints what it says.
local models = require "spec.support.models"
local rondo = require "rondo"
local shell = require "spec.support.shell"

teardown(models.cleanup)

-- The code blocks: { language, file, text }.
local function blocks_of(path)
  local list = {}
  for head, text in shell.read_file(path):gmatch "\n```([^\n]+)\n(.-)\n```" do
    list[#list + 1] = { language = head:match "^%w+", file = head:match "file=(%S+)", text = text }
  end
  return list
end

-- What the comments --> say.
local function expected_of(text)
  local lines = {}
  for line in text:gmatch "%-%-> ([^\n]*)" do lines[#lines + 1] = line end
  return lines
end

-- Runs all Lua blocks as one chunk each, with the locals of those before: they are made globals.
local function run_lua(text, env)
  local printed = {}
  function env.print(...)
    local words = table.pack(...)
    for i = 1, words.n do words[i] = tostring(words[i]) end
    printed[#printed + 1] = table.concat(words, "\t")
  end
  local chunk = assert(load(text:gsub("\nlocal ", "\n"):gsub("^local ", ""), "@recipes.md", "t",
                            env))
  chunk()
  return printed
end

local function llama(path)
  local tensors, seed = { ["model.norm.weight"] = rondo.full({ 64 }, 1) }, 0
  local function put(name, rows, cols)
    seed = seed + 1
    tensors[name .. ".weight"] = rondo.randn({ rows, cols }, seed)
  end
  put("model.embed_tokens", 128, 64)
  put("lm_head", 128, 64)
  for i = 0, 3 do
    for _, part in ipairs { "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
                            "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj",
                            "mlp.down_proj" } do
      put(("model.layers.%d.%s"):format(i, part), 64, 64)
    end
  end
  assert(require("lfs").mkdir(path))
  assert(rondo.safetensors.save(path .. "/model.safetensors", tensors))
  models.write(path .. "/config.json", '{"architectures":["LlamaForCausalLM"]}')
end

describe("docs/recipes.md", function()
  it("runs as it stands", function()
    local folder = models.temporary()
    llama(folder .. "/model")
    local model = assert(rondo.open(folder .. "/model"))
    local env = setmetatable({ model = model, out = folder .. "/out" }, { __index = _G })
    local build = os.getenv "RONDO_BUILD" or "build"
    if build:sub(1, 1) ~= "/" then build = require("lfs").currentdir() .. "/" .. build end
    for _, block in ipairs(blocks_of "docs/recipes.md") do
      if block.file then
        models.write(folder .. "/" .. block.file, block.text)
      elseif block.language == "lua" then
        assert.same(expected_of(block.text), run_lua(block.text, env))
      else
        local said, status = shell.sh("cd %s && PATH=%s:$PATH && set -e\n%s", shell.quote(folder),
                                      shell.quote(build), block.text)
        assert.equal(0, status, said)
      end
    end
    assert.truthy(rondo.open(folder .. "/w3") and rondo.open(folder .. "/mine"))
  end)
end)

describe("the recipes of README.md and examples", function()
  -- Layers of 128 and 256 inputs, of which every format takes groups of 64 and 128.
  local function whole(path)
    local tensors = { ["model.norm.weight"] = rondo.full({ 128 }, 1) }
    for i = 0, 2 do
      for seed, part in ipairs { "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
                                 "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj",
                                 "mlp.down_proj" } do
        local wide = part == "mlp.gate_proj" or part == "mlp.up_proj"
        local rows, cols = wide and 256 or 128, part == "mlp.down_proj" and 256 or 128
        tensors[("model.layers.%d.%s.weight"):format(i, part)] =
          rondo.randn({ rows, cols }, 10 * i + seed)
      end
    end
    assert(rondo.safetensors.save(path .. "/model.safetensors", tensors))
    models.write(path .. "/config.json", '{"architectures":["LlamaForCausalLM"]}')
    return assert(rondo.open(path))
  end

  it("leave no layer out for want of a place", function()
    local folder = models.temporary()
    local model = whole(folder)
    local readme = shell.read_file "README.md"
    local text = readme:match "\n(    local rondo[^\n]*\n    return rondo.recipe {.-\n    })\n"
    models.write(folder .. "/readme.lua", text)
    local recipes = { readme = assert(loadfile(folder .. "/readme.lua"))() }
    local saved = package.path
    package.path = "examples/recipes/?.lua;" .. saved
    for _, name in ipairs { "w4", "w8", "w4_ends8", "llama_mixed", "super_weights" } do
      recipes[name] = dofile(("examples/recipes/%s.lua"):format(name))
    end
    package.path = saved
    for name, recipe in pairs(recipes) do
      for _, format in ipairs { "packed", "compressed-tensors", "gptq", "mlx" } do
        local good, made = pcall(rondo.plan, model, { recipe = recipe, format = format })
        assert.is_true(good, ("%s as %s: %s"):format(name, format, tostring(made)))
        assert.equal(21, made.totals.quantized)
      end
    end
  end)
end)
