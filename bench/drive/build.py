"""Time to configure and build a preset: cold (empty folder and empty compiler cache, as after a fresh clone), warm
(empty folder, filled cache) and again (nothing changed). Beside the time on the clock, that of processors: steadier where
others use the machine too. Of the cold build also what each room and each folder of tests took, by the clock of its
steps, which run side by side: a share, more than a time."""

import collections
import os
import pathlib
import resource
import shutil
import subprocess
import sys
import tempfile
import time

from common import TOP, Parser, emit


def processor_time():
    """Of all that was started here and has ended, in seconds."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def place_of(step, house):
    """The room, the folder of tests or other programs, or the precompiled header that a step of ninja's is for."""
    if step.endswith(".gch"):
        return "precompiled header of " + ("torch" if "torch" in step else "gRPC")
    path = step.split("/CMakeFiles/")[0]
    return house.room_of(path + "/") or (path if path.startswith("tests/") else path.split("/")[0] or "others")


def shares(folder):
    """Seconds of each place's steps, the largest first."""
    sys.path.insert(0, str(pathlib.Path(TOP, "tools")))
    import house as drawing
    house = drawing.read(pathlib.Path(TOP, drawing.DECLARATIONS).read_text())
    took = collections.Counter()
    for line in pathlib.Path(folder, ".ninja_log").read_text().splitlines()[1:]:
        begun, ended, _, step, _ = line.split("\t")
        took[place_of(step, house)] += (int(ended) - int(begun)) / 1000
    return took.most_common()


def build(preset, targets, folder, env):
    """(seconds on the clock, seconds of processors)"""
    start, used = time.perf_counter(), processor_time()
    target = ["--target", *targets] if targets else []
    for command in (["cmake", "--preset", preset, "-B", folder], ["cmake", "--build", folder, *target]):
        subprocess.run(command, cwd=TOP, env=env, check=True, stdout=subprocess.DEVNULL)
    return round(time.perf_counter() - start, 1), round(processor_time() - used, 1)


def main():
    parser = Parser("build", __doc__)
    parser.add_argument("--presets", default="release,test")
    parser.add_argument("--targets", help="only these, with commas between (all)")
    options = parser.parse_args()
    for preset in options.presets.split(","):
        with tempfile.TemporaryDirectory(prefix="longhaul-build-") as temporary:
            folder = f"{temporary}/build"
            env = dict(os.environ, CCACHE_DIR=f"{temporary}/ccache")
            for case in ("cold", "warm", "again"):
                if case == "warm":
                    shutil.rmtree(folder)
                targets = options.targets.split(",") if options.targets else []
                clock, processors = build(preset, targets, folder, env)
                emit("build", f"{preset} {case}", "configure and build", clock, "s")
                emit("build", f"{preset} {case}", "processor time", processors, "s")
                if case == "cold":
                    for place, seconds in shares(folder):
                        if seconds >= 1:
                            emit("build", f"{preset} {case}", f"steps of {place}", round(seconds, 1), "s")


if __name__ == "__main__":
    main()
