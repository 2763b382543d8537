"""The life of a request in a Go filter: the order of the calls, the log phase, clients that leave,
goroutines that stay."""

import json

import kit
import pytest
from go_support import in_process
from harness import eventually

pytest_plugins = ["go_fixtures"]

# What the SDK says when a filter uses a request that it should have left alone: the proxy told it
# that the stream is gone, that the filter is destroyed, that it is not the filter's turn, or that
# the phase is over. A proxy may also take such a call and do nothing.
TOO_LATE = (
    "request has been finished",
    "golang filter has been destroyed",
    "not proccessing Go",
    "invalid phase",
    "ok",
)


def complete(go):
    return ["complete"] if go.has_stream_complete else []


def test_the_order_of_the_callbacks(go):
    go.ask("/?o=trailers", body=b"body", trailers=[("x-end", "yes")])
    assert go.order() == ["dh", "dd", "dt", "eh", "ed", "et", *complete(go), "log", "destroy"]
    assert go.events()[-1] == "destroy: reason=0"


def test_a_request_without_a_body(go):
    go.ask()
    assert go.order() == ["dh", "eh", "ed", *complete(go), "log", "destroy"]
    assert go.said("dh") == ["end=1"]


def test_what_the_log_phase_sees(go):
    """From 1.32 on, the maps are given to OnLog; they show the headers as they are by then."""
    maps = [
        "req.get:x-from",
        "req.get:x-seen",
        "reqt.get:x-end",
        "resp.get:x-seen",
        ("resp.get", ":status"),
        "respt.get:x-t1",
    ]
    go.ask(
        "/?o=trailers",
        body=b"body",
        trailers=[("x-end", "yes")],
        headers=[("x-from", "client")],
        dh="set:x-seen:dh",
        eh="set:x-seen:eh",
        log=["info:code", *(maps if go.sdk != "1.31" else [])],
    )
    said = go.said("log")
    assert said[:2] == ["req=1 reqt=1 resp=1 respt=1", "info code=200"]
    if go.sdk != "1.31":
        assert said[2:] == [
            'get x-from="client" true',
            'get x-seen="dh" true',
            'get x-end="yes" true',
            'get x-seen="eh" true',
            'get :status="200" true',
            'get x-t1="one" true',
        ]


def test_the_log_phase_has_no_map_for_what_was_not_there(go):
    go.ask()
    assert go.said("log")[0] == "req=1 reqt=0 resp=1 respt=0"


def test_headers_can_be_edited_in_the_log_phase(go_sync):
    go = go_sync
    if go.sdk == "1.31":
        pytest.skip("SDK 1.31 gives no maps to OnLog")
    go.ask(log=["try!req.set:x-log:1", "req.get:x-log", "try!resp.set:x-log:2", "resp.get:x-log"])
    assert go.said("log")[1:] == [
        "try req.set: ok",
        'get x-log="1" true',
        "try resp.set: ok",
        'get x-log="2" true',
    ]


@pytest.mark.parametrize("touched", [False, True], ids=["untouched", "touched"])
@pytest.mark.parametrize("side", ["req", "resp"])
def test_a_map_kept_for_the_log_phase_fits_where_it_goes(go_sync, side, touched):
    """A filter keeps its map and looks into it first when others have changed it. Go makes room for what the map was
    then, and does not say for which map it asks: what has no room is left out, and never written beside it. Of a map
    that was looked into in time nothing is left to be confused with."""
    go = go_sync
    phase, one, next_one = ("dt", "x-one", "last") if side == "req" else ("et", "x-t1", "middle")
    keys = (one, "x-small", "x-big")
    path = kit.path_of("/", name=next_one, **{phase: ["set:x-small:1", ("set", "x-big", "b" * 1000)]})
    log = [f"{which}.get:{key}" for which in (f"was{side}t", f"{side}t") for key in ("", *keys)]
    look = {phase: f"get:{one}"} if touched else {}
    first = "first" if side == "req" else "last"  # of those who see it
    go.ask(path + "&o=trailers", kind="chain", body=b"x", trailers=[("x-one", "1")], name=first, log=log, **look)
    go.wait_for_event(f"{first}/destroy: reason=")  # each filter's comes by itself
    found = [line.endswith("true") for line in go.said(f"{first}/log")[1:]]
    if go.sdk != "1.31":
        assert found == [False, True, False, False, False, True, True, touched]
    elif touched:  # the same map: there is no other
        assert found == [False, True, False, False] * 2
    else:  # and nothing can be had in the log phase
        assert found == []


