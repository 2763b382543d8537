"""First bytes of connections, made to order: ClientHellos and PROXY headers; and listeners whose filter chains say
who they are, to see which one got a connection."""

import json
import socket
import ssl
import struct

from harness import TYPE, address, direct, listener

FILTERS = TYPE + "envoy.extensions.filters.listener."
SNIFFER = TYPE + "sluice.extensions.filters.listener.sniffer.v1.Sniffer"
V2 = b"\r\n\r\n\0\r\nQUIT\n"
V4_PAIR = b"\x0a\1\2\3\x7f\0\0\1\0\x50\1\xbb"  # 10.1.2.3:80 to 127.0.0.1:443
V6_PAIR = bytes(15) + b"\1" + bytes(15) + b"\1" + b"\0\x50\1\xbb"
GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


# ---- what is sent -----------------------------------------------------------


def hello_of_python(name="a.test", protocols=()):
    """What Python's OpenSSL sends."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if protocols:
        context.set_alpn_protocols(list(protocols))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    end = context.wrap_bio(incoming, outgoing, server_hostname=name)
    try:
        end.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


def records(message, size=16384):
    """A handshake message in records of that size."""
    return b"".join(
        b"\x16\x03\x01" + struct.pack(">H", len(piece)) + piece
        for piece in (message[at : at + size] for at in range(0, len(message), size))
    )


def extension(kind, content):
    return struct.pack(">HH", kind, len(content)) + content


def server_name(name):
    entry = b"\0" + struct.pack(">H", len(name)) + name
    return extension(0, struct.pack(">H", len(entry)) + entry)


def hello(extensions=b"", *, version=0x303, ciphers=b"\x13\1\xc0\x2f", methods=b"\0", session=bytes(32)):
    """A ClientHello of just this."""
    body = struct.pack(">H", version) + bytes(32) + bytes([len(session)]) + session
    body += struct.pack(">H", len(ciphers)) + ciphers + bytes([len(methods)]) + methods
    body += struct.pack(">H", len(extensions)) + extensions
    return records(b"\x01" + struct.pack(">I", len(body))[1:] + body)


def proxy_v2(body=V4_PAIR, *, command=0x21, family=0x11, length=None):
    return V2 + bytes([command, family]) + struct.pack(">H", len(body) if length is None else length) + body


def tlv(kind, value):
    return struct.pack(">BH", kind, len(value)) + value


# ---- who gets it ------------------------------------------------------------


def listener_filter(kind, message, **options):
    return {
        "name": f"envoy.filters.listener.{kind}",
        "typed_config": {"@type": f"{FILTERS}{kind}.v3.{message}", **options},
    }


def tls_inspector(**options):
    return listener_filter("tls_inspector", "TlsInspector", **options)


def http_inspector():
    return listener_filter("http_inspector", "HttpInspector")


def proxy_protocol(**options):
    return listener_filter("proxy_protocol", "ProxyProtocol", **options)


def original_dst():
    return listener_filter("original_dst", "OriginalDst")


def sniffer(**options):
    return {"name": "sluice.filters.listener.sniffer", "typed_config": {"@type": SNIFFER, **options}}


def chain(name, match=None, *, log=None):
    """One whose answers, also to what is no HTTP, say its name."""
    said = json.dumps(
        {
            "remote": "%DOWNSTREAM_REMOTE_ADDRESS%",
            "direct": "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%",
            "local": "%DOWNSTREAM_LOCAL_ADDRESS%",
            "sni": "%REQUESTED_SERVER_NAME%",
            "tlv": "%DYNAMIC_METADATA(envoy.filters.listener.proxy_protocol:tlv)%",
            "other": "%DYNAMIC_METADATA(other:key)%",
            "failure": "%DYNAMIC_METADATA(envoy.filters.listener.tls_inspector:failure_reason)%",
        }
    )
    route = direct(200, name, response_headers_to_add=[{"header": {"key": "x-said", "value": said}}])
    # HTTP1: Envoy would answer a preface with frames, which do not say who they are from.
    hcm = {"server_name": name, "codec_type": "HTTP1", "access_log": [log] if log else []}
    made = listener(name, [route], hcm=hcm)["filter_chains"][0]
    return {"name": name, **made, **({"filter_chain_match": match} if match else {})}


def inspected(name, filters, chains, **more):
    return {
        "name": name,
        "address": address(0),
        "listener_filters": filters,
        "filter_chains": chains,
        **more,
    }


class Answer:
    """The name of the chain, or "closed"; and what it said of the connection."""

    def __init__(self, data):
        head = data.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
        fields = dict(line.split(": ", 1) for line in head[1:])
        self.chain = fields.get("server", "closed")
        self.said = json.loads(fields.get("x-said", "{}"))


def ask(port, *pieces, host="127.0.0.1", half_close=False, timeout_s=20):
    """Sends the pieces, each with a system call, so mostly a packet, of its own, and reads one answer."""
    with socket.create_connection((host, port), timeout=timeout_s) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        data = b""
        try:
            for piece in pieces:
                sock.sendall(piece)
            if half_close:
                sock.shutdown(socket.SHUT_WR)
            while b"\r\n\r\n" not in data:
                got = sock.recv(65536)
                if not got:
                    break
                data += got
        except (ConnectionResetError, BrokenPipeError):
            pass
        return Answer(data)


def byte_by_byte(data):
    return [data[at : at + 1] for at in range(len(data))]
