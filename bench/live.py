"""What it costs to change the configuration while requests are served, and to replace or lose the process that serves.

    ./dev bench live [--case CASE ...] [--rounds N] [--quick]

Clients keep their connections for as long as they may and ask nothing twice, so many requests per second whatever
becomes of those before (bench/native/load.c). Sluice is told by SIGHUP (sluice), by POST /config/reload (post), or gets
a new process by --supervise and SIGUSR2 (restart); nginx by SIGHUP (nginx -s reload); Envoy's routes are a file that it
watches. Servers take turns, half of the turns without a change.

  rules-10, rules-10000   with so many routes: from the rename of the file to the first answer by the new rule; requests
                          that failed; CPU per request and p99 of the turns with changes and of the quiet ones, and what
                          CPU a change takes
  memory                  what it grows by per change from the 100th to the 1000th, Pss of all processes
  crash                   the process that serves is killed under load: requests that failed, and how long until one is
                          answered that was asked after
  rollback                a Go library's new version fails too often and is withdrawn: how long after that could be
                          known, and what share of all requests failed
"""

import functools
import os
import signal
import socket
import threading
import time

import _report
from _live_rollback import rollbacks
from _live_servers import KINDS, PATIENCE_S, VERSION_PATH, installed, version_body
from _load import case, http_asker
from _options import Options, need_tools
from _servers import Farm, cpu_clock, memory_kb, process_tree
from _turns import take_turns

RULES = {"rules-10": 10, "rules-10000": 10000}
CASES = (*RULES, "memory", "crash", "rollback")
ROUNDS, SECONDS, QUICK_S = 5, 4.0, 0.5
RATE = 4000  # requests per second: busy, and nobody is out of breath
RATES = {"rules-10": RATE, "rules-10000": 1000}  # Envoy walks the table
LOOK_S = 0.0002
MOST_CHANGES = 20  # in a turn: 100 in 5 rounds
MEMORY = {False: (100, 1000), True: (2, 6)}  # is it quick? from which change on, to which
MEMORY_RULES = 100
CRASHES, CRASHES_QUICK = 20, 1
ROLLBACKS, ROLLBACKS_QUICK = 10, 1
ROLLBACK_MS = 1500
CRASHED = ("restart", "nginx")  # those of which somebody else starts the process again
OURS = ("sluice", "post", "restart")
LIMITS = [
    *(_report.Limit(f"failed_{name}", who, 0) for name in RULES for who in OURS),
    _report.Limit("rollback_ms", "sluice", ROLLBACK_MS),
]


