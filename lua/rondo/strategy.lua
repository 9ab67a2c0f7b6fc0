-- strategy: clip searches as values. A strategy is a function (weight, scheme, options) that
-- answers with clip ratios, one for each group, or with scales and zero points, in the shape that
-- scheme:ratios gives. What comes with rondo (lua/rondo/clip) and what users write is the same
-- thing. Called with options a strategy gives another that differs in these: clip.grid
-- { steps = 20 }.
--
-- A strategy looks at each group for itself, so that it can be run on a part of a weight. One whose
-- groups depend on each other says so with the option over = "row" or "tensor": it gets the whole
-- weight.
--
-- No strategy makes things worse: search compares its answer with no clipping by the scheme's
-- objective, group by group, or where groups depend on each other, over what they share, and takes
-- the better.

local blame = require "rondo.blame"
local core = require "rondo.core"
local options = require "rondo.options"

local strategy = {}

--- The strategies of lua/rondo/clip.
strategy.names = { "fine", "golden", "grid", "least_squares", "mse", "neighbours", "none",
                   "percentile", "signed" }

local built_in = {}
for _, name in ipairs(strategy.names) do built_in[name] = true end

local Strategy = { __name = "rondo.strategy", __metatable = "locked" }
-- { name, description, options, run, refuse, misfit }
local parts_of = setmetatable({}, { __mode = "k" })
local of_function = setmetatable({}, { __mode = "k" })

-- A rule of rondo.options from a default, or from { default, above =, min =, max = }.
local function rule_of(name, given)
  if name == "over" then
    return { kind = "choice", choices = { "group", "row", "tensor" }, default = given }
  end
  local rule = type(given) == "table" and given or { given }
  local value = rule[1]
  local kind = math.type(value) == "integer" and "integer" or type(value)
  local bounded = rule.min or rule.above or rule.max
  return { kind = kind, min = rule.min or not bounded and kind == "integer" and 1 or nil,
           above = rule.above, max = rule.max, default = value }
end

local function make(parts)
  local value = setmetatable({}, Strategy)
  parts_of[value] = parts
  return value
end

--- Makes a strategy.
-- @param name      for messages and for print
-- @param defaults  its options with their defaults: numbers, strings, booleans; or, for numbers,
--                  { default, above =, min =, max = }. Integers are at least 1 unless they say so
-- @param run       function (weight, scheme, options) -> ratios, or scales, zeros (a number: for
--                  all groups); weight is a matrix, scheme does not clip
-- @param refuse    function (options) -> why they do not go together, or nil; may be absent
-- @param misfit    function (scheme, options, cols) -> why there is nothing to be found for weights
--                  of that scheme with rows of `cols` (nil: any), or nil; may be absent. It is
--                  asked before anything is quantized, so that run sees only what fits
function strategy.new(name, defaults, run, refuse, misfit)
  if type(name) ~= "string" or type(defaults) ~= "table" or type(run) ~= "function" then
    error("strategy: a name, a table of options with their defaults, and a function are expected",
          2)
  end
  local description = {}
  for option, value in pairs(defaults) do description[option] = rule_of(option, value) end
  return make { name = name, description = description, run = run, refuse = refuse,
                misfit = misfit, options = options.check(name, {}, description, 2) }
end

-- The strategy with other options; level: as for options.check.
local function but_for(self, given, level)
  local parts = parts_of[self]
  local checked = options.check(parts.name, given, parts.description, level)
  for option, value in pairs(parts.options) do
    if given[option] == nil then checked[option] = value end
  end
  local why = parts.refuse and parts.refuse(checked)
  if why then error(("%s: %s"):format(parts.name, why), math.max(level, 0)) end
  return make { name = parts.name, description = parts.description, run = parts.run,
                refuse = parts.refuse, misfit = parts.misfit, options = checked }
end

function Strategy.__call(self, given)
  return but_for(self, given or {}, 2)
end

-- A copy, so that nobody changes the strategy.
local function options_of(parts)
  local copy = {}
  for option, value in pairs(parts.options) do copy[option] = value end
  return copy
end

function Strategy.__index(self, key)
  local parts = parts_of[self]
  if key == "name" then return parts.name end
  if key == "options" then return options_of(parts) end
  error(("a strategy has no field '%s'"):format(tostring(key)), 2)
end

function Strategy.__newindex(_, key)
  error(("a strategy cannot be changed (field '%s')"):format(tostring(key)), 2)
