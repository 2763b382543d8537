"""A Go plugin names the cluster of each request: cluster_specifier_plugins, and inline ones."""

import json
import threading

import kit
import pytest
from go_support import Proxy, build, cluster, config_of, eventually, go_listener, refused, stop
from harness import LogFile, listener, router
from wire import Origin

LONG = "c" * 300
LONGEST = "c" * 8192
TOO_LONG = 8193


def specifier(library, name="go", **more):
    typed = {
        "@type": kit.TYPE + "envoy.extensions.router.cluster_specifier.golang.v3alpha.Config",
        "library_id": "network",
        "library_path": str(library),
        "default_cluster": "default",
        "config": kit.typed_struct({"cluster": "alpha"}),
        **kit.isolation(),
        **kit.PATIENT,
        **more,
    }
    return {"extension": {"name": name, "typed_config": typed}}


def chosen_by(prefix="/", **action):
    """A route whose response tells the cluster."""
    return {
        "match": {"prefix": prefix},
        "route": action,
        "response_headers_to_add": [{"header": {"key": "x-cluster", "value": "%UPSTREAM_CLUSTER%"}}],
    }


class Edge:
    def __init__(self, sdk, origin, folder):
        library = build("network", sdk)
        self.log = LogFile(folder / f"log-{sdk}")
        by_name = listener(
            "by_name",
            [
                chosen_by("/name/gone", cluster_specifier_plugin="go", cluster_not_found_response_code="NOT_FOUND"),
                chosen_by(cluster_specifier_plugin="go"),
            ],
            route_config={"cluster_specifier_plugins": [specifier(library)]},
            hcm={"access_log": [self.log.config]},
        )
        inline = specifier(library, default_cluster="beta")
        listeners = [
            by_name,
            listener("inline", [chosen_by(inline_cluster_specifier_plugin=inline)]),
            go_listener("report", [kit.go_filter(library, "report", library_id="network")]),
        ]
        names = ["alpha", "beta", "default", "test.local", LONG, LONGEST]
        self.sluice = Proxy(config_of(listeners, [cluster(name, origin.port) for name in names]))
        self.report = kit.Reporter(self.sluice.port("report"))

    def get(self, path, listener="by_name", **more):
        return self.sluice.get(path, listener=listener, **more)

    def cluster(self, path, listener="by_name", **more):
        reply = self.get(path, listener, **more)
        assert reply.status == 200, (path, reply)
        return reply.header("x-cluster")


@pytest.fixture(scope="module")
def origin():
    server = Origin()
    yield server
    server.close()


@pytest.fixture(scope="module", params=kit.SDKS)
def edge(request, origin, tmp_path_factory):
    edge = Edge(request.param, origin, tmp_path_factory.mktemp("specifier"))
    yield edge
    stop(edge.sluice)


def test_the_plugin_names_the_cluster(edge):
    assert edge.cluster("/name/alpha") == "alpha"
    assert edge.cluster("/name/beta") == "beta"
    assert edge.cluster("/header/x-to", headers=[("x-to", "beta")]) == "beta"
    assert edge.cluster("/header/X-To", headers=[("x-to", "beta"), ("x-to", "alpha")]) == "beta"
    assert edge.cluster("/header/host") == "test.local"  # the client's Host


def test_each_plugin_has_a_default(edge):
    """Without a name, and after a panic, which is counted and told."""
    panics = edge.sluice.stat("golang.cluster_specifier.network.panics")
    defaults = edge.sluice.stat("golang.cluster_specifier.network.defaults")
    assert edge.cluster("/empty") == "default"
    assert edge.cluster("/header/x-absent") == "default"
    assert edge.cluster("/empty", "inline") == "beta"
    assert edge.cluster("/panic") == "default"
    assert edge.sluice.stat("golang.cluster_specifier.network.panics") == panics + 1
    assert edge.sluice.stat("golang.cluster_specifier.network.defaults") == defaults + 3
    edge.sluice.wait_for_log("golang cluster specifier plugin panic: no idea")


def test_a_cluster_that_is_not_there(edge):
    """As with any route whose cluster is found by request: 503 with NC, or what the route says."""
    assert edge.get("/name/nobody").status == 503
    eventually(lambda: "503 NC cluster_not_found" in edge.log.lines(edge.sluice, 1), what="its line")
    assert edge.get("/name/gone").status == 404


def test_long_names(edge):
    """The buffer grows once, to 8192 bytes; Envoy ends itself at a longer name."""
    assert edge.cluster("/long/300") == LONG
    assert edge.cluster("/long/8192") == LONGEST
    assert edge.cluster("/long/256000") == "default"
    assert edge.cluster(f"/long/{TOO_LONG}") == "default"
    edge.sluice.wait_for_log("a name has 8192 at most")


def test_header_strings_outlive_their_request(edge):
    """The SDK does not copy what GetHeader gives: the plugin keeps a string where it lay."""
    assert edge.cluster("/keep/x-to", headers=[("x-to", "beta")]) == "alpha"
    for n in range(20):
        edge.cluster("/header/x-to", headers=[("x-to", "alpha"), ("x-fill", f"{n}" * 200)])
    assert edge.cluster("/kept") == "beta"


def test_a_goroutine_left_behind_finds_no_headers(edge):
    stale = edge.sluice.stat("golang.stale_handles")
    assert edge.cluster("/behind/late") == "alpha"
    edge.report.signal("late")
    counts = edge.report.wait_for(lambda r: r["counts"].get("late_lost"), "the late look")["counts"]
    assert "late_found" not in counts
    assert edge.sluice.stat("golang.stale_handles") == stale + 1


