# What every part of ./dev uses: saying what happens, running long commands, stamps.
# Sourced by ./dev.

# All words of ./dev go to stderr: stdout belongs to the command's result.
say() { printf '== %s\n' "$*" >&2; }
note() { printf '   %s\n' "$*" >&2; }
fail() {
  printf 'dev: %s\n' "$*" >&2
  exit 1
}

# run_logged TITLE COMMAND...: runs a long command with its output in build/log/, shows every few
# seconds where it is, and on failure the end of the log. Returns the command's status.
run_logged() {
  local title=$1 log status=0 started=$SECONDS shown=$SECONDS every=15
  shift
  # File names have an end.
  log="$ROOT/build/log/$(tr -cs 'a-zA-Z0-9\n' - <<<"$title" | cut -c1-200).log"
  mkdir -p "$ROOT/build/log"
  [[ -t 2 ]] && every=1
  say "$title"
  "$@" >"$log" 2>&1 </dev/null &
  CHILD=$!
  while kill -0 "$CHILD" 2>/dev/null; do
    if ((SECONDS - shown >= every)); then
      shown=$SECONDS
      show_progress "$((SECONDS - started))" "$(tail -n 1 "$log" | tr -d '\r' | cut -c1-80)"
    fi
    sleep 0.2
  done
  wait "$CHILD" || status=$?
  CHILD=
  [[ -t 2 ]] && printf '\r\033[K' >&2
  if ((status != 0)); then
    # The first errors say why; a parallel build buries them.
    grep -m 10 -iE 'error[: ]|^FAILED|^E: ' "$log" >&2 || true
    tail -n 30 "$log" >&2
    note "failed with status $status after $((SECONDS - started)) s; the whole log: $log"
  elif ((SECONDS - started >= 5)); then
    note "done in $((SECONDS - started)) s"
  fi
  return "$status"
}

show_progress() {
  if [[ -t 2 ]]; then
    printf '\r\033[K   %3d s  %s' "$1" "$2" >&2
  else
    printf '   %3d s  %s\n' "$1" "$2" >&2
  fi
}

# An interrupted ./dev takes the command it waits for with it.
CHILD=
stop_child() {
  [[ -n $CHILD ]] && kill "$CHILD" 2>/dev/null
  exit 130
}
trap stop_child INT TERM

# A stamp is a file that holds the hash of the inputs of a finished step. It is written last and by
# rename, so a step that was interrupted has none and runs again.
stamp_matches() { [[ -f $1 && $(<"$1") == "$2" ]]; }
write_stamp() {
  mkdir -p "$(dirname "$1")"
  printf '%s\n' "$2" >"$1.new" && mv "$1.new" "$1"
}

# hash_of PATH...: one hash over names and bytes of every file below the paths, leftovers of builds
# excepted.
hash_of() {
  local leftovers=(-name __pycache__ -o -name '*.egg-info' -o -name '.*_cache' -o -name build)
  find "$@" \( "${leftovers[@]}" \) -prune -o -type f -print0 |
    LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum | cut -d ' ' -f 1
}

# One ./dev at a time installs and builds in a checkout; what they then run may overlap.
lock() {
  mkdir -p "$ROOT/build"
  exec 9>"$ROOT/build/lock"
  flock -n 9 || { say "waiting for another ./dev that installs or builds" && flock 9; }
}
unlock() { exec 9>&-; }

# How many compilers at once: one per core, each with 1.5 GB of the memory that is free.
build_jobs() {
  local cores memory_kb limit jobs
  cores=$(nproc)
  memory_kb=$(awk '/^MemAvailable:/ {print $2}' /proc/meminfo)
  limit=$(cat /sys/fs/cgroup/memory.max 2>/dev/null || echo max)
  [[ $limit != max ]] && ((limit / 1024 < memory_kb)) && memory_kb=$((limit / 1024))
  jobs=$((memory_kb / 1500000))
  ((jobs > cores)) && jobs=$cores
  ((jobs < 1)) && jobs=1
  echo "$jobs"
}
