#!/usr/bin/env bash
# Builds and checks on a GPU machine, without a network, what needs a GPU; see scripts/gpu_check.sh --help.
exec python3 "$(dirname "${BASH_SOURCE[0]}")/gpu_check.py" "$@"
