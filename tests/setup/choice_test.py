"""What scripts/test.sh chooses and says at the end: tests/support/choose.py and summary.py.

usage: choice_test.py SOURCE_DIR BUILD_DIR
"""

import pathlib
import subprocess
import sys
import tempfile
import unittest

SOURCE, BUILD = pathlib.Path(sys.argv.pop(1)), pathlib.Path(sys.argv.pop(1))
SUPPORT = SOURCE / "tests/support"


def choose(*options):
    return subprocess.run([sys.executable, SUPPORT / "choose.py", SOURCE, BUILD, *options], capture_output=True, text=True)


SUITE = """<testsuites><testsuite name="S">
<testcase name="Passes" status="run" result="completed" classname="S"/>
<testcase name="Skips" status="run" result="skipped" classname="S"><skipped message="x_test.cc:3&#10;needs root"/></testcase>
%s</testsuite></testsuites>"""
FAILURE = '<testcase name="Fails" status="run" result="completed" classname="S"><failure message="no"/></testcase>'
JUNIT = """<testsuite time="61.5"><testcase name="room.S" status="%s"/><testcase name="room.command" status="run"/>
<testcase name="room.absent" status="notrun"><skipped message="SKIP_REGULAR_EXPRESSION_MATCHED"/></testcase></testsuite>"""


def summary(status, suite):
    with tempfile.TemporaryDirectory() as folder:
        junit = pathlib.Path(folder, "junit.xml")
        junit.write_text(JUNIT % status)
        if suite is not None:
            pathlib.Path(folder, "room.S.xml").write_text(suite)
        done = subprocess.run([sys.executable, SUPPORT / "summary.py", junit, folder], capture_output=True, text=True, check=True)
        return done.stdout.splitlines()


class Choice(unittest.TestCase):
    def test_a_tier_is_what_has_its_label(self):
        targets, labels = choose("--tier", "fast").stdout.splitlines()
        self.assertIn("tests/cluster/all", targets.split())
        self.assertNotIn("tests/e2e/all", targets.split())
        self.assertIn("^tier:(fast)$", labels)

    def test_a_room_is_it_and_what_lies_in_it(self):
        targets, labels = choose("--room", "control", "--tier", "fast,daemon").stdout.splitlines()
        self.assertIn("tests/control/master/all", targets.split())
        self.assertNotIn("tests/cluster/all", targets.split())
        self.assertIn("control/master", labels)

    def test_what_is_not_there_is_refused_with_what_is(self):
        for options, there in ((("--room", "attic"), "codec"), (("--tier", "quick"), "fast")):
            done = choose(*options)
            self.assertEqual(done.returncode, 1)
            self.assertIn(there, done.stderr)


class Summary(unittest.TestCase):
    def test_cases_are_counted_and_skips_are_named(self):
        lines = summary("run", SUITE % "")
        self.assertIn("skipped: room.S.Skips: needs root", lines)
        self.assertEqual(lines[-1], "2 tests passed, 0 failed, 2 skipped (3 suites, 1 min 1 s)")

    def test_a_failure_is_counted_once(self):
        lines = summary("fail", SUITE % FAILURE)
        self.assertIn("failed: room.S.Fails", lines)
        self.assertTrue(lines[-1].startswith("2 tests passed, 1 failed, 2 skipped"), lines[-1])

    def test_a_suite_that_died_is_a_failure(self):
        for suite in (None, SUITE % "", "<testsuites><testsuite name"):
            lines = summary("fail", suite)
            self.assertIn("failed: room.S", lines)
            self.assertIn(", 1 failed,", lines[-1])


if __name__ == "__main__":
    unittest.main(verbosity=2)
