"""Bodies pass through whole, in constant memory, whatever their size and pace."""

import hashlib
import socket
import threading

import pytest

from harness import cluster, direct, encode_chunk, eventually, is_sanitized, listener, to

MEGABYTE = 1 << 20
LARGE = (32 if is_sanitized() else 100) * MEGABYTE
BLOCK = bytes(i * 7 % 251 for i in range(MEGABYTE + 13))  # no round number
GROWTH_KB = 8 * 1024  # what a proxy may grow by, however much passes through


def pieces(size):
    while size:
        yield BLOCK[:size]
        size -= min(size, len(BLOCK))


def digest_of(size):
    whole = hashlib.sha256()
    for piece in pieces(size):
        whole.update(piece)
    return whole.digest()


def digest_read(read, size=None):
    """What comes out of read(n), up to size bytes or the end."""
    whole, left = hashlib.sha256(), size
    while left is None or left > 0:
        piece = read(MEGABYTE if left is None else min(left, MEGABYTE))
        if not piece:
            break
        whole.update(piece)
        left = None if left is None else left - len(piece)
    return whole.digest()


def read_chunked(reader):
    """A chunked body's digest, without the body in memory."""
    whole = hashlib.sha256()
    while size := int(reader.line(), 16):
        whole.update(reader.exactly(size))
        reader.exactly(2)
    assert reader.fields() == []
    return whole.digest()


def in_background(fn, *args):
    thread = threading.Thread(target=fn, args=args, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize("size", [0, 1, 128, 16_383, 16_384, 65_537, 1_000_000])
def test_a_body_reaches_the_origin_and_comes_back(proxy, origin, size):
    edge = proxy([listener("edge", [to()])], [cluster("origin", origin.port)])
    body = bytes(i * 7 % 251 for i in range(size))
    with edge.connect() as client:
        for _ in range(2):  # the second one on the same, pooled, connections
            reply = client.ask("POST", "/", body=body)
            assert reply.status == 200
            assert hashlib.sha256(reply.body).digest() == hashlib.sha256(body).digest()
    assert origin.connections == 1


def test_a_chunked_body_stays_chunked(proxy, origin):
    edge = proxy([listener("edge", [to()])], [cluster("origin", origin.port)])
    with edge.connect() as client:
        reply = client.ask("POST", "/", body=[b"one", b"two", b"three"])
    assert reply.status == 200
    assert reply.body == b"onetwothree"
    assert origin.last().header("transfer-encoding") == "chunked"


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_large_request_body(proxy, origins, framing):
    received = []

    def answer(exchange):
        if framing == "length":
            received.append(digest_read(exchange.reader.file.read, LARGE))
        else:
            received.append(read_chunked(exchange.reader))
        exchange.reply(200, b"thanks")

    edge = proxy([listener("edge", [to()])], [cluster("origin", origins(answer).port)])
    before = edge.rss_kb()
    with edge.connect() as client:
        if framing == "length":
            client.send_head("POST", "/", [("content-length", str(LARGE))])
            for piece in pieces(LARGE):
                client.send_bytes(piece)
        else:
            client.send_head("POST", "/", [("transfer-encoding", "chunked")])
            for piece in pieces(LARGE):
                client.send_chunk(piece)
            client.send_end()
        assert client.read_reply().body == b"thanks"
    assert received == [digest_of(LARGE)]
    assert is_sanitized() or edge.rss_kb() - before < GROWTH_KB


@pytest.mark.parametrize("framing", ["length", "chunked", "until-close"])
def test_a_large_response_body(proxy, origins, framing):
    def answer(exchange):
        if framing == "length":
            exchange.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % LARGE)
        elif framing == "chunked":
            exchange.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        else:
            exchange.send(b"HTTP/1.1 200 OK\r\n\r\n")
        for piece in pieces(LARGE):
            exchange.send(encode_chunk(piece) if framing == "chunked" else piece)
        if framing == "chunked":
            exchange.send(b"0\r\n\r\n")
        elif framing == "until-close":
            exchange.sock.shutdown(socket.SHUT_WR)

    edge = proxy([listener("edge", [to()])], [cluster("origin", origins(answer).port)])
    before = edge.rss_kb()
    with edge.connect() as client:
        client.send("GET", "/")
        assert client.read_head()[0] == "200"
        if framing == "length":
            got = digest_read(client.reader.file.read, LARGE)
        else:
            got = read_chunked(client.reader)
        assert got == digest_of(LARGE)
    assert is_sanitized() or edge.rss_kb() - before < GROWTH_KB


