"""Attributes: what Envoy's access log prints of %CEL(path)%, and what a Go filter on Sluice gets by GetProperty.

Both at the end of a request. Envoy's own Go filters are in no package that can be had, but they use the values of the
same CEL context, and the same text for each type of value.
"""

import json
import re
import ssl

import pytest

from harness import SLUICE, Origin, Proxy, access_log, bootstrap, closed_port, cluster, eventually, router, to
from tls_kit import Authority, TlsClient, TlsOrigin, client_context, tls_listener, upstream_transport
from twins import envoy_binary

import kit
from build import build

MARK = {"filter_metadata": {"mark": {"text": "t", "number": 0.5, "list": ["x", True]}}}

# What is the same on both, by what CEL calls it. A path of a map's element is written as Go writes it.
SAME = [
    "request.path",
    "request.url_path",
    "request.query",
    "request.host",
    "request.scheme",
    "request.method",
    "request.headers.x-two",
    "request.headers.x-empty",
    "request.headers.x-none",
    "request.referer",
    "request.useragent",
    "request.protocol",
    "request.size",
    "response.code",
    "response.code_details",
    "response.flags",
    "response.grpc_status",
    "response.headers.x-multi",
    "response.size",
    "connection.mtls",
    "connection.requested_server_name",
    "connection.tls_version",
    "connection.subject_local_certificate",
    "connection.subject_peer_certificate",
    "connection.dns_san_local_certificate",
    "connection.dns_san_peer_certificate",
    "connection.uri_san_local_certificate",
    "connection.uri_san_peer_certificate",
    "connection.sha256_peer_certificate_digest",
    "connection.termination_details",
    "connection.transport_failure_reason",
    "upstream.address",
    "upstream.port",
    "upstream.transport_failure_reason",
    "upstream.request_attempt_count",
    "upstream.tls_version",
    "upstream.subject_peer_certificate",
    "upstream.dns_san_peer_certificate",
    "upstream.uri_san_peer_certificate",
    "upstream.sha256_peer_certificate_digest",
    "xds.cluster_name",
    "xds.cluster_metadata.filter_metadata.mark.text",
    "xds.route_name",
    "xds.route_metadata.filter_metadata.mark.number",
    "xds.route_metadata.filter_metadata.mark.list.0",
    "xds.virtual_host_name",
    "xds.virtual_host_metadata.filter_metadata.mark.list.1",
    "xds.listener_metadata.filter_metadata.mark.text",
    "xds.listener_direction",
    "xds.filter_chain_name",
    "metadata.filter_metadata.nobody.nothing",
    "filter_state.nothing",
]
# What each has in its own way, but in the same form.
ALIKE = {
    "request.time": r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?\+00:00",
    "request.id": r"[0-9a-f-]{36}",
    "request.duration": r"[\d.]+(us|ms|s)",
    "request.total_size": r"\d+",
    "response.total_size": r"\d+",
    "connection.id": r"\d+",
    "source.address": r"127\.0\.0\.1:\d+",
    "destination.port": r"\d+",
}
IF_ANSWERED = {
    "response.backend_latency": r"[\d.]+(us|ms|s)",
    "upstream.local_address": r"127\.0\.0\.1:\d+",
    "upstream.cx_pool_ready_duration": r"0|[\d.]+(ns|us|ms|s)",
}
ASKED = [*SAME, *ALIKE, *IF_ANSWERED]


def cel(path):
    """The path as an expression: names that are none, or numbers, are looked up."""
    first, *rest = path.split(".")
    for name in rest:
        first += f"[{name}]" if name.isdigit() else f"['{name}']" if "-" in name else f".{name}"
    return first


def envoys_log(path):
    log = access_log(path, json_format={p: f"%CEL({cel(p)})%" for p in ASKED})
    log["typed_config"]["log_format"]["formatters"] = [
        {
            "name": "envoy.formatter.cel",
            "typed_config": {"@type": kit.TYPE + "envoy.extensions.formatter.cel.v3.Cel"},
        }
    ]
    return log, [router()]


def ours(path):
    """A plugin notes each of them when the request is over, and the log comes after that."""
    notes = kit.script(*(("property.note", "asked", p, p) for p in ASKED))
    filters = [kit.go_filter(build("basic"), "basic", kit.typed_struct({"log": notes})), router()]
    return access_log(path, json_format={"asked": "%DYNAMIC_METADATA(asked)%"}), filters


