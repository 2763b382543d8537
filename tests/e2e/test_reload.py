"""Another configuration takes the place of the one that serves: by SIGHUP and POST /config/reload, without a lost
connection; one that is wrong changes nothing."""

import contextlib
import json
import os
import signal
import socket
import threading

import pytest
from harness import Origin, address, bootstrap, cluster, direct, eventually, is_sanitized, listener, reserved_port, to
from reload_support import Live
from tcp_support import network_filter, tcp_edge, tcp_listener, tcp_proxy
from tls_kit import Authority, TlsClient, client_context, tls_listener


def says(text, **more):
    return bootstrap([listener("main", [direct(200, text)])], **more)


def stop(edge):
    assert edge.leaks() == {}
    status = edge.stop()
    assert status == 0, f"exit status {status}\n{edge.log()[-8000:]}"
    assert "Sanitizer" not in edge.log(), edge.log()[-8000:]


@contextlib.contextmanager
def live(config, **more):
    edge = Live(config, **more)
    yield edge
    stop(edge)


@pytest.fixture
def edge():
    with live(says("one")) as it:
        yield it


def body(client, path="/"):
    reply = client.ask("GET", path)
    assert reply.status == 200
    return reply.body


def test_a_signal_is_enough(edge):
    with edge.connect() as client:
        assert body(client) == b"one"
        edge.write(says("two"))
        edge.process.send_signal(signal.SIGHUP)
        edge.wait_for_stat("config.version", 2)
        eventually(lambda: body(client) == b"two", what="the new rule on the same connection")
    assert edge.stat("config.reload_attempt") == edge.stat("config.reload_success") == 1


def test_a_connection_that_is_there_follows_at_its_next_request(edge):
    with edge.connect() as client:
        assert body(client) == b"one"
        assert edge.change(says("two")) == "version 2 serves: listeners: 0 added, 1 changed, 0 removed\n"
        assert body(client) == b"two"
        assert edge.stat("http.main.downstream_cx_total") == 1
        assert edge.stat("listener_manager.listener_modified") == 1


def test_a_request_that_has_begun_ends_as_it_began():
    may_answer = threading.Event()

    def answer(exchange):
        assert may_answer.wait(30)
        exchange.reply(200, b"origin")

    with contextlib.closing(Origin(answer)) as origin:
        clusters = [cluster("origin", origin.port)]
        before = bootstrap([listener("main", [to()])], clusters)
        with live(before) as edge, edge.connect() as client:
            client.send("GET", "/")
            origin.wait_for_requests(1)
            edge.change(says("new"))
            may_answer.set()
            assert client.read_reply().body == b"origin"
            assert body(client) == b"new"


def test_nothing_changes_when_nothing_changed(edge):
    with edge.connect() as client:
        assert body(client) == b"one"
        assert edge.change(says("one")) == "version 2 serves: nothing changed\n"
        assert body(client) == b"one"
    assert edge.stat("listener_manager.listener_modified") == 0


def test_what_changed_is_logged_and_dumped(edge):
    edge.change(says("two"))
    assert '-                           "inline_string": "one"' in edge.log()
    assert '+                           "inline_string": "two"' in edge.log()
    latest, first = edge.versions()
    assert (latest["version"], latest["state"], latest["origin"]) == (2, "TAKEN", "POST /config/reload")
    assert (first["version"], first["origin"]) == (1, "start")
    assert latest["time"] >= first["time"]


# ---- refused --------------------------------------------------------------------


def test_a_file_that_is_wrong_changes_nothing_and_says_where(edge):
    wrong = "static_resources:\n  listeners:\n  - name: main\n    adress: {}\n"
    with edge.connect() as client:
        said = edge.refuse(wrong)
        assert f'{edge.config_path}:4: static_resources.listeners[0]: unknown field "adress"' in said
        assert body(client) == b"one"
        assert edge.stat("config.reload_rejected") == 1
        assert edge.stat("config.version") == 1
        assert edge.versions()[0]["state"] == "REFUSED"
        assert 'unknown field "adress"' in edge.versions()[0]["details"]
        edge.change(says("two"))
        assert body(client) == b"two"


