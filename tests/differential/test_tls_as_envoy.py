"""TLS on both: whose certificate is shown, who is let in, what is counted, logged and said further on."""

import re
import socket
import ssl

import pytest

from harness import SLUICE, LogFile, Origin, Proxy, bootstrap, cluster, eventually, listener, to
from tcp_support import Upstream, connect, tcp_edge, tcp_listener, tcp_proxy, to_the_end
from tls_kit import (
    Authority,
    TlsClient,
    TlsOrigin,
    client_context,
    end_wire,
    tls_listener,
    transport,
    upstream_transport,
)
from twins import envoy_binary

OPERATORS = [
    "DOWNSTREAM_TLS_VERSION",
    "DOWNSTREAM_PEER_SUBJECT",
    "DOWNSTREAM_PEER_ISSUER",
    "DOWNSTREAM_PEER_SERIAL",
    "DOWNSTREAM_PEER_FINGERPRINT_1",
    "DOWNSTREAM_PEER_FINGERPRINT_256",
    "DOWNSTREAM_PEER_URI_SAN",
    "DOWNSTREAM_PEER_DNS_SAN",
    "DOWNSTREAM_PEER_IP_SAN",
    "DOWNSTREAM_PEER_CERT",
    "DOWNSTREAM_PEER_CERT_V_START",
    "DOWNSTREAM_PEER_CERT_V_END",
    "DOWNSTREAM_LOCAL_SUBJECT",
    "DOWNSTREAM_LOCAL_URI_SAN",
    "DOWNSTREAM_LOCAL_DNS_SAN",
    "REQUESTED_SERVER_NAME",
    "UPSTREAM_TLS_VERSION",
    "UPSTREAM_TLS_CIPHER",
    "UPSTREAM_PEER_SUBJECT",
    "UPSTREAM_PEER_ISSUER",
    "UPSTREAM_PEER_DNS_SAN",
    "RESPONSE_FLAGS",
]
COUNTED = (
    *("handshake", "no_certificate", "session_reused", "connection_error"),
    *("fail_verify_no_cert", "fail_verify_error", "fail_verify_san", "fail_verify_cert_hash"),
    *("versions.TLSv1.2", "versions.TLSv1.3", "curves.X25519", "ciphers.ECDHE-ECDSA-AES128-GCM-SHA256"),
)


class Peers:
    """Certificates and origins that both proxies are asked about."""

    def __init__(self):
        self.authority, self.stranger = Authority(), Authority("somebody else")
        issue = self.authority.issue
        self.shown = [issue("DNS:a.test", "URI:spiffe://proxy", subject="/CN=a"), issue("DNS:*.wild.test")]
        self.friend = issue(
            "DNS:friend.test", "URI:spiffe://friend", "IP:10.0.0.1", subject="/C=XX/O=Us, Inc/CN=friend"
        )
        self.other = issue("DNS:other.test")
        self.foe = self.stranger.issue("DNS:friend.test")
        self.origin = Origin()
        self.secured = TlsOrigin(issue("DNS:origin.test", subject="/CN=origin"))

    def close(self):
        self.origin.close()
        self.secured.close()


