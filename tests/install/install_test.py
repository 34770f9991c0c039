"""A user's project finds the installed Longhaul, links longhaul::longhaul, runs: with the README's CMakeLists.txt and the
README's command, as pasted. It is asked for nothing that only building Longhaul needs.

usage: install_test.py consumer SOURCE_DIR BUILD_DIR    against BUILD_DIR's install tree
       install_test.py library SOURCE_DIR BUILD_DIR     the library built alone, with no gRPC to be found

A user's compiler flags are their own: the consumer builds without our presets.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile


# What a configuration that looks for these leaves in its cache: wanted to build Longhaul, not to use it.
NOT_FOR_USERS = ("GRPC_PROTOC", "GRPC_CPP_PLUGIN", "Libtorch_GLOO_INCLUDE_DIR", "Libtorch_CUDA_INCLUDE_DIR", "nlohmann_json_DIR",
                 "CLI11_DIR", "GTest_DIR", "SQLITE3_FOUND")


def run(*words: str, cwd: str | None = None, env: dict | None = None) -> str:
    done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL, cwd=cwd, env=env)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}\nexit code {done.returncode}\n{done.stdout[-6000:]}{done.stderr[-6000:]}")
    return done.stdout


def cache_value(build: pathlib.Path, name: str) -> str:
    for line in (build / "CMakeCache.txt").read_text().splitlines():
        if line.startswith(name + ":"):
            return line.split("=", 1)[1]
    raise SystemExit(f"{build}/CMakeCache.txt has no {name}")


def readme(source: pathlib.Path) -> tuple[str, str]:
    """The project file and the command that it shows to users."""
    text = (source / "README.md").read_text()
    project = re.search(r"```cmake\n(.*?)```\n```\n(.*?)\n```", text, re.DOTALL)
    if not project:
        raise SystemExit("README.md shows no CMakeLists.txt with its command behind it")
    return project[1], project[2]


def use_installed(source: pathlib.Path, build: pathlib.Path, folder: str) -> pathlib.Path:
    prefix, project = f"{folder}/prefix", pathlib.Path(folder, "project")
    run("cmake", "--install", str(build), "--prefix", prefix)
    cmake_lists, command = readme(source)
    project.mkdir()
    (project / "CMakeLists.txt").write_text(cmake_lists)
    shutil.copy(source / "tests/install/consumer/main.cc", project)
    assert "/opt/longhaul" in command, command
    env = dict(os.environ, CMAKE_GENERATOR="Ninja")
    printed = run("sh", "-c", command.replace("/opt/longhaul", prefix), cwd=str(project), env=env)
    print(printed, end="")
    assert "rank 0 of 1, bias gradient 4" in printed, printed
    cache = (project / "build/CMakeCache.txt").read_text()
    wanted = [name for name in NOT_FOR_USERS if re.search(rf"^{name}:", cache, re.MULTILINE)]
    assert not wanted, f"the user's project was asked for {wanted}"
    return project / "build/train"


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
