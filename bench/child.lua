-- Runs a section in a process of its own: memory that one section has used does not disturb the
-- next, and each may have another table of kernels.
local json = require "rondo.json"

local child = {}

local function quote(text) return "'" .. text:gsub("'", "'\\''") .. "'" end

--- The records of bench/sections/NAME.lua with these settings.
-- @param isa  the table of kernels that the process is to use; nil: the best
function child.run(name, settings, isa)
  local file = os.tmpname()
  local command = ("%slua5.4 bench/section.lua %s %s %s"):format(
    isa and ("RONDO_ISA=%s "):format(isa) or "", name, quote(json.encode(settings)), file)
  local done = os.execute(command)
  local handle = assert(io.open(file))
  local text = handle:read "a"
  handle:close()
  os.remove(file)
  assert(done, "the section " .. name .. " failed")
  return assert(json.decode(text))
end

return child
