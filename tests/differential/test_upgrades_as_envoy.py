"""Upgraded connections on both: the same bytes from the client and from the upstream, and what each side, the access
log and the counters then have of them."""

import contextlib
import socket
import struct
import threading

import pytest

from harness import SLUICE, LogFile, Proxy, bootstrap, cluster, direct, eventually, listener, to
from head_server import HeadServer
from twins import FLUSH, envoy_binary, normal

WEBSOCKET = [{"upgrade_type": "websocket"}]
FORMAT = "%REQ(X-CASE)% %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %BYTES_RECEIVED% %BYTES_SENT%"
COUNTED = (
    "downstream_cx_upgrades_total",
    "downstream_cx_upgrades_active",
    "downstream_rq_ws_on_non_ws_route",
    "downstream_rq_idle_timeout",
    "downstream_cx_protocol_error",
    "downstream_rq_total",
    "downstream_rq_1xx",
    "downstream_rq_2xx",
    "downstream_rq_4xx",
    "downstream_rq_5xx",
)
SWITCH = "HTTP/1.1 101 Switching Protocols\r\n"
AGREE = SWITCH + "upgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: yes\r\n"
# How the upstream answers, by the path's last element. After a 101 it echoes in capitals.
ANSWERS = {
    "agree": AGREE + "\r\n",
    "agree-tokens": SWITCH + "upgrade: websocket\r\nconnection: keep-alive, Upgrade\r\nx-kept: 1\r\n\r\n",
    "agree-length": AGREE + "content-length: 5\r\n\r\n",
    "agree-chunked": AGREE + "transfer-encoding: chunked\r\n\r\n",
    "agree-early": AGREE + "\r\nhello",
    "agree-hints": "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" + AGREE + "\r\n",
    "agree-other": SWITCH + "upgrade: other\r\nconnection: Upgrade\r\n\r\n",
    "no-token": SWITCH + "upgrade: websocket\r\n\r\n",
    "no-field": SWITCH + "connection: upgrade\r\n\r\n",
    "bare": SWITCH + "\r\n",
    "200": "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno",
    "200-chunked": "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n",
    "200-once": "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nno",
    "200-open": "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nuntil the end",
    "403": "HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno",
    "426": "HTTP/1.1 426 Upgrade Required\r\nupgrade: websocket\r\ncontent-length: 0\r\n\r\n",
    "500": "HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n",
    "204": "HTTP/1.1 204 No Content\r\n\r\n",
    "silent": "",
}


PROBE = b"GET /direct HTTP/1.1\r\nhost: a.test\r\nx-case: probe\r\n\r\n"

IDLE = "0.8s"  # an answer comes before it on a busy machine, too


class Switcher(HeadServer):
    """`seen` has, by the case's name, its head and what came behind it."""

    def __init__(self):
        self.seen = {}
        super().__init__()

    def serve(self, peer, head, rest):
        line, *fields = head.split("\r\n")
        fields = dict(field.split(": ", 1) for field in fields)
        got = {"line": line, "fields": fields, "rest": rest, "ended": threading.Event()}
        self.seen[fields["x-case"]] = got
        try:
            self._answer(peer, line.split()[1].rpartition("/")[2], got)
        finally:
            got["ended"].set()

    def _answer(self, peer, kind, got):
        answer = ANSWERS.get(kind, ANSWERS["agree"])
        peer.sendall(answer.encode())
        if kind == "200-open":
            return
        is_open = answer.startswith((SWITCH, "HTTP/1.1 103"))
        if is_open and got["rest"]:
            peer.sendall(got["rest"].upper())
        while more := peer.recv(65536):
            got["rest"] += more
            if is_open:
                peer.sendall(more.upper())
                if kind == "ends":
                    return
                if kind == "half":
                    peer.shutdown(socket.SHUT_WR)
                if kind == "resets":
                    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    return
        if is_open:
            peer.sendall(b"<end>")


