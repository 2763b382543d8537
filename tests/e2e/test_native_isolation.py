"""Filters in C in processes of their own: whatever one does to its process, the requests that it held are lost, others
are served, and a new process comes; so does one when the file is replaced."""

import os
import pathlib

import pytest

from harness import ROOT, cluster, eventually, is_sanitized, listener, router, to
from test_native_filters import NATIVE, compile_plugin

DEADLY = """
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>
#include <sluice/filter.h>

static atomic_int blocked;

static int configure(const struct sluice_config *config, void **out) {
    (void)config;
    *out = malloc(1);
    return *out ? 0 : -12;
}

static void free_config(void *config) {
    if (blocked)
        abort();
    sluice_log(SLUICE_WARN, "its configuration is given back");
    free(config);
}

static void block(void *us) {
    usleep((useconds_t)(uintptr_t)us);
}

static void *(*volatile set)(void *, int, size_t) = memset;

static bool asked(struct sluice_exchange *x, const char *what) {
    struct sluice_span value;
    return sluice_header(x, SLUICE_REQUEST, SLUICE_LIT("x-do"), &value) && sluice_eq(value, sluice_text(what));
}

static void request(struct sluice_exchange *x, void *self) {
    char *bytes = malloc(16);
    struct sluice_span body;
    (void)self;
    if (asked(x, "libc"))
        set((void *)(uintptr_t)8, 0, 100);
    if (asked(x, "abort"))
        abort();
    if (asked(x, "exit"))
        _exit(3);
    if (asked(x, "block") || asked(x, "block long")) {
        blocked++;
        sluice_log(SLUICE_WARN, "it blocks");
        (void)sluice_blocking_call(x, block, (void *)(uintptr_t)(asked(x, "block") ? 100000 : 100000000));
        blocked--;
    }
    if (asked(x, "loop"))
        for (volatile int i = 0;; i++)
            ;
    if (asked(x, "overrun"))
        set(bytes, 1, 1 << 28);
    if (asked(x, "memory"))
        for (;;)
            set(malloc(1 << 20), 1, 1 << 20);
    free(bytes);
    if (asked(x, "ask")) {
        double number;
        sluice_log(SLUICE_WARN, "it asks");
        while (sluice_alive(x))
            (void)sluice_metadata_number(x, SLUICE_LIT("a"), SLUICE_LIT("b"), &number);
    }
    if (asked(x, "read"))
        (void)sluice_body_read(x, SLUICE_REQUEST, 0, &body);
    (void)sluice_header_set(x, SLUICE_REQUEST, SLUICE_LIT("x-version"), SLUICE_LIT(VERSION));
}

SLUICE_PLUGIN(.name = NAME, .configure = configure, .free_config = free_config, .request = request);
"""


@pytest.fixture
def build(tmp_path):
    source = pathlib.Path(tmp_path / "deadly.c")
    source.write_text(DEADLY)

    def one(version="one", name="deadly"):
        made = compile_plugin(source, tmp_path / "new.so", f'-DVERSION="{version}"', f'-DNAME="{name}"', "-w")
        os.rename(made, tmp_path / "deadly.so")  # as installers do it
        return tmp_path / "deadly.so"

    return one


def listen(library, **options):
    config = {"@type": NATIVE, "library_path": str(library), "isolation": "PROCESS", **options}
    filters = [{"name": "sluice.filters.http.native", "typed_config": config}, router()]
    return listener("edge", [to()], filters=filters)


def version(edge, **headers):
    return edge.get("/", headers=[(f"x-{name}", value) for name, value in headers.items()])


def answer(exchange):
    exchange.request.read_body()
    headers = {name: value for name, value in exchange.request.headers}
    exchange.reply(200, headers.get("x-version", "none").encode(), [])


REPORTED = pytest.mark.skipif(is_sanitized(), reason="the sanitizer reports it, as it should")
DEATHS = [
    *("abort", "exit", "memory", "loop"),
    *(pytest.param(how, marks=REPORTED) for how in ("libc", "overrun")),
]


@pytest.mark.parametrize("how", DEATHS)
def test_whatever_it_does_costs_the_request_and_another_process_comes(build, proxy, origins, how):
    origin = origins(answer)
    # A sanitizer's memory has no limit: there this one ends as a loop does.
    times = {"loop": "2s", "memory": "1s"}
    options = {"callback_timeout": times.get(how, "60s"), "sandbox": {"memory_limit_bytes": 512 << 20}}
    edge = proxy([listen(build(), **options)], [cluster("origin", origin.port)])
    assert version(edge).body == b"one"
    with edge.connect("edge") as waits:
        waits.send("GET", "/", headers=[("x-do", how)])
        assert waits.read_reply().status == 503
        # The connection goes on, and a new process serves it; of a loaded machine the first to ask may wait in vain.
        eventually(lambda: waits.ask("GET", "/").body == b"one", what="another process")
    edge.wait_for_stat("native.library.deadly.restarts", 1)
    edge.wait_for_log("deadly: its process")