def test_a_file_that_is_gone_changes_nothing(edge):
    edge.config_path.unlink()
    status, said = edge.ask_to_reload()
    assert status == 400
    assert "No such file" in said
    assert edge.get().body == b"one"


def test_a_file_that_somebody_is_writing_is_read_when_it_is_whole(edge):
    """What there is of it already would be a configuration, too: one without a listener."""
    answers = []
    asking = threading.Thread(target=lambda: answers.append(edge.ask_to_reload()))
    with open(edge.config_path, "w") as file:
        file.write(f"admin: {json.dumps(says('two')['admin'])}\n")
        file.flush()
        asking.start()
        edge.wait_for_stat("config.reload_attempt", 1)
        file.write(f"static_resources: {json.dumps(says('two')['static_resources'])}\n")
    asking.join()
    assert answers == [(200, "version 2 serves: listeners: 0 added, 1 changed, 0 removed\n")]
    assert edge.get().body == b"two"


def test_what_is_no_file_is_refused(edge):
    """And the next change is made all the same."""
    edge.config_path.unlink()
    os.mkfifo(edge.config_path)
    status, said = edge.ask_to_reload()
    assert (status, "is no file, and nobody writes to it" in said) == (400, True)
    edge.config_path.unlink()
    edge.change(says("two"))
    assert edge.get().body == b"two"


MONITOR = {
    "name": "heap",
    "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig",
        "max_heap_size_bytes": 1 << 40,
    },
}


@pytest.mark.parametrize(
    ("what", "more"),
    [
        ("node", {"node": {"id": "another"}}),
        ("admin", {"admin": {"address": address(1)}}),
        ("overload_manager", {"overload_manager": {"resource_monitors": [MONITOR]}}),
        (
            "layered_runtime: overload.global_downstream_max_connections",
            {
                "layered_runtime": {
                    "layers": [{"name": "s", "static_layer": {"overload.global_downstream_max_connections": 7}}]
                }
            },
        ),
    ],
)
def test_what_cannot_change_is_refused_by_its_name(edge, what, more):
    said = edge.refuse(says("two", **more))
    assert f"{what}: cannot change while the process runs" in said
    assert edge.get().body == b"one"


def test_an_address_that_cannot_be_had_is_refused(edge):
    taken, port = reserved_port()
    with taken:
        taken.listen()
        wanted = says("two")
        wanted["static_resources"]["listeners"].append(
            listener("other", [direct(200)], address=address(port), enable_reuse_port=False)
        )
        assert f"listener 'other': cannot bind 127.0.0.1:{port}: Address already in use" in edge.refuse(wanted)
    assert edge.get().body == b"one"
    edge.change(wanted)
    assert edge.get(listener="main").body == b"two"


def test_options_of_a_socket_in_use_are_refused_by_name(edge):
    wanted = bootstrap([listener("main", [direct(200, "two")], tcp_backlog_size=7)])
    assert "tcp_backlog_size of an address in use cannot change" in edge.refuse(wanted)
    assert edge.get().body == b"one"


# ---- listeners ------------------------------------------------------------------


def is_refused(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=20).close()
    except ConnectionRefusedError:
        return True
    return False


def two(text="other"):
    return bootstrap([listener("main", [direct(200, "one")]), listener("other", [direct(200, text)])])


def test_a_listener_comes_and_goes(edge):
    assert "1 added, 0 changed, 0 removed" in edge.change(two())
    port = edge.port("other")
    with edge.connect("main") as stays, edge.connect("other") as client, edge.connect("other") as idle:
        assert (body(stays), body(client), body(idle)) == (b"one", b"other", b"other")
        assert "0 added, 0 changed, 1 removed" in edge.change(says("one"))
        assert is_refused(port)
        reply = client.ask("GET", "/")  # it was there, so it is answered, and told
        assert (reply.body, reply.header("connection")) == (b"other", "close")
        assert client.read_to_end() == b""
        assert (body(stays), body(stays)) == (b"one", b"one")
        assert idle.ask("GET", "/").header("connection") == "close"


