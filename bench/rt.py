"""Sluice's coroutine runtime beside Go's, case by case under the same names.

    ./dev bench rt [--rounds N] [--only CASE ...] [--million] [--quick]

A case is one run of bench_rt (bench/native/rt_*.c) or of rt_go (bench/rt_go), which do a number of
operations and say what that took; bench/native/rt_main.c says what an operation is. The number is
chosen for each so that a run takes about a quarter of a second. The two take turns, and who is first
changes every round, so what else the machine does meanwhile hits both alike. What is compared is CPU
time per operation, user and system, of the whole process: the time of day beside it depends on who
else wants the cores. Medians, with the lowest and highest of the rounds.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

import _chart
from _servers import BUILT, ROOT, settle
from _turns import Side, cell, chosen, end_progress, run, summary, take_turns

SLUICE = BUILT / "bench_rt"
LOAD = BUILT / "bench_rt_load"
OUTPUT = ROOT / "build" / "bench" / "rt.json"

# Case: the aim for Sluice's share of Go's CPU time, and whether Sluice also does it pinned.
CASES = {
    "switch": (0.5, True),
    "spawn": (0.5, True),
    "chan_same_p": (0.5, True),
    "chan_cross_p": (0.8, False),
    "chan_pinned_p": (0.8, False),
    "chan_unbuffered": (0.8, True),
    "chan_buffered": (0.8, True),
    "chan_buffered_2p": (0.8, False),
    "select4": (0.8, False),
    "mutex": (0.8, False),
    "mutex_yield": (0.8, False),
    "timer": (0.8, False),
    "echo64": (0.8, False),
    "foreign_call": (0.5, False),
    "foreign_call_quick": (0.5, False),
    "callback": (0.5, False),
    "callback_wake": (0.8, False),
    "work_1p": (1.0, False),
    "work_2p": (1.0, False),
}

PARKED = 100_000
PARKED_MANY = 1_000_000
BLOCKED = {"blocked": 1, "blocked_many": 20}  # foreign calls of a second per P, all the time
BLOCKED_AIM_MS = 5
LOAD_PER_S, LOAD_MS = 2000, 2000


def build_go(folder):
    """The program of bench/rt_go; a second time nearly all of it is in Go's cache."""
    program = folder / "rt_go"
    subprocess.run(["go", "build", "-o", program, "."], cwd=ROOT / "bench" / "rt_go", check=True)
    return program


def measure_cases(names, go, options):
    cases = {}
    for name in names:
        aim, has_pinned = CASES[name]
        sides = [Side("sluice", SLUICE, name), Side("go", go, name)]
        if has_pinned:
            sides.append(Side("sluice_pinned", SLUICE, f"{name}_pinned"))
        for side in sides:
            side.calibrate(options.count)
        take_turns(options.rounds, [side.turn for side in sides], name)
        cases[name] = describe(sides, aim)
    return cases


def describe(sides, aim):
    case = {"unit": "ns/op", "aim": aim, "values": {}, "wall": {}}
    for side in sides:
        case["values"][side.who] = summary(side.cpu)
        case["wall"][side.who] = summary(side.wall)
        case[side.who] = case["values"][side.who]["median"]
    ours, gos = sides[0], sides[1]
    case["ratio"] = round(statistics.median(ours.cpu) / max(statistics.median(gos.cpu), 0.001), 3)
    pairs = zip(ours.cpu, gos.cpu, strict=True)
    case["ratio_spread"] = summary([our / max(go, 0.001) for our, go in pairs], 3)
    return case


# ---- how a second core is used ----------------------------------------------------------------


def scaling(cases):
    """Elements per second of the load with two Ps over those with one; CPU time likewise."""
    if not {"work_1p", "work_2p"} <= set(cases):
        return {}
    one, two = cases["work_1p"], cases["work_2p"]
    result = {}
    for who in ("sluice", "go"):
        wall = one["wall"][who]["median"], two["wall"][who]["median"]
        result[who] = {
            "per_s_1p": round(1e9 / wall[0]),
            "per_s_2p": round(1e9 / wall[1]),
            "speedup": round(wall[0] / wall[1], 2),
            "cpu_growth": round(two[who] / one[who], 2) if one[who] else 0,
        }
    return result


# ---- memory of parked coroutines --------------------------------------------------------------


def parked(go, count, rounds):
    """{who: {bytes, ns}} of one parked coroutine, page tables included."""
    found = {"sluice": [], "sluice_pinned": [], "go": []}

    def one(who, program, case):
        wall, cpu, ops, rss, tables = run([program, case, count])
        found[who].append((rss / ops, tables / ops, cpu / ops, wall / ops))

    parties = [
        lambda: one("sluice", SLUICE, "parked"),
        lambda: one("go", go, "parked"),
        lambda: one("sluice_pinned", SLUICE, "parked_pinned"),
    ]
    take_turns(rounds, parties, f"parked {count}")
    fields = ("rss_bytes", "page_table_bytes", "make_cpu_ns", "make_wall_ns")
    return {
        who: {field: summary([row[at] for row in rows]) for at, field in enumerate(fields)}
        for who, rows in found.items()
    }


# ---- latency while foreign calls block --------------------------------------------------------


