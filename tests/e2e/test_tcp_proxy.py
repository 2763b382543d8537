"""Bytes through the TCP proxy: both ways, to their ends, and what becomes of them when somebody breaks off."""

import contextlib
import socket

import pytest

from harness import DeafListener, LogFile, closed_port, cluster, eventually, is_sanitized
from tcp_support import (
    Receiver,
    Sender,
    Upstream,
    connect,
    digest_of,
    is_reset,
    network_filter,
    pieces,
    receive,
    reset,
    tcp_edge,
    tcp_listener,
    tcp_proxy,
    through,
    to_the_end,
)

ONE = ["--concurrency", "1"]
MB = 1 << 20
FORMAT = (
    "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% "
    "%UPSTREAM_CLUSTER% %ACCESS_LOG_TYPE%"
)


class Story:
    pass


@pytest.fixture(scope="module")
def story(module_proxy, tmp_path_factory):
    """One proxy with a listener per story."""
    it = Story()
    it.origin, it.other = Upstream(), Upstream()
    it.deaf = DeafListener()
    it.hold, refused = closed_port()
    it.log = LogFile(tmp_path_factory.mktemp("tcp") / "access.log", FORMAT)
    logged = {"access_log": [it.log.config]}
    buckets = {"max_tokens": 2, "fill_interval": "3600s"}
    it.edge = module_proxy(
        [
            tcp_edge("plain"),
            tcp_edge("logged", **logged),
            tcp_edge("refused", "refused", **logged),
            tcp_edge("retried", "half", max_connect_attempts=2, backoff_options={"base_interval": "0.005s"}),
            tcp_edge("missing", "nowhere", **logged),
            tcp_edge("hostless", "hostless", **logged),
            tcp_edge("full", "full", **logged),
            tcp_edge("deaf", "deaf", **logged),
            tcp_edge("slow", "slow"),
            tcp_edge("idle", idle_timeout="0.7s", **logged),
            tcp_edge("short", max_downstream_connection_duration="0.5s", **logged),
            tcp_edge(
                "periodic",
                access_log_options={"access_log_flush_interval": "0.02s", "flush_access_log_on_connected": True},
                access_log=[it.log.config],
            ),
            tcp_edge(
                "weighted",
                None,
                weighted_clusters={"clusters": [{"name": "origin", "weight": 3}, {"name": "other", "weight": 1}]},
            ),
            tcp_listener("echo", network_filter("echo")),
            tcp_listener("direct", network_filter("direct_response", response={"inline_string": "go away\n"})),
            tcp_listener("nothing", network_filter("direct_response")),
            tcp_listener(
                "two",
                network_filter("connection_limit", stat_prefix="two", max_connections=2),
                tcp_proxy(),
            ),
            tcp_listener(
                "patient",
                network_filter("connection_limit", stat_prefix="patient", max_connections=1, delay="0.05s"),
                tcp_proxy(),
            ),
            tcp_listener(
                "open",
                network_filter(
                    "connection_limit",
                    stat_prefix="open",
                    max_connections=1,
                    runtime_enabled={"default_value": False, "runtime_key": "x"},
                ),
                tcp_proxy(),
            ),
            *(
                tcp_listener(
                    f"rate-{name}",
                    network_filter("local_ratelimit", stat_prefix=name, token_bucket=buckets, **key),
                    network_filter("direct_response", response={"inline_bytes": "eA=="}),
                )
                for name, key in (("own", {}), ("a", {"share_key": "k"}), ("b", {"share_key": "k"}))
            ),
        ],
        [
            cluster("origin", it.origin.port),
            cluster("other", it.other.port),
            cluster("half", refused, it.origin.port),
            cluster("refused", refused),
            cluster("hostless"),
            cluster(
                "full",
                it.origin.port,
                circuit_breakers={"thresholds": [{"max_connections": 1}]},
            ),
            cluster("deaf", it.deaf.port, connect_timeout="0.1s"),
            cluster("slow", it.deaf.port, connect_timeout="30s"),
        ],
        flags=ONE,
    )
    yield it
    it.deaf.close()
    it.hold.close()
    for upstream in (it.origin, it.other):
        upstream.close()


