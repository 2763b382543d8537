"""Large bodies that nobody looks at pass by reference (docs/performance.md): the same bytes, the same ends and the
same log lines as when they are copied."""

import hashlib
import os
import resource
import socket
import threading

import pytest
from harness import LogFile, cluster, eventually, listener, to

LARGE = 3_000_000
# Around a block, what splicing begins with, a pipe's first and largest step.
SIZES = [1, 4095, 16_300, 16_384, 32_767, 33_000, 65_536, 81_921, 262_144, 278_528, 1_000_003, LARGE]
BYTES = bytes(i * 7 % 251 for i in range(LARGE))
LOG = "%RESPONSE_CODE% %BYTES_RECEIVED% %BYTES_SENT% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%"


def sha(data):
    return hashlib.sha256(data).hexdigest()


def io(edge, name):
    return edge.stat(f"server.io.{name}")


def open_pipes(edge):
    folder = f"/proc/{edge.process.pid}/fd"
    links = []
    for fd in os.listdir(folder):
        try:
            links.append(os.readlink(f"{folder}/{fd}"))
        except OSError:
            pass  # closed meanwhile
    return sum(link.startswith("pipe:") for link in links)


def size_of(exchange):
    return int(exchange.request.path.rpartition("/")[2])


def send_chunks(exchange, data, size):
    """As chunks of that size, all in one go."""
    coded = [b"%x\r\n%s\r\n" % (len(data[at : at + size]), data[at : at + size]) for at in range(0, len(data), size)]
    exchange.send(b"".join(coded) + b"0\r\n\r\n")


def answer_in(framing):
    def answer(exchange):
        data = BYTES[: size_of(exchange)]
        if framing == "length":
            exchange.reply(200, data)
        elif framing == "length, head first":
            exchange.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(data))
            exchange.send(data)
        elif framing == "chunked":
            exchange.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            send_chunks(exchange, data, 200_000)
        elif framing == "until close":
            exchange.send(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + data)
            exchange.sock.shutdown(socket.SHUT_WR)

    return answer


@pytest.mark.parametrize("framing", ["length", "length, head first", "chunked", "until close"])
def test_a_response_of_any_size(proxy, origins, tmp_path, framing):
    """One connection on either side carries them all, where the framing lets it."""
    origin = origins(answer_in(framing))
    log = LogFile(tmp_path / "log", LOG)
    edge = proxy([listener("edge", [to()], hcm={"access_log": [log.config]})], [cluster("origin", origin.port)])
    with edge.connect() as client:
        for size in SIZES:
            reply = client.ask("GET", f"/{size}")
            assert (reply.status, len(reply.body)) == (200, size)
            assert sha(reply.body) == sha(BYTES[:size])
    assert log.lines(edge, len(SIZES)) == [f"200 0 {size} - via_upstream" for size in SIZES]
    assert io(edge, "splice_bytes") > sum(SIZES) / 2
    assert origin.connections == (len(SIZES) if framing == "until close" else 1)
    assert io(edge, "pipe_calls") <= 2 * os.cpu_count()  # the same few over and over


@pytest.mark.parametrize("framing", ["length", "chunked", "expect"])
def test_a_request_of_any_size(proxy, origins, tmp_path, framing):
    received = []

    def answer(exchange):
        if exchange.request.header("expect"):
            exchange.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        received.append(sha(exchange.request.read_body()))
        exchange.reply(200, b"thanks")

    log = LogFile(tmp_path / "log", LOG)
    edge = proxy(
        [listener("edge", [to()], hcm={"access_log": [log.config]})], [cluster("origin", origins(answer).port)]
    )
    with edge.connect() as client:
        for size in SIZES:
            data = BYTES[:size]
            if framing == "chunked":
                client.send_head("POST", "/", [("transfer-encoding", "chunked")])
                for at in range(0, size, 300_000):
                    client.send_chunk(data[at : at + 300_000])
                client.send_end()
            else:
                expect = [("expect", "100-continue")] if framing == "expect" else []
                client.send_head("POST", "/", [("content-length", str(size)), *expect])
                if expect:
                    assert client.reader.line() == "HTTP/1.1 100 Continue"
                    assert client.reader.fields() == []
                client.send_bytes(data)
            assert client.read_reply().body == b"thanks"
            assert received[-1] == sha(data)
    assert log.lines(edge, len(SIZES)) == [f"200 {size} 6 - via_upstream" for size in SIZES]
    assert io(edge, "splice_bytes") > sum(SIZES) / 2


