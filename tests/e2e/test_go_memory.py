"""What crosses the border between the proxy and a Go library, and what a filter may keep of it."""

import kit
from go_support import build
from harness import eventually

pytest_plugins = ["go_fixtures"]

BODY = b"0123456789abcdef" * 4096


class Counters:
    """What a plugin's counters say more than before. A request adds to them once it is destroyed."""

    def __init__(self, go, plugin):
        self.go = go
        self.prefix = f"golang.plugin.{build('basic', go.sdk).name}.{plugin}."
        self.before = self.read()

    def read(self):
        stats = self.go.sluice.stats()
        return {name.removeprefix(self.prefix): n for name, n in stats.items() if name.startswith(self.prefix)}

    def of(self, requests):
        def look():
            now = self.read()
            if now["requests"] < self.before.get("requests", 0) + requests:
                return None
            return {name: n - self.before.get(name, 0) for name, n in now.items()}

        return eventually(look, what=f"{requests} requests that have ended")


def test_what_is_not_touched_does_not_cross(go_sync):
    """A filter that lets all pass: 64 KB each way, not one call into the proxy, not one byte copied."""
    counters = Counters(go_sync, "passthrough")
    assert go_sync.ask("/?o=echo", kind="pass", body=BODY).body == BODY
    seen = counters.of(1)
    assert seen["calls"] >= 6
    for name in ("crossings", "header_copies", "header_bytes_to_go", "body_bytes_to_go", "body_bytes_from_go"):
        assert seen[name] == 0, name


def test_headers_cross_once(go_sync):
    """However often a filter looks at them, and whatever it looks at."""
    go = go_sync
    looks = ["get:x-a", "range", "all", "count", "values:x-a", "pseudo", "range"]
    counters = Counters(go, "basic")
    go.ask("/?o=echo", headers=[("x-a", "1")], body=BODY, dh=looks, eh=looks)
    seen = counters.of(1)
    assert seen["header_copies"] == 2  # the request's and the response's
    assert 50 < seen["header_bytes_to_go"] < 2000
    assert seen["body_bytes_to_go"] == 0


def test_bodies_cross_when_they_are_asked_for(go_sync):
    go = go_sync
    counters = Counters(go, "basic")
    go.ask("/?o=echo", body=BODY, dh="ret:3", dd=["b.len", "b.len"])
    assert counters.of(1)["body_bytes_to_go"] == 0
    go.new_id()
    go.ask("/?o=echo", body=BODY, dh="ret:3", dd=["b.string"])
    assert counters.of(2)["body_bytes_to_go"] == len(BODY)
    go.new_id()
    go.ask("/?o=echo", body=BODY, dh="ret:3", dd=["b.append:tail"])
    assert counters.of(3)["body_bytes_from_go"] == len("tail")


def test_replies_and_panics_are_counted(go_sync):
    go = go_sync
    counters = Counters(go, "basic")
    assert go.ask(dh="reply:403:no").status == 403
    go.new_id()
    assert go.ask(dh="panic:oops").status == 500
    seen = counters.of(2)
    assert (seen["local_replies"], seen["panics"]) == (1, 1)


def test_a_filter_may_keep_every_string_and_buffer(go_133):
    """A thousand requests, each with headers and a body of its own, all of which their filters keep."""
    go = go_133
    path = kit.path_of("/?o=echo", dh=["hoard", "ret:3"], dd=["b.hoard"], eh=["hoard", "ret:3"], ed=["b.hoard"])
    with go.connect() as client:
        for i in range(1000):
            body = b"%d " % i * (1 + i % 50)
            reply = client.ask("POST", path, headers=[("x-number", str(i)), ("x-long", "l" * (i % 300))], body=body)
            assert reply.body == body
            if i % 250 == 0:
                go.report.get(gc=1)
    go.report.wait_until_collected(kept=go.shared.kept[go.sdk])  # Finalize has freed what the proxy lent
    go.ask(dh="hoarded")
    [said] = [event for event in go.said("dh") if event.startswith("hoarded")]
    kept, changed = int(said.split()[1]), int(said.split()[3])
    assert kept > 1000 * 20
    assert changed == 0
