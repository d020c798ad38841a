# Building with the CMake presets. Sourced by ./dev.

# configure_preset PRESET: makes build/PRESET, unless it is there.
configure_preset() {
  local cache="$ROOT/build/$1/CMakeCache.txt" fresh=()
  cd "$ROOT" || exit 1
  # A build folder that came along with a copied tree belongs to another path.
  if [[ -f $cache ]] && ! grep -qxF "CMAKE_HOME_DIRECTORY:INTERNAL=$ROOT" "$cache"; then
    fresh=(--fresh)
  fi
  if [[ ! -f build/$1/build.ninja || ${#fresh[@]} -gt 0 ]]; then
    run_logged "configuring build/$1" cmake --preset "$1" "${fresh[@]}" || exit 1
  fi
}

# build_preset PRESET [TARGET...]: configures build/PRESET if need be and builds the targets,
# everything by default.
build_preset() {
  local preset=$1 jobs what targets=()
  shift
  configure_preset "$preset"
  (($# == 0)) || targets=(--target "$@")
  what=${*:-everything}
  jobs=$(build_jobs)
  # Lets one compilation serve every build folder that uses the same flags.
  export CCACHE_NOHASHDIR=1
  run_logged "building $what in build/$preset, $jobs at a time" \
    cmake --build "build/$preset" --parallel "$jobs" "${targets[@]}" || exit 1
  [[ $preset != release ]] || ln -sfn release/bin build/bin
}

# ./dev build [PRESET] [TARGET...]. A first word that is no preset is a target of the release.
command_build() {
  local preset=release
  case ${1:-} in
    release | asan | tsan | fuzz)
      preset=$1
      shift
      ;;
    -*) fail "usage: ./dev build [PRESET] [TARGET...]; presets: release, asan, tsan, fuzz" ;;
  esac
  if (($# > 0)); then known_targets "$@"; fi
  lock
  if [[ $preset == fuzz ]]; then need_packages build fuzz; else need_packages build; fi
  build_preset "$preset" "$@"
}

# known_targets TARGET...: fails unless a CMakeLists.txt declares each.
known_targets() {
  local target declares='\b(reprise_[a-z]+|add_(executable|library)|nanobind_add_module)'
  for target in "$@"; do
    find "$ROOT" -name build -prune -o -name .venv -prune -o -name CMakeLists.txt -print0 |
      xargs -0 grep -qE "$declares\($target\b" ||
      fail "there is neither a preset nor a target '$target'; presets: release, asan, tsan, fuzz"
  done
}
