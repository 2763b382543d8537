"""Filter chains of a listener: which one a connection gets, connections that are no HTTP, network filters in front of
HTTP, and all of that when the proxy drains, is short of memory, or is configured wrongly."""

import json
import re
import signal
import socket
import subprocess

import pytest

from first_bytes import GET, ask, chain, hello, inspected, proxy_protocol, server_name, tls_inspector
from harness import LogFile, address, bootstrap, direct, eventually, listener, run
from tcp_support import NETWORK, connect, network_filter, receive, tcp_listener, to_the_end
from tls_kit import Authority, TlsClient, client_context, tls_listener

ONE = ["--concurrency", "1"]


def net(ip, bits):
    return [{"address_prefix": ip, "prefix_len": bits}]


def tcp_chain(name, *filters, match=None):
    return {"name": name, "filters": list(filters), **({"filter_chain_match": match} if match else {})}


def says(text):
    return network_filter("direct_response", response={"inline_string": text})


def front(name="front", **more):
    """Stands in front of others, and lets everybody pass."""
    return network_filter("connection_limit", stat_prefix=name, max_connections=more.pop("max", 1000), **more)


def http_behind(*filters, name="edge", routes=None, **more):
    made = listener(name, routes or [direct(200, "here")], **more)
    made["filter_chains"][0]["filters"][:0] = filters
    return made


def asked_from(port, source, to="127.0.0.1"):
    """What comes to the end of a connection from one loopback address to another."""
    with socket.create_connection((to, port), timeout=20, source_address=(source, 0)) as sock:
        try:
            return to_the_end(sock).decode()
        except ConnectionResetError:
            return ""


# ---- who gets what ----------------------------------------------------------


def test_addresses_choose_the_chain(proxy):
    chains = [
        tcp_chain("to", says("to 127.0.0.2"), match={"prefix_ranges": net("127.0.0.2", 32)}),
        tcp_chain("from", says("from 127.0.0.3"), match={"source_prefix_ranges": net("127.0.0.3", 32)}),
        tcp_chain("near", says("near"), match={"source_type": "SAME_IP_OR_LOOPBACK"}),
        tcp_chain("net", says("net"), match={"source_prefix_ranges": net("127.0.0.0", 30)}),
    ]
    edge = proxy(
        [
            {"name": "edge", "address": address(0, "0.0.0.0"), "filter_chains": chains},
            {
                "name": "strict",
                "address": address(0),
                "filter_chains": [chains[1]],
            },
            {
                "name": "lenient",
                "address": address(0),
                "filter_chains": [chains[1]],
                "default_filter_chain": tcp_chain("rest", says("the rest")),
            },
        ],
        level="info",
    )
    port = edge.port("edge")
    assert asked_from(port, "127.0.0.9", "127.0.0.2") == "to 127.0.0.2"
    assert asked_from(port, "127.0.0.3", "127.0.0.2") == "to 127.0.0.2"  # that condition comes first
    assert asked_from(port, "127.0.0.1") == "near"
    assert asked_from(port, "127.0.0.3") == "from 127.0.0.3"
    assert asked_from(port, "127.0.0.2", "127.0.0.4") == "net"
    assert asked_from(port, "127.0.0.9") == ""
    assert asked_from(edge.port("lenient"), "127.0.0.3") == "from 127.0.0.3"
    assert asked_from(edge.port("lenient"), "127.0.0.1") == "the rest"
    assert asked_from(edge.port("strict"), "127.0.0.1") == ""
    key = f"listener.127.0.0.1_{edge.port('strict')}."
    stats = edge.stats()
    assert stats[key + "no_filter_chain_match"] == 1
    assert stats[key + "downstream_cx_total"] == 0
    assert stats[key + "downstream_pre_cx_active"] == 0
    dump = edge.admin("/config_dump")
    assert '"source_type": "SAME_IP_OR_LOOPBACK"' in dump
    assert "filter_chain_match" in dump


