#!/bin/sh
# Builds librondo and the check of kernels for aarch64 and runs the latter in an emulator: its
# digest must be the one that a native check has.
#
#   sh tools/check_neon.sh KERNEL_CHECK FOLDER
#
# KERNEL_CHECK: the native program (the target kernel_check of a build); FOLDER: where to build.
# Installs Debian's cross compiler and qemu-user where they are missing. Exit status 77: they cannot
# be installed, nothing was checked.
set -u
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/tools/setup.sh"
native=$1 build=$2

list_cross() {
  missing_packages=
  want gcc-aarch64-linux-gnu 'a cross compiler' command -v aarch64-linux-gnu-gcc
  want libc6-dev-arm64-cross 'its C library' test -e /usr/aarch64-linux-gnu/include/stdio.h
  want qemu-user 'an emulator' command -v qemu-aarch64
}
list_cross
if [ -n "$missing_packages" ]; then
  # shellcheck disable=SC2086
  can_install && try_install $missing_packages
  list_cross
  if [ -n "$missing_packages" ]; then
    echo "cannot be installed:$missing_packages"
    exit 77
  fi
fi

# Debian's lua.h includes a header of the native architecture.
mkdir -p "$build/include"
echo '#define DEB_HOST_MULTIARCH "aarch64-linux-gnu"' >"$build/include/lua5.4-deb-multiarch.h"
cmake -S "$root" -B "$build" -DCMAKE_BUILD_TYPE=Release -DRONDO_WERROR=ON \
  -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 \
  -DCMAKE_C_COMPILER=aarch64-linux-gnu-gcc -DCMAKE_EXE_LINKER_FLAGS=-static \
  -DCMAKE_C_FLAGS="-I$build/include" &&
  cmake --build "$build" --parallel "$(nproc)" --target rondo_static kernel_check || exit 1

expected=$("$native" | sed -n '1s/^[a-z0-9]*: //p')
result=$(qemu-aarch64 "$build/kernel_check") || { echo "$result"; exit 1; }
echo "$result"
if [ "$(echo "$result" | head -n 1)" != "neon: $expected" ]; then
  echo "the native check says: $expected"
  exit 1
fi
OBJDUMP=aarch64-linux-gnu-objdump lua5.4 "$root/tools/check_vectors.lua" "$build"
