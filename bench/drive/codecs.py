"""Ratio, error and speed of every codec, stage and instruction set on real gradients: those of char_gpt early and late, of
a CNN and of a transformer with 16384 words, and what 8 local steps of AdamW change; against stock zstd and lz4, and
PyTorch's own quantization ops. Then the fast codecs again on several cores."""

import pathlib
import subprocess
import tempfile

from common import BIN, Parser, dump_gradients, libtorch_headers

SCALED = ("int8:block=1024", "rms:step=0.5,block=256", "lossless")  # measured on several cores


def dumps_of(folder, steps, text):
    """Flat fp32 files, one per data set."""
    folder = pathlib.Path(folder)
    for path in dump_gradients(folder / "char_gpt", steps, text):
        path.rename(folder / f"char_gpt_{path.name}")
    subprocess.run([BIN / "bench_gradients", text or libtorch_headers(), folder], check=True)
    return sorted(folder.glob("*.f32"))


def main():
    parser = Parser("codecs", __doc__)
    parser.add_argument("--text", default=None, help="a folder of headers to learn (libtorch's)")
    parser.add_argument("--steps", default=None, help="steps of char_gpt whose gradients are dumped (1,200; quick: 1,40)")
    parser.add_argument("--runs", type=int, default=None, help="(5; quick: 2)")
    parser.add_argument("--cores", type=int, default=2, help="for the last part; 1 leaves it out")
    parser.add_argument("--quick", action="store_true", help="some two minutes instead of six")
    parser.add_argument("--synthetic", action="store_true", help="only made-up gradients, a bucket of 12 MiB")
    options, more = parser.parse_known_args()  # the rest is bench_codecs's own: --codec, --type, --simd
    runs = str(options.runs or (2 if options.quick else 5))
    steps = options.steps or ("1,40" if options.quick else "1,200")
    with tempfile.TemporaryDirectory(prefix="longhaul-gradients-") as folder:
        dumps = [] if options.synthetic else dumps_of(folder, steps, options.text)
        subprocess.run([BIN / "bench_codecs", "--runs", runs, *more, *dumps], check=True)
        if dumps:
            subprocess.run([BIN / "bench_torch_quantize", "--runs", runs, *dumps], check=True)
        if options.cores == 1 or more:
            return
        for codec in SCALED:
            subprocess.run([BIN / "bench_codecs", "--runs", runs, "--codec", codec, "--type", "fp32",
                            "--cores", str(options.cores), *dumps[:1]], check=True)


if __name__ == "__main__":
    main()
