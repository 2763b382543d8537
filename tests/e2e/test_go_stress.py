"""Many clients, filters in goroutines, clients that leave at random."""

import random
import threading
import time

import kit
import pytest
from go_support import Gone, listener_name
from harness import eventually

pytest_plugins = ["go_fixtures"]

CONNECTIONS = 64
PHASES = ("dh", "dd", "dt", "eh", "ed", "et")


def random_scripts(rng):
    """What the filter does in one request: mostly harmless, sometimes a reply or a panic."""
    scripts = {}
    for phase in PHASES:
        actions = []
        if rng.random() < 0.7:
            actions.append(f"jitter:{rng.choice((0, 1, 3))}")
        if phase in ("dd", "ed"):
            actions.append(rng.choice(("b.upper", "b.len", "b.string")))
        elif rng.random() < 0.8:
            actions.append(f"set:x-{phase}:{rng.random()}")
        if rng.random() < 0.01:
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


def one_request(client, rng):
    """Returns what became of it, as one word."""
    path = kit.path_of(
        f"/?o={rng.choice(('echo', 'chunked', 'trailers', 'size:20000'))}",
        is_async=rng.random() < 0.8,
        **random_scripts(rng),
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


def client_loop(go, seed, deadline, seen, failures):
    rng = random.Random(seed)
    client = None
    try:
        while time.monotonic() < deadline and not failures:
            client = client or go.connect(timeout_s=60)
            try:
                outcome = one_request(client, rng)
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


def storm(go, seconds):
    seed = random.randrange(1 << 30)
    deadline = time.monotonic() + seconds
    seen, failures = [{} for _ in range(CONNECTIONS)], []
    threads = [
        threading.Thread(target=client_loop, args=(go, seed + i, deadline, seen[i], failures))
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
    # The proxy counts the requests that Go has not given back. The few that are left are the
    # reports, which are requests to Go themselves.
    for sdk in kit.SDKS:
        kit.Reporter(go.sluice.port(listener_name("report", sdk))).get(gc=1)
    eventually(
        lambda: go.sluice.stat("golang.unfinalized_requests") < sum(go.shared.kept.values()) + 20,
        what="all requests given back by Go",
    )
    assert go.ask().status == 200


def test_a_storm(go_quiet):
    storm(go_quiet, 5)


@pytest.mark.long
def test_a_long_storm(go_quiet):
    storm(go_quiet, 60)
