"""Everything that can happen to isolated libraries, at random and at once: processes that die of each thing that a
process can die of, files that come and go, configurations that change, clients that leave, an origin that answers
nonsense. Whoever is served is served right, all others are told so in time, and nothing is left over when it is quiet
again."""

import collections
import concurrent.futures
import json
import os
import queue
import random
import threading
import time

import kit
import pytest
from go_support import (
    Client,
    Gone,
    Proxy,
    build,
    cluster,
    config_of,
    eventually,
    report_listener,
    stop,
)
from harness import Origin, encode_chunk, is_sanitized, marked
from test_chaos import chunks_of, descriptors
from chaos_parties import InGo, IsolatedC, IsolatedGo, IsolatedNetwork, Party
from isolation_support import host_pids

# Their listeners' names. The short story has one of each kind, of which each policy is somebody's.
SOME = {
    "closed": (IsolatedGo, "CLOSED"),
    "open": (IsolatedGo, "OPEN"),
    "c-closed": (IsolatedC, "CLOSED"),
    "net-open": (IsolatedNetwork, "OPEN"),
}
ALL = {**SOME, "c-open": (IsolatedC, "OPEN"), "net-closed": (IsolatedNetwork, "CLOSED")}
CLIENTS = 12
CLIENT_DEADLINE_S = 60
BODIES = (0, 1, 100, 10_000, 200_000, 1_000_000)
# Of what the proxy holds when it is quiet; a leak of each process, request or file is more.
COMES_AND_GOES = {"descriptors": 4, "coroutines": 2, "threads": 16}
# Pools are soon empty when it is quiet.
SOON_IDLE = {
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": kit.TYPE + "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "common_http_protocol_options": {"idle_timeout": "0.1s"},
        "explicit_http_config": {"http_protocol_options": {}},
    }
}


