"""The same files of listeners, clusters and routes, changed in the same way, on both."""

import json
import subprocess
import time

import pytest

from discovery_kit import CLUSTER, Files, dump_of, response, route_configuration
from harness import SLUICE, Origin, Proxy, cluster, direct, eventually, listener, to
from twins import envoy_binary

FAMILIES = ("listener_manager.lds", "cluster_manager.cds", "http.main.rds.r")
COUNTERS = ("update_attempt", "update_success", "update_rejected", "update_failure", "config_reload", "version")
TIMES = ("update_time", "config_reload_time_ms")


def flags(program):
    return ["--concurrency", "1", *(["--use-dynamic-base-id"] if program != SLUICE else [])]


def versions(proxy):
    """Names and versions of all that is dynamic."""
    seen = {}
    for item in dump_of(proxy, "Listeners").get("dynamic_listeners", []):
        if "active_state" in item:
            seen[item["name"]] = item["active_state"].get("version_info", "")
    for item in dump_of(proxy, "Clusters").get("dynamic_active_clusters", []):
        seen["cluster " + item["cluster"]["name"]] = item["version_info"]
    for item in dump_of(proxy, "Routes").get("dynamic_route_configs", []):
        if "route_config" in item:
            seen["routes " + item["route_config"]["name"]] = item["version_info"]
    return seen


def counters(proxy):
    stats = proxy.stats()
    seen = {f"{family}.{name}": stats.get(f"{family}.{name}", 0) for family in FAMILIES for name in COUNTERS}
    for name in (f"{family}.{name}" for family in FAMILIES for name in TIMES):
        seen[name] = name in stats and abs(stats[name] / 1000 - time.time()) < 60
    return seen


def routes(text):
    return route_configuration("r", [to("one", "/one"), to("two", "/two"), direct(200, text)])


def steps(files, port):
    """A change, the counter that says that it was seen with what it is then, and what / answers."""
    one, two, more = cluster("one", port), cluster("two", port), listener("more", [direct(200, "more")])
    main = files.asking("main", "r")
    cds, lds, rds = "cluster_manager.cds", "listener_manager.lds", "http.main.rds.r"
    return [
        (lambda: files.clusters(one, two, version="c2"), f"{cds}.update_success", 2, b"first"),
        (lambda: files.routes(routes("second"), version="r2"), f"{rds}.update_success", 2, b"second"),
        (lambda: files.put("rds.yaml", "resources: [}"), f"{rds}.update_failure", 1, b"second"),
        (lambda: files.put("rds.yaml", response(CLUSTER, [one], "r3")), f"{rds}.update_rejected", 1, b"second"),
        (lambda: files.routes({"name": "x"}, version="r4"), f"{rds}.update_rejected", 2, b"second"),
        (lambda: files.routes(routes("third"), version="r5"), f"{rds}.update_success", 3, b"third"),
        (lambda: files.listeners(main, more, version="l2"), f"{lds}.update_success", 2, b"third"),
        (lambda: files.listeners(main, more, {"name": "bad"}, version="l3"), f"{lds}.update_rejected", 1, b"third"),
        (lambda: files.listeners(main, version="l4"), f"{lds}.update_success", 3, b"third"),
        (lambda: files.clusters(two, version="c3"), f"{cds}.update_success", 3, b"third"),
    ]


def story(program, folder, port):
    """What was seen, change by change."""
    folder.mkdir()
    files, seen = Files(folder), []
    files.clusters(cluster("one", port), version="c1")
    files.routes(routes("first"), version="r1")
    files.listeners(files.asking("main", "r"), version="l1")
    proxy = Proxy(files.bootstrap(), program=program, flags=flags(program), level="warning")

    def note(body):
        eventually(lambda: proxy.get("/", listener="main").body == body, what=f"{body} after {len(seen)} changes")
        status = {path: proxy.get(path, listener="main").status for path in ("/one", "/two")}
        seen.append((status, versions(proxy), counters(proxy)))

    note(b"first")
    for change, counter, value, body in steps(files, port):
        change()
        proxy.wait_for_stat(counter, value)
        note(body)
    proxy.stop()
    return seen


def test_changes_are_taken_and_refused_as_on_envoy(tmp_path):
    """Answers, versions in /config_dump and statistics are the same after each change."""
    origin = Origin()
    envoys, ours = (
        story(program, tmp_path / name, origin.port)
        for name, program in (("envoy", envoy_binary()), ("sluice", SLUICE))
    )
    origin.close()
    for number, (envoy, sluice) in enumerate(zip(envoys, ours, strict=True)):
        assert sluice == envoy, f"after change {number}"


@pytest.mark.parametrize("missing", ["lds.yaml", "cds.yaml"])
def test_a_file_that_is_not_there_ends_the_start(tmp_path, missing):
    files = Files(tmp_path)
    files.clusters()
    files.listeners()
    (tmp_path / missing).unlink()
    config = tmp_path / "bootstrap.json"
    config.write_text(json.dumps(files.bootstrap()))
    for program in (envoy_binary(), SLUICE):
        ended = subprocess.run(
            [program, "-c", str(config), *flags(program)], capture_output=True, text=True, timeout=60, check=False
        )
        assert ended.returncode == 1, program
        assert missing in ended.stderr, program
