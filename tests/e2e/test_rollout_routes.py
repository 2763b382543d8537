"""Other routes go out by degrees: a change of the configuration brings them, some clients are served by them first, and
they are withdrawn when they do worse than those that served before."""

import contextlib
import json
import os
import threading

import kit
import pytest
from discovery_kit import Files, route_configuration
from harness import Origin, bootstrap, cluster, direct, eventually, listener, router, to
from reload_support import Live
from rollout_support import Asked

from build import build

SLOW = {"step_duration": "60s"}


def routes(*of, rollout=None, clusters=(), hcm=None, name="main"):
    """A configuration whose routes these are; rollout: what it says of that, {} being the defaults of these tests."""
    own = {}
    if rollout is not None:
        quick = {"step_duration": "0.2s", "min_requests": 50, "steps": [10, 50], "hash_on": {"header": "x-user"}}
        own = {"rollout": {**quick, **rollout}}
    return bootstrap([listener("main", list(of), route_config={"name": name, **own}, hcm=hcm)], clusters)


class Rolled(Asked, Live):
    patience_s = 50

    def connect_client(self):
        return self.connect("main")

    def told(self, reply):
        return reply.body

    def shown(self, route_config="main.main"):
        rows = json.loads(self.admin("/config/rollouts"))["rollouts"]
        return next((row for row in rows if row["route_config"] == route_config), {"state": "NONE"})

    def order(self, action, route_config="main.main"):
        return self.admin(f"/config/rollout?route_config={route_config}&action={action}", method="POST")

    def bodies(self, count=100):
        """By user."""
        with self.connect_client() as client:
            users = [f"someone-{n}" for n in range(count)]
            return {user: client.ask("GET", "/", headers=[("x-user", user)]).body for user in users}

    def serves(self):
        return set(self.bodies().values())


@pytest.fixture
def rolled():
    started = []

    def start(config):
        started.append(Rolled(config))
        return started[-1]

    yield start
    for it in started:
        it.stop_asking()
        assert it.leaks() == {}
        assert it.stop() == 0, it.log()[-8000:]
        assert "Sanitizer" not in it.log(), it.log()[-8000:]


def test_routes_that_are_fine_serve_everybody_in_the_end(rolled):
    """Step by step, on the connections that are there; who is served by them stays with them. Then the former cluster
    may go."""
    with contextlib.closing(Origin()) as origin:
        old = [cluster("old", origin.port)]
        it = rolled(routes(to("old"), clusters=old))
        users = [f"user-{n}" for n in range(200)]
        it.ask_on(users)
        it.change(routes(direct(200, "new"), rollout={}, clusters=old))
        eventually(lambda: it.shown().get("step") == 2 or it.shown()["state"] == "DONE", what="the second step")
        shown = it.wait_for("DONE", share_percent=100)
        it.stop_asking()
        assert {status for _, status, _ in it.replies} == {200}
        assert shown["new"]["requests"] >= 100 and shown["old"]["requests"] >= 50
        assert (shown["new"]["errors"], shown["old"]["errors"]) == (0, 0)
        it.assert_nobody_went_back(users)
        assert it.serves() == {b"new"}
        assert it.stat("route_config.main.main.rollouts_done") == 1
        assert "route_config main.main: version 2 serves 10 % of the clients" in it.log()
        assert it.stat("http.main.downstream_cx_total") == 3
        it.change(routes(direct(200, "new"), rollout={}))
        assert it.serves() == {b"new"}
        assert it.stat("cluster_manager.active_clusters") == 0
        assert it.shown()["state"] == "DONE"  # that was no other one


def test_routes_that_fail_are_withdrawn_and_stay_so(rolled):
    """What clients notice of it is a share of a share. Until the file says something else, changes of other things
    leave everybody with the former routes, too."""
    half = {"match": {"prefix": "/", "runtime_fraction": {"default_value": {"numerator": 50}}}}
    bad = [direct(500, "bad", **half), direct(200, "new")]
    it = rolled(routes(direct(200, "old")))
    it.ask_on()
    it.change(routes(*bad, rollout=SLOW))
    shown = it.wait_for("WITHDRAWN", share_percent=0)
    it.stop_asking()
    failed = [reply for reply in it.replies if reply[1] != 200]
    # One on each connection may have been on its way when the numbers were taken.
    assert 0 < shown["new"]["errors"] <= len(failed) <= shown["new"]["errors"] + 2
    assert shown["new"]["errors"] < shown["new"]["requests"]
    assert shown["new"]["requests"] <= 0.2 * (shown["new"]["requests"] + shown["old"]["requests"])
    assert shown["old"]["errors"] == 0
    assert "% of its" in shown["why"] and "requests failed" in shown["why"]
    assert it.stat("route_config.main.main.rollouts_withdrawn") == 1
    assert it.serves() == {b"old"}

    it.change(routes(*bad, rollout=SLOW, hcm={"server_name": "another"}))
    assert it.get().header("server") == "another"
    it.change(routes(*bad, rollout=SLOW, clusters=[cluster("more", 1)]))
    assert it.serves() == {b"old"}
    assert it.shown()["state"] == "WITHDRAWN"

    it.change(routes(direct(200, "better"), rollout=SLOW))
    assert it.shown()["state"] == "ROLLING"
    assert it.serves() == {b"old", b"better"}


