"""A process that dies of a fault leaves a report: what happened, where, for which filter and route; and the next one
says that there is one."""

import contextlib
import json
import os
import re
import signal

import kit
import pytest
from discovery_kit import Files
from harness import LogFile, Proxy, bootstrap, direct, eventually, is_sanitized, listener, router
from reload_support import Live
from tcp_support import connect, tcp_listener
from test_go_network import go_network
from test_native_filters import build as native_build  # noqa: F401
from test_native_filters import native
from test_supervise import SlowOrigin, Supervised, is_alive
from test_supervise import config as config_of_supervised

from build import build

in_process = pytest.mark.skipif("SLUICE_TEST_ISOLATION" in os.environ, reason="of a library in the proxy")


@pytest.fixture
def crashes(tmp_path):
    return tmp_path / "crashes"


def flags(crashes, *more):
    return ["--crash-dir", str(crashes), *more]


def reports(crashes):
    return sorted(crashes.glob("crash-*.txt"))


def the_report(crashes):
    [report] = reports(crashes)
    return report.read_text()


def plain(*more, **options):
    return Proxy(bootstrap([listener("main", [direct(200, "direct\n")])]), flags=more, **options)


def ends(edge, signo):
    """By the signal, after the report: who waits for it is to see that. A sanitizer has its own end."""
    status = edge.process.wait(60)
    assert status == -signo or (is_sanitized() and status != 0), edge.log()[-8000:]


def section(report, title):
    return report.partition(f"\n{title}")[2].partition("\n\n")[0]


@pytest.mark.parametrize("signo", [signal.SIGSEGV, signal.SIGABRT, signal.SIGTRAP])
def test_a_signal_leaves_a_report(crashes, signo):
    edge = plain(*flags(crashes))
    os.kill(edge.process.pid, signo)
    ends(edge, signo)
    [path] = reports(crashes)
    assert path.stat().st_mode & 0o777 == 0o600
    assert f"crash report: {path}" in edge.log()
    report = path.read_text()
    assert report.startswith(f"{signo.name}, sent by process {os.getpid()} of user {os.getuid()}\n")
    assert f"{signo.name}, code 0, sent by process {os.getpid()} of user {os.getuid()}\n" in report
    assert re.search(r"\nconfiguration  version \d+, hash [0-9a-f]{16}, by ", report)
    assert f"\nprocess        {edge.process.pid}, serving\n" in report
    assert re.search(r"#\d+ +0x[0-9a-f]+ rt_run at src/rt/rt\.c:\d+ \(\S*sluice\S*\+0x", report)
    assert re.search(r"\n  0x[0-9a-f]+ [0-9a-f]{40} \S*/libc\.so\.6\n", section(report, "what was loaded"))
    assert re.search(r"\nthread \d+, in the scheduler\n  #0 .*(epoll|io_uring)", report)  # the others


def test_the_next_start_says_so_once(crashes):
    first = plain(*flags(crashes))
    assert first.stat("server.crash_reports") == 0
    os.kill(first.process.pid, signal.SIGABRT)
    ends(first, signal.SIGABRT)
    [path] = reports(crashes)
    second = plain(*flags(crashes))
    said = f"the process before died: {path.read_text().splitlines()[0]}; report: {path}"
    assert said in second.log()
    assert second.stat("server.crash_reports") == 1

    page = json.loads(second.admin("/crashes?format=json"))
    assert page["dir"] == str(crashes)
    [entry] = page["crashes"]
    assert entry["file"] == path.name and entry["what"].startswith("SIGABRT, sent by ")
    assert second.admin(f"/crashes?file={path.name}") == path.read_text()
    assert path.name in second.admin("/crashes")
    assert "/crashes lists" in second.admin("/crashes?file=../bootstrap.yaml")
    second.stop()
    third = plain(*flags(crashes))
    assert "the process before died" not in third.log()
    third.stop()


# ---- the configuration


def ends_with(edge, crashes):
    """Its report, once it has died of SIGABRT."""
    os.kill(edge.process.pid, signal.SIGABRT)
    ends(edge, signal.SIGABRT)
    return the_report(crashes)


