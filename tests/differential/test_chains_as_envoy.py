"""Filter chains on both: of many chains with random conditions the same one gets a connection, and the same
configurations are refused."""

import contextlib
import json
import random
import socket
import struct
import subprocess
import tempfile

import pytest

from first_bytes import Answer, chain, extension, hello, inspected, server_name, tls_inspector
from harness import SLUICE, Proxy, address, bootstrap
from twins import envoy_binary

LISTENERS, CHAINS, CONNECTIONS = 12, 6, 24
PREFIXES = [("127.0.0.0", 8), ("127.0.0.0", 24), ("127.0.0.9", 32), ("127.0.1.0", 24), ("10.0.0.0", 8)]
NAMES = ["a.b.test", "*.b.test", "*.test", "b.test", "A.B.TEST"]
ASKED = ["a.b.test", "x.b.test", "y.x.b.test", "b.test", "x.test", "test", None]
PROTOCOLS = ["h2", "http/1.1", "acme"]
TARGETS = ["127.0.0.1", "127.0.0.9", "127.0.1.1"]
SOURCES = ["127.0.0.1", "127.0.0.2", "127.0.0.9", "127.0.1.1"]
RANGES = ("prefix_ranges", "source_prefix_ranges", "direct_source_prefix_ranges")


# ---- random chains ----------------------------------------------------------


def some(dice, values, most=2):
    """Nothing in half of all cases."""
    return dice.sample(values, dice.randint(1, most)) if dice.random() < 0.5 else []


def conditions(dice, ports):
    match = {
        key: [{"address_prefix": ip, "prefix_len": bits} for ip, bits in some(dice, PREFIXES)] for key in RANGES[:2]
    }
    match["server_names"] = some(dice, NAMES[:4] if dice.random() < 0.8 else NAMES[3:])
    match["application_protocols"] = some(dice, PROTOCOLS)
    match["source_ports"] = some(dice, ports)
    if dice.random() < 0.3:
        match["transport_protocol"] = dice.choice(["tls", "raw_buffer"])
    if dice.random() < 0.4:
        match["source_type"] = dice.choice(["SAME_IP_OR_LOOPBACK", "EXTERNAL"])
    if dice.random() < 0.2:
        match["direct_source_prefix_ranges"] = [{"address_prefix": "127.0.0.0", "prefix_len": 24}]
    return {key: value for key, value in match.items() if value}


def values(match, key):
    """As what they are entered; one that says nothing is a value too."""
    said = match.get(key) or [None]
    if key in RANGES:
        return {json.dumps(one) for one in said}
    return {one.lower() if isinstance(one, str) else one for one in (said if isinstance(said, list) else [said])}


KEYS = (*RANGES, "server_names", "transport_protocol", "application_protocols", "source_type", "source_ports")


def overlap(one, other):
    return all(values(one, key) & values(other, key) for key in KEYS)


def random_listener(dice, name, ports):
    matches = []
    while len(matches) < CHAINS:
        match = conditions(dice, ports)
        if not any(overlap(match, other) for other in matches):
            matches.append(match)
    chains = [chain(f"c{at}", match) for at, match in enumerate(matches)]
    more = {"default_filter_chain": chain("default")} if dice.random() < 0.5 else {}
    made = inspected(name, [tls_inspector()], chains, listener_filters_timeout="5s", **more)
    made["address"] = address(0, "0.0.0.0")
    return made


@pytest.fixture(scope="module")
def ports():
    """Of clients: the kernel's choice, and ours as long as they are bound."""
    with contextlib.ExitStack() as stack:
        held = []
        for _ in range(3):
            sock = stack.enter_context(socket.socket())
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("0.0.0.0", 0))
            held.append(sock.getsockname()[1])
        yield held


@pytest.fixture(scope="module")
def both(ports):
    dice = random.Random(7)
    config = bootstrap([random_listener(dice, f"l{at}", ports) for at in range(LISTENERS)])
    with contextlib.ExitStack() as stack:
        made = []
        for program in (envoy_binary(), SLUICE):
            flags = ["--use-dynamic-base-id"] if program != SLUICE else []
            one = Proxy(config, program=program, flags=[*flags, "--concurrency", "1"], level="warning")
            stack.callback(one.kill)
            made.append(one)
        yield made


