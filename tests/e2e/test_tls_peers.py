"""Other people's TLS on both sides: openssl s_client, curl, Go's crypto/tls, nginx; and TLS that only passes by."""

import os
import shutil
import subprocess

import pytest

from harness import TYPE, cluster, direct, eventually, reserved_port, to
from test_peers import (
    TRAILERS,
    curl,
    peers,  # noqa: F401
)
from tls_kit import Authority, TlsClient, TlsOrigin, client_context, tls_listener, upstream_transport


@pytest.fixture(scope="module")
def authority():
    return Authority()


@pytest.fixture(scope="module")
def pair(authority):
    return authority.issue("DNS:a.test", "IP:127.0.0.1", subject="/CN=a.test")


def s_client(port, authority, *args):
    done = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-CAfile", authority.ca.chain, *args],
        input="GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.stdout


def test_openssl_s_client(proxy, authority, pair, tmp_path):
    edge = proxy([tls_listener("main", [direct(200, "hello")], pair, common={"alpn_protocols": ["http/1.1"]})])
    session = tmp_path / "session"
    ask = ("-ign_eof", "-servername", "a.test", "-verify_return_error", "-alpn", "http/1.1")
    for version in ("-tls1_2", "-tls1_3"):
        said = s_client(edge.port(), authority, version, *ask, "-sess_out", session)
        assert "Verify return code: 0 (ok)" in said and "ALPN protocol: http/1.1" in said
        assert said.count("HTTP/1.1 200 OK") == 1 and "New, TLSv1" in said
        again = s_client(edge.port(), authority, version, *ask, "-sess_in", session)
        assert "Reused, TLSv1" in again and "HTTP/1.1 200 OK" in again
    # Many small records, and a key update in the middle.
    assert "HTTP/1.1 200 OK" in s_client(edge.port(), authority, *ask, "-max_send_frag", "512")


def test_curl_over_tls(proxy, origin, authority, pair):
    edge = proxy([tls_listener("main", [to()], pair)], [cluster("origin", origin.port)])
    url = f"https://127.0.0.1:{edge.port()}"
    ca = ("--cacert", str(authority.ca.chain))
    big = os.urandom(2_000_000)
    assert curl(*ca, "--data-binary", "@-", url, data=big) == big
    done = curl(*ca, "-w", "%{num_connects}\n", "-o", "/dev/null", f"{url}/?[1-5]")
    assert sum(map(int, done.split())) == 1


def test_go_on_both_sides(proxy, peers, authority, pair):  # noqa: F811
    """Go's client and origin do over TLS all that they do without (test_peers.py)."""
    env = {**os.environ, "PEERS_CERT": str(pair.chain), "PEERS_KEY": str(pair.key)}
    process = subprocess.Popen([peers, "origin"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env)
    try:
        secured = upstream_transport(
            {"validation_context": authority.trusted()}, sni="a.test", auto_sni_san_validation=True
        )
        made = cluster("origin", int(process.stdout.readline()), transport_socket=secured, **TRAILERS)
        edge = proxy([tls_listener("main", [to()], pair, hcm=TRAILERS)], [made])
        done = subprocess.run(
            [peers, "client", f"https://127.0.0.1:{edge.port()}"],
            capture_output=True,
            text=True,
            timeout=120,
            env={**os.environ, "SSL_CERT_FILE": str(authority.ca.chain)},
        )
        assert (done.stdout, done.returncode) == ("0 failed\n", 0), done.stderr
    finally:
        process.stdin.close()
        process.wait(20)
        process.stdout.close()


NGINX = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
    uwsgi_temp_path {folder}; scgi_temp_path {folder};
    ssl_certificate {pair.chain}; ssl_certificate_key {pair.key}; ssl_session_cache shared:S:1m;
    server {{
        listen unix:{folder}/unused;
        listen 127.0.0.1:{origin} ssl;
        location / {{ return 200 "nginx $ssl_server_name $ssl_protocol"; }}
    }}
    server {{
        listen 127.0.0.1:{front};
        location / {{
            proxy_pass https://127.0.0.1:{edge};
            proxy_http_version 1.1;
            proxy_set_header connection "";
            proxy_ssl_verify on; proxy_ssl_name a.test; proxy_ssl_server_name on;
            proxy_ssl_trusted_certificate {ca};
        }}
    }}
}}
"""


@pytest.mark.skipif(not shutil.which("nginx"), reason="no nginx")
def test_nginx_before_us_and_behind_us(proxy, authority, pair, tmp_path):
    (held_origin, origin), (held_front, front) = reserved_port(), reserved_port()
    secured = upstream_transport({"validation_context": authority.trusted()}, sni="a.test")
    edge = proxy([tls_listener("main", [to("nginx")], pair)], [cluster("nginx", origin, transport_socket=secured)])
    config = tmp_path / "nginx.conf"
    values = {"folder": tmp_path, "pair": pair, "ca": authority.ca.chain}
    config.write_text(NGINX.format(origin=origin, front=front, edge=edge.port(), **values))
    process = subprocess.Popen(["nginx", "-c", str(config), "-e", f"{tmp_path}/error.log"], stderr=subprocess.DEVNULL)
    try:

        def answer():
            done = subprocess.run(
                ["curl", "-s", "--noproxy", "*", f"http://127.0.0.1:{front}/[1-3]"], capture_output=True, text=True
            )
            return done.stdout if done.returncode == 0 else None

        with held_origin, held_front:
            eventually(answer, what="nginx's answer")  # or of its last try, while nginx began
            assert answer() == "nginx a.test TLSv1.2" * 3
    finally:
        process.terminate()
        process.wait(20)


def test_tls_that_passes_by_is_never_ours(proxy, origin, authority, pair):
    """By SNI to an endpoint that has the key, or terminated here: on one port. We have no key of the former."""
    theirs = TlsOrigin(authority.issue("DNS:theirs.test"))
    made = tls_listener("main", [to()], pair, chain={"filter_chain_match": {"server_names": ["a.test"]}})
    made["listener_filters"] = [
        {
            "name": "envoy.filters.listener.tls_inspector",
            "typed_config": {"@type": TYPE + "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"},
        }
    ]
    passing = {
        "name": "envoy.filters.network.tcp_proxy",
        "typed_config": {
            "@type": TYPE + "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
            "stat_prefix": "passing",
            "cluster": "theirs",
        },
    }
    made["filter_chains"].append({"filter_chain_match": {"server_names": ["theirs.test"]}, "filters": [passing]})
    edge = proxy([made], [cluster("origin", origin.port), cluster("theirs", theirs.port)])
    for name in ("theirs.test", "a.test"):
        with TlsClient(edge.port(), client_context(authority), name=name) as client:
            assert client.names()[0] == name
            assert client.ask("GET", "/").status == 200
    assert theirs.handshakes == [("theirs.test", False)]
    assert edge.stat("listener.127.0.0.1_0.ssl.handshake") == 1  # the other one
    theirs.close()