def name_of(client):
    host, port = client.getsockname()
    return f"{host}:{port}"


def logged(story, name):
    """What the log says in the end of the client whose address that was."""

    def look():
        story.edge.admin("/reopen_logs", method="POST")
        lines = story.log.path.read_text().splitlines() if story.log.path.exists() else []
        return [line.split()[1:] for line in lines if line.startswith(name + " ") and "End" in line]

    [line] = eventually(look, what=f"the line of {name}")
    return line


# ---- bytes ----


def test_what_one_says_the_other_hears(story):
    client, upstream = through(story.edge, story.origin, "plain")
    for turn in range(20):
        client.sendall(b"question %d" % turn)
        assert receive(upstream, len(b"question %d" % turn)) == b"question %d" % turn
        upstream.sendall(b"answer %d" % turn)
        assert receive(client, len(b"answer %d" % turn)) == b"answer %d" % turn
    client.close()
    assert upstream.recv(1) == b""
    upstream.close()


def test_between_exchanges_a_connection_has_no_coroutine_and_no_memory_for_bytes(story):
    edge = story.edge
    with contextlib.ExitStack() as stack:
        before = None
        for count in range(12):
            client, upstream = through(edge, story.origin, "plain")
            stack.callback(client.close)
            stack.callback(upstream.close)
            client.sendall(b"x")
            assert receive(upstream, 1) == b"x"
            upstream.sendall(b"y")
            assert receive(client, 1) == b"y"
            stats = edge.stats()
            now = (stats["rt.coroutines_alive"], stats["rt.p0.blocks_in_use"])
            before = before or now
            assert now == before, f"with {count + 1} connections"


@pytest.mark.parametrize("size", [8 * MB])
def test_bulk_both_ways_at_once_arrives_as_it_was_sent(story, size):
    """Through a proxy that holds no more of it for that."""
    edge = story.edge
    client, upstream = through(edge, story.origin, "plain")
    memory_kb = edge.rss_kb()
    spliced = edge.stat("server.io.splice_bytes")
    ends = [Sender(client, "up", size), Sender(upstream, "down", size)]
    at_client, at_upstream = Receiver(client), Receiver(upstream)
    assert at_upstream.digest() == digest_of("up", size)
    assert at_client.digest() == digest_of("down", size)
    for end in ends:
        end.join(20)
        assert end.error is None
    if not is_sanitized():
        assert edge.rss_kb() - memory_kb < 4096
    assert edge.stat("server.io.splice_bytes") > spliced
    client.close()
    upstream.close()


def test_many_connections_at_once(story):
    with contextlib.ExitStack() as stack:
        at_work = []
        for number in range(20):
            client, upstream = through(story.edge, story.origin, "plain")
            stack.callback(client.close)
            stack.callback(upstream.close)
            seed = f"number {number}"
            at_work.append((seed, Sender(client, seed, 300_000), Receiver(upstream)))
        for seed, _, receiver in at_work:
            assert receiver.digest() == digest_of(seed, 300_000)


def test_a_slow_receiver_holds_the_sender_back(story):
    edge = story.edge
    client, upstream = through(edge, story.origin, "plain")
    name = "tcp.plain.downstream_flow_control_"
    paused = edge.stat(name + "paused_reading_total")
    resumed = edge.stat(name + "resumed_reading_total")
    size = 24 * MB
    sender = Sender(client, "slow", size)
    eventually(lambda: edge.stat(name + "paused_reading_total") > paused, what="the sender to be held back")
    assert Receiver(upstream).digest() == digest_of("slow", size)
    sender.join(20)
    eventually(lambda: edge.stat(name + "resumed_reading_total") > resumed, what="it to go on")
    client.close()
    upstream.close()


# ---- ends ----


