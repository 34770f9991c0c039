"""A user's project finds the installed Longhaul, links longhaul::longhaul, runs.

usage: install_test.py consumer SOURCE_DIR BUILD_DIR    against BUILD_DIR's install tree
       install_test.py library SOURCE_DIR BUILD_DIR     the library built alone, with no gRPC to be found

A user's compiler flags are their own: the consumer builds without our presets.
"""

import pathlib
import subprocess
import sys
import tempfile


def run(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}\nexit code {done.returncode}\n{done.stdout[-6000:]}{done.stderr[-6000:]}")
    return done.stdout


def cache_value(build: pathlib.Path, name: str) -> str:
    for line in (build / "CMakeCache.txt").read_text().splitlines():
        if line.startswith(name + ":"):
            return line.split("=", 1)[1]
    raise SystemExit(f"{build}/CMakeCache.txt has no {name}")


def use_installed(source: pathlib.Path, build: pathlib.Path, folder: str) -> pathlib.Path:
    prefix, consumer = f"{folder}/prefix", pathlib.Path(folder, "consumer")
    run("cmake", "--install", str(build), "--prefix", prefix)
    run("cmake", "-S", str(source / "tests/install/consumer"), "-B", str(consumer), "-G", "Ninja",
        "-DCMAKE_BUILD_TYPE=Release", f"-DCMAKE_PREFIX_PATH={prefix}")
    run("cmake", "--build", str(consumer))
    printed = run(str(consumer / "consumer"))
    print(printed, end="")
    assert "rank 0 of 1, bias gradient 4" in printed, printed
    return consumer / "consumer"


def main() -> None:
    what, source, build = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
    with tempfile.TemporaryDirectory() as folder:
        if what == "library":
            # Beside the other and with its flags, so that ccache has most of it.
            alone = build.with_name(build.name + "-library-alone")
            same = [f"-D{name}={cache_value(build, name)}"
                    for name in ("CMAKE_CXX_COMPILER", "CMAKE_BUILD_TYPE", "CMAKE_CXX_FLAGS", "CMAKE_CXX_FLAGS_RELEASE",
                                 "LONGHAUL_WERROR")]
            run("cmake", "-S", str(source), "-B", str(alone), "-G", "Ninja", *same,
                "-DLONGHAUL_CONTROL=OFF", "-DLONGHAUL_EXAMPLES=OFF", "-DCMAKE_DISABLE_FIND_PACKAGE_GRPC=ON",
                f"-DLIBTORCH={cache_value(build, 'Libtorch_ROOT_DIR')}")
            run("cmake", "--build", str(alone))
            program = use_installed(source, alone, folder)
            libraries = run("ldd", str(program))
            assert "grpc" not in libraries and "protobuf" not in libraries, libraries
        else:
            use_installed(source, build, folder)


if __name__ == "__main__":
    main()
