"""The master goes away, or the way to it, while every command that follows something follows something: they wait for it, go on
where they were, show everything once, and end as if nothing had been. Or it stays away, and they say so and end."""

import contextlib
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "support"))
from hosts import Hosts, why_not  # noqa: E402

BINARIES = pathlib.Path(sys.argv.pop(1)).resolve()
LIMIT = 90  # seconds; nothing here takes so long

COUNTING = "i=0; while [ ! -e over ]; do i=$((i+1)); echo line $i; sleep 0.02; done; echo sum $i"
TASK = "while [ ! -e over ] && [ {} -gt 1 ]; do sleep 0.05; done; echo result {}"


def until(condition, what):
    deadline = time.monotonic() + LIMIT
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"still not: {what}")
        time.sleep(0.02)


class Here:
    """Programs beside each other, on loopback."""
    address = "127.0.0.1"

    def start(self, words, **options):
        return subprocess.Popen(list(map(str, words)), **options)


class Command:
    """A `longhaul` that follows something."""

    def __init__(self, host, folder, name, master, words):
        self.name, self.files = name, [folder / f"{name}.out", folder / f"{name}.err"]
        with open(self.files[0], "wb") as out, open(self.files[1], "wb") as err:
            self.process = host.start([BINARIES / "longhaul", words[0], "--master", master, *words[1:]], stdout=out, stderr=err,
                                      stdin=subprocess.DEVNULL)

    def out(self):
        return self.files[0].read_text()

    def err(self):
        return self.files[1].read_text()

    def end(self):
        try:
            return self.process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"{self.name} does not end:\n{self.err()}") from None


class Scene(contextlib.ExitStack):
    """A master with a worker on one host, a user on another one (or the same) who follows a gang and an array by all commands."""

    def __init__(self, home, away, patience="60"):
        super().__init__()
        self.folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory(prefix="longhaul-away-")))
        self.home, self.away, self.patience, self.daemons = home, away, patience, []
        self.callback(self.stop)
        self.log = self.enter_context(open(self.folder / "daemons.log", "wb"))
        self.listen = f"{home.address}:0"
        self.start_master()
        self.daemons.append(home.start([BINARIES / "longhaul-worker", "--master", self.listen, "--slots", 8, "--address",
                                        home.address, "--state-dir", self.folder / "worker"], stdout=self.log, stderr=self.log))
        self.commands = {}
        self.follow("run", "run", "--name", "gang", "--chdir", self.folder, "--wait-for-nodes", "--", "sh", "-c", COUNTING)
        self.follow("map", "map", "--name", "array", "--chdir", self.folder, "--wait-for-nodes", "--array", "0-3", "--", "sh", "-c",
                    TASK)
        until(lambda: self.ask("results", "array").count("result") == 2, "the first results")
        until(lambda: "line 5\n" in self.commands["run"].out(), "the first lines")
        self.follow("wait", "wait", "gang")
        self.follow("logs", "logs", "-f", "gang")
        self.follow("results", "results", "-f", "array")
        self.follow("events", "events", "-f", "gang")
        until(lambda: "line 5\n" in self.commands["logs"].out() and "started" in self.commands["events"].out(), "all follow")
        until(lambda: self.commands["results"].out() == "result 0\nresult 1\n", "results come out row by row, also into a file")
        until(lambda: self.has_heard("wait"), "wait, which says nothing, has been answered")

    def has_heard(self, name):
        """More than the greeting of HTTP/2 has come on its connection."""
        pid = self.commands[name].process.pid
        table = self.away.start(["ss", "-HtOinp"], stdout=subprocess.PIPE, text=True).communicate(timeout=LIMIT)[0]
        own = [line for line in table.splitlines() if f"pid={pid}," in line]
        return any(int(number) > 200 for line in own for number in re.findall(r"bytes_received:(\d+)", line))

    def start_master(self):
        port_file = self.folder / "port"
        port_file.unlink(missing_ok=True)
        self.master = self.home.start(
            [BINARIES / "longhaul-master", "--listen", self.listen, "--port-file", port_file, "--state", self.folder / "state"],
            stdout=self.log, stderr=self.log)
        until(port_file.exists, "the master listens")
        self.listen = port_file.read_text().strip()

    def kill_master(self):
        self.master.kill()
        self.master.wait()

    def follow(self, name, *words):
        words = [words[0], "--master-timeout", self.patience, *words[1:]]
        self.commands[name] = Command(self.away, self.folder, name, self.listen, words)

    def ask(self, *words):
        done = self.home.start([BINARIES / "longhaul", words[0], "--master", self.listen, *words[1:]], stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL, text=True)
        return done.communicate(timeout=LIMIT)[0]

    def until_all_say(self, text):
        for name, command in self.commands.items():
            until(lambda: text in command.err() or command.process.poll() is not None, f"{name} says '{text}'")

    def stop(self):
        for command in getattr(self, "commands", {}).values():
            command.process.kill()
            command.process.wait()
        for daemon in [*self.daemons, self.master]:
            daemon.send_signal(signal.SIGCONT)
            daemon.terminate()
            daemon.wait()


