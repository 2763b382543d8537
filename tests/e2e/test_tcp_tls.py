"""The TCP proxy between ends that speak TLS: opened at the listener, spoken to the upstream, or both."""

import contextlib
import socket
import ssl

import pytest

from harness import cluster
from tcp_support import (
    Receiver,
    Sender,
    Upstream,
    connect,
    digest_of,
    receive,
    reset,
    tcp_edge,
    tcp_listener,
    tcp_proxy,
    to_the_end,
)
from test_tcp_proxy_header import TRANSPORT
from tls_kit import Authority, client_context, end_wire, transport, upstream_transport

MB = 1 << 20
SIDES = [("in", True, False), ("out", False, True), ("both", True, True)]


class Story:
    pass


@pytest.fixture(scope="module")
def story(module_proxy):
    it = Story()
    it.upstream = Upstream()
    authority = Authority()
    it.pair = authority.issue("DNS:a.test", subject="/CN=a.test")
    it.client = client_context(authority)
    it.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    it.server.load_cert_chain(it.pair.chain, it.pair.key)
    opened = {"transport_socket": transport({"tls_certificates": [it.pair.config()]})}
    header = {
        "@type": TRANSPORT,
        "config": {"version": "V1"},
        "transport_socket": upstream_transport(),
    }
    it.edge = module_proxy(
        [
            tcp_listener("in", tcp_proxy("plain", "in"), chain=opened),
            tcp_edge("out", "secure"),
            tcp_listener("both", tcp_proxy("secure", "both"), chain=opened),
            tcp_edge("told", "told"),
        ],
        [
            cluster("plain", it.upstream.port),
            cluster("secure", it.upstream.port, transport_socket=upstream_transport()),
            cluster(
                "told",
                it.upstream.port,
                transport_socket={"name": "envoy.transport_sockets.upstream_proxy_protocol", "typed_config": header},
            ),
        ],
    )
    yield it
    it.upstream.close()


def secured(story, name, client_speaks, upstream_speaks):
    """Both ends, when their handshakes are over."""
    client = connect(story.edge, name)
    if client_speaks:
        client = story.client.wrap_socket(client, server_hostname="a.test", suppress_ragged_eofs=False)
    upstream = story.upstream.accept()
    if upstream_speaks:
        upstream = story.server.wrap_socket(upstream, server_side=True, suppress_ragged_eofs=False)
    return client, upstream


@pytest.mark.parametrize("side", SIDES, ids=lambda side: side[0])
def test_what_is_said_arrives_through_tls(story, side):
    client, upstream = secured(story, *side)
    for turn in range(5):
        client.sendall(b"question %d" % turn)
        assert receive(upstream, 10) == b"question %d" % turn
        upstream.sendall(b"answer %d" % turn)
        assert receive(client, 8) == b"answer %d" % turn
    client.close()
    upstream.close()


@pytest.mark.parametrize("side", SIDES, ids=lambda side: side[0])
def test_bulk_arrives_through_tls_and_so_does_its_end(story, side):
    """A way at a time: Python's TLS does not send and receive at once."""
    client, upstream = secured(story, *side)
    for source, sink, seed in ((client, upstream, "up"), (upstream, client, "down")):
        sender = Sender(source, seed, 2 * MB, ends=False)
        receiver = Receiver(sink, 2 * MB)
        assert receiver.digest() == digest_of(seed, 2 * MB)
        sender.join(20)
        assert sender.error is None
    if side[2]:
        upstream.setblocking(False)
        with contextlib.suppress(ssl.SSLWantReadError):
            upstream.unwrap()  # says close_notify, and would wait for the client's
    else:
        upstream.shutdown(socket.SHUT_WR)
    assert to_the_end(client) == b""
    client.close()
    upstream.close()


UNSAID = "ssl.end_without_close_notify"


def test_an_end_without_close_notify_is_passed_on_as_an_end(story):
    """As Envoy does. The other way goes on, and it is counted where it came from."""
    names = (f"listener.127.0.0.1_0.{UNSAID}", f"cluster.secure.{UNSAID}")
    before = [story.edge.stat(name) for name in names]
    client, upstream = secured(story, "in", True, False)
    client.sendall(b"all I have")
    end_wire(client)
    assert to_the_end(upstream) == b"all I have"
    upstream.sendall(b"an answer")
    upstream.shutdown(socket.SHUT_WR)
    assert to_the_end(client) == b"an answer"  # which ends with close_notify: ragged ends are errors here
    assert [story.edge.stat(name) for name in names] == [before[0] + 1, before[1]]
    client.close()
    upstream.close()

    client, upstream = secured(story, "out", False, True)
    upstream.sendall(b"all I have")
    end_wire(upstream)
    assert to_the_end(client) == b"all I have"
    client.sendall(b"an answer")
    client.shutdown(socket.SHUT_WR)
    assert to_the_end(upstream) == b"an answer"
    assert [story.edge.stat(name) for name in names] == [before[0] + 1, before[1] + 1]
    client.close()
    upstream.close()


def test_an_upstream_that_does_not_speak_it_is_a_failed_connect(story):
    failed = story.edge.stat("cluster.secure.upstream_cx_connect_fail")
    client = connect(story.edge, "out")
    upstream = story.upstream.accept()
    receive(upstream, 100)
    upstream.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
    assert to_the_end(client) == b""
    assert story.edge.stat("cluster.secure.upstream_cx_connect_fail") == failed + 1
    reset(upstream)
    client.close()


def test_a_proxy_header_stands_before_the_handshake(story):
    client = connect(story.edge, "told")
    upstream = story.upstream.accept()
    line = "PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\n".format(client.getsockname()[1], client.getpeername()[1]).encode()
    assert receive(upstream, len(line)) == line
    upstream = story.server.wrap_socket(upstream, server_side=True)
    client.sendall(b"hello")
    assert receive(upstream, 5) == b"hello"
    client.close()
    upstream.close()
