"""Ratio and speed of the lossless codec on gradients that char_gpt has at several steps, against stock zstd."""

import subprocess
import tempfile

from common import BIN, Parser, dump_gradients


def main():
    parser = Parser("lossless", __doc__)
    parser.add_argument("--text", default=None, help="what char_gpt learns (libtorch's headers)")
    parser.add_argument("--steps", default="1,50,200", help="steps whose gradients are dumped")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="longhaul-gradients-") as folder:
        dumps = dump_gradients(folder, options.steps, options.text)
        subprocess.run([BIN / "bench_lossless", "--runs", str(options.runs), *dumps], check=True)


if __name__ == "__main__":
    main()