class Side:
    def __init__(self, program, folder):
        folder.mkdir()
        self.upstream = Switcher()
        self.log = LogFile(folder / "access.log", FORMAT)
        websocket = {"upgrade_configs": WEBSOCKET}

        def edge(name, **hcm):
            routes = [
                to(prefix="/on/", **websocket),
                to(prefix="/off/", upgrade_configs=[{"upgrade_type": "WebSocket", "enabled": False}]),
                to(prefix="/both/", upgrade_configs=[{"upgrade_type": "websocket"}, {"upgrade_type": "other"}]),
                to(prefix="/idle/", idle_timeout=IDLE),
                to(prefix="/late/", timeout="0.15s"),
                direct(200, "here\n", "/direct"),
                {"match": {"prefix": "/redirect"}, "redirect": {"path_redirect": "/"}},
                to("missing", "/missing"),
                to(prefix="/up/"),
            ]
            route_config = {"name": name, "validate_clusters": False}
            log = {"access_log": [self.log.config], "delayed_close_timeout": "0.02s"}
            return listener(name, routes, hcm={**log, **hcm}, route_config=route_config)

        self.edges = [
            edge("all", **websocket),
            edge("none"),
            edge("disabled", upgrade_configs=[{"upgrade_type": "websocket", "enabled": False}]),
            edge("slow", **websocket, stream_idle_timeout=IDLE),
            edge("http10", **websocket, http_protocol_options={"accept_http_10": True}),
        ]
        flags = [] if program == SLUICE else ["--use-dynamic-base-id"]
        self.proxy = Proxy(
            bootstrap(self.edges, [cluster("origin", self.upstream.port)]),
            program=program,
            flags=[*flags, "--concurrency", "1", *FLUSH],
            level="warning",
        )
        self.before = self.counted()

    def connect(self, name):
        return socket.create_connection(("127.0.0.1", self.proxy.port(name)), timeout=20)

    def lines(self):
        """Without the case's name: Envoy cannot tell it of a head that its codec refused."""
        text = self.log.path.read_text() if self.log.path.exists() else ""
        return [line.split(" ", 1)[1] for line in text.splitlines() if not line.startswith("probe ")]

    def counted(self):
        """Once everything is over."""

        def look():
            stats = self.proxy.stats()
            seen = {f"{e['name']}.{w}": stats.get(f"http.{e['name']}.{w}") for e in self.edges for w in COUNTED}
            return None if any(v for k, v in seen.items() if k.endswith("_active")) else seen

        return eventually(look, what="the end of all requests")

    def close(self):
        self.proxy.stop()
        self.upstream.close()


@pytest.fixture(scope="module")
def sides(tmp_path_factory):
    folder = tmp_path_factory.mktemp("upgrades")
    with contextlib.ExitStack() as stack:
        made = []
        for program, name in ((envoy_binary(), "envoy"), (SLUICE, "sluice")):
            made.append(Side(program, folder / name))
            stack.callback(made[-1].close)
        yield made


def head_of(case, path, *, method="GET", version="1.1", upgrade=("websocket",), connection="Upgrade", fields=()):
    lines = [f"{method} {path} HTTP/{version}", "host: a.test", f"x-case: {case}"]
    lines += [f"connection: {connection}"] if connection else []
    lines += [f"upgrade: {one}" for one in upgrade]
    return ("\r\n".join([*lines, *fields]) + "\r\n\r\n").encode()


