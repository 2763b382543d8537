"""Network filters in Go: one that serves a connection, with upstreams of its own, and one that looks at what other
filters get and send. The plugins `script` and `proxy` are in tests/filters/network."""

import contextlib
import random
import threading

import kit
import pytest
from go_support import Proxy, build, cluster, config_of, refused, report_listener, stop
from harness import TYPE, LogFile, eventually, is_sanitized, listener
from tcp_support import (
    Receiver,
    Sender,
    Upstream,
    connect,
    digest_of,
    is_reset,
    network_filter,
    receive,
    reset,
    tcp_listener,
    tcp_proxy,
    to_the_end,
)


def go_network(library, plugin="script", *, terminal=True, passes=False, fields=(), **config):
    """An entry of a chain's filters. config: the plugin's; fields: ours, and others than these."""
    return {
        "name": "envoy.filters.network.golang",
        "typed_config": {
            "@type": TYPE + "envoy.extensions.filters.network.golang.v3alpha.Config",
            "is_terminal_filter": terminal,
            "library_id": "network",
            "library_path": str(library),
            "plugin_name": plugin,
            "plugin_config": kit.typed_struct(config),
            **({"pass_read_data": True} if passes else {}),
            **kit.isolation(),
            **kit.PATIENT,
            **dict(fields),
        },
    }


class Edge:
    """One proxy with a listener for each way of use; what a test's connection did is told by events."""

    def __init__(self, sdk, folder):
        library = build("network", sdk)
        self.upstream = Upstream()
        where = f"127.0.0.1:{self.upstream.port}"
        self.log = LogFile(folder / f"log-{sdk}", "%BYTES_RECEIVED% %BYTES_SENT% %FILTER_STATE(tenant:PLAIN)%")

        def before(**config):
            return go_network(library, terminal=False, **config)

        listeners = [
            tcp_listener("script", go_network(library, id="script"), access_log=[self.log.config]),
            tcp_listener("echo", go_network(library, echo=True)),
            tcp_listener("goroutines", go_network(library, echo=True, **{"async": True})),
            tcp_listener("proxy", go_network(library, "proxy", id="proxy", upstream=where)),
            tcp_listener("half", go_network(library, "proxy", id="half", upstream=where, half_close=True)),
            tcp_listener("refused", go_network(library, "proxy", id="refused", upstream="127.0.0.1:1")),
            tcp_listener("pass", before(id="pass", passes=True), tcp_proxy()),
            tcp_listener("drain", before(id="drain"), tcp_proxy()),
            tcp_listener("open", before(id="open", passes=True, wait_open=True), tcp_proxy()),
            tcp_listener("stop", before(id="stop", passes=True, stop_write=5), tcp_proxy()),
            tcp_listener(
                "two",
                go_network(library, terminal=False, passes=True, name="one"),
                go_network(library, id="two", name="two"),
                access_log=[self.log.config],
            ),
            tcp_listener("before_echo", before(id="before_echo", passes=True), network_filter("echo")),
            report_listener(library, library_id="network"),
        ]
        clusters = [cluster("origin", self.upstream.port)]
        self.sluice = Proxy(config_of(listeners, clusters))
        self.report = kit.Reporter(self.sluice.port("report"))

    def port(self, name):
        return self.sluice.port(name)

    def connect(self, name):
        return connect(self, name)

    def through(self, name):
        client = self.connect(name)
        return client, self.upstream.accept()

    def events(self, test_id, until="event: "):
        return self.report.wait_for_event(test_id, until)

    def count(self, name):
        return self.report.get()["counts"].get(name, 0)

    def wait_until_given_back(self):
        """Go has no connection any more, once its garbage was collected."""

        def look():
            self.report.get(gc=1)
            return self.sluice.stat("golang.unfinalized_connections") == 0

        eventually(look, what="connections given back")


@pytest.fixture(scope="module", params=("1.33",))
def shared(request, tmp_path_factory):
    edge = Edge(request.param, tmp_path_factory.mktemp("network"))
    yield edge
    stop(edge.sluice)
    edge.upstream.close()


@pytest.fixture
def edge(shared):
    """Every test, whatever it did, leaves a living proxy and no connection on either side."""
    for name in ("script", "proxy", "half", "refused", "pass", "drain", "open", "stop", "two", "before_echo"):
        shared.report.get(forget=name)
    yield shared
    assert shared.sluice.alive(), shared.sluice.log()[-8000:]
    shared.wait_until_given_back()
    assert shared.sluice.leaks() == {}
    assert shared.sluice.stat("golang.network.upstream_cx_active") == 0


