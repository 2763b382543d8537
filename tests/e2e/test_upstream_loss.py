"""Upstreams that refuse, reset, stall, close early or answer nonsense: the client learns of it in
Envoy's words, keeps its connection where that is safe, and the access log has Envoy's flags."""

import select
import socket
import threading

import pytest
from harness import Gone, LogFile, Origin, closed_port, cluster, eventually, listener, to

TRACE = "%REQ(:PATH)% %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%"
RESET = "upstream connect error or disconnect/reset before headers. reset reason: "
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"


def reset(exchange):
    exchange.reset()


def close(_):
    raise Gone("closed without an answer")


def stall(exchange):
    exchange.wait_closed()


def says(data, then=stall):
    def answer(exchange):
        exchange.send(data)
        then(exchange)

    return answer


TERMINATION = (503, "UC upstream_reset_before_response_started{connection_termination}")
NONSENSE = (502, "UPE upstream_reset_before_response_started{protocol_error}")

# What the origin does, and what comes of it: the status and the log's flags and details.
BEFORE_THE_HEAD = {
    "reset": (reset, *TERMINATION),
    "close": (close, *TERMINATION),
    "half-a-head-then-close": (says(OK + b"x: y\r\n", close), *NONSENSE),
    "half-a-head-then-reset": (says(OK + b"x: y\r\n", reset), *NONSENSE),
    "interim-then-close": (says(b"HTTP/1.1 100 Continue\r\n\r\n", close), *TERMINATION),
    "garbage": (says(b"this is not HTTP\r\n\r\n"), *NONSENSE),
    "ssh": (says(b"SSH-2.0-OpenSSH_9.2\r\n"), *NONSENSE),
    "length-and-chunked": (
        says(OK + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
        *NONSENSE,
    ),
    "two-lengths": (
        says(OK + b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello"),
        *NONSENSE,
    ),
    "bad-length": (says(OK + b"content-length: five\r\n\r\nhello"), *NONSENSE),
    "bad-field": (says(OK + b"no colon\r\n\r\n"), *NONSENSE),
    "nul-in-field": (says(OK + b"x: a\0b\r\n\r\n"), *NONSENSE),
    "status-too-short": (says(b"HTTP/1.1 20 OK\r\n\r\n"), *NONSENSE),
    "head-too-large": (says(OK + b"x: " + b"a" * 90_000 + b"\r\n\r\n"), *NONSENSE),
    "too-many-fields": (says(OK + b"x: y\r\n" * 101 + b"\r\n"), *NONSENSE),
    "unasked-switch": (says(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n"), *NONSENSE),
    "timeout": (stall, 504, "UT response_timeout"),
    "timeout-in-head": (says(OK + b"x: y"), 504, "UT response_timeout"),
    "timeout-after-interim": (
        says(b"HTTP/1.1 102 Processing\r\n\r\n"),
        504,
        "UT response_timeout",
    ),
}

# The same behind the response's head and a part of its body: the client's connection ends.
AFTER_THE_HEAD = {
    "reset": (
        says(OK + b"content-length: 100\r\n\r\nhello", reset),
        "UPE upstream_reset_after_response_started{protocol_error}",
    ),
    "close": (
        says(OK + b"content-length: 100\r\n\r\nhello", close),
        "UPE upstream_reset_after_response_started{protocol_error}",
    ),
    "close-in-chunk": (
        says(CHUNKED + b"64\r\nhello", close),
        "UPE upstream_reset_after_response_started{protocol_error}",
    ),
    "close-between-chunks": (
        says(CHUNKED + b"5\r\nhello\r\n", close),
        "UPE upstream_reset_after_response_started{protocol_error}",
    ),
    "close-before-the-last-line": (
        says(CHUNKED + b"5\r\nhello\r\n0\r\n", close),
        "UPE upstream_reset_after_response_started{protocol_error}",
    ),
    "bad-chunk-size": (
        says(CHUNKED + b"5\r\nhello\r\nxyz\r\n"),
        "UPE upstream_reset_after_response_started{protocol_error}",
    ),
    "bad-chunk-end": (
        says(CHUNKED + b"5\r\nhelloXX0\r\n\r\n"),
        "UPE upstream_reset_after_response_started{protocol_error}",
    ),
    "timeout": (says(OK + b"content-length: 100\r\n\r\nhello"), "UT response_timeout"),
}


class Town:
    """One proxy; each case has an origin of its own behind /CASE/."""

    def __init__(self, module_proxy, folder):
        self.origins = {}
        self.log = LogFile(folder / "access", TRACE)
        refusing, port = closed_port()
        self._refusing = refusing
        clusters = [cluster("refusing", port), cluster("empty")]
        routes = [to("refusing", "/refusing"), to("empty", "/empty"), to("nowhere", "/nowhere")]
        # A head and what is behind it come before these, also from an origin that is short of processors.
        unhurried = [to("before-reset", "/before-reset/"), to("after-timeout", "/after-timeout/")]
        for kind, cases in (("before", BEFORE_THE_HEAD), ("after", AFTER_THE_HEAD)):
            for name, (answer, *_) in cases.items():
                self._add(f"{kind}-{name}", answer, clusters, routes)
        self._add("good", Origin.echo, clusters, routes)
        self.edge = module_proxy(
            [
                listener("edge", routes, hcm={"access_log": [self.log.config]}, route_config=LAX),
                listener("idle", unhurried, hcm={"stream_idle_timeout": "1s"}),
            ],
            clusters,
        )

    def _add(self, name, answer, clusters, routes):
        self.origins[name] = Origin(answer)
        clusters.append(cluster(name, self.origins[name].port))
        timeout = {"after-timeout": "1s"}.get(name, "0.3s" if "timeout" in name else "15s")
        routes.append(to(name, f"/{name}/", timeout=timeout))

    def logged(self, path):
        """The line of the request with this path, without the path."""

        def look():
            for line in self.log.lines(self.edge, 1):
                if line.startswith(path + " "):
                    return line[len(path) + 1 :]
            return None

        return eventually(look, what=f"a log line for {path}")


ONE = ["--concurrency", "1"]
LAX = {"validate_clusters": False}  # one of them does not exist


@pytest.fixture(scope="module")
def town(module_proxy, tmp_path_factory):
    made = Town(module_proxy, tmp_path_factory.mktemp("logs"))
    yield made
    for origin in made.origins.values():
        origin.close()


@pytest.mark.parametrize("name", BEFORE_THE_HEAD)
def test_an_upstream_lost_before_its_response(town, name):
    """The client gets a whole answer and goes on using its connection."""
    _, status, logged = BEFORE_THE_HEAD[name]
    with town.edge.connect("edge") as client:
        reply = client.ask("GET", f"/before-{name}/")
        assert reply.status == status
        if status != 504:
            assert reply.body.startswith(RESET.encode())
        assert reply.header("connection") is None
        after = f"/good/after-{name}"
        assert client.ask("POST", after, body=b"still here").body == b"still here"
    assert town.logged(f"/before-{name}/") == f"{status} {logged}"
    assert town.logged(after) == "200 - via_upstream"
    # A connection with half a message on it is never used again.
    origin = town.origins[f"before-{name}"]
    eventually(lambda: origin.open == 0, what="the origin's connection closed")


@pytest.mark.parametrize("name", AFTER_THE_HEAD)
def test_an_upstream_lost_within_its_response(town, name):
    """The client must be able to tell that the body is cut: its connection ends before the framing
    says so."""
    _, logged = AFTER_THE_HEAD[name]
    with town.edge.connect("edge") as client:
        client.send("GET", f"/after-{name}/")
        assert client.read_head()[0] == "200"
        try:
            rest = client.read_to_end()
        except ConnectionResetError:
            rest = b""
        assert rest in (b"", b"hello", b"5\r\nhello\r\n")
    assert town.logged(f"/after-{name}/") == f"200 {logged}"
    origin = town.origins[f"after-{name}"]
    eventually(lambda: origin.open == 0, what="the origin's connection closed")


def test_an_upstream_that_refuses(town):
    with town.edge.connect("edge") as client:
        for i in range(3):
            reply = client.ask("GET", f"/refusing/{i}")
            assert reply.status == 503
            assert reply.body == (RESET + "remote connection failure").encode()
            assert town.logged(f"/refusing/{i}") == (
                "503 UF upstream_reset_before_response_started{remote_connection_failure|"
                "delayed_connect_error:_Connection_refused}"
            )
    assert town.edge.stat("cluster.refusing.upstream_cx_connect_fail") == 3
    assert town.edge.stat("cluster.refusing.upstream_cx_active") == 0


def test_a_refused_request_with_a_body_keeps_the_connection(town):
    """The body that came with the head is dropped, and the next request behind it is found."""
    with town.edge.connect("edge") as client:
        client.send_bytes(b"POST /refusing/body HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\n" + b"x" * 1000)
        client.send("POST", "/good/next", body=b"next")
        assert client.read_reply().status == 503
        assert client.read_reply().body == b"next"
    assert town.logged("/refusing/body").startswith("503 UF")


def test_a_cluster_without_hosts(town):
    reply = town.edge.get("/empty/", listener="edge")
    assert (reply.status, reply.body) == (503, b"no healthy upstream")
    assert town.logged("/empty/") == "503 UH no_healthy_upstream"


def test_a_cluster_that_does_not_exist(town):
    assert town.edge.get("/nowhere/", listener="edge").status == 503
    assert town.logged("/nowhere/") == "503 NC cluster_not_found"


def test_no_route(town):
    assert town.edge.get("/unrouted", listener="edge").status == 404
    assert town.logged("/unrouted") == "404 NR route_not_found"


def test_a_stalled_response_meets_the_stream_idle_timeout(town):
    with town.edge.connect("idle") as client:
        reply = client.ask("GET", "/before-reset/x")
        assert reply.status == 503  # this one needs no timeout
        client.send("GET", "/after-timeout/")
        assert client.read_head()[0] == "200"
        assert client.read_to_end() == b"hello"
    eventually(lambda: town.edge.stat("http.idle.downstream_rq_idle_timeout") == 1)


def test_the_route_timeout_begins_with_the_end_of_the_request(proxy, origins):
    """A client may take its time over the body; the clock is the upstream's."""
    edge = proxy(
        [listener("edge", [to(timeout="0.2s")])],
        [cluster("origin", origins(stall).port)],
    )
    with edge.connect() as client:
        client.send_head("POST", "/", [("content-length", "8")])
        client.send_bytes(b"half")
        assert select.select([client.sock], [], [], 0.6)[0] == []  # three times the timeout
        client.send_bytes(b"half")
        assert client.read_reply().status == 504


def test_stale_bytes_behind_a_response_are_never_the_next_response(proxy, origins):
    """An origin that says more than one response to one request: response smuggling."""

    def answer(exchange):
        exchange.send(OK + b"content-length: 4\r\n\r\ngood" + OK + b"content-length: 4\r\n\r\nevil")
        exchange.wait_closed()

    origin = origins(answer)
    edge = proxy([listener("edge", [to()])], [cluster("origin", origin.port)])
    with edge.connect() as client:
        for _ in range(5):
            assert client.ask("GET", "/").body == b"good"
    assert origin.connections == 5


@pytest.mark.parametrize("behind", [1, 2, 3])
def test_stale_bytes_that_were_not_read_are_no_response_either(proxy, origins, behind):
    """As above, with a response that fills what the proxy reads at a time to the last byte, so that
    the rest is still in the kernel when the connection is put aside."""
    room = 16384 - 16
    evil = OK + b"content-length: 4\r\n\r\nevil"

    def answer(exchange):
        head = OK + b"content-length: %05d\r\n\r\n"
        size = room * behind - len(head % 0)
        exchange.send(head % size + b"g" * size + evil)
        exchange.wait_closed()

    origin = origins(answer)
    edge = proxy([listener("edge", [to()])], [cluster("origin", origin.port)], flags=ONE)
    with edge.connect() as client:
        for _ in range(5):
            assert set(client.ask("GET", "/").body) == {ord("g")}
    assert origin.connections == 5


@pytest.mark.parametrize("method, status", [("HEAD", 200), ("GET", 204), ("GET", 304)])
def test_a_body_where_none_may_be_is_never_the_next_response(proxy, origins, method, status):
    def answer(exchange):
        length = b"" if status == 204 else b"content-length: 40\r\n"
        exchange.send(b"HTTP/1.1 %d X\r\n%s\r\n" % (status, length))
        exchange.send(OK + b"content-length: 4\r\n\r\nevil")

    origin = origins(answer)
    edge = proxy([listener("edge", [to()])], [cluster("origin", origin.port)])
    with edge.connect() as client:
        for _ in range(4):
            reply = client.ask(method, "/")
            assert (reply.status, reply.body) == (status, b"")
            edge.wait_for_stat("cluster.origin.upstream_cx_active", 0)
    assert origin.connections == 4


def test_many_interim_responses(proxy, origins):
    def answer(exchange):
        exchange.send(b"HTTP/1.1 102 Processing\r\nx: y\r\n\r\n" * 10_000)
        exchange.reply(200, b"at last")

    edge = proxy([listener("edge", [to()])], [cluster("origin", origins(answer).port)])
    with edge.connect() as client:
        for _ in range(2):
            assert client.ask("GET", "/").body == b"at last"


def test_bytes_on_an_idle_upstream_connection_are_never_a_response(proxy, origins):
    said = threading.Event()

    def answer(exchange):
        exchange.reply(200, b"good")
        exchange.send(OK + b"content-length: 4\r\n\r\nevil")
        said.set()
        exchange.wait_closed()

    origin = origins(answer)
    edge = proxy([listener("edge", [to()])], [cluster("origin", origin.port)])
    with edge.connect() as client:
        for _ in range(5):
            assert client.ask("GET", "/").body == b"good"
            assert said.wait(20)
            said.clear()
            edge.wait_for_stat("cluster.origin.upstream_cx_active", 0)


def test_a_pooled_connection_that_the_origin_closes_is_not_used_again(proxy, origins):
    def answer(exchange):
        exchange.reply(200, b"bye")
        raise Gone("closed by the origin, though it said nothing of it")

    origin = origins(answer)
    edge = proxy([listener("edge", [to()])], [cluster("origin", origin.port)])
    with edge.connect() as client:
        for _ in range(20):
            assert client.ask("GET", "/").status == 200
            edge.wait_for_stat("cluster.origin.upstream_cx_active", 0)


@pytest.mark.parametrize("field", ["connection: close", "Connection: Close, x"])
def test_an_origin_that_announces_its_end_is_believed(proxy, origins, field):
    def answer(exchange):
        exchange.send(OK + field.encode() + b"\r\ncontent-length: 0\r\n\r\n")
        exchange.wait_closed()

    origin = origins(answer)
    edge = proxy([listener("edge", [to()])], [cluster("origin", origin.port)])
    with edge.connect() as client:
        for _ in range(3):
            reply = client.ask("GET", "/")
            assert reply.status == 200
            assert reply.header("connection") is None  # that was between those two
    assert origin.connections == 3


@pytest.mark.parametrize("size", [20, 10_000, 60_000])
def test_interim_responses_do_not_pile_up(proxy, origins, size):
    """A few are skipped, however large; an origin that never stops has no response."""

    def answer(exchange):
        few = exchange.request.path == "/few"
        interim = b"HTTP/1.1 103 Early Hints\r\nx: %s\r\n\r\n" % (b"a" * size)
        for _ in range(5 if few else 100_000_000 // len(interim)):
            exchange.send(interim)
        exchange.reply(200, b"late")

    edge = proxy([listener("edge", [to()])], [cluster("origin", origins(answer).port)])
    with edge.connect() as client:
        assert client.ask("GET", "/few").body == b"late"
        reply = client.ask("GET", "/flood")
        assert (reply.status, reply.body) == (502, RESET.encode() + b"protocol error")


def test_a_large_response_head(proxy, origins):
    """The limit is higher than that of a request's head, as on Envoy."""

    def answer(exchange):
        exchange.reply(200, b"large", [("x-large", "v" * 70_000)])

    edge = proxy([listener("edge", [to()])], [cluster("origin", origins(answer).port)])
    with edge.connect() as client:
        for _ in range(3):
            reply = client.ask("GET", "/")
            assert (len(reply.header("x-large")), reply.body) == (70_000, b"large")


def test_a_body_until_the_end_of_the_connection(proxy, origins):
    def answer(exchange):
        exchange.send(OK + b"\r\n" + b"until" * 10_000)
        raise Gone("that was it")

    edge = proxy([listener("edge", [to()])], [cluster("origin", origins(answer).port)])
    with edge.connect() as client:
        for _ in range(3):
            reply = client.ask("GET", "/")
            assert reply.header("transfer-encoding") == "chunked"
            assert reply.body == b"until" * 10_000


def test_connect_timeout(proxy, tmp_path):
    """A listener whose backlog is full drops SYNs: as good as a host that is not there."""
    deaf = socket.socket()
    deaf.bind(("127.0.0.1", 0))
    deaf.listen(0)
    port = deaf.getsockname()[1]
    fillers = []
    for _ in range(3):
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex(("127.0.0.1", port))
        fillers.append(filler)
    log = LogFile(tmp_path / "access")
    edge = proxy(
        [listener("edge", [to()], hcm={"access_log": [log.config]})],
        [cluster("origin", port, connect_timeout="0.2s")],
    )
    reply = edge.get("/")
    assert (reply.status, reply.body) == (503, (RESET + "connection timeout").encode())
    assert log.lines(edge, 1) == ["503 UF upstream_reset_before_response_started{connection_timeout}"]
    assert edge.stat("cluster.origin.upstream_cx_connect_timeout") == 1
    for one in (deaf, *fillers):
        one.close()
