# Running tests: ./dev test, san and fuzz. Sourced by ./dev.

# run_ctest PRESET [PROGRAM...]: the C++ tests of a build, or these programs of it; results as JUnit
# files in build/PRESET/results/.
run_ctest() {
  local preset=$1 results="$ROOT/build/$1/results" chosen=()
  shift
  (($# == 0)) || chosen=(--tests-regex "^($(IFS='|' && echo "$*"))\$")
  rm -rf "$results"
  mkdir -p "$results/gtest"
  say "running the C++ tests of build/$preset"
  GTEST_OUTPUT="xml:$results/gtest/" ctest --test-dir "$ROOT/build/$preset" --output-on-failure \
    --output-junit "$results/ctest.xml" --parallel "$(nproc)" "${chosen[@]}" >&2 </dev/null
}

# The pytest folders that exist; tests/tidy first: it is quick and says what is wrong with a file.
python_test_folders() {
  local folder tests=(-name '*_test.py' -o -name 'test_*.py')
  local folders=(tests/tidy tests/golden tests/faults tests/rdma tools bench client/python)
  folders+=(client/connectors tests/integration)
  for folder in "${folders[@]}"; do
    [[ -z $(find "$ROOT/$folder" \( "${tests[@]}" \) -print -quit 2>/dev/null) ]] || echo "$folder"
  done
}

# run_pytest RESULTS WHAT...: the Python tests of these folders, files or names.
run_pytest() {
  local results=$1
  shift
  say "running the Python tests"
  cd "$ROOT" || exit 1
  mkdir -p "$results"
  "$PYTHON" -m pytest -ra --junit-xml="$results/pytest.xml" "$@" >&2 </dev/null
}

# find_tests ARGUMENT...: tools/find_tests.py, which needs no more than a Python.
find_tests() {
  local base
  base=$(find_python) || exit 1
  "${base%% *}" "$ROOT/tools/find_tests.py" "$@"
}

command_test() {
  if [[ ${1:-} == --list && $# -le 2 ]]; then
    find_tests "$@"
    return
  fi
  [[ $# -le 1 && ${1:-} != -* ]] || fail "usage: ./dev test [WORD] or ./dev test --list [WORD]"
  if (($# == 0)); then test_everything; else test_word "$1"; fi
}

# Every test runs even when an earlier one failed; the report's last line counts them all.
test_everything() {
  local status=0 results="$ROOT/build/release/results" folders
  lock
  need_packages build
  need_venv demo
  build_preset release
  need_python_package
  need_connector_package
  unlock
  mapfile -t folders < <(python_test_folders)
  run_ctest release || status=1
  run_pytest "$results" "${folders[@]}" || status=1
  "$PYTHON" "$ROOT/tools/test_report.py" "$results" ctest pytest || status=1
  return "$status"
}

# The tests that have the word, after building what they need and nothing else.
test_word() {
  local status=0 results="$ROOT/build/release/results" orders programs cases nodes reports=()
  say "tests that have the word $1"
  orders=$(find_tests "$1") || exit 1
  mapfile -t programs < <(sed -n 's/^ctest //p' <<<"$orders")
  mapfile -t cases < <(sed -n 's/^gtest //p' <<<"$orders")
  mapfile -t nodes < <(sed -n 's/^pytest //p' <<<"$orders")
  lock
  need_packages build
  # Tests of ./dev and of the tree need no more than pytest; the rest may meet the model.
  if grep -qE '^pytest (bench|client|tests/integration)/' <<<"$orders"; then
    need_venv demo
  else
    need_venv
  fi
  if grep -qE '^pytest (client|tests/integration)/' <<<"$orders"; then
    build_preset release reprise "${programs[@]}"
    need_python_package
    need_connector_package
  elif ((${#programs[@]} > 0)); then
    build_preset release "${programs[@]}"
  fi
  ! grep -q '^pytest tests/faults/' <<<"$orders" || build_preset release reprise fault_client
  unlock
  rm -rf "$results"
  if ((${#programs[@]} > 0)); then
    reports+=(ctest)
    GTEST_FILTER=$(IFS=: && echo "${cases[*]}") run_ctest release "${programs[@]}" || status=1
  fi
  if ((${#nodes[@]} > 0)); then
    reports+=(pytest)
    run_pytest "$results" "${nodes[@]}" || status=1
  fi
  "$PYTHON" "$ROOT/tools/test_report.py" "$results" "${reports[@]}" || status=1
  return "$status"
}

command_san() {
  local preset presets=("$@") status=0 suppressions="$ROOT/tests/sanitizers"
  (($# > 0)) || presets=(asan tsan)
  for preset in "${presets[@]}"; do
    [[ $preset == asan || $preset == tsan ]] || fail "san knows asan and tsan, not '$preset'"
  done
  lock
  need_packages build
  need_venv
  export ASAN_OPTIONS="detect_stack_use_after_return=1:strict_string_checks=1"
  # UCX hooks the memory calls of threads that begin and end, where ThreadSanitizer has no thread.
  export UCX_MEM_EVENTS=n
  export LSAN_OPTIONS="suppressions=$suppressions/lsan.supp:print_suppressions=0"
  export UBSAN_OPTIONS="print_stacktrace=1"
  export TSAN_OPTIONS="suppressions=$suppressions/tsan.supp:second_deadlock_stack=1:history_size=4"
  for preset in "${presets[@]}"; do
    build_preset "$preset"
    run_ctest "$preset" || status=1
    "$PYTHON" "$ROOT/tools/test_report.py" "$ROOT/build/$preset/results" ctest || status=1
  done
  return "$status"
}

# Runs every fuzz target for SECONDS, as many at a time as there are cores.
command_fuzz() {
  local seconds=${1:-60} target failed=0 targets
  [[ $seconds =~ ^[1-9][0-9]*$ && $# -le 1 ]] || fail "usage: ./dev fuzz [SECONDS]"
  lock
  need_packages build fuzz
  configure_preset fuzz
  mapfile -t targets < <(fuzz_targets)
  ((${#targets[@]} > 0)) || fail "reprise_fuzzer declares no target"
  build_preset fuzz "${targets[@]}"
  unlock
  say "fuzzing ${#targets[@]} targets for $seconds s each, $(nproc) at a time"
  for target in "${targets[@]}"; do
    while (($(jobs -pr | wc -l) >= $(nproc))); do wait -n || true; done
    fuzz_target "$target" "$seconds" &
  done
  wait || true
  for target in "${targets[@]}"; do
    report_target "$target" || failed=$((failed + 1))
  done
  ((failed == 0)) || fail "$failed targets failed; once more: build/fuzz/bin/TARGET INPUT"
}

command_crash() {
  [[ ${1:-300} =~ ^[1-9][0-9]*$ && $# -le 1 ]] || fail "usage: ./dev crash [CYCLES]"
  lock
  need_packages build
  build_preset release crash
  unlock
  say "killing a store under load ${1:-300} times"
  "$ROOT/build/release/bin/crash" "${1:-300}" 2>/dev/null
}

# The names of the fuzz targets, and of nothing else that build/fuzz could build.
fuzz_targets() {
  ninja -C "$ROOT/build/fuzz" -t targets all |
    sed -nE 's#^bin/(fuzz_[^:]*|[^:]*_fuzz): .*#\1#p' | sort
}

# Corpora grow in build/fuzz/corpus/NAME from the seeds in tests/fuzz/corpus/NAME; an input that
# breaks something lands in build/fuzz/findings/NAME. results/NAME.clean says that none did.
fuzz_target() {
  local name=$1 seconds=$2 fuzz="$ROOT/build/fuzz" corpora log
  corpora=("$fuzz/corpus/$name")
  log="$fuzz/results/$name.log"
  mkdir -p "${corpora[0]}" "$fuzz/findings/$name" "$fuzz/results"
  [[ ! -d $ROOT/tests/fuzz/corpus/$name ]] || corpora+=("$ROOT/tests/fuzz/corpus/$name")
  rm -f "$fuzz/results/$name.clean"
  "$fuzz/bin/$name" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
    -artifact_prefix="$fuzz/findings/$name/" "${corpora[@]}" >"$log" 2>&1 </dev/null || return 1
  awk '/^stat::number_of_executed_units:/ {print $2}' "$log" >"$fuzz/results/$name.clean"
}

report_target() {
  local name=$1 fuzz="$ROOT/build/fuzz"
  if [[ -f $fuzz/results/$name.clean ]]; then
    printf '%-28s no finding in %s runs\n' "$name" "$(<"$fuzz/results/$name.clean")"
    return 0
  fi
  tail -n 25 "$fuzz/results/$name.log" >&2
  printf '%-28s FAILED: inputs in %s\n' "$name" "$fuzz/findings/$name"
  return 1
}
