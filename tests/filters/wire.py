"""Bare HTTP/1.1 on both ends, for tests that must place every byte themselves: a client that sends
a body piece by piece and reads trailers, and an origin that the request's path scripts."""

import collections
import socket
import socketserver
import threading
import urllib.parse


class Reply:
    """A response: status, headers and trailers as lists of (lower-case name, value), body."""

    def __init__(self, status, headers, body, trailers):
        self.status, self.headers, self.body, self.trailers = status, headers, body, trailers

    def header(self, name):
        """The first value, or None."""
        return next((v for k, v in self.headers if k == name), None)

    def all(self, name):
        return [v for k, v in self.headers if k == name]

    def trailer(self, name):
        return next((v for k, v in self.trailers if k == name), None)

    def __repr__(self):
        return f"Reply({self.status}, {self.headers}, {self.body[:200]!r}, {self.trailers})"


class Gone(Exception):
    """The peer closed before a whole message was there."""


def encode_head(first_line, headers):
    return "".join([first_line, "\r\n", *(f"{k}: {v}\r\n" for k, v in headers), "\r\n"]).encode("latin-1")


def encode_chunk(data):
    return b"%x\r\n%s\r\n" % (len(data), data)


def encode_end(trailers=()):
    return b"0\r\n" + "".join(f"{k}: {v}\r\n" for k, v in trailers).encode("latin-1") + b"\r\n"


class Reader:
    """Reads messages off a socket."""

    def __init__(self, sock):
        self.file = sock.makefile("rb")

    def line(self):
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise Gone(line)
        return line[:-2].decode("latin-1")

    def fields(self):
        fields = []
        while line := self.line():
            name, _, value = line.partition(":")
            fields.append((name.lower(), value.strip()))
        return fields

    def exactly(self, size):
        data = self.file.read(size)
        if len(data) != size:
            raise Gone(data)
        return data

    def body(self, headers, until_close=False):
        """Returns the body and the trailers that belong to these headers."""
        names = dict(headers)
        if "chunked" in names.get("transfer-encoding", ""):
            parts = []
            while size := int(self.line().split(";")[0], 16):
                parts.append(self.exactly(size))
                self.exactly(2)
            return b"".join(parts), self.fields()
        if "content-length" in names:
            return self.exactly(int(names["content-length"])), []
        return (self.file.read() if until_close else b""), []


class Client:
    """One connection to a proxy."""

    def __init__(self, port, *, timeout_s=20, host="127.0.0.1"):
        self.method = "GET"  # of the request that the next reply belongs to
        self.interim = []  # the statuses of the 1xx responses so far
        self.sock = socket.create_connection((host, port), timeout=timeout_s)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.reader = Reader(self.sock)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.reader.file.close()
        self.sock.close()

    def abort(self):
        """Closes with a reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.close()

    def send_head(self, method, path, headers=()):
        self.method = method
        headers = [("host", "test.local"), *headers]
        self.sock.sendall(encode_head(f"{method} {path} HTTP/1.1", headers))

    def send_chunk(self, data):
        self.sock.sendall(encode_chunk(data))

    def send_end(self, trailers=()):
        self.sock.sendall(encode_end(trailers))

    def send_bytes(self, data):
        self.sock.sendall(data)

    def send(self, method, path, *, headers=(), body=None, trailers=None):
        """A whole request. With trailers, or a list as body, it is sent chunked."""
        headers = list(headers)
        if trailers is None and not isinstance(body, list):
            if body is not None:
                headers.append(("content-length", str(len(body))))
            self.send_head(method, path, headers)
            self.sock.sendall(body or b"")
            return
        self.send_head(method, path, [*headers, ("transfer-encoding", "chunked")])
        for part in body if isinstance(body, list) else [body]:
            if part:
                self.send_chunk(part)
        self.send_end(trailers or ())

    def read_head(self):
        """The status and the headers of the next response that is no interim one."""
        while True:
            _, status, *_ = self.reader.line().split(" ", 2)
            headers = self.reader.fields()
            if status[0] != "1" or status == "101":
                return status, headers
            self.interim.append(int(status))

    def read_reply(self):
        status, headers = self.read_head()
        if self.method == "HEAD" or status in ("204", "304"):
            return Reply(int(status), headers, b"", [])
        body, trailers = self.reader.body(headers, until_close=True)
        return Reply(int(status), headers, body, trailers)

    def ask(self, method, path, **more):
        self.send(method, path, **more)
        return self.read_reply()

    def wait_closed(self):
        """Waits until the proxy closes, whatever it sends before."""
        try:
            while self.sock.recv(65536):
                pass
        except ConnectionError:
            pass

    def read_to_end(self):
        """Everything up to the proxy's FIN; a reset raises."""
        return self.reader.file.read()


