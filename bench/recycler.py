"""What a recycler saves: the same program without a pool, with a queue of buffers, with the recycler.

    ./dev bench recycler [--seconds N]

Four programs (bench/native/recycler.c, bench/recycler_go) make a buffer of 5 to 10 MB each second of a
clock of their own and keep 20 of them, for ten minutes that take a second. Their columns are written as
CSV, a file each, and drawn below one another; as PNG too where there is a chromium.
"""

import argparse
import csv
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile

import _chart
from _servers import BUILT, ROOT

PROGRAM = BUILT / "bench_recycler"
OUTPUT = ROOT / "build" / "bench" / "recycler.json"
SEEDS_COLUMNS = ("HeapSys", "bytes", "HeapAlloc", "HeapIdle", "HeapReleased", "makes", "frees")
COLUMNS = (*SEEDS_COLUMNS, "rss", "grows", "shrinks")
DRAWN = ("HeapSys", "bytes", "HeapAlloc", "HeapIdle", "HeapReleased")
PROGRAMS = {
    "go": "no pool, Go",
    "malloc": "no pool, malloc and free",
    "channel": "a queue of five",
    "recycler": "the recycler",
}
WARM_UP = 0.1  # of the time: the places fill
PATIENCE_S = 120
GROW_ROUNDS = 100


def go_program(folder):
    """The program of bench/recycler_go; a second time nearly all of it is in Go's cache."""
    program = folder / "recycler_go"
    subprocess.run(["go", "build", "-o", program, "."], cwd=ROOT / "bench" / "recycler_go", check=True)
    return program


def output_of(*command):
    done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, text=True, check=True, timeout=PATIENCE_S)
    return done.stdout


def rows_of(text):
    return [dict(zip(COLUMNS, map(int, line), strict=True)) for line in csv.reader(text.splitlines())]


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
        **{column: last[column] for column in ("makes", "frees", "grows", "shrinks")},
    }


def write_png(svg, path):
    """False without a browser: an SVG is as good for who has one."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if not browser:
        return False
    width, height = _chart.size_of(svg.read_text())
    with tempfile.TemporaryDirectory() as profile:
        subprocess.run(
            [browser, "--headless", "--no-sandbox", "--hide-scrollbars", f"--user-data-dir={profile}",
             f"--window-size={width},{height}", f"--screenshot={path}", svg.as_uri()],
            check=True, timeout=PATIENCE_S, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--output", type=pathlib.Path, default=OUTPUT)
    options = parser.parse_args()
    if not PROGRAM.is_file():
        sys.exit(f"recycler: {PROGRAM} is not built; ./dev bench recycler builds it")
    output = options.output.resolve()
    output.parent.mkdir(parents=True, exist_ok=True)

    report = {"bench": "recycler", "seconds": options.seconds, "programs": {}}
    panels = []
    heads = ("end", "mean", "RSS / bytes", "makes", "frees", "grows", "shrinks")
    print(f"{'HeapSys / bytes':28}" + "".join(f"{head:>{max(8, len(head) + 2)}}" for head in heads))
    for name, title in PROGRAMS.items():
        command = [go_program(output.parent)] if name == "go" else [PROGRAM, name]
        rows = rows_of(output_of(*command, options.seconds))
        write_csv(rows, output.with_name(f"{output.stem}-{name}.csv"))
        found = report["programs"][name] = describe(rows)
        lines = {column: [row[column] / 1e6 for row in rows] for column in DRAWN}
        panels.append((title, lines, ("makes", [row["makes"] for row in rows])))
        print(
            f"{title:28}{found['sys_per_byte_end']:8.2f}{found['sys_per_byte_mean']:8.2f}"
            f"{found['rss_per_byte_mean']:13.2f}{found['makes']:8}{found['frees']:8}"
            f"{found['grows']:8}{found['shrinks']:9}"
        )
    new_ns, grown_ns = map(int, output_of(PROGRAM, "grow", GROW_ROUNDS).split())
    report["ten_mb"] = {"new_us": new_ns / 1000, "from_five_us": grown_ns / 1000}
    print(f"\n10 MB, written to: {new_ns / 1000:.0f} us anew, {grown_ns / 1000:.0f} us where there were 5")
    output.write_text(json.dumps(report, indent=2) + "\n")
    chart = output.with_suffix(".svg")
    chart.write_text(_chart.panels("MB (left) and makes (right) over the seconds", panels))
    drawn = os.path.relpath(chart)
    if write_png(chart, output.with_suffix(".png")):
        drawn += " (and .png)"
    print(f"written: {os.path.relpath(output)}, {drawn} and a CSV of each")


if __name__ == "__main__":
    main()
