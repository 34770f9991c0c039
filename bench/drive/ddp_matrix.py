"""Training loops as people write them x options x worlds x codecs: does our DDP do what Python's does?

Each combination is one of
  equal           codec none: gradients of every step, parameters and buffers are Python DDP's to the bit; lossless codecs:
                  those of Python's DDP with a hook that adds in rank order; lossy ones: equal between ranks wherever
                  Python's are
  equal but for rounding  ours hooked a changed model anew, and what differs from Python's is the last bits, the same on all
                  of our ranks
  both refuse     both throw in the same step, and ours is a longhaul::Error on every rank that refuses
  refused sooner  ours throws a longhaul::Error, in a step before Python's
  Python drifts   ours throws a longhaul::Error in a step after which the gradients of Python's ranks differ, or is right to go
                  on and the gradients of our ranks stay equal
  ours goes on    Python 2.11 refuses, ours is right to go on, and the gradients of our ranks stay equal
  codec refuses   ours says at construction that this codec cannot carry this model
  FAULT           anything else, a crash, a hang and a difference in the steps before a refusal too; the program then ends
                  with 1
and a JSON line each, with the worlds and codecs for which it is the same; the last line has the counts.
"""

import argparse
import collections
import json
import math
import os
import pathlib
import re
import signal
import struct
import subprocess
import sys
import tempfile
import time

from common import BIN, PEER_PYTHON, PEERS, TOP, free_port

STEPS = 4
HANG_SECONDS = 150  # without a line from any rank; a collective's own limit is 60
EXACT = ("none", "zstd", "lossless")
ROUNDING = ("bf16", "fp16", "int8", "rms", "rms:step=1,result=0.5", "auto")
OPTIONS = ("default", "find_unused", "static_graph", "bucket_view", "small_buckets", "no_broadcast", "cap_list",
           "find_unused,bucket_view", "static_graph,bucket_view", "find_unused,static_graph",
           "find_unused,small_buckets", "static_graph,small_buckets", "find_unused,skip_unused,small_buckets")
CODEC_OPTIONS = ("default", "find_unused,small_buckets", "static_graph,bucket_view")  # with codecs
SCENARIOS = re.findall(r'^    "(\w+)":', (PEERS / "ddp_scenarios.py").read_text(), re.M)

GOLDEN = TOP / "tests/golden/ddp_matrix.json"

# Taken by ours: PyTorch 2.15 too sets buffers to rank 0's out of place, and a model that was frozen is hooked anew.
BETTER = ("batch_norm_two_forwards", "evaluate_between", "frozen_in_step_two")
# With static_graph Python's class takes autograd.grad() of an input for the backward pass to learn from and reduces nothing.
RIGHT_WITH_STATIC_GRAPH = ("gradient_penalty",)
# Hooked anew by ours in a step from which on both train the same: other buckets, in which Gloo adds more than two ranks'
# values in another order.
HOOKED_ANEW = ("frozen_in_step_two",)
VERDICTS = ("equal", "equal but for rounding", "both refuse", "refused sooner", "Python drifts", "ours goes on", "codec refuses", "FAULT")

Row = collections.namedtuple("Row", "world scenario options codec")


def peer_codec(codec):
    return "none" if codec == "none" else "exact"


def read_results(path):
    """Outcomes by id, and the ids that were begun."""
    outcomes, begun = {}, set()
    if path.exists():
        for line in path.read_text().splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                continue  # the process died while it wrote
            if "begun" in entry:
                begun.add(entry["begun"])
            else:
                outcomes[entry["id"]] = entry
    return outcomes, begun


def end(processes):
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.wait()


def wait_for_ranks(processes, files):
    """Until all have ended, one has died, or nothing has come for long. Returns what was wrong, or ''."""
    size_then, since = -1, time.monotonic()
    while any(process.poll() is None for process in processes):
        for rank, process in enumerate(processes):
            if process.poll():
                code = process.returncode
                return f"rank {rank} died of {signal.Signals(-code).name}" if code < 0 else f"rank {rank} ended with {code}"
        size = sum(path.stat().st_size for path in files if path.exists())
        if size != size_then:
            size_then, since = size, time.monotonic()
        if time.monotonic() - since > HANG_SECONDS:
            return f"hang of {HANG_SECONDS} s"
        time.sleep(0.05)
    codes = [process.returncode for process in processes]
    return f"exit codes {codes}" if any(codes) else ""


