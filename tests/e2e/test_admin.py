"""The admin as operators and scrapers use it: what it says of real traffic, and what it changes."""

import http.client
import json
import pathlib
import re
import socket
import threading
import time

import pytest
from harness import access_log, bootstrap, closed_port, cluster, direct, eventually, listener, to

TEXT = "text/plain; charset=UTF-8"
JSON = "application/json"


class Answer:
    def __init__(self, reply):
        self.status, self.headers, self.body = reply.status, reply.headers, reply.read().decode()

    def json(self):
        assert self.headers["content-type"] == JSON
        return json.loads(self.body)


def ask(proxy, path, method="GET", *, read=Answer, timeout_s=20):
    """read makes the answer of the reply, while the connection is open."""
    host, _, port = proxy.admin_path.read_text().rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=timeout_s)
    try:
        connection.request(method, path)
        return read(connection.getresponse())
    finally:
        connection.close()


def status_of(proxy, path, method="GET"):
    return ask(proxy, path, method, read=lambda reply: reply.status, timeout_s=40)


def statuses_of_two_at_once(proxy, path):
    """Sorted."""
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(status_of(proxy, path))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(40)
    return sorted(answers)


def samples(text):
    """Prometheus' text as {series: value}; asserts that it is well-formed."""
    values, types, current = {}, {}, None
    for line in text.splitlines():
        declared = re.fullmatch(r"# TYPE ([a-zA-Z_:]\w*) (counter|gauge|histogram)", line)
        if declared:
            current, kind = declared.groups()
            assert current not in types, f"two TYPE lines of {current}"
            types[current] = kind
            continue
        sample = re.fullmatch(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\{((?:[a-zA-Z_]\w*=\"(?:[^\"\\]|\\.)*\",?)*)\} (\S+)", line)
        assert sample, line
        name, labels, value = sample.groups()
        suffixes = ("_bucket", "_sum", "_count") if types[current] == "histogram" else ("",)
        assert name in [current + suffix for suffix in suffixes], f"{line} stands under {current}"
        assert f"{name}{{{labels}}}" not in values, f"twice: {line}"
        values[f"{name}{{{labels}}}"] = float(value)
    return values


@pytest.fixture
def edge(proxy, origin):
    routes = [direct(200, "hi", "/hi"), to()]
    return proxy([listener("edge", routes)], [cluster("origin", origin.port)])


def test_every_page_answers_as_on_envoy(edge):
    for path, content_type in [
        ("/", "text/html; charset=UTF-8"),
        ("/help", TEXT),
        ("/ready", TEXT),
        ("/stats", TEXT),
        ("/stats?format=json", JSON),
        ("/stats/prometheus", TEXT),
        ("/config_dump", JSON),
        ("/clusters", TEXT),
        ("/clusters?format=json", JSON),
        ("/listeners", TEXT),
        ("/listeners?format=json", JSON),
        ("/server_info", JSON),
        ("/memory", JSON),
        ("/certs", JSON),
    ]:
        answer = ask(edge, path)
        assert answer.status == 200, path
        assert answer.headers["content-type"] == content_type, path
        assert answer.headers["cache-control"] == "no-cache, max-age=0"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.body
        if content_type == JSON:
            answer.json()
    assert ask(edge, "/ready").body == "LIVE\n"


def test_memory_tells_what_the_recycler_has_from_the_os(edge):
    assert ask(edge, "/ready").status == 200  # so a block was made and is free by now
    found = {name: int(value) for name, value in ask(edge, "/memory").json()["recycler"].items()}
    assert found["makes"] > found["frees"] >= 0
    assert found["heap_sys"] == found["heap_alloc"] + found["heap_idle"]
    assert 0 < found["bytes"] <= found["heap_alloc"]  # the one that this answer is made in
    assert found["heap_released"] <= found["heap_idle"]


def test_memory_counts_the_connections_that_it_has_in_pools(edge):
    def pools_become(**wanted):
        """The connection that asked before may not quite have ended."""
        eventually(
            lambda: {pool["name"]: pool["in_use"] for pool in ask(edge, "/memory").json()["pools"]} == wanted,
            what=f"pools with {wanted}",
        )

    pools_become(downstream=1, upstream=0)  # the one that asks
    with edge.connect() as client:
        assert client.ask("GET", "/").status == 200
        pools_become(downstream=2, upstream=1)
    pools_become(downstream=1, upstream=1)  # that to the origin is kept


def test_wrong_paths_and_methods_change_nothing(edge):
    missing = ask(edge, "/nothing/here")
    assert missing.status == 404
    assert missing.body.startswith("invalid path. admin commands are:\n")
    refused = ask(edge, "/quitquitquit")
    assert refused.status == 405
    assert refused.body == "Method GET not allowed, POST required."
    assert edge.alive()


def test_head_has_the_headers_and_no_body(edge):
    answer = ask(edge, "/stats", "HEAD")
    assert answer.status == 200
    assert answer.body == ""


def test_one_connection_carries_many_requests(edge):
    host, _, port = edge.admin_path.read_text().rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=20)
    for path in ["/ready", "/stats", "/nope", "/config_dump", "/", "/ready"]:
        connection.request("GET", path)
        reply = connection.getresponse()
        assert len(reply.read()) == int(reply.headers["content-length"])
    connection.close()


def test_stats_count_what_clients_did(edge):
    for _ in range(5):
        assert edge.get("/").status == 200
    for _ in range(3):
        assert edge.get("/hi").status == 200
    edge.wait_for_stat("http.edge.downstream_rq_2xx", 8)
    stats = edge.stats()
    assert stats["http.edge.downstream_rq_total"] == 8
    assert stats["http.edge.rq_direct_response"] == 3
    assert stats["cluster.origin.upstream_rq_total"] == 5
    assert stats["cluster.origin.upstream_rq_200"] == 5
    assert stats["server.live"] == 1

    values = samples(ask(edge, "/stats/prometheus").body)
    tag = 'envoy_http_conn_manager_prefix="edge"'
    assert values[f"envoy_http_downstream_rq_total{{{tag}}}"] == 8
    assert values[f'envoy_http_downstream_rq_xx{{envoy_response_code_class="2",{tag}}}'] == 8
    assert values['envoy_cluster_upstream_rq{envoy_response_code="200",envoy_cluster_name="origin"}'] == 5
    times = "envoy_cluster_upstream_rq_time"
    assert values[f'{times}_bucket{{envoy_cluster_name="origin",le="+Inf"}}'] == 5
    assert values[f'{times}_count{{envoy_cluster_name="origin"}}'] == 5
    assert values[f'{times}_sum{{envoy_cluster_name="origin"}}'] > 0

    as_json = ask(edge, "/stats?format=json&filter=edge.downstream_rq_total").json()
    assert as_json == {"stats": [{"name": "http.edge.downstream_rq_total", "value": 8}]}


def test_stats_are_filtered(edge):
    edge.get("/hi")
    edge.wait_for_stat("http.edge.downstream_rq_2xx", 1)
    only = ask(edge, "/stats?usedonly&type=Counters&filter=^http%5C.edge%5C.downstream_rq_").body
    assert only.splitlines() == [
        "http.edge.downstream_rq_2xx: 1",
        "http.edge.downstream_rq_completed: 1",
        "http.edge.downstream_rq_http1_total: 1",
        "http.edge.downstream_rq_total: 1",
    ]
    names = [line.split(": ")[0] for line in ask(edge, "/stats?type=Gauges").body.splitlines()]
    assert names == sorted(names)
    assert ask(edge, "/stats?filter=[").status == 400


def test_scrapes_during_traffic_never_go_backwards(edge):
    """Counters and buckets of several Ps are summed while those Ps count."""
    stop = threading.Event()

    def browse():
        with edge.connect() as client:
            while not stop.is_set():
                assert client.ask("GET", "/hi").status == 200

    clients = [threading.Thread(target=browse) for _ in range(4)]
    for client in clients:
        client.start()
    try:
        before = {}
        for _ in range(30):
            now = samples(ask(edge, "/stats/prometheus?filter=^http.edge.*_(total|rq_time)$").body)
            assert all(now[key] >= value for key, value in before.items())
            before = now
    finally:
        stop.set()
        for client in clients:
            client.join()
    total = 'envoy_http_downstream_rq_total{envoy_http_conn_manager_prefix="edge"}'
    assert before[total] > 0


def test_counters_are_reset_and_gauges_stay(edge):
    with edge.connect() as client:
        assert client.ask("GET", "/hi").status == 200
        edge.wait_for_stat("http.edge.downstream_rq_2xx", 1)
        assert ask(edge, "/reset_counters", "POST").body == "OK\n"
        assert edge.stat("http.edge.downstream_rq_2xx") == 0
        assert edge.stat("http.edge.downstream_cx_active") == 1
        assert client.ask("GET", "/hi").status == 200
        edge.wait_for_stat("http.edge.downstream_rq_2xx", 1)


def test_clusters_show_each_host_with_its_counts(proxy, origin):
    held, closed = closed_port()
    edge = proxy([listener("edge", [to()])], [cluster("origin", origin.port, closed)])
    with held, edge.connect() as client:  # one connection, so one P and one rotation
        assert sorted(client.ask("GET", "/").status for _ in range(4)) == [200, 200, 503, 503]
    text = ask(edge, "/clusters").body.splitlines()
    assert f"origin::127.0.0.1:{origin.port}::rq_success::2" in text
    assert f"origin::127.0.0.1:{closed}::cx_connect_fail::2" in text
    assert f"origin::127.0.0.1:{closed}::health_flags::healthy" in text

    [status] = ask(edge, "/clusters?format=json").json()["cluster_statuses"]
    assert status["name"] == "origin"
    hosts = {
        host["address"]["socket_address"]["port_value"]: {
            stat["name"]: int(stat.get("value", 0)) for stat in host["stats"]
        }
        for host in status["host_statuses"]
    }
    assert hosts[origin.port]["rq_total"] == 2
    assert hosts[closed]["cx_connect_fail"] == 2
    assert ask(edge, "/clusters?filter=nobody").body == ""


def test_listeners_tell_the_ports_that_the_kernel_chose(edge):
    [status] = ask(edge, "/listeners?format=json").json()["listener_statuses"]
    where = status["local_address"]["socket_address"]
    assert status["name"] == "edge"
    assert where == {"address": "127.0.0.1", "port_value": edge.port("edge")}


def test_config_dump_shows_what_was_loaded(proxy, origin):
    wanted = bootstrap(
        [listener("edge", [to(timeout="3s")])],
        [cluster("origin", origin.port, connect_timeout="0.250s")],
        node={"id": "n1", "cluster": "c1"},
    )
    edge = proxy(None, config=wanted)
    dump = {config["@type"].rpartition(".")[2]: config for config in ask(edge, "/config_dump").json()["configs"]}
    assert dump["BootstrapConfigDump"]["bootstrap"]["node"] == {"id": "n1", "cluster": "c1"}
    [one] = dump["ClustersConfigDump"]["static_clusters"]
    assert one["cluster"]["name"] == "origin"
    assert one["cluster"]["connect_timeout"] == "0.250s"
    [one] = dump["ListenersConfigDump"]["static_listeners"]
    assert one["listener"]["name"] == "edge"
    [one] = dump["RoutesConfigDump"]["static_route_configs"]
    [host] = one["route_config"]["virtual_hosts"]
    assert host["routes"][0]["route"] == {"cluster": "origin", "timeout": "3s"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", one["last_updated"])
    assert ask(edge, "/config_dump?resource=static_clusters").status == 501

    info = ask(edge, "/server_info").json()
    assert info["state"] == "LIVE"
    assert info["node"]["id"] == "n1"
    assert info["command_line_options"]["config_path"] == str(edge.config_path)


def test_the_runtime_says_what_it_does(edge):
    with edge.connect() as client:
        client.send("GET", "/")
        assert client.read_reply().status == 200
        stats = edge.stats()
        series = samples(ask(edge, "/stats/prometheus").body)
    processors = stats["server.concurrency"]
    per_p = ["switches", "steals", "polls", "foreign_calls", "quick_calls", "retakes", "handoffs"]
    per_p += ["long_runs", "slow_quicks", "coroutines", "queue_depth", "spinning", "sleeping"]
    per_p += ["blocks_in_use"]
    for name in per_p:
        for p in range(processors):
            assert f"rt.p{p}.{name}" in stats
            assert f'envoy_rt_{name}{{sluice_p="{p}"}}' in series
    assert sum(stats[f"rt.p{p}.switches"] for p in range(processors)) > 0

    of_process = ["coroutines_alive", "coroutines_parked", "global_queue_depth", "ps_spinning", "ms"]
    of_process += ["ms_spare", "ms_foreign", "ms_refused", "blocking_threads", "blocking_busy"]
    of_process += ["stacks", "stacks_free"]
    for name in of_process:
        assert f"rt.{name}" in stats
        assert f"envoy_rt_{name}{{}}" in series
    assert stats["rt.ms"] >= processors
    assert stats["rt.stacks"] >= stats["rt.coroutines_alive"] >= 1


def test_log_levels_change_while_it_runs(proxy, origin):
    edge = proxy([listener("edge", [to()])], [cluster("origin", origin.port)], level="info")
    assert "\n  admin: info\n" in ask(edge, "/logging", "POST").body
    ask(edge, "/ready")
    assert "GET /ready" not in edge.log()
    assert "\n  admin: debug\n" in ask(edge, "/logging?admin=debug", "POST").body
    ask(edge, "/ready")
    edge.wait_for_log("[debug][admin] GET /ready: 200")

    refused = ask(edge, "/logging?paths=admin:info,nobody:debug", "POST")
    assert refused.status == 400
    assert refused.body.startswith("error: unknown logger name\n")
    assert "\n  admin: debug\n" in refused.body  # nothing of it was applied


def test_failed_health_checks_leave_traffic_alone(edge):
    assert ask(edge, "/healthcheck/fail", "POST").body == "OK\n"
    answer = ask(edge, "/ready")
    assert (answer.status, answer.body) == (503, "DRAINING\n")
    assert ask(edge, "/server_info").json()["state"] == "DRAINING"
    assert edge.stat("server.live") == 0
    assert edge.get("/hi").status == 200
    assert ask(edge, "/healthcheck/ok", "POST").body == "OK\n"
    assert ask(edge, "/ready").status == 200


def test_reopened_access_logs_go_to_a_new_file(proxy, tmp_path):
    log = tmp_path / "access.log"
    line = {"text_format_source": {"inline_string": "%REQ(:PATH)%\n"}}
    edge = proxy([listener("edge", [direct(200)], hcm={"access_log": [access_log(log, **line)]})])
    edge.get("/first")
    eventually(lambda: log.read_text() == "/first\n", what="the first line")
    old = pathlib.Path(log.rename(tmp_path / "access.log.1"))
    assert ask(edge, "/reopen_logs", "POST").body == "OK\n"

    def look():
        """Lines of before the file was opened, which the writer does in its time, are in the old one."""
        edge.get("/second")
        return log.exists() and log.read_text()

    assert set(eventually(look, what="a line in the new file").splitlines()) == {"/second"}
    first, *rest = old.read_text().splitlines()
    assert first == "/first"
    assert set(rest) <= {"/second"}


def test_drained_listeners_take_nothing_new_while_the_admin_goes_on(edge):
    assert ask(edge, "/drain_listeners", "POST").body == "OK\n"

    def refuses():
        try:
            socket.create_connection(("127.0.0.1", edge.port("edge")), timeout=5).close()
        except ConnectionRefusedError:
            return True
        except ConnectionResetError:  # it came while the listener was being closed
            return False
        return False

    eventually(refuses, what="a refused connection")
    assert ask(edge, "/listeners").status == 200


def test_quit_is_answered_before_the_process_ends(edge):
    assert ask(edge, "/quitquitquit", "POST").body == "OK\n"
    assert edge.process.wait(20) == 0


def test_a_client_that_does_not_read_holds_up_nobody(proxy):
    """Its answer waits in one buffer; the admin and the proxy go on."""
    listeners = [listener(f"edge-{i}", [direct(200, "hi")]) for i in range(20)]
    edge = proxy(listeners)
    host, _, port = edge.admin_path.read_text().rpartition(":")
    with socket.create_connection((host, int(port))) as idle:
        idle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        idle.sendall(b"GET /stats/prometheus HTTP/1.1\r\nhost: admin\r\n\r\n" * 50)
        started = time.monotonic()
        for _ in range(20):
            assert ask(edge, "/ready").status == 200
        assert edge.get(listener="edge-0").status == 200
        assert time.monotonic() - started < 10
    eventually(lambda: edge.stat("http.admin.downstream_cx_active") == 1, what="its end")


def test_the_page_needs_nothing_from_elsewhere(edge):
    page = ask(edge, "/").body
    assert page.startswith("<!doctype html>")
    assert not re.findall(r"(?:src|href)=[\"']?(?:https?:)?//", page)
    paths = set(re.findall(r'"(/[a-z_]{2,}[a-z_/]*(?:\?[a-z0-9=]+)?)["&?]', page))
    assert {"/config_dump", "/quitquitquit", "/stats/prometheus"} <= paths
    for path in paths:
        assert ask(edge, path, "HEAD").status in (200, 405), path
