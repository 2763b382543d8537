"""Connections to upstreams: reuse, its ends, its limits; which endpoint and which cluster is chosen."""

import collections
import socket
import threading

import pytest

from harness import DeafListener, LogFile, Origin, address, closed_port, cluster, eventually, listener, to

ONE = ["--concurrency", "1"]  # one pool and one rotation: what happens is then exact
HTTP = "common_http_protocol_options"


class Gate:
    """An origin's answer that is held until the test opens it."""

    def __init__(self):
        self._open = threading.Event()

    def open(self):
        self._open.set()

    def answer(self, exchange):
        body = exchange.request.read_body()
        if "hold" in exchange.request.path:
            assert self._open.wait(30)
        exchange.reply(200, body)


@pytest.fixture
def gate():
    made = Gate()
    yield made
    made.open()


def breaker(**limits):
    return {"circuit_breakers": {"thresholds": [limits]}}


def test_sequential_requests_share_a_connection(proxy, origin):
    edge = proxy([listener("edge", [to()])], [cluster("origin", origin.port)], flags=ONE)
    for _ in range(10):  # whichever client they come from
        assert edge.get("/").status == 200
    assert origin.connections == 1
    assert edge.stat("cluster.origin.upstream_cx_total") == 1
    assert edge.stat("cluster.origin.upstream_rq_total") == 10


def test_concurrent_requests_do_not(proxy, origins, gate):
    origin = origins(gate.answer)
    edge = proxy([listener("edge", [to()])], [cluster("origin", origin.port)], flags=ONE)
    clients = [edge.connect() for _ in range(5)]
    for client in clients:
        client.send("GET", "/hold")
    origin.wait_for_requests(5)
    assert origin.connections == 5
    gate.open()
    for client in clients:
        assert client.read_reply().status == 200
    for client in clients:  # any of the five will do now
        assert client.ask("GET", "/").status == 200
        client.close()
    assert origin.connections == 5


def test_an_idle_connection_is_closed_in_time(proxy, origin):
    options = {HTTP: {"idle_timeout": "0.1s"}}
    edge = proxy([listener("edge", [to()])], [cluster("origin", origin.port, **options)])
    with edge.connect() as client:
        assert client.ask("GET", "/").status == 200
        eventually(lambda: origin.open == 0, what="the origin's connection closed")
        assert client.ask("GET", "/").status == 200
    assert origin.connections == 2
    assert edge.stat("cluster.origin.upstream_cx_idle_timeout") >= 1


def test_of_two_idle_connections_the_one_in_use_lives_on(proxy, origins, gate):
    """One timer serves a pool: neither may it end both, nor forget the one that came later."""
    origin = origins(gate.answer)
    options = {HTTP: {"idle_timeout": "2s"}}
    edge = proxy([listener("edge", [to()])], [cluster("origin", origin.port, **options)], flags=ONE)
    with edge.connect() as first, edge.connect() as second:
        first.send("GET", "/hold")
        second.send("GET", "/hold")
        origin.wait_for_requests(2)
        gate.open()
        assert first.read_reply().status == 200
        assert second.read_reply().status == 200
        eventually(
            lambda: first.ask("GET", "/").status == 200 and origin.open == 1,
            what="the end of the connection that nobody used",
        )
        assert first.ask("GET", "/").status == 200
        assert origin.connections == 2  # the other one served all of this
        eventually(lambda: origin.open == 0, what="its end")
    assert edge.stat("cluster.origin.upstream_cx_idle_timeout") == 2


def test_max_requests_per_connection(proxy, origin):
    options = {HTTP: {"max_requests_per_connection": 3}}
    edge = proxy([listener("edge", [to()])], [cluster("origin", origin.port, **options)], flags=ONE)
    with edge.connect() as client:
        for _ in range(10):
            assert client.ask("POST", "/", body=b"x").body == b"x"
    assert origin.connections == 4
    assert edge.stat("cluster.origin.upstream_cx_max_requests") == 3


