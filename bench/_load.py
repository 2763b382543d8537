"""Requests to the servers of a Farm, in turns, and what they cost: bench/native/load.c asks."""

import json
import statistics
import subprocess

from _servers import CONNECTIONS, LARGE_BYTES, SMALL_BYTES, compiled, cpu_clock, cpu_ticks, settle
from _turns import summary, take_turns

BODIES = {"/": SMALL_BYTES, "/large": LARGE_BYTES}
WARM_UP_REQUESTS = 2000
PATIENCE_S = 60


class Driver:
    """A load.c whose connections are open and have been used. It asks when it is told to go."""

    def __init__(self, farm, server, path="/", connections=CONNECTIONS, **options):
        self.server = server
        options |= {"path": path, "body": BODIES[path], "connections": connections, "port": server.port}
        program = compiled("load.c")
        self.process = subprocess.Popen(
            [program, *(f"{name}={value}" for name, value in options.items())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: settle(farm.drivers),
        )

    def __enter__(self):
        if self.process.stdout.readline() != "ready\n":
            raise self._failure(self.process.communicate(timeout=PATIENCE_S)[1])
        return self

    def __exit__(self, failure, *_):
        if failure:
            self.process.kill()
        self.process.communicate(timeout=PATIENCE_S)  # the end of its input is the end of it

    def _failure(self, why):
        return RuntimeError(f"{self.server.name}: {why.strip()}")

    def go(self):
        """What load.c says in the end; its connections stay open. Every answer was the right one."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        out = self.process.stdout.readline()
        if not out:
            raise self._failure(self.process.communicate(timeout=PATIENCE_S)[1])
        said = json.loads(out)
        wrong = {name: said[name] for name in ("bad_status", "bad_length", "broken") if said[name]}
        if wrong:
            raise self._failure(f"of {said['requests']} requests some were answered wrongly: {wrong}")
        return said


def one_round(farm, server, **options):
    """What load.c says, and the CPU time of the server meanwhile."""
    with Driver(farm, server, **options) as driver:
        user, system = cpu_ticks(server.pid)
        cpu = cpu_clock(server.pid)
        said = driver.go()
        said["cpu"] = cpu_clock(server.pid) - cpu
        user_after, system_after = cpu_ticks(server.pid)
    ticks = user_after - user + system_after - system
    said["user"] = said["cpu"] * (user_after - user) / ticks if ticks else 0
    return said


def interleave(farm, servers, rounds, what, seconds, **options):
    """{name: [round]}; who is first changes."""
    samples = {server.name: [] for server in servers}

    def turn(server):
        samples[server.name].append(one_round(farm, server, ms=round(seconds * 1000), **options))

    warm_up = {name: value for name, value in options.items() if name != "rate"}
    for server in servers:  # fills pools and caches
        one_round(farm, server, requests=WARM_UP_REQUESTS, ms=round(seconds * 1000), **warm_up)
    take_turns(rounds, [lambda server=server: turn(server) for server in servers], what)
    return samples


# ---- what a round says --------------------------------------------------------------------------


def rps(sample):
    return sample["requests"] / sample["seconds"]


def cpu_us(sample):
    return sample["cpu"] * 1e6 / sample["requests"]


def user_us(sample):
    return sample["user"] * 1e6 / sample["requests"]


def proxy_busy(sample):
    return sample["cpu"] / sample["seconds"]


def cpu_ms_per_gb(sample):
    return sample["cpu"] * 1e3 / (sample["requests"] * LARGE_BYTES / 1e9)


def case(name, unit, lower_is_better, samples, value, digits=3):
    """A line of the report, with the rounds it is made of: so that two servers can be compared round by round."""
    rounds = {who: [value(sample) for sample in taken] for who, taken in samples.items()}
    return {
        "case": name,
        "unit": unit,
        "lower_is_better": lower_is_better,
        "values": {who: summary(values, digits) for who, values in rounds.items()},
        "rounds": {who: [round(value, digits + 2) for value in values] for who, values in rounds.items()},
    }


def median(samples, value):
    return statistics.median(value(sample) for sample in samples)