def cpu_s(pid):
    """CPU time of the processes that there are, and of those that ended meanwhile."""
    total = cpu_clock(pid)
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return total + (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")


class Watcher:
    """Asks for the version, again and again on one connection, until it is the wanted one."""

    def __init__(self, port):
        self.port, self.socket, self.asked = port, None, 0
        self.request = f"GET {VERSION_PATH} HTTP/1.1\r\nHost: bench\r\n\r\n".encode()

    def answer(self):
        """b"" when the connection ended."""
        self.asked += 1
        if not self.socket:
            self.socket = socket.create_connection(("127.0.0.1", self.port), PATIENCE_S)
        try:
            self.socket.sendall(self.request)
            said = self.socket.recv(65536)  # so small an answer comes in one
        except ConnectionError:
            said = b""
        if not said or b"connection: close" in said.lower():
            self.close()
        return said

    def wait(self, version):
        wanted, deadline = version_body(version).encode(), time.monotonic() + PATIENCE_S
        while not self.answer().endswith(wanted):
            if time.monotonic() > deadline:
                raise RuntimeError(f"version {version} does not serve")
            time.sleep(LOOK_S)  # to look is work for who is looked at

    def close(self):
        if self.socket:
            self.socket.close()
            self.socket = None


class Load:
    """What load.c asks in its time; `said` when it is over."""

    def __init__(self, farm, server, seconds, rate):
        how = {"rate": rate, "ms": round(seconds * 1000)}
        self.asker = http_asker(farm, server, forgiven=("broken", "bad_status", "bad_length"), **how)
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        self.said = self.asker.go()

    def __enter__(self):
        self.asker.__enter__()
        self.thread.start()
        return self

    def __exit__(self, *failure):
        if failure[0]:
            self.asker.process.kill()
        self.thread.join()
        self.asker.__exit__(*failure)

    def is_on(self):
        return self.thread.is_alive()

    def failed(self):
        return self.said["broken"] + self.said["bad_status"] + self.said["bad_length"]


class Sample:
    """A turn."""

    def __init__(self, live, numbers, changes, seconds, rate):
        self.took_ms = []
        watcher = Watcher(live.port)
        before = cpu_s(live.server.pid)
        with Load(live.farm, live.server, seconds, rate) as load:
            start = time.monotonic()
            for turn in range(changes):
                version = next(numbers)
                live.prepare(version)
                due = start + (turn + 0.5) * seconds / changes
                time.sleep(max(0, due - time.monotonic()))
                if self.took_ms and not load.is_on():
                    break
                began = time.monotonic()
                live.change()
                watcher.wait(version)
                self.took_ms.append((time.monotonic() - began) * 1000)
                live.settle(load.is_on)
        watcher.close()
        live.settle()
        self.cpu = cpu_s(live.server.pid) - before
        self.asked = load.said["requests"] + watcher.asked
        self.p99_us, self.failed = load.said["p99_us"], load.failed()

    def cpu_us(self):
        return self.cpu * 1e6 / self.asked


def changes(farm, origin, name, who, options):
    """The cases of a number of rules."""
    lives = {each: KINDS[each](farm, origin, RULES[name]) for each in who}
    numbers = iter(range(1, 1 << 30))
    quiet, changing = {each: [] for each in who}, {each: [] for each in who}
    count = 2 if options.quick else MOST_CHANGES

    def turn(each, samples, changes):
        samples[each].append(Sample(lives[each], numbers, changes, options.seconds, RATES[name]))

    parties = [functools.partial(turn, each, *how) for each in who for how in ((quiet, 0), (changing, count))]
    take_turns(options.rounds, parties, name)
    for live in lives.values():
        live.stop()
    took = {each: [ms for sample in taken for ms in sample.took_ms] for each, taken in changing.items()}
    cost = {
        each: [
            (with_it.cpu - without.cpu / without.asked * with_it.asked) * 1000 / max(len(with_it.took_ms), 1)
            for with_it, without in zip(changing[each], quiet[each], strict=True)
        ]
        for each in who
    }
    for each in who:
        asked = sum(sample.asked for sample in changing[each])
        print(f"{name}, {each}: {len(took[each])} changes under {asked} requests")
    return [
        case(f"first_request_ms_{name}", "ms", True, took, float),
        case(f"failed_{name}", "requests", True, changing, lambda sample: sample.failed),
        case(f"cpu_us_quiet_{name}", "us/request", True, quiet, Sample.cpu_us),
        case(f"cpu_us_changing_{name}", "us/request", True, changing, Sample.cpu_us),
        case(f"cpu_ms_per_change_{name}", "ms", True, cost, float),
        case(f"p99_us_quiet_{name}", "us", True, quiet, lambda sample: sample.p99_us),
        case(f"p99_us_changing_{name}", "us", True, changing, lambda sample: sample.p99_us),
    ]


def memory(farm, origin, who, options):
    """Changes as fast as they come. A process that is replaced has nothing to grow."""
    first, last = MEMORY[options.quick]
    grown = {}
    for each in who:
        live = KINDS[each](farm, origin, MEMORY_RULES)
        watcher, at = Watcher(live.port), {}
        for version in range(1, last + 1):
            live.prepare(version)
            live.change()
            watcher.wait(version)
            live.settle()
            if version in (first, last):
                at[version] = memory_kb(live.server.pid)
        watcher.close()
        live.stop()
        grown[each] = [(at[last] - at[first]) * 1024 / (last - first)]
        print(f"memory, {each}: {at[first]} kB after {first} changes, {at[last]} kB after {last}")
    return [case("bytes_per_change", "bytes", True, grown, float)]


def crashes(farm, origin, who, options):
    """Each of a server that was started for it: who fails again and again is not started again at once."""
    back, failed = {each: [] for each in who}, {each: [] for each in who}

    def turn(each):
        live = KINDS[each](farm, origin, 10)
        live.settle()
        watcher = Watcher(live.port)
        with Load(farm, live.server, options.seconds / 4, RATE) as load:
            time.sleep(options.seconds / 8)
            killed = time.monotonic()
            os.kill(process_tree(live.server.pid)[-1], signal.SIGKILL)
            watcher.wait(0)
            back[each].append((time.monotonic() - killed) * 1000)
        failed[each].append(load.failed())
        watcher.close()
        live.stop()

    take_turns(CRASHES_QUICK if options.quick else CRASHES, [functools.partial(turn, each) for each in who], "crash")
    return [
        case("back_ms", "ms", True, back, float),
        case("failed_per_crash", "requests", True, failed, float),
    ]


def main():
    options = Options("live", __doc__, CASES, ROUNDS, SECONDS, quick_s=QUICK_S).parse()
    need_tools("live", "nginx", "cc")
    who, results = installed(), []
    with Farm() as farm:
        origin = farm.origin()
        for name in options.case:
            if name in RULES:
                results += changes(farm, origin, name, who, options)
        if "memory" in options.case:
            results += memory(farm, origin, [each for each in who if each != "restart"], options)
        if "crash" in options.case:
            results += crashes(farm, origin, [each for each in who if each in CRASHED], options)
        if "rollback" in options.case:
            took, failed = rollbacks(farm, origin, ROLLBACKS_QUICK if options.quick else ROLLBACKS)
            results.append(case("rollback_ms", "ms", True, {"sluice": took}, float))
            results.append(case("failed_share_over_rollback", "", True, {"sluice": failed}, float))
    limits = _report.limits(results, LIMITS)
    _report.print_results(results, who)
    _report.print_limits(limits)
    report = {"bench": "live", "rounds": options.rounds, "rates": RATES, "results": results, "limits": limits}
    drawn = {f"first_request_ms_{name}": f"first request by the new rule, {RULES[name]} routes" for name in RULES}
    chart = _report.draw("Changes under load", drawn, results, who, OURS)
    _report.write(options.output, report, chart)


if __name__ == "__main__":
    main()
