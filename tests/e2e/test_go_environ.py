"""Each Go library runs with the environment that its configuration asks for, and the user sets nothing."""

import kit
import pytest
from go_support import Proxy, config_of, go_listener, refused, report_listener, stop

from build import build


def environ_filter(library, **own):
    filter_ = kit.go_filter(library, "environ")
    filter_["typed_config"].update(own)
    return filter_


@pytest.mark.parametrize("inherited", [{}, {"GOGC": "300", "GODEBUG": "gctrace=0"}], ids=["bare", "set"])
def test_each_library_has_its_own_collector(inherited):
    """Two libraries in one process: one with wishes, one that has what the process has."""
    tuned, plain = build("config"), build("config", copy="b")
    listeners = [
        go_listener("tuned", [environ_filter(tuned, gogc="40", go_memory_limit="96MiB")]),
        go_listener("plain", [environ_filter(plain)]),
    ]
    sluice = Proxy(config_of(listeners), env=inherited)
    reply = sluice.get("/", listener="tuned")
    assert reply.header("x-gogc") == "40"
    assert reply.header("x-memory-limit") == str(96 << 20)
    assert reply.header("x-env-path")
    assert reply.header("x-env-godebug") == inherited.get("GODEBUG", "")  # an HTTP filter needs nothing
    reply = sluice.get("/", listener="plain")
    assert reply.header("x-gogc") == inherited.get("GOGC", "100")
    assert reply.header("x-env-gogc") == inherited.get("GOGC", "")
    assert int(reply.header("x-memory-limit")) > 1 << 60
    stop(sluice)


def test_a_library_starts_under_a_supervisor():
    """The process that serves takes the supervisor's variable out of its environment before a library reads that."""
    listeners = [go_listener("tuned", [environ_filter(build("config"), gogc="40")])]
    sluice = Proxy(config_of(listeners), flags=["--supervise"])
    reply = sluice.get("/", listener="tuned")
    assert reply.header("x-gogc") == "40" and reply.header("x-env-path")
    stop(sluice)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_http_filters_pass_gos_strictest_checks():
    """Built with GOEXPERIMENT=cgocheck2, which ends the process when C is shown a pointer that it may not have."""
    basic = build("basic", experiment="cgocheck2")
    sluice = Proxy(config_of([go_listener("main", [kit.go_filter(basic, "basic")]), report_listener(basic)]))
    asks = ["set:x-a:1", "get:x-b", "values:x-b", "getraw:x-b", "all", "info", "property:request.path"]
    asks += ["metadata.set:ns:k:v", "metadata.get:ns", "state.set:a:b", "state.get:a", "gc"]
    scripts = {
        "dh": [*asks, "ret:3"],
        "dd": ["b.string", "b.append:x", "b.len"],
        "eh": ["add:x-c:2", "all", "gc"],
        "ed": ["b.upper"],
        "log": ["all", "info"],
    }
    with sluice.connect("main") as client:
        for is_async in (False, True):
            path = kit.path_of("/", test_id="t", is_async=is_async, **scripts)
            reply = client.ask("POST", path, headers=[("x-b", "7")], body=b"hello")
            assert (reply.status, reply.header("x-c"), reply.body) == (200, "2", b"DIRECT\n")
        reply = client.ask("GET", kit.path_of("/", dh=["reply.header:x-r:b", "reply:403:no"]))
        assert (reply.status, reply.header("x-r"), reply.body) == (403, "b", b"no")
    report = kit.Reporter(sluice.port("report")).wait_until_collected()
    assert "cgocheck2" in report["go_version"]
    stop(sluice)


@pytest.mark.parametrize(
    ("own", "because"),
    [
        ({"gogc": "fast"}, "gogc 'fast': must be a percentage"),
        ({"go_memory_limit": "12 apples"}, "go_memory_limit '12 apples': must be"),
    ],
)
def test_wishes_that_go_does_not_know_are_refused(own, because):
    """Go itself ends the process when it cannot read its GOMEMLIMIT."""
    assert because in refused(go_listener("main", [environ_filter(build("config"), **own)]))
