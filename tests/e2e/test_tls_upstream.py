"""TLS with endpoints: what is asked for, whom we believe, what is said when that comes to nothing."""

import socket
import ssl
import threading

import pytest

from harness import LogFile, cluster, listener, to
from tls_kit import Authority, TlsOrigin, upstream_transport

HTTP = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
V1_2, V1_3 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


@pytest.fixture(scope="module")
def authority():
    return Authority()


@pytest.fixture
def origin(authority):
    made = TlsOrigin(authority.issue("DNS:origin.test", "IP:127.0.0.1", subject="/CN=origin"))
    yield made
    made.close()


def secured(name, port, common=None, *, http=None, **tls):
    more = {}
    if http:
        options = {
            "@type": f"type.googleapis.com/{HTTP}",
            "explicit_http_config": {"http_protocol_options": {}},
            "upstream_http_protocol_options": http,
        }
        more["typed_extension_protocol_options"] = {HTTP: options}
    return cluster(name, port, transport_socket=upstream_transport(common, **tls), **more)


def trusting(authority, *sans, **more):
    matchers = [{"san_type": "DNS", "matcher": {"exact": name}} for name in sans]
    context = authority.trusted(**({"match_typed_subject_alt_names": matchers} if sans else {}))
    return {"validation_context": {**context, **more}}


def by_cluster(*names):
    return [to(name, f"/{name}") for name in names]


