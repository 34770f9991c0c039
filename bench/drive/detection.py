"""How soon is it seen that a rank, a worker or a host has gone, and is a stall taken for an end? Master, workers and the
client that looks are hosts in network namespaces (root); times are from the injection to the client's seeing it."""

import contextlib
import json
import os
import pathlib
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

from common import BIN, TOP, Parser, emit

sys.path.insert(0, str(TOP / "tests/support"))
from hosts import Hosts, why_not  # noqa: E402

PORT = 7700
STALL = 0.5


class Watcher:
    """bench_detection on a host of its own: when was what seen?"""

    def __init__(self, host, binaries, master):
        self.process = host.start([binaries / "bench_detection", master], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.changed = threading.Condition()
        self.events = []  # (what, seconds on the monotonic clock)
        self.reader = threading.Thread(target=self.read)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            what, at = line.rsplit(maxsplit=1)
            with self.changed:
                self.events.append((what, int(at) / 1e9))
                self.changed.notify_all()

    def watch(self, job):
        self.process.stdin.write(job + "\n")
        self.process.stdin.flush()

    def since(self, begun):
        with self.changed:
            return [(what, at) for what, at in self.events if at >= begun]

    def await_event(self, prefix, begun, limit=60):
        """When something that starts with `prefix` was first seen after `begun`."""
        deadline = time.monotonic() + limit
        with self.changed:
            while True:
                for what, at in self.events:
                    if at >= begun and f"{what} ".startswith(prefix + " "):
                        return at
                if not self.changed.wait(deadline - time.monotonic()):
                    raise SystemExit(f"detection: nobody saw '{prefix}' within {limit} s")

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.reader.join()


class Cluster:
    """A master on host 0, workers w1, w2, ... on the next ones, the client on the last."""

    def __init__(self, hosts, binaries, lease, folder):
        self.bin, self.folder = pathlib.Path(binaries), pathlib.Path(folder)
        self.address = f"{hosts[0].address}:{PORT}"
        self.client = hosts[-1]
        self.log = open(self.folder / "log", "w", encoding="utf-8")
        self.master = self.start(hosts[0], "longhaul-master", "--listen", self.address, "--state", self.folder / "master",
                                 "--lease", lease)
        self.workers = {host: self.start_worker(host) for host in hosts[1:-1]}
        self.watcher = Watcher(self.client, self.bin, self.address)
        for host in self.workers:
            self.watcher.await_event(f"node {host.name} ready", 0)

    def start(self, host, program, *words):
        return host.start([self.bin / program, *words], stdout=self.log, stderr=self.log)

    def start_worker(self, host):
        return self.start(host, "longhaul-worker", "--master", self.address, "--slots", 64, "--address", host.address,
                          "--state-dir", self.folder / host.name)

    def cli(self, *words):
        done = subprocess.run([*self.client.enter, self.bin / "longhaul", words[0], "--master", self.address, *words[1:]],
                              capture_output=True, text=True, timeout=60)
        if done.returncode:
            raise SystemExit(f"longhaul {' '.join(words)}: exit code {done.returncode}: {done.stderr}")
        return done.stdout.strip()

    def run(self, ranks, *words):
        return self.cli("run", "-d", "--ranks", str(ranks), *words, "--", "sleep", "1000")

    def job(self, job):
        return json.loads(self.cli("status", job, "-o", "json"))

    def await_running(self, job):
        while True:
            status = self.job(job)
            if status["state"] == "running" and all(rank["pid"] > 0 for rank in status["ranks"]):
                return status
            time.sleep(0.02)

    def close(self):
        self.watcher.close()
        for process in [*self.workers.values(), self.master]:
            process.send_signal(signal.SIGTERM)
        for process in [*self.workers.values(), self.master]:
            process.wait()
        self.log.close()


@contextlib.contextmanager
def cluster_of(hosts, binaries, lease):
    with tempfile.TemporaryDirectory(prefix="longhaul-detection-") as folder:
        cluster = Cluster(hosts, binaries, lease, folder)
        try:
            yield cluster
        finally:
            cluster.close()


def tell(case, metric, seconds, target=None):
    """Milliseconds; with fewer than a hundred the 99th of a hundred is the largest."""
    times = sorted(1000 * one for one in seconds)
    emit("detection", case, f"{metric}, p50", round(statistics.median(times), 1), "ms", len(times))
    emit("detection", case, f"{metric}, p99", round(times[min(len(times) - 1, int(len(times) * 0.99))], 1), "ms", len(times),
         target=target)


def bench_exits(cluster, count):
    """One rank of a job of two is killed, in one job after the other."""
    jobs = [cluster.run(2) for _ in range(count)]
    pids = {job: cluster.await_running(job)["ranks"][0]["pid"] for job in jobs}
    for job in jobs:
        cluster.watcher.watch(job)
    time.sleep(1)  # for the streams
    times = []
    for job in jobs:
        begun = time.monotonic()
        os.kill(pids[job], signal.SIGKILL)
        times.append(cluster.watcher.await_event(f"exit {job} 0", begun) - begun)
    tell("rank killed", "until its exit is seen", times, 100)


def in_turns(cluster, count, inject, seen, restore):
    """`inject` on every host, each at its own moment, until `seen` of each; then `restore`, until they are ready."""
    times = {state: [] for state in seen}
    while len(times[seen[0]]) < count:
        begun = {}
        for host in cluster.workers:
            time.sleep(random.uniform(0, 0.2))
            begun[host] = time.monotonic()
            inject(host)
        for state in seen:
            for host in cluster.workers:
                times[state].append(cluster.watcher.await_event(f"node {host.name} {state}", begun[host]) - begun[host])
        restored = time.monotonic()
        for host in cluster.workers:
            restore(host)
        for host in cluster.workers:
            cluster.watcher.await_event(f"node {host.name} ready", restored)
    return times


def bench_workers(cluster, count):
    def kill(host):
        cluster.workers[host].kill()

    def restart(host):
        cluster.workers[host].wait()
        cluster.workers[host] = cluster.start_worker(host)

    tell("worker killed", "until UNREACHABLE is seen", in_turns(cluster, count, kill, ["unreachable"], restart)["unreachable"],
         250)


def injections(cluster):
    return [("link down", lambda host: host.cut(), lambda host: host.mend()),
            ("worker stopped", lambda host: cluster.workers[host].send_signal(signal.SIGSTOP),
             lambda host: cluster.workers[host].send_signal(signal.SIGCONT))]


def bench_stalls(cluster, count, lease):
    for name, inject, restore in injections(cluster):
        begun, stalls = time.monotonic(), 0
        while stalls < count:
            for host in cluster.workers:
                time.sleep(random.uniform(0, 0.1))
                inject(host)
                threading.Timer(STALL, restore, [host]).start()
                stalls += 1
            time.sleep(2 * STALL)
        time.sleep(lease)
        words = [what.split()[2] for what, _ in cluster.watcher.since(begun) if what.startswith("node ")]
        for state in ("unreachable", "lost"):
            emit("detection", f"{name} for {STALL:g} s, lease {lease} s", f"seen as {state.upper()}", words.count(state), "times",
                 stalls, target=0 if state == "lost" else None)


def bench_silence(cluster, count, lease):
    for name, inject, restore in injections(cluster):
        times = in_turns(cluster, count, inject, ["unreachable", "lost"], restore)
        case = f"{name}, lease {lease} s"
        tell(case, "until UNREACHABLE is seen", times["unreachable"], 3500)
        tell(case, "until LOST is seen", times["lost"], 3500 if lease <= 3 else None)


def main():
    parser = Parser("detection", __doc__)
    parser.add_argument("--injections", type=int, default=60, help="of each kind, at least")
    parser.add_argument("--workers", type=int, default=10)
    parser.add_argument("--binaries", default=BIN, help="folder of the programs (build/bench/bin)")
    options = parser.parse_args()
    if why_not():
        sys.exit(f"detection: {why_not()}")
    with Hosts(options.workers + 2) as hosts:
        with cluster_of(hosts, options.binaries, 5) as cluster:
            bench_exits(cluster, options.injections)
            job = cluster.run(options.workers)
            before = cluster.await_running(job)
            bench_workers(cluster, options.injections)
            bench_stalls(cluster, options.injections, 5)
            after = cluster.job(job)
            same = after["state"] == "running" and [r["pid"] for r in after["ranks"]] == [r["pid"] for r in before["ranks"]]
            emit("detection", "kills of workers and stalls", "ranks of a running job that were disturbed", 0 if same else 1,
                 "jobs", 1, target=0)
            cluster.cli("stop", job, "--force")
            bench_silence(cluster, options.injections, 5)
        with cluster_of(hosts, options.binaries, 3) as cluster:
            bench_stalls(cluster, options.injections, 3)
            bench_silence(cluster, options.injections, 3)


if __name__ == "__main__":
    main()
