"""--supervise: the process that serves may end in whatever way, and be replaced while it serves: no connection is
refused over it, and who is replaced answers all that it has."""

import contextlib
import json
import os
import pathlib
import re
import resource
import signal
import socket
import tempfile
import threading

import pytest
from asking import Asking
from discovery_kit import Files
from harness import (
    Client,
    Gone,
    Origin,
    Proxy,
    address,
    bootstrap,
    cluster,
    direct,
    eventually,
    is_sanitized,
    listener,
    run,
    to,
)


def config(*listeners, origin=None):
    routes = [direct(200, "direct\n", prefix="/direct"), to()] if origin else [direct(200, "direct\n")]
    clusters = [cluster("origin", origin.port)] if origin else []
    return bootstrap([listener(name, routes) for name in listeners or ["main"]], clusters)


class Supervised(Proxy):
    """Its process is the supervisor."""

    def __init__(self, wanted=None, *, flags=(), **more):
        super().__init__(wanted or config(), flags=["--supervise", *flags], **more)

    def wait_for_starts(self, count):
        started = lambda: len(re.findall(r"process \d+ is started$", self.log(), re.MULTILINE)) >= count  # noqa: E731
        eventually(started, what=f"the start of process number {count}")

    def workers(self, count=1):
        """Those that served, in their order, once there were so many."""

        def look():
            found = [int(pid) for pid in re.findall(r"process (\d+) serves", self.log())]
            return found if len(found) >= count else None

        return eventually(look, what=f"process number {count}")

    def replace(self):
        """By a new process; returns when that serves."""
        count = len(self.workers())
        self.process.send_signal(signal.SIGUSR2)
        self.workers(count + 1)

    def change(self, wanted):
        self.config_path.write_text(json.dumps(wanted))

    def info(self, name):
        return json.loads(self.admin("/server_info"))["command_line_options"][name]


class SlowOrigin(Origin):
    """It has a request, and answers it when it is let."""

    def __init__(self):
        self.may_answer = threading.Event()
        super().__init__(self.answers_late)

    def answers_late(self, exchange):
        assert self.may_answer.wait(60)
        exchange.reply(200, b"late")


def stop(edge):
    status = edge.stop()
    assert status == 0, f"exit status {status}\n{edge.log()[-8000:]}"
    assert "Sanitizer" not in edge.log(), edge.log()[-8000:]


@pytest.fixture
def edge():
    it = Supervised()
    yield it
    if it.alive():
        stop(it)


def is_alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def is_refused(port):
    try:
        socket.create_connection(("127.0.0.1", port), 20).close()
    except ConnectionRefusedError:
        return True
    except OSError:  # it is just being closed
        pass
    return False


def test_another_process_serves(edge):
    assert edge.get().body == b"direct\n"
    [worker] = edge.workers()
    assert worker != edge.process.pid and is_alive(worker)
    assert edge.info("disable_hot_restart") is False
    assert edge.info("restart_epoch") == 0
    stop(edge)
    assert not is_alive(worker)


# ---- an end ---------------------------------------------------------------------


SEGV = pytest.param(signal.SIGSEGV, marks=pytest.mark.skipif(is_sanitized(), reason="the sanitizer has the last word"))


@pytest.mark.parametrize("signo", [signal.SIGKILL, SEGV])
def test_nobody_is_refused_when_the_process_dies(edge, signo):
    """Who had a request there loses it; who comes meanwhile waits."""
    with edge.connect() as held:
        assert held.ask("GET", "/").status == 200
        [worker] = edge.workers()
        os.kill(worker, signo)
        eventually(lambda: not is_alive(worker), what="its end")
        assert edge.get().status == 200
        with pytest.raises((Gone, ConnectionError)):
            held.ask("GET", "/")
    edge.wait_for_log(f"process {worker} was killed by {signo.name}: it is started again at once")
    edge.wait_for_stat("server.hot_restart_epoch", 1)


def test_it_is_started_again_and_again(edge):
    for count in range(1, 4):
        worker = edge.workers(count)[-1]
        os.kill(worker, signal.SIGKILL)
        eventually(lambda worker=worker: not is_alive(worker), what="its end")
        assert edge.get().status == 200
    edge.workers(4)
    assert "it is started again in" in edge.log()  # no more at once