@contextlib.contextmanager
def script(edge, name="script"):
    """A connection to the plugin, which does what it is told line by line."""
    with edge.connect(name) as client, client.makefile("rb") as reader:
        yield client, reader


def tell(client, *lines):
    client.sendall("".join(f"{line}\n" for line in lines).encode())


# ---- a filter that serves ---------------------------------------------------------------------


def test_it_answers(edge):
    with script(edge) as (client, reader):
        tell(client, "say one", "say two")
        assert reader.readline() == b"one\n"
        assert reader.readline() == b"two\n"
        tell(client, "go", "say three", "say four")  # by a goroutine: in its order
        assert reader.readline() == b"three\n"
        assert reader.readline() == b"four\n"
    events = edge.events("script")
    assert events[0] == "new"
    assert [e for e in events if e.startswith("write")] == ["write: len=4 end=false"] * 2 + [
        "write: len=6 end=false",
        "write: len=5 end=false",
    ]
    assert events[-1] == "event: RemoteClose"


@pytest.mark.parametrize("name", ["echo", "goroutines"])
def test_much_comes_back(edge, name):
    """More than the queue of what Go wrote takes: reading waits for writing."""
    size = 3 << 20 if name == "echo" else 200_000
    with edge.connect(name) as client:
        receiver = Receiver(client, size)
        Sender(client, name, size, ends=False)
        if name == "echo":
            assert receiver.digest() == digest_of(name, size)
        else:  # one goroutine for each piece, so nothing is said of the order
            receiver.digest()
            assert receiver.size == size


def test_what_was_written_is_sent_before_the_client_is_let_go(edge):
    """The client's end is RemoteClose, as on Envoy; what Go wrote until then arrives."""
    with edge.connect("echo") as client:
        client.sendall(b"x" * 100_000)
        client.shutdown(1)
        assert len(to_the_end(client)) == 100_000


def test_info_tells_the_addresses(edge):
    with script(edge) as (client, reader):
        tell(client, "info")
        local, remote = reader.readline().decode().split()
        assert local == f"127.0.0.1:{edge.port('script')}"
        assert remote == f"127.0.0.1:{client.getsockname()[1]}"


@pytest.mark.parametrize("kind", range(5))
def test_each_kind_of_close(edge, kind):
    with script(edge) as (client, reader):
        tell(client, "say last words", f"close {kind}", "say never")
        if kind == 4:
            assert is_reset(client)
        else:
            said = to_the_end(client)
            assert said in (b"last words\n", b"") if kind in (1, 3) else said == b"last words\n"
    events = edge.events("script")
    assert events[-1] == "event: LocalClose"
    assert events.count("event: LocalClose") == 1


def test_a_flush_waits_for_a_slow_client_and_no_flush_does_not(edge):
    size = 8 << 20  # more than the kernel takes
    with script(edge) as (client, reader):
        tell(client, f"many {size}", "close 0")
        assert len(to_the_end(client)) == size
    edge.events("script")
    edge.report.get(forget="script")
    with script(edge) as (client, reader):
        tell(client, f"many {size}", "close 1")
        assert edge.events("script")[-1] == "event: LocalClose"  # although nobody reads


def test_an_end_of_writing(edge):
    """Write with endStream: the client sees the end, and is heard all the same."""
    with script(edge) as (client, reader):
        tell(client, "end bye")
        assert to_the_end(client) == b"bye\n"
        tell(client, "say nothing", "close 0")
        assert edge.events("script")[-1] == "event: LocalClose"


def test_a_client_that_resets(edge):
    with script(edge) as (client, reader):
        tell(client, "say hello")
        assert reader.readline() == b"hello\n"
        reset(client)
    assert edge.events("script")[-1] == "event: RemoteClose"


def test_bytes_are_in_the_access_log(edge):
    with script(edge) as (client, reader):
        tell(client, "say hello", "close 0")
        assert to_the_end(client) == b"hello\n"
    eventually(lambda: "18 6 -" in edge.log.lines(edge.sluice, 1), what="the line")


