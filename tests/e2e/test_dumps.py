"""What the proxy shows of its coroutines: by the admin, by SIGQUIT, to a debugger."""

import os
import pathlib
import re
import resource
import shutil
import signal
import subprocess
import threading

import pytest
from harness import ROOT, SLUICE, cluster, eventually, is_sanitized, listener, to

HEADER = re.compile(r"goroutine (\d+) \[([^\]]+)\]:")
PLACE = re.compile(r"\t(\S.*):(\d+) \+0x[0-9a-f]+")


def parse(text):
    """A dump as Go's tools read it: [(state, [functions], created by)] by number."""
    found = {}
    for entry in text.strip().split("\n\n"):
        header, *lines = entry.split("\n")
        number, state = HEADER.fullmatch(header).groups()
        assert number not in found, f"twice: {header}"
        functions, creator = [], None
        while lines:
            function = lines.pop(0)
            if "stack unavailable" in function:
                continue
            assert PLACE.fullmatch(lines.pop(0)), entry
            if function.startswith("created by "):
                creator = function.removeprefix("created by ")
            else:
                assert function.endswith("(...)"), entry
                functions.append(function.removesuffix("(...)"))
        found[number] = (state, functions, creator)
    return found


@pytest.fixture
def held(origins):
    """An origin that answers when the test says so."""

    class Held:
        def __init__(self):
            self.release = threading.Event()
            self.origin = origins(self._answer)

        def _answer(self, exchange):
            self.release.wait(20)
            exchange.reply(200)

    one = Held()
    yield one
    one.release.set()


@pytest.fixture
def edge(proxy, held):
    return proxy(
        [listener("edge", [to()])],
        [cluster("origin", held.origin.port)],
        flags=["--concurrency", "2"],
    )


# What waits for its origin, works for a request: which, and where it is with it.
LABELS = ' labels:{"listener": "edge", "virtual_host": "all", "route": "/*", "filter": "envoy.filters.http.router"}'


def waiting_for_upstream(dump):
    return [
        (state, functions)
        for state, functions, _ in dump.values()
        if "exchange_run" in functions and "admin_request" not in functions
    ]


def test_each_coroutine_is_shown_with_its_calls(edge, held):
    busy, idle = edge.connect(), edge.connect()
    busy.send("GET", "/")
    held.origin.wait_for_requests(1)

    dump = parse(edge.admin("/debug/pprof/goroutine?debug=2"))
    [(state, functions)] = waiting_for_upstream(dump)
    assert '"downstream"' in state
    assert state.endswith(LABELS)
    assert functions.index("socket_receive") < functions.index("exchange_run")
    [(asker, functions, creator)] = [one for one in dump.values() if "rt_dump" in one[1]]
    assert asker.startswith("blocking call, ")
    assert asker.endswith(' labels:{"listener": "admin", "filter": "admin"}')
    assert "page_goroutine" in functions
    assert creator == "start_serving"

    held.release.set()
    assert busy.read_reply().status == 200
    assert idle.ask("GET", "/").status == 200
    busy.close()
    idle.close()


def test_equal_stacks_are_counted(edge, held):
    clients = [edge.connect() for _ in range(5)]
    for client in clients:
        client.send("GET", "/")
    held.origin.wait_for_requests(5)
    text = edge.admin("/debug/pprof/goroutine?debug=1")
    assert re.match(r"goroutine profile: total \d+\n\d @ 0x", text)
    groups = text.split("\n\n")
    waiting = [group for group in groups if "\texchange_run+" in group and "admin" not in group]
    assert sum(int(re.search(r"^(\d+) @", group, re.M).group(1)) for group in waiting) == 5
    assert all(f"\n# {LABELS.strip().replace(':', ': ', 1)}\n# [" in group for group in waiting)
    held.release.set()
    for client in clients:
        assert client.read_reply().status == 200
        client.close()


def test_what_it_cannot_print_it_says(edge):
    assert "debug must be" in edge.admin("/debug/pprof/goroutine?debug=7")


def test_sigquit_writes_all_coroutines_to_the_log_and_goes_on(edge, held):
    busy, idle = edge.connect(), edge.connect()
    busy.send("GET", "/")
    held.origin.wait_for_requests(1)

    for turn in (1, 2):
        edge.process.send_signal(signal.SIGQUIT)
        eventually(
            lambda turn=turn: len(re.findall(r"\nexchange_run\(\.\.\.\)\n", edge.log())) == turn,
            what=f"dump {turn} in the log",
        )
    text = edge.log().rpartition("coroutines, as a signal asks:\n")[2]
    dump = text.partition("\n[")[0]  # the log goes on
    [(state, functions)] = waiting_for_upstream(parse(dump))
    assert "socket_receive" in functions

    held.release.set()
    assert busy.read_reply().status == 200
    assert idle.ask("GET", "/").status == 200
    busy.close()
    idle.close()


