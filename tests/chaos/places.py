"""Where the daemons of a campaign run, and what can be done to their surroundings there.

OneMachine: all on loopback; no faults of its own. SeveralHosts: each in a network namespace of its own, each daemon with a wall
clock of its own (libfaketime; the machine's is never touched), the master's state on a file system of its own. Those
mounts are this process's alone (enter_private_mounts), so whatever way it ends, nothing is left of them."""

import os
import pathlib
import socket
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from hosts import Hosts, why_not  # noqa: E402,F401

FAKETIME = "/usr/lib/{}-linux-gnu/faketime/libfaketimeMT.so.1".format(os.uname().machine)
DISK_BYTES = 256 << 20


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class OneMachine:
    def __init__(self, *_):
        self.master_address = f"127.0.0.1:{free_port()}"

    def address(self, _name):
        return "127.0.0.1"

    def command(self, _name, words):
        """`words` as they are run at the place `name`: "master", a worker's or the "client"."""
        return words

    def environment(self, _name):
        return {}

    def close(self):
        pass


def enter_private_mounts():
    """Starts this program again (same process, same arguments) where its mounts are its own."""
    if "LONGHAUL_CHAOS_MOUNTS" not in os.environ:
        os.environ["LONGHAUL_CHAOS_MOUNTS"] = "private"
        os.execvp("unshare", ["unshare", "--mount", "--propagation", "private", sys.executable, *sys.argv])
    # libfaketime leaves a file there for each process that is killed.
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/dev/shm"], check=True)


class SeveralHosts:
    def __init__(self, folder, workers):
        self.folder = pathlib.Path(folder)
        names = ["master", *workers, "client"]
        self.hosts = dict(zip(names, Hosts(len(names))))
        self.master_address = f"{self.hosts['master'].address}:7700"
        for name in names:
            self.step_clock(name, 0)
        self.disk = self.folder / "master"
        self.disk.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", self.disk], check=True)

    def address(self, name):
        return self.hosts[name].address

    def command(self, name, words):
        return [*self.hosts[name].enter, *words]

    def environment(self, name):
        if name == "client":
            return {}
        return {"LD_PRELOAD": FAKETIME, "FAKETIME_TIMESTAMP_FILE": str(self.folder / f"clock-{name}"), "FAKETIME_NO_CACHE": "1",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1"}

    def step_clock(self, name, seconds):
        """The wall clock of the daemon there is `seconds` off from now on; the monotonic one goes on as it was."""
        draft = self.folder / "clock.new"
        draft.write_text(f"{seconds:+}\n")
        draft.rename(self.folder / f"clock-{name}")

    def fill_disk(self):
        """Not one page more for the master's state."""
        used = os.statvfs(self.disk)
        self.resize_disk((used.f_blocks - used.f_bfree) * used.f_frsize)

    def free_disk(self):
        self.resize_disk(DISK_BYTES)

    def resize_disk(self, size):
        # The master may have taken a page in between; then the size is too small, and nothing is changed.
        return subprocess.run(["mount", "-o", f"remount,size={size}", self.disk], stderr=subprocess.DEVNULL, check=False)

    def close(self):
        """What was on the master's disk lies where it lay before, on that of the machine."""
        kept = self.folder / "master.kept"
        subprocess.run(["cp", "-a", self.disk, kept], check=True)
        subprocess.run(["umount", self.disk], check=True)
        self.disk.rmdir()
        kept.rename(self.disk)
        for host in self.hosts.values():
            host.close()
        next(iter(self.hosts.values())).switch.close()
