-- rondo: the module that `require "rondo"` gives. Everything public hangs here; parts load at first
-- use, so that requiring rondo costs next to nothing.
--
--   rondo.open(path)                     a model: safetensors file, or Hugging Face folder
--   rondo.quantize(model, dir, options)  a quantized checkpoint
--   rondo.plan(model, options)           what that would do
--   rondo.int4 { group_size = 64 }       schemes: int2 int3 int4 int5 int6 int8 nf4 fp4 e2m1 keep
--   rondo.clip, rondo.strategy           searches for clip ratios: what comes with rondo, one's own
--   rondo.recipe { rules }               what becomes of which tensor; rondo.policy, rondo.scheme
--   rondo.verify(source, quantized)      whether a quantized checkpoint is what it should be
--   rondo.rtn                            the reference functions
--   rondo.tensor, zeros, full, arange, rand, randn, from_bytes, is_tensor
--   rondo.safetensors, rondo.json, rondo.model, rondo.pattern, rondo.compare
--   rondo.plot, help, show                for people at a prompt

local core = require "rondo.core"

local rondo = {
  version = core.version,
  tensor = core.tensor, zeros = core.zeros, full = core.full, arange = core.arange,
  rand = core.rand, randn = core.randn, from_bytes = core.from_bytes, is_tensor = core.is_tensor,
}

--- The number of threads that this Lua state computes with; with an argument sets it first
--- (0: one per processor).
rondo.threads = core.threads

--- The instruction set in use ("base", "v3", "v4"), and the list of those that run here. The
--- environment variable RONDO_ISA forces one.
rondo.isa = core.isa

--- Opens a model: headers only. See rondo.model.
-- @param path  a Hugging Face folder, its index, or one safetensors file
-- @param options  { mode = "map" (tensors are views of the mapped file) or "read" (copies) }
-- @return the model, or nil, message, code
function rondo.open(path, options)
  return require("rondo.model").open(path, options)
end

--- Quantizes a model into a new folder; see rondo.quantize.run in lua/rondo/quantize.lua.
function rondo.quantize(model, dir, options)
  return require("rondo.quantize").run(model, dir, options, 2)
end

--- Plans a quantization without touching weights; see plan.make in lua/rondo/plan.lua.
-- @param model  what rondo.open gives, or a path
function rondo.plan(model, options)
  if type(model) == "string" then
    local opened, message, code = rondo.open(model)
    if not opened then return nil, message, code end
    model = opened
  end
  return require("rondo.plan").make(model, options, 2)
end

--- Compares two checkpoints layer by layer; see lua/rondo/compare.lua.
function rondo.compare(a, b)
  return require("rondo.compare").run(a, b)
end

--- Checks a quantized checkpoint against its source; see lua/rondo/verify/init.lua.
function rondo.verify(source, quantized)
  return require("rondo.verify").run(source, quantized)
end

--- What is known about a thing, as a text that prints itself; see lua/rondo/prompt/help.lua.
function rondo.help(what)
  return require "rondo.prompt.help"(what)
end

--- A value as text for people; see lua/rondo/prompt/show.lua.
function rondo.show(value, width)
  return require "rondo.shown"(require("rondo.prompt.show").text(value, width))
end

--- A recipe for rondo.plan and rondo.quantize; see lua/rondo/recipe/init.lua.
function rondo.recipe(rules)
  return require("rondo.recipe").new(rules, 2)
end

--- A clip search of one's own; see lua/rondo/strategy.lua.
-- @param name      for messages
-- @param defaults  its options with their defaults
-- @param run       function (weight, scheme, options) -> ratios by group, or scales, zeros
-- @param refuse    function (options) -> why they do not go together, or nil; may be absent
function rondo.strategy(name, defaults, run, refuse, misfit)
  return require("rondo.strategy").new(name, defaults, run, refuse, misfit)
end

-- Modules that are fields, loaded when first used.
local modules = { rtn = true, safetensors = true, json = true, model = true, pattern = true,
                  plot = true, scheme = true, policy = true, clip = true }

local meta = { __metatable = "locked" }

function meta.__index(self, name)
  if modules[name] then
    local module = require("rondo." .. name)
    rawset(self, name, module)
    return module
  end
  local scheme = require("rondo.scheme").ready[name]
  if scheme then return scheme end
  error("rondo has no field '" .. tostring(name) .. "'", 2)
end

return setmetatable(rondo, meta)
