"""Go filters read, hold back, change and drop bodies."""

import hashlib
import socket

import kit
import pytest
from go_support import PANIC_BODY, Proxy, build, cluster, config_of, router, stop, to
from tls_kit import Authority, client_context, tls_listener
from wire import Origin, Reader

pytest_plugins = ["go_fixtures"]


def chunk_lengths(go, phase):
    """The lengths of the chunks that the filter saw, and that only the last ended the body."""
    lines = [line.split() for line in go.said(phase) if line.startswith("len=")]
    ends = [line[1] for line in lines]
    assert ends == ["end=0"] * (len(ends) - 1) + ["end=1"], lines
    return [int(line[0][len("len=") :]) for line in lines]


# ---- the four statuses ------------------------------------------------------


def test_a_body_is_changed_as_it_streams(go):
    reply = go.ask(body=b"to the origin", dd="b.upper", ed=["b.string"])
    assert go.received().body == b"TO THE ORIGIN"
    assert reply.body == b"TO THE ORIGIN"
    assert sum(chunk_lengths(go, "dd")) == sum(chunk_lengths(go, "ed")) == 13


def test_stop_and_buffer_from_headers_shows_the_body_in_one_piece(go):
    """The headers wait too: what DecodeData sets in them still reaches the origin."""
    with go.connect() as client:
        client.send_head(
            "POST",
            go.path(dh="ret:3", dd=["b.upper", "req.set:x-late:yes"]),
            [("transfer-encoding", "chunked")],
        )
        go.wait_for_event("dh: end=0")
        for part in (b"one ", b"two ", b"three"):
            client.send_chunk(part)
        assert go.origin.received(go.id) == []
        client.send_end()
        assert client.read_reply().status == 200
    assert chunk_lengths(go, "dd") == [13]
    assert go.received().body == b"ONE TWO THREE"
    assert go.received_headers()["x-late"] == ["yes"]


def test_stop_and_buffer_from_response_headers(go):
    reply = go.ask("/?o=chunked", body=b"response", eh="ret:3", ed=["b.upper", "resp.set:x-late:yes"])
    assert reply.body == b"RESPONSE"
    assert reply.header("x-late") == "yes"
    assert chunk_lengths(go, "ed") == [8]


def test_stop_and_buffer_from_data_shows_each_byte_once(go):
    """A chunk that the filter held back is not shown again, but goes out before the later ones."""
    with go.connect() as client:
        client.send_head("POST", go.path(dd=["b.string", "more?ret:3"]), [("transfer-encoding", "chunked")])
        client.send_chunk(b"first ")
        go.wait_for_event('dd: string "first "')
        client.send_chunk(b"second ")
        client.send_chunk(b"third")
        client.send_end()
        assert client.read_reply().status == 200
    assert chunk_lengths(go, "dd") == [6, 12]
    assert go.received().body == b"first second third"


def test_stop_and_buffer_watermark_shows_each_chunk_and_holds_it(go):
    with go.connect() as client:
        client.send_head(
            "POST",
            go.path(dh="ret:4", dd=["b.string", "b.upper", "more?ret:4", "end?req.set:x-late:yes"]),
            [("transfer-encoding", "chunked")],
        )
        client.send_chunk(b"first ")
        go.wait_for_event('dd: string "first "')
        client.send_chunk(b"second")
        go.wait_for_event('dd: string "second"')
        assert go.origin.received(go.id) == []
        client.send_end()
        assert client.read_reply().status == 200
    assert sum(chunk_lengths(go, "dd")) == 12
    assert go.received().body == b"FIRST SECOND"
    assert go.received_headers()["x-late"] == ["yes"]


def test_stop_and_buffer_watermark_on_the_response(go):
    reply = go.ask(
        "/?o=chunked",
        body=b"response",
        eh="ret:4",
        ed=["b.upper", "more?ret:4", "end?resp.set:x-late:yes"],
    )
    assert reply.body == b"RESPONSE"
    assert reply.header("x-late") == "yes"


def test_stop_no_buffer_drops_the_chunk(go):
    with go.connect() as client:
        client.send_head("POST", go.path(dd=["b.string", "n1?ret:5"]), [("transfer-encoding", "chunked")])
        client.send_chunk(b"dropped")
        go.wait_for_event('dd: string "dropped"')
        client.send_chunk(b"kept")
        client.send_end()
        assert client.read_reply().body == b"kept"
    assert go.received().body == b"kept"


def test_stop_no_buffer_drops_only_the_newest_chunk(go):
    """What an earlier status held back stays held."""
    with go.connect() as client:
        client.send_head(
            "POST",
            go.path(dd=["b.string", "n1?ret:4", "n2?ret:5"]),
            [("transfer-encoding", "chunked")],
        )
        for part in (b"one", b"two"):
            client.send_chunk(part)
            go.wait_for_event(f'dd: string "{part.decode()}"')
        client.send_chunk(b"three")
        client.send_end()
        assert client.read_reply().body == b"onethree"


