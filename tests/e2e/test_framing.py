"""HTTP/1.1 on one connection over time: keep-alive, pipelining, chunks, interim responses, bodiless
answers and HTTP/1.0."""

import threading

import pytest
from harness import LogFile, cluster, direct, encode_chunk, encode_head, eventually, listener, to

HTTP1 = "http_protocol_options"


def get(path, *fields):
    return encode_head(f"GET {path} HTTP/1.1", [("host", "a.test"), *fields])


def post(path, body):
    fields = [("host", "a.test"), ("content-length", len(body))]
    return encode_head(f"POST {path} HTTP/1.1", fields) + body


@pytest.fixture
def edge(proxy, origin):
    return proxy([listener("edge", [direct(200, "direct\n", "/direct"), to()])], [origin_of(origin)])


def origin_of(origin, **more):
    return cluster("origin", origin.port, **more)


def test_a_connection_serves_many_requests(edge, origin):
    with edge.connect() as client:
        for i in range(100):
            assert client.ask("POST", f"/{i}", body=b"%d" % i).body == b"%d" % i
    assert origin.connections == 1
    assert edge.stat("http.edge.downstream_cx_total") == 1


def test_requests_in_one_packet_are_answered_in_order(edge, origin):
    with edge.connect() as client:
        client.send_bytes(b"".join(post(f"/{i}", b"body %d" % i) for i in range(200)))
        for i in range(200):
            assert client.read_reply().body == b"body %d" % i
    assert [request.path for request in origin.requests] == [f"/{i}" for i in range(200)]


def test_direct_answers_and_proxied_ones_keep_their_turn(edge, origin):
    """An answer made by the proxy itself is ready at once, and still waits for those before it."""
    with edge.connect() as client:
        client.send_bytes((get("/direct") + post("/", b"proxied")) * 20)
        for _ in range(20):
            assert client.read_reply().body == b"direct\n"
            assert client.read_reply().body == b"proxied"


def test_more_pipelined_bytes_than_a_buffer_holds(edge, origin):
    """The proxy answers while the client still writes; neither waits for the other for ever."""
    requests = [post(f"/{i}", bytes([i % 251]) * (i * 97 % 9000)) for i in range(300)]
    with edge.connect() as client:
        writer = threading.Thread(target=client.send_bytes, args=(b"".join(requests),))
        writer.start()
        for i in range(300):
            assert client.read_reply().body == bytes([i % 251]) * (i * 97 % 9000)
        writer.join(20)


def test_a_request_may_come_byte_by_byte(edge, origin):
    message = (
        b"POST /slow HTTP/1.1\r\nHost: a.test\r\nX-Long: " + b"v" * 50 + b"\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n5;ext=1\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"
    )
    with edge.connect() as client:
        for byte in message + message:
            client.send_bytes(bytes([byte]))
        assert client.read_reply().body == b"hello world"
        assert client.read_reply().body == b"hello world"
    assert origin.last().header("x-long") == "v" * 50


def test_a_response_may_come_byte_by_byte(proxy, origins):
    def answer(exchange):
        for byte in (
            b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\nHTTP/1.1 200 OK\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n"
        ):
            exchange.send(bytes([byte]))

    edge = proxy([listener("edge", [to()])], [origin_of(origins(answer))])
    with edge.connect() as client:
        for _ in range(3):
            reply = client.ask("GET", "/")
            assert (reply.status, reply.body) == (200, b"hello world")


def test_chunks_pass_as_they_come(proxy, origins):
    """Nothing is held back until a buffer is full or the message ends, in either direction."""
    got, go_on = threading.Event(), threading.Event()

    def answer(exchange):
        exchange.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        reader = exchange.reader
        assert reader.line() == "3" and reader.exactly(5) == b"one\r\n"
        got.set()
        exchange.send(encode_chunk(b"uno"))
        assert reader.line() == "3" and reader.exactly(5) == b"two\r\n"
        exchange.send(encode_chunk(b"due"))
        go_on.wait(20)
        assert reader.line() == "0" and reader.line() == ""
        exchange.send(b"0\r\n\r\n")

    edge = proxy([listener("edge", [to()])], [origin_of(origins(answer))])
    with edge.connect() as client:
        client.send_head("POST", "/", [("transfer-encoding", "chunked")])
        client.send_chunk(b"one")
        assert got.wait(20)
        assert client.read_head()[0] == "200"
        assert client.reader.exactly(8) == b"3\r\nuno\r\n"
        client.send_chunk(b"two")
        assert client.reader.exactly(8) == b"3\r\ndue\r\n"
        client.send_end()
        go_on.set()
        assert client.reader.exactly(5) == b"0\r\n\r\n"


