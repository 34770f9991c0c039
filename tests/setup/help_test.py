"""Every script and every bench says what it does, in a fresh checkout where nothing is built, installed or fetched; and no bench
is missing where benches are listed.

usage: help_test.py SOURCE_DIR
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

SOURCE = pathlib.Path(sys.argv.pop(1))
NOT_SOURCE = shutil.ignore_patterns(".git", ".deps", ".peers", "build", "build-*", "__pycache__")


class Help(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.checkout = pathlib.Path(folder.name) / "checkout"
        shutil.copytree(SOURCE, cls.checkout, ignore=NOT_SOURCE)
        cls.before = sorted(cls.checkout.iterdir())
        cls.benches = re.findall(r"^  (\w+) +\S", cls.ask("bench.sh", "--help"), re.MULTILINE)

    @classmethod
    def ask(cls, script, *arguments):
        env = dict(os.environ, PYTHONDONTWRITEBYTECODE="1")
        done = subprocess.run([cls.checkout / "scripts" / script, *arguments], env=env, cwd="/", stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=60)
        if done.returncode:
            raise AssertionError(f"{script} {' '.join(arguments)}: exit code {done.returncode}\n{done.stderr}")
        return done.stdout

    def test_every_script(self):
        for script in sorted(path.name for path in (SOURCE / "scripts").glob("*.sh")):
            with self.subTest(script):
                self.assertRegex(self.ask(script, "--help").lower(), "(?m)^usage: ")
        self.assertEqual(sorted(self.checkout.iterdir()), self.before)

    def test_every_bench(self):
        self.assertIn("wan_ddp", self.benches)
        for bench in self.benches:
            with self.subTest(bench):
                text = self.ask("bench.sh", bench, "--help")
                self.assertIn(f"usage: scripts/bench.sh {bench}", text)
                self.assertNotIn("==SUPPRESS==", text)
        self.assertEqual(sorted(self.checkout.iterdir()), self.before)

    def test_every_driver_is_a_bench(self):
        drivers = {path.stem for path in (SOURCE / "bench/drive").glob("*.py")
                   if '__name__ == "__main__"' in path.read_text()}
        self.assertEqual(drivers, set(self.benches))

    def test_the_document_names_them(self):
        rows = re.findall(r"^\| `(\w+)` \| ", (SOURCE / "docs/benchmarks.md").read_text(), re.MULTILINE)
        self.assertLessEqual(set(self.benches), set(rows))


if __name__ == "__main__":
    unittest.main(verbosity=2)
