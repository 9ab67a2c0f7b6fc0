-- What the figures were measured on.
local core = require "rondo.core"

local machine = {}

local function read(path)
  local file = io.open(path)
  local text = file and file:read "a" or ""
  if file then file:close() end
  return (text:gsub("%s+$", ""))
end

local function output(command)
  local pipe = assert(io.popen(command .. " 2>/dev/null"))
  local text = pipe:read("a"):gsub("%s+$", "")
  pipe:close()
  return text
end

-- The first processor's caches: level, kind and size, as { "L1 Data 32K", ... }.
local function caches()
  local list, bytes = {}, 0
  for i = 0, 9 do
    local folder = ("/sys/devices/system/cpu/cpu0/cache/index%d/"):format(i)
    local size = read(folder .. "size")
    if size == "" then break end
    list[#list + 1] = ("L%s %s %s"):format(read(folder .. "level"), read(folder .. "type"), size)
    local number, unit = size:match "(%d+)(%a)"
    bytes = math.max(bytes, tonumber(number) * (unit == "M" and 2 ^ 20 or 2 ^ 10))
  end
  return list, bytes
end

--- Bytes of the largest cache; 0 where the system does not tell.
function machine.last_cache()
  return (select(2, caches()))
end

--- Threads that the benchmarks use: one, and where there are more processors, all.
function machine.thread_counts()
  local all = core.threads(0)
  return all > 1 and { 1, all } or { 1 }
end

--- A list of { name, value }.
function machine.facts()
  local isa, tables = core.isa()
  local info = read "/proc/cpuinfo"
  return {
    { name = "processor", value = info:match "model name%s*:%s*([^\n]*)" or output "uname -m" },
    { name = "processors", value = ("%d"):format(core.threads(0)) },
    { name = "caches", value = table.concat((caches()), ", ") },
    { name = "memory", value = read("/proc/meminfo"):match "MemTotal:%s*([^\n]*)" or "unknown" },
    { name = "huge pages", value = read "/sys/kernel/mm/transparent_hugepage/enabled" },
    { name = "kernel", value = output "uname -sr" },
    { name = "compiler", value = output("cc --version"):match "[^\n]*" },
    { name = "rondo", value = core.version .. " " .. output "git describe --always --dirty" },
    { name = "kernels", value = isa .. " of " .. table.concat(tables, ", ") },
    { name = "load before", value = read("/proc/loadavg"):match "%S+" or "unknown" },
  }
end

machine.columns = {
  { title = "fact", text = function(r) return r.name end },
  { title = "value", text = function(r) return r.value end },
}

return machine
