-- Compiles forking.c into a folder, for scripts that add the folder to package.cpath.
local shell = require "spec.support.shell"

return function(folder)
  local text, status = shell.sh("unset LD_PRELOAD\ncc -shared -fPIC "
    .. "$(pkg-config --cflags lua5.4) spec/support/forking.c -o %s/forking.so", folder)
  assert(status == 0, text)
end
