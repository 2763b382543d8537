"""The fixtures of the Go filter tests, a pytest plugin that their modules name.

One proxy serves all of them: it has the library `basic` on three SDK versions, each with a few
listeners of its own, and an origin behind it. A test that breaks the proxy gets it blamed, and the
next one a new proxy.
"""

import itertools
import json
import pathlib
import tempfile

import pytest
from go_support import (
    Client,
    Proxy,
    access_log,
    build,
    cluster,
    config_of,
    direct,
    eventually,
    go_listener,
    json_router,
    kit,
    listener_name,
    report_listener,
    stop,
    to,
)
from wire import Origin


# What the proxy's log says of a request: told apart by a header.
NOTED = {
    "id": "%REQ(X-TEST)%",
    "ns": "%DYNAMIC_METADATA(ns)%",
    "text": "%DYNAMIC_METADATA(ns:k)%",
    "state": "%FILTER_STATE(s:PLAIN)%",
    "kept": "%FILTER_STATE(kept)%",
}


LIVE = {"id": "%REQ(X-TEST)%", "type": "%ACCESS_LOG_TYPE%", "text": "%DYNAMIC_METADATA(ns:k)%"}


def shared_config(origin_port, log_path):
    trailers = {"http_protocol_options": {"enable_trailers": True}}
    listeners = []
    for sdk in kit.SDKS:
        basic = build("basic", sdk)

        def listen(kind, filters, routes=None, sdk=sdk, **more):
            name = listener_name(kind, sdk)
            listeners.append(go_listener(name, filters, routes or [to()], hcm=trailers, **more))

        def scripted(basic=basic, **config):
            # Few enough for a test to have all of them blocked, and then time to end that.
            return kit.go_filter(basic, "basic", kit.typed_struct(config) if config else None, go_seats=8)

        listen("main", [scripted()])
        listen("pass", [kit.go_filter(basic, "passthrough")])
        listen("small", [scripted()], per_connection_buffer_limit_bytes=4096)
        memory = {"filter_metadata": {"sluice.memory": {"limit_bytes": 1 << 20}}}
        listen("limited", [scripted()], metadata=memory)
        listen(
            "chain",
            [scripted(name=n, eh=f"add:x-order:{n}") for n in ("first", "middle", "last")],
        )
        early = "try!continue:2,try!reply:500:no,try!other.continue:2"
        listen("factory", [scripted(factory=early)])
        live = {"access_log_flush_interval": "0.02s", "flush_access_log_on_new_request": True}
        live = {**trailers, "access_log_options": live, "access_log": [access_log(log_path, json_format=LIVE)]}
        listeners.append(go_listener(listener_name("live", sdk), [scripted()], [to()], hcm=live))
        other = [{"name": "x-route", "string_match": {"exact": "other"}}]
        routes = [
            {**direct(200, "other route\n"), "match": {"prefix": "/", "headers": other}},
            {**to(), "name": "to-origin"},
        ]
        reads = {"name": "reads", "headers": [{"name": ":method", "string_match": {"exact": "GET"}}]}
        listen(
            "routes",
            [scripted()],
            hosts=[{"name": "all", "domains": ["*"], "routes": routes, "virtual_clusters": [reads]}],
        )
        upgrades = [{"upgrade_type": "websocket"}]
        listen("upgrade", [scripted()], [{**to(), "route": {"cluster": "origin", "upgrade_configs": upgrades}}])
        listeners.append(report_listener(basic, listener_name("report", sdk)))
        noted = {"access_log": [access_log(log_path, json_format=NOTED)]}
        by_body = json_router({"path": "model", "metadata_namespace": "body", "metadata_key": "model"})
        of_route = {"filter_metadata": {"of.route": {"list": ["x", {"n": 0.5}]}}}
        listeners.append(
            go_listener(
                listener_name("noted", sdk),
                [by_body, scripted(name="one"), scripted(name="two")],
                [{**to(), "name": "named", "metadata": of_route}],
                hcm={**trailers, **noted},
                traffic_direction="OUTBOUND",
            )
        )
    upstream_trailers = {
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": kit.TYPE + "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": trailers,
        }
    }
    origin = cluster("origin", origin_port, typed_extension_protocol_options=upstream_trailers)
    return config_of(listeners, [origin])


class Shared:
    """A proxy and an origin that several tests use, started when first asked for."""

    def __init__(self, level):
        self.level = level
        self.origin = self.sluice = None
        self.folder = tempfile.TemporaryDirectory(prefix="sluice-go-")
        self.log_path = pathlib.Path(self.folder.name, "noted")
        self.kept = dict.fromkeys(kit.SDKS, 0)  # filters that a test leaked on purpose

    def get(self):
        if self.origin is None:
            self.origin = Origin()
        if self.sluice is None or not self.sluice.alive():  # dead: some test was told so
            self.kept = dict.fromkeys(kit.SDKS, 0)
            self.sluice = Proxy(shared_config(self.origin.port, self.log_path), level=self.level)
        return self

    def drop(self):
        """Gets rid of a proxy that a test has broken."""
        self.sluice.kill()
        self.sluice = None

    def close(self):
        if self.sluice is not None:
            stop(self.sluice)
        if self.origin is not None:
            self.origin.close()
        self.folder.cleanup()

    def lines(self, test_id):
        """Those of NOTED or LIVE that a request has left, once there are any."""

        def look():
            self.sluice.admin("/reopen_logs", method="POST")
            lines = self.log_path.read_text().splitlines() if self.log_path.exists() else []
            return [line for line in map(json.loads, lines) if line["id"] == test_id]

        return eventually(look, what=f"the log lines of {test_id}")

    def logged(self, test_id):
        (line,) = self.lines(test_id)
        return line


