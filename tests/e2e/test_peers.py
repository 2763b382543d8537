"""Other people's HTTP: what the proxy says is read by h11, curl and Go's net/http, and it reads what
they say. Their views of the protocol are independent of ours."""

import hashlib
import json
import os
import pathlib
import shutil
import socket
import subprocess

import h11
import pytest

from harness import cluster, direct, listener, to

PEERS = pathlib.Path(__file__).with_name("go_peers")
TRAILERS = {"http_protocol_options": {"enable_trailers": True}}


# ---- h11 ----


class H11Client:
    """h11 raises on anything that is no HTTP/1.1."""

    def __init__(self, port):
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.state = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def send(self, event):
        data = self.state.send(event)
        if data:
            self.sock.sendall(data)

    def next_event(self):
        while (event := self.state.next_event()) is h11.NEED_DATA:
            self.state.receive_data(self.sock.recv(65536))
        return event

    def ask(self, method, path, *body, headers=(), trailers=None):
        """The interim statuses, the response, its body and its trailers."""
        framing = [("content-length", str(sum(map(len, body))))]
        if trailers is not None:
            framing = [("transfer-encoding", "chunked")]
        if not body:
            framing = []
        fields = [("host", "h11.test"), *framing, *headers]
        self.send(h11.Request(method=method, target=path, headers=fields))
        for piece in body:
            self.send(h11.Data(data=piece))
        self.send(h11.EndOfMessage(headers=trailers or []))
        interim, response, data = [], None, b""
        while not isinstance(event := self.next_event(), h11.EndOfMessage):
            if isinstance(event, h11.InformationalResponse):
                interim.append(event.status_code)
            elif isinstance(event, h11.Response):
                response = event
            else:
                data += event.data
        if self.state.our_state is h11.DONE and self.state.their_state is h11.DONE:
            self.state.start_next_cycle()
        return interim, response, data, list(event.headers)


