"""Listeners of network filters, and both ends of a TCP connection through a proxy."""

import hashlib
import socket
import struct
import threading

from harness import TYPE, address

NETWORK = TYPE + "envoy.extensions.filters.network."
TYPES = {
    "tcp_proxy": "tcp_proxy.v3.TcpProxy",
    "sni_cluster": "sni_cluster.v3.SniCluster",
    "connection_limit": "connection_limit.v3.ConnectionLimit",
    "local_ratelimit": "local_ratelimit.v3.LocalRateLimit",
    "echo": "echo.v3.Echo",
    "direct_response": "direct_response.v3.Config",
}


def network_filter(kind, **config):
    return {
        "name": f"envoy.filters.network.{kind}",
        "typed_config": {"@type": NETWORK + TYPES[kind], **config},
    }


def tcp_proxy(cluster="origin", prefix=None, **config):
    if cluster:
        config["cluster"] = cluster
    return network_filter("tcp_proxy", stat_prefix=prefix or cluster or "tcp", **config)


def tcp_listener(name, *filters, chain=None, **more):
    return {
        "name": name,
        "address": address(0),
        "filter_chains": [{"filters": list(filters), **(chain or {})}],
        **more,
    }


def tcp_edge(name, cluster="origin", **config):
    """A listener that is a TCP proxy and nothing else; its statistics are tcp.NAME."""
    return tcp_listener(name, tcp_proxy(cluster, name, **config))


class Upstream:
    """A listening socket; the test itself is the server."""

    def __init__(self):
        self.listening = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.listening.settimeout(20)
        self.port = self.listening.getsockname()[1]

    def accept(self):
        sock, _ = self.listening.accept()
        sock.settimeout(20)
        return sock

    def close(self):
        self.listening.close()


def connect(edge, name=None):
    return socket.create_connection(("127.0.0.1", edge.port(name)), timeout=20)


def through(edge, upstream, name=None):
    """Both ends: the client's socket and the upstream's."""
    client = connect(edge, name)
    return client, upstream.accept()


def receive(sock, size):
    """Exactly so many bytes."""
    got = bytearray()
    while len(got) < size:
        piece = sock.recv(size - len(got))
        assert piece, f"it ended after {len(got)} of {size} bytes"
        got += piece
    return bytes(got)


def to_the_end(sock):
    got = bytearray()
    while piece := sock.recv(65536):
        got += piece
    return bytes(got)


def reset(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def is_reset(sock):
    """Reads until it ends, and says how."""
    try:
        while sock.recv(65536):
            pass
    except ConnectionResetError:
        return True
    return False


def pieces(seed, size):
    """Bytes that differ from place to place, in pieces that differ in size."""
    block = hashlib.shake_128(seed.encode()).digest(1 << 16)
    at, step = 0, 1
    while at < size:
        step = step * 7 % 65521
        piece = block[: min(step, size - at)]
        yield piece
        at += len(piece)


class Sender(threading.Thread):
    """Sends pieces(seed, size), then its end."""

    def __init__(self, sock, seed, size, *, ends=True):
        super().__init__(daemon=True)
        self.sock, self.seed, self.size, self.ends = sock, seed, size, ends
        self.error = None
        self.start()

    def run(self):
        try:
            for piece in pieces(self.seed, self.size):
                self.sock.sendall(piece)
            if self.ends:
                self.sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            self.error = error


class Receiver(threading.Thread):
    """Receives to the end, or so many bytes; `digest` tells what."""

    def __init__(self, sock, size=None):
        super().__init__(daemon=True)
        self.sock, self.wanted = sock, size
        self.hash = hashlib.sha256()
        self.size = 0
        self.error = None
        self.start()

    def run(self):
        try:
            while self.size != self.wanted and (piece := self.sock.recv(1 << 18)):
                self.hash.update(piece)
                self.size += len(piece)
        except OSError as error:
            self.error = error

    def digest(self):
        self.join(60)
        assert not self.is_alive()
        assert self.error is None, self.error
        return self.hash.hexdigest()


def digest_of(seed, size):
    hashed = hashlib.sha256()
    for piece in pieces(seed, size):
        hashed.update(piece)
    return hashed.hexdigest()
