#!/bin/sh
# Checks what rondo writes with other people's readers, which a virtual environment gets from PyPI.
# No part of rondo needs it. docs/interop.md tells what they made of it.
#
#   sh spec/interop/run.sh quick|all [FOLDER]
#
#   quick  safetensors, numpy, mlx and mlx-lm, models in bf16: some 400 MB, four minutes
#   all    and torch, transformers, compressed-tensors, bitsandbytes, GPTQModel, AutoAWQ, models in
#          f32 and f16, too: some 7 GB, half an hour and more
#
# FOLDER keeps the environment for the next time; without it, a temporary folder is used. rondo is
# taken from $RONDO_BUILD (build). Models: some of random weights, made here, and stories260K where
# ../shared has it. Where PyPI cannot be reached it says that it has skipped everything, with status
# 0; the last line tells how many cases passed and failed, and how many were not tried.
set -u
root=$(cd "$(dirname "$0")/../.." && pwd)
here=$root/spec/interop
what=${1:-}
case $what in quick | all) ;; *) sed -n '2,/^set/s/^# \{0,1\}//p' "$0" && exit 2 ;; esac

build=${RONDO_BUILD:-build}
case $build in /*) ;; *) build=$root/$build ;; esac
test -x "$build/rondo" || { echo "$build: no build of rondo there" >&2 && exit 2; }
export LUA_PATH="$build/lua/?.lua;$build/lua/?/init.lua;;" LUA_CPATH="$build/lua/?.so;;"
# GPTQModel would compile its kernels for every model.
export TORCHDYNAMO_DISABLE=1 HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error
# It wants two workers, but takes half of the processors.
export GPTQMODEL_CPU_WORKERS=2

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
mkdir -p "${2:-$scratch}" || exit 1
venv=$(cd "${2:-$scratch}" && pwd)/$what

skip() {
  echo "skip  everything: $1"
  echo
  echo '0 passed, 0 failed, 0 skipped'
  exit 0
}

install() {
  python3 -m venv "$venv" >"$scratch/log" 2>&1 ||
    skip "python3 -m venv: $(tail -n 1 "$scratch/log")"
  "$venv/bin/pip" install -q "$@" >"$scratch/log" 2>&1 ||
    skip "pip install: $(grep ERROR "$scratch/log" | tail -n 1)"
}

readers='safetensors numpy ml_dtypes mlx mlx-cpu mlx-lm'
if [ "$what" = all ]; then
  readers="$readers torch transformers compressed-tensors bitsandbytes gptqmodel optimum"
fi
if [ ! -e "$venv/installed" ]; then
  install $readers
  # Its requirements are those of years ago; a file of it that needs nothing is what is used.
  if [ "$what" = all ]; then install --no-deps autoawq; fi
  touch "$venv/installed"
fi
"$venv/bin/pip" freeze 2>/dev/null | grep -i -E "^($(echo $readers autoawq | tr ' ' '|'))=="

# check NAME ARGS...: what a check says is shown and counted; one that breaks off has failed.
check() {
  name=$1
  shift
  "$venv/bin/python" -W ignore "$here/check_$name.py" "$@" >"$scratch/log" 2>"$scratch/errors"
  status=$?
  grep -a -E '^(ok|FAIL) ' "$scratch/log" | tee -a "$scratch/all"
  if [ "$status" != 0 ]; then
    grep -a -q '^FAIL ' "$scratch/log" ||
      echo "FAIL  $name $*: status $status" | tee -a "$scratch/all"
    tail -n 20 "$scratch/errors" | sed 's/^/      /'
  fi
}

# check_model NAME MODEL [TOKENS]
check_model() {
  made=$scratch/$1
  shift
  lua5.4 "$here/checkpoints.lua" "$1" "$made" || exit 1
  check files "$made" "$1"
  check mlx "$made" "$@"
  if [ "$what" = all ]; then
    check compressed_tensors "$made"
    check bitsandbytes "$made"
    check gptqmodel "$made"
    check transformers "$made" "$@"
  fi
  rm -rf "$made"
}

# check_foreign NAME MODEL PACKAGES...: the reverse, what others write (foreign_PACKAGES.py)
check_foreign() {
  made=$scratch/$1-foreign model=$2
  shift 2
  for packages; do
    # GPTQModel leaves its log where it is started.
    (cd "$scratch" && "$venv/bin/python" -W ignore "$here/foreign_$packages.py" "$model" "$made" \
      >"$scratch/log" 2>&1) ||
      echo "FAIL  foreign_$packages $model: $(tail -n 1 "$scratch/log")" | tee -a "$scratch/all"
  done
  check foreign "$made" "$model" "$build/rondo"
  rm -rf "$made"
}

"$venv/bin/python" "$here/make_model.py" "$scratch/random" || exit 1
lua5.4 "$here/checkpoints.lua" "$scratch/random/stacked" "$scratch/random-stacked" mlx || exit 1
check mlx "$scratch/random-stacked" "$scratch/random/stacked"
check_foreign stacked "$scratch/random/stacked" mlx
check_foreign experts "$scratch/random/experts" mlx
dtypes=bf16 others=mlx
if [ "$what" = all ]; then dtypes='f32 f16 bf16' others='mlx torch'; fi
for model in $dtypes experts; do check_model "random-$model" "$scratch/random/$model"; done
stories=$root/../shared/models/stories260K-hf
# GPTQModel loads no model without a tokenizer.
if [ -d "$stories" ]; then cp "$stories"/bf16/tokenizer* "$scratch/random/bf16"; fi
# shellcheck disable=SC2086
check_foreign bf16 "$scratch/random/bf16" $others
if [ -d "$stories" ]; then
  check_foreign stories "$stories/bf16" mlx
  for dtype in $dtypes; do
    check_model "stories-$dtype" "$stories/$dtype" \
      "$root/../shared/models/text/tinystories_eval_200.tok512.u16"
  done
else
  echo 'skip  stories260K: ../shared has it not'
fi

count() { grep -a -c "$1" "$scratch/all"; }
untried=$(count '^ok .*not tried')
failed=$(count '^FAIL ')
echo
echo "$(($(count '^ok ') - untried)) passed, $failed failed, $untried skipped"
[ "$failed" = 0 ]
