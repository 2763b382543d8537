"""The TCP proxy on both: who sees what when one side ends, breaks off or is not there, what is logged and counted."""

import contextlib
import pathlib
import select
import socket

import pytest

from harness import (
    SLUICE,
    TYPE,
    DeafListener,
    LogFile,
    Proxy,
    bootstrap,
    closed_port,
    cluster,
    eventually,
    listener,
    to,
)
from tcp_support import Upstream, connect, network_filter, receive, reset, tcp_listener, tcp_proxy, through, to_the_end
from test_tcp_proxy_header import TRANSPORT
from twins import envoy_binary

FORMAT = "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %UPSTREAM_CLUSTER%"
COUNTED = {
    "tcp": [
        "downstream_cx_total",
        "downstream_cx_no_route",
        "downstream_cx_rx_bytes_total",
        "downstream_cx_tx_bytes_total",
        "idle_timeout",
        "max_downstream_connection_duration",
    ],
    "cluster": [
        "upstream_cx_total",
        "upstream_cx_active",
        "upstream_cx_connect_attempts_exceeded",
        "upstream_cx_connect_fail",
        "upstream_cx_connect_timeout",
        "upstream_cx_destroy",
        "upstream_cx_none_healthy",
        "upstream_cx_overflow",
        "upstream_cx_rx_bytes_total",
        "upstream_cx_tx_bytes_total",
        "upstream_rq_total",
        "upstream_rq_active",
        "upstream_rq_pending_failure_eject",
    ],
}
CLUSTERS = ("origin", "refused", "hostless", "full", "deaf")  # where a rotation begins is chance

# Where we differ on purpose: {scene: our response flags, where Envoy has none}
FLAGS = {"the client resets": "DC", "nothing moves": "SI"}
# A connection that a filter in front turns away never comes to the TCP proxy; on Envoy it is counted there before.
COUNTS = {"tcp.limit.downstream_cx_total": (1, 2), "tcp.rate.downstream_cx_total": (1, 2)}


class Side:
    def __init__(self, program, folder):
        self.upstream = Upstream()
        self.deaf = DeafListener()
        self.hold, refused = closed_port()
        self.log = LogFile(folder / "access.log", FORMAT)

        def edge(name, cluster_name="origin", before=(), **config):
            proxy = tcp_proxy(cluster_name, name, access_log=[self.log.config], **config)
            return tcp_listener(name, *before, proxy)

        limit = network_filter("connection_limit", stat_prefix="limit", max_connections=1)
        bucket = {"max_tokens": 1, "fill_interval": "3600s"}
        rate = network_filter("local_ratelimit", stat_prefix="rate", token_bucket=bucket)
        self.edges = [
            edge("plain"),
            edge("refused", "refused", max_connect_attempts=2),
            edge("hostless", "hostless"),
            edge("missing", "missing"),
            edge("full", "full"),
            edge("deaf", "deaf"),
            edge("half", "half", max_connect_attempts=2),
            edge("idle", idle_timeout="0.7s"),
            edge("short", max_downstream_connection_duration="0.7s"),
            edge("limit", before=[limit]),
            edge("rate", before=[rate]),
        ]
        one = {"thresholds": [{"max_connections": 1}]}
        clusters = [
            cluster("origin", self.upstream.port),
            cluster("refused", refused),
            cluster("hostless"),
            cluster("full", self.upstream.port, circuit_breakers=one),
            cluster("deaf", self.deaf.port, connect_timeout="0.2s"),
            cluster("half", refused, self.upstream.port),
        ]
        flags = [] if program == SLUICE else ["--use-dynamic-base-id"]
        self.proxy = Proxy(
            bootstrap(self.edges, clusters),
            program=program,
            flags=[*flags, "--concurrency", "1", "--file-flush-interval-msec", "20"],
            level="warning",
        )

    def line_of(self, name):
        """What the log says of the client whose address that was."""

        def look():
            text = self.log.path.read_text() if self.log.path.exists() else ""
            return [line.split()[1:] for line in text.splitlines() if line.startswith(name + " ")]

        [line] = eventually(look, what=f"the line of {name}")
        return line

    def counted(self):
        stats = self.proxy.stats()
        seen = {}
        for prefix, names in (("tcp", [e["name"] for e in self.edges]), ("cluster", CLUSTERS)):
            for name in names:
                for what in COUNTED[prefix]:
                    key = f"{prefix}.{name}.{what}"
                    seen[key] = stats.get(key, "there is none")
        for key in (
            "connection_limit.limit.active_connections",
            "connection_limit.limit.limited_connections",
            "local_rate_limit.rate.rate_limited",
        ):
            seen[key] = stats.get(key, "there is none")
        return seen

    def close(self):
        self.proxy.stop()
        for one in (self.upstream, self.deaf, self.hold):
            one.close()


