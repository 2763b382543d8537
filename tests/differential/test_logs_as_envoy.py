"""Lines of the access log while a request runs, and requests that are counted by themselves, on both proxies."""

import json
import pathlib
import re
import tempfile

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
from twins import FLUSH, envoy_binary

FIELDS = {
    "name": "%REQ(X-CASE)%",
    "virtual_cluster": "%VIRTUAL_CLUSTER_NAME%",
    "code": "%RESPONSE_CODE%",
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


def answer(exchange):
    if "/stall" in exchange.request.path:
        return exchange.wait_closed()
    exchange.request.read_body()
    exchange.reply(404 if "/404" in exchange.request.path else 200, b"ok\n")


class Side:
    """One of the two, and what came of the requests that it got."""

    def __init__(self, program, flags):
        self.folder = tempfile.TemporaryDirectory(prefix="twin-logs-")
        self.log_path = pathlib.Path(self.folder.name, "access.log")
        self.origin = Origin(answer)
        self.refusing, refused_port = closed_port()
        routes = [to("refusing", "/refused"), to(prefix="/stall", timeout="0.1s"), direct(200, "x", "/direct"), to()]
        hosts = [{"name": "kinds", "domains": ["*"], "routes": routes, "virtual_clusters": VIRTUAL_CLUSTERS}]
        log = access_log(self.log_path, json_format=FIELDS)
        clusters = [cluster("origin", self.origin.port), cluster("refusing", refused_port)]
        self.proxy = Proxy(
            bootstrap(
                [
                    listener("kinds", hosts=hosts, hcm={"access_log": [log]}),
                    listener("plain", routes, hcm={"access_log": [log]}),
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
    said = [side.proxy.admin("/stats/prometheus?filter=vcluster") for side in sides]
    wanted = r"^envoy_vhost_vcluster_upstream_rq\{[^}]*\} \d+$"
    assert sorted(re.findall(wanted, said[0], re.M)) == sorted(re.findall(wanted, said[1], re.M)) != []
