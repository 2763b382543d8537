"""docs/go-sdk.md and the table in README.md are what came of it when everything that the SDK offers to plugins, and
asks of them, was called: `SLUICE_WRITE_DOCS=1 pytest tests/e2e/test_go_sdk.py` writes them.

What there is, is read off the SDK's packages (tests/filters/surface); the plugins that call it are in
tests/filters/internal/works and tests/filters/network/works.go. A method of the SDK that nobody calls fails the test.
"""

import json
import os
import pathlib
import re
import subprocess

import kit
import pytest
from go_support import Client, Proxy, build, cluster, config_of, direct, eventually, go_listener, stop, to
from tcp_support import Upstream, connect, receive, tcp_listener, to_the_end
from wire import Origin, encode_chunk, encode_end, encode_head

from build import HERE, SDKS, go_command

ROOT = pathlib.Path(__file__).resolve().parents[2]
WRITE = os.environ.get("SLUICE_WRITE_DOCS") == "1"

API = "common/go/api"
HTTP = "filters/http/source/go/pkg/http"
NETWORK = "filters/network/source/go/pkg/network"
CLUSTER_API = "router/cluster_specifier/source/go/pkg/api"
CLUSTER = "router/cluster_specifier/source/go/pkg/cluster_specifier"

# The SDK's own way to the proxy, which plugins do not use, and what it declares and never asks for.
INTERNAL = re.compile(r"\.(HttpCAPI|NetworkCAPI|CommonCAPI)\.|\.Set(Common|Http)CAPI$|\.SetCgoAPI$")
UNUSED = {f"{CLUSTER_API}.ClusterSpecifierConfigParser.Parse", f"{CLUSTER_API}.ClusterSpecifierFactory."}

# Each section: the interfaces (package, name, where it was met if in several places), the packages whose functions are
# meant, the library that was asked.
SECTIONS = [
    (
        "What a filter is asked",
        "basic",
        [(API, "StreamFilter"), (API, "StreamFilterConfigParser"), (API, "StreamFilterFactory")],
    ),
    (
        "Headers and trailers",
        "basic",
        [(API, f"{side}{kind}Map") for side in ("Request", "Response") for kind in ("Header", "Trailer")],
    ),
    ("Bodies", "basic", [(API, "BufferInstance")]),
    (
        "The request",
        "basic",
        [(API, "FilterCallbackHandler"), (API, "DecoderFilterCallbacks"), (API, "EncoderFilterCallbacks")],
    ),
    ("What is known of it", "basic", [(API, "StreamInfo"), (API, "DynamicMetadata"), (API, "FilterState")]),
    ("Metrics", "basic", [(API, "ConfigCallbackHandler"), (API, "CounterMetric"), (API, "GaugeMetric")]),
    ("Functions", "basic", [(API, None), (HTTP, None)]),
    (
        "Network filters",
        "network",
        [
            (NETWORK, "ConfigParser"),
            (NETWORK, "ConfigFactory"),
            (NETWORK, "FilterFactory"),
            (API, "DownstreamFilter"),
            (API, "UpstreamFilter"),
            (API, "ConnectionCallback", "client"),
            (API, "ConnectionCallback", "upstream"),
            (API, "StreamInfo", "connection"),
            (API, "FilterState", "connection"),
            (NETWORK, None),
        ],
    ),
    (
        "Cluster specifiers",
        "network",
        [
            (CLUSTER_API, "ClusterSpecifierConfigFactory"),
            (CLUSTER_API, "ClusterSpecifier"),
            (CLUSTER_API, "RequestHeaderMap"),
            (CLUSTER, None),
        ],
    ),
]

NOT_CALLED = "not called"
PANIC = "panic: "

