"""Lines of the access log while a request runs, and requests that are counted by themselves, on both proxies."""

import json
import pathlib
import re
import tempfile
import threading

import pytest

from harness import (
    SLUICE,
    Client,
    Origin,
    Proxy,
    access_log,
    bootstrap,
    closed_port,
    cluster,
    direct,
    eventually,
    listener,
    to,
)
from twins import FLUSH, add, envoy_binary

FIELDS = {
    "name": "%REQ(X-CASE)%",
    "virtual_cluster": "%VIRTUAL_CLUSTER_NAME%",
    "code": "%RESPONSE_CODE%",
    "type": "%ACCESS_LOG_TYPE%",
    "path": "%REQ(:PATH)%",
    "added": "%REQ(X-ADDED)%",
    "route": "%ROUTE_NAME%",
    "cluster": "%UPSTREAM_CLUSTER%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "flags": "%RESPONSE_FLAGS%",
    "received": "%BYTES_RECEIVED%",
    "sent": "%BYTES_SENT%",
    "status": "%RESP(:STATUS)%",
    "answer": "%RESP(X-ANSWER)%",
    "upgrade": "%RESP(UPGRADE)%",
    "trailer": "%TRAILER(X-END)%",
    "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
}
OPTIONS = {
    "access_log_flush_interval": "0.05s",
    "flush_access_log_on_new_request": True,
    "flush_log_on_tunnel_successfully_established": True,
}
VIRTUAL_CLUSTERS = [
    {"name": "reads", "headers": [{"name": ":method", "string_match": {"exact": "GET"}}]},
    {
        "name": "writes",
        "headers": [
            {"name": ":method", "string_match": {"exact": "POST"}},
            {"name": ":path", "string_match": {"prefix": "/api"}},
        ],
    },
]


def live(log):
    """Every line, and once more those of a start, of which the second log makes two."""
    only = {"types": ["DownstreamStart", "TcpPeriodic"]}
    rest = {"types": ["DownstreamStart"], "exclude": True}
    logs = [{**log, "filter": {"log_type_filter": f}} for f in (only, rest)]
    return {"access_log": logs, "access_log_options": OPTIONS}


