"""What the Go filter tests share besides their fixtures (go_fixtures.py)."""

import os
import time

import kit
import pytest
from harness import (  # noqa: F401
    Client,
    Gone,
    Proxy,
    access_log,
    cluster,
    direct,
    eventually,
    listener,
    router,
    run,
    to,
)

from build import build  # noqa: F401

# Of tests that look at what the proxy has of a library, which it has not when that is in a process of its own (kit.py).
in_process = pytest.mark.skipif("SLUICE_TEST_ISOLATION" in os.environ, reason="of a library in the proxy")

PANIC_BODY = b"error happened in filter\r\n"


def go_listener(name, filters, routes=None, **more):
    """A listener with these filters and the router; the routes default to one that answers."""
    return listener(name, routes or [direct(200, "direct\n")], filters=[*filters, router()], **more)


def json_router(*rules):
    return {
        "name": "sluice.filters.http.json_router",
        "typed_config": {
            "@type": kit.TYPE + "sluice.filters.http.json_router.v3.JsonRouter",
            "rules": list(rules),
        },
    }


def report_listener(library, name="report", **more):
    """A listener on which the library's plugin `report` answers."""
    return go_listener(name, [kit.go_filter(library, "report", **more)])


def config_of(listeners, clusters=()):
    return {
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}},
        "static_resources": {"listeners": listeners, "clusters": list(clusters)},
    }


def write_in_pieces(path, data, meanwhile):
    """Opened and closed for each piece, so each is a change; and each but the last leaves a mixture of two builds.
    After each of them `meanwhile` is called again and again, until somebody has looked at it."""
    piece = len(data) // 12
    for at in range(0, len(data), piece):
        with open(path, "r+b") as file:
            file.seek(at)
            file.write(data[at : at + piece])
            if at + piece >= len(data):
                file.truncate()
        until = time.monotonic() + 0.15
        while time.monotonic() < until:
            meanwhile()


def refused(*listeners):
    """Starts a proxy that must refuse its listeners, and returns what it said."""
    done = run(config=config_of(listeners))
    assert done.returncode == 1, done
    return done.stdout + done.stderr


def listener_name(kind, sdk):
    return f"{kind}-{sdk}".replace(".", "_")


def stop(sluice):
    """Ends a proxy: by itself, with status 0, and without a sanitizer's report."""
    status = sluice.stop()
    assert status == 0, f"exit status {status}\n{sluice.log()[-8000:]}"
    assert "Sanitizer" not in sluice.log(), sluice.log()[-8000:]
