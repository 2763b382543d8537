"""Servers whose configuration changes while they serve: of a version that they answer with, and of so many rules.

    live = KINDS["nginx"](farm, origin, rules)
    live.prepare(7)     # writes it, beside the one that is read
    live.change()       # puts it in its place, and tells the server
    live.settle()       # nothing of a former version serves any more

Each rule is a prefix that goes to the origin. Sluice and Envoy read the same routes."""

import http.client
import json
import os
import signal
import time

from _servers import POOLED, SLUICE, TO_ORIGIN, envoy_binary, free_port, http_listener, process_tree

VERSION_PATH = "/version"
PATIENCE_S = 60


def version_body(version):
    return f"version {version}."


def routes(version, rules):
    answer = {"status": 200, "body": {"inline_string": version_body(version)}}
    return [
        {"match": {"path": VERSION_PATH}, "direct_response": answer},
        *({"match": {"prefix": f"/rule-{number}/"}, **TO_ORIGIN} for number in range(rules)),
    ]


class Live:
    name = ""
    workers = 0  # processes beside the one that was started, when nothing is under way

    def __init__(self, farm, origin, rules):
        self.farm, self.origin, self.rules = farm, origin, rules
        self.port, self.admin = free_port(), free_port()
        self.path = str(farm.dir / f"{self.name}-{self.port}.yaml")
        self.prepare(0)
        os.rename(self.next_path, self.path)
        self.server = self.start()

    def start(self):
        raise NotImplementedError

    def write(self, version):
        """Writes the configuration of that version into a file of its own: its path."""
        raise NotImplementedError

    def tell(self):
        raise NotImplementedError

    def prepare(self, version):
        self.next_path = self.write(version)

    def change(self):
        os.rename(self.next_path, self.path)
        self.tell()

    def settle(self, is_asked=lambda: True):
        """Processes that are being replaced have ended; or nobody asks any more, whose idle connections keep one."""
        deadline = time.monotonic() + PATIENCE_S
        while is_asked() and len(process_tree(self.server.pid)) != 1 + self.workers:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.name}: a former process does not end")
            time.sleep(0.002)

    def stop(self):
        self.farm.stop(self.server)


class Sluice(Live):
    name = "sluice"
    flags = ()

    def start(self):
        command = [SLUICE, "-c", self.path, "--concurrency", str(self.farm.workers), *self.flags]
        return self.farm.start(self.name, self.port, command)

    def write(self, version):
        listener = http_listener("in", self.port, routes=routes(version, self.rules))
        return self.farm.bootstrap(f"{self.name}-{self.port}-next", [listener], self.origin, self.admin)

    def tell(self):
        self.server.process.send_signal(signal.SIGHUP)


class Posted(Sluice):
    """By the admin, which answers when the new version serves."""

    name = "post"

    def tell(self):
        admin = http.client.HTTPConnection("127.0.0.1", self.admin, timeout=PATIENCE_S)
        admin.request("POST", "/config/reload")
        answer = admin.getresponse()
        said = answer.read().decode()
        admin.close()
        if answer.status != 200:
            raise RuntimeError(f"POST /config/reload: {answer.status}: {said}")


class Restarted(Sluice):
    """By another process, which takes over."""

    name = "restart"
    flags = ("--supervise",)
    workers = 1

    def tell(self):
        self.server.process.send_signal(signal.SIGUSR2)


class Nginx(Live):
    name = "nginx"

    def __init__(self, farm, origin, rules):
        self.workers = farm.workers
        super().__init__(farm, origin, rules)

    def start(self):
        return self.farm.start(self.name, self.port, ["nginx", "-e", "stderr", "-c", self.path])

    def write(self, version):
        rules = "".join(f"    location /rule-{n}/ {{ proxy_pass http://origin; }}\n" for n in range(self.rules))
        return self.farm.nginx_file(
            f"{self.name}-{self.port}-next",
            f"""    upstream origin {{ server 127.0.0.1:{self.origin.port}; keepalive {POOLED};
        keepalive_requests 1000000000; keepalive_timeout 600s; }}
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_max_temp_file_size 0;
    server {{ listen 127.0.0.1:{self.port}{" reuseport" if self.farm.workers > 1 else ""};
    location = {VERSION_PATH} {{ return 200 "{version_body(version)}"; }}
    location / {{ proxy_pass http://origin; }}
{rules}    }}""",
            self.farm.workers,
            self.farm.clients,
        )

    def tell(self):
        self.server.process.send_signal(signal.SIGHUP)


class Envoy(Live):
    """Its routes are a file of their own, which it watches; the bootstrap cannot change."""

    name = "envoy"

    def start(self):
        listener = http_listener("in", self.port)
        manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
        del manager["route_config"]
        source = {"path_config_source": {"path": self.path}, "resource_api_version": "V3"}
        manager["rds"] = {"route_config_name": "live", "config_source": source}
        config = self.farm.bootstrap(f"{self.name}-{self.port}-bootstrap", [listener], self.origin)
        command = [envoy_binary(), "-c", config, "--concurrency", str(self.farm.workers), "--disable-hot-restart"]
        node = ["--service-node", "bench", "--service-cluster", "bench"]
        return self.farm.start(self.name, self.port, [*command, *node, "-l", "error"])

    def write(self, version):
        host = {
            "name": "all",
            "domains": ["*"],
            "routes": [*routes(version, self.rules), {"match": {"prefix": "/"}, **TO_ORIGIN}],
        }
        table = {"@type": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration", "name": "live"}
        said = {"version_info": str(version), "resources": [{**table, "virtual_hosts": [host]}]}
        return self.farm.file(f"{self.name}-{self.port}-next.yaml", json.dumps(said))

    def tell(self):
        """The rename has told it."""


KINDS = {kind.name: kind for kind in (Sluice, Posted, Restarted, Nginx, Envoy)}


def installed():
    return [name for name in KINDS if name != "envoy" or envoy_binary()]
