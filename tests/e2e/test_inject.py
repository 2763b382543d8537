"""Texts that are put into the bytes of a connection: a trace header, a tenant, a tag. And what is left of them when
somebody breaks off."""

import hashlib
import re
import select
import socket

import pytest

from harness import TYPE, bootstrap, cluster, run
from tcp_support import (
    Receiver,
    Sender,
    Upstream,
    connect,
    pieces,
    receive,
    reset,
    tcp_listener,
    tcp_proxy,
    through,
    to_the_end,
)

MB = 1 << 20
INJECT = TYPE + "sluice.extensions.filters.network.inject.v1.Inject"


def inject(**config):
    return {"name": "sluice.filters.network.inject", "typed_config": {"@type": INJECT, **config}}


def chain(name, inject_config, **match):
    return {"name": name, "filter_chain_match": match, "filters": [inject(**inject_config), tcp_proxy()]}


class Story:
    pass


@pytest.fixture(scope="module")
def story(module_proxy):
    it = Story()
    it.origin, it.blue = Upstream(), Upstream()
    tenant = {"to_upstream": {"prefix": "tenant=%FILTER_CHAIN_NAME%;"}}
    tenants = tcp_listener("tenants")
    tenants["filter_chains"] = [
        chain("acme", tenant, source_prefix_ranges=[{"address_prefix": "127.0.0.2", "prefix_len": 32}]),
        chain("umbrella", tenant),
    ]
    weighted = {"clusters": [{"name": "origin", "weight": 1}, {"name": "blue", "weight": 1}]}
    it.edge = module_proxy(
        [
            tcp_listener(
                "traced",
                inject(
                    to_upstream={
                        "prefix": "X-Trace-ID: %CONNECTION_ID%-%DOWNSTREAM_DIRECT_REMOTE_PORT%\n",
                        "footer": "\n-- end of %CONNECTION_ID%\n",
                    }
                ),
                tcp_proxy(),
            ),
            tenants,
            tcp_listener(
                "variants",
                inject(to_client={"prefix": "variant=%UPSTREAM_CLUSTER%\n", "footer": "\nbye from %UPSTREAM_CLUSTER%"}),
                tcp_proxy(None, "variants", weighted_clusters=weighted),
            ),
            tcp_listener("variants_of_one", inject(to_client={"prefix": "<%UPSTREAM_CLUSTER%>"}), tcp_proxy()),
        ],
        [cluster("origin", it.origin.port), cluster("blue", it.blue.port)],
    )
    yield it
    it.origin.close()
    it.blue.close()


def test_each_stream_tells_its_trace(story):
    """Header, body, footer: the upstream can tell streams apart, though the client knows of nothing."""
    traces = set()
    for body in (b"one line of a log\n", b""):
        client, upstream = through(story.edge, story.origin, "traced")
        with client, upstream:
            head = f"X-Trace-ID: (\\d+)-{client.getsockname()[1]}\n".encode()
            first = b""
            while not first.endswith(b"\n"):  # it comes before the client says anything
                first += receive(upstream, 1)
            trace = re.fullmatch(head, first)
            assert trace, first
            client.sendall(body)
            client.shutdown(socket.SHUT_WR)
            assert to_the_end(upstream) == body + b"\n-- end of " + trace[1] + b"\n"
            upstream.sendall(b"noted")
            upstream.close()
            assert to_the_end(client) == b"noted"  # the other way is as it was
            traces.add(trace[1])
    assert len(traces) == 2


def test_each_tenant_is_named(story):
    """Which tenant it is was decided with the filter chain, here by the client's network."""
    for source, tenant in (("127.0.0.2", b"acme"), ("127.0.0.1", b"umbrella")):
        with socket.create_connection(
            ("127.0.0.1", story.edge.port("tenants")), timeout=20, source_address=(source, 0)
        ) as client:
            with story.origin.accept() as upstream:
                want = b"tenant=" + tenant + b";SELECT 1"
                client.sendall(b"SELECT 1")
                assert receive(upstream, len(want)) == want
                upstream.sendall(b"1")
                assert receive(client, 1) == b"1"


def test_each_client_is_told_its_variant(story):
    """The tag is known once an upstream is chosen, and goes before its first byte."""
    names = {story.origin.listening: b"origin", story.blue.listening: b"blue"}
    seen = set()
    for _ in range(40):
        with connect(story.edge, "variants") as client:
            client.sendall(b"hello")
            client.shutdown(socket.SHUT_WR)
            [chosen, *_], _, _ = select.select(list(names), [], [], 20)
            upstream, _ = chosen.accept()
            with upstream:
                assert to_the_end(upstream) == b"hello"
                upstream.sendall(b"answer")
                upstream.shutdown(socket.SHUT_WR)
                name = names[chosen]
                assert to_the_end(client) == b"variant=" + name + b"\nanswer\nbye from " + name
            seen.add(name)
        if len(seen) == 2:
            return
    raise AssertionError(f"only {seen} of 40 connections")


def test_a_stream_that_breaks_has_no_footer(story):
    client, upstream = through(story.edge, story.origin, "traced")
    with upstream:
        client.sendall(b"half of a li")
        first = b""
        while not first.endswith(b"half of a li"):
            first += receive(upstream, 1)
        reset(client)
        rest = b""
        try:
            while piece := upstream.recv(100):
                rest += piece
        except ConnectionResetError:
            pass
        assert rest == b""


def test_nobody_looks_at_the_bytes_in_between(story):
    """Large streams are spliced all the same, and whole."""
    size = 24 * MB
    before = story.edge.stat("server.io.stream_splice_bytes")
    client, upstream = through(story.edge, story.origin, "variants_of_one")
    with client, upstream:
        receiver = Receiver(client)
        Sender(upstream, "bulk", size)
        client.shutdown(socket.SHUT_WR)
        assert to_the_end(upstream) == b""
        got = receiver.digest()
        assert receiver.size == size + len(b"<origin>")
    want = hashlib.sha256(b"<origin>" + b"".join(pieces("bulk", size))).hexdigest()
    assert got == want
    assert story.edge.stat("server.io.stream_splice_bytes") - before > size / 4


REFUSED = {
    "nothing at all": ({}, "there is nothing to inject: set to_upstream, to_client or both"),
    "nothing one way": ({"to_client": {}}, "there is nothing to inject: set prefix, footer or both"),
    "no such operator": ({"to_client": {"prefix": "%NO_SUCH%"}}, "NO_SUCH"),
}


@pytest.mark.parametrize("config, problem", REFUSED.values(), ids=REFUSED)
def test_what_says_nothing_is_refused(config, problem):
    done = run(
        "--mode",
        "validate",
        config=bootstrap([tcp_listener("bad", inject(**config), tcp_proxy())], [cluster("origin", 1)]),
    )
    assert done.returncode == 1
    assert problem in done.stdout + done.stderr
