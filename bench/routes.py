"""What it costs to find the route of a request: instructions per look-up, by the length of the table.

    ./dev bench routes [--lookups N] [--quick]

bench/native/routes.c looks up requests in tables of 1 to 10,000 routes, by the index that the proxy uses and
by walking through the list. valgrind counts the instructions, so the figures are the same on every
machine of a kind, however busy it is. Every route of a table is asked for equally often.
"""

import argparse
import json
import pathlib
import re
import subprocess
import sys
import tempfile

from _servers import BUILT, ROOT

PROGRAM = BUILT / "bench_routes"
OUTPUT = ROOT / "build" / "bench" / "routes.json"
MIXES = ("prefix", "exact", "regex", "mixed")
SIZES = (1, 10, 100, 1000, 10000)
WALKED = 1000  # longer lists are not walked through: a minute each, to say what is ten times the last line
PATIENCE_S = 600


def instructions(how, mix, routes, lookups):
    """Per look-up; both rounds of the program are counted."""
    with tempfile.TemporaryDirectory() as folder:
        counted = pathlib.Path(folder) / "callgrind.out"
        command = ["valgrind", "-q", "--tool=callgrind", "--toggle-collect=look_up_all"]
        command += [f"--callgrind-out-file={counted}", PROGRAM, how, mix, routes, lookups]
        done = subprocess.run(
            list(map(str, command)), stdout=subprocess.PIPE, text=True, check=True, timeout=PATIENCE_S
        )
        if int(done.stdout) != lookups:
            raise RuntimeError(f"{done.stdout} of {lookups} look-ups found their route")
        total = int(re.search(r"^(?:summary|totals): (\d+)", counted.read_text(), re.MULTILINE)[1])
    return round(total / (2 * lookups))


def measure(sizes, lookups):
    figures = {}
    for routes in sizes:
        figures[routes] = {}
        for mix in MIXES:
            case = {"index": instructions("index", mix, routes, lookups)}
            if routes <= WALKED:
                case["walk"] = instructions("walk", mix, routes, lookups)
            figures[routes][mix] = case
    return figures


def table(figures):
    heads = [f"{mix}{' (walk)' if how == 'walk' else ''}" for mix in MIXES for how in ("index", "walk")]
    lines = ["| routes | " + " | ".join(heads) + " |", "|" + "---|" * (len(heads) + 1)]
    for routes, mixes in figures.items():
        cells = [f"{case[how]:,}" if how in case else "" for case in mixes.values() for how in ("index", "walk")]
        lines.append(f"| {routes:,} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--lookups", type=int, default=1000, help="per case")
    parser.add_argument("--quick", action="store_true", help="short tables only")
    parser.add_argument("--output", type=pathlib.Path, default=OUTPUT)
    given = parser.parse_args()
    figures = measure(SIZES[:2] if given.quick else SIZES, given.lookups)
    print(table(figures))
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.write_text(json.dumps({"bench": "routes", "instructions": figures}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
