"""Who holds the memory of a proxy at work, as Go's own tools read it."""

import os
import re
import signal
import subprocess
import threading
import urllib.error
import urllib.request

import pytest
from go_support import Proxy, config_of, go_listener, kit, stop
from harness import cluster, direct, eventually, is_sanitized, listener, run, to
from test_admin import ask, status_of
from test_pools import HTTP
from test_profiles import GO, ROUTER, Profile, check_flame, tags

from build import build

EVERY = ["--heap-profile-rate", "1"]  # every allocation: nothing is left to chance
# What a request that waits for its answer holds at least: a block for its head, one for its arena.
PER_REQUEST = 2 * 16384

needs_malloc = pytest.mark.skipif(is_sanitized(), reason="the sanitizer's malloc is not sampled")


class Heap(Profile):
    """A heap profile, and its sums."""

    def columns(self):
        """The names of the values, and which is the default."""
        [line] = re.findall(r"^Samples:\n(.+)$", self.ask("-raw"), re.M)
        return line.split()

    def bytes(self, kind="inuse_space", *flags):
        """{function: (flat, cumulative)} in bytes."""
        return self.top(f"-sample_index={kind}", "-unit=B", *flags)

    def top(self, *flags):
        found = {}
        flags = ["-top", "-nodecount=10000", "-nodefraction=0", *flags]
        for line in self.ask(*flags).splitlines():
            row = re.fullmatch(r" *(-?\d+)B? +\S+% +\S+% +(-?\d+)B? +\S+% +(.+?)(?: \(inline\))?", line)
            if row:
                found[row[3]] = int(row[1]), int(row[2])
        return found

    def sum(self, kind="inuse_space", *flags):
        return sum(flat for flat, _ in self.bytes(kind, *flags).values())

    def comments(self):
        return self.ask("-comments")

    @property
    def cycle(self):
        return int(re.search(r"cycle (\d+)", self.comments())[1])


def heap(edge, folder, query="gc=1", kind="heap"):
    folder.mkdir(exist_ok=True)
    return Heap(edge, f"/debug/pprof/{kind}?{query}", folder)


def cum(top, function):
    return top.get(function, (0, 0))[1]


@pytest.fixture
def held(proxy, origins):
    """A proxy that samples all, and requests whose bodies it holds until they are let go."""
    go_on = threading.Event()

    def answer(exchange):
        if exchange.request.path == "/hold":
            go_on.wait()
        exchange.request.read_body()
        exchange.reply(200, b"read")

    origin = origins(answer)
    once = {HTTP: {"max_requests_per_connection": 1}}  # so that nothing stays behind in a pool
    edge = proxy(
        [listener("edge", [direct(200, "hi", "/hi"), to(timeout="0s")])],
        [cluster("origin", origin.port, **once)],
        flags=EVERY,
    )
    made = Held(edge, origin, go_on)
    yield made
    made.let_go()


class Held:
    def __init__(self, edge, origin, go_on):
        self.edge, self.origin, self.go_on, self.clients = edge, origin, go_on, []

    def hold(self, count):
        for _ in range(count):
            client = self.edge.connect()
            client.send("GET", "/hold", headers=[("x-filler", "y" * 6000)])
            self.clients.append(client)
        self.edge.wait_for_stat("http.edge.downstream_rq_active", len(self.clients))
        self.origin.wait_for_requests(len(self.clients))

    def let_go(self):
        self.go_on.set()
        for client in self.clients:
            client.read_reply()
            client.close()
        self.clients = []
        self.edge.wait_for_stat("listener.127.0.0.1_" + str(self.edge.port()) + ".downstream_cx_active", 0)


# ---- What go tool pprof reads -------------------------------------------------


@needs_malloc
def test_a_heap_profile_has_what_gos_have(held, tmp_path):
    held.hold(3)
    profile = heap(held.edge, tmp_path)
    assert profile.columns() == [
        "alloc_objects/count",
        "alloc_space/bytes",
        "inuse_objects/count",
        "inuse_space/bytes[dflt]",
    ]
    raw = profile.ask("-raw")
    assert "PeriodType: space bytes" in raw
    assert "Period: 1\n" in raw
    assert re.search(r"src/\w+/\w+\.c:\d+", raw)
    assert "sampled: one byte in 1 on average" in profile.comments()
    assert profile.bytes() == profile.top("-unit=B")  # the default
    # Whoever allocates is the caller of malloc, never the profiler itself.
    assert not re.search(r" src/heap/\w+\.c:", raw)
    # Nothing is in use that was not allocated.
    for values in re.findall(r"^ +(\d+) +(\d+) +(\d+) +(\d+): ", raw, re.M):
        allocated_objects, allocated, objects, in_use = map(int, values)
        assert allocated_objects >= objects > 0 or objects == in_use == 0
        assert allocated >= in_use


