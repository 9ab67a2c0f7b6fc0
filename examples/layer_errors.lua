-- Which layers of a model suffer most from 3 bits, with and without a clip search? And a policy
-- that follows from it: 8 bits for the worst, 4 for the others.
--
--   build/rondo run examples/layer_errors.lua MODEL [OUT]

local rondo = require "rondo"

local path, out = arg[1], arg[2]
if not path then
  io.stderr:write("usage: rondo run examples/layer_errors.lua MODEL [OUT]\n")
  os.exit(2)
end
local model = assert(rondo.open(path))

-- Sum of squared differences over sum of squares.
local function relative_error(w, q)
  local d = w - q
  return (d * d):sum() / (w * w):sum()
end

local rows = {}
for name, layer in model:layers() do
  local options = { num_bits = 3, group_size = 64 }
  local plain = relative_error(layer.weight, rondo.rtn.quant_weight(layer.weight, options))
  options.quantile = rondo.rtn.search_clip(layer, options)
  local searched = relative_error(layer.weight, rondo.rtn.quant_weight(layer.weight, options))
  rows[#rows + 1] = { name = name, plain = plain, searched = searched, ratio = options.quantile }
end

table.sort(rows, function(a, b) return a.searched > b.searched end)
for i = 1, math.min(5, #rows) do
  local row = rows[i]
  print(("%-40s plain %.4f   clipped at %.3f %.4f"):format(row.name, row.plain, row.ratio,
                                                         row.searched))
end

if out then
  local config = {}
  for i = 1, math.min(2, #rows) do config[rows[i].name] = { bits = 8, group_size = "row" } end
  local report = assert(rondo.quantize(model, out, { format = "packed", config = config }))
  print(("%s: %.2f bits per weight, SNR %.1f dB"):format(out, report.totals.bits_per_weight,
                                                         report.totals.snr_db))
end