def test_open_goes_on_without_the_filter(build, proxy, origins):
    origin = origins(answer)
    edge = proxy([listen(build(), on_failure="OPEN")], [cluster("origin", origin.port)])
    assert version(edge).body == b"one"
    assert version(edge, do="abort").status == 200
    # Of a loaded machine the first to ask may wait in vain for the next process, and goes on without it.
    eventually(lambda: version(edge).body == b"one", what="another process")


def test_questions_that_a_process_asked_as_it_died_are_void(build, proxy, origins):
    """It is lost between the question and the answer: who was asked hears of that alone."""
    origin = origins(answer)
    edge = proxy([listen(build())], [cluster("origin", origin.port)])
    for times in range(1, 5):
        eventually(lambda: version(edge).body == b"one", what="a process")
        clients = [edge.connect("edge") for _ in range(8)]
        for client in clients:
            client.send("GET", "/", headers=[("x-do", "ask")])
        eventually(lambda times=times: edge.log().count("it asks") == 8 * times, what="all of them in the process")
        assert version(edge, do="abort").status == 503
        for client in clients:
            assert client.read_reply().status == 503
            client.close()


CHAOS = ROOT / "tests" / "filters" / "native" / "chaos.c"


@pytest.fixture
def shouts(tmp_path, proxy, origins):
    """A proxy whose filter makes bodies of requests upper-case on their way, and the origin that they go to."""
    library = compile_plugin(CHAOS, tmp_path / "chaos.so", '-DVERSION="1"')

    def one(on_failure):
        origin = origins(lambda exchange: exchange.reply(200, exchange.request.read_body()))
        return proxy([listen(library, on_failure=on_failure)], [cluster("origin", origin.port)])

    return one


@pytest.mark.parametrize("on_failure", ["CLOSED", "OPEN"])
def test_a_body_that_a_lost_process_had_in_its_hands_ends_its_request(shouts, on_failure):
    """Its bytes are gone with the process, so nobody can go on with it; and nobody waits for the rest."""
    edge = shouts(on_failure)
    with edge.connect("edge") as client:
        client.send_head("POST", "/", [("content-length", 6), ("x-do", "body abort")])
        edge.wait_for_stat("http.edge.downstream_rq_active", 1)
        client.send_bytes(b"abc")
        assert client.read_reply().status == 503
    eventually(lambda: edge.get(method="POST", body=b"abc").body == b"ABC", what="the next process")


@pytest.mark.parametrize(("on_failure", "status"), [("CLOSED", 503), ("OPEN", 200)])
def test_a_body_that_a_lost_process_had_seen_nothing_of_is_dealt_with_as_its_request(shouts, on_failure, status):
    edge = shouts(on_failure)
    with edge.connect("edge") as client:
        client.send_head("POST", "/", [("content-length", 3), ("x-do", "transformer abort")])
        edge.wait_for_stat("native.library.chaos.crashes", 1)
        client.send_bytes(b"abc")
        reply = client.read_reply()
    assert reply.status == status
    assert reply.body == b"abc" or on_failure == "CLOSED"


def test_who_waits_for_a_slow_body_holds_nobody_up(build, proxy, origins):
    """More of them than there are threads in the process."""
    origin = origins(answer)
    edge = proxy([listen(build())], [cluster("origin", origin.port)])
    slow = [edge.connect("edge") for _ in range(30)]
    for client in slow:
        client.send_bytes(b"POST / HTTP/1.1\r\nhost: x\r\nx-do: read\r\ncontent-length: 5\r\n\r\nab")
    for _ in range(10):
        assert version(edge).body == b"one"
    for client in slow:
        client.send_bytes(b"cde")
        assert client.read_reply().status == 200
        client.close()


def test_a_new_file_is_served_by_another_process(build, proxy, origins):
    origin = origins(answer)
    edge = proxy([listen(build())], [cluster("origin", origin.port)])
    assert version(edge).body == b"one"
    build("two")
    eventually(lambda: version(edge).body == b"two", what="the new file")
    assert edge.stat("native.library.deadly.crashes") == 0
    assert '"library_id": "deadly"' in edge.admin("/extensions")


def test_a_new_file_of_another_plug_in_is_not_taken_and_the_log_says_why(build, proxy, origins):
    origin = origins(answer)
    edge = proxy([listen(build())], [cluster("origin", origin.port)])
    build("two", name="alive")
    edge.wait_for_log("its plug-in is called alive")
    assert version(edge).body == b"one"


@pytest.mark.parametrize("how", ["block", "block long"])
def test_at_the_end_a_configuration_is_given_back_after_who_uses_it_or_not_at_all(build, proxy, origins, how):
    origin = origins(answer)
    edge = proxy([listen(build())], [cluster("origin", origin.port)], flags=["--drain-time-s", "0"])
    assert version(edge).body == b"one"
    with edge.connect("edge") as client:
        client.send("GET", "/", headers=[("x-do", how)])
        edge.wait_for_log("it blocks")
        assert edge.stop() == 0
    end = edge.log().partition("it blocks")[2]
    assert ("its configuration is given back" in end) == (how == "block")
    assert ("still runs at its process's end" in end) == (how == "block long")
    assert "ended the process while it gave back" not in end