def test_stream_complete_may_use_the_request(go_sync):
    go = go_sync
    if not go.has_stream_complete:
        pytest.skip("SDK 1.31 has no OnStreamComplete")
    go.ask(complete=["try!info:code", "info:cluster"])
    assert go.said("complete")[1:] == ["info code=200", "try info: ok", "info cluster=origin"]


def test_the_log_phase_of_a_request_the_origin_refused(go):
    """The filter's own reply is logged like any other answer."""
    go.ask(dh="reply:403:no", log="info:code")
    assert go.order() == ["dh", "eh", "ed", *complete(go), "log", "destroy"]
    assert go.said("log")[-1] == "info code=403"


# ---- logs while the request runs --------------------------------------------


def test_a_request_is_logged_while_it_runs(go):
    """At its start before all else, with the request's headers; then each interval, while goroutines of the filter have
    the request, and the response, and change them."""
    if not go.is_async or go.sdk == "1.31":
        pytest.skip("a callback that waits has the seat; 1.31 has no maps")
    looks = ["req.get:x-from", "req.get:x-seen"]
    with go.connect("live") as client:
        path = go.path(
            "/?o=trailers",
            logstart=["req.get:x-from", "req.set:x-start:1"],
            dh=["set:x-seen:dh", f"wait:{go.id}-dh", "get:x-from", "set:x-late:1"],
            eh=["set:x-seen:eh", f"wait:{go.id}-eh", "get::status", "set:x-late:2"],
            logperiodic=[*looks, "try!req.set:x-log:1"],
        )
        client.send("POST", path, headers=[("x-from", "client")], body=b"body", trailers=[("x-end", "1")])
        go.wait_for_event('logperiodic: get x-seen="dh" true')  # the first ones may come before the goroutine did that
        go.wait_for_event("logperiodic: try req.set: ok")
        go.signal(f"{go.id}-dh")
        go.wait_for_event("logperiodic: req=1 reqt=1 resp=1 respt=0")
        go.signal(f"{go.id}-eh")
        reply = client.read_reply()
    order = go.order()
    assert order[:2] == ["logstart", "dh"]
    assert order[-3:] == ["complete", "log", "destroy"]
    assert go.said("logstart") == ["req=1 reqt=0 resp=0 respt=0", 'get x-from="client" true']
    periodic = go.said("logperiodic")
    assert periodic[:2] == ["req=1 reqt=0 resp=0 respt=0", 'get x-from="client" true']
    received = go.received_headers()
    assert (received["x-start"], received["x-seen"], received["x-late"]) == (["1"], ["dh"], ["1"])
    assert (reply.header("x-seen"), reply.header("x-late"), reply.body) == ("eh", "2", b"body")
    assert reply.trailer("x-t1") == "one"


def test_what_a_periodic_log_notes_is_in_its_line(go_133):
    """The filter comes before the line is written, each time."""
    go = go_133
    with go.connect("live") as client:
        path = go.path(
            dh=["go", f"wait:{go.id}"], logperiodic="metadata.set:ns:k:periodic", log="metadata.set:ns:k:end"
        )
        client.send("GET", path, headers=[("x-test", go.id)])
        go.wait_for_event("logperiodic: ")
        go.signal(go.id)
        assert client.read_reply().status == 200
        go.events()
    lines = go.shared.lines(go.id)
    assert lines[0]["type"] == "DownstreamStart" and lines[0]["text"] is None
    assert {line["text"] for line in lines if line["type"] == "DownstreamPeriodic"} == {"periodic"}
    assert [line["text"] for line in lines if line["type"] == "DownstreamEnd"] == ["end"]


