-- verify.configuration: whether config.json of a quantized checkpoint describes what its tensors
-- are, and the model that its source is.

local claims = require "rondo.formats.claims"
local config_of = require "rondo.model.config"
local json = require "rondo.json"
local text = require "rondo.model.text"
local text_table = require "rondo.text_table"

local configuration = {}

-- What tools change without changing the model: types of tensors, versions, tokens at which a
-- generation ends.
local free = { torch_dtype = true, dtype = true, transformers_version = true, use_cache = true }

local function is_free(key)
  return free[key] or key:find "^_" ~= nil or key:find "token_id$" ~= nil
end

-- Calls differ(key, a, b) for members of both that are not the same.
local function each_difference(a, b, where, differ)
  for key, value in pairs(a) do
    local other, name = b[key], where .. tostring(key)
    local both = other ~= nil and other ~= json.null and value ~= json.null
    if both and type(value) == "table" and type(other) == "table" then
      each_difference(value, other, name .. ".", differ)
    elseif both and value ~= other and not is_free(tostring(key)) then
      differ(name, value, other)
    end
  end
end

--- Where the two configurations describe other models: a list of problems.
function configuration.model_problems(a, b)
  local list = {}
  if not a or not b then return list end
  each_difference(config_of.without_quantization(a), config_of.without_quantization(b), "",
    function(key, value, other)
      list[#list + 1] = ("config.json says %s %s, that of the source %s"):format(text.show(key),
        text.value(other), text.value(value))
    end)
  table.sort(list)
  return list
end

--- Where what is said of the quantization is not what the tensors are: a list of { name, problem }.
-- @param middle  see rondo.formats.claims
function configuration.quantization_problems(model, middle)
  local list = claims.check(model, middle)
  for _, found in ipairs(list) do
    if found.layers > 1 then
      found.problem = ("%s (and %s more)"):format(found.problem,
        text_table.count(found.layers - 1, "layer"))
    end
  end
  return list
end

return configuration
