"""Listener filters: what a client's first bytes are taken for, whoever sends them and in whatever pieces, and which
filter chain the connection then has."""

import json
import socket
import subprocess
import time

import pytest

from first_bytes import (
    GET,
    PREFACE,
    V4_PAIR,
    V6_PAIR,
    ask,
    byte_by_byte,
    chain,
    extension,
    hello,
    hello_of_python,
    http_inspector,
    inspected,
    original_dst,
    proxy_protocol,
    proxy_v2,
    records,
    server_name,
    sniffer,
    tls_inspector,
    tlv,
)
from harness import LogFile, access_log, eventually, run

V1 = b"PROXY TCP4 10.1.2.3 127.0.0.1 80 443\r\n"
CHAINS_OF_TLS = [
    chain("tls-a", {"transport_protocol": "tls", "server_names": ["a.test"]}),
    chain("tls-wild", {"transport_protocol": "tls", "server_names": ["*.wild.test"]}),
    chain("tls-h2", {"transport_protocol": "tls", "application_protocols": ["h2"]}),
    chain("tls", {"transport_protocol": "tls"}),
]
CHAINS_OF_PROTOCOLS = [
    chain("http/1.1", {"application_protocols": ["http/1.1"]}),
    chain("http/1.0", {"application_protocols": ["http/1.0"]}),
    chain("h2c", {"application_protocols": ["h2c"]}),
    chain("redis", {"application_protocols": ["redis"]}),
]
TEN = chain("ten", {"source_prefix_ranges": [{"address_prefix": "10.0.0.0", "prefix_len": 8}]})


@pytest.fixture(scope="module")
def edge(module_proxy):
    """One listener for each question."""
    rules = [
        {"tlv_type": 0xE0, "on_tlv_present": {"key": "tlv"}},
        {"tlv_type": 0xE1, "on_tlv_present": {"metadata_namespace": "other", "key": "key"}},
    ]
    strict = {"max_client_hello_size": 1000, "close_connection_on_client_hello_parsing_errors": True}
    lenient = {"allow_requests_without_proxy_protocol": True, "stat_prefix": "lenient", "disallowed_versions": ["V1"]}
    return module_proxy(
        [
            inspected("tls", [tls_inspector()], [*CHAINS_OF_TLS, chain("raw")]),
            inspected("strict", [tls_inspector(**strict)], [chain("raw")]),
            inspected("http", [http_inspector()], [*CHAINS_OF_PROTOCOLS, chain("raw")]),
            inspected("both", [tls_inspector(), http_inspector()], [*CHAINS_OF_TLS, *CHAINS_OF_PROTOCOLS]),
            inspected("proxy", [proxy_protocol(rules=rules)], [TEN, chain("other")]),
            inspected("lenient", [proxy_protocol(**lenient)], [TEN, chain("other")]),
            inspected("chained", [proxy_protocol(), tls_inspector()], [*CHAINS_OF_TLS, TEN]),
            inspected("dst", [original_dst()], [chain("here")]),
        ]
    )


# ---- TLS --------------------------------------------------------------------


def test_openssl_s_client_is_found_by_name(proxy, tmp_path):
    log = access_log(
        tmp_path / "log", text_format_source={"inline_string": "%REQUESTED_SERVER_NAME% %RESPONSE_CODE%\n"}
    )
    match = {"transport_protocol": "tls", "server_names": ["*.example.org"], "application_protocols": ["h2"]}
    edge = proxy([inspected("tls", [tls_inspector()], [chain("wanted", match, log=log)])])
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{edge.port('tls')}"]
    command += ["-servername", "WWW.Example.ORG", "-alpn", "h2,http/1.1"]
    subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)
    assert LogFile(tmp_path / "log").lines(edge, 1) == ["www.example.org 400"]  # plain HTTP lives there
    stats = edge.stats()
    assert {name for name, value in stats.items() if name.startswith("tls_inspector.") and value} == {
        "tls_inspector.tls_found",
        "tls_inspector.sni_found",
        "tls_inspector.alpn_found",
    }


def test_a_hello_in_pieces_is_the_same(edge):
    whole = hello_of_python("a.test")
    port = edge.port("tls")
    assert ask(port, whole).chain == "tls-a"
    assert ask(port, *byte_by_byte(whole)).chain == "tls-a"
    for size in (1, 2, 50, 100, 400):
        assert ask(port, records(whole[5:], size)).chain == "tls-a"
    assert ask(port, *byte_by_byte(records(whole[5:], 3))).chain == "tls-a"


