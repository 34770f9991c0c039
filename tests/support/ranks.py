"""Starts a program once per rank, under torchrun's environment names, on loopback."""

import os
import re
import socket
import subprocess

# What libtorch 2.9's Gloo prints to stdout for every group that it connects.
OF_GLOO = re.compile(r"^\[Gloo\] Rank \d+ is connected to .*\n", re.MULTILINE)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start_ranks(world_size: int, command, **variables: str) -> list[subprocess.Popen]:
    """Starts `command` in every rank; by rank."""
    port = free_port()
    ranks = []
    for rank in range(world_size):
        env = dict(os.environ, OMP_NUM_THREADS="1", RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world_size),
                   LOCAL_WORLD_SIZE=str(world_size), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), **variables)
        ranks.append(subprocess.Popen([str(word) for word in command], env=env, text=True, errors="replace",
                                      stdout=subprocess.PIPE, stderr=subprocess.PIPE))
    return ranks


def finish(ranks: list[subprocess.Popen], timeout: float = 200) -> list[subprocess.CompletedProcess]:
    """Runs them to their end. Nothing outlives the call."""
    try:
        outputs = [process.communicate(timeout=timeout) for process in ranks]
    finally:
        for process in ranks:
            if process.poll() is None:
                process.kill()
                process.wait()
    return [subprocess.CompletedProcess(process.args, process.returncode, OF_GLOO.sub("", out), err)
            for process, (out, err) in zip(ranks, outputs)]


def next_line(rank: subprocess.Popen) -> str:
    """What it prints next."""
    line = rank.stdout.readline()
    while OF_GLOO.match(line):
        line = rank.stdout.readline()
    return line


def run_ranks(world_size: int, command, timeout: float = 200, **variables: str) -> list[subprocess.CompletedProcess]:
    """Runs `command` in every rank to its end; results by rank."""
    return finish(start_ranks(world_size, command, **variables), timeout)
