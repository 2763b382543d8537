"""When memory is short: the overload manager in Envoy's words, --memory-limit, and what the connections of
one listener may hold. Nothing crashes, nothing hangs, and it is over when the memory is back."""

import contextlib
import json
import os
import pathlib
import resource
import select
import socket
import time

import pytest

from first_bytes import tls_inspector
from harness import (
    TYPE,
    Gone,
    LogFile,
    bootstrap,
    cluster,
    direct,
    eventually,
    is_sanitized,
    listener,
    run,
    to,
)

ONE = ["--concurrency", "1"]  # one queue and one pool: what happens is then exact
ACTION = "envoy.overload_actions."
INJECTED = "envoy.resource_monitors.injected_resource"
MONITORS = TYPE + "envoy.extensions.resource_monitors."
CHARGE = 80 << 10  # of one request, against its listener's limit
MIB = 1 << 20


class Pressure:
    """A file that says how high it is; replaced in one step, as Envoy wants it."""

    def __init__(self, folder):
        self.path = pathlib.Path(folder, "pressure")
        self.set(0)

    def set(self, value):
        new = self.path.with_suffix(".new")
        new.write_text(str(value))
        os.rename(new, self.path)

    def monitor(self):
        config = {"@type": MONITORS + "injected_resource.v3.InjectedResourceConfig", "filename": str(self.path)}
        return {"name": INJECTED, "typed_config": config}


@pytest.fixture
def pressure(tmp_path):
    return Pressure(tmp_path)


def trigger(value=0.9, monitor=INJECTED):
    return {"name": monitor, "threshold": {"value": value}}


def scaled(low, high):
    return {"name": INJECTED, "scaled": {"scaling_threshold": low, "saturation_threshold": high}}


def manager(monitors, **actions):
    """actions: name without its prefix -> trigger."""
    return {
        "refresh_interval": "0.01s",
        "resource_monitors": monitors,
        "actions": [{"name": ACTION + name, "triggers": [t]} for name, t in actions.items()],
    }


def overload(listeners, clusters, pressure, **actions):
    return bootstrap(listeners, clusters, overload_manager=manager([pressure.monitor()], **actions))


def wait_for_action(edge, name, active):
    edge.wait_for_stat(f"overload.{ACTION}{name}.active", active)
    # The Ps have it a message later; one of them answers this.
    edge.admin("/ready")


# ---- the overload manager ---------------------------------------------------


def test_requests_are_refused_while_the_pressure_is_high(proxy, pressure, tmp_path):
    log = LogFile(tmp_path / "access")
    edge = proxy(
        None,
        config=overload(
            [listener("edge", [direct(200, "served")], hcm={"access_log": [log.config]})],
            [],
            pressure,
            stop_accepting_requests=trigger(0.9),
        ),
        flags=ONE,
    )
    with edge.connect() as client:
        assert client.ask("GET", "/").status == 200
        pressure.set(0.9)  # at the threshold counts
        wait_for_action(edge, "stop_accepting_requests", 1)
        reply = client.ask("GET", "/")
        assert (reply.status, reply.body) == (503, b"envoy overloaded")
        assert reply.header("connection") is None  # a new connection would cost more than this one
        reply = client.ask("GET", "/", headers=[("content-type", "application/grpc")])
        assert (reply.status, reply.header("grpc-status")) == (200, "14")
        assert reply.header("grpc-message") == "envoy overloaded"
        assert edge.stat(f"overload.{ACTION}stop_accepting_requests.scale_percent") == 100
        assert edge.stat(f"overload.{INJECTED}.pressure") == 90
        pressure.set(0.89)
        wait_for_action(edge, "stop_accepting_requests", 0)
        assert client.ask("GET", "/").status == 200
    assert edge.stat("http.edge.downstream_rq_overload_close") == 2
    assert edge.stat("http.edge.rq_total") == 2  # the router, and all filters before it, saw no more
    assert log.lines(edge, 4)[1] == "503 - overload"


def test_the_pressure_is_watched_on_when_the_configuration_has_changed(proxy, pressure):
    def config(text):
        return overload([listener("edge", [direct(200, text)])], [], pressure, stop_accepting_requests=trigger(0.9))

    edge = proxy(None, config=config("one"), flags=ONE)
    for text in ("two", "three", "four"):
        assert edge.reload(config(text)).startswith("version ")
    for value, status in ((0.9, 503), (0.1, 200)):
        pressure.set(value)
        wait_for_action(edge, "stop_accepting_requests", int(status == 503))
        assert edge.get("/").status == status