def fetched(url):
    """None as long as nobody listens there."""
    try:
        with urllib.request.urlopen(url, timeout=60) as reply:
            return reply.read().decode()
    except urllib.error.URLError:
        return None


@needs_malloc
def test_gos_pages_show_it(held, tmp_path):
    """What people see of `go tool pprof -http`."""
    held.hold(3)
    profile = heap(held.edge, tmp_path)
    profile.ask("-top")  # there is a Go, and it has compiled the tool
    command = [GO, "tool", "pprof", "-http=127.0.0.1:", "-no_browser", str(profile.path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as shown:
        try:
            [where] = re.findall(r"http://\S+", shown.stderr.readline())
            for page in ("flamegraph", "top"):
                body = eventually(lambda page=page: fetched(f"{where}/ui/{page}"))
                assert "inuse_space" in body
                assert "serve_one" in body
        finally:
            os.killpg(shown.pid, signal.SIGTERM)  # `go tool` and the tool that it started


@needs_malloc
def test_who_looks_is_not_who_holds_most(held, tmp_path):
    """Reading names and lines of all that is loaded takes tens of megabytes, which go again."""
    assert "labels" in ask(held.edge, "/debug/pprof/heap?debug=1&gc=1").body
    assert status_of(held.edge, "/debug/pprof/goroutine?debug=2") == 200
    assert status_of(held.edge, "/debug/flame?profile=allocs") == 200
    profile = heap(held.edge, tmp_path)
    assert cum(profile.bytes("alloc_space"), "find_locked") > 1 << 20
    assert cum(profile.bytes("inuse_space"), "find_locked") < 1 << 20


@needs_malloc
def test_allocs_shows_the_same_by_another_default(held, tmp_path):
    held.hold(2)
    one, other = heap(held.edge, tmp_path / "h"), heap(held.edge, tmp_path / "a", "debug=0", "allocs")
    assert other.columns()[1] == "alloc_space/bytes[dflt]"
    if one.cycle == other.cycle:
        assert one.bytes() == other.bytes()


def test_between_cycles_nothing_changes(held, tmp_path):
    """A reading is of the last closed cycle: what happens until the next one is not in it."""

    def two_of_one_cycle():
        before = heap(held.edge, tmp_path / "before")
        for _ in range(5):
            assert held.edge.get("/hi").status == 200
        after = heap(held.edge, tmp_path / "after", "debug=0")
        return before.cycle == after.cycle and (before, after)  # they close by themselves, too

    before, after = eventually(two_of_one_cycle, timeout_s=60)
    assert before.bytes() == after.bytes()
    assert before.bytes("alloc_space") == after.bytes("alloc_space")


# ---- Who holds, since when, and who only makes garbage ----------------------------


def test_what_requests_hold_is_told_with_their_listener(held, tmp_path):
    base = heap(held.edge, tmp_path / "base")
    held.hold(8)
    profile = heap(held.edge, tmp_path / "held")
    ours = profile.sum("inuse_space", "-tagfocus=listener=edge")
    assert ours > 8 * PER_REQUEST
    tags = profile.ask("-tags")
    assert re.search(r"listener: Total", tags)
    assert re.search(r": edge$", tags, re.M)
    # The difference names who holds it and how much; nothing else has grown so.
    grown = profile.ask("-top", "-unit=B", "-nodefraction=0", f"-base={base.path}", "-tagfocus=listener=edge")
    assert "serve" in grown
    held.let_go()

    def let_go_of():
        after = heap(held.edge, tmp_path / "after")
        return after.sum("inuse_space", "-tagfocus=listener=edge") < ours / 2

    eventually(let_go_of)  # its connections upstream are closed a little later


def test_what_requests_hold_is_told_with_route_and_filter(proxy, origins, tmp_path):
    """Whoever has half an answer holds the block that it is in, which the router took for one of two routes."""
    go_on = threading.Event()

    def hold(exchange):
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n")
        go_on.wait(60)
        exchange.send(b"\r\nlate")

    origin = origins(hold)
    routes = [{**to(prefix="/api"), "name": "api"}, to(match={"path": "/rest"})]
    edge = proxy([listener("edge", routes)], [cluster("origin", origin.port)], flags=EVERY)
    clients = [edge.connect() for _ in range(3)]
    try:
        for client, path in zip(clients, ("/api/1", "/api/2", "/rest"), strict=True):
            client.send("GET", path)
        origin.wait_for_requests(3)
        eventually(
            lambda: tags_of(edge, tmp_path).get("route") == {"api": 2, "/rest": 1},
            what="a block for each answer, with its route",
        )
        assert tags_of(edge, tmp_path)["filter"][ROUTER] >= 3
    finally:
        go_on.set()
        for client in clients:
            client.read_reply()
            client.close()


def tags_of(edge, folder):
    """What block_get handed out and nobody gave back, counted by label."""
    profile = heap(edge, folder)
    return tags(profile, "-sample_index=inuse_objects", "-focus=inbuf_room")


def test_what_is_old_is_told_apart(held, tmp_path):
    held.hold(4)
    old = heap(held.edge, tmp_path, "min_age=1h")
    assert old.columns() == ["inuse_objects/count", "inuse_space/bytes[dflt]"]
    assert old.sum() == 0
    assert "in use for 3600 s or longer" in old.comments()

    def aged():
        profile = heap(held.edge, tmp_path, "min_age=0.5s")
        return profile.sum("inuse_space", "-tagfocus=listener=edge") > 4 * PER_REQUEST

    eventually(aged)
    fresh = heap(held.edge, tmp_path, "min_age=1h30m")
    assert fresh.sum() == 0


@needs_malloc
def test_garbage_is_in_the_last_cycle_and_not_in_use(held, tmp_path):
    """Each page of the admin is made in memory that is free again when it was sent."""

    page = "-focus=page_stats"

    def made_garbage():
        assert status_of(held.edge, "/stats") == 200
        profile = heap(held.edge, tmp_path / "cycle", "cycles=1&gc=1", "allocs")
        is_made = cum(profile.bytes("alloc_space", page), "text_put") > 0
        # The answer may be here before the proxy has freed what it was made in.
        return is_made and cum(profile.bytes("inuse_space", page), "text_put") == 0 and profile

    profile = eventually(made_garbage, timeout_s=60)  # a cycle may close in between
    assert re.search(r"Duration: \d", profile.ask("-raw"))
    # A cycle in which nobody asks for it has none of it; since the start it is there.
    heap(held.edge, tmp_path / "between")
    quiet = heap(held.edge, tmp_path / "quiet", "cycles=1&gc=1", "allocs")
    assert cum(quiet.bytes("alloc_space", page), "text_put") == 0
    since = heap(held.edge, tmp_path / "since", "gc=1", "allocs")
    assert cum(since.bytes("alloc_space", page), "text_put") > 0


def test_a_difference_has_what_came_and_not_what_was_there(held, tmp_path):
    def is_watched():
        return "while the heap is watched" in ask(held.edge, "/debug/pprof/goroutine?debug=1").body

    def hold_meanwhile(seconds):
        """None when the machine was too slow for that."""
        held.hold(3)
        before = heap(held.edge, tmp_path / "before").sum("inuse_space", "-tagfocus=listener=edge")
        answers = []
        query = f"seconds={seconds}"
        thread = threading.Thread(target=lambda: answers.append(heap(held.edge, tmp_path / "difference", query)))
        thread.start()
        eventually(is_watched)
        held.hold(6)
        is_within = is_watched()
        thread.join(60)
        return is_within and (before, *answers)

    before, difference = next(seen for seen in map(hold_meanwhile, (3, 10, 30)) if seen)
    came = difference.sum("inuse_space", "-tagfocus=listener=edge")
    assert 6 * PER_REQUEST < came
    # What was there before is not in it.
    all_of_it = heap(held.edge, tmp_path / "all").sum("inuse_space", "-tagfocus=listener=edge")
    assert abs(all_of_it - before - came) < 3 * PER_REQUEST
    assert re.search(r"Duration: [1-9]", difference.ask("-raw"))


# ---- As text -------------------------------------------------------------------


def test_the_text_is_for_people_and_for_go_tool_pprof(held, tmp_path):
    held.hold(3)
    text = ask(held.edge, "/debug/pprof/heap?debug=1&gc=1")
    assert text.headers["content-type"].startswith("text/plain")
    head = re.match(r"heap profile: (\d+): (\d+) \[(\d+): (\d+)\] @ heapprofile\n", text.body)
    records = re.findall(r"^(\d+): (\d+) \[(\d+): (\d+)\] @", text.body, re.M)
    assert [sum(map(int, column)) for column in zip(*records, strict=True)][:2] == [int(head[1]), int(head[2])]
    sizes = [int(record[1]) for record in records]
    assert sizes == sorted(sizes, reverse=True)
    assert re.search(r"^#\t0x[0-9a-f]+\t\w+\+0x[0-9a-f]+\tsrc/\w+/\w+\.c:\d+$", text.body, re.M)
    assert '#\tlabels: {"listener": "edge"' in text.body
    read = Heap.of_bytes(text.body.encode(), tmp_path / "text")
    assert read.sum("inuse_space") == int(head[2])


# ---- How much is sampled ----------------------------------------------------------


def rate(edge):
    return int(ask(edge, "/debug/pprof/rate").body)


def test_the_rate_is_gos_unless_told(proxy):
    assert rate(proxy([listener("edge", [direct(200)])])) == 512 * 1024


def test_a_flag_wins_over_the_environment(proxy):
    by_env = {"SLUICE_HEAP_PROFILE_RATE": "65536"}
    assert rate(proxy([listener("edge", [direct(200)])], env=by_env)) == 65536
    assert rate(proxy([listener("edge", [direct(200)])], env=by_env, flags=EVERY)) == 1


@pytest.mark.parametrize("value", ["-1", "x", "", "1e6", "99999999999999"])
def test_a_rate_that_makes_no_sense_is_refused(value):
    done = run("--heap-profile-rate", value, config=config_of([listener("edge", [direct(200)])]))
    assert done.returncode == 1
    assert "--heap-profile-rate" in done.stderr
    assert "must be a number of bytes" in done.stderr


def test_a_profile_that_is_off_says_how_to_switch_it_on(proxy, tmp_path):
    edge = proxy([listener("edge", [direct(200)])], flags=["--heap-profile-rate", "0"])
    for path in ("/debug/pprof/heap", "/debug/pprof/allocs?debug=1", "/debug/flame?profile=heap"):
        answer = ask(edge, path)
        assert answer.status == 409
        assert "/debug/pprof/rate?bytes=524288" in answer.body
        assert "--heap-profile-rate" in answer.body
    assert ask(edge, "/debug/pprof/rate?bytes=1").status == 405
    answer = ask(edge, "/debug/pprof/rate?bytes=1", "POST")
    assert (answer.status, answer.body) == (200, "1\n")

    def has_samples():
        edge.get("/")
        return status_of(edge, "/debug/pprof/heap?gc=1") == 200 and heap(edge, tmp_path).sum("alloc_space") > 0

    eventually(has_samples, timeout_s=60)
    # Off again: what was sampled stays.
    assert ask(edge, "/debug/pprof/rate?bytes=0", "POST").body == "0\n"
    assert "sampling is off" in heap(edge, tmp_path).comments()


@pytest.mark.parametrize("value", ["", "x", "-1", "99999999999999"])
def test_a_wrong_rate_changes_nothing(held, value):
    answer = ask(held.edge, f"/debug/pprof/rate?bytes={value}", "POST")
    assert answer.status == 400
    assert "524288 is usual" in answer.body
    assert rate(held.edge) == 1


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("heap?debug=2", "debug must be 0"),
        ("heap?debug=x", "debug must be 0"),
        ("heap?gc=yes", "gc must be 1"),
        ("heap?min_age=10", "like 10m"),
        ("heap?min_age=", "like 10m"),
        ("heap?min_age=-5m", "like 10m"),
        ("heap?min_age=1.2.3s", "like 10m"),
        ("heap?min_age=5x", "like 10m"),
        ("heap?min_age=0s", "like 10m"),
        ("heap?cycles=1", "/debug/pprof/allocs"),
        ("heap?seconds=0", "between 1 and 120"),
        ("heap?seconds=121", "between 1 and 120"),
        ("heap?seconds=1&debug=1", "without debug"),
        ("allocs?cycles=2", "cycles must be 1"),
        ("allocs?cycles=1&seconds=1", "without debug"),
        ("allocs?min_age=1m", "/debug/pprof/heap"),
    ],
)
def test_a_wrong_question_is_told_the_right_one(held, path, says):
    answer = ask(held.edge, f"/debug/pprof/{path}")
    assert answer.status == 400
    assert says in answer.body