def test_filter_state_is_seen_by_others(edge):
    """What SetString left is what GetString gives, to the filter itself, to the next one and to goroutines; and it is
    in the access log. (The SDK's GetString locks memory of others: the plugin's has room for that, see room.go.)"""
    with script(edge, "two") as (client, reader):

        def ask(*lines):
            tell(client, *lines)
            return reader.readline().decode().strip()

        assert ask("two.get tenant") == ""
        assert ask("one.state tenant green") == "set"
        assert ask("one.get tenant") == "green"
        assert ask("two.get tenant") == "green"
        assert ask("two.state tenant blue") == "set"
        assert ask("one.get tenant") == "blue"
        assert ask("one.get other") == ""
        assert ask("two.go", "get tenant") == "blue"
        tell(client, "two.close 0")
        assert to_the_end(client) == b""
    edge.events("two")
    eventually(lambda: [line for line in edge.log.lines(edge.sluice, 1) if line.endswith(" blue")], what="the line")


def test_filter_state_is_of_one_connection(edge):
    with script(edge) as (one, reader_one), script(edge) as (two, reader_two):
        tell(one, "state tenant one", "get tenant")
        assert [reader_one.readline(), reader_one.readline()] == [b"set\n", b"one\n"]
        tell(two, "get tenant")
        assert reader_two.readline() == b"\n"


@pytest.mark.parametrize("sdk", ["1.31", "1.32"])
def test_older_sdks(sdk):
    """The SDK's code for network filters is the same in all of them: a word through each is enough."""
    library = build("network", sdk)
    upstream = Upstream()
    listeners = [
        tcp_listener("script", go_network(library, id="script")),
        tcp_listener("proxy", go_network(library, "proxy", upstream=f"127.0.0.1:{upstream.port}")),
    ]
    sluice = Proxy(config_of(listeners))
    with connect(sluice, "script") as client:
        tell(client, "say hello", "close 0")
        assert to_the_end(client) == b"hello\n"
    with connect(sluice, "proxy") as client, upstream.accept() as server:
        client.sendall(b"ping")
        assert receive(server, 4) == b"ping"
        server.sendall(b"pong")
        assert receive(client, 4) == b"pong"
    stop(sluice)
    upstream.close()


# ---- upstreams ----------------------------------------------------------------------------------


def test_a_proxy_in_go(edge):
    client, server = edge.through("proxy")
    with client, server:
        client.sendall(b"to the upstream")
        assert receive(server, 15) == b"to the upstream"
        server.sendall(b"to the client")
        assert receive(client, 13) == b"to the client"
        client.close()
        assert to_the_end(server) == b""
    where = f"127.0.0.1:{edge.upstream.port}"
    edge.events("proxy", "upstream event: LocalClose")
    assert edge.events("proxy")[0] == f"ready: {where} {where}"  # "local" is what was dialled, as on Envoy


def test_much_both_ways(edge):
    size = 4 << 20
    client, server = edge.through("proxy")
    with client, server:
        up, down = Receiver(server, size), Receiver(client, size)
        Sender(client, "up", size, ends=False)
        Sender(server, "down", size, ends=False)
        assert up.digest() == digest_of("up", size)
        assert down.digest() == digest_of("down", size)


def test_an_upstream_that_ends(edge):
    """Without half-close its end is its RemoteClose, after its data."""
    client, server = edge.through("proxy")
    with client, server:
        server.sendall(b"all there is")
        server.close()
        assert to_the_end(client) == b"all there is"
    events = edge.events("proxy", "event: LocalClose")
    assert events[1:] == [
        "upstream data: len=12 end=false",
        "upstream event: RemoteClose",
        "event: LocalClose",
    ]


def test_an_upstream_that_is_half_closed(edge):
    """EnableHalfClose: its end is told with its data, and the connection goes on until Go ends it."""
    client, server = edge.through("half")
    with client, server:
        server.sendall(b"all there is")
        server.shutdown(1)
        assert to_the_end(client) == b"all there is"
        events = edge.events("half", "upstream event: LocalClose")  # before the server closes its half, too
    assert "upstream data: len=0 end=true" in events
    assert events.index("upstream data: len=0 end=true") < events.index("upstream event: LocalClose")


def test_an_upstream_that_resets(edge):
    client, server = edge.through("proxy")
    with client:
        edge.events("proxy", "ready: ")  # a reset before the proxy has looked is a failed connect
        reset(server)
        to_the_end(client)
    assert "upstream event: RemoteClose" in edge.events("proxy", "upstream event")


def test_an_upstream_that_is_not_there(edge):
    with edge.connect("refused") as client:
        assert to_the_end(client) == b""
    assert edge.events("refused", "failure: ")[0] == "failure: RemoteConnectionFailure"