def test_what_is_asked_for_and_logged(proxy, origin, authority, tmp_path):
    """sni, the request's host, the endpoint's name; versions and names in the log; counters."""
    log = LogFile(
        tmp_path / "log",
        "%UPSTREAM_CLUSTER% %UPSTREAM_TLS_VERSION% %UPSTREAM_TLS_CIPHER% %UPSTREAM_PEER_SUBJECT% "
        "%UPSTREAM_PEER_ISSUER% %UPSTREAM_PEER_DNS_SAN% %UPSTREAM_PEER_IP_SAN%",
    )
    believing = trusting(authority)
    newest = {**believing, "tls_params": {"tls_maximum_protocol_version": "TLSv1_3"}}
    named = secured("named", origin.port, believing, auto_host_sni=True)
    endpoint = named["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]
    endpoint["hostname"] = "endpoint.test"
    edge = proxy(
        [
            listener(
                "main",
                by_cluster("fixed", "none", "host", "named"),
                hcm={"access_log": [log.config]},
            )
        ],
        [
            secured("fixed", origin.port, newest, sni="fixed.test"),
            secured("none", origin.port, believing),
            secured("host", origin.port, believing, http={"auto_sni": True}),
            named,
        ],
    )
    for path in ("/fixed", "/none", "/host", "/named"):
        assert edge.get(path).status == 200
    assert [name for name, _ in origin.handshakes] == [
        "fixed.test",
        None,
        "test.local",
        "endpoint.test",
    ]
    rest = "CN=origin CN=test authority origin.test 127.0.0.1"
    lines = sorted(log.lines(edge, 4))  # two workers write them
    assert lines[0].startswith("fixed TLSv1.3 TLS_") and lines[0].endswith(rest)
    assert lines[3].startswith("none TLSv1.2 ECDHE-ECDSA-") and lines[3].endswith(rest)
    assert edge.stat("cluster.fixed.ssl.handshake") == 1
    assert edge.stat("cluster.fixed.ssl.versions.TLSv1.3") == 1
    assert edge.stat("cluster.none.ssl.versions.TLSv1.2") == 1


def test_a_connection_is_for_the_name_that_it_asked_for(proxy, origin, authority):
    """With auto_sni a pooled connection serves its own name only, also when there may be no other."""
    one = {"circuit_breakers": {"thresholds": [{"max_connections": 1}]}}
    made = secured("c", origin.port, trusting(authority), http={"auto_sni": True})
    edge = proxy([listener("main", [to("c")])], [{**made, **one}], flags=("--concurrency", "1"))
    with edge.connect() as client:
        for host in ("a.test", "a.test", "b.test", "b.test", "a.test:443", "127.0.0.1"):
            client.sock.sendall(f"GET / HTTP/1.1\r\nhost: {host}\r\n\r\n".encode())
            assert client.read_reply().status == 200
    assert [name for name, _ in origin.handshakes] == ["a.test", "b.test", "a.test", None]


def test_whom_we_believe(proxy, origin, authority):
    """An authority, names, and the name that was asked for; 503 with the transport's words in the log's details."""
    stranger = Authority("somebody else")
    good, bad = trusting(authority), trusting(stranger)
    expired = TlsOrigin(authority.issue_expired("DNS:origin.test"))
    ours = authority.issue("DNS:us.test")
    strict = TlsOrigin(authority.issue("DNS:origin.test"), authority=authority)
    clusters = {
        "good": secured("good", origin.port, good),
        "named": secured("named", origin.port, trusting(authority, "origin.test")),
        "auto": secured("auto", origin.port, good, sni="origin.test", auto_sni_san_validation=True),
        "address": secured("address", origin.port, good, http={"auto_san_validation": True}),
        "unchecked": secured("unchecked", origin.port),
        "showing": secured("showing", strict.port, {**good, "tls_certificates": [ours.config()]}),
        "stranger": secured("stranger", origin.port, bad),
        "misnamed": secured("misnamed", origin.port, trusting(authority, "other.test")),
        "misasked": secured("misasked", origin.port, good, sni="other.test", auto_sni_san_validation=True),
        "late": secured("late", expired.port, good),
        "mishosted": secured("mishosted", origin.port, good, http={"auto_san_validation": True}),
    }
    counters = {
        "stranger": "fail_verify_error",
        "misnamed": "fail_verify_san",
        "late": "fail_verify_error",
    }
    try:
        edge = proxy([listener("main", by_cluster(*clusters))], clusters.values())
        for name in clusters:
            host = "127.0.0.1" if name == "address" else "test.local"
            with edge.connect() as client:
                client.sock.sendall(f"GET /{name} HTTP/1.1\r\nhost: {host}\r\n\r\n".encode())
                reply = client.read_reply()
            is_good = list(clusters).index(name) < 6
            assert (name, reply.status) == (name, 200 if is_good else 503)
            if not is_good:
                assert reply.body.startswith(b"upstream connect error or disconnect/reset")
                assert edge.stat(f"cluster.{name}.upstream_cx_connect_fail") == 1
        for name, counter in counters.items():
            assert edge.stat(f"cluster.{name}.ssl.{counter}") == 1, name
        assert strict.certificates[-1]["subjectAltName"] == (("DNS", "us.test"),)
    finally:
        expired.close()
        strict.close()


def test_the_log_says_why(proxy, origin, authority, tmp_path):
    log = LogFile(tmp_path / "why", "%RESPONSE_FLAGS% %UPSTREAM_TRANSPORT_FAILURE_REASON% %RESPONSE_CODE_DETAILS%")
    stranger = Authority("somebody else")
    plain = socket.create_server(("127.0.0.1", 0))

    def say_no():
        peer, _ = plain.accept()
        with peer:
            peer.sendall(b"SSH-2.0-someone\r\n")  # it speaks first
            while peer.recv(65536):
                pass

    threading.Thread(target=say_no, daemon=True).start()
    edge = proxy(
        [listener("main", by_cluster("bad", "plain"), hcm={"access_log": [log.config]})],
        [
            secured("bad", origin.port, trusting(stranger)),
            secured("plain", plain.getsockname()[1], trusting(authority)),
        ],
    )
    assert edge.get("/bad").status == edge.get("/plain").status == 503
    no_tls, bad = sorted(log.lines(edge, 2), key=lambda line: "certificate" in line.lower())
    assert bad.startswith("UF TLS_error:|") and "certificate_verify_failed" in bad.lower()
    assert "upstream_reset_before_response_started{remote_connection_failure|TLS_error:" in bad
    assert no_tls.startswith("UF TLS_error:|")
    assert edge.stat("cluster.plain.ssl.connection_error") == 1
    plain.close()


@pytest.mark.parametrize("version", [V1_2, V1_3], ids=["1.2", "1.3"])
def test_sessions_are_resumed(proxy, authority, version):
    """The second connection to an endpoint; none where max_session_keys is 0."""
    closing = [("connection", "close")]
    made = TlsOrigin(
        authority.issue("DNS:origin.test"),
        lambda exchange: exchange.reply(200, b"x", closing),
        version=version,
    )
    newest = {**trusting(authority), "tls_params": {"tls_maximum_protocol_version": "TLSv1_3"}}
    edge = proxy(
        [listener("main", by_cluster("some", "none"))],
        [
            secured("some", made.port, newest, sni="origin.test"),
            secured("none", made.port, newest, sni="origin.test", max_session_keys=0),
        ],
    )
    for path in ("/some", "/some", "/none", "/none"):
        assert edge.get(path).status == 200
    assert [resumed for _, resumed in made.handshakes] == [False, True, False, False]
    assert edge.stat("cluster.some.ssl.session_reused") == 1
    made.close()


def test_a_server_that_never_shakes_hands(proxy):
    """connect_timeout is for the handshake, too."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        made = secured("silent", silent.getsockname()[1])
        edge = proxy([listener("main", [to("silent")])], [{**made, "connect_timeout": "0.3s"}])
        reply = edge.get("/")
        assert (reply.status, reply.body[-18:]) == (503, b"connection timeout")
    assert edge.stat("cluster.silent.upstream_cx_connect_timeout") == 1


def test_large_bodies_over_tls(proxy, origin, authority):
    edge = proxy([listener("main", [to("c", timeout="0s")])], [secured("c", origin.port, trusting(authority))])
    body = bytes(range(256)) * 8192
    with edge.connect() as client:
        assert client.ask("POST", "/", body=body).body == body
        assert client.ask("POST", "/", body=[body[:70000], body[70000:]]).body == body
    assert len(origin.handshakes) == 1


@pytest.mark.parametrize("how", ["close_notify", "truncated"])
def test_a_body_that_ends_with_the_connection(proxy, authority, how):
    """Without a length the end of TLS is the end of the body. One that is cut off is no end: an attacker could have
    made it."""

    def answer(exchange):
        exchange.send(b"HTTP/1.1 200 OK\r\n\r\nall of it")
        if how == "close_notify":
            try:
                exchange.sock.unwrap()
            except (OSError, ValueError):
                pass
        exchange.reader.file.close()
        exchange.sock.shutdown(socket.SHUT_RDWR)
        raise OSError

    made = TlsOrigin(authority.issue("DNS:origin.test"), answer)
    edge = proxy([listener("main", [to("c")])], [secured("c", made.port, trusting(authority))])
    with edge.connect() as client:
        client.send("GET", "/")
        if how == "close_notify":
            assert client.read_reply().body == b"all of it"
        else:
            with pytest.raises(Exception) as caught:
                client.read_reply()
            assert type(caught.value).__name__ == "Gone"
    assert edge.stat("cluster.c.ssl.end_without_close_notify") == (how == "truncated")
    made.close()
