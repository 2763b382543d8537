"""A new version of a Go library goes out by degrees, and is withdrawn when it does worse than the old one beside it."""

import json
import os
import pathlib
import re
import signal

import kit
import pytest
from go_support import Proxy, build, config_of, eventually, go_listener, refused, stop, to
from go_support import cluster as cluster_of
from isolation_support import host_pids, read_proc
from rollout_support import Asked
from tcp_support import tcp_listener
from wire import Origin

OLD, NEW, NEXT = "1.33", "1.32", "1.31"
QUICK = {"step_duration": "0.3s", "min_requests": 50}


class Rolled(Asked):
    """A library in a file of its own, which is replaced, and clients that ask on and on, each request with a user of
    its own. What a build does is said by its SDK (tests/filters/README.md)."""

    def __init__(self, folder, isolation, behaviour=(), rollout=(), **more):
        super().__init__()
        self.path = folder / "library.so"
        self.folder = folder
        self.put(OLD)
        rollout = {**QUICK, "hash_on": {"header": "x-user"}, **dict(rollout)}
        own = {"library_id": "lib", "isolation": isolation, "hot_swap": {"rollout": rollout}}
        filters = [kit.go_filter(self.path, "versioned", kit.typed_struct(dict(behaviour)), **own)]
        clusters = more.pop("clusters", ())
        self.sluice = Proxy(config_of([go_listener("main", filters, **more)], clusters))

    def put(self, sdk):
        new = self.folder / "new"
        new.write_bytes(build("basic", sdk).read_bytes())
        os.rename(new, self.path)

    def connect_client(self):
        return self.sluice.connect("main")

    def told(self, reply):
        return reply.header("x-sdk")

    def row(self):
        (row,) = json.loads(self.sluice.admin("/extensions"))["extensions"]
        return row

    def shown(self):
        return self.row()["rollout"]

    def left_over(self):
        """Processes that drain; copies that have not drained."""
        row = self.row()
        return row.get("draining_processes", 0) + sum(c["state"] == "DRAINING" for c in row.get("copies", ()))

    def order(self, action, library="lib"):
        return self.sluice.admin(f"/extensions/rollout?library_id={library}&action={action}", method="POST")

    def sdk_of(self, user):
        """And what it was answered with."""
        with self.sluice.connect("main") as client:
            reply = client.ask("GET", "/", headers=[("x-user", user)])
            return reply.header("x-sdk") if reply.status == 200 else (reply.status, reply.body)

    def sdks(self):
        return {self.sdk_of(f"someone-{n}") for n in range(50)}


@pytest.fixture(params=["IN_PROCESS", "PROCESS"])
def rolled(request, tmp_path):
    started = []

    def start(*args, **more):
        started.append(Rolled(tmp_path, request.param, *args, **more))
        return started[-1]

    yield start
    for it in started:
        it.stop_asking()
        stop(it.sluice)


def test_a_version_that_is_fine_serves_everybody_in_the_end(rolled):
    """Step by step; who is served by it stays with it, no request fails, and the old version drains."""
    it = rolled(rollout={"steps": [10, 50]})
    users = [f"user-{n}" for n in range(200)]
    it.ask_on(users)
    it.put(NEW)
    eventually(lambda: it.shown()["step"] == 2 or it.shown()["state"] == "DONE", what="the second step")
    shown = it.wait_for("DONE", share_percent=100)
    it.stop_asking()
    assert {status for _, status, _ in it.replies} == {200}
    assert shown["new"]["requests"] >= 100 and shown["old"]["requests"] >= 100
    assert (shown["new"]["errors"], shown["old"]["errors"]) == (0, 0)
    it.assert_nobody_went_back(users)
    assert it.sdks() == {NEW}
    assert it.sluice.stat("golang.library.lib.rollouts_done") == 1
    assert "it did as well as the old one" in it.sluice.log()
    eventually(lambda: not it.left_over(), what="the end of the old version")


def test_one_of_which_two_percent_fail_is_withdrawn(rolled):
    """Each 50th request of the new build fails. What clients notice of it is that share of a share."""
    it = rolled({NEW: {"fail_every": 50}}, rollout={"steps": [10, 50], "step_duration": "60s"})
    it.ask_on()
    it.put(NEW)
    shown = it.wait_for("WITHDRAWN", share_percent=0)
    it.stop_asking()
    failed = [reply for reply in it.replies if reply[1] != 200]
    assert {sdk for _, _, sdk in failed} <= {NEW, None}
    assert 0 < len(failed) <= 0.004 * len(it.replies) + 2  # 10 % times 2 %, and as much for the dice
    assert "% of its" in shown["why"] and "requests failed" in shown["why"]
    assert shown["old"]["errors"] == 0
    assert "version 2 is withdrawn" in it.sluice.log()
    assert it.sluice.stat("golang.library.lib.rollouts_withdrawn") == 1
    assert it.sdks() == {OLD}

    # The file is not taken again until it is another one, also when it is touched.
    it.sluice.admin("/logging?golang=debug", method="POST")
    it.put(NEW)
    it.sluice.wait_for_log("this build was withdrawn")
    it.put(NEXT)
    assert it.wait_for("ROLLING")["version"] == "3"


def test_one_that_is_slow_is_withdrawn(rolled):
    it = rolled({NEW: {"sleep_ms": 40}}, rollout={"steps": [50], "step_duration": "60s"})
    it.ask_on()
    it.put(NEW)
    shown = it.wait_for("WITHDRAWN")
    assert "slow" in shown["why"]
    assert shown["new"]["mean_us"] > 40_000 > 2 * shown["old"]["mean_us"]
    assert it.sdks() == {OLD}


