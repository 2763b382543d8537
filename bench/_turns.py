"""Programs that take turns: what benchmarks of small operations share.

A program does a number of operations and prints "ns_wall ns_cpu ops ..." of its process. The number is
chosen so that a turn takes about a quarter of a second, and who is first changes every round, so
what else the machine does meanwhile hits all alike.
"""

import os
import statistics
import subprocess
import sys

from _servers import settle

TURN_NS = 250e6
COUNT_MAX = 1 << 30
PATIENCE_S = 120


def run(command, env=None, cores=None):
    done = subprocess.run(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=PATIENCE_S,
        env={**os.environ, **(env or {})},
        preexec_fn=lambda: settle(cores or os.sched_getaffinity(0)),
    )
    return [int(field) for field in done.stdout.split()]


class Side:
    """One program doing one case."""

    def __init__(self, who, program, case, env=None):
        self.who, self.program, self.case, self.env = who, program, case, env
        self.count = 0
        self.cpu, self.wall = [], []

    def calibrate(self, fixed):
        """As many operations as fill a turn; the last guess has run too long to be noise."""
        self.count = fixed or 2000
        while not fixed:
            wall = run([self.program, self.case, self.count], self.env)[0]
            scale = TURN_NS / max(wall, 1)
            self.count = min(COUNT_MAX, max(1, int(self.count * min(scale, 100))))
            if scale < 20 or self.count == COUNT_MAX:
                break

    def turn(self):
        wall, cpu, ops = run([self.program, self.case, self.count], self.env)[:3]
        self.cpu.append(cpu / ops)
        self.wall.append(wall / ops)


def summary(values, digits=1):
    return {
        "median": round(statistics.median(values), digits),
        "min": round(min(values), digits),
        "max": round(max(values), digits),
    }


def take_turns(rounds, parties, what):
    """parties do their turn in an order that moves on by one each round."""
    if not sys.stderr.isatty():
        print(f"  {what}: {rounds} rounds of {len(parties)}", file=sys.stderr, flush=True)
    for number in range(rounds):
        at = number % len(parties)
        for party in parties[at:] + parties[:at]:
            party()
        if sys.stderr.isatty():
            print(f"\r  {what}: round {number + 1}/{rounds} ", end="", file=sys.stderr, flush=True)


def end_progress():
    """What take_turns has on the terminal goes."""
    if sys.stderr.isatty():
        print("\r" + " " * 60 + "\r", end="", file=sys.stderr)


def chosen(bench, wanted, known, what="case"):
    """Those that are wanted, in the order of the known ones, or all of these."""
    unknown = set(wanted or ()) - set(known)
    if unknown:
        sys.exit(f"{bench}: no such {what}: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    return [name for name in known if not wanted or name in wanted]


def cell(value):
    return f"{value['median']:.1f} ({value['min']:.1f} .. {value['max']:.1f})"
