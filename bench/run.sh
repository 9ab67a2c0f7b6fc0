#!/bin/sh
# Measures rondo: builds what is missing, prints tables, writes bench/out/*.json.
#
#   sh bench/run.sh [OPTIONS] [SECTION...]
#
# Sections, all of them when none is named: bandwidth kernels isa search process writers memory
# plan start.
# bench/main.lua tells the options. RONDO_BUILD names a release build to measure; without it,
# build-bench is made.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/tools/setup.sh"
install_missing build

build=${RONDO_BUILD:-}
if [ -z "$build" ]; then
  build=$root/build-bench
  [ -f "$build/CMakeCache.txt" ] || (cd "$root" && cmake --preset default -B "$build" >/dev/null)
  build_in "$build" default
fi
build=$(realpath "$build")
mkdir -p "$build/lua/bench" "$root/bench/out"
# shellcheck disable=SC2046
cc -std=c11 -D_GNU_SOURCE -O3 -march=native -Wall -Wextra -shared -fPIC -pthread \
  $(pkg-config --cflags lua5.4) "$root/bench/native.c" -o "$build/lua/bench/native.so"

export RONDO_BUILD="$build"
export LUA_PATH="$root/?.lua;$build/lua/?.lua;$build/lua/?/init.lua;;"
export LUA_CPATH="$build/lua/?.so;;"
cd "$root"
exec lua5.4 bench/main.lua "$@"
