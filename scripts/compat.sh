#!/usr/bin/env bash
# Builds and tests the library against other versions of libtorch; see scripts/compat.sh --help.
set -euo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
case " $* " in *" -h "* | *" --help "*) ;; *) "$top/scripts/setup.sh" --tests >&2 ;; esac
exec python3 "$top/scripts/compat.py" "$@"
