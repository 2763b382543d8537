"""How Go filters get their configuration: as it is written, merged by route, or refused."""

import json

import kit
import pytest
from go_support import Proxy, config_of, direct, go_listener, refused, report_listener, stop

from build import build

pytest_plugins = ["go_fixtures"]


@pytest.fixture(params=kit.SDKS)
def library(request):
    return build("config", request.param)


class Config:
    """A proxy whose one listener answers by itself, behind the given filters."""

    def __init__(self, library, filters, routes=None, **more):
        listeners = [go_listener("main", filters, routes, **more), report_listener(library)]
        self.sluice = Proxy(config_of(listeners))
        self.report = kit.Reporter(self.sluice.port("report"))

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            stop(self.sluice)
        else:
            self.sluice.kill()

    def ask(self, path="/"):
        return self.sluice.get(path, listener="main")


def answer(prefix="/", **more):
    return direct(200, "direct\n", prefix, **more)


def level(name, **values):
    return kit.typed_struct({"level": name, **values})


def test_levels_are_merged_from_the_filter_inwards(library):
    """Route table, virtual host and route may each have a part of their own; what is further in
    wins, and a route without any runs with the filter's own."""
    key = "envoy.filters.http.golang"

    def own(name, **values):
        return {"typed_per_filter_config": {key: kit.per_route(merge=level(name, **values))}}

    hosts = [
        {
            "name": "with-own",
            "domains": ["own.example"],
            "routes": [
                answer(prefix="/route", **own("route", color="red")),
                answer(prefix="/"),
            ],
            **own("host", color="green", size="1"),
        },
        {
            "name": "without",
            "domains": ["*"],
            "routes": [answer(prefix="/route", **own("lonely")), answer(prefix="/")],
        },
    ]
    filters = [kit.go_filter(library, "merge", level("filter", color="blue", shape="round"))]
    with Config(library, filters, hosts=hosts) as proxy:

        def ask(path, host):
            with proxy.sluice.connect("main") as client:
                client.method = "GET"
                client.sock.sendall(f"GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n".encode())
                reply = client.read_reply()
            return [reply.header(f"x-{n}") for n in ("levels", "value-color", "value-shape")]

        for _ in range(10):
            assert ask("/", "other.example") == ["filter", "blue", "round"]
            assert ask("/route", "other.example") == ["filter>lonely", "blue", "round"]
            assert ask("/", "own.example") == ["filter>host", "green", "round"]
            assert ask("/route", "own.example") == ["filter>host>route", "red", "round"]

        counts = proxy.report.get()["counts"]
        assert counts["parse_route"] == 3
        # Merged results are kept, not made again for each of the 40 requests.
        assert counts["merge"] == proxy.sluice.stat(f"golang.library.{library.name}.merges") == 3
        proxy.report.wait_until_collected()


def test_a_parse_error_refuses_the_bootstrap(library):
    filters = [kit.go_filter(library, "merge", kit.typed_struct({"error": "not like this"}))]
    said = refused(go_listener("main", filters))
    assert "not like this" in said


def test_a_parse_error_in_a_route_refuses_the_bootstrap(library):
    wrong = kit.per_route(merge=kit.typed_struct({"error": "not on this route"}))
    routes = [
        answer(prefix="/x", typed_per_filter_config={"envoy.filters.http.golang": wrong}),
        answer(),
    ]
    said = refused(go_listener("main", [kit.go_filter(library, "merge", level("filter"))], routes))
    assert "not on this route" in said


# No fractions: in a YAML file Envoy reads them as text where the schema does not ask for a number.
ANYS = {
    "TypedStruct": (
        {
            "@type": kit.TYPE + "xds.type.v3.TypedStruct",
            "type_url": "x/y",
            "value": {"a": [1, True, None, {"b": "c"}]},
        },
        {"typeUrl": "x/y", "value": {"a": [1, True, None, {"b": "c"}]}},
    ),
    "old TypedStruct": (
        {"@type": kit.TYPE + "udpa.type.v1.TypedStruct", "value": {"a": "b"}},
        {"value": {"a": "b"}},
    ),
    "Struct": (
        {"@type": kit.TYPE + "google.protobuf.Struct", "value": {"n": -15, "s": "\u00e9"}},
        {"n": -15, "s": "\u00e9"},
    ),
    "StringValue": ({"@type": kit.TYPE + "google.protobuf.StringValue", "value": "text"}, "text"),
    "BoolValue": ({"@type": kit.TYPE + "google.protobuf.BoolValue", "value": True}, True),
    "Int64Value": (
        {"@type": kit.TYPE + "google.protobuf.Int64Value", "value": "-9007199254740993"},
        "-9007199254740993",
    ),
}


@pytest.mark.parametrize("name", ANYS)
def test_plugin_config_arrives_as_the_message_it_names(name):
    """The filter gets the Any itself; what YAML says is encoded as the type that it names."""
    written, wanted = ANYS[name]
    library = build("config")
    with Config(library, [kit.go_filter(library, "any", written)]) as proxy:
        reply = proxy.ask()
    assert reply.header("x-any-type") == written["@type"]
    assert json.loads(reply.header("x-any-json").encode("latin-1").decode()) == wanted


