"""Fails where two files of a floor that is compiled several files at a time (LONGHAUL_UNITY, as the quickstart does) give one name
to two things: constants and types in unnamed namespaces, and functions of the same parameters. A folder is such a floor when its
CMakeLists.txt says longhaul_floor(NAME TORCH ...) or GRPC, or longhaul_compile_together().

usage: unity_test.py SOURCE_DIR
"""

import collections
import pathlib
import re
import sys

TOGETHER = re.compile(r"longhaul_floor\(\w+ (?:INTERNAL )?(?:TORCH|GRPC)|longhaul_compile_together\((?:longhaul_|char)")
SHARED_CONSTANT = re.compile(r"^inline constexpr [^=({]*?\b(\w+)(?:\[[^\]]*\])?\s*[={;]", re.MULTILINE)
UNNAMED = re.compile(r"^namespace \{$(.*?)^\}  // namespace$", re.DOTALL | re.MULTILINE)
TYPE = re.compile(r"(?:class|struct|enum class|enum) (\w+)[^;]*$")
FUNCTION = re.compile(r"[\w:<>,&*\s\[\]]*?\b(\w+)\((.*)")
CONSTANT = re.compile(r"(?:constexpr|const|static|thread_local|std::atomic)[^=({]*?\b(\w+)(?:\[[^\]]*\])?\s*[={;]")


def parameter_types(text):
    """"const std::string& path, int error) {" -> "const std::string&, int"."""
    inside = text.split(")")[0]
    return ", ".join(re.sub(r"\s*\b\w+$", "", one.split("=")[0].strip()) for one in inside.split(","))


def names(text):
    """What stands at the top of unnamed namespaces."""
    for block in UNNAMED.findall(text):
        depth = 0
        for line in block.split("\n"):
            code = re.sub(r"//.*", "", line)
            if depth == 0 and code and not code.startswith((" ", "#", "}", "static_assert", "using", "namespace", "template")):
                if named := TYPE.match(code) or CONSTANT.match(code):
                    yield named[1]
                elif named := FUNCTION.match(code):
                    yield f"{named[1]}({parameter_types(named[2])})"
            depth += code.count("{") - code.count("}")


def repeated(texts):
    places = collections.defaultdict(set)
    for path, text in texts.items():
        for name in SHARED_CONSTANT.findall(text) if path.endswith(".h") else names(text):
            places[name].add(path)
    return {name: sorted(files) for name, files in places.items() if len(files) > 1}


def check_itself():
    one = "namespace {\n\nconstexpr int kTick{1};\nint f(const A& a) {\n  int kInner = 1;\n}\nstruct S {\n};\n}  // namespace\n"
    two = "namespace {\n\nconstexpr long kTick = 2;\nint f(const A& other) {\n}\nint f(int b) {\n}\nstruct T {\n};\n}  // namespace\n"
    header = "inline constexpr int kTick = 3;\ninline constexpr int kOther = 3;\n"
    assert set(repeated({"1.cc": one, "2.cc": two})) == {"kTick", "f(const A&)"}, "the rules do not find what they should"
    assert set(repeated({"1.cc": one, "3.h": header})) == {"kTick"}, "the rules do not find what a header names"


def main():
    check_itself()
    root = pathlib.Path(sys.argv[1])
    floors = [path.parent for folder in ("src", "apps", "examples", "tools") for path in root.glob(f"{folder}/**/CMakeLists.txt")
              if TOGETHER.search(path.read_text())]
    assert len(floors) > 4, "where are the floors?"
    complaints = [f"{floor.relative_to(root)}: {name} in {' and '.join(files)}"
                  for floor in floors
                  for name, files in repeated({path.name: path.read_text() for path in floor.glob("*.[ch]*")}).items()]
    print("\n".join(complaints) or f"{len(floors)} floors can be compiled several files at a time")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