@pytest.mark.parametrize("enabled", [True, False])
def test_trailers_pass_when_enabled(proxy, origins, enabled):
    def answer(exchange):
        exchange.request.read_body()
        exchange.send(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-down\r\n\r\n"
            b"2\r\nok\r\n0\r\nx-down: 1\r\nx-too: 2\r\n\r\n"
        )

    origin = origins(answer)
    options = {HTTP1: {"enable_trailers": enabled}}
    edge = proxy(
        [listener("edge", [to()], hcm=options)],
        [origin_of(origin, **options)],
    )
    with edge.connect() as client:
        for _ in range(2):
            reply = client.ask("POST", "/", body=b"up", trailers=[("x-up", "1"), ("x-up", "2")])
            assert reply.body == b"ok"
            assert origin.last().body == b"up"
            if enabled:
                assert origin.last().trailers == [("x-up", "1"), ("x-up", "2")]
                assert reply.trailers == [("x-down", "1"), ("x-too", "2")]
            else:
                assert origin.last().trailers == []
                assert reply.trailers == []
    assert origin.connections == 1


def test_trailers_may_have_no_body_before_them(proxy, origins):
    def answer(exchange):
        exchange.request.read_body()
        exchange.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx-down: 1\r\n\r\n")

    origin = origins(answer)
    options = {HTTP1: {"enable_trailers": True}}
    edge = proxy([listener("edge", [to()], hcm=options)], [origin_of(origin, **options)])
    reply = edge.get(method="POST", body=b"", trailers=[("x-up", "1")])
    assert (reply.body, reply.trailers) == (b"", [("x-down", "1")])
    assert (origin.last().body, origin.last().trailers) == (b"", [("x-up", "1")])


def test_a_client_that_expects_100_gets_it_before_it_sends_the_body(edge, origin):
    with edge.connect() as client:
        for _ in range(2):
            client.interim.clear()
            client.send_head("POST", "/", [("content-length", "4"), ("expect", "100-continue")])
            assert client.reader.line() == "HTTP/1.1 100 Continue"
            assert client.reader.fields() == []
            client.send_bytes(b"body")
            reply = client.read_reply()
            assert (reply.status, reply.body, client.interim) == (200, b"body", [])
    assert origin.last().header("expect") is None


def test_the_100_comes_too_when_the_head_fills_the_buffer(edge, origin):
    """A read that was full to the last byte does not tell that the body is still missing."""
    head = b"POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 4\r\nx: %s\r\n\r\n"
    with edge.connect() as client:
        client.send_bytes(head % (b"x" * (16384 - 16 - len(head % b""))))
        assert client.reader.line() == "HTTP/1.1 100 Continue"
        assert client.reader.fields() == []
        client.send_bytes(b"body")
        assert client.read_reply().body == b"body"


def test_a_client_that_does_not_wait_for_the_100_is_served_too(edge, origin):
    with edge.connect() as client:
        for _ in range(3):
            client.send("POST", "/", headers=[("expect", "100-continue")], body=b"at once")
            reply = client.read_reply()
            assert (reply.status, reply.body) == (200, b"at once")
            assert client.interim in ([], [100])
            client.interim.clear()


def test_an_unwanted_body_is_not_invited(edge):
    """The final answer comes without a 100: the client may then keep its body, so the connection
    cannot be used any more."""
    with edge.connect() as client:
        client.send_head("POST", "/direct", [("content-length", "4"), ("expect", "100-continue")])
        reply = client.read_reply()
        assert (reply.status, client.interim) == (200, [])
        assert reply.header("connection") == "close"
        assert client.read_to_end() == b""


