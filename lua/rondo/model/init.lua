-- model: a checkpoint seen as a model. Names, config, layers, ties; tensors when they are wanted.
--
-- Opening reads headers only, and nothing here walks the tensors before it is asked to: names,
-- layers, ties and suggestions are worked out at first use.
--
-- Fields of a model:
--   path          as given to open
--   folder        the folder in Hugging Face layout, or nil for a single file
--   names         the names of all tensors, in file order
--   config        config.json decoded (null is rondo.json.null), or nil; quantization_config may
--                 be what a file beside it says
--   quantization  the method the checkpoint says it is quantized with ("gptq", "rondo"), or nil
--   tied          a list of { name, target }: `name` (which the file need not hold) uses `target`
--   depth         the number of layers of the language model, 0 where nothing says so
--   metadata      strings of the file's __metadata__, or nil
--   checkpoint    the core object: files, offsets, reading by tiles
-- model["name"] is a tensor, by its full name or by an unambiguous end of it on whole segments. It
-- is nil where the module is there but has no such tensor (a bias, say); a name of no module, or
-- one that fits several tensors, is an error.

local config = require "rondo.model.config"
local core = require "rondo.core"
local formats = require "rondo.formats"
local layer_of = require "rondo.model.layer"
local layers_of = require "rondo.model.layers"
local lfs = require "lfs"
local options = require "rondo.options"
local strays = require "rondo.formats.strays"
local suggest = require "rondo.model.suggest"
local text = require "rondo.model.text"
local tied_of = require "rondo.model.tied"

local model = {}

-- What a model consists of: its fields, records of quantized layers, the list of layers, ... The
-- table that people hold stays empty, so that nothing in it can be overwritten.
local hidden = setmetatable({}, { __mode = "k" })

local methods, Model = {}, { __name = "rondo.model", __metatable = "locked" }

-- ---- Fields worked out at first use ----

local lazy = {}

function lazy.names(self)
  return self.checkpoint:names()
end

function lazy.metadata(self)
  return self.checkpoint:metadata()
end

local function layer_list(self)
  local own = hidden[self]
  if not own.layers then
    own.layers = layers_of.new(self.checkpoint, self.names, self.config, own.records, own.others)
  end
  return own.layers
end

function lazy.tied(self)
  return tied_of.find(self.names, layer_list(self).group_of, self.config, function(a, b)
    local _, left = self.checkpoint:info(a)
    local _, right = self.checkpoint:info(b)
    return table.concat(left, ",") == table.concat(right, ",")
  end)
end

function lazy.depth(self)
  local said = config.get(self.config, "num_hidden_layers", "integer")
  if said then return said end
  local most = 0
  for _, count in pairs(layers_of.counts(layer_list(self))) do most = math.max(most, count) end
  return most
end

-- Fields that may be nil.
local optional = { folder = true, config = true, quantization = true, metadata = true }

-- ---- Names ----

