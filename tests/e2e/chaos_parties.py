"""Who takes part in test_isolation_chaos.py: a listener each, most with a library in a process of its own. What they
are asked, how their processes die of it, and what a right answer is."""

import contextlib
import dataclasses
import functools
import shutil

import kit
from go_support import build, go_listener, to
from harness import ROOT, Gone, is_sanitized, listener, router
from isolation_support import ALWAYS, isolated
from tcp_support import tcp_listener, tcp_proxy
from test_go_network import go_network
from test_isolation import DEATHS
from test_native_filters import NATIVE, compile_plugin

# What the origin does when it is asked to, and how that may end for a client that waits. All may end with a cut.
MOODS = {
    "reset": {502, 503},
    "close": {502, 503},
    "garbage": {502, 503},
    "half": set(),
    "early": {413, 502, 503},
    "stall": {504},
}


@dataclasses.dataclass
class Asked:
    path: str
    body: bytes
    headers: list = dataclasses.field(default_factory=list)
    may_be_lost: bool = False  # with its process, whatever on_failure says


class Party:
    """A listener without a filter."""

    deaths = ()  # without a library there is no process
    moods = MOODS
    on_failure = "OPEN"
    marks_of_none = ("", None)  # what the origin saw in x-asked, and the client in x-answer
    counts_requests = True  # those of http.NAME

    def __init__(self, name, folder):
        self.name = name
        self.path = folder / f"{name}.so"

    def listener(self, origin_port):
        return go_listener(self.name, [], self.routes())

    @staticmethod
    def routes():
        return [to(prefix="/stall", timeout="0.2s"), to(timeout="0s")]

    def ask(self, dice, mood, nonce, body, death):
        return Asked(f"/{mood}/", body)

    def may_be_lost(self, asked):
        return asked.may_be_lost or bool(self.deaths and self.on_failure == "CLOSED")

    def allowed(self, mood, asked):
        """Statuses of a reply."""
        lost = {503} if self.may_be_lost(asked) else set()
        return lost | ({200} if mood == "good" else self.moods[mood])

    def may_cut(self, mood, asked):
        return mood != "good" or self.may_be_lost(asked)

    def is_whole(self, nonce, body, marks, answered):
        """A 200: all was done that there is to do."""
        return marks == self.marks_of_none and answered == body

    def is_right(self, nonce, body, marks, answered):
        """As is_whole, but for what may be missing with on_failure: OPEN."""
        return self.is_whole(nonce, body, marks, answered)


class Filtered(Party):
    """Its filter marks both heads and makes the body upper-case."""

    def is_whole(self, nonce, body, marks, answered):
        return marks == (nonce, nonce) and answered == body.upper()

    def is_right(self, nonce, body, marks, answered):
        if self.on_failure == "CLOSED":
            return self.is_whole(nonce, body, marks, answered)
        # Some of it perhaps, and not a byte twice or not at all.
        is_marked = all(mark in (nonce, none) for mark, none in zip(marks, self.marks_of_none, strict=True))
        return is_marked and answered.upper() == body.upper()


class Library:
    """A file that is replaced again and again."""

    def __init__(self, name, folder, on_failure):
        super().__init__(name, folder)
        self.on_failure = on_failure
        self.put(0)

    def put(self, which):
        """Its build of that number, beside it first, then in its place; None: what is no library."""
        new = self.path.with_suffix(".new")
        if which is None:
            new.write_bytes(b"no library")
        else:
            shutil.copy(self.built(which), new)
        new.rename(self.path)

    def fields(self):
        return {"on_failure": self.on_failure, "callback_timeout": "0.3s"}

    def fields_in_go(self):
        """Those that are blocked by others until these are found to hang wait for that, where they must not be lost."""
        return {**self.fields(), "seat_wait_timeout": {"CLOSED": "1s", "OPEN": "20s"}[self.on_failure]}

    def hang(self, sluice):
        """Until it is over: its process does not return from that."""
        asked = self.hanging()
        with contextlib.suppress(Gone, ConnectionError):
            sluice.get(asked.path, listener=self.name, method="POST", headers=asked.headers, body=asked.body)


