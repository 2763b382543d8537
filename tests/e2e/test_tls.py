"""TLS with clients: what is spoken, whose certificate is shown, who is let in, and what is said of it further on."""

import re
import socket
import ssl
import struct
import urllib.parse

import pytest

from harness import LogFile, cluster, direct, eventually, listener, run, to
from tls_kit import (
    Authority,
    TlsClient,
    client_context,
    openssl,
    plain_connection,
    tls_listener,
    transport,
)

V1_2, V1_3 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


@pytest.fixture(scope="module")
def authority():
    return Authority()


@pytest.fixture(scope="module")
def pair(authority):
    return authority.issue("DNS:a.test", "URI:spiffe://proxy", subject="/CN=a.test")


@pytest.fixture(scope="module")
def stranger():
    return Authority("somebody else")


def ssl_stat(edge, name):
    """Envoy's name has the configured address: port 0 here, so all listeners of a proxy count together."""
    return edge.stat(f"listener.127.0.0.1_0.ssl.{name}")


# ---- what is spoken ----


def test_versions_ciphers_and_protocols(proxy, authority, pair):
    """Both versions, with what was agreed on counted by name and logged; nothing older."""
    log = LogFile(
        pair.chain.parent / "spoken.log",
        "%DOWNSTREAM_TLS_VERSION% %DOWNSTREAM_TLS_CIPHER% %DOWNSTREAM_LOCAL_SUBJECT% "
        "%DOWNSTREAM_LOCAL_URI_SAN% %DOWNSTREAM_LOCAL_DNS_SAN% %DOWNSTREAM_PEER_SUBJECT%",
    )
    edge = proxy(
        [
            tls_listener(
                "main",
                [direct(200, "hello")],
                pair,
                common={
                    "alpn_protocols": ["h2", "http/1.1"],
                    "tls_params": {"cipher_suites": ["[ECDHE-ECDSA-AES256-GCM-SHA384|ECDHE-ECDSA-CHACHA20-POLY1305]"]},
                },
                hcm={"access_log": [log.config]},
            )
        ]
    )
    for version in (V1_2, V1_3):
        context = client_context(authority, version=version, alpn=["h2", "http/1.1"])
        with TlsClient(edge.port(), context) as client:
            assert client.sock.selected_alpn_protocol() == "http/1.1"  # h2 is not spoken here
            assert client.ask("GET", "/").body == b"hello"
    first, second = sorted(log.lines(edge, 2))  # two workers write them
    assert first == "TLSv1.2 ECDHE-ECDSA-AES256-GCM-SHA384 CN=a.test spiffe://proxy a.test -"
    assert second.startswith("TLSv1.3 TLS_")
    assert ssl_stat(edge, "handshake") == 2
    assert ssl_stat(edge, "versions.TLSv1.2") == ssl_stat(edge, "versions.TLSv1.3") == 1
    assert ssl_stat(edge, "ciphers.ECDHE-ECDSA-AES256-GCM-SHA384") == 1
    assert ssl_stat(edge, "curves.X25519") == 2
    assert ssl_stat(edge, "no_certificate") == 2
    assert "h2 of alpn_protocols is not offered" in edge.log()

    old = client_context(version=ssl.TLSVersion.TLSv1_1)
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, OSError)):
        TlsClient(edge.port(), old)
    edge.wait_for_stat("listener.127.0.0.1_0.ssl.connection_error", 1)