def alpn(protocols):
    names = b"".join(bytes([len(one)]) + one.encode() for one in protocols)
    return extension(16, struct.pack(">H", len(names)) + names)


def first_bytes(name, protocols, is_tls):
    if not is_tls:
        return b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
    return hello((server_name(name.encode()) if name else b"") + (alpn(protocols) if protocols else b""))


def who_gets(port, target, source, data):
    """The name of the chain. It closes with a reset, so that the port is free for the next one."""
    with socket.socket() as sock:
        sock.settimeout(20)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.bind(source)
        sock.connect((target, port))
        got = b""
        try:
            sock.sendall(data)
            while b"\r\n\r\n" not in got:
                piece = sock.recv(65536)
                if not piece:
                    break
                got += piece
        except ConnectionResetError:
            pass
        return Answer(got).chain


@pytest.mark.parametrize("at", range(LISTENERS))
def test_the_same_chain_has_it(both, ports, at):
    dice = random.Random(at)
    seen = []
    for _ in range(CONNECTIONS):
        asked = (dice.choice(ASKED), dice.sample(PROTOCOLS, dice.randint(0, 2)), dice.random() < 0.7)
        source = (dice.choice(SOURCES), dice.choice([*ports, 0]))
        target = dice.choice(TARGETS)
        answers = [who_gets(one.port(f"l{at}"), target, source, first_bytes(*asked)) for one in both]
        assert answers[0] == answers[1], (target, source, asked)
        seen.append(answers[0])
    assert set(seen) != {"closed"}, "nothing was compared"


def test_the_same_are_closed(both):
    """Counted alike: for whom no chain was."""
    counts = []
    for one in both:
        stats = one.stats()
        ends = ("no_filter_chain_match", "downstream_pre_cx_active", "downstream_cx_total", "downstream_pre_cx_timeout")
        counts.append([[value for name, value in sorted(stats.items()) if name.endswith("." + end)] for end in ends])
    total = [{end: sum(values) for end, values in enumerate(of)} for of in counts]
    assert total[0][0] == total[1][0] > 0
    assert total[0][1] == total[1][1] == 0
    assert total[0][3] == total[1][3] == 0


# ---- refused by both --------------------------------------------------------


def net(ip, bits):
    return {"prefix_ranges": [{"address_prefix": ip, "prefix_len": bits}]}


SETS = {
    "the same name": [{"server_names": ["a.test"]}, {"server_names": ["A.test"]}],
    "the same name twice": [{"server_names": ["a.test", "a.test"]}],
    "a port of both": [{"source_ports": [7, 8]}, {"source_ports": [8, 9]}],
    "the same net": [net("10.1.2.3", 8), net("10.0.0.0", 8)],
    "two without conditions": [None, {}],
    "none": [],
    "a star": [{"server_names": ["*"]}],
    "a star in a name": [{"server_names": ["a.*.test"]}],
    "no address": [net("a.test", 8)],
    "a name and all below it": [{"server_names": ["a.test"]}, {"server_names": ["*.a.test"]}],
    "other protocols": [{"application_protocols": ["h2"]}, {"application_protocols": ["http/1.1"]}],
    "all addresses and no condition": [net("0.0.0.0", 0), None],
    "names that are alike": [{"source_ports": [1]}, {"source_ports": [2]}],
}
FINE = {"a name and all below it", "other protocols", "all addresses and no condition", "names that are alike"}


@pytest.mark.parametrize("case", SETS)
def test_the_same_is_refused(case):
    config = bootstrap([inspected("l", [tls_inspector()], [chain("c", match) for match in SETS[case]])])
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(config, file)
        file.flush()
        codes = [
            subprocess.run([program, "-c", file.name, "--mode", "validate", *flags], capture_output=True).returncode
            for program, flags in ((envoy_binary(), ["--use-dynamic-base-id"]), (SLUICE, []))
        ]
    assert codes == ([0, 0] if case in FINE else [1, 1])
