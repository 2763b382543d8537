"""Clients that change the protocol on their connection, as WebSocket does (RFC 9110, section 7.8)."""

import socket
import struct
import threading


import pytest
from harness import LogFile, Proxy, bootstrap, cluster, direct, eventually, listener, to
from head_server import HeadServer

WEBSOCKET = [{"upgrade_type": "websocket"}]
OFF = [{"upgrade_type": "websocket", "enabled": False}]
AGREES = (
    b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
    b"sec-websocket-accept: yes\r\n\r\n"
)


class Switcher(HeadServer):
    """Answers with what it is told, and after a 101 sends back what it gets, in capitals; `ends` or `resets`: and that
    is the end as soon as it got some."""

    def __init__(self):
        self.answer, self.ends, self.resets = AGREES, False, False
        self.heads, self.rests = [], []
        super().__init__()

    def serve(self, peer, head, rest):
        self.heads.append(head.lower().split("\r\n"))
        self.rests.append(rest)
        answer = self.answer
        peer.sendall(answer)
        while more := peer.recv(65536):
            rest += more
            if answer == AGREES:
                peer.sendall(more.upper())
                if self.resets:
                    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                if self.ends or self.resets:
                    return
        if answer == AGREES:
            peer.sendall(b"<end>")


@pytest.fixture(scope="module")
def switcher():
    switcher = Switcher()
    yield switcher
    switcher.close()


@pytest.fixture
def upstream(switcher):
    switcher.answer, switcher.ends, switcher.resets = AGREES, False, False
    switcher.heads.clear()
    switcher.rests.clear()
    return switcher


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    text = "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %BYTES_RECEIVED% %BYTES_SENT%"
    return LogFile(tmp_path_factory.mktemp("log") / "access", text)


@pytest.fixture(scope="module")
def edge(switcher, log):
    def routes(default=()):
        return [
            to(prefix="/on", upgrade_configs=WEBSOCKET, **dict(default)),
            to(prefix="/off", upgrade_configs=OFF),
            to(prefix="/soon", idle_timeout="0.7s", upgrade_configs=WEBSOCKET),
            to(prefix="/late", timeout="0.7s", upgrade_configs=WEBSOCKET),
            direct(200, "here\n", "/direct"),
            to(),
        ]

    proxy = Proxy(
        bootstrap(
            [
                listener("all", routes(), hcm={"upgrade_configs": WEBSOCKET, "access_log": [log.config]}),
                listener("none", routes()),
            ],
            [cluster("origin", switcher.port)],
        )
    )
    yield proxy
    assert proxy.stop() == 0


def ask(edge, path="/", name="all", *, upgrade="websocket", fields="", method="GET", version="1.1", behind=b""):
    """A client that has sent its head and what is behind it."""
    client = edge.connect(name)
    client.method = method
    head = (
        f"{method} {path} HTTP/{version}\r\nhost: a.test\r\nconnection: keep-alive, Upgrade\r\nupgrade: {upgrade}\r\n"
    )
    client.send_bytes((head + "sec-websocket-key: k\r\n" + fields + "\r\n").encode() + behind)
    return client


