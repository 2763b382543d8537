#!/usr/bin/env python3
"""Drives a Sluice that counts what it executes, for a build that is optimised by a profile.

usage: train.py SLUICE

A mix of what proxies mostly do: small requests on connections that stay, some with many fields, with
bodies in both directions, with length and chunked, a few new connections, routes that are not found.
Nothing is measured here. What is rare in it is laid out as rare, but works all the same.
"""

import json
import multiprocessing
import pathlib
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time

CONNECTIONS = 64
ROUNDS = 250
DEADLINE_S = 120
TYPE = "type.googleapis.com/envoy.extensions.filters"


def message(first_line, fields, body=b"", chunked=False):
    if chunked:
        fields = {**fields, "Transfer-Encoding": "chunked"}
        body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:700], body[700:]))
        body += b"0\r\n\r\n"
    elif body or first_line.startswith(("HTTP", "POST")):
        fields = {**fields, "Content-Length": len(body)}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{first_line}\r\n{lines}\r\n".encode() + body


BROWSER = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Accept-Language": "en-US,en;q=0.5",
    "Accept-Encoding": "gzip, deflate, br",
    "Cookie": "session=0123456789abcdef0123456789abcdef; theme=dark; consent=yes",
    "Cache-Control": "max-age=0",
    "X-Forwarded-For": "10.1.2.3",
}
HOST = {"Host": "example.org"}
REQUESTS = (
    [message("GET /small HTTP/1.1", HOST)] * 10
    + [message("GET /small?page=2&of=17 HTTP/1.1", {**HOST, **BROWSER})] * 5
    + [message("GET /api/items HTTP/1.1", {**HOST, "Authorization": "Bearer " + "t" * 300})] * 2
    + [message("POST /api/items HTTP/1.1", {**HOST, "Content-Type": "application/json"}, b"{}" * 400)]
    + [message("POST /api/items HTTP/1.1", {**HOST, **BROWSER}, b"x" * 1500, chunked=True)]
    + [message("GET /page HTTP/1.1", {**HOST, **BROWSER})]
    + [message("GET /chunked HTTP/1.1", HOST)]
    + [message("GET /large HTTP/1.1", HOST)]
    + [message("GET /nowhere HTTP/1.1", HOST)]
)
SERVED = {"Content-Type": "text/html", "Server": "origin", "Cache-Control": "no-store"}
RESPONSES = {
    b"/small": message("HTTP/1.1 200 OK", SERVED, b"x" * 128),
    b"/api/items": message("HTTP/1.1 201 Created", {**SERVED, "ETag": '"17"'}, b"{}" * 64),
    b"/page": message("HTTP/1.1 200 OK", {**SERVED, "Set-Cookie": "a=b; Path=/"}, b"x" * 14000),
    b"/chunked": message("HTTP/1.1 200 OK", SERVED, b"x" * 1500, chunked=True),
    b"/large": message("HTTP/1.1 200 OK", SERVED, b"x" * 300000),
}


