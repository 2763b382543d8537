"""HTTP/1.1 through Sluice, nginx, HAProxy and Envoy, beside a bare forwarder.

    ./dev bench http1 [--case CASE ...] [--only SERVER ...] [--also NAME=BINARY ...] [--rounds N] [--quick]

All servers of a case stay up; rounds go from one to the next, so that what else the machine does meanwhile
hits all of them alike. The proxy has a core to itself, and what asks (bench/native/load.c) and the
origin the others. CPU time is that of the proxy's processes, user and system, divided by the requests
of the same interval. `bare` copies bytes and does nothing else: what a proxy on sockets and epoll
cannot go below (bench/native/bare.c).

  small      128 B answers over 64 connections, as fast as they come
  small512   the same over 512
  two        both again with two workers, which share the last two cores, on two cores with the rest
  latency    at a fixed rate, 70 % of what nginx can do: how long after it was due a request is answered
  large      1 MiB answers over 16 connections
  idle       memory of each of 10,000 connections that did a request and stay open
  calls      system calls and allocator calls per request
"""

import functools
import sys

import _report
from _http1_calls import allocations, trace
from _http1_idle import idle_round
from _http1_report import AIMS, DRAWN
from _load import http_asker, case, cpu_ms_per_gb, cpu_us, interleave, median, proxy_busy, rps, user_us
from _servers import CONNECTIONS, SLUICE, Farm, envoy_binary, files_allowed, program_argument
from _options import Options, need_tools
from _turns import chosen, end_progress, take_turns

MANY = 512
LARGE_CONNECTIONS = 16  # bounds what the proxies buffer
IDLE, IDLE_QUICK, IDLE_ROUNDS = 10_000, 500, 3
STEADY_S, STEADY_QUICK_S = 1.0, 0.2
IDLE_FILES = 1000  # descriptors that a server or the driver needs beside its idle connections
SHARE = 0.7  # of nginx's maximum
CALIBRATION_ROUNDS = 3
COUNTED_REQUESTS, COUNTED_QUICK = 5000, 500
# Many short turns: the machine changes under a benchmark, and a median forgives what is rare.
ROUNDS, SECONDS, QUICK_S = 15, 1, 0.2
# Allocator calls are seen where the program takes its allocator from a library. Envoy brings its own, and
# bare allocates for connections only.
COUNTED = ("nginx", "haproxy")


class Lineup:
    """Who takes part. `makers` has, by name, what starts a server in a farm."""

    def __init__(self, options):
        self.binaries = {"sluice": SLUICE, **dict(options.also)}
        self.names = [*self.binaries, "nginx", "haproxy", "envoy", "bare"]
        if not envoy_binary():
            self.names.remove("envoy")
        if options.only:
            self.names = chosen("http1", options.only, self.names, "server")
        self.ours = [name for name in self.names if name in self.binaries]

    def maker(self, farm, name):
        if name in self.binaries:
            return functools.partial(farm.sluice, name=name, binary=self.binaries[name])
        return getattr(farm, name)

    def start(self, farm):
        """The servers, all before the same origin."""
        origin = farm.origin()
        return [self.maker(farm, name)(origin) for name in self.names]


def saturation(farm, servers, prefix, connections, rounds, seconds):
    """As fast as they come: what a request costs, and how many there are."""
    samples = interleave(farm, servers, rounds, prefix, connections=connections, seconds=seconds)
    lines = [
        case(f"h1_{prefix}_cpu_us", "us/request", True, samples, cpu_us),
        case(f"h1_{prefix}_user_us", "us/request", True, samples, user_us),
        case(f"h1_{prefix}_rps", "requests/s", False, samples, rps, 0),
        case(f"h1_{prefix}_proxy_busy", "cores", False, samples, proxy_busy, 2),
        case(f"h1_{prefix}_driver_busy", "cores", False, samples, lambda s: s["driver_busy"], 2),
    ]
    return lines, samples


def measure_two(lineup, options, found, _):
    found["two"] = lines = []
    rounds = (options.rounds + 1) // 2
    with Farm(workers=2) as farm:
        if set(farm.measured) & set(farm.drivers):
            print("two: proxy, driver and origin share these cores; requests/s are what they do together")
        servers = lineup.start(farm)
        for prefix, connections in (("two", CONNECTIONS), ("two512", MANY)):
            lines += saturation(farm, servers, prefix, connections, rounds, options.seconds)[0]


def nginx_maximum(farm, servers, options):
    """Requests per second through nginx, as small measures it."""
    nginx = [server for server in servers if server.name == "nginx"] or [farm.nginx(farm.origin())]
    rounds = min(options.rounds, CALIBRATION_ROUNDS)
    samples = interleave(farm, nginx, rounds, "nginx's maximum", connections=CONNECTIONS, seconds=options.seconds)
    return median(samples["nginx"], rps)


def latency(farm, servers, options, report, maximum):
    rate = report["latency_rate"] = options.rate or int(SHARE * maximum)
    seconds = options.seconds * 2
    samples = interleave(
        farm, servers, options.rounds, f"latency at {rate}/s", connections=CONNECTIONS, rate=rate, seconds=seconds
    )
    lines = [
        case(f"h1_{name}_us", "us", True, samples, lambda s, field=f"{name}_us": s[field], 1)
        for name in ("p50", "p99", "p999")
    ]
    lines.append(case("h1_70_cpu_us", "us/request", True, samples, cpu_us))
    lines.append(case("h1_driver_late_p99_us", "us", True, samples, lambda s: s["late_p99_us"], 1))
    lines.append(case("h1_latency_rps", "requests/s", False, samples, rps, 0))
    return lines


