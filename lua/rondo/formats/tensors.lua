-- formats.tensors: the tensors that a quantized layer is stored in, described once for writing and
-- for reading.
--
-- A description:
--   part      what the tensor's name ends in, behind the layer's; nil: the weight's own name
--   role      codes, scale, zero, values, or one that the format itself knows
--   dtype     in the file; shape, there; size: bytes of an element; nbytes
--   layout    of codes, and of zero points that are integers: core.layout
--   as        the type of number that dtype's bits hold, where that is another: f8_e8m0 in u8
--   times     what scales are multiplied by to be stored
--   transposed  scales and zero points that are numbers stand [groups, out]
--   bytes     codes are bytes, though dtype is another type of number
--   width     of the matrix that stands in the tensor row after row, whatever the shape says
--   from      function (what rondo.params found) -> tensor [rows, cols] to be stored
--   constant  function () -> tensor: what is known without the weights

local core = require "rondo.core"
local shape_of = require "rondo.shape"

local tensors = {}

local dtype_bytes = { f64 = 8, f32 = 4, f16 = 2, bf16 = 2, i8 = 1, i16 = 2, i32 = 4, i64 = 8,
                      u8 = 1, u32 = 4, f8_e4m3 = 1, f8_e8m0 = 1 }

--- The dtypes that schemes call scales of.
tensors.scale_dtypes = { f32 = "f32", f16 = "f16", bf16 = "bf16", e4m3 = "f8_e4m3",
                         e8m0 = "f8_e8m0" }

--- A description; more: its further fields.
function tensors.new(part, role, dtype, shape, more)
  local size = dtype_bytes[dtype]
  local description = { part = part, role = role, dtype = dtype, shape = shape, size = size,
                        nbytes = shape_of.count(shape) * size }
  for name, value in pairs(more or {}) do description[name] = value end
  return description
end

--- A tensor that holds the same for every layer of that shape.
function tensors.constant(part, dtype, shape, make)
  return tensors.new(part, "constant", dtype, shape, { constant = make })
end

--- Rows and columns of a tensor seen as the matrix that stands in it.
function tensors.matrix(description)
  local rows, cols = shape_of.matrix(description.shape)
  if not description.width then return rows, cols end
  return rows * cols // math.max(description.width, 1), description.width
end

--- What all scales of a tensor are multiplied by, a number of its own; inverse: divided by.
function tensors.factor(part, shape, inverse)
  return tensors.new(part, "factor", "f32", shape, { inverse = inverse, from = function(found)
    local factor = found.stored.factor
    return core.full({ 1, 1 }, inverse and 1 / factor or factor, "f32")
  end })
end

-- ---- Layouts ----

local known = {}

local function text_of(value)
  return type(value) == "table" and table.concat(value, " ") or tostring(value)
end

local signed_words = { u8 = "i8", u16 = "i16", u32 = "i32", u64 = "i64" }

-- What makes words of the kernels (codes of `bits` bits, two's complement, as they come) those of a
-- layout: { word, flip, recode } where that is no more than a bit flipped in each field, or other
-- codes and another order in each word; else nil.
local function direct_of(given, word)
  local width, bits, add = 8 * dtype_bytes[word], given.bits, given.add or 0
  local half, recode = 1 << bits - 1, (given.map or given.order) ~= nil
  if given.dense and width % bits ~= 0 then return nil end
  if recode and (bits ~= 4 or width > 32 or given.map and width ~= 8) then return nil end
  if add ~= 0 and add ~= half then return nil end
  local flip = 0
  for field = 0, width // bits - 1 do flip = flip | add << field * bits end
  if width < 64 and flip >= 1 << width - 1 then flip = flip - (1 << width) end
  return { word = signed_words[word] or word, flip = flip ~= 0 and flip or nil, recode = recode }
end

--- A layout of a description as core.layout takes it, made once: native, dim, transposed, word;
--- unit: codes that only go together; bits; direct: see ask.
function tensors.layout(given)
  local parts = {}
  for name, value in pairs(given) do parts[#parts + 1] = name .. "=" .. text_of(value) end
  table.sort(parts)
  local text = table.concat(parts, ",")
  if not known[text] then
    local made, word = core.layout(given), given.word or "u8"
    known[text] = { native = made, dim = given.dim or 1, transposed = given.transposed or false,
                    unit = made:unit(), bits = given.bits, word = word,
                    direct = direct_of(given, word) }
  end
  return known[text]
end

--- Asks core.quantize, by its options, for what makes words of that layout.
function tensors.ask(layout, options)
  local direct = layout.direct
  if not direct then options.codes = true return end
  options.words, options.word_dtype, options.word_dim = true, direct.word, layout.dim
end

-- All codes flipped; what no code fills stays 0.
local function flipped(layout, words, flip, rows, cols)
  words = words ~ flip
  local line = layout.dim == 1 and cols or rows
  local rest = line % layout.native:unit()
  if rest == 0 then return words end
  local last = layout.native:words(line)
  local place = (layout.dim == 1 and ":, %d:%d" or "%d:%d, :"):format(last, last)
  words[place] = words[place] & ((1 << rest * layout.bits) - 1)
  return words
end

--- The words of what core.quantize then gives for a tile of that shape.
function tensors.words_of(layout, result, rows, cols)
  if not layout.direct then return layout.native:pack(result.codes) end
  local words, flip = result.words, layout.direct.flip
  if flip then words = flipped(layout, words, flip, rows, cols) end
  if layout.direct.recode then words = layout.native:recode(words) end
  if layout.transposed then words = words:transpose():contiguous() end
  return words:view(layout.word)
end

--- Codes or zero points, a matrix or several one below the other, in words.
-- @param dims  { rows, cols } or { matrices, rows, cols } of the codes
function tensors.words(part, role, dtype, dims, layout)
  local rows, cols = layout.native:shape(dims[#dims - 1], dims[#dims])
  local shape = #dims == 3 and { dims[1], rows, cols } or { rows, cols }
  return tensors.new(part, role, dtype, shape, { layout = layout })
end

--- The place of a code's word, 1-based. The code is the first of a unit.
function tensors.place(layout, row, col)
  local above, left = row - 1, col - 1
  if layout.dim == 1 then left = layout.native:words(left)
  else above = layout.native:words(above) end
  if layout.transposed then above, left = left, above end
  return above + 1, left + 1
end

-- ---- Numbers ----

local EXPONENT = 1 << 23 -- of an f32, as an integer

--- Scales, f32, as they are stored.
function tensors.encode(description, numbers)
  local number, dtype = description.as or description.dtype, description.dtype
  if description.times then numbers = numbers * description.times end
  if number ~= "f8_e8m0" then return numbers:to(number):view(dtype) end
  return (numbers:contiguous():view("i32") // EXPONENT):to("u8"):view(dtype)
end

--- The reverse: what is stored as f32. The exponent 255 is an infinity.
function tensors.decode(description, stored)
  local number = description.as or description.dtype
  if number ~= "f8_e8m0" then
    local numbers = stored:view(number):to("f32")
    return description.times and numbers / description.times or numbers
  end
  local bits = stored:view("u8"):to("i32") * EXPONENT
  return bits:maximum(EXPONENT // 2):contiguous():view("f32") -- 2^-127 has no exponent
end

return tensors