def read_head(client):
    """Head of a response that switches; what is behind it stays in client.rest."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = client.sock.recv(65536)
        assert more, data
        data += more
    head, _, client.rest = data.partition(b"\r\n\r\n")
    first, *fields = head.decode().lower().split("\r\n")
    return first, dict(field.split(": ", 1) for field in fields)


def read_exactly(client, count):
    while len(client.rest) < count:
        more = client.sock.recv(65536)
        assert more, client.rest
        client.rest += more
    data, client.rest = client.rest[:count], client.rest[count:]
    return data


def read_to_end(client):
    data = client.rest
    while more := client.sock.recv(65536):
        data += more
    return data


def test_bytes_go_both_ways_until_both_have_ended(edge, upstream, log):
    """The client ends first: the upstream hears of it, may still say something, and ends."""
    client = ask(edge)
    first, fields = read_head(client)
    assert first.startswith("http/1.1 101")
    assert (fields["connection"], fields["upgrade"]) == ("upgrade", "websocket")
    assert fields["sec-websocket-accept"] == "yes"
    assert "content-length" not in fields and "transfer-encoding" not in fields
    assert "connection: upgrade" in upstream.heads[0]
    assert "upgrade: websocket" in upstream.heads[0]
    assert "sec-websocket-key: k" in upstream.heads[0]
    assert edge.stat("http.all.downstream_cx_upgrades_active") == 1
    for text in (b"one", b"two" * 5000, b"three"):
        client.send_bytes(text)
        assert read_exactly(client, len(text)) == text.upper()
    client.sock.shutdown(socket.SHUT_WR)
    assert read_to_end(client) == b"<end>"
    edge.wait_for_stat("http.all.downstream_cx_upgrades_active", 0)
    line = f"101 - via_upstream {15008} {15008 + 5}"
    eventually(lambda: line in log.lines(edge, 1), what=line)
    assert edge.stat("cluster.origin.upstream_cx_active") == 0  # never used again


def test_the_upstreams_end_is_the_end(edge, upstream):
    upstream.ends = True
    client = ask(edge)
    read_head(client)
    client.send_bytes(b"bye")
    assert read_to_end(client) == b"BYE"


def test_much_is_passed_on_without_a_look(edge, upstream):
    """64 MiB would be slow; 4 MiB show that both directions flow at once."""
    client = ask(edge)
    read_head(client)
    data = bytes(range(97, 123)) * (1 << 12) * 40
    sender = threading.Thread(target=client.send_bytes, args=(data,))
    sender.start()
    assert read_exactly(client, len(data)) == data.upper()
    sender.join()
    client.sock.shutdown(socket.SHUT_WR)
    assert read_to_end(client) == b"<end>"


SMUGGLED = b"GET /admin HTTP/1.1\r\nhost: a.test\r\n\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno",
        b"HTTP/1.1 426 Upgrade Required\r\nupgrade: websocket\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 400 Bad Request\r\ntransfer-encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n",
    ],
    ids=["200", "426", "chunked"],
)
def test_nothing_is_smuggled_behind_an_upgrade_that_is_refused(edge, upstream, answer):
    """What stands behind the head would be a request to the upstream, which no route has seen."""
    upstream.answer = answer
    client = ask(edge, behind=SMUGGLED)
    reply = client.read_reply()
    assert reply.status == int(answer.split()[1])
    assert reply.header("connection") == "close"
    assert client.read_to_end() == b""
    assert [bytes(rest) for rest in upstream.rests] == [b""]
    edge.wait_for_stat("cluster.origin.upstream_cx_active", 0)


def test_what_comes_early_arrives_after_the_switch(edge, upstream):
    client = ask(edge, behind=b"early")
    read_head(client)
    assert read_exactly(client, 5) == b"EARLY"
    client.close()
    edge.wait_for_stat("http.all.downstream_cx_upgrades_active", 0)


@pytest.mark.parametrize(
    ("name", "path", "allowed"),
    [
        ("all", "/", True),
        ("all", "/off", False),
        ("none", "/", False),
        ("none", "/on", True),
        ("none", "/direct", False),
    ],
)
def test_the_route_overrides_the_manager(edge, upstream, name, path, allowed):
    refused = edge.stat(f"http.{name}.downstream_rq_ws_on_non_ws_route")
    client = ask(edge, path, name)
    if allowed:
        assert read_head(client)[0].startswith("http/1.1 101")
        client.close()
    else:
        reply = client.read_reply()
        assert (reply.status, reply.header("connection"), reply.body) == (403, "close", b"")
        assert upstream.heads == []
    assert edge.stat(f"http.{name}.downstream_rq_ws_on_non_ws_route") == refused + (not allowed)


@pytest.mark.parametrize(
    ("how", "status"),
    [
        ({"upgrade": "other"}, 403),
        ({"upgrade": "websocket, h2c"}, 403),
        ({"fields": "upgrade: websocket\r\n"}, 403),
        ({"version": "1.0"}, 426),
        ({"method": "HEAD"}, 403),
        ({"method": "POST", "fields": "content-length: 3\r\n", "behind": b"abc"}, 400),
        ({"method": "POST", "fields": "transfer-encoding: chunked\r\n", "behind": b"0\r\n\r\n"}, 400),
    ],
    ids=["other", "two", "twice", "1.0", "HEAD", "length", "chunked"],
)
def test_what_is_no_upgrade_is_refused(edge, upstream, how, status):
    errors = edge.stat("http.all.downstream_cx_protocol_error")
    with ask(edge, **how) as client:
        assert client.read_reply().status == status
        assert client.read_to_end() == b""
    assert edge.stat("http.all.downstream_cx_protocol_error") == errors + (status != 403)
    assert upstream.heads == []


def test_an_upgrade_to_h2c_is_an_ordinary_request(edge, upstream):
    upstream.answer = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
    with ask(edge, upgrade="h2c") as client:
        assert client.read_reply().status == 200
    assert not any(line.startswith(("upgrade:", "connection:")) for line in upstream.heads[0])


def test_a_response_made_here_is_an_ordinary_one(edge, upstream):
    with ask(edge, "/direct") as client:
        reply = client.read_reply()
        assert (reply.status, reply.body, reply.header("connection")) == (200, b"here\n", "close")


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    ],
)
def test_an_upstream_that_switches_by_halves_is_broken(edge, upstream, answer):
    upstream.answer = answer
    with ask(edge) as client:
        assert client.read_reply().status == 502


def test_what_became_of_it_is_logged(edge, upstream, log):
    """A WebSocket's client that got something else; an upstream that broke off."""

    def logged(line):
        eventually(lambda: line in log.lines(edge, 0), what=f"the line {line}")

    upstream.answer = b"HTTP/1.1 302 Found\r\nlocation: /login\r\ncontent-length: 0\r\n\r\n"
    with ask(edge) as client:
        assert client.read_reply().status == 302
    logged("302 - websocket_handshake_unsuccessful 0 0")
    upstream.answer, upstream.resets = AGREES, True
    client = ask(edge)
    _, fields = read_head(client)
    assert "x-envoy-upstream-service-time" not in fields  # the request is not over
    client.send_bytes(b"bye")
    assert read_to_end(client) == b"BYE"
    logged("101 UC upstream_reset_after_response_started{connection_termination} 3 3")


def test_a_tunnel_without_traffic_ends(edge, upstream):
    idle = edge.stat("http.all.downstream_rq_idle_timeout")
    client = ask(edge, "/soon")
    read_head(client)
    assert read_to_end(client) == b""
    edge.wait_for_stat("http.all.downstream_rq_idle_timeout", idle + 1)


def test_the_routes_timeout_is_for_the_answer(edge, upstream):
    """A tunnel may live longer; an upstream that does not answer may not."""
    client = ask(edge, "/late")
    read_head(client)
    upstream.answer = b""
    slow = ask(edge, "/late")
    assert slow.read_reply().status == 504
    client.send_bytes(b"still here")
    assert read_exactly(client, 10) == b"STILL HERE"
    client.close()
