"""Is the failure report right about whom, and how soon? A job of 16 ranks over 4 workers of this machine, whose ranks depend on each
other (tools/faulty_rank), fails again and again: a rank, a step and one of 18 kinds of fault drawn from a seed. The report
counts as right when rank (or worker, where that is at fault), host and class are. Time counts from the fault until `longhaul run`
has printed the report and ended: for a hang from the collective's deadline, for a rank that never joins from the join timeout,
for a killed worker from the end of its lease, for memory from the kernel's kill."""

import argparse
import json
import math
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

from common import BIN, Parser, emit, free_port

WORKERS, SLOTS = 4, 4
LEASE, DEADLINE, JOIN_TIMEOUT = 3.0, 1.5, 3.0
PATIENT_DEADLINE = 30.0  # for a rank that takes a while to run out of memory
STEPS = 100_000  # more than a fault lets it do
TARGET_SHARE, TARGET_SECONDS = 0.99, 2.0
MEMORY_CGROUP = pathlib.Path("/sys/fs/cgroup/memory")
CGROUP_LIMIT = 1 << 30

# kind: (what the rank does, the class in the report, the signal in it)
OWN_FAULTS = {
    "exit code": ("exit", "exit code", 0),
    "exception told": ("fault", "exception", 0),
    "exception uncaught": ("throw", "exception", signal.SIGABRT),
    "Python exception": ("python", "exception", 0),
    "SIGSEGV": ("segv", "signal", signal.SIGSEGV),
    "SIGFPE": ("fpe", "signal", signal.SIGFPE),
    "SIGABRT": ("abort", "signal", signal.SIGABRT),
    "bad_alloc": ("memory", "out of memory", signal.SIGABRT),
    "early exit 0": ("leave", "early exit", 0),
    "hang": ("hang", "hang", 0),
    "never joins": ("absent", "join timeout", 0),
    "missing library": ("execute", "launch", 0),
    "out of memory": ("hog", "out of memory", signal.SIGKILL),
}
OTHERS_FAULTS = ["kill -9", "SIGSTOP", "worker killed", "worker told to stop", "missing program"]
CRASHES = {"SIGSEGV": "crash_by_null_pointer", "SIGFPE": "crash_by_division", "SIGABRT": "commit"}


class Cluster:
    def __init__(self, binaries, folder):
        self.bin, self.folder = pathlib.Path(binaries).resolve(), pathlib.Path(folder)
        self.address = f"127.0.0.1:{free_port()}"
        self.env = dict(os.environ, LONGHAUL_MASTER=self.address, TMPDIR=str(folder))
        self.cgroup, self.oom_kills_seen = self.make_cgroup(), 0
        self.workers = {}
        self.master = self.spawn("longhaul-master", "--listen", self.address, "--in-memory", "--lease", str(LEASE))
        for i in range(WORKERS):
            (self.folder / f"w{i}").mkdir()
            self.offer_program(f"w{i}")
            self.start_worker(f"w{i}")
        self.wait_for_workers()

    def make_cgroup(self):
        """A memory limit for the workers and their ranks, where this machine lets us set one; else None."""
        group = MEMORY_CGROUP / f"longhaul-root-cause-{os.getpid()}"
        try:
            group.mkdir()
            (group / "memory.limit_in_bytes").write_text(str(CGROUP_LIMIT))
            return group
        except OSError:
            return None

    def spawn(self, *words, env=None, enter=None):
        log = open(self.folder / "daemons.log", "a", encoding="utf-8")
        return subprocess.Popen([self.bin / words[0], *words[1:]], env=env or self.env, stdout=log, stderr=log, preexec_fn=enter)

    def offer_program(self, worker):
        """Each worker finds the program in a folder of its own, so that it can be missing on one."""
        link = self.folder / worker / "longhaul-faulty-rank"
        link.unlink(missing_ok=True)
        link.symlink_to(self.bin / "longhaul-faulty-rank")

    def start_worker(self, worker):
        env = dict(self.env, PATH=f"{self.folder / worker}:{os.environ['PATH']}")

        def enter():
            if self.cgroup:
                (self.cgroup / "cgroup.procs").write_text(str(os.getpid()))
        self.workers[worker] = self.spawn("longhaul-worker", "--name", worker, "--slots", str(SLOTS), "--address", "127.0.0.1",
                                          env=env, enter=enter)

    def cli(self, *words):
        return subprocess.run([self.bin / "longhaul", *words], env=self.env, capture_output=True, text=True, timeout=60)

    def wait_for_workers(self):
        for _ in range(600):
            nodes = self.cli("nodes", "-o", "json")
            if nodes.returncode == 0:
                ready = [node for node in json.loads(nodes.stdout)["nodes"] if node["state"] == "ready" and not node["used_slots"]]
                if len(ready) == WORKERS:
                    return
            time.sleep(0.05)
        raise SystemExit("the workers did not register")

    def oom_kills(self):
        return int((self.cgroup / "memory.oom_control").read_text().rsplit("oom_kill ", 1)[1])

    def wait_for_oom_kill(self):
        """When the kernel has killed one more."""
        for _ in range(12000):
            if self.oom_kills() > self.oom_kills_seen:
                self.oom_kills_seen = self.oom_kills()
                return time.time()
            time.sleep(0.005)
        raise subprocess.TimeoutExpired("memory to run out", 60)

    def end(self):
        for process in [*self.workers.values(), self.master]:
            process.send_signal(signal.SIGTERM)
        for process in [*self.workers.values(), self.master]:
            process.wait(timeout=60)
        if self.cgroup:
            self.cgroup.rmdir()