def start(program, peers, folder):
    log = LogFile(folder / f"log-{program.rpartition('/')[2]}", "|".join(f"%{name}%" for name in OPERATORS))
    names = {"match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"suffix": "friend.test"}}]}
    params = {"cipher_suites": ["ECDHE-ECDSA-AES128-GCM-SHA256"]}
    everything = {"subject": True, "cert": True, "dns": True, "uri": True}
    hcm = {
        "forward_client_cert_details": "APPEND_FORWARD",
        "set_current_client_cert_details": everything,
        "access_log": [log.config],
    }

    def upstream(name, authority, **tls):
        context = {"validation_context": authority.trusted()}
        return cluster(name, peers.secured.port, transport_socket=upstream_transport(context, **tls))

    def edge(name, sans, **tls):
        routes = [to("secured", "/secured"), to("untrusted", "/untrusted"), to()]
        common = {"validation_context": peers.authority.trusted(**sans), "tls_params": params}
        return tls_listener(name, routes, *peers.shown, common=common, tls=tls, hcm=hcm)

    config = bootstrap(
        [edge("optional", {}), edge("required", {}, require_client_certificate=True), edge("named", names)],
        [
            cluster("origin", peers.origin.port),
            upstream("secured", peers.authority, sni="origin.test"),
            upstream("untrusted", peers.stranger),
        ],
    )
    flags = ["--use-dynamic-base-id"] if program != SLUICE else []
    made = Proxy(config, program=program, flags=[*flags, "--concurrency", "1", "--file-flush-interval-msec", "20"])
    made.log_file = log
    return made


def attempt(proxy, peers, listener, path="/", *, pair=None, name="a.test", version=ssl.TLSVersion.TLSv1_2):
    """What came of it: the reply's status, and the names of the certificate that was shown."""
    context = client_context(peers.authority, pair, version=version)
    context.check_hostname = False
    try:
        with TlsClient(proxy.port(listener), context, name=name) as client:
            reply = client.ask("GET", path, headers=[("x-forwarded-client-cert", "By=before")])
            return reply.status, client.names(), re.sub(rb"TLS_error:.*", b"TLS_error", reply.body)
    except (OSError, EOFError) as error:
        return type(error).__mro__[-4].__name__
    except Exception as error:
        return type(error).__name__


def counted(proxy):
    """By the end of the name: Envoy's has the configured address, and the port is 0 in both."""
    stats = proxy.stats()
    ours = {name: stats.get(f"listener.127.0.0.1_0.ssl.{name}", 0) for name in COUNTED}
    upstream = ("secured.ssl.handshake", "untrusted.ssl.fail_verify_error", "untrusted.upstream_cx_connect_fail")
    return {**ours, **{name: stats.get(f"cluster.{name}", 0) for name in upstream}}


def tell(program, peers, folder):
    """The same clients, and everything that can be seen of them."""
    proxy = start(program, peers, folder)
    try:
        seen = []
        v1_3 = {"version": ssl.TLSVersion.TLSv1_3}
        for listener in ("optional", "required", "named"):
            for pair in (None, peers.friend, peers.other, peers.foe):
                before = sum(value for name, value in counted(proxy).items() if "." not in name)
                seen.append((listener, attempt(proxy, peers, listener, pair=pair)))
                eventually(
                    lambda before=before: sum(v for n, v in counted(proxy).items() if "." not in n) > before,
                    what="a counter that moves",
                )
                if peers.origin.requests:
                    seen.append(peers.origin.requests.pop().header("x-forwarded-client-cert"))
        for name in ("one.wild.test", "wild.test", "nobody.test"):
            seen.append((name, attempt(proxy, peers, "optional", name=name)))
        seen.append(attempt(proxy, peers, "optional", pair=peers.friend, **v1_3))
        seen.append(attempt(proxy, peers, "optional", "/secured"))
        seen.append(attempt(proxy, peers, "optional", "/untrusted"))
        served = sum(isinstance(one, tuple) and (isinstance(one[0], int) or isinstance(one[1], tuple)) for one in seen)
        lines = [dict(zip(OPERATORS, line.split("|"), strict=True)) for line in proxy.log_file.lines(proxy, served)]
        return seen, lines, counted(proxy)
    finally:
        proxy.stop()


@pytest.fixture(scope="module")
def peers():
    made = Peers()
    yield made
    made.close()


def test_tls_is_the_same(peers, tmp_path):
    theirs = tell(envoy_binary(), peers, tmp_path)
    peers.origin.requests.clear()
    ours = tell(SLUICE, peers, tmp_path)
    assert ours[0] == theirs[0]
    assert ours[1] == theirs[1]
    assert ours[2] == theirs[2]


def what_ends_without_close_notify(program, peers):
    """What each side sees of it, and what a client makes of responses that end so."""
    upstream = Upstream()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(peers.shown[0].chain, peers.shown[0].key)

    def answer(exchange):
        length = b"content-length: 9\r\n" if exchange.request.path == "/length" else b""
        exchange.send(b"HTTP/1.1 200 OK\r\n" + length + b"\r\nall of it")
        end_wire(exchange.sock)
        raise OSError

    origin = TlsOrigin(peers.shown[0], answer)
    proxy = Proxy(
        bootstrap(
            [
                tcp_listener(
                    "in",
                    tcp_proxy("plain"),
                    chain={"transport_socket": transport({"tls_certificates": [peers.shown[0].config()]})},
                ),
                tcp_edge("out", "secured"),
                listener("http", [to("origin")]),
            ],
            [
                cluster("plain", upstream.port),
                cluster("secured", upstream.port, transport_socket=upstream_transport()),
                cluster("origin", origin.port, transport_socket=upstream_transport()),
            ],
        ),
        program=program,
        flags=[*([] if program == SLUICE else ["--use-dynamic-base-id"]), "--concurrency", "1"],
    )
    seen = []
    try:
        for name in ("in", "out"):
            client = connect(proxy, name)
            if name == "in":
                context = client_context(peers.authority)
                client = context.wrap_socket(client, server_hostname="a.test", suppress_ragged_eofs=False)
            behind = upstream.accept()
            if name == "out":
                behind = server.wrap_socket(behind, server_side=True, suppress_ragged_eofs=False)
            speaks, other = (client, behind) if name == "in" else (behind, client)
            speaks.sendall(b"all I have")
            end_wire(speaks)
            seen.append(to_the_end(other))
            other.sendall(b"an answer")
            other.shutdown(socket.SHUT_WR)
            seen.append(to_the_end(speaks))
            client.close()
            behind.close()
        for path in ("/length", "/end"):
            with proxy.connect("http") as client:
                client.send("GET", path)
                try:
                    seen.append(client.read_reply().body)
                except Exception as error:
                    seen.append(type(error).__name__)
            # Envoy would send the next one on the connection of which it has not yet seen the end.
            eventually(lambda: proxy.stat("cluster.origin.upstream_cx_active") == 0, what="the connection's end")
        return seen
    finally:
        proxy.stop()
        origin.close()
        upstream.close()


def test_ends_without_close_notify_are_the_same_where_something_else_tells(peers):
    """But a response that has nothing else to tell its end by is not whole here: RFC 9112, section 9.8."""
    theirs = what_ends_without_close_notify(envoy_binary(), peers)
    ours = what_ends_without_close_notify(SLUICE, peers)
    assert ours[:-1] == theirs[:-1]
    assert (theirs[-1], ours[-1]) == (b"all of it", "Gone")
