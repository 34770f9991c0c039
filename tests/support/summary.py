"""The last words of a test run: which cases were skipped, and how many passed and failed.

usage: summary.py JUNIT_OF_CTEST FOLDER_OF_SUITES_REPORTS

ctest counts suites; what counts here are cases: of a suite those of its report, else the test itself.
"""

import pathlib
import re
import sys
import xml.etree.ElementTree as ElementTree


def cases_of(name: str, status: str, skipped: str, report: pathlib.Path) -> list[tuple[str, str, str]]:
    """(case, passed | failed | skipped, why it was skipped) of one test of ctest's."""
    found = []
    try:
        suites = ElementTree.parse(report).getroot()
    except (OSError, ElementTree.ParseError):
        suites = []
    prefix = name.split(".", 1)[0]
    for case in (case for suite in suites for case in suite.iter("testcase")):
        if case.get("status") == "notrun":  # disabled
            continue
        outcome, why = "passed", ""
        if case.find("failure") is not None:
            outcome = "failed"
        elif case.get("result") == "skipped":
            note = case.find("skipped")
            outcome, why = "skipped", (note.get("message") or "") if note is not None else ""
        found.append((f"{prefix}.{case.get('classname')}.{case.get('name')}", outcome, why))
    outcome = {"run": "passed", "fail": "failed"}.get(status, "skipped")
    if not found:
        return [(name, outcome, skipped)]
    # It was killed, or failed where no case did: at its end, or between two.
    if outcome == "failed" and not any(each[1] == "failed" for each in found):
        found.append((name, "failed", ""))
    return found


def main() -> None:
    junit, reports = ElementTree.parse(sys.argv[1]).getroot(), pathlib.Path(sys.argv[2])
    cases = []
    for test in junit.iter("testcase"):
        name = test.get("name") or ""
        note = test.find("skipped")
        why = (note.get("message") or "") if note is not None else ""
        cases += cases_of(name, test.get("status") or "", why, reports / f"{name.replace('/', '_')}.xml")
    for case, outcome, why in cases:
        if outcome == "skipped":
            reason = re.sub(r"^\S+:\d+\s+", "", why).strip().replace("\n", " ")
            print(f"skipped: {case}" + (f": {reason}" if reason else ""))
    for case, outcome, _ in cases:
        if outcome == "failed":
            print(f"failed: {case}")
    count = {outcome: sum(each[1] == outcome for each in cases) for outcome in ("passed", "failed", "skipped")}
    seconds = float(junit.get("time") or 0)
    suites = sum(1 for _ in junit.iter("testcase"))
    print(f"{count['passed']} tests passed, {count['failed']} failed, {count['skipped']} skipped "
          f"({suites} suites, {int(seconds // 60)} min {int(seconds % 60)} s)")


if __name__ == "__main__":
    main()