def test_a_version_alone(proxy, authority, pair):
    params = {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"}
    edge = proxy([tls_listener("main", [direct(200, "x")], pair, common={"tls_params": params})])
    with TlsClient(edge.port(), client_context(authority)) as client:
        assert client.sock.version() == "TLSv1.3"
    with pytest.raises(OSError):
        TlsClient(edge.port(), client_context(authority, version=V1_2))


def test_the_certificate_is_the_one_that_was_asked_for(proxy, authority, pair):
    wild = authority.issue("DNS:*.wild.test", "DNS:exact.test")
    edge = proxy([tls_listener("main", [direct(200, "x")], pair, wild)])

    def shown(name):
        context = client_context(authority)
        context.check_hostname = False
        with TlsClient(edge.port(), context, name=name) as client:
            return client.names()

    assert shown("a.test") == ["a.test"]
    assert shown("exact.test") == shown("one.wild.test") == ["*.wild.test", "exact.test"]
    assert shown("two.one.wild.test") == ["a.test"]  # a wildcard is for one label
    assert shown("nobody.test") == shown(None) == ["a.test"]  # the first one is for the rest


# ---- resumption ----


def resumes(edge, port_name, session, version, authority, name="a.test", context=None):
    context = context or client_context(authority, version=version)
    with TlsClient(edge.port(port_name), context, session=session) as client:
        client.ask("GET", "/")  # with 1.3 tickets come behind the handshake
        return client.sock.session_reused, client.sock.session


WITHOUT = {"disable_stateless_session_resumption": True, "disable_stateful_session_resumption": True}


@pytest.mark.parametrize("version", [V1_2, V1_3], ids=["1.2", "1.3"])
def test_sessions_are_resumed_by_ticket(proxy, authority, pair, tmp_path, version):
    """Also at another listener that has the key, and after the key was rotated; not without tickets."""
    keys = [tmp_path / f"key{i}" for i in range(3)]
    for i, key in enumerate(keys):
        key.write_bytes(bytes([i + 1]) * 80)

    def tickets(*indexes):
        return {"session_ticket_keys": {"keys": [{"filename": str(keys[i])} for i in indexes]}}

    routes = [direct(200, "x")]
    edge = proxy(
        [
            tls_listener("old", routes, pair, tls=tickets(0)),
            tls_listener("rotated", routes, pair, tls=tickets(1, 0)),
            tls_listener("other", routes, pair, tls=tickets(2)),
            tls_listener("own", routes, pair),
            tls_listener("none", routes, pair, tls=WITHOUT),
        ]
    )
    context = client_context(authority, version=version)

    def ask(name, session=None):
        return resumes(edge, name, session, version, authority, context=context)

    reused, session = ask("old")
    assert not reused
    assert ask("old", session)[0]
    assert ask("rotated", session)[0]  # it decrypts with the old key...
    reused, renewed = ask("rotated", session)
    assert ask("rotated", renewed)[0]  # ...and encrypts with the new one
    if version == V1_3:  # of 1.2 a resumed session keeps its ticket, unless it is renewed
        assert not ask("old", renewed)[0]
    assert not ask("other", session)[0]
    _, own = ask("own")
    assert ask("own", own)[0]
    _, none = ask("none")
    assert not ask("none", none)[0]
    assert ssl_stat(edge, "session_reused") >= 5


def test_sessions_are_resumed_by_id(proxy, authority, pair):
    """For clients of TLS 1.2 without tickets, and where there are none; on any worker, unless it is turned off."""
    routes = [direct(200, "x")]
    edge = proxy(
        [
            tls_listener("main", routes, pair),
            tls_listener("stateful", routes, pair, tls={"disable_stateless_session_resumption": True}),
            tls_listener("stateless", routes, pair, tls={"disable_stateful_session_resumption": True}),
            tls_listener("none", routes, pair, tls=WITHOUT),
        ],
        flags=["--concurrency", "2"],
    )
    frugal = client_context(authority, version=V1_2)
    frugal.options |= ssl.OP_NO_TICKET
    usual = client_context(authority, version=V1_2)
    newer = client_context(authority, version=V1_3)

    def comes_back(name, context):
        version = context.maximum_version
        _, session = resumes(edge, name, None, version, authority, context=context)
        assert session.has_ticket == (context is not frugal and name in ("main", "stateless"))
        return {resumes(edge, name, session, version, authority, context=context)[0] for _ in range(6)}

    assert comes_back("main", frugal) == comes_back("stateful", frugal) == {True}
    assert comes_back("main", usual) == comes_back("stateful", usual) == {True}
    assert comes_back("main", newer) == {True}
    assert comes_back("stateless", frugal) == comes_back("none", frugal) == {False}
    assert comes_back("stateless", usual) == {True}
    assert comes_back("none", usual) == {False}
    assert ssl_stat(edge, "session_reused") == 36


# ---- clients' certificates ----


@pytest.fixture(scope="module")
def strict(module_proxy, authority, pair):
    """Listeners that ask for certificates in different ways."""
    friend = authority.issue("DNS:friend.test", "URI:spiffe://friend", subject="/CN=friend/O=Us")

    def asking(name, required=True, **validation):
        return tls_listener(
            name,
            [
                {
                    **direct(200, "validated"),
                    "match": {"prefix": "/", "tls_context": {"validated": True}},
                },
                {
                    **direct(200, "presented"),
                    "match": {"prefix": "/", "tls_context": {"presented": True}},
                },
                direct(200, "anonymous"),
            ],
            pair,
            common={"validation_context": authority.trusted(**validation)},
            tls={"require_client_certificate": required},
        )

    san = {"match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": "friend.test"}}]}
    edge = module_proxy(
        [
            asking("required"),
            asking("optional", required=False),
            asking("named", required=False, **san),
            asking("pinned", verify_certificate_hash=[friend.sha256()]),
            asking("lenient", trust_chain_verification="ACCEPT_UNTRUSTED"),
            asking("timeless", allow_expired_certificate=True),
        ]
    )
    edge.friend = friend
    return edge