@in_process
def test_a_periodic_log_that_blocks_holds_nobody_up(go_133):
    """The request goes on and ends; the filter hears of its end when the seat is free again."""
    go = go_133
    with go.connect("live") as client:
        client.send("GET", go.path(dh=["go", f"wait:{go.id}-dh"], logperiodic=f"wait:{go.id}"))
        # Not by the report, whose request might have that seat, too.
        eventually(lambda: go.stat("seats_blocked") == 1, what="a periodic log that waits")
    eventually(lambda: go.stat("ends_waiting") == 1, what="an end that waits")
    go.signal(f"{go.id}-dh")
    go.signal(go.id)
    assert go.order()[-3:] == ["complete", "log", "destroy"]
    eventually(lambda: go.stat("ends_waiting") == 0, what="the end told")


def test_trap_a_periodic_log_does_not_end_the_stream(go):
    """On Envoy the trailers' pointer is left behind by it, and means "nothing comes any more": response headers that a
    goroutine has are held, and of the body all but the first chunk is lost."""
    if go.sdk == "1.31":
        pytest.skip("SDK 1.31 gives no maps to its logs")
    go_first = [] if go.is_async else ["go"]
    with go.connect("live") as client:
        path = go.path("/?o=pieces", eh=[*go_first, f"wait:{go.id}", "set:x-b:1"], ed=[*go_first, "b.upper"])
        client.send("GET", path)
        go.wait_for_event(f"eh: wait {go.id}")
        go.wait_for_event("logperiodic: req=1 reqt=0 resp=1 respt=0")
        go.signal(go.id)
        for _ in range(10):
            go.origin.step(go.id)
        reply = client.read_reply()
        go.events()
    assert (reply.status, reply.header("x-b"), reply.body) == (200, "1", b"0123456789")


# ---- what a filter can ask about its request --------------------------------


def info(go, phase):
    [line] = [line for line in go.said(phase) if line.startswith("info ")]
    return dict(pair.partition("=")[::2] for pair in line[len("info ") :].split(" "))


def test_stream_info(go):
    with go.connect("routes") as client:
        client_port = client.sock.getsockname()[1]
        client.ask("GET", go.path(dh="info", eh="info", log="info"))
        go.events()
    before, after, logged = info(go, "dh"), info(go, "eh"), info(go, "log")

    assert before["route"] == "to-origin"
    assert before["protocol"] == "HTTP/1.1"
    assert before["downstream_local"] == f"127.0.0.1:{go.port('routes')}"
    assert before["downstream_remote"] == f"127.0.0.1:{client_port}"
    assert before["code"] == before["details"] == before["upstream_remote"] == "(none)"
    assert int(before["worker"]) < go.report.get()["concurrency"]

    assert after["code"] == "200"
    assert after["details"] == "via_upstream"
    assert after["cluster"] == "origin"
    assert after["attempts"] == "1"
    assert after["upstream_remote"] == f"127.0.0.1:{go.origin.port}"
    assert after["upstream_local"].startswith("127.0.0.1:")
    assert (before["virtual_cluster"], after["virtual_cluster"]) == ("(none)", "reads")
    assert logged == after
    assert after["worker"] == before["worker"]


# ---- logs -------------------------------------------------------------------


