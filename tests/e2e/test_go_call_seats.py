"""What can be seen of network filters and cluster specifiers in Go, and what happens when all of their calls block.

One processor and two seats: what is blocked is then exact.
"""

import json
import re

import kit
import pytest
from go_support import Proxy, build, config_of, refused, report_listener, stop
from harness import eventually, listener
from tcp_support import connect, is_reset, tcp_listener
from test_go_cluster_specifier import chosen_by, specifier
from test_go_network import go_network

SEATS = 2


class Edge:
    def __init__(self):
        library = build("network")
        brief = {"go_seats": SEATS, "seat_wait_timeout": "0.1s"}

        def script(name, wait):
            made = go_network(library, id=name)
            made["typed_config"] |= {**brief, "seat_wait_timeout": wait, "gogc": "75"}
            return tcp_listener(name, made)

        inline = specifier(library, **brief)
        self.sluice = Proxy(
            config_of(
                [
                    script("patient", "60s"),
                    script("brief", "0.1s"),
                    listener("chosen", [chosen_by(inline_cluster_specifier_plugin=inline)]),
                    report_listener(library),
                ]
            ),
            flags=["--concurrency", "1"],
        )
        self.signals = 0
        self.report = kit.Reporter(self.sluice.port("report"))

    def port(self, name):
        return self.sluice.port(name)

    def of_library(self):
        [library] = json.loads(self.sluice.admin("/golang?format=json"))["libraries"]
        return library

    def of_plugin(self, kind):
        [plugin] = [one for one in self.of_library()["plugins"] if one["kind"] == kind]
        return plugin

    def block(self, count):
        """So many connections whose OnData waits until let_go."""
        self.signals += 1
        clients = [connect(self, "patient") for _ in range(count)]
        for client in clients:
            client.sendall(f"wait go.{self.signals}\nsay on\n".encode())
        eventually(lambda: self.of_plugin("network")["calls_blocked"] == count, what=f"{count} blocked")
        return clients

    def let_go(self, clients):
        self.report.signal(f"go.{self.signals}")
        for client in clients:
            with client, client.makefile("rb") as reader:
                assert reader.readline() == b"on\n"


@pytest.fixture(scope="module")
def edge():
    made = Edge()
    yield made
    assert made.sluice.leaks() == {}
    stop(made.sluice)


def test_a_network_filter_is_counted(edge):
    def counted():
        return {name: edge.sluice.stat(f"golang.network.network.script.{name}") for name in ("connections", "calls")}

    before = edge.of_plugin("network")
    with connect(edge, "brief") as client, client.makefile("rb") as reader:
        client.sendall(b"say one\nsay two\n")
        assert (reader.readline(), reader.readline()) == (b"one\n", b"two\n")
        # While it is open: connections may last for days.
        eventually(lambda: edge.of_plugin("network")["bytes_to_go"] == before["bytes_to_go"] + 16 + 8)
        now = edge.of_plugin("network")
        assert now["connections"] == before["connections"] + 1
        assert now["calls"] >= before["calls"] + 4  # OnNewConnection, OnData, two OnWrites
        assert now["bytes_from_go"] == before["bytes_from_go"] + 8
        assert now["crossings"] >= before["crossings"] + 2
        assert now["unfinalized_connections"] >= 1
    eventually(lambda: counted()["calls"] > now["calls"], what="OnEvent")
    assert counted()["connections"] == now["connections"]
    metrics = edge.sluice.admin("/stats/prometheus")
    assert re.search(r'^envoy_golang_network_connections{library="network",plugin="script"} [1-9]', metrics, re.M)
    assert re.search(r'^envoy_golang_network_call_time_count{library="network",plugin="script"} [1-9]', metrics, re.M)


def test_a_cluster_specifier_is_counted(edge):
    before = edge.of_plugin("cluster_specifier")
    assert edge.sluice.get("/long/6", listener="chosen").status == 503  # asks for nothing but :path
    now = edge.of_plugin("cluster_specifier")
    assert now["requests"] == before["requests"] + 1
    assert now["calls"] == before["calls"] + 1
    assert now["bytes_to_go"] == before["bytes_to_go"] + len("/long/6")
    assert now["crossings"] == before["crossings"] + 1
    assert edge.sluice.stat("golang.cluster_specifier.network.calls") == now["calls"]


