"""Ratio, error and speed of every codec, stage and instruction set on gradients that char_gpt has at several steps, against
stock zstd and lz4."""

import argparse
import subprocess
import tempfile

from common import BIN, dump_gradients


def main():
    parser = argparse.ArgumentParser(prog="scripts/bench.sh codecs", description=__doc__)
    parser.add_argument("--text", default=None, help="what char_gpt learns (libtorch's headers)")
    parser.add_argument("--steps", default="1,200", help="steps whose gradients are dumped")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--synthetic", action="store_true", help="made-up gradients, a bucket of 12 MiB")
    options, more = parser.parse_known_args()  # the rest is bench_codecs's own: --codec, --type, --simd, --cores
    with tempfile.TemporaryDirectory(prefix="longhaul-gradients-") as folder:
        dumps = [] if options.synthetic else dump_gradients(folder, options.steps, options.text)
        subprocess.run([BIN / "bench_codecs", "--runs", str(options.runs), *more, *dumps], check=True)


if __name__ == "__main__":
    main()