def test_h11_reads_every_kind_of_response(proxy, origins):
    def answer(exchange):
        path, body = exchange.request.path, exchange.request.read_body()
        if path == "/chunked":
            exchange.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            exchange.send(b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")
        elif path == "/trailers":
            exchange.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            exchange.send(b"3\r\none\r\n0\r\nx-t: %s\r\n\r\n" % str(exchange.request.trailers).encode())
        elif path == "/204":
            exchange.send(b"HTTP/1.1 204 No Content\r\n\r\n")
        elif path == "/304":
            exchange.send(b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n")
        elif path == "/until-close":
            exchange.send(b"HTTP/1.1 200 OK\r\n\r\nuntil the end")
            exchange.sock.shutdown(socket.SHUT_WR)
            exchange.wait_closed()
        elif path == "/odd-reason":
            exchange.send(b"HTTP/1.1 299 \r\ncontent-length: 0\r\n\r\n")
        else:
            exchange.reply(200, b"" if exchange.request.method == "HEAD" else body)

    edge = proxy(
        [listener("edge", [direct(200, "direct\n", "/direct"), to()], hcm=TRAILERS)],
        [cluster("origin", origins(answer).port, **TRAILERS)],
    )
    with H11Client(edge.port()) as client:
        for _ in range(2):
            assert client.ask("GET", "/direct")[2] == b"direct\n"
            assert client.ask("POST", "/", b"a", b"b" * 100_000)[2] == b"a" + b"b" * 100_000
            assert client.ask("GET", "/chunked")[2] == b"onetwo"
            _, _, data, trailers = client.ask("POST", "/trailers", b"x", trailers=[("x-up", "1")])
            assert (data, trailers) == (b"one", [(b"x-t", b"[('x-up', '1')]")])
            assert client.ask("GET", "/204")[1].status_code == 204
            assert client.ask("GET", "/304")[1].status_code == 304
            assert client.ask("HEAD", "/")[2] == b""
            assert client.ask("HEAD", "/direct")[2] == b""
            assert client.ask("GET", "/until-close")[2] == b"until the end"
            assert client.ask("GET", "/odd-reason")[1].status_code == 299
            assert client.ask("GET", "/nowhere")[1].status_code == 200


def test_h11_takes_refusals_for_responses(proxy):
    edge = proxy([listener("edge", [direct(200, "direct\n")])])
    for bad in (b"bad\r\n\r\n", b"GET / HTTP/1.1\r\nhost: a\r\nx y: z\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"):
        with H11Client(edge.port()) as client:
            client.send(h11.Request(method="GET", target="/", headers=[("host", "a")]))
            client.send(h11.EndOfMessage())
            client.sock.sendall(bad)
            seen = []
            while not isinstance(event := client.next_event(), h11.EndOfMessage):
                seen.append(event)
            assert seen[0].status_code == 200
            rest = client.sock.makefile("rb").read()
            again = h11.Connection(h11.CLIENT)
            again.send(h11.Request(method="GET", target="/", headers=[("host", "a")]))
            again.send(h11.EndOfMessage())
            again.receive_data(client.state.trailing_data[0] + rest)
            assert again.next_event().status_code in (400, 505)


def test_h11_reads_every_kind_of_request(proxy):
    """As an origin."""
    server = socket.create_server(("127.0.0.1", 0))
    edge = proxy([listener("edge", [to()])], [cluster("origin", server.getsockname()[1])])
    requests = [
        b"GET /1 HTTP/1.1\r\nhost: a\r\n\r\n",
        b"POST /2 HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\ntwo",
        b"POST /3 HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nthree\r\n0\r\n\r\n",
        b"GET http://b/4 HTTP/1.1\r\nhost: b\r\nconnection: x-gone\r\nx-gone: 1\r\n\r\n",
        b"POST /5 HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\nfive",
        b"DELETE /6 HTTP/1.1\r\nhost: a\r\nx-empty:\r\n\r\n",
    ]
    seen = []
    with edge.connect() as client, server:
        client.send_bytes(b"".join(requests))
        peer, _ = server.accept()
        with peer:
            peer.settimeout(20)
            state = h11.Connection(h11.SERVER)
            while len(seen) < len(requests):
                body = b""
                while not isinstance(event := state.next_event(), h11.EndOfMessage):
                    if event is h11.NEED_DATA:
                        state.receive_data(peer.recv(65536))
                    elif isinstance(event, h11.Request):
                        target, fields = event.target, dict(event.headers)
                    else:
                        body += bytes(event.data)
                seen.append((target, body))
                assert b"x-gone" not in fields and b"expect" not in fields
                head = h11.Response(status_code=200, headers=[("content-length", "2")])
                for event in (head, h11.Data(data=b"ok"), h11.EndOfMessage()):
                    peer.sendall(state.send(event))
                state.start_next_cycle()
            for _ in requests:
                assert client.read_reply().body == b"ok"
    assert seen == [
        (b"/1", b""),
        (b"/2", b"two"),
        (b"/3", b"three"),
        (b"/4", b""),
        (b"/5", b"five"),
        (b"/6", b""),
    ]


# ---- curl ----


def curl(*args, data=None):
    done = subprocess.run(
        ["curl", "--silent", "--show-error", "--max-time", "60", "--noproxy", "*", *args],
        input=data,
        capture_output=True,
    )
    assert done.returncode == 0, (args, done.stderr)
    return done.stdout


@pytest.mark.skipif(not shutil.which("curl"), reason="no curl")
def test_curl(proxy, origin, tmp_path):
    options = {"http_protocol_options": {"accept_http_10": True}}
    edge = proxy(
        [listener("edge", [direct(200, "direct\n", "/direct"), to()], hcm=options)],
        [cluster("origin", origin.port)],
    )
    url = f"http://127.0.0.1:{edge.port()}"
    assert curl(f"{url}/direct") == b"direct\n"
    assert curl("-0", f"{url}/direct") == b"direct\n"
    assert curl("--data-binary", "some data", url) == b"some data"
    assert curl("-I", f"{url}/direct").startswith(b"HTTP/1.1 200 OK\r\n")
    big = os.urandom(3_000_000)
    path = tmp_path / "big"
    path.write_bytes(big)
    digest = hashlib.sha256(big).digest()
    # From a file curl knows the length and expects a 100; from a pipe it sends chunks.
    assert hashlib.sha256(curl("-T", str(path), url)).digest() == digest
    assert hashlib.sha256(curl("-T", "-", url, data=big)).digest() == digest
    # Ten requests on one connection, as curl's own count says.
    done = curl(*["-w", "%{num_connects}\n", "-o", "/dev/null"], f"{url}/direct?[1-10]")
    assert sum(map(int, done.split())) == 1


# ---- Go ----


@pytest.fixture(scope="module")
def peers(tmp_path_factory):
    """The program of go_peers, built."""
    binary = tmp_path_factory.mktemp("go") / "peers"
    env = {**os.environ, "GOFLAGS": "-buildvcs=false", "CGO_ENABLED": "0"}
    subprocess.run([os.environ.get("SLUICE_GO", "go"), "build", "-o", str(binary), "."], cwd=PEERS, env=env, check=True)
    return str(binary)


@pytest.fixture
def go_origin(peers):
    """The port of a Go origin."""
    process = subprocess.Popen([peers, "origin"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    yield int(process.stdout.readline())
    process.stdin.close()
    process.wait(20)
    process.stdout.close()


def test_go_client_and_origin(proxy, peers, go_origin):
    """Bodies of all kinds, reuse, trailers, 100-continue, early hints, cut responses, cancelled
    requests and 64 clients at once, judged by the Go client."""
    edge = proxy([listener("edge", [to()], hcm=TRAILERS)], [cluster("origin", go_origin, **TRAILERS)])
    done = subprocess.run(
        [peers, "client", f"http://127.0.0.1:{edge.port()}"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.stdout, done.returncode) == ("0 failed\n", 0), done.stderr


def test_the_go_client_agrees_with_itself(peers, go_origin):
    """Without the proxy between: so that a failure above is the proxy's."""
    done = subprocess.run(
        [peers, "client", f"http://127.0.0.1:{go_origin}"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.stdout, done.returncode) == ("0 failed\n", 0), done.stderr


def test_stats_agree_with_what_was_done(proxy, origin):
    """What the peers saw is what was counted."""
    edge = proxy([listener("edge", [direct(200, "x", "/direct"), to()])], [cluster("origin", origin.port)])
    with edge.connect() as client:
        for _ in range(3):
            client.ask("GET", "/direct")
            client.ask("POST", "/", body=b"12345")
    edge.wait_for_stat("http.edge.downstream_cx_active", 0)
    stats = edge.stats()
    assert stats["http.edge.downstream_rq_total"] == 6
    assert stats["http.edge.downstream_rq_2xx"] == 6
    assert stats["http.edge.rq_direct_response"] == 3
    assert stats["cluster.origin.upstream_rq_200"] == 3
    assert stats["http.edge.downstream_cx_destroy_remote"] == 1
    assert json.loads(edge.admin("/stats?format=json"))["stats"]
