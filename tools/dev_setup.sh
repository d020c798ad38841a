# Installing what is missing: Debian packages, the virtual environment, our Python packages.
# Sourced by ./dev.

VENV="$ROOT/.venv"
PYTHON="$VENV/bin/python"

# need_packages GROUP...: installs the Debian packages of these groups of tools/packages.txt that
# are missing.
need_packages() {
  local group wanted=() missing
  for group in "$@"; do
    mapfile -t -O "${#wanted[@]}" wanted < <(
      awk -v group="$group" '$1 == group {print $2}' "$ROOT/tools/packages.txt"
    )
  done
  if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    note "this is not Debian; install the equivalents of: ${wanted[*]}"
    return 0
  fi
  mapfile -t missing < <(missing_packages "${wanted[@]}")
  ((${#missing[@]} == 0)) || install_packages "${missing[@]}"
}

missing_packages() {
  local installed
  # dpkg-query fails when it has never heard of a package; that one is missing like the others.
  installed=$(
    { dpkg-query -W -f '${db:Status-Status} ${Package}\n' "$@" 2>/dev/null || true; } |
      awk '$1 == "installed" {print $2}' | sort -u
  )
  comm -23 <(printf '%s\n' "$@" | sort -u) - <<<"$installed"
}

install_packages() {
  local as_root=() apt=(apt-get -o "DPkg::Lock::Timeout=300")
  if ((EUID != 0)); then
    note "these Debian packages are missing: $*"
    command -v sudo >/dev/null || fail "only root can install them: apt-get install -y $*"
    sudo -v || fail "sudo refused; as root: apt-get install -y $*"
    as_root=(sudo)
  fi
  as_root+=(env "DEBIAN_FRONTEND=noninteractive")
  # A dpkg that was interrupted earlier must finish first.
  if [[ -n $(dpkg --audit) ]]; then
    run_logged "finishing an interrupted dpkg" "${as_root[@]}" dpkg --configure -a || exit 1
  fi
  run_logged "reading Debian's package lists" "${as_root[@]}" "${apt[@]}" update || exit 1
  run_logged "installing $# Debian packages" "${as_root[@]}" "${apt[@]}" \
    install -y --no-install-recommends "$@" || exit 1
}

# need_venv [demo] [bench]: the virtual environment with the pinned packages of
# tools/requirements-dev.txt, and with "demo" or "bench" those of that requirements file.
need_venv() {
  local base name
  base=$(find_python)
  # A pip that was killed leaves its mark; what it was writing cannot be trusted.
  if ! stamp_matches "$VENV/stamps/base" "$base" || [[ -e $VENV/stamps/unfinished ]]; then
    rm -rf "$VENV"
    run_logged "making a virtual environment in .venv" "${base%% *}" -m venv "$VENV" || exit 1
    write_stamp "$VENV/stamps/base" "$base"
  fi
  for name in dev "$@"; do
    pip_install "$name" "$(hash_of "$ROOT/tools/requirements-$name.txt")" \
      --no-deps --requirement "$ROOT/tools/requirements-$name.txt"
  done
}

# Prints "PATH VERSION" of a Python that is new enough and can make virtual environments.
find_python() {
  local candidate
  for candidate in python3 /usr/bin/python3; do
    "$candidate" -c 'import ensurepip, sys, venv
assert sys.version_info >= (3, 11)
print(sys.executable, sys.version.split()[0])' 2>/dev/null && return 0
  done
  fail "no python3 of version 3.11 or newer with venv; as root: apt-get install python3-venv"
}

# pip_install NAME STAMP ARGUMENTS...: runs pip once for this stamp.
pip_install() {
  local name=$1 stamp=$2 status=0
  shift 2
  stamp_matches "$VENV/stamps/$name" "$stamp" && return 0
  touch "$VENV/stamps/unfinished"
  run_logged "installing Python packages: $name" "$PYTHON" -m pip --disable-pip-version-check \
    install --no-input "$@" || status=$?
  rm -f "$VENV/stamps/unfinished"
  ((status == 0)) || exit "$status"
  write_stamp "$VENV/stamps/$name" "$stamp"
}

# Our own Python packages, built from the tree again whenever what they are made of has changed.
need_python_package() {
  local native=(CMakeLists.txt cmake common proto chunk codec transport storage)
  cd "$ROOT" || exit 1
  native+=(client/CMakeLists.txt client/*.h client/*.cc client/python)
  export CCACHE_NOHASHDIR=1 CMAKE_BUILD_PARALLEL_LEVEL
  CMAKE_BUILD_PARALLEL_LEVEL=$(build_jobs)
  # --verbose: the compiler's progress, which is all there is to see for minutes.
  pip_install reprise "$(hash_of "${native[@]}")" \
    --verbose --no-deps --no-build-isolation --force-reinstall ./client/python
}
need_connector_package() {
  cd "$ROOT" || exit 1
  pip_install llamacpp "$(hash_of client/connectors/llamacpp)" \
    --no-deps --no-build-isolation --force-reinstall ./client/connectors/llamacpp
}
