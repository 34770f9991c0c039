"""Does training with a codec reach the same loss? Held-out loss of char_gpt after 800 steps on four ranks, codec by
codec, seed by seed, against fp32 (`none`) of the same seed. `zstd` is exact too, but adds in another order than Gloo's
ring: its difference shows how far rounding alone moves the loss."""

import json
import os
import statistics
import sys
import tempfile

from common import BIN, Parser, emit, libtorch_headers, run_ranks

CODECS = ["none", "zstd", "bf16", "int8", "rms:step=0.25", "rms:step=0.5", "rms:step=1", "rms:step=1,result=0.5",
          "rms:step=2,result=0.5"]
TARGET = 0.006  # nats, of those named by the project
WITHIN_TARGET = {"int8", "rms:step=0.25", "rms:step=0.5"}


def train(options, codec, seed):
    """char_gpt's report."""
    with tempfile.TemporaryDirectory() as folder:
        report = os.path.join(folder, "report.json")
        words = [BIN / "char_gpt", "--text", options.text or libtorch_headers(), "--steps", options.steps, "--seed", seed,
                 "--codec", codec, "--sample", 0, "--report", report]
        run_ranks(options.ranks, lambda rank: words, timeout=3600)
        with open(report, encoding="utf-8") as file:
            found = json.load(file)
    if len(set(found["parameter_hashes"])) != 1:
        sys.exit(f"codec {codec}, seed {seed}: ranks ended with different parameters")
    return found


def main():
    parser = Parser("convergence", __doc__)
    parser.add_argument("--codecs", default=";".join(CODECS), help="specs, with ';' between them")
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--ranks", type=int, default=4)
    parser.add_argument("--text", help="file or folder to learn (default: libtorch's headers)")
    options = parser.parse_args()
    codecs = options.codecs.split(";")
    if codecs[0] != "none":
        codecs.insert(0, "none")
    differences = {codec: [] for codec in codecs}
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        for codec in codecs:
            found = train(options, codec, seed)
            loss = found["held_out_loss"]
            if codec == "none":
                exact = loss
            differences[codec].append(loss - exact)
            emit("convergence", f"{codec}, seed {seed}", "held-out loss", round(loss, 5), "nats")
            emit("convergence", f"{codec}, seed {seed}", "fewer bytes", round(found["bytes_raw"] / found["bytes_sent"], 3), "x")
    for codec in codecs[1:]:
        values = differences[codec]
        emit("convergence", codec, "loss above fp32's, mean", round(statistics.mean(values), 5), "nats", len(values),
             target=TARGET if codec in WITHIN_TARGET else None)
        emit("convergence", codec, "loss above fp32's, worst", round(max(values), 5), "nats", len(values))


if __name__ == "__main__":
    main()
