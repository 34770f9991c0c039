"""The environment of a program in which every number that depends on a locale comes out wrong."""

import pathlib
import shutil
import subprocess


def environment(binaries: pathlib.Path, folder: pathlib.Path) -> dict[str, str]:
    """For programs of that build; a C locale with a decimal comma is made in `folder`, where localedef can."""
    variables = {"LD_PRELOAD": str(binaries / "hostile_locale.so")}
    localedef = shutil.which("localedef")
    if localedef:
        made = subprocess.run([localedef, "-i", "de_DE", "-f", "UTF-8", folder / "de_DE.UTF-8"], capture_output=True)
        if made.returncode == 0:
            variables |= {"LOCPATH": str(folder), "HOSTILE_C_LOCALE": "de_DE.UTF-8"}
    return variables