def test_one_that_hangs_is_killed(edge, tmp_path):
    stop(edge)
    edge = Supervised(flags=["--hang-time-s", "3", "--crash-dir", str(tmp_path / "crashes")])
    [worker] = edge.workers()
    os.kill(worker, signal.SIGSTOP)
    edge.wait_for_log(f"process {worker} hangs")
    assert edge.get().status == 200
    edge.wait_for_log("got SIGABRT")
    edge.workers(2)  # told to end before, it would say how its process ended
    edge.wait_for_log(f"died: SIGABRT, sent by its supervisor, process {edge.process.pid}, as it hung; report: ")
    stop(edge)


def test_a_first_process_that_cannot_serve_is_the_end():
    done = run("--supervise", config="admin: {adress: 1}")
    assert done.returncode == 1
    assert "adress" in done.stderr


def test_quitting_by_the_admin_is_the_end(edge):
    edge.admin("/quitquitquit", method="POST")
    assert edge.process.wait(60) == 0


def test_the_process_ends_with_its_supervisor(edge):
    [worker] = edge.workers()
    edge.process.kill()
    eventually(lambda: not is_alive(worker), what="the end of what it started")


def test_who_comes_while_it_drains_is_refused():
    """The supervisor has the sockets, too: nobody may wait in their queues for a process that never comes."""
    with contextlib.closing(SlowOrigin()) as origin:
        edge = Supervised(config(origin=origin))
        with edge.connect() as client:
            client.send("GET", "/")
            origin.wait_for_requests(1)
            edge.process.terminate()

            eventually(lambda: is_refused(edge.port()), what="refusal")
            origin.may_answer.set()
            assert client.read_reply().body == b"late"
        assert edge.process.wait(60) == 0


# ---- a replacement --------------------------------------------------------------


def test_no_request_fails_over_a_replacement(edge):
    with Asking(edge) as asking:
        for _ in range(5):
            asking.wait_for_more()
            edge.replace()
        asking.wait_for_more()
    former = edge.workers()[:-1]
    assert len(former) == 5
    for worker in former:
        edge.wait_for_log(f"process {worker} ended with exit status 0")
    edge.wait_for_stat("server.hot_restart_epoch", 5)


def test_an_answer_that_is_under_way_is_finished():
    with contextlib.closing(SlowOrigin()) as origin:
        edge = Supervised(config(origin=origin))
        with edge.connect() as client, edge.connect() as idle:
            assert idle.ask("GET", "/direct").header("connection") is None
            client.send("GET", "/")
            origin.wait_for_requests(1)
            [former] = edge.workers()
            edge.replace()
            edge.wait_for_log("another process serves: ")
            origin.may_answer.set()
            assert client.read_reply().body == b"late"
            last = idle.ask("GET", "/direct")  # by the former one, too: it is where the connection is
            assert (last.status, last.header("connection")) == (200, "close")
        edge.wait_for_log(f"process {former} ended with exit status 0")
        stop(edge)


def test_a_new_process_has_the_new_configuration(edge):
    edge.change(config("main", "second"))
    edge.replace()
    former = eventually(lambda: edge._ports().get("second"), what="the new process at the admin's address")
    with Client(former) as client:
        assert client.ask("GET", "/").status == 200
    edge.change(config("main"))
    edge.replace()
    eventually(lambda: is_refused(former), what="refusal")
    assert edge.get(listener="main").status == 200


def test_one_that_cannot_serve_does_not_take_over(edge):
    edge.change({"static_resources": {"listners": []}})
    edge.process.send_signal(signal.SIGUSR2)
    edge.wait_for_log("before it could serve: the one that serves goes on")
    assert "listners" in edge.log()
    assert edge.get().status == 200
    assert len(edge.workers()) == 1
    edge.change(config())
    edge.replace()
    assert edge.get().status == 200


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is one processor only")
@pytest.mark.parametrize(("first", "then"), [(2, 1), (1, 2)])
def test_fewer_or_more_processors_answer_who_is_in_any_queue(first, then):
    """As many as it may use: each of its sockets has a queue, and all of them are looked at."""
    everything = sorted(os.sched_getaffinity(0))

    def restrict(count, pid):
        os.sched_setaffinity(pid, everything[:count])

    restrict(first, 0)
    try:
        edge = Supervised(config())
    finally:
        os.sched_setaffinity(0, everything)
    restrict(then, edge.process.pid)
    assert edge.info("concurrency") == first
    with Asking(edge) as asking:
        edge.replace()
        asking.wait_for_more()
    eventually(lambda: edge.info("concurrency") == then, what="the new process at the admin's address")
    for _ in range(50):
        assert edge.get().status == 200
    stop(edge)


