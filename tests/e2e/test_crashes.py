"""A process that dies of a fault leaves a report: what happened, where, for which filter and route; and the next one
says that there is one."""

import json
import os
import re
import signal

import kit
import pytest
from harness import Proxy, bootstrap, direct, is_sanitized, listener, router
from test_native_filters import build as native_build  # noqa: F401
from test_native_filters import native
from test_supervise import Supervised

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
    assert report.startswith(f"{signo.name} in ")
    assert f"{signo.name}, code 0, sent by process {os.getpid()} of user {os.getuid()}\n" in report
    assert re.search(r"\nconfiguration  number 1, hash [0-9a-f]{16}\n", report)
    assert re.search(r"\nprocess +%d\n" % edge.process.pid, report)
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
    assert entry["file"] == path.name and entry["what"].startswith("SIGABRT in ")
    assert second.admin(f"/crashes?file={path.name}") == path.read_text()
    assert path.name in second.admin("/crashes")
    assert "/crashes lists" in second.admin("/crashes?file=../bootstrap.yaml")
    second.stop()
    third = plain(*flags(crashes))
    assert "the process before died" not in third.log()
    third.stop()


def test_it_says_which_configuration_was_in_force(crashes):
    edge = plain(*flags(crashes))
    edge.config_path.write_text(json.dumps(bootstrap([listener("other", [direct(200, "other\n")])])))
    assert "version 2 serves" in edge.admin("/config/reload", method="POST")
    os.kill(edge.process.pid, signal.SIGABRT)
    ends(edge, signal.SIGABRT)
    assert "\nconfiguration  number 2, hash " in the_report(crashes)


def test_without_a_folder_it_is_in_the_log():
    edge = plain()
    assert "--crash-dir" in edge.admin("/crashes")
    os.kill(edge.process.pid, signal.SIGABRT)
    ends(edge, signal.SIGABRT)
    assert re.search(r"\nSIGABRT in .*\n\nsignal  ", edge.log())


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
    assert edge.log().count("the process before died: SIGABRT in ") == 3
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
    dies(edge, f"/?dh=die:{how}")
    ends(edge, signal.SIGABRT)
    report = the_report(crashes)
    where = rf"sluice\.dev/tests/filters/internal/fatal\.{re.escape(function)} at \S*/fatal\.go:\d+ \({library.name}\)"
    assert re.match(f"SIGABRT in {where}", report)
    doing = (
        f", filter envoy.filters.http.golang, library {library.name}, plugin basic, route the-route, listener edge\n"
    )
    here = report if how == "fault" else section(report, "calls of foreign code on other threads") + "\n"
    assert doing in here  # it is a goroutine of its own that died