class Client:
    def __init__(self, sock):
        self.sock, self.data, self.end = sock, b"", None

    def more(self):
        try:
            piece = self.sock.recv(65536)
        except ConnectionResetError:
            self.end = "reset"
            return False
        self.data += piece
        self.end = None if piece else "end"
        return bool(piece)

    def head(self):
        while b"\r\n\r\n" not in self.data and self.more():
            pass
        head, _, self.data = self.data.partition(b"\r\n\r\n")
        line, *fields = head.decode().split("\r\n")
        return [line, *one_token(sorted(f"{n}: {normal(n, v)}" for n, v in (f.split(": ", 1) for f in fields)))]

    def exactly(self, count):
        while len(self.data) < count and self.more():
            pass
        got, self.data = self.data[:count], self.data[count:]
        return got.decode()

    def body(self, head):
        """Of an ordinary response."""
        lengths = [int(f.split(": ")[1]) for f in head if f.startswith("content-length")]
        if "transfer-encoding: chunked" in head:
            while not self.data.endswith(b"0\r\n\r\n") and self.more():
                pass
            got, self.data = self.data, b""
            return got.decode()
        return self.exactly(lengths[0] if lengths else 0)

    def reset(self):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def to_the_end(self):
        while self.end is None:
            self.more()
        got, self.data = self.data, b""
        return got.decode(), self.end


def answered(client):
    """An ordinary response, and whether the connection can be used again."""
    head = client.head()
    seen = [head, client.body(head)]
    if "connection: close" in head:
        return [*seen, client.to_the_end()[0]]
    client.sock.sendall(PROBE)
    again = client.head()
    return [*seen, again, client.body(again) if len(again) > 1 else client.end]


def talks(client):
    """A 101, some bytes, and the client breaks off."""
    head = client.head()
    if not head[0].split()[1] == "101":
        return [head, client.body(head), client.to_the_end()]
    early = client.exactly(client.early)
    client.sock.sendall(b"hello")
    said = client.exactly(5)
    client.reset()
    return [head, early, said]


def half_closes(client):
    """The client ends its direction, and listens."""
    head = client.head()
    client.sock.sendall(b"hello")
    said = client.exactly(5)
    client.sock.shutdown(socket.SHUT_WR)
    return [head, said, client.to_the_end()]


def ends(client):
    """The upstream ends, in its way, once it got something."""
    head = client.head()
    client.sock.sendall(b"bye")
    return [head, client.to_the_end()]


def waits(client):
    """Nobody says anything."""
    return [client.head(), client.to_the_end()]


