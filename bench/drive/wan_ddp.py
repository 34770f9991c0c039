"""Step time over slow, far and lossy links: four hosts as network namespaces joined by tools/linkem, a transformer of
3.3 million parameters, our DDP with each codec against Python's DDP without a hook, with its fp16 and bf16 hooks and
with PowerSGD. Needs root and /dev/net/tun.

"exposed" is communication that hides behind nothing: the step's time minus that of the same step by a world of one, four
of them side by side (the same load on the cores), measured before and after the systems; the lower one counts.
Fast links are measured in three turns."""

import collections
import os
import statistics
import subprocess
import sys

from common import BIN, PEERS, PEER_PYTHON, Parser, emit, run_ranks

HOSTS = 4
LINKS = {  # name: linkem's flags
    "5mbit 100ms": ["--rate", "5mbit", "--rtt", "100ms"],
    "25mbit 100ms": ["--rate", "25mbit", "--rtt", "100ms"],
    "100mbit 100ms": ["--rate", "100mbit", "--rtt", "100ms"],
    "100mbit 300ms 0.5%": ["--rate", "100mbit", "--rtt", "300ms", "--loss", "0.5%"],
    "1gbit 20ms": ["--rate", "1gbit", "--rtt", "20ms"],
    "loopback": None,
}
OURS = ["none", "zstd", "bf16", "int8", "rms:step=0.5", "auto:error=0.2", "auto:error=0.3"]
PEER_HOOKS = ["none", "fp16", "bf16", "powersgd1", "powersgd4"]
# Named by the project: exposed communication against Python's DDP and its bf16 hook, at least so many times less.
TARGETS = {"5mbit 100ms": {"none": 10, "bf16": 5}, "25mbit 100ms": {"none": 10, "bf16": 5}, "100mbit 100ms": {"none": 6},
           "1gbit 20ms": {"none": 3}, "100mbit 300ms 0.5%": {"none": 5}}
WARMUP, BATCH, TIME = 4, 4, 64
TURNS = {"loopback": 3, "1gbit 20ms": 3}
# On each host: the names that both our library and Python's take.
ON_HOST = ('export RANK=$LINKEM_HOST LOCAL_RANK=0 LOCAL_WORLD_SIZE=1 WORLD_SIZE=${WORLD:-$LINKEM_HOSTS} '
           'MASTER_ADDR=${LINKEM_PEERS%%,*} MASTER_PORT=29500 GLOO_SOCKET_IFNAME=$LINKEM_INTERFACE; '
           '[ "$WORLD_SIZE" = 1 ] && export RANK=0 MASTER_ADDR=127.0.0.1 GLOO_SOCKET_IFNAME=lo; exec "$@"')


TIMEOUT = 400  # seconds of one system over one link


def run(link, program, steps, alone=False, timeout=TIMEOUT, hosts=HOSTS):
    """What rank 0 prints: the milliseconds of each timed step, or what else `program` prints in numbers."""
    flags = LINKS[link] or ["--rate", "10gbit", "--rtt", "0ms"]
    env = dict(os.environ, OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", **({"WORLD": "1"} if alone else {}))
    words = list(map(str, [*program, *steps]))
    if LINKS[link] is None and not alone:
        return [float(word) for word in run_ranks(hosts, lambda rank: words, timeout).split()]
    done = subprocess.run([BIN / "linkem", "run", "--hosts", str(hosts), *flags, "--fail-fast", "--", "sh", "-c", ON_HOST,
                           "sh", *words], env=env, capture_output=True, text=True, timeout=timeout)
    if done.returncode:
        sys.exit(f"{' '.join(words)} over {link}: exit code {done.returncode}\n{done.stderr[-3000:]}")
    lines = [line.removeprefix("[0] ") for line in done.stdout.splitlines() if line.startswith("[0] ")]
    return [float(word) for line in lines for word in line.split()]


def systems(options):
    for codec in options.codecs.split(";"):
        yield f"longhaul {codec}", [BIN / "bench_ddp_step", "--codec", codec]
    for hook in filter(None, options.hooks.split(",")):
        yield f"python {hook}", [PEER_PYTHON, PEERS / "ddp_step.py", "--hook", hook]


def timed_steps(link):
    """Fewer where a step takes half a minute."""
    return 2 if link.startswith("5mbit") else 10


def measure(link, names):
    """Milliseconds of a step without communication, and of the steps of each system."""
    plan = [2 if timed_steps(link) == 2 else WARMUP, timed_steps(link), BATCH, TIME]
    alone = [run(link, [BIN / "bench_ddp_step"], plan, alone=True)]
    times = collections.defaultdict(list)
    for _ in range(TURNS.get(link, 1)):
        for name, program in names:
            try:
                times[name] += run(link, program, plan)
            except subprocess.TimeoutExpired:
                emit("wan_ddp", f"{link}, {name}", "not done in time", TIMEOUT, "s")
        alone.append(run(link, [BIN / "bench_ddp_step"], plan, alone=True))
    return min(statistics.median(steps) for steps in alone), times


def tell(link, alone, times):
    emit("wan_ddp", link, "step without communication", round(alone, 1), "ms", timed_steps(link))
    exposed = {}
    for name, steps in times.items():
        step = statistics.median(steps)
        exposed[name] = max(step - alone, 0.1)
        emit("wan_ddp", f"{link}, {name}", "step", round(step, 1), "ms", len(steps), round((max(steps) - min(steps)) / step, 3))
        emit("wan_ddp", f"{link}, {name}", "exposed", round(exposed[name], 1), "ms", len(steps))
        emit("wan_ddp", f"{link}, {name}", "share of the step", round(exposed[name] / step, 3), "")
    for name in exposed:
        for hook in ("none", "bf16"):
            peer = exposed.get(f"python {hook}")
            if peer and name.startswith("longhaul"):
                target = TARGETS.get(link, {}).get(hook) if name == "longhaul auto:error=0.3" else None
                emit("wan_ddp", f"{link}, {name}", f"exposed, python {hook} / ours", round(peer / exposed[name], 2), "x",
                     target=target)
    raw, auto = times.get("longhaul none"), times.get("longhaul auto:error=0.3")
    if link == "loopback" and raw and auto:
        emit("wan_ddp", link, "steps per second, auto / none", round(statistics.median(raw) / statistics.median(auto), 3), "x",
             target=0.98)


def main():
    parser = Parser("wan_ddp", __doc__)
    parser.add_argument("--links", default=",".join(LINKS), help="of: " + ", ".join(LINKS))
    parser.add_argument("--codecs", default=";".join(OURS), help="specs, with ';' between them")
    parser.add_argument("--hooks", default=",".join(PEER_HOOKS))
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("wan_ddp makes network namespaces: run it as root")
    for link in options.links.split(","):
        tell(link, *measure(link, list(systems(options))))


if __name__ == "__main__":
    main()