# ---- The flame graph ---------------------------------------------------------------


def test_the_flame_graph_has_memory_with_labels(held):
    held.hold(3)
    data = ask(held.edge, "/debug/flame?profile=heap&gc=1").json()
    functions = check_flame(data, coroutines=False)
    assert data["unit"] == "bytes"
    assert "downstream_serve" in functions
    assert "edge" in {labels.get("listener") for _, _, labels, *_ in data["stacks"]}
    assert "sampled: one byte in 1 on average\n" in data["notes"]
    allocated = ask(held.edge, "/debug/flame?profile=allocs").json()
    assert sum(count for count, *_ in allocated["stacks"]) >= sum(count for count, *_ in data["stacks"])
    cycle = ask(held.edge, "/debug/flame?profile=cycle&gc=1").json()
    assert cycle["duration_ns"] > 0
    assert ask(held.edge, "/debug/flame?profile=heap&min_age=1h").json()["stacks"] == []
    assert ask(held.edge, "/debug/flame?profile=heap&min_age=x").status == 400
    assert ask(held.edge, "/debug/flame?profile=heap&seconds=1").status == 400


# ---- Go libraries -------------------------------------------------------------------

MIB = 1 << 20


def filter_named(library_id, library, plugin):
    made = kit.go_filter(library, plugin)
    made["typed_config"]["library_id"] = library_id
    return made