@pytest.mark.parametrize("level, name", list(enumerate(["trace", "debug", "info", "warning", "error", "critical"])))
def test_filters_log_at_each_level(go, level, name):
    """Both ways to log reach the proxy's log at their level, as far as that is let through; the
    proxy runs with level debug."""
    go.ask(dh=[f"log:{level}:a-{go.id}", f"apilog:{level}:b-{go.id}", "loglevel"])
    assert go.said("dh")[-1] == "loglevel debug"
    if level == 0:
        go.events()
        assert f"a-{go.id}" not in go.sluice.log()
        return
    go.sluice.wait_for_log(f"b-{go.id}")
    lines = [line for line in go.sluice.log().splitlines() if f"-{go.id}" in line]
    lines = [line for line in lines if "[golang]" in line and "id=" not in line]
    assert len(lines) == 2, lines
    assert all(f"[{name}]" in line for line in lines)
    assert f"[http][basic] a-{go.id}" in lines[0]


@in_process
def test_what_init_of_a_library_logs(go_133):
    """Go's init runs while the library is being opened, on a thread of Go's."""
    go_133.sluice.wait_for_log("basic: init")


# ---- continuing in odd ways -------------------------------------------------


def test_a_second_continue_is_ignored(go_sync):
    go = go_sync
    reply = go.ask(
        body=b"body",
        dh=["go", "try!continue:2", "try!continue:2", "ret:none"],
        dd=["go", "try!continue:2", "try!continue:2", "ret:none"],
        eh=["go", "try!continue:2", "try!continue:2", "ret:none"],
    )
    assert (reply.status, reply.body) == (200, b"body")
    assert all(event.rpartition(": ")[2].startswith(TOO_LATE) for event in go.events() if "try continue" in event)


def test_continue_and_a_returned_continue(go_sync):
    """The callback calls Continue and returns Continue: one of them is enough."""
    go = go_sync
    reply = go.ask(
        "/?o=trailers",
        body=b"body",
        trailers=[("x-end", "1")],
        dh=["continue:2"],
        dd=["continue:2"],
        dt=["continue:2"],
        eh=["continue:2"],
        ed=["continue:2"],
        et=["continue:2"],
    )
    assert (reply.status, reply.body) == (200, b"body")
    assert reply.trailer("x-t1") == "one"
    assert go.received().trailers == [("x-end", "1")]


def test_continue_on_the_thread_of_the_callback(go_sync):
    """A filter may call Continue before its callback returns Running."""
    go = go_sync
    reply = go.ask(
        body=b"body",
        dh=["set:x-a:1", "continue:2", "ret:none"],
        dd=["b.upper", "continue:2", "ret:none"],
        eh=["set:x-b:1", "continue:2", "ret:none"],
        ed=["continue:2", "ret:none"],
    )
    assert go.received_headers()["x-a"] == ["1"]
    assert (reply.header("x-b"), reply.body) == ("1", b"BODY")


def test_a_status_that_does_not_fit_leaves_room_for_one_that_does(go_sync):
    """StopNoBuffer is nothing for headers, StopAndBuffer nothing for trailers, 77 nothing at all:
    the filter keeps its turn, and what it continues with next counts, however soon that is."""
    go = go_sync
    with go.connect(timeout_s=10) as client:
        reply = client.ask(
            "POST",
            go.path(
                "/?o=trailers",
                dh=["continue:5", "try!continue:2", "ret:none"],
                dd=["continue:77", "try!continue:2", "ret:none"],
                dt=["continue:3", "try!continue:2", "ret:none"],
                eh=["go", "continue:5", "try!continue:2", "ret:none"],
                ed=["go", "continue:77", "try!continue:2", "ret:none"],
                et=["go", "continue:4", "try!continue:2", "ret:none"],
            ),
            body=b"body",
            trailers=[("x-end", "1")],
        )
        assert (reply.status, reply.body) == (200, b"body")
        go.events()


