# Style and static checks. Sourced by ./dev.

cxx_files() {
  find "$ROOT"/{common,chunk,codec,proto,transport,storage,planner,client,services,tests,bench} \
    -name build -prune -o \( -name '*.h' -o -name '*.cc' \) -print0 | LC_ALL=C sort -z
}

fix_format() {
  say "formatting in place"
  cxx_files | xargs -0 clang-format -i
  "$PYTHON" -m ruff check --quiet --fix "$ROOT" || true
  "$PYTHON" -m ruff format --quiet --exclude "*.md" "$ROOT"
}

# Each check runs even when an earlier one failed: one run shows everything.
command_check() {
  local status=0
  [[ $# -eq 0 || $* == --fix ]] || fail "usage: ./dev check [--fix]"
  lock
  need_packages build check
  need_venv
  cd "$ROOT" || exit 1
  (($# == 0)) || fix_format
  say "clang-format"
  cxx_files | xargs -0 clang-format --dry-run --Werror >&2 || status=1
  say "ruff"
  "$PYTHON" -m ruff check --quiet . >&2 || status=1
  "$PYTHON" -m ruff format --quiet --diff --exclude "*.md" . >&2 || status=1
  say "shellcheck"
  shellcheck -x dev .ci/run || status=1
  run_logged "tests/tidy: include table, headers, files, names" \
    "$PYTHON" -m pytest --quiet tests/tidy || status=1
  build_preset release
  unlock
  say "clang-tidy, of what has changed since it was last clean"
  "$PYTHON" tools/clang_tidy.py --jobs "$(build_jobs)" || status=1
  ((status != 0)) || say "everything is in order"
  return "$status"
}