# What does not work, all of it: by the SDK, and by the proxy.
SDKS_OWN = {
    *(
        f"connection|{API}.StreamInfo.{name}"
        for name in (
            "GetRouteName FilterChainName Protocol ResponseCode ResponseCodeDetails AttemptCount DynamicMetadata "
            "DownstreamLocalAddress DownstreamRemoteAddress UpstreamClusterName VirtualClusterName WorkerID"
        ).split()
    ),
    f"client|{API}.ConnectionCallback.EnableHalfClose",
}


# ---- what there is ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def surface():
    """SDK -> all that it has for plugins, as "PACKAGE.Interface.Method" or "PACKAGE.Function"."""
    modules = {sdk: module for sdk, (module, _) in SDKS.items()}
    found = subprocess.run(
        [go_command(), "run", "./surface", *modules.values()], cwd=HERE, check=True, capture_output=True, timeout=300
    )
    found = json.loads(found.stdout)
    return {
        sdk: [name for name in found[module] if not INTERNAL.search(name) and name not in UNUSED]
        for sdk, module in modules.items()
    }


def keys_of(names, package, interface=None, where=""):
    """The names of one interface, or of a package's functions, as answers are kept under."""
    if interface:
        return [f"{where}|{name}" for name in names if name.startswith(f"{package}.{interface}.")]
    return [f"|{name}" for name in names if re.fullmatch(re.escape(package) + r"\.\w+", name)]


# ---- what came of it --------------------------------------------------------------------------------------------


class Fields(Origin):
    """Answers with the headers and trailers that the plugin looks for."""

    def _answer(self, sock, kind, test_id, method, body):
        if test_id.startswith("held-"):
            self._wait_for_step(test_id, 1)
        head = [("transfer-encoding", "chunked"), *FIELDS]
        sock.sendall(encode_head("HTTP/1.1 200 OK", head) + encode_chunk(b"body") + encode_end(FIELDS))


LOGS = {"access_log_flush_interval": "0.02s", "flush_access_log_on_new_request": True}
FIELDS = [("x-one", "1"), ("x-two", "a"), ("x-two", "b"), ("x-gone", "1")]


def chosen_by_plugin(library):
    config = {
        "@type": kit.TYPE + "envoy.extensions.router.cluster_specifier.golang.v3alpha.Config",
        "library_id": "network",
        "library_path": str(library),
        "default_cluster": "nobody",
    }
    return to(
        cluster=None,
        prefix="/name/",
        inline_cluster_specifier_plugin={"extension": {"name": "go", "typed_config": config}},
    )


def listeners_of(sdk, upstream_port):
    basic, network = build("basic", sdk), build("network", sdk)
    http = kit.go_filter(basic, "works", kit.typed_struct({"prefix": f"works.{sdk}"}))
    other = [{"name": "x-route", "string_match": {"exact": "other"}}]
    name = http["name"]
    route = {**to(), "name": "named", "typed_per_filter_config": {name: kit.per_route(works=kit.typed_struct({}))}}
    routes = [{**direct(200, "other route"), "match": {"prefix": "/", "headers": other}}, route]
    # The plugin makes a PUT of it.
    writes = {"name": "writes", "headers": [{"name": ":method", "string_match": {"exact": "PUT"}}]}
    one = go_listener(
        f"http-{sdk}",
        [http],
        hosts=[{"name": "all", "domains": ["*"], "routes": routes, "virtual_clusters": [writes]}],
        hcm={"http_protocol_options": {"enable_trailers": True}, "access_log_options": LOGS},
    )
    one["filter_chains"][0]["name"] = "the-chain"
    two = go_listener(f"of_network-{sdk}", [kit.go_filter(network, "works", kit.typed_struct({"prefix": "x"}))])
    everything = {
        "@type": kit.TYPE + "envoy.extensions.filters.network.golang.v3alpha.Config",
        "is_terminal_filter": True,
        "library_id": "network-" + sdk,
        "library_path": str(network),
        "plugin_name": "everything",
        "plugin_config": kit.typed_struct({"upstream": f"127.0.0.1:{upstream_port}"}),
    }
    three = tcp_listener(f"tcp-{sdk}", {"name": "envoy.filters.network.golang", "typed_config": everything})
    specifier = chosen_by_plugin(network)
    config = specifier["route"]["inline_cluster_specifier_plugin"]["extension"]["typed_config"]
    config["library_id"] = "network-" + sdk
    four = go_listener(f"named-{sdk}", [], [specifier])
    two["filter_chains"][0]["filters"][0]["typed_config"]["http_filters"][0]["typed_config"]["library_id"] = (
        "network-" + sdk
    )
    return [one, two, three, four]


