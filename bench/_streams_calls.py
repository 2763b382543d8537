"""System calls of every server per round trip, connection, handshake, request and megabyte. How many there are
does not depend on how fast the machine is; of bulk it depends on who is faster, and scatters."""

import shutil

from _http1_calls import trace
from _load import case
from _servers import CONNECTIONS, LARGE_BYTES, SMALL_BYTES, compiled
from _asker import Asker
from _streams_servers import NAMES, StreamFarm, hellos_file
from _streams_tcp import BULK_CONNECTIONS, SHORT, program, sni_hellos
from _streams_tls import CIPHERS, HANDSHAKES, LARGE_CONNECTIONS, OPENSSL, load_program

COUNTED, COUNTED_QUICK = 2000, 200
LARGE_SHARE = 20  # of so many small ones one large one is asked for


def one(said):
    return said["requests"]


def megabytes(said):
    return said.get("bytes", said["requests"] * LARGE_BYTES) / 1e6


def of_streams(lineup, farm, count):
    """(what is counted, its unit, the servers, what asks them, what counts the units)."""
    origin, many = farm.stream_origin(), farm.stream_origin(NAMES)
    plain = lineup.all(farm, "tcp", origin)
    yield (
        "passthrough",
        "MB",
        lineup.all(farm, "tcp", origin, bulk=True),
        program(),
        megabytes,
        {
            "mode": "bulk",
            "connections": BULK_CONNECTIONS,
            "requests": max(BULK_CONNECTIONS, count // LARGE_SHARE),
        },
    )
    yield "ping", "round trip", plain, program(), one, {"mode": "ping", "connections": CONNECTIONS, "requests": count}
    for name, servers, hellos in (
        ("connection", plain, [(b"a", SHORT)]),
        ("sni", lineup.all(farm, "sni", many), sni_hellos()),
    ):
        path = farm.dir / f"hellos-{name}"
        path.write_bytes(hellos_file(hellos))
        wish = {"mode": "exchange", "connections": BULK_CONNECTIONS, "hellos": str(path), "requests": count}
        yield name, "connection", servers, program(), one, wish


def of_tls(lineup, farm, count):
    servers = lineup.all(farm, "tls", farm.origin(), "ecdsa")
    for name, kind, wish in HANDSHAKES:
        if kind == "ecdsa":
            yield name, "handshake", servers, compiled("handshakes.c", *OPENSSL), one, {**wish, "requests": count // 4}
    small = {"tls": "1.3", "body": SMALL_BYTES, "connections": CONNECTIONS, "requests": count}
    large = {
        "tls": "1.3",
        "cipher": CIPHERS[0][1],
        "path": "/large",
        "body": LARGE_BYTES,
        "connections": LARGE_CONNECTIONS,
        "requests": max(LARGE_CONNECTIONS, count // LARGE_SHARE),
    }
    yield "https", "request", servers, load_program(), one, small
    yield "tls_bulk", "MB", servers, load_program(), megabytes, large


def count(lineup, options, report):
    """Rows of the totals; each kind of call is in report["calls"]."""
    if not shutil.which("strace"):
        raise RuntimeError("strace is not installed; ./dev bench streams installs it")
    requests = COUNTED_QUICK if options.quick else COUNTED
    rows, report["calls"] = [], {}
    for parts in (of_streams, of_tls):
        with StreamFarm() as farm:
            for name, unit, servers, asking, done, wish in parts(lineup, farm, requests):
                found = {server.name: trace(server, Asker(farm, server, asking, **wish), done) for server in servers}
                if not all(found.values()):
                    raise RuntimeError("strace may not attach here: system calls cannot be counted")
                report["calls"][f"{name}, per {unit}"] = found
                totals = {who: [sum(calls.values())] for who, calls in found.items()}
                rows.append(case(f"calls_{name}", f"calls/{unit}", True, totals, float, 2))
    return rows
