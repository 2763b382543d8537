"""Go callbacks that block: who waits for them, who does not, and for how long.

One processor and four places in the library: what is blocked is then exact.
"""

import json

import pytest
from go_support import Proxy, build, config_of, direct, go_listener, kit, report_listener, stop
from harness import LogFile, eventually

ONE = ["--concurrency", "1"]
SEATS = 4
BLOCKED = b"extension is blocked"


class Seats:
    """A proxy whose requests wait 100 ms for a seat on the listener `brief` and a minute on `patient`."""

    def __init__(self, folder):
        library = build("basic")
        self.name = library.name
        self.files = folder
        self.log = LogFile(folder / "log")
        trailing = LogFile(folder / "patient", "%RESPONSE_CODE% %REQ(X-LOGGED)%")
        self.patient_log = trailing

        def listen(name, wait, log):
            basic = kit.go_filter(library, "basic", go_seats=SEATS, seat_wait_timeout=wait)
            routes = [direct(204, prefix="/empty"), direct(200, "served\n")]
            return go_listener(name, [basic], routes, hcm={"access_log": [log.config]})

        config = config_of(
            [
                listen("brief", "0.1s", self.log),
                listen("patient", "60s", trailing),
                go_listener("no-go", []),
                report_listener(library),
            ]
        )
        self.sluice = Proxy(config, flags=ONE)
        self.report = kit.Reporter(self.sluice.port("report"))

    def stat(self, name):
        return self.sluice.stat(f"golang.library.{self.name}.{name}")

    def until(self, file):
        """The action that blocks until the file is made."""
        return ("waitfile", self.files / file)

    def block(self, count):
        """So many requests that stand in Go until let_go."""
        path = kit.path_of("/", dh=[self.until("go on")])
        before = self.stat("seats_blocked")
        clients = []
        for _ in range(count):
            client = self.sluice.connect("patient", timeout_s=60)
            client.send("GET", path)
            clients.append(client)
        eventually(lambda: self.stat("seats_blocked") == before + count, what=f"{count} more blocked")
        return clients

    def let_go(self):
        (self.files / "go on").touch()


@pytest.fixture
def seats(tmp_path):
    made = Seats(tmp_path)
    yield made
    made.let_go()
    assert made.sluice.leaks() == {}
    stop(made.sluice)


def test_the_sdk_is_told_the_number_of_seats(seats):
    assert seats.report.get()["concurrency"] == SEATS == seats.stat("seats")


def test_a_blocked_callback_keeps_its_seat_and_nothing_else(seats):
    """All but one seat are blocked; hundreds of requests go by it, on the same processor."""
    blocked = seats.block(SEATS - 1)
    with seats.sluice.connect("brief") as client:
        for _ in range(100):
            assert client.ask("GET", "/").status == 200
    assert seats.stat("seat_waits") == 0
    assert seats.stat("seats_blocked") == SEATS - 1
    seats.let_go()
    for client in blocked:
        assert client.read_reply().status == 200
        client.close()
    assert seats.stat("seats_blocked") == 0


def test_the_admin_shows_libraries_and_plugins_side_by_side(seats):
    blocked = seats.block(1)
    assert seats.sluice.get("/", listener="brief").status == 200
    seats.sluice.wait_for_stat(f"golang.plugin.{seats.name}.basic.requests", 1)  # it ends after its reply
    [library] = json.loads(seats.sluice.admin("/golang?format=json"))["libraries"]
    assert (library["name"], library["sdk"]) == (seats.name, "v1.33.0")
    assert (library["seats"], library["seats_busy"], library["seats_blocked"]) == (SEATS, 1, 1)
    plugins = {plugin["name"]: plugin for plugin in library["plugins"]}
    assert set(plugins) == {"basic", "report"}
    assert plugins["basic"]["requests"] == 1
    assert plugins["basic"]["calls"] >= 5
    text = seats.sluice.admin("/golang")
    assert f"{seats.name}::seats_blocked::1\n" in text
    assert f"{seats.name}::basic::requests::1\n" in text
    metrics = seats.sluice.admin("/stats/prometheus")
    assert f'golang_plugin_requests{{library="{seats.name}",plugin="basic"}} 1\n' in metrics
    assert f'golang_library_seats_blocked{{library="{seats.name}"}} 1\n' in metrics
    seats.let_go()
    assert blocked[0].read_reply().status == 200
    blocked[0].close()

    def slowest_us():
        [library] = json.loads(seats.sluice.admin("/golang?format=json"))["libraries"]
        return max(plugin["call_p99_us"] for plugin in library["plugins"])

    assert slowest_us() >= 1000  # it is counted with the callbacks' time, as it is over


