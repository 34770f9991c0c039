"""Judges a chaos campaign afterwards, from what clients saw (history.jsonl), what ranks wrote down themselves (journals), and
the master's database; it shares no code with Longhaul. Each finding is one line; none means that every promise was kept.

History lines: {"event": "submitted", "job", "kind": "array" | "gang", "tasks", "exit"} once a submission was acknowledged,
{"event": "results", "job", "results": {task: text}} for each reading, {"event": "ended", "job", "state", "exit", "restarts"},
{"event": "log", "job", "text"} once workers have no output left to send, {"event": "hang", "what"}, {"event": "leaked", "pid", "command"}."""

import collections
import json
import pathlib
import sqlite3

DONE = 3  # TaskState::kDone


def read(folder):
    lines = (pathlib.Path(folder) / "history.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def expected_result(task):
    return f"result of task {task}\n"


def check_arrays(history, database):
    submitted = {row["job"]: row for row in history if row["event"] == "submitted" and row["kind"] == "array"}
    seen = collections.defaultdict(dict)
    for row in history:
        if row["event"] != "results":
            continue
        for task, text in row["results"].items():
            before = seen[row["job"]].setdefault(int(task), text)
            if before != text:
                yield f"{row['job']}: task {task} had two results: {before!r}, then {text!r}"
    for job, row in submitted.items():
        number = int(job[1:])
        tasks = {task: (state, epoch) for task, state, epoch in
                 database.execute("SELECT task, state, epoch FROM tasks WHERE job=?", (number,))}
        results = collections.defaultdict(list)
        for task, epoch in database.execute("SELECT task, epoch FROM results WHERE job=?", (number,)):
            results[task].append(epoch)
        for task in range(row["tasks"]):
            if len(results[task]) != 1:
                yield f"{job}: task {task} was committed {len(results[task])} times"
                continue
            state, epoch = tasks.get(task, (None, None))
            if state != DONE:
                yield f"{job}: task {task} has a result and is not done (state {state})"
            elif epoch != results[task][0]:
                yield f"{job}: task {task}: the result is of lease {results[task][0]}, the task was done under {epoch}"
            text = seen[job].get(task)
            if text != expected_result(task):
                yield f"{job}: task {task} gave {text!r}, not {expected_result(task)!r}"
        for task in set(results) - set(range(row["tasks"])):
            yield f"{job}: a result of task {task}, which there is not"


def check_jobs(history, database):
    known = {number for (number,) in database.execute("SELECT number FROM jobs")}
    ended = {row["job"]: row for row in history if row["event"] == "ended"}
    for row in history:
        if row["event"] == "hang":
            yield f"hang: {row['what']}"
        if row["event"] == "leaked":
            yield f"leaked process {row['pid']}: {row['command']}"
        if row["event"] != "submitted":
            continue
        if int(row["job"][1:]) not in known:
            yield f"{row['job']}: an acknowledged submission is lost"
        end = ended.get(row["job"])
        if end is None:
            yield f"{row['job']}: never ended"
        elif end["exit"] != row["exit"]:
            yield f"{row['job']}: ended as {end['state']} with code {end['exit']}, not {row['exit']}"


def check_lines(history, folder):
    """What a rank wrote into its journal after it had printed it must be in the log, once, in order, whatever became of its
    worker."""
    for row in history:
        if row["event"] != "log":
            continue
        printed = collections.defaultdict(list)
        for line in row["text"].splitlines():
            rank, _, words = line.partition("] ")
            words = words.split()
            if len(words) == 3 and words[0] == "line":
                printed[int(words[1]), int(rank[1:])].append(int(words[2]))
        for journal in sorted(pathlib.Path(folder).glob(f"journal-{row['job']}-*")):
            generation, rank = map(int, journal.name.split("-")[2:])
            wrote = [int(line) for line in journal.read_text().split()]
            lines = printed.get((generation, rank), [])
            if lines != sorted(set(lines)):
                yield f"{row['job']} generation {generation} rank {rank}: lines twice or out of order"
            missing = sorted(set(wrote) - set(lines))
            if missing:
                yield f"{row['job']} generation {generation} rank {rank}: lost lines {missing[:5]}"


def check(folder):
    history = read(folder)
    database = sqlite3.connect(f"file:{folder}/master/master.db?mode=ro", uri=True)
    try:
        return [*check_jobs(history, database), *check_arrays(history, database), *check_lines(history, folder)]
    finally:
        database.close()
