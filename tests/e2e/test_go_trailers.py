"""Go filters and trailers."""

import pytest

pytest_plugins = ["go_fixtures"]

TRAILERS = [("x-one", "1"), ("x-two", "2"), ("x-two", "3"), ("x-empty", "")]


def test_a_filter_changes_the_request_trailers(go):
    reply = go.ask(
        method="POST",
        body=b"body",
        trailers=TRAILERS,
        dt=["set:x-one:changed", "del:x-two", "add:x-new:a", "add:x-new:b"],
    )
    assert reply.status == 200
    request = go.received()
    assert request.body == b"body"
    assert sorted(request.trailers) == [
        ("x-empty", ""),
        ("x-new", "a"),
        ("x-new", "b"),
        ("x-one", "changed"),
    ]


def test_a_filter_changes_the_response_trailers(go):
    reply = go.ask("/?o=trailers", body=b"body", et=["set:x-t1:changed", "del:x-t2", "add:x-t3:new"])
    assert reply.body == b"body"
    assert sorted(reply.trailers) == [("x-t1", "changed"), ("x-t3", "new")]


def test_what_a_filter_reads_in_trailers(go):
    """Raw reads are of the trailers too, though a header has the same name."""
    go.ask(
        method="POST",
        body=b"body",
        trailers=TRAILERS,
        headers=[("x-one", "header")],
        dt=[
            "get:x-one",
            "values:x-two",
            "get:x-empty",
            "get:x-none",
            "getraw:x-one",
            "count",
            "range",
        ],
    )
    assert go.said("dt")[1:] == [
        'get x-one="1" true',
        'values x-two=["2" "3"]',
        'get x-empty="" true',
        'get x-none="" false',
        'getraw x-one="1" same=true',
        "count 4",
        'range x-empty="" x-one="1" x-two="2" x-two="3"',
    ]


@pytest.mark.parametrize("status", [2, 3, 4])
def test_held_body_goes_out_before_the_trailers(go, status):
    """Whatever the filter did with headers and data, nothing is lost, nothing overtaken."""
    reply = go.ask(
        "/?o=trailers",
        method="POST",
        body=[b"one ", b"two"],
        trailers=[("x-end", "yes")],
        dh=f"ret:{status}",
        dd=f"ret:{status}",
        dt="get:x-end",
        eh=f"ret:{status}",
        ed=f"ret:{status}",
        et="get:x-t1",
    )
    assert go.received().body == b"one two"
    assert go.received().trailers == [("x-end", "yes")]
    assert reply.body == b"one two"
    assert sorted(reply.trailers) == [("x-t1", "one"), ("x-t2", "two")]
    assert go.said("dt") == ["called", 'get x-end="yes" true']
    assert go.said("et") == ["called", 'get x-t1="one" true']


@pytest.mark.parametrize("status", [2, 3, 4])
def test_trailers_without_a_body(go, status):
    """The trailers may all be there before a goroutine continues the headers."""
    reply = go.ask(
        "/?o=bare-trailers",
        method="POST",
        body=b"",
        trailers=[("x-end", "yes")],
        dh=["sleep:5", f"ret:{status}"],
        eh=["sleep:5", f"ret:{status}"],
    )
    assert go.received().body == b""
    assert go.received().trailers == [("x-end", "yes")]
    assert reply.status == 200
    assert reply.body == b""
    assert sorted(reply.trailers) == [("x-t1", "one"), ("x-t2", "two")]


def test_dropped_data_does_not_drop_the_trailers(go):
    reply = go.ask("/?o=trailers", method="POST", body=b"dropped", trailers=[("x-end", "yes")], dd="ret:5")
    assert go.received().body == b""
    assert go.received().trailers == [("x-end", "yes")]
    assert reply.body == b"origin\n"


def test_headers_that_wait_can_be_changed_in_the_trailers(go):
    reply = go.ask(
        "/?o=trailers",
        method="POST",
        body=b"body",
        trailers=[("x-end", "yes")],
        dh="ret:4",
        dd="ret:4",
        dt="req.set:x-late:yes",
        eh="ret:4",
        ed="ret:4",
        et="resp.set:x-late:yes",
    )
    assert go.received_headers()["x-late"] == ["yes"]
    assert reply.header("x-late") == "yes"


def test_data_added_before_the_trailers(go_133):
    go = go_133
    for go.is_async in (False, True):
        go.new_id()
        reply = go.ask(
            "/?o=trailers",
            method="POST",
            body=b"body",
            trailers=[("x-end", "yes")],
            dt="adddata: and more",
            et="adddata: and back",
        )
        assert go.received().body == b"body and more"
        assert go.received().trailers == [("x-end", "yes")]
        assert reply.body == b"body and more and back"
