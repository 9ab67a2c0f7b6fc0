-- plan: what becomes of every tensor of a model, decided before any computing and without touching
-- weights: source, scheme, deciding rule, output file, offset and size.
--
-- A plan is a list of jobs in the model's order. A job makes one or more output tensors from one
-- source tensor:
--   { action = "copy" }      the same bytes
--   { action = "cast" }      the same values in another dtype (the bias of a packed layer)
--   { action = "quantize" }  a layer: values ("fake"), or words, scale and zero ("packed")

local core = require "rondo.core"
local options = require "rondo.options"
local packed = require "rondo.formats.packed"
local pattern = require "rondo.pattern"
local scheme_of = require "rondo.scheme"
local shape_of = require "rondo.shape"
local source = require "rondo.model.source"

local plan = {}

-- ---- Options ----

local word_names = { i8 = "i8", i16 = "i16", i32 = "i32", i64 = "i64",
                     int8 = "i8", int16 = "i16", int32 = "i32", int64 = "i64" }
local scale_names = { f32 = "f32", f16 = "f16", bf16 = "bf16",
                      float32 = "f32", float16 = "f16", bfloat16 = "bf16" }

local function group_size(value)
  if value == "row" then return -1 end
  local whole = math.type(value) ~= nil and math.tointeger(value)
  if whole and (whole == -1 or whole >= 1) then return whole end
end

--- Describes the options of plan.make, for rondo.options.
plan.description = {
  bits = { kind = "integer", min = 1, max = 16, default = 4 },
  group_size = { kind = "custom", check = group_size, default = 32,
                 says = "-1 (a whole row), \"row\" or an integer of at least 1" },
  scheme = { kind = "choice", choices = { "asym", "sym" }, default = "asym" },
  dtype = { kind = "choice", choices = scheme_of.data_types, default = "int" },
  group_dim = { kind = "integer", min = 0, max = 1, default = 1 },
  full_range = { kind = "boolean", default = false },
  quantile = { kind = "number", above = 0, max = 1, default = 1.0 },
  mse_search = { kind = "boolean", default = false },
  format = { kind = "choice", choices = { "fake", "packed" }, default = "fake" },
  config = { kind = "table" },
  exclude = { kind = "table" },
  compression_dtype = { kind = "custom", default = "i32", says = "int8, int16, int32 or int64",
                        check = function(value) return word_names[value] end },
  compression_dim = { kind = "integer", min = 0, max = 1, default = 1 },
  scale_dtype = { kind = "custom", default = "f32", says = "float32, float16 or bfloat16",
                  check = function(value) return scale_names[value] end },
  shard_size = { kind = "number", min = 1, default = 5e9 },
  nonfinite = { kind = "choice", choices = { "error", "keep" }, default = "error" },
}

local layer_rules = {
  bits = plan.description.bits,
  group_size = plan.description.group_size,
  scheme = plan.description.scheme,
  quantile = plan.description.quantile,
  gptq_perm = {
    kind = "custom", says = "a list of integers",
    check = function(value)
      if type(value) ~= "table" then return nil end
      for _, index in ipairs(value) do
        if math.type(index) ~= "integer" then return nil end
      end
      return value
    end,
  },
}

-- A layer's entry of the configuration, checked. Fields that are missing take the call's value,
-- but for quantile: 1.0, as in the reference. gptq_perm is accepted and unused, as there.
local function layer_config(where, path, given)
  local name = string.format("%s: config '%s'", where, path)
  if type(given) ~= "table" then
    error(name .. " must be a table of bits, group_size, scheme, quantile", 0)
  end
  local result = {}
  for field, value in pairs(given) do
    local rule = layer_rules[field]
    if not rule then
      error(string.format("%s: unknown field '%s' (known: bits, gptq_perm, group_size, quantile, "
                          .. "scheme)", name, tostring(field)), 0)
    end
    result[field] = options.value(name, field, rule, value, 0)
  end
  return result
