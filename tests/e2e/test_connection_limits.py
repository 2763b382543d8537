"""How many connections get in: limits of a listener and of the process, and how many at a time."""

import contextlib
import pathlib
import resource
import selectors
import signal
import socket
import threading

import pytest

from harness import TYPE, LogFile, bootstrap, direct, eventually, is_sanitized, listener, run

ONE = ["--concurrency", "1"]
MONITOR = "envoy.resource_monitors.global_downstream_max_connections"
GET = b"GET /new HTTP/1.1\r\nhost: a\r\n\r\n"


def edge_limit(count, name="edge"):
    return {f"envoy.resource_limits.listener.{name}.connection_limit": count}


def runtime(*layers):
    return {"layers": [{"name": f"layer-{i}", "static_layer": layer} for i, layer in enumerate(layers)]}


def connections_monitor(count, name=MONITOR):
    config = {
        "@type": TYPE + "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
        "max_active_downstream_connections": count,
    }
    return {"name": name, "typed_config": config}


def listener_stat(edge, what, name="edge"):
    return edge.stat(f"listener.127.0.0.1_{edge.port(name)}.{what}")


def is_served(edge, name="edge"):
    """A connection that is answered, and stays open; or None: it was closed without a byte."""
    sock = socket.create_connection(("127.0.0.1", edge.port(name)), timeout=20)
    try:
        sock.sendall(GET)
        if sock.recv(4096).startswith(b"HTTP/1.1 200"):
            return sock
    except ConnectionError:
        pass
    sock.close()
    return None


@pytest.fixture
def hold():
    """Connections that stay open until the test ends: hold(edge, 3) -> how many of three were served."""
    with contextlib.ExitStack() as held:

        def open_some(edge, count, name="edge"):
            served = [sock for sock in (is_served(edge, name) for _ in range(count)) if sock]
            for sock in served:
                held.enter_context(sock)
            return served

        yield open_some


def test_a_listener_takes_as_many_as_its_limit_says(proxy, hold):
    """Over all processors: one connection more is accepted and closed at once, on whichever it arrives."""
    edge = proxy(
        None,
        config=bootstrap(
            [listener("edge", [direct(200)]), listener("other", [direct(200)])], layered_runtime=runtime(edge_limit(5))
        ),
        flags=["--concurrency", "3"],
    )
    served = hold(edge, 12)
    assert len(served) == 5
    assert listener_stat(edge, "downstream_cx_overflow") == 7
    assert listener_stat(edge, "downstream_cx_total") == 5  # as on Envoy: the others never were one
    assert len(hold(edge, 3, "other")) == 3
    for sock in served[:2]:
        sock.close()
    eventually(lambda: listener_stat(edge, "downstream_cx_active") == 3, what="two to be gone")
    assert len(hold(edge, 3)) == 2
    assert listener_stat(edge, "downstream_cx_overflow") == 8


def test_a_later_layer_hides_an_earlier_one(proxy, hold):
    """And a key may be nested, or written with dots."""
    nested = {"envoy": {"resource_limits.listener": {"a.b": {"connection_limit": "3"}}}}
    edge = proxy(
        None,
        config=bootstrap(
            [listener("a.b", [direct(200)])], layered_runtime=runtime(edge_limit(1, "a.b"), nested, {"other": True})
        ),
    )
    assert len(hold(edge, 5, "a.b")) == 3
    assert "layered_runtime.layers[2].static_layer" in edge.log()
    assert "the runtime key other has no effect here" in edge.log()


def test_no_connection_at_all(proxy, hold):
    edge = proxy(None, config=bootstrap([listener("edge", [direct(200)])], layered_runtime=runtime(edge_limit(0))))
    assert hold(edge, 3) == []
    assert listener_stat(edge, "downstream_cx_overflow") == 3


