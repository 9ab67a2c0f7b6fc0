-- formats: how quantized layers lie in checkpoints, a file of this folder for each format.
--
-- A format is a table:
--   name      as option `format` says it
--   fit(scheme, about) -> the scheme in which the format stores a layer that a recipe quantizes
--             with `scheme` (the type of its scales, say), or nil and why it has no place for it.
--             about: { name, path, kind, dtype, shape, transposed, options, has_below }: the
--             layer's weight; options: those of rondo.plan; has_below(): whether engines put
--             another layer below it in one matrix. For formats.fit and formats.outputs, too,
--             types: the model's types, a set; biased: whether experts in one tensor have biases
--             in another
--   outputs(about, scheme) -> descriptions (rondo.formats.tensors) of the tensors it is stored in
--   experts   what becomes of experts that are stacked in one tensor: "split" or "stack", see
--             rondo.formats.pieces; fit and outputs get what these are then. Without it they are
--             stored as they stand
--   reference true: codes come from f32 scales, whatever these are stored in
--   bias(scheme)  the dtype of a quantized layer's bias; without it biases stay as they are
--   check(layers) -> nil, or what is wrong with the layers taken together; layers: the iterator
--             plan.layers
--   remark(layers, plan) -> nil, or what a user should know of them, for a warning
--   metadata  what the files' __metadata__ call the format, where it is not the source's or "pt"
--   config(plan) -> list of { key, value }: members of config.json; value: for rondo.json, or a
--             function (margin, emit) that writes it
--   files(plan) -> list of { name, text } beside it
--   open(checkpoint, described, config) -> the quantized layers of a checkpoint, a list of records,
--             and the names of tensors that belong to the quantization, but to no layer's values
--             (scales of activations, of caches), or nil; or nil, message, code; described: what
--             config.json says of the quantization
--
-- A record:
--   name         the layer's module path
--   weight       the name that its weight has where it is not quantized
--   tensor_name  the tensor that stands for it in the file's order
--   dtype, shape of the weight before it was quantized
--   source       its values, see rondo.model.source; made anew with each access
--   parts        the tensors that it is made of, without the bias; tensor_name first

local pieces = require "rondo.formats.pieces"

local formats = {}

local function module(name) return function() return require("rondo.formats." .. name) end end

local function version(number)
  return function() return require("rondo.formats.gptq").versions[number] end
end

local writers = {
  fake = module "fake", packed = module "packed",
  ["compressed-tensors"] = module "compressed_tensors", gptq = version(1), ["gptq-v2"] = version(2),
  awq = module "awq", mlx = module "mlx", bitsandbytes = module "bitsandbytes",
  fp8 = module "fp8", modelopt = module "modelopt",
}

-- quant_method -> the file that reads it. Others open as plain tensors under the file's own names.
local readers = { rondo = "packed", ["compressed-tensors"] = "compressed_tensors", gptq = "gptq",
                  awq = "awq", mlx = "mlx", bitsandbytes = "bitsandbytes", fp8 = "fp8",
                  modelopt = "modelopt" }

--- The names of all formats that can be written.
formats.names = { "fake", "packed", "compressed-tensors", "gptq", "gptq-v2", "awq", "mlx",
                  "bitsandbytes", "fp8", "modelopt" }

--- A format by its name.
function formats.get(name)
  return writers[name]()
end

-- What a format is told of a piece of a layer.
local function about_piece(about, piece)
  return { name = about.name, path = pieces.path(about.path, piece), kind = about.kind,
           dtype = about.dtype, shape = piece.shape, options = about.options,
           transposed = about.transposed and not piece.turned,
           has_below = function() return about.has_below(piece) end }
end

--- The scheme in which a format stores a layer, or nil and why it has no place for it.
function formats.fit(format, scheme, about)
  local list, reason = pieces.of(format, about)
  if not list then return nil, reason end
  return format.fit(scheme, about_piece(about, list[1])) -- they all have the same shape
end

--- The pieces of a layer, and descriptions of all their tensors: piece is the number of each one's.
function formats.outputs(format, about, scheme)
  local list, outputs = assert(pieces.of(format, about)), {}
  for number, piece in ipairs(list) do
    for _, e in ipairs(format.outputs(about_piece(about, piece), scheme)) do
      e.piece = number
      outputs[#outputs + 1] = e
    end
  end
  return outputs, list
end

--- The records of a quantized checkpoint; none where nobody here reads the method.
function formats.open(checkpoint, method, described, config)
  local reader = readers[method]
  if not reader then return nil end
  return require("rondo.formats." .. reader).open(checkpoint, described, config)
end

--- Whether checkpoints of that quant_method are read.
function formats.reads(method)
  return readers[method] ~= nil
end

return formats