def test_with_all_seats_blocked_requests_wait_then_get_503_and_all_recover(seats):
    blocked = seats.block(SEATS)
    waits = seats.stat("seat_waits")

    reply = seats.sluice.get("/", listener="brief")
    assert (reply.status, reply.body) == (503, BLOCKED)
    assert seats.log.lines(seats.sluice, 1) == ["503 OM golang_no_free_seat"]
    assert (seats.stat("seat_waits"), seats.stat("seat_timeouts")) == (waits + 1, 1)
    assert seats.sluice.get("/", listener="no-go").status == 200  # who needs no Go has no part in it

    patient = [seats.sluice.connect("patient", timeout_s=60) for _ in range(10)]
    for client in patient:
        client.send("GET", "/")
    eventually(lambda: seats.stat("seat_waits") == waits + 11, what="ten that wait")
    gone = patient.pop()
    gone.abort()  # while it waits
    eventually(lambda: seats.stat("ends_untold") == 2, what="its end")  # Go has heard neither of it nor of the 503
    seats.let_go()
    for client in patient + blocked:
        assert client.read_reply().status == 200
        client.close()
    assert seats.stat("seat_timeouts") == 1
    assert seats.sluice.get("/", listener="brief").status == 200


def test_a_connection_does_not_wait_for_the_end_of_its_last_request(seats):
    """Its response is on its way when another request blocks the seat that both have. The log phase and
    OnDestroy come later, with all that they show; the connection and the access log go on."""
    others = seats.block(SEATS - 1)  # what is left is one seat for all that follows
    asked = ("properties", "request.url_path", "response.headers.server", "connection.mtls", "source.address")
    path = kit.path_of(
        "/empty",
        test_id="one",
        dh="metadata.set:ns:k:v",
        eh=["go", seats.until("part")],
        log=["info:code", "set:x-logged:no", "metadata.set:ns:late:w", "metadata.get:ns", asked],
    )
    with seats.sluice.connect("patient", timeout_s=60) as client:
        client_port = client.sock.getsockname()[1]
        client.send("GET", path)
        seats.report.wait_for_event("one", "eh: end=1")
        others += seats.block(1)
        (seats.files / "part").touch()
        assert client.read_reply().status == 204
        client.send("GET", "/")  # waits for a seat, and not for an end
        assert seats.patient_log.lines(seats.sluice, 1) == ["204 -"]
        assert seats.stat("ends_waiting") == 1
        seats.let_go()
        assert client.read_reply().status == 200
    events = seats.report.wait_for_event("one", "destroy: reason=0")
    assert [e for e in events if e.startswith(("complete", "log", "destroy"))] == [
        "complete: called",
        "log: req=1 reqt=0 resp=1 respt=0",
        "log: info code=204",
        "log: metadata map[k:v late:w]",
        'log: request.url_path = "/empty"',
        'log: response.headers.server = "envoy"',
        'log: connection.mtls = "false"',
        f'log: source.address = "127.0.0.1:{client_port}"',
        "destroy: reason=0",
    ]
    for client in others:
        assert client.read_reply().status == 200
        client.close()


def test_a_request_whose_own_seat_is_blocked_gets_503(seats):
    """It waits in a goroutine; when it has decided, the next callback finds its seat blocked."""
    first = seats.block(SEATS - 1)
    with seats.sluice.connect("brief") as client:
        client.send("GET", kit.path_of("/", test_id="own", dh=["go", seats.until("part")]))
        seats.report.wait_for_event("own", "dh:")
        last = seats.block(1)
        (seats.files / "part").touch()
        reply = client.read_reply()
        assert (reply.status, reply.body) == (503, BLOCKED)
        assert seats.log.lines(seats.sluice, 1) == ["503 OM golang_seat_blocked"]
    seats.let_go()
    for blocked in first + last:
        assert blocked.read_reply().status == 200
        blocked.close()
    assert "destroy: reason=0" in seats.report.wait_for_event("own", "destroy")


def test_the_first_configuration_of_a_library_counts():
    library = build("basic")
    listeners = [go_listener(f"l{seats}", [kit.go_filter(library, "passthrough", go_seats=seats)]) for seats in (8, 6)]
    sluice = Proxy(config_of(listeners), flags=ONE)
    assert sluice.stat(f"golang.library.{library.name}.seats") == 8
    assert f"library {library.name} has 8 seats since its first configuration; go_seats: 6" in sluice.log()
    stop(sluice)
