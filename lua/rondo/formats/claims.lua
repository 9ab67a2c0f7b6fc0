-- formats.claims: whether what a configuration says of a quantization agrees with what the tensors
-- are. rondo takes most of a layer's scheme from its tensors, engines take it from the
-- configuration.
--
-- For each method there is a function (said, config) -> claimant, of what the configuration says:
--   of(path) -> what it says of a module: a list of checks; or nil and the field by which it is not
--            quantized; or nil, nil where that cannot be told
--   looked_for(path) -> why engines would look for codes of a module that is not quantized, or nil
--   head     whether they look for lm_head, too
--   by_kind  engines leave out kinds of modules that the configuration does not name: they look
--            for a module if another of the same last name is quantized
--   contradiction  where the configuration contradicts itself: what is wrong
-- A check is { field, value (nil: it is not there), property, wanted }: `property` (below) holds a
-- layer against `wanted`.

local json = require "rondo.json"
local model_of = require "rondo.model"
local named = require "rondo.formats.named"
local shape_of = require "rondo.shape"
local stored = require "rondo.formats.stored"
local text = require "rondo.model.text"

local claims = {}

local function present(value)
  if value ~= json.null then return value end
end

local function table_of(value) return type(value) == "table" and value or {} end

-- ---- Properties ----

-- A property is a function (about, wanted) -> whether a layer has it, what to say of one that has
-- not (nil: its scheme). about: { layer (rondo.formats.stored), has (part) -> whether its module
-- has that tensor, middle: whether all zero points are the middle of the codes, nil where nobody
-- looked }
local properties = {}

function properties.bits(about, bits) return about.layer.scheme.bits == bits end

-- int, float, nf4, fp4, e2m1.
function properties.kind(about, kind)
  local data_type = about.layer.scheme.data_type
  if kind == "float" then return data_type ~= "int" end
  return data_type == kind
end

-- A block of { rows, cols }, or nil.
local function block_of(block)
  block = table_of(block)
  return math.type(block[1]) == "integer" and math.type(block[2]) == "integer" and block or nil
end

-- Rows and columns that a group has of a matrix; nil for what is no size.
local function extent(size, rows, cols)
  if size == "tensor" then return rows, cols end
  if size == "row" then return 1, cols end
  if block_of(size) then return math.min(size[1], rows), math.min(size[2], cols) end
  if math.type(size) == "integer" then return 1, math.min(size, cols) end
end

