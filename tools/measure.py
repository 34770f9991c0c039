#!/usr/bin/env python3
"""How large the house is and how far a change reaches in it, as JSON lines.

usage: tools/measure.py                    sizes of files, functions and headers, by parts of the house
       tools/measure.py touched A..B ...   of each range of commits: files that were touched, and which (generated ones are in
                                           no commit); what a new noun costs is the range of the branch that adds it
"""

import json
import pathlib
import re
import statistics
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import house as drawing  # noqa: E402

TOP = drawing.TOP
# What begins with these is no function.
OTHERS = re.compile(r"\{|(namespace|class|struct|enum|union|extern|if|for|while|switch|do|else|try|return|case|default|using|}|#)\b|.*= *\{$"
                    r"|.*\(\[|.*= \[")


def function_lengths(text: str) -> list[int]:
    """Lines between the braces of each function that has a body of its own lines, as clang-format lays them out."""
    lines, lengths, start = text.split("\n"), [], 0
    for number, line in enumerate(lines):
        if line.endswith("{"):
            while lines[start].lstrip().startswith("//"):
                start += 1
            words = " ".join(part.strip() for part in lines[start:number + 1] if not part.lstrip().startswith("//"))
            if ")" in words and not OTHERS.match(words):
                indent = lines[start][:len(lines[start]) - len(lines[start].lstrip())]
                closed = next((at for at in range(number + 1, len(lines)) if lines[at].startswith(indent + "}")), number + 1)
                lengths.append(closed - number - 1)
        if not line.strip() or line.lstrip().startswith("#") or (
                line.endswith((";", "{", "}", ":", "*/")) and not line.lstrip().startswith("//")):
            start = number + 1
    return lengths


def check_itself() -> None:
    one = "int f(int a) {\n  return a;\n}\n\nclass A {\n  void g() {\n    x();\n    if (y) {\n      z();\n    }\n  }\n};\n"
    assert function_lengths(one) == [1, 4], function_lengths(one)
    two = "A::A(int a)\n    : a_(a),\n      b_(f(a)) {\n  x();\n}\n\nint g() {\n  y();\n  z();\n}\n"
    assert function_lengths(two) == [1, 2], function_lengths(two)


def files(*patterns: str) -> list[str]:
    return [path for path in subprocess.run(["git", "-C", str(TOP), "ls-files", "-co", "--exclude-standard", *patterns], check=True,
                                            capture_output=True, text=True).stdout.split() if (TOP / path).exists()]


def lines_of(path: str) -> int:
    return (TOP / path).read_text().count("\n")


def emit(what: str, **values) -> None:
    print(json.dumps({"measure": what, **values}))


def sizes() -> None:
    house = drawing.read((TOP / drawing.DECLARATIONS).read_text())
    groups: dict[str, list[str]] = {}
    for path in files("*.h", "*.cc", "*.cu", "*.py", "*.sh", "*.proto"):
        room = house.room_of(path) if path.startswith(("src/", "include/", "apps/", "proto/")) else None
        groups.setdefault(house.rooms[room].part if room else path.split("/")[0], []).append(path)
    for part, paths in groups.items():
        lengths = [lines_of(path) for path in paths]
        emit("files", part=part, files=len(paths), lines=sum(lengths), median=round(statistics.median(lengths)), longest=max(lengths),
             which=paths[lengths.index(max(lengths))])
    sources = [path for path in files("src/*.cc", "src/*.h", "include/*.h", "apps/*.cc", "apps/*.h")]
    functions = [(length, path) for path in sources for length in function_lengths((TOP / path).read_text())]
    emit("functions", count=len(functions), median=statistics.median(length for length, _ in functions),
         longest=max(functions)[0], which=max(functions)[1])
    comments = sum(len(re.findall(r"^\s*//", (TOP / path).read_text(), re.MULTILINE)) for path in sources if path.endswith(".cc"))
    all_lines = sum(lines_of(path) for path in sources if path.endswith(".cc"))
    emit("comments", share_of_source_lines=round(comments / all_lines, 3))
    headers = [path for path in sources if path.startswith("include/")]
    emit("public headers", count=len(headers), lines=sum(map(lines_of, headers)),
         longest=max(map(lines_of, headers)), which=max(headers, key=lines_of))


def touched(ranges: list[str]) -> None:
    for one in ranges:
        listed = subprocess.run(["git", "-C", str(TOP), "diff", "--name-status", one.replace("..", "...")], check=True, capture_output=True,
                                text=True).stdout.splitlines()
        names = [line.split("\t")[-1] for line in listed]
        tests = [name for name in names if name.startswith("tests/")]
        emit("touched", range=one, files=len(names) - len(tests), tests=len(tests), which=sorted(set(names) - set(tests)))


def main() -> None:
    check_itself()
    if sys.argv[1:2] == ["touched"] and len(sys.argv) > 2:
        touched(sys.argv[2:])
    elif len(sys.argv) == 1:
        sizes()
    else:
        raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
