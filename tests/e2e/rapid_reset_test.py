"""Floods of streams that are opened and taken back at once, at the master's port and at an agent's socket, beside a gang that runs:
its worker stays, the gang succeeds, and the memory is given back."""

import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "support"))
from rapid_reset import attack  # noqa: E402

BINARIES = pathlib.Path(sys.argv.pop(1)).resolve()
LIMIT = 120  # seconds; nothing here takes so long
STREAMS = 15_000
CALM_MEGABYTES = 300  # an idle daemon has some 30


def until(condition, what):
    deadline = time.monotonic() + LIMIT
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"still not: {what}")
        time.sleep(0.05)


def megabytes(process):
    for line in pathlib.Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0


class RapidResetTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="longhaul-reset-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        log = open(self.folder / "daemons.log", "wb")
        self.addCleanup(log.close)
        self.master = self.start(log, "longhaul-master", "--listen", "127.0.0.1:0", "--port-file", self.folder / "port", "--state",
                                 self.folder / "state")
        until((self.folder / "port").exists, "the master listens")
        self.address = (self.folder / "port").read_text().strip()
        self.worker = self.start(log, "longhaul-worker", "--master", self.address, "--slots", 2, "--state-dir", self.folder / "worker")
        self.gang = self.start(subprocess.DEVNULL, "longhaul", "run", "--master", self.address, "--wait-for-nodes", "--ranks", 2,
                               "--chdir", self.folder, "--", "sh", "-c",
                               "echo $LONGHAUL_AGENT > agent.tmp && mv agent.tmp agent; while [ ! -e over ]; do sleep 0.05; done")
        until((self.folder / "agent").exists, "the gang runs")
        self.agent = (self.folder / "agent").read_text().strip()

    def start(self, log, program, *words):
        process = subprocess.Popen([BINARIES / program, *map(str, words)], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self.addCleanup(process.wait)
        self.addCleanup(process.send_signal, signal.SIGTERM)
        return process

    def flood(self, victim, target, path):
        for _ in range(2):
            attack(target, path, STREAMS)
        until(lambda: megabytes(victim) < CALM_MEGABYTES, f"it has {megabytes(victim):.0f} MiB")
        (self.folder / "over").touch()
        self.assertEqual(self.gang.wait(LIMIT), 0)
        journal = subprocess.run([BINARIES / "longhaul", "events", "--master", self.address], capture_output=True, text=True, check=True)
        self.assertNotIn("worker lost", journal.stdout)

    def test_at_the_masters_port(self):
        self.flood(self.master, self.address, "/longhaul.v1.WorkerService/Session")

    def test_by_calls_that_change_nothing(self):
        self.flood(self.master, self.address, "/longhaul.v1.JobService/ListNodes")

    def test_at_an_agents_socket(self):
        self.flood(self.worker, self.agent, "/longhaul.v1.AgentService/Join")


if __name__ == "__main__":
    unittest.main()
