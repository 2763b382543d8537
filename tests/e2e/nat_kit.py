"""Networks of one's own, without privileges, and redirections in them: a story that needs NAT runs as another process
in a new user and network namespace, and speaks to nf_tables by netlink, for which no program has to be there."""

import pathlib
import socket
import struct
import subprocess
import sys

import pytest

NEW_TABLE, NEW_CHAIN, NEW_RULE = 0xA00, 0xA03, 0xA06
BATCH_BEGIN, BATCH_END = 0x10, 0x11
REQUEST, ACK, CREATE, APPEND = 1, 4, 0x400, 0x800
NESTED = 0x8000
NETLINK_NETFILTER = 12


def _attribute(kind, value):
    if isinstance(value, list):
        kind, value = kind | NESTED, b"".join(value)
    elif isinstance(value, int):
        value = struct.pack(">i", value)
    elif isinstance(value, str):
        value = value.encode() + b"\0"
    whole = struct.pack("=HH", 4 + len(value), kind) + value
    return whole + b"\0" * (-len(whole) % 4)


def _message(kind, flags, sequence, family, resource, *attributes):
    body = struct.pack(">BBH", family, 0, resource) + b"".join(attributes)
    return struct.pack("=IHHII", 16 + len(body), kind, flags | REQUEST, sequence, 0) + body


def _expression(name, *attributes):
    return _attribute(1, [_attribute(1, name), _attribute(2, list(attributes))])


def _equals(value):
    return _expression("cmp", _attribute(1, 1), _attribute(2, 0), _attribute(3, [_attribute(1, value)]))


def redirect(port, to):
    """What this network's programs send to that TCP port of any IPv4 address goes to a port of 127.0.0.1: as
    `nft add rule ip t c tcp dport PORT redirect to :TO` in a nat chain of the output hook."""
    rule = [
        _expression("meta", _attribute(1, 1), _attribute(2, 16)),  # the protocol...
        _equals(bytes([socket.IPPROTO_TCP])),
        _expression("payload", _attribute(1, 1), _attribute(2, 2), _attribute(3, 2), _attribute(4, 2)),  # ...its port
        _equals(struct.pack(">H", port)),
        _expression("immediate", _attribute(1, 1), _attribute(2, [_attribute(1, struct.pack(">H", to))])),
        _expression("redir", _attribute(1, 1)),
    ]
    hook = [_attribute(1, 3), _attribute(2, -100)]
    create, ip = CREATE | ACK, socket.AF_INET
    chain = [_attribute(1, "t"), _attribute(3, "c"), _attribute(4, hook), _attribute(7, "nat")]
    batch = [
        _message(BATCH_BEGIN, 0, 1, 0, 10),
        _message(NEW_TABLE, create, 2, ip, 0, _attribute(1, "t")),
        _message(NEW_CHAIN, create, 3, ip, 0, *chain),
        _message(NEW_RULE, create | APPEND, 4, ip, 0, _attribute(1, "t"), _attribute(2, "c"), _attribute(4, rule)),
        _message(BATCH_END, 0, 5, 0, 10),
    ]
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as netlink:
        netlink.settimeout(20)
        netlink.send(b"".join(batch))
        answered = 0
        while answered < 3:
            answer = netlink.recv(65536)
            while answer:
                size, kind = struct.unpack_from("=IH", answer)
                [error] = struct.unpack_from("=i", answer, 16)
                assert kind == 2 and error == 0, f"nf_tables: {kind} {error}"
                answered += 1
                answer = answer[(size + 3) // 4 * 4 :]


def add_address(address):
    """To this network's loopback."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["ip", "address", "add", f"{address}/32", "dev", "lo"], check=True)


def in_network_of_its_own(module, story):
    """Runs module.story() there; skips where the kernel does not let."""
    folder = pathlib.Path(__file__).parent

    def run(code):
        command = ["unshare", "--user", "--map-root-user", "--net", sys.executable, "-c", code]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100)

    try:
        trial = run("import nat_kit; nat_kit.add_address('192.0.2.1'); nat_kit.redirect(1, 2)")
    except FileNotFoundError:
        pytest.skip("there is no unshare")
    if trial.returncode != 0:
        *_, why = trial.stderr.strip().splitlines()
        refusals = ("unshare:", "OSError", "PermissionError", "FileNotFoundError", "AssertionError: nf_tables")
        assert why.startswith(refusals), trial.stderr
        pytest.skip(f"no network of its own, or no NAT in it: {why}")
    done = run(f"import {module}; {module}.{story}()")
    assert done.returncode == 0, done.stderr[-4000:]
