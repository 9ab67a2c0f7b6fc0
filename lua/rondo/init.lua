-- rondo: the module that `require "rondo"` gives. Everything public hangs here; parts load at
-- first use, so that requiring rondo costs next to nothing.

local core = require "rondo.core"

local rondo = { version = core.version }

return rondo