def test_who_never_asks_again_is_let_go_when_the_drain_time_is_over():
    with live(two(), flags=["--drain-time-s", "1"]) as edge, edge.connect("other") as idle:
        assert body(idle) == b"other"
        edge.change(says("one"))
        assert idle.read_to_end() == b""


def test_an_address_stays_under_another_name():
    """Nobody who connects meanwhile is refused."""
    taken, port = reserved_port()
    taken.close()

    def named(name):
        return bootstrap([listener(name, [direct(200, name)], address=address(port))])

    with live(named("before")) as edge:
        with edge.connect("before") as client:
            assert body(client) == b"before"
            edge.change(named("after"))
            assert edge.get(listener="after").body == b"after"
            reply = client.ask("GET", "/")  # its listener is gone
            assert (reply.body, reply.header("connection")) == (b"before", "close")


def test_who_follows_is_counted_where_he_is_then():
    """Another address, another prefix: `stop` sees that nobody is counted anywhere in the end."""

    def config(text, port):
        where = {"address": address(port), "stat_prefix": text} if port else {}
        return bootstrap([listener("main", [direct(200, text)], hcm={"stat_prefix": text}, **where)])

    taken, port = reserved_port()
    taken.close()
    with live(config("one", 0)) as edge, edge.connect("main") as client:
        assert body(client) == b"one"
        edge.change(config("two", port))
        assert body(client) == b"two"
        stats = edge.stats()
        assert stats["listener.two.downstream_cx_active"] == stats["http.two.downstream_cx_active"] == 1
        assert stats["http.one.downstream_cx_active"] == 0


def test_what_an_untouched_listener_has_counted_goes_on():
    """A bucket that is used up stays so, while another listener changes."""
    bucket = network_filter(
        "local_ratelimit", stat_prefix="l", token_bucket={"max_tokens": 1, "fill_interval": "1000s"}
    )

    def config(text):
        limited = tcp_listener("limited", bucket, network_filter("direct_response", response={"inline_string": "in"}))
        return bootstrap([limited, listener("main", [direct(200, text)])])

    def answer(edge):
        with socket.create_connection(("127.0.0.1", edge.port("limited")), timeout=20) as client:
            return client.recv(100)

    with live(config("one")) as edge:
        assert answer(edge) == b"in"
        edge.change(config("two"))
        assert edge.get(listener="main").body == b"two"
        assert answer(edge) == b""


def test_limits_of_connections_count_across_configurations():
    def limited(most):
        return says(
            "one",
            layered_runtime={
                "layers": [
                    {"name": "s", "static_layer": {"envoy.resource_limits.listener.main.connection_limit": most}}
                ]
            },
        )

    with live(limited(2)) as edge, edge.connect() as first, edge.connect() as second:
        assert (body(first), body(second)) == (b"one", b"one")
        edge.change(limited(3))
        with edge.connect() as third:
            assert body(third) == b"one"
            edge.change(limited(1))
            with edge.connect() as fourth:
                assert fourth.read_to_end() == b""
            assert (body(first), body(second), body(third)) == (b"one", b"one", b"one")


# ---- clusters -------------------------------------------------------------------


def through(port, **more):
    return bootstrap([listener("main", [to()])], [cluster("origin", port, **more)])


def test_another_endpoint_has_the_next_request(origins):
    first, second = (origins(lambda exchange, name=name: exchange.reply(200, name)) for name in (b"first", b"second"))
    with live(through(first.port)) as edge, edge.connect() as client:
        assert body(client) == b"first"
        assert "clusters: 0 added, 1 changed, 0 removed" in edge.change(through(second.port))
        assert body(client) == b"second"
        # Connections to the one that is gone close, although nothing is asked of it any more.
        eventually(lambda: edge.stat("cluster.origin.upstream_cx_active") == 1, what="the end of its connections")
        assert edge.stat("cluster_manager.cluster_modified") == 1


