"""clang-tidy over every C++ file of the build, with the checks of .clang-tidy.

Torch files are parsed through a clang precompiled header of <torch/torch.h>, made once per run:
parsing it for each of them would take half an hour.

usage: tidy_test.py SOURCE_DIR BUILD_DIR CLANG_TIDY CLANG [FILE...]
"""

import concurrent.futures
import json
import os
import pathlib
import shlex
import subprocess
import sys
import tempfile

SKIPPED_FLAGS = ("-fpch-preprocess", "-Winvalid-pch", "-Wno-restrict", "-MD")


def clang_command(entry: dict, clang: str, pch: str | None) -> dict:
    """The same compilation, in words that clang understands."""
    words = shlex.split(entry["command"])
    words = words[next(i for i, word in enumerate(words) if word.endswith(("c++", "g++", "clang++-19"))):]
    kept, skip_next, uses_pch = [clang], False, False
    for i, word in enumerate(words[1:], 1):
        if skip_next:
            skip_next = False
        elif word in ("-MT", "-MF", "-o"):
            skip_next = True
        elif word == "-include" and "cmake_pch" in words[i + 1]:
            skip_next = uses_pch = True
        elif word not in SKIPPED_FLAGS:
            kept.append(word)
    if uses_pch and pch:
        kept[1:1] = ["-include-pch", pch]
    return {"directory": entry["directory"], "file": entry["file"], "arguments": kept, "torch": uses_pch}


def make_pch(example: dict, clang: str, folder: str) -> str:
    pch = os.path.join(folder, "torch.pch")
    flags = [word for i, word in enumerate(example["arguments"][1:], 1)
             if word != "-c" and word != example["file"] and not word.startswith("-DLONGHAUL")]
    subprocess.run([clang, *flags, "-x", "c++-header", "-o", pch, "-"], cwd=example["directory"], check=True,
                   input="#include <torch/torch.h>\n", text=True)
    return pch


def tidy(clang_tidy: str, folder: str, file: str) -> str:
    done = subprocess.run([clang_tidy, "-p", folder, "--quiet", file], capture_output=True, text=True)
    return "" if done.returncode == 0 else f"{done.stdout}{done.stderr}"


def main() -> int:
    source, build, clang_tidy, clang = sys.argv[1:5]
    only = [os.path.realpath(file) for file in sys.argv[5:]]
    entries = [entry for entry in json.loads((pathlib.Path(build) / "compile_commands.json").read_text())
               if entry["file"].startswith(source + "/") and not entry["file"].startswith(build)]
    if only:
        entries = [entry for entry in entries if entry["file"] in only]
    with tempfile.TemporaryDirectory() as folder:
        torch = [clang_command(entry, clang, None) for entry in entries if "cmake_pch" in entry["command"]]
        pch = make_pch(torch[0], clang, folder) if torch else None
        commands = [clang_command(entry, clang, pch) for entry in entries]
        for command in commands:
            command.pop("torch")
        (pathlib.Path(folder) / "compile_commands.json").write_text(json.dumps(commands))
        files = sorted({command["file"] for command in commands})
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            errors = list(filter(None, pool.map(lambda file: tidy(clang_tidy, folder, file), files)))
    print("\n".join(errors) or f"{len(files)} files are tidy")
    return 1 if errors or not files else 0


if __name__ == "__main__":
    sys.exit(main())
