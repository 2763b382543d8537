"""Clients that send the head of a request in pieces, and those that never send the rest. What such a connection
pins are its bytes: no coroutine, no stack, no block."""

import json
import socket

import pytest

from harness import cluster, direct, eventually, listener, to

ONE = ["--concurrency", "1"]
HALF = b"GET /half HTTP/1.1\r\nhost: a\r\nuser-agent: somebody who is slow\r\naccept: text/html\r\nx-more: abc"
REST = b"def\r\n\r\n"


def edge_of(proxy, routes=None, clusters=(), **hcm):
    return proxy([listener("edge", routes or [direct(200)], hcm=hcm)], clusters, flags=ONE)


def pinned(edge):
    """What clients that wait pin: coroutines with their stacks, blocks, and their heads."""
    seen = json.loads(edge.admin("/memory"))
    return {
        "coroutines": coroutines(edge),
        "blocks": sum(seen["blocks_in_use"]),
        "heads": int(seen["partial_heads"]["count"]),
        "bytes": int(seen["partial_heads"]["bytes"]),
    }


def coroutines(edge):
    return sum(value for name, value in edge.stats().items() if name.endswith(".coroutines"))


def connected(edge, count, data):
    clients = [edge.connect() for _ in range(count)]
    for client in clients:
        client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.send_bytes(data)
    return clients


def wait_for_bytes(edge, count):
    eventually(lambda: edge.stat("http.edge.downstream_cx_rx_bytes_total") >= count, what="the bytes")


def test_half_a_head_pins_its_bytes(proxy):
    edge = edge_of(proxy)
    with edge.connect() as first:  # what is made once, is made
        assert first.ask("GET", "/").status == 200
    edge.wait_for_stat("http.edge.downstream_cx_active", 0)
    before = pinned(edge)
    received = edge.stat("http.edge.downstream_cx_rx_bytes_total")
    clients = connected(edge, 300, HALF)
    wait_for_bytes(edge, received + 300 * len(HALF))
    eventually(lambda: pinned(edge)["coroutines"] == before["coroutines"], what="their coroutines' end")
    held = pinned(edge)
    assert held.pop("bytes") < 300 * (len(HALF) + 160)
    assert held == {"coroutines": before["coroutines"], "blocks": before["blocks"], "heads": 300}
    for client in clients:
        client.send_bytes(REST)
    for client in clients:
        assert client.read_reply().status == 200
        client.close()
    eventually(lambda: pinned(edge) == before, what="nothing pinned")