end

-- Options that differ from their defaults: "low = 0.2, steps = 20".
local function options_text(parts)
  local list = {}
  for option, value in pairs(parts.options) do
    if value ~= parts.description[option].default then
      list[#list + 1] = option .. " = " .. (type(value) == "string" and ("%q"):format(value)
        or math.type(value) == "float" and core.json_real(value) or tostring(value))
    end
  end
  table.sort(list)
  return table.concat(list, ", ")
end

-- "grid", or { "grid", steps = 20 }; what was not given to rondo by name has an address, too: that
-- of the description, which strategies have in common if they differ in options alone.
function Strategy.__tostring(self)
  local parts, given = parts_of[self], options_text(parts_of[self])
  local own = not built_in[parts.name] or strategy.named(parts.name).run ~= parts.run
  local name = own and ("%s %p"):format(parts.name, parts.description) or parts.name
  if given == "" then return ("%q"):format(name) end
  return ("{ %q, %s }"):format(name, given)
end

--- A strategy for tables and reports, the same in every run: grid, grid (steps = 20).
function strategy.label(self)
  local parts, given = parts_of[self], options_text(parts_of[self])
  return given == "" and parts.name or ("%s (%s)"):format(parts.name, given)
end

--- The parts of a strategy of lua/rondo/clip.
function strategy.named(name)
  return parts_of[require("rondo.clip." .. name)]
end

function strategy.is(value)
  return type(value) == "table" and parts_of[value] ~= nil
end

-- The strategy that a value stands for, or nil.
local function of(value)
  if type(value) == "string" then return built_in[value] and require("rondo.clip." .. value) end
  if type(value) == "function" then
    of_function[value] = of_function[value] or strategy.new("function", {}, value)
    return of_function[value]
  end
  return strategy.is(value) and value or nil
end

-- "layer" is grid { over = "tensor" }: known by name, since that can be searched tile by tile.
local function is_layer(found)
  return tostring(found) == '{ "grid", over = "tensor" }'
end

--- What the option clip of schemes may be: "none", "layer", a name, a strategy, a function, or
--- { any of these, options }. Gives what the scheme keeps, nil if unfit.
function strategy.check(value)
  if value == "none" or value == "layer" then return value end
  local found = of(value)
  if not found and type(value) == "table" and of(value[1]) then
    local given = {}
    for option, setting in pairs(value) do given[option] = setting end
    given[1] = nil
    found = but_for(of(value[1]), given, -1)
  end
  if found and found.name == "none" then return "none" end
  return is_layer(found) and "layer" or found
end

strategy.says = "layer, " .. table.concat(strategy.names, ", ")
  .. ", a strategy, a function, or { one of these, options }"

--- Why a search finds nothing for a scheme, with its name in front, or nil.
-- @param clip  as strategy.check gives it
-- @param cols  of the weight; nil: any
function strategy.refusal(clip, scheme, cols)
  if clip == "none" then return nil end
  local parts = clip == "layer" and strategy.named "grid" or parts_of[clip]
  local where = "clip " .. (clip == "layer" and clip or parts.name)
  local why = parts.misfit and blame(where, parts.misfit, scheme, parts.options, cols)
  return why and ("%s: %s"):format(where, why)
end

--- For misfit of strategies that shrink the range of a group, or try what lies below its scale: why
--- they find nothing for a scheme, or nil. A power of two less puts so much out of the range of a
--- floating grid that it never pays.
function strategy.shrinks(scheme)
  if scheme.scale == "e8m0" and scheme.data_type ~= "int" then
    return "scales of e8m0 are powers of two; clip = \"neighbours\" finds better ones"
  end
end

--- Whether it wants to see the whole weight.
function strategy.needs_whole(self)
  return (parts_of[self].options.over or "group") ~= "group"
end

-- ---- What can be stored ----

-- Zero points within those that the scheme has.
local function possible(scheme, zeros)
  if scheme:zero_dtype() ~= "u8" then return zeros end
  return zeros:clamp(scheme.zero == "positive" and 1 or 0, 2 ^ scheme.bits - 1):to "u8"
end

-- Where scales and zero points are numbers when they are stored, and have a sign only if that is.
local function storable(scheme, scales, zeros)
  local rounded = require("rondo.params").rounded(scheme, scales)
  local good = rounded:abs():lt(math.huge)
  if scheme.scale == "e8m0" then good = good & scales:gt(0) end
  if scheme:zero_dtype() ~= "f32" then return good end
  return good & require("rondo.params").rounded(scheme, zeros):abs():lt(math.huge)
