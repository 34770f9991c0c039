#!/usr/bin/env bash
# Kills everything at random while jobs run, then checks that no promise was broken; see
# scripts/chaos.sh --help. Builds what it needs.
set -euo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$top"
case " $* " in *" -h "* | *" --help "*) exec python3 tests/chaos/campaign.py --binaries - --help ;; esac
scripts/setup.sh >&2
[ -e build/release/build.ninja ] || cmake --preset release >/dev/null
cmake --build --preset release --target longhaul-master longhaul-worker longhaul-shim longhaul-cli >&2
exec python3 tests/chaos/campaign.py --binaries build/release/bin "$@"
