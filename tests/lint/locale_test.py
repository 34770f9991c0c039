"""Fails where a number could come out, or be read, as the locale of the process has it. What programs write goes over
wires, into keys, paths, logs and JSON, and a library shares its process with a user who may set any locale.

str_cat(), format_fixed() and format_general() of longhaul/base/strings.h, std::to_string() of whole numbers, and
std::from_chars() do not depend on it.

usage: locale_test.py SOURCE_DIR
"""

import pathlib
import re
import subprocess
import sys

FOLDERS = ("include", "src", "apps", "tools", "examples")
# Pattern, and what to write instead. A stream that has the classic locale imbued within two lines is fine.
RULES = [
    (re.compile(r"std::w?[io]?stringstream\b"), "str_cat(), or imbue(std::locale::classic())"),
    (re.compile(r"\b(std::)?(stof|stod|stold|strtof|strtod|strtold|atof)\s*\("), "std::from_chars()"),
    (re.compile(r'"(?!%Y)[^"\n]*%[-+ #0-9.*]*[aefgAEFG][^"\n]*"'), "format_fixed() or format_general()"),
    (re.compile(r"\b(isalpha|isalnum|islower|isupper|tolower|toupper|isprint|ispunct)\s*\("), "a comparison of letters"),
    (re.compile(r"%'[-+ #0-9.*]*d"), "std::to_string()"),
]
# What a user's own program does with printf() in its own locale is shown on a screen, not read by a machine.
SHOWN = {"examples/char_gpt/main.cc", "examples/first_steps/main.cc"}


def code_lines(text: str) -> list[str]:
    return [re.sub(r"//.*", "", line) for line in text.splitlines()]


def complaints(path: str, text: str) -> list[str]:
    found = []
    lines = code_lines(text)
    for number, line in enumerate(lines, start=1):
        for pattern, instead in RULES:
            if not pattern.search(line) or line.lstrip().startswith("#include"):
                continue
            if "imbue(std::locale::classic())" in "".join(lines[number - 1:number + 2]):
                continue
            found.append(f"{path}:{number}: depends on the locale; use {instead}: {line.strip()}")
    return found


def sources(root: pathlib.Path) -> list[str]:
    listed = subprocess.run(["git", "-C", root, "ls-files", "--cached", "--others", "--exclude-standard", "--", *FOLDERS],
                            capture_output=True, text=True, check=True).stdout.split()
    return [path for path in listed if path.endswith((".cc", ".h")) and path not in SHOWN]


def check_itself() -> None:
    bad = ["std::ostringstream out;", "double x = std::stod(text);", 'snprintf(b, n, "%.4g", x);', "std::tolower(c);"]
    good = ["std::ostringstream out; out.imbue(std::locale::classic());", 'snprintf(b, n, "%d of %s", a, b);',
            "from_chars(a, b, x); // stod()"]
    assert all(complaints("x.cc", line) for line in bad), "the rules find nothing"
    assert not any(complaints("x.cc", line) for line in good), "the rules find what is right"


def main() -> int:
    check_itself()
    root = pathlib.Path(sys.argv[1])
    found = [line for path in sources(root) if (root / path).exists()
             for line in complaints(path, (root / path).read_text())]
    print("\n".join(found) or "no number depends on a locale")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
