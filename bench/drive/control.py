"""What one master takes: a thousand simulated workers (streams without processes), every task granted, ended, and its result
committed with fsync before it is acknowledged. And how soon it serves again after kill -9."""

import argparse
import pathlib
import signal
import subprocess
import tempfile
import time

from common import BIN, emit, emit_median, free_port


class Master:
    def __init__(self, state):
        self.address = f"127.0.0.1:{free_port()}"
        self.state = state
        self.start()

    def start(self):
        """Seconds until it listens."""
        port_file = self.state / "port"
        port_file.unlink(missing_ok=True)
        begun = time.perf_counter()
        self.process = subprocess.Popen(
            [BIN / "longhaul-master", "--listen", self.address, "--state", self.state / "master", "--port-file", port_file,
             "--log-level", "warning"], stdout=subprocess.DEVNULL)
        while not port_file.exists():
            if self.process.poll() is not None:
                raise SystemExit("longhaul-master did not start")
            time.sleep(0.002)
        return time.perf_counter() - begun

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def megabytes(self):
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
        return 0.0


def one(workers, slots, tasks, batch):
    with tempfile.TemporaryDirectory() as folder:
        master = Master(pathlib.Path(folder))
        try:
            done = subprocess.run([BIN / "bench_control", master.address, *map(str, (workers, slots, tasks, batch))],
                                  capture_output=True, text=True, timeout=600)
            if done.returncode:
                raise SystemExit(f"bench_control: exit code {done.returncode}\n{done.stderr[-2000:]}")
            submit, whole = map(float, done.stdout.split())
            megabytes = master.megabytes()
            master.kill()
            return submit, tasks / whole, megabytes, master.start()
        finally:
            master.kill()


def main():
    parser = argparse.ArgumentParser(prog="scripts/bench.sh control", description=__doc__)
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    cases = [("one task a grant", 4, 100_000, 1, 8_000), ("batches of 100", 1, 1_000_000, 100, 80_000)]
    for name, slots, tasks, batch, target in cases:
        runs = [one(options.workers, slots, tasks, batch) for _ in range(options.runs)]
        emit_median("control", name, "durable tasks per second", [run[1] for run in runs], "1/s", target)
        emit_median("control", name, f"submission of {tasks} tasks", [run[0] for run in runs], "s", 3)
        emit_median("control", name, "serving again after kill -9", [run[3] for run in runs], "s", 1)
        emit("control", name, "memory of the master, peak", round(max(run[2] for run in runs), 1), "MiB", len(runs))


if __name__ == "__main__":
    main()