def test_small_bodies_are_not_spliced(proxy, origin):
    edge = proxy([listener("edge", [to()])], [cluster("origin", origin.port)])
    with edge.connect() as client:
        for size in (0, 1, 1000, 8000, 15_000):
            assert client.ask("POST", "/", body=BYTES[:size]).body == BYTES[:size]
    assert io(edge, "splice_calls") == io(edge, "pipe_calls") == 0


def small_window(client):
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 128 * 1024)


HUGE_TIMES = 10  # LARGE, which is more than sockets hold


def answer_huge(exchange):
    exchange.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (HUGE_TIMES * LARGE))
    for _ in range(HUGE_TIMES):
        exchange.send(BYTES)


def test_a_client_that_reads_little_at_a_time(proxy, origins):
    """The pipe is left half full time and again."""
    edge = proxy([listener("edge", [to()])], [cluster("origin", origins(answer_huge).port)])
    with edge.connect() as client:
        small_window(client)
        client.send("GET", "/")
        assert client.read_head()[0] == "200"
        whole, left = hashlib.sha256(), HUGE_TIMES * LARGE
        while left:
            piece = client.reader.file.read1(9000)
            assert piece
            whole.update(piece)
            left -= len(piece)
    assert whole.hexdigest() == sha(BYTES * HUGE_TIMES)
    assert io(edge, "splice_bytes") > 0


def test_an_origin_that_sends_little_at_a_time(proxy, origins):
    def answer(exchange):
        exchange.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        exchange.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % 300_000)
        for at in range(0, 300_000, 700):
            exchange.send(BYTES[at : min(at + 700, 300_000)])

    edge = proxy([listener("edge", [to()])], [cluster("origin", origins(answer).port)])
    with edge.connect() as client:
        assert sha(client.ask("GET", "/").body) == sha(BYTES[:300_000])


def test_bytes_behind_a_response_are_nobodys(proxy, origins):
    """An origin that sends more than it promised: the rest is not passed on, and not taken for the next response."""

    def answer(exchange):
        exchange.send(b"HTTP/1.1 200 OK\r\ncontent-length: 500000\r\n\r\n" + BYTES[:500_000] + b"X" * 100_000)

    origin = origins(answer)
    edge = proxy([listener("edge", [to()])], [cluster("origin", origin.port)])
    with edge.connect() as client:
        for number in range(1, 4):
            assert sha(client.ask("GET", "/").body) == sha(BYTES[:500_000])
            assert origin.connections == number