def test_with_all_seats_blocked_who_cannot_wait_is_refused_and_all_recover(edge):
    defaults = edge.of_plugin("cluster_specifier")["defaults"]
    calls = edge.of_plugin("cluster_specifier")["calls"]
    early = connect(edge, "brief")
    with early.makefile("rb") as reader:
        early.sendall(b"say on\n")
        assert reader.readline() == b"on\n"
        blocked = edge.block(SEATS)
        library = edge.of_library()
        assert (library["call_seats"], library["call_seats_blocked"]) == (SEATS, SEATS)
        assert library["gogc"] == "75"
        timeouts = library["seat_timeouts"]

        # HTTP filters of the same library have seats of their own.
        assert edge.report.get()["concurrency"] == library["seats"] != SEATS
        # What the plugin would have said is not known.
        assert edge.sluice.get("/name/nobody", listener="chosen").status == 503
        now = edge.of_plugin("cluster_specifier")
        assert (now["defaults"], now["calls"]) == (defaults + 1, calls)
        early.sendall(b"say more\n")
        assert is_reset(early)
        with connect(edge, "brief") as late:
            assert late.recv(1) == b""
        assert edge.of_library()["seat_timeouts"] == timeouts + 3
    edge.let_go(blocked)
    eventually(lambda: edge.of_library()["call_seats_busy"] == 0)
    assert edge.of_plugin("network")["call_p99_us"] >= 1000


def test_the_dashboard_shows_what_the_admin_tells(edge):
    """Its card of extensions reads /golang: each name that it looks for is there."""
    page = edge.sluice.admin("/")
    library = edge.of_library()
    plugins = {plugin["kind"]: plugin for plugin in library["plugins"]}
    kinds = re.findall(r'^  (\w+): \["[\w ]+", "(\w+)", "(\w+)", "(\w*)"\],$', page, re.M)
    assert {kind for kind, *_ in kinds} == set(plugins)
    for kind, prefix, requests, held in kinds:
        assert requests in plugins[kind]
        assert held in {*plugins[kind], ""}
        assert edge.sluice.admin(f"/stats?filter=^golang.{prefix}.network.*{requests}")
    of_card = page[page.index("function libraryRow") : page.index("// Native filters are")]
    assert set(re.findall(r"\bl\.(\w+)", of_card)) <= set(library)
    assert set(re.findall(r"\bp\.(\w+)", of_card)) <= set(plugins["http"])


def test_a_dump_says_in_which_plugin_a_connection_waits(edge):
    blocked = edge.block(1)
    text = edge.sluice.admin("/debug/pprof/goroutine?debug=1")
    [labels] = re.findall(r'^# labels: (.*"plugin": "script"})\n# \[[^"]*"downstream"', text, re.M)
    assert json.loads(labels) == {
        "listener": "patient",
        "filter": "envoy.filters.network.golang",
        "library": "network",
        "plugin": "script",
    }
    assert re.search(r'"filter": "envoy.filters.network.golang", "library": "network", .*\n# \[[^"]*"go peer"', text)
    asking = edge.sluice.connect("chosen")
    asking.send("GET", "/wait/cluster")
    eventually(lambda: edge.of_plugin("cluster_specifier")["calls_blocked"] == 1)
    text = edge.sluice.admin("/debug/pprof/goroutine?debug=1")
    assert '"filter": "envoy.router.cluster_specifier_plugin.golang", "library": "network"}' in text
    edge.report.signal("cluster")
    assert asking.read_reply().status == 503  # of the config: a cluster that is not there
    asking.close()
    edge.let_go(blocked)


def test_what_go_would_end_the_process_over_is_refused():
    made = go_network(build("network"))
    made["typed_config"]["gogc"] = "much"
    assert "gogc 'much': must be a percentage" in refused(tcp_listener("edge", made))
    inline = specifier(build("network"), go_memory_limit="1 GB")
    chosen = listener("chosen", [chosen_by(inline_cluster_specifier_plugin=inline)])
    assert "go_memory_limit '1 GB': must be a number of bytes" in refused(chosen)


def test_the_probe_has_the_fields_of_http_filters():
    """Of the same library, whichever configuration says them: too short a time for it to start."""
    made = go_network(build("network"))
    made["typed_config"]["probe"] = {"timeout": "0.001s"}
    assert "it gave no answer within 0.001 s" in refused(tcp_listener("edge", made))
