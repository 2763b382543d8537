"""The command lines of benches, which have most of their options in common."""

import argparse
import pathlib
import shutil
import sys

from _servers import ROOT
from _turns import chosen


class Options(argparse.ArgumentParser):
    """Of the bench of proxies that is called so: `cases`, in `rounds` of turns of `seconds`; each note says what is
    special about a number."""

    def __init__(self, bench, description, cases, rounds, seconds, *, quick_s=0.1, notes=("", "")):
        super().__init__(
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            usage=f"./dev bench {bench} [options]",
        )
        self.bench, self.cases, self.rounds, self.seconds, self.quick_s = bench, cases, rounds, seconds, quick_s
        output = ROOT / "build" / "bench" / f"{bench}.json"
        self.add_argument("--case", nargs="*", metavar="CASE", help=f"only these: {' '.join(cases)}")
        self.add_argument("--rounds", type=int, help=f"{rounds}{notes[0]}")
        self.add_argument("--seconds", type=float, help=f"{seconds}, of each server's turn{notes[1]}")
        self.add_argument("--quick", action="store_true", help="one short round: shows that it runs")
        self.add_argument("--output", type=pathlib.Path, default=output)

    def parse(self):
        options = self.parse_args()
        options.rounds = options.rounds or (1 if options.quick else self.rounds)
        options.seconds = options.seconds or (self.quick_s if options.quick else self.seconds)
        options.case = chosen(self.bench, options.case, self.cases)
        return options


def need_tools(bench, *tools):
    for tool in tools:
        if not shutil.which(tool):
            sys.exit(f"{bench}: {tool} is not installed; ./dev bench {bench} installs it")
