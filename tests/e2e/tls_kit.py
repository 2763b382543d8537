"""Certificates, and clients and origins that speak TLS, for end-to-end tests. Python's ssl is OpenSSL as ours is; other
people's TLS is in test_tls_peers.py."""

import pathlib
import socket
import ssl
import subprocess
import tempfile
import threading

from harness import TYPE, Client, Origin, listener

TLS = TYPE + "envoy.extensions.transport_sockets.tls.v3."


def openssl(*args, text=None):
    done = subprocess.run(["openssl", *map(str, args)], input=text, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


class Pair:
    """A certificate and its key, as files."""

    def __init__(self, chain, key):
        self.chain, self.key = pathlib.Path(chain), pathlib.Path(key)

    def config(self, **more):
        """As tls_certificates has it."""
        return {
            "certificate_chain": {"filename": str(self.chain)},
            "private_key": {"filename": str(self.key)},
            **more,
        }

    def sha256(self):
        return openssl("x509", "-in", self.chain, "-noout", "-fingerprint", "-sha256").split("=")[1].strip()


class Authority:
    """An authority of our own, and what it issues: elliptic keys, since they are made in no time."""

    def __init__(self, name="test authority"):
        self.folder = tempfile.TemporaryDirectory(prefix="sluice-tls-")
        self.path = pathlib.Path(self.folder.name)
        self.serial = 0
        self.ca = self._make("ca", f"/CN={name}", ["basicConstraints=critical,CA:true"])

    def _make(self, file, subject, extensions, signed_by=(), days=30, more=()):
        chain, key = self.path / f"{file}.pem", self.path / f"{file}.key"
        extra = [part for text in extensions for part in ("-addext", text)]
        openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-subj", subject, "-days", days, "-keyout", key, "-out", chain),
            *extra,
            *signed_by,
            *more,
        )
        return Pair(chain, key)

    def issue(self, *sans, subject="/CN=leaf", file=None, days=30, more=()):
        """sans are as OpenSSL writes them: "DNS:a.test", "URI:spiffe://x"."""
        self.serial += 1
        names = [f"subjectAltName={','.join(sans)}"] if sans else []
        signed_by = ["-CA", self.ca.chain, "-CAkey", self.ca.key]
        return self._make(file or f"leaf{self.serial}", subject, names, signed_by, days=days, more=more)

    def issue_expired(self, *sans):
        """One whose time was a month of 2020. Only `openssl ca` signs for times of the caller's choice."""
        request, config = self.path / "expired.csr", self.path / "expired.cnf"
        pair = Pair(self.path / "expired.pem", self.path / "expired.key")
        openssl(
            *("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-subj", "/CN=expired", "-addext", f"subjectAltName={','.join(sans)}"),
            *("-keyout", pair.key, "-out", request),
        )
        (self.path / "index.txt").write_text("")
        config.write_text(
            f"[ca]\ndefault_ca=d\n[d]\ndatabase={self.path}/index.txt\n"
            f"new_certs_dir={self.path}\ndefault_md=sha256\npolicy=p\nrand_serial=yes\n"
            "copy_extensions=copy\n[p]\ncommonName=supplied\n"
        )
        openssl(
            *("ca", "-batch", "-notext", "-config", config, "-in", request, "-out", pair.chain),
            *("-cert", self.ca.chain, "-keyfile", self.ca.key),
            *("-startdate", "20200101000000Z", "-enddate", "20200201000000Z"),
        )
        return pair

    def trusted(self, **more):
        """As validation_context."""
        return {"trusted_ca": {"filename": str(self.ca.chain)}, **more}


def transport(common, kind="DownstreamTlsContext", **more):
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {"@type": TLS + kind, "common_tls_context": common, **more},
    }


def upstream_transport(common=None, **more):
    return transport(common or {}, "UpstreamTlsContext", **more)


def tls_listener(name, routes, *pairs, common=None, tls=None, chain=None, **more):
    """listener() with TLS that shows these pairs."""
    made = listener(name, routes, **more)
    certificates = [pair.config() for pair in pairs]
    made["filter_chains"][0]["transport_socket"] = transport(
        {"tls_certificates": certificates, **(common or {})}, **(tls or {})
    )
    made["filter_chains"][0].update(chain or {})
    return made


def client_context(authority=None, pair=None, *, version=None, alpn=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if authority:
        context.load_verify_locations(authority.ca.chain)
    else:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if pair:
        context.load_cert_chain(pair.chain, pair.key)
    if version:
        context.minimum_version = context.maximum_version = version
    if alpn:
        context.set_alpn_protocols(alpn)
    return context


class TlsClient(Client):
    """One connection over TLS. What goes wrong in a handshake is ssl.SSLError or OSError."""

    def __init__(self, port, context, *, name="a.test", session=None):
        super().__init__(port)
        self.reader.file.close()
        try:
            self.sock = context.wrap_socket(self.sock, server_hostname=name, session=session)
        except BaseException:
            self.sock.close()
            raise
        self.reader = type(self.reader)(self.sock)

    def names(self):
        """The DNS names of the certificate that was shown. The context must verify."""
        return [name for kind, name in self.sock.getpeercert()["subjectAltName"] if kind == "DNS"]


class TlsOrigin(Origin):
    """An origin over TLS. What each handshake came to is in `handshakes`: the server name that was asked for and
    whether it resumed a session, or the error."""

    def __init__(self, pair, answer=None, *, authority=None, version=None):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(pair.chain, pair.key)
        if authority:
            self.context.load_verify_locations(authority.ca.chain)
            self.context.verify_mode = ssl.CERT_REQUIRED
        if version:
            self.context.minimum_version = self.context.maximum_version = version
        self._asked = threading.local()
        self.context.sni_callback = self._note_name
        self.handshakes, self.certificates = [], []
        super().__init__(answer)

    def _note_name(self, _, name, __):
        self._asked.name = name

    def _serve(self, sock):
        self._asked.name = None
        try:
            secured = self.context.wrap_socket(sock, server_side=True)
        except OSError as error:
            self.handshakes.append(error)
            sock.close()
            with self._lock:
                self.open -= 1
                self._sockets.discard(sock)
            return
        self.certificates.append(secured.getpeercert())
        self.handshakes.append((self._asked.name, secured.session_reused))
        with self._lock:
            self._sockets.discard(sock)
            self._sockets.add(secured)
        super()._serve(secured)


def end_wire(sock):
    """Ends what this side sends without close_notify. SSLSocket.shutdown would also forget all about TLS."""
    socket.socket.shutdown(sock, socket.SHUT_WR)


def plain_connection(port):
    return socket.create_connection(("127.0.0.1", port), timeout=20)