def large(farm, servers, options):
    samples = interleave(
        farm,
        servers,
        (options.rounds + 1) // 2,
        "large",
        path="/large",
        connections=LARGE_CONNECTIONS,
        seconds=options.seconds,
    )
    return [
        case("h1_1mb_cpu_ms_per_gb", "ms/GB", True, samples, cpu_ms_per_gb, 1),
        case("h1_1mb_rps", "requests/s", False, samples, rps, 0),
    ]


def count_calls(farm, lineup, servers, report, requests):
    traced = {
        server.name: trace(server, http_asker(farm, server, requests=requests), lambda said: said["requests"])
        for server in servers
    }
    lines = []
    if all(traced.values()):
        report["calls"] = traced
        totals = {who: [sum(counts.values())] for who, counts in traced.items()}
        lines.append(case("syscalls_per_request", "calls/request", True, totals, float, 2))
    else:
        print("  strace may not attach here: system calls are not counted")
    origin = farm.origin()
    counted = {
        name: [allocations(farm, origin, lineup.maker(farm, name), requests)]
        for name in lineup.names
        if name in COUNTED or name in lineup.ours
    }
    if counted:
        lines.append(case("allocations_per_request", "calls/request", True, counted, float, 4))
    return lines


def measure_one_worker(lineup, options, found, report):
    """The cases that share one set of servers."""
    maximum = None
    with Farm() as farm:
        servers = lineup.start(farm)
        if "small" in options.case:
            lines, samples = saturation(farm, servers, "small", CONNECTIONS, options.rounds, options.seconds)
            found["small"] = lines
            if "nginx" in samples:
                maximum = median(samples["nginx"], rps)
        if "small512" in options.case:
            found["small512"] = saturation(farm, servers, "small512", MANY, options.rounds, options.seconds)[0]
        if "latency" in options.case:
            if not options.rate and maximum is None:
                maximum = nginx_maximum(farm, servers, options)
            found["latency"] = latency(farm, servers, options, report, maximum)
        if "large" in options.case:
            found["large"] = large(farm, servers, options)
        if "calls" in options.case:
            requests = COUNTED_QUICK if options.quick else COUNTED_REQUESTS
            found["calls"] = count_calls(farm, lineup, servers, report, requests)


def measure_idle(lineup, options, found, _):
    connections, steady_s = (IDLE_QUICK, STEADY_QUICK_S) if options.quick else (IDLE, STEADY_S)
    allowed = files_allowed()
    if allowed < connections + IDLE_FILES:
        print(f"  only {allowed} descriptors are allowed (ulimit -Hn): idle connections are not measured")
        return
    # bare has an origin's connection for each client's: other memory than the others', and twice as many
    # descriptors.
    names = [name for name in lineup.names if name != "bare"]
    samples = {name: [] for name in names}

    def turn(name):
        samples[name].append(idle_round(lambda farm: lineup.maker(farm, name), connections, steady_s))

    take_turns(min(options.rounds, IDLE_ROUNDS), [lambda name=name: turn(name) for name in names], "idle")
    found["idle"] = [
        case("h1_idle_conn_bytes", "bytes", True, samples, lambda s: s["bytes"], 0),
        case("h1_idle_conn_whole_bytes", "bytes", True, samples, lambda s: s["whole"], 0),
        case("h1_idle_conn_table_bytes", "bytes", True, samples, lambda s: s["tables"], 0),
    ]


# What measures them, into {case: lines of the report}, and which of the cases on the command line it takes.
MEASURES = (
    (measure_one_worker, ("small", "small512", "latency", "large", "calls")),
    (measure_two, ("two",)),
    (measure_idle, ("idle",)),
)
CASES = ("small", "small512", "two", "latency", "large", "idle", "calls")


def parse():
    notes = ("; two and large take half as many, idle at most 3", "; latency takes twice as long")
    parser = Options("http1", __doc__, CASES, ROUNDS, SECONDS, quick_s=QUICK_S, notes=notes)
    parser.add_argument("--only", nargs="*", metavar="SERVER", help="only these: sluice nginx haproxy envoy bare")
    parser.add_argument(
        "--also", nargs="*", default=[], type=program_argument, metavar="NAME=BINARY", help="more Sluices"
    )
    parser.add_argument("--rate", type=int, default=0, help="of latency, instead of 70 %% of nginx's maximum")
    return parser.parse()


def main():
    options = parse()
    need_tools("http1", "nginx", "haproxy", "strace", "cc")
    lineup = Lineup(options)
    report = {"bench": "http1", "rounds": options.rounds, "seconds": options.seconds}
    found, failed = {}, []
    for measure, cases in MEASURES:
        if not set(cases) & set(options.case):
            continue
        try:
            measure(lineup, options, found, report)
        except RuntimeError as failure:  # what others took minutes to measure is told all the same
            failed.append(f"http1: {', '.join(cases)}: {failure}")
    report["results"] = [line for name in CASES for line in found.get(name, ())]
    if not report["results"]:
        sys.exit("\n".join(failed) or "http1: nothing could be measured")
    end_progress()
    report["ratios"] = _report.ratios(report["results"], lineup.ours, AIMS)

    _report.print_results(report["results"], lineup.names)
    _report.print_ratios(report["ratios"])
    if "calls" in report:
        _report.print_table("calls per request", report["calls"], least=0.005)
    chart = _report.draw("HTTP/1.1 through a proxy", DRAWN, report["results"], lineup.names, lineup.ours)
    _report.write(options.output, report, chart)
    if failed:
        sys.exit("\n".join(failed))


if __name__ == "__main__":
    main()