def test_names_and_protocols_choose_the_chain(edge):
    port = edge.port("tls")
    assert ask(port, hello_of_python("A.TEST")).chain == "tls-a"
    assert ask(port, hello_of_python("x.wild.test")).chain == "tls-wild"
    assert ask(port, hello_of_python("y.x.wild.test")).chain == "tls-wild"
    assert ask(port, hello_of_python("other.test", ["h2", "http/1.1"])).chain == "tls-h2"
    assert ask(port, hello_of_python("other.test", ["http/1.1", "h2"])).chain == "tls-h2"
    assert ask(port, hello_of_python("other.test")).chain == "tls"
    assert ask(port, hello_of_python(None)).chain == "tls"


def test_what_is_not_tls_is_plain(edge):
    port = edge.port("tls")
    answer = ask(port, GET)
    assert answer.chain == "raw"
    assert answer.said["failure"] == "ClientHelloNotDetected"
    whole = hello_of_python()
    for broken in (
        whole[:5] + b"\2" + whole[6:],  # another message
        b"\x16\x03\x01\0\5garbage behind the record's head",
        whole[:43] + b"\x21" + whole[44:],  # a session id that is too long
        hello(server_name(b"")),
        hello(server_name(b"a") * 2),
    ):
        assert ask(port, broken).chain == "raw"


def test_a_hello_that_is_too_large_or_none_is_closed_if_that_is_asked(edge):
    before = edge.stat("tls_inspector.client_hello_too_large")
    port = edge.port("strict")
    large = hello(extension(21, bytes(1000)))
    assert ask(port, large).chain == "closed"
    assert edge.stat("tls_inspector.client_hello_too_large") == before + 1
    assert ask(port, GET).chain == "closed"
    assert ask(port, hello(extension(21, bytes(800)))).chain == "raw"
    # The others' limit is 16 KiB: a client that promises more and sends it is not waited for.
    promise = records(b"\1\0\x40\0\3\3" + bytes(16384 - 2))
    assert ask(edge.port("tls"), promise).chain == "closed"
    assert ask(edge.port("tls"), hello(extension(21, bytes(16000)))).chain == "tls"


def test_who_ends_in_the_middle_is_closed(edge):
    assert ask(edge.port("tls"), hello_of_python()[:200], half_close=True).chain == "closed"
    assert ask(edge.port("proxy"), V1[:20], half_close=True).chain == "closed"
    before = edge.stat("http_inspector.http_not_found")
    ask(edge.port("http"), b"GET / HT", half_close=True)  # its chain is chosen, and ends with it
    assert edge.stat("http_inspector.http_not_found") == before + 1


# ---- HTTP -------------------------------------------------------------------


def test_http_by_its_first_line(edge):
    port = edge.port("http")
    rows = {
        GET: "http/1.1",
        b"BREW /pot HTTP/1.1\r\n\r\n": "http/1.1",
        b"GET / HTTP/1.0\r\n\r\n": "http/1.0",
        PREFACE: "h2c",
        b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n": "http/1.0",  # garbage after the preface
        b"SSH-2.0-OpenSSH_9\r\n": "raw",
        b"*1\r\n$4\r\nPING\r\n": "raw",
        b"\0\1\2": "raw",
        b"GET /" + b"a" * 60000 + b" HTTP/1.1\r\n\r\n": "http/1.1",
    }
    for data, expected in rows.items():
        assert ask(port, data).chain == expected, data[:40]
        if len(data) < 100:
            assert ask(port, *byte_by_byte(data)).chain == expected, data
    before = edge.stat("http_inspector.read_error")
    assert ask(port, b"GET /" + b"a" * 70000).chain == "closed"
    assert edge.stat("http_inspector.read_error") == before + 1


def test_behind_the_tls_inspector_only_plain_text_is_looked_at(edge):
    before = edge.stats()
    assert ask(edge.port("both"), hello_of_python(None, ["http/1.1"])).chain == "tls"
    assert ask(edge.port("both"), GET).chain == "http/1.1"
    after = edge.stats()
    assert after["http_inspector.http11_found"] == before["http_inspector.http11_found"] + 1
    assert after["http_inspector.http_not_found"] == before["http_inspector.http_not_found"]


# ---- PROXY ------------------------------------------------------------------


def test_curl_sends_a_proxy_header(edge):
    url = f"http://127.0.0.1:{edge.port('proxy')}/"
    command = ["curl", "-sS", "-D", "-", "--haproxy-protocol", url]
    reply = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    assert "server: other" in reply  # of curl itself, on this machine
    said = json.loads(reply.partition("x-said: ")[2].splitlines()[0])
    assert said["remote"] == said["direct"]


