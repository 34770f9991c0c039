"""Holds every #include against the rooms that cmake/LonghaulHouse.cmake declares: a file includes its own room and
those that its room needs, torch, gRPC and SQLite stay where they are declared, and no file includes torch together
with a library whose headers clash with it. The picture in docs/architecture.md is the declarations'.

usage: floors_test.py SOURCE_DIR
"""

import pathlib
import re
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))
import house as drawing  # noqa: E402

CLASHES_WITH_TORCH = ("spdlog/", "fmt/", "google/protobuf/", "grpc", "longhaul/v1/")
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', re.MULTILINE)
# Beside the rooms that use it, those that play one of its ends.
GRPC_OUTSIDE = re.compile(r"(tests/(control|apps|rpc|agent)/|bench/control\.cc)")


def is_torch(include: str) -> bool:
    return include.startswith(("torch/", "ATen/", "c10/", "caffe2/"))


def is_grpc(include: str) -> bool:
    return include.startswith(("grpc", "google/protobuf/")) or re.match(r"longhaul/v1/.*\.pb\.h", include) is not None


def complaints(house: drawing.House, path: str, includes: list[str]) -> list[str]:
    found = []
    name = house.room_of(path) if path.startswith(("src/", "include/longhaul/", "apps/")) else None
    room = house.rooms.get(name or "")
    if path.startswith("src/") and not room:
        found.append(f"{path}: lies in no room of {drawing.DECLARATIONS}")
    if re.match(r"include/longhaul/.*/", path) and not room:
        found.append(f"{path}: lies in no room of {drawing.DECLARATIONS}")
    for include in includes:
        target = house.room_of_include(include)
        if room and target and target != name and target not in room.below():
            found.append(f"{path}: '{name}' does not need '{target}' of {include} ({drawing.DECLARATIONS})")
        if is_grpc(include) and not (room and "GRPC" in room.uses) and not GRPC_OUTSIDE.match(path):
            found.append(f"{path}: {include}: gRPC only where a room USES GRPC")
        if is_torch(include) and room and "TORCH" not in room.uses:
            found.append(f"{path}: {include}: '{name}' does not use torch")
        if include == "sqlite3.h" and room and name != "control/database":
            found.append(f"{path}: SQLite is control/database's alone")
        if path.startswith("include/") and include == "torch/torch.h":
            found.append(f"{path}: public headers never include <torch/torch.h>")
        if path.startswith("include/") and target and not include.startswith("longhaul/"):
            found.append(f"{path}: a public header includes {include}, which is not installed")
    if any(map(is_torch, includes)):
        for include in includes:
            if include.startswith(CLASHES_WITH_TORCH):
                found.append(f"{path}: {include} clashes with torch's own copy")
    return found


def complaints_of_house(house: drawing.House, used: dict[str, set[str]]) -> list[str]:
    """`used`: of each room, those that its files include."""
    found, seen = [], set()
    for room in house.rooms.values():
        for need in room.below():
            if need not in seen:
                found.append(f"'{room.name}' needs '{need}', which does not stand before it")
            elif need not in used.get(room.name, set()):
                found.append(f"'{room.name}' needs '{need}' and includes nothing of it")
        seen.add(room.name)
        below = {house.rooms[need].part for need in house.all_below(room.name) if need in house.rooms}
        if room.part == "core" and below - {"core"}:
            found.append(f"'{room.name}' is of the core and stands on {below - {'core'}}")
        if room.part == "cluster" and (below - {"core", "cluster"} or room.uses != ["CONTROL"]):
            found.append(f"'{room.name}' is of the cluster: values and decisions on the core alone")
        torch = {need for need in house.all_below(room.name) if "TORCH" in house.rooms[need].uses}
        if room.part in ("cluster", "control", "apps") and torch:
            found.append(f"'{room.name}' knows no torch and stands on {torch}")
    return found


def check_that_it_can_fail() -> None:
    house = drawing.read("# --- core: x\nlonghaul_room(NAME base)\nlonghaul_room(NAME codec NEEDS base)\n"
                         "longhaul_room(NAME ddp NEEDS codec USES TORCH)\nlonghaul_room(NAME apps/cli NEEDS base)\n")
    assert complaints(house, "src/base/x.cc", ["longhaul/codec/codec.h"])
    assert complaints(house, "src/ddp/x.cc", ["base/log.h"])  # not declared, though below
    assert complaints(house, "src/nowhere/x.cc", [])
    assert complaints(house, "include/longhaul/codec/x.h", ["ATen/core/Tensor.h"])
    assert complaints(house, "include/longhaul/codec/x.h", ["base/log.h"])
    assert complaints(house, "src/ddp/x.cc", ["torch/torch.h", "spdlog/spdlog.h"])
    assert complaints(house, "apps/cli/x.cc", ["grpcpp/grpcpp.h"])
    assert not complaints(house, "src/ddp/x.cc", ["torch/torch.h", "longhaul/codec/codec.h", "ddp/y.h"])
    nothing_used = complaints_of_house(house, {})
    assert len(nothing_used) == 3, nothing_used
    upside_down = drawing.read("# --- core: x\nlonghaul_room(NAME codec NEEDS base)\nlonghaul_room(NAME base)\n")
    assert complaints_of_house(upside_down, {"codec": {"base"}})


def main() -> int:
    check_that_it_can_fail()
    source = pathlib.Path(sys.argv[1])
    house = drawing.read((source / drawing.DECLARATIONS).read_text())
    listed = subprocess.run(["git", "-C", str(source), "ls-files", "-co", "--exclude-standard", "*.h", "*.cc", "*.cu"],
                            check=True, capture_output=True, text=True).stdout.split()
    found: list[str] = []
    used: dict[str, set[str]] = {}
    for path in sorted(listed):
        if (source / path).exists():
            includes = INCLUDE.findall((source / path).read_text())
            found += complaints(house, path, includes)
            if path.startswith(("src/", "include/", "apps/")):
                used.setdefault(house.room_of(path) or "", set()).update(filter(None, map(house.room_of_include, includes)))
    found += complaints_of_house(house, used)
    page = (source / drawing.PICTURE).read_text()
    if drawing.drawn(page, drawing.draw(house)) != page:
        found.append(f"{drawing.PICTURE} does not show {drawing.DECLARATIONS}: run tools/house.py")
    print("\n".join(found) or f"{len(listed)} files keep to {len(house.rooms)} rooms")
    return 1 if found or len(listed) < 20 else 0


if __name__ == "__main__":
    sys.exit(main())
