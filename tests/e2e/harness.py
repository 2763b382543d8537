"""A proxy, origins and clients for end-to-end tests.

Nothing here guesses a port: listeners bind port 0 and the admin tells what the kernel gave. Nothing
waits by the clock: `eventually` looks until a condition holds, and says what it saw if it never
does."""

import collections
import copy
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "filters"))

from wire import (  # noqa: E402, F401
    Client,
    Gone,
    Reader,
    Reply,
    encode_chunk,
    encode_end,
    encode_head,
)

SLUICE = os.environ.get("SLUICE_BIN", str(ROOT / "build" / "sluice"))
TYPE = "type.googleapis.com/"
HCM = TYPE + "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
ROUTER = TYPE + "envoy.extensions.filters.http.router.v3.Router"


def eventually(look, *, timeout_s=20, what="the condition"):
    """Calls look until it returns something true, and returns that."""
    deadline = time.monotonic() + timeout_s
    while True:
        seen = look()
        if seen:
            return seen
        assert time.monotonic() < deadline, f"{what} did not come about; last seen: {seen!r}"
        time.sleep(0.005)


# ---- configuration ----------------------------------------------------------


def address(port, host="127.0.0.1"):
    return {"socket_address": {"address": host, "port_value": port}}


def router(**options):
    return {"name": "envoy.filters.http.router", "typed_config": {"@type": ROUTER, **options}}


def to(cluster="origin", prefix="/", *, match=None, **action):
    """A route to a cluster."""
    return {"match": match or {"prefix": prefix}, "route": {"cluster": cluster, **action}}


def direct(status, body=None, prefix="/", **more):
    """A route that answers by itself."""
    response = {"status": status}
    if body is not None:
        response["body"] = {"inline_string": body}
    return {"match": {"prefix": prefix}, "direct_response": response, **more}


def access_log(path, **log_format):
    """A file access log; log_format is e.g. text_format_source={"inline_string": "..."}."""
    config = {
        "@type": TYPE + "envoy.extensions.access_loggers.file.v3.FileAccessLog",
        "path": str(path),
    }
    if log_format:
        config["log_format"] = log_format
    return {"name": "envoy.access_loggers.file", "typed_config": config}


def listener(name, routes=None, *, hosts=None, filters=None, hcm=None, route_config=None, **more):
    """A listener on a port of the kernel's choice. routes is one virtual host for all domains;
    hosts is a list of whole virtual hosts instead."""
    manager = {
        "@type": HCM,
        "stat_prefix": name,
        "route_config": {
            "name": name,
            "virtual_hosts": hosts or [{"name": "all", "domains": ["*"], "routes": routes}],
            **(route_config or {}),
        },
        "http_filters": filters or [router()],
        **(hcm or {}),
    }
    return {
        "name": name,
        "address": address(0),
        "filter_chains": [
            {
                "filters": [
                    {
                        "name": "envoy.filters.network.http_connection_manager",
                        "typed_config": manager,
                    }
                ]
            }
        ],
        **more,
    }


def cluster(name, *ports, **more):
    endpoints = [{"endpoint": {"address": address(port)}} for port in ports]
    return {
        "name": name,
        "type": "STATIC",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
        **more,
    }


def bootstrap(listeners, clusters=(), **more):
    return {
        "admin": {"address": address(0)},
        "static_resources": {"listeners": list(listeners), "clusters": list(clusters)},
        **more,
    }


def marked(config, number):
    """The same with a number in each listener and cluster, which changes nothing but that they are not those of another
    number."""
    if isinstance(config, str):
        return config
    changed = copy.deepcopy(config)
    for kind in ("listeners", "clusters"):
        for one in changed.get("static_resources", {}).get(kind, ()):
            metadata = one.setdefault("metadata", {}).setdefault("filter_metadata", {})
            metadata["tests.reloads"] = {"number": number}
    return changed


# ---- the proxy --------------------------------------------------------------


class LogFile:
    """A file access log of one text format; `config` goes into a listener's access_log."""

    def __init__(self, path, text="%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%"):
        self.path = path
        self.config = access_log(path, text_format_source={"inline_string": text + "\n"})

    def lines(self, edge, count):
        """The lines, once there are that many. Opening logs again writes what is buffered."""

        def look():
            edge.admin("/reopen_logs", method="POST")
            lines = self.path.read_text().splitlines() if self.path.exists() else []
            return lines if len(lines) >= count else None

        return eventually(look, what=f"{count} access log lines")


def is_sanitized():
    """Whether the binary is a sanitizer's, whose memory and pace say nothing."""
    binary = pathlib.Path(SLUICE).read_bytes()
    return b"__asan_init" in binary or b"__tsan_init" in binary


