#!/usr/bin/env bash
# Trains a small GPT on real text over four ranks, launched by our own master and two workers on this
# machine, or by workers on emulated hosts with slow links between them. Sets up and builds what is
# missing first, and leaves nothing running.
set -euo pipefail

usage() {
  cat <<'EOF'
Usage: scripts/quickstart.sh [--ranks N] [--steps N] [--text FILE|DIR] [--codec SPEC] [--report FILE]
                             [--link RATE,RTT[,LOSS%]]

  --ranks N        ranks to train with, over two workers (default 4)
  --steps N        training steps (default 400, half the example's own)
  --text FILE|DIR  text to train on (default: the C++ headers of the libtorch that was found)
  --codec SPEC     how gradients travel: zstd (lossless, default), none, lossless, bf16, fp16, int8,
                   rms:step=0.5, auto (docs/compression.md)
  --report FILE    also write the final report as JSON
  --link RATE,RTT[,LOSS%]
                   as root: one emulated host per rank, up to 4, with such links between them, as in
                   --link 25mbit,100ms,0.5% (docs/linkem.md)

Exit code: the training job's own; 64: wrong usage; 77: --link without root or /dev/net/tun.
EOF
}

die() { echo "quickstart: $*" >&2; exit 64; }

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
ranks=4 steps=400 text='' codec=zstd report=''
unset link
while [ $# -gt 0 ]; do
  case "$1" in
    -h | --help) usage; exit 0 ;;
    --ranks | --steps | --text | --codec | --report | --link)
      [ $# -ge 2 ] || die "$1 needs a value; see scripts/quickstart.sh --help"
      declare "${1#--}=$2"
      shift
      ;;
    *) die "unknown option '$1'; see scripts/quickstart.sh --help" ;;
  esac
  shift
done
[[ "$ranks" =~ ^[1-9][0-9]*$ ]] || die "--ranks is a number from 1, not '$ranks'"
[[ "$steps" =~ ^[1-9][0-9]*$ ]] || die "--steps is a number from 1, not '$steps'"
case "${codec%%:*}" in none | zstd | lossless | bf16 | fp16 | int8 | rms | auto) ;; *)
  die "--codec $codec: no such codec; there are none, zstd, lossless, bf16, fp16, int8, rms, auto" ;;
esac
if [ -n "${link+given}" ]; then
  [[ "$link" =~ ^([0-9.]+[kmg]?bit),([0-9.]+(us|ms|s))(,([0-9.]+%))?$ ]] ||
    die "--link is RATE,RTT[,LOSS%], as in 25mbit,100ms,0.5%, not '$link'"
  link_flags=(--rate "${BASH_REMATCH[1]}" --rtt "${BASH_REMATCH[2]}" --loss "${BASH_REMATCH[5]:-0%}")
  if [ "$(id -u)" != 0 ] || [ ! -c /dev/net/tun ]; then
    echo "quickstart: --link makes emulated hosts, which takes root and /dev/net/tun:" \
      "run it with sudo on a machine that has both, or leave --link out" >&2
    exit 77
  fi
fi
if [ -n "$text" ]; then
  [ -e "$text" ] || die "--text $text: no such file or folder"
  text=$(realpath "$text")
fi
if [ -n "$report" ]; then
  [ -d "$(dirname "$report")" ] || die "--report $report: no such folder"
  report=$(realpath -m "$report")
fi

cd "$top"
# --- Everything below is stopped and removed on every way out -------------------------------------
state=$(mktemp -d)
pids=()
# shellcheck disable=SC2317 # called by the trap
cleanup() {
  local pid
  trap '' INT TERM
  for pid in "${pids[@]}"; do kill -TERM "$pid" 2>/dev/null || true; done
  for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
  rm -rf "$state"
}
trap cleanup EXIT

scripts/setup.sh
targets=(longhaul-master longhaul-worker longhaul-shim longhaul-cli char_gpt)
[ -z "${link+given}" ] || targets+=(linkem)

# One line that tells how far the build is: rewritten on a terminal, elsewhere a new one every quarter of a minute.
show_progress() {
  local text
  text="quickstart: building, $1 after $((SECONDS / 60)) min $((SECONDS % 60)) s"
  if [ -t 2 ]; then
    printf '\r%s\e[K' "$text" >&2
  elif ((SECONDS >= told_at)); then
    echo "$text" >&2
    told_at=$((SECONDS + 15))
  fi
}