def blocked_latency(program, calls, load_ms):
    """(p50, p99, max) in ms, as the peers of an echo server see it."""
    server = subprocess.Popen(
        [str(program), "serve", str(calls)],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: settle(os.sched_getaffinity(0)),
    )
    try:
        port = int(server.stdout.readline())
        p50, p99, most, _ = run([LOAD, port, LOAD_PER_S, load_ms])
    finally:
        server.kill()
        server.wait()
        server.stdout.close()
    return p50 / 1e6, p99 / 1e6, most / 1e6


def blocked(go, rounds, load_ms):
    result = {}
    for name, calls in BLOCKED.items():
        found = {"sluice": [], "go": []}
        take_turns(
            rounds,
            [
                lambda: found["sluice"].append(blocked_latency(SLUICE, calls, load_ms)),  # noqa: B023
                lambda: found["go"].append(blocked_latency(go, calls, load_ms)),  # noqa: B023
            ],
            name,
        )
        result[name] = {"unit": "ms", "calls_per_p": calls, "aim_p99": BLOCKED_AIM_MS}
        for who, rows in found.items():
            result[name][who] = {
                field: summary([row[at] for row in rows], 3) for at, field in enumerate(("p50", "p99", "max"))
            }
    return result


# ---- the report -------------------------------------------------------------------------------


def verdict(ratio, aim):
    if ratio <= aim:
        return "met"
    return "missed" if ratio <= 1 else "ABOVE GO"


def print_cases(cases):
    print(
        f"\n{'CPU ns/op, median (min .. max)':30}{'Sluice':>22}{'Go':>32}{'ratio':>8}{'aim':>6}  {'':9}"
        f"{'pinned':>9}{'wall':>9}{'Go wall':>9}"
    )
    for name, case in cases.items():
        pinned = case.get("sluice_pinned")
        print(
            f"{name:20}{cell(case['values']['sluice']):>32}{cell(case['values']['go']):>32}"
            f"{case['ratio']:8.2f}{case['aim']:6.1f}  {verdict(case['ratio'], case['aim']):9}"
            f"{'' if pinned is None else format(pinned, '.1f'):>9}"
            f"{case['wall']['sluice']['median']:9.0f}{case['wall']['go']['median']:9.0f}"
        )


def print_scaling(result):
    for who, row in result.items():
        print(
            f"{who:8}{row['per_s_1p']:>10} elements/s with one P, {row['per_s_2p']} with two: "
            f"{row['speedup']:.2f} times as many, for {row['cpu_growth']:.2f} of the CPU time each"
        )


def print_parked(count, result):
    print(f"\n{count} parked coroutines, each{'bytes':>16}{'page tables':>13}{'CPU ns':>9}{'wall ns':>9}")
    for who, row in result.items():
        values = [row[field]["median"] for field in row]
        print(f"{who:30}{values[0]:16.0f}{values[1]:13.0f}{values[2]:9.0f}{values[3]:9.0f}")


def print_blocked(result):
    for name, case in result.items():
        print(
            f"\n{name}: echo latency in ms, {case['calls_per_p']} calls of 1 s per P{'p50':>26}{'p99':>26}{'max':>26}"
        )
        for who in ("sluice", "go"):
            cells = [case[who][field] for field in ("p50", "p99", "max")]
            row = [f"{v['median']:.2f} ({v['min']:.2f} .. {v['max']:.2f})" for v in cells]
            print(f"{who:52}" + "".join(f"{text:>26}" for text in row))


def draw(cases, path):
    bars = [
        _chart.Bar(
            label=name,
            value=case["ratio"],
            low=case["ratio_spread"]["min"],
            high=case["ratio_spread"]["max"],
            aim=case["aim"],
            note=f"{case['sluice']:g} / {case['go']:g} ns",
        )
        for name, case in cases.items()
    ]
    title = "CPU time per operation, Sluice's runtime over Go's"
    path.write_text(_chart.ratios(title, bars))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", help="only these cases; also: parked, blocked")
    parser.add_argument("--million", action="store_true", help="a million parked coroutines: 5 GB")
    parser.add_argument("--quick", action="store_true", help="shows that it runs, and nothing else")
    parser.add_argument("--output", type=pathlib.Path, default=OUTPUT)
    options = parser.parse_args()
    options.count = 2000 if options.quick else 0
    if options.quick:
        options.rounds = 1
    wanted = chosen("rt", options.only, [*CASES, "parked", "blocked"])
    for program in (SLUICE, LOAD):
        if not program.is_file():
            sys.exit(f"rt: {program} is not built; ./dev bench rt builds it")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    go = build_go(options.output.parent)

    report = {"bench": "rt", "rounds": options.rounds}
    report["cases"] = measure_cases([name for name in CASES if name in wanted], go, options)
    report["scaling"] = scaling(report["cases"])
    report["parked"] = {}
    if "parked" in wanted:
        sizes = [1000] if options.quick else [PARKED] + [PARKED_MANY] * options.million
        for count in sizes:
            report["parked"][count] = parked(go, count, min(options.rounds, 3))
    if "blocked" in wanted:
        load_ms = 200 if options.quick else LOAD_MS
        report["blocked"] = blocked(go, min(options.rounds, 3), load_ms)
    end_progress()

    print_cases(report["cases"])
    print_scaling(report["scaling"])
    for count, result in report["parked"].items():
        print_parked(count, result)
    print_blocked(report.get("blocked", {}))
    options.output.write_text(json.dumps(report, indent=2) + "\n")
    chart = options.output.with_suffix(".svg")
    draw(report["cases"], chart)
    print(f"\nwritten: {os.path.relpath(options.output)}, {os.path.relpath(chart)}")


if __name__ == "__main__":
    main()
