"""Requests to the servers of a Farm, in turns, and what they cost: bench/native/load.c asks."""

import statistics

from _asker import Asker
from _servers import CONNECTIONS, LARGE_BYTES, SMALL_BYTES, compiled, cpu_clock, cpu_ticks
from _turns import summary, take_turns

BODIES = {"/": SMALL_BYTES, "/large": LARGE_BYTES}
WARM_UP_REQUESTS = 2000


def http_asker(farm, server, path="/", connections=CONNECTIONS, **options):
    """load.c, whose connections are open and have been used."""
    return Asker(
        farm,
        server,
        compiled("load.c"),
        path=path,
        body=BODIES.get(path, SMALL_BYTES),
        connections=connections,
        **options,
    )


def one_round(farm, server, **options):
    """What load.c says, and the CPU time of the server meanwhile."""
    with http_asker(farm, server, **options) as asker:
        user, system = cpu_ticks(server.pid)
        cpu = cpu_clock(server.pid)
        said = asker.go()
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
