"""clang-tidy over every C++ file of the build, with the checks of .clang-tidy.

clang-tidy spends nearly all of its time on the system headers a file includes, so files with the same
flags are checked as one translation unit that includes them all. A file that defines a local name which
one before it has defined too goes into the next such unit.

usage: tidy_test.py SOURCE_DIR BUILD_DIR CLANG_TIDY [FOLDER...]
"""

import concurrent.futures
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

from by_content import Checked, identity_of

NOT_FOR_CLANG = {"-fpch-preprocess", "-Winvalid-pch", "-Wno-restrict", "-Wno-subobject-linkage", "-MD"}
# Lock discipline, which only clang checks; not wanted: fields left at their defaults, warnings inside libstdc++, and a
# main() that is renamed and returns nothing.
WARNINGS = ("-Wthread-safety", "-Wno-missing-designated-field-initializers", "-Wno-deprecated-declarations", "-Wno-return-type")
WITH_VALUE = {"-MT", "-MF", "-o"}


def clang_flags(command: str, file: str) -> tuple[str, ...]:
    """The flags of a compilation, in words that clang understands."""
    words = iter(shlex.split(command))
    for word in words:
        if word.endswith(("c++", "g++", "clang++-19")):
            break
    flags = []
    for word in words:
        if word in WITH_VALUE:
            next(words)
        elif word == "-include":
            header = next(words)
            if "cmake_pch" not in header:
                flags += [word, header]
        elif word not in NOT_FOR_CLANG and word not in ("-c", file) and not word.startswith("--param="):
            flags.append(word)
    return (*flags, *WARNINGS)


def sources_of(entry: dict) -> list[str]:
    """What a compilation compiles: a file, or those that a unity file includes."""
    if not re.search(r"/unity_\d+_cxx\.cxx$", entry["file"]):
        return [entry["file"]]
    return re.findall(r'^#include "(.*)"$', pathlib.Path(entry["file"]).read_text(), re.MULTILINE)


def batches(source: str, build: str, only: list[str]) -> list[tuple[tuple[str, ...], list[str]]]:
    """Flags and the files compiled with them; those with libtorch's headers, the slowest, first."""
    found: dict = {}
    for entry in json.loads(pathlib.Path(build, "compile_commands.json").read_text()):
        for file in sources_of(entry):
            folder = os.path.dirname(os.path.relpath(file, source))
            if file.startswith(source + "/") and not file.startswith(build + "/") and (not only or folder in only):
                flags = clang_flags(entry["command"], entry["file"])
                found.setdefault(frozenset(flags), (flags, set()))[1].add(file)
    work = [(flags, sorted(files)) for flags, files in found.values()]
    return sorted(work, key=lambda item: (not any("torch" in flag for flag in item[0]), -len(item[1])))


def tidy(clang_tidy: str, source: str, file: str, flags: tuple[str, ...]) -> str:
    """What clang-tidy finds fault with; empty when that is nothing."""
    done = subprocess.run([clang_tidy, "--quiet", f"--config-file={source}/.clang-tidy", file, "--", *flags],
                          capture_output=True, text=True)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def does_not_compile(file: str, found: str) -> bool:
    return any(line.startswith(f"{file}:") and "clang-diagnostic-error" in line for line in found.splitlines())


def check(clang_tidy: str, source: str, scratch: str, flags: tuple[str, ...], files: list[str]) -> str:
    """Checks `files` as one translation unit, and those that do not go together with the ones before them as a next one."""
    if len(files) == 1:
        return tidy(clang_tidy, source, files[0], flags)
    with tempfile.NamedTemporaryFile("w", suffix=".cc", dir=scratch, delete=False) as together:
        for number, file in enumerate(files):
            together.write(f'#define main main_{number}  // NOLINT\n#include "{file}"\n#undef main\n')
    found = tidy(clang_tidy, source, together.name, (*flags, "-ferror-limit=0"))
    if "clang-diagnostic-error" not in found:
        return found
    clashing = [file for file in files[1:] if does_not_compile(file, found)] or files[len(files) // 2:]
    rest = [file for file in files if file not in clashing]
    return "".join(check(clang_tidy, source, scratch, flags, part) for part in (rest, clashing))


def main() -> int:
    source, build, clang_tidy = os.path.realpath(sys.argv[1]), os.path.realpath(sys.argv[2]), sys.argv[3]
    work = batches(source, build, sys.argv[4:])
    checked = Checked(source, build, "tidy", identity_of(clang_tidy), pathlib.Path(source, ".clang-tidy").read_text(),
                      pathlib.Path(__file__).read_text())

    def check_unless_known(flags: tuple[str, ...], files: list[str]) -> tuple[str, bool]:
        places = [identity_of(flag) for flag in flags if flag.startswith("/") and os.path.isdir(flag)]
        key = checked.key(files, *flags, *places)
        if checked.is_known(key):
            return "", False
        found = check(clang_tidy, source, scratch, flags, files)
        if not found:
            checked.remember(key)
        return found, True

    with tempfile.TemporaryDirectory() as scratch, concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        done = [job.result() for job in [pool.submit(check_unless_known, flags, files) for flags, files in work]]
    if not sys.argv[4:]:
        checked.forget_the_rest()
    errors = list(filter(None, (found for found, _ in done)))
    count = sum(len(files) for _, files in work)
    print("\n".join(errors) or f"{count} files are tidy, in {len(work)} batches, {sum(not new for _, new in done)} of them "
          "as when they were last checked")
    return 1 if errors or not count else 0


if __name__ == "__main__":
    sys.exit(main())
