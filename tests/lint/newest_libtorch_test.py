"""The files that know torch compile against the newest libtorch too, of which only the headers are here (scripts/setup.sh
--tests). Whether they also run is scripts/compat.sh's question.

usage: newest_libtorch_test.py SOURCE_DIR COMPILE_COMMANDS HEADERS COMPILER [FILE...]
"""

import concurrent.futures
import json
import os
import pathlib
import shlex
import subprocess
import sys
import tempfile

from by_content import Checked, identity_of
from tidy_test import sources_of

ROOMS = ("src/collectives/", "src/ddp/", "src/runtime/")
FILES_AT_ONCE = 9
# What they share and what costs most to read, read once.
COMMON = ("torch/csrc/autograd/custom_function.h", "torch/csrc/distributed/c10d/ProcessGroupGloo.hpp",
          "torch/csrc/distributed/c10d/reducer.hpp", "torch/nn/modules/embedding.h")


def flags_of(command: str, newest: pathlib.Path) -> list[str]:
    """Include paths, definitions and language of a compilation, with the newest libtorch in place of the other."""
    flags = []
    words = iter(shlex.split(command))
    for word in words:
        if word in ("-isystem", "-I"):
            word += next(words)
        if word.endswith("torch/include"):
            flags += ["-isystem", str(newest), "-isystem", str(newest / "torch/csrc/api/include")]
        elif word.startswith("-isystem") and "torch/include/" not in word:
            flags += ["-isystem", word.removeprefix("-isystem")]
        elif word.startswith(("-I", "-D", "-std=")):
            flags.append(word)
    return flags


def compile_only(compiler: str, flags: list[str], *words: str) -> str:
    """What the compiler says to it; empty when that is nothing."""
    done = subprocess.run([compiler, *flags, "-w", *words], capture_output=True, text=True)
    return "" if done.returncode == 0 else done.stderr or f"{words[-1]}: exit code {done.returncode}"


def check(compiler: str, flags: list[str], files: list[str]) -> list[str]:
    with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        header = pathlib.Path(folder, "common.h")
        header.write_text("".join(f"#include <{name}>\n" for name in COMMON))
        precompiled = f"{header}.{'pch' if 'clang' in compiler else 'gch'}"
        if error := compile_only(compiler, flags, "-x", "c++-header", str(header), "-o", precompiled):
            return [error]
        # Several as one: what they make of the headers' templates is made once. Where such a one does not compile, its
        # files say by themselves why.
        together = []
        for number in range(0, len(files), FILES_AT_ONCE):
            together.append(pathlib.Path(folder, f"together_{number}.cc"))
            together[-1].write_text("".join(f'#include "{file}"\n' for file in files[number:number + FILES_AT_ONCE]))
        compile_with = ["-include", str(header), "-fsyntax-only"]
        failed = pool.map(lambda file: compile_only(compiler, flags, *compile_with, str(file)), together)
        alone = [file for number, error in enumerate(failed) if error
                 for file in files[number * FILES_AT_ONCE:(number + 1) * FILES_AT_ONCE]]
        return list(filter(None, pool.map(lambda file: compile_only(compiler, flags, *compile_with, file), alone)))


def main() -> int:
    source, commands, newest, compiler = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3]).absolute(), sys.argv[4]
    if not (newest / "torch/torch.h").exists() and not (newest / "torch/csrc/api/include/torch/torch.h").exists():
        print(f"{newest} holds no headers of libtorch; fetch them with:  scripts/setup.sh --tests")
        return 1
    files, flags = [], {}
    for entry in json.loads(pathlib.Path(commands).read_text()):
        for file in sources_of(entry):
            name = os.path.relpath(file, source)
            if name.startswith(ROOMS) and (len(sys.argv) == 5 or name in sys.argv[5:]):
                files.append(file)
                flags[tuple(flags_of(entry["command"], newest))] = None
    # The most of them are all of them: rooms differ by a definition more. Headers are read once then.
    all_flags = list(max(flags, key=len, default=()))
    checked = Checked(source, os.path.dirname(commands), "newest_libtorch", identity_of(compiler), identity_of(str(newest)))
    key = checked.key(files, *all_flags, pathlib.Path(__file__).read_text())
    if files and checked.is_known(key):
        print(f"{len(files)} files are as when they last compiled against the libtorch of {newest}")
        return 0
    errors = check(compiler, all_flags, files)
    if files and not errors and len(sys.argv) == 5:
        checked.remember(key)
        checked.forget_the_rest()
    print("\n".join(errors) or f"{len(files)} files compile against the libtorch of {newest}")
    return 1 if errors or not files else 0


if __name__ == "__main__":
    sys.exit(main())
