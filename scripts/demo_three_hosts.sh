#!/usr/bin/env bash
# Three hosts in network namespaces on this machine run a gang and an array; prints what their user
# types and reads. As root; leaves nothing behind. Builds what it needs.
set -euo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$top"
case " $* " in *" -h "* | *" --help "*) exec python3 tests/e2e/three_hosts.py --binaries - --help ;; esac
scripts/setup.sh >&2
[ -e build/release/build.ninja ] || cmake --preset release >/dev/null
cmake --build --preset release --target longhaul-master longhaul-worker longhaul-shim longhaul-cli char_gpt >&2
exec python3 tests/e2e/three_hosts.py --binaries build/release/bin "$@"
