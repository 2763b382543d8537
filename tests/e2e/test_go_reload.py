"""Rules of Go filters change while traffic flows: the configuration alone, without another copy of the library. In the
proxy and in host processes."""

import json

import kit
import pytest
from go_support import config_of, go_listener, report_listener, stop
from harness import direct, eventually
from reload_support import Live

from build import build

pytest_plugins = ["go_fixtures"]
KEY = "envoy.filters.http.golang"


def level(name):
    return kit.typed_struct({"level": name})


class Rules:
    """A listener with the plugin `merge`, which answers with the levels that it was configured with."""

    def __init__(self, library):
        self.library = library
        self.edge = Live(self.config("one"))

    def config(self, filter_level, route_level=None, *, plugin="merge"):
        own = {"typed_per_filter_config": {KEY: kit.per_route(**{plugin: level(route_level)})}} if route_level else {}
        filters = [kit.go_filter(self.library, plugin, level(filter_level))]
        return config_of(
            [
                go_listener("main", filters, [direct(200, "direct\\n", **own)]),
                report_listener(self.library),
            ]
        )

    def levels(self, client):
        return client.ask("GET", "/").header("x-levels")

    def library_row(self):
        (row,) = json.loads(self.edge.admin("/extensions"))["extensions"]
        return row


@pytest.fixture
def rules():
    it = Rules(build("config", "1.33"))
    yield it
    stop(it.edge)


def test_a_plugin_config_alone_changes_the_next_request(rules):
    before = rules.library_row()
    with rules.edge.connect("main") as client:
        assert rules.levels(client) == "one"
        rules.edge.change(rules.config("two"))
        assert rules.levels(client) == "two"
        rules.edge.change(rules.config("two", "route"))
        assert rules.levels(client) == "two>route"
        rules.edge.change(rules.config("two", "other"))
        assert rules.levels(client) == "two>other"
    after = rules.library_row()
    assert after["reloads"] == before["reloads"] == 0


def test_a_config_that_the_plugin_refuses_changes_nothing(rules):
    with rules.edge.connect("main") as client:
        assert rules.levels(client) == "one"
        assert "has no plugin named no-such-plugin" in rules.edge.refuse(rules.config("two", plugin="no-such-plugin"))
        assert rules.levels(client) == "one"


def test_another_library_is_loaded_and_one_that_goes_is_left(rules):
    other = build("basic", "1.32")
    with rules.edge.connect("main") as client:
        assert rules.levels(client) == "one"
        wanted = rules.config("one")
        wanted["static_resources"]["listeners"].append(report_listener(other, "other"))
        rules.edge.change(wanted)
        assert kit.Reporter(rules.edge.port("other")).get()["sdk"] == "1.32"
        assert rules.levels(client) == "one"
        rules.edge.change(rules.config("one"))
        assert rules.levels(client) == "one"


def destroyed(edge):
    return edge.log().count("a configuration is destroyed")


def test_configurations_that_nobody_uses_are_destroyed():
    """After the last request that uses them, and once each."""
    library = build("config", "1.33", tells_configs=True)

    def config(name):
        return config_of([go_listener("main", [kit.go_filter(library, "metric", level(name))])])

    edge = Live(config("one"))
    with edge.connect("main") as client:
        for version in range(5):
            assert client.ask("GET", "/").status == 200
            edge.change(config(f"after {version}"))
            # The connection idles, and follows all the same.
            eventually(lambda: destroyed(edge), what="the end of the old one")
            assert destroyed(edge) == 1
            edge.log_path.write_text("")
    assert edge.stat("test_filter.requests") == 5
    stop(edge)
