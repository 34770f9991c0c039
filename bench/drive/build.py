"""Time to configure and build a preset: cold (empty folder and empty compiler cache, as after a fresh clone), warm
(empty folder, filled cache) and again (nothing changed). Beside the time on the clock, that of processors: steadier where
others use the machine too."""

import os
import resource
import shutil
import subprocess
import tempfile
import time

from common import TOP, Parser, emit


def processor_time():
    """Of all that was started here and has ended, in seconds."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


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


if __name__ == "__main__":
    main()
