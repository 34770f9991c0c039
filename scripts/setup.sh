#!/usr/bin/env bash
# Installs what building Longhaul needs and is not there yet: Debian packages (apt, as root or with
# sudo) and libtorch. Takes under a second when nothing is missing.
set -euo pipefail

usage() {
  cat <<'EOF'
Usage: scripts/setup.sh [--tests] [--bench] [--libtorch auto|wheel]

  --tests            also what the tests need (GoogleTest, clang-format, clang-tidy, iproute2, libfaketime, the headers
                     of the newest libtorch)
  --bench            also what benchmarks compare with and work on (lz4, iproute2)
  --libtorch auto    use LIBTORCH, Torch_DIR or CMAKE_PREFIX_PATH, else a Python torch, else the wheel
  --libtorch wheel   fetch the pinned wheel into .deps/ whatever else is there
EOF
}

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
tests=no
bench=no
libtorch=auto
while [ $# -gt 0 ]; do
  case "$1" in
    --tests) tests=yes ;;
    --bench) bench=yes ;;
    --libtorch) libtorch=${2:?--libtorch needs auto or wheel}; shift ;;
    -h | --help) usage; exit 0 ;;
    *) echo "setup.sh: unknown option '$1'; see scripts/setup.sh --help" >&2; exit 64 ;;
  esac
  shift
done
case "$libtorch" in auto | wheel) ;; *)
  echo "setup.sh: --libtorch is auto or wheel, not '$libtorch'" >&2; exit 64 ;;
esac

say() { echo "setup: $*" >&2; }

# --- Debian packages ---------------------------------------------------------------------------
packages=(g++ cmake ninja-build ccache mold pkg-config python3 python3-pip ca-certificates
  libgloo-dev libzstd-dev libxxhash-dev libspdlog-dev nlohmann-json3-dev
  libgrpc++-dev libprotobuf-dev protobuf-compiler protobuf-compiler-grpc libcli11-dev libsqlite3-dev)
if [ "$tests" = yes ]; then
  packages+=(libgtest-dev libgmock-dev clang-format-19 clang-19 libclang-rt-19-dev iproute2 libfaketime git)
fi
if [ "$bench" = yes ]; then packages+=(liblz4-dev iproute2); fi

missing=()
if command -v dpkg-query >/dev/null; then
  installed=$(dpkg-query -W -f='${Package} ${db:Status-Status}\n' 2>/dev/null |
    sed -n 's/ installed$//p' | sort -u)
  for package in "${packages[@]}"; do
    grep -qxF "$package" <<<"$installed" || missing+=("$package")
  done
else
  say "no dpkg here, so packages are taken as given; on Debian they are: ${packages[*]}"
fi

