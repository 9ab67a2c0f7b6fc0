-- clip: the strategies that come with rondo, by name: clip.grid { steps = 20 }. A plain table, so
-- that scripts without trust get one of their own.

local clip = {}
for _, name in ipairs(require("rondo.strategy").names) do
  clip[name] = require("rondo.clip." .. name)
end

return clip