def launch(program, world, rows, folder):
    """Runs rows (id -> Row) in one world until all are done or something dies. Returns outcomes by id, each a list by rank,
    and (id, what) of a crash."""
    table = folder / "table"
    table.write_text("".join(f"{name} {row.scenario} {row.codec} {row.options}\n" for name, row in rows.items()))
    files = [folder / f"results.{rank}" for rank in range(world)]
    for path in files:
        path.unlink(missing_ok=True)
    port, processes = str(free_port()), []
    for rank in range(world):
        env = dict(os.environ, RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world), LOCAL_WORLD_SIZE=str(world),
                   MASTER_ADDR="127.0.0.1", MASTER_PORT=port, OMP_NUM_THREADS="1", MKL_NUM_THREADS="1",
                   LONGHAUL_LOG="error")
        processes.append(subprocess.Popen([*map(str, program), table, files[rank], str(STEPS)], env=env,
                                          stderr=(folder / f"stderr.{rank}").open("w")))
    try:
        wrong = wait_for_ranks(processes, files)
    finally:
        end(processes)
    by_rank = [read_results(path)[0] for path in files]
    done = {name: [outcomes[name] for outcomes in by_rank] for name in rows if all(name in o for o in by_rank)}
    undone = [name for name in rows if name not in done]
    if not undone:
        return done, None
    return done, (undone[0], wrong or "no result")


def run_all(program, world, rows, folder, tries=1):
    """Every row, whatever dies on the way; a row has crashed when it did so in each of its tries."""
    results, left = {}, dict(rows)
    crashes = collections.Counter()
    while left:
        done, crash = launch(program, world, left, folder)
        results.update(done)
        if crash:
            crashes[crash[0]] += 1
            if crashes[crash[0]] == tries:
                results[crash[0]] = [{"crash": crash[1]}]
        left = {name: row for name, row in left.items() if name not in results}
    return results


def refusal(outcome):
    """The earliest step at which a rank refused, or None."""
    steps = [rank["refused_at"] for rank in outcome if "refused_at" in rank]
    return min(steps) if steps else None


def first_error(outcome):
    at = refusal(outcome)
    return next(rank["error"] for rank in outcome if rank.get("refused_at") == at).strip().split("\n")[0][:300]


def states(rank):
    return [*rank["steps"], rank["state"]]


def first_difference(ours, theirs):
    for rank, (mine, yours) in enumerate(zip(ours, theirs)):
        for step, (a, b) in enumerate(zip(states(mine), states(yours))):
            for name in sorted(a.keys() | b.keys()):
                if a.get(name, "absent") != b.get(name, "absent"):
                    kind = "end" if step == len(mine["steps"]) else f"step {step}"
                    return f"rank {rank}, {kind}, {name}: {str(a.get(name))[:16]} where Python has {str(b.get(name))[:16]}"
    return ""


def drift(ours, theirs):
    """A tensor that is not the same on all of our ranks though it is on Python's. Without those to compare with: a gradient;
    batch norm's statistics are each rank's own until the next forward pass."""
    for step in range(len(states(ours[0])) if theirs else len(ours[0]["steps"])):
        for name in states(ours[0])[step]:
            of = lambda outcome: {states(rank)[step].get(name) for rank in outcome}
            if len(of(ours)) > 1 and (theirs is None or len(of(theirs)) == 1):
                return f"ranks differ at step {step} in {name}"
    return ""


def numbers(text):
    """The values of one tensor."""
    letter, digits = text.split(":")
    return struct.unpack(f"<{len(digits) // 2 // struct.calcsize(letter)}{letter}", bytes.fromhex(digits))


def is_rounding(ours, theirs):
    """Whether what differs is a last bit or two of some values, and our ranks' are the same."""
    for mine, yours in zip(ours, theirs):
        for a, b in zip(states(mine), states(yours)):
            if a.keys() != b.keys() or any((a[name] is None) != (b[name] is None) for name in a):
                return False
            for name in a:
                pairs = zip(numbers(a[name]), numbers(b[name])) if a[name] else ()
                if not all(math.isclose(x, y, rel_tol=1e-5, abs_tol=1e-7) for x, y in pairs):
                    return False
    return not drift(ours, theirs)