def test_a_full_pool_makes_requests_wait(proxy, origins, gate):
    origin = origins(gate.answer)
    limits = breaker(max_connections=2)
    edge = proxy([listener("edge", [to()])], [cluster("origin", origin.port, **limits)], flags=ONE)
    clients = [edge.connect() for _ in range(6)]
    for client in clients:
        client.send("GET", "/hold")
    edge.wait_for_stat("cluster.origin.upstream_rq_pending_active", 4)
    assert len(origin.wait_for_requests(2)) == 2
    gate.open()
    for client in clients:
        assert client.read_reply().status == 200
        client.close()
    assert origin.connections == 2
    assert edge.stat("cluster.origin.upstream_rq_pending_active") == 0


def test_a_full_queue_overflows(proxy, origins, gate, tmp_path):
    origin = origins(gate.answer)
    log = LogFile(tmp_path / "access")
    limits = breaker(max_connections=1, max_pending_requests=1)
    edge = proxy(
        [listener("edge", [to()], hcm={"access_log": [log.config]})],
        [cluster("origin", origin.port, **limits)],
        flags=ONE,
    )
    with edge.connect() as first, edge.connect() as second, edge.connect() as third:
        first.send("GET", "/hold")
        origin.wait_for_requests(1)
        second.send("GET", "/hold")
        edge.wait_for_stat("cluster.origin.upstream_rq_pending_active", 1)
        for _ in range(3):
            reply = third.ask("GET", "/")
            assert reply.status == 503
            assert reply.header("x-envoy-overloaded") == "true"
            assert reply.body.endswith(b"reset reason: overflow")
        gate.open()
        assert first.read_reply().status == 200
        assert second.read_reply().status == 200
        assert third.ask("GET", "/").status == 200
    assert edge.stat("cluster.origin.upstream_rq_pending_overflow") == 3
    overflow = "503 UO upstream_reset_before_response_started{overflow}"
    assert log.lines(edge, 6)[:3] == [overflow] * 3


def test_max_requests(proxy, origins, gate):
    origin = origins(gate.answer)
    limits = breaker(max_requests=2)
    edge = proxy([listener("edge", [to()])], [cluster("origin", origin.port, **limits)])
    with edge.connect() as first, edge.connect() as second, edge.connect() as third:
        first.send("GET", "/hold")
        second.send("GET", "/hold")
        origin.wait_for_requests(2)
        assert third.ask("GET", "/").status == 503
        gate.open()
        assert first.read_reply().status == 200
        assert second.read_reply().status == 200
        eventually(lambda: third.ask("GET", "/").status == 200)


def test_max_requests_counts_all_workers(proxy, origins, gate):
    """However the connections are spread: exactly so many are let in, and what one worker gave back
    another one has."""
    origin = origins(gate.answer)
    limits = breaker(max_requests=3)
    edge = proxy([listener("edge", [to()])], [cluster("origin", origin.port, **limits)], flags=["--concurrency", "4"])
    clients = [edge.connect() for _ in range(12)]
    for client in clients:  # each worker that has one of them keeps what came free
        assert client.ask("GET", "/").status == 200
    for client in clients[:3]:
        client.send("GET", "/hold")
    origin.wait_for_requests(15)
    for client in clients[3:]:
        assert client.ask("GET", "/").status == 503
    gate.open()
    for client in clients[:3]:
        assert client.read_reply().status == 200
    for client in clients:
        eventually(lambda client=client: client.ask("GET", "/").status == 200)
        client.close()
    edge.wait_for_stat("cluster.origin.upstream_rq_active", 0)


def test_the_breaker_opens_again_after_failures(proxy, origins):
    """Every way for a request to end gives its place back."""

    def answer(exchange):
        if exchange.request.path == "/reset":
            exchange.reset()
        if exchange.request.path == "/garbage":
            exchange.send(b"garbage\r\n\r\n")
            exchange.wait_closed()
        if exchange.request.path == "/stall":
            exchange.wait_closed()
        exchange.reply(200)

    limits = breaker(max_connections=1, max_requests=1, max_pending_requests=1)
    edge = proxy(
        [listener("edge", [to(prefix="/stall", timeout="0.05s"), to()])],
        [cluster("origin", origins(answer).port, **limits)],
        flags=ONE,
    )
    with edge.connect() as client:
        for _ in range(5):
            assert client.ask("GET", "/reset").status == 503
            assert client.ask("GET", "/garbage").status == 502
            assert client.ask("GET", "/stall").status == 504
            assert client.ask("GET", "/").status == 200
    assert edge.stat("cluster.origin.upstream_rq_active") == 0
    assert edge.stat("cluster.origin.upstream_cx_active") == 1


