"""Every C++ file is as clang-format leaves it.

usage: format_test.py SOURCE_DIR CLANG_FORMAT
"""

import subprocess
import sys


def main() -> int:
    source, clang_format = sys.argv[1:]
    files = subprocess.run(["git", "-C", source, "ls-files", "-co", "--exclude-standard", "*.h", "*.cc"],
                           check=True, capture_output=True, text=True).stdout.split()
    done = subprocess.run([clang_format, "--dry-run", "--Werror", *files], cwd=source, capture_output=True, text=True)
    if done.returncode:
        print(done.stderr[:4000])
        print(f"mend with: {clang_format} -i $(git ls-files '*.h' '*.cc')")
    else:
        print(f"{len(files)} files are formatted")
    return done.returncode or (not files)


if __name__ == "__main__":
    sys.exit(main())