class Proxy:
    """A running Sluice, or another program that takes Envoy's flags. Its ports by listener name are
    in `ports`. Those that run, and those that ended lately, are in `Proxy.known` (proxy_logs.py)."""

    known = []

    def __init__(self, config, *, level="debug", flags=(), env=None, program=SLUICE):
        self.folder = tempfile.TemporaryDirectory(prefix="sluice-")
        folder = pathlib.Path(self.folder.name)
        self.config_path = folder / "bootstrap.yaml"
        self.write_config(config)
        self.log_path = folder / "log"
        self.out_path = folder / "out"
        self.admin_path = folder / "admin"
        backend = ["--io", os.environ["SLUICE_IO"]] if "SLUICE_IO" in os.environ else []
        with open(self.log_path, "wb") as log, open(self.out_path, "wb") as out:
            self.process = subprocess.Popen(
                [
                    program,
                    "-c",
                    str(self.config_path),
                    "-l",
                    level,
                    "--admin-address-path",
                    str(self.admin_path),
                    *(backend if program == SLUICE else []),
                    *flags,
                ],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
                env={**os.environ, **(env or {})},
            )
        Proxy.known.append(self)
        try:
            eventually(self._is_ready, timeout_s=60, what="readiness")
        except AssertionError as error:
            self.kill()
            raise AssertionError(f"{error}\n{self.log()[-4000:]}") from None
        if program == SLUICE:
            self._reload_often(config, int(os.environ.get("SLUICE_TEST_RELOADS", 0)))
        self.ports = self._ports()

    def _reload_often(self, config, times):
        """All that follows is to be as without."""
        for number in range(1, times + 1):
            said = self.reload(config if number == times else marked(config, number))
            assert said.startswith("version "), said

    def _is_ready(self):
        assert self.process.poll() is None, f"the proxy ended: {self.process.returncode}"
        if not self.admin_path.exists() or not self.admin_path.read_text():
            return False
        try:
            return self.admin("/ready").startswith("LIVE")
        except OSError:
            return False

    def _ports(self):
        ports = {}
        for line in self.admin("/listeners").splitlines():
            name, _, where = line.partition("::")
            ports.setdefault(name, int(where.rpartition(":")[2]))  # the first of its addresses
        return ports

    def write_config(self, config):
        """In the place of what is there, in one step."""
        text = config if isinstance(config, str) else json.dumps(config, indent=1)
        beside = self.config_path.with_suffix(".next")
        beside.write_text(text)  # JSON is YAML
        beside.rename(self.config_path)

    def reload(self, config):
        """Has it follow another configuration. What it says to that: which version serves, or what is wrong."""
        self.write_config(config)
        said = self.admin("/config/reload", method="POST")
        if said.startswith("version "):
            self.ports = self._ports()
        return said

    def port(self, name=None):
        if name is None:
            [name] = self.ports
        return self.ports[name]

    def connect(self, name=None, **more):
        return Client(self.port(name), **more)

    def get(self, path="/", *, listener=None, headers=(), method="GET", **more):
        """One request on a connection of its own."""
        with self.connect(listener) as client:
            return client.ask(method, path, headers=headers, **more)

    def admin(self, path, *, method="GET"):
        url = f"http://{self.admin_path.read_text()}{path}"
        request = urllib.request.Request(url, method=method)
        try:
            with urllib.request.urlopen(request, timeout=20) as reply:
                return reply.read().decode()
        except urllib.error.HTTPError as error:
            return error.read().decode()

    def stats(self):
        values = {}
        for line in self.admin("/stats").splitlines():
            key, _, value = line.rpartition(": ")
            if value.lstrip("-").isdigit():
                values[key] = int(value)
        return values

    def stat(self, name):
        return self.stats().get(name, 0)

    def wait_for_stat(self, name, value):
        eventually(lambda: self.stat(name) == value, what=f"{name} == {value}")

    def rss_kb(self):
        """Its resident memory."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0])

    def log(self):
        return self.log_path.read_text(errors="replace")

    def out(self):
        return self.out_path.read_text(errors="replace")

    def wait_for_log(self, text):
        eventually(lambda: text in self.log(), what=f"the log line {text!r}")

    def alive(self):
        return self.process.poll() is None

    def leaks(self):
        """What is held once every client has gone: all zero when nothing leaks. Waits until the
        exchanges are over, then counts."""

        def held():
            stats = self.stats()
            return {
                key: value
                for key, value in stats.items()
                if value
                and ".admin." not in key  # that is us, asking
                and (
                    key.endswith((".downstream_rq_active", ".upstream_rq_active"))
                    or key.endswith(".downstream_cx_active")
                    or key.endswith((".seats_busy", ".ends_waiting"))
                    or (key.startswith("listener.") and key.endswith(".memory_bytes"))
                )
            }

        try:
            eventually(lambda: not held(), timeout_s=20)
        except AssertionError:
            pass
        return held()

    def stop(self, *, timeout_s=60):
        """Asks it to end and returns its exit status; its log must show no sanitizer report."""
        if self.alive():
            self.process.terminate()
            try:
                self.process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self.kill()
                raise AssertionError(f"it does not end:\n{self.log()[-4000:]}") from None
        return self.process.returncode

    def kill(self):
        self.process.kill()
        self.process.wait()


def run(*args, config=None, timeout_s=60):
    """Runs the binary to its end: {exit status, output}. config goes into a file given with -c."""
    with tempfile.TemporaryDirectory(prefix="sluice-") as folder:
        args = list(args)
        if config is not None:
            path = pathlib.Path(folder, "bootstrap.yaml")
            path.write_text(config if isinstance(config, str) else json.dumps(config, indent=1))
            args += ["-c", str(path)]
        return subprocess.run(
            [SLUICE, *args],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )


# ---- origins ----------------------------------------------------------------


class Request:
    """What an origin received."""

    def __init__(self, method, path, version, headers, reader):
        self.method, self.path, self.version = method, path, version
        self.headers = headers
        self._reader = reader
        self.body, self.trailers = None, None

    def header(self, name):
        return next((value for key, value in self.headers if key == name), None)

    def all(self, name):
        return [value for key, value in self.headers if key == name]

    def read_body(self):
        names = dict(self.headers)
        if "content-length" in names or "transfer-encoding" in names:
            self.body, self.trailers = self._reader.body(self.headers)
        else:
            self.body, self.trailers = b"", []
        return self.body


class Exchange:
    """One connection of an origin, at one request."""

    def __init__(self, sock, reader, request, origin):
        self.sock, self.reader, self.request, self.origin = sock, reader, request, origin

    def send(self, data):
        self.sock.sendall(data)

    def reply(self, status=200, body=b"", headers=()):
        head = [f"HTTP/1.1 {status} X"]
        head += [f"{name}: {value}" for name, value in headers]
        if not any(name.lower() in ("content-length", "transfer-encoding") for name, _ in headers):
            head.append(f"content-length: {len(body)}")
        self.send("\r\n".join(head).encode() + b"\r\n\r\n" + body)

    def reset(self):
        """Ends the connection with a RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        self.reader.file.close()
        self.sock.close()
        raise Gone("reset by the test")

    def wait_closed(self):
        """Until the proxy closes its side."""
        while self.sock.recv(65536):
            pass


