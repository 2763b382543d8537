"""Bytes as they are, through TCP proxies: in bulk, as small messages, as short connections, sorted by the name in a
TLS ClientHello, and connections on which nothing happens."""

import os

from _http1_idle import at_rest
from _load import case
from _servers import CONNECTIONS, compiled, files_allowed, process_tree
from _asker import Asker
from _streams_load import busy, cpu_ms_per_gb, cpu_us, gb_per_second, interleave, one_turn, per_second
from _streams_servers import NAMES, StreamFarm, client_hello, hellos_file, host
from _turns import take_turns

BULK_CONNECTIONS = 16  # bounds what the proxies buffer
BULK_BYTES, BULK_QUICK = 4 << 20, 1 << 20  # of a request
IDLE, IDLE_QUICK, IDLE_ROUNDS = 10_000, 300, 3
STEADY_S, STEADY_QUICK_S = 1.0, 0.2
IDLE_FILES = 1200  # descriptors that a proxy keeps for other things than connections
SHORT = b"C".ljust(64, b".")
VERIFIED = {"mode": "bulk", "verify": 1, "connections": 4, "requests": 8, "ms": 0}


def program():
    return compiled("stream_load.c")


def passthrough(lineup, options):
    """The first bytes through each proxy are looked at: they are the right ones."""
    with StreamFarm() as farm:
        servers = lineup.all(farm, "tcp", farm.stream_origin(), bulk=True)
        samples = interleave(
            farm,
            servers,
            options.rounds,
            "passthrough",
            program(),
            options.seconds,
            warm_up=VERIFIED,
            mode="bulk",
            bytes=BULK_QUICK if options.quick else BULK_BYTES,
            connections=BULK_CONNECTIONS,
        )
    return [
        case("tcp_passthrough_cpu_ms_per_gb", "ms/GB", True, samples, cpu_ms_per_gb, 1),
        case("tcp_passthrough_gb_per_s", "GB/s", False, samples, gb_per_second),
        case("tcp_passthrough_proxy_busy", "cores", False, samples, busy, 2),
    ]


def ping(lineup, options):
    with StreamFarm() as farm:
        servers = lineup.all(farm, "tcp", farm.stream_origin())
        samples = interleave(
            farm, servers, options.rounds, "ping", program(), options.seconds, mode="ping", connections=CONNECTIONS
        )
    return [
        case("tcp_ping_cpu_us", "us/round trip", True, samples, cpu_us),
        case("tcp_ping_per_s", "round trips/s", False, samples, per_second, 0),
    ]


def exchanges(farm, servers, options, name, hellos):
    """Rows of connections that are made, used once and closed."""
    path = farm.dir / f"hellos-{name}"
    path.write_bytes(hellos_file(hellos))
    samples = interleave(
        farm, servers, options.rounds, name, program(), options.seconds, mode="exchange", hellos=str(path)
    )
    return [
        case(f"{name}_cpu_us", "us/connection", True, samples, cpu_us),
        case(f"{name}_per_s", "connections/s", False, samples, per_second, 0),
    ]


def connections(lineup, options):
    with StreamFarm() as farm:
        servers = lineup.all(farm, "tcp", farm.stream_origin())
        return exchanges(farm, servers, options, "tcp_connection", [(b"a", SHORT)])


def sni_hellos():
    """Of every host in turn, answered by the port that is its."""
    return [(bytes([ord("a") + number]), client_hello(host(number))) for number in range(NAMES)]


def sni(lineup, options):
    """The answer says which backend it is, so a connection that went to another is an error. bare looks at nothing,
    and what it costs is in tcp_connection."""
    with StreamFarm() as farm:
        origin = farm.stream_origin(NAMES)
        return exchanges(farm, lineup.all(farm, "sni", origin), options, "sni_connection", sni_hellos())


def idle_round(lineup, name, count, steady_s):
    """{bytes, whole, files} per connection: the first two as _http1_idle.py has them; files: descriptors."""
    with StreamFarm(clients=CONNECTIONS) as farm:
        few, _ = warmed(farm, lineup.start(farm, "tcp", name, farm.stream_origin()), steady_s)
    with StreamFarm(clients=count) as farm:
        server = lineup.start(farm, "tcp", name, farm.stream_origin())
        before, files_before = warmed(farm, server, steady_s)
        with Asker(farm, server, program(), mode="idle", connections=count) as asker:
            after, _ = at_rest(server, steady_s)
            files = files_of(server)
            said = asker.go()
    if said["still_open"] != count:
        raise RuntimeError(f"{name} closed {count - said['still_open']} idle connections")
    return {
        "bytes": (after - before) / count,
        "whole": (after - few) / count,
        "files": (files - files_before) / count,
    }


def files_of(server):
    return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in process_tree(server.pid))


def warmed(farm, server, steady_s):
    """Its memory once what only the first connections set up is there, and its descriptors."""
    one_turn(farm, server, program(), mode="ping", connections=1, requests=16)
    return at_rest(server, steady_s)[0], files_of(server)


def idle(lineup, options):
    count, steady_s = (IDLE_QUICK, STEADY_QUICK_S) if options.quick else (IDLE, STEADY_S)
    allowed = (files_allowed() - IDLE_FILES) // 2
    if allowed < count:
        print(f"  idle: {allowed} connections instead of {count}, by the limit of descriptors (ulimit -Hn)")
        count = allowed
    samples = {name: [] for name in lineup.names}

    def turn(name):
        samples[name].append(idle_round(lineup, name, count, steady_s))

    rounds = min(options.rounds, IDLE_ROUNDS)
    take_turns(rounds, [lambda name=name: turn(name) for name in lineup.names], "idle")
    return [
        case("tcp_idle_conn_bytes", "bytes", True, samples, lambda s: s["bytes"], 0),
        case("tcp_idle_conn_whole_bytes", "bytes", True, samples, lambda s: s["whole"], 0),
        case("tcp_idle_conn_files", "descriptors", True, samples, lambda s: s["files"], 3),
    ]
