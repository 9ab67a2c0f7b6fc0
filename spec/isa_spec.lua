-- The same bits on every instruction set and with any number of threads.

local core = require "rondo.core"

local function run(isa, threads)
  local build = os.getenv("RONDO_BUILD") or "build"
  local command = string.format(
    "RONDO_ISA=%s LUA_PATH='%s/lua/?.lua;%s/lua/?/init.lua' LUA_CPATH='%s/lua/?.so' "
      .. "lua5.4 spec/support/kernel_digest.lua %s 2>&1", isa, build, build, build, threads)
  local pipe = assert(io.popen(command))
  local text = pipe:read("a")
  assert.is_true(pipe:close(), text)
  return text
end

describe("kernels", function()
  local expected

  setup(function() expected = run("base", 1) end)

  it("print one line a case", function()
    local _, lines = expected:gsub("\n", "")
    assert.equal(13 * 7 * 2 * 2 * 4, lines)
  end)

  local _, tables = core.isa()
  for _, isa in ipairs(tables) do
    it("give the same bits with " .. isa, function()
      assert.is_true(run(isa, 3) == expected)
    end)
  end

  it("give the same bits with 1, 2 and 64 threads", function()
    for _, threads in ipairs { 2, 64 } do
      assert.is_true(run(tables[#tables], threads) == expected, threads .. " threads")
    end
  end)

  it("refuse an instruction set that is unknown", function()
    local pipe = io.popen("RONDO_ISA=v9 LUA_CPATH='" .. (os.getenv("RONDO_BUILD") or "build")
                          .. "/lua/?.so' lua5.4 -e 'require[[rondo.core]].isa()' 2>&1")
    local text = pipe:read("a")
    assert.is_nil(pipe:close())
    assert.truthy(text:find("RONDO_ISA=v9: this processor runs base", 1, true))
  end)

  it("make the command say so in one line", function()
    local build = os.getenv "RONDO_BUILD" or "build"
    for _, rest in ipairs { "--version", "inspect spec" } do
      local pipe = io.popen(("RONDO_ISA=v9 %s/rondo %s 2>&1"):format(build, rest))
      local text = pipe:read("a")
      local _, _, code = pipe:close()
      assert.equal(2, code)
      assert.matches("^rondo: RONDO_ISA=v9: this processor runs base[^\n]*\n$", text)
    end
  end)
end)
