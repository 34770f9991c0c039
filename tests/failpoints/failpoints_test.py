#!/usr/bin/env python3
"""Each daemon through each call failing: nothing lost, and the reason named. Prints the table.

  failpoints_test.py BIN INTERPOSER SHIM [--only DAEMON[:CALL]]

BIN: where the programs lie. INTERPOSER: the library that makes calls fail (interposer.cc says how).
SHIM: a longhaul-shim that is linked dynamically, so that it can be reached.

A case starts a master and a worker, lets the next calls of one kind fail in one of the programs while
an array and a gang run (or while the daemon itself starts), and then looks at what came out: every result once and right, every line of
the gang, the daemons alive. Where a program gives up, its last words must name the reason; what it
was asked for must work when it is asked for again.
"""
import argparse
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

ERRORS = {
    "open": (24, "Too many open files"),
    "read": (5, "Input/output error"),
    "write": (28, "No space left on device"),
    "fsync": (5, "Input/output error"),
    "accept": (24, "Too many open files"),
    "pipe": (24, "Too many open files"),
    "fork": (11, "Resource temporarily unavailable"),
    "mmap": (12, "Cannot allocate memory"),
}
PROGRAMS = {"master": "longhaul-master", "worker": "longhaul-worker", "shim": "longhaul-shim",
            "cli": "longhaul"}
TIMES = 3
TASKS = 12
LINES = 300
LIMIT_S = 90


