#!/bin/sh
# Installs what is missing, builds, and runs every spec, every example and the linters.
#
#   sh spec/run.sh [SPEC...]
#
# With SPECs (spec/tensor_spec.lua ...) only those run. RONDO_BUILD names another build folder than
# build; build-debug and build-sanitize are made from their presets. A build with sanitizers runs
# specs and examples under them, and leaves out the linters, which have nothing to do with it.
# The last line says how many checks passed, failed and were skipped.
set -u
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root" || exit 1
. tools/setup.sh
install_missing spec

RONDO_BUILD=${RONDO_BUILD:-build}
case $RONDO_BUILD in
/*) ;;
*) RONDO_BUILD=$root/$RONDO_BUILD ;;
esac
export RONDO_BUILD
build=$RONDO_BUILD
case $build in
*/build-debug | */build-sanitize) build_in "$build" "${build##*/build-}" ;;
*) build_in "$build" default ;;
esac

# What programs that are not built with the sanitizers need to load those that are.
preload=
if grep -q '^RONDO_SANITIZE:STRING=..*' "$build/CMakeCache.txt"; then
  preload="$(cc -print-file-name=libasan.so) $(cc -print-file-name=libubsan.so)"
fi

passed=0 failed=0 skipped=0
log=$(mktemp)
scratch=$(mktemp -d)
trap 'rm -rf "$log" "$scratch"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Runs a command with its output in the log; under the sanitizers if there are any. Leaks are
# looked for by the check below: in lua5.4 and busted they are not ours.
run() {
  if [ -n "$preload" ]; then
    env LD_PRELOAD="$preload" ASAN_OPTIONS=detect_leaks=0 "$@" >"$log" 2>&1 </dev/null
  else
    "$@" >"$log" 2>&1 </dev/null
  fi
}

# The end of the log, which says what went wrong.
show_log() {
  tail -n 200 "$log" | sed 's/^/      /'
}

# check NAME COMMAND...: one check, which passes when the command does.
check() {
  check_name=$1
  shift
  if "$@" >"$log" 2>&1 </dev/null; then
    passed=$((passed + 1))
    echo "ok    $check_name"
  else
    failed=$((failed + 1))
    echo "FAIL  $check_name"
    show_log
  fi
}

skip() {
  skipped=$((skipped + 1))
  echo "skip  $1"
}

# The number before a word in the last line of busted, or of the checks with other readers.
count() {
  sed -n "s/.*\\b\\([0-9][0-9]*\\) $1.*/\\1/p" "$scratch/summary"
}

# Runs one spec file in a process of its own and adds up its checks.
run_spec() {
  begun=$(date +%s)
  run timeout -k 10 1200 busted -o plainTerminal "$1"
  status=$?
  grep -E '^[0-9]+ success(es)? / ' "$log" | tail -n 1 >"$scratch/summary"
  good=$(count success) bad=$(count failure) worse=$(count error) pending=$(count pending)
  if [ -z "$pending" ]; then # no summary: it crashed, or took too long
    good=0 bad=1 worse=0 pending=0
  fi
  bad=$((bad + worse))
  if [ "$status" != 0 ] && [ "$bad" = 0 ]; then bad=1; fi
  passed=$((passed + good)) failed=$((failed + bad)) skipped=$((skipped + pending))
  word=ok
  if [ "$bad" != 0 ]; then word=FAIL; fi
  printf '%-5s %s: %s passed, %s failed, %s skipped, %s s\n' "$word" "$1" "$good" "$bad" \
    "$pending" "$(($(date +%s) - begun))"
  if [ "$bad" != 0 ]; then
    echo "      exit status $status"
    show_log
  elif [ "$pending" != 0 ]; then
    grep -A 2 '^Pending' "$log" | grep -v '^--' | sed 's/^/      /'
  fi
}

# ---- Examples: each file in examples is named below, in the check that runs it. ----

example_quickstart() {
  (cd / && sh "$root/examples/quickstart.sh") && (cd / && sh "$root/examples/quickstart.sh")
}

example_make_model() {
  "$build/rondo" run examples/make_model.lua "$scratch/model" &&
    "$build/rondo" run examples/make_model.lua "$scratch/again" &&
    diff -r "$scratch/model" "$scratch/again" &&
    "$build/rondo" quantize "$scratch/model" "$scratch/by-command" &&
    for format in compressed-tensors gptq awq; do
      "$build/rondo" plan "$scratch/model" --format $format --scheme sym --group-size 128 || return 1
    done
}

# Without its arguments a script says in one line what it wants.
wants_arguments() {
  "$build/rondo" run "$1" 2>"$scratch/said"
  [ $? = 2 ] && [ "$(wc -l <"$scratch/said")" = 1 ]
}