def admitted(edge, name, authority, pair=None, version=V1_3):
    """The answer, or None when the connection was refused, which 1.3 tells only behind its handshake."""
    try:
        with TlsClient(edge.port(name), client_context(authority, pair, version=version)) as client:
            return client.ask("GET", "/").body.decode()
    except (OSError, EOFError, ValueError) as error:
        assert not isinstance(error, socket.timeout)
        return None
    except Exception as error:  # Gone, of a connection that ended
        assert type(error).__name__ == "Gone"
        return None


def refusals(edge):
    names = ("fail_verify_no_cert", "fail_verify_error", "fail_verify_san", "fail_verify_cert_hash")
    return {name: ssl_stat(edge, name) for name in names}


@pytest.mark.parametrize("version", [V1_2, V1_3], ids=["1.2", "1.3"])
def test_who_is_let_in(strict, authority, stranger, version):
    """Each refusal has its counter."""
    other = authority.issue("DNS:other.test")
    foe = stranger.issue("DNS:friend.test")
    late = authority.issue_expired("DNS:friend.test")

    def come(name, pair=None):
        before = refusals(strict)
        answer = admitted(strict, name, authority, pair, version)
        if answer:
            return answer
        return eventually(
            lambda: [key for key, value in refusals(strict).items() if value > before[key]],
            what="a refusal that counts",
        )

    assert come("required", strict.friend) == "validated"
    assert come("required") == ["fail_verify_no_cert"]
    assert come("required", foe) == ["fail_verify_error"]
    assert come("required", late) == ["fail_verify_error"]
    assert come("optional") == "anonymous"
    assert come("optional", strict.friend) == "validated"
    assert come("optional", foe) == ["fail_verify_error"]
    assert come("named", strict.friend) == "validated"
    assert come("named", other) == ["fail_verify_san"]
    assert come("named") == ["fail_verify_no_cert"]  # whoever asks for a name asks for a certificate
    assert come("pinned", strict.friend) == "validated"
    assert come("pinned", other) == ["fail_verify_cert_hash"]
    assert come("lenient", foe) == "presented"
    assert come("lenient", strict.friend) == "validated"
    assert come("timeless", late) == "validated"


XFCC = "x-forwarded-client-cert"


