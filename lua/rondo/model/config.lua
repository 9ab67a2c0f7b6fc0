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

--- Where models of several parts keep the config of their language model.
config.inner = { "text_config", "llm_config", "language_config", "decoder" }

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
  for _, name in ipairs(config.inner) do
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
  for _, part in ipairs(config.inner) do
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
  for _, part in ipairs(config.inner) do
    local level = fields[part]
    if type(level) == "table" and type(level[name]) == "string" then found[level[name]] = true end
  end
  return found
end

-- ---- Quantization ----

-- Where config.json says that a checkpoint is quantized. MLX writes "quantization", and the same
-- once more for the hub; compressed-tensors wrote "compression_config".
config.quantization_keys = { "quantization_config", "compression_config", "quantization" }
local defaults = { compression_config = "compressed-tensors", quantization = "mlx" }

-- Files that say it where config.json does not, as older tools wrote them.
config.quantization_files = { "quantize_config.json", "quant_config.json", "hf_quant_config.json" }

-- Other names of methods.
local names = { compressed_tensors = "compressed-tensors", modelopt_fp4 = "modelopt" }

-- What only one method says, for tables without quant_method; the first that is there decides.
local signs = {
  { "load_in_4bit", "bitsandbytes" }, { "load_in_8bit", "bitsandbytes" },
  { "quant_algo", "modelopt" }, { "config_groups", "compressed-tensors" },
  { "weight_block_size", "fp8" }, { "activation_scheme", "fp8" },
  { "w_bit", "awq" }, { "zero_point", "awq" }, { "desc_act", "gptq" }, { "sym", "gptq" },
}

-- The method of a table that says how a checkpoint is quantized, or nil.
local function method_of(said)
  local method = said.quant_method
  if type(method) == "string" then
    method = method:lower()
    return names[method] or method
  end
  for _, sign in ipairs(signs) do
    if said[sign[1]] and present(said[sign[1]]) ~= nil then return sign[2] end
  end
  if math.type(said.bits) == "integer" and math.type(said.group_size) == "integer" then
    return "mlx"
  end
end

--- How a checkpoint is quantized: the method and the table that says so; nil for one that is not.
function config.quantization(fields)
  for _, key in ipairs(config.quantization_keys) do
    local said = config.get(fields, key, "table")
    if said then
      local method = method_of(said) or defaults[key]
      local mlx = config.get(fields, "quantization", "table") -- what mlx-lm reads
      if mlx and (not method or method == "mlx") then return "mlx", mlx end
      return method or "unknown", said
    end
  end
end

--- A config as it is where nothing is quantized.
function config.without_quantization(fields)
  local plain = {}
  for name, value in pairs(fields) do plain[name] = value end
  for _, key in ipairs(config.quantization_keys) do plain[key] = nil end
  for _, part in ipairs(config.inner) do
    if type(plain[part]) == "table" then plain[part] = config.without_quantization(plain[part]) end
  end
  return plain
end

-- What a file beside config.json says, with its quant_method; or nil, message, code. Files of other
-- tools have the same names (quantize_config.json where a model was exported to ONNX), so that one
-- without a sign says nothing.
local function said_beside(path)
  if lfs.attributes(path, "mode") ~= "file" then return nil end
  local bytes, message, code = core.read_file(path, MOST_BYTES)
  if not bytes then return nil, message, code end
  local said
  said, message, code = json.decode(bytes, { nan = true })
  if message then return nil, ("%s: %s"):format(text.path(path), message), code end
  if type(said) ~= "table" then return nil end
  if type(said.quantization) == "table" then said = said.quantization end -- ModelOpt's
  local method = method_of(said)
  if not method or method == "mlx" then return nil end
  said.quant_method = method
  return said
end

--- The config of a folder: config.json and, where that says nothing of a quantization, what a file
--- beside it says, as quantization_config.
-- @return as read; nil where the folder has none
function config.of_folder(folder)
  local fields
  if lfs.symlinkattributes(folder .. "/config.json", "mode") then
    local message, code
    fields, message, code = config.read(folder)
    if not fields or config.quantization(fields) then return fields, message, code end
  end
  for _, name in ipairs(config.quantization_files) do
    local said, message, code = said_beside(folder .. "/" .. name)
    if message then return nil, message, code end
    if said then
      fields = fields or {}
      fields.quantization_config = said
      return fields
    end
  end
  return fields
end

return config
