#!/usr/bin/env bash
# Gathers what a bare GPU machine lacks to build and check Longhaul (scripts/gpu_check.sh).
set -euo pipefail

usage() {
  cat <<'EOF'
Usage: scripts/gpu_pack.sh [--into FOLDER]

Downloads the Debian packages of the libraries that the training library and its tests need (no gRPC) and
unpacks them into FOLDER (default .deps/gpu of the checkout, ignored by git), 7 MiB; nothing is
installed. Needs apt-get and dpkg-deb (Debian 12) and the network; no root. Take FOLDER along with the checkout to an
x86-64 machine that has g++ 12 or later, CMake, ninja, nvcc 12 or later and a python3 with torch, and run
scripts/gpu_check.sh there: it needs no network.

Exit code: 0 packed; 1 something could not be fetched, or the folder is larger than 50 MiB; 64 wrong usage.
EOF
}

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
into="$top/.deps/gpu"
while [ $# -gt 0 ]; do
  case "$1" in
    -h | --help) usage; exit 0 ;;
    --into) into=${2:?--into needs a folder}; shift ;;
    *) echo "gpu_pack: unknown option '$1'; see scripts/gpu_pack.sh --help" >&2; exit 64 ;;
  esac
  shift
done

# Headers, libraries and what they load; pkgconf, which finds two of them; libbacktrace, which not every GCC brings along.
packages=(libspdlog-dev libspdlog1.10 libfmt-dev libfmt9 libzstd-dev libzstd1 libxxhash-dev libxxhash0
  nlohmann-json3-dev libgtest-dev libgmock-dev libgloo-dev pkgconf-bin libpkgconf3 libgcc-12-dev)
most_kib=$((50 * 1024))

downloads=$(mktemp -d)
trap 'rm -rf "$downloads"' EXIT
echo "gpu_pack: downloading ${#packages[@]} packages" >&2
if ! (cd "$downloads" && apt-get download -q "${packages[@]}") >"$downloads/log" 2>&1; then
  tail -n 15 "$downloads/log" >&2
  echo "gpu_pack: the packages above could not be downloaded (is the package index reachable? apt-get update)" >&2
  exit 1
fi
rm -rf "$into"
mkdir -p "$into"
for package in "$downloads"/*.deb; do
  case "$package" in
    */libgcc-*) # the rest of it is a compiler's own
      dpkg-deb -x "$package" "$downloads/gcc"
      mkdir -p "$into/usr/include" "$into/usr/lib/x86_64-linux-gnu"
      cp "$downloads"/gcc/usr/lib/gcc/x86_64-linux-gnu/*/include/backtrace.h "$into/usr/include"
      cp "$downloads"/gcc/usr/lib/gcc/x86_64-linux-gnu/*/libbacktrace.a "$into/usr/lib/x86_64-linux-gnu"
      ;;
    *) dpkg-deb -x "$package" "$into" ;;
  esac
  basename "$package" >>"$into/packages.txt"
done
# Where things were packed is not where their .pc files say.
cat >"$into/usr/bin/pkg-config" <<'EOF'
#!/bin/sh
root=$(cd "$(dirname "$0")/../.." && pwd)
libraries=$root/usr/lib/x86_64-linux-gnu
export LD_LIBRARY_PATH="$libraries" PKG_CONFIG_SYSROOT_DIR="$root" \
  PKG_CONFIG_LIBDIR="$libraries/pkgconfig:$root/usr/share/pkgconfig" \
  PKG_CONFIG_ALLOW_SYSTEM_CFLAGS=1 PKG_CONFIG_ALLOW_SYSTEM_LIBS=1
exec "$root/usr/bin/pkgconf" "$@"
EOF
chmod +x "$into/usr/bin/pkg-config"
find "$into" -path '*/share/doc/*' ! -type d ! -name copyright -delete
find "$into" -xtype l -delete # to what was left behind
find "$into" -type d -empty -delete

kib=$(du -sk "$into" | cut -f1)
echo "gpu_pack: $((kib / 1024)) MiB in $into" >&2
[ "$kib" -le "$most_kib" ] || { echo "gpu_pack: that is more than $((most_kib / 1024)) MiB" >&2; exit 1; }
