"""The servers of bench/gofilter.py, each with a listener without a filter and one for each case."""

import dataclasses
import functools
import pathlib
import subprocess

from _servers import NATIVE, SLUICE, TYPE, Server, compiled, envoy_binary, free_port, http_listener

KIB = 1024


@dataclasses.dataclass
class Case:
    """The filter that each server has for it; without one it does not take part."""

    plugin: str  # of the Go library and of Envoy's module
    lua: str = ""  # of Envoy
    nginx: str = ""
    times: int = 1
    post: int = 0  # bytes of the requests' bodies
    path: str = "/"  # what the origin demands: see bench/native/filter_origin.c


_ENVOY_HEADERS = """function envoy_on_request(handle)
  local headers = handle:headers()
  headers:replace("x-bench", headers:get(":authority"))
end"""
_ENVOY_READ = """function envoy_on_request(handle)
  local body = handle:body()
  if body then body:getBytes(0, body:length()):find("\\n", 1, true) end
end"""
_ENVOY_REWRITE = """function envoy_on_request(handle)
  local body = handle:body()
  if body then body:setBytes(body:getBytes(0, body:length()):upper()) end
end"""
_NGINX_HEADERS = """access_by_lua_block { ngx.req.set_header("x-bench", ngx.var.http_host) }"""
_NGINX_READ = """access_by_lua_block {
    ngx.req.read_body()
    local body = ngx.req.get_body_data()
    if body then body:find("\\n", 1, true) end }"""
_NGINX_REWRITE = """access_by_lua_block {
    ngx.req.read_body()
    local body = ngx.req.get_body_data()
    if body then ngx.req.set_body_data(body:upper()) end }"""

CASES = {
    "header_get_set": Case("headers", _ENVOY_HEADERS, _NGINX_HEADERS, path="/set"),
    "body_read_4k": Case("read", _ENVOY_READ, _NGINX_READ, post=4 * KIB),
    "body_rewrite_4k": Case("rewrite", _ENVOY_REWRITE, _NGINX_REWRITE, post=4 * KIB, path="/upper"),
    "async_hop": Case("hop", path="/set"),
    "chain_of_five": Case("headers", _ENVOY_HEADERS, times=5, path="/set"),
    "body_untouched_64k": Case("headers", _ENVOY_HEADERS, _NGINX_HEADERS, post=64 * KIB, path="/set"),
}
NGINX_MODULES = ("ndk_http_module.so", "ngx_http_lua_module.so")


def nginx_modules():
    """Paths of what nginx needs for Lua; empty when it is not installed."""
    found = [next(iter(pathlib.Path("/").glob(f"usr/lib*/nginx/modules/{name}")), None) for name in NGINX_MODULES]
    return found if all(found) else []


def go_filter(path, plugin, number, library_id="bench", **more):
    """An entry of http_filters. more: fields of ours."""
    return {
        "name": f"go{number}",
        "typed_config": {
            "@type": f"{TYPE}.http.golang.v3alpha.Config",
            "library_id": library_id,
            "library_path": str(path),
            "plugin_name": plugin,
            **more,
        },
    }


def _lua(code, number):
    return {
        "name": f"lua{number}",
        "typed_config": {"@type": f"{TYPE}.http.lua.v3.Lua", "default_source_code": {"inline_string": code}},
    }


@functools.cache
def envoy_module(folder):
    """The library of bench/native/envoy_module.c."""
    path = pathlib.Path(folder) / "envoy_module.so"
    flags = ["-std=gnu17", "-D_GNU_SOURCE", "-O2", "-shared", "-fPIC"]
    subprocess.run(["cc", *flags, "-o", path, NATIVE / "envoy_module.c", "-lpthread"], check=True)
    return path


def _module(path, name, number):
    return {
        "name": f"module{number}",
        "typed_config": {
            "@type": f"{TYPE}.http.dynamic_modules.v3.DynamicModuleFilter",
            "dynamic_module_config": {"module": {"local": {"filename": str(path)}}, "do_not_close": True},
            "filter_name": name,
        },
    }


# A process that is killed a hundred times has done nothing wrong: its restarts are not put off.
AT_ONCE = {"max_failures": 0, "base_interval": "0.001s", "max_interval": "0.001s"}


class Lineup:
    """`servers`: {who: {case, "none" or "block": Server}}. `admin` is the port of Sluice's."""

    def __init__(self, farm, library, names):
        self.farm, self.library = farm, library
        port = free_port()
        self.origin = farm.start("origin", port, [compiled("filter_origin.c"), str(port)])
        self.admin = free_port()
        made = {name: getattr(self, f"_{name}")() for name in names}
        self.servers = {name: ports for name, ports in made.items() if ports}

    def _proxy(self, who, command, chains, admin=None):
        """One process with a listener for each chain."""
        ports = {name: free_port() for name in chains}
        listeners = [http_listener(name, ports[name], filters) for name, filters in chains.items()]
        path = self.farm.bootstrap(who, listeners, self.origin, admin)
        first = self.farm.start(who, ports["none"], [*command, "-c", path, "--concurrency", str(self.farm.workers)])
        return {name: Server(who, port, first.process) for name, port in ports.items()}

    def _isolated(self):
        """The same, with its filters in a process of their own, and no end of restarts."""
        return self._sluice("isolated", ["--isolate-extensions"], None, restarts=AT_ONCE)

    def _sluice(self, who="sluice", flags=(), admin=True, **more):
        chains = {
            name: [go_filter(self.library, each.plugin, number, **more) for number in range(each.times)]
            for name, each in CASES.items()
        }
        chains = {"none": [], **chains, "block": [go_filter(self.library, "block", 0, **more)]}
        return self._proxy(who, [SLUICE, *flags], chains, self.admin if admin else None)

    def _envoy(self):
        if not envoy_binary():
            return None
        chains = {
            name: [_lua(each.lua, number) for number in range(each.times)] for name, each in CASES.items() if each.lua
        }
        return self._proxy("envoy", self._envoy_command(), {"none": [], **chains})

    def _envoy_module(self):
        if not envoy_binary():
            return None
        path = envoy_module(self.library.parent)
        chains = {
            name: [_module(path, each.plugin, number) for number in range(each.times)] for name, each in CASES.items()
        }
        return self._proxy("envoy_module", self._envoy_command(), {"none": [], **chains})

    @staticmethod
    def _envoy_command():
        return [envoy_binary(), "--disable-hot-restart", "-l", "error"]

    def _nginx(self):
        modules = nginx_modules()
        if not modules:
            return None
        codes = {name: each.nginx for name, each in CASES.items() if each.nginx}
        return self.farm.nginx_servers(self.origin, {"none": "", **codes}, modules)
