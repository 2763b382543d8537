"""A client leaves while a goroutine that nobody recovers is at work with its request."""

import kit
import pytest
from go_support import Proxy, build, config_of, direct, go_listener, in_process, report_listener, stop
from harness import eventually

CALLS = [
    "set:x-late:1",
    "add:x-late:1",
    "del:host",
    "get:x-never-read",
    "getraw:host",
    "count",
    "info:route",
    "info:protocol",
    "metadata.get:some.filter",
    "metadata.set:some.filter:key:value",
    "property:request.path",
    "clearroute",
    "continue:2",
    "reply:403:late",
]


def start(**config):
    listeners = []
    for sdk in kit.SDKS:
        library = build("basic", sdk)
        basic = kit.go_filter(library, "basic", **config)
        listeners.append(go_listener(f"main-{sdk}", [basic], [direct(200)]))
        listeners.append(report_listener(library, f"report-{sdk}"))
    return Proxy(config_of(listeners))


def leaves_goroutine_at_work(sluice, sdk, mode):
    """The request is over, and its goroutine has yet to act. Returns who says go."""
    report = kit.Reporter(sluice.port(f"report-{sdk}"))
    actions = ["ret:none", f"fork:{mode}", "wait:its end", *CALLS, "event:survived"]
    with sluice.connect(f"main-{sdk}") as client:
        client.send("GET", kit.path_of("/", test_id=sdk, dh=actions))
        report.wait_for_event(sdk, "wait its end")
        client.abort()
    report.wait_for_event(sdk, "destroy: reason=1")
    return report


@pytest.fixture(scope="module")
def lenient():
    sluice = start()
    yield sluice
    stop(sluice)


@in_process
@pytest.mark.parametrize("sdk", kit.SDKS)
def test_lenient_spares_a_goroutine_that_nobody_recovers(lenient, sdk):
    """It is the default: what a client does must not end the process."""
    report = leaves_goroutine_at_work(lenient, sdk, "bare")
    stale = lenient.stat("golang.stale_calls")
    report.signal("its end")
    said = "\n".join(report.wait_for_event(sdk, "survived"))
    assert 'get x-never-read="" false' in said
    assert "info route=" in said
    assert lenient.alive()
    assert lenient.stat("golang.stale_calls") >= stale + 9
    report.wait_until_collected()
    assert lenient.get("/", listener=f"main-{sdk}").status == 200


@in_process
def test_strict_ends_it_as_envoy_does():
    """With RecoverPanic the goroutine ends at its first call; without, the process does."""
    sluice = start(late_calls="STRICT")
    report = leaves_goroutine_at_work(sluice, "1.33", "recover")
    report.signal("its end")
    events = report.wait_for_event("1.33", "panic")
    assert "dh: panic golang filter has been destroyed" in events
    assert not any("survived" in event for event in events)
    report.wait_until_collected()

    report = leaves_goroutine_at_work(sluice, "1.31", "bare")
    with pytest.raises(OSError):  # the answer to this may not come any more
        while True:
            report.signal("its end")
    eventually(lambda: not sluice.alive(), what="the end of the process")
    assert "panic: golang filter has been destroyed" in sluice.log()
