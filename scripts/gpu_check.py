"""Builds Longhaul on a GPU machine and checks there what a CPU cannot show: the encoder on the device, to the byte, and its
speed; tensors of the device through every codec between processes that share it; NCCL in a world of one; what the wrapper costs a
step there. Prints one JSON object; everything else goes to standard error.

Needs g++ 12 or later, CMake, ninja, nvcc 12 or later, a python3 with torch and its CUDA libraries, and the folder that
scripts/gpu_pack.sh made elsewhere. No network, no root, no gRPC. About 5 minutes on 16 cores."""

import argparse
import json
import os
import pathlib
import platform
import re
import shutil
import statistics
import subprocess
import sys
import time
import xml.etree.ElementTree

TOP = pathlib.Path(__file__).resolve().parents[1]
TARGETS = ["codec_cuda_test", "gpu_test", "bench_cuda_encoder", "bench_ddp_step"]
OVERHEAD_PLAN = {"gpu": (10, 100, 32, 256), "cpu": (2, 6, 4, 64)}  # warm-up, pairs of steps, batch, time
EXIT_NO_DEVICE = 77


def say(*words):
    print("gpu_check:", *words, file=sys.stderr, flush=True)


def first_line(*command):
    """Of what a program prints; empty where it is not there or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip().splitlines()[0] if done.returncode == 0 and done.stdout.strip() else ""


def machine():
    nvcc = subprocess.run(["nvcc", "--version"], capture_output=True, text=True).stdout if shutil.which("nvcc") else ""
    return {"gpu": first_line("nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"),
            "cores": os.cpu_count(), "system": platform.platform(), "compiler": first_line("g++", "--version"),
            "nvcc": next(iter(re.findall(r"release [\d.]+, V([\d.]+)", nvcc)), ""), "cmake": first_line("cmake", "--version"),
            "torch": first_line(sys.executable, "-c", "import torch; print(torch.__version__)")}


class Check:
    def __init__(self, options):
        self.options = options
        self.build_folder = options.build.absolute()
        pack = options.pack.absolute()
        self.libraries = pack / "usr/lib/x86_64-linux-gnu"
        # Before the machine's own, so that it is the same build everywhere.
        self.env = dict(os.environ, CMAKE_PREFIX_PATH=str(pack / "usr"), PKG_CONFIG=str(pack / "usr/bin/pkg-config"))
        self.result = {"gpu_check": 1, "machine": machine(), "steps": {}}

    def step(self, name, work):
        """Runs one part; what goes wrong in it is told, and the next one runs all the same."""
        say(name)
        start = time.monotonic()
        try:
            outcome = work()
        except (RuntimeError, OSError, subprocess.TimeoutExpired, ValueError, xml.etree.ElementTree.ParseError) as error:
            outcome = {"ok": False, "error": str(error)[-4000:]}
        outcome["seconds"] = round(time.monotonic() - start, 1)
        self.result["steps"][name] = outcome
        say(f"{name}: {'ok' if outcome['ok'] else 'NOT OK'}, {outcome['seconds']} s")
        return outcome["ok"]

    def run(self, *command, timeout=600, codes=(0,)):
        done = subprocess.run(list(map(str, command)), env=self.env, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=timeout)
        if done.returncode not in codes:
            words = " ".join(map(str, command))
            raise RuntimeError(f"{words}\nexit code {done.returncode}\n{done.stdout[-2500:]}{done.stderr[-1200:]}")
        return done

    def configure(self):
        definitions = ["CMAKE_BUILD_TYPE=Release", "CMAKE_CXX_FLAGS_RELEASE=-O2", "LONGHAUL_CONTROL=OFF", "LONGHAUL_EXAMPLES=OFF",
                       "LONGHAUL_NCCL=ON", "LONGHAUL_CUDA=ON", "LONGHAUL_TESTS=ON", "LONGHAUL_LINT=OFF", "LONGHAUL_BENCH=ON",
                       f"CMAKE_EXE_LINKER_FLAGS=-L{self.libraries}", f"LONGHAUL_PYTHON3={sys.executable}",
                       *self.options.define]
        self.run("cmake", "-S", TOP, "-B", self.build_folder, "-G", "Ninja", *(f"-D{one}" for one in definitions))
        return {"ok": True}

    def build(self):
        self.run("cmake", "--build", self.build_folder, "-j", self.options.jobs, "--target", *TARGETS, timeout=1800)
        return {"ok": True}

    def tests(self, program, timeout):
        """One GoogleTest program: passed, skipped and failed, by name."""
        report = self.build_folder / f"{program}.xml"
        report.unlink(missing_ok=True)
        done = self.run(self.build_folder / "bin" / program, f"--gtest_output=xml:{report}", timeout=timeout, codes=(0, 1))
        cases = list(xml.etree.ElementTree.parse(report).iter("testcase"))
        name = lambda case: f"{case.get('classname')}.{case.get('name')}"
        failed = [name(case) for case in cases if case.find("failure") is not None]
        skipped = [name(case) for case in cases if case.get("result") == "skipped"]
        outcome = {"ok": not failed and bool(cases) and (self.options.without_device or not skipped),
                   "passed": len(cases) - len(failed) - len(skipped), "skipped": skipped, "failed": failed}
        return outcome if not failed else outcome | {"output": done.stdout[-4000:]}

    def encoder(self):
        done = self.run(self.build_folder / "bin/bench_cuda_encoder", codes=(0, 1, EXIT_NO_DEVICE))
        if done.returncode == EXIT_NO_DEVICE:
            return {"ok": self.options.without_device, "skipped": done.stderr.strip()}
        return {"ok": done.returncode == 0, "rows": [json.loads(line) for line in done.stdout.splitlines()]}

    def overhead(self):
        plan = OVERHEAD_PLAN["cpu" if self.options.without_device else "gpu"]
        done = self.run(self.build_folder / "bin/bench_ddp_step", "--overhead", *plan)
        pairs = [tuple(map(float, line.split())) for line in done.stdout.splitlines()]
        ratios = [wrapped / plain for plain, wrapped in pairs]
        return {"ok": len(pairs) == plan[1], "pairs": len(pairs), "batch": plan[2], "tokens_a_sample": plan[3],
                "plain_ms": round(statistics.median(plain for plain, _ in pairs), 3),
                "wrapped / plain": round(statistics.median(ratios), 4),
                "spread": round((max(ratios) - min(ratios)) / statistics.median(ratios), 3)}

    def all(self):
        if self.step("configure", self.configure) and self.step("build", self.build):
            self.step("encoder tests", lambda: self.tests("codec_cuda_test", 300))
            self.step("device tensors and NCCL", lambda: self.tests("gpu_test", 600))
            self.step("encoder speed", self.encoder)
            self.step("overhead of a world of one", self.overhead)
        self.result["ok"] = all(step["ok"] for step in self.result["steps"].values())
        self.result["with_device"] = not self.options.without_device
        return self.result


def main():
    parser = argparse.ArgumentParser(prog="scripts/gpu_check.sh", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter,
                                     epilog="exit code: 0 all of it is right; 1 something is not; 64 what it needs is not there")
    parser.add_argument("--pack", type=pathlib.Path, default=TOP / ".deps/gpu", help="what gpu_pack.sh made (.deps/gpu)")
    parser.add_argument("--build", type=pathlib.Path, default=TOP / "build/gpu", help="the build folder (build/gpu)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="compilations at a time (a core each)")
    parser.add_argument("--without-device", action="store_true",
                        help="for a machine with no GPU: builds all and runs what it can on the CPU")
    parser.add_argument("--define", action="append", default=[], metavar="NAME=VALUE", help="for CMake, besides what it is given")
    options = parser.parse_args()
    if not (options.pack / "packages.txt").exists():
        say(f"{options.pack} is not there: make it with scripts/gpu_pack.sh on a machine with a network, and bring it along")
        return 64
    if missing := [program for program in ("g++", "cmake", "ninja", "nvcc") if not shutil.which(program)]:
        say("not on the PATH: " + ", ".join(missing))
        return 64
    result = Check(options).all()
    print(json.dumps(result, indent=1))
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
