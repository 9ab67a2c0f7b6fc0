-- progress: one line on a terminal that says how far a long work is, how fast it goes and how long
-- it will take. Where nobody looks (no terminal) it does nothing at all.

local sizes = require "rondo.sizes"
local text_table = require "rondo.text_table"

local progress = {}

local INTERVAL = 0.1 -- seconds between drawings
local PATIENCE = 0.3 -- works shorter than this show nothing
local BAR = 16 -- columns
local CLEAR = "\r\27[K"

local methods = {}

local function time_left(self, now)
  local elapsed = now - self.started
  if self.done <= 0 or elapsed <= 0 then return "" end
  local rate = self.done / elapsed
  local left = math.ceil(math.max(self.total - self.done, 0) / rate)
  local time = left < 3600 and ("%d:%02d"):format(left // 60, left % 60)
    or ("%d:%02d:%02d"):format(left // 3600, left // 60 % 60, left % 60)
  return ("  %s/s  %s left"):format(self.show(rate), time)
end

-- The line without name, and the name cut to what is left of the terminal's width.
local function line(self, now)
  local share = self.total > 0 and math.min(self.done / self.total, 1) or 1
  local filled = math.floor(share * BAR)
  local text = ("%s [%s%s] %3d%%  %s of %s"):format(
    self.label, ("#"):rep(filled), ("."):rep(BAR - filled), math.floor(share * 100),
    self.show(self.done), self.show(self.total))
  local left = time_left(self, now)
  if #text + #left < self.columns then text = text .. left end
  local room = self.columns - 1 - #text - 2
  if room >= 8 and self.name then
    local name = text_table.printable(self.name)
    if #name > room and not name:find "[\x80-\xff]" then name = "..." .. name:sub(-(room - 3)) end
    if #name <= room then text = text .. "  " .. name end
  end
  return text:sub(1, self.columns - 1)
end

--- Says how far the work is; draws now and then.
-- @param done, total  in what `show` shows
-- @param name  what is being worked on, or nil
function methods:update(done, total, name)
  if not self.stream then return end
  self.done, self.total, self.name = done, total, name
  local now = self.clock()
  if now - self.started < PATIENCE then return end
  if now - self.drawn < INTERVAL and done < total then return end -- the end is always shown
  self.drawn, self.visible = now, true
  self.stream:write(CLEAR, line(self, now))
  self.stream:flush()
end

--- Takes the line away, for other output; it comes back with the next update.
function methods:clear()
  if not self.visible then return end
  self.visible = false
  self.stream:write(CLEAR)
  self.stream:flush()
end

local meta = { __index = methods, __close = methods.clear, __metatable = "locked",
               __name = "rondo.progress" }

--- A progress line on stderr, or one that does nothing where stderr is no terminal.
-- @param label  what is being done: "quantizing"
-- @param o      show: turns amounts into text (bytes; sizes.count for anything else); for tests:
--               stream, columns and clock
function progress.new(label, o)
  o = o or {}
  local stream, columns = o.stream, o.columns
  local core = require "rondo.core"
  if not stream then
    local terminal
    terminal, columns = core.isatty(2)
    stream = terminal and os.getenv "TERM" ~= "dumb" and io.stderr or nil
  end
  local clock = o.clock or core.monotonic
  local now = clock()
  return setmetatable({
    label = label, show = o.show or sizes.show, stream = stream, clock = clock,
    columns = math.max(columns or 80, 20), started = now, drawn = now - INTERVAL, visible = false,
    done = 0, total = 0,
  }, meta)
end

return progress