def how_it_ends(sock):
    try:
        return to_the_end(sock).decode()
    except ConnectionResetError:
        return "reset"
    finally:
        sock.close()


def named(client):
    return "{}:{}".format(*client.getsockname())


def said(client, upstream):
    client.sendall(b"question")
    assert receive(upstream, 8) == b"question"
    upstream.sendall(b"answer")
    assert receive(client, 6) == b"answer"


def client_ends_first(side):
    client, upstream = through(side.proxy, side.upstream, "plain")
    name = named(client)
    said(client, upstream)
    client.sendall(b"more")
    client.shutdown(socket.SHUT_WR)
    seen = [to_the_end(upstream).decode()]
    upstream.sendall(b"the rest")
    upstream.close()
    return [*seen, how_it_ends(client), side.line_of(name)]


def upstream_ends_first(side):
    client, upstream = through(side.proxy, side.upstream, "plain")
    name = named(client)
    said(client, upstream)
    upstream.sendall(b"more")
    upstream.shutdown(socket.SHUT_WR)
    seen = [to_the_end(client).decode()]
    client.sendall(b"the rest")
    client.close()
    return [*seen, how_it_ends(upstream), side.line_of(name)]


def client_resets(side):
    client, upstream = through(side.proxy, side.upstream, "plain")
    name = named(client)
    said(client, upstream)
    reset(client)
    return [how_it_ends(upstream), side.line_of(name)]


def upstream_resets(side):
    client, upstream = through(side.proxy, side.upstream, "plain")
    name = named(client)
    said(client, upstream)
    reset(upstream)
    return [how_it_ends(client), side.line_of(name)]


def turned_away(listener):
    def look(side):
        client = connect(side.proxy, listener)
        name = named(client)
        return [how_it_ends(client), side.line_of(name)]

    return look


def full(side):
    client, upstream = through(side.proxy, side.upstream, "full")
    said(client, upstream)
    seen = turned_away("full")(side)
    client.close()
    upstream.close()
    return seen


def next_host(side):
    client, upstream = through(side.proxy, side.upstream, "half")
    name = named(client)
    said(client, upstream)
    client.close()
    upstream.close()
    other = through(side.proxy, side.upstream, "half")
    for sock in other:
        sock.close()
    return side.line_of(name)[1:]


def idles(side):
    client, upstream = through(side.proxy, side.upstream, "idle")
    name = named(client)
    said(client, upstream)
    return [how_it_ends(client), how_it_ends(upstream), side.line_of(name)]


def lasts(side):
    client, upstream = through(side.proxy, side.upstream, "short")
    name = named(client)
    said(client, upstream)
    return [how_it_ends(client), how_it_ends(upstream), side.line_of(name)]


def limited(side):
    client, upstream = through(side.proxy, side.upstream, "limit")
    said(client, upstream)
    second = connect(side.proxy, "limit")
    seen = how_it_ends(second)
    client.close()
    upstream.close()
    eventually(lambda: side.proxy.stat("connection_limit.limit.active_connections") == 0, what="no connection")
    return seen


