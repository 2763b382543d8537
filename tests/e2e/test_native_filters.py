"""Filters in C from shared objects (include/sluice/filter.h): what they can do, what becomes of a library that is not
one, and what is left of them when they fault: a 500, a backtrace, and a proxy that goes on; or, when somebody else's
code was in the middle of something, a crash with a report."""

import json
import os
import pathlib
import platform
import re
import shutil
import subprocess

import pytest

from harness import ROOT, LogFile, Origin, Proxy, bootstrap, cluster, direct, eventually, listener, router, run, to

NATIVE = "type.googleapis.com/sluice.filters.http.native.v3.Native"
PER_ROUTE = NATIVE + "PerRoute"
ZOO = ROOT / "tests" / "filters" / "native" / "zoo.c"


def compile_plugin(source, out, *flags):
    cc = os.environ.get("CC", "cc")
    include = f"-I{ROOT / 'include'}"
    command = [cc, "-shared", "-fPIC", "-O2", "-g", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE"]
    subprocess.run([*command, *flags, include, "-o", str(out), str(source)], check=True)
    return out


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """build(): a copy of the zoo's library, with faults of its own to count. build(C code): another library."""
    folder = tmp_path_factory.mktemp("native")
    made = {}

    def one(code=None, *flags, name=None):
        key = (code, *flags)
        if key not in made:
            source = ZOO if code is None else folder / f"{len(made)}.c"
            if code is not None:
                source.write_text(code)
            made[key] = compile_plugin(source, folder / f"made{len(made)}.so", *flags)
        copy = folder / (name or f"copy{len(list(folder.iterdir()))}.so")
        shutil.copy(made[key], copy)
        return copy

    return one


# Every filter here in a process of its own: the same stories, but for those that are about the proxy's own process.
ISOLATION = os.environ.get("SLUICE_TEST_ISOLATION")
in_process = pytest.mark.skipif(ISOLATION is not None, reason="of a library in the proxy")


def native(library, config=None, **options):
    if ISOLATION:
        options.setdefault("isolation", ISOLATION)
    return {
        "name": "sluice.filters.http.native",
        "typed_config": {
            "@type": NATIVE,
            "library_path": str(library),
            **({"config": config} if config is not None else {}),
            **options,
        },
    }


def listen(name, library, config=None, *, routes=None, hcm=None, **options):
    filters = [native(library, config, **options), router()]
    return listener(name, routes or [to()], filters=filters, hcm=hcm)


@pytest.fixture(scope="module")
def zoo(module_proxy, build, tmp_path_factory):
    class Zoo:
        pass

    it = Zoo()
    it.origin = Origin(answer)
    it.log = LogFile(
        tmp_path_factory.mktemp("log") / "log",
        "%PATH% %RESPONSE_CODE_DETAILS% %DYNAMIC_METADATA(zoo:about)% %DYNAMIC_METADATA(zoo:bytes)%",
    )
    routes = [
        {**to(prefix="/special"), **place("hi", times=2)},
        {**weighted("/deep", place("leaf")), **place("branch")},
        {**to(prefix="/faulty"), **place("real null")},
        {**to(prefix="/full"), **place("real full")},
        direct(200, "direct", prefix="/direct"),
        to(),
    ]
    hcm = {"access_log": [it.log.config]}
    it.moments = LogFile(
        tmp_path_factory.mktemp("log") / "moments", "%PATH% %ACCESS_LOG_TYPE% %DYNAMIC_METADATA(zoo:moment)%"
    )
    often = {
        "access_log": [it.moments.config],
        "access_log_options": {"flush_access_log_on_new_request": True, "access_log_flush_interval": "0.005s"},
    }
    it.edge = module_proxy(
        [
            listen("plain", build(), {"greeting": "hello"}, routes=routes, hcm=hcm, max_faults=0),
            listen("moments", build(), routes=routes, hcm=often, max_faults=0),
            listen("json", build(), {"json": True, "a": [1, "x"]}),
            listen("deep", build(None, "-DSTACK_BYTES=262144"), max_faults=0),
            listen("three", build(), max_faults=3),
            listen("bypass", build(), max_faults=2, on_fault="BYPASS"),
        ],
        [cluster("origin", it.origin.port)],
    )
    yield it
    it.origin.close()


def place(greeting, **more):
    config = {"@type": PER_ROUTE, "config": {"greeting": greeting, **more}}
    return {"typed_per_filter_config": {"sluice.filters.http.native": config}}


def weighted(prefix, more):
    clusters = [{"name": "origin", "weight": 1, **more}]
    return {"match": {"prefix": prefix}, "route": {"weighted_clusters": {"clusters": clusters}}}


def answer(exchange):
    body = exchange.request.read_body()
    if exchange.request.path == "/chunks":
        exchange.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for _ in range(3):
            exchange.send(b"14000\r\n" + b"a" * 0x14000 + b"\r\n")
        exchange.send(b"0\r\n\r\n")
        return
    headers = [(f"got-{name}", value) for name, value in exchange.request.headers if name.startswith("x-")]
    headers.append(("got-path", exchange.request.path))
    exchange.reply(200, body or b"nothing", headers)


def ask(zoo, path="/", *, listener="plain", method="GET", body=b"", **headers):
    lines = [(f"x-{name}", value) for name, value in headers.items()]
    return zoo.edge.get(path, listener=listener, method=method, body=body, headers=lines)


def logged(zoo, start):
    """The first line of the access log that begins so, which may come late."""
    return eventually(lambda: [x for x in zoo.log.lines(zoo.edge, 1) if x.startswith(start)], what=start)[0]


# ---- what they can do


def test_it_is_configured_and_changes_requests_and_responses(zoo):
    reply = ask(zoo)
    assert (reply.status, reply.header("got-x-greeting"), reply.header("x-zoo")) == (200, "hello", "was here")
    assert ask(zoo, listener="json").header("got-x-greeting") == '{"json":true,"a":[1,"x"]}'
    assert ask(zoo, "/special").header("got-x-route") == "hihi"
    assert ask(zoo).header("got-x-route") is None
    assert re.search(r"\[native\] (\S+: )?greeting: hello, \d+ workers", zoo.edge.log())


def test_headers_are_read_added_set_and_removed(zoo):
    reply = ask(zoo, "/special", do="headers", many="1", gone="soon")
    got = {name: reply.header(f"got-x-{name}") for name in ("second", "refused", "gone", "bad")}
    assert got == {"second": "2", "refused": "yes", "gone": None, "bad": None}
    assert int(reply.header("got-x-count")) >= 8
    assert reply.header("got-path") == "/other"


def test_it_answers_by_itself(zoo):
    reply = ask(zoo, "/teapot", do="reply")
    assert (reply.status, reply.body, reply.header("x-by")) == (418, b"teapot", "zoo")
    assert reply.header("x-zoo") == "was here"  # its own response function saw it, too
    grpc = zoo.edge.get("/", listener="plain", headers=[("x-do", "reply"), ("content-type", "application/grpc")])
    assert (grpc.status, grpc.header("grpc-status")) == (200, "10")
    assert logged(zoo, "/teapot ").startswith("/teapot zoo_reply 418/")


def test_bodies_are_read_whole_replaced_and_transformed(zoo):
    body = b"abc def " * 5000
    for how in ("read", "shout"):
        assert ask(zoo, method="POST", body=body, do=how).body == body.upper()
        assert ask(zoo, method="POST", body=body, then=how).body == body.upper()
    long = ask(zoo, method="POST", body=body, do="read-10")
    assert (long.body, long.header("got-x-too-long")) == (body, "yes")
    assert ask(zoo, then="shout", do="read").body == b"NOTHING"
    assert ask(zoo, "/direct", then="shout").body == b"DIRECT"


def test_what_it_notes_is_seen(zoo):
    assert ask(zoo, "/seen", then="observe", a="b").body == b"nothing"
    assert logged(zoo, "/seen ") == "/seen via_upstream 200/b 7"
    assert zoo.edge.stat("native.zoo.requests") > 0
    zoo.edge.wait_for_stat("native.zoo.running", zoo.edge.stat("native.zoo.running"))
    assert "native.zoo.took" in zoo.edge.admin("/stats")


@pytest.mark.parametrize(
    "name, value",
    [
        ("request.path", r"/attribute\?a=b"),
        ("request.method", "GET"),
        ("request.headers.x-do", "attribute"),
        ("source.address", r"127\.0\.0\.1:\d+"),
        ("connection.id", r"\d+"),
        ("connection.mtls", "false"),
        ("connection.tls_version", "-2"),
        ("response.code", "-2"),  # it has none yet
        ("no.such", "-2"),
        ("request.headers", "-22"),  # a map
    ],
)
def test_it_asks_by_the_names_of_attributes(zoo, name, value):
    assert re.fullmatch(value, ask(zoo, "/attribute?a=b", do="attribute", name=name).header("got-x-is"))


def test_it_leaves_texts_for_other_filters(zoo):
    """Filter state has a life span, and may be replaced or not."""
    with zoo.edge.connect("plain") as client:

        def state(key, text="", flags=0):
            headers = {"x-do": "state", "x-key": key, "x-text": text, "x-flags": str(flags)}
            reply = client.ask("GET", "/", headers=list(headers.items()))
            return reply.header("got-x-rc"), reply.header("got-x-is")

        assert state("a.short", "one") == ("0", "one")
        assert state("a.short") == (None, "-2")  # it went with its exchange
        assert state("a.long", "one", 4) == ("0", "one")
        assert state("a.long") == (None, "one")  # it is the connection's
        assert state("a.long", "two", 5) == ("-1", "one")  # and stays as it is
        assert state("a.mutable", "one", 5) == ("0", "one")
        assert state("a.mutable", "two", 5) == ("0", "two")
        assert state("a.mutable", "three", 1) == ("-1", "two")  # another life span
        for wrong in (6, 24, 32):
            assert state("a.wrong", "one", wrong) == ("-22", "-2")
        reply = client.ask("GET", "/", headers=[("x-do", "attribute"), ("x-name", "filter_state.a.long")])
        assert reply.header("got-x-is") == "one"
    assert ask(zoo, do="state", key="a.long").header("got-x-is") == "-2"


def test_metadata_of_any_kind_goes_as_json(zoo):
    def json(text, key="value"):
        reply = ask(zoo, do="json", json=text, key=key)
        return reply.header("got-x-rc"), reply.header("got-x-is")

    tree = '{"a":[1,"x",{"b":null}],"c":true}'
    assert json(tree) == ("0", tree)
    assert json(tree, key="") == ("0", '{"value":' + tree + "}")
    assert json("-1.5e3") == ("0", "-1500")
    assert json("1", key="other") == ("0", "-2")
    for wrong in ("{", "nan", "", "1 2", "[" * 40 + "]" * 40, "[" * 5000):
        assert json(wrong) == ("-22", "-2"), wrong


def test_gauges_are_set_and_counters_read(zoo):
    reply = ask(zoo, do="level")
    assert reply.header("got-x-level") == "5" and int(reply.header("got-x-requests")) > 0
    assert zoo.edge.stat("native.zoo.level") == 5


def merged(zoo, path):
    return ask(zoo, path, do="merged").header("got-x-merged")


def test_configs_are_merged_along_the_routes_once(zoo):
    before = zoo.edge.stat("native.zoo.merges")
    assert merged(zoo, "/") == "hello"
    for _ in range(3):
        assert merged(zoo, "/special") == "hello+hihi"
        assert merged(zoo, "/deep") == "hello+branch+leaf"
    assert zoo.edge.stat("native.zoo.merges") == before + 3


def test_a_merge_that_fails_is_a_500_of_that_route(zoo):
    before = faults(zoo)
    assert ask(zoo, "/faulty", do="merged").status == 500
    assert faults(zoo) == before + 1
    assert ask(zoo, "/full", do="merged").status == 500
    assert faults(zoo) == before + 1
    assert logged(zoo, "/full ").startswith("/full native_filter_out_of_memory")
    assert merged(zoo, "/special") == "hello+hihi"


def test_it_waits_and_others_are_served(zoo):
    assert ask(zoo, do="block").header("got-x-blocked") == "2ms"


def test_it_gets_the_stack_that_it_asks_for(zoo):
    """100 KiB of one function, in which it parks."""
    assert ask(zoo, listener="deep", do="deep").header("got-x-deep") == "yes"
    assert ask(zoo, listener="deep", then="shout", method="POST", body=b"x" * 300_000).body == b"X" * 300_000


# ---- logs before the end


def moments(zoo, path):
    """The kinds of its lines, without repetitions, in order."""

    def ended():
        mine = [line.split()[1:] for line in zoo.moments.lines(zoo.edge, 0) if line.startswith(path + " ")]
        return mine if mine and mine[-1][0] == "DownstreamEnd" else None

    lines = [" ".join(line).removeprefix("Downstream") for line in eventually(ended, what=f"the end of {path}")]
    return [line for i, line in enumerate(lines) if i == 0 or line != lines[i - 1]]


def test_it_logs_before_the_end_and_only_looks_on(zoo):
    """Periodic logs come while its own functions wait: for them, here. What these have changed before stays theirs."""
    reply = ask(zoo, "/look", listener="moments", do="wait", then="wait", periodic="as it was")
    assert (reply.status, reply.header("got-x-periodic")) == (200, "as it was")
    assert reply.header("x-zoo") == "was here"
    assert moments(zoo, "/look") == ["Start start", "Periodic merged", "Periodic response", "End end"]


def test_a_periodic_log_has_a_merged_config_once_it_was_asked_for(zoo):
    """The first request merges and waits; before, on a place that nobody has merged, there is none to be had."""
    assert ask(zoo, "/deep/1", listener="moments", do="wait").status == 200
    assert moments(zoo, "/deep/1")[:2] == ["Start start", "Periodic request"]
    assert ask(zoo, "/deep/2", listener="moments", do="merge-and-wait").status == 200
    assert "Periodic merged" in moments(zoo, "/deep/2")


@pytest.mark.parametrize("what, status", [("reply", 403), ("null", 500)])
def test_a_periodic_log_ends_the_exchange(zoo, what, status):
    """And who waits in it."""
    before = faults(zoo)
    with zoo.edge.connect("moments") as client:
        reply = client.ask("GET", f"/{what}", headers=[("x-do", "wait"), ("x-then", "wait"), ("x-periodic", what)])
        assert reply.status == status
        assert client.ask("GET", "/").status == 200
    assert faults(zoo) == before + (what == "null")


def test_a_log_at_the_start_comes_first(zoo):
    """Also one that waits for several intervals of the periodic ones."""
    assert ask(zoo, "/late", listener="moments", start="wait").status == 200
    assert moments(zoo, "/late")[0] == "Start start"


def test_a_log_at_the_start_may_answer(zoo):
    assert ask(zoo, "/early", listener="moments", start="reply").status == 403
    assert moments(zoo, "/early")[0] == "Start start"


# ---- faults that are survived


# On aarch64 a division by zero is zero.
DIVIDES = pytest.mark.skipif(platform.machine() == "aarch64", reason="this machine's division does not trap")


def faults(zoo):
    return zoo.edge.stat("native.zoo.faults")


@pytest.mark.parametrize("where", ["plain", "deep"])
@pytest.mark.parametrize(
    "how, called, function",
    [
        ("null", "SIGSEGV at address 0 ", "write_nowhere"),
        pytest.param("divide", "SIGFPE", "misbehave", marks=DIVIDES),
        ("trap", "SIGILL", "misbehave"),
        ("overflow", "a stack overflow", "dig"),
        ("park-null", "SIGSEGV at address 0 ", "write_nowhere"),
    ],
)
def test_a_fault_of_its_own_is_a_500_with_a_backtrace(zoo, where, how, called, function):
    before, seen = faults(zoo), len(zoo.edge.log())
    with zoo.edge.connect(where) as client:
        reply = client.ask("GET", "/fault", headers=[("x-do", how)])
        assert reply.status == 500
        assert reply.header("x-zoo") is None  # it is not called again
        assert client.ask("GET", "/").status == 200  # on the same connection
    eventually(lambda: faults(zoo) > before, what="one more fault")

    def told():
        """A fault of another function, and of a request before, may be told of late."""
        log = zoo.edge.log()[seen:]
        found = re.search(rf"{called}[^\n]*\brequest\b", log)
        return log[found.start() :] if found and re.search(r"#0 .*\n", log[found.start() :]) else None

    text = eventually(told, what="the fault in the log")
    assert re.search(r"#\d+ " + function, text), text
    if where == "plain":
        assert logged(zoo, "/fault ").startswith("/fault native_filter_fault")


def test_a_fault_in_any_of_its_functions_ends_the_exchange(zoo):
    before = faults(zoo)
    assert ask(zoo, create="null").status == 500
    assert ask(zoo, then="null").status == 500
    assert ask(zoo, log="null").status == 200  # it was sent already
    assert ask(zoo, destroy="null").status == 200
    zoo.edge.wait_for_stat("native.zoo.faults", before + 4)
    for how in ("shout-fault", "observe-fault"):
        with zoo.edge.connect("plain") as client:
            client.send("GET", "/chunks", headers=[("x-then", how)])
            said = client.read_to_end()
            assert b"HTTP/1.1 500" in said or not said.endswith(b"0\r\n\r\n")  # as far as the head had been sent
    zoo.edge.wait_for_stat("native.zoo.faults", before + 6)
    assert ask(zoo).status == 200


@in_process
def test_so_does_one_of_a_blocking_call(zoo):
    before = faults(zoo)
    assert ask(zoo, do="block-fault").status == 500
    zoo.edge.wait_for_stat("native.zoo.faults", before + 1)


def test_after_so_many_it_is_closed_or_left_out(zoo):
    for _ in range(3):
        assert ask(zoo, listener="three", do="null").status == 500
    reply = ask(zoo, listener="three")
    assert (reply.status, reply.header("x-zoo")) == (500, None)
    assert zoo.edge.stat("native.zoo.closed") == 1
    for _ in range(2):
        assert ask(zoo, listener="bypass", do="null").status == 500
    reply = ask(zoo, listener="bypass", do="null")
    assert (reply.status, reply.header("x-zoo"), reply.header("got-x-greeting")) == (200, None, None)
    assert zoo.edge.stat("native.zoo.bypassed") == 1
    assert ask(zoo).status == 200  # another library is not meant


# ---- faults that are not


@in_process
@pytest.mark.parametrize("how", ["host", "libc", "callback", "jump"])
def test_a_fault_in_the_middle_of_other_code_is_a_crash(build, origins, how):
    origin = origins()
    edge = Proxy(bootstrap([listen("edge", build())], [cluster("origin", origin.port)]))
    try:
        with edge.connect() as client:
            client.send("GET", "/", headers=[("x-do", how)])
            assert client.read_to_end() == b""
        assert edge.process.wait(timeout=60) != 0
        assert re.search(r"got SIGSEGV at address .*, in coroutine", edge.log())
    finally:
        edge.kill()


# ---- filter-test


def filter_test(*args, rc):
    done = run("filter-test", *map(str, args))
    assert done.returncode == rc, done.stdout + done.stderr
    assert "Sanitizer" not in done.stdout + done.stderr
    return done.stdout + done.stderr


def test_its_author_tries_it_on_messages(build, tmp_path):
    """The library is all that has to be named. A fault fails its case, with its place; the next case has the filter."""
    request, config, cases = (tmp_path / name for name in ("r.http", "c.yaml", "cases.yaml"))
    request.write_text("POST /x HTTP/1.1\nx-do: read\n\nabc")
    config.write_text("greeting: hi")
    said = filter_test(build(), "--config", config, "--request", request, rc=0)
    assert "  + x-greeting: hi\n" in said and "  - abc\n  + ABC\n" in said and "  + x-zoo: was here\n" in said
    bad = {"name": "bad", "request": "GET / HTTP/1.1\nx-do: null\n", "repeat": 2}
    good = {"name": "good", "request": "GET / HTTP/1.1\n", "expect": {"request_headers": {"x-greeting": "hey"}}}
    cases.write_text(json.dumps({"config": {"greeting": "hey"}, "cases": [bad] * 6 + [good]}))
    said = filter_test(build(), "--cases", cases, "--quiet", rc=1)
    assert said.count("FAIL bad\n") == 6 and "FAIL good" not in said and "7 cases, 6 failed" in said
    assert "FAIL the filter faulted:" in said and "SIGSEGV at address 0 in its function request" in said
    assert re.search(r"#\d write_nowhere", said), said
    assert "leave the name of a plugin out" in filter_test(build(), "--plugin", "x", "--request", request, rc=2)
    config.write_text("do: refuse")
    said = filter_test(build(), "--config", config, "--request", request, rc=1)
    assert "the filter cannot be loaded" in said and "zoo: the zoo is closed" in said


# ---- libraries that are none

HEADER = "#include <sluice/filter.h>\n"


def refusal(library, config=None, **options):
    listeners = [listen("edge", library, config, routes=[direct(200, "x")], **options)]
    out = run("--mode", "validate", config=bootstrap(listeners))
    assert out.returncode == 1, out
    return out.stdout + out.stderr


def test_a_library_that_cannot_be_used_is_refused_with_its_reason(build, tmp_path):
    assert "No such file" in refusal(tmp_path / "none.so")
    (tmp_path / "text.so").write_text("#!/bin/sh\n")
    assert "text.so: it is not an ELF file" in refusal(tmp_path / "text.so")
    other = bytearray(build().read_bytes())
    other[18] ^= 0xFF
    (tmp_path / "other.so").write_bytes(other)
    assert "is for another machine" in refusal(tmp_path / "other.so")
    assert "it has no symbol sluice_plugin" in refusal(build("int x;"))
    assert "undefined symbol: not_there" in refusal(
        build(
            HEADER + "int not_there(void); static void f(void *c) { *(int *)c = not_there(); }"
            'SLUICE_PLUGIN(.name = "x", .free_config = f);'
        )
    )
    empty = HEADER + 'SLUICE_PLUGIN(.name = "x", %s);'
    assert "built for version 9 of sluice/filter.h, this is version 1" in refusal(
        build(empty % ".major = 9", "-Wno-override-init", "-Wno-initializer-overrides" if is_clang() else "-w")
    )
    assert "needs version 1.99 of sluice/filter.h, this is 1." in refusal(build(empty % ".minor = 99", "-w"))
    assert "not made with SLUICE_PLUGIN" in refusal(build(empty % ".size = 8", "-w"))
    assert "the plug-in x takes no config" in refusal(build(empty % ".minor = 0", "-w"), {"a": 1})


def is_clang():
    return "clang" in os.environ.get("CC", "cc")


def test_a_configuration_that_it_refuses_or_faults_in_is_refused(build):
    assert re.search(r"bootstrap.yaml:\d+.*zoo: the zoo is closed", refusal(build(), {"do": "refuse"}))
    assert "zoo refused its configuration: Invalid argument" in refusal(build(), {"do": "nothing"})
    text = refusal(build(), {"do": "null"})
    assert "the plug-in zoo faulted in configure: SIGSEGV at address 0, in write_nowhere" in text


# ---- they are tried in a process of their own first

# A sanitizer ends a process in its own way.
DIES = r"(crashed by %s|ended the process with exit status \d+)"
LOST = {
    "abort": (DIES % "SIGABRT", "abort"),
    "libc": (DIES % "SIGSEGV", "SIGSEGV at address 0"),
    "exit": ("ended the process with exit status 3", "zoo: no food left"),
    "hang": (r"gave no answer within 2 s", r"copy\d+\.so"),
}


@pytest.mark.parametrize("how", LOST)
def test_a_configuration_by_which_a_process_is_lost_is_refused(build, how):
    """Also where the proxy would serve: it says why, and what it was doing."""
    verdict, told = LOST[how]
    timeout = {"timeout": "2s" if how == "hang" else "60s"}
    listeners = [listen("edge", build(), {"do": how}, routes=[direct(200, "x")], probe=timeout)]
    for mode in ("serve", "validate") if how == "abort" else ("serve",):
        out = run("--mode", mode, config=bootstrap(listeners))
        assert out.returncode == 1, out
        assert re.search(r"http_filters\[0\]\.typed_config: the plug-in zoo " + verdict, out.stderr), out.stderr
        assert re.search(told, out.stderr.split("while it read this configuration")[1]), out.stderr


def test_so_are_one_of_a_route_a_merge_and_what_is_never_given_back(build):
    def text(config=None, **more):
        listeners = [listen("edge", build(), config, routes=[{**direct(200, "x"), **more}])]
        out = run("--mode", "validate", config=bootstrap(listeners))
        assert out.returncode == 1, out
        return out.stderr

    said = text(**place("null"))
    assert re.search(
        r"typed_per_filter_config.*the plug-in zoo faulted in merge_config: SIGSEGV at address 0, in", said
    )
    said = text({"greeting": "not given back"})
    assert re.search(f"the plug-in zoo {DIES % 'SIGABRT'} while its configurations were given back", said), said


def test_so_is_one_by_which_no_instance_can_be_made(build):
    """It is asked for one, for a request that does not exist, about which it can ask what it could in the proxy."""
    said = refusal(build(), {"greeting": "create exit"})
    told = "the plug-in zoo ended the process with exit status 3 while it made an instance with this configuration"
    assert told in said
    for function in ("create", "destroy"):
        said = refusal(build(), {"greeting": f"{function} null"})
        assert f"the plug-in zoo faulted in {function}: SIGSEGV at address 0, in" in said


INIT = HEADER + '__attribute__((constructor)) static void init(void) { %s; }\nSLUICE_PLUGIN(.name = "init");'


def test_so_is_a_constructor(build):
    said = refusal(build(INIT % "*(volatile int *)8 = 1", "-w"))
    assert re.search(rf"cannot load .*\.so: it {DIES % 'SIGSEGV'} while its constructors ran", said), said


NAMES = ["one", "two", "other"]  # by which first letter their configurations differ


def test_it_is_tried_once_for_each_configuration_unless_it_is_not_wanted(build, tmp_path, monkeypatch, proxy):
    readers = tmp_path / "readers"
    monkeypatch.setenv("ZOO_READERS", str(readers))
    library = build()

    def read(mode="validate", *flags, **options):
        readers.write_text("")
        config = [listen(name, library, {"greeting": name[:1]}, routes=[direct(200, "x")], **options) for name in NAMES]
        if mode == "validate":
            out = run("--mode", mode, *flags, config=bootstrap(config))
            assert out.returncode == 0, out
        else:
            proxy(config, flags=flags)
        lines = readers.read_text().splitlines()
        assert len(set(line.split()[1] for line in lines)) <= 1  # as many workers are announced as there are
        return [line.split()[0] for line in lines]

    assert read("serve") == ["probe"] * 2 + ["real"] * 3
    assert read("serve", probe={"disabled": True}) == ["real"] * 3
    assert read("serve", "--no-probe") == ["real"] * 3
    assert read() == ["probe"] * 2
    assert read(probe={"disabled": True}) == ["probe"] * 2
    assert read("validate", "--no-probe") == []


OLD = (
    HEADER
    + """
static void request(struct sluice_exchange *x, void *self) {
    struct sluice_field fields[] = {{SLUICE_LIT("x-minor"), sluice_bytes("0123456789" + SLUICE_ABI_MINOR, 1)}};
    struct sluice_reply reply = {sizeof reply, 200, SLUICE_LIT("old"), SLUICE_LIT("old"), fields, 1};
    (void)self;
    sluice_reply_with(x, &reply);
}
SLUICE_PLUGIN(.name = "old", .request = request);
"""
)

# As of a header to come: a longer descriptor, a table with more in it, but no need for either.
NEW = (
    "#define SLUICE_NEEDS_MINOR 1\n"
    + HEADER
    + """
#define COUNT 64
struct new_host { struct sluice_host now; void (*later)(void); };
static void request(struct sluice_exchange *x, void *self) {
    const struct new_host *host = (const struct new_host *)sluice_host;
    bool has_later = sluice_host->size >= sizeof *host;
    (void)self;
    if (has_later)
        host->later();
    sluice_reply(x, 200, SLUICE_HAS(attribute) && !has_later ? SLUICE_LIT("new") : SLUICE_LIT("wrong"));
}
const struct sluice_host *sluice_host;
struct new_plugin { struct sluice_plugin now; void (*later)(void); };
const struct new_plugin sluice_plugin = {
    {.major = 1, .minor = SLUICE_NEEDS_MINOR, .size = sizeof(struct new_plugin), .host_size = sizeof(struct new_host),
     .host = &sluice_host, .name = "new", .request = request}, 0};
"""
)


# Of 1.1: behind its end is anything.
SHORT = (
    HEADER
    + """
static void request(struct sluice_exchange *x, void *self) {
    sluice_reply(x, 200, SLUICE_LIT("short"));
}
SLUICE_PLUGIN(.name = "short", .minor = 1, .size = offsetof(struct sluice_plugin, log_start), .request = request,
              .log_start = (void (*)(struct sluice_exchange *, void *))8);
"""
)


def test_older_and_newer_plugins_of_the_same_major_version_work(build, proxy):
    """One was built with the header of 1.0, one with that of 1.1; the third can do without what is newer."""
    old = build(OLD, f"-I{ROOT / 'tests' / 'filters' / 'native' / 'abi-1.0'}")
    new = build(NEW, "-Wno-missing-field-initializers")
    short = build(SHORT, "-w")
    plugins = (("old", old), ("new", new), ("short", short))
    hcm = {"access_log_options": {"flush_access_log_on_new_request": True}}
    edge = proxy([listen(n, lib, routes=[direct(500, "x")], hcm=hcm) for n, lib in plugins])
    reply = edge.get(listener="old")
    assert (reply.body, reply.header("x-minor")) == (b"old", "0")
    assert edge.get(listener="new").body == b"new"
    assert edge.get(listener="short").body == b"short"


def test_the_header_is_fit_for_cpp(tmp_path):
    cxx = shutil.which(os.environ.get("CXX", "c++"))
    if not cxx:
        pytest.skip("no C++ compiler")
    source = pathlib.Path(tmp_path / "x.cc")
    source.write_text(HEADER + 'int main() { sluice_span s = SLUICE_LIT("x"); return (int)s.len; }\n')
    command = [cxx, "-std=c++17", "-Wall", "-Wextra", "-Werror", f"-I{ROOT / 'include'}", "-fsyntax-only", str(source)]
    subprocess.run(command, check=True)