def test_it_says_which_configuration_was_in_force(crashes):
    edge = Live(bootstrap([listener("main", [direct(200, "direct\n")])]), flags=flags(crashes))
    edge.change(bootstrap([listener("other", [direct(200, "other\n")])]))
    now, before = edge.versions()[:2]
    report = ends_with(edge, crashes)
    assert f"\nconfiguration  version {now['version']}, hash {now['hash']}, by POST /config/reload\n" in report
    assert now["version"] == before["version"] + 1 and now["hash"] != before["hash"]
    assert "being built" not in report


def test_what_files_of_discovery_brought_is_in_its_hash(crashes, tmp_path):
    """Two processes with the same bootstrap and the same files have the same one, whatever they had before."""
    files = Files(tmp_path)
    files.listeners(listener("main", [direct(200, "one\n")]), version="1")
    files.clusters()
    edge = Live(files.bootstrap(), flags=flags(crashes))
    files.listeners(listener("main", [direct(200, "two\n")]), version="2")
    eventually(lambda: edge.versions()[0]["origin"] == "discovery", what="the file's second version")
    now = edge.versions()[0]
    assert now["hash"] != edge.versions()[1]["hash"]
    report = ends_with(edge, crashes)
    assert f"\nconfiguration  version {now['version']}, hash {now['hash']}, by discovery\n" in report

    other = Live(files.bootstrap())
    assert other.versions()[0]["hash"] == now["hash"]
    other.stop()


def dying_config(library):
    """Who makes a filter of it dies."""
    return bootstrap(
        [listener("main", [direct(200, "direct\n")], filters=[native(library, {"do": "abort"}), router()])]
    )


def of_building(report, version, who):
    """It died in the library's own function, and says of which configuration."""
    assert re.match(r"SIGABRT in configure at \S*zoo\.c:\d+ ", report), report
    assert re.search(rf"\n  being built  version {version}, by {who}, since \S+, \d+\.\d+ s before\n", report), report
    assert "in foreign code called by coroutine " in section(report, "thread ")


@in_process
def test_a_fault_while_a_configuration_is_built(native_build, crashes):  # noqa: F811
    """Aside, while the former one serves: the probe would have seen it, so there is none."""
    edge = Live(bootstrap([listener("main", [direct(200, "direct\n")])]), flags=flags(crashes, "--no-probe"))
    now = edge.versions()[0]["version"]
    edge.write(dying_config(native_build()))
    with pytest.raises(OSError):
        edge.ask_to_reload()
    ends(edge, signal.SIGABRT)
    report = the_report(crashes)
    assert report.splitlines()[0].endswith(f", while configuration version {now + 1} was being built")
    assert f"\nconfiguration  version {now}, hash " in report
    of_building(report, now + 1, "POST /config/reload")


@in_process
def test_a_fault_of_the_process_that_is_to_take_over(native_build, crashes):  # noqa: F811
    """It dies of its configuration; the one that serves goes on, and dies later of something else."""
    edge = Supervised(flags=flags(crashes, "--no-probe"))
    [first] = edge.workers()
    edge.change(dying_config(native_build()))
    edge.process.send_signal(signal.SIGUSR2)
    [path] = eventually(lambda: reports(crashes), timeout_s=60, what="its report")
    report = path.read_text()
    assert report.splitlines()[0].endswith(", while starting")
    assert re.search(r"\nprocess        \d+, starting, number 2 of its supervisor\n", report)
    assert "\nconfiguration  none yet\n" in report
    of_building(report, 1, "start")

    assert is_alive(first) and edge.get().body == b"direct\n"
    os.kill(first, signal.SIGABRT)
    eventually(lambda: len(reports(crashes)) > 1, timeout_s=60, what="the first one's report")
    assert f"\nprocess        {first}, serving, number 1 of its supervisor\n" in reports(crashes)[1].read_text()
    edge.stop()


