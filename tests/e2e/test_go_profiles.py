"""Profiles of a proxy with a Go library in it, which may take one of its own."""

import pathlib
import signal
import threading

import pytest
from go_support import Proxy, config_of, go_listener, kit, stop
from harness import eventually
from test_profiles import Profile

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
    assert "coroutine:[downstream]" in ours[0].ask("-raw", "-focus=main.burn")

    its_own = Profile.of_bytes(reply.body, tmp_path / "own").top()
    assert its_own["main.burn"][1] > 0