def test_http_and_other_protocols_share_a_port(proxy):
    """By name: one is HTTP, one an echo; whoever asks for none gets the default."""
    edge = proxy(
        [
            inspected(
                "edge",
                [tls_inspector()],
                [
                    chain("http", {"server_names": ["http.test"]}),
                    tcp_chain("echo", network_filter("echo"), match={"server_names": ["echo.test"]}),
                    tcp_chain("said", front(), says("bye"), match={"transport_protocol": "tls"}),
                ],
                default_filter_chain=chain("plain"),
            )
        ]
    )
    port = edge.port()
    assert ask(port, hello(server_name(b"http.test"))).chain == "http"
    assert ask(port, GET).chain == "plain"
    bytes_of_it = hello(server_name(b"echo.test"))
    with connect(edge) as sock:
        sock.sendall(bytes_of_it + b"more")
        assert receive(sock, len(bytes_of_it) + 4) == bytes_of_it + b"more"
        sock.sendall(b"and more")
        assert receive(sock, 8) == b"and more"
    with connect(edge) as sock:
        sock.sendall(hello(server_name(b"other.test")))
        assert receive(sock, 3) == b"bye"
    stats = edge.stats()
    assert stats["http.http.downstream_cx_total"] == 1
    assert stats["http.plain.downstream_cx_total"] == 1
    assert stats[f"listener.127.0.0.1_{port}.downstream_cx_total"] == 4
    assert edge.leaks() == {}


# ---- HTTP behind others -----------------------------------------------------


def test_requests_are_served_behind_filters(proxy):
    """The connection is opened once and its requests are served as ever; the filter's connection is over with it."""
    edge = proxy([http_behind(front(), listener_filters=[proxy_protocol()])], flags=ONE)
    with edge.connect() as client:
        client.send_bytes(b"PROXY TCP4 10.1.2.3 10.0.0.1 80 443\r\n" + GET + GET)
        assert [client.read_reply().body for _ in range(2)] == [b"here", b"here"]
        client.send_bytes(GET)
        assert client.read_reply().body == b"here"
        edge.wait_for_stat("connection_limit.front.active_connections", 1)
    edge.wait_for_stat("connection_limit.front.active_connections", 0)
    for pieces in (
        [b"PROXY TCP4 10.1.2.3 10.0.0.1 80 443\r\nGET / HT", b"TP/1.1\r\nHost", b": h\r\n\r\n"],
        [b"PROXY UNKNOWN\r\n", GET],
    ):
        with edge.connect() as client:
            for piece in pieces:
                client.send_bytes(piece)
            assert client.read_reply().status == 200
    assert edge.stat("http.edge.downstream_cx_total") == 3
    assert edge.leaks() == {}


def test_a_filter_that_refuses_ends_the_connection(proxy):
    edge = proxy([http_behind(front(max=1))], flags=ONE)
    with edge.connect() as first:
        assert first.ask("GET", "/").status == 200
        assert asked_from(edge.port(), "127.0.0.1") == ""
        assert first.ask("GET", "/").status == 200
    stats = edge.stats()
    assert stats["connection_limit.front.limited_connections"] == 1
    assert edge.leaks() == {}


@pytest.mark.parametrize("what", ["pending", "behind filters"])
def test_a_quota_counts_requests_whose_bytes_came_early(proxy, what):
    limit = {"metadata": {"filter_metadata": {"sluice.memory": {"limit_bytes": 2 << 20}}}}
    filters = [front()] if what == "behind filters" else []
    edge = proxy([http_behind(*filters, listener_filters=[tls_inspector()], **limit)], flags=ONE)
    for _ in range(3):
        with edge.connect() as client:
            client.send_bytes(GET)
            assert client.read_reply().status == 200
            assert client.ask("GET", "/").status == 200
    assert edge.leaks() == {}


# ---- who is slow ------------------------------------------------------------


def pinned(edge):
    seen = json.loads(edge.admin("/memory"))
    coroutines = sum(value for name, value in edge.stats().items() if name.endswith(".coroutines"))
    return coroutines, sum(seen["blocks_in_use"]), int(seen["partial_heads"]["count"])