# ---- which endpoint ----


def named(name):
    return lambda exchange: exchange.reply(200, name.encode())


def test_round_robin_takes_turns(proxy, origins):
    ports = [origins(named(name)).port for name in "abc"]
    edge = proxy([listener("edge", [to()])], [cluster("origin", *ports)], flags=ONE)
    with edge.connect() as client:
        seen = [client.ask("GET", "/").body for _ in range(12)]
    assert collections.Counter(seen) == {b"a": 4, b"b": 4, b"c": 4}
    assert seen[:3] * 4 == seen  # a rotation, wherever it starts


def test_round_robin_heeds_weights(proxy, origins):
    endpoints = [
        {"endpoint": {"address": address(origins(named(name)).port)}, "load_balancing_weight": w}
        for name, w in (("a", 1), ("b", 2), ("c", 5))
    ]
    assignment = {"cluster_name": "origin", "endpoints": [{"lb_endpoints": endpoints}]}
    edge = proxy([listener("edge", [to()])], [cluster("origin", load_assignment=assignment)], flags=ONE)
    with edge.connect() as client:
        seen = [client.ask("GET", "/").body for _ in range(80)]
    assert collections.Counter(seen) == {b"a": 10, b"b": 20, b"c": 50}
    # The heavy one is spread over the turns, not served in one go.
    assert b"c" * 5 not in b"".join(seen)


def test_a_dead_endpoint_fails_its_turns_only(proxy, origins):
    alive = origins(named("alive"))
    held, dead = closed_port()
    edge = proxy([listener("edge", [to()])], [cluster("origin", alive.port, dead)], flags=ONE)
    with held, edge.connect() as client:
        statuses = [client.ask("GET", "/").status for _ in range(10)]
    assert sorted(statuses) == [200] * 5 + [503] * 5


def test_endpoints_marked_unhealthy_get_nothing(proxy, origins):
    well, ill = origins(named("well")), origins(named("ill"))
    endpoints = [
        {"endpoint": {"address": address(well.port)}},
        {"endpoint": {"address": address(ill.port)}, "health_status": "UNHEALTHY"},
    ]
    assignment = {"cluster_name": "origin", "endpoints": [{"lb_endpoints": endpoints}]}
    edge = proxy([listener("edge", [to()])], [cluster("origin", load_assignment=assignment)], flags=ONE)
    with edge.connect() as client:
        assert {client.ask("GET", "/").body for _ in range(10)} == {b"well"}
    assert ill.connections == 0


@pytest.mark.parametrize("kind", ["STRICT_DNS", "LOGICAL_DNS"])
def test_names_are_resolved(proxy, origin, kind):
    config = cluster("origin", type=kind, dns_lookup_family="V4_ONLY")
    endpoint = {"endpoint": {"address": address(origin.port, "localhost")}}
    config["load_assignment"]["endpoints"] = [{"lb_endpoints": [endpoint]}]
    edge = proxy([listener("edge", [to()])], [config])
    for _ in range(3):
        assert edge.get("/", method="POST", body=b"resolved").body == b"resolved"
    assert origin.last().header("host") == "test.local"
    assert edge.stat("cluster.origin.membership_healthy") == 1


def test_a_name_that_does_not_resolve_has_no_hosts(proxy):
    config = cluster("origin", type="STRICT_DNS", dns_lookup_family="V4_ONLY")
    endpoint = {"endpoint": {"address": address(80, "does-not-exist.invalid")}}
    config["load_assignment"]["endpoints"] = [{"lb_endpoints": [endpoint]}]
    edge = proxy([listener("edge", [to()])], [config])
    reply = edge.get("/")
    assert (reply.status, reply.body) == (503, b"no healthy upstream")
    assert edge.stat("cluster.origin.update_failure") >= 1


