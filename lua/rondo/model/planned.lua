-- planned: the checkpoint that a plan will write, before it is written. It answers like one that
-- was opened, but holds nothing: a tensor is computed when it is asked for, and kept only while
-- somebody uses it.

local core = require "rondo.core"
local execute = require "rondo.execute"
local shape_of = require "rondo.shape"

local planned = {}

local methods = {}
local meta = { __index = methods, __name = "rondo.planned", __metatable = "locked" }

-- Where the pieces of a job's outputs are put together; finish() gives them by name.
local function memory_sink(job)
  local matrices = {}
  for _, e in ipairs(job.entries) do
    local rows, cols = shape_of.matrix(e.shape)
    matrices[e] = core.zeros({ rows, cols }, e.dtype)
  end
  local function put(e, tensor, row, col)
    local height, width = tensor.shape[1], tensor.shape[2]
    matrices[e][string.format("%d:%d, %d:%d", row, row + height - 1, col, col + width - 1)] = tensor
    return true
  end
  local function finish()
    local made = {}
    for e, matrix in pairs(matrices) do made[e.name] = matrix:reshape(e.shape) end
    return made
  end
  return put, finish
end

--- The tensor of exactly this name, or nil, message, code.
function methods:tensor(name)
  local job = self.job_of[name]
  if not job then return nil, "no tensor '" .. name .. "'", "usage" end
  if job.action == "copy" then return self.base:tensor(job.name) end
  if self.cache[name] then return self.cache[name] end
  local put, finish = memory_sink(job)
  local done, message, code = execute.job(job, self.base, self.keep, put)
  if not done then return nil, message, code end
  local made = finish()
  for other, tensor in pairs(made) do self.cache[other] = tensor end
  return made[name]
end

function methods:names()
  return table.move(self.list, 1, #self.list, 1, {})
end

function methods:has(name)
  return self.entry_of[name] ~= nil
end

--- dtype, shape, bytes, file index and offset, as the written file will have them.
function methods:info(name)
  local e = self.entry_of[name]
  if not e then return nil end
  return e.dtype, table.move(e.shape, 1, #e.shape, 1, {}), e.nbytes, self.file_of[e.file], e.offset
end

--- The full name of a tensor; or nil and the list of names that end so on whole segments.
function methods:resolve(name)
  if self.entry_of[name] then return name end
  local found, ending = {}, "." .. name
  for _, full in ipairs(self.list) do
    if full:sub(-#ending) == ending then found[#found + 1] = full end
  end
  if #found == 1 then return found[1] end
  return nil, found
end

--- Rows and columns of a tensor seen as a matrix.
function methods:read(name, row, rows, col, cols)
  local tensor, message, code = self:tensor(name)
  if not tensor then return nil, message, code end
  local matrix = tensor:reshape { shape_of.matrix(tensor.shape) }
  return matrix[string.format("%d:%d, %d:%d", row, row + rows - 1, col, col + cols - 1)]:clone()
end

--- The files that the tensors are computed from.
function methods:files()
  return self.base:files()
end

function methods:metadata()
  return self.base:metadata()
end

function methods:check()
  return self.base:check()
end

--- The source's files are its own; they stay open.
function methods.close() end

function meta.__len(self)
  return #self.list
end

--- The checkpoint of a plan (rondo.plan). `plan` is that plan.
function planned.checkpoint(made)
  local self = {
    plan = made, base = made.model.checkpoint, keep = made.options.nonfinite == "keep",
    list = {}, job_of = {}, entry_of = {}, file_of = {}, cache = setmetatable({}, { __mode = "v" }),
  }
  for i, file in ipairs(made.files) do self.file_of[file.name] = i end
  for _, job in ipairs(made.jobs) do
    for _, e in ipairs(job.entries) do
      self.list[#self.list + 1] = e.name
      self.job_of[e.name], self.entry_of[e.name] = job, e
    end
  end
  return setmetatable(self, meta)
end

--- The model of a plan's checkpoint, of the same kind as one that was opened.
-- @return the model, or nil, message, code
function planned.model(made)
  local config = {}
  for name, value in pairs(made.model.config or {}) do config[name] = value end
  config.quantization_config = nil
  if made.options.format == "packed" then
    config.quantization_config = require("rondo.formats.packed").config(made)
  end
  local given = { path = made.model.path, folder = made.model.folder, config = config }
  return require("rondo.model").wrap(planned.checkpoint(made), given)
end

return planned
