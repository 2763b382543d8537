"""The fixtures of the Go filter tests, a pytest plugin that their modules name.

One proxy serves all of them: it has the library `basic` on three SDK versions, each with a few
listeners of its own, and an origin behind it. A test that breaks the proxy gets it blamed, and the
next one a new proxy.
"""

import itertools
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "filters"))

import kit  # noqa: E402
from wire import Client, Gone, Origin, Reply, encode_chunk, encode_end  # noqa: E402, F401

from build import build  # noqa: E402

SLUICE = os.environ.get("SLUICE_BIN", str(ROOT / "build" / "sluice"))
PANIC_BODY = b"error happened in filter\r\n"


def free_ports(count):
    """Ports that nobody listens on now. All are held until the last is known, so they differ."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]
    finally:
        for s in sockets:
            s.close()


class Sluice:
    """A running proxy. build_config gets a function that hands out ports by name."""

    def __init__(self, build_config, *, level="debug", flags=()):
        self.folder = tempfile.TemporaryDirectory(prefix="sluice-go-")
        self.ports = {}
        config = build_config(self.port)
        config["admin"] = {
            "address": {
                "socket_address": {"address": "127.0.0.1", "port_value": self.port("admin")}
            }
        }
        self.config_path = pathlib.Path(self.folder.name, "bootstrap.yaml")
        self.config_path.write_text(json.dumps(config, indent=1))  # JSON is YAML
        self.log_path = pathlib.Path(self.folder.name, "log")
        with open(self.log_path, "w") as log:
            self.process = subprocess.Popen(
                [SLUICE, "-c", str(self.config_path), "-l", level, *flags],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._wait_until_ready()

    def port(self, name):
        if name not in self.ports:
            [self.ports[name]] = free_ports(1)
        return self.ports[name]

    def _wait_until_ready(self, timeout_s=60):
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                if self.admin("/ready").startswith("LIVE"):
                    return
            except OSError:
                pass
            if not self.alive() or time.monotonic() > deadline:
                self.stop()
                raise AssertionError(f"the proxy does not get ready:\n{self.log()[-4000:]}")
            time.sleep(0.02)

    def admin(self, path):
        url = f"http://127.0.0.1:{self.ports['admin']}{path}"
        with urllib.request.urlopen(url, timeout=20) as reply:
            return reply.read().decode()

    def stat(self, name):
        """The value of a counter or gauge, 0 if there is none yet."""
        for line in self.admin("/stats").splitlines():
            key, _, value = line.partition(": ")
            if key == name:
                return int(value)
        return 0

    def log(self):
        return self.log_path.read_text(errors="replace")

    def wait_for_log(self, text, timeout_s=20):
        deadline = time.monotonic() + timeout_s
        while text not in self.log():
            assert time.monotonic() < deadline, f"not in the log: {text!r}"
            time.sleep(0.01)

    def alive(self):
        return self.process.poll() is None

    def stop(self):
        """Ends the proxy and returns its exit status."""
        if self.alive():
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        return self.process.returncode


def refused(config, *, timeout_s=60):
    """Starts a proxy that must refuse its configuration, and returns what it said."""
    with tempfile.TemporaryDirectory(prefix="sluice-go-") as folder:
        path = pathlib.Path(folder, "bootstrap.yaml")
        path.write_text(json.dumps(config, indent=1))
        done = subprocess.run(
            [SLUICE, "-c", str(path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
        )
    assert done.returncode == 1, f"exit status {done.returncode}\n{done.stdout}"
    return done.stdout


# ---- the proxy that all tests share -----------------------------------------


def listener_name(kind, sdk):
    return f"{kind}-{sdk}".replace(".", "_")


def shared_config(port, origin_port):
    trailers = {"http_protocol_options": {"enable_trailers": True}}
    listeners = []
    for sdk in kit.SDKS:
        basic = build("basic", sdk)

        def listen(kind, filters, routes=None, sdk=sdk, hcm=None, **more):
            name = listener_name(kind, sdk)
            listeners.append(
                kit.listener(
                    name,
                    port(name),
                    filters,
                    routes or [kit.route_to("origin")],
                    hcm={**trailers, **(hcm or {})},
                    **more,
                )
            )

        def scripted(sdk_basic=basic, **config):
            return kit.go_filter(sdk_basic, "basic", kit.typed_struct(config) if config else None)

        listen("main", [scripted()])
        listen("pass", [kit.go_filter(basic, "passthrough")])
        listen("small", [scripted()], per_connection_buffer_limit_bytes=4096)
        listen(
            "chain",
            [scripted(name=n, eh=f"add:x-order:{n}") for n in ("first", "middle", "last")],
        )
        listen(
            "factory", [scripted(factory="try!continue:2,try!reply:500:no,try!other.continue:2")]
        )
        listen(
            "routes",
            [scripted()],
            [
                {
                    "match": {
                        "prefix": "/",
                        "headers": [{"name": "x-route", "string_match": {"exact": "other"}}],
                    },
                    "direct_response": {"status": 200, "body": {"inline_string": "other route\n"}},
                },
                {"name": "to-origin", "match": {"prefix": "/"}, "route": {"cluster": "origin"}},
            ],
        )
        name = listener_name("report", sdk)
        listeners.append(kit.report_listener(basic, port(name), name))
    upstream_trailers = {
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": kit.TYPE + "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": trailers,
            }
        }
    }
    return {
        "static_resources": {
            "listeners": listeners,
            "clusters": [kit.cluster("origin", origin_port, **upstream_trailers)],
        }
    }


class Shared:
    """A proxy and an origin that several tests use, started when first asked for."""

    def __init__(self, level):
        self.level = level
        self.origin = self.sluice = None
        self.kept = dict.fromkeys(kit.SDKS, 0)  # filters that a test leaked on purpose

    def get(self):
        if self.origin is None:
            self.origin = Origin()
        if self.sluice is not None and not self.sluice.alive():
            self.close_sluice()
        if self.sluice is None:
            self.kept = dict.fromkeys(kit.SDKS, 0)
            self.sluice = Sluice(
                lambda port: shared_config(port, self.origin.port), level=self.level
            )
        return self

    def close_sluice(self):
        if self.sluice is not None:
            self.sluice.stop()
            self.sluice = None

    def close(self):
        self.close_sluice()
        if self.origin is not None:
            self.origin.close()
            self.origin = None


_shared = Shared("debug")
_quiet = Shared("off")
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

    def new_id(self):
        """A fresh id for a second request of the same test."""
        self.id = f"t{next(_ids)}"
        return self.id

    def path(self, base="/", **scripts):
        return kit.path_of(base, test_id=self.id, is_async=self.is_async, **scripts)

    def connect(self, kind="main", **more):
        return Client(self.port(kind), **more)

    def ask(
        self, base="/", *, method=None, kind="main", headers=(), body=None, trailers=None, **scripts
    ):
        """One request on a connection of its own; scripts as in path_of."""
        method = method or ("GET" if body is None and trailers is None else "POST")
        with self.connect(kind) as client:
            return client.ask(
                method, self.path(base, **scripts), headers=headers, body=body, trailers=trailers
            )

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


def _go(sdk, is_async, shared=_shared):
    shared.get()
    go = Go(shared, sdk, is_async)
    yield go
    # Every test, whatever it did, leaves a living proxy and no request on the Go side.
    try:
        assert shared.sluice.alive(), f"the proxy died:\n{shared.sluice.log()[-8000:]}"
        go.report.wait_until_collected(kept=shared.kept[sdk])
        go.report.get(forget=go.id)
    except BaseException:
        shared.close_sluice()
        raise


@pytest.fixture(
    params=[(sdk, mode) for sdk in kit.SDKS for mode in ("sync", "async")],
    ids=lambda p: f"{p[0]}-{p[1]}",
)
def go(request):
    """The scripted filter on each SDK, once in the callbacks themselves, once in goroutines."""
    yield from _go(request.param[0], request.param[1] == "async")


@pytest.fixture(params=kit.SDKS)
def go_sync(request):
    """The scripted filter on each SDK, for what only makes sense in the callbacks themselves."""
    yield from _go(request.param, False)


@pytest.fixture(params=("1.33",))
def go_133(request):
    """What only SDK 1.33 has, or what does not depend on the SDK."""
    yield from _go(request.param, False)


@pytest.fixture(params=kit.SDKS)
def go_quiet(request):
    """A proxy that logs nothing, for many requests."""
    yield from _go(request.param, False, _quiet)


def pytest_sessionfinish():
    _shared.close()
    _quiet.close()
