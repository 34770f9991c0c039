"""Time to configure and build a preset: cold (empty folder and empty compiler cache, as after a fresh clone), warm
(empty folder, filled cache) and again (nothing changed)."""

import os
import shutil
import subprocess
import tempfile
import time

from common import TOP, Parser, emit


def build(preset, folder, env):
    start = time.perf_counter()
    for command in (["cmake", "--preset", preset, "-B", folder], ["cmake", "--build", folder]):
        subprocess.run(command, cwd=TOP, env=env, check=True, stdout=subprocess.DEVNULL)
    return round(time.perf_counter() - start, 1)


def main():
    parser = Parser("build", __doc__)
    parser.add_argument("--presets", default="release,test")
    options = parser.parse_args()
    for preset in options.presets.split(","):
        with tempfile.TemporaryDirectory(prefix="longhaul-build-") as temporary:
            folder = f"{temporary}/build"
            env = dict(os.environ, CCACHE_DIR=f"{temporary}/ccache")
            for case in ("cold", "warm", "again"):
                if case == "warm":
                    shutil.rmtree(folder)
                emit("build", f"{preset} {case}", "configure and build", build(preset, folder, env), "s")


if __name__ == "__main__":
    main()
