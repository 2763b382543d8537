"""Profiles as Go's own tools read them, taken of a proxy at work."""

import http.client
import os
import pathlib
import re
import shutil
import subprocess

import pytest
from harness import cluster, direct, listener, to

GO = os.environ.get("SLUICE_GO", "go")


class Profile:
    """A profile of the admin, and what `go tool pprof` says of it."""

    def __init__(self, edge, path, folder):
        host, _, port = edge.admin_path.read_text().rpartition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=40)
        try:
            connection.request("GET", path)
            reply = connection.getresponse()
            self.status, self.type, body = reply.status, reply.headers["content-type"], reply.read()
        finally:
            connection.close()
        assert self.status == 200, body
        assert self.type == "application/octet-stream"
        self.path = folder / "profile"
        self.path.write_bytes(body)

    def ask(self, *flags):
        if not shutil.which(GO):
            pytest.skip("no Go here")
        env = {**os.environ, "PPROF_TMPDIR": str(self.path.parent)}
        done = subprocess.run(
            [GO, "tool", "pprof", *flags, str(self.path)], capture_output=True, text=True, timeout=50, env=env
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def top(self):
        """{function: (flat, cumulative)} in samples or coroutines."""
        found = {}
        for line in self.ask("-top", "-nodecount=10000", "-nodefraction=0", "-sample_index=0").splitlines():
            row = re.fullmatch(r" *(\d+) +\S+% +\S+% +(\d+) +\S+% +(\S+)(?: \(inline\))?", line)
            if row:
                found[row[3]] = int(row[1]), int(row[2])
        return found


@pytest.fixture
def edge(proxy, origin):
    return proxy([listener("edge", [direct(200, "hi", "/hi"), to()])], [cluster("origin", origin.port)])


@pytest.mark.parametrize("query", ["", "?debug=0"])
def test_the_goroutine_profile_is_what_go_tool_pprof_reads(edge, tmp_path, query):
    profile = Profile(edge, f"/debug/pprof/goroutine{query}", tmp_path)
    top = profile.top()
    assert top["page_goroutine"][1] == 1  # who asks
    raw = profile.ask("-raw")
    assert "PeriodType: goroutine count" in raw
    assert re.search(r"coroutine:\[\S.*\]", raw)
    assert re.search(r"state:\[blocking call\]", raw)
    # Lines, and what is loaded with its build id.
    assert re.search(r"page_goroutine src/admin/profile_page\.c:\d+", raw)
    exe = os.readlink(f"/proc/{edge.process.pid}/exe")
    assert re.search(rf"\d+: 0x[0-9a-f]+/0x[0-9a-f]+/0x[0-9a-f]+ {re.escape(exe)} [0-9a-f]{{16,}} \[FN\]\[FL\]\[LN\]\[IN\]", raw)
    assert pathlib.Path(exe).name == "sluice"
