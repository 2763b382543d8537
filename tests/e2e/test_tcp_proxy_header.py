"""PROXY headers to upstreams: who the client is, and what else is known of him."""

import base64
import socket
import struct

import pytest

from first_bytes import V2, V4_PAIR, proxy_protocol, proxy_v2, sniffer, tlv
from harness import TYPE, cluster, listener, run, bootstrap, to
from tcp_support import Upstream, connect, receive, tcp_listener, tcp_proxy, through

TRANSPORT = TYPE + "envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport"


def header(**config):
    return {
        "name": "envoy.transport_sockets.upstream_proxy_protocol",
        "typed_config": {
            "@type": TRANSPORT,
            "config": config,
            "transport_socket": {"name": "envoy.transport_sockets.raw_buffer"},
        },
    }


def added(kind, value):
    return {"type": kind, "value": base64.b64encode(value).decode()}


def formatted(kind, text):
    return {"type": kind, "format_string": {"text_format_source": {"inline_string": text}}}


ADDED = [added(0xE0, b"edge-1"), formatted(0xE1, "flow %FILTER_STATE(sluice.flow_id)%"), added(0xE3, b"ours")]
CLUSTERS = {
    "one": header(),
    "two": header(version="V2"),
    "added": header(version="V2", added_tlvs=ADDED),
    "all": header(version="V2", pass_through_tlvs={"match_type": "INCLUDE_ALL"}, added_tlvs=[added(0xE3, b"ours")]),
    "some": header(version="V2", pass_through_tlvs={"match_type": "INCLUDE", "tlv_type": [0xE2]}),
}
KEEPS = proxy_protocol(pass_through_tlvs={"match_type": "INCLUDE_ALL"}, allow_requests_without_proxy_protocol=True)


@pytest.fixture(scope="module")
def upstream():
    it = Upstream()
    yield it
    it.close()


@pytest.fixture(scope="module")
def edge(module_proxy, upstream):
    return module_proxy(
        [
            *(tcp_listener(name, tcp_proxy(name), listener_filters=[KEEPS]) for name in CLUSTERS if name != "added"),
            tcp_listener("added", tcp_proxy("added"), listener_filters=[sniffer()]),
            tcp_listener("silent", tcp_proxy("two")),
            listener("http", [to("two")]),
            listener("http-behind", [to("one")], listener_filters=[KEEPS]),
        ],
        [cluster(name, upstream.port, transport_socket=transport) for name, transport in CLUSTERS.items()],
    )


def parsed(upstream):
    """The header of version 2: (command, addresses, {type: value})"""
    assert receive(upstream, 12) == V2
    command, family, length = struct.unpack(">BBH", receive(upstream, 4))
    rest = receive(upstream, length)
    if family == 0:
        return command, None, {}
    size = 4 if family == 0x11 else 16
    kind = socket.AF_INET if family == 0x11 else socket.AF_INET6
    source, destination = (socket.inet_ntop(kind, rest[at : at + size]) for at in (0, size))
    ports = struct.unpack(">HH", rest[2 * size : 2 * size + 4])
    tlvs, at = {}, 2 * size + 4
    while at < length:
        name, count = struct.unpack(">BH", rest[at : at + 3])
        tlvs[name] = rest[at + 3 : at + 3 + count]
        at += 3 + count
    return command, (source, ports[0], destination, ports[1]), tlvs


def own(client):
    return (*client.getsockname(), *client.getpeername())


def closed(*sockets):
    for sock in sockets:
        sock.close()


def test_a_line_tells_who_the_client_is(edge, upstream):
    client = connect(edge, "one")
    client.sendall(b"hello")
    server = upstream.accept()
    line = "PROXY TCP4 {0} {2} {1} {3}\r\n".format(*own(client)).encode()
    assert receive(server, len(line) + 5) == line + b"hello"
    server.sendall(b"back")
    assert receive(client, 4) == b"back"
    closed(client, server)


def test_version_2_tells_it_before_the_client_says_anything(edge, upstream):
    client, server = through(edge, upstream, "silent")
    assert parsed(server) == (0x21, own(client), {})
    closed(client, server)