class World:
    def __init__(self):
        self.authority = Authority()
        self.shown = self.authority.issue("DNS:a.test", "URI:spiffe://proxy", subject="/CN=a")
        self.friend = self.authority.issue("DNS:friend.test", "URI:spiffe://friend", subject="/C=XX/O=Us, Inc/CN=f")
        self.origin = Origin(lambda e: e.reply(200, b"yes", [("x-multi", "1"), ("x-multi", "2")]))
        self.secured = TlsOrigin(self.authority.issue("DNS:origin.test", "URI:spiffe://origin", subject="/CN=origin"))
        self.closed, self.closed_port = closed_port()

    def config(self, log, filters):
        routes = [
            {**to("refusing", "/refused"), "name": "refused"},
            {**to("missing", "/missing")},
            {**to("empty", "/empty")},
            {**to("secured", "/secured")},
            {"match": {"prefix": "/nothing/"}, "direct_response": {"status": 204}},
            {**to(prefix="/up"), "name": "named", "metadata": MARK},
        ]
        hosts = [{"name": "all", "domains": ["*"], "routes": routes, "metadata": MARK}]
        common = {"validation_context": self.authority.trusted()}
        edge = tls_listener(
            "edge",
            None,
            self.shown,
            hosts=hosts,
            common=common,
            hcm={"access_log": [log]},
            filters=filters,
            chain={"name": "chain"},
            traffic_direction="INBOUND",
            metadata=MARK,
        )
        manager = edge["filter_chains"][0]["filters"][0]["typed_config"]
        manager["route_config"]["validate_clusters"] = False
        trusted = upstream_transport({"validation_context": self.authority.trusted()}, sni="origin.test")
        clusters = [
            cluster("origin", self.origin.port, metadata=MARK),
            cluster("secured", self.secured.port, transport_socket=trusted),
            cluster("refusing", self.closed_port),
            cluster("empty"),
        ]
        return bootstrap([edge], clusters)

    def tell(self, proxy, path, line, headers=(), body=None, pair=None):
        """One request, and what the log says of it."""
        before = len(path.read_text().splitlines()) if path.exists() else 0
        context = client_context(self.authority, pair, version=ssl.TLSVersion.TLSv1_2)
        context.check_hostname = False
        with TlsClient(proxy.port("edge"), context) as client:
            client.ask("GET" if body is None else "POST", line, headers=headers, body=body)
        (said,) = eventually(
            lambda: path.exists() and path.read_text().splitlines()[before:], what="the access log's line"
        )
        return json.loads(said)


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """case -> what Envoy says, and what Sluice."""
    folder = tmp_path_factory.mktemp("attributes")
    world = World()
    cases = {
        "plain": ("/up?k=v", [("x-two", "1"), ("x-two", "2"), ("x-empty", ""), ("referer", "r")]),
        "body": ("/up", [("user-agent", "me")], b"12345"),
        "mutual": ("/up", [], None, world.friend),
        "secured": ("/secured", []),
        "no-route": ("/nowhere", []),
        "no-cluster": ("/missing", []),
        "no-host": ("/empty", []),
        "refused": ("/refused", []),
        "direct": ("/nothing/x", []),
    }
    seen = {case: [] for case in cases}
    for program, made in ((envoy_binary(), envoys_log), (SLUICE, ours)):
        path = folder / made.__name__
        log, filters = made(path)
        flags = ["--use-dynamic-base-id"] if program != SLUICE else []
        proxy = Proxy(
            world.config(log, filters),
            program=program,
            level="warning",
            flags=[*flags, "--concurrency", "1", "--file-flush-interval-msec", "20"],
        )
        try:
            for case, request in cases.items():
                seen[case].append(world.tell(proxy, path, *request))
        finally:
            proxy.stop()
    world.origin.close()
    world.secured.close()
    world.closed.close()
    return seen


def of_go(text):
    """What `property` of the test filter made of a value."""
    return None if text == "absent" else json.loads(text)


CASES = ["plain", "body", "mutual", "secured", "no-route", "no-cluster", "no-host", "refused", "direct"]


@pytest.mark.parametrize("case", CASES)
def test_attributes_are_envoys(told, case):
    envoys, sluices = told[case][0], told[case][1]["asked"]
    # Envoys later than 1.33, which our list is of, know the virtual host of a request without a route.
    same = [path for path in SAME if case != "no-route" or "virtual_host" not in path]
    different = {path: (envoys[path], of_go(sluices[path])) for path in same if envoys[path] != of_go(sluices[path])}
    assert different == {}


@pytest.mark.parametrize("case", CASES)
def test_attributes_have_envoys_form(told, case):
    envoys, sluices = told[case][0], told[case][1]["asked"]
    forms = {**ALIKE, **(IF_ANSWERED if case in ("plain", "body", "mutual", "secured") else {})}
    for path, form in forms.items():
        for text in (envoys[path], of_go(sluices[path])):
            assert text is not None and re.fullmatch(form, text), (path, text)
