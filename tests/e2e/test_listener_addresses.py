"""Listeners on several addresses, which are alike in everything else."""

import json
import socket

import pytest

from first_bytes import GET, ask, chain, inspected
from harness import closed_port, direct, listener, run

MSS = {"level": socket.IPPROTO_TCP, "name": socket.TCP_MAXSEG}  # which a peer can see


def on(made, *addresses):
    """made, and where else it listens: addresses, or what additional_addresses has."""
    more = [one if isinstance(one, dict) else {"address": {"socket_address": one}} for one in addresses]
    return {**made, "additional_addresses": more}


def at(host, port=0):
    return {"socket_address": {"address": host, "port_value": port}}


def where(edge, name="main"):
    """Its addresses, in order."""
    lines = [line.partition("::") for line in edge.admin("/listeners").splitlines()]
    return [
        (host.strip("[]"), int(port))
        for owner, _, bound in lines
        if owner == name
        for host, _, port in [bound.rpartition(":")]
    ]


@pytest.mark.parametrize("reuse_port", [True, False])
def test_all_addresses_are_served_alike(proxy, reuse_port):
    """Of IPv4 and IPv6, on ports of their own, by all workers: what is said of the local address is what was asked for,
    filter chains go by it, and all count together."""
    second = chain("second", {"prefix_ranges": [{"address_prefix": "127.0.0.2", "prefix_len": 32}]})
    made = on(
        inspected("main", [], [second, chain("rest")], enable_reuse_port=reuse_port),
        {"address": at("127.0.0.2")},
        {"address": at("::1")},
        {"address": at("127.0.0.1")},
    )
    edge = proxy([made], flags=["--concurrency", "2"])
    places = where(edge)
    assert [host for host, _ in places] == ["127.0.0.1", "127.0.0.2", "::1", "127.0.0.1"]
    assert len(set(places)) == 4 and all(port for _, port in places)
    for _ in range(4):  # so that workers have seen some before
        for host, port in places:
            answer = ask(port, GET, host=host)
            shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            assert (answer.chain, answer.said["local"]) == ("second" if host == "127.0.0.2" else "rest", shown)
    assert edge.stat(f"listener.127.0.0.1_{places[0][1]}.downstream_cx_total") == 16
    told = json.loads(edge.admin("/listeners?format=json"))["listener_statuses"][0]
    assert len(told["additional_local_addresses"]) == 3
    assert edge.admin("/drain_listeners", method="POST") == "OK\n"
    for host, port in places:
        with pytest.raises(OSError):
            while True:  # they close one after the other, and none opens again
                socket.create_connection((host, port), timeout=20).close()


def test_socket_options_are_those_of_the_address(proxy):
    """The listener's own where the address says nothing; else what it says, and be it nothing."""

    def options(*sizes):
        return [{**MSS, "int_value": size} for size in sizes]

    made = on(
        listener("main", [direct(200, "x")], socket_options=options(1000)),
        {"address": at("127.0.0.1")},
        {"address": at("127.0.0.1"), "socket_options": {"socket_options": options(900)}},
        {"address": at("127.0.0.1"), "socket_options": {}},
    )

    def size_at(place):
        with socket.create_connection(place, timeout=20) as sock:
            return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)

    sizes = [size_at(place) for place in where(proxy([made]))]
    assert sizes[0] == sizes[1] <= 1000
    assert sizes[2] <= 900 and sizes[2] < sizes[0] < sizes[3]


def test_an_address_that_cannot_be_had_is_named():
    held, port = closed_port()
    with held, socket.create_server(("127.0.0.1", 0)) as taken:
        made = listener("main", [direct(200, "x")])
        config = {"static_resources": {"listeners": [on(made, {"address": at("127.0.0.1", taken.getsockname()[1])})]}}
        done = run(config=config)
        assert done.returncode != 0
        assert f"listener 'main': cannot bind 127.0.0.1:{taken.getsockname()[1]}: Address already in use" in done.stderr

        twice = [on(made, {"address": at("127.0.0.1", port)}, {"address": at("127.0.0.1", port)})]
        done = run("--mode", "validate", config={"static_resources": {"listeners": twice}})
        assert done.returncode == 1 and "the address is taken by the listener of line" in done.stderr
        none = [on(made, {"address": at("localhost", port)})]
        done = run("--mode", "validate", config={"static_resources": {"listeners": none}})
        assert done.returncode == 1 and "'localhost' is no IP address" in done.stderr


def test_statistics_are_called_by_stat_prefix(proxy):
    edge = proxy([listener("main", [direct(200, "x")], stat_prefix="front")])
    assert edge.get("/").status == 200
    assert edge.stat("listener.front.downstream_cx_total") == 1
    assert not [name for name in edge.stats() if name.startswith("listener.127")]
