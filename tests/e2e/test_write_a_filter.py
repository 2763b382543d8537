"""docs/write-a-filter.md: the code on it is that of the example, and the example does what the page says."""

import pathlib
import re
import zlib

import pytest

from harness import ROOT, SLUICE, TYPE, Gone, LogFile, cluster, listener, router, to

PROGRAM = pathlib.Path(SLUICE).resolve().parent / "sluice_with_filter"
SIZES = [0, 1, 100, 16_384, 300_000]
needs_program = pytest.mark.skipif(not PROGRAM.exists(), reason="a build without tests has no such program")


def body_of(size):
    return bytes(at * 11 % 253 for at in range(size))


def answer(exchange):
    how, size = exchange.request.path.strip("/").split("/")
    body = body_of(int(size))
    if how == "length":
        exchange.reply(200, body)
    elif how == "chunked":
        exchange.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for at in range(0, len(body), 7000):
            piece = body[at : at + 7000]
            exchange.send(b"%x\r\n%s\r\n" % (len(piece), piece))
        exchange.send(b"0\r\n\r\n")
    else:  # it breaks in the middle
        exchange.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body) + 1, body))
        raise Gone("in the middle")


@needs_program
def test_the_example_sums_bodies_as_they_pass(proxy, origins, tmp_path):
    origin = origins(answer)
    log = LogFile(tmp_path / "log", "%PATH% %DYNAMIC_METADATA(body_sum:bytes)% %DYNAMIC_METADATA(body_sum:crc32)%")
    body_sum = {"name": "body_sum", "typed_config": {"@type": TYPE + "example.BodySum"}}
    edge = proxy(
        [listener("edge", [to()], filters=[body_sum, router()], hcm={"access_log": [log.config]})],
        [cluster("origin", origin.port)],
        program=str(PROGRAM),
    )
    want = []
    with edge.connect() as client:
        for how in ("length", "chunked"):
            for size in SIZES:
                body = body_of(size)
                assert client.ask("GET", f"/{how}/{size}").body == body
                has_body = size or how == "chunked"
                want.append(f"/{how}/{size} {size} {zlib.crc32(body):08x}" if has_body else f"/{how}/{size} - -")
    with edge.connect() as client:
        client.send("GET", "/broken/5000")
        assert client.read_to_end().endswith(body_of(5000))
    want.append("/broken/5000 - -")
    assert sorted(log.lines(edge, len(want))) == sorted(want)  # connections may be on several processors


def test_the_page_shows_the_example():
    page = (ROOT / "docs" / "write-a-filter.md").read_text()
    code = (ROOT / "examples" / "native-filter" / "body_sum.c").read_text()
    assert f"```c\n{code}```" in page
    for name in re.findall(r"^\| `?(\w+)`?(?:, `(\w+)`)? \|", page, re.MULTILINE):
        for decorator in filter(None, name):
            if decorator != "decorator":
                assert (ROOT / "src" / "io" / f"stream_{decorator}.h").exists(), decorator