def test_keep_alive_ends_while_the_pressure_is_high(proxy, pressure):
    edge = proxy(
        None,
        config=overload([listener("edge", [direct(200)])], [], pressure, disable_http_keepalive=trigger()),
        flags=ONE,
    )
    with edge.connect() as client:
        assert client.ask("GET", "/").header("connection") is None
        pressure.set(1)
        wait_for_action(edge, "disable_http_keepalive", 1)
        assert client.ask("GET", "/").header("connection") == "close"
        client.wait_closed()
    assert edge.stat("http.edge.downstream_cx_overload_disable_keepalive") == 1
    assert edge.stat("http.edge.downstream_cx_drain_close") == 1


def test_connections_that_are_not_accepted_wait_and_are_served_later(proxy, pressure):
    edge = proxy(
        None,
        config=overload([listener("edge", [direct(200)])], [], pressure, stop_accepting_connections=trigger()),
        flags=ONE,
    )
    with edge.connect() as before:
        assert before.ask("GET", "/").status == 200
        pressure.set(1)
        wait_for_action(edge, "stop_accepting_connections", 1)
        clients = [edge.connect() for _ in range(20)]  # into the kernel's queue
        for client in clients:
            client.send("GET", "/")
        assert before.ask("GET", "/").status == 200  # is served on
        assert edge.stat("http.edge.downstream_cx_total") == 1
        pressure.set(0)
        for client in clients:
            assert client.read_reply().status == 200
            client.close()


def test_connections_are_rejected(proxy, pressure):
    edge = proxy(
        None,
        config=overload([listener("edge", [direct(200)])], [], pressure, reject_incoming_connections=trigger()),
        flags=ONE,
    )
    pressure.set(1)
    wait_for_action(edge, "reject_incoming_connections", 1)
    for _ in range(3):
        with pytest.raises((Gone, ConnectionError)):
            edge.get("/")
    where = f"listener.127.0.0.1_{edge.port()}"
    assert edge.stat(f"{where}.downstream_cx_overload_reject") == 3
    pressure.set(0)
    wait_for_action(edge, "reject_incoming_connections", 0)
    assert edge.get("/").status == 200


def test_a_scaled_action_strikes_its_share(proxy, pressure):
    """At 0.6 between 0.5 and 0.9 a quarter; of 800, 200 with a standard deviation of 12."""
    edge = proxy(
        None,
        config=overload([listener("edge", [direct(200)])], [], pressure, stop_accepting_requests=scaled(0.5, 0.9)),
        flags=ONE,
    )
    pressure.set(0.6)
    edge.wait_for_stat(f"overload.{ACTION}stop_accepting_requests.scale_percent", 25)
    assert edge.stat(f"overload.{ACTION}stop_accepting_requests.active") == 0
    with edge.connect() as client:
        struck = sum(client.ask("GET", "/").status == 503 for _ in range(800))
    assert 120 < struck < 280  # 6.5 standard deviations
    assert edge.stat("http.edge.downstream_rq_overload_close") == struck


def test_a_listener_may_stay_out_of_it(proxy, pressure):
    edge = proxy(
        None,
        config=overload(
            [
                listener("edge", [direct(200)]),
                listener("probe", [direct(200)], bypass_overload_manager=True),
            ],
            [],
            pressure,
            stop_accepting_requests=trigger(),
            disable_http_keepalive=trigger(),
            stop_accepting_connections=trigger(),
            reject_incoming_connections=trigger(),
        ),
        flags=ONE,
    )
    with edge.connect("edge") as client:
        assert client.ask("GET", "/").status == 200
        pressure.set(1)
        wait_for_action(edge, "reject_incoming_connections", 1)
        assert client.ask("GET", "/").status == 503
    with edge.connect("probe") as client:
        reply = client.ask("GET", "/")
        assert (reply.status, reply.header("connection")) == (200, None)
        assert client.ask("GET", "/").status == 200
    assert edge.admin("/ready").startswith("LIVE")  # the admin stays out of it in any case