@pytest.fixture
def go_edge():
    """Three Go runtimes in one process: two that tell of their heaps, and one that does not."""
    filters = [
        filter_named("first", build("gcloop"), "gcloop"),
        filter_named("silent", build("basic"), "passthrough"),
    ]
    others = [filter_named("second", build("gcloop", copy="a"), "gcloop")]
    made = Proxy(config_of([go_listener("main", filters), go_listener("other", others)]))
    yield made
    stop(made)


def sizes_in(comments):
    found = re.findall(r"heap of (\w+) \(Go\): (\d+) bytes in memory", comments)
    return {library: int(size) for library, size in found}


def test_go_libraries_tell_who_holds_what(go_edge, tmp_path):
    before = heap(go_edge, tmp_path / "before")
    assert go_edge.get("/hold=24", listener="main").body == b"24 MiB held"
    assert go_edge.get("/hold=7", listener="other").body == b"7 MiB held"
    after = heap(go_edge, tmp_path / "after")

    # What each holds is in the one profile, by their labels and by Go's names.
    for library, size in (("first", 24), ("second", 7)):
        top = after.bytes("inuse_space", f"-tagfocus=library=^{library}$")
        assert abs(cum(top, "main.hold") - size * MIB) < MIB
    assert re.search(r"main\.hold .*/gcloop/heap\.go:\d+", after.ask("-raw"))
    # ... and is the difference of two.
    grown = after.bytes("inuse_space", f"-base={before.path}", "-focus=main.hold")
    assert abs(cum(grown, "main.hold") - 31 * MIB) < 2 * MIB

    # The third says nothing: it is one line with its size.
    [size, _] = after.bytes("inuse_space")["heap of silent (Go)"]
    assert 100_000 < size < 16 * MIB
    assert "heap of first (Go)" not in after.bytes("inuse_space")

    # Each arena has its owner, although all of them have the same code.
    old, new = sizes_in(before.comments()), sizes_in(after.comments())
    assert set(old) == set(new) == {"first", "second", "silent"}
    assert abs(new["first"] - old["first"] - 24 * MIB) < 4 * MIB
    assert abs(new["second"] - old["second"] - 7 * MIB) < 4 * MIB
    assert abs(new["silent"] - old["silent"]) < 4 * MIB

    text = go_edge.admin("/debug/pprof/heap?debug=1")
    assert re.search(r"^#\t0x[0-9a-f]+\tmain\.hold\+0\t\S+/heap\.go:\d+$", text, re.M)
    assert '#\tlabels: {"library": "first"}' in text
    data = ask(go_edge, "/debug/flame?profile=heap").json()
    assert {"first", "second", "silent"} <= {labels.get("library") for _, _, labels, *_ in data["stacks"]}


def test_what_go_does_not_tell_is_said(go_edge, tmp_path):
    for query, kind in (("min_age=1s", "heap"), ("cycles=1", "allocs")):
        profile = heap(go_edge, tmp_path, query, kind)
        assert "without the heaps of Go libraries" in profile.comments()
        assert not [name for name in profile.bytes("inuse_space") if name.startswith("heap of")]


def test_a_stripped_library_has_its_names(tmp_path):
    """They are Go's own words, not what is left in the file."""
    edge = Proxy(config_of([go_listener("main", [filter_named("bare", build("gcloop", strip=True), "gcloop")])]))
    assert edge.get("/hold=8").status == 200
    assert abs(cum(heap(edge, tmp_path).bytes("inuse_space"), "main.hold") - 8 * MIB) < MIB
    stop(edge)