def answer(exchange):
    if exchange.request.header("upgrade"):
        exchange.send(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n")
        return exchange.wait_closed()
    if "/slow" in exchange.request.path:
        return answer_slowly(exchange)
    if "/stall" in exchange.request.path:
        return exchange.wait_closed()
    exchange.request.read_body()
    exchange.reply(404 if "/404" in exchange.request.path else 200, b"ok\n")


def answer_slowly(exchange):
    """Each part when the test has seen what the proxy says of the one before."""
    moments = exchange.origin.moments
    moments["asked"].set()
    assert moments["head"].wait(20)
    exchange.send(b"HTTP/1.1 200 OK\r\nx-answer: 1\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n")
    assert moments["end"].wait(20)
    exchange.send(b"0\r\n\r\n")


class Side:
    """One of the two, and what came of the requests that it got."""

    def __init__(self, program, flags):
        self.folder = tempfile.TemporaryDirectory(prefix="twin-logs-")
        self.log_path = pathlib.Path(self.folder.name, "access.log")
        self.origin = Origin(answer)
        self.origin.moments = {name: threading.Event() for name in ("asked", "head", "end")}
        self.refusing, refused_port = closed_port()
        routes = [to("refusing", "/refused"), to(prefix="/stall", timeout="0.1s"), direct(200, "x", "/direct"), to()]
        hosts = [{"name": "kinds", "domains": ["*"], "routes": routes, "virtual_clusters": VIRTUAL_CLUSTERS}]
        log = access_log(self.log_path, json_format=FIELDS)
        upgrades = {"upgrade_configs": [{"upgrade_type": "websocket"}]}
        upgraded = {**to(prefix="/ws", timeout="0s"), "name": "ws"}
        decorated = {**to(timeout="0s"), "name": "live", "request_headers_to_add": [add("x-added", "1")]}
        clusters = [cluster("origin", self.origin.port), cluster("refusing", refused_port)]
        self.proxy = Proxy(
            bootstrap(
                [
                    listener("kinds", hosts=hosts, hcm={"access_log": [log]}),
                    listener("plain", routes, hcm={"access_log": [log]}),
                    listener("live", [upgraded, decorated], hcm={**upgrades, **live(log)}),
                    listener("old", routes, hcm={"access_log": [log], "flush_access_log_on_new_request": True}),
                ],
                clusters,
            ),
            program=program,
            flags=[*flags, "--concurrency", "1", *FLUSH],
            level="warning",
        )

    def lines(self):
        return [json.loads(line) for line in self.log_path.read_text().splitlines()] if self.log_path.exists() else []

    def ask(self, name, method, path, where="kinds"):
        with Client(self.proxy.port(where)) as client:
            client.ask(method, path, headers=[("x-case", name)])

    def close(self):
        self.proxy.stop()
        self.origin.close()
        self.refusing.close()


@pytest.fixture(scope="module")
def sides():
    made = [Side(envoy_binary(), ["--use-dynamic-base-id"])]
    made.append(Side(SLUICE, []))
    yield made
    for side in made:
        side.close()


KINDS = [
    ("read", "GET", "/x"),
    ("missing", "GET", "/404"),
    ("write", "POST", "/api/x"),
    ("neither", "POST", "/x"),
    ("refused", "GET", "/refused"),
    ("stalled", "GET", "/stall"),
    ("direct", "GET", "/direct"),
    ("elsewhere", "GET", "/x", "plain"),
]


def of_virtual_clusters(side):
    """Without those of retries, which are not done here, and without the times."""
    text = side.proxy.admin("/stats?filter=vhost")
    lines = [line for line in text.splitlines() if "retry" not in line and "upstream_rq_time:" not in line]
    return sorted(line for line in lines if not line.endswith(": 0"))


def test_requests_of_a_kind_are_counted_by_themselves(sides):
    """Names in the log, and every statistic that is not zero."""
    for side in sides:
        for kind in KINDS:
            side.ask(*kind)
    envoy, sluice = (eventually(lambda s=s: len(s.lines()) >= len(KINDS) and s.lines()) for s in sides)
    assert {line["name"]: line for line in envoy} == {line["name"]: line for line in sluice}
    assert [line["virtual_cluster"] for line in sluice][:3] == ["reads", "reads", "writes"]
    assert of_virtual_clusters(sides[0]) == of_virtual_clusters(sides[1])
    assert "vhost.kinds.vcluster.other.upstream_rq_200: 1" in of_virtual_clusters(sides[1])
    times = sides[1].proxy.admin("/stats?filter=vcluster.reads.upstream_rq_time")  # Envoy's come seconds later
    assert "P50" in times


def test_in_prometheus_they_have_labels(sides):
    """Of the virtual host, the virtual cluster and the code."""
    for side in sides:
        side.ask("counted", "GET", "/x")
    said = [side.proxy.admin("/stats/prometheus?filter=vcluster") for side in sides]
    wanted = r"^envoy_vhost_vcluster_upstream_rq\{[^}]*\} \d+$"
    assert sorted(re.findall(wanted, said[0], re.M)) == sorted(re.findall(wanted, said[1], re.M)) != []


# ---- lines while a request runs ---------------------------------------------


def told(side, name):
    return [line for line in side.lines() if line["name"] == name]


def wait_for(side, name, *, sends=False, **fields):
    """The first line of a request that says all of that, when body bytes have been sent if that is asked for."""

    def look():
        lines = [line for line in told(side, name) if line["sent"] or not sends]
        return [line for line in lines if all(line[k] == v for k, v in fields.items())]

    return eventually(look, what=f"a line of {name} with {fields}; there are {told(side, name)}")[0]


def test_a_request_is_told_of_as_it_goes_on(sides):
    """At its start, before it has an upstream; while nobody answers; with half of the answer; and at its end."""
    seen = []
    for side in sides:
        moments = side.origin.moments
        with Client(side.proxy.port("live")) as client:
            client.send("POST", "/slow", headers=[("x-case", "slow")], body=b"12345")
            assert moments["asked"].wait(20)
            start = wait_for(side, "slow", type="DownstreamStart")
            waiting = wait_for(side, "slow", type="DownstreamPeriodic", cluster="origin", received=5)
            moments["head"].set()
            half = wait_for(side, "slow", type="DownstreamPeriodic", status="200", sends=True)
            moments["end"].set()
            assert client.read_reply().body == b"one"
            end = wait_for(side, "slow", type="DownstreamEnd")
            seen.append([start, waiting, half, end])
        types = [line["type"] for line in told(side, "slow")]
        assert types.count("DownstreamStart") == types.count("DownstreamEnd") == 1
        assert (types[0], types[-1]) == ("DownstreamStart", "DownstreamEnd")
    assert seen[0] == seen[1]


def test_a_tunnel_is_told_of_when_it_is_there(sides):
    """And one that is refused at its start and its end only."""
    seen = []
    upgrade = [("connection", "upgrade"), ("upgrade", "websocket")]
    for side in sides:
        with Client(side.proxy.port("live")) as client:
            client.send("GET", "/ws", headers=[("x-case", "tunnel"), *upgrade])
            lines = [
                wait_for(side, "tunnel", type=t)
                for t in ("DownstreamStart", "DownstreamTunnelSuccessfullyEstablished", "DownstreamPeriodic")
            ]
        with Client(side.proxy.port("old")) as client:
            client.send("GET", "/ws", headers=[("x-case", "not-allowed"), *upgrade])
            client.read_reply()
        wait_for(side, "not-allowed", type="DownstreamEnd")
        seen.append([*lines, *told(side, "not-allowed")])
    assert seen[0] == seen[1]
    assert len(seen[1]) == 5


def test_what_the_codec_refuses_has_no_start(sides):
    """Neither has what the connection manager answers before its filters; both have an end."""
    for side in sides:
        before = len(side.lines())
        for head in (b"GET /x HTTP/1.1\r\n\r\n", b"GET /x HTTP/1.1\r\nhost: a\r\nbad header\r\n\r\n"):
            with Client(side.proxy.port("old")) as client:
                client.send_bytes(head)
                client.wait_closed()
        lines = eventually(lambda s=side, n=before: len(s.lines()) >= n + 2 and s.lines()[n:], what="two lines")
        assert [line["type"] for line in lines] == ["DownstreamEnd"] * 2