def test_a_file_that_says_nothing_leaves_things_as_they_are(proxy, pressure):
    edge = proxy(
        None,
        config=overload([listener("edge", [direct(200)])], [], pressure, stop_accepting_requests=trigger()),
        flags=ONE,
    )
    pressure.set(0.95)
    wait_for_action(edge, "stop_accepting_requests", 1)
    for text in ("nothing", "1.5"):
        edge.admin("/reset_counters", method="POST")
        pressure.set(text)
        eventually(lambda: edge.stat(f"overload.{INJECTED}.failed_updates") > 3)
        assert edge.get("/").status == 503
    os.unlink(pressure.path)
    edge.wait_for_log("the file cannot be opened")
    assert edge.get("/").status == 503
    assert edge.log().count("holds no number") == 1  # once, not a hundred times a second
    pressure.set(0)
    wait_for_action(edge, "stop_accepting_requests", 0)
    assert edge.get("/").status == 200


def test_shrinking_closes_idle_connections_to_upstreams(proxy, pressure, origins):
    held = []
    origin = origins(lambda exchange: held.append(exchange))
    edge = proxy(
        None,
        config=overload([listener("edge", [to()])], [cluster("origin", origin.port)], pressure, shrink_heap=trigger()),
        flags=ONE,
    )
    clients = [edge.connect() for _ in range(5)]
    for client in clients:
        client.send("GET", "/")
    eventually(lambda: len(held) == 5)
    for exchange in held:
        exchange.reply(200)
    for client in clients:
        assert client.read_reply().status == 200
    assert origin.open == 5
    pressure.set(1)
    edge.wait_for_stat(f"overload.{ACTION}shrink_heap.shrink_count", 1)
    eventually(lambda: origin.open == 1, what="one idle connection that stays")
    held.clear()
    clients[0].send("GET", "/")
    eventually(lambda: len(held) == 1)
    held[0].reply(200)
    assert clients[0].read_reply().status == 200
    assert origin.connections == 5  # it was that one
    for client in clients:
        client.close()


@pytest.mark.skipif(is_sanitized(), reason="a sanitizer's malloc says nothing")
def test_fixed_heap_measures_what_is_allocated(proxy):
    """Of 64 KiB more is in use, of 1 TiB nothing to speak of."""
    heaps = [("small", 64 << 10), ("large", 1 << 40)]
    monitors = [
        {
            "name": name,
            "typed_config": {"@type": MONITORS + "fixed_heap.v3.FixedHeapConfig", "max_heap_size_bytes": size},
        }
        for name, size in heaps
    ]
    config = bootstrap(
        [listener("edge", [direct(200)])],
        overload_manager=manager(
            monitors,
            stop_accepting_requests=trigger(0.99, "small"),
            disable_http_keepalive=trigger(0.01, "large"),
        ),
    )
    edge = proxy(None, config=config, flags=ONE)
    wait_for_action(edge, "stop_accepting_requests", 1)
    reply = edge.get("/")
    assert (reply.status, reply.header("connection")) == (503, None)
    assert edge.stat("overload.large.pressure") == 0
    shown = {p["monitor"]: p for p in json.loads(edge.admin("/memory"))["pressures"]}
    assert shown["small"]["max_bytes"] == str(64 << 10)
    assert shown["small"]["pressure_percent"] > 99


ACTIONS = (
    "supported are envoy.overload_actions.shrink_heap, envoy.overload_actions.stop_accepting_requests, "
    "envoy.overload_actions.disable_http_keepalive, envoy.overload_actions.stop_accepting_connections "
    "and envoy.overload_actions.reject_incoming_connections"
)


@pytest.mark.parametrize(
    "change, message",
    [
        (
            {"actions": [{"name": ACTION + "reduce_timeouts", "triggers": [trigger()]}]},
            "overload_manager.actions[0]: the overload action 'envoy.overload_actions.reduce_timeouts' "
            f"is not supported; {ACTIONS}",
        ),
        (
            {"actions": [{"name": ACTION + "shrink_heap", "triggers": [trigger(monitor="other")]}]},
            "overload_manager.actions[0].triggers[0]: there is no resource monitor 'other' for the action "
            "envoy.overload_actions.shrink_heap",
        ),
        (
            {"actions": [{"name": ACTION + "shrink_heap", "triggers": [trigger(1.5)]}]},
            "overload_manager.actions[0].triggers[0]: a threshold is a pressure from 0 to 1",
        ),
        (
            {"actions": [{"name": ACTION + "shrink_heap", "triggers": [scaled(0.5, 0.5)]}]},
            "overload_manager.actions[0].triggers[0]: scaling_threshold must be less than saturation_threshold",
        ),
        (
            {"actions": [{"name": ACTION + "shrink_heap", "triggers": [trigger(), trigger()]}]},
            "overload_manager.actions[0].triggers[1]: the action envoy.overload_actions.shrink_heap has a "
            f"trigger for '{INJECTED}' already",
        ),
        (
            {"actions": [{"name": ACTION + "shrink_heap", "triggers": [trigger()]}] * 2},
            "overload_manager.actions[1]: there is an overload action 'envoy.overload_actions.shrink_heap' already",
        ),
        ({"resource_monitors": []}, "overload_manager.resource_monitors: needs at least one item"),
        (
            {"loadshed_points": [{"name": "x", "triggers": [trigger()]}]},
            "overload_manager.loadshed_points: ",
        ),
        (
            {
                "resource_monitors": [
                    {
                        "name": "cpu",
                        "typed_config": {"@type": MONITORS + "cpu_utilization.v3.CpuUtilizationConfig"},
                    }
                ]
            },
            "the resource monitor envoy.extensions.resource_monitors.cpu_utilization.v3.CpuUtilizationConfig"
            " is not supported yet; supported are: ",
        ),
    ],
)
def test_what_is_refused_at_start(pressure, change, message):
    config = bootstrap([], overload_manager={**manager([pressure.monitor()]), **change})
    result = run("--mode", "validate", config=config)
    assert result.returncode == 1
    assert message in result.stderr