# name -> (listener, path, what the client does, more of its head; behind: bytes behind it)
CASES = {
    "agreed": ("all", "/up/agree", talks, {}),
    "tokens": ("all", "/up/agree", talks, {"connection": "keep-alive, Upgrade"}),
    "tokens-nominated": (
        "all",
        "/up/agree",
        talks,
        {"connection": "x-a, upgrade", "fields": ["x-a: 1", "te: trailers"]},
    ),
    "tokens-close": ("all", "/up/agree", talks, {"connection": "close, upgrade"}),
    "case-of-type": ("all", "/up/agree", talks, {"upgrade": ["WebSocket"]}),
    "key": ("all", "/up/agree", talks, {"fields": ["sec-websocket-key: k", "sec-websocket-version: 13"]}),
    "answer-tokens": ("all", "/up/agree-tokens", talks, {}),
    "answer-length": ("all", "/up/agree-length", talks, {}),
    "answer-chunked": ("all", "/up/agree-chunked", talks, {}),
    "answer-early": ("all", "/up/agree-early", talks, {"early": 5}),
    "answer-hints": ("all", "/up/agree-hints", talks, {}),
    "answer-other": ("all", "/up/agree-other", talks, {}),
    "answer-no-token": ("all", "/up/no-token", answered, {}),
    "answer-no-field": ("all", "/up/no-field", answered, {}),
    "answer-bare": ("all", "/up/bare", answered, {}),
    "refused-200": ("all", "/up/200", answered, {}),
    "refused-200-chunked": ("all", "/up/200-chunked", answered, {}),
    "refused-200-open": ("all", "/up/200-open", waits, {}),
    "refused-403": ("all", "/up/403", answered, {}),
    "refused-426": ("all", "/up/426", answered, {}),
    "refused-500": ("all", "/up/500", answered, {}),
    "refused-204": ("all", "/up/204", answered, {}),
    "route-on": ("none", "/on/agree", talks, {}),
    "route-off": ("all", "/off/agree", answered, {}),
    "route-both": ("none", "/both/agree-other", talks, {"upgrade": ["other"]}),
    "manager-off": ("none", "/up/agree", answered, {}),
    "manager-disabled": ("disabled", "/up/agree", answered, {}),
    "manager-disabled-route-on": ("disabled", "/on/agree", talks, {}),
    "unknown": ("all", "/up/agree", answered, {"upgrade": ["other"]}),
    "two-types": ("all", "/up/agree", answered, {"upgrade": ["websocket, other"]}),
    "two-fields": ("all", "/up/agree", answered, {"upgrade": ["websocket", "websocket"]}),
    "empty-type": ("all", "/up/agree", answered, {"upgrade": [""]}),
    "h2c": (
        "all",
        "/up/200-once",
        answered,
        {"upgrade": ["h2c"], "connection": "Upgrade, HTTP2-Settings", "fields": ["HTTP2-Settings: AAMAAABk"]},
    ),
    "no-token": ("all", "/up/200-once", answered, {"connection": None}),
    "other-token": ("all", "/up/200-once", answered, {"connection": "keep-alive"}),
    "no-field": ("all", "/up/200-once", answered, {"upgrade": []}),
    "direct": ("all", "/direct", answered, {}),
    "redirect": ("all", "/redirect", answered, {}),
    "no-cluster": ("all", "/missing", answered, {}),
    "no-route": ("all", "/nowhere", answered, {}),
    "post": ("all", "/up/agree", talks, {"method": "POST"}),
    "head": ("all", "/up/agree", talks, {"method": "HEAD"}),
    "http10": ("http10", "/up/agree", talks, {"version": "1.0"}),
    "http10-refused": ("all", "/up/agree", answered, {"version": "1.0"}),
    "length": (
        "all",
        "/up/agree",
        talks,
        {"method": "POST", "fields": ["content-length: 5"], "behind": b"abcde", "early": 5},
    ),
    "length-0": ("all", "/up/agree", talks, {"method": "POST", "fields": ["content-length: 0"]}),
    "chunked": (
        "all",
        "/up/agree",
        talks,
        {"method": "POST", "fields": ["transfer-encoding: chunked"], "behind": b"0\r\n\r\n", "early": 5},
    ),
    "early": ("all", "/up/agree", talks, {"behind": b"early", "early": 5}),
    "early-refused": ("all", "/up/200", answered, {"behind": PROBE}),
    "early-refused-other": ("none", "/both/200", answered, {"upgrade": ["other"], "behind": PROBE}),
    "early-forbidden": ("none", "/up/agree", answered, {"behind": PROBE}),
    "upstream-ends": ("all", "/up/ends", ends, {}),
    "upstream-half": ("all", "/up/half", ends, {}),
    "upstream-resets": ("all", "/up/resets", ends, {}),
    "client-half": ("all", "/up/agree", half_closes, {}),
    "idle-manager": ("slow", "/up/agree", waits, {}),
    "idle-route": ("all", "/idle/agree", waits, {}),
    "idle-silent": ("slow", "/up/silent", answered, {}),
    "late-answer": ("all", "/late/silent", answered, {}),
    "connect": ("all", "a.test:80", answered, {"method": "CONNECT", "upgrade": [], "connection": None}),
    "connect-upgrade": ("all", "a.test:80", answered, {"method": "CONNECT"}),
    "connect-length": (
        "all",
        "a.test:80",
        answered,
        {"method": "CONNECT", "upgrade": [], "connection": None, "fields": ["content-length: 3"], "behind": b"abc"},
    ),
}

BOTH_WAYS = "an end of one direction: the other goes on until it ends too, and that is no broken connection"
BODY = "the upstream's words about its refusal are passed on"
HALVES = "a 101 without its two fields is no answer: the client hears of a broken upstream"
NO_BODY = "a request has no body and no bytes of another protocol both: what the next hop makes of it is not known"
OWN = "Connection speaks of one hop, so what it nominates and says of this one ends here"