def test_a_goroutine_takes_its_time(go_sync):
    """While the filter thinks, the request stands still; another one does not."""
    go = go_sync
    with go.connect() as client:
        client.send("GET", go.path(dh=["go", f"wait:{go.id}", "set:x-a:1"]))
        go.wait_for_event("dh: wait")
        slow = go.id
        go.new_id()
        assert go.ask().status == 200
        assert go.origin.received(slow) == []
        go.signal(slow)
        assert client.read_reply().status == 200
    [request] = go.origin.received(slow)
    assert ("x-a", "1") in request.headers


def test_callbacks_of_a_direction_that_has_not_begun(go_sync):
    """There is no response yet when its callbacks are used; the SDK then hands a null pointer to
    the proxy. In the factory there is no request either."""
    go = go_sync
    for kind in ("main", "factory"):
        go.new_id()
        reply = go.ask(kind=kind, dh=["try!other.continue:2", "try!other.reply:403:no"])
        assert reply.status == 200
        assert go.said("dh")[1:] == [
            "try other.continue: not proccessing Go",
            "try other.reply: not proccessing Go",
        ]


def test_both_directions_at_work_at_once(go_sync):
    """The origin answers while the filter still has the request's body."""
    go = go_sync
    with go.connect() as client:
        client.send_head(
            "POST",
            go.path("/?o=early", dd=["go", f"wait:{go.id}", "b.upper"], eh=["go", "set:x-early:yes"]),
            [("transfer-encoding", "chunked")],
        )
        go.wait_for_event("dh: end=0")
        client.send_chunk(b"body")
        go.wait_for_event("dd: wait")
        go.origin.step(go.id)
        go.wait_for_event("eh: end=1")
        reply = client.read_reply()
        assert (reply.status, reply.header("x-early")) == (200, "yes")
        go.signal(go.id)
    go.events()


def test_garbage_is_collected_in_every_callback(go):
    for _ in range(5):
        go.new_id()
        reply = go.ask(
            "/?o=trailers",
            body=b"body",
            trailers=[("x-end", "yes")],
            dh=["gc", "set:x-a:1", "gc"],
            dd=["gc", "b.upper", "gc"],
            dt=["gc", "set:x-b:2", "gc"],
            eh=["gc", "set:x-c:3", "gc"],
            ed=["gc", "b.append:!", "gc"],
            et=["gc", "set:x-d:4", "gc"],
            log="gc",
            destroy="gc",
        )
        assert go.received_headers()["x-a"] == ["1"]
        assert go.received().body == b"BODY"
        assert dict(go.received().trailers)["x-b"] == "2"
        assert reply.header("x-c") == "3"
        assert reply.body.rstrip(b"!") == b"BODY"
        assert dict(reply.trailers)["x-d"] == "4"


# ---- clients that leave -----------------------------------------------------


@pytest.mark.parametrize("phase", ["dh", "dd", "dt", "eh", "ed", "et"])
@pytest.mark.parametrize("recovers", ["later", "never"])
def test_a_client_leaves_while_go_has_its_request(go_sync, phase, recovers):
    """The filter hears that its request is over, at once and once. The goroutine that wakes up
    then is told that it is too late, or ends without a word; the proxy goes on."""
    go = go_sync
    waits = ["go", f"wait:{go.id}", "set:x-late:1", "ret:2" if recovers == "later" else "ret:none"]
    with go.connect() as client:
        client.send(
            "POST",
            go.path("/?o=trailers", **{phase: waits}),
            body=b"body",
            trailers=[("x-end", "yes")],
        )
        go.wait_for_event(f"{phase}: wait")
        client.abort()
    go.wait_for_event("destroy: reason=1")
    go.signal(go.id)
    events = go.wait_for_event(f"{phase}: woken")
    assert sum(event.startswith("destroy") for event in events) == 1
    assert any(event.startswith("log") for event in events)


def test_a_client_leaves_between_the_calls(go_sync):
    """Go has nothing to do at the moment: a normal end."""
    go = go_sync
    with go.connect() as client:
        client.send_head("POST", go.path(), [("content-length", "100")])
        go.wait_for_event("dh: end=0")
        client.sock.sendall(b"half")
        go.wait_for_event("dd: len=4")
        client.abort()
    assert go.events()[-1] == "destroy: reason=0"


