"""The configuration changes again and again while clients ask: no request fails over it, what is wrong is never
followed, and neither storms of changes nor processes that are killed leave anything behind. What each kind of change
does is in test_reload.py."""

import contextlib
import http.client
import itertools
import json
import os
import random
import signal
import threading
import time

import kit
import pytest
from asking import Asking
from harness import (
    Proxy,
    bootstrap,
    cluster,
    direct,
    eventually,
    listener,
    marked,
    router,
    run,
    to,
)
from isolation_support import host_pids, isolated, kill_hosts
from tcp_support import Upstream, receive, tcp_edge, through
from test_chaos import descriptors
from test_supervise import Supervised, is_alive, is_refused, stop
from tls_kit import Authority, TlsClient, client_context, tls_listener

from build import build

VERSIONS = 6


class Following(Asking):
    """Clients of a proxy whose answers say of which version they are. `serving` is followed for sure, `coming` may
    be. Where connections cannot follow, they may end with an answer of the version before."""

    def __init__(self, edge, config, said, *, may_end=False, **more):
        self.edge, self.config, self.said, self.may_end = edge, config, said, may_end
        self.serving = self.coming = 0
        super().__init__(edge, **{"listener": "main", **more})

    def ask(self, client):
        least = self.serving
        reply = super().ask(client)
        version = self.said(reply)
        ends = self.may_end and reply.header("connection") == "close"
        assert least <= version + ends and version <= self.coming, (least, version, self.coming)
        return reply

    def follow(self, version):
        self.coming = version
        said = self.edge.reload(self.config(version))
        assert said.startswith("version "), said
        self.serving = version


# ---- each kind of change ----------------------------------------------------


def by_body(reply):
    return int(reply.body)


def by_levels(reply):
    return int(reply.header("x-levels").rpartition(">")[2])


def answers(version, **more):
    return listener("main", [direct(200, str(version))], **more)


def numbered_origins(origins):
    """One for each version, which says so."""
    return [origins(lambda exchange, n=n: exchange.reply(200, str(n).encode())) for n in range(VERSIONS + 1)]


def level(name):
    return kit.typed_struct({"level": str(name)})