# ---- the limit of the process -----------------------------------------------


class Flood:
    """Clients that begin a request and never end it, each with so many bytes of its head."""

    def __init__(self, edge, name=None):
        self.edge, self.name, self.sockets = edge, name, []

    def grow(self, count, head_bytes=0):
        head = b"GET / HTTP/1.1\r\nhost: a\r\n"
        while len(head) < head_bytes:
            head += b"x-%d: %s\r\n" % (len(head), b"v" * min(4000, head_bytes - len(head)))
        for _ in range(count):
            sock = socket.create_connection(("127.0.0.1", self.edge.port(self.name)), timeout=20)
            self.sockets.append(sock)
            with contextlib.suppress(ConnectionError):  # refused already
                sock.sendall(head)
        return self

    def trickle(self):
        for sock in self.sockets:
            with contextlib.suppress(OSError):
                sock.sendall(b"x")

    def turned_away(self):
        """How many know that they are: by an answer, an end or a reset."""
        waiting = select.poll()
        for sock in self.sockets:
            waiting.register(sock, select.POLLIN)
        return len(waiting.poll(0))

    def end(self):
        for sock in self.sockets:
            sock.close()
        self.sockets.clear()


@pytest.fixture
def flood():
    made = []

    def start(edge, name=None):
        made.append(Flood(edge, name))
        return made[-1]

    yield start
    for one in made:
        one.end()


def test_above_the_limit_requests_are_refused(proxy):
    """An idle process holds more than 1 MiB."""
    edge = proxy([listener("edge", [direct(200)])], flags=[*ONE, "--memory-limit", "1MiB"])
    wait_for_action(edge, "stop_accepting_requests", 1)
    assert edge.get("/").status == 503
    [shown] = json.loads(edge.admin("/memory"))["pressures"]
    assert shown["monitor"] == "sluice.memory_limit"
    assert shown["max_bytes"] == str(MIB)
    assert shown["pressure_percent"] >= 100
    assert edge.stat(f"overload.{ACTION}shrink_heap.shrink_count") >= 1


def hold_stat(edge):
    return edge.stat("overload.sluice.overload_actions.hold_requests.active")


def looks(edge):
    """How often the pressures were looked at."""
    for line in edge.admin("/stats?format=prometheus").splitlines():
        if "refresh_interval_delay_count" in line:
            return int(line.rpartition(" ")[2])
    return 0


def wait_for_look(edge):
    before = looks(edge)
    eventually(lambda: looks(edge) > before, what="the next look at the pressures")


def fill_to_the_hold(edge, attack):
    """Adds memory in small steps until requests are held, which is before they are refused, and go on to be
    when what is idle was trimmed: that happens each second, which is four looks."""
    held_for = 0
    while held_for < 6:
        if hold_stat(edge):
            held_for += 1
            wait_for_look(edge)
            continue
        held_for = 0
        assert len(attack.sockets) < 5000, "the pressure does not rise"
        near = edge.stat("overload.sluice.memory_limit.pressure") >= 80
        attack.grow(5 if near else 40, head_bytes=50_000)
        wait_for_look(edge)


