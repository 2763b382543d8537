"""What a filter adds to a request: Go filters in Sluice, Lua and a dynamic module in Envoy, Lua in nginx.

    ./dev bench gofilter [--case CASE ...] [--only SERVER ...] [--rounds N] [--quick]

Each server has a listener without a filter and one for each case, and stays up; rounds go from one to
the next. What is added is the CPU time per request of a case less that of the same requests without a filter,
of the same round; which of a server's listeners is first moves on. The origin sees whether each request came as
the filter was to make it, body and all (bench/native/filter_origin.c). The floors are the SDK's and Go's own work: a
program that calls the same Go library as a proxy has to, and does nothing else (bench/native/go_floor.c). floor_body
has a body in the response, as all requests here have, and so two calls more; floor_64k also that of a request, in two
pieces. floor_hop_N decides in a goroutine, with N requests under way: what a request pays for switches of threads
depends on how many of them one wake-up serves. envoy_module is a library in C (bench/native/envoy_module.c): what an
SDK for dynamic modules adds to that is not in it.

  header_get_set      gets a request header and sets one
  body_read_4k        has a body of 4 KiB in its hands, whole
  body_rewrite_4k     puts another one in its place
  async_hop           gets and sets a header in a goroutine, which then continues the request
  chain_of_five       five filters of the first kind
  body_untouched_64k  the first kind, while a body of 64 KiB passes it: no more than the first
  start               from exec to ready, with so many Go libraries, each tried in a process of its own first
  blocked             how late others' requests are (p99.9) while a filter sleeps for a second in every worker, over
                      the same without (bench/_gofilter_blocked.py)

Beside the times: how often threads lose their core; and what Sluice counts of a case, per request: calls of Go, calls
by Go, bytes copied between them.
"""

import functools
import pathlib
import subprocess
import tempfile

import _report
from _gofilter_blocked import blocked
from _gofilter_counts import COUNTERS, per_request
from _gofilter_servers import CASES, KIB, Lineup
from _gofilter_start import start_ms
from _load import case, http_asker
from _options import Options, need_tools
from _servers import ROOT, SLUICE, SMALL_BYTES, Farm, compiled, cpu_clock, switches
from _turns import chosen, run, take_turns

ROUNDS, SECONDS, QUICK_S = 15, 1.0, 0.1
WARM_UP_REQUESTS = 2000
# Of a case: what go_floor is told of bodies and of requests under way.
FLOORS = {
    "floor": ("header_get_set", []),
    "floor_body": ("header_get_set", [SMALL_BYTES]),
    "floor_64k": ("body_untouched_64k", [SMALL_BYTES, 2]),
    "floor_hop_1": ("async_hop", [SMALL_BYTES, 0, 1]),
    "floor_hop_8": ("async_hop", [SMALL_BYTES, 0, 8]),
    "floor_hop_64": ("async_hop", [SMALL_BYTES, 0, 64]),
}
FLOOR_COUNT, FLOOR_QUICK = 100_000, 2000
NAMES = ("sluice", "envoy", "envoy_module", "nginx", *FLOORS)
STARTS = 9
Aim, Limit = _report.Aim, _report.Limit
PEERS = ("envoy", "envoy_module", "nginx")
AIMS = [Aim(f"added_us_{name}", floor, 1.3 if floor == "floor" else None) for floor, (name, _) in FLOORS.items()]
AIMS += [Aim(f"added_us_{name}", peer, None) for name in CASES for peer in PEERS]
# Of one case to another: a round of both is of the same turn.
OWN_AIMS = {"chain_of_five": 5.0, "body_untouched_64k": 1.1}
LIMITS = [Limit("added_us_async_hop", "sluice", 8.0), Limit("start_ms", "1 libraries", 370.0)]
DRAWN = {
    "added_us_header_get_set": "a header got, one set",
    "added_us_body_read_4k": "a body of 4 KiB read",
    "added_us_body_rewrite_4k": "a body of 4 KiB rewritten",
    "added_us_async_hop": "a header got and set elsewhere",
    "added_us_chain_of_five": "five filters that get and set",
    "added_us_body_untouched_64k": "a header got and set beside a body of 64 KiB",
    "start_ms": "from exec to ready",
    "p999_us_of_others": "p99.9 while a filter blocks",
}


