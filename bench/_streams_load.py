"""What asks a StreamFarm's servers for something, in turns, and what that costs them: stream_load.c for bytes as
they are, handshakes.c, and load.c for HTTP over TLS, all in bench/native."""

from _asker import Asker
from _servers import cpu_clock
from _turns import take_turns


def one_turn(farm, server, program, **options):
    """What the program says, and the CPU time of the server meanwhile."""
    with Asker(farm, server, program, **options) as asker:
        cpu = cpu_clock(server.pid)
        said = asker.go()
        said["cpu"] = cpu_clock(server.pid) - cpu
    return said


def interleave(farm, servers, rounds, what, program, seconds, warm_up=None, **options):
    """{name: [what one_turn says]}; who is first changes. warm_up: options of a turn before, in place of these."""
    samples = {server.name: [] for server in servers}
    options["ms"] = round(seconds * 1000)

    def turn(server):
        samples[server.name].append(one_turn(farm, server, program, **options))

    for server in servers:
        one_turn(farm, server, program, **{**options, **(warm_up or {})})
    take_turns(rounds, [lambda server=server: turn(server) for server in servers], what)
    return samples


# ---- what a turn says ---------------------------------------------------------------------------


def cpu_us(sample):
    return sample["cpu"] * 1e6 / sample["requests"]


def per_second(sample):
    return sample["requests"] / sample["seconds"]


def cpu_ms_per_gb(sample):
    return sample["cpu"] * 1e3 / (sample["bytes"] / 1e9)


def gb_per_second(sample):
    return sample["bytes"] / 1e9 / sample["seconds"]


def busy(sample):
    return sample["cpu"] / sample["seconds"]
