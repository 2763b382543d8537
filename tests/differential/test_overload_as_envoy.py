"""The overload manager on both: what clients see at each pressure, and what the statistics say of it."""

import json
import os
import pathlib
import socket
import subprocess

import pytest

from harness import SLUICE, TYPE, Origin, Proxy, bootstrap, cluster, direct, listener, to
from twins import envoy_binary, read_responses

ACTION = "envoy.overload_actions."
MONITOR = "envoy.resource_monitors.injected_resource"
GET = b"GET /direct HTTP/1.1\r\nhost: a.test\r\n\r\n"
UP = b"GET /up HTTP/1.1\r\nhost: a.test\r\n\r\n"
HEAD = b"HEAD /direct HTTP/1.1\r\nhost: a.test\r\n\r\n"
GRPC = b"GET /direct HTTP/1.1\r\nhost: a.test\r\ncontent-type: application/grpc\r\n\r\n"
CUT = b"POST /direct HTTP/1.1\r\nhost: a.test\r\ncontent-length: 30\r\n\r\nnot all of it"
CLOSE = b"GET /direct HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n"

THRESHOLD = {"threshold": {"value": 0.9}}
SCALED = {"scaled": {"scaling_threshold": 0.5, "saturation_threshold": 0.9}}


class Side:
    def __init__(self, program, flags, folder, action, trigger):
        folder.mkdir()
        self.origin = Origin()
        self.pressure_path = folder / "pressure"
        self.set(0.1)
        config = {
            "@type": TYPE + "envoy.extensions.resource_monitors.injected_resource.v3.InjectedResourceConfig",
            "filename": str(self.pressure_path),
        }
        manager = {
            "refresh_interval": "0.02s",
            "resource_monitors": [{"name": MONITOR, "typed_config": config}],
            "actions": [{"name": ACTION + action, "triggers": [{"name": MONITOR, **trigger}]}],
        }
        self.proxy = Proxy(
            bootstrap(
                [
                    listener("edge", [direct(200, "direct\n", "/direct"), to()]),
                    listener("probe", [direct(200, "probe\n")], bypass_overload_manager=True),
                ],
                [cluster("origin", self.origin.port)],
                overload_manager=manager,
            ),
            program=program,
            flags=[*flags, "--concurrency", "1"],
            level="warning",
        )

    def set(self, value):
        """Moved there: Envoy watches for that only."""
        new = self.pressure_path.with_suffix(".new")
        new.write_text(str(value))
        os.rename(new, self.pressure_path)

    def wait_for(self, percent):
        self.proxy.wait_for_stat(f"overload.{MONITOR}.pressure", percent)
        for _ in range(2):  # the worker has heard of it once it has gone round
            assert self.ask(GET, "probe")[0]["status"] == 200

    def ask(self, raw, name="edge"):
        with socket.create_connection(("127.0.0.1", self.proxy.port(name)), timeout=20) as sock:
            try:
                sock.sendall(raw)
                return read_responses(sock, raw)
            except OSError as error:
                return [type(error).__name__]

    def overload_stats(self):
        """All of the overload manager's, and what its actions count."""
        at = f"listener.127.0.0.1_{self.proxy.port('edge')}."
        counted = (
            "http.edge.downstream_rq_overload_close",
            "http.edge.downstream_cx_overload_disable_keepalive",
            "http.edge.downstream_cx_drain_close",
            "http.edge.rq_total",
            "http.edge.downstream_rq_5xx",
        )
        seen = {}
        for name, value in self.proxy.stats().items():
            # Envoy names its stats after port 0, as the listener was configured.
            plain = name.replace(at, "listener.").replace("listener.127.0.0.1_0.", "listener.")
            if plain.startswith("overload.") and not plain.endswith("_updates") or plain in counted:
                seen[plain] = value
        return seen

    def close(self):
        self.proxy.stop()
        self.origin.close()


@pytest.fixture
def twins(tmp_path):
    made = []

    def start(action, trigger):
        made.append(Side(envoy_binary(), ["--use-dynamic-base-id"], tmp_path / "envoy", action, trigger))
        made.append(Side(SLUICE, [], tmp_path / "sluice", action, trigger))
        return made

    yield start
    for side in made:
        side.close()


