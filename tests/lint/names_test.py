"""No two files of a room define the same local name: files of a room are compiled together (LONGHAUL_UNITY), and how many at
a time differs between presets, so that one may compile what another one does not.

Looked at are constants and functions at the top of unnamed namespaces; functions of one name may differ in what they take.

usage: names_test.py SOURCE_DIR
"""

import collections
import pathlib
import re
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))
import house as drawing  # noqa: E402

UNNAMED = re.compile(r"^namespace \{$(.*?)^\}  // namespace$", re.MULTILINE | re.DOTALL)
CONSTANT = re.compile(r"^(?:constexpr|const|inline constexpr) [^\n(]*?\b(k[A-Z]\w*)(?:\[[^\]]*\])?\s*(?:=|\{)", re.MULTILINE)
FUNCTION = re.compile(r"^(?!return|else|using|struct|class|enum|template|namespace|constexpr [^(]*=)[A-Za-z_][\w:<>,&*\s]*?[\s&*](\w+)\(([^()]*)\)"
                      r"\s*(?:const\s*)?\{", re.MULTILINE)


def kinds_of(parameters: str) -> str:
    """'const at::Tensor& flat, int n = 3' without what they are called."""
    words = re.sub(r"\s*=[^,]*", "", parameters).split(",")
    return ", ".join(re.sub(r"\s*\b\w+$", "", re.sub(r"\s+", " ", word.strip())) for word in words)


def local_names(text: str) -> set[str]:
    names = set()
    for body in UNNAMED.findall(text):
        names.update(CONSTANT.findall(body))
        names.update(f"{name}({kinds_of(parameters)})" for name, parameters in FUNCTION.findall(body))
    return names


def clashes(files: dict[str, str]) -> list[str]:
    """Of the files of one room, by path."""
    where = collections.defaultdict(list)
    for path, text in sorted(files.items()):
        for name in local_names(text):
            where[name].append(path)
    return [f"{name}: in {' and in '.join(paths)}" for name, paths in sorted(where.items()) if len(paths) > 1]


def check_that_it_can_fail() -> None:
    one = "namespace {\n\nconstexpr int kSize = 3;\n\nint size_of(const Thing& thing) {\n}\n\n}  // namespace\n"
    other = "namespace {\n\nconstexpr milliseconds kSize{4};\n\nuint64_t size_of(const Thing& one) {\n}\n\n}  // namespace\n"
    apart = "namespace {\n\nint size_of(const Other& other) {\n}\n\n}  // namespace\n"
    assert len(clashes({"a": one, "b": other})) == 2 and not clashes({"a": one, "c": apart})


ALONE = re.compile(r"set_source_files_properties\(([^)]*?)\s+PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON\)")


def is_together(house: drawing.House, source: pathlib.Path, room: str, path: str) -> bool:
    """Whether the file is compiled with others: the room is one with large headers, or says so; a file may be left alone."""
    declared = house.rooms.get(room)
    folder = next(parent for parent in (source / path).parents if (parent / "CMakeLists.txt").exists())
    lines = (folder / "CMakeLists.txt").read_text()
    alone = " ".join(ALONE.findall(lines)).split()
    large = declared is not None and bool({"TORCH", "GRPC"} & set(declared.uses))
    return (large or "longhaul_compile_together" in lines) and pathlib.Path(path).name not in alone


def main() -> int:
    check_that_it_can_fail()
    source = pathlib.Path(sys.argv[1])
    house = drawing.read((source / drawing.DECLARATIONS).read_text())
    rooms: dict[str, dict[str, str]] = collections.defaultdict(dict)
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "src", "apps", "examples"], cwd=source,
                            capture_output=True, text=True, check=True).stdout.split()
    for path in listed:
        if path.endswith(".cc") and not path.endswith("main.cc") and (source / path).exists():
            room = house.room_of(path) or str(pathlib.Path(path).parent)
            if is_together(house, source, room, path):
                rooms[room][path] = (source / path).read_text()
    found = [line for files in rooms.values() for line in clashes(files)]
    print("\n".join(found) or f"{len(rooms)} rooms define each local name once")
    return 1 if found or not rooms else 0


if __name__ == "__main__":
    sys.exit(main())
