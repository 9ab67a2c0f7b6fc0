-- Makes 200 tensors of 16 MB, one after the other, and prints the most memory that was in use.

local core = require "rondo.core"

local t = core.full({ 1024, 4096 }, 1.5)
for _ = 1, 100 do
  t = t + 1
  t = t * 0.5
end
assert(t:count() == 1024 * 4096)

for line in io.lines "/proc/self/status" do
  if line:find "^VmHWM" then print(line) end
end