# ---- before other filters -------------------------------------------------------------------------


def test_a_filter_that_changes_nothing(edge):
    size = 2 << 20
    seen = edge.count("data_bytes"), edge.count("write_bytes")
    client, server = edge.through("pass")
    with client, server:
        up, down = Receiver(server), Receiver(client)
        Sender(client, "up", size)
        Sender(server, "down", size)
        assert up.digest() == digest_of("up", size)
        assert down.digest() == digest_of("down", size)
    assert (edge.count("data_bytes") - seen[0], edge.count("write_bytes") - seen[1]) == (size, size)
    events = edge.events("pass")
    assert "data: len=0 end=true" in events
    assert "write: len=0 end=true" in events


def test_as_on_envoy_data_ends_at_the_filter(edge):
    """Without pass_read_data what the client sends is the plugin's, whatever it returns; the end goes on."""
    client, server = edge.through("drain")
    with client, server:
        tell(client, "say mine")
        assert receive(client, 5) == b"mine\n"
        client.shutdown(1)
        assert to_the_end(server) == b""
        server.sendall(b"yours")
        assert receive(client, 5) == b"yours"


def test_the_filters_behind_wait_for_continue(edge):
    """StopIteration of OnNewConnection: no upstream before OnData says Continue."""
    edge.upstream.listening.settimeout(20)
    with edge.connect("open") as client:
        tell(client, "say who are you", "stop")
        assert receive(client, 12) == b"who are you\n"
        assert edge.sluice.stat("tcp.origin.downstream_cx_total") >= 0
        total = edge.sluice.stat("cluster.origin.upstream_cx_total")
        tell(client, "say come in", "pass")
        with edge.upstream.accept() as server:
            assert receive(client, 8) == b"come in\n"
            assert receive(server, 17) == b"say come in\npass\n"
            assert edge.sluice.stat("cluster.origin.upstream_cx_total") == total + 1


def test_what_on_write_stops_is_shown_again(edge):
    client, server = edge.through("stop")
    with client, server:
        server.sendall(b"abc")
        edge.events("stop", "write: len=3")
        server.sendall(b"defg")
        assert receive(client, 7) == b"abcdefg"
    assert "write: len=7 end=false" in edge.events("stop")


@pytest.mark.parametrize("name", ["pass", "before_echo"])
def test_a_filter_in_front_closes(edge, name):
    client = edge.connect(name)
    with client, contextlib.ExitStack() as stack:
        server = stack.enter_context(edge.upstream.accept()) if name == "pass" else None
        tell(client, "say away", "close 0")
        said = to_the_end(client)
        assert b"away\n" in said
        if server:
            with contextlib.suppress(ConnectionResetError):
                to_the_end(server)
    assert edge.events(name)[-1] == "event: LocalClose"


def test_an_upstream_of_tcp_proxy_that_is_slow_and_goes(edge):
    """The connection ends while Go's own write waits for the client."""
    client, server = edge.through("pass")
    with client, server:
        tell(client, f"many {8 << 20}")
        edge.events("pass", f"write: len={8 << 20}")
        reset(server)
        edge.events("pass", "event: ")


# ---- traps ------------------------------------------------------------------------------------------


def test_trap_an_empty_write_panics_in_the_sdk(edge):
    """It takes the address of the first byte. A plugin that recovers lives on."""
    with script(edge) as (client, reader):
        tell(client, "empty", "say on")
        assert b"index out of range" in reader.readline()
        assert reader.readline() == b"on\n"


def test_trap_a_malformed_address(edge):
    """Envoy throws through C into Go; here it is a failure like others."""
    addresses = ["nowhere", "1.2.3.4", "1.2.3.4:", "1.2.3.4:99999", "::1:80", "[::1:80", "x:80", "a" * 500]
    with script(edge) as (client, reader):
        tell(client, *[f"fail {address}" for address in addresses], "say done")
        assert reader.readline() == b"done\n"
        events = edge.report.wait_for(
            lambda r: sum("failure" in e for e in r["events"]) == len(addresses), "failures", id="script"
        )["events"]
        told = [e for e in events if e.startswith("failure")]
        assert told == ["failure: LocalConnectionFailure"] * len(addresses)