def rated(side):
    client, upstream = through(side.proxy, side.upstream, "rate")
    said(client, upstream)
    second = connect(side.proxy, "rate")
    seen = how_it_ends(second)
    client.close()
    upstream.close()
    return seen


SCENES = {
    "the client ends first": client_ends_first,
    "the upstream ends first": upstream_ends_first,
    "the client resets": client_resets,
    "the upstream resets": upstream_resets,
    "refused": turned_away("refused"),
    "no host": turned_away("hostless"),
    "no cluster": turned_away("missing"),
    "the breaker": full,
    "a connect that takes too long": turned_away("deaf"),
    "the next host": next_host,
    "nothing moves": idles,
    "it lasts too long": lasts,
    "a limit of connections": limited,
    "a limit of new ones": rated,
}


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """All scenes on both: {name of the proxy: ({scene: what was seen}, what was counted)}"""
    result = {}
    for name, program in (("envoy", envoy_binary()), ("sluice", SLUICE)):
        with contextlib.closing(Side(program, pathlib.Path(tmp_path_factory.mktemp(name)))) as side:
            seen = {scene: play(side) for scene, play in SCENES.items()}
            eventually(lambda: side.proxy.stat("cluster.origin.upstream_cx_active") == 0, what="all to end")
            result[name] = seen, side.counted()
    return result


@pytest.mark.parametrize("scene", SCENES)
def test_both_sides_see_the_same(played, scene):
    ours, theirs = (played[name][0][scene] for name in ("sluice", "envoy"))
    if scene in FLAGS:
        assert (ours[-1][0], theirs[-1][0]) == (FLAGS[scene], "-")
        ours[-1][0] = "-"
    assert ours == theirs


def test_the_same_is_counted(played):
    ours, theirs = played["sluice"][1], played["envoy"][1]
    assert {key: (ours[key], theirs[key]) for key in ours if ours[key] != theirs[key]} == COUNTS


def proxy_headers_of_requests(program):
    """Which upstream connection each request came by, and what its header said, ports by the names of the clients."""
    upstream = Upstream()
    transport = {
        "name": "envoy.transport_sockets.upstream_proxy_protocol",
        "typed_config": {
            "@type": TRANSPORT,
            "config": {"version": "V1"},
            "transport_socket": {
                "name": "envoy.transport_sockets.raw_buffer",
                "typed_config": {"@type": TYPE + "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"},
            },
        },
    }
    proxy = Proxy(
        bootstrap([listener("http", [to("origin")])], [cluster("origin", upstream.port, transport_socket=transport)]),
        program=program,
        flags=[*([] if program == SLUICE else ["--use-dynamic-base-id"]), "--concurrency", "1"],
    )
    seen, servers = [], []
    try:
        clients = {"first": connect(proxy, "http"), "second": connect(proxy, "http")}
        names = {str(client.getsockname()[1]): name for name, client in clients.items()}
        names[str(proxy.port("http"))] = "here"
        for name in ("first", "second", "second", "first"):
            clients[name].sendall(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            if len(servers) < 2:
                servers.append(upstream.accept())
            [server], _, _ = select.select(servers, [], [], 20)
            text = server.recv(65536).decode()
            while not text.endswith("\r\n\r\n"):
                text += server.recv(65536).decode()
            line = text.partition("\r\n")[0].split()
            seen.append((name, servers.index(server), [names.get(word, word) for word in line]))
            server.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
            assert b" 204 " in clients[name].recv(65536)
        return seen
    finally:
        proxy.stop()
        for sock in (*clients.values(), *servers, upstream):
            sock.close()


def test_proxy_headers_of_requests_speak_of_the_same_clients():
    ours = proxy_headers_of_requests(SLUICE)
    assert ours == proxy_headers_of_requests(envoy_binary())
    assert ours[0] == ("first", 0, ["PROXY", "TCP4", "127.0.0.1", "127.0.0.1", "first", "here"])
