-- config: config.json of a Hugging Face model, read strictly.
--
-- Promises that what rondo uses later has a usable type and range; refuses text that is not one
-- JSON object (NaN and Infinity are taken, as such files do hold them) and fields out of range.
-- A field that is null counts as absent: that is how the files say "not set".

local core = require "rondo.core"
local json = require "rondo.json"
local lfs = require "lfs"
local text = require "rondo.model.text"

-- Real files have some 100 KB; one that describes 100,000 packed layers has some 30 MB.
local MOST_BYTES = 256 * 1024 * 1024

local config = {}

-- Whole numbers and their ranges, here and in the config of the language model inside.
local numbers = {
  { "hidden_size", 1, 1 << 31 },
  { "num_attention_heads", 1, 1 << 20 },
  { "num_hidden_layers", 0, 1 << 20 },
}

-- Where models of several parts keep the config of their language model.
local inner = { "text_config", "llm_config", "language_config", "decoder" }

-- Other spellings of a field, in the order of trust.
local spellings = {
  hidden_size = { "hidden_size", "n_embd", "d_model" },
  num_hidden_layers = { "num_hidden_layers", "n_layer", "n_layers", "num_layers" },
  num_nextn_predict_layers = { "num_nextn_predict_layers", "mtp_num_hidden_layers" },
}

local function present(value)
  if value ~= json.null then return value end
end

local function is_string_list(value)
  if not json.is_array(value) or #value == 0 then return false end
  for _, item in ipairs(value) do
    if type(item) ~= "string" then return false end
  end
  return true
end

-- What is wrong with one level of the config, or nil.
local function problem(fields, where)
  for _, rule in ipairs(numbers) do
    local name, low, high = table.unpack(rule)
    local value = present(fields[name])
    if value ~= nil and (math.type(value) ~= "integer" or value < low or value > high) then
      return ("%s%s must be an integer from %d to %d"):format(where, name, low, high)
    end
  end
  local architectures = present(fields.architectures)
  if architectures ~= nil and not is_string_list(architectures) then
    return where .. "architectures must be a list of at least one name"
  end
  local tie = present(fields.tie_word_embeddings)
  if tie ~= nil and type(tie) ~= "boolean" then
    return where .. "tie_word_embeddings must be true or false"
  end
end

local function decode(bytes, path)
  local shown = text.path(path)
  local value, message, code = json.decode(bytes, { nan = true })
  if message then return nil, ("%s: %s"):format(shown, message), code end
  if not bytes:find("^%s*{") then
    return nil, shown .. ": not a JSON object", "format"
  end
  local wrong = problem(value, "")
  for _, name in ipairs(inner) do
    local fields = value[name]
    if not wrong and type(fields) == "table" then wrong = problem(fields, name .. ".") end
  end
  if wrong then return nil, ("%s: %s"):format(shown, wrong), "format" end
  return value
end

--- Reads a config.json.
-- @param path  of the file, or of a folder that holds config.json
-- @return the decoded table (null is json.null); or nil, message, code
function config.read(path)
  if type(path) ~= "string" then
    error(("bad argument #1 to 'config' (string expected, got %s)"):format(type(path)), 2)
  end
  if lfs.attributes(path, "mode") == "directory" then path = path .. "/config.json" end
  local bytes, message, code = core.read_file(path, MOST_BYTES)
  if not bytes then return nil, message, code end
  return decode(bytes, path)
end

--- A field of the model, or of the language model inside it, under any of its spellings; nil when
-- absent, null, or not of the type named ("integer", or what type() gives).
function config.get(fields, name, kind)
  if not fields then return nil end
  local levels = { fields }
  for _, part in ipairs(inner) do
    if type(fields[part]) == "table" then levels[#levels + 1] = fields[part] end
  end
  for _, level in ipairs(levels) do
    for _, spelling in ipairs(spellings[name] or { name }) do
      local value = present(level[spelling])
      if value ~= nil and (math.type(value) == kind or type(value) == kind) then return value end
    end
  end
end

--- All values of a string field (model_type) at every level, as a set.
function config.set(fields, name)
  local found = {}
  if not fields then return found end
  if type(fields[name]) == "string" then found[fields[name]] = true end
  for _, part in ipairs(inner) do
    local level = fields[part]
    if type(level) == "table" and type(level[name]) == "string" then found[level[name]] = true end
  end
  return found
end

-- How a checkpoint says that it is quantized: key of config.json, and the method where the key has
-- no quant_method. MLX writes "quantization", and the same once more for the hub;
-- compressed-tensors wrote "compression_config".
local quantization_keys = {
  { "quantization_config", "unknown" },
  { "compression_config", "compressed-tensors" },
  { "quantization", "mlx" },
}

--- The method a checkpoint is quantized with and its table; nil for one that is not.
function config.quantization(fields)
  for _, key in ipairs(quantization_keys) do
    local value = config.get(fields, key[1], "table")
    if value then
      if type(value.quant_method) == "string" then return value.quant_method, value end
      if value.load_in_4bit or value.load_in_8bit then return "bitsandbytes", value end
      local mlx = key[2] == "unknown" and config.get(fields, "quantization", "table")
      if mlx then return "mlx", mlx end -- what mlx-lm reads
      return key[2], value
    end
  end
end

return config
