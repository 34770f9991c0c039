#!/usr/bin/env bash
# Sets up, builds and runs every test. Takes about a minute of set-up checks and tests when nothing has
# changed since the last run.
set -euo pipefail

usage() {
  cat <<'EOF'
Usage: scripts/test.sh [CTEST-OPTIONS...]

Installs what is missing, builds build/test and runs every test through ctest.
  scripts/test.sh                     all tests
  scripts/test.sh -R codec            those whose name matches
  scripts/test.sh -E 'tidy|install'   all but those
EOF
}
case "${1:-}" in -h | --help) usage; exit 0 ;; esac

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$top"
scripts/setup.sh --tests
[ -e build/test/build.ninja ] || cmake --preset test >/dev/null
cmake --build --preset test
ctest --test-dir build/test --output-on-failure --no-tests=error --parallel "$(nproc)" "$@"
