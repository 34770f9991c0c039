"""Held-out loss, step by step, of a transformer with 3.3 million parameters that learns the bytes of libtorch's headers on
four ranks: our DDP with each codec, and Python's DDP with its communication hooks, which starts from the same parameters
and sees the same windows (without a hook it prints what our codec `none` prints)."""

import pathlib
import tempfile

from common import BIN, PEERS, PEER_PYTHON, Parser, emit, libtorch_headers, run_ranks

OURS = ["none", "int8", "rms:step=0.25", "rms:step=0.5", "rms:step=1", "rms:step=1,result=0.5",
        "rms:step=2,result=0.5"]
PEER_HOOKS = ["fp16", "bf16", "powersgd1", "powersgd4"]
RANKS, BATCH, TIME = 4, 4, 64
TEXT_BYTES = 4_000_000


def text_to_learn():
    """The first headers, in the order of their names."""
    text = b""
    for header in sorted(pathlib.Path(libtorch_headers()).rglob("*.h")):
        text += header.read_bytes()
        if len(text) >= TEXT_BYTES:
            break
    return text[:TEXT_BYTES]


def main():
    parser = Parser("learning", __doc__)
    parser.add_argument("--codecs", default=";".join(OURS), help="specs, with ';' between them")
    parser.add_argument("--hooks", default=",".join(PEER_HOOKS))
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--every", type=int, default=20, help="steps between two looks at the loss")
    options = parser.parse_args()
    programs = {f"longhaul {codec}": [BIN / "bench_learning", "--codec", codec]
                for codec in filter(None, options.codecs.split(";"))}
    programs |= {f"python {hook}": [PEER_PYTHON, PEERS / "learning.py", "--hook", hook]
                 for hook in filter(None, options.hooks.split(","))}
    with tempfile.TemporaryDirectory() as folder:
        text = pathlib.Path(folder) / "text"
        text.write_bytes(text_to_learn())
        for name, program in programs.items():
            words = [*program, text, options.steps, options.every, BATCH, TIME]
            for line in run_ranks(RANKS, lambda rank: words, timeout=3600).splitlines():
                step, loss = line.split()
                emit("learning", f"{name}, step {step}", "held-out loss", round(float(loss), 5), "nats")


if __name__ == "__main__":
    main()
