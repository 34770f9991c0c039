"""Runs first_steps alone and over two ranks; its README must show what it prints.

  first_steps_test.py PATH_OF_FIRST_STEPS
"""

import os
import pathlib
import re
import subprocess
import sys
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent / "tests" / "support"))
from ranks import run_ranks  # noqa: E402

PROGRAM = sys.argv.pop(1)
LINE = re.compile(r"rank (\d) of (\d): parameters sum to (\S+)")


def losses(output: str) -> list[float]:
    return [float(loss) for loss in re.findall(r"loss (\S+)", output)]


class FirstStepsTest(unittest.TestCase):
    def test_alone_it_learns(self):
        env = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE", "LONGHAUL_AGENT")}
        result = subprocess.run([PROGRAM], env=env, capture_output=True, text=True, timeout=120)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(len(losses(result.stdout)), 4)
        self.assertLess(losses(result.stdout)[-1], 0.1)
        self.assertEqual(LINE.findall(result.stdout)[0][:2], ("0", "1"))

    def test_two_ranks_end_with_the_same_parameters(self):
        results = run_ranks(2, [PROGRAM])
        self.assertEqual([result.returncode for result in results], [0, 0], [r.stderr for r in results])
        found = [LINE.findall(result.stdout)[0] for result in results]
        self.assertEqual([(rank, size) for rank, size, _ in found], [("0", "2"), ("1", "2")])
        self.assertEqual(found[0][2], found[1][2])
        self.assertLess(losses(results[0].stdout)[-1], 0.1)

    def test_the_readme_shows_lines_of_this_form(self):
        readme = (HERE / "README.md").read_text()
        self.assertEqual(len(LINE.findall(readme)), 3, "one rank alone, then two")

    def test_the_program_is_short_and_marks_its_four_lines(self):
        lines = (HERE / "main.cc").read_text().splitlines()
        self.assertLessEqual(len(lines), 40)
        self.assertEqual(sum("// <- " in line for line in lines), 4)


if __name__ == "__main__":
    unittest.main()
