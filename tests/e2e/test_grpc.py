"""gRPC through a listener that does not know HTTP/2: the sniffer tells its preface from everything else that comes to
the same port, and the bytes pass as they are."""

import os
import shutil
import subprocess
from concurrent import futures

import grpc
import pytest

from first_bytes import inspected, sniffer
from harness import LogFile, cluster, direct, listener
from tcp_support import connect, network_filter, receive, tcp_proxy

SERVICE = "sluice.test.Echo"
GRPCURL = "github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.3"
PROTO = """
syntax = "proto3";
package sluice.test;
message Text { string text = 1; }
service Echo {
  rpc Say(Text) returns (Text);
  rpc Chat(stream Text) returns (stream Text);
}
"""


def say(request, context):
    context.set_trailing_metadata([("x-length", str(len(request)))])
    return request


def chat(requests, context):
    for request in requests:
        yield request


@pytest.fixture(scope="module")
def edge(module_proxy, tmp_path_factory):
    """One port for gRPC, HTTP/1.1 and Redis."""
    server = grpc.server(futures.ThreadPoolExecutor(4))
    handlers = {
        "Say": grpc.unary_unary_rpc_method_handler(say),
        "Chat": grpc.stream_stream_rpc_method_handler(chat),
    }
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    log = LogFile(
        tmp_path_factory.mktemp("grpc") / "log",
        "%FILTER_STATE(sluice.protocol)% %FILTER_STATE(sluice.flow_id)% %FILTER_STATE(sluice.src_port)% "
        "%DOWNSTREAM_REMOTE_PORT% %UPSTREAM_CLUSTER%",
    )

    def of(protocol, *filters):
        return {"name": protocol, "filter_chain_match": {"application_protocols": [protocol]}, "filters": list(filters)}

    [http] = listener("http", [direct(200, "plain HTTP\n")])["filter_chains"]
    one = inspected(
        "one",
        [sniffer()],
        [
            of("h2c", tcp_proxy("grpc", access_log=[log.config])),
            of("http/1.1", *http["filters"]),
            of("redis", network_filter("direct_response", response={"inline_string": "+PONG\r\n"})),
        ],
    )
    made = module_proxy([one], [cluster("grpc", port)])
    made.access = log
    yield made
    server.stop(None).wait()


def test_grpc_http_and_redis_share_a_port(edge):
    with grpc.insecure_channel(f"127.0.0.1:{edge.port('one')}") as channel:
        unary = channel.unary_unary(f"/{SERVICE}/Say")
        for size in (0, 1, 70_000, 1_000_000):
            reply, call = unary.with_call(b"x" * size, timeout=20)
            assert reply == b"x" * size
            assert dict(call.trailing_metadata())["x-length"] == str(size)
        stream = channel.stream_stream(f"/{SERVICE}/Chat")
        sent = [b"%d" % n * n for n in range(200)]
        assert list(stream(iter(sent), timeout=20)) == sent
    with edge.connect("one") as client:
        assert client.ask("GET", "/").body == b"plain HTTP\n"
    with connect(edge, "one") as client:
        client.sendall(b"*1\r\n$4\r\nPING\r\n")
        assert receive(client, 7) == b"+PONG\r\n"
    [line] = edge.access.lines(edge, 1)
    protocol, flow, src_port, remote_port, upstream = line.split()
    assert (protocol, upstream) == ("h2c", "grpc")
    assert int(flow) > 0
    assert src_port == remote_port


def test_what_only_begins_like_a_preface_goes_nowhere(edge):
    with connect(edge, "one") as client:
        client.sendall(b"PRI * HTTP/2.0\r\n\r\nSX\r\n\r\n")
        assert client.recv(1) == b""


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_grpcurl(edge, tmp_path):
    """Built when it is asked for: two minutes."""
    go = shutil.which("go")
    subprocess.run(
        [go, "install", GRPCURL], env={**os.environ, "GOBIN": str(tmp_path / "bin")}, check=True, timeout=900
    )
    (tmp_path / "echo.proto").write_text(PROTO)
    target = f"127.0.0.1:{edge.port('one')}"
    flags = ["-plaintext", "-import-path", str(tmp_path), "-proto", "echo.proto"]
    program = tmp_path / "bin" / "grpcurl"
    said = subprocess.run(
        [program, *flags, "-d", '{"text": "hello"}', target, f"{SERVICE}/Say"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert '"text": "hello"' in said.stdout
