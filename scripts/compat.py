"""Builds the library and its tests against other versions of libtorch and runs them: those of the rooms that know torch, and
the parity of two trainings with values that were Python DDP's to the bit (golden.parity). Prints a table, then the same as one
JSON object.

Wheels come from the Python package index into .deps/compat/VERSION (about 1.2 GB each, ignored by git) and stay there, builds
into build/compat-VERSION. A first build takes some 15 minutes on two cores."""

import argparse
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree
import zipfile

import unpack_wheels

TOP = pathlib.Path(__file__).resolve().parents[1]
# As scripts/setup.sh asks for them: headers and C++ libraries are the same for every Python.
PIP = [sys.executable, "-m", "pip", "download", "-q", "--no-cache-dir", "--no-deps", "--only-binary=:all:",
       "--python-version", "3.11", "--implementation", "cp", "--abi", "cp311", "--abi", "none", "--abi", "abi3",
       *(word for tag in ("_2_28", "_2_25", "_2_17", "2014") for word in ("--platform", f"manylinux{tag}_x86_64"))]
TARGETS = ["collectives_test", "ddp_test", "runtime_test", "world_probe", "golden_parity", "golden_ddp_matrix"]
TESTS = r"^(collectives|ddp|runtime|golden)\."


def say(*words):
    print("compat:", *words, file=sys.stderr, flush=True)


def runtime_wheels(metadata):
    """The two small wheels without which libtorch_cpu.so does not load, as torch's own metadata asks for them: up to CUDA 12 by
    name, later through the package cuda-toolkit."""
    named = re.findall(r"^Requires-Dist: (nvidia-cuda-(?:cupti|runtime)(?:-cu\d+)?==[\w.]+)", metadata, re.MULTILINE)
    if named:
        return named
    toolkit = re.search(r"^Requires-Dist: cuda-toolkit\[.*\]==(\d+\.\d+)", metadata, re.MULTILINE)
    if not toolkit:
        raise SystemExit("compat: this torch names no CUDA runtime that is known here")
    return [f"nvidia-cuda-{part}=={toolkit[1]}.*" for part in ("cupti", "runtime")]


def fetch(version):
    """The folder of that libtorch."""
    folder = TOP / ".deps/compat" / version
    if not (folder / ".complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        with tempfile.TemporaryDirectory() as downloads:
            say(f"fetching torch {version}")
            subprocess.run([*PIP, "-d", downloads, f"torch=={version}"], check=True)
            wheel = next(pathlib.Path(downloads).glob("torch-*.whl"))
            with zipfile.ZipFile(wheel) as archive:
                name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
                metadata = archive.read(name).decode()
            subprocess.run([*PIP, "-d", downloads, *runtime_wheels(metadata)], check=True)
            for one in pathlib.Path(downloads).glob("*.whl"):
                unpack_wheels.unpack(one, folder)
        (folder / ".complete").write_text(metadata.partition("\n\n")[0])
    return folder / "torch"


def full_version(libtorch):
    places = (libtorch / "include/torch" / name for name in ("headeronly/version.h", "csrc/api/include/torch/version.h"))
    text = next(place for place in places if place.exists()).read_text()
    return ".".join(re.findall(r"define TORCH_VERSION_(?:MAJOR|MINOR|PATCH) (\d+)", text))


def build(version, libtorch, folder):
    """Whether all of it compiles and links; what the compiler said goes to standard error."""
    configure = ["cmake", "-S", TOP, "-B", folder, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release", "-DCMAKE_CXX_FLAGS_RELEASE=-O1",
                 f"-DLIBTORCH={libtorch}", "-DLONGHAUL_TESTS=ON", "-DLONGHAUL_CONTROL=OFF", "-DLONGHAUL_EXAMPLES=OFF",
                 "-DLONGHAUL_CUDA=OFF"]
    for what, command in (("configuring", configure), ("building", ["cmake", "--build", folder, "--target", *TARGETS])):
        say(f"{what} against {version}")
        if subprocess.run(list(map(str, command)), stdout=sys.stderr).returncode:
            return False
    return True


def run_tests(folder):
    """(passed, skipped, names of the failed)"""
    report = folder / "compat-tests.xml"
    report.unlink(missing_ok=True)
    subprocess.run(["ctest", "--test-dir", folder, "-R", TESTS, "-j", str(os.cpu_count()), "--output-on-failure",
                    "--output-junit", report], stdout=sys.stderr)
    outcomes = {case.get("name"): case.get("status") for case in xml.etree.ElementTree.parse(report).iter("testcase")}
    failed = sorted(name for name, status in outcomes.items() if status == "fail")
    skipped = sum(status in ("notrun", "disabled") for status in outcomes.values())
    return len(outcomes) - len(failed) - skipped, skipped, failed


def try_version(asked):
    libtorch = fetch(asked)
    version = full_version(libtorch)
    folder = TOP / "build" / f"compat-{asked}"
    row = {"libtorch": version, "built": build(version, libtorch, folder), "passed": 0, "skipped": 0, "failed": [], "parity": False}
    if row["built"]:
        row["passed"], row["skipped"], row["failed"] = run_tests(folder)
        row["parity"] = row["passed"] > 0 and not any(name.startswith("golden.") for name in row["failed"])
    return row


def table(rows):
    yield "| libtorch | builds | tests passed | failed | skipped | parity |"
    yield "|---|---|---:|---:|---:|---|"
    for row in rows:
        yield (f"| {row['libtorch']} | {'yes' if row['built'] else 'no'} | {row['passed']} | {len(row['failed'])} | "
               f"{row['skipped']} | {'yes' if row['parity'] else 'no'} |")


class Parser(argparse.ArgumentParser):
    def error(self, message):
        self.exit(64, f"{self.format_usage()}compat: {message}\n")


def release(text):
    if not re.fullmatch(r"\d+\.\d+\.\d+", text):
        raise argparse.ArgumentTypeError(f"a version is three numbers, as in 2.9.1, not '{text}'")
    return text


def main():
    parser = Parser(prog="scripts/compat.sh", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                    epilog="exit code: 0 all of it passes; 1 something does not; 64 wrong usage")
    parser.add_argument("versions", nargs="+", type=release, metavar="VERSION", help="of PyTorch, as in 2.9.1")
    rows = [try_version(version) for version in parser.parse_args().versions]
    print("\n".join(table(rows)))
    print(json.dumps({"compat": rows}))
    return 0 if all(row["built"] and row["parity"] and not row["failed"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
