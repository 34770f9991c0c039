"""Which tests to build and run: by tier, by room, or by what has changed since a commit.

usage: choose.py SOURCE_DIR BUILD_DIR [--tier T,...] [--room R,...] [--changed COMMIT]

Prints two lines: the ninja targets to build, and the options for ctest.
"""

import argparse
import json
import pathlib
import subprocess
import sys

TIERS = ("fast", "torch", "daemon", "root", "slow")
# What tests of the whole house stand on; the others are the rooms' own. "everything" is any file at all.
WHOLE_HOUSE = {
    "gpu": {"ddp"},
    "linkem": {"tools", "base"},
    "golden": {"runtime", "codec", "bench"},
    "examples": {"runtime", "examples"},
    "e2e": {"apps/cli", "apps/master", "apps/worker", "apps/shim", "runtime", "examples", "tools", "scripts"},
    "failpoints": {"apps/cli", "apps/master", "apps/worker", "apps/shim"},
    "chaos": {"apps/cli", "apps/master", "apps/worker", "apps/shim"},
    "install": {"runtime", "agent/client", "cmake"},
    "setup": {"scripts", "bench"},
    "fuzz": {"codec"},
    "sanitize": {"base", "wire", "control/database", "control/convert", "agent/client"},
    "lint": {"everything"},
}
# A change there is a change of all.
OF_ALL = ("CMakeLists.txt", "CMakePresets.json", "cmake/", "tests/CMakeLists.txt", "tests/support/", "proto/")


def changed_files(source: pathlib.Path, commit: str) -> list[str]:
    def git(*words: str) -> list[str]:
        return subprocess.run(["git", "-C", str(source), *words], check=True, capture_output=True, text=True).stdout.split()
    return git("diff", "--name-only", commit) + git("ls-files", "-o", "--exclude-standard")


def rooms_of_changes(house, files: list[str], tested: set[str]) -> set[str]:
    """Of the rooms that have tests, those that `files` touch and those that stand on them. A changed test is its room's alone."""
    touched = {"everything"} if files else set()
    chosen = set()
    for path in files:
        if path.startswith(OF_ALL):
            return set(tested)
        if path.startswith("tests/"):
            inside = [room for room in tested if path.startswith(f"tests/{room}/")]
            chosen |= {max(inside, key=len)} if inside else set()
        else:
            touched.add(house.room_of(path) or path.split("/")[0])
    on_them = {name for name in house.rooms if house.all_below(name) & touched} | touched
    return chosen | {room for room in tested if room in on_them or WHOLE_HOUSE.get(room, set()) & on_them}


def check_that_it_can_fail(house) -> None:
    tested = {"base", "codec", "wire", "cluster", "control/master", "e2e", "lint", "fuzz", "golden"}

    def chosen(*files: str) -> set[str]:
        return rooms_of_changes(house, list(files), tested)
    assert chosen("src/codec/codec.cc") == {"codec", "e2e", "lint", "fuzz", "golden"}
    assert chosen("src/cluster/jobs/job.h") == {"cluster", "control/master", "e2e", "lint"}
    assert chosen("tests/wire/frame_test.cc") == {"wire", "lint"}
    assert chosen("docs/api.md") == {"lint"}
    assert chosen("cmake/x.cmake") == tested
    assert chosen() == set()


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/test.sh", add_help=False)
    parser.add_argument("source", type=pathlib.Path)
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--tier")
    parser.add_argument("--room")
    parser.add_argument("--changed")
    options = parser.parse_args()
    sys.path.insert(0, str(options.source / "tools"))
    import house as drawing
    house = drawing.read((options.source / drawing.DECLARATIONS).read_text())
    check_that_it_can_fail(house)

    listed = json.loads(subprocess.run(["ctest", "--test-dir", str(options.build), "--show-only=json-v1"], check=True,
                                       capture_output=True, text=True).stdout)["tests"]
    tests = []  # (tier, room)
    for test in listed:
        labels = next((each["value"] for each in test["properties"] if each["name"] == "LABELS"), [])
        tests.append(tuple(next((label.split(":", 1)[1] for label in labels if label.startswith(kind)), "")
                           for kind in ("tier:", "room:")))
    tested = {room for _, room in tests}
    tiers, rooms = set(TIERS), set(tested)
    if options.tier:
        tiers = set(options.tier.split(","))
        if unknown := tiers - set(TIERS):
            raise SystemExit(f"scripts/test.sh: no tier '{unknown.pop()}'; there are {', '.join(TIERS)}")
    if options.room:
        rooms = set()
        for wanted in options.room.split(","):
            inside = {room for room in tested if room == wanted or room.startswith(wanted + "/")}
            if not inside:
                raise SystemExit(f"scripts/test.sh: no room '{wanted}' has tests; there are {', '.join(sorted(tested))}")
            rooms |= inside
    if options.changed:
        rooms &= rooms_of_changes(house, changed_files(options.source, options.changed), tested)
    rooms &= {room for tier, room in tests if tier in tiers}
    if not rooms:
        raise SystemExit("scripts/test.sh: no test is chosen by that")
    print("all" if "install" in rooms else " ".join(f"examples/all" if room == "examples" else f"tests/{room}/all"
                                                  for room in sorted(rooms)))
    print(f"-L ^tier:({'|'.join(sorted(tiers))})$ -L ^room:({'|'.join(sorted(rooms))})$")


if __name__ == "__main__":
    main()
