# setup.sh - sourced by examples/quickstart.sh and spec/run.sh: finds what is missing on this
# machine, installs it where apt is, and builds. Takes no time when all is there.
# The caller has set root, the folder of the repository.

missing_packages=
missing_names=

# want PACKAGE NAME COMMAND...: NAME is missing, and PACKAGE of Debian has it, if COMMAND fails.
want() {
  want_package=$1 want_name=$2
  shift 2
  if ! "$@" >/dev/null 2>&1; then
    missing_packages="$missing_packages $want_package"
    missing_names="$missing_names
  $want_name"
  fi
}

has_lua_module() { lua5.4 -e "require '$1'"; }
has_libedit() { echo '#include <histedit.h>' | cc -E -; }
has_c_headers() { echo '#include <stdio.h>' | cc -E -; }
has_cmake() {
  cmake --version | lua5.4 -e '
    local major, minor = io.read("a"):match "version (%d+)%.(%d+)"
    os.exit(tonumber(major) > 3 or tonumber(minor) >= 25)'
}

list_missing() {
  missing_packages= missing_names=
  want lua5.4 'Lua 5.4, as the command lua5.4' command -v lua5.4
  want gcc 'a C compiler, as the command cc' command -v cc
  want libc6-dev 'the headers of the C library' has_c_headers
  want make 'make' command -v make
  want cmake 'CMake 3.25 or newer' has_cmake
  want pkg-config 'pkg-config' command -v pkg-config
  want liblua5.4-dev 'the headers of Lua 5.4, as lua5.4 of pkg-config' pkg-config --exists lua5.4
  want lua-filesystem 'LuaFileSystem, as the module lfs of Lua 5.4' has_lua_module lfs
  want lua-argparse 'the Lua module argparse' has_lua_module argparse
  if command -v apt-get >/dev/null; then # rondo does without it, if need be
    want libedit-dev 'libedit, for editing lines at the prompt' has_libedit
  fi
  if [ "$1" = spec ]; then
    want lua-busted 'busted, the test runner' command -v busted
    want lua-check 'luacheck' command -v luacheck
    want clang-format 'clang-format 14' command -v clang-format
    want binutils 'objdump' command -v objdump
    want python3 'Python 3, which writes malformed files for tests' command -v python3
    if [ "${CI:-}" = true ]; then # for spec/interop
      want python3-venv 'virtual environments for Python 3' python3 -c 'import ensurepip'
    fi
    want strace 'strace, which makes system calls fail for tests' command -v strace
  fi
}

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

apt_install() {
  as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -q --no-install-recommends "$@" </dev/null
}

# Installs packages; the package lists of a fresh system are empty or old.
try_install() {
  apt_install "$@" >/dev/null 2>&1 ||
    { as_root apt-get update -q </dev/null && apt_install "$@"; }
}

# Whether packages can be asked for at all.
can_install() {
  command -v apt-get >/dev/null && { [ "$(id -u)" = 0 ] || command -v sudo >/dev/null; }
}

give_up() {
  echo "$0: missing on this machine:$missing_names" >&2
  echo "On Debian 12 the packages are:$missing_packages" >&2
  exit 1
}

# install_missing build|spec
install_missing() {
  list_missing "$1"
  [ -n "$missing_packages" ] || return 0
  can_install || give_up
  echo "installing:$missing_packages"
  # shellcheck disable=SC2086
  try_install $missing_packages || true
  list_missing "$1"
  [ -z "$missing_packages" ] || give_up
}

# Keeps the lines of a build in the file $1 and shows how far it is.
show_build() {
  lua5.4 -e '
    io.stdout:setvbuf "no"
    local log, due = assert(io.open(arg[1], "w")), 10
    for line in io.lines() do
      log:write(line, "\n")
      local percent = line:match "^%[ *(%d+)%%%] Building"
      local count, all = line:match "^%[(%d+)/(%d+)%] Building"
      percent = tonumber(percent) or count and 100 * count // all or 0
      if percent >= due then
        io.write((" %d%%"):format(percent))
        due = percent // 10 * 10 + 10
      end
    end
    print()' /dev/null "$1"
}

configure_and_build() {
  { [ -f "$1/CMakeCache.txt" ] || (cd "$root" && cmake --preset "$2"); } &&
    cmake --build "$1" --parallel "$(nproc)"
}

# build_in FOLDER PRESET: configures with PRESET where FOLDER is not configured, and builds.
build_in() {
  build_log=$(mktemp) build_failed="$0: building failed"
  printf 'building %s' "$1"
  { configure_and_build "$1" "$2" 2>&1 || echo "$build_failed"; } | show_build "$build_log"
  if grep -qxF "$build_failed" "$build_log"; then
    cat "$build_log" >&2
    rm -f "$build_log"
    exit 1
  fi
  rm -f "$build_log"
}
