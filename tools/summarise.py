#!/usr/bin/env python3
"""Adds up the JUnit files of a test run and ends with one plain line, "N passed, N failed".

usage: summarise.py STEPS.TSV, with a line "name TAB exit status TAB junit file" for each step; the
file is "-" for a step that runs no tests, such as a build, and counts only when it fails.

A step that failed without a failed test in its file (it crashed, or never wrote the file) counts as
one failure, so that nothing which went wrong can add up to success. A run without a test fails too.
"""

import os
import sys
import xml.etree.ElementTree as ET


def count(path):
    """(passed, failed names, skipped) of one JUnit file, of meson or of pytest."""
    passed, failed, skipped = 0, [], 0
    for case in ET.parse(path).getroot().iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            failed.append("::".join(filter(None, [case.get("classname"), case.get("name")])))
        elif case.find("skipped") is not None:
            skipped += 1
        else:
            passed += 1
    return passed, failed, skipped


def summarise(lines, out=sys.stdout):
    passed_total, failed_total, skipped_total = 0, 0, 0
    for line in lines:
        name, status, path = line.rstrip("\n").split("\t")
        passed, failed, skipped = 0, [], 0
        if path == "-" and status == "0":
            continue
        if os.path.exists(path):
            try:
                passed, failed, skipped = count(path)
            except ET.ParseError as error:
                failed = [f"{path} is no JUnit file: {error}"]
        if status != "0" and not failed:
            failed = [f"ended with status {status} and no failed test to show for it"]
        if status == "0" and passed + len(failed) + skipped == 0:
            failed = ["ran no test"]
        print(f"  {name}: {passed} passed, {len(failed)} failed, {skipped} skipped", file=out)
        for entry in failed:
            print(f"    failed: {entry}", file=out)
        passed_total += passed
        failed_total += len(failed)
        skipped_total += skipped
    tail = f", {skipped_total} skipped" if skipped_total else ""
    print(f"{passed_total} passed, {failed_total} failed{tail}", file=out)
    return 0 if passed_total > 0 and failed_total == 0 else 1


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as steps:
        print("\n== summary", flush=True)
        sys.exit(summarise(steps))
