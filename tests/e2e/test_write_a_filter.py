"""docs/write-a-filter.md: the code on it is that of the example, is built as it says, and does what it says."""

import os
import pathlib
import re
import shutil
import subprocess
import zlib

import pytest

from harness import ROOT, SLUICE, TYPE, Gone, LogFile, cluster, listener, router, run, to

PAGE = (ROOT / "docs" / "write-a-filter.md").read_text()
EXAMPLE = ROOT / "examples" / "native-filter" / "body_sum.c"
PKG_CONFIG = pathlib.Path(SLUICE).resolve().parent / "meson-private" / "sluice-filter.pc"
SIZES = [0, 1, 100, 16_384, 300_000]


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


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """Built by the page's own line, with the .pc file as if this tree were where Sluice is installed."""
    if not PKG_CONFIG.exists() or not shutil.which("pkg-config"):
        pytest.skip("an installed Sluice: its .pc file is elsewhere")
    folder = tmp_path_factory.mktemp("filter")
    installed = re.sub("^prefix=.*", f"prefix={ROOT}", PKG_CONFIG.read_text(), flags=re.MULTILINE)
    (folder / "sluice-filter.pc").write_text(installed)
    shutil.copy(EXAMPLE, folder)
    [line] = re.findall(r"^    (cc .*)$", PAGE, re.MULTILINE)
    strict = line.replace("cc ", "cc -Wall -Wextra -Werror ", 1)
    subprocess.run(strict, shell=True, check=True, cwd=folder, env={**os.environ, "PKG_CONFIG_PATH": str(folder)})
    return folder / "body_sum.so"


def body_sum(library, config):
    native = {"@type": TYPE + "sluice.filters.http.native.v3.Native", "library_path": str(library), "config": config}
    return {"name": "body_sum", "typed_config": native}


def test_the_example_sums_bodies_as_they_pass(proxy, origins, library, tmp_path):
    origin = origins(answer)
    log = LogFile(tmp_path / "log", "%PATH% %DYNAMIC_METADATA(sums:bytes)% %DYNAMIC_METADATA(sums:crc32)%")
    filters = [body_sum(library, {"namespace": "sums"}), router()]
    edge = proxy(
        [listener("edge", [to()], filters=filters, hcm={"access_log": [log.config]})],
        [cluster("origin", origin.port)],
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


def test_its_cases_pass(library):
    done = run("filter-test", str(library), "--cases", str(EXAMPLE.parent / "cases.yaml"))
    assert done.returncode == 0 and "2 cases, 0 failed" in done.stdout, done


def test_the_page_shows_the_example():
    assert f"```c\n{EXAMPLE.read_text()}```" in PAGE
    for name in re.findall(r"^\| `?(\w+)`?(?:, `(\w+)`)? \|", PAGE, re.MULTILINE):
        for decorator in filter(None, name):
            if decorator != "decorator":
                assert (ROOT / "src" / "io" / f"stream_{decorator}.h").exists(), decorator
