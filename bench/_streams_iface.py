"""What readers and writers cost beside Go's: an interface call, a copy of nothing, and an observer of a body of 1 MiB
beside one who reads all of it first. Operations are defined in bench/native/streams.c."""

import pathlib
import shutil
import subprocess
import tempfile

from _servers import BUILT, ROOT
from _turns import Side, summary, take_turns
from _turns import run as run_program

CASES = ("iface_call", "stream_copy_dispatch", "body_plain", "body_hook", "body_readall")
PREFIXES = (*CASES, "hook_added", "readall_added")  # of the names of rows
NAMES = ["sluice", "no hook", "go"]
QUICK_COUNT = 16


def sluice():
    """The release build has no such programs; the plain one's are optimised as well."""
    program = BUILT / "bench_streams"
    return program if program.is_file() else ROOT / "build" / "bench" / "native" / "bench_streams"


def build_go(folder):
    program = folder / "streams_go"
    subprocess.run(["go", "build", "-o", program, "."], cwd=ROOT / "bench" / "streams_go", check=True)
    return program


class CountingSide(Side):
    """Side, and how often it allocated for an operation."""

    def __init__(self, who, program, case):
        super().__init__(who, program, case)
        self.allocations = []

    def turn(self):
        wall, cpu, ops, allocations = run_program([self.program, self.case, self.count])
        self.cpu.append(cpu / ops)
        self.wall.append(wall / ops)
        self.allocations.append(allocations / ops)


def row(name, unit, samples, digits=1):
    """As _load.case: {who: a value per round}."""
    return {
        "case": name,
        "unit": unit,
        "lower_is_better": True,
        "values": {who: summary(values, digits) for who, values in samples.items()},
        "rounds": {who: [round(value, 3) for value in values] for who, values in samples.items()},
    }


def run(lineup, options):
    """Rows of `sluice` and `go`: CPU time and allocations of each operation, and what an observer, and reading all,
    add to a body, of the time of day. `no hook` is Sluice's plain body, beside the hooked one. The sides of a
    round are next to each other, so differences are of one moment."""
    if not shutil.which("go"):
        raise RuntimeError("go is not installed")
    with tempfile.TemporaryDirectory() as folder:
        go = build_go(pathlib.Path(folder))
        sides = {
            (who, name): CountingSide(who, program, name)
            for name in CASES
            for who, program in (("sluice", sluice()), ("go", go))
        }
        for side in sides.values():
            side.calibrate(QUICK_COUNT if options.quick else None)
        take_turns(options.rounds, [side.turn for side in sides.values()], "readers and writers")

    def of(name, field):
        return {who: getattr(sides[who, name], field) for who in ("sluice", "go")}

    rows = []
    for name in CASES:
        cpu = of(name, "cpu")
        if name == "body_hook":
            cpu["no hook"] = sides["sluice", "body_plain"].cpu
        rows.append(row(f"{name}_ns", "ns/op", cpu))
        rows.append(row(f"{name}_allocations", "per op", of(name, "allocations"), 2))
    plain = of("body_plain", "wall")
    for name in ("hook", "readall"):
        wall = of(f"body_{name}", "wall")
        added = {who: [(a - b) / 1000 for a, b in zip(wall[who], plain[who], strict=True)] for who in wall}
        rows.append(row(f"{name}_added_us", "us/MiB", added))
    return rows
