"""isolation: PROCESS of network filters. The loss of the process costs the connections that it held, and those only
that cannot do without; everything else goes on."""

import contextlib
import os
import time

import kit
import pytest
from go_support import Proxy, build, cluster, config_of, eventually, report_listener, stop
from harness import LogFile
from tcp_support import Upstream, connect, is_reset, receive, tcp_edge, tcp_listener, tcp_proxy, to_the_end
from test_go_network import go_network, tell
from isolation_support import ALWAYS, Swapped, kill_hosts, pid_when_up

PROCESS = {"isolation": "PROCESS", "restarts": ALWAYS}


class Edge:
    """The library on two ids, so in two processes: `closed` and `open` by what is done when its process is lost."""

    def __init__(self, folder):
        library = build("network")
        self.upstream = Upstream()
        where = f"127.0.0.1:{self.upstream.port}"
        self.log = LogFile(folder / "log", "%CONNECTION_TERMINATION_DETAILS%")
        listeners = [tcp_edge("no-go")]
        for policy in ("closed", "open"):
            fields = {**PROCESS, "library_id": policy, "on_failure": policy.upper()}

            def go(plugin="script", fields=fields, **more):
                return go_network(library, plugin, fields=fields, **more)

            def before(go=go, **more):
                return go(terminal=False, passes=True, **more)

            listeners += [
                tcp_listener(f"{policy}.last", go(id="last"), access_log=[self.log.config]),
                tcp_listener(f"{policy}.proxy", go("proxy", upstream=where)),
                tcp_listener(f"{policy}.before", before(id="before"), tcp_proxy()),
                tcp_listener(f"{policy}.opens", before(id="opens", wait_open=True), tcp_proxy()),
                tcp_listener(f"{policy}.stops", before(id="stops", stop_write=5), tcp_proxy()),
                report_listener(library, f"{policy}.report", **fields),
            ]
        self.sluice = Proxy(config_of(listeners, [cluster("origin", self.upstream.port)]))

    def port(self, name):
        return self.sluice.port(name)

    def through(self, name):
        client = connect(self, name)
        return client, self.upstream.accept()

    def asked(self, name, question="say hello"):
        """A connection that the plugin has answered on: its process knows it."""
        client = connect(self, name)
        tell(client, question)
        assert receive(client, 6) == b"hello\n"
        return client

    def events(self, policy, test_id, until):
        return kit.Reporter(self.port(f"{policy}.report")).wait_for_event(test_id, until)

    def stat(self, name):
        return self.sluice.stat(f"golang.network.{name}")

    def end_processes(self):
        kill_hosts(self.sluice)


@pytest.fixture(scope="module")
def edge(tmp_path_factory):
    it = Edge(tmp_path_factory.mktemp("isolated"))
    yield it
    stop(it.sluice)
    it.upstream.close()


# ---- CLOSED ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("death", ["exit", "fault", "goroutine"])
def test_a_death_costs_the_connections_that_the_process_held(edge, death):
    before = edge.stat("host_lost_closed")
    with edge.asked("closed.last") as idle, edge.asked("closed.last") as client:
        tell(client, f"die {death}")
        assert is_reset(client)
        assert is_reset(idle)
    assert edge.stat("host_lost_closed") == before + 2
    edge.asked("closed.last").close()  # by the next process, which was waited for


def test_the_access_log_tells_why(edge):
    path, told = edge.log.path, "golang_host_lost"
    before = path.read_text().count(told) if path.exists() else 0  # of other tests
    with edge.asked("closed.last") as client:
        tell(client, "die exit")
        assert is_reset(client)
    eventually(lambda: edge.log.lines(edge.sluice, 1).count(told) > before, what="the line")


def test_connections_without_the_filter_do_not_notice(edge):
    client, server = edge.through("no-go")
    with client, server, edge.asked("closed.last") as dies:
        tell(dies, "die exit")
        assert is_reset(dies)
        client.sendall(b"on")
        assert receive(server, 2) == b"on"


def test_a_filter_before_others_takes_both_ends_with_it(edge):
    client, server = edge.through("closed.before")
    with client, server:
        client.sendall(b"x\n")
        assert receive(server, 2) == b"x\n"
        edge.end_processes()
        assert is_reset(client)
        with contextlib.suppress(ConnectionResetError):
            assert to_the_end(server) == b""


def test_what_the_plugin_was_connected_to_is_let_go(edge):
    active = edge.stat("upstream_cx_active")
    client, server = edge.through("closed.proxy")
    with client, server:
        client.sendall(b"ping")
        assert receive(server, 4) == b"ping"
        edge.end_processes()
        assert is_reset(client)
        assert is_reset(server)
    eventually(lambda: edge.stat("upstream_cx_active") == active, what="upstreams let go")


def test_a_callback_that_does_not_return_is_ended(edge, tmp_path):
    fields = {**PROCESS, "callback_timeout": "1.5s"}
    sluice = Proxy(config_of([tcp_listener("main", go_network(build("network"), fields=fields))]))
    with connect(sluice, "main") as client:
        tell(client, "die loop")
        assert is_reset(client)
    sluice.wait_for_log("fatal.Die")
    with connect(sluice, "main") as client:
        tell(client, "say hello")
        assert receive(client, 6) == b"hello\n"
    stop(sluice)