local function candidates_text(found)
  local shown = {}
  for i = 1, math.min(#found, 3) do shown[i] = text.quote(found[i]) end
  local more = #found > 3 and (" and %d more"):format(#found - 3) or ""
  return table.concat(shown, ", ") .. more
end

-- " (...)" for a name, or the end of one, whose tensor is stored under another's name.
local function shared_with(self, name)
  for _, tie in ipairs(self.tied) do
    if tie.name == name or tie.name:sub(-#name - 1) == "." .. name then
      return (": it is tied to %s, which is stored once"):format(text.quote(tie.target))
    end
  end
end

local function did_you_mean(self, name)
  local function exists(other) return self.checkpoint:resolve(other) ~= nil end
  local meant = suggest.name(self.names, name, exists)
  return meant and ("; did you mean %s?"):format(text.quote(meant)) or ""
end

local function ambiguous(self, name, found)
  return nil, ("'%s' fits %d tensors of %s: %s"):format(text.show(name), #found,
    text.path(self.path), candidates_text(found)), "usage", true
end

local function ends_in(name, last)
  return name == last or name:sub(-#last - 1) == "." .. last
end

-- " (...)" for the name of a layer, or of its weight, that is stored quantized, or the end of one.
local function quantized_as(self, name)
  for _, record in ipairs(hidden[self].records or {}) do
    if ends_in(record.weight, name) or ends_in(record.name, name) then
      return (": it is quantized; model:layer(%q).weight dequantizes it"):format(record.name)
    end
  end
end

-- The full name of a tensor, or nil, message, code, and whether several fit.
local function resolve(self, name)
  local full, found = self.checkpoint:resolve(name)
  if full then return full end
  if #found > 0 then return ambiguous(self, name, found) end
  return nil, ("no tensor %s in %s%s"):format(text.quote(name), text.path(self.path),
    shared_with(self, name) or quantized_as(self, name) or did_you_mean(self, name)), "usage", false
end

-- Whether a module of that name is there: a tensor whose name, or the end of it, is the same but
-- for the last segment.
local function has_module(self, name)
  local parent = name:match "^(.*)%.[^.]*$"
  local known = hidden[self].modules
  if not known then
    known = {}
    for _, full in ipairs(self.names) do known[full:match "^(.*)%.[^.]*$" or ""] = true end
    hidden[self].modules = known
  end
  if known[parent or ""] then return true end
  if not parent then return false end
  for module in pairs(known) do
    if module:sub(-#parent - 1) == "." .. parent then return true end
  end
  return false
end

local function check_string(what, value, level)
  if type(value) ~= "string" then
    error(("bad argument #1 to '%s' (string expected, got %s)"):format(what, type(value)),
      (level or 2) + 1)
  end
end

-- ---- Methods ----

--- A tensor by its full name or an unambiguous end of it; or nil, message, code.
function methods:tensor(name)
  check_string("tensor", name)
  local full, message, code = resolve(self, name)
  if not full then return nil, message, code end
  return self.checkpoint:tensor(full)
end

--- Whether the file holds a tensor of exactly this name.
function methods:has(name)
  check_string("has", name)
  return self.checkpoint:has(name)
end

--- { name, dtype, shape, nbytes, file, offset } of a tensor, found as by tensor(); file is a path,
-- offset that of the first byte in it. Or nil, message, code.
function methods:info(name)
  check_string("info", name)
  local full, message, code = resolve(self, name)
  if not full then return nil, message, code end
  local dtype, shape, nbytes, file, offset = self.checkpoint:info(full)
  return { name = full, dtype = dtype, shape = shape, nbytes = nbytes,
           file = self.checkpoint:files()[file].path, offset = offset }
end

local function tied_set(self)
  local own = hidden[self]
  if not own.tied then
    own.tied = {}
    for _, tie in ipairs(self.tied) do own.tied[tie.name], own.tied[tie.target] = true, true end
  end
  return own.tied
end

local function make_layer(self, list, name, what)
  return layers_of.make(list, self, name, what, tied_set(self)[name] or false)
end

local function wanted_kinds(kind)
  if kind == nil then return layer_of.linear end
  if kind == "all" then return nil end
  if not layer_of.linear[kind] and not layer_of.rest[kind] then
    error(("bad argument #1 to 'layers' (unknown kind %s; known: all, linear, lm_head, router, "
      .. "expert, embedding, norm, other)"):format(text.quote(tostring(kind))), 3)
  end
  return { [kind] = true }
end

--- for name, layer in model:layers() do ... end: the linear layers (kinds linear, lm_head, router,
-- expert) in the model's order, numbers counted as numbers, otherwise as in the file. With a kind,
-- those of that kind; with "all", every module that has a weight.
function methods:layers(kind)
  local wanted = wanted_kinds(kind)
  local list, i = layer_list(self), 0
  local numbers = layers_of.ordered(list)
  return function()
    local number, what
    repeat
      i = i + 1
      number = numbers[i]
      if not number then return nil end
      what = layers_of.at(list, number)
    until not wanted or wanted[what.kind]
    local layer = make_layer(self, list, list.names[number], what)
    return layer.name, layer
  end
end

-- The tensor that stands for a layer, and what it is: by its path, or an unambiguous end of it.
local function layer_tensor(self, list, path)
  local endings = layers_of.tensor_names(path)
  for _, ending in ipairs(endings) do
    local full, found = self.checkpoint:resolve(ending)
    local what = full and layers_of.what(list, full)
    if what then return full, what end
    if found and #found > 0 then return ambiguous(self, ending, found) end
  end
  return nil, ("no layer %s in %s%s"):format(text.quote(path), text.path(self.path),
    did_you_mean(self, endings[1])), "usage"
end

--- One layer of any kind by its path, or an unambiguous end of it; or nil, message, code.
function methods:layer(path)
  check_string("layer", path)
  local list = layer_list(self)
  local name, what, code = layer_tensor(self, list, path)
  if not name then return nil, what, code end
  return make_layer(self, list, name, what)
end

--- The tensor that the tensor `name` shares, or nil where it has its own.
function methods:tied_to(name)
  check_string("tied_to", name)
  for _, tie in ipairs(self.tied) do
    if tie.name == name then return tie.target end
  end
end

local function check_function(what, f)
  if type(f) ~= "function" then
    error(("bad argument #1 to '%s' (function expected, got %s)"):format(what, type(f)), 3)
  end
end

--- The model with its tensors changed, computed when they are asked for: to be looked at, saved or
-- quantized, one tensor at a time.
-- @param f  function (name, tensor) -> tensor of the same shape, or nil to leave it as it is. The
--           result is stored in the dtype of the source.
-- @param given  { by = "rows" }: f gets some rows at a time, [rows, cols] with leading dimensions
--               in rows, and as a third argument the first row's number; it must treat every row
--               by itself. Memory then stays small however large a tensor is. name: what messages
--               call f.
-- @return a model; the one it comes from must stay open
function methods:map(f, given)
  check_function("map", f)
  local o = options.check("map", given, {
    by = { kind = "choice", choices = { "tensor", "rows" }, default = "tensor" },
    name = { kind = "string", default = "map" },
  }, 2)
  return require("rondo.model.mapped").model(self, { change = f, by_rows = o.by == "rows",
                                                     name = o.name })
end

--- The model without the tensors whose names a function does not want.
-- @param f  function (name) -> whether the tensor stays
-- @return a model; the one it comes from must stay open
function methods:filter(f)
  check_function("filter", f)
  return require("rondo.model.mapped").model(self, { keep = f })
end

--- Writes the model as a checkpoint of its own: an opened one as it is, the one of
-- rtn.rtn_quantize quantized.
-- @param dir  the folder to make; it appears whole, or not at all
-- @param given  overwrite = false: replace an existing folder; shard_size = 5e9 bytes (of an opened
--               model); progress: function (done_bytes, total_bytes, tensor name)
-- @return a report (see rondo.report), or nil, message, code
function methods:save(dir, given)
  check_string("save", dir)
  return require("rondo.quantize").save(self, dir, given)
end

--- Lets go of the files. Tensors that were read stay valid; the model is of no use any more.
function methods:close()
  self.checkpoint:close()
end

-- ---- The object ----

local function known_fields()
  local names = { "path", "checkpoint" }
  for name in pairs(lazy) do names[#names + 1] = name end
  for name in pairs(optional) do
    if not lazy[name] then names[#names + 1] = name end
  end
  table.sort(names)
  return table.concat(names, ", ")
end

local function tensor_field(self, name)
  local full, message, _, several = resolve(self, name)
  if not full then
    if not several and has_module(self, name) and not quantized_as(self, name) then return nil end
    local hint = name:find(".", 1, true) and "" or (" (fields: %s)"):format(known_fields())
    error(message .. hint, 3)
  end
  local tensor, why = self.checkpoint:tensor(full)
  if not tensor then error(why, 3) end
  return tensor
end

function Model.__index(self, key)
  if methods[key] then return methods[key] end
  local fields = hidden[self].fields
  if fields[key] == nil and lazy[key] then fields[key] = lazy[key](self) end
  if fields[key] ~= nil or optional[key] then return fields[key] end
  if type(key) ~= "string" then
    error(("a model is indexed by names of tensors, not by a %s"):format(type(key)), 2)
  end
  return tensor_field(self, key)
end

function Model.__newindex(_, key)
  error(("a model cannot be changed (field '%s')"):format(text.show(tostring(key))), 2)
end

function Model.__close(self)
  self:close()
end

-- Calls count(dtype, shape) for every tensor; quantized layers count as what they were made of.
local function each_parameter(self, count)
  local parts = {}
  for _, record in ipairs(hidden[self].records or {}) do
    count(record.dtype, record.shape)
    for _, part in ipairs(record.parts) do parts[part] = true end
  end
  for _, name in ipairs(hidden[self].others) do parts[name] = true end
  for _, name in ipairs(self.names) do
    if not parts[name] then count(self.checkpoint:info(name)) end
  end
end

-- The number of elements, and their types: "bf16", or "bf16 + f32" with the most frequent first.
local function totals(self)
  local elements, by_type, types = 0, {}, {}
  each_parameter(self, function(dtype, shape)
    local count = 1
    for _, d in ipairs(shape) do count = count * d end
    elements = elements + count
    if not by_type[dtype] then by_type[dtype], types[#types + 1] = 0, dtype end
    by_type[dtype] = by_type[dtype] + count
  end)
  table.sort(types, function(a, b)
    if by_type[a] ~= by_type[b] then return by_type[a] > by_type[b] end
    return a < b
  end)
  return elements, table.concat(types, " + ")
end

local function summary(self)
  local elements, types = totals(self)
  local list, linear = layer_list(self), 0
  for number = 1, #self.names do
    local what = layers_of.at(list, number)
    if what and layer_of.linear[what.kind] then linear = linear + 1 end
  end
  return ("model %s: %d %s, %s parameters%s, %d linear %s%s"):format(text.path(self.path),
    #self.names, #self.names == 1 and "tensor" or "tensors", text.thousands(elements),
    types ~= "" and ", " .. types or "", linear, linear == 1 and "layer" or "layers",
    self.quantization and ", quantized: " .. text.show(self.quantization) or "")
end

function Model.__tostring(self)
  local ok, line = pcall(summary, self)
  return ok and line or ("model %s (closed)"):format(text.path(self.path))
end

--- Makes a model of a checkpoint, or of anything with its methods (names, groups, has, info,
-- resolve, tensor, files, metadata, read, check, close).
-- @param given  { path =, folder = nil, config = nil }
-- @return the model, or nil, message, code where the checkpoint is quantized in a way it does not
--         keep to
function model.wrap(checkpoint, given)
  local method, how = config.quantization(given.config)
  local records, others, code
  if method and formats.reads(method) then
    records, others, code = formats.open(checkpoint, method, how, given.config)
    if not records then return nil, ("%s: %s"):format(text.path(given.path), others), code end
  end
  local self = {}
  hidden[self] = {
    records = records, others = others or {}, described = how,
    fields = { path = given.path, folder = given.folder, config = given.config,
               quantization = method, checkpoint = checkpoint },
  }
  return setmetatable(self, Model)
end

-- ---- Opening ----

-- The folder that a path stands for: itself, or the one of an index; nil for a single file.
local function folder_of(path)
  if lfs.attributes(path, "mode") == "directory" then return path end
  if not path:find "%.json$" then return nil end
  local folder = path:match "^(.*)/[^/]*$"
  if folder == "" then return "/" end
  return folder or "."
end

-- A model that is whole as far as its method is read; or nil, message, code.
local function checked(opened, message, code)
  if not opened then return nil, message, code end
  local own = hidden[opened]
  message = own.records and strays.complaint(opened.checkpoint, opened.quantization, own.records)
  if message then return nil, ("%s: %s"):format(text.path(opened.path), message), "format" end
  return opened
end

--- Opens a model.
-- @param path  a folder in Hugging Face layout, its index, or one safetensors file
-- @param given { mode = "map" } tensors are views of the mapped file, "read": copies
-- @return the model, or nil, message, code
function model.open(path, given)
  check_string("open", path)
  local o = options.check("open", given, {
    mode = { kind = "choice", choices = { "map", "read" }, default = "map" },
  }, 3)
  local checkpoint, message, code = core.checkpoint(path, o.mode)
  if not checkpoint then return nil, message, code end
  local folder = folder_of(path)
  local fields
  if folder then fields, message, code = config.of_folder(folder) end
  local opened
  if fields or not message then
    local about = { path = path, folder = folder, config = fields }
    opened, message, code = checked(model.wrap(checkpoint, about))
  end
  if not opened then checkpoint:close() return nil, message, code end
  return opened
end

--- What a model knows of its layers, see rondo.model.layers; and the set of the tensors that are
--- shared.
function model.layer_list(self)
  return layer_list(self), tied_set(self)
end

--- What a model's configuration says of its quantization, as rondo.formats has it: { method,
--- described, records (nil where nobody reads the method) }; empty for one that is not quantized.
function model.quantization_of(self)
  local own = hidden[self]
  return { method = own.fields.quantization, described = own.described, records = own.records }
end

--- The layer that stands in exactly this tensor, or nil.
function model.layer_of(self, tensor_name)
  local list = layer_list(self)
  local what = layers_of.what(list, tensor_name)
  return what and make_layer(self, list, tensor_name, what)
end

--- The name of the layer that a path most likely stands for, or nil; for messages.
function model.meant_layer(self, path)
  local list = layer_list(self)
  local function exists(name) return layers_of.what(list, name) ~= nil end
  local meant = suggest.name(self.names, layers_of.tensor_names(path)[1], exists)
  return meant and layers_of.what(list, meant) and layers_of.path(list, meant)
end

--- Whether a value is a model.
function model.is_model(value)
  return type(value) == "table" and hidden[value] ~= nil
end

--- Reads one config.json alone; see rondo.model.config.
model.config = config.read

return model
