"""The C++ of the README is the C++ of examples/first_steps, line for line, so it is compiled and run.

usage: readme_test.py SOURCE_DIR
"""

import pathlib
import re
import sys


def main() -> int:
    source = pathlib.Path(sys.argv[1])
    blocks = re.findall(r"```cpp\n(.*?)```", (source / "README.md").read_text(), re.DOTALL)
    example = (source / "examples/first_steps/main.cc").read_text()
    lines = {line.strip() for line in example.splitlines()}
    strangers = [line for block in blocks for line in block.splitlines() if line.strip() and line.strip() not in lines]
    for line in strangers:
        print(f"README.md shows a line that examples/first_steps/main.cc does not have: {line}")
    count = len(example.splitlines())
    if count > 40:
        print(f"examples/first_steps/main.cc has {count} lines; it promises at most 40")
    print(f"{len(blocks)} C++ blocks in README.md")
    return 1 if strangers or not blocks or count > 40 else 0


if __name__ == "__main__":
    sys.exit(main())
