"""Step time over slow, far and lossy links: four hosts as network namespaces joined by tools/linkem, a transformer of
3.3 million parameters, our DDP with each codec against Python's DDP without a hook, with its fp16 and bf16 hooks and
with PowerSGD. Needs root and /dev/net/tun.

"exposed" is communication that hides behind nothing: the step's time minus that of the same step by a world of one, four
of them side by side (the same load on the cores)."""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

from common import BIN, PEER_PYTHON, PEERS, TOP, emit

HOSTS = 4
LINKS = {  # name: linkem's flags
    "5mbit 100ms": ["--rate", "5mbit", "--rtt", "100ms"],
    "25mbit 100ms": ["--rate", "25mbit", "--rtt", "100ms"],
    "100mbit 20ms": ["--rate", "100mbit", "--rtt", "20ms"],
    "100mbit 100ms": ["--rate", "100mbit", "--rtt", "100ms"],
    "100mbit 300ms 0.5%": ["--rate", "100mbit", "--rtt", "300ms", "--loss", "0.5%"],
    "1gbit 20ms": ["--rate", "1gbit", "--rtt", "20ms"],
    "loopback": None,
}
OURS = ["none", "zstd", "bf16", "int8", "rms:step=0.25", "rms:step=0.5", "auto"]
PEER_HOOKS = ["none", "fp16", "bf16", "powersgd1", "powersgd4"]
# Named by the project: exposed communication against Python's DDP and its bf16 hook, at least so many times less.
TARGETS = {"25mbit 100ms": {"none": 10, "bf16": 5}, "100mbit 100ms": {"none": 6}, "1gbit 20ms": {"none": 3},
           "100mbit 300ms 0.5%": {"none": 5}}
# On each host: the names that both our library and Python's take.
ON_HOST = ('export RANK=$LINKEM_HOST LOCAL_RANK=0 LOCAL_WORLD_SIZE=1 WORLD_SIZE=${WORLD:-$LINKEM_HOSTS} '
           'MASTER_ADDR=${LINKEM_PEERS%%,*} MASTER_PORT=29500 GLOO_SOCKET_IFNAME=$LINKEM_INTERFACE; '
           '[ "$WORLD_SIZE" = 1 ] && export RANK=0 MASTER_ADDR=127.0.0.1 GLOO_SOCKET_IFNAME=lo; exec "$@"')


def run(link, program, steps, alone=False, timeout=900):
    """Milliseconds of each timed step of rank 0."""
    flags = LINKS[link] or ["--rate", "10gbit", "--rtt", "0ms"]
    env = dict(os.environ, OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", **({"WORLD": "1"} if alone else {}))
    words = list(map(str, [*program, *steps]))
    if LINKS[link] is None and not alone:
        from common import run_ranks
        return [float(line) for line in run_ranks(HOSTS, lambda rank: words, timeout).split()]
    done = subprocess.run([BIN / "linkem", "run", "--hosts", str(HOSTS), *flags, "--fail-fast", "--", "sh", "-c", ON_HOST,
                           "sh", *words], env=env, capture_output=True, text=True, timeout=timeout)
    if done.returncode:
        sys.exit(f"{' '.join(words)} over {link}: exit code {done.returncode}\n{done.stderr[-3000:]}")
    return [float(line.removeprefix("[0] ")) for line in done.stdout.splitlines() if line.startswith("[0] ")]


def systems(options):
    for codec in options.codecs.split(","):
        yield f"longhaul {codec}", [BIN / "bench_ddp_step", "--codec", codec]
    for hook in filter(None, options.hooks.split(",")):
        yield f"python {hook}", [PEER_PYTHON, PEERS / "ddp_step.py", "--hook", hook]


def main():
    parser = argparse.ArgumentParser(prog="scripts/bench.sh wan_ddp", description=__doc__)
    parser.add_argument("--links", default=",".join(LINKS), help="of: " + ", ".join(LINKS))
    parser.add_argument("--codecs", default=",".join(OURS).replace("rms:step=0.25,", "rms:step=0.25,"))
    parser.add_argument("--hooks", default=",".join(PEER_HOOKS))
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--slow-steps", type=int, default=3, help="timed steps below 50 Mbit/s")
    parser.add_argument("--picture", help="draw the table's lines into this SVG file")
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("wan_ddp makes network namespaces: run it as root")
    rows = []
    for link in options.links.split(","):
        slow = link.startswith(("5mbit", "25mbit"))
        plan = [options.warmup, options.slow_steps if slow else options.steps, 4, 64]
        alone = statistics.median(run(link, [BIN / "bench_ddp_step"], plan, alone=True))
        emit("wan_ddp", link, "step without communication", round(alone, 1), "ms", plan[1])
        exposed = {}
        for name, program in systems(options):
            times = run(link, program, plan)
            step = statistics.median(times)
            spread = round((max(times) - min(times)) / step, 3)
            exposed[name] = max(step - alone, 0.1)
            emit("wan_ddp", f"{link}, {name}", "step", round(step, 1), "ms", len(times), spread)
            emit("wan_ddp", f"{link}, {name}", "exposed", round(exposed[name], 1), "ms", len(times))
            rows.append({"link": link, "system": name, "step_ms": step, "exposed_ms": exposed[name]})
        for name in exposed:
            for hook in ("none", "bf16"):
                peer = exposed.get(f"python {hook}")
                if peer and name.startswith("longhaul"):
                    lossy = name.startswith(("longhaul rms", "longhaul auto"))
                    emit("wan_ddp", f"{link}, {name}", f"exposed, python {hook} / ours", round(peer / exposed[name], 2), "x",
                         target=TARGETS.get(link, {}).get(hook) if lossy else None)
    if options.picture:
        pathlib.Path(options.picture).with_suffix(".json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
