"""The servers of bench/streams.py: TCP proxies, routers by the name in a ClientHello, and ends of TLS before a
plain HTTP origin. As _servers.py has them: each with one worker, in the foreground, on loopback.

Of several ways in which a peer can be set up the one that was cheapest here is taken. For bulk HAProxy splices always
(with splice-auto it also copies half of it, at five times the price), through pipes of 1 MiB (of 64 KiB: three times
the price); nginx's stream module copies, through buffers of 256 KiB (of 16: one and a half times).
"""

import functools
import json
import os
import pathlib
import ssl
import subprocess

from _servers import CONNECTIONS, SLUICE, TYPE, Farm, compiled, free_port
from _turns import chosen

NAMES = 16  # hosts that are told apart by their names, each with a backend of its own
MODULES = ("/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/usr/share/nginx/modules")
TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3"
CERTIFICATES = {"ecdsa": ("ec", "ec_paramgen_curve:P-256"), "rsa": ("rsa", "rsa_keygen_bits:2048")}
CURVES = ("X25519", "P-256")
PIPE_BYTES = 1 << 20
CONNECTIONS_MAX = 1 << 20


def host(number):
    return f"host{number}.example.com"


def nginx_stream_module():
    """The path of nginx's stream module, or None. Where nginx was built with it there is none, and none is needed:
    Debian's was not."""
    for folder in MODULES:
        module = pathlib.Path(folder) / "ngx_stream_module.so"
        if module.is_file():
            return str(module)
    return None


