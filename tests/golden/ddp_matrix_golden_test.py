"""The short form of `scripts/bench.sh ddp_matrix`: training loops as people write them end as under Python's DDP, or are
refused no later than there, with a longhaul::Error. The golden values are Python's, written by
`scripts/bench.sh ddp_matrix --write-golden`; CPUs differ in their last bits, so sums and norms are compared, with a small
tolerance.

usage: ddp_matrix_golden_test.py GOLDEN_DDP_MATRIX
"""

import json
import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "bench/drive"))
import ddp_matrix  # noqa: E402

TOLERANCE = 1e-4  # of a norm; other vector units differ by 1e-6


def close(golden: list, seen: list) -> bool:
    """(how many tensors, weighted sum, norm)"""
    scale = TOLERANCE * max(golden[2], 1e-3)
    return golden[0] == seen[0] and abs(golden[1] - seen[1]) <= 10 * scale and abs(golden[2] - seen[2]) <= scale


def first_difference(golden: dict, seen: list) -> str:
    """`seen`: rank by rank, step by step. Where all of Python's ranks are alike, there is one of them."""
    for rank, states in enumerate(seen):
        for step, (a, b) in enumerate(zip(golden["ranks"][min(rank, len(golden["ranks"]) - 1)], states)):
            if not close(a, b):
                return f"rank {rank}, step {step}: {b} differs from golden {a}"
    return ""


def refusal_problem(golden: dict, outcome: list) -> str:
    """Ours refused: no later than Python's DDP, or where its ranks drift apart, and with an error of ours."""
    step, error = ddp_matrix.refusal(outcome), ddp_matrix.first_error(outcome)
    foreign = [rank["error"] for rank in outcome if rank.get("kind", "longhaul::Error") != "longhaul::Error"]
    if foreign:
        return f"not a longhaul::Error: {foreign[0].splitlines()[0]}"
    if "refused_at" in golden:
        return "" if step <= golden["refused_at"] else f"refused at {step} only ({error}), by Python's DDP {golden}"
    if wrong := first_difference(golden, [[ddp_matrix.summary(state) for state in rank["steps"][:step]] for rank in outcome]):
        return f"refused at {step}, and before that {wrong}"
    drifts = step >= 0 and any(rank[step] != golden["ranks"][0][step] for rank in golden["ranks"])
    return "" if drifts else f"refused at {step}, where Python's DDP goes on: {error}"


def difference(row, golden: dict, outcome: list) -> str:
    if "crash" in outcome[0]:
        return outcome[0]["crash"]
    seen = ddp_matrix.digest(outcome)
    if "refused_at" in seen:
        return refusal_problem(golden, outcome)
    if "refused_at" in golden:
        goes_on = golden["refused_at"] == ddp_matrix.STEPS or row.scenario in ddp_matrix.BETTER
        return "" if goes_on and not ddp_matrix.drift(outcome, None) else f"it went on, where Python's DDP {golden}"
    if ddp_matrix.is_righted(row) and len(golden["ranks"]) > 1:
        return ddp_matrix.drift(outcome, None)
    if len(golden["ranks"]) != len(seen["ranks"]):
        return "ranks are alike where Python's differ, or the other way"
    return first_difference(golden, seen["ranks"])


def main() -> int:
    golden = json.loads(ddp_matrix.GOLDEN.read_text())
    rows = list(ddp_matrix.golden_rows())
    assert {ddp_matrix.key_of(row) for row in rows} == set(golden), "golden values of other rows: write them anew"
    found = []
    for world in sorted({row.world for row in rows}):
        named = {f"{i}": row for i, row in enumerate(rows) if row.world == world}
        with tempfile.TemporaryDirectory() as folder:
            outcomes = ddp_matrix.run_all([sys.argv[1]], world, named, pathlib.Path(folder))
        for name, row in named.items():
            key = ddp_matrix.key_of(row)
            found += [f"{key}: {wrong}" for wrong in [difference(row, golden[key], outcomes[name])] if wrong]
    print("\n".join(found) or f"{len(rows)} combinations as under Python's DDP")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