@pytest.mark.skipif(is_sanitized(), reason="its memory says nothing")
def test_near_the_limit_requests_wait_and_then_are_served_or_refused(proxy, flood):
    edge = proxy([listener("edge", [direct(200)])], flags=[*ONE, "--memory-limit", "48MiB"], level="info")
    attack = flood(edge)
    waiting = edge.connect()
    assert waiting.ask("GET", "/").status == 200
    for _ in range(10):
        fill_to_the_hold(edge, attack)
        started = time.monotonic()
        waiting.send("GET", "/")
        if waiting.read_reply().status == 503:  # it waited for memory that did not come
            break
        # What idle memory there was has been given back meanwhile, and the request was rightly served.
    else:
        pytest.fail("ten requests were served that should have been held")
    assert time.monotonic() - started > 0.5
    assert edge.stat("http.edge.downstream_rq_overload_close") >= 1

    attack.end()
    eventually(lambda: hold_stat(edge) == 0, timeout_s=30, what="the end of the pressure")
    assert waiting.ask("GET", "/").status == 200
    waiting.close()


@pytest.mark.parametrize("text, limit", [("3MiB", 3 * MIB), ("1000000", 1000000), ("1TiB", 1 << 40)])
def test_sizes_and_the_environment(proxy, text, limit):
    for how in ({"flags": ["--memory-limit", text]}, {"env": {"SLUICE_MEMORY_LIMIT": text}}):
        edge = proxy([listener("edge", [direct(200)])], **how)
        [shown] = json.loads(edge.admin("/memory"))["pressures"]
        assert shown["max_bytes"] == str(limit)


def test_off_wins_over_the_environment(proxy):
    edge = proxy(
        [listener("edge", [direct(200)])],
        flags=["--memory-limit", "off"],
        env={"SLUICE_MEMORY_LIMIT": "1MiB"},
    )
    assert json.loads(edge.admin("/memory"))["pressures"] == []
    assert edge.get("/").status == 200


@pytest.mark.parametrize("text", ["", "lots", "-1", "0", "5mb", "1.5GiB", "99999999999TiB"])
def test_what_is_no_size(text):
    result = run("--memory-limit", text, "--config-yaml", "{}")
    assert result.returncode == 1
    assert f"sluice: --memory-limit '{text}': must be a number of bytes" in result.stderr


# ---- the limit of a listener ------------------------------------------------


def limited(name, routes, limit=MIB, *, wait="60s", **more):
    """Who waits for room does so for longer than a machine stands still, unless the test is about who waits in vain."""
    ours = {"limit_bytes": limit, "wait_timeout": wait}
    return listener(name, routes, metadata={"filter_metadata": {"sluice.memory": ours}}, **more)


def where(edge, name=None):
    return f"listener.127.0.0.1_{edge.port(name)}"


def held_bytes(edge, name=None):
    return edge.stat(f"{where(edge, name)}.memory_bytes")


class Gate:
    """An origin whose answers are held until the test lets them go."""

    def __init__(self, origins):
        self.held = []
        self.origin = origins(self.held.append)

    def wait_for(self, count):
        eventually(lambda: len(self.held) >= count, what=f"{count} requests at the origin")

    def release(self, count=None):
        """The first so many, or those that are there now. How many it was."""
        count = len(self.held) if count is None else count  # more may come meanwhile
        for _ in range(count):
            self.held.pop(0).reply(200, b"late")
        return count


@pytest.fixture
def gate(origins):
    return Gate(origins)


def test_requests_beyond_the_limit_wait_and_are_served(proxy, gate):
    """1 MiB is twelve requests of 80 KiB. The thirteenth waits, unread, until one of them is over."""
    edge = proxy([limited("edge", [to()])], [cluster("origin", gate.origin.port)], flags=ONE)
    clients = [edge.connect() for _ in range(12)]
    for client in clients:
        client.send("GET", "/")
    gate.wait_for(12)
    assert held_bytes(edge) == 12 * CHARGE
    with edge.connect() as waiting:
        waiting.send("GET", "/")
        edge.wait_for_stat(f"{where(edge)}.downstream_rq_memory_wait", 1)
        assert len(gate.held) == 12
        gate.release(1)
        gate.wait_for(12)
        gate.release()
        assert waiting.read_reply().status == 200
    for client in clients:
        assert client.read_reply().status == 200
        client.close()
    assert edge.stat(f"{where(edge)}.downstream_rq_memory_limit") == 0
    shown = json.loads(edge.admin("/memory"))["listeners"]
    assert shown == [{"listener": "edge", "limit_bytes": str(MIB), "bytes": "0"}]