def client_hello(name):
    """What a TLS client sends first when it wants to speak to that host."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context()
    client = context.wrap_bio(incoming, outgoing, server_hostname=name)
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        pass  # for the answer to it
    return outgoing.read()


def hellos_file(hellos):
    """What stream_load.c reads: (answer, bytes) each."""
    return b"".join(answer + len(said).to_bytes(2, "big") + said for answer, said in hellos)


def address(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def cluster(name, port):
    """As many connections as come: Envoy's default is 1,024."""
    endpoint = {"endpoint": {"address": address(port)}}
    most = dict.fromkeys(("max_connections", "max_pending_requests", "max_requests"), CONNECTIONS_MAX)
    return {
        "name": name,
        "type": "STATIC",
        "circuit_breakers": {"thresholds": [most]},
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def tcp_proxy(to):
    config = {"@type": f"{TYPE}.network.tcp_proxy.v3.TcpProxy", "stat_prefix": "bench", "cluster": to}
    return {"name": "envoy.filters.network.tcp_proxy", "typed_config": config}


class StreamFarm(Farm):
    """A Farm of these servers. An origin has `ports`."""

    # ---- what stands behind ----

    def stream_origin(self, ports=1):
        numbers = [free_port() for _ in range(ports)]
        command = [compiled("stream_origin.c"), *map(str, numbers)]
        origin = self.start("origin", numbers[0], command)
        origin.ports = numbers
        return origin

    @functools.cache  # noqa: B019  a farm's files live as long as it does
    def certificate(self, kind):
        """(certificate, key) of a kind, files of PEM."""
        algorithm, option = CERTIFICATES[kind]
        certificate, key = self.dir / f"{kind}.pem", self.dir / f"{kind}.key"
        command = ["openssl", "req", "-x509", "-nodes", "-newkey", algorithm, "-pkeyopt", option, "-days", "30"]
        subprocess.run(
            [*command, "-subj", "/CN=localhost", "-keyout", key, "-out", certificate], check=True, capture_output=True
        )
        return str(certificate), str(key)

    # ---- what is measured ----

    def start_nginx(self, text, port, env=None, clients=None):
        user = "user root;" if os.geteuid() == 0 else ""
        module = nginx_stream_module()
        load = f"load_module {module};" if module and "stream {" in text else ""
        path = self.file(
            f"nginx-{port}.conf",
            f"""{load} daemon off; worker_processes 1; {user}
pid {self.dir}/nginx-{port}.pid;
error_log stderr warn;
events {{ worker_connections {2 * (clients or self.clients) + 4 * CONNECTIONS}; }}
{text}
""",
        )
        return self.start("nginx", port, ["nginx", "-e", "stderr", "-c", path], env)

    def start_haproxy(self, text, port, options="", env=None):
        path = self.file(
            f"haproxy-{port}.cfg",
            f"""global
    nbthread 1
    maxconn {self.clients + CONNECTIONS}
    no strict-limits
    {options}
defaults
    timeout connect 5s
    timeout client 600s
    timeout server 600s
{text}
""",
        )
        return self.start("haproxy", port, ["haproxy", "-db", "-f", path], env)

    def start_sluice(self, listener, clusters, port, name, binary, env=None):
        config = {"static_resources": {"listeners": [{"name": "in", "address": address(port), **listener}]}}
        config["static_resources"]["clusters"] = clusters
        admin = self.dir / f"{name}-{port}.admin"
        config["admin"] = {"address": address(0)}
        path = self.file(f"{name}-{port}.yaml", json.dumps(config))  # JSON is YAML
        command = [binary, "-c", path, "--concurrency", "1", "--admin-address-path", str(admin)]
        server = self.start(name, port, command, env)
        server.admin = admin
        return server

    # ---- bytes as they are ----

    def tcp_bare(self, origin, **_):
        port = free_port()
        return self.start("bare", port, [compiled("bare_tcp.c"), str(port), str(origin.port)])

    def tcp_nginx(self, origin, bulk=False, env=None):
        port = free_port()
        size = "proxy_buffer_size 256k;" if bulk else ""
        return self.start_nginx(
            f"stream {{ server {{ listen 127.0.0.1:{port}; proxy_pass 127.0.0.1:{origin.port}; {size} }} }}", port, env
        )

    def tcp_haproxy(self, origin, bulk=False, env=None):
        port = free_port()
        splice = "option splice-request\n    option splice-response"
        return self.start_haproxy(
            f"""    mode tcp
    {splice if bulk else ""}
listen in
    bind 127.0.0.1:{port}
    server origin 127.0.0.1:{origin.port}
""",
            port,
            f"tune.pipesize {PIPE_BYTES}\n    maxpipes 1000" if bulk else "",
            env,
        )

    def tcp_sluice(self, origin, name="sluice", binary=SLUICE, env=None, **_):
        port = free_port()
        listener = {"filter_chains": [{"filters": [tcp_proxy("origin")]}]}
        return self.start_sluice(listener, [cluster("origin", origin.port)], port, name, binary, env)

    # ---- routed by the name in the ClientHello, which is not ended here ----

    def sni_nginx(self, origin):
        port = free_port()
        hosts = "\n".join(f"        {host(i)} 127.0.0.1:{to};" for i, to in enumerate(origin.ports))
        return self.start_nginx(
            f"""stream {{
    map $ssl_preread_server_name $backend {{
        hostnames;
{hosts}
    }}
    server {{ listen 127.0.0.1:{port}; ssl_preread on; proxy_pass $backend; }}
}}""",
            port,
        )

    def sni_haproxy(self, origin):
        port = free_port()
        hosts = self.file(f"hosts-{port}.map", "".join(f"{host(i)} to{i}\n" for i in range(len(origin.ports))))
        backends = "\n".join(f"backend to{i}\n    server s 127.0.0.1:{to}" for i, to in enumerate(origin.ports))
        return self.start_haproxy(
            f"""    mode tcp
frontend in
    bind 127.0.0.1:{port}
    tcp-request inspect-delay 5s
    tcp-request content accept if {{ req_ssl_hello_type 1 }}
    use_backend %[req.ssl_sni,lower,map({hosts})]
{backends}
""",
            port,
        )

    def sni_sluice(self, origin, name="sluice", binary=SLUICE):
        port = free_port()
        inspector = {"@type": f"{TYPE}.listener.tls_inspector.v3.TlsInspector"}
        listener = {
            "listener_filters": [{"name": "envoy.filters.listener.tls_inspector", "typed_config": inspector}],
            "filter_chains": [
                {"filter_chain_match": {"server_names": [host(i)]}, "filters": [tcp_proxy(f"to{i}")]}
                for i in range(len(origin.ports))
            ],
        }
        clusters = [cluster(f"to{i}", to) for i, to in enumerate(origin.ports)]
        return self.start_sluice(listener, clusters, port, name, binary)

    def http_sluice(self, origin, name="sluice", binary=SLUICE):
        port = free_port()
        listener = {"filter_chains": [{"filters": [self.http_manager()]}]}
        return self.start_sluice(listener, [cluster("origin", origin.port)], port, name, binary)

    # ---- the end of TLS, before a plain origin of HTTP/1.1 ----

    def tls_nginx(self, origin, kind, env=None):
        port = free_port()
        certificate, key = self.certificate(kind)
        temporary = "\n".join(
            f"    {what}_temp_path {self.dir}/nginx-{what}-{port};"
            for what in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        return self.start_nginx(
            f"""http {{
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
{temporary}
    upstream origin {{ server 127.0.0.1:{origin.port}; keepalive {self.clients};
        keepalive_requests 1000000000; keepalive_timeout 600s; }}
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {certificate};
        ssl_certificate_key {key};
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_ecdh_curve {":".join(CURVES)};
        location / {{
            proxy_pass http://origin;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_max_temp_file_size 0;
            proxy_buffers 8 64k;
            proxy_buffer_size 16k;
            proxy_busy_buffers_size 128k;
        }}
    }}
}}""",
            port,
            env,
        )

    def tls_haproxy(self, origin, kind, env=None):
        port = free_port()
        certificate, key = self.certificate(kind)
        both = self.file(f"{kind}-both.pem", pathlib.Path(certificate).read_text() + pathlib.Path(key).read_text())
        return self.start_haproxy(
            f"""    mode http
    http-reuse always
frontend in
    bind 127.0.0.1:{port} ssl crt {both} ssl-min-ver TLSv1.2 curves {":".join(CURVES)}
    default_backend origin
backend origin
    server origin 127.0.0.1:{origin.port} pool-max-conn {self.clients} pool-purge-delay 600s
""",
            port,
            env=env,
        )

    def tls_sluice(self, origin, kind, name="sluice", binary=SLUICE, env=None):
        port = free_port()
        certificate, key = self.certificate(kind)
        context = {
            "@type": f"{TLS}.DownstreamTlsContext",
            "common_tls_context": {
                "tls_params": {
                    "tls_minimum_protocol_version": "TLSv1_2",
                    "tls_maximum_protocol_version": "TLSv1_3",
                    "ecdh_curves": list(CURVES),
                },
                "tls_certificates": [
                    {"certificate_chain": {"filename": certificate}, "private_key": {"filename": key}}
                ],
            },
        }
        secure = {"name": "envoy.transport_sockets.tls", "typed_config": context}
        chain = {"transport_socket": secure, "filters": [self.http_manager()]}
        return self.start_sluice({"filter_chains": [chain]}, [cluster("origin", origin.port)], port, name, binary, env)

    @staticmethod
    def http_manager():
        route = {"match": {"prefix": "/"}, "route": {"cluster": "origin"}}
        config = {
            "@type": f"{TYPE}.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "bench",
            "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
            "http_filters": [
                {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{TYPE}.http.router.v3.Router"}}
            ],
        }
        return {"name": "envoy.filters.network.http_connection_manager", "typed_config": config}


class Lineup:
    """Who takes part: `binaries` are ours by name."""

    def __init__(self, options):
        self.binaries = {"sluice": SLUICE, **dict(options.also)}
        self.names = [*self.binaries, "nginx", "haproxy", "bare"]
        if options.only:
            self.names = chosen("streams", options.only, self.names, "server")
        self.ours = [name for name in self.names if name in self.binaries]

    def start(self, farm, kind, name, *arguments, **more):
        """The server of that name as a tcp, sni or tls one."""
        if name in self.binaries:
            return getattr(farm, f"{kind}_sluice")(*arguments, name=name, binary=self.binaries[name], **more)
        return getattr(farm, f"{kind}_{name}")(*arguments, **more)

    def all(self, farm, kind, *arguments, **more):
        """Those of which there is one of that kind."""
        known = [name for name in self.names if name in self.binaries or hasattr(farm, f"{kind}_{name}")]
        return [self.start(farm, kind, name, *arguments, **more) for name in known]
