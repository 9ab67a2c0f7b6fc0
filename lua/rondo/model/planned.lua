-- planned: the checkpoint that a plan will write, before it is written. It answers like one that
-- was opened, but holds nothing: a tensor is computed when it is asked for, and kept only while
-- somebody uses it.

local config_of = require "rondo.model.config"
local core = require "rondo.core"
local execute = require "rondo.execute"
local json = require "rondo.json"
local plan = require "rondo.plan"
local shape_of = require "rondo.shape"
local tensors = require "rondo.formats.tensors"

local planned = {}

local methods = {}
local meta = { __index = methods, __name = "rondo.planned", __metatable = "locked" }

-- Where the pieces of a job's outputs are put together; finish() gives them by name.
local function memory_sink(job)
  local matrices = {}
  for _, e in ipairs(job.entries) do
    matrices[e] = core.zeros({ tensors.matrix(e) }, e.dtype)
  end
  local function put(e, tensor, row, col)
    local height, width = tensor.shape[1], tensor.shape[2]
    matrices[e][string.format("%d:%d, %d:%d", row, row + height - 1, col, col + width - 1)] = tensor
    return true
  end
  local function put_bytes(e, tensor)
    matrices[e] = tensor
    return true
  end
  local function finish()
    local made = {}
    for e, matrix in pairs(matrices) do made[e.name] = matrix:reshape(e.shape) end
    return made
  end
  return put, put_bytes, finish
end

-- The job that makes the tensor of that name, and its entry there; or nil.
local function job_of(self, name)
  local number = self.number_of[name]
  if not number then return nil end
  local i = self.job_number[number]
  if self.last ~= i then self.last, self.job = i, plan.job(self.plan, i) end
  return self.job, self.job.entries[number - self.plan.first_output[i] + 1]
end

--- The tensor of exactly this name, or nil, message, code.
function methods:tensor(name)
  local job = job_of(self, name)
  if not job then return nil, "no tensor '" .. name .. "'", "usage" end
  if job.action == "copy" then return self.base:tensor(job.name) end
  if self.cache[name] then return self.cache[name] end
  local put, put_bytes, finish = memory_sink(job)
  local done, message, code = execute.job(job, self.base, self.keep, put, put_bytes)
  if not done then return nil, message, code end
  local made = finish()
  for other, tensor in pairs(made) do self.cache[other] = tensor end
  return made[name]
end

function methods:names()
  return table.move(self.list, 1, #self.list, 1, {})
end

function methods:has(name)
  return self.number_of[name] ~= nil
end

--- As for an opened checkpoint, but every tensor is a group of its own.
function methods:groups()
  local numbers = {}
  for i = 1, #self.list do numbers[i] = i end
  return numbers, numbers
end

--- dtype, shape, bytes, file index and offset, as the written file will have them.
function methods:info(name)
  local _, e = job_of(self, name)
  if not e then return nil end
  return e.dtype, table.move(e.shape, 1, #e.shape, 1, {}), e.nbytes, self.file_of[e.file], e.offset
end

--- The full name of a tensor; or nil and the list of names that end so on whole segments.
function methods:resolve(name)
  if self.number_of[name] then return name end
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
    list = {}, number_of = {}, job_number = {}, file_of = {},
    cache = setmetatable({}, { __mode = "v" }),
  }
  for i, file in ipairs(made.files) do self.file_of[file.name] = i end
  for _, shard in ipairs(made.shards) do
    for name, _, _, job in plan.each_output(made, shard) do
      local number = #self.list + 1
      self.list[number], self.number_of[name], self.job_number[number] = name, number, job
    end
  end
  return setmetatable(self, meta)
end

-- A member of config.json as a reader sees it.
local function decoded(value)
  local pieces = {}
  if type(value) ~= "function" then return value end
  value("", function(piece) pieces[#pieces + 1] = piece end)
  return assert(json.decode(table.concat(pieces)))
end

--- The model of a plan's checkpoint, of the same kind as one that was opened.
-- @return the model, or nil, message, code
function planned.model(made)
  local config = config_of.without_quantization(made.model.config or {})
  for _, member in ipairs(made.format.config and made.format.config(made) or {}) do
    config[member[1]] = decoded(member[2])
  end
  local given = { path = made.model.path, folder = made.model.folder, config = config }
  return require("rondo.model").wrap(planned.checkpoint(made), given)
end

return planned
