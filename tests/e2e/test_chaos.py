"""Clients and origins that do at random what the other stories do one at a time. Whoever plays by the
rules gets the right answer or an honest error, and when all are gone nothing is held any more."""

import contextlib
import os
import random
import threading

import pytest

from harness import Gone, closed_port, cluster, direct, encode_chunk, eventually, listener, to
from test_admin import ask

CLIENTS, ROUNDS = 24, 40


def chunks_of(body, dice):
    while body:
        size = dice.randint(1, len(body))
        yield body[:size]
        body = body[size:]


class Moody:
    """An origin that echoes, unless it is in the mood for something else; its path says which dice."""

    def __init__(self):
        self.lock = threading.Lock()

    def answer(self, exchange):
        seed = exchange.request.path.rpartition("/")[2]
        dice = random.Random(f"origin {seed}")
        mood = dice.randrange(20)
        if mood == 0:
            exchange.reset()
        if mood == 1:
            raise Gone("left")
        if mood == 2:
            exchange.send(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\npart of it")
            exchange.reset()
        if mood == 3:
            exchange.send(b"garbage\r\n\r\n")
            raise Gone("said nonsense")
        if mood == 4:
            exchange.reply(413, b"early", [("connection", "close")])
            raise Gone("did not read")
        body = exchange.request.read_body()
        if mood < 10:
            exchange.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            for piece in chunks_of(body, dice):
                exchange.send(encode_chunk(piece))
            exchange.send(b"0\r\n\r\n")
        elif mood < 12:
            exchange.send(b"HTTP/1.1 200 OK\r\n\r\n" + body)
            raise Gone("that was the body's end")
        else:
            exchange.reply(200, body)


def one_request(client, path, body, dice):
    """Sends one; returns whether all of it was sent."""
    whole = dice.randrange(8) > 0
    if dice.randrange(2):
        client.send_head("POST", path, [("content-length", len(body))])
        client.send_bytes(body if whole else body[: len(body) // 2])
    else:
        client.send_head("POST", path, [("transfer-encoding", "chunked")])
        for piece in chunks_of(body, dice):
            client.send_chunk(piece)
        if whole:
            client.send_end()
    return whole


def one_client(edge, seed, wrong):
    dice = random.Random(seed)
    client = edge.connect("edge", timeout_s=60)
    for i in range(ROUNDS):
        path = f"/{dice.choice(['direct', 'up', 'up', 'up', 'refused'])}/{seed}.{i}"
        body = bytes([seed % 251]) * dice.choice([0, 1, 100, 10_000, 200_000])
        reply = None
        try:
            if one_request(client, path, body, dice) and dice.randrange(8):
                reply = client.read_reply()
        except (Gone, OSError, ValueError):
            reply = None  # cut, which an upstream's loss may mean
        if reply and reply.status == 200:
            expected = b"direct\n" if path.startswith("/direct") else body
            if reply.body != expected:
                wrong.append((path, len(reply.body), len(expected)))
        elif reply and reply.status not in (413, 502, 503):
            wrong.append((path, reply.status))
        if not reply or reply.header("connection") == "close":
            (client.abort if dice.randrange(2) else client.close)()
            client = edge.connect("edge", timeout_s=60)
    client.close()


def descriptors(edge):
    """How many are open, without files: those of debug data stay open once somebody has looked."""
    folder, count = f"/proc/{edge.process.pid}/fd", 0
    for name in os.listdir(folder):
        with contextlib.suppress(FileNotFoundError):  # closed this moment
            count += not os.readlink(f"{folder}/{name}").startswith("/")
    return count


@contextlib.contextmanager
def somebody_looks(edge):
    """CPU profiles and dumps without a pause: they read what coroutines do while that begins and ends."""
    stop, problems, count = threading.Event(), [], {}

    def look(path):
        while not stop.is_set():
            status, body = ask(edge, path, read=lambda reply: (reply.status, reply.read()), timeout_s=60)
            count[path] = count.get(path, 0) + 1
            if status != 200:
                problems.append((path, status, body))

    paths = ("/debug/pprof/profile?seconds=1", "/debug/pprof/goroutine?debug=2", "/debug/pprof/goroutine")
    threads = [threading.Thread(target=look, args=(path,)) for path in paths]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
    assert problems == []
    assert set(count) == set(paths)


@pytest.mark.parametrize("limit", [1000, 3])
@pytest.mark.parametrize("watched", [False, True], ids=["unseen", "watched"])
def test_chaos(proxy, origins, limit, watched):
    good, (held, dead) = origins(Moody().answer), closed_port()
    breakers = {"thresholds": [{"max_connections": limit, "max_pending_requests": 1000}]}
    clusters = [
        cluster("origin", good.port, circuit_breakers=breakers),
        cluster("dead", dead),
    ]
    routes = [direct(200, "direct\n", "/direct"), to("dead", "/refused"), to(timeout="60s")]
    edge = proxy([listener("edge", routes)], clusters, level="info")
    before = descriptors(edge)
    wrong = []
    clients = [threading.Thread(target=one_client, args=(edge, seed, wrong)) for seed in range(CLIENTS)]
    with held, somebody_looks(edge) if watched else contextlib.nullcontext():
        for client in clients:
            client.start()
        for client in clients:
            client.join(120)
            assert not client.is_alive()
    assert wrong == []
    good.close()  # and with it the idle connections of the pool
    assert edge.leaks() == {}
    edge.wait_for_stat("cluster.origin.upstream_cx_active", 0)
    eventually(lambda: descriptors(edge) <= before, what="descriptors given back")
