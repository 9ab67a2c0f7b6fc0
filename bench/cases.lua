-- The kernels that are measured: what goes in, what comes out, how the toolkit calls them.
local core = require "rondo.core"

local cases = {}

local COLUMNS = 4096
local PIECE = 4 * 1024 * 1024 -- weights made at a time
local EXPERTS = 16

local made = {} -- weights by dtype

--- A matrix of about that many MiB, kept for the next case. Heavy-tailed, as trained weights are;
--- the piece that repeats is larger than a core's own caches.
function cases.weights(dtype, mib)
  if made[dtype] then return made[dtype] end
  local rows_at_once = PIECE // COLUMNS
  local piece = core.randn({ rows_at_once, COLUMNS }, 1)
  piece = (piece * (core.randn({ rows_at_once, COLUMNS }, 2) * 0.4):exp() * 0.02):to(dtype)
  local pieces = math.max(1, mib * 1024 * 1024 // piece.nbytes)
  local w = core.zeros({ pieces * rows_at_once, COLUMNS }, dtype)
  for i = 0, pieces - 1 do
    w[("%d:%d, :"):format(i * rows_at_once + 1, (i + 1) * rows_at_once)] = piece
  end
  made[dtype] = w
  return w
end

-- "int4 asym g128 bf16 packed"
local function named(case)
  local words = { case.data_type == "int" and "int" .. case.bits or case.data_type }
  if case.data_type == "int" then words[#words + 1] = case.symmetric and "sym" or "asym" end
  words[#words + 1] = case.group and "g" .. case.group or "row"
  words[#words + 1] = case.dtype
  words[#words + 1] = case.out
  if case.group_dim == 0 then words[#words + 1] = "dim0" end
  if case.experts then words[#words + 1] = "rank3" end
  case.name = table.concat(words, " ")
  return case
end

--- A case. Fields: data_type, bits, symmetric, group (nil: a row), dtype of the weights, out
--- ("packed", "fake" or "search"), group_dim, experts (rank 3: as many matrices).
function cases.make(fields)
  local case = { data_type = "int", bits = 4, symmetric = false, dtype = "bf16", out = "packed",
                 group_dim = 1 }
  for name, value in pairs(fields) do case[name] = value end
  return named(case)
end

-- Each of the list's cases with each of the values in a field; false stands for a field left out.
local function product(list, field, values)
  local result = {}
  for _, fields in ipairs(list) do
    for _, value in ipairs(values) do
      local changed = {}
      for name, old in pairs(fields) do changed[name] = old end
      changed[field] = value or nil
      result[#result + 1] = changed
    end
  end
  return result
end

--- Everything that `kernels` measures.
function cases.all()
  local list = {}
  local function add(more)
    for _, fields in ipairs(more) do list[#list + 1] = cases.make(fields) end
  end
  local outs, groups = { "packed", "fake" }, { 32, 64, 128, false }
  local ints = product(product({ {} }, "bits", { 2, 3, 4, 8 }), "symmetric", { false, true })
  add(product(product(ints, "group", groups), "out", outs))
  add(product(product(product(ints, "dtype", { "f16", "f32" }), "group", { 128 }), "out", outs))
  local codebooks = product({ {} }, "data_type", { "nf4", "fp4" })
  add(product(product(codebooks, "group", groups), "out", outs))
  local others = product({ { group_dim = 0 }, { experts = EXPERTS } }, "symmetric", { false, true })
  add(product(product(others, "group", { 32, 128 }), "out", outs))
  return list
end

--- The few that `isa` compares.
function cases.few()
  return {
    cases.make { group = 128 }, cases.make { group = 128, symmetric = true },
    cases.make { group = 32 }, cases.make { group = 128, out = "fake" },
    cases.make { group = 128, data_type = "nf4" }, cases.make { group = 128, group_dim = 0 },
  }
end

-- The tensors that a call fills, and the call. This is the one place that knows the core's call.
local function packed_call(case, grid, w, options)
  local rows, cols, fields = w.shape[1], w.shape[2], 32 // case.bits
  options.words = core.zeros({ rows, (cols + fields - 1) // fields }, "i32")
  local bytes = w.nbytes + options.words.nbytes + options.scale.nbytes
  if case.data_type == "int" and not case.symmetric then bytes = bytes + options.zero.nbytes end
  return bytes, function() assert(core.quantize(grid, w, options)) end
end

local function fake_call(case, grid, w, options)
  options.values, options.values_dtype = core.zeros(w.shape, case.dtype), case.dtype
  options.scale, options.zero = nil, nil
  return w.nbytes + options.values.nbytes, function() assert(core.quantize(grid, w, options)) end
end

local function search_call(_, grid, w, options)
  local ratios = require("rondo.stream").search_ratios
  options.ratios, options.losses = core.tensor(ratios, "f32"), core.zeros({ #ratios }, "f64")
  return w.nbytes, function() assert(core.losses(grid, w, options)) end
end

local calls = { packed = packed_call, fake = fake_call, search = search_call }

-- One matrix: the bytes that a call reads and writes, and the call.
local function matrix(case, grid, w)
  local rows, cols = w.shape[1], w.shape[2]
  local line = case.group_dim == 1 and cols or rows
  local group = case.group or line
  local groups = (line + group - 1) // group
  local shape = case.group_dim == 1 and { rows, groups } or { groups, cols }
  return calls[case.out](case, grid, w, {
    group_size = group, group_dim = case.group_dim, scale = core.zeros(shape, "f32"),
    zero = core.zeros(shape, "u8") })
end

--- Makes a case ready: the bytes that a run reads and writes, its weights, and the run.
function cases.prepare(case, mib)
  local w = cases.weights(case.dtype, mib)
  local grid = core.grid(case.data_type, case.bits, case.symmetric, false)
  local count = w.shape[1] * w.shape[2]
  if not case.experts then
    local bytes, run = matrix(case, grid, w)
    return bytes, count, run
  end
  local height, total, runs = w.shape[1] // case.experts, 0, {}
  for i = 1, case.experts do
    local bytes
    bytes, runs[i] = matrix(case, grid, w:rows((i - 1) * height + 1, i * height))
    total = total + bytes
  end
  return total, count, function()
    for _, run in ipairs(runs) do run() end
  end
end

return cases
