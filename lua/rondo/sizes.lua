-- sizes: numbers of bytes as people write and read them. MB is 10^6 bytes, MiB is 2^20.

local sizes = {}

local units = { b = 1, [""] = 1 }
for power, letter in ipairs { "k", "m", "g", "t" } do
  units[letter .. "b"] = 1000 ^ power
  units[letter .. "ib"] = 1024 ^ power
end

--- What sizes.parse takes, for messages.
sizes.form = "bytes, or a number with B, kB, MB, GB, TB, KiB, MiB, GiB or TiB"

--- The number of bytes that a text like "5GB", "1.5 GiB" or "4096" stands for (capitals do not
--- matter); nil for anything else, for less than one byte and for more than 2^53.
function sizes.parse(text)
  local digits, unit = text:match "^%s*(%d+%.?%d*)%s*(%a*)%s*$"
  local factor = unit and units[unit:lower()]
  if not factor then return nil end
  local bytes = tonumber(digits) * factor
  if bytes < 1 or bytes > 2 ^ 53 then return nil end
  return math.tointeger(bytes // 1)
end

local names = { "kB", "MB", "GB", "TB", "PB", "EB" }

--- Bytes as short text with three significant digits: "999 B", "1.05 MB", "12.3 GB".
function sizes.show(bytes)
  if bytes < 1000 then return ("%d B"):format(math.floor(bytes)) end
  local value, unit = bytes / 1000, 1
  while value >= 999.5 and unit < #names do value, unit = value / 1000, unit + 1 end
  local form = value < 9.995 and "%.2f %s" or value < 99.95 and "%.1f %s" or "%.0f %s"
  return form:format(value, names[unit])
end

--- A count as short text: "999", "1.05 M", "12.3 G".
function sizes.count(n)
  return (sizes.show(n):gsub("^(%S+) kB$", "%1 k"):gsub(" ?B$", ""))
end

--- Seconds as short text: "0.41 s", "12.3 s", "4:05 min", "2:03:04 h".
function sizes.duration(seconds)
  if seconds < 10 then return ("%.2f s"):format(seconds) end
  if seconds < 59.95 then return ("%.1f s"):format(seconds) end
  local whole = math.floor(seconds + 0.5)
  if whole < 3600 then return ("%d:%02d min"):format(whole // 60, whole % 60) end
  return ("%d:%02d:%02d h"):format(whole // 3600, whole // 60 % 60, whole % 60)
end

return sizes
