"""What it costs to have a Go filter in a process of its own, beside the same in the proxy's.

    ./dev bench isolation [--case CASE ...] [--rounds N] [--quick]

Two Sluices, alike but for --isolate-extensions; rounds go from one to the other. CPU time is that of both processes.

  added_us_*    CPU that a filter adds to a request, as in ./dev bench gofilter
  latency       p50 of few requests at a time: what a filter adds
  floor         a record to another process and one back, through the rings that hosts have, and nothing else: woken
                for each, and for 64 at a time (bench/native/rings.c); CPU of both, on the core of what is measured
  throughput    requests per second of a closed loop with the filter, of the proxy's one worker and the host beside it
  swap          from the rename of a library's file to the first answer of the new code, under load; what fails
  crash         the host is killed again and again under load: requests that failed, and how long it takes until one is
                served by the next process
  counts        messages to the host and back, switches of threads, and how often the host rings the proxy, per
                request, in a closed loop and of few requests at a time (bench/_isolation_counts.py)
"""

import functools
import http.client
import os
import pathlib
import signal
import statistics
import tempfile
import threading
import time

import _report
from _gofilter_servers import CASES, Lineup
from _isolation_counts import counts
from _isolation_swap import swaps
from _load import case, http_asker
from _options import Options, need_tools
from _servers import Farm, built, process_tree
from _turns import run, take_turns
from gofilter import added, library

WHO = ("sluice", "isolated")
OTHERS = ("latency", "floor", "throughput", "swap", "crash", "counts")
ROUNDS, SECONDS, QUICK_S = 15, 1.0, 0.1
FILTER = "header_get_set"
LOW_RATE = 300  # requests per second
CRASHES, CRASHES_QUICK = 100, 2
SWAPS, SWAPS_QUICK = 100, 2
FLOORS = {"woken for each": 1, "woken for 64": 64}
FLOOR_BYTES = 400  # what a request's headers take
FLOOR_COUNT, FLOOR_QUICK = 1 << 15, 1 << 8
BETWEEN_CRASHES_S = 0.25
LIMITS = [
    _report.Limit("added_us_header_get_set", "isolated", 8.0),
    _report.Limit("latency_added_us", "isolated", 30.0),
    _report.Limit("back_ms", "isolated", 150.0),
    _report.Limit("swap_ms", "isolated", 200.0),
]
AIMS = [_report.Aim("rps", "sluice", 0.75)]


def latencies(lineup, options):
    """p50 with the filter less that without, of each round."""
    found = {who: [] for who in WHO}

    def p50(server, path):
        how = {"path": path, "rate": LOW_RATE, "ms": round(options.seconds * 1000), "connections": 4}
        with http_asker(lineup.farm, server, **how) as asker:
            return asker.go()["p50_us"]

    def turn(who):
        ports = lineup.servers[who]
        found[who].append(p50(ports[FILTER], CASES[FILTER].path) - p50(ports["none"], "/"))

    take_turns(options.rounds, [functools.partial(turn, who) for who in WHO], "latency")
    return case("latency_added_us", "us", True, found, float)


def floors(lineup, options):
    found = {name: [] for name in FLOORS}
    count = FLOOR_QUICK if options.quick else FLOOR_COUNT

    def turn(name, batch):
        _, cpu_ns, trips = run([built("bench_rings"), count, batch, FLOOR_BYTES], cores=lineup.farm.measured)
        found[name].append(cpu_ns / trips / 1000)

    take_turns(options.rounds, [functools.partial(turn, *floor) for floor in FLOORS.items()], "floor")
    return case("floor_us", "us/round trip", True, found, float)


def throughput(lineup, options):
    found = {who: [] for who in WHO}

    def turn(who):
        server = lineup.servers[who][FILTER]
        with http_asker(lineup.farm, server, path=CASES[FILTER].path, ms=round(options.seconds * 1000)) as asker:
            said = asker.go()
        found[who].append(said["requests"] / said["seconds"])

    take_turns(options.rounds, [functools.partial(turn, who) for who in WHO], "throughput")
    return case("rps", "requests/s", False, found, float)


