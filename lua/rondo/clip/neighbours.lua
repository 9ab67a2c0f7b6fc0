-- neighbours: tries the scales that lie around the plain one in the type that scales are stored in,
-- where that is coarse: for e8m0 the exponents next to it, for e4m3 `below` codes less to `above`
-- codes more. With the codes of E2M1, whose largest is 6, scales of up to 1.5 times the plain one
-- map the largest weight to 4 and above: mit-han-lab's "four over six" is among them.

local strategy = require "rondo.strategy"

local MOST = 126 -- the code of 448, the largest of E4M3

-- Candidates of e4m3: the plain codes and a number more.
local function e4m3_scales(start, step)
  local codes = start.stored.scales:to("f8_e4m3"):view("u8"):to("i32")
  local moved = (codes + step):clamp(1, MOST)
  local scales = codes:eq(0):pick(0, moved):to("u8"):view("f8_e4m3"):to("f32")
  return start.stored.factor and (scales * start.stored.factor):to("f32") or scales
end

-- Candidates of e8m0: powers of two as many doublings away.
local function e8m0_scales(start, step)
  return start.scales * 2.0 ^ step
end

local kinds = { e4m3 = e4m3_scales, e8m0 = e8m0_scales }

return strategy.new("neighbours", {
  below = { 4, min = 0, max = 32 }, above = { 6, min = 0, max = 32 },
}, function(weight, scheme, options)
  local candidate, start = kinds[scheme.scale], scheme:quantize(weight)
  local best = strategy.best(weight, scheme, start.scales, start.zeros)
  local below, above = options.below, options.above
  if scheme.scale == "e8m0" then below, above = math.min(below, 1), math.min(above, 1) end
  for step = -below, above do
    if step ~= 0 then best:try(candidate(start, step)) end
  end
  return best.scales, best.zeros
end, nil, function(scheme)
  if not kinds[scheme.scale] then
    return ("it is for scales of e4m3 or e8m0 (rondo.nvfp4, mxfp4, mxfp8), not of %s"):format(
      scheme.scale)
  end
end)