def test_a_slow_plugin_holds_nobody_up(edge):
    """It blocks the thread that it runs on: the others go on on another."""
    replies = []
    waiting = [threading.Thread(target=lambda: replies.append(edge.cluster("/wait/slow"))) for _ in range(4)]
    before = edge.report.get()["counts"].get("specified", 0)
    for thread in waiting:
        thread.start()
    edge.report.wait_for(lambda r: r["counts"].get("specified", 0) >= before + 4, "four that wait")
    assert edge.cluster("/name/beta") == "beta"
    edge.report.signal("slow")
    for thread in waiting:
        thread.join(20)
    assert replies == ["alpha"] * 4


def test_a_cleared_route_asks_again(origin):
    """The cluster is chosen with the route: what filters change later counts once the route was cleared."""
    basic = build("basic")
    network = build("network")
    filters = [kit.go_filter(basic, "basic"), router()]
    inline = chosen_by(inline_cluster_specifier_plugin=specifier(network))
    listeners = [listener("main", [inline], filters=filters)]
    clusters = [cluster(name, origin.port) for name in ("alpha", "beta", "default")]
    sluice = Proxy(config_of(listeners, clusters))
    beta = ("x-to", "beta")
    keep = kit.path_of("/header/x-to", dh="set:x-to:alpha")
    clear = kit.path_of("/header/x-to", dh=["set:x-to:alpha", "clearroute"])
    assert sluice.get(keep, headers=[beta]).header("x-cluster") == "beta"
    assert sluice.get(clear, headers=[beta]).header("x-cluster") == "alpha"
    stop(sluice)


# ---- in a process of its own ----------------------------------------------------


class Isolated:
    """Two specifiers whose processes may end: what becomes of the request is on_failure's."""

    def __init__(self, origin):
        library = build("network")
        always = {"max_failures": 0, "base_interval": "0.02s", "max_interval": "0.1s"}
        places = {"isolation": "PROCESS", "restarts": always, "callback_timeout": "1.5s"}
        listeners = [
            self.listener("open", specifier(library, library_id="open", **places)),
            self.listener("closed", specifier(library, library_id="closed", on_failure="CLOSED", **places)),
        ]
        clusters = [cluster(name, origin.port) for name in ("alpha", "beta", "default")]
        self.sluice = Proxy(config_of(listeners, clusters))

    @staticmethod
    def listener(name, inline):
        return listener(name, [chosen_by(inline_cluster_specifier_plugin=inline)])

    def cluster(self, path, listener="open"):
        reply = self.sluice.get(path, listener=listener)
        assert reply.status == 200, (path, reply)
        return reply.header("x-cluster")

    def stat(self, name, library="open"):
        return self.sluice.stat(f"golang.library.{library}.{name}")


@pytest.fixture(scope="module")
def isolated(origin):
    it = Isolated(origin)
    yield it
    stop(it.sluice)


@pytest.mark.parametrize("death", ["exit", "stack", "goroutine", "kill"])
def test_who_dies_over_a_question_has_not_answered(isolated, death):
    """By default that is default_cluster's, as a panic is: it is there for requests without an answer."""
    crashes = isolated.stat("crashes")
    assert isolated.cluster(f"/die/{death}") == "default"
    assert isolated.cluster("/name/beta") == "beta"  # of the next process, which was waited for
    assert isolated.stat("crashes") == crashes + 1


def test_a_question_that_must_be_answered_is_503_without(isolated):
    reply = isolated.sluice.get("/die/exit", listener="closed")
    assert (reply.status, reply.body) == (503, b"extension failed")
    assert isolated.cluster("/empty", "closed") == "default"  # nobody was lost
    assert isolated.cluster("/name/beta", "closed") == "beta"


def test_a_question_that_takes_too_long_ends_the_process(isolated):
    hangs = isolated.stat("hangs")
    assert isolated.cluster("/die/loop") == "default"
    isolated.sluice.wait_for_log("fatal.Die")  # where it was
    assert isolated.cluster("/name/beta") == "beta"
    assert isolated.stat("hangs") == hangs + 1


def test_a_client_that_leaves_while_its_question_is_asked(isolated):
    with isolated.sluice.connect("closed") as client:
        client.send("GET", "/wait/never")
        eventually(lambda: isolated.sluice.stat("http.closed.downstream_rq_active") == 1, what="the request")
    eventually(lambda: isolated.sluice.stat("http.closed.downstream_rq_active") == 0, what="its end")
    assert isolated.cluster("/name/beta", "closed") == "beta"


def test_all_extensions_isolated(origin):
    inline = specifier(build("network"), library_id="all")
    clusters = [cluster(name, origin.port) for name in ("alpha", "beta", "default")]
    listeners = [Isolated.listener("main", inline)]
    sluice = Proxy(config_of(listeners, clusters), flags=["--isolate-extensions"])
    assert sluice.get("/name/beta").header("x-cluster") == "beta"
    (shown,) = json.loads(sluice.admin("/extensions"))["extensions"]
    assert (shown["library_id"], shown["isolation"], shown["state"]) == ("all", "PROCESS", "up")
    stop(sluice)


def test_what_is_refused():
    library = build("network")
    unknown = listener(
        "main",
        [chosen_by(cluster_specifier_plugin="stranger")],
        route_config={"cluster_specifier_plugins": [specifier(library)]},
    )
    assert "unknown cluster_specifier_plugin 'stranger'" in refused(unknown)
    without = specifier(build("basic"), library_id="basic")
    text = refused(listener("main", [chosen_by(inline_cluster_specifier_plugin=without)]))
    assert "has no cluster specifier" in text
    other = {"extension": {"name": "x", "typed_config": {"@type": kit.TYPE + "google.protobuf.Struct"}}}
    text = refused(listener("main", [chosen_by(inline_cluster_specifier_plugin=other)]))
    assert "cluster specifier plugin" in text
