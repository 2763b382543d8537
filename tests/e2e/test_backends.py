"""Sockets talk to the kernel in one of two ways (--io). Whoever is at their other end cannot tell which: the
same bytes from clients and origins bring the same bytes to both."""

import re
import socket
import threading

import pytest
from harness import cluster, direct, encode_chunk, listener, to
from head_server import serve_each

CLIENTS = 24  # at once, so that a round has many receives and sends
BODY = bytes(range(256)) * 180  # more than two blocks


def head(line, *fields):
    return "\r\n".join([line, "host: a.test", *fields]).encode() + b"\r\n\r\n"


CLOSE = "connection: close"
LAST = head("GET /last HTTP/1.1", CLOSE)
CHUNKED = b"".join(encode_chunk(BODY[at : at + 7000]) for at in range(0, len(BODY), 7000)) + b"0\r\n\r\n"
SCRIPTS = {
    "one after the other": [head(f"GET /{i} HTTP/1.1") for i in range(8)] + [LAST],
    "in one packet": [b"".join(head(f"GET /{i} HTTP/1.1") for i in range(30)) + LAST],
    "byte by byte": [bytes([byte]) for byte in head("GET /slow HTTP/1.1") + LAST],
    "a body with length": [head("POST /up HTTP/1.1", f"content-length: {len(BODY)}"), BODY, LAST],
    "a body in chunks": [head("POST /up HTTP/1.1", "transfer-encoding: chunked") + CHUNKED[:99], CHUNKED[99:], LAST],
    "large answers": [head("GET /large HTTP/1.1"), head("GET /large-chunked HTTP/1.1"), LAST],
    "direct and proxied": [head("GET /direct HTTP/1.1") + head("GET /1 HTTP/1.1"), head("GET /direct HTTP/1.1", CLOSE)],
    "no HTTP": [head("GET /1 HTTP/1.1"), b"\x16\x03\x01\x00\xa5 is no request\r\n\r\n"],
    "smuggled": [head("POST /1 HTTP/1.1", "content-length: 5", "transfer-encoding: chunked") + b"0\r\n\r\nG"],
    "the origin ends early": [head("GET /1 HTTP/1.1"), head("GET /cut HTTP/1.1")],
    "the origin says nothing": [head("GET /mute HTTP/1.1", CLOSE)],
}


class Origin:
    """Answers by path, and keeps the bytes that came, request by request."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self.listener.getsockname()[1]
        self.requests = []
        serve_each(self.listener, self.serve)

    def serve(self, connection):
        came = b""
        with connection:
            while True:
                while not (length := self.whole(came)):
                    data = connection.recv(65536)
                    if not data:
                        return
                    came += data
                request, came = came[:length], came[length:]
                self.requests.append(request)
                answer, goes_on = self.answer(request.split(b" ", 2)[1])
                connection.sendall(answer)
                if not goes_on:
                    return

    @staticmethod
    def whole(came):
        end = came.find(b"\r\n\r\n")
        if end < 0:
            return 0
        if b"transfer-encoding: chunked" in came[:end]:
            last = came.find(b"0\r\n\r\n", len(came) - 5)
            return len(came) if last >= 0 else 0
        length = re.search(rb"content-length: (\d+)", came[:end])
        length = end + 4 + (int(length.group(1)) if length else 0)
        return length if len(came) >= length else 0

    @staticmethod
    def answer(path):
        if path == b"/cut":
            return b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly this", False
        if path == b"/mute":
            return b"", False
        if path == b"/large":
            return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(BODY) + BODY, True
        if path == b"/large-chunked":
            return b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + CHUNKED, True
        return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(path) + path, True

    def close(self):
        self.listener.close()


def talk(port, steps):
    """What came back until the proxy ended the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for step in steps:
                client.sendall(step)
        except ConnectionError:
            pass  # it was refused before its end
        back = b""
        try:
            while data := client.recv(65536):
                back += data
        except ConnectionResetError:
            back += b" (reset)"
        return back


def without_what_changes(head_and_body):
    for field in (rb"date", rb"x-request-id", rb"x-envoy-upstream-service-time"):
        head_and_body = re.sub(rb"\r\n" + field + rb": [^\r]*", rb"\r\n" + field + rb": *", head_and_body)
    return head_and_body


def without_sizes(message):
    """Where the proxy divides a chunked body depends on when its parts came."""
    return re.sub(rb"(?:\r\n)?\b[0-9a-f]+\r\n", b"", message)


def transcripts(proxy, io, steps):
    """(what each client got, what the origin got, how often the ring was entered)"""
    origin = Origin()
    routes = [direct(200, "direct\n", "/direct"), to()]
    edge = proxy([listener("edge", routes)], [cluster("origin", origin.port)], flags=["--io", io, "--concurrency", "1"])
    got = [b""] * CLIENTS

    def play(number):
        back = without_what_changes(talk(edge.port(), steps))
        got[number] = without_sizes(back) if b"transfer-encoding: chunked" in back else back

    threads = [threading.Thread(target=play, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    origin.close()
    requests = sorted(without_sizes(without_what_changes(request)) for request in origin.requests)
    return got, requests, edge.stat("server.io.ring_calls"), edge.log()


@pytest.mark.parametrize("name", SCRIPTS)
def test_nobody_can_tell_the_backends_apart(proxy, monkeypatch, name):
    monkeypatch.delenv("SLUICE_IO", raising=False)
    by_epoll, origin_by_epoll, epoll_rings, _ = transcripts(proxy, "epoll", SCRIPTS[name])
    by_ring, origin_by_ring, rings, log = transcripts(proxy, "auto", SCRIPTS[name])
    if "no io_uring" in log:
        pytest.skip("no io_uring here")
    assert epoll_rings == 0
    if name == "one after the other":
        assert rings > 0
    assert origin_by_ring == origin_by_epoll
    assert set(by_ring) == set(by_epoll)
    assert len(set(by_epoll)) == 1, set(by_epoll)