class World:
    """All that was seen of one SDK: `answers` of its two libraries by key, and what its peers saw."""

    def __init__(self, sluice, sdk, origin, upstream):
        self.sluice, self.sdk = sluice, sdk
        with Client(sluice.port(f"http-{sdk}")) as client:
            self.reply = client.ask("POST", f"/all?id={sdk}", headers=FIELDS, body=b"body", trailers=FIELDS)
        [self.received] = origin.received(sdk)
        self.stats = sluice.stats()
        ways = "clear refresh continue reply panic reply-late panic-late add add-late".split()
        self.ways = {}
        for way in ways:
            with Client(sluice.port(f"http-{sdk}")) as client:
                self.ways[way] = client.ask("GET", f"/{way}?id={way}-{sdk}")
        with Client(sluice.port(f"http-{sdk}")) as client:
            client.send("GET", f"/held?id=held-{sdk}")
            periodic = f"|{API}.StreamFilter.OnLogDownstreamPeriodic"
            eventually(lambda: periodic in self.ask("http"), what="a periodic log")
            origin.step(f"held-{sdk}")
            assert client.read_reply().status == 200
        added = origin.received(f"add-{sdk}")
        self.added = added[-1].body if added else None
        with connect(sluice, f"tcp-{sdk}") as client:
            client.sendall(b"all")
            self.written = receive(client, 8)
            with upstream.accept() as server:
                self.greeting = receive(server, 6)
                server.sendall(b"bye")
                server.shutdown(1)
                self.upstreams_end = to_the_end(server)
            self.clients_end = to_the_end(client)
        self.cluster = sluice.get("/name/origin", listener=f"named-{sdk}", headers=[("x-to", "x")]).status
        self.answers = {}
        for library, listener in (("basic", "http"), ("network", "of_network")):

            def look(listener=listener):
                answers = self.ask(listener)
                ended = f"|{API}." + ("StreamFilter.OnDestroy" if listener == "http" else "DownstreamFilter.OnEvent")
                return ended in answers and answers

            self.answers[library] = eventually(look, what=f"the end of what {library} does")
        self.log = sluice.log()

    def ask(self, listener):
        """What the plugins of a library have seen so far."""
        return json.loads(self.sluice.get("/answers", listener=f"{listener}-{self.sdk}").body)

    def text(self, library, key):
        """What the table says of a method."""
        given = self.answers[library].get(key)
        if given is None:
            return NOT_CALLED
        effect = EFFECTS.get(key)
        if effect and not given[0].startswith(PANIC):
            given = [effect(self)]
        text = "; ".join(given)
        assert text, f"{key}: nothing came of it, so say what did in EFFECTS"
        return re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:PORT", text).replace(f"id={self.sdk}", "id=1")


def header_effects(name, fields, whose):
    def values(world, key):
        return [v for k, v in fields(world) if k == key]

    return {
        f"|{API}.{name}.Set": lambda w: f"{whose} gets x-set: {', '.join(values(w, 'x-set'))}",
        f"|{API}.{name}.Add": lambda w: f"{whose} gets x-two: {', '.join(values(w, 'x-two'))}",
        f"|{API}.{name}.Del": lambda w: f"{whose} gets {len(values(w, 'x-gone'))} of x-gone",
    }


