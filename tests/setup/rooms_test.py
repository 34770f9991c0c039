"""Whatever room is left out, everything that does not need it is still configured, and what needs it is left out too.

usage: rooms_test.py SOURCE_DIR
"""

import concurrent.futures
import pathlib
import subprocess
import sys
import tempfile
import unittest

SOURCE = pathlib.Path(sys.argv.pop(1)).resolve()
sys.path.insert(0, str(SOURCE / "tools"))
import house as drawing  # noqa: E402

HOUSE = drawing.read((SOURCE / drawing.DECLARATIONS).read_text())
# A low one, on which much stands, and a high one; each takes some seconds.
LEFT_OUT = ("agent/client", "runtime")


def target_of(room):
    return "longhaul_" + room.replace("/", "_")


def configure_without(room):
    with tempfile.TemporaryDirectory(prefix="longhaul-rooms-") as build:
        option = f"-DLONGHAUL_ROOM_{room.replace('/', '_').upper()}=OFF"
        done = subprocess.run(
            ["cmake", "-S", SOURCE, "-B", build, "-G", "Ninja", option, "-DLONGHAUL_CUDA=OFF", "-DLONGHAUL_LINT=OFF",
             "-DLONGHAUL_TESTS=ON", "-DLONGHAUL_TOOLS=ON", "-DLONGHAUL_BENCH=ON"], capture_output=True, text=True)
        if done.returncode:
            return done.stderr, set()
        targets = subprocess.run(["ninja", "-C", build, "-t", "targets", "all"], capture_output=True, text=True, check=True).stdout
        return "", {target_of(one) for one in HOUSE.rooms if f"cmake_object_order_depends_target_{target_of(one)}:" in targets}


class Rooms(unittest.TestCase):
    def test_what_does_not_need_it_is_there_and_what_needs_it_is_not(self):
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            for room, (error, there) in zip(LEFT_OUT, pool.map(configure_without, LEFT_OUT)):
                self.assertEqual(error, "", room)
                for other in HOUSE.rooms.values():
                    if other.name in ("agent", "proto", "apps/shim", "apps/master", "apps/worker"):
                        continue  # headers alone, generated, or a program
                    needs = other.name == room or room in HOUSE.all_needed(other.name)
                    self.assertEqual(target_of(other.name) in there, not needs, f"without {room}: {other.name}")


if __name__ == "__main__":
    unittest.main(verbosity=2)