def test_what_listener_filters_keep_is_charged(proxy):
    """Parts of ClientHellos of 12 KiB, 1 MiB in all: who is one too many is closed, and the others are looked at. What
    they have sent is theirs until they have a chain, or end."""
    patient = {"listener_filters": [tls_inspector()], "listener_filters_timeout": "0s"}
    edge = proxy([limited("edge", [direct(200, "x")], **patient)], flags=ONE)
    part = b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc\x03\x03" + bytes(33) + b"\x30\x00"  # and so many ciphers
    part += bytes(12 * 1024 - len(part))
    clients = []

    def refused():
        return edge.stat(f"{where(edge)}.downstream_cx_memory_limit")

    while not refused():
        client = socket.create_connection(("127.0.0.1", edge.port()), timeout=20)
        clients.append(client)
        assert len(clients) <= 100
        client.sendall(part)
        sent = len(clients) * len(part)
        eventually(lambda sent=sent: refused() or held_bytes(edge) > sent, what="bytes that are charged")
    assert 60 < len(clients) < 90
    assert held_bytes(edge) <= MIB
    try:
        assert clients.pop().recv(1) == b""
    except ConnectionResetError:
        pass
    for client in clients[:20]:
        client.close()
    eventually(lambda: held_bytes(edge) < MIB * 3 / 4, what="room")
    assert edge.get("/").status == 200
    for client in clients[20:]:
        client.close()
    edge.wait_for_stat(f"{where(edge)}.memory_bytes", 0)


def test_who_waits_in_vain_is_told(proxy, gate, tmp_path):
    log = LogFile(tmp_path / "access")
    edge = proxy(
        [limited("edge", [to()], wait="0.5s", hcm={"access_log": [log.config]}), listener("other", [direct(200)])],
        [cluster("origin", gate.origin.port)],
        flags=ONE,
    )
    clients = [edge.connect("edge") for _ in range(12)]
    for client in clients:
        client.send("GET", "/")
    gate.wait_for(12)
    with edge.connect("edge") as whole, edge.connect("edge") as cut:
        whole.send("GET", "/")
        cut.send_bytes(b"GET / HTTP/1.1\r\nho")
        edge.wait_for_stat(f"{where(edge, 'edge')}.downstream_rq_memory_wait", 2)
        assert edge.get("/", listener="other").status == 200  # has nothing to do with it
        reply = whole.read_reply()
        assert (reply.status, reply.body) == (503, b"memory limit of the listener")
        assert reply.header("connection") is None
        reply = cut.read_reply()  # nobody waits for the rest of it
        assert (reply.status, reply.header("connection")) == (503, "close")
        cut.wait_closed()
        assert edge.stat(f"{where(edge, 'edge')}.downstream_rq_memory_limit") == 2
        gate.release()
        for client in clients:
            assert client.read_reply().status == 200
            client.close()
        whole.send("GET", "/")  # as if nothing had been
        gate.wait_for(1)
        gate.release()
        assert whole.read_reply().status == 200
    assert log.lines(edge, 2)[:2] == ["503 - listener_memory_limit"] * 2
    assert held_bytes(edge, "edge") == 0


def test_who_ends_while_it_waits_leaves_the_queue(proxy, gate):
    edge = proxy([limited("edge", [to()])], [cluster("origin", gate.origin.port)], flags=ONE)
    clients = [edge.connect() for _ in range(12)]
    for client in clients:
        client.send("GET", "/")
    gate.wait_for(12)
    with edge.connect() as gone, edge.connect() as stays:
        for client in (gone, stays):
            client.send("GET", "/")
        edge.wait_for_stat(f"{where(edge)}.downstream_rq_memory_wait", 2)
        gone.close()
        edge.wait_for_stat("http.edge.downstream_cx_active", 13)
        gate.release(1)
        gate.wait_for(12)
        gate.release()
        assert stays.read_reply().status == 200
    for client in clients:
        assert client.read_reply().status == 200
        client.close()
    assert edge.stat(f"{where(edge)}.downstream_rq_memory_limit") == 0


def test_memory_that_another_processor_gives_back_is_offered(proxy, gate):
    """Connections are spread by the kernel; whoever waits is served, wherever the memory comes from."""
    edge = proxy(
        [limited("edge", [to()], 2 * MIB)],
        [cluster("origin", gate.origin.port)],
        flags=["--concurrency", "4"],
    )
    clients = [edge.connect() for _ in range(40)]
    for client in clients:
        client.send("GET", "/")
    served = 0
    while served < 40:  # more never get through at a time
        eventually(lambda: gate.held, what="a request at the origin")
        assert held_bytes(edge) <= 2 * MIB
        served += gate.release()
    statuses = [client.read_reply().status for client in clients]
    for client in clients:
        client.close()
    assert statuses == [200] * 40