end

local function check_config(where, model, config)
  local checked, known = {}, {}
  for name in model:layers() do known[name] = true end
  for path, given in pairs(config or {}) do
    if not known[path] then
      error(string.format("%s: config names '%s', which is no linear layer of %s", where,
                          tostring(path), model.path), 0)
    end
    checked[path] = layer_config(where, path, given)
  end
  return checked
end

local function matches_any(names, matches)
  for _, name in ipairs(names) do
    if matches(name) then return true end
  end
  return false
end

local function check_exclude(where, model, list)
  local matchers, context = {}, { first = 0, last = math.max(model.depth - 1, 0) }
  for i, text in ipairs(list or {}) do
    local good, matcher = pcall(pattern.compile, text, context)
    if not good then error(string.format("%s: exclude[%d]: %s", where, i, matcher), 0) end
    matchers[i] = { text = text, matches = matcher.test }
    if not matches_any(model.names, matcher.test) then
      warn(string.format("exclude '%s' matches no tensor of %s", text, model.path))
    end
  end
  return matchers
end

-- Codebooks have 4 bits; only the reference function takes other numbers for "int".
local function check_bits(where, o, bits)
  if o.dtype ~= "int" and bits ~= 4 and not o.reference then
    error(string.format("%s: dtype %s has 4 bits; bits must be 4, not %d", where, o.dtype, bits), 0)
  end
  if o.format == "packed" and bits > 8 then
    error(string.format("%s: packed codes have at most 8 bits, not %d", where, bits), 0)
  end
end

-- Options that would do nothing. The reference function takes them all the same.
local function check_combination(where, o)
  if o.mse_search and o.quantile ~= 1 then
    error(where .. ": mse_search finds the clip ratio itself; leave quantile out", 0)
  end
  local symmetric = o.scheme == "sym" and o.dtype == "int"
  if o.full_range and not symmetric and not next(o.config or {}) then
    error(where .. ": full_range needs scheme = \"sym\" and dtype = \"int\"", 0)
  end
end

local function check_options(where, model, given, level, reference)
  if not require("rondo.model").is_model(model) then
    error(string.format("%s: a model from rondo.open is expected, not a %s", where, type(model)),
          level + 1)
  end
  local o = options.check(where, given, plan.description, level + 1)
  o.reference, o.schemes = reference or false, {}
  check_bits(where, o, o.bits)
  if not reference then check_combination(where, o) end
  if o.nonfinite == "keep" and o.format == "packed" then
    error(where .. ": nonfinite = \"keep\" is for values: codes cannot hold NaN or infinity", 0)
  end
  o.exclude = check_exclude(where, model, o.exclude)
  o.config = check_config(where, model, o.config)
  for path, config in pairs(o.config) do
    check_bits(string.format("%s: config '%s'", where, path), o, config.bits or o.bits)
  end
  return o
end

-- ---- Deciding ----

local quantizable = { f32 = true, f16 = true, bf16 = true }

-- The scheme of a layer, one object for all layers that have the same. Groups run along the input
-- channels for group_dim 1; a transposed layer keeps those in its rows.
local function layer_scheme(o, layer, config)
  local bits = config and config.bits or o.bits
  local data_type = bits == 4 and o.dtype or "int"
  local flip = layer.transposed and 1 - o.group_dim or o.group_dim
  local fields = {
    data_type = data_type, bits = bits, scheme = config and config.scheme or o.scheme,
    full_range = o.full_range, group_size = config and config.group_size or o.group_size,
    group_dim = flip, quantile = config and (config.quantile or 1.0) or o.quantile,
  }
  local key = table.concat({ data_type, bits, fields.scheme, fields.group_size, flip,
                             string.format("%a", fields.quantile) }, " ")
  if not o.schemes[key] then o.schemes[key] = scheme_of.new(fields) end
  return o.schemes[key]