-- A number of inputs, "row", "tensor" or { rows, cols }.
function properties.group_size(about, size)
  local shape = about.layer.shape
  local rows, cols = shape[#shape - 1], shape[#shape]
  local height, width = extent(size, rows, cols)
  local own_height, own_width = extent(about.layer.scheme.group_size, rows, cols)
  return height == own_height and width == own_width
end

-- What is said of blocks holds for codes of 8 bits alone: experts may have others.
function properties.block_of_fp8(about, size)
  return about.layer.scheme.data_type ~= "fp8" or properties.group_size(about, size)
end

function properties.symmetric(about, symmetric)
  if about.layer.scheme.zero == "float" then return not symmetric end
  return about.layer.scheme:has_zero() ~= symmetric
end

-- Codes that are stored with zero points whether they are symmetric or not.
function properties.middle(about, wanted)
  if about.middle == nil or about.middle == wanted then return true end
  if wanted then return false, "zero points that are not all the same" end
  return false, "zero points that are all in the middle, of symmetric codes", true
end

function properties.double(about, double)
  return (about.layer.scheme.double ~= nil) == double
end

-- The name that compressed-tensors has for how a layer is stored.
local function container(layer)
  local codes, scheme = layer.outputs[1], layer.scheme
  if codes.part == "weight_packed" then
    if codes.dtype == "i32" then return "pack-quantized" end
    return scheme.tensor_scale and "nvfp4-pack-quantized" or "mxfp4-pack-quantized"
  elseif codes.dtype == "i8" then return "int-quantized" end
  return scheme.scale == "e8m0" and "mxfp8-quantized" or "float-quantized"
end

local plain_containers = { ["int-quantized"] = true, ["float-quantized"] = true }

function properties.container(about, name)
  local own = container(about.layer)
  return name == own or name == "naive-quantized" and plain_containers[own] or false, own
end

-- Whether there is a tensor of that part.
function properties.part(about, part)
  return about.has(part), ("no '%s'"):format(part)
end

-- Whether inputs are in groups as they come.
function properties.in_order(about)
  return about.layer.group_of == nil, "groups in another order"
end

function properties.never() return false end

-- ---- compressed-tensors ----

local function is_class(target) return target:find "^%u%w*$" ~= nil end

-- Adds what a list of targets names; class: called with names of classes.
local function add_targets(set, list, value, class)
  for _, target in ipairs(table_of(list)) do
    local expression = type(target) == "string" and target:match "^re:(.*)$"
    if expression then set:add_expression(expression, value)
    elseif type(target) == "string" and is_class(target) then class(target)
    elseif type(target) == "string" then set:add(target, value) end
  end
end

-- The group size of the weights of a group of layers, nil where they say none.
local function size_of(weights)
  local strategy, size = present(weights.strategy), present(weights.group_size)
  if strategy == "channel" or strategy == nil and size == -1 then return "strategy", "row" end
  if strategy == "tensor" then return "strategy", "tensor" end
  if strategy == "block" then return "block_structure", block_of(weights.block_structure) end
  return "group_size", math.type(size) == "integer" and size > 0 and size or nil
end

local function group_checks(group, format)
  local weights, checks = table_of(group.weights), {}
  local function check(field, value, property, wanted)
    if wanted ~= nil then checks[#checks + 1] = { field, value, property, wanted } end
  end
  local bits, kind = present(weights.num_bits), present(weights.type)
  check("num_bits", bits, "bits", next(weights) and (bits or 8))
  check("type", kind, "kind", (kind == "int" or kind == "float") and kind or nil)
  local field, size = size_of(weights)
  check(field, weights[field], "group_size", size)
  local symmetric = present(weights.symmetric)
  if type(symmetric) == "boolean" then check("symmetric", symmetric, "symmetric", symmetric) end
  format = present(group.format) or format ~= "mixed-precision" and format or nil
  check("format", format, "container", format)
  local order = present(weights.actorder)
  if order == "group" or order == "dynamic" or order == true then
    check("actorder", order, "part", "weight_g_idx")
  else
    check("actorder", order, "in_order", true)
  end
  return checks
end

local function compressed_tensors(said)
  local left, by_path, linear = named.new(), named.new(), nil
  add_targets(left, said.ignore, true, function() end)
  for _, group in pairs(table_of(said.config_groups)) do
    group = table_of(group)
    local checks = group_checks(group, present(said.format))
    add_targets(by_path, group.targets, checks, function(class)
      if class == "Linear" then linear = checks end
    end)
  end
  local self = { head = linear ~= nil }
  function self.of(path)
    local ignored, unknown = left:find(path)
    if #ignored > 0 then return nil, "ignore" end
    local found, more = by_path:find(path)
    if #found == 1 or #found == 0 and not more and linear then return found[1] or linear end
    return nil, #found == 0 and not more and not unknown and "targets" or nil
  end
  function self.looked_for(path)
    local ignored, unknown = left:find(path)
    if #ignored > 0 or unknown then return nil end
    return (linear or #by_path:find(path) > 0) and "'ignore' does not name it" or nil
  end
  return self
end

-- ---- gptq ----

-- What `dynamic` says of modules: false for those left out, else a table of fields.
local function dynamic_of(said)
  local set = named.new()
  for key, fields in pairs(table_of(present(said.dynamic))) do
    local sign, expression = tostring(key):match "^([%+%-]?):?(.*)$"
    set:add_expression(expression, sign ~= "-" and table_of(fields))
  end
  return set
end

local function any_false(list)
  for _, value in ipairs(list) do
    if value == false then return true end
  end
  return false
end

local function whole_row(size) return size == -1 and "row" or size end

local function gptq_checks(said, own, path)
  local function field(name)
    local value = present(own[name])
    if value == nil then value = present(said[name]) end
    return value
  end
  local bits, size, sym = field "bits", field "group_size", field "sym"
  local checks = { bits and { "bits", bits, "bits", bits },
                   size and { "group_size", size, "group_size", whole_row(size) } }
  if type(sym) == "boolean" then checks[#checks + 1] = { "sym", sym, "middle", sym } end
  if field "desc_act" == true then
    checks[#checks + 1] = { "desc_act", true, "part", "g_idx" }
  else
    checks[#checks + 1] = { "desc_act", false, "in_order", true }
  end
  if path:find "lm_head$" and present(said.lm_head) == false then
    checks[#checks + 1] = { "lm_head", false, "never" }
  end
  return checks
end

-- Whether the modules that transformers looks for have a path; nil where nothing is said of them.
local function in_blocks(said)
  local lists = present(said.modules_in_block_to_quantize)
  if type(lists) ~= "table" then return function() return nil end end
  local ends = named.new()
  for _, list in ipairs(lists) do
    for _, name in ipairs(type(list) == "table" and list or { list }) do
      if type(name) == "string" then ends:add(name, true) end
    end
  end
  return function(path) return ends:has_run(path) end
end

local function gptq(said)
  local dynamic, listed, self = dynamic_of(said), in_blocks(said), {}
  function self.of(path)
    local found, unknown = dynamic:find(path)
    if any_false(found) then return nil, #found == 1 and "dynamic" or nil end
    if unknown or #found > 1 then return nil end -- which one holds, engines decide
    if listed(path) == false and not path:find "lm_head$" then
      return nil, "modules_in_block_to_quantize"
    end
    return gptq_checks(said, found[1] or {}, path)
  end
  function self.looked_for(path)
    local found, unknown = dynamic:find(path)
    if any_false(found) or unknown then return nil end
    return "'dynamic' does not leave it out"
  end
  return self
end

-- ---- Methods whose configuration lists the modules that are not quantized ----

local function set_of(...)
  local set = named.new()
  for i = 1, select("#", ...) do
    for _, name in ipairs(table_of(present((select(i, ...))))) do
      if type(name) == "string" then set:add(name, true) end
    end
  end
  return set
end

-- o: anywhere (names are parts of paths, of whole segments or not), by_kind
local function with_list(field, left, checks, o)
  return {
    by_kind = o.by_kind,
    of = function(path)
      if left:has_run(path) then return nil, field end
      return checks
    end,
    looked_for = function(path)
      local found = o.anywhere and left:has_part(path) or left:has_run(path)
      return not found and ("'%s' does not name it"):format(field) or nil
    end,
  }
end

local function awq(said)
  local field = present(said.group_size) and "group_size" or "q_group_size"
  local size = present(said[field])
  return with_list("modules_to_not_convert", set_of(said.modules_to_not_convert), {
    size and { field, size, "group_size", whole_row(size) },
    present(said.zero_point) == false and { "zero_point", false, "middle", true } or nil,
  }, { anywhere = true })
end

local function fp8(said)
  local field = present(said.modules_to_not_convert) and "modules_to_not_convert"
    or present(said.ignored_layers) and "ignored_layers" or "modules_to_not_convert"
  local block = block_of(present(said.weight_block_size))
  local kind = present(said.fmt)
  return with_list(field, set_of(said[field]), {
    { "weight_block_size", block, "block_of_fp8", block or "tensor" },
    type(kind) == "string" and not kind:find "e4m3" and { "fmt", kind, "never" } or nil,
  }, { by_kind = true })
end

local function bitsandbytes(said)
  local checks, kind = {}, present(said.bnb_4bit_quant_type)
  local four = present(said.load_in_4bit) == true
  if four ~= (present(said.load_in_8bit) == true) then
    checks[1] = { four and "load_in_4bit" or "load_in_8bit", true, "bits", four and 4 or 8 }
  end
  if four and type(kind) == "string" then
    checks[2] = { "bnb_4bit_quant_type", kind, "kind", kind }
  end
  local double = present(said.bnb_4bit_use_double_quant)
  if four and type(double) == "boolean" then
    checks[#checks + 1] = { "bnb_4bit_use_double_quant", double, "double", double }
  end
  return with_list("llm_int8_skip_modules", set_of(said.llm_int8_skip_modules), checks,
                   { by_kind = true })
end

-- What codes are by parts of the algorithms' names: NVFP4, W4A16_NVFP4, FP8, FP8_PB_WO, ...
local algorithms = { NVFP4 = "e2m1", ["^FP8"] = "fp8" }

-- Names may have "*" for anything.
local function modelopt(said)
  local list, left, checks = said.ignore, named.new(), {}
  local field = present(list) and "ignore" or "exclude_modules"
  for _, name in ipairs(table_of(present(said[field]))) do
    if type(name) == "string" then
      local pattern = name:gsub("[^%w_%*]", "\\%0"):gsub("%*", ".*")
      left:add_expression(pattern .. "$", true)
      left:add(name, true)
    end
  end
  local algorithm, size = present(said.quant_algo), present(said.group_size)
  for name, kind in pairs(type(algorithm) == "string" and algorithms or {}) do
    if algorithm:find(name) then checks[1] = { "quant_algo", algorithm, "kind", kind } end
  end
  if math.type(size) == "integer" then
    checks[#checks + 1] = { "group_size", size, "group_size", size }
  end
  local groups = table_of(present(said.config_groups))
  local first, group = next(groups)
  if first ~= nil and next(groups, first) == nil then -- several are for some layers each
    local weights = table_of(table_of(group).weights)
    for _, field_of in ipairs { { "num_bits", "bits" }, { "group_size", "group_size" } } do
      local value = present(weights[field_of[1]])
      if value then checks[#checks + 1] = { field_of[1], value, field_of[2], value } end
    end
  end
  local function found(path) return #left:find(path) > 0 or left:has_run(path) end
  return {
    of = function(path)
      if found(path) then return nil, field end
      return checks
    end,
    looked_for = function(path)
      return not found(path) and ("'%s' does not name it"):format(field) or nil
    end,
  }
end

-- ---- mlx ----

-- Tensors that do not fit `quantization`, which mlx-lm reads, are not read here. The hub and others
-- read quantization_config. Which layers are quantized the tensors say.
local function mlx(said, config)
  local self = { looked_for = function() end }
  local other = config and present(config.quantization_config)
  for name, value in pairs(type(other) == "table" and other ~= said and other or {}) do
    if said[name] ~= nil and json.encode(said[name]) ~= json.encode(value) then
      self.contradiction = ("'quantization' and 'quantization_config' disagree on %s"):format(
        text.show(tostring(name)))
    end
  end
  function self.of(path)
    if said[path] == false then return nil, "quantization" end
    return {}
  end
  return self
end

-- ---- Holding one against the other ----

local methods = { ["compressed-tensors"] = compressed_tensors, gptq = gptq, awq = awq, fp8 = fp8,
                  bitsandbytes = bitsandbytes, modelopt = modelopt, mlx = mlx }

local function saying(field, value)
  if value == nil then return "no " .. field end
  return field .. " " .. (type(value) == "table" and json.encode(value) or text.value(value))
end

-- The checks that fail, a list of texts; and of those that only count where all layers fail them.
local function failures(checks, about)
  local found, common = {}, {}
  for _, check in pairs(checks) do
    local good, holds, of_all = properties[check[3]](about, check[4])
    if not good then
      local list = of_all and common or found
      list[#list + 1] = ("the configuration says %s, but the tensors hold %s"):format(
        saying(check[1], check[2]), holds or about.layer.scheme:label())
    end
  end
  table.sort(found)
  return found, common
end

-- Collects problems: those of several layers in the same words are one.
local function collector()
  local list, by_text = {}, {}
  return list, function(problem, path)
    local known = by_text[problem]
    if not known then
      known = { name = path, problem = problem, layers = 0 }
      by_text[problem], list[#list + 1] = known, known
    end
    known.layers = known.layers + 1
  end
end

local function last_name(path) return path:match "[^.]*$" end

local function above_number(path) return path:match "^(.-)%.?%d+%." end

local expected_kinds = { linear = true, expert = true }

-- Whether engines look for a layer that is not quantized, as for others of its stack that are.
-- kinds: the last names of those that are.
local function is_looked_for(claimant, layer, stacks, kinds, depth)
  if layer.transposed or layer.rank ~= 2 then return false end
  if claimant.by_kind and not kinds[last_name(layer.name)] then return false end
  if layer.kind == "lm_head" then return claimant.head end
  if layer.depth and depth and layer.depth >= depth then return false end -- predicts more tokens
  local stack = above_number(layer.name)
  return expected_kinds[layer.kind] and stack and stacks[stack]
end

-- What is wrong with one quantized layer.
local function check_quantized(model, claimant, record, middle, add, common)
  local checks, field = claimant.of(record.name)
  if field then
    add(("the configuration leaves it out (%s), but it is quantized"):format(field), record.name)
  end
  if not checks then return end
  local found, of_all = failures(checks, {
    layer = record.layer, middle = middle[record.name],
    has = function(part) return model.checkpoint:has(stored.member(record.name, part)) end })
  for _, problem in ipairs(found) do add(problem, record.name) end
  for _, problem in ipairs(of_all) do
    common[problem] = (common[problem] or 0) + 1
  end
end

-- Parts that readers do without, but which all layers have or none.
local function check_parts(model, records, add)
  local without, with = {}, 0
  for _, record in ipairs(records) do
    if model.checkpoint:has(stored.member(record.name, "g_idx")) then with = with + 1
    else without[#without + 1] = record.name end
  end
  for _, path in ipairs(with > 0 and without or {}) do
    add("has no 'g_idx', though other layers have one", path)
  end
end

--- Where what the configuration says of the quantization is not what the tensors are.
-- @param middle  by the names of layers whose zero points somebody looked at: whether they are all
--                in the middle of the codes; or nil
-- @return a list of { name (of the first layer of which it holds), layers (how many), problem }
function claims.check(model, middle)
  local quantization = model_of.quantization_of(model)
  local method = quantization.records and methods[quantization.method]
  if not method then return {} end
  local claimant, records = method(quantization.described, model.config), quantization.records
  local list, add = collector()
  local common, stacks, kinds = {}, {}, {}
  if claimant.contradiction then add(claimant.contradiction, "") end
  for _, record in ipairs(records) do
    if shape_of.count(record.shape) > 0 then
      check_quantized(model, claimant, record, middle or {}, add, common)
      local stack = above_number(record.name)
      if stack then stacks[stack] = true end
      kinds[last_name(record.name)] = true
    end
  end
  for problem, count in pairs(common) do
    if count == #records then add(problem, records[1].name) end
  end
  if quantization.method == "gptq" then check_parts(model, records, add) end
  for path, layer in model:layers() do
    local why = not layer.quantized and is_looked_for(claimant, layer, stacks, kinds,
                                                            model.depth)
      and claimant.looked_for(path)
    if why then add(("is not quantized, but %s"):format(why), path) end
  end
  return list
end

return claims
