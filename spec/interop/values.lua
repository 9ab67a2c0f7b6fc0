-- What rondo makes of a quantized checkpoint: the dequantized weight of every quantized layer in
-- f32, by the layer's path.
--
--   lua5.4 values.lua FOLDER FILE.safetensors

local rondo = require "rondo"

local folder, file = ...
local model <close> = assert(rondo.open(folder))
local values = {}
for name, layer in model:layers "all" do
  if layer.quantized then values[name] = layer:dequantize() end
end
assert(rondo.safetensors.save(file, values))