class Injection:
    """One job that fails once."""

    def __init__(self, cluster, kind, draw, number):
        self.cluster, self.kind = cluster, kind
        self.rank = draw.randrange(WORKERS * SLOTS)
        self.step = draw.randrange(5, 40)
        self.worker = f"w{draw.randrange(WORKERS)}"
        self.journal = cluster.folder / f"journal-{number}"
        self.report_file = cluster.folder / f"report-{number}.json"

    def run(self):
        """The report, and seconds from when it could first be known until it was there."""
        if self.kind == "missing program":
            (self.cluster.folder / self.worker / "longhaul-faulty-rank").unlink()
        fault = OWN_FAULTS[self.kind][0] if self.kind in OWN_FAULTS else "mark"
        deadline = PATIENT_DEADLINE if fault == "hog" else DEADLINE
        begun = time.time()
        job = subprocess.Popen(
            [self.cluster.bin / "longhaul", "run", "--ranks", str(WORKERS * SLOTS), "--join-timeout", str(JOIN_TIMEOUT),
             "--report", self.report_file, "--", "longhaul-faulty-rank", str(STEPS), str(int(deadline * 1000)),
             fault, str(self.rank), str(self.step), self.journal, self.cluster.bin / "longhaul-needs-library"],
            env=self.cluster.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            known = self.act(begun)
            job.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.cluster.cli("stop", "last", "--force")
            job.wait(timeout=60)
            return None, math.inf
        ended = time.time()
        self.repair()
        status = json.loads(self.report_file.read_text())
        if self.kind == "never joins":
            known = status["unix_ms_started"] / 1000 + JOIN_TIMEOUT
        return status, max(0.0, ended - known)

    def act(self, begun):
        """Does what the ranks do not do themselves. Returns when the fault could first be known."""
        if self.kind == "missing program":
            return begun
        pid, at = self.injected()
        if self.kind in ("kill -9", "SIGSTOP"):
            os.kill(pid, signal.SIGKILL if self.kind == "kill -9" else signal.SIGSTOP)
            at = time.time()
        elif self.kind.startswith("worker"):
            self.cluster.workers[self.worker].send_signal(signal.SIGKILL if self.kind == "worker killed" else signal.SIGTERM)
            at = time.time()
        elif self.kind == "out of memory":
            at = self.cluster.wait_for_oom_kill()
        if self.kind in ("hang", "SIGSTOP"):
            at += DEADLINE
        elif self.kind == "worker killed":
            at += LEASE
        return at

    def injected(self):
        for _ in range(6000):
            if self.journal.exists():
                _, pid, at = self.journal.read_text().split()
                return int(pid), float(at)
            time.sleep(0.01)
        raise subprocess.TimeoutExpired("the rank's fault", 60)

    def repair(self):
        if self.kind == "missing program":
            self.cluster.offer_program(self.worker)
        elif self.kind.startswith("worker"):
            self.cluster.workers[self.worker].wait(timeout=60)
            self.cluster.start_worker(self.worker)
        self.cluster.wait_for_workers()

    def what_is_wrong(self, status):
        """"" when the report is right."""
        if status is None:
            return "no report"
        report = status["failure"]
        if report is None:
            return f"the job ended as {status['state']}"
        whole_worker = self.kind.startswith("worker") or self.kind == "missing program"
        wanted = {
            "class": {"kill -9": "kill -9", "SIGSTOP": "hang", "worker killed": "worker lost", "worker told to stop": "preempted",
                      "missing program": "launch"}.get(self.kind) or OWN_FAULTS[self.kind][1],
            "rank": None if whole_worker else self.rank,
            "worker": self.worker if whole_worker else status["ranks"][self.rank]["worker"],
            "host": socket.gethostname(),
            "signal": signal.SIGKILL if self.kind == "kill -9" else OWN_FAULTS.get(self.kind, (0, 0, 0))[2],
        }
        wrong = [f"{name} {report[name]}, not {value}" for name, value in wanted.items() if report[name] != value]
        # And what makes it of use: where it crashed, since when it hangs, what is missing.
        if self.kind in CRASHES and not any(CRASHES[self.kind] in frame for frame in report["backtrace"]):
            wrong.append("no such function in the backtrace")
        words = {"hang": f"since step {self.step}", "missing library": "missing library liblonghaul-missing.so",
                 "exception uncaught": "no shard 12", "Python exception": "ValueError: bad shard 12"}.get(self.kind, "")
        if words not in report["message"]:
            wrong.append(f"'{words}' is not in the message")
        return f"{', '.join(wrong)}: {report['message']}" if wrong else ""


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)]