def test_trap_calls_after_the_end(edge):
    """By a goroutine that outlives its connection, and Go's own collection of the filter: codes, no crash."""
    stale = edge.sluice.stat("golang.stale_calls")
    with script(edge) as (client, reader):
        tell(client, "state tenant kept", "late now", "say ok")
        assert [reader.readline(), reader.readline()] == [b"set\n", b"ok\n"]
    edge.events("script")
    edge.report.signal("now")
    lines = edge.events("script", "late: ")
    edge.report.wait_for(lambda r: r["goroutines"] == 0, "the goroutine's end")
    # What it knows of its addresses is there as long as it has the filter; the filter state is the connection's.
    assert 'late: true ""' in lines
    assert edge.sluice.stat("golang.stale_calls") >= stale + 3


def test_trap_two_connections_have_two_names(edge):
    """What Go knows a connection by is the key of its map, and no other's until that is collected."""
    before = edge.sluice.stat("golang.unfinalized_connections")
    for _ in range(3):
        with script(edge) as (client, reader):
            tell(client, "say x")
            assert reader.readline() == b"x\n"
    with script(edge) as (one, reader_one), script(edge) as (two, reader_two):
        tell(one, "info")
        tell(two, "info")
        assert reader_one.readline() != reader_two.readline()
        assert edge.sluice.stat("golang.unfinalized_connections") >= before + 2


def test_trap_an_event_comes_once(edge):
    """OnEvent takes the filter out of Go's map: a second one would end the process."""
    for _ in range(20):
        with script(edge) as (client, reader):
            tell(client, "go", "close 0", "close 3", "close 4")
            with contextlib.suppress(ConnectionResetError):
                to_the_end(client)
    events = edge.report.wait_for(lambda r: sum("event: " in e for e in r["events"]) == 20, "20 ends", id="script")[
        "events"
    ]
    assert sum(e == "new" for e in events) == 20


def test_too_much_is_broken_off(edge):
    """Written in one go, where nothing can wait: beyond the bound the connection is reset."""
    overflows = edge.sluice.stat("golang.network.write_overflow")
    with script(edge) as (client, reader):
        tell(client, "many 40000000", "many 40000000", "say never")
        assert is_reset(client)
    assert edge.sluice.stat("golang.network.write_overflow") == overflows + 1
    assert edge.events("script")[-1] == "event: LocalClose"


def test_storm_of_aborts(edge):
    """Connections of all kinds that end in all ways, at any moment."""
    chance = random.Random(7)
    count = 60 if is_sanitized() else 200
    accepted = []
    going = threading.Event()

    def serve():
        while not going.is_set():
            with contextlib.suppress(OSError):
                edge.upstream.listening.settimeout(0.2)
                sock = edge.upstream.accept()
                accepted.append(sock)
                sock.sendall(b"y" * chance.randrange(1, 200_000))
                reset(sock) if chance.random() < 0.5 else sock.close()

    server = threading.Thread(target=serve)
    server.start()

    def one(name):
        with contextlib.suppress(OSError):
            with edge.connect(name) as client:
                tell(client, chance.choice(["say x", "many 300000", "close 0", "close 4", "go\nmany 99999\nclose 1"]))
                if chance.random() < 0.5:
                    client.recv(1000)
                if chance.random() < 0.5:
                    reset(client)

    names = ["script", "echo", "goroutines", "proxy", "half", "refused", "pass", "drain", "open", "stop"]
    for _ in range(count // 10):
        clients = [threading.Thread(target=one, args=(name,)) for name in names]
        for client in clients:
            client.start()
        for client in clients:
            client.join(60)
            assert not client.is_alive()
    going.set()
    server.join(20)
    edge.upstream.listening.settimeout(20)


# ---- configuration ------------------------------------------------------------------------------------


def test_what_is_refused():
    library = build("network")
    text = refused(tcp_listener("main", go_network(library, terminal=False)))
    assert "'envoy.filters.network.golang' does not" in text
    text = refused(tcp_listener("main", go_network(library), tcp_proxy()))
    assert "'envoy.filters.network.golang' serves the connection, so it must be the last" in text
    text = refused(tcp_listener("main", go_network(build("basic"))))
    assert "has no network filters" in text
    text = refused(tcp_listener("main", go_network(library, "stranger")))
    assert "the plugin stranger" in text and "was shown a connection" in text, text
    before_http = listener("main", [{"match": {"prefix": "/"}, "direct_response": {"status": 200}}])
    before_http["filter_chains"][0]["filters"].insert(0, go_network(library, terminal=False))
    assert "looks at the bytes of the connection" in refused(before_http)
