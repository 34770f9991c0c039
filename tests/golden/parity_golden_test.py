"""The trainings of `scripts/bench.sh parity` end where they ended when their parameters were equal to Python DDP's to
the last bit. CPUs differ in their last bits, so sums and norms are compared, with a small tolerance.

usage: parity_golden_test.py GOLDEN_PARITY [--write]   (--write makes the golden values; run the parity bench first)
"""

import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from ranks import run_ranks  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
TRAININGS = ("mlp_sgd", "transformer_adamw")
WORLDS = (1, 2, 4)
STEPS = 50
TOLERANCE = 1e-4  # of a tensor's norm; other vector units differ by 1e-6


def train(program: str, training: str, world: int) -> dict:
    ranks = run_ranks(world, [program, "--golden", training, STEPS])
    assert all(rank.returncode == 0 for rank in ranks), [rank.stderr for rank in ranks]
    return json.loads(ranks[0].stdout)


def differences(golden: dict, seen: dict) -> list[str]:
    if golden.keys() != seen.keys():
        return [f"tensors are {sorted(seen)}, golden {sorted(golden)}"]
    return [f"{name}.{key}: {seen[name][key]} differs from golden {value}"
            for name, tensor in golden.items() for key, value in tensor.items()
            if not abs(seen[name][key] - value) <= TOLERANCE * max(tensor["norm"], 1e-3)]


def main() -> int:
    program, write = sys.argv[1], "--write" in sys.argv[2:]
    found = []
    for training in TRAININGS:
        path = HERE / f"{training}.json"
        seen = {str(world): train(program, training, world) for world in WORLDS}
        if write:
            path.write_text(json.dumps(seen, indent=1) + "\n")
        golden = json.loads(path.read_text())
        for world in seen:
            found += [f"{training} world {world}: {line}" for line in differences(golden[world], seen[world])]
        # Different worlds see different data: a test that cannot tell them apart tests nothing.
        assert differences(golden["1"], seen["2"])
    print("\n".join(found) or "all sums and norms as they were")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