def test_a_fault_of_the_process_that_leaves(crashes):
    """It serves what it has, and another process all else."""
    with contextlib.closing(SlowOrigin()) as origin:
        edge = Supervised(config_of_supervised(origin=origin), flags=flags(crashes))
        [first] = edge.workers()
        with edge.connect() as held:
            held.send("GET", "/")
            origin.wait_for_requests(1)
            edge.replace()
            edge.wait_for_log("another process serves: ")
            os.kill(first, signal.SIGABRT)
            assert held.read_to_end() == b""
        eventually(lambda: not is_alive(first), what="its end")
        report = the_report(crashes)
        assert report.splitlines()[0].endswith(", while draining: another process serves")
        assert f"\nprocess        {first}, draining: another process serves, number 1 of its supervisor\n" in report
        assert edge.get("/direct").status == 200
        origin.may_answer.set()
        assert edge.stop() == 0


# ---- where it is


def test_without_a_folder_it_is_in_the_log():
    edge = plain()
    assert "--crash-dir" in edge.admin("/crashes")
    os.kill(edge.process.pid, signal.SIGABRT)
    ends(edge, signal.SIGABRT)
    assert re.search(r"\nSIGABRT, sent by .*\n\nsignal  ", edge.log())


def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(AssertionError, match=r"--crash-dir .*name a folder that this user may write to"):
        plain(*flags(tmp_path / "file"))


def test_the_oldest_reports_go(crashes):
    edge = Supervised(flags=flags(crashes, "--crash-max", "2"))
    for count in range(1, 4):
        os.kill(edge.workers(count)[-1], signal.SIGABRT)
        edge.workers(count + 1)
    written = re.findall(r"crash report: (.*)", edge.log())
    assert len(written) == 3
    assert [str(path) for path in reports(crashes)] == written[1:]
    assert edge.log().count("the process before died: SIGABRT, sent by ") == 3
    assert edge.stop() == 0


# ---- extensions in the proxy


def named(filters, name="edge"):
    return listener(name, [{**direct(200, "direct\n"), "name": "the-route"}], filters=[*filters, router()])


def dies(edge, path="/", headers=()):
    with edge.connect() as client:
        client.send("GET", path, headers=headers)
        assert client.read_to_end() == b""


@in_process
@pytest.mark.parametrize(
    ("how", "where"),
    [("libc", "misbehave"), ("callback", "compare_nowhere"), ("jump", "(misbehave|request)"), ("host", None)],
)
def test_a_fault_in_a_filter_in_c(native_build, crashes, how, where):  # noqa: F811
    """The plug-in's own faults are survived; these are in the middle of the C library's code, or of ours."""
    library = native_build()
    edge = Proxy(bootstrap([named([native(library)])]), flags=flags(crashes))
    dies(edge, headers=[("x-do", how)])
    ends(edge, signal.SIGSEGV)
    report = the_report(crashes)
    headline = report.splitlines()[0]
    doing = f", filter sluice.filters.http.native, library {library}, plugin zoo, route the-route, listener edge"
    assert headline.endswith(doing)
    if where:
        assert re.match(rf"SIGSEGV in {where} at \S*zoo\.c:\d+ \({re.escape(library.name)}\), ", headline)
    assert re.search(r"code 1, address 0x[0-9a-f]+: nothing is mapped there", report)
    thread = section(report, "thread ")
    assert "in coroutine " in thread
    assert f"  library: {library}\n" in thread
    assert "  route: the-route\n" in thread
    assert re.search(r"#\d+ +0x[0-9a-f]+ (misbehave|request) at \S*zoo\.c:\d+ ", thread)
    assert "downstream_serve.c" in thread  # and on to our own
    assert re.search(rf"[0-9a-f]{{40}} {library}\n", report)


