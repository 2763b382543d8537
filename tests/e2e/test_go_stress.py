"""Many clients, filters in goroutines, clients that leave at random."""

import json
import pathlib
import random
import statistics
import subprocess
import threading
import time
import types
import urllib.request

import kit
import pytest
from go_support import (
    Client,
    Gone,
    Proxy,
    build,
    cluster,
    config_of,
    go_listener,
    listener_name,
    report_listener,
    stop,
    to,
)
from harness import eventually
from wire import Origin

pytest_plugins = ["go_fixtures"]

CONNECTIONS = 64
PHASES = ("dh", "dd", "dt", "eh", "ed", "et")


def random_scripts(rng, gc_share):
    """What the filter does in one request: mostly harmless, sometimes a reply, a panic, or a collection
    of garbage (that many of its phases)."""
    scripts = {}
    for phase in PHASES:
        actions = []
        if rng.random() < 0.7:
            actions.append(f"jitter:{rng.choice((0, 1, 3))}")
        if phase in ("dd", "ed"):
            actions.append(rng.choice(("b.upper", "b.len", "b.string")))
        elif rng.random() < 0.8:
            actions.append(f"set:x-{phase}:{rng.random()}")
        if rng.random() < gc_share:
            actions.append("gc")
        draw = rng.random()
        if draw < 0.03:
            actions.append("reply:418:short and stout")
        elif draw < 0.06:
            actions.append("panic:on purpose")
        elif phase in ("dh", "eh", "dd", "ed"):
            actions.append(rng.choice(("ret:2", "ret:3", "ret:4")))
        if rng.random() < 0.05:
            actions += ["fork:recover", "jitter:5", "set:x-late:1", "continue:2"]
        scripts[phase] = actions
    return scripts


def one_request(client, rng, gc_share):
    """Returns what became of it, as one word."""
    path = kit.path_of(
        f"/?o={rng.choice(('echo', 'chunked', 'trailers', 'size:20000'))}",
        is_async=rng.random() < 0.8,
        **random_scripts(rng, gc_share),
    )
    body = b"b" * rng.choice((1, 100, 10_000))
    leaves_after = rng.choice(("head", "body", "sent", "never", "never", "never", "never"))
    client.send_head("POST", path, [("transfer-encoding", "chunked")])
    if leaves_after == "head":
        return "left"
    client.send_chunk(body)
    if leaves_after == "body":
        return "left"
    client.send_end([("x-end", "yes")] if rng.random() < 0.5 else ())
    if leaves_after == "sent":
        if rng.random() < 0.5:
            client.sock.recv(1)
        return "left"
    status = client.read_reply().status
    assert status in (200, 418, 500), status
    return str(status)


def client_loop(go, seed, deadline, gc_share, seen, failures):
    rng = random.Random(seed)
    client = None
    try:
        while time.monotonic() < deadline and not failures:
            client = client or go.connect(timeout_s=60)
            try:
                outcome = one_request(client, rng, gc_share)
            except (Gone, ConnectionError):
                outcome = "reset"  # by a reply or panic after the headers left
            seen[outcome] = seen.get(outcome, 0) + 1
            if outcome in ("left", "reset"):
                client.abort() if rng.random() < 0.5 else client.close()
                client = None
    except BaseException as e:
        failures.append(f"seed {seed}: {e!r}")
    finally:
        if client is not None:
            client.close()


