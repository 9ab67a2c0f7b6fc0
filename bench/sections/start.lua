-- How long it takes until something can begin.
local measure = require "bench.measure"
local native = require "bench.native"

local start = { title = "milliseconds to start" }

local ROUNDS = 31

start.columns = {
  { title = "what", text = function(r) return r.name end },
  { title = "ms", text = function(r) return measure.show(r.milliseconds, "%.2f") end },
}

local function milliseconds(words) return native.spawn(words).seconds * 1000 end

function start.run()
  local version, empty, required = {}, {}, {}
  local rondo = os.getenv "RONDO_BUILD" .. "/rondo"
  for i = 1, ROUNDS do
    version[i] = milliseconds { rondo, "--version" }
    empty[i] = milliseconds { "lua5.4", "-e", "" }
    required[i] = milliseconds { "lua5.4", "-e", "require 'rondo'" } - empty[i]
  end
  return { { name = "rondo --version", milliseconds = measure.summary(version) },
           { name = "lua5.4 -e ''", milliseconds = measure.summary(empty) },
           { name = "require 'rondo', without lua5.4", milliseconds = measure.summary(required) } }
end

return start
