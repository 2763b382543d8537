"""isolation: PROCESS, and the end: of the proxy, in order or not, and of a process that another one has replaced.
What plugins have to say then is heard, and no process stays."""

import os
import shutil
import signal

import pytest
from go_support import Proxy, build, config_of, eventually, go_listener, kit, stop
from isolation_support import host_pids, is_alive, isolated

LAST_WORDS = "metric: a configuration is destroyed"


def start(*filters):
    return Proxy(config_of([go_listener("main", list(filters))]))


def start_basic():
    return start(isolated(build("basic")))


def test_no_process_is_left_behind():
    sluice = start_basic()
    # The one that is kept ready comes when the first one has been taken.
    pids = eventually(lambda: len(pids := host_pids(sluice)) == 2 and pids, what="both")
    stop(sluice)
    assert not any(map(is_alive, pids))


def test_configurations_are_told_that_they_are_destroyed_and_what_they_say_is_in_the_log():
    library = build("config", tells_configs=True)
    sluice = start(isolated(library, "metric", library_id="a"), isolated(library, "metric", library_id="b"))
    assert sluice.get().status == 200
    stop(sluice)
    assert sluice.log().count(LAST_WORDS) == 2


def test_what_the_last_request_is_told_at_its_end_is_in_the_log():
    sluice = start_basic()
    reply = sluice.get(kit.path_of("/", log="log:2:it was logged", destroy="log:2:it was destroyed"))
    assert reply.status == 200
    stop(sluice)
    assert "it was logged" in sluice.log()
    assert "it was destroyed" in sluice.log()


def test_a_process_that_was_replaced_destroys_its_configurations_and_what_they_count_shows(tmp_path):
    path, new = tmp_path / "library.so", tmp_path / "new"
    shutil.copy(build("config", tells_configs=True), path)
    sluice = start(isolated(path, "metric"))
    assert sluice.get().status == 200
    shutil.copy(build("config"), new)
    new.rename(path)
    sluice.wait_for_stat("test_filter.destroyed", 1)
    assert sluice.get().header("x-metric-requests") == "2"  # the counter is the proxy's
    stop(sluice)


def test_a_plugin_that_will_not_end_is_ended():
    sluice = start_basic()
    pids = host_pids(sluice)
    assert sluice.get(kit.path_of("/", destroy="sleep:3600000")).status == 200
    stop(sluice)
    assert not any(map(is_alive, pids))


def test_whoever_says_it_twice_does_not_wait_for_plugins():
    sluice = start_basic()
    pids = host_pids(sluice)
    assert sluice.get(kit.path_of("/", destroy="sleep:3600000")).status == 200
    sluice.process.terminate()
    sluice.wait_for_log("draining:")
    sluice.process.send_signal(signal.SIGINT)
    stop(sluice)
    assert "ending at once" in sluice.log()
    eventually(lambda: not any(map(is_alive, pids)), what="the end of its processes")


@pytest.mark.parametrize("plugin_is", ["idle", "in a callback that does not return"])
def test_no_process_outlives_a_proxy_that_is_killed(plugin_is, tmp_path):
    sluice = start(isolated(build("basic"), sandbox={"memory_limit_bytes": 8 << 30}))
    pids = host_pids(sluice)
    with sluice.connect("main") as client:
        if plugin_is != "idle":
            client.send("GET", kit.path_of("/", dh="die:loop"))
            eventually(lambda: '"streams": 1' in sluice.admin("/extensions"), what="a request in the process")
        os.kill(sluice.process.pid, signal.SIGKILL)
        sluice.process.wait()
    eventually(lambda: not any(map(is_alive, pids)), what="the end of its processes")
