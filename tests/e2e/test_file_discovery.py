"""Listeners, clusters and routes out of files that change while the proxy runs."""

import os
import socket
import threading

import pytest

from discovery_kit import CLUSTER, LISTENER, ROUTES, Files, dump_of, refusals, response, route_configuration
from harness import Gone, Origin, Proxy, address, bootstrap, cluster, direct, eventually, listener, run, to


@pytest.fixture
def files(tmp_path):
    return Files(tmp_path)


@pytest.fixture
def origin():
    origin = Origin()
    yield origin
    origin.close()


def body(proxy, path="/", name="main"):
    return proxy.get(path, listener=name).body


def is_refused(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False


def test_all_of_it_comes_from_files(files, origin):
    """Routes, clusters and listeners change one after the other, and each change is seen, with its version."""
    files.clusters(cluster("one", origin.port), version="c1")
    files.routes(route_configuration("r", [to("one", "/up"), direct(200, "first")]), version="r1")
    files.listeners(files.asking("main", "r"), version="l1")
    proxy = Proxy(files.bootstrap())
    assert body(proxy) == b"first"
    assert proxy.get("/up", listener="main", method="POST", body=b"echo").body == b"echo"

    files.routes(route_configuration("r", [to("two", "/two"), direct(200, "second")]), version="r2")
    eventually(lambda: body(proxy) == b"second")
    assert proxy.get("/two", listener="main").status == 503  # there is no such cluster yet
    other = Origin(lambda exchange: exchange.reply(200, b"two"))
    files.clusters(cluster("one", origin.port), cluster("two", other.port), version="c2")
    eventually(lambda: proxy.get("/two", listener="main").body == b"two")

    files.listeners(files.asking("main", "r"), listener("more", [direct(200, "more")]), version="l2")
    eventually(lambda: "more" in proxy._ports())
    proxy.ports = proxy._ports()
    assert body(proxy, name="more") == b"more"
    assert body(proxy) == b"second"

    listeners, clusters, routes = (dump_of(proxy, kind) for kind in ("Listeners", "Clusters", "Routes"))
    assert listeners["version_info"] == "l2"
    states = {item["name"]: item["active_state"] for item in listeners["dynamic_listeners"]}
    assert states["main"]["version_info"] == "l1"  # as it was, so it is of the version that brought it
    assert states["more"]["version_info"] == "l2"
    assert states["more"]["last_updated"] > states["main"]["last_updated"]
    assert states["main"]["listener"]["@type"] == LISTENER
    assert clusters["version_info"] == "c2"
    active = {item["cluster"]["name"]: item["version_info"] for item in clusters["dynamic_active_clusters"]}
    assert active == {"one": "c1", "two": "c2"}
    [table] = routes["dynamic_route_configs"]
    assert (table["version_info"], table["route_config"]["name"]) == ("r2", "r")
    assert refusals(proxy) == []

    stats = proxy.stats()
    for family in ("listener_manager.lds", "cluster_manager.cds", "http.main.rds.r"):
        assert stats[f"{family}.update_success"] == stats[f"{family}.update_attempt"] == 2, family
        assert stats[f"{family}.update_rejected"] == stats[f"{family}.update_failure"] == 0, family
    other.close()
    assert proxy.stop() == 0


def test_a_mounted_config_map_changes_at_once(tmp_path, origin):
    """Kubernetes replaces one symbolic link. All files are of the new version then, and are taken together: here a
    cluster goes with the last route to it, which is checked, and another one comes."""
    folder = tmp_path / "mount"

    def version(name, only):
        data = folder / name
        data.mkdir(parents=True)
        main = listener("main", [to(only, "/"), direct(200, "x")], route_config={"validate_clusters": True})
        data.joinpath("cds.yaml").write_text(response(CLUSTER, [cluster(only, origin.port)], name))
        data.joinpath("lds.yaml").write_text(response(LISTENER, [main], name))

    version("..one", "a")
    version("..two", "b")
    (folder / "..data").symlink_to("..one")
    for name in ("cds.yaml", "lds.yaml"):
        (folder / name).symlink_to(f"..data/{name}")

    def source(name):
        return {"path_config_source": {"path": str(folder / name), "watched_directory": {"path": str(folder)}}}

    proxy = Proxy(
        {
            "admin": bootstrap([])["admin"],
            "dynamic_resources": {"lds_config": source("lds.yaml"), "cds_config": source("cds.yaml")},
        }
    )
    assert proxy.get("/", listener="main").status == 200
    (folder / "..data_tmp").symlink_to("..two")
    os.rename(folder / "..data_tmp", folder / "..data")
    eventually(lambda: dump_of(proxy, "Listeners").get("version_info") == "..two")
    assert [item["cluster"]["name"] for item in dump_of(proxy, "Clusters")["dynamic_active_clusters"]] == ["b"]
    assert proxy.get("/", listener="main").status == 200
    assert proxy.stat("listener_manager.lds.update_rejected") == 0
    assert proxy.stat("cluster_manager.cds.update_rejected") == 0
    assert proxy.stop() == 0


def test_what_is_refused_changes_nothing(files):
    """A broken file, one with a mistake, one of another type: what runs goes on, and the admin says why."""
    files.clusters()
    files.routes(route_configuration("r", [direct(200, "first")]), version="r1")
    files.listeners(files.asking("main", "r"))
    proxy = Proxy(files.bootstrap())

    files.put("rds.yaml", "resources: [}")
    [refusal] = eventually(lambda: refusals(proxy))
    assert refusal["details"].endswith("rds.yaml:1: not valid YAML: did not find expected node content")
    assert proxy.stat("http.main.rds.r.update_failure") == 1

    bad = [{"match": {"safe_regex": {"regex": "("}}, "direct_response": {"status": 200}}]
    files.routes(route_configuration("r", bad), version="r2")
    eventually(lambda: "virtual_hosts[0].routes[0]" in refusals(proxy)[0]["details"])
    assert refusals(proxy)[0]["version_info"] == "r2"
    assert proxy.stat("http.main.rds.r.update_rejected") == 1
    assert body(proxy) == b"first"
    assert dump_of(proxy, "Routes")["dynamic_route_configs"][0]["version_info"] == "r1"

    files.put("rds.yaml", response(CLUSTER, [{"name": "r"}]))
    eventually(lambda: "is of type envoy.config.cluster.v3.Cluster" in refusals(proxy)[0]["details"])
    proxy.wait_for_log("what was there before goes on")

    files.routes(route_configuration("r", [direct(200, "mended")]), version="r3")
    eventually(lambda: body(proxy) == b"mended")
    eventually(lambda: not refusals(proxy))
    assert proxy.stop() == 0


def errors(proxy, kind, key):
    """Of each item of /config_dump with an error_state: which is refused, whether one runs, and the paths in why."""
    return [
        (
            item["error_state"].get("failed_configuration", {}).get("name"),
            "active_state" in item or "last_updated" in item,
            [line.split(": ")[1].removeprefix("resources") for line in item["error_state"]["details"].split(";")],
        )
        for item in dump_of(proxy, kind).get(key, [])
        if "error_state" in item
    ]


def test_each_refused_resource_is_told_why(files):
    """One item of /config_dump for each, by name, with what runs of it, whoever found the mistake."""
    bad = [{"match": {"safe_regex": {"regex": "("}}, "direct_response": {"status": 200}}]
    files.clusters(cluster("runs", 1), version="c1")
    files.routes(
        route_configuration("r", [direct(200, "x")]), route_configuration("s", [direct(200, "x")]), version="r1"
    )
    files.listeners(files.asking("main", "r"), files.asking("more", "s"), version="l1")
    proxy = Proxy(files.bootstrap())

    files.clusters(  # these are found as the file is read
        cluster("runs", 1, connect_timeout="0s", lb_policy="MAGLEV"), cluster("new", 1, type="EDS"), cluster("good", 1)
    )
    proxy.wait_for_stat("cluster_manager.cds.update_rejected", 1)
    assert errors(proxy, "Clusters", "dynamic_active_clusters") == [
        ("runs", True, ["[0].connect_timeout", "[0].lb_policy"]),
        ("new", False, ["[1].type"]),
    ]
    files.routes(route_configuration("r", bad), route_configuration("s", bad))  # these as it is built
    proxy.wait_for_stat("http.main.rds.r.update_rejected", 1)
    path = ".virtual_hosts[0].routes[0].match"
    assert errors(proxy, "Routes", "dynamic_route_configs") == [
        ("r", True, ["[0]" + path]),
        ("s", True, ["[1]" + path]),
    ]
    files.listeners(files.asking("main", "r"), listener("new", bad), {"address": address(0)})
    proxy.wait_for_stat("listener_manager.lds.update_rejected", 1)
    seen = errors(proxy, "Listeners", "dynamic_listeners")
    assert [(name, runs) for name, runs, _ in seen] == [("new", False), (None, False)]
    assert [item["name"] for item in dump_of(proxy, "Listeners")["dynamic_listeners"][:3]] == ["main", "more", "new"]

    files.clusters(cluster("runs", 1))
    proxy.wait_for_stat("cluster_manager.cds.update_success", 2)
    assert errors(proxy, "Clusters", "dynamic_active_clusters") == []
    assert proxy.stop() == 0


def test_a_file_that_is_refused_at_start_is_taken_when_it_is_mended(files):
    files.clusters()
    files.put("lds.yaml", response(LISTENER, [{"name": "main"}]))
    proxy = Proxy(files.bootstrap())  # is ready, without a listener
    assert proxy.ports == {}
    assert "address is required" in refusals(proxy)[0]["details"]
    files.listeners(listener("main", [direct(200, "mended")]))
    eventually(lambda: "main" in proxy._ports())
    proxy.ports = proxy._ports()
    assert body(proxy) == b"mended"
    assert proxy.stop() == 0


def test_a_listener_that_is_not_named_any_more_drains(files):
    """Who is connected is served, and told to go; nobody new gets in. The other listener hears nothing of it."""
    files.clusters()
    goes, stays = (listener(name, [direct(200, name)]) for name in ("goes", "stays"))
    files.listeners(goes, stays)
    proxy = Proxy(files.bootstrap())
    with proxy.connect("goes") as leaving, proxy.connect("stays") as staying:
        assert leaving.ask("GET", "/").body == b"goes"
        assert staying.ask("GET", "/").body == b"stays"
        files.listeners(stays)
        eventually(lambda: is_refused(proxy.port("goes")))
        last = leaving.ask("GET", "/")
        assert (last.status, last.body, last.header("connection")) == (200, b"goes", "close")
        again = staying.ask("GET", "/")
        assert (again.body, again.header("connection")) == (b"stays", None)
    assert proxy.leaks() == {}
    assert proxy.stop() == 0


def test_changes_under_load_cost_no_request(files, origin):
    """Clients ask all the time, while routes, clusters and listeners change: each is answered by an old or a new
    configuration, and none gets an error."""
    names = ("a", "b")

    def change(turn):
        """The routes go to the cluster that was changed the time before."""
        timeout = f"{1 + turn}s"
        files.clusters(
            *(
                cluster(n, origin.port, **({"connect_timeout": timeout} if i == turn % 2 else {}))
                for i, n in enumerate(names)
            )
        )
        files.routes(route_configuration("r", [to(names[1 - turn % 2])]), version=str(turn))
        more = [listener("other", [direct(200, str(turn))])] if turn % 3 else []
        files.listeners(files.asking("main", "r"), *more, version=str(turn))

    change(0)
    proxy = Proxy(files.bootstrap(), level="info")
    stop, failed, asked = threading.Event(), [], [0]

    def ask_on():
        while not stop.is_set():
            try:
                with proxy.connect("main") as client:
                    while not stop.is_set():
                        reply = client.ask("GET", "/")
                        asked[0] += 1
                        if reply.status != 200:
                            failed.append((reply.status, reply.body))
                        if reply.header("connection") == "close":
                            break
            except (OSError, Gone) as error:
                failed.append(repr(error))

    clients = [threading.Thread(target=ask_on) for _ in range(4)]
    for client in clients:
        client.start()
    for turn in range(1, 13):
        change(turn)
        eventually(
            lambda turn=turn: dump_of(proxy, "Listeners").get("version_info") == str(turn)
            and dump_of(proxy, "Routes")["dynamic_route_configs"][0]["version_info"] == str(turn)
        )
    stop.set()
    for client in clients:
        client.join()
    assert failed == []
    assert asked[0] > 100
    assert proxy.leaks() == {}
    assert proxy.stop() == 0


def test_a_file_that_is_not_there_is_a_mistake_of_the_bootstrap(files):
    """As on Envoy."""
    files.clusters()
    ended = run(config=files.bootstrap())
    assert ended.returncode == 1
    assert "dynamic_resources.lds_config: there is no file" in ended.stderr
    assert "it has to be there before it is named" in ended.stderr


def test_routes_of_a_static_listener(files):
    files.routes(route_configuration("r", [direct(200, "first")]))
    proxy = Proxy(bootstrap([files.asking("main", "r")]))
    assert body(proxy) == b"first"
    files.put("rds.yaml", response(ROUTES, [route_configuration("r", [direct(200, "second")])]))
    eventually(lambda: body(proxy) == b"second")
    assert proxy.stop() == 0


# ---- --mode validate ---------------------------------------------------------


def validate(config, *flags):
    return run("--mode", "validate", *flags, config=config)


def test_validate_takes_files_that_the_proxy_takes(files):
    files.clusters(cluster("one", 1))
    files.routes(route_configuration("r", [to("one")], validate_clusters=True), {"name": "nobody asks for it"})
    files.listeners(files.asking("main", "r"))
    validated = validate(files.bootstrap())
    assert validated.returncode == 0, validated.stderr
    assert validated.stdout.endswith(" OK\n")


def test_validate_says_of_files_what_the_proxy_refuses(files):
    """All of it in one go, with the places that the proxy names when it refuses one after the other."""
    config = {**files.bootstrap(), "static_resources": {"listeners": [files.asking("main", "r")]}}
    files.clusters(
        cluster("good", 1), cluster("none", 1, connect_timeout="0s"), cluster("maglev", 1, lb_policy="MAGLEV")
    )
    no_such = listener("no such", [to("nowhere")], route_config={"validate_clusters": True})
    files.listeners(no_such, no_such)
    bad = [{"match": {"safe_regex": {"regex": "("}}, "direct_response": {"status": 200}}]
    files.routes(route_configuration("r", bad))
    validated = validate(config)
    assert validated.returncode == 1
    said = {line.strip() for line in validated.stderr.splitlines()}

    proxy = Proxy(config)
    refused = [line for refusal in refusals(proxy) for line in refusal["details"].split(";")]
    assert proxy.stop() == 0
    route = "resources[%d].filter_chains[0].filters[0].typed_config.route_config.virtual_hosts[0].routes[0].route"
    assert {line.split(": ")[1] for line in refused} == {
        "resources[1].connect_timeout",
        "resources[2].lb_policy",
        "resources[1]",
        route % 0,
        route % 1,
        "resources[0].virtual_hosts[0].routes[0].match",
    }
    assert set(refused) <= said, validated.stderr


@pytest.mark.parametrize("missing", ["lds.yaml", "cds.yaml", "rds.yaml"])
def test_validate_wants_the_files_there(files, missing):
    files.clusters()
    files.routes(route_configuration("r", []))
    files.listeners(files.asking("main", "r"))
    (files.folder / missing).unlink()
    validated = validate(files.bootstrap())
    assert validated.returncode == 1
    assert f"there is no file '{files.folder / missing}'; it has to be there before it is named" in validated.stderr
    assert validated.stderr.count(missing) == 1


def test_validate_lets_unknown_fields_of_files_pass_as_the_proxy_does(files):
    files.clusters({**cluster("new", 1), "from_the_future": 1})
    files.listeners()
    lenient, strict = (validate(files.bootstrap(), *flags) for flags in ([], ["--reject-unknown-dynamic-fields"]))
    assert lenient.returncode == 0
    assert 'warning: unknown field "from_the_future"' in lenient.stderr
    assert strict.returncode == 1
    assert 'unknown field "from_the_future"' in strict.stderr
