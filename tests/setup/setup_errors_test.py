"""What somebody sees whose machine lacks something: what was looked for, where, and the command that mends it.

usage: setup_errors_test.py SOURCE_DIR
"""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

SOURCE = pathlib.Path(sys.argv.pop(1))
NOT_SOURCE = shutil.ignore_patterns(".git", ".deps", ".peers", "build*")


class SetupErrors(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = pathlib.Path(folder.name)
        # Without the wheel that setup.sh may have put into the checkout.
        cls.checkout = cls.folder / "checkout"
        shutil.copytree(SOURCE, cls.checkout, ignore=NOT_SOURCE)

    def run_without(self, command, says, **variables):
        env = {name: value for name, value in os.environ.items()
               if name not in ("LIBTORCH", "Torch_DIR", "CMAKE_PREFIX_PATH")}
        env |= {"HOME": str(self.folder), **variables}
        done = subprocess.run(list(map(str, command)), env=env, capture_output=True, text=True, timeout=120)
        # CMake folds long lines where it likes.
        text = " ".join((done.stdout + done.stderr).split())
        self.assertNotEqual(done.returncode, 0, text)
        for words in says:
            self.assertIn(" ".join(str(words).split()), text)

    def configure(self, *flags, says, **variables):
        build = tempfile.mkdtemp(dir=self.folder)
        self.run_without(["cmake", "-S", self.checkout, "-B", build, "-G", "Ninja", *flags], says, **variables)

    def libtorch(self, version=(2, 11, 0), config="", header="headeronly/version.h"):
        """A folder that looks like a libtorch as far as configuring looks."""
        root = pathlib.Path(tempfile.mkdtemp(dir=self.folder))
        major, minor, patch = version
        files = {
            "lib/libtorch_cpu.so": "",
            "include/torch/csrc/api/include/torch/torch.h": "",
            f"include/torch/{header}": f"#define TORCH_VERSION_MAJOR {major}\n"
            f"#define TORCH_VERSION_MINOR {minor}\n#define TORCH_VERSION_PATCH {patch}\n",
            "share/cmake/Torch/TorchConfig.cmake": config,
        }
        for name, text in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        return root

    def test_no_libtorch(self):
        self.configure("-DLONGHAUL_CONTROL=OFF", "-DLONGHAUL_PYTHON3=/bin/false",
                       says=["found none", self.checkout / ".deps/libtorch/torch",
                             "scripts/setup.sh"])

    def test_a_libtorch_that_is_not_there(self):
        self.configure("-DLONGHAUL_CONTROL=OFF", "-DLIBTORCH=/no/such/libtorch",
                       says=["/no/such/libtorch", "holds no libtorch", "scripts/setup.sh"])

    def test_a_libtorch_that_is_too_old(self):
        root = self.libtorch(version=(2, 7, 1))
        self.configure("-DLONGHAUL_CONTROL=OFF", f"-DLIBTORCH={root}",
                       says=["needs libtorch >= 2.9", "is '2.7.1'", "scripts/setup.sh --libtorch wheel"])

    def test_the_version_where_2_9_and_older_keep_it(self):
        """2.9 is new enough: the next thing that is wrong with it is told."""
        header = "csrc/api/include/torch/version.h"
        self.configure("-DLONGHAUL_CONTROL=OFF", f"-DLIBTORCH={self.libtorch((2, 8, 0), header=header)}",
                       says=["needs libtorch >= 2.9", "is '2.8.0'"])
        config = 'set(TORCH_CXX_FLAGS "-D_GLIBCXX_USE_CXX11_ABI=0")\n'
        self.configure("-DLONGHAUL_CONTROL=OFF", f"-DLIBTORCH={self.libtorch((2, 9, 1), config, header)}",
                       says=["old C++ ABI"])

    def test_a_libtorch_of_the_old_abi(self):
        root = self.libtorch(config='set(TORCH_CXX_FLAGS "-D_GLIBCXX_USE_CXX11_ABI=0")\n')
        self.configure("-DLONGHAUL_CONTROL=OFF", f"-DLIBTORCH={root}",
                       says=[root, "old C++ ABI", "scripts/setup.sh --libtorch wheel"])

    def test_no_packages(self):
        self.configure("-DLONGHAUL_TORCH=OFF", PKG_CONFIG_LIBDIR=str(self.folder),
                       says=["libzstd", "apt-get install libzstd-dev", "scripts/setup.sh"])

    def test_no_grpc(self):
        only = self.folder / "pkgconfig"
        only.mkdir()
        for module in ("libzstd", "libxxhash"):
            (only / f"{module}.pc").write_text(f"Name: {module}\nDescription: it\nVersion: 1\nLibs: -l{module}\n")
        self.configure("-DLONGHAUL_TORCH=OFF", PKG_CONFIG_LIBDIR=str(only),
                       says=["needs gRPC", "apt-get install libgrpc++-dev protobuf-compiler-grpc",
                             "-DLONGHAUL_CONTROL=OFF"])

    def test_no_compiler(self):
        self.configure(says=["/no/such/g++"], CXX="/no/such/g++")

    def test_no_network_to_the_package_index(self):
        self.run_without(["bash", self.checkout / "scripts/setup.sh", "--libtorch", "wheel"],
                         says=["libtorch could not be fetched", "scripts/setup.sh", "LIBTORCH=/path/to/libtorch"],
                         PIP_INDEX_URL="http://127.0.0.1:1/", PIP_FIND_LINKS="", PIP_RETRIES="0", PIP_TIMEOUT="1",
                         PIP_CONFIG_FILE=os.devnull)
        self.assertFalse((self.checkout / ".deps/libtorch/.complete").exists())

    def test_unknown_options(self):
        for script in ("setup.sh", "quickstart.sh", "bench.sh"):
            done = subprocess.run(["bash", self.checkout / "scripts" / script, "--no-such-option"],
                                  capture_output=True, text=True, timeout=60)
            self.assertEqual(done.returncode, 64, (script, done.stderr))
            self.assertIn("--no-such-option", done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