def test_response_pieces_pass_one_by_one(go):
    """A filter that continues each chunk delays none: the client has a piece before the origin
    sends the next."""
    with go.connect() as client:
        client.send("GET", go.path("/?o=pieces", ed="b.string"))
        for number in range(10):
            go.origin.step(go.id)
            go.wait_for_event(f'ed: string "{number}"')
        assert client.read_reply().body == b"0123456789"
    assert sum(chunk_lengths(go, "ed")) == 10


# ---- the buffer's own operations --------------------------------------------

OPERATIONS = {
    "append": (["b.append:X", "b.appendbytes:YZ"], b"helloXYZ"),
    "prepend": (["b.prepend:X", "b.prependbytes:YZ"], b"YZXhello"),
    "set": (["b.set:short"], b"short"),
    "set longer": (["b.setbytes:much longer than before"], b"much longer than before"),
    "set to nothing": ([("b.set", "")], b""),
    "drain": (["b.drain:2"], b"llo"),
    "drain nothing": (["b.drain:0", "b.drain:-3"], b"hello"),
    "drain too much": (["b.drain:99"], b""),
    "reset": (["b.reset"], b""),
    "reset after drain": (["b.drain:2", "b.reset", "b.reset"], b""),
    "refill": (["b.reset", "b.append:new", "b.prepend:brand ", "b.drain:1"], b"rand new"),
    "numbers": (
        ["b.writebyte:!", "b.write16:65535", "b.write32:7", "b.write64:8"],
        b"hello!6553578",
    ),
    "all bytes": ([("b.set", "".join(map(chr, range(128))))], bytes(range(128))),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_buffer_operations(go, name):
    """On both directions at once: the same operations on the same text give the same."""
    operations, wanted = OPERATIONS[name]
    shown = ["b.len", "b.string"]
    reply = go.ask(
        "/?o=chunked",
        body=[b"hello"],
        dh="ret:3",
        dd=[*operations, *shown],
        eh="ret:3",
        ed=["b.set:hello", *operations, *shown],
    )
    assert go.received().body == wanted
    assert reply.body == wanted
    assert go.said("dd")[1] == go.said("ed")[1] == f"len {len(wanted)}"
    assert go.said("dd")[2] == go.said("ed")[2]


def test_a_filter_that_changes_the_length_takes_content_length_away(go):
    """The proxy never adjusts content-length for a filter: the filter removes it."""
    reply = go.ask(
        body=b"hello",
        dh="del:content-length",
        dd="end?b.append: and more",
        eh="del:content-length",
        ed=[("end?b.append", ", and back")],
    )
    assert go.received().body == b"hello and more"
    assert reply.body == b"hello and more, and back"


@pytest.mark.parametrize("size", [1, 70_000, 4_000_000])
def test_large_bodies_stream_through(go, size):
    body = hashlib.sha256(b"seed").digest() * (size // 32 + 1)
    body = body[:size]
    reply = go.ask(body=body, dd="ret:2", ed="ret:2")
    assert go.received().body == body
    assert reply.body == body
    assert sum(chunk_lengths(go, "dd")) == sum(chunk_lengths(go, "ed")) == size


def test_a_body_is_copied_out_whole(go):
    body = bytes(range(256)) * 1000
    go.ask(body=body, dh="ret:3", dd="b.sha256", eh="ret:3", ed="b.sha256")
    wanted = f"sha256 {hashlib.sha256(body).hexdigest()}"
    assert go.said("dd")[1] == go.said("ed")[1] == wanted


# ---- limits and mistakes ----------------------------------------------------


def test_a_request_too_large_to_buffer_gets_413(go):
    with go.connect("small") as client:
        client.send_head("POST", go.path(dh="ret:3", log="info:details"), [("content-length", "100000")])
        try:
            client.sock.sendall(b"x" * 100000)
        except ConnectionError:
            pass  # the answer may come, and the proxy close, before all is sent
        assert client.read_reply().status == 413
        go.events()
    assert go.origin.received(go.id) == []
    assert go.said("log")[-1] == "info details=request_payload_too_large"


def test_a_response_too_large_to_buffer_gets_500(go):
    reply = go.ask("/?o=size:100000", kind="small", eh="ret:3", log="info:details")
    assert reply.status == 500
    assert go.said("log")[-1] == "info details=response_payload_too_large"


def test_gathering_a_body_counts_for_the_listeners_memory(go):
    """1 MiB is enough for 80 KiB and twice 300 kB, not for twice 600 kB; afterwards it is there again."""
    for _ in range(3):
        assert go.ask(kind="limited", body=b"x" * 300_000, dh="ret:3").status == 200
        go.new_id()
    with go.connect("limited") as client:
        client.send_head("POST", go.path(dh="ret:3", log="info:details"), [("content-length", "600000")])
        try:
            client.sock.sendall(b"x" * 600_000)
        except ConnectionError:
            pass  # the answer may come, and the proxy close, before all is sent
        reply = client.read_reply()
        assert (reply.status, reply.body) == (503, b"memory limit of the listener")
        go.events()
    assert go.origin.received(go.id) == []
    assert go.said("log")[-1] == "info details=listener_memory_limit"
    go.new_id()
    assert go.ask(kind="limited", body=b"x" * 300_000, dh="ret:3").status == 200


@pytest.mark.parametrize("status", [3, 4])
def test_waiting_for_a_body_that_does_not_come_gets_500(go, status):
    """Both SDK and proxy notice; the client does not wait for ever."""
    reply = go.ask(dh=f"ret:{status}")
    assert reply.status == 500
    assert go.origin.received(go.id) == []

    go.new_id()
    assert go.ask("/?o=no-body", eh=f"ret:{status}").status == 500


def test_headers_are_gone_after_the_filter_continued_them(go_sync):
    """Changing headers that were continued is a mistake of the filter, and the request fails."""
    go = go_sync
    reply = go.ask(body=b"x", dd="first?req.set:x-too:late")
    assert reply.status == 500
    assert reply.body == PANIC_BODY


def test_reading_headers_that_are_gone_panics_too(go_sync):
    go = go_sync
    reply = go.ask(body=b"x", dd="first?try!req.getraw:host")
    assert reply.status == 200
    assert "invalid phase" in go.said("dd")[1]


# ---- data that a filter adds (SDK 1.33) -------------------------------------


@pytest.mark.parametrize("how", ["", ":stream"])
def test_a_filter_adds_a_body_to_a_request_and_response_without(go_133, how):
    go = go_133
    for go.is_async in (False, True):
        go.new_id()
        reply = go.ask(
            "/?o=no-body",
            method="POST",
            dh=f"adddata:hello{how}",
            eh=["del:content-length", f"adddata:there{how}"],
        )
        assert go.received().body == b"hello"
        assert reply.body == b"there"


def test_added_data_comes_before_the_body(go_133):
    go = go_133
    reply = go.ask("/?o=chunked", body=[b"body"], dh="adddata:head ", eh="adddata:reply ")
    assert go.received().body == b"head body"
    assert reply.body == b"reply head body"
    assert sum(chunk_lengths(go, "dd")) == 4  # the filter does not see its own data


def test_data_cannot_be_added_while_data_is_shown(go_133):
    go = go_133
    go.ask(body=b"x", dd="first?try!adddata:no")
    assert "invalid phase" in go.said("dd")[1]


LARGE = bytes(i % 251 for i in range(500_000))


def send_large(go, *actions):
    """A large body in one chunk of the wire. How many bytes were spliced meanwhile, and the body that the origin got,
    which is that of the reply, too."""
    go.ask(body=b"any", dd="ret:2", ed="ret:2")  # what it does with its next chunk is guessed by the latest
    before = go.sluice.stat("server.io.splice_bytes")
    with go.connect() as client:
        client.send_head("POST", go.path(dd=list(actions)), [("transfer-encoding", "chunked")])
        client.send_chunk(LARGE)
        client.send_end()
        reply = client.read_reply()
    got = go.origin.received(go.id)[-1].body
    assert reply.status == 200
    assert reply.body == got
    return go.sluice.stat("server.io.splice_bytes") - before, got


def test_a_body_that_go_does_not_look_at_is_spliced(go_133):
    """Go is called with each chunk all the same, and told how long it is."""
    spliced, got = send_large(go_133, "b.len")
    assert spliced > len(LARGE)  # both ways
    assert got == LARGE
    assert sum(int(line[len("len ") :]) for line in go_133.said("dd") if line.startswith("len ")) == len(LARGE)


SPLICED_AND_TOUCHED = {
    "looks": ("n2?b.sha256", lambda got: got == LARGE),
    "keeps": ("n2?ret:4", lambda got: got == LARGE),
    "gathers": ("n2?ret:3", lambda got: got == LARGE),
    "drops": ("n2?ret:5", lambda got: len(got) < len(LARGE)),
    "drains": ("n2?b.drain:5000", lambda got: len(LARGE) - 5000 <= len(got) < len(LARGE)),
    "empties": ("n2?b.reset", lambda got: len(got) < len(LARGE)),
    "adds": ("n2?b.prepend:fresh", lambda got: b"fresh" in got and got.replace(b"fresh", b"") == LARGE),
    "replaces": ("n2?b.set:fresh", lambda got: b"fresh" in got and len(got) < len(LARGE)),
    "leaves": ("n2?b.drain:0", lambda got: got == LARGE),
}


@pytest.mark.parametrize("how", SPLICED_AND_TOUCHED)
def test_what_go_does_to_a_spliced_chunk(go_133, how):
    """Its second, for the first one came in one read with the chunk's length. What is left of it leaves the pipe."""
    action, is_right = SPLICED_AND_TOUCHED[how]
    spliced, got = send_large(go_133, action)
    assert is_right(got), len(got)
    assert spliced > 0


# ---- other protocols --------------------------------------------------------


def switch(go, kind="upgrade", **scripts):
    """A client that asks for WebSocket; the head of the answer."""
    client = go.connect(kind)
    client.send_head("GET", go.path("/?o=switch", **scripts), [("connection", "Upgrade"), ("upgrade", "websocket")])
    return client, client.read_head()


def test_an_upgrade_to_websocket_is_seen_and_changed_both_ways(go):
    """Heads and bytes of both directions, piece by piece, as bodies that end with the connection."""
    client, (status, headers) = switch(
        go,
        dh=["get:upgrade", "set:x-a:1"],
        eh="set:x-b:2",
        dd=["b.string", "more?b.append:+"],
        ed=["b.string", "more?b.prepend:-"],
    )
    with client:
        assert status == "101"
        headers = dict(headers)
        assert (headers["upgrade"], headers["connection"], headers["x-b"]) == ("websocket", "upgrade", "2")
        assert "x-a" in go.received_headers()
        for piece in (b"one", b"two"):
            client.send_bytes(piece)
            assert client.reader.file.read(5) == b"-" + piece + b"+"
        client.sock.shutdown(socket.SHUT_WR)
        assert client.reader.file.read() == b""
    go.events()
    assert any('get upgrade="websocket"' in line for line in go.said("dh"))
    assert any("end=0 status=101" in line for line in go.said("eh"))
    assert chunk_lengths(go, "dd") == [3, 3, 0]
    assert chunk_lengths(go, "ed") == [4, 4, 0]


def test_a_filter_may_refuse_an_upgrade(go):
    client, (status, headers) = switch(go, dh="reply:401:no")
    with client:
        assert status == "401"
        assert dict(headers)["connection"] == "close"
        assert client.reader.file.read() == b"no"
    assert go.origin.received(go.id) == []


def test_a_filter_may_take_an_upgrade_back(go_sync):
    """It goes on as the ordinary request that it then is, and the client's bytes stay here."""
    with go_sync.connect("upgrade") as client:
        head = [("connection", "Upgrade"), ("upgrade", "websocket")]
        client.send_head("GET", go_sync.path("/", dh="del:upgrade"), head)
        client.send_bytes(b"GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n")
        reply = client.read_reply()
        assert (reply.status, reply.body, reply.header("connection")) == (200, b"origin\n", "close")
    assert "upgrade" not in go_sync.received_headers()


def test_a_client_that_breaks_off_a_websocket_is_told_to_go(go):
    client, (status, _) = switch(go)
    client.send_bytes(b"x")
    assert client.reader.file.read(1) == b"x"
    client.abort()
    go.events()


# ---- through TLS: pieces are in memory of the proxy's while they pass ------------------------------------------


@pytest.fixture(scope="module")
def by_tls():
    """The port of a proxy with the scripted filter between a client that speaks TLS and an origin that does not."""
    origin = Origin()
    filters = [kit.go_filter(build("basic", "1.33"), "basic"), router()]
    authority = Authority()  # its files are there as long as it is
    pair = authority.issue("DNS:a.test", subject="/CN=a.test")
    edge = Proxy(
        config_of([tls_listener("main", [to("origin")], pair, filters=filters)], [cluster("origin", origin.port)])
    )
    yield origin, edge
    stop(edge)
    origin.close()


@pytest.mark.parametrize("how", ["untouched", *SPLICED_AND_TOUCHED])
def test_what_go_does_to_a_chunk_that_came_by_tls(by_tls, how):
    origin, edge = by_tls
    action, is_right = SPLICED_AND_TOUCHED.get(how, ("b.len", lambda got: got == LARGE))

    def send(*actions):
        with edge.connect() as client:
            client.sock = client_context().wrap_socket(client.sock)
            client.reader = Reader(client.sock)
            client.send_head(
                "POST", kit.path_of("/", test_id=how, dd=list(actions)), [("transfer-encoding", "chunked")]
            )
            client.send_chunk(LARGE)
            client.send_end()
            return client.read_reply()

    send("ret:2")
    reply = send(action)
    got = origin.received(how)[-1].body
    assert reply.status == 200
    assert reply.body == got
    assert is_right(got), len(got)