def logged(level, text):
    """Whether the proxy's log has a line of this level that ends so."""

    def look(world):
        line = re.search(rf"^.*\[{level}\]\[golang\].*{re.escape(text)}$", world.log, re.MULTILINE)
        return f"logged: [{level}] {text}" if line else "not logged"

    return look


def as_told(by, what):
    """For what changes something: the method that shows it."""

    def look(world):
        told = [text for answers in world.answers.values() for text in answers.get(by, [])]
        return f"{by.rpartition('.')[2]} tells it" if what in told else f"not there: {told}"

    return look


def careful(world):
    """The plugin made room for what the SDK's method does to memory that is not its own."""
    [told] = world.answers["network"][f"connection|{API}.FilterState.GetString"]
    return f"{told}, but the SDK's method [is not safe to call](go-network.md#what-to-know)"


def seats(world):
    library = build("basic", world.sdk).name
    [told] = world.answers["basic"][f"|{HTTP}.EnvoyConcurrency"]
    return "the number of seats" if int(told) == world.stats[f"golang.library.{library}.seats"] else told


def reply_of(way, *names):
    def look(world):
        reply = world.ways[way]
        more = "".join(f", {name}: {reply.header(name)}" for name in names)
        return f"the client gets {reply.status}{more}, {reply.body.decode().strip()!r}"

    return look


EFFECTS = {
    **header_effects("RequestHeaderMap", lambda w: w.received.headers, "the upstream"),
    **header_effects("RequestTrailerMap", lambda w: w.received.trailers, "the upstream"),
    **header_effects("ResponseHeaderMap", lambda w: w.reply.headers, "the client"),
    **header_effects("ResponseTrailerMap", lambda w: w.reply.trailers, "the client"),
    f"|{API}.RequestHeaderMap.SetMethod": lambda w: f"the upstream gets {w.received.method}",
    f"|{API}.RequestHeaderMap.SetPath": lambda w: f"the upstream gets {w.received.path}",
    f"|{API}.RequestHeaderMap.SetHost": lambda w: f"the upstream gets {dict(w.received.headers)['host']}",
    f"|{API}.FilterCallbackHandler.ClearRouteCache": reply_of("clear"),
    f"|{API}.FilterCallbackHandler.RefreshRouteCache": reply_of("refresh"),
    f"|{API}.FilterCallbackHandler.Log": logged("info", "[http][works] Log speaks"),
    f"|{API}.DecoderFilterCallbacks.Continue": reply_of("continue"),
    f"|{API}.EncoderFilterCallbacks.Continue": reply_of("continue"),
    f"|{API}.DecoderFilterCallbacks.SendLocalReply": reply_of("reply", "x-reply"),
    f"|{API}.EncoderFilterCallbacks.SendLocalReply": reply_of("reply-late", "x-reply"),
    f"|{API}.DecoderFilterCallbacks.RecoverPanic": reply_of("panic"),
    f"|{API}.EncoderFilterCallbacks.RecoverPanic": reply_of("panic-late"),
    f"|{API}.DecoderFilterCallbacks.AddData": lambda w: f"the upstream gets {w.added.decode()!r}",
    f"|{API}.EncoderFilterCallbacks.AddData": reply_of("add-late"),
    f"|{API}.DynamicMetadata.Set": as_told(f"|{API}.DynamicMetadata.Get", "map[key:map[list:[x 1.5 true]]]"),
    f"|{API}.FilterState.SetString": as_told(f"|{API}.FilterState.GetString", '"value"'),
    f"|{API}.CounterMetric.Increment": lambda w: f"{w.stats[f'works.{w.sdk}.counter']} in /stats",
    f"|{API}.CounterMetric.Record": lambda w: f"{w.stats[f'works.{w.sdk}.counter']} in /stats",
    f"|{API}.GaugeMetric.Increment": lambda w: f"{w.stats[f'works.{w.sdk}.gauge']} in /stats",
    f"|{API}.GaugeMetric.Record": lambda w: f"{w.stats[f'works.{w.sdk}.gauge']} in /stats",
    **{f"|{API}.Log{level}": logged(level.lower(), "speaks") for level in ("Trace", "Debug", "Info", "Critical")},
    **{f"|{API}.Log{level}f": logged(level.lower(), "speaks too") for level in ("Trace", "Debug", "Info", "Critical")},
    f"|{API}.LogWarn": logged("warning", "speaks"),
    f"|{API}.LogWarnf": logged("warning", "speaks too"),
    f"|{API}.LogError": logged("error", "speaks"),
    f"|{API}.LogErrorf": logged("error", "speaks too"),
    f"|{HTTP}.EnvoyConcurrency": seats,
    f"|{HTTP}.RegisterHttpFilterFactoryAndConfigParser": lambda w: "the plugin is found",
    f"client|{API}.ConnectionCallback.Write": lambda w: f"the client gets {w.written.decode()!r}",
    f"client|{API}.ConnectionCallback.Close": lambda w: f"the client's end: {w.clients_end!r}",
    f"upstream|{API}.ConnectionCallback.Write": lambda w: f"the upstream gets {w.greeting.decode()!r}",
    f"upstream|{API}.ConnectionCallback.Close": lambda w: f"the upstream's end: {w.upstreams_end!r}",
    f"upstream|{API}.ConnectionCallback.EnableHalfClose": as_told(f"|{API}.UpstreamFilter.OnData", "end"),
    f"connection|{API}.FilterState.SetString": as_told(f"connection|{API}.FilterState.GetString", '"value"'),
    f"connection|{API}.FilterState.GetString": careful,
    f"|{NETWORK}.CreateUpstreamConn": as_told(f"|{API}.UpstreamFilter.OnPoolReady", "called"),
    f"|{NETWORK}.RegisterNetworkFilterConfigParser": lambda w: "the parser is found",
    f"|{NETWORK}.RegisterNetworkFilterConfigFactory": lambda w: "the plugin is found",
    f"|{CLUSTER}.RegisterClusterSpecifierConfigFactory": lambda w: f"the plugin is found, its cluster says {w.cluster}",
}