def test_the_addresses_are_those_that_the_proxy_in_front_told(edge, upstream):
    with connect(edge, "two") as client:
        client.sendall(proxy_v2() + b"hello")
        server = upstream.accept()
        assert parsed(server) == (0x21, ("10.1.2.3", 80, "127.0.0.1", 443), {})
        assert receive(server, 5) == b"hello"
        server.close()


def test_what_is_known_of_a_connection_is_added(edge, upstream):
    numbers = []
    for _ in range(2):
        client = connect(edge, "added")
        client.sendall(b"\0something")
        server = upstream.accept()
        command, addresses, tlvs = parsed(server)
        assert (command, addresses) == (0x21, own(client))
        assert (tlvs[0xE0], tlvs[0xE3]) == (b"edge-1", b"ours")
        word, _, number = tlvs[0xE1].partition(b" ")
        assert word == b"flow"
        numbers.append(int(number))
        assert receive(server, 10) == b"\0something"
        closed(client, server)
    assert numbers[0] != numbers[1]


@pytest.mark.parametrize(
    "name, expected", [("all", {0xE2: b"two", 0xE3: b"ours", 0xE4: b""}), ("some", {0xE2: b"two"}), ("two", {})]
)
def test_what_the_client_had_in_his_header_is_passed_on(edge, upstream, name, expected):
    theirs = b"".join(tlv(kind, value) for kind, value in ((0xE2, b"two"), (0xE3, b"theirs"), (0xE4, b"")))
    with connect(edge, name) as client:
        client.sendall(proxy_v2(V4_PAIR + theirs))
        server = upstream.accept()
        assert parsed(server)[2] == expected
        server.close()


def requested(client, server):
    """One request, and its answer."""
    assert receive(server, 14) == b"GET / HTTP/1.1"
    while b"\r\n\r\n" not in server.recv(65536, socket.MSG_PEEK):
        pass
    server.recv(65536)
    server.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
    assert b" 204 " in client.recv(65536)


def test_http_requests_of_one_client_share_connections_that_speak_of_him(edge, upstream):
    """And when he goes, those go: nobody else may have them."""
    request = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
    first, second = connect(edge, "http"), connect(edge, "http")
    servers = []
    for client in (first, second):
        client.sendall(request)
        servers.append(upstream.accept())
        assert parsed(servers[-1]) == (0x21, own(client), {})
        requested(client, servers[-1])
    for client, server in ((second, servers[1]), (first, servers[0])):
        client.sendall(request)  # on the connection that is his, with no other header
        requested(client, server)
    first.close()
    assert servers[0].recv(1) == b""
    second.sendall(request)
    requested(second, servers[1])
    second.close()
    assert servers[1].recv(1) == b""
    closed(*servers)


def test_http_behind_a_proxy_in_front_tells_what_that_told(edge, upstream):
    with connect(edge, "http-behind") as client:
        client.sendall(proxy_v2() + b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        server = upstream.accept()
        line = b"PROXY TCP4 10.1.2.3 127.0.0.1 80 443\r\n"
        assert receive(server, len(line)) == line
        requested(client, server)
        server.close()


@pytest.mark.parametrize(
    "config, problem",
    [
        ({"added_tlvs": [added(1, b"x")]}, "a header of version V1 has no TLVs: say version V2"),
        ({"version": "V2", "added_tlvs": [{"type": 256, "value": "eA=="}]}, "type"),
        ({"version": "V2", "added_tlvs": [{"type": 1}]}, "one of value, format_string is required"),
        (
            {"version": "V2", "added_tlvs": [{**added(1, b"x"), **formatted(1, "y")}]},
            "value and format_string cannot both be set",
        ),
        ({"version": "V2", "added_tlvs": [formatted(1, "%NO_SUCH%")]}, "NO_SUCH"),
    ],
)
def test_a_header_that_cannot_be_is_refused(config, problem):
    refused = run("--mode", "validate", config=bootstrap([], [cluster("c", 1, transport_socket=header(**config))]))
    assert refused.returncode == 1
    assert problem in refused.stderr
