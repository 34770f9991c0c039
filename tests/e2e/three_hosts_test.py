"""What a user of three hosts reads is what happened there. See three_hosts.py."""

import pathlib
import re
import sys
import tempfile
import unittest

import three_hosts

BINARIES = sys.argv.pop(1)


@unittest.skipIf(three_hosts.why_not(), three_hosts.why_not())
class ThreeHostsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="longhaul-hosts-")
        cls.demo = three_hosts.ThreeHosts(BINARIES, cls.folder.name)

    @classmethod
    def tearDownClass(cls):
        cls.demo.close()
        cls.folder.cleanup()

    def test_nodes_lists_each_host_under_its_own_address(self):
        _, text = self.demo.type("nodes")
        for host in self.demo.hosts:
            self.assertRegex(text, rf"{host.name} +{host.name} +{re.escape(host.address)} +ready +0/4")

    def test_a_gang_meets_over_the_hosts_addresses(self):
        code, text = self.demo.gang()
        self.assertEqual(code, 0, text)
        for rank in range(6):
            self.assertIn(f"[{rank}] rank {rank} (local {rank % 2}) of 6 on host-{rank // 2}, attempt 0, from step 0\n", text)
            self.assertIn(f"[{rank}] rank {rank} has done 5 steps\n", text)
        sums = (pathlib.Path(self.folder.name) / "checkpoint").read_text().split()
        self.assertEqual(sums, [str(6 * 100 * step + 15) for step in range(5)])
        _, status = self.demo.type("status", "gang")
        self.assertRegex(status, r"^j\d+ succeeded .* 6 ranks, 6 ended")
        for rank in range(6):
            self.assertRegex(status, rf"(?m)^{rank} +host-{rank // 2} +host-{rank // 2} +\d+ +exited .* 0")
        _, logs = self.demo.type("logs", "gang", "--rank", 5)
        self.assertEqual(logs, "[5] rank 5 (local 1) of 6 on host-2, attempt 0, from step 0\n[5] rank 5 has done 5 steps\n")

    def test_an_array_is_spread_and_its_results_are_gathered_in_order(self):
        code, text = self.demo.array()
        self.assertEqual(code, 0, text)
        _, status = self.demo.type("status", "squares")
        self.assertRegex(status, r"^j\d+ succeeded .* 12/12 tasks")
        _, results = self.demo.type("results", "squares")
        rows = [line.split(" on ") for line in results.splitlines()]
        self.assertEqual([int(square) for square, _ in rows], [task * task for task in range(12)])
        self.assertEqual({host for _, host in rows}, {"host-0", "host-1", "host-2"})

    def test_the_example_trains_over_the_hosts_addresses(self):
        if not (self.demo.bin / "char_gpt").exists():
            self.skipTest("char_gpt is not built here")
        code, text = self.demo.trainer()
        self.assertEqual(code, 0, text)
        _, status = self.demo.type("status", "char_gpt")
        self.assertRegex(status, r"^j\d+ succeeded .* step 10/10 .* MB -> ")


if __name__ == "__main__":
    unittest.main()
