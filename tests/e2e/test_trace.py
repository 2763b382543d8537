"""The trace of the scheduler, as Chrome and Perfetto read it, taken of a proxy at work."""

import math
import socket
import threading

import pytest
from harness import cluster, direct, eventually, listener, to
from test_admin import JSON, ask, statuses_of_two_at_once


@pytest.fixture
def edge(proxy, origin):
    return proxy([listener("edge", [direct(200, "hi", "/hi"), to()])], [cluster("origin", origin.port)])


class Traffic:
    """Requests one after the other, for as long as the block lasts or until there were so many."""

    def __init__(self, edge, path="/", most=math.inf):
        self.edge, self.path, self.most = edge, path, most
        self.stop, self.count = threading.Event(), 0
        self.thread = threading.Thread(target=self.run)

    def run(self):
        with self.edge.connect() as client:
            while not self.stop.is_set() and self.count < self.most:
                client.send("GET", self.path)
                assert client.read_reply().status == 200
                self.count += 1

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join(20)
        assert not self.thread.is_alive()


def check_nesting(slices):
    """X events of one track: sorted by start, each lies in the one before or after it."""
    open_until = []
    for start, end, name in sorted(slices, key=lambda s: (s[0], -s[1])):
        while open_until and open_until[-1] <= start:
            open_until.pop()
        assert not open_until or end <= open_until[-1] + 0.0005, f"{name} at {start} crosses another"
        open_until.append(end)


def test_a_trace_is_what_viewers_read(edge):
    # The events of so many fit into it, however fast the machine is.
    with Traffic(edge, most=2000) as traffic:
        answer = ask(edge, "/debug/pprof/trace?seconds=1")
    assert answer.status == 200
    assert traffic.count > 0
    trace = answer.json()
    events = trace["traceEvents"]
    assert trace["otherData"]["events missed"] == 0
    length_us = trace["otherData"]["nanoseconds"] / 1000
    assert length_us >= 1_000_000

    tracks, foreign, starts, ends = {}, {}, {}, {}
    for event in events:
        assert {"ph", "pid", "tid", "ts", "name"} <= event.keys(), event
        key = event["pid"], event["tid"]
        if event["ph"] == "M":
            continue
        assert 0 <= event["ts"] <= length_us + 1000, event
        match event["ph"]:
            case "X":
                assert event["dur"] >= 0
                tracks.setdefault(key, []).append((event["ts"], event["ts"] + event["dur"], event["name"]))
            case "B" | "E":
                foreign.setdefault(key, []).append(event)
            case "s":
                assert event["id"] not in starts
                starts[event["id"]] = event
            case "f":
                assert event["bp"] == "e"
                assert event["id"] not in ends
                ends[event["id"]] = event
            case "i":
                assert event["s"] == "t"
            case other:
                pytest.fail(f"no such phase: {other}")

    for slices in tracks.values():
        check_nesting(slices)
    for calls in foreign.values():
        phases = [call["ph"] for call in sorted(calls, key=lambda call: call["ts"])]
        assert phases == (["B", "E"] * len(phases))[: len(phases)]

    # Each arrow goes forward, from a slice to the start of one.
    assert ends.keys() <= starts.keys()
    assert len(ends) >= 10  # as a second of requests has, however slow the machine
    run_starts = {(*key, start) for key, slices in tracks.items() for start, _, _ in slices}
    for flow, end in ends.items():
        assert starts[flow]["ts"] <= end["ts"]
        assert (end["pid"], end["tid"], end["ts"]) in run_starts

    runs = [event for event in events if event.get("cat") == "run"]
    assert len(runs) >= 10
    assert all(event["args"]["ended by"] and event["args"]["coroutine"] > 0 for event in runs)
    names = {e["args"]["name"] for e in events if e["ph"] == "M" and e["name"] == "thread_name"}
    assert "P 0" in names


def test_one_trace_at_a_time(edge):
    assert statuses_of_two_at_once(edge, "/debug/pprof/trace?seconds=1") == [200, 409]
    assert ask(edge, "/debug/pprof/trace?seconds=1").headers["content-type"] == JSON


@pytest.mark.parametrize("seconds", ["0", "61", "-1", "1.5", "x", "", "18446744073709551617"])
def test_a_trace_of_no_sensible_length_is_refused(edge, seconds):
    assert ask(edge, f"/debug/pprof/trace?seconds={seconds}").status == 400


def test_a_client_that_leaves_ends_its_trace(edge):
    """Nobody waits for a minute's trace that nobody will read."""
    host, _, port = edge.admin_path.read_text().rpartition(":")
    with socket.create_connection((host, int(port)), 20) as client:
        client.sendall(b"GET /debug/pprof/trace?seconds=60 HTTP/1.1\r\nhost: admin\r\n\r\n")
        eventually(lambda: "while a trace is taken" in ask(edge, "/debug/pprof/goroutine?debug=2").body)
        assert ask(edge, "/debug/pprof/trace").status == 409
    eventually(lambda: ask(edge, "/debug/pprof/trace").status == 200)
