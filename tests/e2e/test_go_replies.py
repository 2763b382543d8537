"""Go filters answer by themselves, in every phase and in both directions."""

import pytest
from go_support import Gone

pytest_plugins = ["go_fixtures"]

# Headers stay with the filter until the phase in question, so that the reply comes while nothing
# has gone out yet; a trailers phase needs trailers on that side.
BEFORE_HEADERS_LEFT = {
    "dh": {},
    "dd": {"dh": "ret:4"},
    "dt": {"dh": "ret:4", "dd": "ret:4"},
    "eh": {},
    "ed": {"eh": "ret:4"},
    "et": {"eh": "ret:4", "ed": "ret:4"},
}

REPLY = [
    "reply.header:x-reply:one",
    "reply.header:x-reply:two",
    "reply.header:content-type:text/html",
    "reply.details:go_said_no",
    "reply:403:forbidden",
]


def ask_in_phase(go, phase, actions, **more):
    """A request with body and trailers both ways, whose filter does the actions in the phase."""
    scripts = {**BEFORE_HEADERS_LEFT[phase], phase: actions, **more}
    return go.ask("/?o=trailers", body=b"body", trailers=[("x-end", "yes")], **scripts)


@pytest.mark.parametrize("phase", BEFORE_HEADERS_LEFT)
def test_a_reply_in_each_phase(go, phase):
    reply = ask_in_phase(go, phase, REPLY, log=["info:details", "info:code"])
    assert reply.status == 403
    assert reply.body == b"forbidden"
    assert reply.all("x-reply") == ["one", "two"]
    assert reply.all("content-type") == ["text/html"]
    assert reply.header("content-length") == "9"
    assert reply.header("x-origin") is None
    assert go.said("log")[1:] == ["info details=go_said_no", "info code=403"]
    if phase[0] == "d":
        assert go.origin.received(go.id) == []


@pytest.mark.parametrize("phase", BEFORE_HEADERS_LEFT)
def test_the_proxy_copies_a_reply_before_go_collects_it(go, phase):
    """Right after the call, garbage is collected and the memory overwritten."""
    reply = ask_in_phase(go, phase, [*REPLY, "gc"])
    assert reply.status == 403
    assert reply.body == b"forbidden"
    assert reply.all("x-reply") == ["one", "two"]


@pytest.mark.parametrize("phase", ["dh", "dd", "dt"])
def test_a_reply_to_the_request_passes_the_filters_own_response_side(go, phase):
    reply = ask_in_phase(go, phase, "reply:403:no", eh="set:x-seen:yes", ed="b.upper")
    assert reply.header("x-seen") == "yes"
    assert reply.body == b"NO"
    assert "end=0 status=403" in go.said("eh")


def test_a_reply_to_the_response_goes_straight_out(go):
    """The response side of this filter is busy with the answer that it replaces."""
    ask_in_phase(go, "eh", "reply:403:no")
    assert [line for line in go.said("eh") if "status=" in line] == ["end=0 status=200"]
    assert go.said("ed") == []


@pytest.mark.parametrize("phase", ["ed", "et"])
def test_a_reply_after_the_headers_left_ends_the_connection(go, phase):
    """Too late for a status: the client must not take what it has for a whole answer."""
    with go.connect() as client:
        client.send("GET", go.path("/?o=trailers", eh="ret:2", **{phase: "reply:403:no"}))
        with pytest.raises((Gone, ConnectionError)):
            client.read_reply()


def test_a_reply_while_the_origin_has_the_request(go):
    """The headers are at the origin already; its answer no longer matters."""
    with go.connect() as client:
        client.send_head(
            "POST",
            go.path(dd="first?reply:403:stop", eh="set:x-seen:yes"),
            [("transfer-encoding", "chunked")],
        )
        go.wait_for_event("dh: end=0")
        client.send_chunk(b"x")
        reply = client.read_reply()
    assert (reply.status, reply.body) == (403, b"stop")
    assert reply.header("x-seen") == "yes"