def tell(case, outcomes, **targets):
    seconds = [took for _, took in outcomes]
    share = sum(right for right, _ in outcomes) / len(outcomes)
    emit("root_cause", case, "right about rank, host and class", round(share, 4), "share", len(outcomes), target=targets.get("share"))
    for name, part in (("p50", 0.5), ("p99", 0.99)):
        emit("root_cause", case, f"time to the report, {name}", round(percentile(seconds, part), 3), "s", len(outcomes),
             target=targets.get("seconds") if name == "p99" else None)


def main():
    parser = Parser("root_cause", __doc__)
    parser.add_argument("--injections", type=int, default=204)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 30), help="of the draw (default: one of its own)")
    parser.add_argument("--kinds", help="only these, separated by commas")
    parser.add_argument("--binaries", default=BIN, help=argparse.SUPPRESS)
    options = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="longhaul-root-cause-")
    draw = random.Random(options.seed)
    print(f"seed {options.seed}", file=sys.stderr)
    cluster = Cluster(options.binaries, folder)
    kinds = [*OWN_FAULTS, *OTHERS_FAULTS]
    if options.kinds:
        kinds = [kind for kind in kinds if kind in options.kinds.split(",")]
    if not cluster.cgroup and "out of memory" in kinds:
        print("skipped: 'out of memory', no memory cgroup can be made here", file=sys.stderr)
        kinds.remove("out of memory")
    outcomes = {kind: [] for kind in kinds}
    order = [kinds[i % len(kinds)] for i in range(options.injections)]
    draw.shuffle(order)
    try:
        for number, kind in enumerate(order):
            injection = Injection(cluster, kind, draw, number)
            status, took = injection.run()
            wrong = injection.what_is_wrong(status)
            outcomes[kind].append((not wrong, took))
            if wrong:
                print(f"injection {number}, {kind} on rank {injection.rank}, {injection.worker}: {wrong}", file=sys.stderr)
    finally:
        cluster.end()
        shutil.rmtree(folder, ignore_errors=True)
    for kind in kinds:
        if outcomes[kind]:
            tell(kind, outcomes[kind])
    whole = [outcome for kind in kinds for outcome in outcomes[kind]]
    tell("all", whole, share=TARGET_SHARE, seconds=TARGET_SECONDS)
    return 0 if sum(right for right, _ in whole) >= TARGET_SHARE * len(whole) else 1


if __name__ == "__main__":
    sys.exit(main())
