-- The process of a host: rondo leaves its signals, locale, floating-point environment, working
-- folder, environment and standard streams as they are, and starts no other.
local lfs = require "lfs"
local models = require "spec.support.models"
local shell = require "spec.support.shell"

local sh = shell.sh
local root = lfs.currentdir()
local build = os.getenv "RONDO_BUILD" or "build"
if build:sub(1, 1) ~= "/" then build = root .. "/" .. build end

local folder, model

describe("the process of a host", function()
  setup(function()
    folder = shell.temporary_folder()
    local text, status = sh("unset LD_PRELOAD\ncc -std=c11 -D_GNU_SOURCE -Wall -Wextra -Werror " ..
      "-I%s/include %s/spec/support/process.c -o %s/process -L%s -lrondo -lm -Wl,-rpath,%s " ..
      "-Wl,--allow-shlib-undefined", root, root, folder, build, build)
    assert(status == 0, text)
    model = models.folder({ { "model.layers.0.mlp.up_proj.weight", { 64, 256 } },
                            { "model.norm.weight", { 64 } } }, '{"model_type":"llama"}')
    shell.write_file(folder .. "/script.lua", [[
      local rondo = require "rondo"
      local w = rondo.randn({ 128, 512 }) * 1e-20
      rondo.rtn.quant_weight(w:to "f16", { num_bits = 4, group_size = 32 })
      assert(w:sum() ~= 0 and tostring(w) and w:std() > 0 and ("1.5"):rep(2) == "1.51.5")
      assert(tonumber "1.5" == 1.5 and pcall(error) == false)]])
  end)
  teardown(function()
    shell.remove(folder)
    models.cleanup()
  end)

  it("is as it was", function()
    assert.equal("", (sh("%s/process %s %s/out %s/script.lua", folder, model, folder, folder)))
  end)

  it("writes to no standard stream and starts no process", function()
    local traced, status = sh("env -u LD_PRELOAD strace -f -o %s/trace true", folder)
    if status ~= 0 then return pending("strace does not work here: " .. traced) end
    if os.getenv "LD_PRELOAD" then return pending "sanitizers do not bear strace" end
    local calls = "write,writev,execve,fork,vfork,clone,clone3,kill,tgkill,exit_group"
    assert.equal("", (sh("strace -f -o %s/trace -e trace=%s %s/process %s %s/traced %s/script.lua",
      folder, calls, folder, model, folder, folder)))
    local threads, whole = 0, 0
    for line in io.lines(folder .. "/trace") do
      local call, arguments = line:match "^%d+%s+([%w_]+)%((.*)$"
      if call == "clone" or call == "clone3" then
        assert.truthy(arguments:find "CLONE_THREAD", line)
        threads = threads + 1
      elseif call == "write" or call == "writev" then
        assert.falsy(arguments:find "^[012],", line)
      elseif call == "execve" or call == "exit_group" then -- the host's own beginning and end
        whole = whole + 1
      else
        assert.truthy(call == nil, line)
      end
    end
    assert.equal(2 * 3, threads) -- two hosts of three threads, and one more that writes in each
    assert.equal(2, whole)
  end)
end)