def test_a_head_request_gets_no_body(proxy, origins):
    def answer(exchange):
        if "chunked" in exchange.request.path:
            exchange.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        else:
            exchange.send(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")

    origin = origins(answer)
    edge = proxy([listener("edge", [direct(200, "direct\n", "/direct"), to()])], [origin_of(origin)])
    with edge.connect() as client:
        for _ in range(2):
            assert client.ask("HEAD", "/length").header("content-length") == "1000"
            assert client.ask("HEAD", "/chunked").header("content-length") is None
            assert client.ask("HEAD", "/direct").header("content-length") == "7"
    assert origin.connections == 1


@pytest.mark.parametrize("status", [204, 304])
def test_answers_that_have_no_body_by_their_status(proxy, origins, status):
    """A content-length in a 304 speaks of a body that does not come."""

    def answer(exchange):
        length = b"content-length: 10\r\n" if status == 304 else b""
        exchange.send(b"HTTP/1.1 %d X\r\n%setag: y\r\n\r\n" % (status, length))

    origin = origins(answer)
    edge = proxy([listener("edge", [to()])], [origin_of(origin)])
    with edge.connect() as client:
        for _ in range(3):
            reply = client.ask("GET", "/")
            assert (reply.status, reply.body, reply.header("etag")) == (status, b"", "y")
            assert reply.header("transfer-encoding") is None
    assert origin.connections == 1


@pytest.mark.parametrize("status", [200, 205, 299, 404, 599, 600, 999])
def test_any_final_status_passes(proxy, origins, status):
    origin = origins(lambda exchange: exchange.reply(status, b"body"))
    edge = proxy([listener("edge", [to()])], [origin_of(origin)])
    with edge.connect() as client:
        for _ in range(2):
            reply = client.ask("GET", "/")
            assert (reply.status, reply.body) == (status, b"body")


def test_an_offer_of_http2_is_passed_over(edge, origin):
    """The client that makes it is content with an answer in HTTP/1.1."""
    offer = [
        ("connection", "Upgrade, HTTP2-Settings"),
        ("upgrade", "h2c"),
        ("http2-settings", "AAMAAABkAARAAAAAAAIAAAAA"),
    ]
    with edge.connect() as client:
        for _ in range(2):
            assert client.ask("POST", "/", headers=offer, body=b"plain").body == b"plain"
    for name in ("connection", "upgrade", "http2-settings"):
        assert origin.last().header(name) is None


def test_nothing_is_tunnelled(edge, origin):
    with edge.connect() as client:
        client.send_bytes(b"CONNECT a.test:80 HTTP/1.1\r\nhost: a.test:80\r\n\r\n")
        reply = client.read_reply()
        assert (reply.status, reply.header("connection")) == (404, "close")
        assert client.read_to_end() == b""
    assert origin.connections == 0


def test_interim_responses_of_the_origin_stay_there(proxy, origins):
    def answer(exchange):
        exchange.send(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\nx: y\r\n\r\n" * 10)
        exchange.reply(200, b"final")

    edge = proxy([listener("edge", [to()])], [origin_of(origins(answer))])
    with edge.connect() as client:
        for _ in range(2):
            assert client.ask("GET", "/").body == b"final"
        assert client.interim == []


def test_http_10_ends_with_the_response_unless_asked_otherwise(proxy, origin):
    options = {HTTP1: {"accept_http_10": True}}
    edge = proxy([listener("edge", [to()], hcm=options)], [origin_of(origin)])
    with edge.connect() as client:
        client.send_bytes(b"GET /1 HTTP/1.0\r\nhost: a\r\nconnection: keep-alive\r\n\r\n")
        reply = client.read_reply()
        assert reply.header("connection") == "keep-alive"
        client.send_bytes(b"POST /2 HTTP/1.0\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc")
        reply = client.read_reply()
        assert (reply.body, reply.header("connection")) == (b"abc", "close")
        assert client.read_to_end() == b""


def test_http_10_gets_a_chunked_response_plain(proxy, origins):
    """HTTP/1.0 knows no chunks: the end of the connection ends the body, even for a client that
    asked to keep it."""

    def answer(exchange):
        exchange.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        exchange.send(encode_chunk(b"one") + encode_chunk(b"two") + b"0\r\n\r\n")

    options = {HTTP1: {"accept_http_10": True}}
    edge = proxy([listener("edge", [to()], hcm=options)], [origin_of(origins(answer))])
    for fields in (b"", b"connection: keep-alive\r\n"):
        with edge.connect() as client:
            client.send_bytes(b"GET / HTTP/1.0\r\nhost: a\r\n" + fields + b"\r\n")
            reply = client.read_reply()
            assert reply.header("transfer-encoding") is None
            assert reply.header("connection") == "close"
            assert reply.body == b"onetwo"


def test_connection_close_is_honoured(edge, origin):
    with edge.connect() as client:
        client.send_bytes(get("/1") + get("/2", ("connection", "close")) + get("/3"))
        assert client.read_reply().header("connection") is None
        assert client.read_reply().header("connection") == "close"
        assert client.read_to_end() == b""
    assert [request.path for request in origin.requests] == ["/1", "/2"]


def test_max_requests_per_connection(proxy, origin):
    options = {"common_http_protocol_options": {"max_requests_per_connection": 3}}
    edge = proxy([listener("edge", [to()], hcm=options)], [origin_of(origin)])
    with edge.connect() as client:
        client.send_bytes(get("/") * 5)
        closing = [client.read_reply().header("connection") for _ in range(3)]
        assert closing == [None, None, "close"]
        assert client.read_to_end() == b""
    assert edge.stat("http.edge.downstream_cx_max_requests_reached") == 1
    assert len(origin.requests) == 3


def test_an_idle_connection_ends(proxy, origin):
    options = {"common_http_protocol_options": {"idle_timeout": "0.5s"}}
    edge = proxy([listener("edge", [to()], hcm=options)], [origin_of(origin)])
    with edge.connect() as client:
        assert client.ask("GET", "/").status == 200
        assert client.read_to_end() == b""
    with edge.connect() as client:  # one that never said a thing
        assert client.read_to_end() == b""
    assert edge.stat("http.edge.downstream_cx_idle_timeout") == 2


def test_a_head_that_does_not_come_to_its_end_times_out(proxy, origin):
    edge = proxy([listener("edge", [to()], hcm={"request_headers_timeout": "0.1s"})], [origin_of(origin)])
    with edge.connect() as client:
        client.send_bytes(b"GET / HTTP/1.1\r\nhost: a")
        reply = client.read_reply()
        assert (reply.status, reply.header("connection")) == (408, "close")
        assert client.read_to_end() == b""
    assert edge.stat("http.edge.downstream_rq_header_timeout") == 1


def test_a_request_body_that_stalls_times_out(proxy, origin):
    routes = [to(prefix="/")]
    edge = proxy(
        [
            listener("whole", routes, hcm={"request_timeout": "0.2s"}),
            listener("idle", routes, hcm={"stream_idle_timeout": "0.2s"}),
        ],
        [origin_of(origin)],
    )
    for name in ("whole", "idle"):
        with edge.connect(name) as client:
            client.send_head("POST", "/", [("content-length", "10")])
            client.send_bytes(b"half")
            reply = client.read_reply()
            assert (reply.status, reply.header("connection")) == (408, "close")
            assert client.read_to_end() == b""
    assert edge.stat("http.whole.downstream_rq_timeout") == 1
    assert edge.stat("http.idle.downstream_rq_idle_timeout") == 1
    eventually(lambda: origin.open == 0, what="the origin's connections closed")


def test_max_stream_duration(proxy, origins, tmp_path):
    """However busy the stream: before the response it gets an answer, within it it is cut."""

    def answer(exchange):
        if exchange.request.path == "/head":
            exchange.send(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")
        exchange.wait_closed()

    log = LogFile(tmp_path / "access")
    options = {
        "common_http_protocol_options": {"max_stream_duration": "0.7s"},  # for an origin on a busy machine, too
        "access_log": [log.config],
    }
    edge = proxy([listener("edge", [to()], hcm=options)], [origin_of(origins(answer))])
    with edge.connect() as client:
        for _ in range(2):  # the client's connection is as good as before
            reply = client.ask("GET", "/")
            assert (reply.status, reply.body) == (504, b"downstream duration timeout")
        client.send_head("POST", "/", [("content-length", "10")])
        reply = client.read_reply()
        assert (reply.status, reply.header("connection")) == (408, "close")
    with edge.connect() as client:
        client.send("GET", "/head")
        assert client.read_head()[0] == "200"
        assert client.read_to_end() == b"half"
    assert edge.stat("http.edge.downstream_rq_max_duration_reached") == 4
    assert sorted(log.lines(edge, 4)) == [
        "200 - max_duration_timeout",
        "408 - max_duration_timeout",
        "504 - max_duration_timeout",
        "504 - max_duration_timeout",
    ]


def test_max_connection_duration(proxy):
    options = {"common_http_protocol_options": {"max_connection_duration": "1s"}}
    edge = proxy([listener("edge", [direct(200, "direct\n")], hcm=options)])
    with edge.connect() as client:
        assert client.ask("GET", "/").status == 200
        assert client.read_to_end() == b""


def test_a_client_that_reads_nothing_meets_the_idle_timeout(proxy, origins):
    def answer(exchange):
        exchange.send(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            exchange.send(b"x" * 65536)

    origin = origins(answer)
    options = {"stream_idle_timeout": "0.3s"}
    edge = proxy([listener("edge", [to()], hcm=options)], [origin_of(origin)])
    with edge.connect() as client:
        client.send("GET", "/")
        edge.wait_for_stat("http.edge.downstream_rq_idle_timeout", 1)
        edge.wait_for_stat("http.edge.downstream_cx_active", 0)
    eventually(lambda: origin.open == 0, what="the origin's connection closed")


def test_many_connections_at_once(edge, origin):
    clients = [edge.connect() for _ in range(300)]
    for i, client in enumerate(clients):
        client.send("POST", "/", body=b"%d" % i)
    for i, client in enumerate(clients):
        assert client.read_reply().body == b"%d" % i
    for client in clients:
        client.close()