@pytest.fixture(scope="module")
def worlds():
    origin, upstream = Fields(), Upstream()
    listeners = [one for sdk in kit.SDKS for one in listeners_of(sdk, upstream.port)]
    enable = {"http_protocol_options": {"enable_trailers": True}}
    options = {
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": kit.TYPE + "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": enable,
        }
    }
    clusters = [cluster("origin", origin.port, typed_extension_protocol_options=options), cluster("nobody", 1)]
    sluice = Proxy(config_of(listeners, clusters), level="trace")
    yield {sdk: World(sluice, sdk, origin, upstream) for sdk in kit.SDKS}
    stop(sluice)
    origin.close()
    upstream.close()


# ---- the documents ----------------------------------------------------------------------------------------------

HEAD = """\
<!-- Generated by `SLUICE_WRITE_DOCS=1 pytest tests/e2e/test_go_sdk.py` from what was seen. -->

# Envoy's Go SDK, method by method

All that the SDK offers to plugins and asks of them, called on Sluice: what it gave, or what its effect was. The list is
read off the packages of SDK 1.31, 1.32 and 1.33, and a test sees that nothing is missing and that this page is true.
Where no SDK is named all three do the same. What is worth knowing beside that is in [go-abi-notes.md](go-abi-notes.md),
[go-filters.md](go-filters.md) and [go-network.md](go-network.md).

"""


def methods_of(surface, part):
    """The keys of an interface or of a package's functions on any SDK, with the SDKs that have each."""
    found = {}
    for sdk in kit.SDKS:
        for key in keys_of(surface[sdk], *part):
            found.setdefault(key, []).append(sdk)
    assert found, f"the SDK has no {part}"
    return dict(sorted(found.items()))