@pytest.mark.parametrize("pieces", [lambda data: [data], byte_by_byte], ids=["whole", "bytes"])
def test_addresses_of_the_header_are_the_connections(edge, pieces):
    port = edge.port("proxy")
    for header in (V1, proxy_v2(), proxy_v2(family=0x12)):
        answer = ask(port, *pieces(header + GET))
        assert answer.chain == "ten"
        assert answer.said["remote"] == "10.1.2.3:80"
        assert answer.said["local"] == "127.0.0.1:443"
        assert answer.said["direct"].startswith("127.0.0.1:")
    for header in (b"PROXY TCP6 ::1 ::1 80 443\r\n", proxy_v2(V6_PAIR, family=0x21)):
        answer = ask(port, *pieces(header + GET))
        assert (answer.chain, answer.said["remote"]) == ("other", "[::1]:80")
    for header in (b"PROXY UNKNOWN\r\n", b"PROXY UNKNOWN what ever\r\n", proxy_v2(b"", command=0x20, family=0)):
        answer = ask(port, *pieces(header + GET))
        assert (answer.chain, answer.said["remote"]) == ("other", answer.said["direct"])


LIES = {
    "no header": GET,
    "lower case": b"proxy TCP4 10.1.2.3 127.0.0.1 80 443\r\n",
    "another family": b"PROXY TCP4 ::1 ::1 80 443\r\n",
    "a port too large": b"PROXY TCP4 10.1.2.3 127.0.0.1 80 65536\r\n",
    "nobody": b"PROXY TCP4 0.0.0.0 127.0.0.1 80 443\r\n",
    "many": b"PROXY TCP4 10.1.2.3 224.0.0.1 80 443\r\n",
    "a line without an end": b"PROXY " + b"x" * 200,
    "version 1": proxy_v2(command=0x11),
    "a command nobody knows": proxy_v2(command=0x22),
    "a Unix socket": proxy_v2(bytes(216), family=0x31),
    "no family": proxy_v2(b"", family=0),
    "too short for IPv4": proxy_v2(V4_PAIR[:11]),
    "too short for IPv6": proxy_v2(V4_PAIR, family=0x21),
    "a TLV that says too much": proxy_v2(V4_PAIR + b"\xe0\0\2x"),
    "an oversized TLV": proxy_v2(V4_PAIR + b"\xe0\xff\xff" + bytes(1000)),
    "half a TLV": proxy_v2(V4_PAIR + b"\xe0"),
}


def test_lies_close_the_connection(edge):
    port = edge.port("proxy")
    counted = ("proxy_proto.not_found_disallowed", "proxy_proto.versions.v1.error", "proxy_proto.versions.v2.error")
    before = edge.stats()
    for story, header in LIES.items():
        assert ask(port, header + GET).chain == "closed", story
    after = edge.stats()
    assert [after[name] - before[name] for name in counted] == [2, 5, 9]
    total = "downstream_cx_proxy_proto_error"
    assert after[total] - before[total] == len(LIES)


def test_tlvs_become_metadata(edge):
    tlvs = tlv(0xE1, b"one") + tlv(0x04, b"nothing") + tlv(0xE0, "grüß".encode() + b"\xff\xc3") + tlv(0xE2, b"x")
    answer = ask(edge.port("proxy"), proxy_v2(V4_PAIR + tlvs) + GET)
    assert answer.said["tlv"] == "grüß!!".encode().decode("latin-1")
    assert answer.said["other"] == "one"
    large = proxy_v2(V4_PAIR + tlv(0xEE, bytes(65535 - 12 - 3)))
    assert ask(edge.port("proxy"), large + GET).chain == "ten"


def test_connections_without_a_header_may_be_allowed(edge):
    port = edge.port("lenient")
    assert ask(port, GET).chain == "other"
    assert ask(port, proxy_v2() + GET).chain == "ten"
    assert ask(port, V1 + GET).chain == "other"  # not looked for, so it is what a client says: a bad request
    assert ask(port, proxy_v2(command=0x22) + GET).chain == "closed"
    stats = edge.stats()
    assert stats["proxy_proto.lenient.not_found_allowed"] == 2
    assert stats["proxy_proto.lenient.versions.v2.found"] == 1
    assert stats["proxy_proto.lenient.versions.v2.error"] == 1


def test_a_version_that_is_not_allowed_is_refused(proxy):
    edge = proxy([inspected("v2", [proxy_protocol(disallowed_versions=["V1"])], [chain("any")])])
    assert ask(edge.port(), V1 + GET).chain == "closed"
    assert ask(edge.port(), proxy_v2() + GET).chain == "any"
    assert edge.stat("proxy_proto.versions.v1.disallowed") == 1
    assert edge.stat("downstream_cx_proxy_proto_error") == 0


