"""Filters in C from shared objects (include/sluice/filter.h): what they can do, what becomes of a library that is not
one, and what is left of them when they fault: a 500, a backtrace, and a proxy that goes on; or, when somebody else's
code was in the middle of something, a crash with a report."""

import os
import pathlib
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
    command = [cc, "-shared", "-fPIC", "-O2", "-g", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE", include]
    subprocess.run([*command, *flags, "-o", str(out), str(source)], check=True)
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


def native(library, config=None, **options):
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
    per_route = {"sluice.filters.http.native": {"@type": PER_ROUTE, "config": {"greeting": "hi", "times": 2}}}
    routes = [
        {**to(prefix="/special"), "typed_per_filter_config": per_route},
        direct(200, "direct", prefix="/direct"),
        to(),
    ]
    hcm = {"access_log": [it.log.config]}
    it.edge = module_proxy(
        [
            listen("plain", build(), {"greeting": "hello"}, routes=routes, hcm=hcm, max_faults=0),
            listen("json", build(), {"json": True, "a": [1, "x"]}),
            listen("deep", build(None, "-DSTACK_BYTES=262144"), max_faults=0),
            listen("three", build(), max_faults=3),
            listen("bypass", build(), max_faults=2, on_fault="BYPASS"),
        ],
        [cluster("origin", it.origin.port)],
    )
    yield it
    it.origin.close()


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


# ---- what they can do


def test_it_is_configured_and_changes_requests_and_responses(zoo):
    reply = ask(zoo)
    assert (reply.status, reply.header("got-x-greeting"), reply.header("x-zoo")) == (200, "hello", "was here")
    assert ask(zoo, listener="json").header("got-x-greeting") == '{"json":true,"a":[1,"x"]}'
    assert ask(zoo, "/special").header("got-x-route") == "hihi"
    assert ask(zoo).header("got-x-route") is None
    assert re.search(r"\[native\] greeting: hello, \d+ workers", zoo.edge.log())


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
    assert any(line.startswith("/teapot zoo_reply 418/") for line in zoo.log.lines(zoo.edge, 1))


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
    lines = eventually(lambda: [x for x in zoo.log.lines(zoo.edge, 1) if x.startswith("/seen ")], what="the line")
    assert lines == ["/seen via_upstream 200/b 7"]
    assert zoo.edge.stat("native.zoo.requests") > 0
    zoo.edge.wait_for_stat("native.zoo.running", zoo.edge.stat("native.zoo.running"))
    assert "native.zoo.took" in zoo.edge.admin("/stats")


def test_it_waits_and_others_are_served(zoo):
    assert ask(zoo, do="block").header("got-x-blocked") == "2ms"


def test_it_gets_the_stack_that_it_asks_for(zoo):
    """100 KiB of one function, in which it parks."""
    assert ask(zoo, listener="deep", do="deep").header("got-x-deep") == "yes"
    assert ask(zoo, listener="deep", then="shout", method="POST", body=b"x" * 300_000).body == b"X" * 300_000


# ---- faults that are survived


def faults(zoo):
    return zoo.edge.stat("native.zoo.faults")


@pytest.mark.parametrize("where", ["plain", "deep"])
@pytest.mark.parametrize(
    "how, called, function",
    [
        ("null", "SIGSEGV at address 0 ", "write_nowhere"),
        ("divide", "SIGFPE", "misbehave"),
        ("trap", "SIGILL", "misbehave"),
        ("overflow", "a stack overflow", "dig"),
        ("park-null", "SIGSEGV at address 0 ", "write_nowhere"),
    ],
)
def test_a_fault_of_its_own_is_a_500_with_a_backtrace(zoo, where, how, called, function):
    before = faults(zoo)
    with zoo.edge.connect(where) as client:
        reply = client.ask("GET", "/fault", headers=[("x-do", how)])
        assert reply.status == 500
        assert reply.header("x-zoo") is None  # it is not called again
        assert client.ask("GET", "/").status == 200  # on the same connection
    assert faults(zoo) == before + 1
    number = before + 1

    def told():
        log = zoo.edge.log()
        at = log.rfind(called)
        return log[at:] if at >= 0 and re.search(r"#0 .*\n", log[at:]) else None

    text = eventually(told, what=f"fault {number} in the log")
    assert "request" in text.splitlines()[0]
    assert re.search(r"#\d+ " + function, text), text
    if where == "plain":
        assert any(line.startswith("/fault native_filter_fault") for line in zoo.log.lines(zoo.edge, 1))


def test_a_fault_in_any_of_its_functions_ends_the_exchange(zoo):
    before = faults(zoo)
    assert ask(zoo, create="null").status == 500
    assert ask(zoo, then="null").status == 500
    assert ask(zoo, do="block-fault").status == 500
    assert ask(zoo, log="null").status == 200  # it was sent already
    assert ask(zoo, destroy="null").status == 200
    zoo.edge.wait_for_stat("native.zoo.faults", before + 5)
    for how in ("shout-fault", "observe-fault"):
        with zoo.edge.connect("plain") as client:
            client.send("GET", "/chunks", headers=[("x-then", how)])
            said = client.read_to_end()
            assert b"HTTP/1.1 500" in said or not said.endswith(b"0\r\n\r\n")  # as far as the head had been sent
    zoo.edge.wait_for_stat("native.zoo.faults", before + 7)
    assert ask(zoo).status == 200


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
    assert "newer Sluice" in refusal(build(empty % ".host_size = 1 << 20", "-w"))
    assert "not made with SLUICE_PLUGIN" in refusal(build(empty % ".size = 8", "-w"))
    assert "the plug-in x takes no config" in refusal(build(empty % ".minor = 0", "-w"), {"a": 1})


def is_clang():
    return "clang" in os.environ.get("CC", "cc")


def test_a_configuration_that_it_refuses_or_faults_in_is_refused(build):
    assert re.search(r"bootstrap.yaml:\d+.*zoo: the zoo is closed", refusal(build(), {"do": "refuse"}))
    assert "zoo refused its configuration: Invalid argument" in refusal(build(), {"do": "nothing"})
    text = refusal(build(), {"do": "null"})
    assert "the plug-in zoo faulted in configure: SIGSEGV at address 0, in write_nowhere" in text


def test_an_older_plugin_lacks_what_came_later(build):
    """Its descriptor is the shorter one that its header had."""
    code = HEADER + 'SLUICE_PLUGIN(.name = "old", .host_size = 64);'
    listeners = [listen("edge", build(code, "-w"), routes=[direct(200, "x")])]
    out = run("--mode", "validate", config=bootstrap(listeners))
    assert out.returncode == 0, out


def test_the_header_is_fit_for_cpp(tmp_path):
    cxx = shutil.which(os.environ.get("CXX", "c++"))
    if not cxx:
        pytest.skip("no C++ compiler")
    source = pathlib.Path(tmp_path / "x.cc")
    source.write_text(HEADER + 'int main() { sluice_span s = SLUICE_LIT("x"); return (int)s.len; }\n')
    command = [cxx, "-std=c++17", "-Wall", "-Wextra", "-Werror", f"-I{ROOT / 'include'}", "-fsyntax-only", str(source)]
    subprocess.run(command, check=True)