def digest(outcome):
    """What of an outcome is the same on other CPUs but for rounding: the step it was refused in, or for each rank, step by
    step and at the end, how many tensors are there and their sum and norm. One rank's where all are alike."""
    if "crash" in outcome[0]:  # only Python's: ours must not
        return {"refused_at": STEPS}
    if refusal(outcome) is not None:
        return {"refused_at": refusal(outcome)}
    ranks = [[summary(tensors) for tensors in states(rank)] for rank in outcome]
    return {"ranks": ranks[:1] if all(states(rank) == states(outcome[0]) for rank in outcome) else ranks}


def summary(tensors):
    values, there = [], 0
    for name in sorted(tensors):
        if tensors[name] is not None:
            there += 1
            values += numbers(tensors[name])
    # Weights, so that values in each other's place show.
    total = sum(value * (1 + i % 7) for i, value in enumerate(values))
    return [there, float(f"{total:.7g}"), float(f"{math.hypot(*values):.7g}")]


def golden_rows():
    """The short form that the tests run (tests/golden/ddp_matrix_golden_test.py)."""
    for scenario in SCENARIOS:
        for words in ("default", "find_unused,small_buckets", "static_graph", "find_unused,skip_unused,small_buckets"):
            yield Row(2, scenario, words, "none")
        yield Row(3, scenario, "default", "none")
        yield Row(3, scenario, "small_buckets", "zstd")


def key_of(row):
    return " ".join(map(str, row))


def write_golden():
    golden = {}
    rows = list(golden_rows())
    for world in sorted({row.world for row in rows}):
        with tempfile.TemporaryDirectory() as folder:
            named = {f"{i}": row._replace(codec=peer_codec(row.codec))
                     for i, row in enumerate(rows) if row.world == world}
            outcomes = run_all([PEER_PYTHON, PEERS / "ddp_matrix.py"], world, named, pathlib.Path(folder))
            golden |= {key_of(rows[int(name)]): digest(outcome) for name, outcome in outcomes.items()}
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(golden[key])}" for key in sorted(golden))
    GOLDEN.write_text("{\n" + lines + "\n}\n")


def python_drifts(theirs, step):
    """Whether Python's ranks hold different gradients after a step that ours refuses: it went wrong in silence."""
    return len({json.dumps(rank["steps"][step]) for rank in theirs}) > 1


def is_righted(row):
    return row.scenario in RIGHT_WITH_STATIC_GRAPH and "static_graph" in row.options.split(",")


def before(outcome, step):
    """What came of the steps before one."""
    return [{"steps": rank["steps"][:step], "state": {}} for rank in outcome]


def difference(row, ours, theirs):
    return first_difference(ours, theirs) if row.codec in EXACT else drift(ours, theirs)


def judge(row, ours, theirs):
    """(verdict, detail)"""
    if "crash" in ours[0]:
        return "FAULT", f"ours: {ours[0]['crash']}"
    if "crash" in theirs[0]:
        theirs = [{"refused_at": STEPS, "error": f"crash: {theirs[0]['crash']}", "steps": []}]
    mine, yours = refusal(ours), refusal(theirs)
    if mine is not None and any(rank.get("kind") == "other" for rank in ours):
        return "FAULT", f"not a longhaul::Error: {first_error(ours)}"
    if mine == -1 and row.codec != "none" and "codec" in first_error(ours):
        return "codec refuses", first_error(ours)
    if mine is not None and yours is None and mine >= 0 and python_drifts(theirs, mine):
        return "Python drifts", f"ours refuses at step {mine}: {first_error(ours)}"
    if yours is not None and mine is None and row.scenario in BETTER and not drift(ours, None):
        return "ours goes on", f"Python, step {yours}: {first_error(theirs)}"
    reached = min(len(rank["steps"]) for rank in [*ours, *theirs]) if mine is not None else 0
    if wrong := difference(row, before(ours, reached), before(theirs, reached)):
        return "FAULT", f"before a refusal: {wrong}"
    if mine is not None and yours is None:
        return "FAULT", f"ours alone refuses, step {mine}: {first_error(ours)}"
    if yours is not None and mine is None:
        return "FAULT", f"Python alone refuses, step {yours}: {first_error(theirs)}"
    if mine is not None and mine > yours:
        return "FAULT", f"ours refuses at step {mine}, Python at {yours}: {first_error(ours)}"
    if mine is not None:
        return ("both refuse" if mine == yours else "refused sooner",
                f"step {mine}: {first_error(ours)} | Python, step {yours}: {first_error(theirs)}")
    if is_righted(row) and any(python_drifts(theirs, step) for step in range(STEPS)) and not drift(ours, None):
        return "Python drifts", "ours reduces in every step"
    wrong = difference(row, ours, theirs)
    if wrong and row.scenario in HOOKED_ANEW and is_rounding(ours, theirs):
        return "equal but for rounding", wrong
    return ("FAULT", wrong) if wrong else ("equal", "")


