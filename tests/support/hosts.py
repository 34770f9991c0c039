"""Hosts in network namespaces, joined by a switch in a namespace of its own: real kernel TCP between addresses that exist
nowhere else, links that can be cut, one way or both. Needs root. Nothing shows in the machine's own network, so any
number of these can run beside each other, and the namespaces go with the last process in them, whatever happens here.

    with Hosts(3) as hosts:
        master = hosts[0].start(["longhaul-master", "--listen", f"{hosts[0].address}:7700"])
        hosts[1].cut()

A process started on a host is the program itself, so its pid can be sent signals.
"""

import os
import subprocess

SUBNET = "10.77.0"


def why_not():
    """Why hosts cannot be made here; "" when they can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    try:
        done = subprocess.run(["unshare", "--net", "--uts", "ip", "link", "add", "switch", "type", "bridge"],
                              capture_output=True, text=True, check=False)
    except FileNotFoundError as missing:
        return f"{missing.filename} is not installed"
    return done.stderr.strip() if done.returncode else ""


class Namespace:
    """A network and a host name of its own, held by a process that ends with this one."""

    def __init__(self, name):
        self.name = name
        self.holder = subprocess.Popen(
            ["unshare", "--net", "--uts", "sh", "-c", f"echo {name} >/proc/sys/kernel/hostname; echo ready; exec cat"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        if self.holder.stdout.readline() != b"ready\n":
            raise OSError(f"no namespace for {name}")
        self.enter = ["nsenter", "--target", str(self.holder.pid), "--net", "--uts", "--"]

    def run(self, *words, check=True):
        return subprocess.run([*self.enter, *words], check=check, capture_output=True, text=True)

    def ip(self, *lines):
        subprocess.run([*self.enter, "ip", "-batch", "-"], input="\n".join(lines) + "\n", text=True, check=True,
                       stdout=subprocess.DEVNULL)

    def close(self):
        self.holder.stdin.close()
        self.holder.stdout.close()
        self.holder.wait()


class Host(Namespace):
    interface = "eth0"

    def __init__(self, switch, index):
        super().__init__(f"host-{index}")
        self.index, self.switch, self.port = index, switch, f"port{index}"
        self.address = f"{SUBNET}.{index + 1}"
        switch.ip(f"link add {self.port} type veth peer name {self.interface} netns {self.holder.pid}",
                  f"link set {self.port} master switch up")
        self.ip("link set lo up", f"address add {self.address}/24 dev {self.interface}", f"link set {self.interface} up")

    def start(self, words, **options):
        """A program on this host, as subprocess.Popen. It is killed when the thread ends that called this, with or without the
        whole program."""
        return subprocess.Popen([*self.enter, "setpriv", "--pdeathsig", "KILL", *map(str, words)], **options)

    # --- What can happen to its link. mend() undoes all of them. ------------------------------------

    def cut(self):
        """Nothing passes, and the host's interface has no carrier."""
        self.switch.ip(f"link set {self.port} down")

    def mute(self):
        """What the host sends gets lost; it still hears the others."""
        self.run("tc", "qdisc", "replace", "dev", self.interface, "root", "blackhole")

    def deafen(self):
        """What is sent to the host gets lost; the others still hear it."""
        self.switch.run("tc", "qdisc", "replace", "dev", self.port, "root", "blackhole")

    def mend(self):
        self.run("tc", "qdisc", "delete", "dev", self.interface, "root", check=False)
        self.switch.run("tc", "qdisc", "delete", "dev", self.port, "root", check=False)
        self.switch.ip(f"link set {self.port} up")


class Hosts(list):
    """Hosts 0 to count - 1. Processes on them are their starter's to end."""

    def __init__(self, count):
        super().__init__()
        self.switch = Namespace("switch")
        try:
            self.switch.ip("link set lo up", "link add switch type bridge", "link set switch up")
            for index in range(count):
                self.append(Host(self.switch, index))
        except BaseException:
            self.close()
            raise

    def close(self):
        for namespace in [*self, self.switch]:
            namespace.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