def test_an_upstream_that_is_down_withdraws_nothing(rolled):
    """Both fail, all the time."""
    origin = Origin()
    gone = [cluster("gone", origin.port)]
    origin.close()
    it = rolled(routes(to("gone"), clusters=gone))
    it.ask_on()
    it.change(routes(to("gone", timeout="1s"), rollout={"steps": [50]}, clusters=gone))
    shown = it.wait_for("DONE")
    assert {status for _, status, _ in it.replies} == {503}
    assert shown["new"]["errors"] == shown["new"]["requests"] >= 50


def test_a_rollout_goes_on_over_a_change_of_something_else(rolled):
    """The same clients stay with the new routes, and what was counted counts."""
    it = rolled(routes(direct(200, "old")))
    new = direct(200, "new")
    it.change(routes(new, rollout=SLOW))
    chosen = it.bodies()
    assert set(chosen.values()) == {b"old", b"new"}
    seen = it.shown()["new"]["requests"]
    assert seen > 0
    it.change(routes(new, rollout=SLOW, hcm={"server_name": "another"}))
    assert it.get().header("server") == "another"
    assert it.bodies() == chosen
    shown = it.shown()
    assert (shown["state"], shown["version"]) == ("ROLLING", "2")
    assert shown["new"]["requests"] > seen


def test_other_routes_take_the_place_of_those_that_are_rolling(rolled):
    """What everybody else has is what served before both. The former routes in the file are as good as a withdrawal."""
    it = rolled(routes(direct(200, "old")))
    it.change(routes(direct(200, "new"), rollout=SLOW))
    first = {user for user, body in it.bodies().items() if body == b"new"}
    it.change(routes(direct(200, "next"), rollout=SLOW))
    assert "version 2 is withdrawn: the file has another one now" in it.log()
    bodies = it.bodies()
    assert set(bodies.values()) == {b"old", b"next"}
    assert {user for user, body in bodies.items() if body == b"next"} != first
    it.change(routes(direct(200, "old"), rollout=SLOW))
    assert it.shown()["state"] == "WITHDRAWN"
    assert it.serves() == {b"old"}


def test_without_a_rollout_it_serves_all_at_once(rolled):
    it = rolled(routes(direct(200, "old")))
    it.change(routes(direct(200, "new"), rollout=SLOW))
    assert it.serves() == {b"old", b"new"}
    it.change(routes(direct(200, "new")))
    assert it.serves() == {b"new"}
    assert it.shown()["why"] == "the file says so, without a rollout"
    assert it.shown()["state"] == "DONE"


def test_an_operator_promotes_and_withdraws(rolled):
    it = rolled(routes(direct(200, "old")))
    assert "no route_config 'main.main'" in it.order("promote")
    it.change(routes(direct(200, "new"), rollout=SLOW))
    assert "action is" in it.order("stop")
    assert "withdrawn" in it.order("withdraw")
    assert "nothing is being rolled out" in it.order("promote")
    assert it.serves() == {b"old"}
    it.change(
        routes(direct(200, "next"), rollout={"step_duration": "50s"})
    )  # other settings count from the next one on
    assert "serves all" in it.order("promote")
    assert it.serves() == {b"next"}
    assert it.shown()["why"] == "by hand"


def test_the_former_routes_keep_what_they_need(rolled):
    """A change that takes their cluster away is refused, and says what to do."""
    with contextlib.closing(Origin()) as origin:
        old = [cluster("old", origin.port)]
        it = rolled(routes(to("old"), clusters=old))
        said = it.refuse(routes(direct(200, "new"), rollout=SLOW))
        assert "'main' as it served before has to serve beside it" in said and "'old'" in said
        assert "leave out `rollout`" in said
        it.change(routes(direct(200, "new"), rollout=SLOW, clusters=old))
        it.refuse(routes(direct(200, "new"), rollout=SLOW))
        assert it.serves() == {b"", b"new"}
        it.change(routes(direct(200, "new")))
        assert it.serves() == {b"new"}