def test_a_client_that_has_said_all_still_gets_the_answer(story):
    client, upstream = through(story.edge, story.origin, "plain")
    client.sendall(b"all I have")
    client.shutdown(socket.SHUT_WR)
    assert to_the_end(upstream) == b"all I have"
    for piece in pieces("answer", MB):
        upstream.sendall(piece)
    upstream.close()
    assert to_the_end(client) == b"".join(pieces("answer", MB))
    client.close()


def test_an_upstream_that_has_said_all_still_gets_the_rest(story):
    client, upstream = through(story.edge, story.origin, "plain")
    upstream.sendall(b"bye")
    upstream.shutdown(socket.SHUT_WR)
    assert to_the_end(client) == b"bye"
    sender = Sender(client, "rest", 2 * MB)
    assert Receiver(upstream).digest() == digest_of("rest", 2 * MB)
    sender.join(20)
    client.close()
    upstream.close()


def test_an_end_before_the_upstream_is_there_is_not_lost(story):
    client = connect(story.edge, "plain")
    client.sendall(b"in a hurry")
    client.shutdown(socket.SHUT_WR)
    upstream = story.origin.accept()
    assert to_the_end(upstream) == b"in a hurry"
    upstream.sendall(b"so soon")
    upstream.close()
    assert to_the_end(client) == b"so soon"
    client.close()


@pytest.mark.parametrize("by_client", [True, False])
@pytest.mark.parametrize("state", ["silent", "said something", "in bulk"])
def test_a_reset_passes_as_a_reset(story, by_client, state):
    client, upstream = through(story.edge, story.origin, "logged")
    name = name_of(client)
    breaks, sees = (client, upstream) if by_client else (upstream, client)
    sees.sendall(b"hello")
    receive(breaks, 5)
    if state != "silent":
        breaks.sendall(b"something")
        receive(sees, 9)
    if state == "in bulk":
        breaks.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                breaks.send(b"x" * 65536)
        receive(sees, 300_000)
    reset(breaks)
    assert is_reset(sees)
    sees.close()
    assert logged(story, name)[0] == ("DC" if by_client else "UR")


def test_an_answer_that_comes_before_the_request_is_through_is_passed_on(story):
    """The upstream answers and closes without reading: what it said is not lost in the reset."""
    client, upstream = through(story.edge, story.origin, "plain")
    client.sendall(b"a long request begins")
    assert receive(upstream, 21)
    sender = Sender(client, "request", 32 * MB)
    receive(upstream, 1000)
    upstream.sendall(b"no, thank you")
    upstream.close()
    assert receive(client, 13) == b"no, thank you"
    sender.join(20)
    client.close()


def test_peers_that_vanish_leave_nothing_behind(story):
    pairs = [through(story.edge, story.origin, "plain") for _ in range(6)]
    for number, (client, upstream) in enumerate(pairs):
        client.sendall(b"x" * 1000)
        if number % 3 != 0:
            receive(upstream, 1000)
        (reset if number % 2 else socket.socket.close)(client)
        (reset if number % 3 else socket.socket.close)(upstream)
    assert story.edge.leaks() == {}
    story.edge.wait_for_stat("cluster.origin.upstream_cx_active", 0)


# ---- an upstream ----


def closes(story, listener, flags):
    """The client is turned away, and the log says why."""
    client = connect(story.edge, listener)
    with contextlib.suppress(ConnectionResetError):
        assert to_the_end(client) == b""
    assert logged(story, name_of(client))[0] == flags
    client.close()


def test_without_an_upstream_the_client_is_turned_away(story):
    closes(story, "refused", "UF,URX")
    closes(story, "deaf", "UF,URX")
    closes(story, "hostless", "UH")
    closes(story, "missing", "NC")
    stats = story.edge.stats()
    assert stats["cluster.refused.upstream_cx_connect_attempts_exceeded"] == 1
    assert stats["cluster.deaf.upstream_cx_connect_timeout"] == 1
    assert stats["cluster.hostless.upstream_cx_none_healthy"] == 1
    assert stats["tcp.missing.downstream_cx_no_route"] == 1