def test_who_came_is_said_to_whoever_is_behind(proxy, origin, authority, pair, tmp_path):
    """All of forward_client_cert_details, with and without a certificate, and the log's operators."""
    friend = authority.issue("DNS:friend.test", "URI:spiffe://friend", subject="/CN=friend/O=Us")
    log = LogFile(
        tmp_path / "who",
        "%DOWNSTREAM_PEER_SUBJECT%|%DOWNSTREAM_PEER_ISSUER%|%DOWNSTREAM_PEER_URI_SAN%|"
        "%DOWNSTREAM_PEER_DNS_SAN%|%DOWNSTREAM_PEER_FINGERPRINT_256%|"
        "%DOWNSTREAM_PEER_CERT_V_START(%Y)%|%DOWNSTREAM_PEER_IP_SAN%",
    )
    everything = {"subject": True, "cert": True, "chain": True, "dns": True, "uri": True}
    modes = ["SANITIZE", "FORWARD_ONLY", "APPEND_FORWARD", "SANITIZE_SET", "ALWAYS_FORWARD_ONLY"]
    edge = proxy(
        [
            tls_listener(
                mode,
                [to()],
                pair,
                common={"validation_context": authority.trusted()},
                hcm={
                    "forward_client_cert_details": mode,
                    "set_current_client_cert_details": everything,
                    "access_log": [log.config],
                },
            )
            for mode in modes
        ],
        [cluster("origin", origin.port)],
    )
    made_up = "By=me;Hash=none"

    def said(mode, pair):
        context = client_context(authority, pair)
        with TlsClient(edge.port(mode), context) as client:
            assert client.ask("GET", "/", headers=[(XFCC, made_up)]).status == 200
        return origin.last().header(XFCC)

    fingerprint = friend.sha256().replace(":", "").lower()
    pem = friend.chain.read_text().strip() + "\n"
    assert [said(mode, None) for mode in modes] == [None, None, None, None, made_up]
    assert said("SANITIZE", friend) is None
    assert said("FORWARD_ONLY", friend) == said("ALWAYS_FORWARD_ONLY", friend) == made_up
    ours = said("SANITIZE_SET", friend)
    assert said("APPEND_FORWARD", friend) == f"{made_up},{ours}"
    parts = ours.split(";")
    assert parts[:2] == ["By=spiffe://proxy", f"Hash={fingerprint}"]
    assert urllib.parse.unquote(parts[2]) == f'Cert="{pem}"'
    assert urllib.parse.unquote(parts[3]).startswith(f'Chain="{pem}')  # Python sends its CA, too
    assert parts[4:] == ['Subject="O=Us,CN=friend"', "URI=spiffe://friend", "DNS=friend.test"]
    last = log.lines(edge, 10)[-1].split("|")
    assert last[:5] == [
        "O=Us,CN=friend",
        "CN=test authority",
        "spiffe://friend",
        "friend.test",
        fingerprint,
    ]
    assert last[5].isdigit() and last[6] == "-"


# ---- HTTP over TLS ----


def test_https_is_what_the_request_came_by(proxy, origin, authority, pair):
    """x-forwarded-proto, redirects, and virtual hosts that want TLS."""
    redirect = {"match": {"prefix": "/moved"}, "redirect": {"path_redirect": "/there"}}
    hosts = [{"name": "v", "domains": ["*"], "require_tls": "ALL", "routes": [redirect, to()]}]
    plain = listener("plain", hosts=hosts)
    secure = tls_listener("secure", None, pair, hosts=hosts)
    edge = proxy([plain, secure], [cluster("origin", origin.port)])
    with TlsClient(edge.port("secure"), client_context(authority)) as client:
        assert client.ask("GET", "/x").status == 200
        assert origin.last().header("x-forwarded-proto") == "https"
        assert client.ask("GET", "/moved").header("location") == "https://test.local/there"
    reply = edge.get("/x", listener="plain")
    assert (reply.status, reply.header("location")) == (301, "https://test.local/x")


def test_a_large_body_both_ways(proxy, origin, authority, pair):
    """More than a record, more than a buffer, more than the kernel takes at once."""
    edge = proxy([tls_listener("main", [to(timeout="0s")], pair)], [cluster("origin", origin.port)])
    body = bytes(range(256)) * 8192
    for version in (V1_2, V1_3):
        with TlsClient(edge.port(), client_context(authority, version=version)) as client:
            assert client.ask("POST", "/", body=body).body == body
            assert client.ask("POST", "/", body=[body[:70000], body[70000:]]).body == body


