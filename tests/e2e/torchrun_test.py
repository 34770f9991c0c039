"""torchrun_program.py, which knows nothing of Longhaul, goes on to its end while its ranks are killed."""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time
import unittest

HERE = pathlib.Path(__file__).resolve().parent
BINARIES = pathlib.Path(sys.argv.pop(1)).resolve()
PEER_PYTHON = HERE.parents[1] / ".peers/venv/bin/python"
RANKS, STEPS, KILLS = 4, 60, 3


class Torchrun(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="longhaul-torchrun-")
        folder = pathlib.Path(self.folder.name)
        self.checkpoint = folder / "checkpoint"
        log = open(folder / "daemons.log", "w", encoding="utf-8")
        port_file = folder / "port"
        self.daemons = [subprocess.Popen([BINARIES / "longhaul-master", "--listen", "127.0.0.1:0", "--in-memory", "--port-file",
                                          port_file], stdout=log, stderr=log)]
        while not port_file.exists():
            self.assertIsNone(self.daemons[0].poll())
            time.sleep(0.01)
        self.env = dict(os.environ, LONGHAUL_MASTER=port_file.read_text().strip())
        self.daemons.append(subprocess.Popen(
            [BINARIES / "longhaul-worker", "--slots", str(RANKS), "--address", "127.0.0.1", "--state-dir", folder / "worker"],
            env=self.env, stdout=log, stderr=log))
        log.close()

    def tearDown(self):
        for process in reversed(self.daemons):
            process.send_signal(signal.SIGTERM)
            process.wait()
        self.folder.cleanup()

    def cli(self, *words):
        return subprocess.run([BINARIES / "longhaul", *map(str, words)], env=self.env, capture_output=True, text=True, timeout=200)

    def status(self, job):
        return json.loads(self.cli("status", job, "-o", "json").stdout)

    def done(self):
        return len(self.checkpoint.read_text().split()) if self.checkpoint.exists() else 0

    def run_it(self, python, *flags):
        job = self.cli("run", "-d", "--nnodes", 1, "--nproc-per-node", RANKS, "--max-restarts", KILLS + 2, "--", python,
                       HERE / "torchrun_program.py", self.checkpoint, STEPS, 0.05, *flags).stdout.strip()
        dice = random.Random(5)
        for kill in range(KILLS):
            before = self.done()
            while self.done() < before + 5:  # it goes on after the last kill
                self.assertNotIn(self.status(job)["state"], ("succeeded", "failed"))
                time.sleep(0.02)
            pid = self.status(job)["ranks"][dice.randrange(RANKS)]["pid"]
            self.assertGreater(pid, 0)
            os.kill(pid, signal.SIGKILL)
        waited = self.cli("wait", job)
        log = self.cli("logs", job).stdout
        self.assertEqual(waited.returncode, 0, f"{waited.stderr}\n{log}")
        self.assertEqual(self.status(job)["restarts"], KILLS)
        for rank in range(RANKS):
            self.assertEqual(log.count(f"[{rank}] rank {rank} has done {STEPS} steps\n"), 1)
        for attempt in range(KILLS + 1):
            self.assertIn(f", attempt {attempt}, from step", log)
        self.assertEqual(self.checkpoint.read_text().split(),
                         [str(RANKS * 100 * step + sum(range(RANKS))) for step in range(STEPS)])

    def test_with_sockets(self):
        self.run_it(sys.executable)

    def test_with_torch_distributed(self):
        if not PEER_PYTHON.exists():
            self.skipTest("Python's torch is not installed: scripts/bench.sh parity does that")
        self.run_it(PEER_PYTHON, "--gloo")


if __name__ == "__main__":
    unittest.main()