class Client(threading.Thread):
    """Asks one thing after the other, until it is told to stop: [(status or 0, began, ended)]."""

    def __init__(self, port, path):
        super().__init__(daemon=True)
        self.port, self.path = port, path
        self.over = threading.Event()
        self.answers = []

    def run(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        while not self.over.is_set():
            began, status = time.monotonic(), 0
            try:
                connection.request("GET", self.path)
                answer = connection.getresponse()
                answer.read()
                status = answer.status
            except (OSError, http.client.HTTPException):
                connection.close()
            self.answers.append((status, began, time.monotonic()))


def serving_host(proxy):
    """The host that serves: the one with the threads of a library, not the one that is kept ready."""
    hosts = [pid for pid in process_tree(proxy) if pid != proxy]
    return max(hosts, key=lambda pid: len(list(pathlib.Path(f"/proc/{pid}/task").iterdir())), default=None)


def crashes(lineup, options, clients=8):
    """Kills the host under load. What fails is at most what was in flight, one request for each client; the others go
    on."""
    server, plain = lineup.servers["isolated"][FILTER], lineup.servers["isolated"]["none"]
    held = [Client(server.port, CASES[FILTER].path) for _ in range(clients)]
    others = [Client(plain.port, "/") for _ in range(2)]
    for client in (*held, *others):
        client.start()
    killed = []
    for _ in range(CRASHES_QUICK if options.quick else CRASHES):
        time.sleep(BETWEEN_CRASHES_S)
        while (pid := serving_host(server.pid)) is None:
            time.sleep(0.001)
        killed.append(time.monotonic())
        os.kill(pid, signal.SIGKILL)
    time.sleep(2)
    for client in (*held, *others):
        client.over.set()
        client.join()
    back = []
    for moment in killed:
        after = [ended for c in held for status, began, ended in c.answers if status == 200 and began > moment]
        back.append((min(after) - moment) * 1000)
    failed = sum(status != 200 for client in held for status, *_ in client.answers)
    wrong = sum(status != 200 for client in others for status, *_ in client.answers)
    print(
        f"{len(killed)} crashes: {failed} requests failed of {sum(len(c.answers) for c in held)}, at most {clients} "
        f"held at each; {wrong} of {sum(len(c.answers) for c in others)} without the filter; back in service after "
        f"{statistics.median(back):.1f} ms"
    )
    return [
        case("back_ms", "ms", True, {"isolated": back}, float),
        case("failed_per_crash", "requests", True, {"isolated": [failed / len(killed)]}, float),
        case("failed_without_the_filter", "requests", True, {"isolated": [wrong]}, float),
    ]


def parse():
    cases = [*CASES, *OTHERS]
    return Options("isolation", __doc__, cases, ROUNDS, SECONDS, quick_s=QUICK_S).parse()


def main():
    options = parse()
    need_tools("isolation", "go")
    results, busy, others, bare = [], [], [], []
    with tempfile.TemporaryDirectory(prefix="sluice-isolation-") as folder, Farm() as farm:
        lineup = Lineup(farm, library(folder), WHO)
        names = [name for name in options.case if name in CASES]
        if names:
            results, busy = added(lineup, names, {}, options)
        if "latency" in options.case:
            others.append(latencies(lineup, options))
        if "floor" in options.case:
            bare.append(floors(lineup, options))
        if "throughput" in options.case:
            others.append(throughput(lineup, options))
        if "swap" in options.case:
            took, failed, asked = swaps(farm, lineup.origin, SWAPS_QUICK if options.quick else SWAPS)
            print(f"{len(took)} swaps: {failed} of {asked} requests failed")
            others.append(case("swap_ms", "ms", True, {"isolated": took}, float))
            others.append(case("failed_over_swaps", "requests", True, {"isolated": [failed]}, float))
        if "crash" in options.case:
            others += crashes(lineup, options)
        if "counts" in options.case:
            others += counts(lineup, options, serving_host, LOW_RATE)
    everything = [*results, *busy, *others]
    ratios = _report.ratios(others, ["isolated"], AIMS)
    limits = _report.limits(everything, LIMITS)
    for rows, columns in ((everything, WHO), (bare, FLOORS)):
        if rows:
            _report.print_results(rows, list(columns))
    _report.print_ratios(ratios)
    _report.print_limits(limits)
    everything += bare
    report = {"bench": "isolation", "rounds": options.rounds, "results": everything, "ratios": ratios, "limits": limits}
    _report.write(options.output, report)


if __name__ == "__main__":
    main()