def test_what_follows_the_header_is_the_next_filters(edge):
    port = edge.port("chained")
    whole = hello_of_python("a.test")
    assert ask(port, V1 + whole).chain == "tls-a"
    assert ask(port, *byte_by_byte(V1 + whole)).chain == "tls-a"
    answer = ask(port, proxy_v2() + GET)
    assert (answer.chain, answer.said["remote"]) == ("ten", "10.1.2.3:80")


def test_the_original_destination_without_nat_is_here(edge):
    answer = ask(edge.port("dst"), GET)
    assert answer.said["local"] == f"127.0.0.1:{edge.port('dst')}"


# ---- the sniffer ------------------------------------------------------------

STAMPS = "%FILTER_STATE(sluice.flow_id)% %FILTER_STATE(sluice.timestamp_ns)% %FILTER_STATE(sluice.src_port)% "


def test_the_sniffer_tells_all_apart_and_stamps_them(proxy, tmp_path):
    text = STAMPS + "%FILTER_STATE(sluice.protocol)% %CONNECTION_ID%\n"
    log = access_log(tmp_path / "log", text_format_source={"inline_string": text})
    chains = [*CHAINS_OF_TLS, *CHAINS_OF_PROTOCOLS, chain("unknown")]
    for one in chains:
        one["filters"][0]["typed_config"]["access_log"] = [log]
    edge = proxy([inspected("any", [sniffer()], chains)], flags=["--concurrency", "1"])
    port = edge.port()
    rows = [
        (GET, "http/1.1", "http/1.1"),
        (b"GET / HTTP/1.0\r\n\r\n", "http/1.0", "http/1.0"),
        (b"GET /" + b"a" * 300 + b" HTTP/1.1\r\nHost: h\r\n\r\n", "http/1.1", "http/1.1"),
        (PREFACE, "h2c", "h2c"),
        (b"*1\r\n$4\r\nPING\r\n", "redis", "redis"),
        (b"PING\r\n", "redis", "redis"),
        (b"SET key value\r\n", "redis", "redis"),
        (hello_of_python("a.test"), "tls-a", "tls"),
        (hello_of_python(None, ["h2"]), "tls-h2", "tls"),
        (b"SSH-2.0-OpenSSH_9\r\n", "unknown", "unknown"),
        (V1 + GET, "unknown", "unknown"),  # nobody said that it is to be believed
        (b"\x16\x03\x01\0\5garbage", "unknown", "unknown"),
    ]
    start_ns = time.time_ns()
    for data, expected, _ in rows:
        assert ask(port, data).chain == expected, data[:40]
    for data, expected, _ in rows[:8]:
        if len(data) < 1000:
            assert ask(port, *byte_by_byte(data)).chain == expected, data[:40]
    lines = [line.split() for line in LogFile(tmp_path / "log").lines(edge, 2 * len(rows) - 4)]
    assert [line[3] for line in lines[: len(rows)]] == [protocol for _, _, protocol in rows]
    numbers = [int(line[0]) for line in lines]
    assert sorted(set(numbers)) == numbers, "distinct, and in the order in which they came"
    assert all(line[0] == line[4] for line in lines)
    slack_ns = 10**9 / 10  # of a clock that is read now and then
    assert all(start_ns - slack_ns <= int(line[1]) <= time.time_ns() + slack_ns for line in lines)
    assert all(1024 <= int(line[2]) <= 65535 for line in lines)
    stats = edge.stats()
    assert (stats["sniffer.redis_found"], stats["sniffer.tls_found"], stats["sniffer.unknown"]) == (6, 3, 3)


def test_the_sniffer_takes_a_header_off_if_it_is_to_be_believed(proxy, tmp_path):
    log = LogFile(tmp_path / "log", "%FILTER_STATE(sluice.src_port)% %FILTER_STATE(sluice.protocol)%")
    chains = [*CHAINS_OF_TLS, *CHAINS_OF_PROTOCOLS, chain("unknown")]
    filters = [sniffer(accept_proxy_protocol=True)]
    edge = proxy([inspected("any", filters, chains, access_log=[log.config])], flags=["--concurrency", "1"])
    port = edge.port()
    for header in (V1, proxy_v2(), proxy_v2(V4_PAIR + tlv(0xE0, bytes(3000)))):
        answer = ask(port, header + GET)
        assert (answer.chain, answer.said["remote"]) == ("http/1.1", "10.1.2.3:80")
        assert ask(port, header + hello_of_python("a.test")).chain == "tls-a"
        assert ask(port, header + b"PING\r\n").chain == "redis"
    assert ask(port, *byte_by_byte(V1 + GET)).chain == "http/1.1"
    assert ask(port, GET).chain == "http/1.1"
    assert ask(port, proxy_v2(command=0x11) + GET).chain == "closed"
    assert edge.stat("sniffer.proxy_found") == 10
    assert edge.stat("sniffer.proxy_error") == 1
    lines = log.lines(edge, 10)
    assert lines[:3] == ["80 http/1.1", "80 tls", "80 redis"]


