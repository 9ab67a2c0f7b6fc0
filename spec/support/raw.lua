-- Safetensors files made byte by byte, without the code under test.
local raw = {}

--- A file: the 8 length bytes, the header text, the data. length: what to claim instead.
function raw.file(header, data, length)
  return string.pack("<I8", length or #header) .. header .. (data or "")
end

--- One entry of a header, without its name.
function raw.entry(dtype, shape, first, last)
  return ('{"dtype":"%s","shape":[%s],"data_offsets":[%d,%d]}'):format(
    dtype, table.concat(shape, ","), first, last)
end

--- A whole file from { name, dtype, shape, bytes } in the order of the data. Names are plain.
function raw.pack(tensors, metadata)
  local parts, data, at = {}, {}, 0
  if metadata then parts[1] = '"__metadata__":' .. metadata end
  for i, t in ipairs(tensors) do
    parts[#parts + 1] = ('"%s":%s'):format(t[1], raw.entry(t[2], t[3], at, at + #t[4]))
    data[i] = t[4]
    at = at + #t[4]
  end
  local header = "{" .. table.concat(parts, ",") .. "}"
  header = header .. (" "):rep(-#header % 8)
  return raw.file(header, table.concat(data))
end

--- A file of one small tensor, whose two bytes are the same.
function raw.one(name, byte) return raw.pack { { name, "U8", { 2 }, byte:rep(2) } } end

--- The text of an index, from { tensor, file } in order.
function raw.index(map)
  local parts = {}
  for i, pair in ipairs(map) do parts[i] = ('"%s":"%s"'):format(pair[1], pair[2]) end
  return '{"weight_map":{' .. table.concat(parts, ",") .. "}}"
end

--- n bytes that do not repeat soon.
function raw.bytes(n, seed)
  local out = {}
  for i = 1, n do out[i] = string.char((i * 7 + i // 31 + (seed or 0)) & 255) end
  return table.concat(out)
end

return raw
