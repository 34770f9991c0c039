"""The compressed all-reduce against Gloo's own in fp32: time, bytes that a rank sends beside 2(n-1)/n S/ratio, and the error
of the result, for 2, 4 and 8 ranks and a bucket of 12 MiB, on loopback and, as root, over emulated links."""

import os

import wan_ddp
from common import BIN, Parser, emit

CODECS = ["none", "zstd", "bf16", "int8", "rms:step=0.5", "rms:step=1", "rms:step=2,result=0.5"]


def main():
    parser = Parser("allreduce", __doc__)
    parser.add_argument("--codecs", default=";".join(CODECS), help="specs, with ';' between them")
    parser.add_argument("--links", default="loopback,100mbit 100ms", help="of: " + ", ".join(wan_ddp.LINKS))
    parser.add_argument("--ranks", default="2,4,8")
    parser.add_argument("--bytes", type=int, default=12 << 20)
    options = parser.parse_args()
    for link in options.links.split(","):
        if link != "loopback" and os.geteuid() != 0:
            emit("allreduce", link, "skipped, needs root", None, "")
            continue
        runs = [3, 15] if link == "loopback" else [1, 3]
        for ranks in map(int, options.ranks.split(",")):
            gloo = None
            for codec in [None, *options.codecs.split(";")]:
                program = [BIN / "bench_allreduce", *(["--codec", codec] if codec else []), options.bytes]
                taken, sent, formula, error = wan_ddp.run(link, program, runs, hosts=ranks)
                gloo = gloo or taken
                case = f"{link}, {ranks} ranks, {codec or 'Gloo'}"
                emit("allreduce", case, "time", round(taken, 1), "ms", runs[1])
                if codec is None:
                    continue
                emit("allreduce", case, "Gloo's time / ours", round(gloo / taken, 2), "x", runs[1])
                emit("allreduce", case, "sent by a rank", round(sent), "bytes", runs[1])
                emit("allreduce", case, "sent / formula", round(sent / formula, 4), "", runs[1], target=1.02)
                emit("allreduce", case, "error", float(f"{error:.3g}"), "of the RMS", runs[1])


if __name__ == "__main__":
    main()
