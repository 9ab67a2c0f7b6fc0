-- mapped: a checkpoint whose tensors are those of another, changed by a function or left out.
-- Nothing is computed before it is asked for, and nothing is kept longer than somebody uses it, so
-- that a model of any size can be changed and saved one tensor, or some rows, at a time.

local blame = require "rondo.blame"
local core = require "rondo.core"
local shape_of = require "rondo.shape"

local mapped = {}

local methods = {}
local meta = { __index = methods, __name = "rondo.mapped", __metatable = "locked" }

for _, name in ipairs { "info", "files", "metadata", "check" } do
  methods[name] = function(self, ...) return self.base[name](self.base, ...) end
end

-- ---- Names ----

function methods:names()
  return table.move(self.list, 1, #self.list, 1, {})
end

function methods:has(name)
  return self.kept[name] ~= nil
end

--- As for an opened checkpoint: the groups of the tensors that are left.
function methods:groups()
  local group_of, first, renumbered = {}, {}, {}
  local original = self.base:groups()
  for number, name in ipairs(self.list) do
    local group = original[self.kept[name]]
    if not renumbered[group] then
      first[#first + 1] = number
      renumbered[group] = #first
    end
    group_of[number] = renumbered[group]
  end
  return group_of, first
end

--- The full name of a tensor; or nil and the list of names that end so on whole segments.
function methods:resolve(name)
  if self.kept[name] then return name end
  local found, ending = {}, "." .. name
  for _, full in ipairs(self.list) do
    if full:sub(-#ending) == ending then found[#found + 1] = full end
  end
  if #found == 1 then return found[1] end
  return nil, found
end

-- ---- Tensors ----

local function same_shape(a, b)
  return table.concat(a, ",") == table.concat(b, ",")
end

-- What the function makes of a tensor, or of some rows of it, in the dtype of the source.
local function changed(self, name, tensor, row)
  local where = self.name .. ": " .. name
  local result = blame(where, self.change, name, tensor, row)
  if result == nil then return tensor end
  if not core.is_tensor(result) then
    error(("%s: the function gives a tensor or nil, not a %s"):format(where, type(result)), 0)
  elseif not same_shape(result.shape, tensor.shape) then
    error(("%s: the function must keep the shape [%s], not make it [%s]"):format(where,
      table.concat(tensor.shape, ", "), table.concat(result.shape, ", ")), 0)
  end
  return result:to(tensor.dtype)
end

--- The tensor of exactly this name, or nil, message, code.
function methods:tensor(name)
  if self.cache[name] then return self.cache[name] end
  if not self.kept[name] then return nil, "no tensor '" .. name .. "'", "usage" end
  local tensor, message, code = self.base:tensor(name)
  if not tensor or not self.change then return tensor, message, code end
  local made
  if self.by_rows then
    local matrix = tensor:reshape { shape_of.matrix(tensor.shape) }
    made = changed(self, name, matrix, 1):reshape(tensor.shape)
  else
    made = changed(self, name, tensor)
  end
  self.cache[name] = made
  return made
end

--- Rows and columns of a tensor seen as a matrix.
function methods:read(name, row, rows, col, cols)
  if self.by_rows and self.change then
    local width = select(2, shape_of.matrix((select(2, self.base:info(name)))))
    local block, message, code = self.base:read(name, row, rows, 1, width)
    if not block then return nil, message, code end
    block = changed(self, name, block, row)
    if cols == width then return block end
    return block[(":, %d:%d"):format(col, col + cols - 1)]:contiguous()
  end
  local tensor, message, code = self:tensor(name)
  if not tensor then return nil, message, code end
  local matrix = tensor:reshape { shape_of.matrix(tensor.shape) }
  return matrix[("%d:%d, %d:%d"):format(row, row + rows - 1, col, col + cols - 1)]:clone()
end

-- Elements first .. first+count-1 (from 0), by the rows they stand in.
local function elements_by_rows(self, name, shape, first, count)
  local _, width = shape_of.matrix(shape)
  local row, last = first // width, (first + count - 1) // width
  local block, message, code = self:read(name, row + 1, last - row + 1, 1, width)
  if not block then return nil, message, code end
  local skip = first - row * width
  return block:contiguous():reshape { -1 }[("%d:%d"):format(skip + 1, skip + count)]
end

--- Some bytes of a tensor, as u8 [count]; offset from 0, both whole elements.
function methods:read_bytes(name, offset, count)
  local dtype, shape, nbytes = self.base:info(name)
  local size = nbytes // math.max(shape_of.count(shape), 1)
  local values, message, code
  if self.by_rows and self.change and count > 0 and #shape > 0 then
    values, message, code = elements_by_rows(self, name, shape, offset // size, count // size)
  else
    values, message, code = self:tensor(name)
    if values and count < nbytes then
      values = values:contiguous():reshape { -1 }
      values = values[("%d:%d"):format(offset // size + 1, (offset + count) // size)]
    end
  end
  if not values then return nil, ("%s (%s): %s"):format(name, dtype, message), code end
  return core.from_bytes(values:contiguous():bytes(), "u8", { count })
end

--- The source's files are its own; they stay open.
function methods.close() end

function meta.__len(self)
  return #self.list
end

-- ---- Making one ----

-- base: a checkpoint; given: change, by_rows, name (of the change, for messages), keep (function of
-- a tensor's name).
local function checkpoint(base, given)
  local self = { base = base, change = given.change, by_rows = given.by_rows, name = given.name,
                 list = {}, kept = {}, cache = setmetatable({}, { __mode = "v" }) }
  for number, name in ipairs(base:names()) do
    if not given.keep or given.keep(name) then
      self.list[#self.list + 1], self.kept[name] = name, number
    end
  end
  return setmetatable(self, meta)
end

--- A model of the same kind whose tensors are changed or left out; see model:map, model:filter.
function mapped.model(model, given)
  local about = { path = model.path, folder = model.folder, config = model.config }
  return require("rondo.model").wrap(checkpoint(model.checkpoint, given), about)
end

return mapped