def label(key, where):
    package, _, rest = key.partition("|")[2].rpartition("/")[2].partition(".")
    name = rest.rstrip(".") if rest.count(".") else f"{package}.{rest}"
    return f"`{name}`" + (f" of {WHERES[where]}" if where else "")


WHERES = {"client": "a client", "upstream": "an upstream", "connection": "a connection"}


def row(worlds, library, key, sdks, where):
    by_text = {}
    for sdk in sdks:
        by_text.setdefault(worlds[sdk].text(library, key), []).append(sdk)
    if len(by_text) == 1 and len(sdks) == len(kit.SDKS):
        [text] = by_text
    else:
        text = "; ".join(f"{', '.join(of)}: {text}" for text, of in by_text.items())
    return f"| {label(key, where)} | {text} |\n"


def page(surface, worlds):
    text = HEAD
    for title, library, parts in SECTIONS:
        text += f"## {title}\n\n| | |\n|---|---|\n"
        for part in parts:
            where = part[2] if len(part) > 2 else ""
            for key, sdks in methods_of(surface, part).items():
                text += row(worlds, library, key, sdks, where)
        text += "\n"
    return text.rstrip("\n") + "\n"


def works(text):
    return not text.startswith(("not ", PANIC))


def summary(surface, worlds):
    """For README.md: how many of each section do something."""
    text = f"| | {' | '.join(kit.SDKS)} |\n|---|{'---|' * len(kit.SDKS)}\n"
    for title, library, parts in SECTIONS:
        cells = []
        for sdk in kit.SDKS:
            told = [worlds[sdk].text(library, key) for part in parts for key in keys_of(surface[sdk], *part)]
            cells.append(f"{sum(map(works, told))} of {len(told)}")
        anchor = title.lower().replace(" ", "-")
        text += f"| [{title}](docs/go-sdk.md#{anchor}) | {' | '.join(cells)} |\n"
    return text


def is_up_to_date(path, text):
    if WRITE:
        path.write_text(text)
    there = path.read_text() if path.exists() else ""
    assert there == text, f"{path} is not what was seen: SLUICE_WRITE_DOCS=1 pytest tests/e2e/test_go_sdk.py writes it"


# ---- tests ------------------------------------------------------------------------------------------------------


def test_everything_of_the_sdk_has_a_place(surface):
    """What a new SDK brings must be called by the plugins, and stand in a section."""
    placed = {
        key for _, _, parts in SECTIONS for part in parts for names in surface.values() for key in keys_of(names, *part)
    }
    missing = {name for names in surface.values() for name in names} - {key.partition("|")[2] for key in placed}
    assert not missing


def test_nothing_is_called_that_is_not_in_the_table(surface, worlds):
    placed = {
        key for _, _, parts in SECTIONS for part in parts for names in surface.values() for key in keys_of(names, *part)
    }
    for world in worlds.values():
        assert {key for answers in world.answers.values() for key in answers} <= placed
    assert set(EFFECTS) <= placed


def test_all_of_it_works_but_what_is_named_here(surface, worlds):
    for sdk, world in worlds.items():
        broken = {
            key
            for _, library, parts in SECTIONS
            for part in parts
            for key in keys_of(surface[sdk], *part)
            if not works(world.text(library, key))
        }
        assert broken == SDKS_OWN


def test_the_page_is_true(surface, worlds):
    is_up_to_date(ROOT / "docs" / "go-sdk.md", page(surface, worlds))


def test_the_readme_is_true(surface, worlds):
    readme = ROOT / "README.md"
    before, begin, rest = readme.read_text().partition("<!-- go-sdk: generated, see docs/go-sdk.md -->\n")
    _, end, after = rest.partition("<!-- go-sdk: end -->")
    assert begin and end
    is_up_to_date(readme, f"{before}{begin}{summary(surface, worlds)}{end}{after}")
