"""Short campaigns, and the checker on histories with planted bugs: it finds each of them and nothing in a good one."""

import json
import pathlib
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import unittest

import checker
import places

HERE = pathlib.Path(__file__).resolve().parent
BINARIES = sys.argv.pop(1)


def campaign(*flags):
    return subprocess.run([sys.executable, HERE / "campaign.py", "--binaries", BINARIES, *flags], capture_output=True, text=True,
                          timeout=600)


class Chaos(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.good = pathlib.Path(tempfile.mkdtemp(prefix="longhaul-chaos-test-"))
        cls.done = campaign("--seed", "7", "--faults", "25", "--keep", cls.good)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.good, ignore_errors=True)

    def test_a_short_campaign_finds_nothing(self):
        self.assertEqual(self.done.returncode, 0, self.done.stderr)
        summary = json.loads(self.done.stdout)
        self.assertGreaterEqual(summary["faults"], 25)
        self.assertGreater(summary["tasks"], 0)

    def test_a_map_gathers_every_result_once_while_everything_is_killed(self):
        done = campaign("--seed", "3", "--map", "600")
        self.assertEqual(done.returncode, 0, done.stderr)
        summary = json.loads(done.stdout)
        self.assertEqual((summary["jobs"], summary["tasks"]), (1, 600))
        self.assertGreater(summary["faults"], 0)

    def test_a_short_campaign_on_hosts_finds_nothing(self):
        if places.why_not() or not pathlib.Path(places.FAKETIME).exists():
            self.skipTest(places.why_not() or "libfaketime is not installed")
        done = campaign("--seed", "8", "--faults", "20", "--hosts")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertLessEqual({"cut_link", "mute_link", "deafen_link", "step_clock", "fill_disk"},
                             json.loads(done.stdout)["kinds"].keys())

    def plant(self, sql=(), history=None):
        """What the checker says of a copy of the good campaign with a bug in it."""
        folder = self.good.with_name(self.good.name + "-bug")
        shutil.copytree(self.good, folder)
        try:
            database = sqlite3.connect(folder / "master/master.db")
            for statement in sql:
                self.assertGreater(database.execute(statement).rowcount, 0, statement)
            database.commit()
            database.close()
            if history:
                rows = [history(json.loads(line)) for line in (folder / "history.jsonl").read_text().splitlines()]
                (folder / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows if row))
            return checker.check(folder)
        finally:
            shutil.rmtree(folder)

    def assert_found(self, findings, words):
        self.assertTrue(any(words in finding for finding in findings), findings)

    def test_it_finds_a_dropped_commit(self):
        self.assert_found(self.plant(["DELETE FROM results WHERE rowid=(SELECT max(rowid) FROM results)"]), "committed 0 times")

    def test_it_finds_a_lost_submission(self):
        self.assert_found(self.plant(["DELETE FROM jobs WHERE number=(SELECT max(number) FROM jobs)"]),
                          "an acknowledged submission is lost")

    def test_it_finds_a_stale_lease_that_was_accepted(self):
        self.assert_found(self.plant(["UPDATE results SET epoch=epoch-1 WHERE rowid=(SELECT max(rowid) FROM results)"]),
                          "the task was done under")

    def test_it_finds_a_result_that_was_committed_twice(self):
        def twice(row):
            if row["event"] == "results" and row["results"]:
                task = next(iter(row["results"]))
                row["results"][task] += "again"
                row["event"] = "results"
            return row
        self.assert_found(self.plant(history=twice), "gave 'result of task")
        changed = []

        def once(row):
            if row["event"] == "results" and row["results"] and not changed:
                changed.append(True)
                return twice(row)
            return row
        self.assert_found(self.plant(history=once), "had two results")

    def test_it_finds_a_lost_line(self):
        def cut(row):
            if row["event"] == "log":
                row["text"] = "".join(line for line in row["text"].splitlines(True) if not line.endswith(" 5\n"))
            return row
        self.assert_found(self.plant(history=cut), "lost lines [5]")

    def test_it_finds_a_leaked_process_and_a_hang_and_a_wrong_code(self):
        def worse(row):
            if row["event"] == "ended":
                row["exit"] = 99
            return row
        findings = self.plant(history=worse)
        self.assert_found(findings, "with code 99")
        extra = [{"event": "leaked", "pid": 1, "command": "x"}, {"event": "hang", "what": "x"}]

        def more(row):
            return extra.pop() if extra and row["event"] == "results" else row
        findings = self.plant(history=more)
        self.assert_found(findings, "leaked process 1")
        self.assert_found(findings, "hang: x")


if __name__ == "__main__":
    unittest.main()