# ---- keys elsewhere ----


def test_private_keys_are_used_on_threads_of_their_own_if_asked(proxy, authority, pair):
    """Handshakes then are no calls of the worker, but for the rest they are the same. Those that take long anyway, here
    by their curve, are calls that another thread may take the worker from."""
    elsewhere = transport(
        {"tls_certificates": [pair.config(private_key_provider={"provider_name": "sluice.private_keys.blocking_call"})]}
    )
    made = tls_listener("elsewhere", [direct(200, "x")])
    made["filter_chains"][0]["transport_socket"] = elsewhere
    slow = tls_listener("slow", [direct(200, "x")], pair, common={"tls_params": {"ecdh_curves": ["P-384"]}})
    edge = proxy([made, slow, tls_listener("here", [direct(200, "x")], pair)], flags=["--concurrency", "1"])

    def calls_of(listener):
        before = edge.stat("rt.p0.foreign_calls")
        clients = [TlsClient(edge.port(listener), client_context(authority)) for _ in range(10)]
        for client in clients:
            assert client.ask("GET", "/").body == b"x"
            client.close()
        return edge.stat("rt.p0.foreign_calls") - before

    assert calls_of("slow") >= 10
    assert calls_of("here") < 10
    assert calls_of("elsewhere") < 10
    assert edge.stat("rt.blocking_threads") >= 1
    assert ssl_stat(edge, "handshake") == 30


# ---- bad manners ----


def test_why_a_handshake_failed_is_in_the_log_of_connections(proxy, authority, pair, stranger, tmp_path):
    """As Envoy's listener access log: what OpenSSL said, as one word; of one that went well there is nothing to say."""
    log = LogFile(tmp_path / "why", "%DOWNSTREAM_TRANSPORT_FAILURE_REASON%")
    made = tls_listener(
        "main",
        [direct(200, "x")],
        pair,
        common={"validation_context": authority.trusted()},
        tls={"require_client_certificate": True},
    )
    edge = proxy([{**made, "access_log": [log.config]}])
    with plain_connection(edge.port()) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        while plain.recv(100):
            pass
    assert re.fullmatch(
        r"TLS_error:\|\d+:SSL_routines:OPENSSL_internal:HTTP_REQUEST:TLS_error_end", log.lines(edge, 1)[0]
    )
    assert admitted(edge, "main", authority, stranger.issue("DNS:foe.test")) is None
    assert ":CERTIFICATE_VERIFY_FAILED:" in log.lines(edge, 2)[1]
    assert admitted(edge, "main", authority) is None
    assert ":PEER_DID_NOT_RETURN_A_CERTIFICATE:" in log.lines(edge, 3)[2]
    assert admitted(edge, "main", authority, pair) == "x"
    assert log.lines(edge, 4)[3] == "-"


def test_a_handshake_that_does_not_end(proxy, authority, pair):
    """transport_socket_connect_timeout ends it; a byte now and then does not help."""
    edge = proxy(
        [
            tls_listener(
                "main",
                [direct(200, "x")],
                pair,
                chain={"transport_socket_connect_timeout": "0.3s"},
            )
        ]
    )
    with plain_connection(edge.port()) as silent, plain_connection(edge.port()) as slow:
        slow.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")  # of a ClientHello
        assert silent.recv(100) == b"" and slow.recv(100) == b""
    name = f"listener.127.0.0.1_{edge.port()}.downstream_cx_transport_socket_connect_timeout"
    edge.wait_for_stat(name, 2)