def test_no_plugin_config_is_an_empty_any(library):
    with Config(library, [kit.go_filter(library, "any")]) as proxy:
        reply = proxy.ask()
    assert reply.header("x-any-type") == ""
    assert reply.header("x-any-bytes") == ""


def test_disabled_on_a_route_is_an_empty_any_there():
    """As on Envoy, `disabled` is not read: the plugin is given an empty Any to parse."""
    library = build("config")
    off = {
        "@type": kit.TYPE + "envoy.extensions.filters.http.golang.v3alpha.ConfigsPerRoute",
        "plugins_config": {"any": {"disabled": True}},
    }
    routes = [
        answer(prefix="/off", typed_per_filter_config={"envoy.filters.http.golang": off}),
        answer(),
    ]
    written = {"@type": kit.TYPE + "google.protobuf.StringValue", "value": "on"}
    with Config(library, [kit.go_filter(library, "any", written)], routes) as proxy:
        assert proxy.ask("/on").header("x-any-json") == '"on"'
        assert proxy.ask("/off").header("x-any-type") == ""


def test_several_plugins_of_one_library_in_one_chain(library):
    filters = [
        kit.go_filter(library, "merge", level("first"), name="one"),
        kit.go_filter(library, "any", level("second"), name="two"),
        kit.go_filter(library, "metric", name="three"),
    ]
    with Config(library, filters) as proxy:
        reply = proxy.ask()
        assert reply.header("x-levels") == "first"
        assert reply.header("x-any-type").endswith("TypedStruct")
        assert reply.header("x-metric-requests") is not None
        assert proxy.report.wait_until_collected()["created"] == 3


def test_a_route_config_is_for_the_filter_of_its_name(library):
    """Two filters of one plugin: the route has a part for one of them."""
    filters = [
        kit.go_filter(library, "merge", level("one", one="1"), name="filter-one"),
        kit.go_filter(library, "merge", level("two", two="2"), name="filter-two"),
    ]
    routes = [answer(typed_per_filter_config={"filter-two": kit.per_route(merge=level("route", two="3"))})]
    with Config(library, filters, routes) as proxy:
        reply = proxy.ask()
    assert reply.header("x-value-one") == "1"
    assert reply.header("x-value-two") == "3"


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_plugin_counts_under_the_name_it_says(library, mode):
    """Two filters in two listeners name one counter: it is one, in the plugin, in /stats and for
    Prometheus. A goroutine counts as a callback does."""
    suffix = "&async" if mode == "async" else ""
    metric = [kit.go_filter(library, "metric")]
    second = go_listener("second", [kit.go_filter(library, "metric", name="other")])
    listeners = [go_listener("main", metric), second, report_listener(library)]
    sluice = Proxy(config_of(listeners))
    report = kit.Reporter(sluice.port("report"))

    def ask(query, name="main"):
        reply = sluice.get(f"/?{query}{suffix}", listener=name)
        report.wait_until_collected()  # the end of a request takes it off the gauge
        return [int(reply.header(f"x-metric-{n}")) for n in ("requests", "active")]

    try:
        assert "test_filter.requests: 0" in sluice.admin("/stats")  # as soon as it is defined
        assert ask("count=4") == [5, 1]
        assert ask("recount=10&count=-3", "second") == [16, 1]  # a counter never falls
        assert ask("record=100&active=41") == [117, 41]
        assert sluice.stat("test_filter.requests") == 117
        assert sluice.stat("test_filter.active") == 40
        exposed = sluice.admin("/stats/prometheus")
        assert "envoy_test_filter_requests{} 117" in exposed
        assert "# TYPE envoy_test_filter_active gauge" in exposed
    finally:
        stop(sluice)


def test_an_unknown_plugin_lets_everything_through_where_nobody_looks(library):
    """That is what the SDK does with a name that no plugin has, and it says so. The probe refuses it."""
    filter_ = kit.go_filter(library, "no-such-plugin")
    assert "has no plugin named no-such-plugin" in refused(go_listener("main", [filter_]))
    filter_["typed_config"]["probe"] = {"disabled": True}
    with Config(library, [filter_]) as proxy:
        assert proxy.ask().body == b"direct\n"
        proxy.sluice.wait_for_log("plugin no-such-plugin not found, pass through by default")


def test_the_first_path_of_a_library_id_wins():
    """Two filters name one library_id with different files: there is one library."""
    right, wrong = build("config"), build("basic")
    filters = [
        kit.go_filter(right, "merge", level("a"), library_id="same", name="one"),
        kit.go_filter(wrong, "merge", level("b"), library_id="same", name="two"),
    ]
    with Config(right, filters) as proxy:
        assert proxy.ask().header("x-levels") in ("a", "b")


@pytest.mark.parametrize("path", ["/nonexistent/libfilter.so", "/etc/passwd"])
def test_what_is_not_a_library_is_refused(path):
    said = refused(go_listener("main", [kit.go_filter(path, "any")]))
    assert path in said


def test_a_stripped_library_is_a_library():
    """Releases have no symbol table; the SDK's version is found all the same."""
    library = build("gcloop", strip=True)
    with Config(library, [kit.go_filter(library, "gcloop")]) as proxy:
        assert proxy.ask().header("x-gcloop") == "1"
