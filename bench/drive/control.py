"""What one master takes. Rates and recovery with a thousand simulated workers: real links, no processes; every task granted, ended,
and its result committed with fsync before it is acknowledged. Launches with real workers and real processes."""

import os
import pathlib
import signal
import statistics
import subprocess
import tempfile
import time

from common import BIN, Parser, emit, emit_median, free_port


class Master:
    def __init__(self, folder):
        self.address = f"127.0.0.1:{free_port()}"
        self.folder = folder
        self.start()

    def start(self):
        """Seconds until it listens."""
        port_file = self.folder / "port"
        port_file.unlink(missing_ok=True)
        begun = time.monotonic()
        self.process = subprocess.Popen(
            [BIN / "longhaul-master", "--listen", self.address, "--state", self.folder / "master", "--port-file", port_file,
             "--log-level", "error"], stdout=subprocess.DEVNULL)
        while not port_file.exists():
            if self.process.poll() is not None:
                raise SystemExit("longhaul-master did not start")
            time.sleep(0.002)
        return time.monotonic() - begun

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def megabytes(self):
        return high_water(self.process.pid)


    def cpu_seconds(self):
        return cpu_seconds(pathlib.Path(f"/proc/{self.process.pid}/stat"))

    def thread_seconds(self, name):
        """Processor time of the thread of that name."""
        for task in pathlib.Path(f"/proc/{self.process.pid}/task").iterdir():
            if (task / "comm").read_text().strip() == name:
                # Nanoseconds; stat counts in ticks of 10 ms.
                return int((task / "schedstat").read_text().split()[0]) / 1e9
        raise SystemExit(f"the master has no thread {name}")


def cpu_seconds(stat):
    fields = stat.read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def high_water(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return 0.0


def command_megabytes(master, *arguments):
    """Peak memory of one call of the command line."""
    process = subprocess.Popen([BIN / "longhaul", *arguments], stdout=subprocess.DEVNULL,
                               env=dict(os.environ, LONGHAUL_MASTER=master.address))
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"longhaul {' '.join(arguments)}: exit code {process.returncode}")
    return usage.ru_maxrss / 1024


class Simulation:
    """bench_control, and when it said what (time.monotonic())."""

    def __init__(self, master, *words):
        self.process = subprocess.Popen([BIN / "bench_control", master.address, *map(str, words)], stdout=subprocess.PIPE, text=True)
        self.said = {}

    def until(self, what):
        while what not in self.said:
            line = self.process.stdout.readline()
            if not line:
                raise SystemExit(f"bench_control ended before it said '{what}', exit code {self.process.wait()}")
            word, seconds = line.split()
            self.said[word] = float(seconds)
        return self.said[what]

    def end(self):
        self.until("ended")
        if self.process.wait():
            raise SystemExit("bench_control: the job did not succeed")


def rate(options, slots, tasks, batch):
    with tempfile.TemporaryDirectory() as folder:
        master = Master(pathlib.Path(folder))
        try:
            simulation = Simulation(master, options.workers, slots, tasks, batch, 0)
            simulation.end()
            said = simulation.said
            command = max(command_megabytes(master, "status", "last"), command_megabytes(master, "ps", "--all"))
            megabytes = master.megabytes()
            cpu = master.cpu_seconds() / tasks
            master.kill()
            return {"submission": said["submitted"] - said["submitting"], "rate": tasks / (said["ended"] - said["submitting"]),
                    "master": megabytes, "cpu": cpu, "command": command, "serving": master.start()}
        finally:
            master.kill()


def measure_rates(options):
    cases = [("one task a grant", 4, 100_000, 1, 8_000), ("batches of 100", 1, 1_000_000, 100, 80_000)]
    for name, slots, tasks, batch, target in cases:
        runs = [rate(options, slots, tasks, batch) for _ in range(options.runs)]
        emit_median("control", name, "durable tasks per second", [run["rate"] for run in runs], "1/s", target)
        emit_median("control", name, f"submission of {tasks} tasks", [run["submission"] for run in runs], "s", 3)
        emit_median("control", name, "serving again after kill -9, all tasks done", [run["serving"] for run in runs], "s", 1)
        emit_median("control", name, "processor time of the master a task", [1e6 * run["cpu"] for run in runs], "us")
        emit("control", name, "memory of the master, peak", round(max(run["master"] for run in runs), 1), "MiB", len(runs))
        emit("control", name, "memory of status and ps, peak", round(max(run["command"] for run in runs), 1), "MiB", len(runs))