example_layer_errors() {
  wants_arguments examples/make_model.lua && wants_arguments examples/compare_strategies.lua &&
    wants_arguments examples/layer_errors.lua &&
    "$build/rondo" run examples/layer_errors.lua "$scratch/model" "$scratch/by-script"
}

# Built against an installation, with pkg-config and with find_package: one writes what the command
# writes, one gives its own Lua rondo, one stops the scripts that go too far.
example_hosts() (
  cmake --install "$build" --prefix "$scratch/prefix" || return 1
  PKG_CONFIG_PATH=$(dirname "$(find "$scratch/prefix" -name rondo.pc)")
  LD_LIBRARY_PATH=$(PKG_CONFIG_PATH=$PKG_CONFIG_PATH pkg-config --variable=libdir rondo)
  export PKG_CONFIG_PATH LD_LIBRARY_PATH
  link='-Wl,--allow-shlib-undefined'
  mkdir -p "$scratch/pkg-config" &&
    cc -std=c11 -Wall -Wextra -Werror examples/hosts/progress.c -o "$scratch/pkg-config/progress" \
      $link $(pkg-config --cflags --libs rondo) &&
    cc -std=c11 -Wall -Wextra -Werror examples/hosts/own_lua.c -o "$scratch/pkg-config/own_lua" \
      $link $(pkg-config --cflags --libs rondo lua5.4) &&
    c++ -std=c++17 -Wall -Wextra -Werror examples/hosts/judge.cpp -o "$scratch/pkg-config/judge" \
      $link $(pkg-config --cflags --libs rondo) &&
    cmake -S examples/hosts -B "$scratch/find_package" -DCMAKE_PREFIX_PATH="$scratch/prefix" \
      -DCMAKE_EXE_LINKER_FLAGS=$link &&
    cmake --build "$scratch/find_package" &&
    run_hosts "$scratch/pkg-config" && run_hosts "$scratch/find_package"
)

# The three hosts in a folder do what they are for.
run_hosts() (
  export LD_PRELOAD="$preload" ASAN_OPTIONS=detect_leaks=0
  rm -rf "$scratch/by-host"
  "$1/progress" "$scratch/model" "$scratch/by-host" || return 1
  diff -r "$scratch/by-command" "$scratch/by-host" || return 1
  "$1/own_lua" "$scratch/model" | grep -c 'mlp.*max.*std' || return 1
  cat >"$scratch/good.lua" <<'END'
score = 0
local model = require("rondo").open(arg[0]:match "^(.*/)" .. "model")
for _ in model:layers() do score = score + 1 end
END
  echo 'while true do end' >"$scratch/endless.lua"
  if "$1/judge" "$scratch/model" "$scratch/good.lua" "$scratch/endless.lua" >"$scratch/said"; then
    return 1 # the endless script must fail
  fi
  cat "$scratch/said"
  grep -q 'good.lua: [1-9]' "$scratch/said" && grep -q 'endless.lua: limit: ' "$scratch/said"
)

# A recipe plans the model, and makes of it what its plan says: the same bytes.
example_recipe() {
  rm -rf "$scratch/by-recipe"
  "$build/rondo" plan "$scratch/model" --recipe "$1" --format packed >"$scratch/planned" &&
    "$build/rondo" quantize "$scratch/model" "$scratch/by-recipe" --recipe "$1" --format packed &&
    bytes=$(stat -c %s "$scratch/by-recipe/model.safetensors") &&
    grep -q "become $bytes bytes" "$scratch/planned" &&
    "$build/rondo" compare "$scratch/model" "$scratch/by-recipe"
}

