"""A chaos campaign: real daemons, array and gang jobs, and faults drawn from a seed: kill -9 of ranks, workers and the master,
SIGSTOP of workers and the master for less and for more than a lease. With --hosts they run on hosts in network namespaces
(root), and there are cut links, links that work one way only, steps of wall clocks and a full disk of the master too. Then
all is left in peace, everything has to end, and checker.py judges. Prints a line of JSON. A failing seed can be run again:
--seed."""

import argparse
import collections
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

import checker
import places

MARK = "LONGHAUL_CHAOS"
WORKERS, SLOTS, LEASE = 3, 3, 2.0
SAY_EVERY = 30  # seconds
GANG = """
i=0
while [ $i -lt 40 ]; do
  echo "line $LONGHAUL_GENERATION $i"
  echo $i >> "$JOURNAL-$LONGHAUL_JOB_ID-$LONGHAUL_GENERATION-$RANK"
  i=$((i+1)); sleep 0.03
done
exit $CODE
"""


class Campaign:
    def __init__(self, binaries, folder, seed, place):
        self.bin, self.folder, self.random = pathlib.Path(binaries).resolve(), pathlib.Path(folder), random.Random(seed)
        self.place, self.address = place, place.master_address
        self.mark = f"{os.getpid()}-{seed}-{time.time_ns()}"
        self.env = dict(os.environ, LONGHAUL_MASTER=self.address, TMPDIR=str(folder), **{MARK: self.mark})
        self.history_lock = threading.Lock()
        self.history = open(self.folder / "history.jsonl", "w", encoding="utf-8")
        self.faults = collections.Counter()
        self.tried = set()  # kinds of faults; a rank cannot be killed where none runs
        self.findings = 0  # seen while it runs; most are the checker's
        self.jobs = []
        self.said_at = time.monotonic()
        self.master = self.start_master()
        self.workers = [self.start_worker(i) for i in range(WORKERS)]

    def tell(self, event, **fields):
        with self.history_lock:
            self.findings += event in ("hang", "leaked")
            self.history.write(json.dumps({"event": event, **fields}) + "\n")
            self.history.flush()

    def say_progress(self, faults=None):
        if time.monotonic() < self.said_at + SAY_EVERY:
            return
        self.said_at = time.monotonic()
        of_all = "" if faults is None else f" of {faults}"
        print(f"chaos: {self.faults.total()}{of_all} faults, {len(self.jobs) - self.active()} of {len(self.jobs)} jobs ended, "
              f"{self.findings} findings", file=sys.stderr, flush=True)

    def spawn(self, name, *words):
        log = open(self.folder / f"{name}.log", "a", encoding="utf-8")
        return subprocess.Popen(self.place.command(name, [self.bin / words[0], *words[1:]]), stdout=log, stderr=log,
                                env=self.env | self.place.environment(name), cwd=self.folder)

    def start_master(self):
        return self.spawn("master", "longhaul-master", "--listen", self.address, "--state", str(self.folder / "master"),
                          "--lease", str(LEASE), "--keep-jobs", "100000")

    def start_worker(self, i):
        return self.spawn(f"w{i}", "longhaul-worker", "--master", self.address, "--name", f"w{i}", "--slots", str(SLOTS),
                          "--state-dir", str(self.folder / f"w{i}"), "--address", self.place.address(f"w{i}"))

    def cli(self, *words, timeout=60):
        return subprocess.run(self.place.command("client", [self.bin / "longhaul", *words]), env=self.env, cwd=self.folder,
                              capture_output=True, text=True, timeout=timeout)

    # --- Work ---------------------------------------------------------------------------------------

    def submit_array(self, tasks, batch):
        self.submit_job({"kind": "array", "tasks": tasks, "exit": 0},
                        ["map", "-d", "--array", f"0-{tasks - 1}", "--batch", str(batch), "--max-attempts", "100", "--", "sh", "-c",
                         "sleep 0.02; echo result of task {}"])

    def submit(self):
        if self.random.random() < 0.5:
            self.submit_array(self.random.randint(20, 80), self.random.randint(1, 4))
        else:
            code = self.random.choice([0, 0, 7])
            row = {"kind": "gang", "tasks": 0, "exit": code}
            # A rank that is killed is no failure of the program's own making: the budget is large; one that exits with its
            # own code is tried again as often, so those run without restarts and are left alone by kill_rank.
            self.submit_job(row, ["run", "-d", "--ranks", "3", "--env", f"JOURNAL={self.folder}/journal", "--env", f"CODE={code}",
                                  *(["--max-restarts", "1000"] if code == 0 else []), "--max-node-restarts", "1000", "--", "sh",
                                  "-c", GANG])

    def submit_job(self, row, words):
        done = self.cli(*words)
        if done.returncode == 0:  # acknowledged
            job = done.stdout.strip()
            self.jobs.append({"job": job, **row})
            self.tell("submitted", job=job, **row)

    def look(self):
        """Reads the results of an array while it runs."""
        arrays = [row["job"] for row in self.jobs if row["kind"] == "array"]
        if arrays:
            self.read_results(self.random.choice(arrays))

    def read_results(self, job):
        done = self.cli("results", job, "--jsonl")
        if done.returncode in (0, 1):  # 1: some tasks have no result
            rows = [json.loads(line) for line in done.stdout.splitlines()]
            results = {row["task"]: row["result"] for row in rows if row["state"] == "done"}
            self.tell("results", job=job, results=results)

    # --- Faults -------------------------------------------------------------------------------------

    def kill_one_of(self, pids):
        if not pids:
            return False
        try:
            os.kill(self.random.choice(pids), signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True

    def kill_rank(self):
        status = self.cli("ps", "-o", "json")
        if status.returncode:
            return False
        pids = [rank["pid"] for job in json.loads(status.stdout)["jobs"] for rank in job["ranks"]
                if job["spec"]["max_restarts"] > 0 and rank["pid"] > 0 and rank["exit_code"] is None]
        return self.kill_one_of(pids)

    def kill_task(self):
        pids = [pid for pid, command in self.marked() if "sh -c sleep 0.02; echo result" in command and "shim" not in command]
        return self.kill_one_of(pids)

    def kill_worker(self):
        i = self.random.randrange(WORKERS)
        self.workers[i].kill()
        self.workers[i].wait()
        time.sleep(self.random.uniform(0, 0.6 * LEASE))
        self.workers[i] = self.start_worker(i)
        return True

    def lose_worker(self):
        i = self.random.randrange(WORKERS)
        self.workers[i].kill()
        self.workers[i].wait()
        time.sleep(self.random.uniform(1.2 * LEASE, 1.6 * LEASE))
        self.workers[i] = self.start_worker(i)
        return True

    def kill_master(self):
        self.master.kill()
        self.master.wait()
        time.sleep(self.random.uniform(0, 0.5))
        self.master = self.start_master()
        return True

    def stop(self, process, seconds):
        process.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        process.send_signal(signal.SIGCONT)
        return True

    def stall_worker(self):
        return self.stop(self.random.choice(self.workers), self.random.uniform(0.1, 0.5))

    def stop_worker(self):
        return self.stop(self.random.choice(self.workers), self.random.uniform(1.2, 1.6) * LEASE)

    def stop_master(self):
        return self.stop(self.master, self.random.uniform(0.1, 1.5))

    def spoil_link(self, kind):
        """Nothing passes between one host and the others, or only one way, for less or for more than a lease."""
        host = self.place.hosts[self.random.choice(["master", *(f"w{i}" for i in range(WORKERS))])]
        getattr(host, kind)()
        short, long = self.random.uniform(0.1, 0.5), self.random.uniform(1.2, 1.6) * LEASE
        time.sleep(self.random.choice([short, long]))
        host.mend()
        return True

    def cut_link(self):
        return self.spoil_link("cut")

    def mute_link(self):
        return self.spoil_link("mute")

    def deafen_link(self):
        return self.spoil_link("deafen")

    def step_clock(self):
        name = self.random.choice(["master", *(f"w{i}" for i in range(WORKERS))])
        self.place.step_clock(name, self.random.choice([-86400, -3600, -10, 10, 3600, 86400]))
        return True

    def fill_disk(self):
        self.place.fill_disk()
        if self.random.random() < 0.3:
            self.submit()  # a refusal is an answer, too
        time.sleep(self.random.uniform(0.1, 1.5))
        killed = self.random.random() < 0.3
        if killed:
            self.master.kill()
            self.master.wait()
        self.place.free_disk()
        if killed:
            self.master = self.start_master()
        return True

    def kinds(self):
        """How often each is drawn."""
        kinds = {self.kill_rank: 8, self.kill_task: 4, self.kill_worker: 4, self.kill_master: 4, self.lose_worker: 1,
                 self.stall_worker: 3, self.stop_worker: 1, self.stop_master: 2}
        if isinstance(self.place, places.SeveralHosts):
            kinds |= {self.cut_link: 2, self.mute_link: 2, self.deafen_link: 2, self.step_clock: 3, self.fill_disk: 3}
        return kinds

    def fault(self):
        """Each kind once, then as they are drawn."""
        kinds = self.kinds()
        untried = [kind for kind in kinds if kind.__name__ not in self.tried]
        kind = self.random.choice(untried) if untried else self.random.choices(list(kinds), list(kinds.values()))[0]
        self.tried.add(kind.__name__)
        if kind():
            self.faults[kind.__name__] += 1

    # --- The whole ----------------------------------------------------------------------------------

    def run(self, faults):
        while self.faults.total() < faults:
            if self.active() < 4:
                self.submit()
            self.fault()
            self.look()
            self.say_progress(faults)
            time.sleep(self.random.uniform(0, 0.2))

    def run_map(self, tasks):
        """One array, and faults until it has ended."""
        while not self.jobs:
            self.submit_array(tasks, 20)
        while self.active():
            self.fault()
            self.look()
            self.say_progress()

    def active(self):
        listed = self.cli("ps", "-o", "json")
        return len(json.loads(listed.stdout)["jobs"]) if listed.returncode == 0 else 4

    def settle(self):
        ended = [row for row in self.jobs if self.wait_for(row["job"])]
        self.wait_for_late_output()
        for row in ended:
            if row["kind"] == "array":
                self.read_results(row["job"])
            else:
                self.tell("log", job=row["job"], text=self.cli("logs", row["job"]).stdout)

    def wait_for(self, job):
        self.say_progress()
        try:
            self.cli("wait", job, timeout=180)
            status = json.loads(self.cli("status", job, "-o", "json").stdout)
        except (subprocess.TimeoutExpired, ValueError):
            self.tell("hang", what=f"{job} did not end")
            return False
        self.tell("ended", job=job, state=status["state"], exit=status["exit_code"], restarts=status["restarts"])
        return True

    def wait_for_late_output(self):
        """A worker keeps what its ranks printed until the master has it, also after the end of their job."""
        deadline = time.monotonic() + 60
        while (kept := sorted(self.folder.glob("w*/spool/*"))) and time.monotonic() < deadline:
            time.sleep(0.1)
        for launch in kept:
            self.tell("hang", what=f"{launch.relative_to(self.folder)} is still kept")

    def end(self):
        for process in [*self.workers, self.master]:
            process.send_signal(signal.SIGTERM)
        for process in [*self.workers, self.master]:
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                self.tell("hang", what=f"{process.args[0]} did not end")
                process.kill()
                process.wait()
        deadline = time.monotonic() + 15
        while self.marked() and time.monotonic() < deadline:
            time.sleep(0.1)
        for pid, command in self.marked():
            self.tell("leaked", pid=pid, command=command)
            os.kill(pid, signal.SIGKILL)
        self.history.close()

    def marked(self):
        """Processes of ours that still run."""
        found, mark = [], f"{MARK}={self.mark}".encode()
        for entry in pathlib.Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            try:
                if mark in (entry / "environ").read_bytes():
                    found.append((int(entry.name), (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")))
            except OSError:
                pass
        return found


def main():
    parser = argparse.ArgumentParser(prog="scripts/chaos.sh", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 30))
    parser.add_argument("--faults", type=int, default=1000)
    parser.add_argument("--map", type=int, metavar="TASKS",
                        help="instead: one array of so many tasks, and faults until it has ended")
    parser.add_argument("--hosts", action="store_true",
                        help="on hosts of their own, with links, clocks and a disk to spoil (root)")
    parser.add_argument("--binaries", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--keep", help="folder to leave history, journals, logs and database in")
    options = parser.parse_args()
    if options.hosts:
        if places.why_not():
            sys.exit(f"chaos: {places.why_not()}")
        if not pathlib.Path(places.FAKETIME).exists():
            sys.exit("chaos: --hosts needs libfaketime; scripts/setup.sh --tests installs it")
        places.enter_private_mounts()
    folder = options.keep or tempfile.mkdtemp(prefix="longhaul-chaos-")
    pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    place = (places.SeveralHosts if options.hosts else places.OneMachine)(folder, [f"w{i}" for i in range(WORKERS)])
    try:
        campaign = Campaign(options.binaries, folder, options.seed, place)
        try:
            if options.map:
                campaign.run_map(options.map)
            else:
                campaign.run(options.faults)
            campaign.settle()
        finally:
            campaign.end()
    finally:
        place.close()
    findings = checker.check(folder)
    for finding in findings[:50]:
        print(finding, file=sys.stderr)
    if len(findings) > 50:
        print(f"... and {len(findings) - 50} more", file=sys.stderr)
    arrays = [row for row in campaign.jobs if row["kind"] == "array"]
    print(json.dumps({"bench": "chaos", "seed": options.seed, "faults": campaign.faults.total(),
                      "kinds": dict(sorted(campaign.faults.items())), "jobs": len(campaign.jobs),
                      "arrays": len(arrays), "tasks": sum(row["tasks"] for row in arrays), "findings": len(findings),
                      "seconds": round(time.monotonic() - begun, 1)}))
    if not options.keep:
        if findings:
            print(f"kept for a look: {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