end

local linear = { linear = true, lm_head = true, router = true, expert = true }
local other_kinds = { embedding = "embedding", norm = "norm", other = "not a linear layer" }

-- Why a linear layer is kept, or nil.
local function kept_because(o, layer)
  for _, rule in ipairs(o.exclude) do
    if rule.matches(layer.name) or rule.matches(layer.tensor_name) then
      return "exclude " .. rule.text
    end
  end
  if not quantizable[layer.dtype] then return "dtype " .. layer.dtype .. " is not quantized" end
  if o.config[layer.name] then return nil end
  if layer.tied then return "tied to the embedding" end
  if o.reference then return nil end
  if layer.kind == "lm_head" then return "lm_head is kept" end
  if layer.kind == "router" then return "routers are kept" end
end

local dtype_bytes = { f64 = 8, f32 = 4, f16 = 2, bf16 = 2, i8 = 1, i16 = 2, i32 = 4, i64 = 8 }

-- An output tensor; size: bytes of an element.
local function entry(name, role, dtype, shape)
  local size = dtype_bytes[dtype]
  return { name = name, role = role, dtype = dtype, shape = shape, size = size,
           nbytes = shape_of.count(shape) * size }
end

-- Output tensors of a packed layer: the reference's WeightOnlyLinear.
local function packed_entries(layer, scheme, whole, packing, scale_dtype)
  local rows, cols = whole.rows // math.max(whole.slices, 1), whole.cols
  local function shaped(a, b)
    return #layer.shape == 3 and { layer.shape[1], a, b } or { a, b }
  end
  local scale_rows, scale_cols = rows, scheme:groups(cols)
  if scheme.group_dim == 0 then scale_rows, scale_cols = scheme:groups(rows), cols end
  local list = {
    entry(packed.member(layer.name, "packed_weight"), "words", packing.dtype,
          shaped(packed.in_words(packing, rows, cols))),
    entry(packed.member(layer.name, "scale"), "scale", scale_dtype, shaped(scale_rows, scale_cols)),
  }
  if scheme:has_zero() then
    list[3] = entry(packed.member(layer.name, "packed_zp"), "zero", packing.dtype,
                    shaped(packed.in_words(packing, scale_rows, scale_cols)))
  end
  return list
end

