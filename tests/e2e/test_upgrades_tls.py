"""WebSocket through the proxy where a client, the upstream or both speak TLS: a real handshake, frames, bulk, ends."""

import base64
import contextlib
import hashlib
import os
import socket
import ssl

import pytest

from harness import cluster, listener, to
from tcp_support import Receiver, Sender, Upstream, connect, digest_of, receive, to_the_end
from tls_kit import Authority, client_context, end_wire, tls_listener, upstream_transport

MB = 1 << 20
SIDES = [("plain", False, False), ("in", True, False), ("out", False, True), ("both", True, True)]
TEXT, CLOSE = 0x1, 0x8


class Story:
    pass


@pytest.fixture(scope="module")
def story(module_proxy):
    it = Story()
    it.upstream = Upstream()
    authority = Authority()
    pair = authority.issue("DNS:a.test", subject="/CN=a.test")
    it.client = client_context(authority)
    it.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    it.server.load_cert_chain(pair.chain, pair.key)
    more = {"hcm": {"upgrade_configs": [{"upgrade_type": "websocket"}]}}
    it.edge = module_proxy(
        [
            listener("plain", [to("plain")], **more),
            tls_listener("in", [to("plain")], pair, **more),
            listener("out", [to("secure")], **more),
            tls_listener("both", [to("secure")], pair, **more),
        ],
        [
            cluster("plain", it.upstream.port),
            cluster("secure", it.upstream.port, transport_socket=upstream_transport()),
        ],
    )
    yield it
    it.upstream.close()


def read_head(sock):
    """Without a byte of what is behind it."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += receive(sock, 1)
    first, *fields = head.decode().lower().strip().split("\r\n")
    return first, dict(field.split(": ", 1) for field in fields)


def accept_of(key):
    """RFC 6455 4.2.2, in lower case as heads are here."""
    known = (key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()
    return base64.b64encode(hashlib.sha1(known).digest()).decode()


def switched(story, name, client_speaks, upstream_speaks):
    """Both ends of a WebSocket, each behind its handshakes."""
    client = connect(story.edge, name)
    if client_speaks:
        client = story.client.wrap_socket(client, server_hostname="a.test", suppress_ragged_eofs=False)
    key = base64.b64encode(os.urandom(16)).decode()
    client.sendall(
        b"GET /chat HTTP/1.1\r\nHost: a.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n\r\n" % key.encode()
    )
    upstream = story.upstream.accept()
    if upstream_speaks:
        upstream = story.server.wrap_socket(upstream, server_side=True, suppress_ragged_eofs=False)
    first, fields = read_head(upstream)
    assert first == "get /chat http/1.1"
    assert (fields["upgrade"], fields["sec-websocket-key"]) == ("websocket", key.lower())
    assert fields["x-forwarded-proto"] == ("https" if client_speaks else "http")
    upstream.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %s\r\n\r\n" % accept_of(key).encode()
    )
    first, fields = read_head(client)
    assert first.startswith("http/1.1 101")
    assert fields["sec-websocket-accept"] == accept_of(key).lower()
    return client, upstream


def frame(opcode, data, *, mask=False):
    """RFC 6455 5.2, for up to 64 KiB."""
    head = bytes([0x80 | opcode])
    bit = 0x80 if mask else 0
    head += bytes([bit | len(data)]) if len(data) < 126 else bytes([bit | 126]) + len(data).to_bytes(2, "big")
    if not mask:
        return head + data
    key = os.urandom(4)
    return head + key + bytes(b ^ key[i % 4] for i, b in enumerate(data))


def read_frame(sock):
    first, second = receive(sock, 2)
    size = second & 0x7F
    if size == 126:
        size = int.from_bytes(receive(sock, 2), "big")
    key = receive(sock, 4) if second & 0x80 else bytes(4)
    return first & 0xF, bytes(b ^ key[i % 4] for i, b in enumerate(receive(sock, size)))


def spliced(story):
    return story.edge.stat("server.io.splice_bytes")


@pytest.mark.parametrize("side", SIDES, ids=lambda side: side[0])
def test_a_conversation_in_frames(story, side):
    client, upstream = switched(story, *side)
    for text in (b"", b"hello", b"x" * 125, b"y" * 126, b"z" * 40_000):
        client.sendall(frame(TEXT, text, mask=True))
        assert read_frame(upstream) == (TEXT, text)
        upstream.sendall(frame(TEXT, text.upper()))
        assert read_frame(client) == (TEXT, text.upper())
    client.sendall(frame(CLOSE, b"\x03\xe8", mask=True))
    assert read_frame(upstream) == (CLOSE, b"\x03\xe8")
    upstream.sendall(frame(CLOSE, b"\x03\xe8"))
    assert read_frame(client) == (CLOSE, b"\x03\xe8")
    client.close()
    upstream.close()
    story.edge.wait_for_stat(f"http.{side[0]}.downstream_cx_upgrades_active", 0)


@pytest.mark.parametrize("side", SIDES, ids=lambda side: side[0])
def test_bulk_is_spliced_where_both_ends_are_plain(story, side):
    """Each way by itself. Bytes that have to be encrypted or decrypted cannot pass by reference."""
    client, upstream = switched(story, *side)
    moved = []
    for source, sink, seed in ((client, upstream, "up"), (upstream, client, "down")):
        before = spliced(story)
        sender = Sender(source, seed, 2 * MB, ends=False)
        assert Receiver(sink, 2 * MB).digest() == digest_of(seed, 2 * MB)
        sender.join(20)
        assert sender.error is None
        moved.append(spliced(story) - before)
    if side[0] == "plain":
        assert 0 < min(moved) and max(moved) <= 2 * MB  # what comes in small pieces is copied
    else:
        assert moved == [0, 0]
    client.close()
    upstream.close()


@pytest.mark.parametrize("side", SIDES, ids=lambda side: side[0])
def test_an_end_of_one_direction_leaves_the_other(story, side):
    client, upstream = switched(story, *side)
    client.sendall(b"all I have")
    if side[1]:
        client.setblocking(False)
        with contextlib.suppress(ssl.SSLWantReadError):
            client.unwrap()  # says close_notify, and would wait for the other's
        end_wire(client)
    else:
        client.shutdown(socket.SHUT_WR)
    assert to_the_end(upstream) == b"all I have"
    upstream.sendall(frame(TEXT, b"an answer"))
    upstream.close()
    if not side[1]:  # Python's TLS cannot receive once it has said its end
        assert to_the_end(client) == frame(TEXT, b"an answer")
    client.close()
    story.edge.wait_for_stat(f"http.{side[0]}.downstream_cx_upgrades_active", 0)
