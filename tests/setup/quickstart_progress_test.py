"""While quickstart.sh builds, a line tells how far it is; a build that fails shows the end of its output and is the end. With a
cmake that only pretends.

usage: quickstart_progress_test.py SOURCE_DIR
"""

import os
import pathlib
import pty
import shutil
import subprocess
import sys
import tempfile
import unittest

SOURCE = pathlib.Path(sys.argv.pop(1))
STEPS = r"printf '[1/3] Building a\n[2/3] Build'; printf 'ing b\n'; echo 'b.cc:1: what the compiler said'; exit 1"


class QuickstartProgress(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.checkout = pathlib.Path(folder.name)
        (self.checkout / "scripts").mkdir()
        shutil.copy(SOURCE / "scripts/quickstart.sh", self.checkout / "scripts")
        self.program("scripts/setup.sh", "exit 0")
        self.program("bin/cmake", f'case "$1" in --build) {STEPS} ;; esac')
        self.temporary = self.checkout / "tmp"
        self.temporary.mkdir()
        self.env = dict(os.environ, PATH=f"{self.checkout}/bin:{os.environ['PATH']}", TMPDIR=str(self.temporary))

    def program(self, name, body):
        path = self.checkout / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/bash\n{body}\n")
        path.chmod(0o755)

    def run_quickstart(self, stderr):
        return subprocess.Popen([self.checkout / "scripts/quickstart.sh"], env=self.env, stdin=subprocess.DEVNULL,
                                stdout=subprocess.DEVNULL, stderr=stderr)

    def check(self, said, code):
        self.assertRegex(said, r"building, [12] of 3 steps done after 0 min \d+ s")
        self.assertIn("b.cc:1: what the compiler said", said)
        self.assertEqual(code, 1)
        self.assertEqual(list(self.temporary.iterdir()), [])

    def test_into_a_file(self):
        process = self.run_quickstart(subprocess.PIPE)
        said = process.communicate(timeout=60)[1].decode()
        self.check(said, process.returncode)
        self.assertNotIn("\r", said)

    def test_on_a_terminal(self):
        ours, theirs = pty.openpty()
        process = self.run_quickstart(theirs)
        os.close(theirs)
        said = b""
        try:
            while piece := os.read(ours, 4096):
                said += piece
        except OSError:  # the other end is closed
            pass
        os.close(ours)
        code = process.wait(timeout=60)
        self.check(said.decode(), code)
        self.assertIn("\r\x1b[K", said.decode())  # the line is gone at the end


if __name__ == "__main__":
    unittest.main(verbosity=2)