def feed(path, text, meanwhile=lambda: None):
    """A body's file that is a pipe: who reads it waits, and with him the configuration that is being built."""

    def opened():
        with contextlib.suppress(OSError):  # nobody reads yet
            return os.open(path, os.O_WRONLY | os.O_NONBLOCK)

    pipe = eventually(opened, what="somebody who reads")
    meanwhile()
    os.write(pipe, text)
    os.close(pipe)


def test_a_rollout_that_is_done_while_others_are_being_built_is_what_they_are_compared_with(rolled, tmp_path):
    """The next routes are there, but not their listener's neighbour, when an operator promotes those before them."""
    pipe = tmp_path / "body"
    os.mkfifo(pipe)
    it = rolled(routes(direct(200, "old")))
    it.change(routes(direct(200, "new"), rollout=SLOW))
    config = routes(direct(200, "next"), rollout=SLOW)
    waits = {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"filename": str(pipe)}}}
    config["static_resources"]["listeners"].append(listener("slow", [waits]))
    change = threading.Thread(target=it.change, args=(config,))
    change.start()

    def promote():
        assert "serves all" in it.order("promote")
        assert it.serves() == {b"new"}

    feed(pipe, b"first", promote)
    it.wait_for_log("it is built anew")
    feed(pipe, b"again")
    change.join()
    assert it.serves() == {b"new", b"next"}
    assert it.get(listener="slow").body == b"again"


def test_former_routes_are_freed_with_their_last_request(rolled):
    """Their Go filters' configurations are destroyed, though their listener is as it was; not before."""
    library = build("config", "1.33", tells_configs=True)
    held, go_on = threading.Event(), threading.Event()

    def answer(exchange):
        if exchange.request.path == "/held":
            held.set()
            assert go_on.wait(60)
        exchange.reply(200, b"old")

    def config(route, **more):
        filters = [kit.go_filter(library, "metric", kit.typed_struct({"level": "filter"})), router()]
        return routes(route, clusters=[cluster("origin", origin.port)], hcm={"http_filters": filters}, **more)

    def destroyed():
        return it.log().count("a configuration is destroyed")

    with contextlib.closing(Origin(answer)) as origin:
        own = {"envoy.filters.http.golang": kit.per_route(metric=kit.typed_struct({"level": "route"}))}
        it = rolled(config({**to("origin"), "typed_per_filter_config": own}))
        it.change(config(direct(200, "new"), rollout={"steps": [50], **SLOW}))
        eventually(lambda: destroyed(), what="the end of the first listener's")
        user = next(user for user, body in it.bodies().items() if body == b"old")
        before = destroyed()
        with it.connect() as client:
            client.send("GET", "/held", headers=[("x-user", user)])
            assert held.wait(60)
            assert "serves all" in it.order("promote")
            assert it.serves() == {b"new"}
            assert destroyed() == before
            go_on.set()
            assert client.read_reply().body == b"old"
        eventually(lambda: destroyed() == before + 2, what="the end of the route's, and of what it was merged to")
        assert it.serves() == {b"new"}
        assert it.stat("listener_manager.listener_modified") == 1


def test_routes_out_of_a_file_of_their_own(rolled, tmp_path):
    """As those that stand in the listener: a file that brings others begins a rollout."""
    files = Files(tmp_path)
    quick = {"steps": [50], "hash_on": {"header": "x-user"}, **SLOW}

    def put(text):
        files.routes(route_configuration("shop", [direct(200, text)], rollout=quick))

    put("old")
    it = rolled(bootstrap([files.asking("main", "shop")]))
    assert it.serves() == {b"old"}
    put("new")
    eventually(lambda: it.shown("main.shop")["state"] == "ROLLING", what="a rollout")
    assert it.serves() == {b"old", b"new"}
    put("old")
    eventually(lambda: it.shown("main.shop")["state"] == "WITHDRAWN", what="its end")
    assert it.serves() == {b"old"}


def test_what_has_no_name_is_no_rollout(rolled):
    it = rolled(routes(direct(200, "old"), name=""))
    assert "rollout: it needs a name" in it.refuse(routes(direct(200, "new"), rollout=SLOW, name=""))
    two = routes(direct(200, "new"), rollout=SLOW)
    chain = two["static_resources"]["listeners"][0]["filter_chains"][0]
    other = {**chain, "filter_chain_match": {"source_ports": [1]}}
    two["static_resources"]["listeners"][0]["filter_chains"].append(other)
    assert "each filter chain of its listener needs a name of its own" in it.refuse(two)


def test_a_rollout_of_routes_is_checked_as_others_are(rolled):
    it = rolled(routes(direct(200, "old")))
    assert "they ascend" in it.refuse(routes(direct(200, "new"), rollout={"steps": [50, 10]}))