def test_what_is_no_tls_and_what_breaks_off(proxy, authority, pair):
    """Plain HTTP, a reset in the middle of the handshake, an end without close_notify: nobody else notices."""
    edge = proxy([tls_listener("main", [direct(200, "x")], pair)])
    with plain_connection(edge.port()) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        assert not plain.recv(100).startswith(b"HTTP")
    edge.wait_for_stat("listener.127.0.0.1_0.ssl.connection_error", 1)
    reset = plain_connection(edge.port())
    reset.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
    reset.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    reset.close()
    client = TlsClient(edge.port(), client_context(authority))
    client.send("GET", "/")
    assert client.read_reply().status == 200
    client.close()  # Python's close sends no close_notify
    with TlsClient(edge.port(), client_context(authority)) as client:
        assert client.ask("GET", "/").status == 200
        client.sock.unwrap()  # this does, and is answered
    edge.wait_for_stat(f"listener.127.0.0.1_{edge.port()}.downstream_cx_active", 0)
    assert ssl_stat(edge, "connection_error") == 1  # who goes away breaks no protocol


# ---- at load ----


@pytest.mark.parametrize("what", ["mismatch", "unreadable", "garbage", "encrypted", "secret", "ca"])
def test_what_is_wrong_is_said_at_load(authority, pair, tmp_path, what):
    """With the line, and what would be right."""
    other = authority.issue("DNS:other.test")
    certificate, common, words = pair.config(), {}, []
    if what == "mismatch":
        certificate["private_key"] = {"filename": str(other.key)}
        words = [str(other.key), "does not"]
    elif what == "unreadable":
        certificate["private_key"] = {"filename": str(tmp_path / "nowhere")}
        words = ["nowhere", "No such file"]
    elif what == "garbage":
        certificate["certificate_chain"] = {"inline_string": "no PEM"}
        words = ["<inline>"]
    elif what == "encrypted":
        locked = tmp_path / "locked.key"
        openssl("pkey", "-in", pair.key, "-aes256", "-passout", "pass:secret", "-out", locked)
        certificate["private_key"] = {"filename": str(locked)}
        words = [str(locked), "password"]
    elif what == "secret":
        certificate = None
        common = {"tls_certificate_sds_secret_configs": [{"name": "nobody"}]}
        words = ["there is no secret 'nobody'"]
    elif what == "ca":
        common = {"validation_context": {"crl": {"filename": str(pair.chain)}}}
        words = ["crl needs trusted_ca"]
    made = tls_listener("main", [direct(200, "x")])
    common = {**({"tls_certificates": [certificate]} if certificate else {}), **common}
    made["filter_chains"][0]["transport_socket"] = transport(common)
    config = {"static_resources": {"listeners": [made]}}
    done = run("--mode", "validate", config=config)
    assert done.returncode == 1
    assert "bootstrap.yaml:" in done.stderr and "transport_socket" in done.stderr, done.stderr
    for word in words:
        assert word in done.stderr, done.stderr


def test_a_locked_key_and_secrets_by_name(proxy, authority, pair, tmp_path):
    locked = tmp_path / "locked.key"
    openssl("pkey", "-in", pair.key, "-aes256", "-passout", "pass:secret", "-out", locked)
    secrets = [
        {
            "name": "shown",
            "tls_certificate": {
                "certificate_chain": {"filename": str(pair.chain)},
                "private_key": {"filename": str(locked)},
                "password": {"inline_string": "secret"},
            },
        },
        {"name": "trusted", "validation_context": authority.trusted()},
    ]
    made = tls_listener("main", [direct(200, "x")])
    made["filter_chains"][0]["transport_socket"] = transport(
        {
            "tls_certificate_sds_secret_configs": [{"name": "shown"}],
            "validation_context_sds_secret_config": {"name": "trusted"},
        },
        require_client_certificate=True,
    )
    config = {
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}},
        "static_resources": {"listeners": [made], "secrets": secrets},
    }
    edge = proxy(None, config=config)
    assert admitted(edge, "main", authority, pair) == "x"
    assert admitted(edge, "main", authority) is None
    dump = edge.admin("/config_dump")
    assert '"inline_string": "[redacted]"' in dump and '"secret"' not in dump  # the password
    assert str(locked) in dump