def test_both_directions_at_once(proxy, origins):
    """The origin answers while it reads, as an echo does; neither side ever holds the whole."""

    def answer(exchange):
        exchange.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % LARGE)
        left = LARGE
        while left:
            piece = exchange.reader.file.read(min(left, 65_537))
            exchange.send(piece)
            left -= len(piece)

    edge = proxy([listener("edge", [to()])], [cluster("origin", origins(answer).port)])
    before = edge.rss_kb()
    with edge.connect() as client:
        client.send_head("POST", "/", [("content-length", str(LARGE))])
        writer = in_background(lambda: [client.send_bytes(piece) for piece in pieces(LARGE)])
        assert client.read_head()[0] == "200"
        assert digest_read(client.reader.file.read, LARGE) == digest_of(LARGE)
        writer.join(20)
    assert is_sanitized() or edge.rss_kb() - before < GROWTH_KB


class Meter:
    """Sends for ever, counting, so that a test sees where it comes to a halt."""

    def __init__(self):
        self.sent = 0

    def run(self, send, total):
        try:
            for piece in pieces(total):
                for at in range(0, len(piece), 65536):
                    send(piece[at : at + 65536])
                    self.sent += min(65536, len(piece) - at)
        except OSError:
            pass

    def wait_until_stuck(self):
        """Until nothing more was taken over twenty looks."""
        history = []

        def is_stuck():
            history.append(self.sent)
            return len(history) > 20 and history[-1] == history[-20] > 0

        eventually(is_stuck, what="a sender that blocks")
        return self.sent


def little(sock, which):
    """Of a test's own end: the kernel's buffers of both connections together hold LARGE bytes, else, at times."""
    sock.setsockopt(socket.SOL_SOCKET, which, 1 << 16)


def test_a_slow_client_holds_back_the_origin(proxy, origins):
    """The origin's sender blocks once the sockets between are full, and the proxy keeps next to
    nothing of it; when the client reads on, all of it arrives."""
    meter = Meter()

    def answer(exchange):
        little(exchange.sock, socket.SO_SNDBUF)
        exchange.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % LARGE)
        meter.run(exchange.send, LARGE)

    edge = proxy([listener("edge", [to()])], [cluster("origin", origins(answer).port)])
    before = edge.rss_kb()
    with edge.connect() as client:
        little(client.sock, socket.SO_RCVBUF)
        client.send("GET", "/")
        assert client.read_head()[0] == "200"
        assert meter.wait_until_stuck() < LARGE
        assert is_sanitized() or edge.rss_kb() - before < GROWTH_KB
        assert digest_read(client.reader.file.read, LARGE) == digest_of(LARGE)
    assert is_sanitized() or edge.rss_kb() - before < GROWTH_KB


def test_a_slow_origin_holds_back_the_client(proxy, origins):
    go_on = threading.Event()
    received = []

    def answer(exchange):
        little(exchange.sock, socket.SO_RCVBUF)
        go_on.wait(60)
        received.append(digest_read(exchange.reader.file.read, LARGE))
        exchange.reply(200, b"thanks")

    edge = proxy([listener("edge", [to()])], [cluster("origin", origins(answer).port)])
    before = edge.rss_kb()
    meter = Meter()
    with edge.connect() as client:
        little(client.sock, socket.SO_SNDBUF)
        client.send_head("POST", "/", [("content-length", str(LARGE))])
        writer = in_background(meter.run, client.send_bytes, LARGE)
        assert meter.wait_until_stuck() < LARGE
        assert is_sanitized() or edge.rss_kb() - before < GROWTH_KB
        go_on.set()
        assert client.read_reply().body == b"thanks"
        writer.join(20)
    assert received == [digest_of(LARGE)]