Request = collections.namedtuple("Request", "method path headers body trailers")


class Origin:
    """An HTTP/1.1 server for tests. What it answers is said by the parameter `o` of the path:

    echo (or none)  200 with the request's body, or "origin\\n" if that is empty
    chunked         the same, chunked
    trailers        the same, chunked, with the trailers x-t1: one, x-t2: two
    bare-trailers   headers and those trailers without a body
    no-body         200, content-length 0
    204             204
    pieces          one byte of "0123456789" per step(ID), chunked; ID is the parameter `id`
    many            20 response headers of one name with the values 0 to 19, and an empty one
    size:N          N bytes
    switch          101, if an upgrade is asked for; then everything that comes is sent back, until it ends
    early           200 without a body before the request's body was read, on step(ID)
    """

    def __init__(self):
        origin = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self):
                self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                try:
                    origin._serve(self.request)
                except (Gone, OSError, ValueError):
                    pass  # the peer left, or a test made it send nonsense

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            allow_reuse_address = True
            request_queue_size = 128

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self._changed = threading.Condition()
        self._requests = collections.defaultdict(list)
        self._steps = collections.Counter()
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()

    def received(self, test_id):
        """The requests with this id in their path, in order of arrival."""
        with self._changed:
            return list(self._requests[test_id])

    def step(self, test_id):
        """Lets an answer of the kind `pieces` go on by one piece."""
        with self._changed:
            self._steps[test_id] += 1
            self._changed.notify_all()

    def _wait_for_step(self, test_id, number):
        with self._changed:
            if not self._changed.wait_for(lambda: self._steps[test_id] >= number, 30):
                raise Gone("nobody stepped")

    def _serve(self, sock):
        reader = Reader(sock)
        while True:
            method, path, _ = reader.line().split(" ")
            headers = reader.fields()
            query = urllib.parse.parse_qs(path.partition("?")[2])
            test_id = query.get("id", [""])[0]
            kind = query.get("o", ["echo"])[0]
            if kind == "early":
                self._wait_for_step(test_id, 1)
                self._answer(sock, "no-body", test_id, method, b"")
            if dict(headers).get("expect") == "100-continue":
                sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            body, trailers = (b"", []) if kind == "switch" else reader.body(headers)
            if test_id:
                with self._changed:
                    self._requests[test_id].append(Request(method, path, headers, body, trailers))
                    self._changed.notify_all()
            if kind == "switch":
                self._switch(sock, reader, dict(headers))
                return
            if kind != "early":
                self._answer(sock, kind, test_id, method, body or b"origin\n")

    def _switch(self, sock, reader, headers):
        if (headers.get("connection"), headers.get("upgrade")) != ("upgrade", "websocket"):
            raise Gone(headers)
        answer = [("connection", "Upgrade"), ("upgrade", "websocket"), ("x-origin", "yes")]
        sock.sendall(encode_head("HTTP/1.1 101 Switching Protocols", answer))
        while data := reader.file.read1(65536):
            sock.sendall(data)

    def _answer(self, sock, kind, test_id, method, body):
        headers = [("content-type", "text/plain"), ("x-origin", "yes")]
        chunked = [*headers, ("transfer-encoding", "chunked")]
        ok = "HTTP/1.1 200 OK"
        two = [("x-t1", "one"), ("x-t2", "two")]
        if kind == "204":
            sock.sendall(encode_head("HTTP/1.1 204 No Content", headers))
        elif kind == "chunked":
            sock.sendall(encode_head(ok, chunked) + encode_chunk(body) + encode_end())
        elif kind == "trailers":
            sock.sendall(encode_head(ok, chunked) + encode_chunk(body) + encode_end(two))
        elif kind == "bare-trailers":
            sock.sendall(encode_head(ok, chunked) + encode_end(two))
        elif kind == "pieces":
            sock.sendall(encode_head(ok, chunked))
            for number, piece in enumerate(b"0123456789", 1):
                self._wait_for_step(test_id, number)
                sock.sendall(encode_chunk(bytes([piece])))
            sock.sendall(encode_end())
        else:
            if kind == "no-body":
                body = b""
            elif kind == "many":
                headers += [("x-many", str(n)) for n in range(20)] + [("x-empty", "")]
            elif kind.startswith("size:"):
                body = b"x" * int(kind[5:])
            if method == "HEAD":
                body = b""
            sock.sendall(encode_head(ok, [*headers, ("content-length", str(len(body)))]) + body)
