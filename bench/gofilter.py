"""What a filter adds to a request: Go filters in Sluice, Lua in Envoy and in nginx.

    ./dev bench gofilter [--case CASE ...] [--only SERVER ...] [--rounds N] [--quick]

Each server has a listener without a filter and one for each case, and stays up; rounds go from one to
the next. What is added is the CPU time per request of a case less that of the same requests without a filter,
of the same round. The floor is the SDK's own work: a program that calls the same Go library as a proxy has
to, and does nothing else (bench/native/go_floor.c).

  header_get_set      gets a request header and sets one
  body_read_4k        has a body of 4 KiB in its hands, whole
  body_rewrite_4k     puts another one in its place
  async_hop           gets and sets a header in a goroutine, which then continues the request
  chain_of_five       five filters of the first kind
  body_untouched_64k  the first kind, while a body of 64 KiB passes it
  start               from exec to ready, with so many Go libraries, each tried in a process of its own first
  blocked             how late others' requests are (p99.9) while a filter sleeps for a second in every worker, over
                      the same without: a ratio
"""

import argparse
import functools
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading

import _report
from _gofilter_servers import CASES, Lineup
from _gofilter_start import start_ms
from _load import case, http_asker
from _servers import ROOT, SLUICE, Farm, compiled, cpu_clock
from _turns import chosen, run, take_turns

OUTPUT = ROOT / "build" / "bench" / "gofilter.json"
NAMES = ("sluice", "envoy", "nginx", "floor")
ROUNDS, SECONDS, QUICK_S = 15, 1.0, 0.2
WARM_UP_REQUESTS = 2000
FLOOR = "header_get_set"  # what the floor is of
FLOOR_COUNT, FLOOR_QUICK = 100_000, 2000
BLOCKED_SHARE = 0.4  # of what the listener without filters can do
BLOCKED_ROUNDS = 5
STARTS = 9
Aim = _report.Aim
AIMS = [
    Aim("added_us_header_get_set", "floor", 1.3),
    Aim("added_us_header_get_set", "envoy", None),
    Aim("added_us_body_read_4k", "envoy", None),
    Aim("added_us_body_rewrite_4k", "envoy", None),
    Aim("added_us_chain_of_five", "envoy", None),
]


@functools.cache
def library(folder):
    """The plugins of bench/gofilter_go."""
    path = pathlib.Path(folder) / "gofilter.so"
    command = ["go", "build", "-buildmode=c-shared", "-o", path, "."]
    subprocess.run(command, cwd=ROOT / "bench" / "gofilter_go", check=True)
    return path


# ---- what is added ------------------------------------------------------------------------------


def cost(farm, server, post, **how):
    """CPU microseconds per request."""
    # The origin may answer before it has read a body; then the proxy closes the client's connection.
    options = {"post": post, "forgiven": ("broken",)} if post else {}
    with http_asker(farm, server, **options, **how) as asker:
        before = cpu_clock(server.pid)
        said = asker.go()
        return (cpu_clock(server.pid) - before) * 1e6 / said["requests"]


def added(lineup, names, floor, options):
    """{case: {server: [microseconds of a round]}}."""
    taken = {name: {} for name in names}
    ms = round(options.seconds * 1000)
    for ports in lineup.servers.values():  # fills pools and caches
        for name in names:
            if name in ports:
                cost(lineup.farm, ports[name], CASES[name].post, requests=WARM_UP_REQUESTS, ms=ms)

    def turn(who):
        ports = lineup.servers[who]
        plain = {}
        for name in names:
            if name not in ports:
                continue
            post = CASES[name].post
            if post not in plain:
                plain[post] = cost(lineup.farm, ports["none"], post, ms=ms)
            with_filter = cost(lineup.farm, ports[name], post, ms=ms)
            taken[name].setdefault(who, []).append(with_filter - plain[post])

    parties = [functools.partial(turn, who) for who in lineup.servers]
    if floor:
        parties.append(floor.turn)
    take_turns(options.rounds, parties, "added")
    if floor and FLOOR in names:
        taken[FLOOR]["floor"] = [ns / 1e3 for ns in floor.cpu]
    return taken


# ---- others, while a filter blocks --------------------------------------------------------------


class Sleepers:
    """Requests to the filter that sleeps, one more than there are workers at any time, until told."""

    def __init__(self, port, workers):
        self.port, self.over = port, threading.Event()
        self.threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(workers + 1)]

    def _ask(self):
        url = f"http://127.0.0.1:{self.port}/"
        while not self.over.is_set():
            subprocess.run(["curl", "-s", "-o", os.devnull, "-m", "10", url], check=True)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        for thread in self.threads:
            thread.join()


