#!/usr/bin/env bash
# Sets up, builds and runs every test, or those that are asked for. The last line tells how many passed and failed.
set -euo pipefail

usage() {
  cat <<'EOF'
Usage: scripts/test.sh [--tier TIER,...] [--room ROOM,...] [--changed[=COMMIT]] [CTEST-OPTIONS...]

Installs what is missing, builds build/test and runs every test through ctest, a suite at a time.
  --tier TIER,...      fast (no torch, no daemon), torch, daemon, root (network namespaces), slow (lint, install,
                       fuzz, chaos, quickstart)
  --room ROOM,...      the tests of these rooms: folders under tests/, with those in them
  --changed[=COMMIT]   the tests of rooms touched since COMMIT (HEAD), and of rooms that stand on them
Only what the chosen tests need is built. Whatever else is given goes to ctest:
  scripts/test.sh                     all tests
  scripts/test.sh --tier fast         seconds, once built
  scripts/test.sh --changed --tier fast,torch
  scripts/test.sh -R codec            those whose name matches
  scripts/test.sh -E 'tidy|install'   all but those
EOF
}

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
choice=() others=()
while [ $# -gt 0 ]; do
  case "$1" in
    -h | --help) usage; exit 0 ;;
    --tier | --room)
      [ $# -ge 2 ] || { echo "scripts/test.sh: $1 needs a value; see scripts/test.sh --help" >&2; exit 64; }
      choice+=("$1" "$2")
      shift
      ;;
    --tier=* | --room=*) choice+=("${1%%=*}" "${1#*=}") ;;
    --changed) choice+=(--changed HEAD) ;;
    --changed=*) choice+=(--changed "${1#*=}") ;;
    *) others+=("$1") ;;
  esac
  shift
done

cd "$top"
scripts/setup.sh --tests
[ -e build/test/build.ninja ] || cmake --preset test >/dev/null
targets=() labels=()
if [ ${#choice[@]} -gt 0 ]; then
  chosen=$(python3 tests/support/choose.py . build/test "${choice[@]}")
  read -ra targets < <(sed -n 1p <<<"$chosen")
  read -ra labels < <(sed -n 2p <<<"$chosen")
  targets=(--target "${targets[@]}")
fi
cmake --build --preset test "${targets[@]}"

reports=build/test/test-reports
rm -rf "$reports" build/test/test-report.xml
code=0
ctest --test-dir build/test --output-on-failure --no-tests=error --parallel "$(nproc)" \
  --output-junit test-report.xml "${labels[@]}" "${others[@]}" || code=$?
[ ! -e build/test/test-report.xml ] || python3 tests/support/summary.py build/test/test-report.xml "$reports"
exit $code