def test_connections_of_a_cluster_that_stays_are_kept(origins):
    origin = origins()
    with live(through(origin.port)) as edge, edge.connect() as client:
        body(client)
        wanted = through(origin.port)
        wanted["static_resources"]["clusters"].append(cluster("other", origin.port))
        edge.change(wanted)
        body(client)
        assert edge.stat("cluster.origin.upstream_cx_total") == 1
        assert edge.stat("cluster_manager.cluster_added") == 2


def test_a_cluster_that_is_found_by_name_follows(origins):
    """Its listener does not change: only what the name stands for."""
    first, second = (origins(lambda exchange, name=name: exchange.reply(200, name)) for name in (b"first", b"second"))

    def named(*clusters):
        return bootstrap([listener("main", [to(None, cluster_header="x-to")])], clusters)

    def ask(client, name):
        return client.ask("GET", "/", headers=[("x-to", name)])

    with live(named(cluster("a", first.port))) as edge, edge.connect() as client:
        assert ask(client, "a").body == b"first"
        assert ask(client, "b").status == 503
        edge.change(named(cluster("a", second.port), cluster("b", first.port)))
        assert (ask(client, "a").body, ask(client, "b").body) == (b"second", b"first")
        assert edge.stat("listener_manager.listener_modified") == 0
        edge.change(named(cluster("b", first.port)))
        assert ask(client, "a").status == 503