@functools.cache
def library(folder):
    """The plugins of bench/gofilter_go."""
    path = pathlib.Path(folder) / "gofilter.so"
    command = ["go", "build", "-buildmode=c-shared", "-o", path, "."]
    subprocess.run(command, cwd=ROOT / "bench" / "gofilter_go", check=True)
    return path


# ---- what is added ------------------------------------------------------------------------------


def cost(farm, server, path, post, **how):
    """Per request: CPU microseconds, and switches of threads. And how busy the server was: of one worker, 1 is all."""
    with http_asker(farm, server, path, post=post, **how) as asker:
        switched, before = switches(server.pid), cpu_clock(server.pid)
        said = asker.go()
        took = cpu_clock(server.pid) - before
        switched = switches(server.pid) - switched
        return took * 1e6 / said["requests"], switched / said["requests"], took / said["seconds"]


def size(post):
    return f"{post // KIB}k" if post else "nothing"


def added(lineup, names, floors, options):
    """Results: what requests cost without a filter, and what each case adds; switches of threads; and how busy the
    servers were."""
    posts = sorted({CASES[name].post for name in names})
    # A run is (listener, path, post).
    plain = {post: ("none", "/", post) for post in posts}
    filtered = {name: (name, CASES[name].path, CASES[name].post) for name in names}
    costs = {}
    for who, ports in lineup.servers.items():
        costs[who] = {one: [] for one in [*plain.values(), *filtered.values()] if one[0] in ports}
        for listener, path, post in [] if options.quick else costs[who]:  # fills pools and caches
            cost(lineup.farm, ports[listener], path, post, requests=WARM_UP_REQUESTS)

    def turn(who):
        runs = list(costs[who])
        at = len(costs[who][runs[0]]) % len(runs)
        for one in runs[at:] + runs[:at]:
            listener, path, post = one
            server = lineup.servers[who][listener]
            costs[who][one].append(cost(lineup.farm, server, path, post, ms=round(options.seconds * 1000)))

    parties = [functools.partial(turn, who) for who in lineup.servers]
    parties += [floor.turn for floor in floors.values()]
    take_turns(options.rounds, parties, "added")

    def figures(one, place):
        """{who: of each round} of what `cost` says."""
        return {who: [said[place] for said in taken[one]] for who, taken in costs.items() if one in taken}

    found, switched, busy = [], [], []

    def tell(what, one, rows, of_floors):
        found.append(case(what, "us/request", True, rows, float))
        switched.append(case(f"switches_{what}", "per request", True, figures(one, 1) | of_floors, float))
        busy.append(case(f"busy_{what}", "of a worker", False, figures(one, 2), float))

    for post in posts:
        tell(f"without_us_{size(post)}", plain[post], figures(plain[post], 0), {})
    for name in names:
        without = figures(plain[CASES[name].post], 0)
        rows = {
            who: [a - b for a, b in zip(rounds, without[who], strict=True)]
            for who, rounds in figures(filtered[name], 0).items()
        }
        its = {who: floor for who, floor in floors.items() if floor.case == name}
        rows |= {who: [ns / 1e3 for ns in floor.cpu] for who, floor in its.items()}
        tell(f"added_us_{name}", filtered[name], rows, {who: floor.switches for who, floor in its.items()})
    return found, [*switched, *busy]


def counted(lineup, names):
    """Results: what of a case does not depend on the machine."""
    found = []
    for name in names:
        rows = {row: [number] for row, number in per_request(lineup, name).items()}
        found.append(case(f"per_request_{name}", "times or bytes", True, rows, float))
    return found


def own(results):
    """Sluice's cases as a result of their own, so that one can be compared with another."""
    rows = {
        result["case"].removeprefix("added_us_"): result["rounds"]["sluice"]
        for result in results
        if result["case"].startswith("added_us_") and "sluice" in result["rounds"]
    }
    return case("sluice_added_us", "us/request", True, rows, float)


