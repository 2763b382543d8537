"""A Go library in the sandbox of a host process: what it needs works as if there were none, what it has no
business with fails with a clear error, and it does not end over it. What the sandbox denies at large is tried
in tests/unit/ext/test_sandbox.c."""

import http.server
import os
import pathlib
import re
import socket
import struct
import subprocess
import threading

import kit
import pytest
from go_support import Proxy, config_of, go_listener, stop
from harness import ROOT, SLUICE, is_sanitized, run
from isolation_support import host_pids, read_proc
from test_go_traps import is_there

from build import build

MAGIC = 0x534C4831
KINDS = (ROOT / "src/ext/host/ext_host_wire.h").read_text().partition("enum ext_host_kind {")[2].partition("};")[0]
KINDS = re.findall(r"^    EXT_HOST_(\w+)", KINDS, re.M)
GO_LOAD, GO_NEW, SANDBOX = map(KINDS.index, ("GO_LOAD", "GO_NEW", "SANDBOX"))
HEAD = struct.Struct("<II4Q4I")
MAY_EXEC, RESTRICTS_FILES, CHANGES_USER = 1, 2, 4  # ext/remote/sandbox_options.c


class Host:
    """A host process, and its parent's end of the conversation."""

    def __init__(self):
        ours, theirs = socket.socketpair()

        def place():
            os.dup2(theirs.fileno(), 3)

        self.socket = ours
        self.socket.settimeout(60)
        self.process = subprocess.Popen(
            [SLUICE, "--ext-host"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            preexec_fn=place,
            pass_fds=(3,),
        )
        theirs.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()
        self.said = self.process.communicate(timeout=60)[0].decode()

    def _receive(self, size):
        data = b""
        while len(data) < size:
            part = self.socket.recv(size - len(data))
            assert part, "the host process ended"
            data += part
        return data

    def call(self, kind, numbers=(), texts=()):
        numbers = [*numbers, 0, 0, 0, 0][:4]
        texts = [t if isinstance(t, bytes) else str(t).encode() for t in [*texts, "", "", "", ""][:4]]
        head = HEAD.pack(MAGIC, kind, *numbers, *map(len, texts))
        self.socket.sendall(head + b"".join(texts))
        fields = HEAD.unpack(self._receive(HEAD.size))
        answer = [self._receive(size).decode() for size in fields[6:]]
        return fields[2], answer[0]

    def sandbox(self, library, *, flags=0, memory=0, user=0, read=(), write=()):
        lists = ["".join(f"{path}\0" for path in paths) for paths in (read, write)]
        done, said = self.call(SANDBOX, [flags, memory, 0, user], [library, "", *lists])
        assert (done, said) == (1, "")

    def load(self, library):
        assert self.call(GO_LOAD, [2, 3], [library, "sandboxed"]) == (1, "")

    def do(self, action, argument=""):
        """What came of it, in the library's words."""
        text = f"{action} {argument}".encode()
        value = b"\x0a" + bytes([len(text)]) + text
        url = b"type.googleapis.com/google.protobuf.StringValue"
        any_ = b"\x0a" + bytes([len(url)]) + url + b"\x12" + bytes([len(value)]) + value
        done, said = self.call(GO_NEW, [0], ["sandboxed", any_])
        assert done == 0
        return said.split(": ", 1)[1]  # behind "failed to parse golang plugin config"


class Hello(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def library():
    return build("config")


@pytest.fixture(scope="module")
def origin():
    server = http.server.HTTPServer(("127.0.0.1", 0), Hello)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://localhost:{server.server_port}/"
    server.shutdown()
    server.server_close()


def needs_work(host, origin):
    """Names, sockets, threads, signals among them: as without a sandbox."""
    assert host.do("http", origin) == "http: done: hello"
    assert host.do("resolve", "localhost") == "resolve: done: localhost"
    assert host.do("interfaces") == "interfaces: done: true"
    if b"__tsan_init" not in pathlib.Path(SLUICE).read_bytes():  # which keeps signals back
        assert host.do("threads") == "threads: done: "


def test_a_library_has_what_it_needs_and_no_more(library, origin):
    with Host() as host:
        host.sandbox(library)
        host.load(library)
        needs_work(host, origin)
        assert host.do("profile") == "profile: done: "
        assert host.do("exec", "/bin/true") == "exec: fork/exec /bin/true: operation not permitted"
        assert host.do("signal") == "signal: operation not permitted"
    assert host.process.returncode == 0


def test_files_are_those_that_were_named(library, origin, tmp_path):
    for name in ("read", "write"):
        (tmp_path / name).mkdir()
    (tmp_path / "read" / "a").write_text("readable")
    (tmp_path / "key").write_text("secret")
    user = 65534 | 65534 << 32 if os.getuid() == 0 else 0
    if user:
        for folder in (*tmp_path.parents, tmp_path):
            if str(folder).count("/") > 1:
                os.chmod(folder, folder.stat().st_mode | 0o055)
        os.chown(tmp_path / "write", 65534, 65534)
    with Host() as host:
        host.sandbox(
            library,
            flags=RESTRICTS_FILES | MAY_EXEC | (CHANGES_USER if user else 0),
            user=user,
            read=[tmp_path / "read", "/bin/echo"],
            write=[tmp_path / "write"],
        )
        host.load(library)
        needs_work(host, origin)
        assert host.do("read", tmp_path / "read" / "a") == "read: done: readable"
        assert host.do("read", tmp_path / "key") == f"read: open {tmp_path}/key: permission denied"
        assert host.do("write", tmp_path / "write" / "b") == "write: done: "
        assert host.do("write", tmp_path / "read" / "b").endswith(": permission denied")
        assert host.do("exec", "/bin/echo") == "exec: done: \n"
        assert host.do("exec", "/bin/cat").endswith(": permission denied")
    assert (tmp_path / "write" / "b").stat().st_uid == (65534 if user else os.getuid())
    assert host.process.returncode == 0


@pytest.mark.skipif(is_sanitized(), reason="a sanitizer's shadow is memory as well: there is no limit")
def test_memory_past_its_limit_ends_the_library_alone(library):
    with Host() as host:
        host.sandbox(library, memory=512 << 20)
        host.load(library)
        with pytest.raises(AssertionError, match="the host process ended"):
            host.do("allocate")
    assert host.process.returncode != 0
    assert "fatal error: " in host.said or "SIGSEGV: " in host.said  # Go's own end, as it meets it


def test_a_wish_that_cannot_be_met_is_told(library):
    with Host() as host:
        done, said = host.call(SANDBOX, [RESTRICTS_FILES], [library, "", "/nonexistent\0"])
        assert done == 0
        assert said.startswith("read_paths: /nonexistent: ") or "Landlock" in said


def refusal(library, *flags, action="exec /bin/true", **more):
    """What is wrong with a configuration whose parser does that."""
    config = {"@type": kit.TYPE + "google.protobuf.StringValue", "value": action}
    listener = go_listener("main", [kit.go_filter(library, "sandboxed", config, **more)])
    done = run("--mode", "validate", *flags, config=config_of([listener]))
    assert done.returncode == 1
    return done.stderr


def test_a_library_is_tried_as_it_is_going_to_run(library):
    """In the proxy it has all rights, so it is tried with all; in a process of its own it is not even tried outside of
    its sandbox."""
    denied = "exec: fork/exec /bin/true: operation not permitted"
    assert "exec: done: " in refusal(library)
    assert denied in refusal(library, isolation="PROCESS")
    assert denied in refusal(library, "--isolate-extensions")
    assert "exec: done: " in refusal(library, isolation="PROCESS", sandbox={"allow_exec": True})
    wrong = {"allow_syscalls": ["no_such_call"]}
    assert "sandbox: allow_syscalls: 'no_such_call' is no" in refusal(library, isolation="PROCESS", sandbox=wrong)
    wrong = {"restrict_files": True, "read_paths": ["/nonexistent"], "landlock": "IF_AVAILABLE"}
    assert "in its sandbox: read_paths: /nonexistent: " in refusal(library, isolation="PROCESS", sandbox=wrong)


def test_the_process_that_serves_is_in_its_sandbox(library):
    """The one beside it, which is kept ready, has loaded nothing yet."""
    filter_ = kit.go_filter(library, "environ", isolation="PROCESS", sandbox={"max_open_files": 100})
    sluice = Proxy(config_of([go_listener("main", [filter_])]))
    assert sluice.get("/", listener="main").header("x-env-path")
    folders = [pathlib.Path(f"/proc/{pid}") for pid in host_pids(sluice)]
    [serving] = [folder for folder in folders if library.name in read_proc(folder / "maps")]
    status = (serving / "status").read_text()
    assert "NoNewPrivs:\t1" in status and "Seccomp:\t2" in status and "CapEff:\t0000000000000000" in status
    assert re.search(r"Max open files +100 +100", (serving / "limits").read_text())
    stop(sluice)


def test_the_page_names_tests_that_exist():
    page = (ROOT / "docs" / "security.md").read_text()
    table = page.partition("| tried by |\n")[2].partition("\n\n")[0]
    rows = [line.strip("|").split("|") for line in table.splitlines()[1:]]
    assert len(rows) > 12
    for part, _, tests in rows:
        names = re.findall(r"`(\w+)`", tests)
        assert names, f"no test for: {part}"
        for name in names:
            assert is_there(name), f"{name} does not exist; for: {part}"
