"""Several Go libraries, hence several Go runtimes, in one proxy."""

import collections
import concurrent.futures
import pathlib

import kit
import pytest
from go_support import Proxy, config_of, eventually, go_listener, listener_name, report_listener, stop

from build import build

pytest_plugins = ["go_fixtures"]


def test_three_sdk_versions_in_one_proxy(go_133):
    """The proxy of these tests has the same filter on each: every library knows its own."""
    for sdk in kit.SDKS:
        port = go_133.sluice.port(listener_name("report", sdk))
        assert kit.Reporter(port).get()["sdk"] == sdk


@pytest.mark.parametrize("there", kit.SDKS[::2])
def test_libraries_here_and_in_a_process_serve_beside_each_other(there):
    """Two SDKs, either of which may be the one in the process: that ends, and the other does not notice."""
    places = {sdk: "PROCESS" if sdk == there else "IN_PROCESS" for sdk in kit.SDKS[::2]}
    listeners = []
    for sdk, isolation in places.items():
        for plugin in ("basic", "report"):
            one = kit.go_filter(build("basic", sdk), plugin, library_id=f"lib-{sdk}", isolation=isolation)
            listeners.append(go_listener(listener_name(plugin, sdk), [one]))
    both = [
        kit.go_filter(build("basic", sdk), "basic", library_id=f"lib-{sdk}", isolation=isolation, name=f"at-{sdk}")
        for sdk, isolation in places.items()
    ]
    sluice = Proxy(config_of([*listeners, go_listener("both", both)]))
    (here,) = (sdk for sdk in places if sdk != there)

    def ask(name, **scripts):
        return sluice.get(kit.path_of("/", **scripts), listener=name).status

    for _ in range(3):
        for sdk in places:
            assert kit.Reporter(sluice.port(listener_name("report", sdk))).get()["sdk"] == sdk
        assert ask("both", dh="set:x-a:b") == 200
        assert ask(listener_name("basic", there), dh="die:exit") == 503
        assert ask(listener_name("basic", here), dh="set:x-a:b") == 200
    stop(sluice)


FUTEX = {"202", "98"}  # x86_64, aarch64


def monitors_of(pid):
    """{library: [does this monitor look like one, for each that has a name], ...} of Go's threads that are named."""
    found = collections.defaultdict(list)
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        name = (task / "comm").read_text().strip().removeprefix("sluice:")
        if not name.startswith("go"):
            continue
        library, _, is_monitor = name.partition(":")
        number, *args = (task / "syscall").read_text().split()
        found[library] += [number in FUTEX and int(args[3], 16) != 0] if is_monitor else []
    return dict(found)


def test_the_thread_that_is_slowed_is_the_monitor_of_its_runtime(go_133):
    """When nothing is to be done it waits for a while, on a futex. Others wait for ever, or in the poller."""
    pid = go_133.sluice.process.pid
    seen = set()  # not all at once: each looks around now and then

    def each_was_seen():
        found = monitors_of(pid)
        assert all(len(looks) <= 1 for looks in found.values())
        seen.update(library for library, looks in found.items() if looks == [True])
        return found and seen >= found.keys()

    eventually(each_was_seen, what="a monitor for each library")
    assert len(monitors_of(pid)) >= len(kit.SDKS)


@pytest.fixture(params=[("1.33", "1.33"), ("1.31", "1.33")], ids="-".join)
def two_loops(request):
    """Two copies of one filter in a chain, which are two libraries to the loader."""
    libraries = [build("gcloop", sdk, copy=name) for sdk, name in zip(request.param, "ab", strict=True)]

    filters = [kit.go_filter(lib, "gcloop", name=f"loop{i}") for i, lib in enumerate(libraries)]
    reports = [report_listener(lib, f"report{i}") for i, lib in enumerate(libraries)]
    sluice = Proxy(config_of([go_listener("main", filters), *reports]))
    yield sluice
    stop(sluice)


def test_tight_loops_and_collections_in_two_runtimes(two_loops):
    """Each runtime stops its own loops by SIGURG, and has only one handler for it in the process.
    If the signal of one is lost, its collection never ends and its request gets no answer."""
    requests = 60

    def ask(number):
        path = "/sync" if number % 2 else "/later"
        with two_loops.connect("main", timeout_s=60) as client:
            return client.ask("GET", path)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for reply in pool.map(ask, range(requests)):
            assert reply.status == 200
            assert len(reply.all("x-gcloop")) == 2

    for i in (0, 1):
        report = kit.Reporter(two_loops.port(f"report{i}")).wait_until_collected()
        assert report["created"] == requests
        assert report["gc_cycles"] > 0