def combinations(options):
    worlds = [int(world) for world in options.worlds.split(",")]
    pick = lambda text, all_of: text.split(",") if text else all_of
    scenarios = pick(options.scenarios, SCENARIOS)
    codecs = options.codecs.split(" ") if options.codecs else [*EXACT, *ROUNDING]
    for world in worlds:
        for scenario in scenarios:
            for codec in codecs:
                choices = OPTIONS if codec == "none" else CODEC_OPTIONS
                for words in options.options.split(" ") if options.options else choices:
                    yield Row(world, scenario, words, codec)


def run_both(rows, world, folder):
    """(ours, theirs), by Row."""
    mine = {f"{i}": row for i, row in enumerate(rows)}
    wanted = {row._replace(codec=peer_codec(row.codec)): None for row in rows}
    yours = {f"{i}": row for i, row in enumerate(wanted)}
    # Ours may not die once. Python's ranks may, of a machine that is too busy; what it always dies of, it dies of twice.
    python = run_all([PEER_PYTHON, PEERS / "ddp_matrix.py"], world, yours, folder, tries=2)
    ours = run_all([BIN / "bench_ddp_matrix"], world, mine, folder)
    return ({row: ours[name] for name, row in mine.items()}, {row: python[name] for name, row in yours.items()})


def report(verdicts):
    groups = collections.defaultdict(list)
    for row, (verdict, detail) in verdicts.items():
        if verdict != "equal":
            said = re.sub(r"0x[0-9a-f]+|\d+", "N", detail)
            groups[verdict, row.scenario, row.options, said].append((row, detail))
    for (verdict, scenario, words, _), rows in sorted(groups.items()):
        print(json.dumps({"bench": "ddp_matrix", "verdict": verdict, "scenario": scenario, "options": words,
                          "worlds": sorted({row.world for row, _ in rows}),
                          "codecs": sorted({row.codec for row, _ in rows}), "combinations": len(rows),
                          "says": rows[0][1]}))
    counts = collections.Counter(verdict for verdict, _ in verdicts.values())
    print(json.dumps({"bench": "ddp_matrix", "combinations": len(verdicts), **{
        verdict: counts[verdict] for verdict in VERDICTS}}))
    return counts["FAULT"]


def main():
    parser = argparse.ArgumentParser(prog="scripts/bench.sh ddp_matrix", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", default="2,3,4", help="world sizes (2,3,4)")
    parser.add_argument("--scenarios", help=f"of {', '.join(SCENARIOS)} (all)")
    parser.add_argument("--codecs", help="separated by spaces (" + " ".join(EXACT + ROUNDING) + ")")
    parser.add_argument("--options", help="sets of options, separated by spaces (" + " ".join(OPTIONS) + ")")
    parser.add_argument("--write-golden", action="store_true",
                        help="only write what Python's DDP does in the tests' short form, tests/golden/ddp_matrix.json")
    options = parser.parse_args()
    if options.write_golden:
        write_golden()
        return 0

    verdicts = {}
    rows = list(combinations(options))
    for world in sorted({row.world for row in rows}):
        count = sum(row.world == world for row in rows)
        print(f"ddp_matrix: {world} ranks, {count} combinations: Python's, then ours", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory() as folder:
            ours, theirs = run_both([row for row in rows if row.world == world], world, pathlib.Path(folder))
        for row, outcome in ours.items():
            verdicts[row] = judge(row, outcome, theirs[row._replace(codec=peer_codec(row.codec))])
    return 1 if report(verdicts) else 0


if __name__ == "__main__":
    sys.exit(main())
