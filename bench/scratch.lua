-- A folder for what a section makes, removed when the section ends.
local scratch = {}

--- Calls use(folder) with a new folder below `parent`; returns what it returns, or raises what it
--- raises, once the folder is gone.
function scratch.with(parent, use)
  local pipe = assert(io.popen(("mktemp -d '%s/bench-XXXXXX'"):format(parent)))
  local folder = pipe:read "l"
  assert(pipe:close() and folder, "no folder can be made in " .. parent)
  local done, result = xpcall(use, debug.traceback, folder)
  scratch.remove(folder)
  return done and result or error(result, 0)
end

--- Removes a folder, and waits until the disk has heard of it.
function scratch.remove(folder)
  os.execute(("rm -rf '%s' && sync -f '%s'"):format(folder, folder:match "^(.*)/"))
end

return scratch
