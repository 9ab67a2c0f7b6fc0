-- Comparing what tensors hold with nested tables written by hand. NaN equals NaN, and -0 differs
-- from 0; integers differ from floats.

local values = {}

local function text(v)
  if type(v) ~= "table" then
    if v ~= v then return "nan" end
    return math.type(v) == "float" and string.format("%.17g%s", v, v % 1 == 0 and ".0" or "")
      or tostring(v)
  end
  local list = {}
  for i, x in ipairs(v) do list[i] = text(x) end
  return "{" .. table.concat(list, ", ") .. "}"
end

-- "f32 {1.0, 2.0}": floats with all their digits.
function values.text(tensor) return tensor.dtype .. " " .. text(tensor:totable()) end

-- Asserts dtype and elements. Elements of a float type may be written as integers.
function values.check(tensor, dtype, expected)
  local floats = dtype:find "f" == 1 or dtype:find "bf" == 1
  local function as_written(v)
    if type(v) == "table" then
      local list = {}
      for i, x in ipairs(v) do list[i] = as_written(x) end
      return list
    end
    return floats and v * 1.0 or v
  end
  assert(type(tensor) == "userdata", "a tensor expected, got " .. tostring(tensor))
  local want, got = dtype .. " " .. text(as_written(expected)), values.text(tensor)
  if want ~= got then error("expected " .. want .. "\n     got " .. got, 2) end
end

-- Asserts that f fails with a message that holds all the given pieces, as plain text.
function values.fails(f, ...)
  local ok, message = pcall(f)
  if ok then error("should have failed", 2) end
  for _, piece in ipairs { ... } do
    if not tostring(message):find(piece, 1, true) then
      error(string.format("%q does not say %q", tostring(message), piece), 2)
    end
  end
end

-- x as the nearest f32.
function values.f32(x) return (string.unpack("<f", string.pack("<f", x))) end

return values