end

-- ---- Trying ----

local Best = {}
Best.__index = Best

--- Tries scales and zero points, and keeps by group what is better than the best so far. What
--- cannot be stored is none.
-- @return the mask of what was better
function Best:try(scales, zeros)
  scales, zeros = scales:to("f32"):contiguous(), possible(self.scheme, zeros or self.zeros)
  local good = storable(self.scheme, scales, zeros:contiguous())
  scales, zeros = good:pick(scales, self.scales), good:pick(zeros, self.zeros)
  local losses = self.scheme:losses(self.weight, { scales = scales, zeros = zeros })
  local better = losses:lt(self.losses)
  self.losses = better:pick(losses, self.losses)
  self.scales, self.zeros = better:pick(scales, self.scales), better:pick(zeros, self.zeros)
  return better
end

--- For strategies that answer with scales: the best ones so far by group, beginning with these.
-- @param zeros  zero points, nil without
-- @return { scales, zeros, losses, try }
function strategy.best(weight, scheme, scales, zeros)
  zeros = zeros or core.zeros(scales.shape, "u8")
  return setmetatable({ weight = weight, scheme = scheme, scales = scales, zeros = zeros,
                        losses = scheme:losses(weight, { scales = scales, zeros = zeros }) }, Best)
end

-- ---- Searching ----

--- Sums what is kept by group over those that share a ratio; the result spreads over all groups.
-- @param over  "group", "row" or "tensor"
function strategy.shared(losses, over, scheme)
  if over == "group" then return losses end
  if over == "row" then return losses:sum(scheme.group_dim == 0 and 1 or 2, { keep = true }) end
  return losses:sum(2, { keep = true }):sum(1, { keep = true })
end

local function check_answer(where, what, tensor, shape)
  if not core.is_tensor(tensor) or tensor.rank ~= 2 or tensor.shape[1] ~= shape[1]
    or tensor.shape[2] ~= shape[2] then
    error(("%s: %s must be a tensor of shape {%d, %d}, one for each group, not %s")
      :format(where, what, shape[1], shape[2], core.is_tensor(tensor)
        and "{" .. table.concat(tensor.shape, ", ") .. "}" or type(tensor)), 0)
  end
  return tensor
end

-- What a strategy has answered, of the types that the core wants. What is no number, or clips
-- everything away, is as bad as it is: its losses are not less than those of no clipping.
local function answer_of(parts, weight, scheme, shape, of_what)
  local where = "clip " .. parts.name .. (of_what and ": " .. of_what or "")
  local first, zeros = blame(where, parts.run, weight, scheme, options_of(parts))
  local what = zeros and "scales" or "ratios"
  first = check_answer(where, what, first, shape):to("f32"):contiguous()
  if not zeros then
    local good = first:abs():lt(math.huge)
    return { ratios = good:land(first:gt(0)):pick(first, 1):contiguous() }
  end
  local dtype = scheme:zero_dtype() or "u8"
  if type(zeros) == "number" then zeros = core.full(shape, zeros, dtype) end
  zeros = possible(scheme, check_answer(where, "zero points", zeros, shape)):to(dtype):contiguous()
  local good = storable(scheme, first, zeros)
  if dtype == "f32" then zeros = good:pick(zeros, 0):contiguous() end
  return { scales = good:pick(first, 1):contiguous(), zeros = zeros }
end

--- Runs a strategy.
-- @param scheme    without a strategy
-- @param unclipped  function () -> { ratios } or { scales, zeros } of no clipping, as the answer is
-- @param losses     function (answer) -> losses by group
-- @param of_what    what the weight is, for messages; or nil
-- @return the better answer of the two, for all groups that depend on each other
function strategy.search(self, weight, scheme, shape, unclipped, losses, of_what)
  local answer = answer_of(parts_of[self], weight, scheme, shape, of_what)
  local plain = unclipped(answer)
  local over = parts_of[self].options.over or "group"
  local better = strategy.shared(losses(answer), over, scheme)
    :lt(strategy.shared(losses(plain), over, scheme))
  for name, tensor in pairs(answer) do
    answer[name] = better:pick(tensor, plain[name]):contiguous()
  end
  return answer
end

return strategy