class Origin:
    """An HTTP/1.1 server for tests. `answer(exchange)` runs on a thread for each request, after its
    head was read; the default reads the body and answers 200 with the body it got. Requests are in
    `requests`, in order of arrival, unless it keeps none: with their bodies they are gigabytes after some minutes."""

    def __init__(self, answer=None, *, keeps_requests=True):
        self.answer = answer or self.echo
        self.requests = [] if keeps_requests else collections.deque(maxlen=0)
        self.connections = 0
        self.open = 0
        self._lock = threading.Lock()
        self._server = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port = self._server.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()
        self._sockets = set()

    @staticmethod
    def echo(exchange):
        exchange.reply(200, exchange.request.read_body())

    def _accept(self):
        while True:
            try:
                sock, _ = self._server.accept()
            except OSError:
                return
            with self._lock:
                self.connections += 1
                self.open += 1
                self._sockets.add(sock)
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock):
        reader = Reader(sock)
        try:
            while True:
                first = reader.line()
                if not first:
                    break
                method, path, version = first.split(" ")
                request = Request(method, path, version, reader.fields(), reader)
                with self._lock:
                    self.requests.append(request)
                self.answer(Exchange(sock, reader, request, self))
        except (Gone, OSError, ValueError):
            pass
        finally:
            with self._lock:
                self.open -= 1
                self._sockets.discard(sock)
            reader.file.close()  # it holds the descriptor too
            sock.close()

    def last(self):
        return self.requests[-1]

    def wait_for_requests(self, count):
        eventually(lambda: len(self.requests) >= count, what=f"{count} requests at the origin")
        return self.requests

    def close(self):
        try:
            self._server.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._server.close()
        with self._lock:
            sockets = list(self._sockets)
        for sock in sockets:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


class DeafListener:
    """A port that takes no handshake: its queue is full. Connects to it wait until somebody gives up."""

    def __init__(self):
        self.sockets = [socket.socket() for _ in range(4)]
        listening, *fillers = self.sockets
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        self.port = listening.getsockname()[1]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listening.getsockname())

    def close(self):
        for one in self.sockets:
            one.close()


def reserved_port():
    """A port for a server that takes none of the kernel's choice: nobody else is given it for as long as the returned
    socket lives, which is bound to it, does not listen, and shares it with who sets SO_REUSEADDR, as servers do."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", 0))
    return sock, sock.getsockname()[1]


def closed_port():
    """A port that refuses connections for as long as the returned socket lives: bound, not
    listening."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    return sock, sock.getsockname()[1]
