#!/bin/sh
# From nothing to a quantized model: installs what is missing, builds, quantizes to 4 bits. The first
# time that takes two or three minutes on two cores, then some seconds.
#
#   sh examples/quickstart.sh [MODEL [OUT]]
#
# MODEL: a Hugging Face folder or a safetensors file; without it, a small one is made.
# OUT: the folder to write; without it, one in build/quickstart, which is replaced.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/tools/setup.sh"

case ${1:-} in -*) set -- 1 2 3 ;; esac
if [ $# -gt 2 ]; then
  echo "usage: sh examples/quickstart.sh [MODEL [OUT]]" >&2
  exit 2
fi
install_missing build
build_in "$root/build" default
work=$root/build/quickstart
mkdir -p "$work"

model=${1:-$work/model} out=${2:-} overwrite=
if [ $# = 0 ] && [ ! -f "$model/config.json" ]; then
  "$root/build/rondo" run "$root/examples/make_model.lua" "$model"
fi
if [ -z "$out" ]; then
  out=$work/$(basename "$(realpath -m "$model")" .safetensors)-w4
  overwrite=--overwrite
fi
echo "rondo quantize $model $out --bits 4 $overwrite"
exec "$root/build/rondo" quantize "$model" "$out" --bits 4 $overwrite
