"""Limits of connections on both: who gets in, what the others see, what is counted."""

import contextlib
import json
import pathlib
import socket
import subprocess

import pytest

from harness import SLUICE, TYPE, Proxy, bootstrap, direct, eventually, listener
from test_overload_as_envoy import GET
from twins import envoy_binary, read_responses

MONITOR = "envoy.resource_monitors.global_downstream_max_connections"
LIMIT = "envoy.resource_limits.listener.edge.connection_limit"
GLOBAL = "overload.global_downstream_max_connections"
COUNTED = ("downstream_cx_total", "downstream_cx_active", "downstream_cx_overflow", "downstream_global_cx_overflow")


def monitor(count, name=MONITOR):
    config = {
        "@type": TYPE + "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
        "max_active_downstream_connections": count,
    }
    return {"overload_manager": {"resource_monitors": [{"name": name, "typed_config": config}]}}


def runtime(*layers):
    return {"layered_runtime": {"layers": [{"name": str(i), "static_layer": layer} for i, layer in enumerate(layers)]}}


CASES = {
    "listener": runtime({LIMIT: 3}),
    "listener, text": runtime({LIMIT: "3"}),
    "listener, nested": runtime({"envoy": {"resource_limits": {"listener": {"edge": {"connection_limit": 3}}}}}),
    "listener, nothing": runtime({LIMIT: 0}),
    "two layers": runtime({LIMIT: 1}, {"envoy.resource_limits.listener": {"edge.connection_limit": 4}}),
    "monitor": monitor(3),
    "key": runtime({GLOBAL: 3}),
    "key and monitor": {**runtime({GLOBAL: 1}), **monitor(3)},
    "listener and monitor": {**runtime({LIMIT: 2}), **monitor(4)},
    "monitor and listener": {**runtime({LIMIT: 4}), **monitor(2)},
}


def start(program, more):
    config = bootstrap(
        [
            listener("edge", [direct(200, "direct\n", "/direct")]),
            listener("other", [direct(200, "direct\n", "/direct")]),
            listener("free", [direct(200, "direct\n", "/direct")], ignore_global_conn_limit=True),
        ],
        **json.loads(json.dumps(more)),
    )
    config["admin"]["ignore_global_conn_limit"] = True
    flags = ["--use-dynamic-base-id"] if program != SLUICE else []
    return Proxy(config, program=program, flags=[*flags, "--concurrency", "2"], level="warning")


def wait_for_quiet_admin(proxy):
    """Under the deprecated key the admin's connections count too, ours from the start of the proxy."""
    port = int(proxy.admin_path.read_text().rpartition(":")[2])
    open_states = ("01", "08")  # established, or closed by us only

    def is_quiet():
        rows = [line.split() for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]]
        return not any(row[1].endswith(f":{port:04X}") and row[3] in open_states for row in rows)

    eventually(is_quiet, what="the admin to have no client")


def attempt(proxy, name, stack):
    """What a new connection gets; it stays open when it was let in."""
    sock = socket.create_connection(("127.0.0.1", proxy.port(name)), timeout=20)
    try:
        sock.sendall(GET)
        [response] = read_responses(sock, GET) or ["closed"]
    except OSError:
        response = "closed"
    if isinstance(response, dict):
        stack.enter_context(sock)
        return response["status"]
    sock.close()
    return "closed"  # with or without a reset: that is a matter of what had arrived


def counted(proxy, steps):
    """Envoy may count who is closed when they have noticed."""

    def look():
        stats = listener_stats(proxy, COUNTED)
        refused = stats["downstream_cx_overflow"] + stats["downstream_global_cx_overflow"]
        return stats if refused == steps.count("closed") else None

    return eventually(look, what=f"as many refusals as there were: {steps}")


def listener_stats(proxy, names):
    """Of all listeners together: on Envoy all are under port 0. There each worker has its own beside."""
    stats = {k: v for k, v in proxy.stats().items() if k.startswith("listener.127") and "worker" not in k}
    return {what: sum(v for k, v in stats.items() if k.endswith(f".{what}")) for what in names}


@pytest.mark.parametrize("case", CASES)
def test_limits(case):
    told = []
    for program in (envoy_binary(), SLUICE):
        proxy = start(program, CASES[case])
        try:
            wait_for_quiet_admin(proxy)
            with contextlib.ExitStack() as stack:
                steps = [attempt(proxy, "edge", stack) for _ in range(5)]
                steps += [attempt(proxy, "other", stack) for _ in range(3)]
                steps += [attempt(proxy, "free", stack) for _ in range(2)]
                steps.append(counted(proxy, steps))
            eventually(lambda p=proxy: listener_stats(p, COUNTED)["downstream_cx_active"] == 0, what="all to be gone")
            wait_for_quiet_admin(proxy)
            with contextlib.ExitStack() as stack:
                steps += [attempt(proxy, "edge", stack) for _ in range(2)]
                steps.append(counted(proxy, steps))
        finally:
            proxy.stop()
        told.append(steps)
    envoy, sluice = told
    assert sluice == envoy


BROKEN = {
    "monitor of none": monitor(0),
    "monitor of less": monitor(-1),
    "monitor by another name": monitor(3, "mine"),
    "two monitors": {
        "overload_manager": {
            "resource_monitors": [m for n in (1, 2) for m in monitor(n)["overload_manager"]["resource_monitors"]]
        }
    },
    "a list": runtime({LIMIT: [1]}),
    "null": runtime({LIMIT: None}),
    "a layer without a name": {"layered_runtime": {"layers": [{"static_layer": {}}]}},
    "two layers of one name": {"layered_runtime": {"layers": [{"name": "a", "static_layer": {}}] * 2}},
    "an empty layer": {"layered_runtime": {"layers": [{"name": "a"}]}},
}


@pytest.mark.parametrize("case", [*BROKEN, "none at a time"])
def test_what_neither_takes(case, tmp_path):
    more = {"max_connections_to_accept_per_socket_event": 0} if case not in BROKEN else {}
    path = tmp_path / "bootstrap.json"
    path.write_text(json.dumps(bootstrap([listener("edge", [direct(200)], **more)], **BROKEN.get(case, {}))))
    for program in (envoy_binary(), SLUICE):
        done = subprocess.run([program, "--mode", "validate", "-c", str(path)], capture_output=True, timeout=60)
        assert done.returncode != 0, program