def test_a_limit_of_the_process(proxy, hold):
    """The monitor counts the connections of all listeners that do not ignore it; the admin is free of it."""
    manager = {
        "refresh_interval": "0.01s",
        "resource_monitors": [connections_monitor(4)],
        "actions": [
            {
                "name": "envoy.overload_actions.shrink_heap",  # which ends no connection of ours
                "triggers": [{"name": MONITOR, "threshold": {"value": 1}}],
            }
        ],
    }
    edge = proxy(
        None,
        config=bootstrap(
            [
                listener("edge", [direct(200)]),
                listener("other", [direct(200)]),
                listener("free", [direct(200)], ignore_global_conn_limit=True),
            ],
            overload_manager=manager,
        ),
        flags=["--concurrency", "2"],
    )
    assert len(hold(edge, 6, "free")) == 6
    assert len(hold(edge, 1)) == 1
    edge.wait_for_stat(f"overload.{MONITOR}.pressure", 25)
    served = hold(edge, 4, "other")
    assert len(served) == 3
    assert listener_stat(edge, "downstream_global_cx_overflow", "other") == 1
    assert hold(edge, 2) == []
    assert listener_stat(edge, "downstream_global_cx_overflow") == 2
    assert listener_stat(edge, "downstream_cx_overflow") == 0
    assert len(hold(edge, 1, "free")) == 1
    edge.wait_for_stat(f"overload.{MONITOR}.pressure", 100)
    edge.wait_for_stat("overload.envoy.overload_actions.shrink_heap.active", 1)
    for sock in served:
        sock.close()
    edge.wait_for_stat(f"overload.{MONITOR}.pressure", 25)
    assert len(hold(edge, 3)) == 3


def test_the_deprecated_key_counts_all_connections(proxy, hold):
    """Also those that it does not hold back: of the admin, and of a listener that ignores it."""
    config = bootstrap(
        [listener("edge", [direct(200)]), listener("free", [direct(200)], ignore_global_conn_limit=True)],
        layered_runtime=runtime({"overload": {"global_downstream_max_connections": 4}}),
    )
    config["admin"]["ignore_global_conn_limit"] = True
    edge = proxy(None, config=config)
    eventually(lambda: edge.stat("listener.admin.downstream_cx_active") == 1, what="the admin's only client to be us")
    assert len(hold(edge, 3, "free")) == 3
    eventually(lambda: edge.stat("listener.admin.downstream_cx_active") == 1, what="the admin's only client to be us")
    served = hold(edge, 3)
    assert len(served) <= 1  # an admin's connection may not be gone yet
    assert listener_stat(edge, "downstream_global_cx_overflow") == 3 - len(served)
    assert len(hold(edge, 2, "free")) == 2


def test_the_monitor_takes_precedence_over_the_key(proxy, hold):
    edge = proxy(
        None,
        config=bootstrap(
            [listener("edge", [direct(200)])],
            layered_runtime=runtime({"overload.global_downstream_max_connections": 1}),
            overload_manager={"resource_monitors": [connections_monitor(3)]},
        ),
    )
    assert len(hold(edge, 5)) == 3


LIMIT = "envoy.resource_limits.listener.edge.connection_limit"
WHOLE = "a limit of connections is a whole number from 0"


@pytest.mark.parametrize(
    "yaml, message",
    [
        (f"{LIMIT}: many", f'5: layered_runtime.layers[0].static_layer["{LIMIT}"]: {WHOLE}'),
        (f"{LIMIT}: -1", WHOLE),
        (f"{LIMIT}: 1.5", WHOLE),
        (f"{LIMIT}: true", WHOLE),
        (f"{LIMIT}: {{numerator: 3}}", WHOLE),
        (f"{LIMIT}: [1]", "a runtime key has a value: a number, a string, true, false or a fraction"),
        ("a: 1\n      b:", '6: layered_runtime.layers[0].static_layer["b"]: a runtime key has a value'),
        ("overload: {global_downstream_max_connections: x}", WHOLE),
        ("{}\n  - name: one\n    static_layer: {}", "the name 'one' is taken by the layer of line 3"),
        ("{}\n  - static_layer: {}", "layered_runtime.layers[1]: name is required"),
        ("{}\n  - name: b\n    admin_layer: {}", "admin_layer: not supported yet"),
    ],
)
def test_what_is_no_limit_is_refused(yaml, message):
    text = f"layered_runtime:\n  layers:\n  - name: one\n    static_layer:\n      {yaml}\n"
    done = run("--mode", "validate", config=text)
    assert done.returncode == 1
    assert message in done.stderr