# ---- OPEN -----------------------------------------------------------------------------------------


def test_a_connection_goes_on_without_the_filter(edge):
    """What nobody had an answer for goes on, too: the line that the process died of."""
    before = edge.stat("host_lost_open")
    client, server = edge.through("open.before")
    with client, server:
        client.sendall(b"die exit\n")
        assert receive(server, 9) == b"die exit\n"
        client.sendall(b"die again\n")  # nobody looks at it any more
        assert receive(server, 10) == b"die again\n"
        server.sendall(b"answer")
        assert receive(client, 6) == b"answer"
        client.shutdown(1)
        assert to_the_end(server) == b""
        server.close()
        assert to_the_end(client) == b""
    assert edge.stat("host_lost_open") == before + 1


def test_what_on_write_had_stopped_goes_on(edge):
    client, server = edge.through("open.stops")
    with client, server:
        server.sendall(b"abc")
        edge.events("open", "stops", "write: len=3")
        edge.end_processes()
        assert receive(client, 3) == b"abc"


def test_filters_that_waited_for_the_plugin_begin(edge):
    with edge.asked("open.opens", "say hello\nstop") as client:
        # That the plugin stopped bytes means that the rest of them is not for others.
        edge.end_processes()
        assert is_reset(client)
    with connect(edge, "open.opens") as client:
        edge.events("open", "opens", "new")
        edge.end_processes()
        with edge.upstream.accept() as server:
            server.sendall(b"banner")
            assert receive(client, 6) == b"banner"


def test_what_the_plugin_had_kept_is_missing_so_it_cannot_go_on(edge):
    client, server = edge.through("open.before")
    with client, server:
        tell(client, "say hello", "stop")  # these bytes are the plugin's
        assert receive(client, 6) == b"hello\n"
        tell(client, "pass", "die exit")
        assert is_reset(client)


def test_a_connection_of_which_the_plugin_is_the_end_cannot_go_on(edge):
    with edge.asked("open.last") as client:
        edge.end_processes()
        assert is_reset(client)


# ---- no process -----------------------------------------------------------------------------------


@pytest.mark.parametrize("on_failure", ["CLOSED", "OPEN"])
def test_connections_that_wait_in_vain_for_a_process_are_dealt_with_as_its_loss_is(edge, on_failure):
    library = build("network")
    fields = {
        "isolation": "PROCESS",
        "restarts": {"base_interval": "3600s", "max_interval": "3600s"},
        "on_failure": on_failure,
        "seat_wait_timeout": "0.05s",
    }
    chain = (go_network(library, terminal=False, passes=True, fields=fields), tcp_proxy())
    sluice = Proxy(config_of([tcp_listener("main", *chain)], [cluster("origin", edge.upstream.port)]))
    for restarts in (0, 1):  # it is started again at once, the first time
        pid = eventually(lambda restarts=restarts: pid_when_up(sluice, restarts), what=f"restart {restarts}")
        os.kill(pid, 9)
    sluice.wait_for_log("it is started again in")
    with connect(sluice, "main") as client:
        if on_failure == "OPEN":
            with edge.upstream.accept() as server:
                client.sendall(b"x")
                assert receive(server, 1) == b"x"
        else:
            with contextlib.suppress(ConnectionResetError):
                assert to_the_end(client) == b""
    stop(sluice)


# ---- a new file -----------------------------------------------------------------------------------


@pytest.fixture
def swapped(tmp_path):
    fields = {**PROCESS, "library_id": "swapped"}

    def listeners(library):
        main = tcp_listener("main", go_network(library, fields=fields))
        return [main, report_listener(library, **fields)]

    it = Swapped(tmp_path, "network", listeners)
    yield it
    stop(it.sluice)


def test_a_connection_stays_with_the_file_that_it_began_with(swapped):
    with connect(swapped.sluice, "main") as client:
        tell(client, "say hello")
        assert receive(client, 6) == b"hello\n"
        swapped.put_and_wait("1.32")
        # What told the SDK is about to end in the old process, too.
        drains = ("draining_processes", "draining_streams")
        eventually(lambda: [swapped.shown()[name] for name in drains] == [1, 1], what="its connection alone there")
        with connect(swapped.sluice, "main") as young:
            tell(young, "say hello")
            assert receive(young, 6) == b"hello\n"
        tell(client, "say again", "close 0")
        assert to_the_end(client) == b"again\n"
    eventually(lambda: swapped.shown()["draining_processes"] == 0, what="the end of the old process")


@pytest.mark.long
@pytest.mark.timeout(180)
def test_a_connection_that_outlives_the_drain_is_lost_with_the_old_process(swapped):
    with connect(swapped.sluice, "main") as client:
        tell(client, "say hello")
        assert receive(client, 6) == b"hello\n"
        swapped.put_and_wait("1.32")
        began = time.monotonic()
        client.settimeout(120)
        assert is_reset(client)
        assert 50 < time.monotonic() - began < 110
