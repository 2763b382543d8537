"""What becomes of heads on their way: how often their bytes are copied, and that none is mixed up with another
one when a client takes it in parts."""

import socket

from harness import cluster, direct, encode_head, listener, to

ONE = ["--concurrency", "1"]
REQUESTS = 100
ASKING = 2048  # what the heads of our own questions to the admin may come to, at most
LARGE = [(f"x-field-{i:03}", "v" * 100) for i in range(70)]  # 8 KiB


def head_bytes(first, fields):
    return len(encode_head(first, fields))


def heads(request, reply):
    """The bytes of the two heads that the proxy wrote."""
    sent = head_bytes(f"{request.method} {request.path} HTTP/1.1", request.headers)
    return sent + head_bytes("HTTP/1.1 200 OK", reply.headers)


def copied_by(edge, exchange):
    """Bytes copied into heads by REQUESTS exchanges on one connection."""
    with edge.connect() as client:
        exchange(client)
        before = edge.stat("server.io.head_copied_bytes")
        for _ in range(REQUESTS):
            reply = exchange(client)
        return reply, edge.stat("server.io.head_copied_bytes") - before


def test_a_small_head_is_copied_once(proxy, origin):
    origin.answer = lambda exchange: exchange.reply(200, b"x", [("Server", "o"), ("X-Kept", "1")])
    edge = proxy([listener("edge", [to()])], [cluster("origin", origin.port)], flags=ONE)
    reply, copied = copied_by(edge, lambda client: client.ask("GET", "/a", headers=[("X-Kept", "2")]))
    bytes_out = heads(origin.last(), reply)
    digits = 3 * REQUESTS  # the upstream's service time takes one more in one reply than in another
    assert bytes_out * REQUESTS - digits <= copied <= bytes_out * REQUESTS + digits + ASKING


def test_of_a_large_head_only_what_changes_is_copied(proxy, origin):
    """8 KiB of fields that nobody touches, in both directions: they go out from where they were read to."""
    origin.answer = lambda exchange: exchange.reply(200, b"x", LARGE)
    edge = proxy([listener("edge", [to()])], [cluster("origin", origin.port)], flags=ONE)
    path = "/" + "p" * 1000
    reply, copied = copied_by(edge, lambda client: client.ask("GET", path, headers=LARGE))
    request = origin.last()
    assert [field for field in request.headers if field in LARGE] == LARGE
    assert [field for field in reply.headers if field in LARGE] == LARGE
    kept = sum(len(name) + len(value) + 4 for name, value in LARGE) * 2
    changed = heads(request, reply) - kept - len(path)
    assert copied <= (changed + 3) * REQUESTS + ASKING


def test_a_head_that_is_taken_in_parts_stays_whole(proxy):
    """A client that pipelines and does not read: in the end the kernel takes a part of a head only, since it takes a
    segment (64 KiB here) or nothing, and a head of more has an end of one within. While the rest waits, heads of
    others are made. In the end everything is there."""
    copies = [f"x-copy-{n}" for n in range(4)]
    echo = [
        {"append_action": "OVERWRITE_IF_EXISTS_OR_ADD", "header": {"key": name, "value": "%REQ(x-n)%"}}
        for name in copies
    ]
    edge = proxy([listener("edge", [direct(200, "ok\n", "/", response_headers_to_add=echo)])], flags=ONE)
    count, answered = 1000, 0

    def value(n):
        return f"{n:06}" + "-" * (20000 + n * 7 % 800)

    with edge.connect() as slow, edge.connect() as other:
        slow.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        sent = b"".join(encode_head("GET / HTTP/1.1", [("host", "a.test"), ("x-n", value(n))]) for n in range(count))
        at = 0
        slow.sock.setblocking(False)
        while at < len(sent):  # until neither side takes more
            try:
                at += slow.sock.send(sent[at : at + 65536])
                answered = 0
            except BlockingIOError:
                reply = other.ask("GET", "/", headers=[("x-n", "other" * 160)])
                assert [dict(reply.headers)[name] for name in copies] == ["other" * 160] * 4
                answered += 1
                if answered == 50:
                    break
        slow.sock.settimeout(30)
        whole = sent[:at].count(b"\r\n\r\n")
        assert whole < count, "the proxy took all: nothing ever had to wait"
        for n in range(whole):
            reply = slow.read_reply()
            assert [dict(reply.headers)[name] for name in copies] == [value(n)] * 4
            assert reply.body == b"ok\n"
        assert edge.stat("server.io.send_partial") >= 1