# Where we differ on purpose: name -> (Envoy's line of the log, ours, what else differs, why)
DIFFERENCES = {
    "tokens-nominated": (None, None, {"upstream"}, OWN),
    "client-half": ("101 DC downstream_remote_disconnect 5 5", "101 - via_upstream 5 10", {"client"}, BOTH_WAYS),
    **dict.fromkeys(
        ("upstream-ends", "upstream-half"),
        (
            "101 UC upstream_reset_after_response_started{connection_termination} 3 3",
            "101 - via_upstream 3 3",
            set(),
            BOTH_WAYS,
        ),
    ),
    **dict.fromkeys(
        ("answer-no-token", "answer-no-field", "answer-bare"),
        (
            "101 - via_upstream 0 0",
            "502 UPE upstream_reset_before_response_started{protocol_error} 0 87",
            {"client", "counted"},
            HALVES,
        ),
    ),
    **{
        name: (
            "200 - websocket_handshake_unsuccessful 0 0",
            f"200 - websocket_handshake_unsuccessful 0 {size}",
            {"client"},
            BODY,
        )
        for name, size in (("refused-200", 2), ("refused-200-chunked", 2), ("refused-200-open", 13))
    },
    "early-refused": (
        f"200 - websocket_handshake_unsuccessful {len(PROBE)} 0",
        "200 - websocket_handshake_unsuccessful 0 2",
        {"client"},
        BODY + "; and what came early was not read",
    ),
    "early-refused-other": (
        f"200 - via_upstream {len(PROBE)} 2",
        "200 - via_upstream 0 2",
        set(),
        "what came early was not read",
    ),
    **{
        name: (f"101 DC downstream_remote_disconnect {size} {size}", ours, {"client", "upstream", "counted"}, why)
        for name, size, ours, why in (
            ("head", 5, "403 - upgrade_failed 0 0", "an answer to HEAD has nothing behind its head"),
            ("http10", 5, "403 - upgrade_failed 0 0", "RFC 9110 7.8: not in HTTP/1.0"),
            ("length", 10, "400 DPE http1.body_disallowed 0 11", NO_BODY),
            ("chunked", 10, "400 DPE http1.body_disallowed 0 11", NO_BODY),
        )
    },
    "length-0": (None, None, {"upstream"}, "there is no body that it could be the length of"),
    "connect-upgrade": (None, None, {"counted"}, "a CONNECT that no route takes has not been upgraded"),
}


def one_token(fields):
    """Envoy passes Connection on as it came; ours has what it is here for, in lower case."""
    return ["connection: upgrade" if f.startswith("connection: ") and "upgrade" in f.lower() else f for f in fields]


def play(side, name):
    listener_name, path, script, more = CASES[name]
    more = dict(more)
    behind, early = more.pop("behind", b""), more.pop("early", 0)
    lines_before = len(side.lines())
    with side.connect(listener_name) as sock:
        client = Client(sock)
        client.early = early
        sock.sendall(head_of(name, path, **more) + behind)
        said = script(client)
    lines = eventually(lambda: side.lines()[lines_before:], what=f"the line of {name}")
    received = side.upstream.seen.get(name)
    if received:
        assert received["ended"].wait(20), "the upstream connection stays open"
        fields = sorted(f"{n}: {normal(n, v)}" for n, v in received["fields"].items())
        received = [received["line"], one_token(fields), bytes(received["rest"]).decode()]
    before, side.before = side.before, side.counted()
    counted = {k: v - before[k] for k, v in side.before.items() if v != before[k]}
    return {"client": said, "upstream": received, "log": lines, "counted": counted}


@pytest.mark.parametrize("name", CASES)
def test_upgrades(sides, name):
    envoy, sluice = (play(side, name) for side in sides)
    envoy_line, our_line, others, _ = DIFFERENCES.get(name, (None, None, set(), ""))
    if envoy_line:
        assert (envoy.pop("log"), sluice.pop("log")) == ([envoy_line], [our_line])
    assert {key for key in envoy if envoy[key] != sluice[key]} == others, f"envoy: {envoy}\nsluice: {sluice}"
