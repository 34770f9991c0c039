#!/usr/bin/env python3
"""The house of rooms as cmake/LonghaulHouse.cmake declares it, drawn into docs/architecture.md.

usage: tools/house.py           writes the picture between its marks in docs/architecture.md
       tools/house.py --print   prints it

tests/lint/floors_test.py imports this and fails where the picture is not the declarations'.
"""

import dataclasses
import pathlib
import re
import sys

TOP = pathlib.Path(__file__).resolve().parents[1]
DECLARATIONS = "cmake/LonghaulHouse.cmake"
PICTURE = "docs/architecture.md"
BEGIN, END = "<!-- drawn by tools/house.py: begin -->\n", "<!-- drawn by tools/house.py: end -->\n"
KEYWORDS = {"NAME", "NEEDS", "MAY_NEED", "USES", "INTERNAL"}


@dataclasses.dataclass
class Room:
    name: str
    needs: list[str]
    may_need: list[str]
    uses: list[str]
    internal: bool
    part: str  # core, cluster, control, apps, or a later one
    what: str  # a line

    def below(self) -> list[str]:
        return self.needs + self.may_need


@dataclasses.dataclass
class House:
    rooms: dict[str, Room]
    parts: dict[str, str]  # what each is

    def all_below(self, name: str) -> set[str]:
        found: set[str] = set()
        for need in self.rooms[name].below():
            found |= {need} | self.all_below(need)
        return found

    def all_needed(self, name: str) -> set[str]:
        """The same without what it can do without."""
        found: set[str] = set()
        for need in self.rooms[name].needs:
            found |= {need} | self.all_needed(need)
        return found

    def level(self, name: str) -> int:
        return 1 + max((self.level(need) for need in self.rooms[name].below()), default=-1)

    def room_of(self, path: str) -> str | None:
        """The room of a file of this checkout."""
        inside = re.sub(r"^(src|include/longhaul)/", "", path)
        holders = [name for name in self.rooms if inside.startswith(name + "/")]
        return max(holders, key=len, default=None)

    def room_of_include(self, include: str) -> str | None:
        if include.startswith("longhaul/v1/"):
            return "proto"
        return self.room_of(f"src/{include.removeprefix('longhaul/')}")


def read(text: str) -> House:
    house, part, what = House({}, {}), "", ""
    for line in text.splitlines():
        if heading := re.match(r"# --- (\w+): (.*)", line):
            part, what = heading[1], ""
            house.parts[part] = heading[2]
        elif line.startswith("# "):
            what = line[2:]
        elif declared := re.match(r"longhaul_room\((.*)\)$", line):
            words: dict[str, list[str]] = {}
            for word in declared[1].split():
                if word in KEYWORDS:
                    words[key := word] = []
                else:
                    words[key].append(word)
            name = words["NAME"][0]
            house.rooms[name] = Room(name, words.get("NEEDS", []), words.get("MAY_NEED", []), words.get("USES", []),
                                     "INTERNAL" in words, part, what)
            what = ""
    return house


def closest(house: House, name: str) -> list[str]:
    """What a room stands on: of all that it needs, what no other of them needs already."""
    below = house.rooms[name].below()
    return [need for need in below if not any(need in house.all_below(other) for other in below if other != need)]


def draw(house: House) -> str:
    lines = ["```"]
    width = max(map(len, house.rooms)) + 2
    parts = list(house.parts)
    for part in reversed(parts):
        rooms = [room for room in house.rooms.values() if room.part == part]
        lines.append(f" {part}: {house.parts[part]}")
        for room in sorted(rooms, key=lambda room: house.level(room.name), reverse=True):
            on = " ".join(closest(house, room.name))
            optional = "".join(f" [{need}]" for need in room.may_need if need not in on.split())
            for need in room.may_need:
                on = re.sub(rf"(?<!\S){re.escape(need)}(?!\S)", f"[{need}]", on)
            lines.append(f"   {house.level(room.name)}  {room.name:<{width}}{'stands on ' + on + optional if on or optional else ''}".rstrip())
    lines += ["```", "", "| room | uses | what it is |", "|---|---|---|"]
    uses = {"TORCH": "torch", "GRPC": "gRPC", "CONTROL": ""}
    for room in house.rooms.values():
        used = " ".join(filter(None, (uses[use] for use in room.uses)))
        lines.append(f"| `{room.name}` | {used} | {room.what} |".replace("|  |", "| |"))
    return "\n".join(lines) + "\n"


def drawn(page: str, picture: str) -> str:
    """The page with the picture in its place."""
    before, rest = page.split(BEGIN)
    return before + BEGIN + picture + END + rest.split(END)[1]


def main() -> None:
    house = read((TOP / DECLARATIONS).read_text())
    if "--print" in sys.argv:
        print(draw(house), end="")
        return
    page = TOP / PICTURE
    page.write_text(drawn(page.read_text(), draw(house)))


if __name__ == "__main__":
    main()
