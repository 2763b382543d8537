"""How many bytes Sluice copies, splices, receives and sends for each byte that it passes on: as it counts them
itself, not timed. What asking for the counters adds to them is taken off."""

import re
import urllib.request

from _load import http_asker
from _servers import LARGE_BYTES
from _asker import Asker
from _streams_servers import StreamFarm, hellos_file
from _streams_tcp import SHORT, program, sni_hellos
from _streams_tls import load_program

MESSAGE_BYTES = 64
COUNTERS = {
    "copied": "server.io.copied_bytes",
    "spliced": "server.io.splice_bytes",
    "received": "server.io.recv_bytes",
    "sent": "server.io.send_bytes",
}


def counters(server):
    with urllib.request.urlopen(f"http://{server.admin.read_text().strip()}/stats", timeout=20) as answer:
        text = answer.read().decode()
    found = dict(re.findall(r"^(\S+): (\d+)$", text, re.MULTILINE))
    missing = [name for name in COUNTERS.values() if name not in found]
    if missing:
        raise RuntimeError(f"{server.name}: /stats has no {', '.join(missing)}")
    return [int(found[name]) for name in COUNTERS.values()]


def per_byte(server, asker, passed):
    """{counter: bytes per byte} of what the asker asks for. passed(said): the bytes of it that came out."""
    with asker:
        first, before = counters(server), counters(server)
        said = asker.go()
        after = counters(server)
    return {row: (after[i] - before[i] - (before[i] - first[i])) / passed(said) for i, row in enumerate(COUNTERS)}


def of_streams(farm, start):
    """{path: what per_byte says} of bytes as they are."""
    hellos = {"short": [(b"a", SHORT)], "sni": sni_hellos()}
    plain, routed = start(farm, "tcp", farm.stream_origin()), start(farm, "sni", farm.stream_origin(len(hellos["sni"])))
    found = {}

    def count(path, server, passed, **options):
        found[path] = per_byte(server, Asker(farm, server, program(), **options), passed)

    count("L4, bulk", plain, lambda said: said["bytes"], mode="bulk", connections=2, requests=8)
    count("L4, messages", plain, lambda said: 2 * said["bytes"], mode="ping", requests=20000)
    for path, server, kind in (("L4, short", plain, "short"), ("L4, by SNI", routed, "sni")):
        file = farm.dir / f"hellos-{kind}"
        file.write_bytes(hellos_file(hellos[kind]))
        mean = sum(len(text) + 1 for _, text in hellos[kind]) / len(hellos[kind])
        requests = 64 * len(hellos[kind])
        count(path, server, lambda _, n=requests * mean: n, mode="exchange", hellos=str(file), requests=requests)
    return found


def of_http(farm, start):
    """The same of bodies of 1 MiB, without and with TLS before them."""
    origin = farm.origin()
    plain, secure = start(farm, "http", origin), start(farm, "tls", origin, "ecdsa")
    wish = {"path": "/large", "connections": 2, "requests": 32}
    over_tls = Asker(farm, secure, load_program(), body=LARGE_BYTES, tls="1.3", **wish)

    def passed(said):
        return said["requests"] * LARGE_BYTES

    return {
        "HTTP, 1 MiB": per_byte(plain, http_asker(farm, plain, **wish), passed),
        "HTTPS, 1 MiB": per_byte(secure, over_tls, passed),
    }


def table(lineup):
    """{path: {counter: bytes per byte that was passed on}} of the first Sluice that takes part."""

    def start(farm, kind, *arguments):
        return lineup.start(farm, kind, lineup.ours[0], *arguments)

    with StreamFarm() as farm:
        return {**of_streams(farm, start), **of_http(farm, start)}
