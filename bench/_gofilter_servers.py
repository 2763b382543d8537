"""The servers of bench/gofilter.py, each with a listener without a filter and one for each case."""

import dataclasses
import pathlib

from _servers import SLUICE, TYPE, Server, envoy_binary, free_port, http_listener

KIB = 1024


@dataclasses.dataclass
class Case:
    """The filter that each server has for it; without one it does not take part."""

    go: str
    lua: str = ""  # of Envoy
    nginx: str = ""
    times: int = 1
    post: int = 0  # bytes of the requests' bodies


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
    "header_get_set": Case("headers", _ENVOY_HEADERS, _NGINX_HEADERS),
    "body_read_4k": Case("read", _ENVOY_READ, _NGINX_READ, post=4 * KIB),
    "body_rewrite_4k": Case("rewrite", _ENVOY_REWRITE, _NGINX_REWRITE, post=4 * KIB),
    "async_hop": Case("hop"),
    "chain_of_five": Case("headers", _ENVOY_HEADERS, times=5),
    "body_untouched_64k": Case("headers", _ENVOY_HEADERS, _NGINX_HEADERS, post=64 * KIB),
}
NGINX_MODULES = ("ndk_http_module.so", "ngx_http_lua_module.so")


def nginx_modules():
    """Paths of what nginx needs for Lua; empty when it is not installed."""
    found = [next(iter(pathlib.Path("/").glob(f"usr/lib*/nginx/modules/{name}")), None) for name in NGINX_MODULES]
    return found if all(found) else []


def go_filter(path, plugin, number, library_id="bench"):
    """An entry of http_filters."""
    return {
        "name": f"go{number}",
        "typed_config": {
            "@type": f"{TYPE}.http.golang.v3alpha.Config",
            "library_id": library_id,
            "library_path": str(path),
            "plugin_name": plugin,
        },
    }


def _lua(code, number):
    return {
        "name": f"lua{number}",
        "typed_config": {"@type": f"{TYPE}.http.lua.v3.Lua", "default_source_code": {"inline_string": code}},
    }


class Lineup:
    """`servers`: {who: {case, "none" or "block": Server}}."""

    def __init__(self, farm, library, names):
        self.farm, self.library = farm, library
        self.origin = farm.origin()
        made = {name: getattr(self, f"_{name}")() for name in names}
        self.servers = {name: ports for name, ports in made.items() if ports}

    def _proxy(self, who, command, chains):
        """One process with a listener for each chain."""
        ports = {name: free_port() for name in chains}
        listeners = [http_listener(name, ports[name], filters) for name, filters in chains.items()]
        path = self.farm.bootstrap(who, listeners, self.origin)
        first = self.farm.start(who, ports["none"], [*command, "-c", path, "--concurrency", str(self.farm.workers)])
        return {name: Server(who, port, first.process) for name, port in ports.items()}

    def _sluice(self):
        chains = {
            name: [go_filter(self.library, each.go, number) for number in range(each.times)]
            for name, each in CASES.items()
        }
        return self._proxy("sluice", [SLUICE], {"none": [], **chains, "block": [go_filter(self.library, "block", 0)]})

    def _envoy(self):
        if not envoy_binary():
            return None
        chains = {
            name: [_lua(each.lua, number) for number in range(each.times)] for name, each in CASES.items() if each.lua
        }
        command = [envoy_binary(), "--disable-hot-restart", "-l", "error"]
        return self._proxy("envoy", command, {"none": [], **chains})

    def _nginx(self):
        modules = nginx_modules()
        if not modules:
            return None
        codes = {name: each.nginx for name, each in CASES.items() if each.nginx}
        return self.farm.nginx_servers(self.origin, {"none": "", **codes}, modules)
