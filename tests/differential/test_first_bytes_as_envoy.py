"""Listener filters on both: the same first bytes choose the same filter chain and are counted alike.

Where we differ, and why, stands in front of the parsers: io/client_hello.c, io/request_line.c, io/proxy_header.c. Those
rows are here too, with both verdicts, so that a difference that goes away is noticed."""

import contextlib
import pathlib
import socket

import pytest

from first_bytes import (
    GET,
    PREFACE,
    V4_PAIR,
    V6_PAIR,
    ask,
    chain,
    extension,
    hello,
    hello_of_python,
    http_inspector,
    inspected,
    proxy_protocol,
    proxy_v2,
    records,
    server_name,
    tls_inspector,
    tlv,
)
from harness import SLUICE, LogFile, Proxy, bootstrap
from test_listener_filters import CHAINS_OF_PROTOCOLS, CHAINS_OF_TLS, LIES, TEN, V1
from tcp_support import Upstream, connect, to_the_end
from test_passthrough import accepting, telling
from twins import envoy_binary

TIMEOUT = {"listener_filters_timeout": "0.5s"}
RULES = [{"tlv_type": 0xE0, "on_tlv_present": {"key": "tlv"}}]


def start(program):
    config = bootstrap(
        [
            inspected("tls", [tls_inspector()], [*CHAINS_OF_TLS, chain("raw")], **TIMEOUT),
            inspected(
                "closing",
                [tls_inspector(close_connection_on_client_hello_parsing_errors=True, max_client_hello_size=1000)],
                [chain("raw")],
                **TIMEOUT,
            ),
            inspected("http", [http_inspector()], [*CHAINS_OF_PROTOCOLS[:3], chain("raw")], **TIMEOUT),
            inspected(
                "both",
                [tls_inspector(), http_inspector()],
                [*CHAINS_OF_TLS, *CHAINS_OF_PROTOCOLS[:3], chain("raw")],
                **TIMEOUT,
            ),
            inspected("proxy", [proxy_protocol(rules=RULES)], [TEN, chain("other")], **TIMEOUT),
            inspected(
                "lenient",
                [proxy_protocol(allow_requests_without_proxy_protocol=True, disallowed_versions=["V1"])],
                [TEN, chain("other")],
                **TIMEOUT,
            ),
            inspected(
                "going-on",
                [tls_inspector()],
                [chain("tls", {"transport_protocol": "tls"}), chain("raw")],
                listener_filters_timeout="0.2s",
                continue_on_listener_filters_timeout=True,
            ),
        ]
    )
    flags = ["--use-dynamic-base-id"] if program != SLUICE else []
    return Proxy(config, program=program, flags=[*flags, "--concurrency", "1"], level="warning")


@pytest.fixture(scope="module")
def both():
    with contextlib.ExitStack() as stack:
        made = [start(program) for program in (envoy_binary(), SLUICE)]
        for one in made:
            stack.callback(one.kill)
        yield made


def ask_both(both, listener, data, **more):
    return [ask(one.port(listener), data, **more).chain for one in both]


def ech(content):
    return hello(extension(0xFE0D, content))