def test_a_signal_that_comes_early_ends_nothing(edge):
    """Whoever sends one cannot know how far the next process has come."""
    for count in range(1, 4):
        os.kill(edge.workers(count)[-1], signal.SIGKILL)
        edge.wait_for_starts(count + 1)
        edge.process.send_signal(signal.SIGHUP)
        edge.process.send_signal(signal.SIGUSR1)
    edge.workers(4)
    assert edge.get().status == 200
    assert not re.search("was killed by SIG(HUP|USR1)", edge.log())


def test_a_configuration_that_changes_while_a_process_takes_over_is_not_missed(edge):
    """The new process may have read it before."""
    edge.process.send_signal(signal.SIGUSR2)
    edge.wait_for_starts(2)
    edge.change(config("main", "second"))
    edge.process.send_signal(signal.SIGHUP)
    edge.workers(2)
    eventually(lambda: "second" in edge._ports(), what="the listener that came")


def test_one_that_cannot_serve_closes_nothing_of_the_one_that_does(edge):
    """It had bound one of two addresses."""
    port, wanted = edge.port(), config("main", "taken")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        wanted["static_resources"]["listeners"][1]["address"] = address(taken.getsockname()[1])
        edge.change(wanted)
        edge.process.send_signal(signal.SIGUSR2)
        edge.wait_for_log("before it could serve: the one that serves goes on")
        edge.change(config())
    os.kill(edge.workers()[-1], signal.SIGKILL)
    with Client(port) as client:  # nobody serves yet, or the next one does
        assert client.ask("GET", "/").status == 200


def test_more_sockets_are_kept_than_the_soft_limit_of_descriptors_allows():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    try:
        edge = Supervised(config(*(f"number {number}" for number in range(80))))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    former = edge.ports
    os.kill(edge.workers()[-1], signal.SIGKILL)
    edge.workers(2)
    assert eventually(edge._ports, what="the next process") == former
    stop(edge)


def test_who_leaves_listens_at_nothing_new(tmp_path):
    """Of a file that changes both hear. What a client would find in the queue of the former one is its end."""
    files = Files(tmp_path)
    files.clusters()
    files.listeners(listener("main", [direct(200)]))
    edge = Supervised(files.bootstrap())
    with edge.connect() as client:
        assert client.ask("GET", "/").status == 200
        edge.replace()
        edge.wait_for_log("another process serves: ")
        files.listeners(listener("main", [direct(200)]), listener("new", [direct(200)]))
        edge.wait_for_log("listener 'new': this process listens no more, and at nothing new")
        eventually(lambda: "new" in edge._ports(), what="the new listener of the new process")
        assert client.ask("GET", "/").status == 200
    stop(edge)


def test_one_that_refuses_a_file_does_not_take_over(tmp_path):
    """It would be without what the former one serves."""
    files = Files(tmp_path)
    files.clusters()
    files.listeners(listener("main", [direct(200)]))
    edge = Supervised(files.bootstrap())
    files.listeners(listener("main", [to("nobody")]))
    edge.wait_for_log("is refused, what was there before goes on")
    edge.process.send_signal(signal.SIGUSR2)
    edge.wait_for_log("before it could serve: the one that serves goes on")
    assert edge.get().status == 200
    assert len(edge.workers()) == 1
    files.listeners(listener("main", [direct(204)]))
    edge.replace()
    assert edge.get().status == 204
    stop(edge)


def test_without_a_supervisor_the_signal_says_what_it_needs():
    edge = Proxy(config())
    edge.process.send_signal(signal.SIGUSR2)
    edge.wait_for_log("start it with --supervise")
    assert edge.get().status == 200
    stop(edge)


# ---- systemd --------------------------------------------------------------------


class Manager:
    """Who started it, by sd_notify's protocol."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="sluice-")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(f"{self.folder.name}/notify")
        self.socket.settimeout(60)
        self.environ = {"NOTIFY_SOCKET": f"{self.folder.name}/notify", "WATCHDOG_USEC": "200000"}

    def hears(self, wanted):
        while wanted not in self.socket.recv(4096).decode().splitlines():
            pass

    def close(self):
        self.socket.close()
        self.folder.cleanup()


@pytest.mark.parametrize("flags", [["--supervise"], []])
def test_who_started_it_is_told_how_it_is(flags):
    with contextlib.closing(Manager()) as manager:
        edge = Proxy(config(), flags=flags, env=manager.environ)
        manager.hears("READY=1")
        manager.hears("WATCHDOG=1")
        manager.hears("WATCHDOG=1")
        edge.process.terminate()
        manager.hears("STOPPING=1")
        assert edge.process.wait(60) == 0