def test_an_upstream_that_is_down_withdraws_nothing(rolled):
    """Both versions fail, all the time, as whoever asks through them sees it."""
    origin = Origin()
    port = origin.port
    origin.close()
    it = rolled(rollout={"steps": [50]}, routes=[to("gone")], clusters=[cluster_of("gone", port)])
    it.ask_on()
    it.put(NEW)
    shown = it.wait_for("DONE")
    assert {status for _, status, _ in it.replies} == {503}
    assert shown["new"]["errors"] == shown["new"]["requests"] >= 50


def test_an_operator_promotes_and_withdraws(rolled):
    it = rolled(rollout={"steps": [10], "step_duration": "60s"})
    assert "no new version" in it.order("promote")
    it.put(NEW)
    it.wait_for("ROLLING", share_percent=10)
    assert "withdrawn" in it.order("withdraw")
    assert it.shown()["why"] == "by hand"
    assert it.sdks() == {OLD}
    it.put(NEXT)
    it.wait_for("ROLLING", version="3")
    assert "serves all" in it.order("promote")
    assert it.shown()["state"] == "DONE"
    assert it.sdks() == {NEXT}
    assert "action is" in it.order("stop")
    assert "lists those" in it.order("promote", "other")
    assert it.sluice.stat("golang.library.lib.rollouts_withdrawn") == 1


def test_another_new_version_takes_the_place_of_one_that_is_rolling(rolled):
    """And the old file in its place is as good as a withdrawal. A tenth of the users are in; each in one of both."""
    it = rolled(rollout={"steps": [10], "step_duration": "60s"})
    it.put(NEW)
    it.wait_for("ROLLING", version="2")
    users = [f"user-{n}" for n in range(300)]
    chosen = {user for user in users if it.sdk_of(user) == NEW}
    assert 10 <= len(chosen) <= 60
    assert {user for user in users if it.sdk_of(user) == NEW} == chosen
    it.put(NEXT)
    it.wait_for("ROLLING", version="3")
    assert "another version takes its place" in it.sluice.log()
    others = {user for user in users if it.sdk_of(user) == NEXT}
    assert 10 <= len(others) <= 60 and others != chosen  # not always the same are the first
    it.put(OLD)
    assert "old version's again" in it.wait_for("WITHDRAWN")["why"]
    assert it.sdks() == {OLD}
    eventually(lambda: not it.left_over(), what="the end of both")


def test_one_that_refuses_its_configuration_is_not_begun(rolled):
    it = rolled({NEW: {"error": "not this one"}})
    it.put(NEW)
    row = eventually(lambda: (row := it.row())["failed_reloads"] and row, what="a refusal")
    assert "not this one" in row["last_error"]
    assert row["rollout"]["state"] == "NONE"
    assert it.sdks() == {OLD}


# ---- processes that end ---------------------------------------------------------


def test_a_process_that_ends_on_trial_is_withdrawn(tmp_path):
    """And one that serves everybody else may end meanwhile: it is started again, and the rollout goes on."""
    it = Rolled(tmp_path, "PROCESS", rollout={"steps": [50], "step_duration": "60s"})
    old = it.row()["pid"]
    it.put(NEW)
    it.wait_for("ROLLING")
    (new,) = pids_of(it) - {old}
    os.kill(old, signal.SIGKILL)
    eventually(lambda: it.row()["restarts"] == 1 and it.row()["state"] == "up", what="the old version again")
    assert it.shown()["state"] == "ROLLING"
    assert {it.sdk_of(f"user-{n}") for n in range(50)} == {OLD, NEW}
    os.kill(new, signal.SIGKILL)
    assert "its process has ended" in it.wait_for("WITHDRAWN")["why"]
    assert "was on trial, and is not started again" in it.sluice.log()
    assert it.sdks() == {OLD}
    stop(it.sluice)


def pids_of(it):
    """Of processes that have the library; the one that is kept ready has not."""
    library = "/memfd:"
    return {pid for pid in host_pids(it.sluice) if library in read_proc(pathlib.Path(f"/proc/{pid}/maps"))}


# ---- configurations -------------------------------------------------------------


@pytest.mark.parametrize(
    "rollout, said",
    [
        ({"steps": [10, 10]}, r"steps\[1\]: 10 does not come behind 10"),
        ({"steps": [50, 10]}, "they ascend"),
        ({"steps": [0, 10]}, "0 is not within 1 to 100"),
        ({"steps": [101]}, "101 is not within 1 to 100"),
        ({"steps": [100]}, "leave out the rollout"),
        ({"steps": list(range(1, 40))}, "at most 32"),
        ({"step_duration": "0s"}, "step_duration.*at least 0.010s"),
        ({"max_error_rate": 1.5}, "max_error_rate 1.5 is not within 0 to 1"),
        ({"max_latency_ratio": 0.5}, "max_latency_ratio 0.5 is neither 0 nor"),
        ({"min_requests": 0}, "0 is not within 1 to"),
        ({"hash_on": {"header": ""}}, "a name is required"),
        ({"hash_on": {"header": "a", "cookie": "b"}}, "cannot both be set"),
        ({"step": [1]}, "step"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_line(tmp_path, rollout, said):
    filters = [kit.go_filter(tmp_path / "none.so", "versioned", hot_swap={"rollout": rollout})]
    problems = refused(go_listener("main", filters))
    assert re.search(r":\d+: .*" + said, problems), problems


def test_a_rollout_is_for_http_filters(tmp_path):
    network = {
        "@type": kit.TYPE + "envoy.extensions.filters.network.golang.v3alpha.Config",
        "library_id": "lib",
        "library_path": str(tmp_path / "none.so"),
        "plugin_name": "script",
        "is_terminal_filter": True,
        "hot_swap": {"rollout": {}},
    }
    assert 'unknown field "rollout"' in refused(tcp_listener("main", {"name": "go", "typed_config": network}))
