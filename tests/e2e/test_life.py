"""The process from start to end: what it refuses to start with, how it listens, how it drains."""

import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import tempfile
import threading
import urllib.request

import pytest

from harness import (
    SLUICE,
    Client,
    LogFile,
    access_log,
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


@pytest.fixture
def held(origins):
    """An origin that answers when the test says so."""

    class Held:
        def __init__(self):
            self.go_on = threading.Event()
            self.origin = origins(self._answer)

        def _answer(self, exchange):
            exchange.request.read_body()
            if exchange.request.path == "/streams":
                exchange.send(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nfirst")
                assert self.go_on.wait(30)
                exchange.send(b"later")
                return
            if exchange.request.path != "/at-once":
                assert self.go_on.wait(30)
            exchange.reply(200, b"done")

    made = Held()
    yield made
    made.go_on.set()


def on(edge, number):
    edge.process.send_signal(number)


# ---- the end ----


def test_sigterm_closes_idle_connections_and_ends(proxy, origin):
    edge = proxy([listener("edge", [to()])], [cluster("origin", origin.port)])
    with edge.connect() as used, edge.connect() as fresh:
        assert used.ask("GET", "/").status == 200
        on(edge, signal.SIGTERM)
        assert used.read_to_end() == b""
        assert fresh.read_to_end() == b""
    assert edge.process.wait(30) == 0


def test_sigterm_lets_requests_finish(proxy, held):
    """The connection ends with the response that was under way; no new ones are accepted."""
    edge = proxy([listener("edge", [to()])], [cluster("origin", held.origin.port)])
    port = edge.port()
    with edge.connect() as waiting, edge.connect() as reading, edge.connect() as writing:
        waiting.send("GET", "/")
        reading.send("GET", "/streams")
        assert reading.read_head()[0] == "200"
        writing.send_head("POST", "/at-once", [("content-length", "4")])
        writing.send_bytes(b"ha")
        held.origin.wait_for_requests(3)
        on(edge, signal.SIGTERM)

        def refused():
            try:
                Client(port).close()
            except ConnectionRefusedError:
                return True
            except ConnectionError:  # the listener closed in the middle of our handshake
                return False

        eventually(refused, what="new connections refused")
        assert edge.alive()
        writing.send_bytes(b"lf")
        reply = writing.read_reply()
        assert (reply.status, reply.header("connection")) == (200, "close")
        assert writing.read_to_end() == b""
        held.go_on.set()
        reply = waiting.read_reply()
        assert (reply.status, reply.body) == (200, b"done")
        assert reply.header("connection") == "close"
        assert waiting.read_to_end() == b""
        # This one's head was out already, so it could not say so; it ends nevertheless.
        assert reading.read_to_end() == b"firstlater"
    assert edge.process.wait(30) == 0


def test_pipelined_requests_behind_the_drain_are_not_answered(proxy, held):
    """The one under way is; what follows on that connection the client must ask again elsewhere."""
    edge = proxy([listener("edge", [to()])], [cluster("origin", held.origin.port)])
    with edge.connect() as client:
        client.send_bytes(b"GET /%d HTTP/1.1\r\nhost: a\r\n\r\n" * 3 % (1, 2, 3))
        held.origin.wait_for_requests(1)
        on(edge, signal.SIGTERM)
        eventually(lambda: "draining" in edge.log())
        held.go_on.set()
        assert client.read_reply().header("connection") == "close"
        assert client.read_to_end() == b""
    assert edge.process.wait(30) == 0
    assert [request.path for request in held.origin.requests] == ["/1"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_second_signal_ends_at_once(proxy, held, number):
    edge = proxy([listener("edge", [to()])], [cluster("origin", held.origin.port)])
    with edge.connect() as client:
        client.send("GET", "/")
        held.origin.wait_for_requests(1)
        on(edge, number)
        edge.wait_for_log("draining")
        assert edge.alive()
        on(edge, number)
        assert edge.process.wait(30) == 0
        client.wait_closed()
    assert "Sanitizer" not in edge.log()


def test_drain_time_bounds_the_drain(proxy, held):
    edge = proxy(
        [listener("edge", [to()])],
        [cluster("origin", held.origin.port)],
        flags=["--drain-time-s", "1"],
    )
    with edge.connect() as client:
        client.send("GET", "/")
        held.origin.wait_for_requests(1)
        on(edge, signal.SIGTERM)
        assert edge.process.wait(30) == 0
        client.wait_closed()


def test_the_admin_answers_while_the_proxy_drains(proxy, held):
    edge = proxy([listener("edge", [to()])], [cluster("origin", held.origin.port)])
    with edge.connect() as client:
        client.send("GET", "/")
        held.origin.wait_for_requests(1)
        on(edge, signal.SIGTERM)
        eventually(lambda: edge.admin("/ready").startswith("DRAINING"))
        held.go_on.set()
        assert client.read_reply().status == 200
    assert edge.process.wait(30) == 0


def test_lines_of_the_last_requests_reach_the_access_log(proxy, tmp_path):
    log = LogFile(tmp_path / "access", "%REQ(:PATH)%")
    edge = proxy([listener("edge", [direct(200, "x")], hcm={"access_log": [log.config]})])
    with edge.connect() as client:
        for i in range(100):
            client.ask("GET", f"/{i}")
    assert edge.stop() == 0
    assert sorted(log.path.read_text().split(), key=lambda p: int(p[1:])) == [f"/{i}" for i in range(100)]


# ---- logs ----


def test_sigusr1_opens_logs_again(proxy, tmp_path):
    """What log rotation does: rename, signal; new lines go to a new file of the old name."""
    access, log = tmp_path / "access", tmp_path / "log"
    line = {"text_format_source": {"inline_string": "%REQ(:PATH)%\n"}}
    edge = proxy(
        [listener("edge", [direct(200, "x")], hcm={"access_log": [access_log(access, **line)]})],
        flags=["--log-path", str(log)],
    )
    assert edge.get("/before").status == 200
    eventually(lambda: access.exists() and "/before" in access.read_text(), what="its line")
    os.rename(access, tmp_path / "access.1")
    os.rename(log, tmp_path / "log.1")
    on(edge, signal.SIGUSR1)
    eventually(lambda: access.exists() and log.exists(), what="new files")
    assert edge.get("/after").status == 200
    eventually(lambda: access.read_text() == "/after\n", what="the new line in the new file")
    assert (tmp_path / "access.1").read_text() == "/before\n"
    assert "starts with" in (tmp_path / "log.1").read_text()
    assert edge.stop() == 0
    assert "exiting" in log.read_text()


def test_a_log_that_nobody_reads_any_more(origin):
    """Standard output is a pipe whose reader has gone: lines are lost, requests are not."""
    folder = tempfile.TemporaryDirectory(prefix="sluice-")
    path, admin = pathlib.Path(folder.name, "config"), pathlib.Path(folder.name, "admin")
    hcm = {"access_log": [access_log("/dev/stdout")]}
    config = bootstrap([listener("edge", [to()], hcm=hcm)], [cluster("origin", origin.port)])
    path.write_text(json.dumps(config))
    reader, writer = os.pipe()
    process = subprocess.Popen(
        [SLUICE, "-c", str(path), "-l", "off", "--admin-address-path", str(admin)],
        stdout=writer,
        stderr=writer,
    )
    os.close(reader)
    os.close(writer)
    base = "http://" + eventually(lambda: admin.exists() and admin.read_text())

    def ask(page, data=None):
        with urllib.request.urlopen(base + page, data, timeout=20) as reply:
            return reply.read().decode()

    where = eventually(lambda: ask("/listeners"))
    port = int(where.strip().rpartition(":")[2])
    for _ in range(3):
        with Client(port) as client:
            assert client.ask("GET", "/").status == 200
        ask("/reopen_logs", b"")  # writes what is buffered
    assert process.poll() is None
    process.terminate()
    assert process.wait(30) == 0


# ---- configurations ----


def test_validate_says_ok():
    config = bootstrap([listener("edge", [to()])], [cluster("origin", 80)])
    done = run("--mode", "validate", config=config)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"configuration '.*bootstrap\.yaml' OK\n", done.stdout)


def test_validate_lists_all_problems_with_their_place():
    done = run(
        "--mode",
        "validate",
        config="""\
static_resources:
  listeners:
  - name: edge
    address: {socket_address: {address: 127.0.0.1, port_value: 99999}}
    no_such_field: 1
  clusters:
  - name: origin
    connect_timeout: soon
    lb_policy: RING_HASH
    type: STATIC
""",
    )
    assert done.returncode == 1
    places = re.findall(r"bootstrap\.yaml:(\d+): (static_resources\S*): \S", done.stderr)
    assert set(places) >= {
        ("4", "static_resources.listeners[0].address.socket_address.port_value"),
        ("5", "static_resources.listeners[0]"),
        ("8", "static_resources.clusters[0].connect_timeout"),
        ("9", "static_resources.clusters[0].lb_policy"),
    }
    assert "OK" not in done.stdout


@pytest.mark.parametrize(
    "text",
    ["a: [", "- just\n- a list\n", "\t", "a: &a [*a]", "static_resources: {listeners: 5}", "\xff"],
)
def test_what_is_no_config_is_refused(text):
    done = run("--mode", "validate", config=text)
    assert done.returncode == 1
    assert re.search(r"bootstrap\.yaml:\d+: ", done.stderr), done.stderr


def test_a_refused_config_does_not_start():
    done = run(config="static_resources: {nonsense: 1}")
    assert done.returncode == 1
    assert 'bootstrap.yaml:1: static_resources: unknown field "nonsense"' in done.stderr


def test_a_missing_config_file():
    done = run("-c", "/no/such/file.yaml")
    assert done.returncode == 1
    assert "/no/such/file.yaml" in done.stderr


def test_no_config_at_all():
    done = run()
    assert done.returncode == 1
    assert "--config" in done.stderr


def test_unknown_fields_may_be_allowed():
    config = {**bootstrap([listener("edge", [direct(200, "x")])]), "no_such_field": 1}
    assert run("--mode", "validate", config=config).returncode == 1
    done = run("--mode", "validate", "--allow-unknown-static-fields", config=config)
    assert done.returncode == 0
    assert "no_such_field" in done.stderr


def test_a_config_without_listeners_runs(proxy):
    edge = proxy([])
    assert edge.admin("/ready") == "LIVE\n"
    assert edge.ports == {}
    assert edge.stop() == 0


# ---- listening ----


def test_a_port_in_use_is_named():
    taken = socket.create_server(("127.0.0.1", 0))
    port = taken.getsockname()[1]
    config = bootstrap([listener("edge", [direct(200, "x")], address=address(port))])
    done = run(config=config)
    taken.close()
    assert done.returncode == 1
    message = rf"listener 'edge': cannot bind 127\.0\.0\.1:{port}: Address already in use"
    assert re.search(message, done.stdout + done.stderr)


def test_an_admin_port_in_use_is_named():
    taken = socket.create_server(("127.0.0.1", 0))
    port = taken.getsockname()[1]
    done = run(config={"admin": {"address": address(port)}})
    taken.close()
    assert done.returncode == 1
    assert f"admin: cannot bind 127.0.0.1:{port}: Address already in use" in done.stderr


def test_two_listeners_on_one_port_are_refused():
    """The kernel would let them share it, and deal out connections between them."""
    twins = [listener(name, [direct(200, name)], address=address(8080)) for name in ("one", "two")]
    done = run("--mode", "validate", config=bootstrap(twins))
    assert done.returncode == 1
    assert re.search(r"static_resources\.listeners\[1\]: the address is taken", done.stderr)


NO_REUSE_PORT = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <sys/socket.h>

/* What a seccomp filter does, or a kernel without the option. */
int setsockopt(int fd, int level, int option, const void *value, socklen_t size) {
    int (*real)(int, int, int, const void *, socklen_t) = dlsym(RTLD_NEXT, "setsockopt");
    if (level == SOL_SOCKET && option == SO_REUSEPORT) {
        errno = ENOPROTOOPT;
        return -1;
    }
    return real(fd, level, option, value, size);
}
"""


@pytest.mark.skipif(is_sanitized(), reason="a sanitizer wants to be the first library")
def test_without_reuse_port_the_workers_share_a_socket(proxy, tmp_path):
    source, shim = tmp_path / "shim.c", tmp_path / "shim.so"
    source.write_text(NO_REUSE_PORT)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", shim, source], check=True)
    edge = proxy(
        [listener("edge", [direct(200, "here")])],
        flags=("--concurrency", "2"),
        env={"LD_PRELOAD": str(shim)},
    )
    assert "SO_REUSEPORT was refused: all workers accept from one socket at 127.0.0.1:" in edge.log()
    clients = [edge.connect() for _ in range(32)]  # at once, so that both workers get some
    for client in clients:
        assert client.ask("GET", "/").body == b"here"
        client.close()


def test_several_listeners_have_their_own_routes(proxy):
    names = [f"l{i}" for i in range(20)]
    edge = proxy([listener(name, [direct(200, name)]) for name in names])
    assert sorted(edge.ports) == sorted(names)
    for name in names:
        assert edge.get("/", listener=name).body == name.encode()


def test_an_ipv6_listener(proxy):
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 here")
    log = "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"
    edge = proxy(
        [
            listener(
                "six",
                [direct(200, "six", response_headers_to_add=[added("x-peer", log)])],
                address=address(0, "::1"),
            )
        ]
    )
    with edge.connect(host="::1") as client:
        reply = client.ask("GET", "/")
        assert (reply.body, reply.header("x-peer")) == (b"six", "::1")


def added(name, value):
    return {"header": {"key": name, "value": value}}
