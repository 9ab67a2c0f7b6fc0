-- For `luarocks make` in a clone; CMake, a C compiler, pkg-config and Lua's headers are needed.
rockspec_format = "3.0"
package = "rondo"
version = "scm-1"
source = { url = "git+file://." }
description = {
  summary = "Lua-scriptable quantization of neural network weights",
  detailed = [[
    Reads trained checkpoints in safetensors files, rounds their weights to a few bits by
    round-to-nearest, with a search for the best clip range, and writes checkpoints. The arithmetic
    is in C, on all cores; Lua says what is done to which layer.]],
  license = "Apache-2.0",
}
supported_platforms = { "linux" }
dependencies = { "lua >= 5.4, < 5.5", "luafilesystem >= 1.8", "argparse >= 0.7" }
build = {
  type = "cmake",
  variables = {
    CMAKE_BUILD_TYPE = "Release",
    CMAKE_INSTALL_PREFIX = "$(PREFIX)",
    CMAKE_INSTALL_LIBDIR = "clib", -- LuaRocks takes all in $(LIBDIR) for Lua modules
    RONDO_LUA_DIR = "$(LUADIR)",
    RONDO_LUA_CDIR = "$(LIBDIR)",
  },
}
