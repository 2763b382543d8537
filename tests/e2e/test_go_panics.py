"""A panic in a Go filter costs its request, and nothing else."""

import pytest
from go_support import PANIC_BODY, Gone
from test_go_replies import BEFORE_HEADERS_LEFT, ask_in_phase

pytest_plugins = ["go_fixtures"]


@pytest.mark.parametrize("panic", ["panic:oops", "nilpanic"])
@pytest.mark.parametrize("phase", BEFORE_HEADERS_LEFT)
def test_a_panic_in_each_phase_becomes_500(go, phase, panic):
    # The connection manager's stat prefix is the listener's name.
    counter = f"http.{go.listener('main')}.golang.panic_error"
    before = go.sluice.stat(counter)
    reply = ask_in_phase(go, phase, panic)
    assert reply.status == 500
    assert reply.body == PANIC_BODY
    assert reply.header("x-origin") is None
    assert go.sluice.stat(counter) == before + 1


@pytest.mark.parametrize("phase", ["ed", "et"])
def test_a_panic_after_the_headers_left_ends_the_connection(go, phase):
    with go.connect() as client:
        client.send("GET", go.path("/?o=trailers", **{phase: "panic:oops"}))
        with pytest.raises((Gone, ConnectionError)):
            client.read_reply()


def test_the_500_passes_the_response_side(go):
    reply = go.ask(dh="panic:oops", eh="set:x-seen:yes")
    assert reply.status == 500
    assert reply.header("x-seen") == "yes"


@pytest.mark.parametrize("phase", ["complete", "log"])
def test_a_panic_after_the_answer_is_nobodys_problem(go, phase):
    if phase == "complete" and not go.has_stream_complete:
        pytest.skip("SDK 1.31 has no OnStreamComplete")
    reply = go.ask(**{phase: "panic:oops"})
    assert (reply.status, reply.body) == (200, b"origin\n")
    assert go.order()[-1] == "destroy"


def test_a_panic_in_on_destroy_leaks_only_its_own_filter(go):
    """The SDK then keeps the request in its table for ever. The proxy must not use that memory for
    another request: the SDK would take one for the other."""
    assert go.ask(destroy="panic:oops").status == 200
    go.events()
    go.leaks()
    for _ in range(50):
        go.new_id()
        assert go.ask().status == 200
        go.events()


def test_a_panic_of_one_filter_shows_in_the_log(go):
    go.ask(dh=f"panic:oops-{go.id}")
    go.sluice.wait_for_log(f"http: panic serving: oops-{go.id}")
