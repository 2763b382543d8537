"""What a recycler saves: the same program without a pool, with a queue of buffers, with the recycler.

    ./dev bench recycler [--seconds N]

Four programs (bench/native/recycler.c) make a buffer of 5 to 10 MB each second of a clock of their
own and keep 20 of them, for ten minutes that take a second. Their columns are written as CSV, a file
each, and drawn beside one another.
"""

import argparse
import csv
import json
import os
import pathlib
import statistics
import subprocess
import sys

import _chart
from _servers import ROOT

BUILD = pathlib.Path(os.environ.get("SLUICE_BIN", ROOT / "build" / "sluice")).resolve().parent
PROGRAM = BUILD / "bench" / "native" / "bench_recycler"
OUTPUT = ROOT / "build" / "bench" / "recycler.json"
COLUMNS = ("HeapSys", "bytes", "HeapAlloc", "HeapIdle", "HeapReleased", "makes", "frees", "rss")
PROGRAMS = {
    "collected": "no pool, with a collector",
    "malloc": "no pool, malloc and free",
    "channel": "a queue of five",
    "recycler": "the recycler",
}
WARM_UP = 0.1  # of the time: the places fill
PATIENCE_S = 120


def run(name, seconds):
    done = subprocess.run(
        [PROGRAM, name, str(seconds)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=PATIENCE_S,
    )
    return [dict(zip(COLUMNS, map(int, line), strict=True)) for line in csv.reader(done.stdout.splitlines())]


def write_csv(rows, path):
    with path.open("w", newline="") as file:
        out = csv.DictWriter(file, COLUMNS)
        out.writeheader()
        out.writerows(rows)


def describe(rows):
    warm = rows[int(len(rows) * WARM_UP) :]
    last = rows[-1]
    return {
        "sys_per_byte_end": round(last["HeapSys"] / last["bytes"], 3),
        "sys_per_byte_mean": round(statistics.mean(row["HeapSys"] / row["bytes"] for row in warm), 3),
        "rss_per_byte_mean": round(statistics.mean(row["rss"] / row["bytes"] for row in warm), 3),
        "makes": last["makes"],
        "frees": last["frees"],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--output", type=pathlib.Path, default=OUTPUT)
    options = parser.parse_args()
    if not PROGRAM.is_file():
        sys.exit(f"recycler: {PROGRAM} is not built; ./dev bench recycler builds it")
    options.output.parent.mkdir(parents=True, exist_ok=True)

    report = {"bench": "recycler", "seconds": options.seconds, "programs": {}}
    panels = []
    print(f"{'HeapSys / bytes':28}{'end':>8}{'mean':>8}{'RSS / bytes':>14}{'makes':>8}{'frees':>8}")
    for name, title in PROGRAMS.items():
        rows = run(name, options.seconds)
        write_csv(rows, options.output.with_name(f"{options.output.stem}-{name}.csv"))
        found = report["programs"][name] = describe(rows)
        lines = {column: [row[column] / 1e6 for row in rows] for column in ("HeapSys", "HeapIdle", "bytes")}
        panels.append((f"{title}: {found['makes']} made, {found['frees']} freed", lines))
        print(
            f"{title:28}{found['sys_per_byte_end']:8.2f}{found['sys_per_byte_mean']:8.2f}"
            f"{found['rss_per_byte_mean']:14.2f}{found['makes']:8}{found['frees']:8}"
        )
    options.output.write_text(json.dumps(report, indent=2) + "\n")
    chart = options.output.with_suffix(".svg")
    chart.write_text(_chart.panels("MB over the seconds", panels))
    print(f"\nwritten: {os.path.relpath(options.output)}, {os.path.relpath(chart)} and a CSV of each")


if __name__ == "__main__":
    main()
