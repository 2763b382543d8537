"""Profiles of a proxy with a Go library in it, which may take one of its own."""

import json
import pathlib
import re
import signal
import threading

import pytest
from go_support import Proxy, config_of, go_listener, kit, stop
from harness import eventually, is_sanitized
from test_profiles import Profile, tags

from build import build

pytest_plugins = ["go_fixtures"]


@pytest.fixture
def sluice():
    made = Proxy(config_of([go_listener("main", [kit.go_filter(build("gcloop"), "gcloop")])]))
    yield made
    stop(made)


def test_go_code_is_in_our_profile_and_in_its_own(sluice, tmp_path):
    """Both look at the same thread at the same time, each by its own signal."""
    ours = []
    thread = threading.Thread(target=lambda: ours.append(Profile(sluice, "/debug/pprof/profile?seconds=5", tmp_path)))
    thread.start()
    eventually(lambda: "while a profile is taken" in sluice.admin("/debug/pprof/goroutine?debug=1"))
    with sluice.connect("main", timeout_s=60) as client:
        reply = client.ask("GET", "/profile")
    assert reply.status == 200
    thread.join(40)
    # Go keeps its timers; ours are gone.
    left = pathlib.Path(f"/proc/{sluice.process.pid}/timers").read_text()
    assert f"signal: {signal.SIGRTMAX - 4}/" not in left

    top = ours[0].top()
    assert top["main.burn"][1] > 0
    # From Go's stack on to the coroutine whose request it is.
    of_burn = ours[0].top("-focus=main.burn")
    assert of_burn["g_main"][1] == of_burn["main.burn"][1]
    raw = ours[0].ask("-raw", "-focus=main.burn")
    assert "coroutine:[downstream]" in raw
    assert re.search(r" main\.burn \S*/gcloop/main\.go:\d+", raw)
    # Whose code it is, and for which request.
    burnt = of_burn["main.burn"][1]
    of_gcloop = tags(ours[0], "-focus=main.burn")
    assert of_gcloop["filter"] == {"envoy.filters.http.golang": burnt}
    assert of_gcloop["library"] == {build("gcloop").name: burnt}
    assert of_gcloop["plugin"] == {"gcloop": burnt}
    assert (of_gcloop["listener"], of_gcloop["route"]) == ({"main": burnt}, {"/*": burnt})

    its_own = Profile.of_bytes(reply.body, tmp_path / "own").top()
    assert its_own["main.burn"][1] > 0


@pytest.mark.skipif(is_sanitized(), reason="a sanitizer's malloc is not sampled")
def test_what_is_allocated_in_a_callback_says_by_whom():
    library = build("heap")
    heap = go_listener("main", [kit.go_filter(library, "heap")])
    sluice = Proxy(config_of([heap]), flags=["--heap-profile-rate", "16384"])
    assert sluice.get("/spike", listener="main").status == 200
    text = sluice.admin("/debug/pprof/heap?debug=1&gc=1")
    [of_spike] = [entry for entry in re.split(r"\n(?=\d+: )", text) if "heap_spike+" in entry]
    labels = json.loads(re.search(r"labels: (.*)", of_spike)[1])
    assert labels["listener"] == "main"
    assert (labels["library"], labels["plugin"]) == (library.name, "heap")
    assert sluice.get("/release", listener="main").status == 200
    stop(sluice)


def test_a_request_that_waits_for_go_says_in_which_filter(go):
    """A goroutine keeps the head of one request and the body of another; the proxy's coroutines tell
    where: the one that serves the connection, and the one that carries a body to the origin."""
    with go.connect() as head, go.connect() as body:
        head.send("GET", go.path(dh=f"wait:{go.id}.head"))
        body.send_head("POST", go.path(dd=f"wait:{go.id}.body"), [("transfer-encoding", "chunked")])
        body.send_chunk(b"a chunk")

        def waiting():
            """Labels of the coroutines that are in Go's hands, by coroutine."""
            text = go.sluice.admin("/debug/pprof/goroutine?debug=1")
            found = re.findall(r'^# labels: (.*"plugin": "basic"})\n# \[[^"]*"([^"]+)"\]', text, re.M)
            return sorted((name, labels) for labels, name in found)

        labels = json.dumps(
            {
                "listener": go.listener("main"),
                "virtual_host": "all",
                "route": "/*",
                "filter": "envoy.filters.http.golang",
                "library": build("basic", go.sdk).name,
                "plugin": "basic",
            }
        )
        # The second one's head was in Go's hands, too.
        eventually(lambda: waiting() == [("downstream", labels), ("request body", labels)], what="a head and a body")
        go.signal(f"{go.id}.head")
        go.signal(f"{go.id}.body")
        body.send_end()
        assert head.read_reply().status == 200
        assert body.read_reply().status == 200
