"""Bodies pass through whole, in constant memory, whatever their size and pace."""

import hashlib

import pytest

from harness import cluster, listener, to


@pytest.mark.parametrize("size", [0, 1, 128, 16_383, 16_384, 65_537, 1_000_000])
def test_a_body_reaches_the_origin_and_comes_back(proxy, origin, size):
    edge = proxy([listener("edge", [to()])], [cluster("origin", origin.port)])
    body = bytes(i * 7 % 251 for i in range(size))
    with edge.connect() as client:
        for _ in range(2):  # the second one on the same, pooled, connections
            reply = client.ask("POST", "/", body=body)
            assert reply.status == 200
            assert hashlib.sha256(reply.body).digest() == hashlib.sha256(body).digest()
    assert origin.connections == 1


def test_a_chunked_body_stays_chunked(proxy, origin):
    edge = proxy([listener("edge", [to()])], [cluster("origin", origin.port)])
    with edge.connect() as client:
        reply = client.ask("POST", "/", body=[b"one", b"two", b"three"])
    assert reply.status == 200
    assert reply.body == b"onetwothree"
    assert origin.last().header("transfer-encoding") == "chunked"