@pytest.mark.parametrize("trigger", [THRESHOLD, SCALED], ids=["threshold", "scaled"])
@pytest.mark.parametrize("action", ["stop_accepting_requests", "disable_http_keepalive", "shrink_heap"])
def test_requests_under_pressure(twins, action, trigger):
    told = []
    for side in twins(action, trigger):
        steps = []
        for pressure in (0.3, 0.9, 1.0, 0.49):  # nowhere in between: that is a matter of chance
            side.set(pressure)
            side.wait_for(int(pressure * 100))
            answers = [side.ask(raw) for raw in (GET, UP, HEAD, GRPC, CLOSE)]
            # After "connection: close" Envoy goes on with what was pipelined. RFC 9112, 9.6, forbids it.
            if action != "disable_http_keepalive":
                answers.append(side.ask(GET + GET))
            if action == "stop_accepting_requests" and pressure >= 0.9:
                answers.append(side.ask(CUT))
            answers.append(side.ask(GET, "probe"))
            steps.append((pressure, answers, side.overload_stats()))
        told.append(steps)
    envoy, sluice = told
    if action == "shrink_heap":  # Envoy shrinks ten seconds later, we at once
        for steps in told:
            for _, _, stats in steps:
                stats.pop(f"overload.{ACTION}shrink_heap.shrink_count")
    for ours, theirs in zip(sluice, envoy, strict=True):
        assert ours == theirs


@pytest.mark.parametrize("pressure", [0.5, 0.501, 0.6, 0.7, 0.8, 0.899, 0.9])
def test_the_scale(twins, pressure):
    """The percentage is cut off, not rounded, and so depends on every bit of the arithmetic."""
    seen = []
    for side in twins("stop_accepting_requests", SCALED):
        side.set(pressure)
        side.wait_for(int(pressure * 100))
        name = f"overload.{ACTION}stop_accepting_requests."
        seen.append([side.proxy.stat(name + what) for what in ("active", "scale_percent")])
    assert seen[0] == seen[1]


def test_connections_under_pressure(twins):
    """Rejected ones end without a byte on both."""
    for side in twins("reject_incoming_connections", THRESHOLD):
        assert side.ask(GET)[0]["status"] == 200
        side.set(0.95)
        side.wait_for(95)
        for _ in range(3):
            assert side.ask(GET) in ([], ["Gone"], ["ConnectionResetError"], ["OSError"])
        stats = side.proxy.stats()
        rejected = [
            v for k, v in stats.items() if k.startswith("listener.127.0.0.1_") and k.endswith("overload_reject")
        ]
        assert sorted(rejected)[-1] == 3 and sum(rejected) == 3
        assert side.ask(GET, "probe")[0]["status"] == 200
        side.set(0.1)
        side.wait_for(10)
        assert side.ask(GET)[0]["status"] == 200


def test_connections_that_have_to_wait(twins):
    for side in twins("stop_accepting_connections", THRESHOLD):
        side.set(0.95)
        side.wait_for(95)
        before = side.proxy.stat("http.edge.downstream_cx_total")
        with socket.create_connection(("127.0.0.1", side.proxy.port("edge")), timeout=20) as sock:
            sock.sendall(GET)
            assert side.proxy.stat("http.edge.downstream_cx_total") == before
            side.set(0.1)
            assert read_responses(sock, GET)[0]["status"] == 200


BROKEN = {
    "unknown action": {"actions": [{"name": "nonsense", "triggers": [{"name": MONITOR, **THRESHOLD}]}]},
    "unknown monitor": {"actions": [{"name": ACTION + "shrink_heap", "triggers": [{"name": "x", **THRESHOLD}]}]},
    "no range": {
        "actions": [
            {
                "name": ACTION + "shrink_heap",
                "triggers": [{"name": MONITOR, "scaled": {"scaling_threshold": 0.5, "saturation_threshold": 0.5}}],
            }
        ]
    },
    "no pressure": {
        "actions": [{"name": ACTION + "shrink_heap", "triggers": [{"name": MONITOR, "threshold": {"value": 1.01}}]}]
    },
    "no trigger": {"actions": [{"name": ACTION + "shrink_heap", "triggers": []}]},
    "no monitor": {"resource_monitors": []},
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_neither_takes(what, tmp_path):
    config = {
        "@type": TYPE + "envoy.extensions.resource_monitors.injected_resource.v3.InjectedResourceConfig",
        "filename": str(tmp_path / "pressure"),
    }
    manager = {"resource_monitors": [{"name": MONITOR, "typed_config": config}], **BROKEN[what]}
    text = bootstrap([], overload_manager=manager)
    path = pathlib.Path(tmp_path, "bootstrap.json")

    path.write_text(json.dumps(text))
    for program in (envoy_binary(), SLUICE):
        done = subprocess.run([program, "--mode", "validate", "-c", str(path)], capture_output=True, timeout=60)
        assert done.returncode != 0, program
