"""Status, headers, body, the access log's line and what the upstream received are equal on both."""

import pytest

from exceptions import DIFFERENCES
from twins import describe


def request(line="GET /up HTTP/1.1", *headers, body="", host="a.test"):
    fields = [f"host: {host}"] if host is not None else []
    fields += list(headers)
    return line, fields, body


def get(path, *headers, **more):
    return request(f"GET {path} HTTP/1.1", *headers, **more)


def post(path, body, *headers):
    return request(f"POST {path} HTTP/1.1", f"content-length: {len(body)}", *headers, body=body)


CHUNKED = "4\r\nabcd\r\n5\r\nefghi\r\n0\r\n\r\n"

# name -> (listener, request)
CASES = {
    "direct": ("plain", get("/direct")),
    "direct-head": ("plain", request("HEAD /direct HTTP/1.1")),
    "direct-post": ("plain", post("/direct", "ignored")),
    "direct-204": ("plain", get("/nothing")),
    "direct-empty": ("plain", get("/empty")),
    "direct-decorated": ("plain", get("/decorated?x=1")),
    "no-route": ("plain", get("/nowhere")),
    "exact": ("plain", get("/exact")),
    "exact-query": ("plain", get("/exact?q")),
    "exact-more": ("plain", get("/exact/")),
    "header-one": ("plain", get("/header", "x-kind: one")),
    "header-other": ("plain", get("/header", "x-kind: two")),
    "header-two-values": ("plain", get("/header", "x-kind: one", "x-kind: one")),
    "header-absent": ("plain", get("/header")),
    "header-range": ("plain", get("/header", "x-kind: z", "x-number: 5")),
    "header-range-end": ("plain", get("/header", "x-kind: z", "x-number: 10")),
    "query": ("plain", get("/query?a=1&q=abc")),
    "query-none": ("plain", get("/query?q=b")),
    "regex": ("plain", get("/regex/42/more?x")),
    "regex-partial": ("plain", get("/x/regex/42")),
    "separated": ("plain", get("/separated/x")),
    "separated-exact": ("plain", get("/separated?x")),
    "separated-not": ("plain", get("/separatedx")),
    "insensitive": ("plain", get("/InSensitive")),
    "redirect-https": ("plain", get("/redirect-https/x?y=1", host="a.test:8080")),
    "redirect-host": ("plain", get("/redirect-host/x?y=1")),
    "redirect-path": ("plain", get("/redirect-path?old=1")),
    "redirect-prefix": ("plain", get("/redirect-prefix/x?y=1")),
    "redirect-regex": ("plain", get("/redirect-regex/x/y?z=1")),
    "rewrite": ("plain", get("/rewrite/x?y=1")),
    "regex-rewrite": ("plain", get("/regex-rewrite/a/b?c=1")),
    "host-literal": ("plain", get("/host-literal")),
    "host-header": ("plain", get("/host-header", "x-host: from.header")),
    "host-header-absent": ("plain", get("/host-header")),
    "mutate": (
        "plain",
        get("/mutate", "x-have: 1", "x-if-absent: mine", "x-overwrite: mine", "x-remove: 1"),
    ),
    "mutate-only-if": ("plain", get("/mutate", "x-only-if: mine", "x-have: abcdef")),
    "levels": ("levels", get("/up", "x-gone: 1", "x-level: client")),
    "specific": ("specific", get("/up", "x-level: client")),
    "timeout": ("plain", get("/timeout")),
    "no-timeout": ("plain", get("/no-timeout")),
    "no-cluster": ("plain", get("/no-cluster")),
    "not-found-cluster": ("plain", get("/not-found-cluster")),
    "refused": ("plain", get("/refused")),
    "no-host": ("plain", get("/no-host")),
    "added-no-cluster": ("plain", get("/added/missing")),
    "added-refused": ("plain", get("/added/refusing")),
    "added-no-host": ("plain", get("/added/empty")),
    "added-timeout": ("plain", get("/added/timeout")),
    "grpc-direct": ("plain", get("/direct", "content-type: application/grpc")),
    "envoy-retry": (
        "plain",
        get("/up", "x-envoy-retriable-header-names: x", "x-envoy-hedge-on-per-try-timeout: true"),
    ),
    "no-host-header": ("plain", get("/up", host=None)),
    "fragment": ("plain", get("/up#x")),
    "cluster-header": ("plain", get("/by-header", "x-cluster: origin")),
    "cluster-header-absent": ("plain", get("/by-header")),
    "cluster-header-unknown": ("plain", get("/by-header", "x-cluster: nope")),
    "get": ("plain", get("/up")),
    "get-query": ("plain", get("/up/a%20b?c=d&e=%2f")),
    "head": ("plain", request("HEAD /up HTTP/1.1")),
    "head-length": ("plain", request("HEAD /up/head-length HTTP/1.1")),
    "options": ("plain", request("OPTIONS /up HTTP/1.1")),
    "delete": ("plain", request("DELETE /up HTTP/1.1")),
    "post": ("plain", post("/up", "a body")),
    "post-empty": ("plain", request("POST /up HTTP/1.1", "content-length: 0")),
    "post-no-length": ("plain", request("POST /up HTTP/1.1")),
    "post-chunked": (
        "plain",
        request("POST /up HTTP/1.1", "transfer-encoding: chunked", body=CHUNKED),
    ),
    "put-odd-method": ("plain", request("PURGE /up HTTP/1.1")),
    "up-chunked": ("plain", get("/up/chunked")),
    "up-until-close": ("plain", get("/up/until-close")),
    "up-204": ("plain", get("/up/204")),
    "up-304": ("plain", get("/up/304")),
    "up-hop": ("plain", get("/up/hop")),
    "up-own-server": ("plain", get("/up/own-server")),
    "up-own-server-absent": ("absent", get("/up/own-server")),
    "up-server-absent": ("absent", get("/up")),
    "up-own-server-through": ("through", get("/up/own-server")),
    "up-server-through": ("through", get("/up")),
    "server-name": ("server", get("/direct")),
    "up-interim": ("plain", get("/up/interim")),
    "up-garbage": ("plain", get("/up/garbage")),
    "up-bad-length": ("plain", get("/up/bad-length")),
    "up-reset": ("plain", get("/up/reset")),
    "up-close": ("plain", get("/up/close")),
    "hop-by-hop": (
        "plain",
        get(
            "/up",
            "connection: keep-alive, x-nominated",
            "keep-alive: timeout=1",
            "x-nominated: 1",
            "proxy-connection: keep-alive",
            "te: trailers",
            "trailer: x-t",
        ),
    ),
    "te-other": ("plain", get("/up", "te: gzip")),
    "request-id-kept": ("plain", get("/up", "x-request-id: mine")),
    "request-id-edge": ("edge", get("/up", "x-request-id: mine")),
    "request-id-none": ("no-id", get("/up")),
    "request-id-back": ("id-back", get("/up", "x-request-id: mine")),
    "forwarded-plain": ("plain", get("/up", "x-forwarded-for: 1.2.3.4", "x-forwarded-proto: https")),
    "forwarded-edge": ("edge", get("/up", "x-forwarded-for: 1.2.3.4", "x-forwarded-proto: https")),
    "forwarded-edge-none": ("edge", get("/up")),
    "forwarded-trusted": (
        "trusted",
        get("/up", "x-forwarded-for: 1.2.3.4, 5.6.7.8", "x-forwarded-proto: https"),
    ),
    "forwarded-hops": ("hops", get("/up", "x-forwarded-for: 1.2.3.4, 5.6.7.8")),
    "envoy-headers": (
        "plain",
        get(
            "/up",
            "x-envoy-internal: true",
            "x-envoy-upstream-rq-timeout-ms: 1",
            "x-envoy-expected-rq-timeout-ms: 1",
            "x-envoy-retry-on: 5xx",
            "x-envoy-original-path: /x",
            "x-envoy-other: kept",
        ),
    ),
    "envoy-headers-edge": ("edge", get("/up", "x-envoy-decorator-operation: x")),
    "quiet": ("quiet", get("/up")),
    "quiet-rewrite": ("quiet", get("/rewrite/x")),
    "via": ("via", get("/up", "via: 1.1 before")),
    "via-response": ("via", get("/up/own-server")),
    "normal": ("normal", get("/direct/../up/./a//b/%7euser?x=/../y")),
    "normal-escape": ("normal", get("/../../up")),
    "strip-port": ("strip", get("/up", host="a.test:8080")),
    "host-exact": ("hosts", get("/", host="exact.test")),
    "host-case": ("hosts", get("/", host="EXACT.Test")),
    "host-exact-port": ("hosts", get("/", host="exact.test:80")),
    "host-suffix": ("hosts", get("/", host="x.suffix.test")),
    "host-suffix-bare": ("hosts", get("/", host=".suffix.test")),
    "host-suffix-longest": ("hosts", get("/", host="x.longer.suffix.test")),
    "host-prefix": ("hosts", get("/", host="prefix.anything")),
    "host-port": ("hosts", get("/", host="port.test:81")),
    "host-none": ("hosts", get("/", host="unknown.test")),
    "host-tls": ("hosts", get("/x?y", host="tls.test")),
    "absolute-form": ("plain", request("GET http://b.test/up?x HTTP/1.1")),
    "absolute-form-root": ("plain", request("GET http://b.test HTTP/1.1")),
    "upgrade": ("plain", get("/up", "connection: upgrade", "upgrade: websocket")),
    "connection-close": ("plain", get("/up", "connection: close")),
    "http10": ("plain", request("GET /direct HTTP/1.0")),
    "http10-accepted": ("http10", request("GET /direct HTTP/1.0")),
    "http10-keep-alive": ("http10", request("GET /up HTTP/1.0", "connection: keep-alive")),
    "http10-up-chunked": ("http10", request("GET /up/chunked HTTP/1.0")),
    "underscore": ("plain", get("/up", "x_y: 1")),
    "underscore-refused": ("no-underscore", get("/up", "x_y: 1")),
    "underscore-dropped": ("drop-underscore", get("/up", "x_y: 1")),
    "many-headers": ("few", get("/up", *[f"x-{i}: 1" for i in range(10)])),
    "large-head": ("small", get("/up", "x-large: " + "x" * 2000)),
    "grpc-no-route": ("plain", post("/nowhere", "x", "content-type: application/grpc")),
    "grpc-refused": ("plain", post("/refused", "x", "content-type: application/grpc")),
    "empty-value": ("plain", get("/up", "x-empty:", "x-blank:    ")),
    "multi-values": ("plain", get("/up", "x-m: 1", "x-m: 2", "cookie: a=1", "cookie: b=2")),
    "odd-case": ("plain", get("/up", "X-CamelCase: Value", "ACCEPT:*/*")),
}


def encode(name, case):
    listener_name, (line, fields, body) = case
    head = [line, *fields, f"x-case: {name}"]
    return listener_name, ("\r\n".join(head) + "\r\n\r\n" + body).encode("latin-1")


@pytest.mark.parametrize("name", CASES)
def test_same_as_envoy(twins, name):
    listener_name, raw = encode(name, CASES[name])
    envoy, sluice = twins.ask(listener_name, raw, name)
    if name in DIFFERENCES:
        only_envoy, only_sluice, _ = DIFFERENCES[name]
        assert take(envoy, sluice) == only_envoy
        assert take(sluice, envoy) == only_sluice
        for response in envoy["responses"] + sluice["responses"]:
            removed = only_envoy + only_sluice
            response["headers"] = [h for h in response["headers"] if tuple(h) not in removed]
    assert envoy == sluice, f"envoy:\n{describe(envoy)}\nsluice:\n{describe(sluice)}"


def take(one, other):
    """The fields of one's only response that the other's lacks."""
    [mine], [theirs] = one["responses"], other["responses"]
    return [field for field in mine["headers"] if field not in theirs["headers"]]