def measure_recovery(options):
    """The master is killed in the middle of an array of 100,000 tasks, 4,000 of them running."""
    serving, back = [], []
    for _ in range(options.runs):
        with tempfile.TemporaryDirectory() as folder:
            master = Master(pathlib.Path(folder))
            try:
                simulation = Simulation(master, options.workers, 4, 100_000, 1, 500)
                simulation.until("submitted")
                time.sleep(5)
                master.kill()
                started = time.monotonic()
                serving.append(master.start())
                back.append(simulation.until("returned") - started)
                simulation.end()
            finally:
                master.kill()
    name = f"{options.workers} workers, 100,000 tasks, killed in the middle"
    emit_median("control", name, "serving again after its restart", serving, "s", 1)
    emit_median("control", name, "all workers back after its restart", back, "s", 8)


def gang(ranks, kind):
    """Seconds of the owner thread for a gang from its submission to its end, and of the clock."""
    with tempfile.TemporaryDirectory() as folder:
        master = Master(pathlib.Path(folder))
        try:
            simulation = Simulation(master, "gang", 10, ranks // 10, kind, 200)
            simulation.until("submitting")
            before = master.thread_seconds("lh-master")
            simulation.end()
            return master.thread_seconds("lh-master") - before, simulation.said["ended"] - simulation.said["submitting"]
        finally:
            master.kill()


def measure_gangs(options):
    """Joins and exits of one gang of ranks without processes on ten workers: a rank's cost must not grow with the ranks."""
    for kind, name in [("joins", "ranks that join, leave and exit"), ("silent", "ranks that only exit")]:
        for ranks in (250, 500, 1000, 2000, 4000):
            runs = [gang(ranks, kind) for _ in range(options.runs)]
            emit_median("control", f"{ranks} {name}", "owner thread's time a rank", [1e6 * cpu / ranks for cpu, _ in runs], "us")
            emit_median("control", f"{ranks} {name}", "submission to end", [seconds for _, seconds in runs], "s")


def measure_launches(options):
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        master = Master(folder)
        workers = []
        try:
            for i in range(4):
                workers.append(subprocess.Popen(
                    [BIN / "longhaul-worker", "--master", master.address, "--name", f"w{i}", "--slots", "16", "--state-dir", folder / f"w{i}",
                     "--log-level", "error"], stdout=subprocess.DEVNULL))
            while subprocess.run([BIN / "longhaul", "nodes", "-o", "json"], env=dict(os.environ, LONGHAUL_MASTER=master.address),
                                 capture_output=True, text=True).stdout.count('"ready"') < len(workers):
                time.sleep(0.05)

            def run(what, ranks, jobs):
                done = subprocess.run([BIN / "bench_launch", master.address, BIN / "bench_stamp", what, str(ranks), str(jobs)],
                                      capture_output=True, text=True, timeout=600)
                if done.returncode:
                    raise SystemExit(f"bench_launch {what}: exit code {done.returncode}\n{done.stderr[-2000:]}")
                return sorted(map(float, done.stdout.split()))

            one = run("start", 1, options.jobs)
            emit("control", "one rank", "submit to exec, p50", round(1000 * statistics.median(one), 2), "ms", len(one), target=30)
            emit("control", "one rank", "submit to exec, p99", round(1000 * one[int(0.99 * (len(one) - 1))], 2), "ms", len(one), target=100)
            emit_median("control", "64 ranks on 4 workers", "submit to the last rank's main()", run("start", 64, 10), "s", 3)
            emit_median("control", "16 ranks on 4 workers", "kill -9 of a rank to the last main() of the next attempt", run("reform", 16, 10),
                        "s", 2)
        finally:
            for worker in workers:
                worker.terminate()
            for worker in workers:
                worker.wait()
            master.kill()


def main():
    parser = Parser("control", __doc__)
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=300, help="jobs of one rank, for submit to exec")
    parser.add_argument("--only", choices=["rates", "recovery", "launches", "gangs"])
    options = parser.parse_args()
    for name, measure in [("launches", measure_launches), ("gangs", measure_gangs), ("recovery", measure_recovery), ("rates", measure_rates)]:
        if options.only in (None, name):
            measure(options)


if __name__ == "__main__":
    main()
