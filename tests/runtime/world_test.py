"""init() in real processes: alone, under torchrun's names, with names that cannot be right, and when a rank dies.

  world_test.py PATH_OF_WORLD_PROBE
"""

import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import hostile_locale  # noqa: E402
from ranks import finish, free_port, next_line, run_ranks, start_ranks  # noqa: E402

PROBE = sys.argv.pop(1)
NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "LONGHAUL_AGENT",
         "LONGHAUL_AGENT_TOKEN")


def run_alone(what: str, **variables: str) -> subprocess.CompletedProcess:
    env = {name: value for name, value in os.environ.items() if name not in NAMES}
    return subprocess.run([PROBE, what], env=dict(env, **variables), capture_output=True, text=True, timeout=120)


class WorldTest(unittest.TestCase):
    def test_alone(self):
        result = run_alone("train")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(result.stdout.split()[:2], ["0", "1"])

    def test_ranks_of_torchrun_end_with_the_same_parameters(self):
        results = run_ranks(3, [PROBE, "train"])
        lines = [result.stdout.split() for result in results]
        self.assertEqual([result.returncode for result in results], [0, 0, 0], [r.stderr for r in results])
        self.assertEqual([line[:2] for line in lines], [["0", "3"], ["1", "3"], ["2", "3"]])
        self.assertEqual(len({line[2] for line in lines}), 1, lines)

    def test_a_bad_environment_is_one_clear_line_and_exit_1(self):
        result = run_alone("train", RANK="3", WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT="1")
        self.assertEqual(result.returncode, 1)
        self.assertEqual(result.stderr, "rank 0: longhaul::Error: RANK=3 is not between 0 and 1 (WORLD_SIZE=2)\n")

    def test_a_worker_that_is_not_there_is_named(self):
        result = run_alone("train", LONGHAUL_AGENT="unix:/nowhere/agent.sock", LONGHAUL_AGENT_TOKEN="x")
        self.assertEqual(result.returncode, 1, result.stderr)
        self.assertTrue("/nowhere/agent.sock" in result.stderr or "LONGHAUL_CONTROL=OFF" in result.stderr,
                        result.stderr)

    def test_a_worker_that_cannot_be_one_is_one_clear_line(self):
        for variables in ({"LONGHAUL_AGENT": "here", "LONGHAUL_AGENT_TOKEN": "x"}, {"LONGHAUL_AGENT": "unix:/nowhere"}):
            result = run_alone("train", **variables)
            self.assertEqual(result.returncode, 1, result.stderr)
            self.assertTrue(result.stderr.startswith("rank 0: longhaul::Error: LONGHAUL_AGENT"), result.stderr)
            self.assertEqual(len(result.stderr.splitlines()), 1, result.stderr)

    def test_a_rank_that_does_not_come_is_named(self):
        result = run_alone("lonely", RANK="0", WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(free_port()))
        self.assertEqual(result.returncode, 1)
        self.assertIn("rank 0: longhaul::CollectiveError: ", result.stderr)
        self.assertIn("rank 1 did not come", result.stderr)

    def test_survivors_of_a_dead_rank_exit_1_and_name_it(self):
        results = run_ranks(3, [PROBE, "escape"])
        self.assertEqual([result.returncode for result in results], [1, 7, 1], [r.stderr for r in results])
        for rank in (0, 2):
            self.assertIn(f"rank {rank}: longhaul::CollectiveError: ", results[rank].stderr)
            self.assertIn("rank 1", results[rank].stderr)

    def test_different_models_exit_1_everywhere(self):
        for result in run_ranks(2, [PROBE, "mismatch"]):
            self.assertEqual(result.returncode, 1, result.stderr)
            self.assertIn("ModelMismatchError", result.stderr)
            self.assertIn("'weight' is float [2, 5] where rank 0's is float [2, 4]", result.stderr)

    def expect_sums_alike(self, results, lines: int):
        self.assertEqual([result.returncode for result in results], [0] * len(results), [r.stderr for r in results])
        sums = {line.split()[2] for result in results for line in result.stdout.splitlines()}
        self.assertEqual([len(result.stdout.splitlines()) for result in results], [lines] * len(results))
        self.assertEqual(len(sums), 1, sums)

    def test_a_process_may_have_one_world_after_the_other(self):
        self.expect_sums_alike(run_ranks(3, [PROBE, "again"]), 3)

    def test_a_process_may_have_two_worlds_at_once(self):
        self.expect_sums_alike(run_ranks(3, [PROBE, "both"]), 1)

    def test_a_rank_may_run_one_program_after_the_other(self):
        self.expect_sums_alike(run_ranks(3, ["sh", "-c", f"{PROBE} zstd && {PROBE} zstd && {PROBE} again"]), 5)

    def test_programs_in_turn_whose_server_ends_last(self):
        # The next programs of the others find the store of rank 0's program that is about to end.
        self.expect_sums_alike(run_ranks(3, ["sh", "-c", f"{PROBE} linger && {PROBE} train"]), 2)

    def test_a_world_may_follow_one_that_failed(self):
        self.expect_sums_alike(run_ranks(3, [PROBE, "caught"]), 1)

    def test_no_number_depends_on_a_locale(self):
        with tempfile.TemporaryDirectory() as folder:
            hostile = hostile_locale.environment(pathlib.Path(PROBE).parent, pathlib.Path(folder))
            for codec in ("none", "zstd", "auto"):
                plain = run_ranks(2, [PROBE, codec])
                under = run_ranks(2, [PROBE, codec], LONGHAUL_LOG="debug", **hostile)
                self.expect_sums_alike(under, 1)
                self.assertEqual(float(plain[0].stdout.split()[2]), float(under[0].stdout.split()[2].replace(",", ".")))
                ours = [line for result in under for line in result.stderr.splitlines() if re.match(r"\d{4}-.*Z ", line)]
                self.assertGreater(len(ours), 0)
                self.assertFalse([line for line in ours if re.search(r"\d,\d", line)], "a number in the log")

    def wait_until_ready(self, ranks):
        for rank in ranks:
            self.assertEqual(next_line(rank), "ready\n")

    def test_one_rank_that_is_asked_to_stop_stops_all_after_the_same_step(self):
        ranks = start_ranks(3, [PROBE, "agree"])
        self.wait_until_ready(ranks)
        ranks[1].send_signal(signal.SIGTERM)
        results = finish(ranks)
        self.assertEqual([result.returncode for result in results], [0, 0, 0], [r.stderr for r in results])
        self.assertEqual(len({result.stdout for result in results}), 1, [r.stdout for r in results])
        self.assertIn("agreed", results[0].stdout)

    def test_a_rank_that_asks_is_not_killed_by_sigterm(self):
        ranks = start_ranks(1, [PROBE, "poll"])
        self.wait_until_ready(ranks)
        ranks[0].send_signal(signal.SIGTERM)
        [result] = finish(ranks)
        self.assertEqual((result.returncode, result.stdout), (0, "stopped\n"), result.stderr)

    def test_a_rank_that_never_asks_ends_by_sigterm(self):
        for what in ("deaf", "after"):
            ranks = start_ranks(1, [PROBE, what])
            self.wait_until_ready(ranks)
            ranks[0].send_signal(signal.SIGTERM)
            [result] = finish(ranks)
            self.assertEqual(result.returncode, -signal.SIGTERM, what)

    def test_lines_are_seen_while_the_program_runs_and_what_it_crashed_with(self):
        for what in ("lines", "unsynced"):
            with subprocess.Popen([PROBE, what], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                  stderr=subprocess.DEVNULL) as rank:
                seen = {rank.stdout.readline(), rank.stdout.readline()}
                self.assertEqual(seen, {b"by printf\n", b"by cout 1\n"})
                self.assertIsNone(rank.poll())
                rank.stdin.close()
                self.assertEqual(rank.stdout.read(), b"half a line", what)
            self.assertEqual(rank.returncode, -signal.SIGSEGV)

    def test_other_peoples_exceptions_end_as_ever(self):
        result = run_alone("foreign")
        self.assertEqual(result.returncode, -6, "SIGABRT")
        self.assertIn("not one of ours", result.stderr)


if __name__ == "__main__":
    unittest.main()