@pytest.fixture(scope="session")
def shared():
    proxy = Shared("debug")
    yield proxy
    proxy.close()


@pytest.fixture(scope="session")
def quiet():
    proxy = Shared("off")
    yield proxy
    proxy.close()


_ids = itertools.count(1)


class Go:
    """One test's view of the shared proxy, on one SDK."""

    def __init__(self, shared, sdk, is_async):
        self.shared, self.sluice, self.origin = shared, shared.sluice, shared.origin
        self.sdk, self.is_async = sdk, is_async
        self.id = f"t{next(_ids)}"
        self.report = kit.Reporter(self.port("report"))

    def listener(self, kind):
        return listener_name(kind, self.sdk)

    def port(self, kind):
        return self.sluice.port(self.listener(kind))

    @property
    def has_stream_complete(self):
        return self.sdk != "1.31"

    @property
    def library(self):
        """What statistics and labels call the library of its SDK."""
        return build("basic", self.sdk).name

    def stat(self, name):
        """One of the library."""
        return self.sluice.stat(f"golang.library.{self.library}.{name}")

    def new_id(self):
        """A fresh id for a second request of the same test."""
        self.id = f"t{next(_ids)}"
        return self.id

    def path(self, base="/", **scripts):
        return kit.path_of(base, test_id=self.id, is_async=self.is_async, **scripts)

    def connect(self, kind="main", **more):
        return Client(self.port(kind), **more)

    def ask(self, base="/", *, method=None, kind="main", headers=(), body=None, trailers=None, **scripts):
        """One request on a connection of its own; scripts as in path_of. When it returns, Go has
        heard of the request's end, except from listeners without the scripted filter."""
        method = method or ("GET" if body is None and trailers is None else "POST")
        with self.connect(kind) as client:
            reply = client.ask(method, self.path(base, **scripts), headers=headers, body=body, trailers=trailers)
            # The last byte of a body comes before its end went through a filter that takes its
            # time. A client that left in between would have broken off its request.
            if kind != "pass":
                self.events()
        return reply

    def received(self):
        """The one request that the origin got."""
        requests = self.origin.received(self.id)
        assert len(requests) == 1, requests
        return requests[0]

    def received_headers(self):
        """Its headers as name -> list of values."""
        headers = {}
        for name, value in self.received().headers:
            headers.setdefault(name, []).append(value)
        return headers

    def events(self):
        """All events of the request, once it is destroyed."""
        return self.report.wait_for_event(self.id, "destroy: reason=")

    def said(self, phase):
        """What a phase recorded, without its name, once the request is destroyed."""
        return [e.partition(": ")[2] for e in self.events() if e.startswith(f"{phase}: ")]

    def properties(self, phase):
        """What `properties` recorded in a phase: path -> text in quotes, "absent" or "no text"."""
        return dict(line.split(" = ", 1) for line in self.said(phase) if " = " in line)

    def order(self):
        """The callbacks in order, repeated ones once."""
        phases = [e.partition(":")[0] for e in self.events()]
        return [phase for phase, _ in itertools.groupby(phases)]

    def wait_for_event(self, line):
        return self.report.wait_for_event(self.id, line)

    def signal(self, name="go on"):
        self.report.signal(name)

    def leaks(self, count=1):
        """The test makes the SDK keep so many filters for ever."""
        self.shared.kept[self.sdk] += count


def _go(shared, sdk, is_async=False):
    shared.get()
    go = Go(shared, sdk, is_async)
    yield go
    # Every test, whatever it did, leaves a living proxy and no request on the Go side.
    try:
        assert shared.sluice.alive(), f"the proxy died:\n{shared.sluice.log()[-8000:]}"
        go.report.wait_until_collected(kept=shared.kept[sdk])
        go.report.get(forget=go.id)
    except BaseException:
        shared.drop()
        raise


@pytest.fixture(
    params=[(sdk, mode) for sdk in kit.SDKS for mode in ("sync", "async")],
    ids=lambda p: f"{p[0]}-{p[1]}",
)
def go(request, shared):
    """The scripted filter on each SDK, once in the callbacks themselves, once in goroutines."""
    sdk, mode = request.param
    yield from _go(shared, sdk, mode == "async")


@pytest.fixture(params=kit.SDKS)
def go_sync(request, shared):
    """The scripted filter on each SDK, for what only makes sense in the callbacks themselves."""
    yield from _go(shared, request.param)


@pytest.fixture(params=("1.33",))
def go_133(request, shared):
    """What only SDK 1.33 has, or what does not depend on the SDK."""
    yield from _go(shared, request.param)


@pytest.fixture(params=kit.SDKS)
def go_quiet(request, quiet):
    """A proxy that logs nothing, for many requests."""
    yield from _go(quiet, request.param)