def test_more_connections_than_the_breaker_allows_are_turned_away(story):
    client, upstream = through(story.edge, story.origin, "full")
    closes(story, "full", "UO")
    assert story.edge.stat("cluster.full.upstream_cx_overflow") == 1
    client.close()
    upstream.close()
    story.edge.wait_for_stat("cluster.full.upstream_cx_active", 0)
    client, upstream = through(story.edge, story.origin, "full")
    client.close()
    upstream.close()


def test_a_host_that_refuses_gives_way_to_the_next(story):
    for _ in range(2):
        client, upstream = through(story.edge, story.origin, "retried")
        client.sendall(b"x")
        assert receive(upstream, 1) == b"x"
        client.close()
        upstream.close()
    assert story.edge.stat("cluster.half.upstream_cx_connect_fail") >= 1


def test_a_client_that_breaks_off_while_its_upstream_connects_is_forgotten(story):
    client = connect(story.edge, "slow")
    story.edge.wait_for_stat("cluster.slow.upstream_cx_active", 1)
    reset(client)
    story.edge.wait_for_stat("cluster.slow.upstream_cx_active", 0)
    assert story.edge.stat("cluster.slow.upstream_cx_connect_timeout") == 0


def test_weights_share_the_connections(story):
    counts = {"origin": 0, "other": 0}
    before = {name: story.edge.stat(f"cluster.{name}.upstream_cx_total") for name in counts}
    for _ in range(80):
        connect(story.edge, "weighted").close()
    story.edge.wait_for_stat("tcp.weighted.downstream_cx_total", 80)
    eventually(
        lambda: sum(story.edge.stat(f"cluster.{n}.upstream_cx_total") - before[n] for n in counts) == 80,
        what="80 connections",
    )
    share = story.edge.stat("cluster.other.upstream_cx_total") - before["other"]
    assert 4 <= share <= 42  # of 80, 20 are expected: six deviations

    def accept_all():
        for upstream in (story.origin, story.other):
            upstream.listening.settimeout(0)
            with contextlib.suppress(BlockingIOError):
                while True:
                    upstream.listening.accept()[0].close()
            upstream.listening.settimeout(20)

    def none_is_left():
        """Nor one that the upstream had no place for yet, and whose connect is tried again a second later."""
        accept_all()
        return all(story.edge.stat(f"cluster.{name}.upstream_cx_active") == 0 for name in counts)

    eventually(none_is_left, what="an end of all 80")
    accept_all()


# ---- time ----


def test_a_connection_on_which_nothing_moves_is_closed(story):
    client, upstream = through(story.edge, story.origin, "idle")
    client.sendall(b"x")
    assert receive(upstream, 1)
    assert to_the_end(client) == b""
    assert to_the_end(upstream) == b""
    assert logged(story, name_of(client))[:3] == ["SI", "1", "0"]
    assert story.edge.stat("tcp.idle.idle_timeout") == 1
    client.close()
    upstream.close()


def test_a_slow_receiver_that_takes_nothing_is_idle(story):
    client, upstream = through(story.edge, story.origin, "idle")
    sender = Sender(client, "nobody reads", 64 * MB)
    sender.join(20)
    assert sender.error
    client.close()
    upstream.close()


def test_a_connection_lasts_no_longer_than_it_may(story):
    client, upstream = through(story.edge, story.origin, "short")
    with contextlib.suppress(ConnectionError):
        client.sendall(b"busy")
        while upstream.recv(100):
            client.sendall(b"busy")
    assert logged(story, name_of(client))[0] == "DT"
    assert story.edge.stat("tcp.short.max_downstream_connection_duration") == 1
    client.close()
    upstream.close()