def test_a_client_leaves_while_the_answer_is_held(go_sync):
    go = go_sync
    with go.connect() as client:
        client.send("GET", go.path("/?o=pieces", eh="ret:4", ed=["b.len", "ret:4"]))
        go.origin.step(go.id)
        go.wait_for_event("ed: len=1")
        client.abort()
    assert "destroy: reason=0" in go.events()
    for _ in range(10):
        go.origin.step(go.id)  # the origin may find out at leisure


@in_process
def test_a_client_leaves_before_go_heard_of_its_request(go_sync):
    """All threads that may be in the library sleep there, so the request waits for one of them; its
    filter never existed, and nothing but the log phase may make one."""
    go = go_sync
    waits = go.stat("seat_waits")
    panics = go.sluice.log().count("panic serving")
    sleepers = [go.connect() for _ in range(3 * go.report.get()["concurrency"])]
    for client in sleepers:
        client.send("GET", kit.path_of("/", dh="sleep:500"))
    eventually(lambda: go.stat("seat_waits") > waits, what="a request that waits")
    for _ in range(len(sleepers)):
        with go.connect() as client:
            client.send("GET", go.path())
            client.abort()
    for client in sleepers:
        assert client.read_reply().status == 200
        client.close()
    assert go.sluice.leaks() == {}
    assert go.sluice.log().count("panic serving") == panics


# ---- goroutines that outlive their request ----------------------------------

LATE_CALLS = [
    "try!set:x-late:1",
    "try!add:x-late:1",
    "try!del:host",
    "try!get:x-never-read",
    "try!getraw:host",
    "try!continue:2",
    "try!reply:500:late",
    "try!other.continue:2",
    "try!info:route",
    "try!info:code",
    "try!clearroute",
    "try!log:2:late",
    "try!loglevel",
]


def check_late(events):
    outcomes = {}
    for event in events:
        name, _, outcome = event.partition("try ")[2].partition(": ")
        if name:
            outcomes.setdefault(name, outcome)
            assert outcome.startswith(TOO_LATE), event
    assert outcomes["log"] == outcomes["loglevel"] == "ok"
    return outcomes


@pytest.mark.parametrize("phase", ["dh", "eh"])
def test_calls_after_the_request_is_over(go_sync, phase):
    """A goroutine keeps everything it had and uses it all when the request is long gone."""
    go = go_sync
    go.ask(**{phase: ["set:x-a:1", "fork", f"wait:{go.id}", *LATE_CALLS, "event:survived"]})
    go.events()
    go.signal(go.id)
    check_late(go.wait_for_event(f"{phase}: survived"))


def test_late_use_of_a_body(go_sync):
    go = go_sync
    go.ask(
        body=b"body",
        dd=[
            "first?b.upper",
            "fork",
            f"wait:{go.id}",
            "try!b.string",
            "try!b.append:late",
            "try!b.drain:1",
            "event:survived",
        ],
    )
    assert go.received().body == b"BODY"
    go.events()
    go.signal(go.id)
    check_events = go.wait_for_event("dd: survived")
    assert sum("dd: try b." in event for event in check_events) >= 3


