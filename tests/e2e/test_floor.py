"""What a small request may cost at least and at most, in numbers that do not depend on the machine: system calls,
allocations. The counters are Sluice's own (docs/runtime-trace.md)."""

import signal
import socket

import pytest
from harness import cluster, listener, to
from test_heap_profile import EVERY, heap, needs_malloc

ONE = ["--concurrency", "1"]
CONNECTIONS = 64
ROUNDS = 10
REQUESTS = CONNECTIONS * ROUNDS
REQUEST = b"GET /small HTTP/1.1\r\nhost: edge.example\r\naccept: */*\r\n\r\n"
REPLY = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 5\r\n\r\nsmall"


class Rounds:
    """Clients that all have a request on its way at the same time, and the origin, in one thread: in each round
    the proxy finds all requests there at once, and then all replies, because it is stopped meanwhile. So what it
    does does not depend on who is how fast."""

    def __init__(self, proxy, **options):
        self.server = socket.create_server(("127.0.0.1", 0), backlog=CONNECTIONS)
        self.edge = proxy(
            [listener("edge", [to()], **options)],
            [cluster("origin", self.server.getsockname()[1])],
            level="info",
            flags=[*ONE, *EVERY],
        )
        self.clients, self.upstreams = [], []
        for _ in range(CONNECTIONS):
            client = self.edge.connect()
            client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.clients.append(client)
        for client in self.clients:
            client.sock.sendall(REQUEST)
        for _ in range(CONNECTIONS):
            sock, _ = self.server.accept()
            sock.settimeout(30)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.upstreams.append(sock)
        self._answer()
        self.run(3)  # pools are filled, and all that is made once is made

    def _answer(self):
        for upstream in self.upstreams:
            data = b""
            while not data.endswith(b"\r\n\r\n"):
                data += upstream.recv(65536)
        self._stopped(lambda: [upstream.sendall(REPLY) for upstream in self.upstreams])
        for client in self.clients:
            reply = client.read_reply()
            assert (reply.status, reply.body) == (200, b"small")

    def _stopped(self, do):
        self.edge.process.send_signal(signal.SIGSTOP)
        try:
            do()
        finally:
            self.edge.process.send_signal(signal.SIGCONT)

    def run(self, rounds=ROUNDS):
        for _ in range(rounds):
            self._stopped(lambda: [client.sock.sendall(REQUEST) for client in self.clients])
            self._answer()

    def io(self):
        prefix = "server.io."
        return {key[len(prefix) :]: value for key, value in self.edge.stats().items() if key.startswith(prefix)}

    def close(self):
        for one in [*self.clients, *self.upstreams, self.server]:
            one.close()


@pytest.fixture
def rounds(proxy):
    made = Rounds(proxy)
    yield made
    made.close()


def test_a_small_request_is_two_receives_and_two_sends(rounds):
    """One of each on either side; no call that finds nothing; nothing opened, closed or registered. What is
    above that is the question for the numbers itself, and the poller's."""
    before = rounds.io()
    rounds.run()
    after = rounds.io()
    per_request = {key: (after[key] - before[key]) / REQUESTS for key in after}

    assert 2 <= per_request["recv_calls"] <= 2.05, per_request
    assert 2 <= per_request["send_calls"] <= 2.05, per_request
    assert per_request["wait_calls"] <= 1, per_request
    assert per_request["ring_calls"] <= 2 * per_request["wait_calls"] + 0.05, per_request
    for never in ("recv_again", "send_again", "send_partial", "errors", "splice_calls"):
        assert after[never] - before[never] <= 2, (never, per_request)
    for once in ("accept_calls", "connect_calls", "watch_calls", "close_calls", "shutdown_calls"):
        assert after[once] - before[once] <= 6, (once, per_request)  # our two questions


@needs_malloc
def test_a_small_request_allocates_nothing(rounds, tmp_path):
    """Blocks, pooled objects and stacks go round; malloc is not asked at all."""

    def allocations(name):
        profile = heap(rounds.edge, tmp_path / name, kind="allocs")
        ignored = "block_get|pool_get|stack_get|recycler|admin|Page"
        top = profile.top("-sample_index=alloc_objects", f"-ignore={ignored}")
        return {function: flat for function, (flat, _) in top.items() if flat}

    before = allocations("before")
    rounds.run()
    after = allocations("after")
    new = {key: count - before.get(key, 0) for key, count in after.items()}
    assert sum(new.values()) < REQUESTS / 10, {key: n for key, n in new.items() if n}