# ---- the run ------------------------------------------------------------------------------------


def parse():
    cases = [*CASES, "start", "blocked"]
    parser = Options("gofilter", __doc__, cases, ROUNDS, SECONDS, quick_s=QUICK_S, notes=("; of blocked at most 9", ""))
    parser.add_argument("--only", nargs="*", metavar="SERVER", help=f"only these: {' '.join(NAMES)}")
    options = parser.parse()
    options.only = chosen("gofilter", options.only, NAMES, "server")
    return options


class Floor:
    """go_floor, turn by turn, on the core of what is measured, with as many Ps for Go as the proxy tells it."""

    def __init__(self, path, cores, quick, case, options):
        count = FLOOR_QUICK if quick else FLOOR_COUNT
        self.cores, self.case = cores, case
        program = compiled("go_floor.c", "-rdynamic", "-ldl")
        self.command = [program, path, CASES[case].plugin, count, *options]
        self.env = {"GOMAXPROCS": str(len(cores) + 1)}
        self.cpu, self.switches = [], []

    def turn(self):
        _, cpu, requests, switched = run(self.command, self.env, self.cores)
        self.cpu.append(cpu / requests)
        self.switches.append(switched / requests)


def main():
    options = parse()
    need_tools("gofilter", "go")
    results, beside, counts, others = [], [], [], []
    with tempfile.TemporaryDirectory(prefix="sluice-gofilter-") as folder, Farm() as farm:
        lineup = Lineup(farm, library(folder), [name for name in options.only if name not in FLOORS])
        names = [name for name in options.case if name in CASES]
        if names:
            floors = {
                name: Floor(library(folder), farm.measured, options.quick, of, told)
                for name, (of, told) in FLOORS.items()
                if name in options.only and of in names
            }
            results, beside = added(lineup, names, floors, options)
        if "sluice" in lineup.servers:
            counts = counted(lineup, names)
        if "start" in options.case:
            turns = 1 if options.quick else STARTS
            taken = start_ms(SLUICE, library(folder), plugin="headers", turns=turns)
            rows = {f"{count} libraries": times for count, times in taken.items()}
            others.append(case("start_ms", "ms", True, rows, float))
        if "blocked" in options.case and "sluice" in lineup.servers:
            others += blocked(lineup, options)
    publish(options, results, beside, counts, others)


def publish(options, results, beside, counts, others):
    everything = [*results, *beside, *counts, *others]
    ratios = _report.ratios(results, ["sluice"], AIMS)
    for name, limit in OWN_AIMS.items():
        ratios += _report.ratios([own(results)], [name], [Aim("sluice_added_us", "header_get_set", limit)])
    ratios += _report.ratios(others, ["blocked"], [Aim("p999_us_of_others", "quiet", 1.2)])
    ratios += _report.ratios(others, ["blocked direct"], [Aim("p999_us_of_others", "quiet direct", None)])
    limits = _report.limits(everything, LIMITS)
    report = {
        "bench": "gofilter",
        "rounds": options.rounds,
        "seconds": options.seconds,
        "results": everything,
        "ratios": ratios,
        "limits": limits,
    }
    if results:
        _report.print_results([*results, *beside], [name for name in NAMES if name in options.only])
    if counts:
        _report.print_results(counts, list(COUNTERS))
    for columns in dict.fromkeys(tuple(result["values"]) for result in others):  # those of the same columns together
        _report.print_results([result for result in others if tuple(result["values"]) == columns], columns)
    _report.print_ratios(ratios)
    _report.print_limits(limits)
    _report.write(options.output, report, draw(everything))


def draw(results):
    names = [*NAMES, "0 libraries", "1 libraries", "5 libraries", "quiet", "blocked"]
    return _report.draw("What a filter adds to a request: CPU of the proxy", DRAWN, results, names, ["sluice"])


if __name__ == "__main__":
    main()