def test_slow_clients_pin_their_bytes(proxy):
    """Half a ClientHello, and silence: no coroutine, no block; and in time they are gone."""
    edge = proxy([inspected("edge", [tls_inspector()], [chain("all")], listener_filters_timeout="3600s")], flags=ONE)
    half = hello(server_name(b"slow.test"))[:60]
    pre = f"listener.127.0.0.1_{edge.port()}.downstream_pre_cx_active"
    assert ask(edge.port(), GET).chain == "all"  # what is made once, is made
    edge.wait_for_stat("http.all.downstream_cx_active", 0)
    before = pinned(edge)
    slow = [connect(edge) for _ in range(50)]
    silent = [connect(edge) for _ in range(50)]
    for sock in slow:
        sock.sendall(half)
    eventually(lambda: pinned(edge) == (before[0], before[1], before[2] + 50), what="50 halves")
    edge.wait_for_stat(pre, 100)
    for sock in slow:
        sock.sendall(hello(server_name(b"slow.test"))[60:])
        assert sock.recv(12) == b"HTTP/1.1 400"
    for sock in slow + silent:
        sock.close()
    edge.wait_for_stat(pre, 0)
    eventually(lambda: pinned(edge) == before, what="nothing pinned")
    assert edge.leaks() == {}


def test_silent_clients_of_tls_pin_nothing(proxy):
    """Their handshake begins with their first byte; and one that idles after a request is an idle one of HTTP."""
    authority = Authority()
    edge = proxy([tls_listener("edge", [direct(200, "here")], authority.issue("DNS:a.test"))], flags=ONE)
    context = client_context(authority)
    with TlsClient(edge.port(), context) as first:  # what is made once, is made
        assert first.ask("GET", "/").status == 200
    edge.wait_for_stat("http.edge.downstream_cx_active", 0)
    before = pinned(edge)
    silent = [connect(edge) for _ in range(50)]
    edge.wait_for_stat("http.edge.downstream_cx_active", 50)
    with TlsClient(edge.port(), context) as served:
        assert served.ask("GET", "/").status == 200
        eventually(lambda: pinned(edge) == before, what="nothing pinned")
        silent[0] = context.wrap_socket(silent[0], server_hostname="a.test")
        silent[0].sendall(GET)
        assert silent[0].recv(12) == b"HTTP/1.1 200"
    for sock in silent:
        sock.close()
    assert edge.leaks() == {}


# ---- ends -------------------------------------------------------------------


def test_a_drain_waits_for_streams(proxy):
    """Who has said nothing is closed at once, a stream goes on until it ends, and so does the process."""
    edge = proxy([tcp_listener("edge", network_filter("echo"), listener_filters=[tls_inspector()])], flags=ONE)
    silent, busy = connect(edge), connect(edge)
    busy.sendall(GET)
    assert receive(busy, len(GET)) == GET
    edge.wait_for_stat(f"listener.127.0.0.1_{edge.port()}.downstream_pre_cx_active", 1)
    edge.process.send_signal(signal.SIGTERM)
    assert silent.recv(1) == b""
    edge.wait_for_log("draining: ")
    busy.sendall(b"still there")
    assert receive(busy, 11) == b"still there"
    assert edge.alive()
    busy.close()
    assert edge.process.wait(20) == 0


def test_a_drain_has_an_end(proxy):
    edge = proxy([tcp_listener("edge", network_filter("echo"))], flags=[*ONE, "--drain-time-s", "0"])
    with connect(edge) as sock:
        sock.sendall(b"x")
        assert receive(sock, 1) == b"x"
        edge.process.send_signal(signal.SIGTERM)
        assert edge.process.wait(20) == 0


# ---- what people see --------------------------------------------------------


def test_dumps_and_logs_name_the_chain(proxy, tmp_path):
    log = LogFile(
        tmp_path / "log", "%FILTER_CHAIN_NAME% %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %REQUESTED_SERVER_NAME%"
    )
    edge = proxy(
        [
            inspected(
                "edge",
                [tls_inspector()],
                [
                    tcp_chain("streams", network_filter("echo"), match={"server_names": ["echo.test"]}),
                    chain("web", {"server_names": ["web.test"]}),
                ],
                access_log=[log.config],
            )
        ]
    )
    first = hello(server_name(b"echo.test"))
    with connect(edge) as sock:
        sock.sendall(first)
        assert receive(sock, len(first)) == first
        dump = edge.admin("/debug/pprof/goroutine?debug=2")
        assert re.search(
            r'"filter_chain": "streams".*"listener": "edge"|"listener": "edge".*"filter_chain": "streams"', dump
        )
    assert log.lines(edge, 1) == ["streams 127.0.0.1 echo.test"]
    ask(edge.port(), hello(server_name(b"no.test")))
    assert log.lines(edge, 2)[1] == "- 127.0.0.1 no.test"
    ask(edge.port(), hello(server_name(b"web.test")))
    assert log.lines(edge, 3)[2] == "web 127.0.0.1 web.test"


