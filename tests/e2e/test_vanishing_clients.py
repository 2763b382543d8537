"""Clients that go away at every stage of an exchange, politely or not. What was done for them is given
up at once, and nothing of it is left."""

import threading

import pytest

from harness import DeafListener, LogFile, Origin, cluster, direct, eventually, listener, to

LEAVES = {"fin": lambda client: client.close(), "reset": lambda client: client.abort()}
TRACE = "%REQ(:PATH)% %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%"
HEAD = b"POST %s HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\n"


class Town:
    def __init__(self, module_proxy, folder):
        self.sent = 0  # of the latest flood
        self.origin = Origin(self._answer)
        self.log = LogFile(folder / "access", TRACE)
        hcm = {"access_log": [self.log.config]}
        self.edge = module_proxy(
            [listener("edge", [direct(200, "direct\n", "/direct"), to(timeout="0s")], hcm=hcm)],
            [cluster("origin", self.origin.port)],
        )

    def _answer(self, exchange):
        path = exchange.request.path
        if "silent" in path:
            exchange.wait_closed()  # reads what comes, says nothing
        elif "head" in path:
            exchange.send(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
            exchange.wait_closed()
        elif "chunks" in path:
            exchange.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n")
            exchange.wait_closed()
        elif "flood" in path:
            exchange.send(b"HTTP/1.1 200 OK\r\n\r\n")
            self.sent = 0
            while True:
                exchange.send(b"x" * 65536)
                self.sent += 65536
        else:
            Origin.echo(exchange)

    def logged(self, path):
        def look():
            for line in self.log.lines(self.edge, 1):
                if line.startswith(path + " "):
                    return line[len(path) + 1 :]
            return None

        return eventually(look, what=f"a log line for {path}")

    def wait_for(self, path):
        eventually(lambda: path in [one.path for one in self.origin.requests], what=path)

    def wait_until_idle(self):
        """The client's connection and the origin's are closed, and nothing is being served."""
        eventually(lambda: self.origin.open == 0, what="the origin's connection closed")
        self.edge.wait_for_stat("http.edge.downstream_cx_active", 0)
        assert self.edge.leaks() == {}


@pytest.fixture(scope="module")
def town(module_proxy, tmp_path_factory):
    made = Town(module_proxy, tmp_path_factory.mktemp("logs"))
    yield made
    made.origin.close()


@pytest.mark.parametrize("leave", LEAVES)
@pytest.mark.parametrize(
    "said",
    [b"", b"\r\n", b"GET", b"GET / HTTP/1.1\r\nhost: a\r\n", b"GET / HTTP/1.1\r\nx: " + b"v" * 40_000],
    ids=["nothing", "empty-line", "a-word", "half-a-head", "half-a-large-head"],
)
def test_before_a_whole_head(town, said, leave):
    before = town.edge.stat("http.edge.downstream_cx_total")
    client = town.edge.connect("edge")
    client.send_bytes(said)
    town.edge.wait_for_stat("http.edge.downstream_cx_total", before + 1)
    LEAVES[leave](client)
    town.wait_until_idle()


@pytest.mark.parametrize("leave", LEAVES)
@pytest.mark.parametrize("origin_does", ["silent", "head", "chunks"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_within_the_body_of_a_request(town, origin_does, framing, leave):
    path = f"/{origin_does}/{framing}/{leave}"
    client = town.edge.connect("edge")
    if framing == "length":
        client.send_bytes(HEAD % path.encode() + b"half")
    else:
        client.send_head("POST", path, [("transfer-encoding", "chunked")])
        client.send_chunk(b"half")
    town.wait_for(path)
    if origin_does != "silent":
        assert client.read_head()[0] == "200"
    LEAVES[leave](client)
    status = "0" if origin_does == "silent" else "200"
    assert town.logged(path) == f"{status} DC downstream_remote_disconnect"
    town.wait_until_idle()


@pytest.mark.parametrize("leave", LEAVES)
@pytest.mark.parametrize("origin_does", ["silent", "head", "chunks"])
def test_while_waiting_for_the_response(town, origin_does, leave):
    path = f"/{origin_does}/waiting/{leave}"
    client = town.edge.connect("edge")
    client.send("GET", path)
    town.wait_for(path)
    if origin_does != "silent":
        assert client.read_head()[0] == "200"
    LEAVES[leave](client)
    status = "0" if origin_does == "silent" else "200"
    assert town.logged(path) == f"{status} DC downstream_remote_disconnect"
    town.wait_until_idle()


@pytest.mark.parametrize("leave", LEAVES)
def test_while_the_response_streams(town, leave):
    path = f"/flood/{leave}"
    client = town.edge.connect("edge")
    client.send("GET", path)
    assert client.read_head()[0] == "200"
    client.reader.exactly(1_000_000)
    LEAVES[leave](client)
    assert town.logged(path) == "200 DC downstream_remote_disconnect"
    town.wait_until_idle()


@pytest.mark.parametrize("leave", LEAVES)
def test_while_the_response_is_stuck(town, leave):
    """The client has not read for a while: the proxy waits for room in the socket when it leaves."""
    path = f"/flood/stuck/{leave}"
    client = town.edge.connect("edge")
    client.send("GET", path)
    assert client.read_head()[0] == "200"
    looks = [0]

    def is_stuck():  # not a byte more since the last look
        looks.append(town.sent)
        return looks[-1] == looks[-2] > 0

    eventually(is_stuck)
    LEAVES[leave](client)
    assert town.logged(path) == "200 DC downstream_remote_disconnect"
    town.wait_until_idle()


@pytest.mark.parametrize("leave", LEAVES)
def test_between_pipelined_requests(town, leave):
    path = f"/silent/pipelined/{leave}"
    client = town.edge.connect("edge")
    good = b"GET /direct HTTP/1.1\r\nhost: a\r\n\r\n"
    client.send_bytes(good + f"GET {path} HTTP/1.1\r\nhost: a\r\n\r\n".encode() + good * 100)
    assert client.read_reply().body == b"direct\n"
    town.wait_for(path)
    LEAVES[leave](client)
    assert town.logged(path) == "0 DC downstream_remote_disconnect"
    town.wait_until_idle()


def test_while_the_connection_to_the_origin_is_made(proxy):
    """It is given up, and does not wait for the connect timeout."""
    deaf = DeafListener()
    edge = proxy(
        [listener("edge", [to()])],
        [cluster("origin", deaf.port, connect_timeout="600s")],
    )
    for leave in LEAVES.values():
        client = edge.connect()
        client.send("GET", "/")
        edge.wait_for_stat("cluster.origin.upstream_cx_active", 1)
        leave(client)
        edge.wait_for_stat("cluster.origin.upstream_cx_active", 0)
        edge.wait_for_stat("http.edge.downstream_cx_active", 0)
    deaf.close()


def test_while_waiting_for_a_connection_of_the_pool(proxy, origins):
    """Those in the queue leave; the one that holds the connection is not disturbed, and what comes
    back later finds its turn."""
    go_on = threading.Event()

    def answer(exchange):
        if exchange.request.path == "/holds":
            go_on.wait(20)
        exchange.reply(200, b"done")

    limits = {"thresholds": [{"max_connections": 1}]}
    origin = origins(answer)
    edge = proxy(
        [listener("edge", [to()])],
        [cluster("origin", origin.port, circuit_breakers=limits)],
        flags=["--concurrency", "1"],
    )
    with edge.connect() as holder:
        holder.send("GET", "/holds")
        origin.wait_for_requests(1)
        queued = [edge.connect() for _ in range(10)]
        for client in queued:
            client.send("GET", "/queued")
        edge.wait_for_stat("cluster.origin.upstream_rq_pending_active", 10)
        for i, client in enumerate(queued[:8]):
            list(LEAVES.values())[i % 2](client)
        edge.wait_for_stat("cluster.origin.upstream_rq_pending_active", 2)
        go_on.set()
        assert holder.read_reply().body == b"done"
        for client in queued[8:]:
            assert client.read_reply().body == b"done"
            client.close()
    assert len(origin.requests) == 3


def test_a_storm_of_clients_that_leave(town):
    """Many at once, each at another point of the same exchange."""
    message = b"POST /storm HTTP/1.1\r\nhost: a\r\ncontent-length: 50\r\n\r\n" + b"b" * 50
    for leave in LEAVES.values():
        clients = [town.edge.connect("edge") for _ in message]
        for cut, client in enumerate(clients):
            client.send_bytes(message[:cut])
        for client in clients:
            leave(client)
        town.edge.wait_for_stat("http.edge.downstream_cx_active", 0)
    assert town.edge.get("/direct", listener="edge").body == b"direct\n"
    town.edge.wait_for_stat("http.edge.downstream_rq_active", 0)