def test_a_long_connection_is_logged_while_it_lasts(story):
    client, upstream = through(story.edge, story.origin, "periodic")
    client.sendall(b"four")
    assert receive(upstream, 4)

    def kinds():
        lines = story.log.path.read_text().splitlines() if story.log.path.exists() else []
        story.edge.admin("/reopen_logs", method="POST")
        return [line.split() for line in lines if "Tcp" in line and "End" not in line]

    eventually(lambda: [k for k in kinds() if k[-1] == "TcpPeriodic" and k[2] == "4"], what="a periodic line")
    assert [k for k in kinds() if k[-1] == "TcpUpstreamConnected"]
    client.close()
    upstream.close()


def test_draining_lets_connections_end_by_themselves(proxy):
    upstream = Upstream()
    edge = proxy(
        [tcp_edge("plain")], [cluster("origin", upstream.port)], flags=[*ONE, "--drain-time-s", "60"], level="info"
    )
    client, server = through(edge, upstream)
    edge.process.terminate()
    edge.wait_for_log("draining: 1 connections open")
    with pytest.raises(ConnectionRefusedError):
        while True:  # the listener closes a moment later
            socket.create_connection(("127.0.0.1", edge.port("plain")), timeout=20).close()
    for _ in range(3):
        client.sendall(b"still")
        assert receive(server, 5) == b"still"
    client.close()
    assert server.recv(1) == b""
    server.close()
    assert edge.process.wait(20) == 0
    upstream.close()


# ---- small filters ----


def test_echo_says_what_it_hears(story):
    client = connect(story.edge, "echo")
    sender = Sender(client, "echo", 2 * MB)
    assert Receiver(client).digest() == digest_of("echo", 2 * MB)
    sender.join(20)
    client.close()


def test_a_direct_response_is_all_there_is(story):
    client = connect(story.edge, "direct")
    client.sendall(b"hello?")
    assert to_the_end(client) == b"go away\n"
    client.close()
    client = connect(story.edge, "nothing")
    assert to_the_end(client) == b""
    client.close()


def gets_in(story, name):
    """Whether a connection of that listener reaches the upstream; both ends, or None."""
    client = connect(story.edge, name)
    client.sendall(b"?")
    story.origin.listening.settimeout(0.005)
    try:
        while True:
            try:
                return client, story.origin.accept()
            except TimeoutError:
                client.setblocking(False)
                try:
                    if client.recv(1) == b"":
                        return None
                except BlockingIOError:
                    pass
                except ConnectionResetError:
                    return None
                finally:
                    client.settimeout(20)
    finally:
        story.origin.listening.settimeout(20)


@pytest.mark.parametrize("name, limit", [("two", 2), ("patient", 1)])
def test_no_more_connections_get_in_than_the_limit(story, name, limit):
    held = [gets_in(story, name) for _ in range(limit)]
    assert all(held)
    assert gets_in(story, name) is None
    assert gets_in(story, name) is None
    prefix = f"connection_limit.{name}."
    assert story.edge.stat(prefix + "limited_connections") == 2
    story.edge.wait_for_stat(prefix + "active_connections", limit)
    for sock in held.pop():
        sock.close()
    story.edge.wait_for_stat(prefix + "active_connections", limit - 1)
    held.append(gets_in(story, name))
    assert held[-1]
    for pair in held:
        for sock in pair:
            sock.close()


def test_a_limit_that_is_off_limits_nothing(story):
    held = [gets_in(story, "open") for _ in range(3)]
    assert all(held)
    for pair in held:
        for sock in pair:
            sock.close()


def test_no_more_new_connections_than_there_are_tokens(story):
    def gets(name):
        with connect(story.edge, name) as client, contextlib.suppress(ConnectionResetError):
            return to_the_end(client)

    assert [gets("rate-own") for _ in range(4)] == [b"x", b"x", b"", b""]
    assert [gets(name) for name in ("rate-a", "rate-b", "rate-a", "rate-b")] == [b"x", b"x", b"", b""]
    stats = story.edge.stats()
    assert [stats[f"local_rate_limit.{name}.rate_limited"] for name in ("own", "a", "b")] == [2, 1, 1]
