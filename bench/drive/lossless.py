"""Ratio and speed of the lossless codec on gradients that char_gpt has at several steps, against stock zstd."""

import argparse
import os
import pathlib
import subprocess
import tempfile

from common import BIN, TOP


def libtorch_headers():
    for line in (TOP / "build/bench/CMakeCache.txt").read_text().splitlines():
        if line.startswith("Libtorch_ROOT_DIR:"):
            return line.split("=", 1)[1] + "/include"
    raise SystemExit("build/bench/CMakeCache.txt names no Libtorch_ROOT_DIR")


def main():
    parser = argparse.ArgumentParser(prog="scripts/bench.sh lossless", description=__doc__)
    parser.add_argument("--text", default=None, help="what char_gpt learns (libtorch's headers)")
    parser.add_argument("--steps", default="1,50,200", help="steps whose gradients are dumped")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    steps = options.steps.split(",")
    with tempfile.TemporaryDirectory(prefix="longhaul-gradients-") as folder:
        # 3.3 million parameters: a few pieces of the size of a bucket.
        subprocess.run(
            [BIN / "char_gpt", "--text", options.text or libtorch_headers(), "--steps", max(steps, key=int),
             "--width", "256", "--layers", "4", "--batch", "16", "--lr", "0.001", "--sample", "0",
             "--dump-gradients", folder, "--dump-steps", options.steps],
            env=dict(os.environ, OMP_NUM_THREADS="1"), check=True, stdout=subprocess.DEVNULL)
        dumps = sorted(pathlib.Path(folder).glob("*.f32"))
        subprocess.run([BIN / "bench_lossless", "--runs", str(options.runs), *dumps], check=True)


if __name__ == "__main__":
    main()