run_examples() {
  for example in $(find examples -type f | sort); do
    case $example in
    examples/quickstart.sh)
      if [ "$build" = "$root/build" ]; then
        check "$example" example_quickstart
      else
        skip "$example: it builds and uses build/"
      fi
      ;;
    examples/make_model.lua) check "$example" example_make_model ;;
    examples/layer_errors.lua | examples/recipes/*.lua) ;; # after the model
    examples/compare_strategies.lua | examples/strategies/*.lua) ;; # so, too
    examples/hosts/progress.c | examples/hosts/own_lua.c) ;; # all hosts, and what builds them,
    examples/hosts/judge.cpp | examples/hosts/CMakeLists.txt) ;; # in one check
    *) check "$example has a check in spec/run.sh" false ;;
    esac
  done
  check examples/layer_errors.lua example_layer_errors
  for recipe in examples/recipes/*.lua; do check "$recipe" example_recipe "$recipe"; done
  for strategy in examples/strategies/*.lua; do
    check "$strategy" "$build/rondo" run examples/compare_strategies.lua "$scratch/model" \
      "$strategy"
  done
  if command -v c++ >/dev/null; then
    check examples/hosts example_hosts
  else
    skip 'examples/hosts: needs c++'
  fi
}

# ---- Kernels ----

check_kernels() {
  cmake --build "$build" --target kernel_check && "$build/kernel_check"
}

# The same on an emulated aarch64, where the emulator is there or can be installed.
run_neon() {
  sh tools/check_neon.sh "$build/kernel_check" "$scratch/neon" >"$scratch/neon.log" 2>&1 </dev/null
  case $? in
  0) check 'the kernels of aarch64' true ;;
  77) skip "the kernels of aarch64: $(tail -n 1 "$scratch/neon.log")" ;;
  *) check 'the kernels of aarch64' sh -c 'cat "$0"; false' "$scratch/neon.log" ;;
  esac
}

# Once through all sections, over next to nothing; the figures are of no use.
check_bench() {
  RONDO_BUILD=$build sh bench/run.sh --out "$scratch/bench.json" --folder "$scratch" \
    --mib 1 --repeats 1 --size 0.3 --sizes 0.3 && test -s "$scratch/bench.json"
}

# Other people's readers of the formats, from PyPI: some 400 MB, so only where CI asks for them.
run_interop() {
  if [ "${CI:-}" != true ]; then
    skip "other people's readers of the formats: sh spec/interop/run.sh quick"
    return
  fi
  begun=$(date +%s)
  timeout -k 10 900 sh spec/interop/run.sh quick >"$log" 2>&1 </dev/null
  status=$?
  tail -n 1 "$log" | grep -E '^[0-9]+ passed, ' >"$scratch/summary"
  good=$(count passed) bad=$(count failed) pending=$(count skipped)
  if [ -z "$pending" ]; then good=0 bad=1 pending=0; fi
  if [ "$status" != 0 ] && [ "$bad" = 0 ]; then bad=1; fi
  if [ "$good$bad" = 00 ] && [ "$pending" = 0 ]; then pending=1; fi
  passed=$((passed + good)) failed=$((failed + bad)) skipped=$((skipped + pending))
  word=ok
  if [ "$bad" != 0 ]; then word=FAIL; fi
  printf "%-5s other people's readers: %s passed, %s failed, %s skipped, %s s\n" "$word" "$good" \
    "$bad" "$pending" "$(($(date +%s) - begun))"
  if [ "$bad" != 0 ]; then show_log; else grep '^skip ' "$log" | sed 's/^/      /'; fi
}

# ---- Linters ----

check_format() {
  find include src spec examples bench '(' -name '*.[ch]' -o -name '*.cpp' ')' -exec clang-format --dry-run -Werror {} +
}

check_scripts() {
  for script in spec/run.sh spec/interop/run.sh examples/quickstart.sh bench/run.sh tools/*.sh .ci/run; do
    sh -n "$script" || return 1
  done
}

run_linters() {
  check luacheck luacheck -q --no-color .
  if clang-format --version | grep -q 'version 14\.'; then
    check clang-format check_format
  else
    skip 'clang-format: version 14 is needed'
  fi
  check 'the layers' lua5.4 tools/check_layers.lua "$build"
  check 'the vectors of kernels' lua5.4 tools/check_vectors.lua "$build"
  check 'the syntax of scripts' check_scripts
}

# ---- Leaks, which the sanitizers find when a program ends ----

check_leaks() (
  export ASAN_OPTIONS=detect_leaks=1
  "$build/rondo" quantize "$scratch/model" "$scratch/leaks" --format packed --mse-search &&
    "$build/rondo" quantize "$scratch/model" "$scratch/leaks" --dtype nf4 --overwrite &&
    "$build/rondo" plan "$scratch/model" --json &&
    "$build/rondo" inspect "$scratch/leaks" --stats &&
    "$build/rondo" compare "$scratch/model" "$scratch/leaks" &&
    ! "$build/rondo" quantize "$scratch/model" "$scratch/model" &&
    "$build/rondo" run spec/support/leaks.lua "$scratch"
)

if [ $# -gt 0 ]; then
  for spec in "$@"; do run_spec "$spec"; done
else
  for spec in spec/*_spec.lua; do run_spec "$spec"; done
  run_examples
  check 'the kernels of all tables' check_kernels
  if [ -n "$preload" ]; then
    check 'no leaks' check_leaks
  else
    run_neon
    check 'the benchmarks run' check_bench
    run_interop
    run_linters
  fi
fi

echo
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
