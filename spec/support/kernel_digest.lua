-- Prints one line per case: what the kernels give for odd shapes and hard values. Run by isa_spec
-- under each instruction set and several numbers of threads; all runs must print the same.

local core = require "rondo.core"

if arg[1] then core.threads(math.tointeger(tonumber(arg[1]))) end

-- A checksum over bytes, good enough to tell runs apart (FNV-1a, 64 bits).
local function digest(tensor)
  local bytes, h = tensor:bytes(), 0xcbf29ce484222325
  bytes = bytes .. ("\0"):rep(-#bytes % 8)
  for i = 1, #bytes, 8 do
    h = (h ~ string.unpack("<I8", bytes, i)) * 0x100000001b3
    h = h ~ (h >> 29)
  end
  return string.format("%016x", h)
end

-- Heavy-tailed weights with ties, zeros, denormals and outliers in known places.
local function weights(rows, cols, seed)
  local w = core.randn({ rows, cols }, seed)
  w = w * w * w
  w["1, :"] = 0.0
  if rows > 2 then w["2, :"] = 0.5 end
  if rows > 3 then w["3, :"] = w["3, :"] * 1e-42 end
  w[string.format("%d, %d", rows, cols)] = 97.25
  return w
end

local grids = {
  { "int", 2, false, false }, { "int", 4, false, false }, { "int", 8, false, false },
  { "int", 1, true, false }, { "int", 3, true, false }, { "int", 4, true, true },
  { "int", 8, true, false }, { "nf4", 4, true, false }, { "fp4", 4, true, false },
  { "fp4_e2m1", 4, true, false }, { "e2m1", 4, true, false }, { "fp8", 8, true, false },
  { "affine", 3, false, false },
}
local shapes = { { 1, 1 }, { 5, 7 }, { 4, 31 }, { 7, 33 }, { 3, 513 }, { 40, 257 }, { 2, 4500 } }

for _, g in ipairs(grids) do
  local grid = core.grid(table.unpack(g))
  for i, shape in ipairs(shapes) do
    for _, dtype in ipairs { "f32", "bf16" } do
      local w = weights(shape[1], shape[2], i):to(dtype)
      for _, dim in ipairs { 0, 1 } do
        for _, group in ipairs { 1, 5, 32, 100000 } do
          local sums = core.sums()
          local losses = core.zeros({ 3 }, "f64")
          local o = { group_size = group, group_dim = dim, values = true, values_dtype = dtype,
                      codes = true, scale = true, zero = true, sums = sums, losses = losses,
                      ratios = core.tensor({ 1, 0.9, 0.8 }, "f32") }
          local q = assert(core.quantize(grid, w, o))
          assert(core.losses(grid, w, o))
          local by_group = core.zeros(q.scale.shape, "f64")
          o.losses, o.ratios, o.group_losses, o.power = nil, nil, by_group, 2.5
          o.scales, o.zeros = q.scale, q.zero
          if g[1] ~= "affine" then o.scale_dtype = "f8_e8m0" end
          assert(core.losses(grid, w, o))
          local nothing = assert(core.quantize(grid, w, { group_size = group, group_dim = dim,
                                                          scales = q.scale * 0, codes = true }))
          print(g[1], g[2], shape[1] .. "x" .. shape[2], dtype, dim, group, digest(q.values),
                digest(q.codes), digest(q.scale), q.zero and digest(q.zero) or "-",
                ("%a %a"):format(sums:values()), digest(losses), digest(by_group),
                digest(nothing.codes))
        end
      end
    end
  end
end