class InGo(Filtered):
    """The plugin `basic`, in the proxy."""

    on_failure = "CLOSED"

    def listener(self, origin_port):
        return go_listener(self.name, [kit.go_filter(build("basic"), "basic", go_seats=8)], self.routes())

    def ask(self, dice, mood, nonce, body, death):
        phases = {
            "dh": [f"set:x-asked:{nonce}"],
            "eh": [f"set:x-answer:{nonce}"],
            dice.choice(("dd", "ed")): ["b.upper"],
        }
        if dice.random() < 0.1:
            phases["log"] = ["resp.get:x-answer"]
        for actions in phases.values():
            if dice.random() < 0.2:
                actions.insert(0, "jitter:3")
        is_async = dice.random() < 0.5
        if death:
            # A goroutine may take as long as it likes, a callback may not.
            is_async = is_async and death != "loop"
            phases.setdefault(dice.choice(("dh", "dd", "eh", "ed", "log")), []).append(f"die:{death}")
        return Asked(kit.path_of(f"/{mood}/", is_async=is_async, **phases), body)


class IsolatedGo(Library, InGo):
    """The same in a process, from two SDKs."""

    deaths = (*DEATHS, "loop")
    statistics = "golang.library"
    sdks = {"CLOSED": ("1.33", "1.32"), "OPEN": ("1.32", "1.31")}

    def built(self, which):
        return build("basic", self.sdks[self.on_failure][which])

    def listener(self, origin_port):
        filters = [isolated(self.path, library_id=self.name, **self.fields_in_go())]
        return go_listener(self.name, filters, self.routes())

    def hanging(self):
        return Asked(kit.path_of("/good/", dh="die:loop"), b"b")


@functools.cache
def chaos_in_c(folder, which):
    source = ROOT / "tests" / "filters" / "native" / "chaos.c"
    return compile_plugin(source, folder / f"chaos.{which}", f'-DVERSION="{which}"')


class IsolatedC(Library, Filtered):
    """tests/filters/native/chaos.c in a process."""

    # A sanitizer reports what a function of the C library is given, as it should.
    deaths = ("abort", "exit", "loop", *(() if is_sanitized() else ("libc",)))
    statistics = "native.library"

    def built(self, which):
        return chaos_in_c(self.path.parent, which)

    def listener(self, origin_port):
        config = {
            "@type": NATIVE,
            "library_path": str(self.path),
            "isolation": "PROCESS",
            "restarts": ALWAYS,
            **self.fields(),
        }
        filters = [{"name": "sluice.filters.http.native", "typed_config": config}, router()]
        return listener(self.name, self.routes(), filters=filters)

    def ask(self, dice, mood, nonce, body, death):
        moment = dice.choice(("request", "body", "response", "log"))
        way = dice.choice(("read", "transform"))
        if len(body) > 100_000:  # what is set of a body may have 128 KiB
            way = "transform"
        headers = [("x-nonce", nonce), ("x-way", way)]
        if death or dice.random() < 0.2:
            headers.append(("x-do", f"{moment} {death or 'sleep'}"))
        # What it has taken of a body is gone with it.
        return Asked(f"/{mood}/", body, headers, may_be_lost=way == "transform")

    def hanging(self):
        return Asked("/good/", b"b", [("x-do", "request loop")])


class IsolatedNetwork(Library, Party):
    """A network filter that sees all bytes and dies of a line that it is told. CLOSED: a plugin of its library carries
    them to the origin; OPEN: the proxy does, and goes on when the filter is lost."""

    deaths = (*DEATHS, "loop")
    statistics = "golang.library"
    moods = {mood: set() for mood in ("reset", "close", "half")}  # nobody makes a reply of them
    counts_requests = False

    def built(self, which):
        return build("network", ("1.33", "1.32")[which])

    def listener(self, origin_port):
        fields = {"isolation": "PROCESS", "restarts": ALWAYS, "library_id": self.name, **self.fields_in_go()}
        sees = go_network(self.path, terminal=False, passes=True, fields=fields)
        carries = tcp_proxy()
        if self.on_failure == "CLOSED":
            carries = go_network(self.path, "proxy", upstream=f"127.0.0.1:{origin_port}", fields=fields)
        return tcp_listener(self.name, sees, carries)

    def ask(self, dice, mood, nonce, body, death):
        if death:
            body += f"\ndie {death}\n".encode()
        return Asked(f"/{mood}/", body)

    def hanging(self):
        return self.ask(None, "good", None, b"b", "loop")