def test_slow_heads_give_way_to_those_who_wait(proxy, flood):
    """Slowloris: many times more clients than fit, each with a byte of its head now and then. Others are
    served all the same, what is held stays below the limit, and it is over when they go."""
    edge = proxy([limited("edge", [direct(200)], wait="1s"), listener("other", [direct(200)])], flags=ONE)
    attack = flood(edge, "edge").grow(300)
    statuses = []
    for _ in range(5):
        attack.trickle()
        statuses.append(edge.get("/", listener="edge").status)
        assert held_bytes(edge, "edge") <= MIB
        assert edge.get("/", listener="other").status == 200
    assert set(statuses) <= {200, 503}
    assert 200 in statuses
    assert edge.stat(f"{where(edge, 'edge')}.downstream_rq_memory_evicted") > 0
    attack.end()
    edge.wait_for_stat(f"{where(edge, 'edge')}.memory_bytes", 0)
    refused = edge.stat(f"{where(edge, 'edge')}.downstream_rq_memory_limit")
    for _ in range(20):
        assert edge.get("/", listener="edge").status == 200
    assert edge.stat(f"{where(edge, 'edge')}.downstream_rq_memory_limit") == refused


def test_a_slow_head_is_left_alone_while_there_is_room(proxy):
    edge = proxy([limited("edge", [direct(200)])], flags=ONE)
    with edge.connect() as slow:
        slow.send_bytes(b"GET / HT")
        eventually(lambda: held_bytes(edge) == CHARGE)
        for _ in range(30):  # others come and go
            assert edge.get("/").status == 200
        slow.send_bytes(b"TP/1.1\r\nhost: a\r\n\r\n")
        assert slow.read_reply().status == 200
    assert edge.stat(f"{where(edge)}.downstream_rq_memory_evicted") == 0


def test_slow_readers_of_large_responses_hold_a_bounded_part(proxy, origins):
    """They hold their charge as long as they like; those beyond it are told so, and all is well after."""
    origin = origins(lambda exchange: exchange.reply(200, b"y" * (8 * MIB)))
    edge = proxy([limited("edge", [to()], wait="0.1s")], [cluster("origin", origin.port)], flags=ONE)
    slow = [edge.connect() for _ in range(12)]
    for client in slow:
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.send("GET", "/")
    eventually(lambda: len(origin.requests) == 12)
    assert edge.get("/").status == 503
    assert held_bytes(edge) == 12 * CHARGE
    for client in slow:
        reply = client.read_reply()
        assert (reply.status, len(reply.body)) == (200, 8 * MIB)
        client.close()
    assert edge.get("/").status == 200


def test_idle_connections_hold_nothing(proxy):
    edge = proxy([limited("edge", [direct(200)])], flags=ONE)
    clients = [edge.connect() for _ in range(200)]  # sixteen times what fits at once
    for client in clients:
        assert client.ask("GET", "/").status == 200
    assert held_bytes(edge) == 0
    for client in clients:
        assert client.ask("GET", "/").status == 200
        client.close()


def test_a_large_head_pays_for_itself(proxy, gate):
    """Eleven requests leave 1 MiB - 880 KiB = 144 KiB. One with 55 KB of fields needs 80 KiB, and then
    a buffer of 68 KiB for its head: too much. Alone it is welcome."""
    edge = proxy([limited("edge", [to()])], [cluster("origin", gate.origin.port)], flags=ONE)
    fields = [(f"x-{i}", "v" * 5000) for i in range(11)]
    with edge.connect() as client:
        client.send("GET", "/", headers=fields)
        gate.wait_for(1)
        assert held_bytes(edge) > CHARGE
        gate.release()
        assert client.read_reply().status == 200
    eventually(lambda: held_bytes(edge) == 0)
    clients = [edge.connect() for _ in range(11)]
    for client in clients:
        client.send("GET", "/")
    gate.wait_for(11)
    with edge.connect() as large:
        large.send("GET", "/", headers=fields)
        reply = large.read_reply()
        assert (reply.status, reply.body) == (503, b"memory limit of the listener")
    assert edge.stat(f"{where(edge)}.downstream_rq_memory_limit") == 1
    gate.release()
    for client in clients:
        assert client.read_reply().status == 200
        client.close()


