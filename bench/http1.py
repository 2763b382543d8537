"""HTTP/1.1 through one worker of Sluice, nginx, HAProxy and Envoy, beside a bare forwarder.

    ./dev bench http1 [--quick] [--rounds N] [--seconds S]

All servers stay up; rounds go from one to the next, so that what else the machine does meanwhile
hits all of them alike. The proxy has a core to itself, and wrk and the origin the others. CPU time
is that of the proxy's processes, user and system, divided by the requests that wrk counted in the
same interval. `bare` copies bytes and does nothing else: what a
proxy on sockets and epoll cannot go below (bench/native/bare.c).
"""

import argparse
import json
import os
import re
import shutil
import signal
import statistics
import struct
import subprocess
import sys
import time

from _servers import (
    CONNECTIONS,
    LARGE_BYTES,
    ROOT,
    Farm,
    cpu_seconds,
    driver_cores,
    envoy_binary,
    process_tree,
    settle,
)

OUTPUT = ROOT / "build" / "bench" / "http1.json"
LARGE_CONNECTIONS = 16  # bounds what the proxies buffer
TRACED = ("sluice", "nginx", "haproxy", "bare")
COUNTED = ("sluice", "nginx", "haproxy")  # Envoy brings an allocator of its own


def wrk(url, seconds, connections):
    """Returns how many requests were answered."""
    run = subprocess.run(
        ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", url],
        capture_output=True,
        text=True,
        check=True,
        timeout=seconds + 60,
        preexec_fn=lambda: settle(driver_cores()),
    )
    bad = re.search(r"Non-2xx.*", run.stdout)
    if bad:
        raise RuntimeError(f"{url}: {bad.group(0)}")
    return int(re.search(r"(\d+) requests in", run.stdout).group(1))


def one_round(server, path, seconds, connections, tries=3):
    """A turn in which nothing was answered, as happens on a busy machine, is taken again."""
    user, system = cpu_seconds(server.pid)
    began = time.monotonic()
    requests = wrk(server.url(path), seconds, connections)
    elapsed = time.monotonic() - began
    user_after, system_after = cpu_seconds(server.pid)
    if requests == 0:
        if tries == 1:
            raise RuntimeError(f"{server.name} answers no request for {path}")
        return one_round(server, path, seconds, connections, tries - 1)
    return {
        "requests": requests,
        "rps": requests / elapsed,
        "user": user_after - user,
        "system": system_after - system,
    }