@in_process
def test_a_chunk_that_went_on_is_no_longer_the_filters(go_sync):
    """The filter puts its first chunk by, lets it go, and uses it when it is shown the second: it has its
    turn, but not that chunk."""
    go = go_sync
    stale = go.sluice.stat("golang.stale_handles")
    with go.connect() as client:
        client.send_head(
            "POST",
            go.path(
                dd=[
                    "first?b.keep",
                    "n2?try!kept.b.append:late",
                    "n2?try!kept.b.string",
                    "n2?try!kept.b.drain:1",
                    "n2?b.upper",
                ]
            ),
            [("transfer-encoding", "chunked")],
        )
        client.send_chunk(b"first ")
        go.wait_for_event("dd: len=6")
        client.send_chunk(b"second")
        client.send_end()
        assert client.read_reply().status == 200
        outcomes = [said for said in go.said("dd") if said.startswith("try ")]
    already = "invalid phase, maybe headers/buffer already continued"
    assert outcomes == [f"try kept.b.{what}: {already}" for what in ("append", "string", "drain")]
    assert go.received().body == b"first SECOND"
    assert go.sluice.stat("golang.stale_handles") == stale + 3


@in_process
def test_what_go_was_lent_outlives_the_request_until_go_gives_it_back(go_sync):
    """The client is gone and the request with it; a goroutine still has what it was lent, and the garbage
    collector gives it back once, after the goroutine's last call."""
    go = go_sync
    go.report.wait_until_collected(kept=go.shared.kept[go.sdk])
    stale = go.sluice.stat("golang.stale_handles")
    with go.connect() as client:
        client.send("GET", go.path(dh=["go", "getraw:host", f"wait:{go.id}", "try!getraw:host", "ret:none"]))
        go.wait_for_event("dh: wait")
        client.abort()
    go.wait_for_event("destroy: reason=1")

    def held(what):
        return int(json.loads(go.sluice.admin("/memory"))["lent"][what])

    # Once the exchange of the last report is over too, Go has requests, and the proxy has none.
    eventually(lambda: held("handles_count") == 0, what="no exchange with a Go filter")
    lent = go.sluice.stat("golang.unfinalized_requests")
    assert held("requests_count") == lent > sum(go.shared.kept.values())
    go.signal(go.id)
    go.wait_for_event("dh: try getraw")
    go.report.wait_until_collected(kept=go.shared.kept[go.sdk])
    # Reports are requests too, and the latest is not collected: the one that waited is what went.
    eventually(
        lambda: go.report.get(gc=1) and go.sluice.stat("golang.unfinalized_requests") < lent,
        what="the request given back",
    )
    assert go.sluice.stat("golang.stale_handles") == stale


def test_a_goroutine_beside_the_request_is_not_its_turn(go_sync):
    """The request has gone on to the origin; its headers are no longer the filter's to change."""
    go = go_sync
    with go.connect() as client:
        client.send(
            "GET",
            go.path(
                "/?o=pieces",
                dh=["fork", f"wait:{go.id}", "try!set:x-late:1", "try!continue:2", "event:done"],
            ),
        )
        go.wait_for_event("eh: ")
        go.origin.step(go.id)
        go.wait_for_event("ed: len=1")
        go.signal(go.id)
        events = go.wait_for_event("dh: done")
        for _ in range(9):
            go.origin.step(go.id)
        assert client.read_reply().body == b"0123456789"
    outcomes = [event for event in events if event.startswith("dh: try")]
    assert all(outcome.rpartition(": ")[2].startswith(TOO_LATE) for outcome in outcomes)
    assert "x-late" not in go.received_headers()


def test_a_late_panic_is_the_sdks_to_recover(go_sync):
    """A goroutine with RecoverPanic, as the SDK asks for: the late call ends it alone."""
    go = go_sync
    go.ask(dh=["fork:recover", f"wait:{go.id}", "set:x-late:1", "continue:2", "event:survived"])
    go.events()
    go.signal(go.id)
    go.wait_for_event("dh: woken")
    assert go.report.wait_until_collected(kept=go.shared.kept[go.sdk])["goroutines"] == 0


def test_a_goroutine_started_in_the_log_phase(go_sync):
    go = go_sync
    go.ask(log=["fork", f"wait:{go.id}", "try!resp.get:x-origin", "try!info:code", "event:survived"])
    go.events()
    go.signal(go.id)
    go.wait_for_event("log: survived")
