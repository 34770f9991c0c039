"""Unpacks what C++ needs of the wheels in one folder into another: headers, libraries, licences.

usage: unpack_wheels.py DOWNLOADS TARGET [PREFIX...]    (PREFIX: only what is named so and licences)
"""

import pathlib
import sys
import zipfile

WANTED = ("torch/include/", "torch/lib/", "torch/share/", "nvidia/")
NOT_WANTED = ("torch/lib/libtorch_python.so",)


def unpack(wheel: pathlib.Path, target: pathlib.Path, prefixes: tuple[str, ...] = WANTED) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            wanted = name.startswith(prefixes) and name not in NOT_WANTED
            if wanted or ".dist-info/licenses/" in name:
                archive.extract(name, target)


def main() -> None:
    downloads, target = map(pathlib.Path, sys.argv[1:3])
    for wheel in sorted(downloads.glob("*.whl")):
        unpack(wheel, target, tuple(sys.argv[3:]) or WANTED)


if __name__ == "__main__":
    main()