class Case:
    def __init__(self, programs, interposer, daemon, call, at_start):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="longhaul-failpoints-"))
        self.programs, self.interposer = programs, interposer
        self.daemon, self.call, self.at_start = daemon, call, at_start
        self.plan = self.folder / "plan"
        self.started = []

    def environment(self, program):
        env = dict(os.environ, TMPDIR=str(self.folder), LONGHAUL_FAILPOINTS=str(self.plan))
        # Ranks inherit it from their shim, and are not meant by any line of a plan.
        if program == PROGRAMS[self.daemon] or self.daemon == "shim":
            env["LD_PRELOAD"] = str(self.interposer)
        return env

    def start(self, program, *arguments):
        log = open(self.folder / f"{program}.log", "ab")
        process = subprocess.Popen([str(self.programs / program), *arguments], stdout=log, stderr=log,
                                   cwd=self.folder, env=self.environment(program))
        self.started.append((program, process))
        return process

    def cli(self, *arguments):
        """Exit code, stdout, stderr."""
        done = subprocess.run([str(self.programs / "longhaul"), *arguments], capture_output=True,
                              cwd=self.folder, env=dict(self.environment("longhaul"),
                                                        LONGHAUL_MASTER=self.address),
                              timeout=LIMIT_S, check=False)
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    def arm(self):
        draft = self.folder / "plan.new"
        number, _ = ERRORS[self.call]
        draft.write_text(f"{PROGRAMS[self.daemon]} {self.call} {number} {TIMES}\n")
        draft.rename(self.plan)

    def hits(self):
        file = self.folder / "plan.hits"
        return len(file.read_text().splitlines()) if file.exists() else 0

    def start_cluster(self):
        self.master = self.start_master("127.0.0.1:0")
        self.address = (self.folder / "port").read_text().strip()
        self.start_worker()

    def start_master(self, listen):
        """Again when it cannot start and says why: a supervisor does the same."""
        port_file = self.folder / "port"
        port_file.unlink(missing_ok=True)
        for _ in range(TIMES + 1):
            master = self.start("longhaul-master", "--listen", listen, "--port-file",
                                str(port_file), "--state", str(self.folder / "state"))
            self.until(lambda: port_file.exists() or master.poll() is not None, "the master starts")
            if port_file.exists():
                return master
            words = (self.folder / "longhaul-master.log").read_text().splitlines()[-1:]
            if not words or "longhaul-master: " not in words[0]:
                break
            self.started = [one for one in self.started if one[1] is not master]
        raise AssertionError(f"the master does not start; {self.logs()}")

    def start_worker(self):
        for _ in range(TIMES + 1):
            worker = self.start("longhaul-worker", "--master", self.address, "--slots", "4", "--name",
                                "w", "--address", "127.0.0.1", "--state-dir",
                                str(self.folder / "worker-state"))
            self.until(lambda: "ready" in self.cli("nodes")[1] or worker.poll() is not None,
                       "the worker is ready")
            if worker.poll() is None:
                return
            words = (self.folder / "longhaul-worker.log").read_text().splitlines()[-1:]
            if not words or "longhaul-worker: " not in words[0]:
                break
            self.started = [one for one in self.started if one[1] is not worker]
        raise AssertionError(f"the worker does not start; {self.logs()}")

    def until(self, condition, what):
        end = time.monotonic() + LIMIT_S
        while not condition():
            if time.monotonic() > end:
                raise AssertionError(f"never: {what}; {self.logs()}")
            time.sleep(0.02)

    def logs(self):
        return "\n".join(f"{file.name}:\n{file.read_text()[-3000:]}"
                         for file in self.folder.glob("*.log"))

    def ask(self, *arguments):
        """Again, when it was refused with a reason. Returns stdout, stderr and the refusals."""
        refusals = []
        end = time.monotonic() + LIMIT_S
        while time.monotonic() < end:
            code, out, err = self.cli(*arguments)
            if code == 0:
                return out, err, refusals
            first = err.strip().splitlines()[0] if err.strip() else ""
            if not first:
                raise AssertionError(f"longhaul {arguments[0]} gave no reason, exit {code}")
            if f"exit {code}: {first}" not in refusals:
                refusals.append(f"exit {code}: {first}")
            self.restart_master(refusals)
            time.sleep(0.2)
        raise AssertionError(f"longhaul {' '.join(arguments)}: {refusals}; {self.logs()}")

    def restart_master(self, refusals):
        """As a supervisor does, when it has given up and said why."""
        if self.master.poll() is None:
            return
        words = (self.folder / "longhaul-master.log").read_text()
        if "ends, because" not in words:
            raise AssertionError(f"the master ended without a reason; {self.logs()}")
        line = next(line for line in words.splitlines() if "ends, because" in line)
        refusals.append(f"master, started again: {line}")
        self.started = [one for one in self.started if one[1] is not self.master]
        self.master = self.start_master(self.address)

    def run(self):
        if self.at_start:
            self.arm()
        self.start_cluster()
        if not self.at_start:
            self.arm()
        array = ("map", "--array", f"0-{TASKS - 1}", "--max-attempts", "10", "--", "sh", "-c",
                 "seq 2000; echo task {}")
        gang = ("run", "--ranks", "2", "--max-restarts", "10", "--", "sh", "-c",
                f"seq {LINES}; echo end $RANK")
        _, _, refused = self.ask(*array)
        results, _, more = self.ask("results", "last")
        refused += more
        body = "".join(f"{number}\n" for number in range(1, 2001))
        expected = "".join(f"{body}task {task}\n" for task in range(TASKS))
        if results != expected:
            raise AssertionError(f"results are not right: {len(results)} bytes of {len(expected)}; "
                                 f"{self.logs()}")
        out, err, more = self.ask(*gang)
        refused += more
        for rank in (0, 1):
            lines = [line for line in out.splitlines() if line.startswith(f"[{rank}] ")]
            missing = "are missing here" in out + err or "missing" in self.logs()
            if lines[-1:] != [f"[{rank}] end {rank}"] or (len(lines) != LINES + 1 and not missing):
                raise AssertionError(f"rank {rank}: {len(lines)} lines, and nobody says so\n{out}{err}")
        self.knock()
        for program, process in self.started:
            if process.poll() is not None:
                raise AssertionError(f"{program} has ended: {process.returncode}; {self.logs()}")
        return refused

    def knock(self):
        """Whoever listens still takes connections: a server speaks first."""
        host, port = self.address.rsplit(":", 1)
        places = [(socket.AF_INET, (host, int(port))),
                  (socket.AF_UNIX, str(self.folder / "worker-state" / "agent.sock"))]
        for family, place in places:
            with socket.socket(family, socket.SOCK_STREAM) as knocking:
                knocking.settimeout(LIMIT_S)
                knocking.connect(place)
                if not knocking.recv(1):
                    raise AssertionError(f"{place} takes no connections; {self.logs()}")

    def end(self):
        for _, process in reversed(self.started):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def said(case):
    """The daemon's own word about the failure."""
    _, text = ERRORS[case.call]
    log = case.folder / f"{PROGRAMS[case.daemon]}.log"
    lines = log.read_text().splitlines() if log.exists() else []
    named = [line for line in lines if text.lower() in line.lower() or "missing" in line]
    return named[-1].split("  ", 1)[-1][:110] if named else ""


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binaries", type=pathlib.Path)
    parser.add_argument("interposer", type=pathlib.Path)
    parser.add_argument("shim", type=pathlib.Path)
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory(prefix="longhaul-failpoints-bin-") as folder:
        programs = pathlib.Path(folder)
        for name in ("longhaul", "longhaul-master", "longhaul-worker"):
            shutil.copy(arguments.binaries / name, programs / name)
        shutil.copy(arguments.shim, programs / "longhaul-shim")
        print(f"{'daemon':20} {'call':7} {'failed':>6}  what happened", flush=True)
        cases = [(daemon, False) for daemon in PROGRAMS] + [("master", True), ("worker", True)]
        for daemon, at_start in cases:
            for call in ERRORS:
                if arguments.only not in ("", daemon, f"{daemon}:{call}"):
                    continue
                case = Case(programs, arguments.interposer.resolve(), daemon, call, at_start)
                try:
                    refused = case.run()
                    hits = case.hits()
                    what = "nothing lost" if hits else "never made here"
                    for reason in refused:
                        what += f"; refused, then done: {reason[:160]}"
                    word = said(case)
                    if word and not refused:
                        what += f"; log: {word}"
                except (AssertionError, subprocess.TimeoutExpired) as error:
                    failed += 1
                    hits = case.hits()
                    what = f"FAILED: {error}"
                finally:
                    case.end()
                place = daemon + (" at its start" if at_start else "")
                print(f"{place:20} {call:7} {hits:6}  {what}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