def receive_head(sock):
    """Of a request; what comes behind it is left there."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += receive(sock, 1)


def a_route(_):
    return lambda version: bootstrap([answers(version)]), by_body


def a_cluster_s_endpoints(origins):
    upstreams = numbered_origins(origins)
    return lambda version: bootstrap([listener("main", [to()])], [cluster("origin", upstreams[version].port)]), by_body


def a_cluster_for_another(origins):
    upstreams = numbered_origins(origins)

    def config(version):
        name = f"cluster-{version}"
        return bootstrap([listener("main", [to(name)])], [cluster(name, upstreams[version].port)])

    return config, by_body


def a_listener_beside(_):
    return lambda version: bootstrap([answers(version), listener(f"beside-{version}", [direct(200)])]), by_body


def a_filter_chain(_):
    def config(version):
        main = answers(version)
        match = {"prefix_ranges": [{"address_prefix": "127.0.0.0", "prefix_len": 8 + version}]}
        main["filter_chains"][0].update(name=f"chain-{version}", filter_chain_match=match)
        return bootstrap([main])

    return config, by_body


def a_plugin_config(_):
    def config(version):
        merge = kit.go_filter(build("config"), "merge", level(version))
        return bootstrap([listener("main", [direct(200)], filters=[merge, router()])])

    return config, by_levels


def a_route_s_own_config(_):
    merge = kit.go_filter(build("config"), "merge", level("filter"), name="go")

    def config(version):
        route = direct(200, typed_per_filter_config={"go": kit.per_route(merge=level(version))})
        return bootstrap([listener("main", [route], filters=[merge, router()])])

    return config, by_levels


KINDS = (
    a_route,
    a_cluster_s_endpoints,
    a_cluster_for_another,
    a_listener_beside,
    a_filter_chain,
    a_plugin_config,
    a_route_s_own_config,
)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_no_request_fails_over_a_change(proxy, origins, kind):
    """Each that begins when a version serves is answered by that, or by one that has come since; on connections that
    were there before as on others."""
    config, said = kind(origins)
    edge = proxy([], config=config(0), level="info")
    before = edge.stat("config.reload_success")
    with Following(edge, config, said, may_end=kind is a_filter_chain) as clients:
        for version in range(1, VERSIONS + 1):
            clients.wait_for_more()
            clients.follow(version)
        clients.wait_for_more()
    assert said(edge.get(listener="main")) == VERSIONS
    assert edge.stat("config.reload_success") == before + VERSIONS


class Shown(Following):
    """A version is a certificate. A connection in three is closed after a request on it, and all have the certificate
    of their handshake."""

    def __init__(self, edge, config, authority):
        context = client_context(authority)
        context.check_hostname = False
        count = itertools.count()

        def connect():
            least = self.serving
            client = TlsClient(edge.port("main"), context)
            version = int(client.names()[0].split(".")[0])
            assert least <= version <= self.coming, (least, version, self.coming)
            return client

        self.is_last = lambda: next(count) % 3 == 0
        super().__init__(edge, config, None, connect=connect)

    def ask(self, client):
        headers = [("connection", "close")] if self.is_last() else []
        reply = client.ask("GET", "/", headers=headers)
        assert reply.status == 200, reply
        return reply


def test_no_request_fails_over_another_certificate(proxy):
    authority = Authority()
    pairs = [authority.issue(f"DNS:{version}.test") for version in range(VERSIONS + 1)]
    by_name = {"tls_certificate_sds_secret_configs": [{"name": "shown"}]}
    main = tls_listener("main", [direct(200, "x")], common=by_name)
    del main["filter_chains"][0]["transport_socket"]["typed_config"]["common_tls_context"]["tls_certificates"]

    def config(version):
        made = bootstrap([main])
        made["static_resources"]["secrets"] = [{"name": "shown", "tls_certificate": pairs[version].config()}]
        return made

    edge = proxy([], config=config(0), level="info")
    with Shown(edge, config, authority) as clients:
        for version in range(1, VERSIONS + 1):
            clients.wait_for_more()
            clients.follow(version)
        clients.wait_for_more()


def test_a_listener_that_goes_says_so_to_who_is_connected(proxy):
    """Two that take turns: who is connected to the one that goes hears of it by his next answer and comes to the other
    one; no request of his fails."""
    names = ("blue", "green")

    def config(*wanted):
        return bootstrap([listener(name, [direct(200, name)]) for name in wanted])

    edge = proxy([], config=config("blue"), level="info")
    target = ["blue"]
    with Asking(edge, connect=lambda: edge.connect(target[0], timeout_s=60)) as clients:
        for turn in range(1, VERSIONS + 1):
            former, current = names[(turn + 1) % 2], names[turn % 2]
            assert edge.reload(config(former, current)).startswith("version ")
            target[0] = current
            clients.wait_for_more()  # whoever was about to connect to the one that goes has been accepted
            port = edge.port(former)
            assert edge.reload(config(current)).startswith("version ")
            eventually(lambda port=port: is_refused(port), what="refusal")
            clients.wait_for_more()
    assert edge.stat("listener_manager.listener_removed") == VERSIONS
    assert edge.stat(f"http.{current}.downstream_rq_total") > 0


def test_what_is_under_way_goes_on(proxy):
    """An upload, a download, a WebSocket and a TCP connection, each with half of its bytes on one side of twenty
    changes, the last of which takes its listener away."""
    half = bytes(range(256)) * 64

    def stays(version, *names):
        upgrade = {"upgrade_configs": [{"upgrade_type": "websocket"}]}
        made = [listener(name, [to(timeout="0s")], hcm=upgrade) for name in names]
        made += [tcp_edge("tcp")] if names else []
        return marked(bootstrap([answers(version), *made], [cluster("origin", upstream.port)]), version)

    with contextlib.closing(Upstream()) as upstream:
        edge = proxy([], config=stays(0, "up", "down", "socket"), level="info")
        with contextlib.ExitStack() as open_ones:
            up, down, socket = (open_ones.enter_context(edge.connect(name)) for name in ("up", "down", "socket"))
            up.send_head("POST", "/", [("content-length", 2 * len(half))])
            up.send_bytes(half)
            uploaded = open_ones.enter_context(upstream.accept())
            receive_head(uploaded)
            receive(uploaded, len(half))
            down.send("GET", "/")
            downloaded = open_ones.enter_context(upstream.accept())
            receive_head(downloaded)
            downloaded.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (2 * len(half)) + half)
            assert down.read_head()[0] == "200"
            assert down.reader.exactly(len(half)) == half
            socket.send_head("GET", "/", [("connection", "upgrade"), ("upgrade", "websocket")])
            switched = open_ones.enter_context(upstream.accept())
            receive_head(switched)
            switched.sendall(b"HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
            assert socket.read_head()[0] == "101"
            client, server = (open_ones.enter_context(end) for end in through(edge, upstream, "tcp"))

            for version in range(1, 20):
                assert edge.reload(stays(version, "up", "down", "socket")).startswith("version ")
            assert edge.reload(stays(20)).startswith("version ")

            up.send_bytes(half)
            assert receive(uploaded, len(half)) == half
            uploaded.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nup")
            reply = up.read_reply()
            assert (reply.body, reply.header("connection")) == (b"up", "close")
            downloaded.sendall(half)
            assert down.reader.exactly(len(half)) == half
            for here, there in ((socket.sock, switched), (switched, socket.sock), (client, server), (server, client)):
                here.sendall(half)
                assert receive(there, len(half)) == half
    assert edge.get().body == b"20"


# ---- storms -----------------------------------------------------------------


STORM_S = 3
EACH_S = 0.01


def good(version):
    """All of it is another than before."""
    chain = {"name": f"chain-{version}"}
    main = listener("main", [to(f"dead-{version}", "/up"), direct(200, str(version))])
    main["filter_chains"][0].update(chain)
    return bootstrap([main, listener(f"beside-{version % 3}", [direct(200)])], [cluster(f"dead-{version}", 1)])


def without_a_cluster(version):
    made = good(version)
    made["static_resources"]["clusters"] = []
    return made


def with_a_typing_error(version):
    made = good(version)
    made["static_resources"]["listners"] = []
    return made


def without_a_certificate(version):
    made = good(version)
    made["static_resources"]["listeners"].append(tls_listener("tls", [direct(200)]))
    return made


def without_its_end(version):
    return json.dumps(good(version))[:-20]


BROKEN = (
    without_a_cluster,
    with_a_typing_error,
    without_a_certificate,
    without_its_end,
    lambda version: "",
    lambda version: "\0\1\2",
    lambda version: "- a\n- list\n",
)


class Stormy(Asking):
    """On a connection versions come in their order, and none comes of a file that is wrong."""

    def __init__(self, edge, is_good):
        self.seen, self.is_good = threading.local(), is_good
        super().__init__(edge, listener="main")

    def ask(self, client):
        reply = super().ask(client)
        last, version = getattr(self.seen, "by", (None, 0)), int(reply.body)
        assert self.is_good(version), version
        assert last[0] is not client or version >= last[1], (last[1], version)
        self.seen.by = (client, version)
        return reply


def storm(edge, first):
    """100 files a second, half of them wrong, by signal and by the admin. Returns the last version."""
    dice, start, version = random.Random(first), time.monotonic(), first
    while time.monotonic() < start + STORM_S:
        version += 1
        config = good(version) if version % 2 else dice.choice(BROKEN)(version)
        if version % 8 < 2:
            said = edge.reload(config)
            assert said.startswith("version ") == bool(version % 2), (version, said)
        else:
            edge.write_config(config)
            edge.process.send_signal(signal.SIGHUP)
        time.sleep(max(0, start + (version - first) * EACH_S - time.monotonic()))  # a storm has a pace
    return version


def test_a_storm(proxy):
    edge = proxy([], config=good(1), level="info")
    with Stormy(edge, lambda version: version % 2) as clients:
        clients.wait_for_more()
        last = storm(edge, 1) // 2 * 2 + 1
        assert edge.reload(good(last)).startswith("version ")
        held = descriptors(edge)
        last = storm(edge, last) // 2 * 2 + 1
        assert edge.reload(good(last)).startswith("version ")
        clients.wait_for_more()
    assert edge.get(listener="main").body == str(last).encode()

    def settled():
        stats = edge.stats()
        attempts, taken, refused = (stats[f"config.reload_{what}"] for what in ("attempt", "success", "rejected"))
        return attempts == taken + refused and taken > 10 and refused > 10

    eventually(settled, what="as many verdicts as attempts")
    # A client or two of them may have their connections to the admin or to an origin open.
    eventually(lambda: descriptors(edge) <= held, what="descriptors given back")


# ---- files that are wrong ---------------------------------------------------


WHOLE = """\
admin: {address: {socket_address: {address: 127.0.0.1, port_value: 0}}}
static_resources:
  listeners:
  - name: main
    address:
      socket_address: {address: 127.0.0.1, port_value: 0}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: main
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: {prefix: /up}
                route: {cluster: up, timeout: 30s}
              - match: {prefix: /}
                direct_response: {status: 200, body: {inline_string: whole}}
          http_filters:
          - name: envoy.filters.http.router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
  clusters:
  - name: up
    type: STATIC
    load_assignment:
      cluster_name: up
      endpoints:
      - lb_endpoints:
        - endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 9}}}
        - endpoint: {address: {socket_address: {address: 127.0.0.2, port_value: 9}}}
