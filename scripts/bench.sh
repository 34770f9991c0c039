#!/usr/bin/env bash
# Runs one benchmark and prints JSON lines: bench, case, metric, value, unit, runs, spread, and target
# where there is one. Builds what it needs (preset `bench`) and installs peers only when it needs them.
set -euo pipefail

usage() {
  cat <<'EOF'
Usage: scripts/bench.sh NAME [options of that benchmark; NAME --help lists them]

  parity     after 50 steps, are parameters those of Python's DDP to the last bit?  (installs peers)
  ddp_matrix training loops x options x worlds x codecs: does ours do what Python's DDP does? (installs peers)
  ddp_step   step time of our DDP against Python's DDP and plain libtorch           (installs peers)
  lossless   ratio and speed of the zstd codec on real gradients, against stock zstd
  codecs     ratio, error and speed of every codec on real gradients, against stock zstd, lz4 and torch's own ops
  convergence  held-out loss of char_gpt after 800 steps with each codec, against fp32
  learning   held-out loss step by step, each codec and Python's DDP with its hooks  (installs peers)
  allreduce  bytes, time and error of the compressed all-reduce, against Gloo's      (root)
  overlap    how much of the exchange hides behind backward, and what codecs cost a step
  wan_ddp    step time over slow, far and lossy links, against Python's DDP and its hooks  (root, installs peers)
  wan_picture  time to the same loss against the link, drawn from wan_ddp's and learning's output  (installs peers)
  control    durable tasks a second, launches, memory and recovery, with a thousand simulated workers
  detection  how soon dead ranks, workers and silent hosts are noticed; are stalls taken for deaths?  (root)
  root_cause  is the failure report right about whom, and how soon? 16 ranks fail in 18 ways  (root for one of them)
  linkem     are emulated links true to rate, RTT and loss, and how much passes?  (root)
  build      cold and warm build time of the presets release and test

Peers: Python's torch with all its dependencies, some 5 GB, into .peers/ of the checkout.
EOF
}

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$top"
torch_version=2.11.0

die() { echo "bench: $*" >&2; exit 64; }

build() {
  scripts/setup.sh --bench >&2
  [ -e build/bench/build.ninja ] || cmake --preset bench >/dev/null
  cmake --build --preset bench --target "$@" >&2
}

install_peers() {
  .peers/venv/bin/python -c "import matplotlib, torch; assert torch.__version__.startswith('$torch_version')" 2>/dev/null && return
  echo "bench: installing Python torch $torch_version and what it needs into .peers/ (5 GB)" >&2
  python3 -m venv .peers/venv
  .peers/venv/bin/pip install --quiet "torch==$torch_version" numpy matplotlib >&2
}

[ $# -ge 1 ] || { usage >&2; exit 64; }
name=$1
shift
case "$name" in
  -h | --help) usage; exit 0 ;;
  parity) targets=(bench_parity) peers=yes ;;
  ddp_matrix) targets=(bench_ddp_matrix) peers=yes ;;
  ddp_step) targets=(bench_ddp_step) peers=yes ;;
  lossless) targets=(bench_lossless char_gpt) peers=no ;;
  codecs) targets=(bench_codecs bench_gradients bench_torch_quantize char_gpt) peers=no ;;
  linkem) targets=(linkem) peers=no ;;
  control) targets=(bench_control bench_launch bench_stamp longhaul-master longhaul-worker longhaul-shim longhaul-cli) peers=no ;;
  detection) targets=(bench_detection longhaul-master longhaul-worker longhaul-shim longhaul-cli) peers=no ;;
  root_cause) targets=(longhaul-faulty-rank longhaul-needs-library longhaul-master longhaul-worker longhaul-shim longhaul-cli)
    peers=no ;;
  convergence) targets=(char_gpt) peers=no ;;
  learning) targets=(bench_learning) peers=yes ;;
  allreduce) targets=(bench_allreduce linkem) peers=no ;;
  overlap) targets=(bench_ddp_step) peers=no ;;
  wan_ddp) targets=(bench_ddp_step linkem) peers=yes ;;
  wan_picture) targets=() peers=yes ;;
  build) targets=() peers=no ;;
  *) die "no benchmark '$name'; there are parity, ddp_matrix, ddp_step, lossless, codecs, convergence,
  learning, allreduce, overlap, wan_ddp, wan_picture, linkem, control, detection, root_cause, build" ;;
esac
for argument in "$@"; do
  case "$argument" in -h | --help) exec python3 "bench/drive/$name.py" --help ;; esac
done
[ ${#targets[@]} -eq 0 ] || build "${targets[@]}"
[ "$peers" = no ] || install_peers
[ "$name" != wan_picture ] || exec .peers/venv/bin/python "bench/drive/$name.py" "$@"
exec python3 "bench/drive/$name.py" "$@"
