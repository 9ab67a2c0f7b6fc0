-- tools/check_vectors.lua tells vectorised loops from others.
local lfs = require "lfs"
local shell = require "spec.support.shell"

local sh = shell.sh
local root = lfs.currentdir()
local folder

local is_x86 = sh "uname -m" == "x86_64\n"

-- Compiles a C source as a build's table of kernels.
local function compile(isa, march, options, source)
  local at = ("%s/CMakeFiles/kernels_%s.dir/src/kernels"):format(folder, isa)
  sh("mkdir -p %s", at)
  shell.write_file(folder .. "/a.c", source)
  local text, status = sh("cc -c -march=%s %s %s/a.c -o %s/table.c.o", march, options, folder, at)
  assert(status == 0, text)
end

local function check(...)
  local names = table.concat({ ... }, " ")
  return sh("lua5.4 %s/tools/check_vectors.lua %s %s", root, folder, names)
end

local scale = [[
  void scale(float *restrict y, const float *restrict x, long n, float a) {
    for (long i = 0; i < n; i++) y[i] = (x[i] - a) * x[i] + a;
  }
]]
local vectorised, plain = "-O3", "-O3 -fno-tree-vectorize"

describe("tools/check_vectors.lua", function()
  if not is_x86 then
    pending("needs x86-64")
    return
  end

  before_each(function() folder = shell.temporary_folder() end)
  after_each(function() shell.remove(folder) end)

  for isa, march in pairs { v3 = "x86-64-v3", v4 = "x86-64-v4 -mprefer-vector-width=512" } do
    it("accepts a vectorised loop: " .. isa, function()
      compile(isa, march, vectorised, scale)
      local text, status = check "scale"
      assert.equal(0, status, text)
    end)

    it("refuses a scalar loop: " .. isa, function()
      compile(isa, march, plain, scale)
      local text, status = check "scale"
      assert.equal(1, status)
      assert.truthy(text:find("FAIL  " .. isa .. ": scale: 0 of 1 hot loops", 1, true), text)
    end)
  end

  it("refuses vectors of half the width", function()
    compile("v4", "x86-64-v4 -mprefer-vector-width=256", vectorised, scale)
    assert.equal(1, select(2, check "scale"))
    compile("v3", "x86-64-v2", vectorised, scale)
    assert.equal(1, select(2, check "scale"))
  end)

  it("refuses a loop that only moves vectors", function()
    compile("v3", "x86-64-v3", vectorised .. " -fno-tree-loop-distribute-patterns", [[
      void copy(float *restrict y, const float *restrict x, long n) {
        for (long i = 0; i < n; i++) y[i] = x[i];
      }]])
    local text, status = check "copy"
    assert.equal(1, status, text)
  end)

  it("refuses a scalar loop around a vector", function()
    compile("v3", "x86-64-v3", plain, [[
      typedef float vector __attribute__((vector_size(32)));
      float mixed(vector *v, const float *x, long n) {
        float sum = 0;
        for (long i = 0; i < n; i++) {
          sum = (sum + x[i]) * x[i] - sum;
          v[i] += 1;
        }
        return sum;
      }]])
    local text, status = check "mixed"
    assert.equal(1, status, text)
  end)

  it("looks at all names, in all tables", function()
    local other = scale:gsub("scale", "other")
    compile("v3", "x86-64-v3", vectorised, scale .. other)
    compile("v4", "x86-64-v4", plain, scale .. other)
    local text, status = check("scale", "other")
    assert.equal(1, status)
    assert.equal(2, select(2, text:gsub("ok    v3: ", "")))
    assert.equal(2, select(2, text:gsub("FAIL  v4: ", "")))
  end)

  it("misses functions that are not there, and tables", function()
    compile("v3", "x86-64-v3", vectorised, scale)
    local text, status = check("scale", "gone")
    assert.equal(1, status)
    assert.truthy(text:find("FAIL  v3: gone: there is no such function", 1, true), text)
    sh("rm -r %s/CMakeFiles", folder)
    text, status = check "scale"
    assert.equal(1, status)
    assert.truthy(text:find "no tables of kernels", text)
  end)
end)