WHOLE = hello_of_python("a.test", ["h2"])
HELLOS = {
    "OpenSSL's": WHOLE,
    "without a name": hello_of_python(None, ["h2"]),
    "in upper case": hello_of_python("A.TEST"),
    "a wild name": hello_of_python("x.y.wild.test"),
    "a record for each byte": records(WHOLE[5:], 1),
    "records of 100": records(WHOLE[5:], 100),
    "empty records": b"\x16\x03\x01\0\0" * 20 + WHOLE,
    "too many empty records": b"\x16\x03\x01\0\0" * 40 + WHOLE,
    "bytes behind it": WHOLE + b"more",
    "SSL 3 in the record": WHOLE[:2] + b"\0" + WHOLE[3:],
    "TLS 1.0": hello(version=0x301),
    "TLS 1.1": hello(version=0x302),
    "no ciphers": hello(ciphers=b""),
    "one and a half cipher": hello(ciphers=b"\x13\1\x13"),
    "no compression method": hello(methods=b""),
    "only a real compression": hello(methods=b"\1"),
    "a long session id": hello(session=bytes(33)),
    "versions nobody has": hello(extension(43, b"\2\3\5")),
    "versions cut short": hello(extension(43, b"\3\3\4\3")),
    "an extension twice": hello(extension(35, b"") * 2),
    "an unknown extension twice": hello(extension(40000, b"") * 2),
    "half an extension": hello(b"\0\x23\0"),
    "an extension longer than the list": hello(b"\0\x23\0\1"),
    "an empty name": hello(server_name(b"")),
    "a name with NUL": hello(server_name(b"a\0b")),
    "a name of 255": hello(server_name(b"a" * 255)),
    "a name of 256": hello(server_name(b"a" * 256)),
    "a name of another type": hello(extension(0, b"\0\4\1\0\1a")),
    "two names": hello(extension(0, b"\0\x08\0\0\1a\0\0\1b")),
    "bytes behind the name": hello(extension(0, b"\0\4\0\0\1a!")),
    "bad protocols": hello(extension(16, b"\0\4\2h2\0")),
    "bad groups": hello(extension(10, b"\0\0")),
    "bad signature algorithms": hello(extension(13, b"\0\0")),
    "an encrypted hello": ech(b"\0\0\1\0\1\x2a\0\2kk\0\3ppp"),
    "an encrypted hello, cut": ech(b"\0\0\1\0\1\x2a\0\2kk\0\3pp"),
    "an encrypted hello, too long": ech(b"\0\0\1\0\1\x2a\0\2kk\0\3pppx"),
    "an inner one": ech(b"\1"),
    "an empty one": ech(b""),
    "a fallback": hello(ciphers=b"\xc0\x2f\x56\0"),
    "16 KB of padding": hello(extension(21, bytes(16000))),
    "too much of it": records(b"\1\0\x40\0\3\3" + bytes(16384 - 2)),
    "a ServerHello": b"\x16\3\3\0\4\2\0\0\0",
    "a record too long": b"\x16\3\1\x50\0" + WHOLE[5:],
    "a ChangeCipherSpec first": b"\x14\3\1\0\1\1" + WHOLE,
    "half of it, and the end": WHOLE[:100],
    "HTTP": GET,
    "zeros": bytes(64),
}
HELLOS_THAT_DIFFER = {  # Envoy's verdict, ours
    "SSL 3": (hello(version=0x300), "closed", "raw"),
    "no version at all": (hello(extension(43, b"\2\3\4"), version=0), "closed", "raw"),
    "an alert first": (b"\x15\3\1\0\2\1\0" + WHOLE, "closed", "raw"),
    "129 extensions": (hello(b"".join(extension(40000 + i, b"") for i in range(129))), "tls", "raw"),
}


@pytest.mark.parametrize("story", HELLOS)
def test_hellos(both, story):
    half_close = "the end" in story
    envoy, sluice = ask_both(both, "tls", HELLOS[story], half_close=half_close)
    assert sluice == envoy
    envoy, sluice = ask_both(both, "closing", HELLOS[story], half_close=half_close)
    assert sluice == envoy


@pytest.mark.parametrize("story", HELLOS_THAT_DIFFER)
def test_hellos_that_differ(both, story):
    data, *expected = HELLOS_THAT_DIFFER[story]
    assert ask_both(both, "tls", data) == expected


LINES = [
    GET,
    b"GET / HTTP/1.0\r\n\r\n",
    b"GET / HTTP/1.1\n\n",
    b"GET /\r\n\r\n",
    b"GET key\r\n\r\n",
    b"PING\r\n\r\n",
    b"SET a b\r\n\r\n",
    b"SET /a HTTP/1.1\r\n\r\n",
    b"get / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.2\r\n\r\n",
    b"GET / HTTP/3.7\r\n\r\n",
    b"GET / HTTP/1.1 \r\n\r\n",
    b"GET  /  HTTP/1.1\r\n\r\n",
    b"GET\t/\tHTTP/1.1\r\n\r\n",
    b"\r\nGET / HTTP/1.1\r\n\r\n",
    b" GET / HTTP/1.1\r\n\r\n",
    b"G@T / HTTP/1.1\r\n\r\n",
    b"GET h HTTP/1.1\r\n\r\n",
    b"CONNECT h:80 HTTP/1.1\r\n\r\n",
    b"CONNECT h@@x HTTP/1.1\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\n\r\n",
    b"GET http://h/ HTTP/1.1\r\n\r\n",
    b"GET 1a://h/ HTTP/1.1\r\n\r\n",
    b'GET http://h"/ HTTP/1.1\r\n\r\n',
    b"GET /a b HTTP/1.1\r\n\r\n",
    b"GET /\xff HTTP/1.1\r\n\r\n",
    b"GET / http/1.1\r\n\r\n",
    b"GET / HTTP/1.10\r\n\r\n",
    b"GET ? HTTP/1.1\r\n\r\n",
    b"GET HTTP/1.1\r\n\r\n",
    b"GET\r\n\r\n",
    b"GET / HTTP/1.1\rx\n\r\n",
    b"*1\r\n$4\r\nPING\r\n",
    b"\0\1\2\3\r\n\r\n",
    PREFACE,
    b"PRI * HTTP/2.0\r\nfoo\r\n\r\n",
    b"PRI * HTTP/1.1\r\n\r\n",
    b"PRI * HTTP/2.0\r\n",
    b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n",
    b"GET /" + b"a" * 70000 + b" HTTP/1.1\r\n\r\n",
]