def test_dumps_under_load_break_nothing(edge, held):
    held.release.set()
    stop = threading.Event()
    failures = []

    def browse():
        with edge.connect() as client:
            while not stop.is_set():
                if client.ask("GET", "/").status != 200:
                    failures.append("a request failed")

    clients = [threading.Thread(target=browse) for _ in range(4)]
    for client in clients:
        client.start()
    try:
        for _ in range(20):
            parse(edge.admin("/debug/pprof/goroutine?debug=2"))
            edge.admin("/debug/pprof/goroutine?debug=1")
            edge.process.send_signal(signal.SIGQUIT)
    finally:
        stop.set()
        for client in clients:
            client.join()
    assert not failures


# ---- In a debugger ----

GDB_SCRIPT = ROOT / "packaging" / "gdb" / "sluice-gdb.py"
LINE = re.compile(r' *(\d+) P ([-\d]+) +\[([^\]]+)\] "([^"]+)" 0x[0-9a-f]+ in (\S+)')


def gdb(*args):
    commands = ["info coroutines", "coroutine all bt", "coroutine 99999 bt"]
    done = subprocess.run(
        ["gdb", "-nx", "-batch", *args, "-ex", f"source {GDB_SCRIPT}"]
        + [word for command in commands for word in ("-ex", command)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=250,
        env={**os.environ, "DEBUGINFOD_URLS": ""},
    )
    if "Operation not permitted" in done.stderr:
        pytest.skip("this place lets nobody trace a process")
    return done


PLAIN_LABELS = " listener=edge virtual_host=all route=/* filter=envoy.filters.http.router"


def check_gdb(done):
    assert "no coroutine 99999" in done.stderr, done.stderr
    listed = [LINE.match(line) for line in done.stdout.splitlines() if LINE.match(line)]
    # An admin connection of a moment ago may still be there.
    [waiting] = [one for one in listed if one.string.endswith(PLAIN_LABELS)]
    assert waiting.group(4) == "downstream"
    number, p, state, _, _ = waiting.groups()
    assert p in "01"
    assert f"\n{len(listed)} coroutines\n" in done.stdout
    header = f'coroutine {number} [{state}] "downstream"{PLAIN_LABELS}\n'
    trace = done.stdout.partition(header)[2].partition("\n\n")[0]
    functions = re.findall(r"^#\d+ +0x[0-9a-f]+ in .*?(\w+) \(\)(?: at \S+:\d+)?$", trace, re.M)
    assert functions.index("socket_receive") < functions.index("exchange_run"), trace
    assert functions[-1] == "g_main"
    assert re.search(r"poll_wait_re\w+ \(\) at \S*poll\w*\.c:\d+\n", trace)


def core_file(process):
    """Where the kernel leaves the core of this process, if that is a plain file beside it."""
    pattern = pathlib.Path("/proc/sys/kernel/core_pattern").read_text().strip()
    if not re.fullmatch(r"[\w.-]*(%p)?", pattern):
        pytest.skip(f"cores go elsewhere here: {pattern}")
    name = pattern.replace("%p", str(process.pid))
    if name == pattern and pathlib.Path("/proc/sys/kernel/core_uses_pid").read_text() != "0\n":
        name = f"{name}.{process.pid}"
    return pathlib.Path(os.readlink(f"/proc/{process.pid}/cwd"), name)


@pytest.mark.skipif(is_sanitized(), reason="gdb is asked about the plain build")
@pytest.mark.skipif(not shutil.which("gdb"), reason="there is no gdb here")
def test_gdb_shows_the_coroutines_of_a_live_process_and_of_a_core(edge, held):
    with edge.connect() as client:
        client.send("GET", "/")
        held.origin.wait_for_requests(1)
        check_gdb(gdb("-p", str(edge.process.pid)))
        assert edge.admin("/ready") == "LIVE\n"  # it goes on

        core = core_file(edge.process)
        if core.exists():
            pytest.skip(f"{core} is somebody's")
        resource.prlimit(edge.process.pid, resource.RLIMIT_CORE, (resource.RLIM_INFINITY,) * 2)
        edge.process.send_signal(signal.SIGABRT)
        edge.process.wait(20)
    try:
        check_gdb(gdb(SLUICE, str(core)))
    finally:
        core.unlink()