def storm(go, seconds, gc_share=0.01):
    seed = random.randrange(1 << 30)
    deadline = time.monotonic() + seconds
    seen, failures = [{} for _ in range(CONNECTIONS)], []
    threads = [
        threading.Thread(target=client_loop, args=(go, seed + i, deadline, gc_share, seen[i], failures))
        for i in range(CONNECTIONS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds + 120)
        assert not thread.is_alive(), f"a client hangs; seed {seed}"
    assert not failures, failures[:5]
    total = {}
    for one in seen:
        for outcome, count in one.items():
            total[outcome] = total.get(outcome, 0) + count
    print(f"seed {seed}: {total}")

    # Every kind of end happened, and each side of the Go filters is rid of all of them.
    assert {"200", "418", "500", "left"} <= set(total), total
    assert go.sluice.alive()
    kept = go.shared.kept[go.sdk]
    report = go.report.wait_until_collected(kept=kept, timeout_s=60)
    assert report["created"] == report["destroyed"] > sum(total.values()) / 2
    assert report["goroutines"] == 0
    assert report["request_map"] < 20  # reports again
    # The proxy counts the requests that Go has not given back. The few that are left are the
    # reports, which are requests to Go themselves.
    for sdk in go.shared.kept:
        kit.Reporter(go.sluice.port(listener_name("report", sdk))).get(gc=1)
    eventually(
        lambda: go.sluice.stat("golang.unfinalized_requests") < sum(go.shared.kept.values()) + 20,
        what="all requests given back by Go",
    )
    assert go.ask().status == 200


class Collecting:
    """A proxy with two Go runtimes: `basic`, whose requests storm, and `gcloop`, whose requests need the
    runtime's signal to preempt a goroutine, or have the runtime profile itself."""

    sdk = "1.33"

    def __init__(self):
        self.origin = Origin()
        scripted = [kit.go_filter(build("basic", self.sdk), "basic", go_seats=32)]
        trailers = {"http_protocol_options": {"enable_trailers": True}}
        self.sluice = Proxy(
            config_of(
                [
                    go_listener(listener_name("main", self.sdk), scripted, [to(timeout="0s")], hcm=trailers),
                    report_listener(build("basic", self.sdk), listener_name("report", self.sdk)),
                    go_listener("gcloop", [kit.go_filter(build("gcloop"), "gcloop")]),
                    go_listener("pass", [kit.go_filter(build("basic", self.sdk), "passthrough")]),
                ],
                [cluster("origin", self.origin.port)],
            ),
            level="off",
        )
        self.shared = types.SimpleNamespace(kept={self.sdk: 0})
        self.report = kit.Reporter(self.sluice.port(listener_name("report", self.sdk)))

    def connect(self, kind=None, **more):
        return Client(self.sluice.port(kind or listener_name("main", self.sdk)), **more)

    def ask(self):
        with self.connect() as client:
            return client.ask("GET", "/")

    def ask_gcloop(self, path):
        with self.connect("gcloop", timeout_s=120) as client:
            assert client.ask("GET", path).status == 200
        return path

    def __enter__(self):
        return self

    def __exit__(self, failed, *_):
        if failed and not self.sluice.alive():
            print(f"the proxy ended: {self.sluice.process.returncode}\n{self.sluice.log()[-20000:]}")
        self.sluice.kill() if failed else stop(self.sluice)
        self.origin.close()


def storm_of_collections(go, seconds):
    """Each request collects garbage once or so, while both Go runtimes' signals, SIGURG and SIGPROF, and our
    own profile's interrupt whatever runs."""
    over = threading.Event()
    signals, failures = [], []

    def again(fn):
        try:
            while not over.is_set():
                signals.append(fn())
        except BaseException as e:
            failures.append(repr(e))

    def takes_profile():
        url = f"http://{go.sluice.admin_path.read_text()}/debug/pprof/profile?seconds=1"
        with urllib.request.urlopen(url, timeout=60) as reply:
            assert reply.read()
        return "ours"

    asks = [lambda: go.ask_gcloop("/"), lambda: go.ask_gcloop("/profile"), takes_profile]
    threads = [threading.Thread(target=again, args=(fn,)) for fn in asks]
    for thread in threads:
        thread.start()
    try:
        storm(go, seconds, gc_share=0.2)
    finally:
        over.set()
        for thread in threads:
            thread.join(120)
    assert not failures, failures
    assert set(signals) == {"/", "/profile", "ours"}


LOAD_C = pathlib.Path(__file__).resolve().parents[2] / "bench" / "native" / "load.c"
ABORTERS = 8


def flat_request_map(go, requests, seconds, folder):
    """So many plain requests, or what is done of them in that time, among clients that abort. The SDK's map of
    requests and its heap are looked at all the while."""
    loader = folder / "load"
    subprocess.run(["cc", "-std=gnu17", "-D_GNU_SOURCE", "-O2", "-o", loader, LOAD_C], check=True)
    deadline = time.monotonic() + seconds
    seen, failures, looks = [{} for _ in range(ABORTERS)], [], []
    over = threading.Event()

    def aborts(mine):
        while not over.is_set() and not failures:
            until = min(deadline, time.monotonic() + 5)
            client_loop(go, random.randrange(1 << 30), until, 0.0, mine, failures)

    threads = [threading.Thread(target=aborts, args=(mine,)) for mine in seen]
    port = go.sluice.port("pass")
    options = [f"port={port}", "body=7", "connections=64", f"requests={requests}", f"ms={seconds * 1000}"]
    with subprocess.Popen([loader, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as load:
        assert load.stdout.readline() == "ready\n"
        load.stdin.write("go\n")
        load.stdin.flush()
        for thread in threads:
            thread.start()
        said = []
        reader = threading.Thread(target=lambda: said.append(load.stdout.readline()))
        reader.start()
        while reader.is_alive():
            reader.join(2)
            looks.append(go.report.get(gc=1, timeout_s=120))
        over.set()
        for thread in threads:
            thread.join(120)
        load.stdin.close()
    assert not failures, failures
    said = json.loads(said[0])
    total = go.report.wait_until_collected(timeout_s=60)
    assert total["created"] == total["destroyed"]
    print(f"{said['requests']} requests, {total['created']} with aborts; map of requests at most ", end="")
    print(max(look["request_map"] for look in looks))
    # Those that are being served, reports among them; not those that were.
    for look in [*looks, total]:
        assert look["request_map"] <= 64 + ABORTERS + 40, looks
    heap = [look["heap_bytes"] for look in looks]
    early, late = statistics.median(heap[: len(heap) // 2]), statistics.median(heap[len(heap) // 2 :])
    assert late < 1.5 * early, heap


@pytest.mark.long
@pytest.mark.timeout(5 * 3600)
def test_the_map_of_requests_is_flat_over_ten_million(tmp_path):
    with Collecting() as go:
        flat_request_map(go, 10_000_000, 4 * 3600, tmp_path)


def test_a_storm(go_quiet):
    storm(go_quiet, 5)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_long_storm(go_quiet):
    storm(go_quiet, 60)


def test_a_storm_of_collections():
    with Collecting() as go:
        storm_of_collections(go, 5)


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_ten_minutes_of_a_storm_of_collections():
    with Collecting() as go:
        storm_of_collections(go, 600)
