"""How much of the exchange hides behind backward, and what encoding and decoding cost a step: the transformer of ddp_step on
four ranks, codec by codec, on loopback and, as root, over emulated links. "busy": at least one bucket was under way;
"waited": backward was done and buckets were not; hidden = 1 - waited / busy. "coding" is processor time of rank 0."""

import os

import wan_ddp
from common import BIN, Parser, emit

CODECS = ["none", "zstd", "lossless", "bf16", "int8", "rms:step=0.5", "auto"]


def main():
    parser = Parser("overlap", __doc__)
    parser.add_argument("--codecs", default=";".join(CODECS), help="specs, with ';' between them")
    parser.add_argument("--links", default="loopback,1gbit 20ms", help="of: " + ", ".join(wan_ddp.LINKS))
    parser.add_argument("--bucket-cap-mb", default="25,4", help="MiB; 25 is PyTorch's default")
    parser.add_argument("--steps", type=int, default=15)
    options = parser.parse_args()
    for link in options.links.split(","):
        if link != "loopback" and os.geteuid() != 0:
            emit("overlap", link, "skipped, needs root", None, "")
            continue
        for codec in options.codecs.split(";"):
            for cap in options.bucket_cap_mb.split(","):
                program = [BIN / "bench_ddp_step", "--traffic", "--codec", codec]
                program += ["--bucket-cap-mb", cap] if cap != "25" else []
                step, waited, busy, coding, sent, raw = wan_ddp.run(link, program, [6, options.steps, 4, 64])
                case = f"{link}, {codec}, buckets of {cap} MiB"
                emit("overlap", case, "step", round(step, 1), "ms", options.steps)
                emit("overlap", case, "busy", round(busy, 1), "ms", options.steps)
                emit("overlap", case, "waited", round(waited, 1), "ms", options.steps)
                emit("overlap", case, "hidden", round(max(0.0, 1 - waited / busy), 3), "", options.steps)
                emit("overlap", case, "coding", round(coding, 2), "ms", options.steps)
                emit("overlap", case, "ratio", round(raw / sent, 3), "x", options.steps)


if __name__ == "__main__":
    main()