@pytest.mark.parametrize(
    "change, message",
    [
        (
            {"overload_manager": {"resource_monitors": [connections_monitor(1, "mine")]}},
            f"the monitor of connections is called {MONITOR}, not 'mine'",
        ),
        (
            {"overload_manager": {"resource_monitors": [connections_monitor(0)]}},
            "max_active_downstream_connections: 0 is not within 1 to 9223372036854775807",
        ),
        ({"layered_runtime": runtime(edge_limit(3, "egde"))}, "there is no listener with the name 'egde'"),
        (
            {"layered_runtime": runtime({"overload.global_downstream_max_connections": 3})},
            f"deprecated: the resource monitor {MONITOR} replaces it",
        ),
    ],
)
def test_what_is_told_of_limits(change, message):
    done = run("--mode", "validate", config=bootstrap([listener("edge", [direct(200)])], **change))
    assert message in done.stderr
    assert done.returncode == (1 if "overload_manager" in change else 0)


# ---- storms -----------------------------------------------------------------


@pytest.fixture
def many_files():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 32768), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("per_turn", [None, 1, 4])
def test_a_storm_leaves_room_for_those_that_are_connected(proxy, tmp_path, many_files, per_turn):
    """While the proxy stands still, two thousand clients connect and four that are connected already ask for
    fifty things each. What it does then is seen in the access log, in order: it does not take in all the
    new ones before it goes on with the old ones."""
    count = min(2000, int(pathlib.Path("/proc/sys/net/core/somaxconn").read_text()) - 50)
    asked = 50 if per_turn is None else 200
    more = {} if per_turn is None else {"max_connections_to_accept_per_socket_event": per_turn}
    log = LogFile(tmp_path / "access", "%REQ(:PATH)%")
    edge = proxy([listener("edge", [direct(200)], hcm={"access_log": [log.config]}, **more)], flags=ONE, level="info")
    with contextlib.ExitStack() as stack:
        old = [stack.enter_context(edge.connect()) for _ in range(4)]
        for client in old:
            assert client.ask("GET", "/hello").status == 200
        edge.process.send_signal(signal.SIGSTOP)
        try:
            for client in old:
                client.sock.sendall(GET.replace(b"/new", b"/old") * asked)
            for _ in range(count):
                sock = stack.enter_context(socket.create_connection(("127.0.0.1", edge.port()), timeout=20))
                sock.sendall(GET)
        finally:
            edge.process.send_signal(signal.SIGCONT)
        lines = log.lines(edge, 4 + 4 * asked + count)[4:]
    assert lines.count("/old") == 4 * asked
    last_old = len(lines) - 1 - lines[::-1].index("/old")
    new_before = lines[:last_old].count("/new")
    assert new_before < count / 2, f"{new_before} of {count} came before the last of the old ones"


def test_five_thousand_at_once(proxy, many_files):
    """All of them are answered, and so are those that go on asking meanwhile."""
    edge = proxy([listener("edge", [direct(200, "direct\n")])], level="info")
    count = 1000 if is_sanitized() else 5000  # a coroutine costs TSan milliseconds
    over = threading.Event()
    answers = [0] * 4

    def keep_asking(number):
        with edge.connect() as client:
            while not over.is_set():
                assert client.ask("GET", "/").status == 200
                answers[number] += 1

    asking = [threading.Thread(target=keep_asking, args=(i,)) for i in range(4)]
    for thread in asking:
        thread.start()
    with contextlib.ExitStack() as stack, selectors.DefaultSelector() as waiting:
        for _ in range(count):
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", edge.port()))
            waiting.register(sock, selectors.EVENT_WRITE)
        served = 0
        while served < count:
            ready = waiting.select(30)
            assert ready, f"only {served} were served"
            for key, events in ready:
                if events & selectors.EVENT_WRITE:
                    key.fileobj.sendall(GET)
                    waiting.modify(key.fileobj, selectors.EVENT_READ)
                else:
                    assert key.fileobj.recv(4096).startswith(b"HTTP/1.1 200")
                    waiting.unregister(key.fileobj)
                    served += 1
        before = list(answers)
        eventually(lambda: all(now > then for now, then in zip(answers, before, strict=True)), what="all four to go on")
        over.set()
    for thread in asking:
        thread.join(30)
    assert listener_stat(edge, "downstream_cx_total") >= count + 4