def test_large_heads_that_come_slowly_pin_their_bytes(proxy, origins):
    """50 KB of one field and then, one by one, some bytes more: a line that does not end is not looked at."""
    origin = origins()
    edge = edge_of(proxy, [to()], [cluster("origin", origin.port)])
    before = pinned(edge)
    head = b"GET / HTTP/1.1\r\nhost: a\r\nx-long: " + b"v" * 50_000
    clients = connected(edge, 40, head[:33])
    sent = 33
    for at in range(33, len(head), 5000):
        for client in clients:
            client.send_bytes(head[at : at + 5000])
        sent = min(at + 5000, len(head))
        wait_for_bytes(edge, len(clients) * sent)
    for _ in range(20):
        for client in clients:
            client.send_bytes(b"w")
        sent += 1
        wait_for_bytes(edge, len(clients) * sent)
    eventually(lambda: pinned(edge)["coroutines"] == before["coroutines"], what="their coroutines' end")
    held = pinned(edge)
    assert held.pop("bytes") <= len(clients) * (sent + sent // 8 + 80)
    assert held == {"coroutines": before["coroutines"], "blocks": before["blocks"], "heads": 40}
    for client in clients:
        client.send_bytes(b"\r\n\r\n")
        assert client.read_reply().status == 200
        assert origin.last().header("x-long") == "v" * 50_000 + "w" * 20
    assert clients[0].ask("GET", "/").status == 200
    for client in clients:
        client.close()


def test_every_cut_gives_the_same_request(proxy, origins):
    origin = origins()
    edge = edge_of(proxy, [to()], [cluster("origin", origin.port)])
    whole = b"\r\nGET /cut?a=b HTTP/1.1\r\nhost: a\r\nx-empty:\r\nx-name: value\r\ncontent-length: 2\r\n\r\nab"
    [client] = connected(edge, 1, b"")
    sent = 0
    for at in range(1, len(whole)):
        client.send_bytes(whole[:at])
        sent += at
        wait_for_bytes(edge, sent if at < len(whole) - 2 else sent - at)
        client.send_bytes(whole[at:])
        assert client.read_reply().status == 200
        sent += len(whole) - at
        request = origin.last()
        assert (request.path, request.header("x-name"), request.header("x-empty")) == ("/cut?a=b", "value", "")
        wait_for_bytes(edge, sent)


def test_hundreds_of_lines_one_by_one(proxy, origins):
    """More than we look at one by one; the last is seen all the same."""
    origin = origins()
    edge = edge_of(
        proxy, [to()], [cluster("origin", origin.port)], common_http_protocol_options={"max_headers_count": 400}
    )
    [client] = connected(edge, 1, b"GET / HTTP/1.1\r\nhost: a\r\n")
    sent = len(b"GET / HTTP/1.1\r\nhost: a\r\n")
    for number in range(300):
        line = b"x-%d: %d\r\n" % (number, number)
        client.send_bytes(line)
        sent += len(line)
        wait_for_bytes(edge, sent)
    client.send_bytes(b"\r\n")
    assert client.read_reply().status == 200
    assert [origin.last().header(f"x-{number}") for number in (0, 299)] == ["0", "299"]


def test_a_bad_line_is_told_of_before_the_head_is_over(proxy):
    edge = edge_of(proxy)
    [client] = connected(edge, 1, b"GET / HTTP/1.1\r\nhost")
    wait_for_bytes(edge, 20)
    client.send_bytes(b": a\r\nbad name: x\r\n")
    assert client.read_reply().status == 400


def test_a_head_above_the_limit_is_refused(proxy):
    edge = edge_of(proxy, max_request_headers_kb=8)
    begin = b"GET / HTTP/1.1\r\nhost: a\r\nx-long: "
    [client] = connected(edge, 1, begin)
    wait_for_bytes(edge, len(begin))
    client.send_bytes(b"v" * 9000)
    assert client.read_reply().status == 431


def test_the_time_for_a_head_is_not_prolonged_by_its_pieces(proxy):
    edge = edge_of(proxy, request_headers_timeout="1s")
    [client] = connected(edge, 1, HALF)
    client.sock.settimeout(0.05)
    reply = b""
    for _ in range(200):  # ten seconds: then it was prolonged
        try:
            client.send_bytes(b"v")
            reply += client.sock.recv(4096)
            break
        except TimeoutError:
            continue
    assert reply.startswith(b"HTTP/1.1 408 ")
    assert edge.stat("http.edge.downstream_rq_header_timeout") == 1


@pytest.mark.parametrize("last_word", [b"", b"d", b"def\r\n"])
def test_clients_that_leave_in_the_middle_leave_nothing(proxy, last_word):
    edge = edge_of(proxy)
    before = pinned(edge)
    clients = connected(edge, 50, HALF)
    wait_for_bytes(edge, 50 * len(HALF))
    for client in clients:
        client.send_bytes(last_word)
        client.close()
    edge.wait_for_stat("http.edge.downstream_cx_active", 0)
    assert edge.stat("http.edge.downstream_cx_destroy_remote") == 50
    eventually(lambda: pinned(edge) == before, what="nothing pinned")


def test_a_pipelined_half_waits_as_well(proxy):
    edge = edge_of(proxy)
    whole = HALF + REST
    [client] = connected(edge, 1, whole + whole + HALF)
    assert [client.read_reply().status for _ in range(2)] == [200, 200]
    wait_for_bytes(edge, 2 * len(whole) + len(HALF))
    client.send_bytes(REST + whole)
    assert [client.read_reply().status for _ in range(2)] == [200, 200]


def test_draining_lets_a_head_come_to_its_end(proxy):
    edge = edge_of(proxy)
    [client] = connected(edge, 1, HALF)
    wait_for_bytes(edge, len(HALF))
    edge.process.terminate()
    edge.wait_for_log("draining")
    client.send_bytes(REST)
    reply = client.read_reply()
    assert (reply.status, reply.header("connection")) == (200, "close")
    client.close()
    assert edge.process.wait(20) == 0
