-- double: scales that are quantized in turn, in groups over all of them, row by row, less their
-- mean where the scheme says so.
--
-- A function (scales, double) -> the scales as they are read again, and what is stored:
--   map "int"      { codes = i8 [n], scales = f32 [groups], mean }: symmetric integers
--   map "dynamic"  { codes = u8 [n], scales = f32 [groups], mean, map = f32 [256] }: each group
--                  over its largest magnitude, by the nearest entry of the map (of two as near, the
--                  lower); read again as map[code + 1] * scale + mean, in f32
-- mean is 0 where it is not wanted.

local core = require "rondo.core"
local f32 = require "rondo.f32"

-- bitsandbytes' signed map of 8 bits: decades from 10^-6 on, each cut into twice as many steps as
-- the one before, by the steps' centers in f32; and 0 and 1.
local function make_dynamic_map()
  local map = { 0, 1 }
  for decade = 0, 6 do
    local steps, power = 1 << decade, f32(10.0 ^ (decade - 6))
    local step = f32(f32(1 - f32(0.1)) / steps)
    local function edge(i) -- from the nearer end
      if i < (steps + 1) // 2 then return f32(f32(0.1) + f32(step * i)) end
      return f32(1 - f32(step * (steps - i)))
    end
    for i = 0, steps - 1 do
      local center = f32(power * f32(f32(edge(i) + edge(i + 1)) / 2))
      map[#map + 1], map[#map + 2] = center, -center
    end
  end
  table.sort(map)
  return map
end

local dynamic_map

local function dynamic(flat, size)
  dynamic_map = dynamic_map or core.tensor(make_dynamic_map(), "f32")
  local count = #flat
  local groups = (count + size - 1) // size
  local lines = core.zeros { groups * size }
  lines["1:" .. count] = flat
  lines = lines:reshape { groups, size }
  local largest = lines:abs():max(2, { keep = true })
  local over = lines / largest:eq(0):pick(1, largest)
  local codes, values = core.nearest(over:reshape { groups * size }, dynamic_map)
  values = values:reshape { groups, size } * largest
  local function cut(t) return t:reshape({ groups * size })["1:" .. count]:contiguous() end
  return cut(values), { codes = cut(codes), scales = largest:reshape { groups },
                        map = dynamic_map:clone() }
end

local function integers(flat, size, bits)
  local grid = core.grid("int", bits, true, false)
  local result = assert(core.quantize(grid, flat:reshape { 1, #flat }, {
    group_size = size, values = true, codes = true, scale = true }))
  local groups = result.scale.shape[2]
  return result.values:reshape { #flat }, { codes = result.codes:reshape { #flat },
                                            scales = result.scale:reshape { groups } }
end

return function(scales, double)
  local flat = scales:reshape { scales.shape[1] * scales.shape[2] }
  local mean = double.mean and #flat > 0 and f32(flat:mean()) or 0
  local size = math.min(double.group_size, math.max(#flat, 1))
  local rest = (flat - mean):contiguous()
  local values, stored
  if #flat > 0 and double.map == "dynamic" then values, stored = dynamic(rest, size)
  else values, stored = integers(rest, size, double.bits) end
  stored.mean = mean
  return (values + mean):contiguous():reshape(scales.shape), stored
end