def test_a_reply_without_a_body(go):
    reply = go.ask(dh=[("reply", 429, "")])
    assert reply.status == 429
    assert reply.body == b""
    assert reply.header("content-type") is None


def test_the_content_type_of_a_reply_is_text_unless_said(go):
    assert go.ask(dh="reply:403:no").header("content-type") == "text/plain"


def test_a_reply_to_head_has_no_body(go):
    reply = go.ask(method="HEAD", dh="reply:403:no")
    assert reply.status == 403
    assert reply.body == b""


def test_a_reply_to_grpc_is_a_grpc_status(go):
    reply = go.ask(
        method="POST",
        body=b"",
        headers=[("content-type", "application/grpc")],
        dh=["reply.grpc:7", ("reply", 403, "no: 100%")],
    )
    assert reply.status == 200
    assert reply.header("content-type") == "application/grpc"
    assert reply.header("grpc-status") == "7"
    assert reply.header("grpc-message") == "no: 100%25"
    assert reply.body == b""


def test_a_filter_gives_its_own_grpc_status(go):
    reply = go.ask(
        method="POST",
        body=b"",
        headers=[("content-type", "application/grpc")],
        dh=["reply.grpc:7", "reply.header:grpc-status:3", "reply:403:no"],
    )
    assert reply.all("grpc-status") == ["3"]


def test_a_continue_after_a_reply_is_ignored(go):
    """Filters do return Continue after a local reply, and some call it."""
    reply = go.ask(dh=["reply:403:no", "ret:2"])
    assert (reply.status, reply.body) == (403, b"no")
    assert go.origin.received(go.id) == []

    go.new_id()
    reply = go.ask(eh=["reply:403:no", "ret:2"])
    assert (reply.status, reply.body) == (403, b"no")


def test_only_the_first_of_two_replies_counts(go):
    reply = go.ask(dh=["reply:403:first", "try!reply:404:second"])
    assert (reply.status, reply.body) == (403, b"first")


def test_a_reply_with_all_sorts_of_headers_is_still_a_good_one(go):
    """Filters pass on whole header maps: what cannot be in a response is left out."""
    with go.connect() as client:
        reply = client.ask(
            "GET",
            go.path(
                dh=[
                    ("reply.header", ":path", "/x"),
                    ("reply.header", ":status", "299"),
                    ("reply.header", "connection", "upgrade"),
                    ("reply.header", "transfer-encoding", "chunked"),
                    ("reply.header", "bad name", "1"),
                    ("reply.header", "x-bad", "a\r\nx-injected: 1"),
                    ("reply.header", "x-empty", ""),
                    ("reply.header", "x-good", "1"),
                    ("reply.header", "content-length", "999"),
                    "reply:403:no",
                ]
            ),
        )
        assert (reply.status, reply.body) == (403, b"no")
        assert reply.header("x-good") == "1"
        for name in (":path", "transfer-encoding", "bad name", "x-injected", "x-empty"):
            assert reply.header(name) is None, name
        go.new_id()
        assert client.ask("GET", go.path()).status == 200  # and the connection is in step


def test_a_reply_from_the_middle_passes_the_response_side_of_every_filter(go_sync):
    """Three filters in a chain, the one in the middle answers: each of the three sees the answer,
    the last one too, which never saw the request."""
    go = go_sync
    reply = go.ask(kind="chain", **{"name": "middle", "dh": "reply:403:no"})
    assert reply.status == 403
    assert reply.all("x-order") == ["last", "middle", "first"]
    events = go.events()
    assert "first/dh: end=1" in events and "middle/dh: end=1" in events
    assert not any(line.startswith("last/dh") for line in events)


def test_an_answer_passes_the_filters_in_reverse(go_sync):
    go = go_sync
    reply = go.ask(kind="chain")
    assert reply.all("x-order") == ["last", "middle", "first"]
    seen = [line.partition(":")[0] for line in go.events()]
    assert [s for s in seen if s.endswith("/dh")] == ["first/dh", "middle/dh", "last/dh"]
    assert [s for s in seen if s.endswith("/eh")] == ["last/eh", "middle/eh", "first/eh"]