def test_a_resolver_ends_with_its_cluster(origins):
    """However long it was to rest: with it rests the configuration."""
    port = origins().port

    def resolved(timeout):
        names = cluster("origin", port, type="STRICT_DNS", dns_refresh_rate="3600s", connect_timeout=timeout)
        socket_address = names["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]
        socket_address["socket_address"]["address"] = "localhost"
        return bootstrap([listener("main", [to()])], [names])

    with live(resolved("1s")) as edge:
        for seconds in range(2, 6):
            edge.change(resolved(f"{seconds}s"))
            assert edge.get().status == 200

        def resolvers():
            return edge.admin("/debug/pprof/goroutine?debug=2").count("dns refresh")

        eventually(lambda: resolvers() == 1, what="one resolver")


def test_members_are_counted_of_the_cluster_that_serves(origins):
    port = origins().port
    with live(through(port)) as edge:
        edge.wait_for_stat("cluster.origin.membership_total", 1)
        wanted = bootstrap([listener("main", [to()])], [cluster("origin", port, port)])
        with socket.create_server(("127.0.0.1", 0)) as taken:
            wanted["static_resources"]["listeners"].append(
                {**listener("second", [to()]), "address": address(taken.getsockname()[1])}
            )
            edge.refuse(wanted)
        assert edge.stat("cluster.origin.membership_total") == 1
        edge.change(says("one"))
        assert edge.stat("cluster.origin.membership_total") == 0


# ---- streams and TLS ------------------------------------------------------------


def test_a_tcp_stream_goes_on_as_it_began(origins):
    def answers(text):
        return origins(lambda exchange: exchange.reply(200, text))

    first, second = answers(b"first"), answers(b"second")

    def config(port):
        return bootstrap([tcp_edge("tcp", "origin")], [cluster("origin", port)])

    with live(config(first.port)) as edge, edge.connect("tcp") as client:
        assert body(client) == b"first"
        edge.change(config(second.port))
        assert body(client) == b"first"
        assert edge.get(listener="tcp").body == b"second"


def test_a_stream_of_a_chain_that_changed_ends_with_the_drain_time(origins):
    origin = origins()

    def config(**more):
        return bootstrap([tcp_listener("tcp", tcp_proxy("origin", **more))], [cluster("origin", origin.port)])

    with live(config(), flags=["--drain-time-s", "1"]) as edge, edge.connect("tcp") as client:
        body(client)
        edge.change(config(idle_timeout="100s"))
        client.wait_closed()


@pytest.fixture(scope="module")
def authority():
    return Authority()


def test_another_certificate_is_for_those_that_come(authority):
    """Who has done a handshake follows without another one, if nothing but what is served has changed."""
    pair, later = authority.issue("DNS:a.test"), authority.issue("DNS:a.test", "DNS:b.test")

    def config(shown, text):
        return bootstrap([tls_listener("main", [direct(200, text)], shown)])

    context = client_context(authority)
    with live(config(pair, "one")) as edge, TlsClient(edge.port("main"), context) as client:
        assert body(client) == b"one"
        edge.change(config(pair, "two"))
        assert body(client) == b"two"
        edge.change(config(later, "three"))
        with TlsClient(edge.port("main"), context, name="b.test") as new:
            assert body(new) == b"three"
        reply = client.ask("GET", "/")
        assert (reply.body, reply.header("connection")) == (b"two", "close")


def test_a_secret_by_name_is_changed(authority):
    def config(pair):
        wanted = bootstrap([tls_listener("main", [direct(200, "one")])])
        tls = wanted["static_resources"]["listeners"][0]["filter_chains"][0]["transport_socket"]["typed_config"]
        tls["common_tls_context"] = {"tls_certificate_sds_secret_configs": [{"name": "shown"}]}
        wanted["static_resources"]["secrets"] = [{"name": "shown", "tls_certificate": pair.config()}]
        return wanted

    context = client_context(authority)
    with live(config(authority.issue("DNS:a.test"))) as edge:
        with TlsClient(edge.port("main"), context, name="a.test") as client:
            assert body(client) == b"one"
            assert "secrets: 0 added, 1 changed" in edge.change(config(authority.issue("DNS:b.test")))
            with TlsClient(edge.port("main"), context, name="b.test") as new:
                assert body(new) == b"one"
            assert body(client) == b"one"
        assert "PRIVATE" not in edge.log()


def test_what_names_no_secret_that_changed_goes_on(authority, origins):
    """A listener without TLS, one with another secret, and a cluster with its connections."""
    port = origins().port

    def named(name, secret):
        made = tls_listener(name, [to()])
        tls = made["filter_chains"][0]["transport_socket"]["typed_config"]
        tls["common_tls_context"] = {"tls_certificate_sds_secret_configs": [{"name": secret}]}
        return made

    def config(*secrets):
        wanted = bootstrap(
            [listener("plain", [to()]), named("first", "one"), named("second", "two")], [cluster("origin", port)]
        )
        wanted["static_resources"]["secrets"] = [
            {"name": name, "tls_certificate": pair.config()} for name, pair in secrets
        ]
        return wanted

    one, two, other = (authority.issue(f"DNS:{name}.test") for name in ("one", "two", "other"))
    with live(config(("one", one), ("two", two))) as edge, edge.connect("plain") as client:
        body(client)
        said = edge.change(config(("two", two), ("new", other), ("one", other)))
        assert "secrets: 1 added, 1 changed, 0 removed" in said
        assert edge.stat("listener_manager.listener_modified") == 1
        assert edge.stat("cluster_manager.cluster_modified") == 0
        body(client)
        assert edge.stat("cluster.origin.upstream_cx_total") == 1
        with TlsClient(edge.port("first"), client_context(authority), name="other.test") as new:
            body(new)


# ---- many -----------------------------------------------------------------------


def test_who_asks_at_the_same_time_gets_the_same_answer(edge):
    edge.write(says("two"))
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(edge.ask_to_reload())) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [status for status, _ in answers] == [200] * 12
    assert edge.get().body == b"two"
    assert edge.stat("config.reload_success") <= 12
    assert edge.stat("config.reload_rejected") == 0


@pytest.mark.skipif(is_sanitized(), reason="a sanitizer keeps what is freed")
def test_what_is_served_no_more_is_given_back():
    """A connection that idles keeps no configuration: a hundred of them went by, and it is there still."""

    def config(i):
        return bootstrap([listener("main", [direct(200, f"{i}", prefix=f"/{k}") for k in range(200)])])

    with live(config(0)) as edge, edge.connect() as idle:
        assert idle.ask("GET", "/1").body == b"0"
        for i in range(1, 30):
            edge.change(config(i))
        before = edge.rss_kb()
        for i in range(30, 130):
            edge.change(config(i))
        if not is_sanitized():
            assert edge.rss_kb() - before < 20_000
        assert idle.ask("GET", "/1").body == b"129"