def moody(exchange):
    """Echoes, with what the filter made of the request's header; or does what the path's first part says."""
    mood = exchange.request.path.split("/")[1]
    if mood == "reset":
        exchange.reset()
    if mood == "close":
        raise Gone("left")
    if mood == "garbage":
        exchange.send(b"garbage\r\n\r\n")
        raise Gone("said nonsense")
    if mood == "half":
        exchange.send(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\npart of it")
        exchange.reset()
    if mood == "early":
        exchange.reply(413, b"early", [("connection", "close")])
        raise Gone("did not read")
    body = exchange.request.read_body()
    if mood == "stall":
        exchange.wait_closed()
        raise Gone("nobody waits any more")
    saw = ("x-saw", exchange.request.header("x-asked") or "")
    if len(body) % 2:
        exchange.reply(200, body, [saw])
        return
    exchange.send(f"HTTP/1.1 200 OK\r\n{saw[0]}: {saw[1]}\r\ntransfer-encoding: chunked\r\n\r\n".encode())
    for piece in (body[: len(body) // 3], body[len(body) // 3 :]):
        if piece:
            exchange.send(encode_chunk(piece))
    exchange.send(b"0\r\n\r\n")


class Chaos:
    def __init__(self, folder, seed, libraries):
        self.seed = seed
        self.origin = Origin(moody, keeps_requests=False)
        self.libraries = [make(name, folder, on_failure) for name, (make, on_failure) in libraries.items()]
        self.parties = [*self.libraries, InGo("here", folder), Party("no-go", folder)]
        self.doom = {party.name: queue.SimpleQueue() for party in self.parties}  # deaths that a request shall bring
        self.seen = collections.Counter()  # (listener, what became of a request)
        self.did = collections.Counter()
        self.asked = collections.Counter()  # listener
        self.lock = threading.Lock()  # of what is counted
        self.wrong = []
        self.over = threading.Event()
        listeners = [party.listener(self.origin.port) for party in self.parties]
        upstream = cluster("origin", self.origin.port, typed_extension_protocol_options=SOON_IDLE)
        self.config = config_of([*listeners, report_listener(build("basic"))], [upstream])
        self.sluice = Proxy(self.config, level="info")

    # ---- clients ----------------------------------------------------------------

    def next_death(self, party):
        try:
            return self.doom[party.name].get_nowait()
        except queue.Empty:
            return None

    def request(self, client, party, dice):
        """Sends one request and judges what it gets. Returns what became of it, in a word or a status."""
        nonce = f"{dice.getrandbits(64):x}"
        mood = dice.choice(list(party.moods)) if dice.random() < 0.1 else "good"
        asked = party.ask(dice, mood, nonce, b"b" * dice.choice(BODIES), self.next_death(party))
        leaves = "never" if dice.random() < 0.9 else dice.choice(("head", "middle", "sent", "answer"))
        with self.lock:
            self.asked[party.name] += 1
        try:
            if not self.sends(client, asked, leaves, dice):
                return "left"
            reply = client.read_reply()
        except (Gone, ConnectionError):
            if not party.may_cut(mood, asked):
                self.wrong.append((party.name, asked.path, asked.headers, len(asked.body), "cut"))
            return "cut"
        self.judge(party, mood, nonce, asked, reply)
        if reply.header("connection") == "close":
            client.close()
        return reply.status

    def sends(self, client, asked, leaves, dice):
        """Whether the client stays for the reply."""
        chunked = dice.random() < 0.5
        length = ("transfer-encoding", "chunked") if chunked else ("content-length", len(asked.body))
        client.send_head("POST", asked.path, [length, *asked.headers])
        if leaves == "head":
            return False
        send = client.send_chunk if chunked else client.send_bytes
        for number, piece in enumerate(chunks_of(asked.body, dice)):
            if leaves == "middle" and number == 1:
                return False
            send(piece)
        if chunked:
            client.send_end()
        if leaves == "answer":
            client.sock.recv(1)
        return leaves not in ("sent", "answer")

    def judge(self, party, mood, nonce, asked, reply):
        marks = (reply.header("x-saw"), reply.header("x-answer"))
        is_right = party.is_right(nonce, asked.body, marks, reply.body) if reply.status == 200 else True
        if reply.status not in party.allowed(mood, asked) or not is_right:
            got = (reply.status, marks, len(reply.body), reply.body[:40])
            self.wrong.append((party.name, asked.path, asked.headers, nonce, len(asked.body), *got))

    def client(self, seed, deadline):
        dice = random.Random(seed)
        try:
            while time.monotonic() < deadline and not self.wrong:
                self.conversation(dice, deadline)
        except BaseException as e:
            self.wrong.append(f"a client with seed {seed}: {e!r}")

    def conversation(self, dice, deadline):
        """Requests on one connection, until either side ends it."""
        party = dice.choice(self.parties)
        client = Client(self.sluice.port(party.name), timeout_s=CLIENT_DEADLINE_S)
        for _ in range(dice.randint(1, 8)):
            try:
                outcome = self.request(client, party, dice)
            except TimeoutError:
                raise AssertionError(f"{party.name}: no answer in {CLIENT_DEADLINE_S} s") from None
            with self.lock:
                self.seen[party.name, outcome] += 1
            if outcome in ("left", "cut") or client.sock.fileno() < 0 or time.monotonic() >= deadline:
                break
        (client.abort if outcome == "left" and dice.random() < 0.5 else client.close)()

    # ---- mischief -----------------------------------------------------------------

    def kills(self, dice):
        pids = host_pids(self.sluice)
        if pids:
            try:
                os.kill(dice.choice(pids), 9)
            except ProcessLookupError:
                return  # it died of something else meanwhile

    def deaths(self):
        """Kills, and requests that are deadly: each kind once, in some order, then at random."""
        dice = random.Random(f"deaths {self.seed}")
        kinds = [(party.name, how) for party in self.libraries for how in (*party.deaths, "kill -9")]

        def do(kind):
            name, how = kind
            self.did[how] += 1
            if how == "kill -9":
                self.kills(dice)
            else:
                self.doom[name].put(how)

        for kind in dice.sample(kinds, len(kinds)):
            do(kind)
            self.over.wait(0.02)
        while not self.over.wait(dice.choice((0.01, 0.1, 0.3, 1))):
            do(dice.choice(kinds))

    def swaps(self):
        """New files, good and bad, and reloads that somebody asks for."""
        dice = random.Random(f"swaps {self.seed}")
        first = ["good", "bad", "reload", "good"]
        while first or not self.over.is_set():
            self.over.wait(dice.choice((0.05, 0.2, 0.5)))
            party = dice.choice(self.libraries)
            how = first.pop() if first else dice.choice(("good", "good", "bad", "reload"))
            self.did[how] += 1
            if how == "reload":
                said = self.sluice.admin(f"/extensions/reload?library_id={party.name}", method="POST")
                if not said.startswith(f"{party.name}: "):  # it serves, or why not: it may have been killed meanwhile
                    self.wrong.append(f"reload: {said}")
            else:
                party.put(dice.randrange(2) if how == "good" else None)
                if how == "bad":  # what dies meanwhile has nothing to come back to
                    self.over.wait(dice.choice((0, 0.1)))
                    party.put(0)

    def configurations(self):
        """Others for all that there is, and files that are wrong."""
        dice = random.Random(f"configurations {self.seed}")
        first, number = ["changed", "wrong"], 0
        while first or not self.over.is_set():
            self.over.wait(dice.choice((0.02, 0.2, 0.5)))
            number += 1
            how = first.pop() if first else dice.choice(("changed", "changed", "wrong"))
            self.did[how] += 1
            wanted = marked(self.config, number)
            if how == "wrong":
                wanted["static_resources"]["clusters"] = []
            said = self.sluice.reload(wanted)
            serves = said.startswith("version ")
            # A process may be dead this moment, and the file that it is to be started from none.
            excused = "its host process is not up" in said or any(one.path.name in said for one in self.libraries)
            if serves if how == "wrong" else not serves and not excused:
                self.wrong.append(f"{how}: {said}")

    def guarded(self, fn):
        try:
            fn()
        except BaseException as e:
            self.wrong.append(f"{fn.__name__}: {e!r}")

    def storm(self, seconds):
        """All of it, for so long."""
        self.over.clear()
        deadline = time.monotonic() + seconds
        dice = random.Random(f"clients {self.seed} {seconds}")
        clients = [threading.Thread(target=self.client, args=(dice.getrandbits(64), deadline)) for _ in range(CLIENTS)]
        kinds = (self.deaths, self.swaps, self.configurations)
        mischief = [threading.Thread(target=self.guarded, args=(fn,)) for fn in kinds]
        for thread in [*clients, *mischief]:
            thread.start()
        for thread in clients:
            thread.join(seconds + 2 * CLIENT_DEADLINE_S)
            assert not thread.is_alive(), "a client hangs"
        self.over.set()
        for thread in mischief:
            thread.join(60)
            assert not thread.is_alive(), "an administrator hangs"
        for waiting in self.doom.values():
            while not waiting.empty():
                waiting.get()

    # ---- afterwards ---------------------------------------------------------------

    def entries(self):
        all_of_them = json.loads(self.sluice.admin("/extensions"))["extensions"]
        return {one["library_id"]: one for one in all_of_them if one["isolation"] == "PROCESS"}

    def lent(self, what):
        return int(json.loads(self.sluice.admin("/memory"))["lent"][what])

    def for_each_library(self, do):
        """At once: most of it is waiting."""
        with concurrent.futures.ThreadPoolExecutor(len(self.libraries)) as pool:
            list(pool.map(do, self.libraries))

    def works(self, party):
        dice, nonce, body = random.Random(0), "1", b"b"
        asked = party.ask(dice, "good", nonce, body, None)
        with self.lock:
            self.asked[party.name] += 1
        try:
            reply = self.sluice.get(
                asked.path, listener=party.name, method="POST", headers=asked.headers, body=asked.body
            )
        except (Gone, ConnectionError):  # while there is no process
            return False
        marks = (reply.header("x-saw"), reply.header("x-answer"))
        return reply.status == 200 and party.is_whole(nonce, body, marks, reply.body)

    def works_from_its_file(self, library):
        """Whatever file it was started from."""
        library.put(0)
        eventually(lambda: self.works(library), timeout_s=60, what=f"{library.name} at work again")
        last = f"/extensions/reload?library_id={library.name}"
        serves = f"{library.name}: the new file serves\n"
        eventually(lambda: self.sluice.admin(last, method="POST") == serves, timeout_s=60, what=last)

    def quiet(self):
        """Waits until nothing is under way any more."""
        self.for_each_library(self.works_from_its_file)
        assert all(self.works(party) for party in self.parties if party not in self.libraries)
        again = self.sluice.reload(self.config)
        assert again.startswith("version "), again

        def settled():
            return all(
                (one["state"], one["draining_processes"], one["streams"]) == ("up", 0, 0)
                for one in self.entries().values()
            )

        eventually(settled, timeout_s=60, what="no process but the current ones")
        kit.Reporter(self.sluice.port("report")).wait_until_collected(timeout_s=60)
        assert self.sluice.leaks() == {}
        eventually(lambda: self.lent("handles_count") == 0, what="every exchange let go of")
        eventually(lambda: len(host_pids(self.sluice)) == len(self.libraries) + 1, what="one process each, and a spare")
        self.sluice.wait_for_stat("cluster.origin.upstream_cx_active", 0)

    def counters_add_up(self):
        stats = self.sluice.stats()
        for listener in [party.name for party in self.parties if party.counts_requests]:
            total, done, *classes = (
                stats[f"http.{listener}.downstream_rq_{name}"]
                for name in ("total", "completed", "1xx", "2xx", "3xx", "4xx", "5xx")
            )
            # What is no answer was given up: its client left, or it was cut.
            answered = sum(n for (at, what), n in self.seen.items() if at == listener and isinstance(what, int))
            counted = (answered, done, total, self.asked[listener])
            assert sorted(counted) == list(counted) and sum(classes) == done, (listener, counted, classes)
        entries = self.entries()
        for library in self.libraries:
            entry = entries.pop(library.name)
            # Those that were replaced as they died are not started again.
            assert 0 < entry["restarts"] <= entry["crashes"] + entry["hangs"], entry
            for field in ("restarts", "crashes", "hangs"):
                assert stats[f"{library.statistics}.{library.name}.{field}"] == entry[field]
        assert entries == {}

    def held(self):
        """What a proxy that leaks has ever more of."""
        return {
            "descriptors": descriptors(self.sluice),
            "coroutines": self.sluice.stat("rt.coroutines_alive"),
            "threads": len(os.listdir(f"/proc/{self.sluice.process.pid}/task")),
        }

    def holds_no_more_than(self, before):
        def look():
            return all(now <= before[what] + COMES_AND_GOES[what] for what, now in self.held().items())

        try:
            eventually(look)
        except AssertionError:
            raise AssertionError(f"held before: {before}, now: {self.held()}") from None

    def one_more_costs_one_restart(self):
        """When it is quiet, what is counted is exact: of a process that is killed, and of one that hangs."""
        self.for_each_library(lambda one: self.costs(one, "crashes", lambda: self.kill(one)))
        self.for_each_library(lambda one: self.costs(one, "hangs", lambda: one.hang(self.sluice)))

    def kill(self, library):
        os.kill(self.entries()[library.name]["pid"], 9)

    def costs(self, library, field, end):
        was = self.entries()[library.name]
        end()

        def counted():
            """On a machine that stands still for a while what it was asked next may count as a hang, too."""
            now = self.entries()[library.name]
            more = {what: now[what] - was[what] for what in ("restarts", "crashes", "hangs")}
            return more[field] > 0 and more["restarts"] == more["crashes"] + more["hangs"]

        eventually(counted, timeout_s=60, what=f"one of the {field} of {library.name}, and one restart")
        eventually(lambda: self.works(library), timeout_s=60, what=f"{library.name} at work again")

    def close(self, failed):
        if failed:
            print(f"seed {self.seed}; the proxy's end: {self.sluice.process.poll()}\n{self.sluice.log()[-8000:]}")
            self.sluice.kill()
        else:
            stop(self.sluice)
        self.origin.close()


def chaos(folder, warm_s, seconds, libraries):
    """A short storm first, for all that is made once."""
    seed = int(os.environ.get("SLUICE_CHAOS_SEED", random.randrange(1 << 30)))
    print(f"seed {seed}")
    it = Chaos(folder, seed, libraries)
    failed = True
    try:
        it.storm(warm_s)
        it.quiet()
        held, rss_kb = it.held(), it.sluice.rss_kb()
        it.storm(seconds)
        print(dict(it.seen), dict(it.did))
        assert not it.wrong, "\n".join(map(str, it.wrong))
        it.quiet()
        it.holds_no_more_than(held)
        it.counters_add_up()
        it.one_more_costs_one_restart()
        assert {party.name for party in it.parties} <= {name for name, what in it.seen if what == 200}
        deaths = {how for library in it.libraries for how in library.deaths}
        assert set(it.did) >= {*deaths, "kill -9", "good", "bad", "reload", "changed", "wrong"}
        print(held, it.held())
        print(f"resident: {rss_kb} kB, then {it.sluice.rss_kb()} kB")
        if not is_sanitized():
            assert it.sluice.rss_kb() < rss_kb + 64 * 1024
        failed = False
    finally:
        it.close(failed)


@pytest.fixture
def asan_without(monkeypatch):
    """asan_without(what...) switches checks of AddressSanitizer off. A process that hangs is sent SIGSEGV, at which Go
    says where it is, unless the thread is none of Go's: then the sanitizer would tell of a crash that is none."""

    def switch_off(*checks):
        options = [os.environ.get("ASAN_OPTIONS", ""), *(f"{check}=0" for check in checks)]
        monkeypatch.setenv("ASAN_OPTIONS", ":".join(options))

    switch_off("handle_segv")
    return switch_off


@pytest.mark.usefixtures("asan_without")
def test_a_short_chaos(tmp_path):
    chaos(tmp_path, 1, 2, SOME)


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_ten_minutes_of_chaos(tmp_path, asan_without):
    """Leaks are the short story's: after thousands of processes the kernel gives threads numbers that others had, and
    LeakSanitizer (of GCC 12) takes one for the other, whose stack is gone, and what it holds for lost."""
    asan_without("detect_leaks")
    chaos(tmp_path, 20, 600, ALL)
