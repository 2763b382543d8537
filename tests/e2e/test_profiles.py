"""Profiles as Go's own tools read them, taken of a proxy at work."""

import contextlib
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import threading

import pytest
from harness import access_log, cluster, direct, eventually, listener, to
from test_admin import ask, status_of, statuses_of_two_at_once
from test_trace import Traffic

GO = os.environ.get("SLUICE_GO", "go")


class Profile:
    """A profile of the admin, and what `go tool pprof` says of it."""

    def __init__(self, edge, path, folder):
        self.status, self.type, body = ask(
            edge,
            path,
            read=lambda reply: (reply.status, reply.headers["content-type"], reply.read()),
            timeout_s=40,
        )
        assert self.status == 200, body
        assert self.type == "application/octet-stream"
        self.path = folder / "profile"
        self.path.write_bytes(body)

    @classmethod
    def of_bytes(cls, body, path):
        """One that came another way."""
        made = cls.__new__(cls)
        made.path = path
        made.path.write_bytes(body)
        return made

    def ask(self, *flags):
        if not shutil.which(GO):
            pytest.skip("no Go here")
        env = {**os.environ, "PPROF_TMPDIR": str(self.path.parent)}
        # The first call on a machine compiles the tool, which takes a slow one minutes.
        command = [GO, "tool", "pprof", *flags, str(self.path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=280, env=env)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def top(self, *flags):
        """{function: (flat, cumulative)} in samples or coroutines."""
        found = {}
        flags = ["-top", "-nodecount=10000", "-nodefraction=0", "-sample_index=0", *flags]
        for line in self.ask(*flags).splitlines():
            row = re.fullmatch(r" *(\d+) +\S+% +\S+% +(\d+) +\S+% +(\S+)(?: \(inline\))?", line)
            if row:
                found[row[3]] = int(row[1]), int(row[2])
        return found


@pytest.fixture
def edge(proxy, origin):
    return proxy([listener("edge", [direct(200, "hi", "/hi"), to()])], [cluster("origin", origin.port)])


@pytest.mark.parametrize("query", ["", "?debug=0"])
def test_the_goroutine_profile_is_what_go_tool_pprof_reads(edge, tmp_path, query):
    profile = Profile(edge, f"/debug/pprof/goroutine{query}", tmp_path)
    top = profile.top()
    assert top["page_goroutine"][1] == 1  # who asks
    raw = profile.ask("-raw")
    assert "PeriodType: goroutine count" in raw
    assert re.search(r"coroutine:\[\S.*\]", raw)
    assert re.search(r"state:\[blocking call\]", raw)
    # Lines, and what is loaded with its build id.
    assert re.search(r"page_goroutine src/admin/profile_page\.c:\d+", raw)
    exe = os.readlink(f"/proc/{edge.process.pid}/exe")
    loaded = rf"\d+: 0x[0-9a-f]+/0x[0-9a-f]+/0x[0-9a-f]+ {re.escape(exe)} [0-9a-f]{{16,}}"
    assert re.search(loaded + r" \[FN\]\[FL\]\[LN\]\[IN\]", raw)


# ---- Labels ----


def tags(profile, *flags):
    """{key: {value: samples}}, as `go tool pprof -tags` counts them."""
    found, of_key = {}, {}
    for line in profile.ask("-tags", "-sample_index=0", *flags).splitlines():
        if key := re.fullmatch(r" *(\w+): Total .*", line):
            of_key = found.setdefault(key[1], {})
        elif value := re.fullmatch(r" *(\d+)(?:\.0)? +\( *\S+%\): (.*)", line):
            of_key[value[2]] = int(value[1])
    return found


ROUTER = "envoy.filters.http.router"


def test_samples_say_whose_request_they_are_of(proxy, origin, tmp_path):
    """Two routes, one with a name; the processor time of each is told apart, and the filter's within."""
    routes = [{**to(prefix="/api"), "name": "api"}, to(match={"path": "/"})]
    hosts = [{"name": "shop", "domains": ["*"], "routes": routes}]
    edge = proxy([listener("edge", hosts=hosts)], [cluster("origin", origin.port)])

    def look():
        """On a machine that does much else a route may have had no processor at a sample's time."""
        seen = tags(Profile(edge, "/debug/pprof/profile?seconds=3", tmp_path))
        return seen if len(seen.get("route", ())) > 1 and ROUTER in seen["filter"] else None

    with Traffic(edge, "/api/1") as api, Traffic(edge, "/") as rest:
        found = eventually(look, timeout_s=60, what="samples of both routes")
    assert api.count > 0
    assert rest.count > 0
    assert set(found["route"]) == {"api", "/"}
    assert min(found["route"].values()) > 0
    assert set(found["virtual_host"]) == {"shop"}
    assert {"edge"} <= set(found["listener"]) <= {"edge", "admin"}
    assert ROUTER in found["filter"]
    # Serving is not all for a route that is known, nor in a filter, which may be made before the route is found.
    assert sum(found["route"].values()) <= found["coroutine"]["downstream"]
    assert found["filter"][ROUTER] <= found["coroutine"]["downstream"]


def test_coroutines_that_wait_say_for_whose_request(proxy, origins, tmp_path):
    release = threading.Event()

    def hold(exchange):
        release.wait(20)
        exchange.reply(200)

    origin = origins(hold)
    named = {**to(match={"safe_regex": {"regex": "/[a-z]+"}}), "name": ""}
    routes = [{**to(prefix="/api"), "name": "api"}, named, to(match={"path_separated_prefix": "/1"})]
    edge = proxy([listener("edge", routes)], [cluster("origin", origin.port)])
    with contextlib.ExitStack() as clients:
        for path in ("/api/1", "/api/2", "/x", "/1/2"):
            client = clients.enter_context(edge.connect())
            client.send("GET", path)
        origin.wait_for_requests(4)
        found = tags(Profile(edge, "/debug/pprof/goroutine", tmp_path))
        release.set()
    assert found["route"] == {"api": 2, "~/[a-z]+": 1, "/1/*": 1}
    assert found["virtual_host"] == {"all": 4}
    assert found["filter"] == {ROUTER: 4, "admin": 1}
    assert found["listener"] == {"edge": 4, "admin": 1}


# ---- CPU ----


def timers(edge):
    return pathlib.Path(f"/proc/{edge.process.pid}/timers").read_text().count("ID: ")


def test_a_profile_under_load_shows_who_works(edge, tmp_path):
    def look():
        """A proxy under load is in these, and works for its connection, if it had a processor at a sample's time."""
        profile = Profile(edge, "/debug/pprof/profile?seconds=3", tmp_path)
        assert timers(edge) == 0  # it is silent again
        top = profile.top()
        seen = "g_main" in top and any(name in top for name in ("exchange_run", "sched_loop"))
        return profile if seen and "coroutine:[downstream]" in profile.ask("-raw") else None

    with Traffic(edge) as traffic:
        profile = eventually(look, timeout_s=60, what="samples of its work")
    assert traffic.count > 0
    assert profile.top()["g_main"][1] > 0
    raw = profile.ask("-raw")
    assert "PeriodType: cpu nanoseconds" in raw
    assert "Period: 10000000" in raw
    assert re.search(r"Duration: 3\.\d", raw)
    for count, ns in re.findall(r"^ +(\d+) +(\d+): (?:\d+ )+$", raw, re.M):
        assert int(ns) == int(count) * 10_000_000
    assert profile.ask("-comments").strip() == ""


def test_the_thread_that_writes_access_logs_is_profiled_too(proxy, tmp_path):
    logs = {"access_log": [access_log(tmp_path / "access.log")]}
    edge = proxy([listener("edge", [direct(200)], hcm=logs)])
    process = pathlib.Path(f"/proc/{edge.process.pid}")
    [writer] = [task.name for task in (process / "task").iterdir() if (task / "comm").read_text() == "access-log\n"]
    taking = threading.Thread(target=Profile, args=(edge, "/debug/pprof/profile?seconds=1", tmp_path))
    taking.start()
    eventually(lambda: f"/tid.{writer}\n" in (process / "timers").read_text())
    # Its signals get through, which it blocks but for this one.
    blocked = int(re.search(r"SigBlk:\s+(\w+)", (process / "task" / writer / "status").read_text())[1], 16)
    assert blocked >> (signal.SIGRTMAX - 4 - 1) & 1 == 0
    assert blocked >> (signal.SIGTERM - 1) & 1 == 1
    taking.join(20)
    assert timers(edge) == 0


def test_one_profile_at_a_time(edge):
    assert statuses_of_two_at_once(edge, "/debug/pprof/profile?seconds=1") == [200, 409]
    assert status_of(edge, "/debug/pprof/profile?seconds=1") == 200


@pytest.mark.parametrize("seconds", ["0", "121", "-1", "1.5", "x", ""])
def test_a_profile_of_no_sensible_length_is_refused(edge, seconds):
    assert ask(edge, f"/debug/pprof/profile?seconds={seconds}").status == 400


def test_a_client_that_leaves_ends_its_profile(edge):
    host, _, port = edge.admin_path.read_text().rpartition(":")
    with socket.create_connection((host, int(port)), 20) as client:
        client.sendall(b"GET /debug/pprof/profile?seconds=60 HTTP/1.1\r\nhost: admin\r\n\r\n")
        eventually(lambda: "while a profile is taken" in ask(edge, "/debug/pprof/goroutine?debug=1").body)
        assert timers(edge) > 0
        assert ask(edge, "/debug/pprof/profile").status == 409
    eventually(lambda: timers(edge) == 0)
    assert status_of(edge, "/debug/pprof/profile?seconds=1") == 200


# ---- The flame graph ----


def check_flame(data, coroutines=True):
    for count, coroutine, labels, *addresses in data["stacks"]:
        assert count > 0
        assert all(isinstance(value, str) for value in labels.values())
        assert bool(coroutine) == coroutines
        assert all(data["frames"][str(address)] for address in addresses)
    assert len(data["frames"]) == len({a for _, _, _, *stack in data["stacks"] for a in stack})
    return {name for frames in data["frames"].values() for name, _ in frames}


def test_the_flame_graph_has_both_profiles(edge):
    page = ask(edge, "/flame")
    assert page.status == 200
    assert page.headers["content-type"].startswith("text/html")
    assert not re.search(r"(src|href)=\"(https?:)?//", page.body)  # nothing from elsewhere

    data = ask(edge, "/debug/flame?profile=goroutine").json()
    functions = check_flame(data)
    assert (data["unit"], data["duration_ns"]) == ("coroutines", 0)
    assert {"page_flame_data", "g_main"} <= functions
    assert ["page_flame_data", "src/admin/profile_page.c"] in sum(data["frames"].values(), [])

    def look():
        """As above: a busy machine may have left it without a sample."""
        data = ask(edge, "/debug/flame?profile=cpu&seconds=2").json()
        return data if "downstream" in {coroutine for _, coroutine, *_ in data["stacks"]} else None

    with Traffic(edge):
        data = eventually(look, timeout_s=60, what="samples of a connection")
    assert "g_main" in check_flame(data)
    assert (data["unit"], data["lost"]) == ("ns", 0)
    assert data["duration_ns"] >= 2_000_000_000
    assert all(count % 10_000_000 == 0 for count, *_ in data["stacks"])
    assert timers(edge) == 0


@pytest.mark.parametrize("query", ["", "?profile=block", "?profile=cpu&seconds=0"])
def test_a_flame_graph_of_what_is_not_there_is_refused(edge, query):
    assert ask(edge, f"/debug/flame{query}").status == 400
