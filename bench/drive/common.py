"""What the bench drivers share: ranks as processes, medians, JSON lines."""

import argparse
import json
import os
import pathlib
import socket
import statistics
import subprocess
import sys

TOP = pathlib.Path(__file__).resolve().parents[2]
BIN = TOP / "build/bench/bin"
PEER_PYTHON = TOP / ".peers/venv/bin/python"
PEERS = TOP / "bench/peers"


class Parser(argparse.ArgumentParser):
    """The command line of one bench: a help text is shown as it is written (argparse alone takes percent signs for
    formats), its default behind it unless it tells the default itself."""

    def __init__(self, bench, description):
        super().__init__(prog=f"scripts/bench.sh {bench}", description=description)

    def add_argument(self, *names, help="", default=None, **more):
        if help is not argparse.SUPPRESS:
            told = default in (None, False, argparse.SUPPRESS) or help.endswith(")")
            help = (help if told else f"{help} (default: {default})".lstrip()).replace("%", "%%")
        return super().add_argument(*names, help=help, default=default, **more)


def emit(bench, case, metric, value, unit, runs=1, spread=None, target=None):
    """One JSON line. `spread`: (largest - smallest) / median of the runs."""
    row = {"bench": bench, "case": case, "metric": metric, "value": value, "unit": unit, "runs": runs}
    if spread is not None:
        row["spread"] = spread
    if target is not None:
        row["target"] = target
    print(json.dumps(row), flush=True)


def emit_median(bench, case, metric, values, unit, target=None):
    median = statistics.median(values)
    spread = (max(values) - min(values)) / median
    emit(bench, case, metric, round(median, 4), unit, len(values), round(spread, 4), target)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run_ranks(world_size, command, timeout=600):
    """Runs command(rank) for every rank, under torchrun's environment names and with one thread each.
    Returns rank 0's standard output; stops the program when a rank fails."""
    port = str(free_port())
    ranks = []
    for rank in range(world_size):
        env = dict(os.environ, RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world_size),
                   LOCAL_WORLD_SIZE=str(world_size), MASTER_ADDR="127.0.0.1", MASTER_PORT=port,
                   OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")
        ranks.append(subprocess.Popen([str(word) for word in command(rank)], env=env, text=True,
                                      stdout=subprocess.PIPE if rank == 0 else subprocess.DEVNULL))
    try:
        output, _ = ranks[0].communicate(timeout=timeout)
        codes = [process.wait(timeout=60) for process in ranks]
    finally:
        for process in ranks:
            if process.poll() is None:
                process.kill()
                process.wait()
    if any(codes):
        sys.exit(f"{command(0)}: exit codes by rank: {codes}")
    return output


def libtorch_headers():
    for line in (TOP / "build/bench/CMakeCache.txt").read_text().splitlines():
        if line.startswith("Libtorch_ROOT_DIR:"):
            return line.split("=", 1)[1] + "/include"
    raise SystemExit("build/bench/CMakeCache.txt names no Libtorch_ROOT_DIR")


def dump_gradients(folder, steps, text=None):
    """Real gradients as flat fp32 files: those of char_gpt with 3.3 million parameters at `steps` ("1,50,200")."""
    subprocess.run(
        [BIN / "char_gpt", "--text", text or libtorch_headers(), "--steps", max(steps.split(","), key=int),
         "--width", "256", "--layers", "4", "--batch", "16", "--lr", "0.001", "--sample", "0",
         "--dump-gradients", folder, "--dump-steps", steps],
        env=dict(os.environ, OMP_NUM_THREADS="1"), check=True, stdout=subprocess.DEVNULL)
    return sorted(pathlib.Path(folder).glob("*.f32"))
