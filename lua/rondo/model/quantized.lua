-- quantized: a model with a plan on top: what rtn.rtn_quantize returns. It looks like the model that
-- rondo.open gives for the written checkpoint, but holds nothing: a tensor is computed when it is
-- asked for, and kept only while somebody uses it.

local core = require "rondo.core"
local execute = require "rondo.execute"

local quantized = {}

local methods = {}
local meta = { __name = "rondo.model.quantized", __metatable = "locked" }

-- ---- Tensors ----

-- Outputs of a job in memory: entry -> tensor [rows, cols] while it is filled, then in its shape.
local function memory_sink(job)
  local made, matrices = {}, {}
  for _, e in ipairs(job.entries) do
    if e.role == "bytes" then
      matrices[e] = core.zeros({ e.nbytes }, "u8")
    else
      local rows = 1
      for i = 1, #e.shape - 1 do rows = rows * e.shape[i] end
      matrices[e] = core.zeros({ rows, e.shape[#e.shape] or 1 }, e.dtype)
    end
  end
  local function put(e, tensor, row, col)
    local height, width = tensor.shape[1], tensor.shape[2]
    matrices[e][string.format("%d:%d, %d:%d", row, row + height - 1, col, col + width - 1)] = tensor
    return true
  end
  local function finish()
    for e, matrix in pairs(matrices) do made[e.name] = matrix:reshape(e.shape) end
    return made
  end
  return put, finish
end

-- Runs the job that makes `name`; tensors that are only copied come from the source itself.
local function compute(self, name)
  local job = self.job_of[name]
  if job.action == "copy" then return self.base:tensor(job.name) end
  local put, finish = memory_sink(job)
  local done, message, code = execute.job(job, self.base.checkpoint, self.keep, put)
  if not done then return nil, message, code end
  local made = finish()
  for made_name, tensor in pairs(made) do self.cache[made_name] = tensor end
  return made[name]
end

--- The tensor of that exact name, or nil, message, code.
function methods:tensor(name)
  if not self.job_of[name] then
    return nil, string.format("%s: no tensor '%s'", self.path, tostring(name)), "usage"
  end
  local cached = self.cache[name]
  if cached then return cached end
  return compute(self, name)
end

--- Name, dtype, shape and size of a tensor, or nil.
function methods:info(name)
  local e = self.entry_of[name]
  return e and { name = name, dtype = e.dtype, shape = e.shape, nbytes = e.nbytes }
end

-- ---- Layers ----

-- The outputs as a checkpoint, for the reader of packed layers.
local function as_checkpoint(self)
  local view = {}
  function view.info(_, name)
    local e = self.entry_of[name]
    if e then return e.dtype, e.shape end
  end
  function view.read(_, name, row, rows, col, cols)
    local tensor, message, code = self:tensor(name)
    if not tensor then return nil, message, code end
    local shape, all = tensor.shape, 1
    for i = 1, #shape - 1 do all = all * shape[i] end
    local matrix = tensor:reshape { all, shape[#shape] }
    return matrix[string.format("%d:%d, %d:%d", row, row + rows - 1, col, col + cols - 1)]
      :contiguous()
  end
  return view
end

local layer_methods = {}

--- The layer's weight as its codes give it: f32 for a packed layer, the source's dtype otherwise.
function layer_methods:dequantize()
  local job, model = self.job, self.model
  if not job.packing then
    local tensor, message = model:tensor(job.entries[1].name)
    if not tensor then error(message, 2) end
    return tensor
  end
  local packed = require "rondo.formats.packed"
  local source = assert(packed.source(as_checkpoint(model), self.name, packed.fields(job)))
  local values, message = source:read(1, source.rows, 1, source.cols)
  if not values then error(message, 2) end
  return values:reshape(self.shape)
end

local lazy = {}
function lazy.weight(self) return self:dequantize() end

function lazy.bias(self)
  if not self.bias_name then return nil end
  return assert(self.model:tensor(self.bias_name))
end

local layer_meta = { __name = "rondo.layer", __metatable = "locked" }

function layer_meta.__index(self, key)
  if lazy[key] then return lazy[key](self) end
  return layer_methods[key]
end

local function layer_of(self, original, job)
  local fields = { model = self, job = job, scheme = job.scheme }
  for _, name in ipairs { "name", "tensor_name", "bias_name", "kind", "shape", "dtype", "rank",
                          "stacked", "transposed", "depth", "depth_count", "tied" } do
    fields[name] = original[name]
  end
  return setmetatable(fields, layer_meta)
end

--- Iterates over the quantized layers: name, layer. A layer has name, shape, dtype (of the source),
--- scheme, weight, bias, and dequantize().
function methods:layers()
  local i = 0
  return function()
    while true do
      i = i + 1
      local job = self.made.jobs[i]
      if not job then return nil end
      if job.action == "quantize" then return job.layer.name, layer_of(self, job.layer, job) end
    end
  end
end

-- ---- Saving ----

--- Writes the checkpoint; see rondo.quantize.
-- @param options  overwrite = false, progress = nil
-- @return the report, or nil, message, code
function methods:save(dir, options)
  local o = require("rondo.options").check("save", options, {
    overwrite = { kind = "boolean", default = false },
    progress = { kind = "custom", says = "a function",
                 check = function(f) return type(f) == "function" and f or nil end },
  })
  return require("rondo.quantize").execute(self.made, dir, o.overwrite, o.progress)
end

-- ---- The model ----

local known_fields = { config = function(self) return self.base.config end }

function meta.__index(self, key)
  local method = methods[key]
  if method then return method end
  if known_fields[key] then return known_fields[key](self) end
  if type(key) ~= "string" or not self.job_of[key] then
    error(string.format("%s: no tensor or field '%s'", rawget(self, "path"), tostring(key)), 2)
  end
  local tensor, message = self:tensor(key)
  if not tensor then error(message, 2) end
  return tensor
end

function meta.__tostring(self)
  local t = self.made.totals
  return string.format("%s quantized (%s): %d tensors, %d layers", self.path,
                       self.made.options.format, #self.names, t.quantized)
end

--- A model of what a plan will write.
-- @param made  what plan.make gives
function quantized.new(made)
  local self = { made = made, base = made.model, path = made.model.path, names = {}, job_of = {},
                 entry_of = {}, keep = made.options.nonfinite == "keep",
                 cache = setmetatable({}, { __mode = "v" }) }
  for _, job in ipairs(made.jobs) do
    for _, e in ipairs(job.entries) do
      self.names[#self.names + 1] = e.name
      self.job_of[e.name], self.entry_of[e.name] = job, e
    end
  end
  return setmetatable(self, meta)
end

return quantized
