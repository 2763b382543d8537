"""When file descriptors run out: what idles gives way, clients wait for a moment, upstreams and the admin have a
reserve, nothing spins, and it is over when there are descriptors again."""

import contextlib
import errno
import os
import pathlib
import resource
import shutil
import socket
import subprocess

import pytest

from harness import SLUICE, LogFile, bootstrap, cluster, direct, eventually, is_sanitized, listener, to

ONE = ["--concurrency", "1"]  # one queue: what happens is then exact
GET = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"


def lowest_free(pid):
    used = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
    return min(set(range(len(used) + 1)) - used)


def admin_is_quiet(edge):
    """No connection of ours to the admin still has a descriptor, which it would free in a moment."""
    port = int(edge.admin_path.read_text().rpartition(":")[2])
    rows = [line.split() for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return not any(row[1].endswith(f":{port:04X}") and row[3] != "0A" and row[9] != "0" for row in rows)


@contextlib.contextmanager
def limited(edge, more):
    """So many more descriptors can be had by anybody, the reserve included."""
    pid = edge.process.pid
    eventually(lambda: admin_is_quiet(edge), what="the admin to have no client")
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (lowest_free(pid) + more, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


@pytest.fixture
def few(tmp_path):
    """The proxy as a program that may have a hundred descriptors, from its start."""
    script = tmp_path / "sluice-with-few-files"
    script.write_text(f'#!/bin/sh\nulimit -n 100\nexec "{SLUICE}" "$@"\n')
    script.chmod(0o755)
    return {"program": str(script), "flags": ONE, "level": "info"}


def listener_stat(edge, what):
    return edge.stat(f"listener.127.0.0.1_{edge.port()}.{what}")


def connect(edge, stack, data):
    sock = stack.enter_context(socket.create_connection(("127.0.0.1", edge.port()), timeout=20))
    with contextlib.suppress(ConnectionError):
        sock.sendall(data)
    return sock


def answer(sock):
    """b"" when it was turned away."""
    try:
        return sock.recv(4096)
    except ConnectionError:
        return b""


def fill(edge, stack):
    """Clients that began a request and so do not idle, until one of them has to wait. And some more: whoever asks
    the admin has a descriptor too, and what it gives back may be all that the one waited for."""
    busy = []
    while listener_stat(edge, "downstream_cx_descriptor_wait") == 0:
        busy += [connect(edge, stack, GET[:-2]) for _ in range(5)]
        assert len(busy) < 500, "nobody has to wait"
    return busy + [connect(edge, stack, GET[:-2]) for _ in range(10)]


def calls(edge):
    stats = edge.stats()
    return sum(stats[f"server.io.{name}"] for name in ("accept_calls", "wait_calls"))


def test_clients_wait_and_are_then_turned_away(proxy, few):
    edge = proxy([listener("edge", [direct(200)])], **few)
    with contextlib.ExitStack() as stack:
        busy = fill(edge, stack)
        before = calls(edge)
        late = [connect(edge, stack, GET) for _ in range(30)]
        assert [answer(sock) for sock in late] == [b""] * 30
        done = calls(edge) - before
        assert done < 500, "it spins"
        turned_away = listener_stat(edge, "downstream_cx_no_descriptor")
        assert turned_away == 30 + len(busy) - listener_stat(edge, "downstream_cx_total")
        assert edge.log().count("connections run short of") == 1
        assert edge.stat("server.descriptors_short") == 1

        for sock in busy:  # whoever comes now is served
            sock.close()
        assert answer(connect(edge, stack, GET)).startswith(b"HTTP/1.1 200")
        edge.wait_for_log("connections run short no more")
        assert f"{turned_away} clients were turned away" in edge.log()
        assert edge.stat("server.descriptors_short") == 0


@pytest.mark.parametrize("concurrency", ["1", "3"])
def test_who_waits_is_served_as_soon_as_a_descriptor_is_free(proxy, few, concurrency):
    """On whichever processor it becomes free. Unless that takes too long; on a machine that stands still for a
    second it is tried again, with another proxy, as there is a descriptor now."""

    def is_served():
        edge = proxy([listener("edge", [direct(200)])], **{**few, "flags": ["--concurrency", concurrency]})
        with contextlib.ExitStack() as stack:
            busy = fill(edge, stack)
            eventually(lambda: listener_stat(edge, "downstream_cx_no_descriptor") > 0, what="the queue to be empty")
            before = listener_stat(edge, "downstream_cx_descriptor_wait")
            waiting = connect(edge, stack, GET)
            eventually(lambda: listener_stat(edge, "downstream_cx_descriptor_wait") > before, what="it to wait")
            busy.pop(0).close()
            return answer(waiting).startswith(b"HTTP/1.1 200")

    assert any(is_served() for _ in range(10))


def test_clients_that_idle_give_way(proxy, few):
    """Three times as many clients as there are descriptors, all of which stay: each is served."""
    edge = proxy([listener("edge", [direct(200)])], **few)
    with contextlib.ExitStack() as stack:
        for _ in range(180):
            assert answer(connect(edge, stack, GET)).startswith(b"HTTP/1.1 200")
        assert listener_stat(edge, "downstream_cx_no_descriptor") == 0
        closed = listener_stat(edge, "downstream_cx_descriptor_close")
        assert closed > 80
        assert closed == 180 - listener_stat(edge, "downstream_cx_active")
        assert edge.log().count("connections run short of") == 1


def test_the_longest_idle_gives_way_first(proxy):
    edge = proxy([listener("edge", [direct(200)])], flags=ONE, level="info")
    with contextlib.ExitStack() as stack:
        clients = [connect(edge, stack, GET) for _ in range(40)]
        for sock in clients:
            assert answer(sock).startswith(b"HTTP/1.1 200")
        for sock in reversed(clients):  # so the last one has idled for longest
            sock.sendall(GET)
            assert answer(sock).startswith(b"HTTP/1.1 200")
        with limited(edge, 0):
            assert answer(connect(edge, stack, GET)).startswith(b"HTTP/1.1 200")
        closed = []
        for number, sock in enumerate(clients):
            sock.setblocking(False)
            try:
                assert sock.recv(1) == b""
                closed.append(number)
            except BlockingIOError:
                pass
        assert closed == list(range(40 - len(closed), 40))
        assert 0 < len(closed) < 40


def test_upstreams_and_the_admin_have_a_reserve(proxy, few, origin):
    edge = proxy([listener("edge", [to()])], [cluster("origin", origin.port)], **few)
    with contextlib.ExitStack() as stack:
        busy = fill(edge, stack)
        busy[0].sendall(GET[-2:])
        assert answer(busy[0]).startswith(b"HTTP/1.1 200")
        assert edge.stat("cluster.origin.upstream_cx_no_descriptor") == 0
        assert edge.admin("/ready").startswith("LIVE")


def test_no_descriptor_for_an_upstream(proxy, origin, tmp_path):
    """The request fails, and says why; its connection goes on."""
    log = LogFile(tmp_path / "access")
    edge = proxy(
        [listener("edge", [direct(200, None, "/direct"), to()], hcm={"access_log": [log.config]})],
        [cluster("origin", origin.port)],
        flags=ONE,
        level="info",
    )
    with edge.connect() as client:
        assert client.ask("GET", "/direct").status == 200
        with limited(edge, 0):
            reply = client.ask("GET", "/")
        assert reply.status == 503
        assert b"Too many open files" not in reply.body
        assert client.ask("GET", "/").status == 200
    assert edge.stat("cluster.origin.upstream_cx_no_descriptor") == 1
    assert edge.stat("cluster.origin.upstream_cx_connect_fail") == 1
    assert log.lines(edge, 3)[1] == (
        "503 UF upstream_reset_before_response_started{remote_connection_failure|"
        "delayed_connect_error:_Too_many_open_files}"
    )


@pytest.mark.parametrize("idle", ["upstream", "client"])
def test_what_idles_gives_way_to_an_upstream(proxy, origins, idle):
    first, second = origins(), origins()
    edge = proxy(
        [listener("edge", [direct(200, None, "/direct"), to("second", "/second"), to("first")])],
        [cluster("first", first.port), cluster("second", second.port)],
        flags=ONE,
        level="info",
    )
    with edge.connect() as client, contextlib.ExitStack() as stack:
        assert client.ask("GET", "/direct").status == 200
        if idle == "upstream":
            assert client.ask("GET", "/").status == 200
        else:
            connect(edge, stack, b"")
            eventually(lambda: listener_stat(edge, "downstream_cx_active") == 2, what="the other client")
        with limited(edge, 0):  # it has to idle for a while
            eventually(lambda: client.ask("GET", "/second").status == 200, what="an upstream connection")
        assert listener_stat(edge, "downstream_cx_descriptor_close") == (1 if idle == "client" else 0)
        if idle == "upstream":
            assert edge.stat("cluster.first.upstream_cx_destroy_local") == 1


def test_limits_that_cannot_be_met_are_told(proxy):
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    monitor = {
        "name": "envoy.resource_monitors.global_downstream_max_connections",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3."
            "DownstreamConnectionsConfig",
            "max_active_downstream_connections": hard + 1,
        },
    }
    edge = proxy(
        None,
        config=bootstrap([listener("edge", [direct(200)])], overload_manager={"resource_monitors": [monitor]}),
        level="info",
    )
    assert f"the limits of connections allow {hard + 1} clients" in edge.log()


FAILING_ACCEPT = r"""
/* While the file $SWITCH is there, accept4 fails with $ERROR as long as somebody is in the queue. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

int accept4(int fd, struct sockaddr *address, socklen_t *len, int flags) {
    int (*real)(int, struct sockaddr *, socklen_t *, int) =
        (int (*)(int, struct sockaddr *, socklen_t *, int))dlsym(RTLD_NEXT, "accept4");
    struct pollfd ask = {.fd = fd, .events = POLLIN};
    if (access(getenv("SWITCH"), F_OK) == 0 && poll(&ask, 1, 0) == 1) {
        errno = atoi(getenv("ERROR"));
        return -1;
    }
    return real(fd, address, len, flags);
}
"""


@pytest.fixture
def failing_accept(tmp_path):
    source, library = tmp_path / "accept.c", tmp_path / "accept.so"
    source.write_text(FAILING_ACCEPT)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return str(library)


@pytest.mark.skipif(is_sanitized() or not shutil.which("cc"), reason="the sanitizer's library has to come first")
@pytest.mark.parametrize(
    "error, what",
    [
        (errno.EMFILE, "file descriptors, of which none is left"),
        (errno.ENFILE, "file descriptors, of which the system has none left"),
        (errno.ENOBUFS, "the kernel's memory"),
        (errno.ENOMEM, "the kernel's memory"),
    ],
)
def test_errors_of_accept(proxy, failing_accept, tmp_path, error, what):
    """Whatever the kernel is short of: who is in the queue is left there, nothing spins, and it goes on by
    itself. The admin cannot be asked meanwhile, since it fares the same."""
    switch = tmp_path / "switch"
    env = {"LD_PRELOAD": failing_accept, "SWITCH": str(switch), "ERROR": str(error)}
    edge = proxy([listener("edge", [direct(200)])], flags=ONE, level="info", env=env)
    before = edge.stats()
    with contextlib.ExitStack() as stack:
        switch.touch()
        late = [connect(edge, stack, GET) for _ in range(20)]
        edge.wait_for_log("connections run short of " + what)
        switch.unlink()
        answers = [answer(sock)[:12] for sock in late]
    after = edge.stats()
    assert set(answers) <= {b"HTTP/1.1 200"}
    assert after["server.io.accept_calls"] - before["server.io.accept_calls"] < 300
    assert edge.log().count("connections run short of") == 1