# ---- those who do not send it -----------------------------------------------


def coroutines(edge):
    return sum(value for name, value in edge.stats().items() if name.endswith(".coroutines"))


def test_who_keeps_a_filter_waiting_is_closed_in_time(proxy):
    """Two hundred clients with half a ClientHello: none has a coroutine, and all are gone when the time is over."""
    edge = proxy(
        [
            inspected("slow", [tls_inspector()], [chain("raw")], listener_filters_timeout="2s"),
            inspected("patient", [tls_inspector()], [chain("raw")], listener_filters_timeout="0s"),
        ],
        flags=["--concurrency", "1"],
    )
    with edge.connect("slow") as first:
        assert first.ask("GET", "/").status == 200
    edge.wait_for_stat("http.raw.downstream_cx_active", 0)
    before = coroutines(edge)
    half = hello_of_python()[:200]
    waiting = f"listener.127.0.0.1_{edge.port('patient')}.downstream_pre_cx_active"
    clients = []
    for _ in range(200):
        clients.append(socket.create_connection(("127.0.0.1", edge.port("patient")), timeout=20))
        clients[-1].sendall(half)
    eventually(lambda: edge.stat(waiting) == 200, what="all to wait")
    assert coroutines(edge) == before
    for client in clients:
        client.close()
    eventually(lambda: edge.stat(waiting) == 0, what="all to be gone")

    slow = [socket.create_connection(("127.0.0.1", edge.port("slow")), timeout=20) for _ in range(20)]
    for client in slow[:10]:
        client.sendall(half)
    for client in slow:  # also those that never say a word
        assert_closed(client)
    assert edge.stat(f"listener.127.0.0.1_{edge.port('slow')}.downstream_pre_cx_timeout") == 20


def assert_closed(client):
    with client:
        try:
            assert client.recv(1) == b""
        except ConnectionResetError:
            pass


def test_or_goes_on_with_what_is_known(proxy):
    edge = proxy(
        [
            inspected(
                "slow",
                [tls_inspector()],
                [chain("tls", {"transport_protocol": "tls"}), chain("raw")],
                listener_filters_timeout="0.2s",
                continue_on_listener_filters_timeout=True,
            )
        ]
    )
    with socket.create_connection(("127.0.0.1", edge.port()), timeout=20) as client:
        client.sendall(b"\x16\x03")
        edge.wait_for_stat("http.raw.downstream_cx_active", 1)
        client.sendall(b"more\r\n\r\n")
        assert b"400" in client.recv(4096)  # all of it is there for the chain
    with socket.create_connection(("127.0.0.1", edge.port()), timeout=20) as client:
        edge.wait_for_stat("http.raw.downstream_cx_total", 2)  # without a byte
        client.sendall(GET)
        assert b"server: raw" in client.recv(4096)


# ---- configuration ----------------------------------------------------------


@pytest.mark.parametrize(
    "one, told",
    [
        (proxy_protocol(disallowed_versions=["V1", "V2"]), "no connection could come in"),
        (proxy_protocol(rules=[{"tlv_type": 256, "on_tlv_present": {"key": "k"}}]), "tlv_type"),
        (proxy_protocol(rules=[{"tlv_type": 1, "on_tlv_present": {"key": ""}}]), "key"),
        (proxy_protocol(rules=[{"tlv_type": 1}]), "on_tlv_present"),
        (tls_inspector(max_client_hello_size=65536), "max_client_hello_size"),
        (tls_inspector(enable_ja3_fingerprinting=True), "not supported yet"),
        (sniffer(max_client_hello_size=1), "max_client_hello_size"),
    ],
)
def test_mistakes_are_told(one, told):
    config = {
        "static_resources": {"listeners": [inspected("edge", [one], [chain("raw")])]},
    }
    done = run("--mode", "validate", config=json.dumps(config))
    assert done.returncode == 1
    assert told in done.stderr + done.stdout
