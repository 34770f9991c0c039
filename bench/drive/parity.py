"""After 50 steps, are the parameters and buffers of our DDP those of Python's DDP, to the last bit?"""

import pathlib
import sys
import tempfile

from common import BIN, PEERS, PEER_PYTHON, Parser, emit, run_ranks


def differing_bytes(ours, theirs):
    if len(ours) != len(theirs):
        return max(len(ours), len(theirs))
    return sum(a != b for a, b in zip(ours, theirs))


def main():
    parser = Parser("parity", __doc__)
    parser.add_argument("--worlds", default="1,2,4", help="world sizes (1,2,4)")
    parser.add_argument("--trainings", default="mlp_sgd,transformer_adamw")
    parser.add_argument("--steps", type=int, default=50)
    options = parser.parse_args()

    total = 0
    with tempfile.TemporaryDirectory() as folder:
        for training in options.trainings.split(","):
            for world in map(int, options.worlds.split(",")):
                path = lambda side, rank: pathlib.Path(folder) / f"{training}.{world}.{rank}.{side}"
                run_ranks(world, lambda rank: [BIN / "bench_parity", training, options.steps, path("cc", rank)])
                run_ranks(world, lambda rank: [PEER_PYTHON, PEERS / "parity.py", training, options.steps,
                                               path("py", rank)])
                ours = [path("cc", rank).read_bytes() for rank in range(world)]
                theirs = [path("py", rank).read_bytes() for rank in range(world)]
                differing = sum(map(differing_bytes, ours, theirs))
                total += differing
                case = f"{training} world {world}"
                emit("parity", case, "state", len(ours[0]), "bytes", world)
                emit("parity", case, "differing", differing, "bytes", world, target=0)
    return 1 if total else 0


if __name__ == "__main__":
    sys.exit(main())