# ---- configurations ---------------------------------------------------------


def problems_of(*listeners):
    seen = run("--mode", "validate", config=bootstrap(listeners))
    assert seen.returncode == 1
    return seen.stderr + seen.stdout


def test_wrong_chains_are_told_with_file_and_line():
    place = r"bootstrap\.yaml:\d+: static_resources\.listeners\[0\]\."
    twice = inspected(
        "edge", [], [chain("a", {"server_names": ["x.test", "y.test"]}), chain("b", {"server_names": ["Y.test"]})]
    )
    assert re.search(place + r"filter_chains\[1\]: multiple filter chains with overlapping", problems_of(twice))
    unlike = {"prefix_ranges": net("10.0.0.0", 40)}
    assert re.search(
        place + r"filter_chains\[0\]\.filter_chain_match\.prefix_ranges\[0\]: '10\.0\.0\.0' with",
        problems_of(inspected("edge", [], [chain("a", unlike)])),
    )
    star = {"server_names": ["*"]}
    assert re.search(
        place + r"filter_chains\[0\]\.filter_chain_match: server_names: '\*' is",
        problems_of(inspected("edge", [], [chain("a", star)])),
    )
    assert re.search(
        place + r"filter_chains\[0\]\.filters\[0\]: the last filter of a chain serves",
        problems_of(tcp_listener("edge", front())),
    )
    assert re.search(
        place + r"filter_chains\[0\]\.filters\[0\]: 'envoy\.filters\.network\.echo' serves the connection",
        problems_of(http_behind(network_filter("echo"))),
    )
    unknown = {"name": "x", "typed_config": {"@type": NETWORK + "redis_proxy.v3.RedisProxy"}}
    assert re.search(
        place + r"filter_chains\[0\]\.filters\[0\].*RedisProxy is not supported yet; ",
        problems_of(tcp_listener("edge", unknown)),
    )
    few = {
        "name": "tls",
        "typed_config": tls_inspector()["typed_config"],
        "filter_disabled": {"or_match": {"rules": [{"any_match": True}]}},
    }
    assert re.search(
        place + r"listener_filters\[0\]\.filter_disabled\.or_match: has one rule",
        problems_of(inspected("edge", [few], [chain("a")])),
    )


def test_names_without_an_inspector_are_warned_of():
    """Envoy takes it too, and no connection ever matches."""
    config = bootstrap([inspected("edge", [], [chain("a", {"server_names": ["a.test"]})])])
    seen = run("--mode", "validate", config=config)
    assert seen.returncode == 0
    place = r"bootstrap\.yaml:\d+: static_resources\.listeners\[0\]\.filter_chains\[0\]\.filter_chain_match"
    assert re.search(place + ": warning: no connection will match", seen.stderr)


@pytest.mark.parametrize(
    "rule", [{"any_match": True}, {"not_match": {"destination_port_range": {"start": 1, "end": 2}}}]
)
def test_a_listener_filter_may_be_disabled(proxy, rule):
    some = {**tls_inspector(), "filter_disabled": rule}
    edge = proxy([inspected("edge", [some], [chain("tls", {"transport_protocol": "tls"}), chain("raw")])])
    assert ask(edge.port(), hello(server_name(b"a.test"))).chain == "raw"


def test_socket_options_are_set(proxy):
    """SO_RCVBUF, doubled by the kernel and inherited by what is accepted; and one that does not exist."""
    options = [{"level": socket.SOL_SOCKET, "name": socket.SO_RCVBUF, "int_value": 77777}]
    edge = proxy([listener("edge", [direct(200)], socket_options=options, freebind=True, tcp_fast_open_queue_length=5)])
    shown = subprocess.run(["ss", "-tlnm", f"sport = :{edge.port()}"], capture_output=True, text=True, check=True)
    assert "rb155554" in shown.stdout
    wrong = [{"level": socket.SOL_SOCKET, "name": 9999, "int_value": 1, "state": "STATE_LISTENING"}]
    seen = run("--concurrency", "1", config=bootstrap([listener("edge", [direct(200)], socket_options=wrong)]))
    assert seen.returncode == 1
    assert "listener 'edge': socket_options: Protocol not available" in seen.stderr
