"""Three hosts in network namespaces: a worker on each, the master on the first, and a user who runs a gang and an array and
looks at status, logs and results. Prints what the user types and reads. Root; leaves nothing behind.

scripts/demo_three_hosts.sh shows it; three_hosts_test.py checks it."""

import argparse
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "support"))
from hosts import Hosts, why_not  # noqa: E402,F401


class ThreeHosts:
    """A cluster on three hosts, and `longhaul` as typed on host-0."""

    def __init__(self, binaries, folder, show=lambda text: None):
        self.bin, self.folder, self.show = pathlib.Path(binaries).resolve(), pathlib.Path(folder), show
        self.hosts = Hosts(3)
        self.log = open(self.folder / "daemons.log", "w", encoding="utf-8")
        self.address = f"{self.hosts[0].address}:7700"
        self.master = self.daemon(self.hosts[0], "longhaul-master", "--listen", self.address, "--state", self.folder / "master")
        self.workers = [self.daemon(host, "longhaul-worker", "--master", self.address, "--slots", 4, "--address", host.address,
                                    "--state-dir", self.folder / host.name) for host in self.hosts]
        while self.type("nodes", quiet=True)[1].count(" ready ") < 3:
            if any(process.poll() is not None for process in [self.master, *self.workers]):
                raise SystemExit(f"a daemon ended: {(self.folder / 'daemons.log').read_text()[-2000:]}")
            time.sleep(0.05)

    def daemon(self, host, program, *words):
        return host.start([self.bin / program, *words], stdout=self.log, stderr=self.log)

    def type(self, *words, quiet=False):
        """(exit code, output) of a `longhaul` command."""
        command = [*self.hosts[0].enter, self.bin / "longhaul", words[0], "--master", self.address, *map(str, words[1:])]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
        if not quiet:
            self.show(f"$ longhaul {' '.join(map(str, words))}\n{done.stdout}")
        return done.returncode, done.stdout

    def gang(self):
        """Two ranks a host, which meet and add up numbers over the hosts' own addresses."""
        return self.type("run", "--name", "gang", "--nnodes", 3, "--nproc-per-node", 2, "--", sys.executable,
                         HERE / "torchrun_program.py", self.folder / "checkpoint", 5, 0.1)

    def trainer(self):
        """The char_gpt example, where it was built; its ranks exchange gradients over the hosts' addresses."""
        return self.type("run", "--name", "char_gpt", "--nnodes", 3, "--nproc-per-node", 1, "--env", "GLOO_SOCKET_IFNAME=eth0",
                         "--env", "OMP_NUM_THREADS=1", "--", self.bin / "char_gpt", "--text", HERE.parents[1] / "docs",
                         "--steps", 10, "--sample", 0)

    def array(self):
        return self.type("map", "--name", "squares", "--array", "0-11", "--", "sh", "-c",
                         "echo $(({} * {})) on $(cat /proc/sys/kernel/hostname)")

    def close(self):
        for process in [*self.workers, self.master]:
            process.send_signal(signal.SIGTERM)
        for process in [*self.workers, self.master]:
            process.wait()
        self.log.close()
        self.hosts.close()


def main():
    parser = argparse.ArgumentParser(prog="scripts/demo_three_hosts.sh", description=__doc__.split("\n\n")[0])
    parser.add_argument("--binaries", required=True, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if why_not():
        sys.exit(f"demo: {why_not()}")
    with tempfile.TemporaryDirectory(prefix="longhaul-hosts-") as folder:
        demo = ThreeHosts(options.binaries, folder, show=print)
        try:
            demo.type("nodes")
            codes = [demo.gang()[0]]
            demo.type("status", "gang")
            demo.type("logs", "gang", "--rank", 5)
            if (demo.bin / "char_gpt").exists():
                codes.append(demo.trainer()[0])
            codes.append(demo.array()[0])
            demo.type("status", "squares")
            demo.type("results", "squares")
        finally:
            demo.close()
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
