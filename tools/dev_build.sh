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

command_build() {
  local preset=${1:-release}
  (($# == 0)) || shift
  case $preset in
    release | asan | tsan) need_packages build ;;
    fuzz) need_packages build fuzz ;;
    *) fail "there is no preset '$preset', but release, asan, tsan and fuzz" ;;
  esac
  build_preset "$preset" "$@"
}
