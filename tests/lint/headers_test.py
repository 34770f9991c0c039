"""Every public header compiles on its own, and twice in one file, with what is installed and nothing of src/.

usage: headers_test.py SOURCE_DIR COMPILE_COMMANDS COMPILER
"""

import concurrent.futures
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys

from by_content import Checked, identity_of


def flags_for_torch_files(compile_commands: pathlib.Path) -> list[str]:
    """Include paths and definitions of a file that sees everything (the room runtime)."""
    for entry in json.loads(compile_commands.read_text()):
        if "/src/runtime/" in entry["file"] or "/longhaul_runtime.dir/" in entry["file"]:
            words = shlex.split(entry["command"])
            kept = []
            for i, word in enumerate(words):
                if word.startswith(("-D", "-I", "-std")) and not word.endswith("/src"):
                    kept.append(word)
                elif word == "-isystem":
                    kept += ["-isystem", words[i + 1]]
            return kept
    raise SystemExit(f"no file of src/runtime in {compile_commands}")


def compile_alone(compiler: str, flags: list[str], include: str) -> str:
    text = f'#include "{include}"\n#include "{include}"\n'
    done = subprocess.run([compiler, *flags, "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-x", "c++", "-"],
                          input=text, capture_output=True, text=True)
    return "" if done.returncode == 0 else f"{include}:\n{done.stderr}"


def main() -> int:
    source, compile_commands, compiler = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3]
    root = source / "include"
    headers = sorted(str(path.relative_to(root)) for path in root.rglob("*.h"))
    flags = flags_for_torch_files(compile_commands)
    checked = Checked(str(source), str(compile_commands.parent), "headers", identity_of(compiler),
                      *(identity_of(flag) for flag in flags if flag.startswith("/") and os.path.isdir(flag)))
    key = checked.key([str(root / header) for header in headers], *flags, pathlib.Path(__file__).read_text())
    if headers and checked.is_known(key):
        print(f"{len(headers)} headers are as when they were last compiled alone")
        return 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        errors = list(filter(None, pool.map(lambda header: compile_alone(compiler, flags, header), headers)))
    if headers and not errors:
        checked.remember(key)
        checked.forget_the_rest()
    print("\n".join(errors) or f"{len(headers)} headers compile alone")
    return 1 if errors or not headers else 0


if __name__ == "__main__":
    sys.exit(main())