"""


def is_whole(text):
    return run("--mode", "validate", config=text).returncode == 0


def cut_short(proxy, lengths):
    """A file that somebody is still writing changes nothing, unless what there is of it is a configuration of its own:
    then validating it says so, too."""
    edge = proxy([], config=WHOLE, level="info")
    client, taken = edge.connect("main", timeout_s=60), []
    for length in lengths:
        version = edge.stat("config.version")
        said = edge.reload(WHOLE[:length])
        if said.startswith("version "):
            assert is_whole(WHOLE[:length]), (length, said)
            taken.append(length)
            # It may have been without the listener.
            assert edge.reload(WHOLE).startswith("version "), length
            client.close()
            client = edge.connect("main", timeout_s=60)
        else:
            assert edge.stat("config.version") == version, length
        assert client.ask("GET", "/").body == b"whole", length
    client.close()
    return taken


def test_a_file_that_is_cut_short_is_not_followed(proxy):
    cut_short(proxy, range(0, len(WHOLE), 29))


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_a_file_that_is_cut_short_anywhere(proxy):
    taken = cut_short(proxy, range(len(WHOLE)))
    assert len(WHOLE) - 1 in taken  # all but the last line's end
    assert len(taken) < len(WHOLE) / 2


# ---- processes that are killed ----------------------------------------------


class Changing:
    """Somebody puts one version after the other there, and has it read, whoever is killed meanwhile. To be refused is
    wrong, unless it may be."""

    def __init__(self, edge, config, *, may_be_refused=False):
        self.edge, self.config, self.version = edge, config, 0
        self.may_be_refused = may_be_refused
        self.over = threading.Event()
        self.wrong = []
        self.thread = threading.Thread(target=self._run)

    def _run(self):
        while not self.over.is_set():
            self.version += 1
            with contextlib.suppress(OSError, http.client.HTTPException):  # who was asked is dead
                said = self.edge.reload(self.config(self.version))
                if not said.startswith("version ") and not self.may_be_refused:
                    self.wrong.append(said)

    def wait_for_more(self):
        then = self.version
        eventually(lambda: self.version > then + 3, timeout_s=60, what="changes")

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, failure, *_):
        self.over.set()
        self.thread.join(60)
        assert failure or not self.wrong, self.wrong


def test_a_process_that_is_killed_as_it_reloads_comes_back_with_the_last_version():
    """And with its sockets, whatever somebody asks of it before it serves."""
    edge = Supervised(bootstrap([answers(0)]), level="info")
    port = edge.port()
    try:
        with Changing(edge, lambda version: bootstrap([answers(version)])) as changing:
            for count in range(1, 4):
                changing.wait_for_more()
                os.kill(edge.workers(count)[-1], signal.SIGKILL)
                edge.workers(count + 1)
            changing.wait_for_more()
        assert edge.get().body == str(changing.version).encode()
        assert edge.port() == port
        stop(edge)
    finally:
        if edge.alive():
            edge.kill()


def test_nobody_is_left_when_the_supervisor_is_killed_as_it_reloads():
    edge = Supervised(bootstrap([answers(0)]), level="info")
    with Changing(edge, lambda version: bootstrap([answers(version)])) as changing:
        changing.wait_for_more()
        [worker] = edge.workers()
        edge.kill()
        eventually(lambda: not is_alive(worker), what="the end of what it started")


def test_hosts_that_are_killed_as_they_are_told_of_another_configuration():
    """Requests may fail meanwhile, for a library that is not there. Then the last version is followed."""

    def config(version):
        merge = isolated(build("config"), "merge", config=level(version))
        return bootstrap([listener("main", [direct(200)], filters=[merge, router()])])

    edge = Proxy(config(0), level="info")
    try:
        with Changing(edge, config, may_be_refused=True) as changing:
            for _ in range(10):
                changing.wait_for_more()
                kill_hosts(edge)
        last = changing.version + 1
        eventually(lambda: edge.reload(config(last)).startswith("version "), what="a library that is there")

        def follows():
            reply = edge.get(listener="main")
            return reply.status == 200 and by_levels(reply) == last

        eventually(follows, what="the last version")
        eventually(lambda: len(host_pids(edge)) == 2, what="one process, and a spare")
        assert edge.leaks() == {}
        stop(edge)
    finally:
        if edge.alive():
            edge.kill()


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is one processor only")
@pytest.mark.parametrize(("first", "then"), [(2, 1), (1, 2)])
def test_a_restart_with_more_or_fewer_processors_amid_changes(first, then):
    everything = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, everything[:first])
    try:
        edge = Supervised(bootstrap([answers(0)]), level="info")
    finally:
        os.sched_setaffinity(0, everything)
    try:
        with Following(edge, lambda version: bootstrap([answers(version)]), by_body) as clients:
            clients.wait_for_more()
            clients.follow(1)
            clients.wait_for_more()
            os.sched_setaffinity(edge.process.pid, everything[:then])
            edge.replace()
            eventually(lambda: edge.info("concurrency") == then, what="the new process at the admin's address")
            clients.wait_for_more()
            clients.wait_for_more()  # nobody is with the former one any more
            clients.follow(2)
            clients.wait_for_more()
        stop(edge)
    finally:
        if edge.alive():
            edge.kill()