# Reads ninja's output, a line for each finished step, into the file LOG.
follow_build() {
  local line rest='' steps='' told_at=0 status
  SECONDS=0
  while :; do
    if IFS= read -r -t 1 line; then
      status=0
    else
      status=$?
    fi
    if ((status > 128)); then # a second went by
      rest+=$line
    elif ((status > 0)); then # the end
      break
    else
      line=$rest$line rest=''
      printf '%s\n' "$line" >>"$1"
      [[ ! "$line" =~ ^\[([0-9]+)/([0-9]+)\] ]] || steps="${BASH_REMATCH[1]} of ${BASH_REMATCH[2]} steps done"
    fi
    [ -z "$steps" ] || show_progress "$steps"
  done
  [ ! -t 2 ] || printf '\r\e[K' >&2
}

log="$state/build.log"
[ -e build/release/build.ninja ] || { echo "quickstart: configuring" >&2; cmake --preset release >/dev/null; }
NINJA_STATUS='[%f/%t] ' cmake --build --preset release --target "${targets[@]}" 2>&1 | follow_build "$log" ||
  { tail -n 40 "$log" >&2; exit 1; }
bin="$top/build/release/bin"
if [ -z "$text" ]; then
  text=$(sed -n 's/^Libtorch_ROOT_DIR:[A-Z]*=//p' build/release/CMakeCache.txt)/include
fi

trap 'exit 130' INT
trap 'exit 143' TERM

# A file that a daemon writes when it is ready; its log tells why it did not.
wait_for_file() {
  local tries=0
  until [ -s "$1" ]; do
    kill -0 "$2" 2>/dev/null || { cat "$3" >&2; exit 1; }
    tries=$((tries + 1))
    [ $tries -lt 200 ] || { echo "quickstart: $1 was not written in 20 s" >&2; cat "$3" >&2; exit 1; }
    sleep 0.1
  done
}

arguments=(--text "$text" --codec "$codec" --sample 400 --steps "$steps")
[ -z "$report" ] || arguments+=(--report "$report")

# The job, in a session of its own: a Ctrl-C at the terminal reaches this script alone, which stops
# the job (a Ctrl-C at `longhaul run` itself would leave it to run on).
run_job() {
  set +e
  setsid "$@" &
  local job=$! code interrupted=
  trap 'interrupted=130; kill -TERM $job 2>/dev/null' INT
  trap 'kill -TERM $job 2>/dev/null' TERM
  wait "$job"
  code=$?
  # A trapped signal interrupts wait; the job then ends and exits by itself.
  while kill -0 "$job" 2>/dev/null; do
    wait "$job"
    code=$?
  done
  exit "${interrupted:-$code}"
}

if [ -n "${link+given}" ]; then
  run_job "$bin/linkem" run --hosts $((ranks < 4 ? ranks : 4)) "${link_flags[@]}" --no-prefix --fail-fast -o none \
    -- "$top/scripts/quickstart_host.sh" "$bin" "$state" "$ranks" "${arguments[@]}"
fi

# Daemons have sessions of their own, too: they end when the job has.
setsid "$bin/longhaul-master" --in-memory --listen 127.0.0.1:0 --port-file "$state/master" 2>"$state/master.log" &
pids+=($!)
wait_for_file "$state/master" "${pids[0]}" "$state/master.log"
master=$(cat "$state/master")
for worker in 1 2; do
  setsid "$bin/longhaul-worker" --master "$master" --name "worker-$worker" --slots $(((ranks + 1) / 2)) \
    --state-dir "$state/worker-$worker" 2>"$state/worker-$worker.log" &
  pids+=($!)
done

for ((tries = 0; tries < 200; ++tries)); do
  nodes=$("$bin/longhaul" nodes --master "$master" -o json)
  [ "$(grep -o '"state":"ready"' <<<"$nodes" | wc -l)" -lt 2 ] || break
  for i in 1 2; do
    kill -0 "${pids[$i]}" 2>/dev/null || { cat "$state/worker-$i.log" >&2; exit 1; }
  done
  sleep 0.1
done

run_job "$bin/longhaul" run --master "$master" --name quickstart --ranks "$ranks" -- "$bin/char_gpt" "${arguments[@]}"
