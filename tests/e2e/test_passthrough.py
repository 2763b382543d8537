"""Connections passed through by what their first bytes say: TLS by the name that the client asks for, never opened on
the way."""

import socket
import ssl
import subprocess
import threading

import pytest

from first_bytes import inspected, sniffer, tls_inspector
from harness import cluster
from tcp_support import Upstream, connect, receive, tcp_proxy


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
