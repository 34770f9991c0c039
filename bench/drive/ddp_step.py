"""Time of a training step: our DDP against Python's DDP, in turns, and against plain libtorch."""

import statistics

from common import BIN, PEERS, PEER_PYTHON, Parser, emit_median, run_ranks


def main():
    parser = Parser("ddp_step", __doc__)
    parser.add_argument("--worlds", default="1,2,4", help="world sizes (1,2,4)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each side")
    parser.add_argument("--steps", type=int, default=20, help="timed steps in a turn")
    parser.add_argument("--warmup", type=int, default=5)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--time", type=int, default=64)
    options = parser.parse_args()
    plan = [options.warmup, options.steps, options.batch, options.time]

    def turn(world, *program):
        return [float(line) for line in run_ranks(world, lambda rank: [*program, *plan]).split()]

    overhead_plan = [options.warmup, options.rounds * options.steps, options.batch, options.time]
    lines = run_ranks(1, lambda rank: [BIN / "bench_ddp_step", "--overhead", *overhead_plan]).splitlines()
    turns = [tuple(map(float, line.split())) for line in lines]
    emit_median("ddp_step", "world 1", "plain libtorch", [plain for plain, _ in turns], "ms/step")
    emit_median("ddp_step", "world 1", "longhaul / plain libtorch", [ddp / plain for plain, ddp in turns], "x", 1.01)

    for world in map(int, options.worlds.split(",")):
        ours, theirs = [], []
        for index in range(options.rounds):
            sides = [(ours, (BIN / "bench_ddp_step",)), (theirs, (PEER_PYTHON, PEERS / "ddp_step.py"))]
            for times, program in sides if index % 2 == 0 else reversed(sides):
                times.append(statistics.median(turn(world, *program)))
        case = f"world {world}"
        emit_median("ddp_step", case, "longhaul", ours, "ms/step")
        emit_median("ddp_step", case, "python", theirs, "ms/step")
        ratios = [a / b for a, b in zip(ours, theirs)]
        emit_median("ddp_step", case, "longhaul / python", ratios, "x", 1.0)


if __name__ == "__main__":
    main()