def test_many_slow_clients_cost_little_each(proxy, origins):
    """Many stuck downloads hold a buffer each, not a body each."""

    def answer(exchange):
        exchange.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % LARGE)
        exchange.send(BLOCK)  # does not return: sockets and proxy hold less
        exchange.send(BLOCK)

    origin = origins(answer)
    edge = proxy([listener("edge", [to()])], [cluster("origin", origin.port)])
    before = edge.rss_kb()
    clients = []
    for _ in range(50):
        client = edge.connect()
        client.send("GET", "/")
        clients.append(client)
    for client in clients:
        assert client.read_head()[0] == "200"
    assert is_sanitized() or edge.rss_kb() - before < 2 * GROWTH_KB
    for client in clients:
        client.abort()
    eventually(lambda: origin.open == 0, what="the origin's connections closed")


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_an_answer_that_does_not_wait_for_the_body(proxy, origins, framing):
    """The origin answers from the head alone and closes, with the body still coming: the client gets
    that answer, and the connection ends, as nobody will read the rest."""

    def answer(exchange):
        exchange.reply(413, b"too large", [("connection", "close")])

    origin = origins(answer)
    edge = proxy([listener("edge", [to()])], [cluster("origin", origin.port)])
    with edge.connect() as client:
        if framing == "length":
            client.send_head("POST", "/", [("content-length", "1000000000")])
        else:
            client.send_head("POST", "/", [("transfer-encoding", "chunked")])
            client.send_chunk(b"some")
        reply = client.read_reply()
        assert (reply.status, reply.body) == (413, b"too large")
        assert reply.header("connection") == "close"
        client.wait_closed()
    eventually(lambda: origin.open == 0, what="the origin's connection closed")
    assert edge.stat("http.edge.downstream_rq_response_before_rq_complete") == 1


def test_an_answer_that_comes_while_the_client_is_stuck_writing(proxy, origins):
    """The origin does not read the body at all, so client and proxy have come to a halt when it
    answers."""
    go_on = threading.Event()

    def answer(exchange):
        go_on.wait(60)
        exchange.reply(403, b"no", [("connection", "close")])

    edge = proxy([listener("edge", [to()])], [cluster("origin", origins(answer).port)])
    meter = Meter()
    with edge.connect() as client:
        client.send_head("POST", "/", [("content-length", str(LARGE))])
        writer = in_background(meter.run, client.send_bytes, LARGE)
        meter.wait_until_stuck()
        go_on.set()
        reply = client.read_reply()
        assert (reply.status, reply.body) == (403, b"no")
        client.wait_closed()
        writer.join(20)


@pytest.mark.parametrize("size", [1, 1000, 100_000_000])
def test_an_early_answer_of_the_proxy_itself(proxy, size):
    """A direct response needs no body. The connection goes on only if the proxy says so, and then
    nothing of the body is taken for a request."""
    edge = proxy([listener("edge", [direct(200, "direct\n")])])
    with edge.connect() as client:
        client.send_head("POST", "/", [("content-length", str(size))])
        client.send_bytes(b"G" * min(size, 1000))
        reply = client.read_reply()
        assert (reply.status, reply.body) == (200, b"direct\n")
        if reply.header("connection") == "close":
            client.wait_closed()
        else:
            assert size <= 1000
            assert client.ask("GET", "/").body == b"direct\n"


def test_a_response_that_ends_before_the_request(proxy, origins):
    """The whole response is there, and the request's body goes on: once the client has sent all of
    it, origin and client are both content."""
    received = []

    def answer(exchange):
        exchange.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nearly\r\n")
        received.append(exchange.request.read_body())
        exchange.send(b"0\r\n\r\n")

    origin = origins(answer)
    edge = proxy([listener("edge", [to()])], [cluster("origin", origin.port)])
    with edge.connect() as client:
        for _ in range(2):
            client.send_head("POST", "/", [("content-length", "8")])
            client.send_bytes(b"half")
            status, headers = client.read_head()
            assert status == "200"
            assert client.reader.exactly(10) == b"5\r\nearly\r\n"
            client.send_bytes(b"half")
            assert client.reader.exactly(5) == b"0\r\n\r\n"
            if dict(headers).get("connection") == "close":
                break
    assert received[0] == b"halfhalf"
