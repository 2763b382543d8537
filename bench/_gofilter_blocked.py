"""How late others' requests are while a filter sleeps for a second in every worker.

Requests fall due at a fixed rate, the same in all runs, and their latency counts from then (bench/native/load.c). A
round has four runs, in an order that moves on:

                     nobody sleeps      a filter sleeps in every worker
    by the proxy       quiet                 blocked
    past it         quiet direct          blocked direct

What is asked for is blocked over quiet. The machine runs the driver and the origin beside the proxy, and its own
moments are in all four: blocked direct over quiet direct tells how much of a ratio is the machine's, and `late` how
late the driver itself was.

p99.9 is no better than the number of requests beyond it: a run is as long as SAMPLES take, and how many it had is
told."""

import http.client
import math
import os
import re
import threading
import time
import urllib.request

from _load import case, http_asker
from _turns import take_turns

SHARE = 0.4  # of what the listener without filters can do
SAMPLES, SAMPLES_QUICK = 50_000, 20  # 50 of the first are beyond p99.9
NOT_TOLD = 0.1  # of a run: its first requests
ROUNDS = 9
PATIENCE_S = 20
RUNS = {  # name: by the proxy?, does a filter sleep?
    "quiet": (True, False),
    "blocked": (True, True),
    "quiet direct": (False, False),
    "blocked direct": (False, True),
}


class Sleepers:
    """Requests to the filter that sleeps, one more than there are workers at any time, until it is left. On the
    drivers' cores."""

    def __init__(self, lineup):
        self.port, self.admin = lineup.servers["sluice"]["block"].port, lineup.admin
        self.cores, self.workers = lineup.farm.drivers, lineup.farm.workers
        self.over = threading.Event()
        self.answers = []
        self.threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(self.workers + 1)]

    def _ask(self):
        os.sched_setaffinity(0, self.cores)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        while not self.over.is_set():
            began = time.monotonic()
            connection.request("GET", "/")
            answer = connection.getresponse()
            answer.read()
            self.answers.append((answer.status, time.monotonic() - began))

    def _sleeping(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/stats", timeout=PATIENCE_S) as answer:
            [busy] = re.findall(r"^golang\.library\.bench\.seats_busy: (\d+)$", answer.read().decode(), re.MULTILINE)
        return int(busy)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        deadline = time.monotonic() + PATIENCE_S
        while self._sleeping() < self.workers:
            if time.monotonic() > deadline:
                raise RuntimeError("no filter sleeps")
            time.sleep(0.005)
        return self

    def __exit__(self, failure, *_):
        self.over.set()
        for thread in self.threads:
            thread.join()
        wrong = [answer for answer in self.answers if answer[0] != 200 or answer[1] < 1]
        if not failure and (wrong or len(self.answers) <= self.workers):
            raise RuntimeError(f"the filter did not sleep as it should: {self.answers}")


def _rate(lineup, ms):
    with http_asker(lineup.farm, lineup.servers["sluice"]["none"], ms=ms) as asker:
        said = asker.go()
    return max(1, round(SHARE * said["requests"] / said["seconds"]))


def blocked(lineup, options):
    """Results: p99.9, and what tells how good it is."""
    ms = round(options.seconds * 1000)
    rate = _rate(lineup, ms)
    samples = SAMPLES_QUICK if options.quick else SAMPLES
    ms = max(ms, math.ceil(samples * 1000 / (1 - NOT_TOLD) / rate))
    said = {name: [] for name in RUNS}

    def turn(name):
        by_proxy, is_blocked = RUNS[name]
        server = lineup.servers["sluice"]["none"] if by_proxy else lineup.origin
        with http_asker(lineup.farm, server, ms=ms, rate=rate) as asker:
            if is_blocked:
                with Sleepers(lineup):
                    said[name].append(asker.go())
            else:
                said[name].append(asker.go())

    take_turns(min(options.rounds, ROUNDS), [lambda name=name: turn(name) for name in RUNS], "blocked")
    return [
        case("p999_us_of_others", "us", True, said, lambda one: one["p999_us"]),
        case("p50_us_of_others", "us", True, said, lambda one: one["p50_us"]),
        case("late_p999_us", "us", True, said, lambda one: one["late_p999_us"]),
        case("samples", "requests", False, said, lambda one: one["told"]),
    ]