class AwayTest(unittest.TestCase):
    def expect_all_to_end_well(self, scene):
        (scene.folder / "over").touch()
        for name, command in scene.commands.items():
            self.assertEqual(command.end(), 0, f"{name}: {command.err()}")
        for name in "run", "logs":
            lines = [line for line in scene.commands[name].out().splitlines() if line.startswith("[0] ")]
            self.assertEqual(lines[:-1], [f"[0] line {i + 1}" for i in range(len(lines) - 1)], name)
            self.assertEqual(lines[-1], f"[0] sum {len(lines) - 1}", name)
        self.assertEqual(scene.commands["results"].out(), "".join(f"result {i}\n" for i in range(4)))
        numbers = [int(line.split()[0]) for line in scene.commands["events"].out().splitlines()]
        self.assertEqual(len(numbers), len(set(numbers)))
        self.assertIn("succeeded", scene.commands["events"].out())

    def expect_all_to_give_up(self, scene):
        for name, command in scene.commands.items():
            self.assertEqual(command.end(), 69, f"{name}: {command.err()}")
            self.assertRegex(command.err(), r"lost the master at .*; trying again for 3(\.0)?s", name)


class RestartedMasterTest(AwayTest):
    def test_two_seconds_without_a_master(self):
        with Scene(Here(), Here()) as scene:
            scene.kill_master()
            time.sleep(2)  # the outage itself
            scene.start_master()
            self.expect_all_to_end_well(scene)

    def test_again_and_again(self):
        with Scene(Here(), Here()) as scene:
            for _ in range(3):
                scene.kill_master()
                scene.start_master()
                until(lambda: "gang" in scene.ask("ps"), "it answers")
            self.expect_all_to_end_well(scene)

    def test_for_good(self):
        with Scene(Here(), Here(), patience="3") as scene:
            scene.kill_master()
            self.expect_all_to_give_up(scene)

    def test_a_stopped_master_is_silent_and_comes_back(self):
        with Scene(Here(), Here()) as scene:
            scene.master.send_signal(signal.SIGSTOP)
            scene.until_all_say("lost the master")
            scene.master.send_signal(signal.SIGCONT)
            self.expect_all_to_end_well(scene)


@unittest.skipIf(why_not(), why_not())
class LinkTest(AwayTest):
    def outage(self, begin):
        with Hosts(2) as hosts, Scene(hosts[0], hosts[1]) as scene:
            begin(hosts[1])
            scene.until_all_say("lost the master")
            hosts[1].mend()
            self.expect_all_to_end_well(scene)

    def test_nothing_passes(self):
        self.outage(lambda host: host.cut())

    def test_the_user_is_not_heard(self):
        self.outage(lambda host: host.mute())

    def test_the_user_hears_nothing(self):
        self.outage(lambda host: host.deafen())

    def test_for_good(self):
        with Hosts(2) as hosts, Scene(hosts[0], hosts[1], patience="3") as scene:
            hosts[1].cut()
            self.expect_all_to_give_up(scene)
            for words in ["ps"], ["nodes"], ["status", "gang"], ["results", "array"], ["logs", "gang"], ["stop", "gang"]:
                command = Command(hosts[1], scene.folder, "late", scene.listen, words)
                self.assertEqual(command.end(), 69, words)
                self.assertTrue(re.search("no answer from the master|cannot reach the master", command.err()), command.err())
            hosts[1].mend()


if __name__ == "__main__":
    unittest.main()