if [ ${#missing[@]} -gt 0 ]; then
  sudo=()
  if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
      echo "setup.sh: these packages are missing and neither root nor sudo is at hand; as root run:" >&2
      echo "  apt-get install --no-install-recommends ${missing[*]}" >&2
      exit 1
    fi
    sudo=(sudo)
  fi
  say "installing ${#missing[@]} Debian packages: ${missing[*]}"
  log=$(mktemp)
  if ! { "${sudo[@]}" apt-get update -q &&
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive \
      apt-get install -q -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
    tail -n 15 "$log" >&2
    rm -f "$log"
    echo "setup.sh: apt could not install the packages above (no network to the package index?); then run again:" >&2
    echo "  apt-get update && apt-get install --no-install-recommends ${missing[*]}" >&2
    exit 1
  fi
  rm -f "$log"
fi

# --- libtorch ----------------------------------------------------------------------------------
wheel_dir="$top/.deps/libtorch"
stamp="$wheel_dir/.complete"
gpu=no
if command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1; then gpu=yes; fi
wanted="$(sed -n 's/^\(torch==[^ ]*\).*/\1/p' "$top/scripts/libtorch-wheel.txt") gpu=$gpu"

user_libtorch() {
  [ "$libtorch" = auto ] || return 1
  [ -n "${LIBTORCH:-}${Torch_DIR:-}" ] && return 0
  local place IFS=:
  for place in ${CMAKE_PREFIX_PATH:-}; do
    [ -e "$place/lib/libtorch_cpu.so" ] && return 0
  done
  [ -e "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] && return 0 # the wheel is there already
  python3 -c 'import importlib.util as u, sys; sys.exit(u.find_spec("torch") is None)' 2>/dev/null &&
    python3 -c 'import torch' 2>/dev/null
}

fetch_wheel() {
  if [ "$(uname -m)" != x86_64 ]; then
    echo "setup.sh: the pinned wheel is for x86_64; on $(uname -m) install libtorch yourself and set LIBTORCH=/path/to/libtorch" >&2
    exit 1
  fi
  local download log
  download=$(mktemp -d)
  log="$download/log"
  if [ "$gpu" = yes ]; then
    say "fetching libtorch with its CUDA libraries (about 3 GB) into .deps/libtorch"
    python3 -m pip install -q --no-cache-dir --no-compile --upgrade --target "$wheel_dir" \
      "$(sed -n 's/^\(torch==[^ ]*\).*/\1/p' "$top/scripts/libtorch-wheel.txt")" >"$log" 2>&1
  else
    say "fetching libtorch (about 540 MB) into .deps/libtorch"
    python3 -m pip download -q --no-deps --require-hashes --only-binary=:all: \
      --python-version 3.11 --implementation cp --abi cp311 --abi none --abi abi3 \
      --platform manylinux_2_28_x86_64 --platform manylinux_2_25_x86_64 \
      --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
      -d "$download" -r "$top/scripts/libtorch-wheel.txt" >"$log" 2>&1 &&
      rm -rf "$wheel_dir" && mkdir -p "$wheel_dir" &&
      python3 "$top/scripts/unpack_wheels.py" "$download" "$wheel_dir" >>"$log" 2>&1
  fi || {
    tail -n 15 "$log" >&2
    rm -rf "$download"
    echo "setup.sh: libtorch could not be fetched (is the Python package index reachable, is the disk full?)." >&2
    echo "  Run scripts/setup.sh again, or install libtorch yourself and set LIBTORCH=/path/to/libtorch." >&2
    exit 1
  }
  rm -rf "$download"
  echo "$wanted" >"$stamp"
}

if ! user_libtorch; then
  if [ ! -e "$stamp" ] || [ "$(cat "$stamp")" != "$wanted" ]; then fetch_wheel; fi
fi

# --- clang-tidy --------------------------------------------------------------------------------
tidy_dir="$top/.deps/clang-tidy"
tidy_wheel="$top/scripts/clang-tidy-wheel.txt"
if [ "$tests" = yes ] && ! cmp -s "$tidy_wheel" "$tidy_dir/.complete"; then
  say "fetching clang-tidy (about 42 MB) into .deps/clang-tidy"
  rm -rf "$tidy_dir"
  log=$(mktemp)
  if ! python3 -m pip install -q --no-deps --require-hashes --only-binary=:all: --no-compile \
    --target "$tidy_dir" -r "$tidy_wheel" >"$log" 2>&1; then
    tail -n 15 "$log" >&2
    rm -f "$log"
    echo "setup.sh: clang-tidy could not be fetched (is the Python package index reachable, is the disk full?)." >&2
    exit 1
  fi
  rm -f "$log"
  cp "$tidy_wheel" "$tidy_dir/.complete"
fi

# --- The newest libtorch's headers -------------------------------------------------------------
newest_dir="$top/.deps/newest-libtorch"
newest_wheel="$top/scripts/newest-libtorch-wheel.txt"
if [ "$tests" = yes ] && ! cmp -s "$newest_wheel" "$newest_dir/.complete"; then
  say "fetching the newest libtorch's headers (139 MB, of which 66 are kept) into .deps/newest-libtorch"
  rm -rf "$newest_dir"
  download=$(mktemp -d)
  if ! { python3 -m pip download -q --no-cache-dir --no-deps --require-hashes --only-binary=:all: \
    --python-version 3.11 --implementation cp --abi cp311 --platform macosx_14_0_arm64 \
    -d "$download" -r "$newest_wheel" &&
    python3 "$top/scripts/unpack_wheels.py" "$download" "$newest_dir" torch/include/; } >"$download/log" 2>&1; then
    tail -n 15 "$download/log" >&2
    rm -rf "$download"
    echo "setup.sh: the newest libtorch's headers could not be fetched (is the Python package index reachable, is the disk full?)." >&2
    exit 1
  fi
  rm -rf "$download"
  cp "$newest_wheel" "$newest_dir/.complete"
fi