def test_pipelined_requests_go_on_under_the_same_charge(proxy):
    edge = proxy([limited("edge", [direct(200, "x")])], flags=ONE)
    with edge.connect() as client:
        client.send_bytes(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n" * 500)
        for _ in range(500):
            assert client.read_reply().status == 200
    assert edge.stat(f"{where(edge)}.downstream_rq_memory_wait") == 0


def test_draining_lets_those_who_wait_finish(proxy, gate):
    edge = proxy([limited("edge", [to()])], [cluster("origin", gate.origin.port)], flags=ONE)
    clients = [edge.connect() for _ in range(13)]
    for client in clients:
        client.send("GET", "/")
    edge.wait_for_stat(f"{where(edge)}.downstream_rq_memory_wait", 1)
    edge.process.terminate()
    edge.wait_for_log("draining")
    gate.wait_for(12)
    gate.release()
    gate.wait_for(1)
    gate.release()
    assert [client.read_reply().status for client in clients] == [200] * 13
    for client in clients:
        client.close()
    assert edge.process.wait(20) == 0


@pytest.mark.parametrize(
    "ours, message",
    [
        ({}, "limit_bytes is required, from 1048576"),
        ({"limit_bytes": 1000}, "limit_bytes is required, from 1048576"),
        ({"limit_bytes": True}, "limit_bytes is not a number of bytes"),
        ({"limit_bytes": "lots"}, "limit_bytes is not a number of bytes"),
        ({"limit": MIB}, "there is no 'limit'; there are limit_bytes and wait_timeout"),
        ({"limit_bytes": MIB, "wait_timeout": "soon"}, 'wait_timeout is not a time such as "0.5s"'),
        ({"limit_bytes": MIB, "wait_timeout": 1}, 'wait_timeout is not a time such as "0.5s"'),
        ({"limit_bytes": MIB, "wait_timeout": "-1s"}, 'wait_timeout is not a time such as "0.5s"'),
        ({"limit_bytes": MIB, "wait_timeout": "3601s"}, 'wait_timeout is not a time such as "0.5s"'),
    ],
)
def test_a_limit_that_makes_no_sense(ours, message):
    config = bootstrap([listener("edge", [direct(200)], metadata={"filter_metadata": {"sluice.memory": ours}})])
    result = run("--mode", "validate", config=config)
    assert result.returncode == 1
    assert "static_resources.listeners[0]: sluice.memory: " in result.stderr
    assert message in result.stderr


def test_metadata_for_others_is_accepted(proxy):
    metadata = {"filter_metadata": {"envoy.lb": {"canary": True}, "sluice.memory": {"limit_bytes": 1 << 33}}}
    edge = proxy([listener("edge", [direct(200)], metadata=metadata)])
    [shown] = json.loads(edge.admin("/memory"))["listeners"]
    assert shown["limit_bytes"] == str(1 << 33)


# ---- memory that really is not there ----------------------------------------


@pytest.mark.skipif(is_sanitized(), reason="a sanitizer's own mappings fail first, and it ends the process")
def test_without_memory_requests_fail_and_the_proxy_does_not(proxy, flood):
    """The kernel gives no more address space: mappings and malloc fail. Connections are refused or closed,
    and counted; when there is memory again, all are served."""
    edge = proxy([listener("edge", [direct(200)])], flags=ONE, level="info")
    assert edge.get("/").status == 200
    status = pathlib.Path(f"/proc/{edge.process.pid}/status").read_text()
    size = int(status.partition("VmSize:")[2].split()[0]) * 1024
    before = resource.prlimit(edge.process.pid, resource.RLIMIT_AS)
    resource.prlimit(edge.process.pid, resource.RLIMIT_AS, (size + 4 * MIB, before[1]))

    attack = flood(edge)
    with contextlib.suppress(OSError):  # one that finds no memory at all is reset
        for _ in range(50):
            attack.grow(20, head_bytes=40_000)
    eventually(lambda: attack.turned_away() > 100, what="a hundred were turned away")
    assert edge.alive()
    attack.end()
    resource.prlimit(edge.process.pid, resource.RLIMIT_AS, before)
    assert edge.get("/").status == 200
    stats = edge.stats()
    refused = stats["http.edge.downstream_rq_overload_close"]
    rejected = stats[f"{where(edge)}.downstream_cx_overload_reject"]
    assert refused + rejected > 100