def blocked(lineup, options):
    """p99.9 of others with sleepers over that without, in the same round."""
    server, sleeping = (lineup.servers["sluice"][name] for name in ("none", "block"))
    ms = round(options.seconds * 3000)
    with http_asker(lineup.farm, server, ms=ms) as asker:
        said = asker.go()
    rate = max(1, round(BLOCKED_SHARE * said["requests"] / said["seconds"]))

    def p999():
        with http_asker(lineup.farm, server, ms=ms, rate=rate) as asker:
            return asker.go()["p999_us"]

    quiet, disturbed = [], []
    for _ in range(min(options.rounds, BLOCKED_ROUNDS)):
        quiet.append(p999())
        with Sleepers(sleeping.port, lineup.farm.workers):
            disturbed.append(p999())
    rows = {"quiet": quiet, "blocked": disturbed}
    return case("p999_us_of_others", "us", True, rows, float)


# ---- the run ------------------------------------------------------------------------------------


def parse():
    cases = [*CASES, "start", "blocked"]
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="./dev bench gofilter [options]",
    )
    parser.add_argument("--case", nargs="*", metavar="CASE", help=f"only these: {' '.join(cases)}")
    parser.add_argument("--only", nargs="*", metavar="SERVER", help=f"only these: {' '.join(NAMES)}")
    parser.add_argument("--rounds", type=int, help=f"{ROUNDS}; blocked at most {BLOCKED_ROUNDS}")
    parser.add_argument("--seconds", type=float, help=f"{SECONDS}, of each listener's turn")
    parser.add_argument("--quick", action="store_true", help="one short round: shows that it runs")
    parser.add_argument("--output", type=pathlib.Path, default=OUTPUT)
    options = parser.parse_args()
    options.rounds = options.rounds or (1 if options.quick else ROUNDS)
    options.seconds = options.seconds or (QUICK_S if options.quick else SECONDS)
    options.case = chosen("gofilter", options.case, cases)
    options.only = chosen("gofilter", options.only, NAMES, "server")
    return options


class Floor:
    """go_floor, turn by turn."""

    def __init__(self, path, quick):
        count = FLOOR_QUICK if quick else FLOOR_COUNT
        self.command = [compiled("go_floor.c", "-rdynamic", "-ldl"), path, "headers", count]
        self.cpu = []

    def turn(self):
        _, cpu, requests = run(self.command)
        self.cpu.append(cpu / requests)


def main():
    options = parse()
    if not shutil.which("go"):
        sys.exit("gofilter: go is not installed; ./dev bench gofilter installs it")
    results = []
    with tempfile.TemporaryDirectory(prefix="sluice-gofilter-") as folder, Farm() as farm:
        lineup = Lineup(farm, library(folder), [name for name in options.only if name != "floor"])
        names = [name for name in options.case if name in CASES]
        if names:
            floor = Floor(library(folder), options.quick) if "floor" in options.only else None
            taken = added(lineup, names, floor, options)
            results += [case(f"added_us_{name}", "us/request", True, rows, float) for name, rows in taken.items()]
        if "start" in options.case:
            turns = 1 if options.quick else STARTS
            taken = start_ms(SLUICE, library(folder), plugin="headers", turns=turns)
            rows = {f"{count} libraries": times for count, times in taken.items()}
            results.append(case("start_ms", "ms", True, rows, float))
        if "blocked" in options.case and "sluice" in lineup.servers:
            results.append(blocked(lineup, options))
    report = {"bench": "gofilter", "rounds": options.rounds, "seconds": options.seconds, "results": results}
    report["ratios"] = _report.ratios(results, ["sluice"], AIMS)
    for row in results:  # those that are not of servers stand by themselves
        if row["case"] in ("start_ms", "p999_us_of_others"):
            _report.print_results([row], list(row["values"]))
    rest = [row for row in results if row["case"].startswith("added_")]
    if rest:
        _report.print_results(rest, [name for name in NAMES if name in options.only])
    report["ratios"] += _report.ratios(results, ["blocked"], [Aim("p999_us_of_others", "quiet", 1.2)])
    _report.print_ratios(report["ratios"])
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report, indent=2) + "\n")
    print(f"\nwritten: {os.path.relpath(options.output)}")


if __name__ == "__main__":
    main()
