"""Redis behind the TCP proxy: recognised by what its clients say first, counted, and served as by itself."""

import pathlib
import shutil
import socket
import subprocess

import pytest

from harness import TYPE, cluster, eventually, reserved_port
from tcp_support import Upstream, connect, receive, tcp_proxy, to_the_end

SNIFFER = {
    "name": "sluice.filters.listener.sniffer",
    "typed_config": {"@type": TYPE + "sluice.extensions.filters.listener.sniffer.v1.Sniffer"},
}


@pytest.fixture(scope="module")
def redis(tmp_path_factory):
    """Its port."""
    program = shutil.which("redis-server")
    assert program, "no redis-server: ./dev test installs it"
    held, port = reserved_port()
    folder = tmp_path_factory.mktemp("redis")
    with open(folder / "log", "wb") as log:
        server = subprocess.Popen(
            [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)], stdout=log
        )

    def answers():
        assert server.poll() is None, pathlib.Path(folder, "log").read_text()
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", port)) == 0

    with held:
        eventually(answers, what="redis-server")
    yield port
    server.kill()
    server.wait()


@pytest.fixture(scope="module")
def edge(module_proxy, redis):
    other = Upstream()
    chains = [
        {
            "filter_chain_match": {"application_protocols": ["redis"]},
            "filters": [tcp_proxy("redis")],
        },
        {"filters": [tcp_proxy("other")]},
    ]
    listener = {
        "name": "edge",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "listener_filters": [SNIFFER],
        "filter_chains": chains,
    }
    it = module_proxy([listener], [cluster("redis", redis), cluster("other", other.port)])
    it.other = other
    yield it
    other.close()


def cli(edge, *arguments, text=None):
    return subprocess.run(
        ["redis-cli", "-p", str(edge.port("edge")), *arguments],
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout


def test_redis_cli_talks_through_it(edge):
    before = edge.stat("sniffer.redis_found")
    assert cli(edge, "PING") == "PONG\n"
    assert cli(edge, "SET", "key", "a value") == "OK\n"
    assert cli(edge, "GET", "key") == "a value\n"
    assert cli(edge, "INCRBY", "number", "41") == "41\n"
    assert edge.stat("sniffer.redis_found") == before + 4
    edge.wait_for_stat("cluster.redis.upstream_cx_active", 0)


def test_a_pipeline_and_a_large_value_pass(edge):
    lines = "".join(f"SET k{i} v{i}\n" for i in range(500))
    assert cli(edge, text=lines) == "OK\n" * 500
    value = "x" * (4 << 20)
    assert cli(edge, "-x", "SET", "large", text=value) == "OK\n"
    assert cli(edge, "GET", "large") == value + "\n"


def test_a_subscriber_hears_what_is_published(edge):
    with connect(edge, "edge") as subscriber:
        subscriber.sendall(b"*2\r\n$9\r\nSUBSCRIBE\r\n$4\r\nnews\r\n")
        hello = b"*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n"
        assert receive(subscriber, len(hello)) == hello
        assert cli(edge, "PUBLISH", "news", "today") == "1\n"
        message = b"*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$5\r\ntoday\r\n"
        assert receive(subscriber, len(message)) == message


def test_an_inline_command_is_redis_too_and_the_rest_is_not(edge):
    with connect(edge, "edge") as client:
        client.sendall(b"PI")
        client.sendall(b"NG\r\n")
        assert receive(client, 7) == b"+PONG\r\n"
        client.sendall(b"QUIT\r\n")
        assert to_the_end(client) == b"+OK\r\n"
    with connect(edge, "edge") as client:
        client.sendall(b"\x00\x01binary")
        upstream = edge.other.accept()
        assert receive(upstream, 8) == b"\x00\x01binary"
        upstream.close()
        assert to_the_end(client) == b""
