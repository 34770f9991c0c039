"""char_gpt in a small size: alone, over two ranks with each codec, and what bad input gets.

usage: char_gpt_test.py CHAR_GPT
"""

import json
import math
import pathlib
import signal
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from ranks import finish, run_ranks, start_ranks  # noqa: E402

CHAR_GPT = sys.argv.pop(1)
SMALL = ["--steps", "30", "--batch", "4", "--context", "32", "--width", "32", "--heads", "2", "--layers", "1"]
TEXT = "".join(f"{i} green bottles hanging on the wall, {i * 7} more to fall;\n" for i in range(400))


class CharGpt(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.text = self.folder / "text.txt"
        self.text.write_text(TEXT)

    def train(self, world_size, *arguments):
        path = self.folder / "report.json"
        command = [CHAR_GPT, "--text", self.text, *SMALL, "--report", path, *arguments]
        ranks = run_ranks(world_size, command)
        for rank in ranks:
            self.assertEqual(rank.returncode, 0, rank.stderr)
        return json.loads(path.read_text()), ranks

    def fails(self, code, says, *arguments):
        done = subprocess.run([CHAR_GPT, *map(str, arguments)], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, code, done.stderr)
        self.assertIn(says, done.stderr)
        self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)

    def test_alone_it_learns_and_reports(self):
        report, ranks = self.train(1, "--sample", "20")
        self.assertEqual(report["world_size"], 1)
        self.assertEqual(report["bytes_sent"], 0)
        self.assertLess(report["held_out_loss"], math.log(256) - 1)  # below guessing
        self.assertGreater(report["bigram_loss"], 0)
        self.assertIn("held-out loss", ranks[0].stdout)

    def test_two_ranks_end_alike_with_every_codec(self):
        hashes = {}
        for codec in ("none", "zstd"):
            report, ranks = self.train(2, "--codec", codec)
            self.assertEqual(report["codec"], codec)
            self.assertEqual(len(report["parameter_hashes"]), 2)
            hashes[codec] = set(report["parameter_hashes"])
            self.assertEqual(len(hashes[codec]), 1)
            self.assertGreater(report["bytes_sent"], 0)
            self.assertNotIn("held-out loss", ranks[1].stdout)
        # Lossless: of two numbers there is one sum.
        self.assertEqual(hashes["none"], hashes["zstd"])
        self.assertLess(report["bytes_sent"], report["bytes_raw"])

    # The short form of `scripts/bench.sh convergence`: a text that can be learned by heart, where gradients have little
    # noise for an error to hide in. A codec that is far too coarse shows that the bound means something.
    def test_lossy_codecs_reach_the_loss_of_fp32(self):
        def loss(codec):
            reports = [self.train(4, "--steps", "150", "--batch", "2", "--codec", codec, "--seed", seed, "--sample", "0")[0]
                       for seed in ("1", "2")]
            return sum(report["held_out_loss"] for report in reports) / len(reports)

        exact = loss("none")
        for codec in ("int8", "rms:step=0.25", "rms:step=0.5"):
            self.assertLess(loss(codec), exact + 0.1, codec)
        self.assertGreater(loss("rms:step=4"), exact + 0.5)

    # One rank is asked; all leave the loop after the same step, and what follows is to the bit what would have been.
    def test_stopped_it_saves_a_checkpoint_and_goes_on_from_it(self):
        arguments = ["--sample", "0", "--codec", "none", "--steps", "400"]
        whole, _ = self.train(2, *arguments)
        arguments += ["--checkpoint", self.folder / "checkpoint.pt"]
        ranks = start_ranks(2, [CHAR_GPT, "--text", self.text, *SMALL, *arguments])
        self.assertIn("step 40 of 400", ranks[0].stdout.readline())
        ranks[1].send_signal(signal.SIGTERM)
        stopped = finish(ranks)
        self.assertEqual([rank.returncode for rank in stopped], [0, 0], [rank.stderr for rank in stopped])
        self.assertIn("asked to stop: left after step", stopped[0].stdout)
        rest, _ = self.train(2, *arguments)
        self.assertEqual(rest["parameter_hashes"], whole["parameter_hashes"])

    def test_the_seed_decides(self):
        first, _ = self.train(1, "--sample", "0")
        again, _ = self.train(1, "--sample", "0")
        other, _ = self.train(1, "--sample", "0", "--seed", "2")
        self.assertEqual(first["parameter_hashes"], again["parameter_hashes"])
        self.assertNotEqual(first["parameter_hashes"], other["parameter_hashes"])

    def test_gradients_are_dumped_as_flat_floats(self):
        dumps = self.folder / "dumps"
        self.train(2, "--dump-gradients", dumps, "--dump-steps", "1,7")
        sizes = {path.name: path.stat().st_size for path in dumps.iterdir()}
        self.assertEqual(set(sizes), {"step_1.f32", "step_7.f32"})
        self.assertEqual(sizes["step_1.f32"] % 4, 0)
        self.assertGreater(sizes["step_1.f32"], 4 * 256 * 32)

    def test_a_folder_is_read_with_whole_files_held_out(self):
        for i in range(20):
            (self.folder / f"part_{i:02}.h").write_text(TEXT)
        self.text = self.folder
        report, _ = self.train(1, "--sample", "0")
        self.assertGreater(report["held_out_loss"], 0)

    def test_bad_calls_get_one_line_and_64(self):
        self.fails(64, "did you mean '--text'?", "--txet", self.text)
        self.fails(64, "did you mean", "--text", self.text, "--codec", "zsdt")
        self.fails(64, "--text FILE|DIR is needed")
        self.fails(64, "whole number of at least 1", "--text", self.text, "--steps", "0")
        self.fails(64, "multiple of --heads", "--text", self.text, "--width", "33")

    def test_bad_texts_get_one_line_and_66(self):
        empty = self.folder / "empty.txt"
        empty.write_text("")
        short = self.folder / "short.txt"
        short.write_text("too short to learn from")
        bare = self.folder / "bare"
        bare.mkdir()
        self.fails(66, "does not exist", "--text", self.folder / "missing.txt")
        self.fails(66, "is empty", "--text", empty)
        self.fails(66, "is too short", "--text", short)
        self.fails(66, "no source or text files", "--text", bare)


if __name__ == "__main__":
    unittest.main(verbosity=2)
