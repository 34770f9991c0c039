"""What was found to be in order, and has not changed since, need not be looked at again.

A finding stands for the contents of the files, of all files of this project that they include, and of whatever else is named:
flags, the tool, its settings. Packages of the system are told by the list of what is installed. Kept in the build folder, so
that a fresh clone looks at everything.
"""

import functools
import hashlib
import os
import pathlib
import re

INCLUDE = re.compile(r'^\s*#\s*include\s*["<]([^">]+)[">]', re.MULTILINE)
INSTALLED = pathlib.Path("/var/lib/dpkg/status")


def hash_of(*parts: str | bytes) -> str:
    whole = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        whole.update(len(data).to_bytes(8, "little") + data)
    return whole.hexdigest()


def identity_of(program: str) -> str:
    """A program, or what a folder of headers is: changes when another one takes its place."""
    path = pathlib.Path(program).resolve()
    stat = path.stat()
    version = path / "torch" / "headeronly" / "version.h"
    return f"{path} {stat.st_size} {stat.st_mtime_ns} {version.read_text() if version.is_file() else ''}"


class Checked:
    def __init__(self, source: str, build: str, name: str, *depends_on: str):
        self.roots = [pathlib.Path(source, part) for part in ("", "src", "include")] + [pathlib.Path(build, "proto")]
        self.folder = pathlib.Path(build, "checked", name)
        self.folder.mkdir(parents=True, exist_ok=True)
        installed = INSTALLED.read_bytes() if INSTALLED.is_file() else b""
        self.common = hash_of(installed, *depends_on)
        self.asked: set[str] = set()

    @functools.cache
    def look_at(self, file: pathlib.Path) -> tuple[str, tuple[pathlib.Path, ...]]:
        """A file's contents as a hash, and the files of this project that it includes."""
        data = file.read_bytes()
        found = []
        for name in INCLUDE.findall(data.decode(errors="replace")):
            for root in [file.parent, *self.roots]:
                if (root / name).is_file():
                    found.append((root / name).resolve())
                    break
        return hash_of(data), tuple(found)

    def key(self, files: list[str], *more: str) -> str:
        """Of these files together, with all that they include."""
        seen: set[pathlib.Path] = set()
        waiting = [pathlib.Path(file).resolve() for file in files]
        while waiting:
            file = waiting.pop()
            if file not in seen:
                seen.add(file)
                waiting += self.look_at(file)[1]
        parts = [f"{file} {self.look_at(file)[0]}" for file in sorted(seen)]
        return hash_of(self.common, *more, *parts)

    def is_known(self, key: str) -> bool:
        self.asked.add(key)
        return (self.folder / key).exists()

    def remember(self, key: str) -> None:
        (self.folder / key).touch()

    def forget_the_rest(self) -> None:
        """What nobody has asked about this time is of files as they were."""
        for name in set(os.listdir(self.folder)) - self.asked:
            (self.folder / name).unlink()