@in_process
def test_which_request_it_was(native_build, crashes):  # noqa: F811
    """It is found by what the access log and its client have of it. What may be secret is left out."""
    log = LogFile(crashes.with_name("access"), "%CONNECTION_ID% %REQ(X-REQUEST-ID)% %REQ(:METHOD)% %REQ(:PATH)%")
    edge = Proxy(
        bootstrap(
            [
                listener(
                    "edge",
                    [direct(200, "direct\n")],
                    filters=[native(native_build()), router()],
                    hcm={"access_log": [log.config]},
                )
            ]
        ),
        flags=flags(crashes),
    )
    with edge.connect() as client:
        assert client.ask("GET", "/orders/16", headers=[("x-request-id", "of-the-client-16")]).status == 200
        [line] = log.lines(edge, 1)
        connection, *what = line.split()
        assert what == ["of-the-client-16", "GET", "/orders/16"]
        headers = [("x-do", "libc"), ("x-request-id", "of-the-client-17"), ("authorization", "Bearer hush")]
        client.send("POST", "/orders/17;session=hush?token=hush", headers=headers)
        assert client.read_to_end() == b""
    ends(edge, signal.SIGSEGV)
    report = the_report(crashes)
    assert re.search(
        r"\nrequest        POST /orders/17\n  id           of-the-client-17\n"
        r"  began        20\S+Z, \d+\.\d+ s before\n" + f"connection     {connection}\n",
        report,
    ), report
    assert "hush" not in report and "orders/16" not in report


def go(library, plugin, config=None):
    return bootstrap([named([kit.go_filter(library, plugin, config and kit.typed_struct(config))])])


@in_process
def test_a_fault_in_the_c_code_of_a_go_library(crashes):
    library = build("config")
    edge = Proxy(go(library, "misbehave", {"request": "crash"}), flags=flags(crashes))
    dies(edge, headers=[("x-misbehave", "yes")])
    ends(edge, signal.SIGSEGV)
    report = the_report(crashes)
    doing = (
        f"filter envoy.filters.http.golang, library {library.name}, plugin misbehave, route the-route, listener edge"
    )
    assert re.match(rf"SIGSEGV in c_crash at \S*misbehave\.go:\d+ \({library.name}\), {doing}\n", report)
    thread = section(report, "thread ")
    assert "in foreign code called by coroutine downstream" in thread
    for frame in (
        r"main\.\(\*misbehavingFilter\)\.DecodeHeaders at \S*misbehave\.go:\d+",
        r"exchange_run at \S*exchange\.c",
    ):
        assert re.search(rf"#\d+ +0x[0-9a-f]+ {frame}", thread), thread
    assert re.search(rf"[0-9a-f]{{40}} {library}\n", report)  # of the copy in memory that was loaded


@in_process
@pytest.mark.parametrize(
    ("how", "function"),
    [("fault", "Die"), ("maps", "Die.func1"), ("goroutine", "Die.gowrap1")],
)
def test_an_end_that_go_makes(crashes, how, function):
    """A fatal error, and a panic that nobody recovers: Go prints its goroutines, and aborts."""
    library = build("basic")
    edge = Proxy(go(library, "basic"), flags=flags(crashes))
    dies(edge, f"/?dh=die:{how}", headers=[("x-request-id", "the-one")])
    ends(edge, signal.SIGABRT)
    report = the_report(crashes)
    where = rf"sluice\.dev/tests/filters/internal/fatal\.{re.escape(function)} at \S*/fatal\.go:\d+ \({library.name}\)"
    assert re.match(f"SIGABRT in {where}", report)
    doing = f", filter envoy.filters.http.golang, library {library.name}, plugin basic, route the-route, listener edge"
    if how == "fault":
        assert f"{doing}\n" in report
        assert "\nrequest        GET /\n  id           the-one\n" in report
    else:  # it is a goroutine of its own that died
        assert f"{doing}, request the-one\n" in section(report, "what other threads worked on") + "\n"


@in_process
def test_a_fault_on_a_connection_below_http(crashes):
    """There is no request: its connection's number is what the access log has, too."""
    library = build("network")
    edge = Proxy(bootstrap([tcp_listener("edge", go_network(library))]), flags=flags(crashes))
    with connect(edge) as client:
        client.sendall(b"die fault\n")
        assert client.recv(1) == b""
    ends(edge, signal.SIGABRT)
    report = the_report(crashes)
    doing = ", filter envoy.filters.network.golang, library network, plugin script, listener edge"
    assert report.splitlines()[0].endswith(doing)
    assert re.search(r"\nconnection     [1-9]\d*\n\nthread ", report)
    assert "\nrequest " not in report
