"""Each Go library runs with the environment that its configuration asks for, and the user sets nothing."""


import kit
import pytest
from go_support import Proxy, config_of, go_listener, refused, stop

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
