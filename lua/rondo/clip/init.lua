-- clip: the strategies that come with rondo, loaded when first used: clip.grid { steps = 20 }.

local strategy = require "rondo.strategy"

local known = {}
for _, name in ipairs(strategy.names) do known[name] = true end

local clip = {}

return setmetatable(clip, {
  __metatable = "locked",
  __index = function(self, name)
    if not known[name] then
      error(("rondo.clip has no strategy '%s' (known: %s)"):format(tostring(name),
        table.concat(strategy.names, ", ")), 2)
    end
    rawset(self, name, require("rondo.clip." .. name))
    return rawget(self, name)
  end,
})
