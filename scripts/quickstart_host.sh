#!/usr/bin/env bash
# One host of `quickstart.sh --link`, started by linkem on each of them: a worker, and on host 0 the
# master and the job too. Logs and the master's address lie in STATE, a folder that all of them see.
#
# Usage: quickstart_host.sh BIN STATE RANKS [CHAR_GPT_ARGUMENT...]
# Exit code: host 0: the job's own. What is still running when every host has ended, linkem ends.
set -uo pipefail

case "${1:-}" in -h | --help) sed -n 's/^# \{0,1\}//p' "${BASH_SOURCE[0]}" | sed 1d; exit 0 ;; esac
[ $# -ge 3 ] || { echo "quickstart_host.sh: BIN, STATE and RANKS are needed; linkem starts this" >&2; exit 64; }
bin=$1 state=$2 ranks=$3
shift 3
name="host-$LINKEM_HOST"
# Gloo would guess an interface by the host's name, which does not lead to the emulated network.
export GLOO_SOCKET_IFNAME=$LINKEM_INTERFACE

fail() { echo "quickstart: $1" >&2; [ ! -e "$2" ] || cat "$2" >&2; exit 1; }

# Whatever way host 0 goes, the others go too.
[ "$LINKEM_HOST" != 0 ] || trap 'touch "$state/end"' EXIT

if [ "$LINKEM_HOST" = 0 ]; then
  "$bin/longhaul-master" --in-memory --listen "$LINKEM_ADDRESS:0" --port-file "$state/master" 2>"$state/master.log" &
  daemon=$! log="$state/master.log"
fi
until [ -s "$state/master" ]; do
  [ "$LINKEM_HOST" != 0 ] || kill -0 "$daemon" 2>/dev/null || fail "the master ended" "$log"
  [ ! -e "$state/end" ] || exit 1
  sleep 0.1
done
master=$(cat "$state/master")

"$bin/longhaul-worker" --master "$master" --name "$name" --address "$LINKEM_ADDRESS" \
  --slots $(((ranks + LINKEM_HOSTS - 1) / LINKEM_HOSTS)) --state-dir "$state/$name" 2>"$state/$name.log" &
worker=$!

if [ "$LINKEM_HOST" != 0 ]; then
  until [ -e "$state/end" ]; do
    kill -0 "$worker" 2>/dev/null || fail "the worker of $name ended" "$state/$name.log"
    sleep 0.2
  done
  kill -TERM "$worker" 2>/dev/null
  wait "$worker"
  exit 0
fi

# A job that is started before all workers are there could be placed on fewer hosts.
until [ "$("$bin/longhaul" nodes --master "$master" -o json | grep -o '"state":"ready"' | wc -l)" -ge "$LINKEM_HOSTS" ]; do
  kill -0 "$worker" 2>/dev/null || fail "the worker of $name ended" "$state/$name.log"
  sleep 0.2
done
"$bin/longhaul" run --master "$master" --name quickstart --ranks "$ranks" -- "$bin/char_gpt" "$@"