def test_an_ipv6_endpoint(proxy):
    try:
        server = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("no IPv6 here")
    assignment = {
        "cluster_name": "origin",
        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(server.getsockname()[1], "::1")}}]}],
    }
    edge = proxy([listener("edge", [to()])], [cluster("origin", load_assignment=assignment)])
    with edge.connect() as client, server:
        client.send("GET", "/")
        peer, _ = server.accept()
        with peer:
            assert peer.recv(4096).startswith(b"GET / HTTP/1.1\r\n")
            peer.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nsix")
            assert client.read_reply().body == b"six"


# ---- which cluster ----


def test_weighted_clusters(proxy, origins):
    weights = {"a": 10, "b": 30, "c": 0, "d": 60}
    clusters = [cluster(name, origins(named(name)).port) for name in weights]
    action = {"weighted_clusters": {"clusters": [{"name": name, "weight": weight} for name, weight in weights.items()]}}
    edge = proxy([listener("edge", [{"match": {"prefix": "/"}, "route": action}])], clusters)
    with edge.connect() as client:
        seen = collections.Counter(client.ask("GET", "/").body.decode() for _ in range(1000))
    # Five standard deviations of a binomial distribution: once in some million runs.
    for name, weight in weights.items():
        share = weight / 100
        assert abs(seen[name] - 1000 * share) <= 5 * (1000 * share * (1 - share)) ** 0.5
    assert seen["c"] == 0


def test_clusters_do_not_share_connections(proxy, origin):
    clusters = [cluster("one", origin.port), cluster("two", origin.port)]
    edge = proxy([listener("edge", [to("one", "/1"), to("two", "/2")])], clusters, flags=ONE)
    with edge.connect() as client:
        for path in ("/1", "/2", "/1", "/2"):
            assert client.ask("GET", path).status == 200
    assert origin.connections == 2


def test_many_requests_over_few_connections(proxy, origins):
    """Hundreds of clients over four connections for each processor: everybody gets the answer to their
    own question."""
    origin = origins(Origin.echo)
    limits = breaker(max_connections=4)
    edge = proxy([listener("edge", [to()])], [cluster("origin", origin.port, **limits)])
    wrong = []

    def ask(name):
        with edge.connect() as client:
            for i in range(20):
                body = f"{name} {i} ".encode() * (i * 7 + 1)
                if client.ask("POST", "/", body=body).body != body:
                    wrong.append((name, i))

    threads = [threading.Thread(target=ask, args=(name,)) for name in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []
    assert len(origin.requests) == 1000
    assert origin.connections <= 8


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_route_timeout_counts_the_wait_for_a_connection(proxy, origins, gate, tmp_path, method):
    """Whether the pool is full or the endpoint does not take the handshake."""
    origin = origins(gate.answer)
    deaf = DeafListener()
    log = LogFile(tmp_path / "access")
    routes = [to(prefix="/hold"), to(prefix="/later"), to("deaf", "/deaf", timeout="0.2s"), to(timeout="0.2s")]
    edge = proxy(
        [listener("edge", routes, hcm={"access_log": [log.config]})],
        [
            cluster("origin", origin.port, **breaker(max_connections=1)),
            cluster("deaf", deaf.port, connect_timeout="600s"),
        ],
        flags=ONE,
    )
    body = b"a body that is here" if method == "POST" else None
    with edge.connect() as holder:
        holder.send("GET", "/hold")
        origin.wait_for_requests(1)
        for path in ("/", "/deaf"):
            reply = edge.get(path, method=method, body=body)
            assert (reply.status, reply.body) == (504, b"upstream request timeout")
        assert log.lines(edge, 2) == ["504 UT response_timeout"] * 2
        gate.open()
        assert holder.read_reply().status == 200
    assert edge.get("/later", method=method, body=body).status == 200
    assert edge.stat("cluster.origin.upstream_rq_timeout") == 1
    assert len(origin.requests) == 2
    deaf.close()