def test_a_head_request_and_interim_responses(proxy, origins):
    def answer(exchange):
        if exchange.request.method == "HEAD":
            exchange.send(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
        else:
            exchange.send(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n")
            exchange.reply(200, BYTES[:1_000_000])

    origin = origins(answer)
    edge = proxy([listener("edge", [to()])], [cluster("origin", origin.port)])
    with edge.connect() as client:
        for _ in range(2):
            assert client.ask("HEAD", "/").header("content-length") == "1000000"
            assert sha(client.ask("GET", "/").body) == sha(BYTES[:1_000_000])
    assert origin.connections == 1


# ---- ends in the middle -----------------------------------------------------


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("sent", [0, 1000, 20_000, 200_000, 2_000_000])
def test_an_origin_that_ends_in_mid_body(proxy, origins, tmp_path, how, sent):
    """Not a byte more than came, the connection ends, and the log says what it says of copied ones."""

    def answer(exchange):
        exchange.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % LARGE + BYTES[:sent])
        if how == "reset":
            exchange.reset()
        exchange.sock.shutdown(socket.SHUT_RDWR)

    log = LogFile(tmp_path / "log", "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%")
    edge = proxy(
        [listener("edge", [to()], hcm={"access_log": [log.config]})], [cluster("origin", origins(answer).port)]
    )
    with edge.connect() as client:
        client.send("GET", "/")
        if how == "reset":  # what is in the kernel is lost with it, maybe all of it
            client.reader.file.read()
        else:
            assert client.read_head()[0] == "200"
            assert sha(client.reader.file.read()) == sha(BYTES[:sent])
    if how == "close":
        assert log.lines(edge, 1) == ["200 UPE upstream_reset_after_response_started{protocol_error}"]
        assert edge.stat("cluster.origin.upstream_rq_rx_reset") == 1


def test_clients_that_leave_in_mid_body(proxy, origins, tmp_path):
    """They do not read, so each leaves a pipe with bytes in it; none of those is used again."""
    log = LogFile(tmp_path / "log", "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%")
    origin = origins(lambda exchange: (answer_huge if exchange.request.path == "/" else answer_in("length"))(exchange))
    edge = proxy(
        [listener("edge", [to()], hcm={"access_log": [log.config]})],
        [cluster("origin", origin.port)],
        flags=["--concurrency", "1"],
    )
    clients = []
    for _ in range(8):
        client = edge.connect()
        small_window(client)
        client.send("GET", "/")
        assert client.read_head()[0] == "200"
        clients.append(client)
    for client in clients:
        client.abort()
    assert log.lines(edge, 8) == ["200 DC downstream_remote_disconnect"] * 8
    eventually(lambda: origin.open == 0, what="the origin's connections closed")
    with edge.connect() as client:
        for _ in range(5):
            assert sha(client.ask("GET", f"/{LARGE}").body) == sha(BYTES)
    assert open_pipes(edge) <= 2 * 16  # those that are kept


@pytest.mark.parametrize("sent", [0, 1000, 200_000, 2_000_000])
def test_a_client_that_leaves_in_mid_upload(proxy, origins, sent):
    got = []

    def answer(exchange):
        got.append(exchange.reader.file.read())

    origin = origins(answer)
    edge = proxy([listener("edge", [to()])], [cluster("origin", origin.port)])
    with edge.connect() as client:
        client.send_head("POST", "/", [("content-length", str(LARGE))])
        client.send_bytes(BYTES[:sent])
        origin.wait_for_requests(1)
        client.sock.shutdown(socket.SHUT_RDWR)
    eventually(lambda: got, what="the end of the upload")
    assert BYTES.startswith(got[0])
    edge.wait_for_stat("http.edge.downstream_rq_rx_reset", 1)


def test_an_origin_that_leaves_in_mid_upload(proxy, origins):
    def answer(exchange):
        exchange.reader.exactly(500_000)
        exchange.reset()

    edge = proxy([listener("edge", [to()])], [cluster("origin", origins(answer).port)])
    with edge.connect() as client:
        client.send_head("POST", "/", [("content-length", str(50 * LARGE))])

        def upload():
            try:
                for _ in range(50):
                    client.send_bytes(BYTES)
            except OSError:
                pass

        writer = threading.Thread(target=upload, daemon=True)
        writer.start()
        assert client.read_reply().status == 503
        writer.join(20)


def test_a_client_that_takes_nothing_for_too_long(proxy, origins, tmp_path):
    """The stream's idle timeout counts while bytes wait in a pipe."""
    log = LogFile(tmp_path / "log", "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%")
    edge = proxy(
        [listener("edge", [to()], hcm={"access_log": [log.config], "stream_idle_timeout": "0.3s"})],
        [cluster("origin", origins(answer_huge).port)],
    )
    with edge.connect() as client:
        small_window(client)
        client.send("GET", "/")
        edge.wait_for_stat("http.edge.downstream_rq_idle_timeout", 1)
    assert log.lines(edge, 1) == ["200 SI stream_idle_timeout"]


# ---- without --------------------------------------------------------------


def test_without_descriptors_bodies_are_copied(proxy, origins):
    """A pipe takes two. There are none, and nobody notices."""
    origin = origins(answer_in("length"))
    edge = proxy([listener("edge", [to()])], [cluster("origin", origin.port)], flags=["--concurrency", "1"])
    pid = edge.process.pid
    with edge.connect() as client:
        assert client.ask("GET", "/100").status == 200
        before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, before[1]))
        for _ in range(3):
            assert sha(client.ask("GET", f"/{LARGE}").body) == sha(BYTES)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
    assert io(edge, "splice_bytes") == 0
    assert io(edge, "splice_no_pipe") > 0
    assert io(edge, "pipe_calls") <= 60  # one in a second


def test_a_listener_with_a_memory_limit(proxy, origins):
    """It splices too, a block's worth at a time."""
    limited = {"filter_metadata": {"sluice.memory": {"limit_bytes": 1 << 20}}}
    edge = proxy([listener("edge", [to()], metadata=limited)], [cluster("origin", origins(answer_in("length")).port)])
    with edge.connect() as client:
        for _ in range(3):
            assert sha(client.ask("GET", f"/{LARGE}").body) == sha(BYTES)
    moved, calls = io(edge, "splice_bytes"), io(edge, "splice_calls") - io(edge, "splice_again")
    assert 0 < moved <= calls * 16_384
