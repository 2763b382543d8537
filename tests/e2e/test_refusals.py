"""What is no request gets exactly one answer and then the connection's end, and nothing of it
reaches an origin: neither itself nor what follows, which somebody may have meant to smuggle."""

import socket

import pytest
from harness import LogFile, Origin, cluster, eventually, listener, to

HOST = b"Host: a.test\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n"
LOG_TEXT = "%REQ(:PATH)% %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%"

HEADS = {
    "length-and-chunked": (
        400,
        b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    "chunked-and-length": (
        400,
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\n",
    ),
    "two-lengths": (
        400,
        b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nContent-Length: 0\r\n\r\nabcde",
    ),
    "two-equal-lengths": (
        400,
        b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nabcde",
    ),
    "length-list": (400, b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5, 5\r\n\r\nabcde"),
    "length-signed": (400, b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: +5\r\n\r\nabcde"),
    "length-negative": (400, b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: -5\r\n\r\nabcde"),
    "length-hex": (400, b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 0x5\r\n\r\nabcde"),
    "length-empty": (400, b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: \r\n\r\n"),
    "length-huge": (
        400,
        b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 18446744073709551617\r\n\r\na",
    ),
    "chunked-not-last": (
        501,
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    ),
    "chunked-twice": (
        501,
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    ),
    "chunked-in-two-lines": (
        501,
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    ),
    "chunked-misspelt": (
        501,
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    ),
    "chunked-vtab": (
        400,
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    ),
    "chunked-in-http-10": (
        400,
        b"POST / HTTP/1.0\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    "name-with-blank": (
        400,
        b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length : 5\r\n\r\nabcde",
    ),
    "name-empty": (400, b"GET / HTTP/1.1\r\n" + HOST + b": x\r\n\r\n"),
    "name-odd": (400, b"GET / HTTP/1.1\r\n" + HOST + b"x(y): z\r\n\r\n"),
    "no-colon": (400, b"GET / HTTP/1.1\r\n" + HOST + b"nothing here\r\n\r\n"),
    "folded": (400, b"GET / HTTP/1.1\r\n" + HOST + b"x: a\r\n b\r\n\r\n"),
    "folded-first": (400, b"GET / HTTP/1.1\r\n x: a\r\n" + HOST + b"\r\n"),
    "bare-lf": (400, b"GET / HTTP/1.1\n" + HOST + b"\r\n"),
    "bare-lf-in-fields": (400, b"GET / HTTP/1.1\r\n" + HOST + b"x: a\ny: b\r\n\r\n"),
    "bare-lf-at-the-end": (400, b"GET / HTTP/1.1\r\n" + HOST + b"\n"),
    "bare-cr": (400, b"GET / HTTP/1.1\r\n" + HOST + b"x: a\ry: b\r\n\r\n"),
    "nul": (400, b"GET / HTTP/1.1\r\n" + HOST + b"x: a\0b\r\n\r\n"),
    "no-host": (400, b"GET / HTTP/1.1\r\n\r\n"),
    "two-hosts": (400, b"GET / HTTP/1.1\r\n" + HOST + b"Host: b.test\r\n\r\n"),
    "host-with-path": (400, b"GET / HTTP/1.1\r\nHost: a.test/x\r\n\r\n"),
    "version-2": (505, b"GET / HTTP/2.0\r\n" + HOST + b"\r\n"),
    "http2-preface": (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "no-version": (400, b"GET /\r\n" + HOST + b"\r\n"),
    "two-blanks": (400, b"GET  / HTTP/1.1\r\n" + HOST + b"\r\n"),
    "blank-in-target": (400, b"GET /a b HTTP/1.1\r\n" + HOST + b"\r\n"),
    "fragment": (400, b"GET /a#b HTTP/1.1\r\n" + HOST + b"\r\n"),
    "tls": (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\r\n" * 10),
    "long-target": (414, b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n"),
    "long-field": (431, b"GET / HTTP/1.1\r\n" + HOST + b"x: " + b"a" * 70_000 + b"\r\n\r\n"),
    "endless-target": (414, b"GET /" + b"a" * 200_000),
    "many-fields": (431, b"GET / HTTP/1.1\r\n" + HOST + b"x: y\r\n" * 101 + b"\r\n"),
    "large-sum": (
        431,
        b"GET / HTTP/1.1\r\n" + HOST + (b"x: " + b"a" * 997 + b"\r\n") * 70 + b"\r\n",
    ),
}

BODIES = {
    "size-missing": b"\r\nabc\r\n0\r\n\r\n",
    "size-not-hex": b"g\r\nabc\r\n0\r\n\r\n",
    "size-prefixed": b"0x3\r\nabc\r\n0\r\n\r\n",
    "size-signed": b"+3\r\nabc\r\n0\r\n\r\n",
    "size-negative": b"-3\r\nabc\r\n0\r\n\r\n",
    "size-overflow": b"ffffffffffffffff3\r\nabc\r\n0\r\n\r\n",
    "size-2^63": b"8000000000000000\r\nabc\r\n0\r\n\r\n",
    "size-blank": b"3 \r\nabc\r\n0\r\n\r\n",
    "size-bare-lf": b"3\nabc\r\n0\r\n\r\n",
    "size-bare-cr": b"3\rabc\r\n0\r\n\r\n",
    "data-too-long": b"3\r\nabcd\r\n0\r\n\r\n",
    "data-bare-lf": b"3\r\nabc\n0\r\n\r\n",
    "data-no-end": b"3\r\nabc0\r\n\r\n",
    "extension-bad": b"3;\x01\r\nabc\r\n0\r\n\r\n",
    "extension-bare-lf": b"3;a=b\nabc\r\n0\r\n\r\n",
    "extension-endless": b"3;" + b"a" * 100_000 + b"\r\nabc\r\n0\r\n\r\n",
    "trailer-bad": b"3\r\nabc\r\n0\r\nx y: z\r\n\r\n",
    "trailer-folded": b"3\r\nabc\r\n0\r\nx: y\r\n z\r\n\r\n",
    "trailer-bare-lf": b"3\r\nabc\r\n0\r\nx: y\n\r\n",
}


def build_town(proxy, folder):
    origin = Origin()
    log = LogFile(folder / "access", LOG_TEXT)
    edge = proxy(
        [
            listener(
                "edge",
                [to()],
                hcm={
                    "access_log": [log.config],
                    "http_protocol_options": {"accept_http_10": True},
                },
            ),
        ],
        [cluster("origin", origin.port)],
    )
    edge.access = log
    yield edge, origin
    origin.close()


@pytest.fixture(scope="module")
def town(module_proxy, tmp_path_factory):
    yield from build_town(module_proxy, tmp_path_factory.mktemp("logs"))


@pytest.fixture
def new_town(proxy, tmp_path):
    """In whose log nothing stands yet."""
    yield from build_town(proxy, tmp_path)


def only_reply(client):
    """The reply that ends the connection with a FIN, not with a reset that could take it away."""
    reply = client.read_reply()
    assert client.read_to_end() == b""
    assert reply.header("connection") == "close"
    return reply


SHORT = [name for name, (_, message) in HEADS.items() if len(message) < 10_000]


@pytest.mark.parametrize(
    "name, pace",
    [(name, "at-once") for name in HEADS] + [(name, "byte-by-byte") for name in SHORT],
)
def test_a_bad_head_is_refused(town, name, pace):
    edge, origin = town
    status, message = HEADS[name]
    with edge.connect() as client:
        if pace == "at-once":
            client.send_bytes(message + SMUGGLED)
        else:
            try:
                for byte in message:
                    client.send_bytes(bytes([byte]))
            except (BrokenPipeError, ConnectionResetError):
                pass  # the answer came before the last byte
        assert only_reply(client).status == status
    assert [request.path for request in origin.requests] == []


def chunked_to(path):
    return CHUNKED.replace(b"POST /", b"POST " + path.encode())


def assert_never_whole(origin, path):
    for request in list(origin.requests):
        assert request.path != "/smuggled"
        assert request.path != path or request.body is None  # the origin saw no end of it


@pytest.mark.parametrize("name", BODIES)
def test_a_bad_chunk_ends_the_request(town, name):
    """Its head may have gone to the origin by then, but the request must not look whole there, and
    nothing behind it is a request."""
    edge, origin = town
    path = f"/at-once/{name}"
    with edge.connect() as client:
        client.send_bytes(chunked_to(path) + BODIES[name] + SMUGGLED)
        assert only_reply(client).status == 400
    assert_never_whole(origin, path)


@pytest.mark.parametrize("name", BODIES)
def test_a_bad_chunk_that_comes_late_ends_the_request(town, name):
    """The same when the origin has the head and the first chunk already."""
    edge, origin = town
    path = f"/late/{name}"
    with edge.connect() as client:
        client.send_bytes(chunked_to(path) + b"5\r\nhello\r\n")
        eventually(lambda: path in [request.path for request in origin.requests])
        client.send_bytes(BODIES[name] + SMUGGLED)
        assert only_reply(client).status == 400
    assert_never_whole(origin, path)


def test_good_requests_before_a_bad_one_are_served(town):
    edge, origin = town
    before = len(origin.requests)
    with edge.connect() as client:
        good = b"GET /good HTTP/1.1\r\n" + HOST + b"\r\n"
        client.send_bytes(good * 3 + b"GET / HTTP/1.1\r\nbad\r\n\r\n" + SMUGGLED)
        assert [client.read_reply().status for _ in range(3)] == [200] * 3
        assert only_reply(client).status == 400
    assert [request.path for request in origin.requests[before:]] == ["/good"] * 3


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
def test_a_body_is_a_body_whatever_the_method(town, method):
    """A GET's body must not be taken for the next request, here or at the origin."""
    edge, origin = town
    before = len(origin.requests)
    with edge.connect() as client:
        head = f"{method} / HTTP/1.1\r\nhost: a\r\ncontent-length: {len(SMUGGLED)}\r\n\r\n"
        client.method = method
        client.send_bytes(head.encode() + SMUGGLED)
        client.method = method
        reply = client.read_reply()
        assert reply.status == 200
        assert method == "HEAD" or reply.body == SMUGGLED
        client.method = "GET"
        assert client.ask("GET", "/next").status == 200
    assert [request.path for request in origin.requests[before:]] == ["/", "/next"]


@pytest.mark.parametrize("large", ["x: " + "a" * 59_000, "\r\n".join(["x: y"] * 90)], ids=["one-field", "fields"])
def test_heads_below_the_limits_pass(town, large):
    edge, origin = town
    with edge.connect() as client:
        for _ in range(2):
            client.send_bytes(f"GET / HTTP/1.1\r\nhost: a\r\n{large}\r\n\r\n".encode())
            assert client.read_reply().status == 200
            assert origin.last().header("x") == large.partition("\r\n")[0][3:]


def test_a_large_head_pipelined_behind_another(town):
    edge, origin = town
    before = len(origin.requests)
    heads = b"".join(
        b"POST /%d HTTP/1.1\r\nhost: a\r\nx: %s\r\ncontent-length: %d\r\n\r\n%s"
        % (i, b"v" * (i * 5_000), i * 3_000, b"b" * (i * 3_000))
        for i in range(12)
    )
    with edge.connect() as client:
        client.send_bytes(heads)
        for i in range(12):
            assert client.read_reply().body == b"b" * (i * 3_000)
    assert [len(request.header("x")) for request in origin.requests[before:]] == [i * 5_000 for i in range(12)]


def test_a_refusal_reaches_a_client_that_keeps_sending(town):
    """The proxy reads on for a while after its answer: a reset at once would take that away."""
    edge, _ = town
    with edge.connect() as client:
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        client.send_bytes(b"bad request\r\n\r\n" + b"x" * 500_000)
        assert only_reply(client).status == 400


def test_refusals_stand_in_the_access_log(new_town):
    """With Envoy's flag and details. Of a head that was refused nothing is believed, so its path
    does not show."""
    edge, _ = new_town
    expected = {
        "length-and-chunked": "- 400 DPE http1.content_length_and_chunked_not_allowed",
        "two-lengths": "- 400 DPE http1.codec_error",
        "chunked-not-last": "- 501 DPE http1.invalid_transfer_encoding",
        "nul": "- 400 DPE http1.invalid_characters",
        "host-with-path": "- 400 DPE http.invalid_authority",
        "long-field": "- 431 DPE http1.headers_too_large",
        "many-fields": "- 431 DPE http1.too_many_headers",
    }
    for count, name in enumerate(expected, 1):
        with edge.connect() as client:
            client.send_bytes(HEADS[name][1])
            only_reply(client)
        assert edge.access.lines(edge, count)[-1] == expected[name]
    with edge.connect() as client:
        client.send_bytes(CHUNKED + b"3\r\nabc\r\nx\r\n")
        only_reply(client)
    assert edge.access.lines(edge, len(expected) + 1)[-1] == "/ 400 DPE http1.codec_error"
