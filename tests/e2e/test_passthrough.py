"""Connections passed through by what their first bytes say, and what is told to the next hop: TLS by the name that the
client asks for, never opened on the way; PROXY headers that come in and go out."""

import socket
import ssl
import struct
import subprocess
import threading

import pytest

from first_bytes import V2, V4_PAIR, V6_PAIR, inspected, proxy_protocol, proxy_v2, sniffer, tls_inspector, tlv
from harness import TYPE, cluster
from tcp_support import Upstream, connect, receive, tcp_proxy

V1 = b"PROXY TCP4 10.1.2.3 127.0.0.1 80 443\r\n"
TRANSPORT = TYPE + "envoy.extensions.transport_sockets."
RAW = {"name": "raw", "typed_config": {"@type": TRANSPORT + "raw_buffer.v3.RawBuffer"}}


# ---- TLS by name ------------------------------------------------------------


class TlsServer:
    """Says its name over TLS, with a certificate of that name."""

    def __init__(self, folder, name):
        self.name, self.cert = name, folder / f"{name}.pem"
        key = folder / f"{name}.key"
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        command += ["-keyout", key, "-out", self.cert, "-days", "2", "-subj", f"/CN={name}"]
        subprocess.run([*command, "-addext", f"subjectAltName=DNS:{name}"], check=True, capture_output=True, timeout=60)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(self.cert, key)
        self.context.set_alpn_protocols(["h2", "http/1.1"])
        self.upstream = Upstream()
        self.port = self.upstream.port
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                sock = self.upstream.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            try:
                with self.context.wrap_socket(sock, server_side=True) as end:
                    end.sendall(f"{self.name} {end.selected_alpn_protocol()} {end.recv(100).decode()}".encode())
            except OSError:
                pass

    def close(self):
        self.upstream.close()


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    made = [TlsServer(folder, name) for name in ("one.test", "two.test")]
    yield made
    for one in made:
        one.close()


def speak(port, server, *, name=None, protocols=(), say=b"hello"):
    """A client that trusts that server's certificate, for that name, and nobody else's."""
    context = ssl.create_default_context(cafile=server.cert)
    if protocols:
        context.set_alpn_protocols(protocols)
    with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
        with context.wrap_socket(sock, server_hostname=name or server.name) as end:
            end.sendall(say)
            return end.recv(100).decode()


@pytest.mark.parametrize("filters", [[tls_inspector()], [sniffer()]], ids=["tls_inspector", "sniffer"])
def test_tls_goes_to_the_host_that_it_is_for(proxy, servers, filters):
    one, two = servers

    def to(name, *hosts):
        match = {"transport_protocol": "tls", "server_names": list(hosts)} if hosts else {}
        return {"name": name, "filter_chain_match": match, "filters": [tcp_proxy(name)]}

    plain = Upstream()
    edge = proxy(
        [inspected("edge", filters, [to("one", "one.test"), to("two", "*.two.test", "two.test"), to("plain")])],
        [cluster("one", one.port), cluster("two", two.port), cluster("plain", plain.port)],
    )
    assert speak(edge.port(), one) == "one.test None hello"
    assert speak(edge.port(), two, protocols=["http/1.1"]) == "two.test http/1.1 hello"
    with pytest.raises(ssl.SSLCertVerificationError):  # its name goes to the other one's server
        speak(edge.port(), one, name="two.test")
    with connect(edge) as client:
        client.sendall(b"neither\n")
        with plain.accept() as upstream:
            assert receive(upstream, 8) == b"neither\n"
            upstream.sendall(b"plain")
            assert receive(client, 5) == b"plain"
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{edge.port()}", "-servername", "one.test"]
    command += ["-CAfile", str(one.cert), "-verify_hostname", "one.test", "-verify_return_error", "-quiet"]
    done = subprocess.run(command, input=b"s_client", capture_output=True, timeout=60, check=False)
    assert done.stdout == b"one.test None s_client"
    plain.close()


# ---- PROXY headers in and out -----------------------------------------------


def telling(port, version, *, name, tlvs=None, added=()):
    config = {"version": version}
    if tlvs is not None:
        config["pass_through_tlvs"] = {"match_type": "INCLUDE", "tlv_type": tlvs} if tlvs else {}
    if added:
        config["added_tlvs"] = list(added)
    transport = {
        "@type": TRANSPORT + "proxy_protocol.v3.ProxyProtocolUpstreamTransport",
        "config": config,
        "transport_socket": RAW,
    }
    return cluster(name, port, transport_socket={"name": "told", "typed_config": transport})


def accepting(name, **options):
    kept = {"pass_through_tlvs": {"match_type": "INCLUDE", "tlv_type": [0xE1, 0xE2]}}
    return inspected(name, [proxy_protocol(**kept, **options)], [{"name": name, "filters": [tcp_proxy(name)]}])


def relay(edge, upstream, listener, sent, size):
    """What the upstream gets of it: the header, and the five bytes behind."""
    with connect(edge, listener) as client:
        client.sendall(sent + b"hello")
        with upstream.accept() as end:
            got = receive(end, size + 5)
            assert got[-5:] == b"hello"
            end.sendall(b"heard")
            assert receive(client, 5) == b"heard"
            return got[:-5]


def test_what_a_header_says_is_said_on(proxy):
    upstream = Upstream()
    edge = proxy(
        [accepting("v1"), accepting("v2"), accepting("some")],
        [
            telling(upstream.port, "V1", name="v1"),
            telling(upstream.port, "V2", name="v2", tlvs=[]),
            telling(upstream.port, "V2", name="some", tlvs=[0xE2], added=[{"type": 0xE5, "value": "YWRkZWQ="}]),
        ],
    )
    tlvs = tlv(0xE0, b"not kept") + tlv(0xE1, b"one") + tlv(0xE2, b"two") + tlv(0xE1, b"")
    with_tlvs = proxy_v2(V4_PAIR + tlvs)
    for header in (V1, proxy_v2(), with_tlvs):
        assert relay(edge, upstream, "v1", header, len(V1)) == V1
    assert relay(edge, upstream, "v2", V1, 28) == proxy_v2()
    assert relay(edge, upstream, "v2", proxy_v2(V6_PAIR, family=0x21), 52) == proxy_v2(V6_PAIR, family=0x21)
    kept = tlv(0xE1, b"one") + tlv(0xE2, b"two") + tlv(0xE1, b"")
    assert relay(edge, upstream, "v2", with_tlvs, 28 + len(kept)) == proxy_v2(V4_PAIR + kept)
    some = tlv(0xE5, b"added") + tlv(0xE2, b"two")
    assert relay(edge, upstream, "some", with_tlvs, 28 + len(some)) == proxy_v2(V4_PAIR + some)
    large = tlv(0xE1, bytes(30000)) + tlv(0xE2, bytes(30000))
    assert relay(edge, upstream, "v2", proxy_v2(V4_PAIR + large), 28 + len(large)) == proxy_v2(V4_PAIR + large)
    upstream.close()


def test_without_one_the_connection_itself_is_told_of(proxy):
    upstream = Upstream()
    edge = proxy(
        [accepting("v2", allow_requests_without_proxy_protocol=True)],
        [telling(upstream.port, "V2", name="v2", tlvs=[])],
    )
    with connect(edge) as client:
        client.sendall(b"hello")
        with upstream.accept() as end:
            got = receive(end, 28 + 5)
        ports = struct.pack(">HH", client.getsockname()[1], edge.port())
    assert got == V2 + b"\x21\x11\0\x0c" + socket.inet_aton("127.0.0.1") * 2 + ports + b"hello"
    upstream.close()