@pytest.mark.parametrize("data", LINES, ids=[repr(line[:30]) for line in LINES])
def test_first_lines(both, data):
    envoy, sluice = ask_both(both, "http", data)
    assert sluice == envoy


def test_a_control_character_is_no_blank(both):
    assert ask_both(both, "http", b"GET /\1 HTTP/1.1\r\n\r\n") == ["http/1.1", "raw"]


HEADERS = {
    **LIES,
    "version 1": V1,
    "IPv6": b"PROXY TCP6 ::1 ::1 80 443\r\n",
    "unknown": b"PROXY UNKNOWN\r\n",
    "unknown, with words": b"PROXY UNKNOWN a b\r\n",
    "two blanks": b"PROXY  TCP4 10.1.2.3 127.0.0.1 80 443\r\n",
    "zeros in front": b"PROXY TCP4 10.1.2.3 127.0.0.1 0080 443\r\n",
    "as long as a line may be": b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n",
    "one longer": b"PROXY UNKNOWN " + b"x" * 93 + b"\r\n",
    "version 2": proxy_v2(),
    "version 2, IPv6": proxy_v2(V6_PAIR, family=0x21),
    "datagrams": proxy_v2(family=0x12),
    "local": proxy_v2(b"", command=0x20, family=0),
    "local with addresses": proxy_v2(command=0x20),
    "local with anything": proxy_v2(b"abcde", command=0x20, family=0xFF),
    "no transport": proxy_v2(family=0x10),
    "empty TLVs": proxy_v2(V4_PAIR + tlv(0xE0, b"") + tlv(0xE1, b"")),
    "a large TLV": proxy_v2(V4_PAIR + tlv(0xEE, bytes(60000))),
}
HEADERS_THAT_DIFFER = {
    "a zone": (b"PROXY TCP6 fe80::1%lo fe80::1 80 443\r\n", "other", "closed"),
    "a sign": (b"PROXY TCP4 10.1.2.3 127.0.0.1 +80 443\r\n", "ten", "closed"),
    "a blank at the end": (b"PROXY TCP4 10.1.2.3 127.0.0.1 80 443 \r\n", "ten", "closed"),
    "CR alone": (b"PROXY UNKNOWN a\rb\r\n", "other", "closed"),
}


@pytest.mark.parametrize("story", HEADERS)
def test_headers(both, story):
    envoy, sluice = ask_both(both, "proxy", HEADERS[story] + GET)
    assert sluice == envoy
    envoy, sluice = ask_both(both, "lenient", HEADERS[story] + GET)
    assert sluice == envoy


@pytest.mark.parametrize("story", HEADERS_THAT_DIFFER)
def test_headers_that_differ(both, story):
    data, *expected = HEADERS_THAT_DIFFER[story]
    assert ask_both(both, "proxy", data + GET) == expected


def test_what_chains_and_logs_see_of_a_header(both):
    tlvs = tlv(0xE0, "grüß".encode() + b"\xff\xe2\x82") + tlv(0xE1, b"x")
    for header in (V1, proxy_v2(), proxy_v2(V4_PAIR + tlvs), proxy_v2(V6_PAIR, family=0x21)):
        said = [ask(one.port("proxy"), header + GET).said for one in both]
        for one in said:
            assert one.pop("direct").startswith("127.0.0.1:")
            del one["tlv"]  # there for filters and logs of the connection, here for requests too
            for name in ("sni", "other", "failure"):
                assert one.pop(name) in ("", "-")
        assert said[1] == said[0]