def whole_message(data):
    """The length of the first message in data; 0 when it is not whole."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return 0
    head = bytes(data[:end]).lower()
    if b"\r\ntransfer-encoding: chunked" in head:
        last = data.find(b"\r\n0\r\n\r\n", end)
        return last + 7 if last >= 0 else 0
    _, found, rest = head.partition(b"\r\ncontent-length: ")
    length = end + 4 + (int(rest.partition(b"\r\n")[0]) if found else 0)
    return length if len(data) >= length else 0


class Peer:
    """A connection that a loop reads whole messages from. What is sent may have to wait."""

    def __init__(self, loop, connection, on_message):
        connection.setblocking(False)
        self.loop, self.connection, self.on_message = loop, connection, on_message
        self.came, self.waiting = bytearray(), bytearray()
        loop.register(connection, selectors.EVENT_READ, self)

    def send(self, data):
        self.waiting += data
        self.on_writable()

    def on_writable(self):
        try:
            while self.waiting:
                del self.waiting[: self.connection.send(self.waiting)]
            events = selectors.EVENT_READ
        except BlockingIOError:
            events = selectors.EVENT_READ | selectors.EVENT_WRITE
        self.loop.modify(self.connection, events, self)

    def on_readable(self):
        try:
            data = self.connection.recv(1 << 18)
        except ConnectionResetError:
            data = b""
        if not data:
            self.close()
            return
        self.came += data
        while length := whole_message(self.came):
            first = bytes(self.came[:length])
            del self.came[:length]
            self.on_message(self, first)

    def close(self):
        self.loop.unregister(self.connection)
        self.connection.close()


def turn(loop):
    for key, events in loop.select(1):
        if events & selectors.EVENT_WRITE:
            key.data.on_writable()
        if events & selectors.EVENT_READ:
            key.data.on_readable()


class Door:
    """Accepts for the origin."""

    def __init__(self, loop, listener):
        self.loop, self.listener = loop, listener
        loop.register(listener, selectors.EVENT_READ, self)

    def on_readable(self):
        connection, _ = self.listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        Peer(self.loop, connection, self.answer)

    @staticmethod
    def answer(peer, request):
        path = request.split(b" ", 2)[1].partition(b"?")[0]
        peer.send(RESPONSES.get(path, RESPONSES[b"/small"]))


def serve_origin(listener):
    loop = selectors.DefaultSelector()
    Door(loop, listener)
    while True:
        turn(loop)


class Client:
    """Sends one request after the other; every so many on a connection of its own."""

    def __init__(self, loop, port, number):
        self.loop, self.port, self.number, self.sent = loop, port, number, 0
        self.connect()

    def connect(self):
        connection = socket.create_connection(("127.0.0.1", self.port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.peer = Peer(self.loop, connection, self.answered)
        self.ask()

    def ask(self):
        # Neighbours are at different places of the mix.
        self.peer.send(REQUESTS[(self.number * 7 + self.sent) % len(REQUESTS)])
        self.sent += 1

    def answered(self, peer, response):
        if self.sent >= ROUNDS:
            peer.close()
        elif self.sent % 100 == 0:
            peer.close()
            self.connect()
        else:
            self.ask()


def configuration(origin_port, port):
    """What is common: a few routes, header fields added, no access log."""

    def address(port):
        return {"socket_address": {"address": "127.0.0.1", "port_value": port}}

    routes = [
        {"match": {"path": "/nowhere"}, "direct_response": {"status": 404}},
        {"match": {"prefix": "/api/"}, "route": {"cluster": "origin", "timeout": "10s"}},
        {"match": {"prefix": "/"}, "route": {"cluster": "origin"}},
    ]
    manager = {
        "@type": f"{TYPE}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "route_config": {
            "virtual_hosts": [
                {"name": "example", "domains": ["example.org"], "routes": routes},
                {"name": "all", "domains": ["*"], "routes": routes},
            ]
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{TYPE}.http.router.v3.Router"},
            }
        ],
    }
    hcm = {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}
    endpoint = {"endpoint": {"address": address(origin_port)}}
    return {
        "admin": {"address": address(0)},
        "static_resources": {
            "listeners": [{"name": "in", "address": address(port), "filter_chains": [{"filters": [hcm]}]}],
            "clusters": [
                {
                    "name": "origin",
                    "type": "STATIC",
                    "load_assignment": {
                        "cluster_name": "origin",
                        "endpoints": [{"lb_endpoints": [endpoint]}],
                    },
                }
            ],
        },
    }


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def await_port(process, port, deadline):
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit("train: sluice does not listen")
            time.sleep(0.05)


def train(sluice, folder):
    deadline = time.monotonic() + DEADLINE_S
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    origin = multiprocessing.Process(target=serve_origin, args=(listener,), daemon=True)
    origin.start()
    port = free_port()
    config = pathlib.Path(folder, "train.yaml")
    config.write_text(json.dumps(configuration(listener.getsockname()[1], port)))  # JSON is YAML
    proxy = subprocess.Popen([sluice, "-c", str(config), "--concurrency", "1", "-l", "warning"])
    try:
        await_port(proxy, port, deadline)
        loop = selectors.DefaultSelector()
        clients = [Client(loop, port, number) for number in range(CONNECTIONS)]
        while loop.get_map():
            if time.monotonic() > deadline:
                sys.exit("train: the requests are not over in time")
            turn(loop)
        print(f"trained with {sum(client.sent for client in clients)} requests")
    finally:
        proxy.send_signal(signal.SIGTERM)  # it writes down its counts when it exits
        status = proxy.wait(timeout=60)
        origin.terminate()
    if status != 0:
        sys.exit(f"train: sluice ended with status {status}")


def main(arguments):
    if len(arguments) != 1:
        sys.exit("usage: train.py SLUICE")
    with tempfile.TemporaryDirectory() as folder:
        train(arguments[0], folder)


if __name__ == "__main__":
    main(sys.argv[1:])