local function packing_of(o, scheme)
  return { dtype = o.compression_dtype, dim = o.compression_dim,
           fields = packed.word_bits[o.compression_dtype] // scheme.bits }
end

local function quantize_job(o, layer, rule)
  local config = o.config[layer.name]
  local scheme = layer_scheme(o, layer, config)
  local job = { action = "quantize", name = layer.tensor_name, layer = layer, scheme = scheme,
                rule = rule, search = o.mse_search, weights = shape_of.count(layer.shape) }
  if o.format == "packed" then
    job.packing = packing_of(o, scheme)
    job.scale_dtype = o.scale_dtype
    job.entries = packed_entries(layer, scheme, layer.source, job.packing, o.scale_dtype)
  else
    job.entries = { entry(packed.plain_name(layer), "values", layer.dtype, layer.shape) }
  end
  return job
end

-- A layer of a packed source that is kept is written as plain values.
local function unpack_job(layer, rule)
  return { action = "cast", name = layer.tensor_name, rule = rule, layer = layer,
           source = layer.source,
           entries = { entry(packed.plain_name(layer), "values", layer.dtype, layer.shape) } }
end

local function copy_job(info, rule)
  return { action = "copy", name = info.name, rule = rule,
           entries = { { name = info.name, role = "bytes", dtype = info.dtype, shape = info.shape,
                         nbytes = info.nbytes } } }
end

-- The bias of a packed layer stands in the scales' dtype.
local function bias_job(o, info, layer)
  if info.dtype == o.scale_dtype then return copy_job(info, "bias") end
  return { action = "cast", name = info.name, rule = "bias of a packed layer",
           source = source.stored(layer.model.checkpoint, info.name, info.dtype, info.shape),
           entries = { entry(info.name, "values", o.scale_dtype, info.shape) } }
end

-- What is done with each layer, by tensor name: jobs; reasons to keep (kept); layers whose bias
-- follows them into the packed format, by the bias's name; and the tensors of packed sources that
-- are parts of a layer, with the tensor that stands for the layer.
local function decide(model, o)
  local d = { jobs = {}, kept = {}, biases = {}, parts = {} }
  for _, layer in model:layers("all") do
    local reason = linear[layer.kind] and kept_because(o, layer) or other_kinds[layer.kind]
    if reason then
      d.kept[layer.tensor_name] = reason
      if layer.quantized then d.jobs[layer.tensor_name] = unpack_job(layer, reason) end
    else
      local rule = o.config[layer.name] and "config '" .. layer.name .. "'" or "linear layer"
      d.jobs[layer.tensor_name] = quantize_job(o, layer, rule)
      if o.format == "packed" and layer.bias_name then d.biases[layer.bias_name] = layer end
    end
    if layer.quantized then
      d.parts[packed.member(layer.name, "scale")] = layer.tensor_name
      d.parts[packed.member(layer.name, "packed_zp")] = layer.tensor_name
    end
  end
  return d
end

-- ---- Files ----

local function shard_name(i, n)
  return n == 1 and "model.safetensors" or string.format("model-%05d-of-%05d.safetensors", i, n)
end

-- Cuts the jobs into shards of at most `limit` bytes; the tensors of one job stay together.
local function make_shards(jobs, limit)
  local shards, current = {}, nil
  for _, job in ipairs(jobs) do
    local bytes = 0
    for _, e in ipairs(job.entries) do bytes = bytes + e.nbytes end
    if not current or (current.bytes > 0 and current.bytes + bytes > limit) then
      current = { jobs = {}, bytes = 0, index = #shards + 1 }
      shards[#shards + 1] = current
    end
    current.bytes = current.bytes + bytes
    current.jobs[#current.jobs + 1] = job
  end
  return shards
end

-- Gives every entry of a shard its offset in the file, and the shard its header.
local function lay_out(shard, name, metadata)
  local list = {}
  for _, job in ipairs(shard.jobs) do
    for _, e in ipairs(job.entries) do list[#list + 1] = e end
  end
  local header, offsets = core.safetensors_header(list, metadata)
  shard.name, shard.header = name, header
  shard.size = #header + shard.bytes
  for i, e in ipairs(list) do
    e.file, e.offset = name, #header + offsets[i]
  end
end

-- ---- The plan ----

local function row_of(job, info)
  local after, about = 0, job.layer or info
  for _, e in ipairs(job.entries) do after = after + e.nbytes end
  local weights = shape_of.count(about.shape)
  return {
    name = info.name, shape = about.shape, dtype = about.dtype, action = job.action,
    rule = job.rule, scheme = job.scheme and job.scheme:label(),
    bits = weights > 0 and after * 8 / weights or 0,
    bytes_before = info.nbytes, bytes_after = after,
  }
end

local function add_totals(made)
  local t = { tensors = #made.rows, quantized = 0, weights = 0, tensor_bytes = 0, bytes_before = 0,
              bytes_after = 0 }
  local quantized_bytes = 0
  for _, file in ipairs(made.model.checkpoint:files()) do
    t.bytes_before = t.bytes_before + file.size
  end
  for i, row in ipairs(made.rows) do
    t.tensor_bytes = t.tensor_bytes + row.bytes_before
    if row.action == "quantize" then
      t.quantized = t.quantized + 1
      t.weights = t.weights + made.jobs[i].weights
      quantized_bytes = quantized_bytes + row.bytes_after
    end
  end
  for _, file in ipairs(made.files) do t.bytes_after = t.bytes_after + file.size end
  t.bits = t.weights > 0 and quantized_bytes * 8 / t.weights or 0
  made.totals = t
end

-- The jobs and rows of all tensors, in the model's order.
local function fill(made, d)
  local row_by_name = {}
  for _, name in ipairs(made.model.names) do
    if not d.parts[name] then
      local info = made.model:info(name)
      local job = d.jobs[name] or (d.biases[name] and bias_job(made.options, info, d.biases[name]))
        or copy_job(info, d.kept[name] or "not a linear layer")
      local row = row_of(job, info)
      made.jobs[#made.jobs + 1], made.rows[#made.rows + 1] = job, row
      row_by_name[name] = row
    end
  end
  for part, whole in pairs(d.parts) do
    local info = made.model:has(part) and made.model:info(part)
    if info then row_by_name[whole].bytes_before = row_by_name[whole].bytes_before + info.nbytes end
  end
end

-- The text of model.safetensors.index.json, or nil where one file holds everything.
local function index_text(made)
  if #made.shards < 2 then return nil end
  local json = require "rondo.json"
  local map, total = {}, 0
  for _, shard in ipairs(made.shards) do
    total = total + shard.bytes
    for _, job in ipairs(shard.jobs) do
      for _, e in ipairs(job.entries) do map[e.name] = shard.name end
    end
  end
  return json.encode(json.object { { "metadata", json.object { { "total_size", total } } },
                                   { "weight_map", map } }, { indent = 2 }) .. "\n"
end

-- Completes a plan whose decisions stand: jobs, files, sizes.
local function finish(made, decisions)
  fill(made, decisions)
  made.shards = make_shards(made.jobs, made.options.shard_size)
  local metadata = made.model.checkpoint:metadata() or {}
  metadata.format = metadata.format or "pt"
  for i, shard in ipairs(made.shards) do
    lay_out(shard, shard_name(i, #made.shards), metadata)
    made.files[i] = { name = shard.name, size = shard.size }
  end
  made.index = index_text(made)
  if made.index then
    made.files[#made.files + 1] = { name = "model.safetensors.index.json", size = #made.index }
  end
  add_totals(made)
  return made
end

-- What a user should know, though it stops nothing.
local function remark(made)
  local model = made.model
  if made.totals.quantized == 0 then
    warn(string.format("%s: nothing is quantized: no linear layer is left (convolutions, recurrent "
                       .. "weights, embeddings and norms are copied)", model.path))
  elseif model.quantization then
    warn(string.format("%s is packed already; its dequantized weights are quantized again",
                       model.path))
  end
end

--- Plans the quantization of a model.
-- @param model  what rondo.open gives
-- @param given  options, see plan.description; nil for the defaults
-- @return { model, options, jobs, rows, shards, files, totals }; rows: one per source tensor in the
--         model's order, for people; files: { name, size } of every weight file and the index
-- Raises for options that make no sense; `where` names the caller in messages.
-- @param reference  as rtn.rtn_quantize: lm_head and routers are quantized too, a codebook with
--                   other than 4 bits means the integer rule, options without effect are accepted
function plan.make(model, given, level, where, reference)
  local o = check_options(where or "plan", model, given, (level or 1) + 1, reference)
  if model.quantization and model.quantization ~= "rondo" then
    return nil, string.format("%s: already quantized (quant_method \"%s\"); quantize the original "
                              .. "checkpoint", model.path, model.quantization), "unsupported"
  end
  local made = finish({ model = model, options = o, jobs = {}, rows = {}, files = {} },
                      decide(model, o))
  remark(made)
  return made
end

--- Plans a copy of the model as it is.
function plan.copy(model, shard_size)
  local o = { format = "copy", shard_size = shard_size, config = {}, exclude = {} }
  return finish({ model = model, options = o, jobs = {}, rows = {}, files = {} },
                { jobs = {}, kept = {}, biases = {}, parts = {} })
end

return plan
