"""phase_timeout: how long a Go filter may have a message, in the proxy and in a process, in its callback or in
goroutines. Whoever takes longer never gets it back: the client has its answer, and what is still said is late."""

import ctypes
import os

import pytest
from go_support import Gone, Proxy, build, cluster, config_of, eventually, go_listener, kit, stop, to
from harness import LogFile
from isolation_support import host_pids
from wire import Origin

TOO_LONG = b"extension took too long"
LONG_S = 60


class Watched:
    """One library: on the listener `brief` a phase may take half a second, on `slow` two, on `patient` any time."""

    def __init__(self, folder, isolation):
        self.isolation = isolation
        self.origin = Origin()
        self.log = LogFile(folder / "log", "%REQ(X-ID)% %RESPONSE_CODE% %RESPONSE_CODE_DETAILS%")
        self.ids = 0

        def listen(name, **more):
            basic = kit.go_filter(build("basic"), "basic", library_id="watched", isolation=isolation, **more)
            return go_listener(name, [basic], [to("origin")], hcm={"access_log": [self.log.config]})

        report = kit.go_filter(build("basic"), "report", library_id="watched", isolation=isolation)
        listeners = [
            listen("brief", phase_timeout="0.5s"),
            listen("slow", phase_timeout="2s"),
            listen("patient"),
            go_listener("report", [report]),
        ]
        self.sluice = Proxy(config_of(listeners, [cluster("origin", self.origin.port)]))
        self.report = kit.Reporter(self.sluice.port("report"))

    def new_id(self):
        self.ids += 1
        return f"request-{self.ids}"

    def logged(self, test_id):
        """The access log's line of a request, without its id."""

        def look():
            found = [line for line in self.log.lines(self.sluice, 1) if line.startswith(f"{test_id} ")]
            return found and found[0].removeprefix(f"{test_id} ")

        return eventually(look, what=f"the line of {test_id}")

    def cut(self):
        return self.sluice.stat("golang.plugin.watched.basic.phase_timeouts")

    def stale_calls(self):
        return self.sluice.stat("golang.stale_calls")

    def close(self):
        stop(self.sluice)
        self.origin.close()


@pytest.fixture(scope="module", params=["IN_PROCESS", "PROCESS"])
def watched(request, tmp_path_factory):
    it = Watched(tmp_path_factory.mktemp("watched"), request.param)
    yield it
    it.close()


@pytest.mark.parametrize("where", ["callback", "goroutine"])
@pytest.mark.parametrize("phase", ["dh", "dd", "eh"])
def test_a_phase_that_takes_too_long_is_answered_for_and_what_it_says_later_is_late(watched, phase, where):
    test_id = watched.new_id()
    cut, late = watched.cut(), watched.stale_calls()
    change = "b.append:late" if phase == "dd" else "set:x-late:1"
    actions = [f"wait:{test_id}", change, "continue:2", "event:survived"]
    script = {phase: ["go", *actions] if where == "goroutine" else actions}
    with watched.sluice.connect("brief", timeout_s=LONG_S) as client:
        path = kit.path_of("/", test_id=test_id, **script)
        reply = client.ask("POST", path, headers=[("x-id", test_id)], body=b"a body")
    assert (reply.status, reply.body) == (504, TOO_LONG)
    assert watched.cut() == cut + 1
    assert watched.logged(test_id) == "504 golang_phase_timeout"
    watched.report.signal(test_id)
    events = watched.report.wait_for_event(test_id, "destroy: reason=1")
    assert f"{phase}: survived" in watched.report.wait_for_event(test_id, "survived")
    if phase != "eh":
        assert not [event for event in events if event.startswith("eh")]  # the 504 is none of its business
    if (watched.isolation, where) != ("PROCESS", "callback"):  # that one's process hears of the end when it returns
        eventually(lambda: watched.stale_calls() > late, what="a late call")
    assert watched.sluice.get(kit.path_of("/", dh="go,set:x-a:b"), listener="patient").status == 200


def test_a_response_that_has_begun_is_reset(watched):
    test_id = watched.new_id()
    cut = watched.cut()
    path = kit.path_of(f"/?o=pieces&id={test_id}", ed=["n3?go", f"wait:{test_id}"])
    with watched.sluice.connect("slow", timeout_s=LONG_S) as client:
        client.send("GET", path, headers=[("x-id", test_id)])
        for _ in range(3):
            watched.origin.step(test_id)
        with pytest.raises(Gone):
            client.read_reply()
    eventually(lambda: watched.cut() == cut + 1, what="the cut")
    assert watched.logged(test_id) == "200 golang_phase_timeout"
    watched.report.signal(test_id)


def test_whoever_is_in_time_is_not_hurried(watched):
    cut = watched.cut()
    for script in ("set:x-a:b", "go,set:x-a:b"):
        reply = watched.sluice.get(kit.path_of("/", dh=script), listener="slow")
        assert (reply.status, reply.body) == (200, b"origin\n")
    assert watched.cut() == cut


def test_a_process_of_which_only_a_goroutine_is_late_stays(watched):
    if watched.isolation != "PROCESS":
        pytest.skip("of isolated libraries")
    [pid, _] = before = host_pids(watched.sluice)
    test_id = watched.new_id()
    reply = watched.sluice.get(kit.path_of("/", test_id=test_id, dh=["go", f"wait:{test_id}"]), listener="brief")
    assert reply.status == 504
    watched.report.signal(test_id)
    watched.report.wait_for_event(test_id, "destroy")
    assert (pid, host_pids(watched.sluice)) == (before[0], before)
    assert watched.sluice.stat("golang.library.watched.hangs") == 0


def attach(pid):
    """As a debugger does, without stopping it. False: this machine does not let us."""
    seize = 0x4206
    return ctypes.CDLL(None, use_errno=True).ptrace(seize, pid, None, None) == 0


def detach(pid):
    """It has to stand still for that."""
    ptrace = ctypes.CDLL(None, use_errno=True).ptrace
    interrupt, detach = 0x4207, 17
    assert ptrace(interrupt, pid, None, None) == 0
    os.waitpid(pid, 0x40000000)  # __WALL
    assert ptrace(detach, pid, None, None) == 0


def test_no_time_passes_while_a_debugger_holds_the_process(watched):
    if watched.isolation != "PROCESS":
        pytest.skip("of isolated libraries")
    cut, test_id = watched.cut(), watched.new_id()
    attached = [pid for pid in host_pids(watched.sluice) if attach(pid)]  # one of them is the spare
    if not attached:
        pytest.skip("no process may be traced here")
    with watched.sluice.connect("brief", timeout_s=LONG_S) as client:
        client.send("GET", kit.path_of("/", test_id=test_id, dh=["go", f"wait:{test_id}"]))
        late = kit.path_of("/", dh="go,sleep:1000")  # longer than it may
        assert watched.sluice.get(late, listener="brief").status == 200
        assert watched.cut() == cut
        for pid in attached:
            detach(pid)
        assert client.read_reply().status == 504
    watched.report.signal(test_id)