def interleave(servers, path, seconds, rounds, connections):
    """{name: [round]}; the order turns by one each round, so nobody is always first."""
    samples = {server.name: [] for server in servers}
    for server in servers:  # fills pools and caches
        wrk(server.url(path), 1, connections)
    for number in range(rounds):
        turn = number % len(servers)
        for server in servers[turn:] + servers[:turn]:
            samples[server.name].append(one_round(server, path, seconds, connections))
        print(f"\r  round {number + 1}/{rounds}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return samples


def summary(values, digits=3):
    return {
        "median": round(statistics.median(values), digits),
        "min": round(min(values), digits),
        "max": round(max(values), digits),
    }


def case(name, unit, lower_is_better, samples, value, digits=3):
    values = {who: summary([value(s) for s in rounds], digits) for who, rounds in samples.items()}
    return {"case": name, "unit": unit, "lower_is_better": lower_is_better, "values": values}


def cpu_us(sample):
    return (sample["user"] + sample["system"]) * 1e6 / sample["requests"]


def cpu_ms_per_gb(sample):
    return (sample["user"] + sample["system"]) * 1e3 / (sample["requests"] * LARGE_BYTES / 1e9)


# ---- system calls ---------------------------------------------------------------------------


def trace(server, seconds):
    """{system call: calls per request} of a server under load; None where tracing is forbidden."""
    pids = [argument for pid in process_tree(server.pid) for argument in ("-p", str(pid))]
    tracer = subprocess.Popen(
        ["strace", "-c", "-f", "-q", *pids], stderr=subprocess.PIPE, text=True
    )
    time.sleep(0.3)  # it attaches; what it misses of the beginning is a few requests
    if tracer.poll() is not None:
        tracer.communicate()
        return None
    requests = wrk(server.url(), seconds, CONNECTIONS)
    tracer.send_signal(signal.SIGINT)
    table = tracer.communicate(timeout=30)[1]
    calls = {}
    for line in table.splitlines():
        fields = line.split()
        if len(fields) >= 5 and re.fullmatch(r"[\d.]+", fields[0]) and fields[-1] != "total":
            calls[fields[-1]] = int(fields[3]) / requests
    return calls


def trace_all(servers, seconds):
    per_server = {}
    for server in servers:
        if server.name in TRACED:
            calls = trace(server, seconds)
            if calls is None:
                print("  strace may not attach here: system calls are not counted")
                return {}
            per_server[server.name] = calls
    return per_server


# ---- allocations ----------------------------------------------------------------------------


def allocations(farm, origin, seconds, names):
    """{name: allocator calls per request}, by servers of their own with a counting allocator."""
    shim = farm.compile("count_malloc.c", "-shared", "-fPIC")
    counts = {}
    for name in names:
        counter = farm.dir / f"{name}.allocations"
        counter.write_bytes(bytes(8))
        env = {"LD_PRELOAD": shim, "ALLOCATION_COUNTER": str(counter)}
        server = getattr(farm, name)(origin, env=env)
        wrk(server.url(), 1, CONNECTIONS)  # pools fill
        before = struct.unpack("Q", counter.read_bytes())[0]
        requests = wrk(server.url(), seconds, CONNECTIONS)
        after = struct.unpack("Q", counter.read_bytes())[0]
        counts[name] = (after - before) / requests
        farm.stop(server)
    return counts


# ---- the report -----------------------------------------------------------------------------


def single(name, unit, values, digits):
    spread = {who: summary([value], digits) for who, value in values.items()}
    return {"case": name, "unit": unit, "lower_is_better": True, "values": spread}


def print_results(results, order):
    width = max(len(result["case"]) for result in results) + 2
    print(f"\n{'median (min .. max)':{width}}" + "".join(f"{who:>26}" for who in order))
    for result in results:
        cells = []
        for who in order:
            value = result["values"].get(who)
            if not value:
                cells.append("-")
            elif value["min"] == value["max"]:
                cells.append(f"{value['median']:g}")
            else:
                cells.append(f"{value['median']:g} ({value['min']:g} .. {value['max']:g})")
        print(f"{result['case']:{width}}" + "".join(f"{cell:>26}" for cell in cells))


def print_split(samples):
    print(f"\n{'CPU of a small request':24}{'user us':>10}{'system us':>11}{'user %':>8}")
    for who, rounds in samples.items():
        user = statistics.median(s["user"] * 1e6 / s["requests"] for s in rounds)
        system = statistics.median(s["system"] * 1e6 / s["requests"] for s in rounds)
        share = 100 * user / (user + system) if user + system else 0
        print(f"{who:24}{user:10.2f}{system:11.2f}{share:8.0f}")


def print_calls(per_server):
    names = sorted({name for calls in per_server.values() for name in calls})
    print(f"\n{'calls per request':24}" + "".join(f"{who:>10}" for who in per_server))
    for name in names:
        counts = [calls.get(name, 0) for calls in per_server.values()]
        if max(counts) >= 0.005:
            print(f"{name:24}" + "".join(f"{count:10.2f}" for count in counts))


def measure(farm, options):
    origin = farm.origin()
    names = ["sluice", "nginx", "haproxy", "envoy", "bare"]
    if not envoy_binary():
        names.remove("envoy")
    if options.only:
        names = [name for name in names if name in options.only]
    servers = [getattr(farm, name)(origin) for name in names]

    print(f"128 B responses, {CONNECTIONS} connections")
    small = interleave(servers, "/", options.seconds, options.rounds, CONNECTIONS)
    results = [
        case("h1_small_cpu_us", "us/request", True, small, cpu_us),
        case("h1_small_rps", "requests/s", False, small, lambda s: s["rps"], 0),
    ]
    if not options.small:
        print(f"1 MiB responses, {LARGE_CONNECTIONS} connections")
        rounds = (options.rounds + 1) // 2
        large = interleave(servers, "/large", options.seconds, rounds, LARGE_CONNECTIONS)
        results.append(case("h1_1mb_cpu_ms_per_gb", "ms/GB", True, large, cpu_ms_per_gb, 1))

        print("system calls and allocations")
        calls = trace_all(servers, 1)
        if calls:
            totals = {who: sum(counts.values()) for who, counts in calls.items()}
            results.append(single("syscalls_per_request", "calls/request", totals, 2))
        counted = allocations(farm, origin, 3, [name for name in names if name in COUNTED])
        results.append(single("allocations_per_request", "calls/request", counted, 4))

    print_results(results, names)
    print_split(small)
    if not options.small and calls:
        print_calls(calls)
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    # Many short turns: the machine changes under a benchmark, and a median forgives what is rare.
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=int, default=1, help="of each server's turn")
    parser.add_argument("--quick", action="store_true", help="one round of one second")
    parser.add_argument("--small", action="store_true", help="only CPU and rate of 128 B responses")
    parser.add_argument("--only", nargs="*", help="only these servers")
    parser.add_argument("--output", default=str(OUTPUT))
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 1, 1
    for tool in ("nginx", "haproxy", "wrk", "strace", "cc"):
        if not shutil.which(tool):
            sys.exit(f"http1: {tool} is not installed; ./dev bench http1 installs it")
    with Farm() as farm:
        results = measure(farm, options)
    os.makedirs(os.path.dirname(options.output), exist_ok=True)
    with open(options.output, "w") as out:
        json.dump({"bench": "http1", "results": results}, out, indent=2)
        out.write("\n")
    print(f"\nwritten: {os.path.relpath(options.output)}")


if __name__ == "__main__":
    main()