def test_values_of_tlvs_as_the_log_of_connections_has_them(tmp_path):
    lines = []
    text = "%DYNAMIC_METADATA(envoy.filters.listener.proxy_protocol:tlv)% %DOWNSTREAM_REMOTE_ADDRESS%"
    values = ["grüß".encode() + b"\xff\xe2\x82", b"\xc0\x80 \xed\xa0\x80 \xf4\x90\x80\x80", b"\xf0\x9f\x8c\x8d", b"a b"]
    for program in (envoy_binary(), SLUICE):
        log = LogFile(tmp_path / pathlib.Path(program).name, text)
        config = bootstrap([inspected("proxy", [proxy_protocol(rules=RULES)], [chain("any")], access_log=[log.config])])
        flags = ["--use-dynamic-base-id", "--file-flush-interval-msec", "20"] if program != SLUICE else []
        one = Proxy(config, program=program, flags=[*flags, "--concurrency", "1"], level="warning")
        with contextlib.ExitStack() as stack:
            stack.callback(one.kill)
            for value in values:
                ask(one.port(), proxy_v2(V4_PAIR + tlv(0xE0, value)) + GET)
            lines.append(log.lines(one, len(values)))
    assert lines[1] == lines[0]


def test_headers_that_go_out_are_the_same():
    tlvs = tlv(0xE0, b"not kept") + tlv(0xE1, b"one") + tlv(0xE2, b"two") + tlv(0xE1, b"again")
    sent = [V1, proxy_v2(), proxy_v2(V6_PAIR, family=0x21), proxy_v2(V4_PAIR + tlvs)]
    said = []
    for program in (envoy_binary(), SLUICE):
        upstream = Upstream()
        clusters = [
            telling(upstream.port, "V1", name="v1"),
            telling(upstream.port, "V2", name="v2", tlvs=[]),
            telling(upstream.port, "V2", name="some", tlvs=[0xE2], added=[{"type": 0xE5, "value": "YWRkZWQ="}]),
        ]
        listeners = [accepting(name) for name in ("v1", "v2", "some")]
        flags = ["--use-dynamic-base-id"] if program != SLUICE else []
        with contextlib.ExitStack() as stack:
            one = Proxy(bootstrap(listeners, clusters), program=program, flags=flags, level="warning")
            stack.callback(one.kill)
            stack.callback(upstream.close)
            said.append([told(one, upstream, name, header) for name in ("v1", "v2", "some") for header in sent])
    assert said[1] == said[0]


def told(one, upstream, listener, header):
    """All that the upstream gets. The end comes when it is connected: before, Envoy would take it for a client that
    has gone."""
    with connect(one, listener) as client:
        client.sendall(header + b"hello")
        with upstream.accept() as end:
            client.shutdown(socket.SHUT_WR)
            return to_the_end(end)


def test_inspectors_in_a_row(both):
    for data in (WHOLE, GET, PREFACE, b"PING\r\n\r\n", hello_of_python(None, ["http/1.1"])):
        envoy, sluice = ask_both(both, "both", data)
        assert sluice == envoy


def test_going_on_after_the_time(both):
    for data in (b"\x16\3\1", WHOLE[:100]):
        envoy, sluice = ask_both(both, "going-on", data)
        assert sluice == envoy == "raw"


def test_metrics_have_the_same_names_and_tags():
    filters = [proxy_protocol(stat_prefix="front"), tls_inspector(), http_inspector()]
    listeners = [inspected("a", filters, [chain("any")]), inspected("b", [proxy_protocol()], [chain("any")])]
    seen = []
    for program in (envoy_binary(), SLUICE):
        flags = ["--use-dynamic-base-id"] if program != SLUICE else []
        one = Proxy(bootstrap(listeners), program=program, flags=flags, level="warning")
        with contextlib.ExitStack() as stack:
            stack.callback(one.kill)
            lines = one.admin("/stats/prometheus").splitlines()
        families = ("envoy_proxy_proto_", "envoy_tls_inspector_", "envoy_http_inspector_", "envoy_downstream_cx_proxy")
        seen.append(sorted(line for line in lines if line.startswith(families) and "bytes_processed" not in line))
    assert seen[1] == seen[0]


COUNTED = ("tls_inspector.", "http_inspector.", "proxy_proto.versions.v2", "proxy_proto.not_found_allowed")


def test_both_have_counted_alike():
    """The same stories on two of their own, so that each is counted once."""
    counts = []
    with contextlib.ExitStack() as stack:
        for program in (envoy_binary(), SLUICE):
            one = start(program)
            stack.callback(one.kill)
            for story, data in HELLOS.items():
                ask(one.port("tls"), data, half_close="the end" in story)
            for data in LINES:
                ask(one.port("http"), data)
            for data in HEADERS.values():
                ask(one.port("proxy"), data + GET)
                ask(one.port("lenient"), data + GET)
            counts.append({k: v for k, v in one.stats().items() if k.startswith(COUNTED)})
    assert counts[1] == counts[0]
