"""Go libraries and their configurations are tried in a process of their own first: whatever is wrong with
them is an error of the configuration, with its cause, for the proxy and for --mode validate."""

import pathlib
import shutil
import struct

import kit
import pytest
from go_support import Proxy, config_of, direct, go_listener, stop
from harness import is_sanitized, run

from build import build


@pytest.fixture(scope="module")
def library():
    return build("config")


def misbehaving(library, *, timeout="10s", name="envoy.filters.http.golang", **how):
    filter_ = kit.go_filter(library, "misbehave", kit.typed_struct(how), name=name)
    filter_["typed_config"]["probe"] = {"timeout": timeout}
    return filter_


def said(*listeners):
    """What the proxy says when it refuses these listeners; --mode validate finds the same."""
    texts = []
    for mode in ("serve", "validate"):
        done = run("--mode", mode, config=config_of(listeners))
        assert done.returncode == 1, done
        texts.append(done.stderr)
    return texts


INIT = {
    "panic": ("it panicked while its init functions ran", "panic: careless: panic", "main.init"),
    "loud": ("it panicked while its init functions ran", "panic: careless: loud", "main.init"),
    "exit": ("it ended the process with exit status 3 while", "careless: cannot reach the database"),
    "crash": ("it crashed while its init functions ran", "main.misbehave"),
}
# A sanitizer takes the signal before Go does, and ends the process in its own way.
IN_C = ("while its init functions ran", "Sanitizer") if is_sanitized() else INIT["crash"]


@pytest.mark.parametrize("how", INIT)
def test_init_functions_that_fail(library, how, monkeypatch):
    """Go's own words and the place are told, also behind megabytes of other output."""
    monkeypatch.setenv("SLUICE_TEST_INIT", how)
    for text in said(go_listener("main", [misbehaving(library)])):
        assert f"cannot load {library}: " in text
        for part in IN_C if how == "crash" else INIT[how]:
            assert part in text


def test_init_functions_that_never_end(library, monkeypatch):
    monkeypatch.setenv("SLUICE_TEST_INIT", "hang")
    done = run(config=config_of([go_listener("main", [misbehaving(library, timeout="0.5s")])]))
    assert done.returncode == 1
    assert "it gave no answer within 0.5 s while its init functions ran" in done.stderr
    # Started at all by then, its Go runtime says where it stands.
    assert "select" in done.stderr or "goroutine" not in done.stderr


CONFIGS = {
    "parse": "while it parsed this configuration",
    "merge": "while it merged this configuration into the one above it",
    "factory": "while it made a filter from this configuration",
}


@pytest.mark.parametrize("how", ["panic", "exit", "crash"])
@pytest.mark.parametrize("where", CONFIGS)
def test_configurations_that_fail(library, where, how):
    """The error stands at the configuration that it is about: for a merge, the route's."""
    broken = kit.typed_struct({where: how})
    routes, own = None, broken
    if where == "merge":
        key = {"envoy.filters.http.golang": kit.per_route(misbehave=broken)}
        routes, own = [direct(200, "direct\n", typed_per_filter_config=key)], kit.typed_struct({})
    listener = go_listener("main", [kit.go_filter(library, "misbehave", own)], routes)
    done = run("--mode", "validate", config=config_of([listener]))
    assert done.returncode == 1, done
    [line] = [line for line in done.stderr.splitlines() if "the plugin misbehave " in line]
    assert CONFIGS[where] in line
    assert ("typed_per_filter_config" in line) == (where == "merge")
    if how == "crash" and is_sanitized():
        assert "Sanitizer" in done.stderr
    elif how == "exit":
        assert "ended the process with exit status 3" in line
        assert "careless: cannot reach the database" in done.stderr
    else:
        assert ("panicked" if how == "panic" else "crashed") in line
        assert "main.misbehave(" in done.stderr
        assert "misbehave.go:" in done.stderr


def test_a_configuration_that_is_never_parsed(library):
    listener = go_listener("main", [misbehaving(library, timeout="5s", parse="hang")])
    done = run(config=config_of([listener]))
    assert done.returncode == 1
    assert "the plugin misbehave gave no answer within 5 s while it parsed" in done.stderr
    assert "main.(*misbehaving).Parse" in done.stderr


def test_all_mistakes_are_told_at_once(library):
    """A crash over one configuration does not hide what is wrong with the next, nor with the rest."""
    listeners = [
        go_listener("one", [misbehaving(library, parse="panic")]),
        go_listener("two", [misbehaving(library, factory="exit"), misbehaving(library, name="fine")]),
        go_listener("three", [misbehaving(library, parse="error")]),
        go_listener("four", [kit.go_filter("/nonexistent/libfilter.so", "any")]),
        go_listener("five", [], [direct(200, "x", match={"safe_regex": {"regex": "("}})]),
    ]
    for text in said(*listeners):
        assert "panicked while it parsed" in text
        assert "exit status 3 while it made a filter" in text
        assert "refused it: failed to parse golang plugin config: careless: not like this" in text
        assert "cannot load /nonexistent/libfilter.so: No such file or directory" in text
        assert "listeners[4]" in text


def patched(tmp_path, library, *changes):
    """A copy of the library in which bytes stand for others of the same length."""
    content = pathlib.Path(library).read_bytes()
    for old, new in changes:
        assert old in content and len(old) == len(new)
        content = content.replace(old, new)
    path = tmp_path / "patched.so"
    path.write_bytes(content)
    return path


def test_files_that_are_no_such_library(library, tmp_path):
    text = tmp_path / "text.so"
    text.write_text("hello\n")
    other = tmp_path / "other.so"
    content = bytearray(pathlib.Path(library).read_bytes())
    content[18:20] = (22).to_bytes(2, "little")  # s390
    other.write_bytes(content)
    lacking = patched(tmp_path, library, (b"envoyGoFilterOnHttpData\0", b"envoyGoFilterOnHttpDatz\0"))
    cut = tmp_path / "cut.so"
    cut.write_bytes(content[:4096])
    old = tmp_path / "old"
    old.mkdir()
    old = patched(old, library, (b"envoyproxy/envoy\tv1.33.0", b"envoyproxy/envoy\tv1.30.0"))
    musl = tmp_path / "musl"
    musl.mkdir()
    musl = patched(musl, library, (b"\0libc.so.6\0", b"\0libc.so\0\0\0"))
    wanted = {
        "/nonexistent/libfilter.so": "No such file or directory",
        text: "not an ELF file",
        other: "built for another machine",
        lacking: "it lacks envoyGoFilterOnHttpData",
        old: "built with Envoy's Go SDK v1.30.0; 1.31 is the oldest that works",
        musl: "built with musl (it needs libc.so), and this is a glibc",
        "/": "not a regular file",
    }
    filters = [kit.go_filter(path, "any", name=f"f{i}") for i, path in enumerate([*wanted, cut])]
    for i, filter_ in enumerate(filters):
        filter_["typed_config"]["library_id"] = f"id-{i}"
    for output in said(go_listener("main", filters)):
        for path, because in wanted.items():
            assert f"cannot load {path}: {because}" in output
        assert f"cannot load {cut}: " in output


def with_static_tls(library, path, size_bytes):
    """A copy with so much of thread-local variables, as C code in a library may declare them."""
    content = bytearray(library.read_bytes())
    headers, size, count = struct.unpack_from("<Q", content, 32) + struct.unpack_from("<HH", content, 54)
    for at in range(headers, headers + size * count, size):
        if struct.unpack_from("<I", content, at) == (7,):  # PT_TLS
            struct.pack_into("<Q", content, at + 40, size_bytes)
    path.write_bytes(content)
    return path


def test_trap_more_static_tls_than_there_is(library, tmp_path, monkeypatch):
    """The flag in the file wants it in a block that each thread has from its start: what to do is said, and helps."""
    large = with_static_tls(library, tmp_path / "large.so", 20_000)
    listener = go_listener("main", [kit.go_filter(large, "any")])
    advice = "GLIBC_TUNABLES=glibc.rtld.optional_static_tls=65536"
    for output in said(listener):
        assert "cannot allocate memory in static TLS block: start the proxy with " + advice in output
    name, _, value = advice.partition("=")
    monkeypatch.setenv(name, value)
    sluice = Proxy(config_of([listener]))
    assert sluice.get("/").status == 200
    stop(sluice)


def test_a_library_of_a_newer_sdk(tmp_path):
    """It may call functions that are missing here: they fail, and are named, and the rest works."""
    newer = patched(
        tmp_path,
        build("basic"),
        (b"envoyGoFilterHttpAddData\0", b"envoyGoFilterHttpAddWing\0"),
        (b"envoyproxy/envoy\tv1.33.0", b"envoyproxy/envoy\tv1.39.0"),
    )
    config = config_of([go_listener("main", [kit.go_filter(newer, "basic")])])
    done = run("--mode", "validate", config=config)
    assert done.returncode == 0, done
    warning = "is built with a newer SDK (v1.39.0): these functions that it may call are missing here"
    assert f"{newer} {warning} and will fail: envoyGoFilterHttpAddWing\n" in done.stderr
    sluice = Proxy(config)
    assert warning in sluice.log()
    with sluice.connect() as client:
        for _ in range(2):
            reply = client.ask("GET", kit.path_of("/", eh=["adddata:more", "set:x-after:1"]))
            assert (reply.status, reply.header("x-after"), reply.body) == (200, "1", b"direct\n")
    assert sluice.stat("golang.missing_calls") == 2
    assert sluice.log().count("calls envoyGoFilterHttpAddWing of an SDK newer than") == 1
    stop(sluice)
    other = tmp_path / "other"
    other.mkdir()
    major = patched(other, newer, (b"envoyproxy/envoy\tv1.39.0", b"envoyproxy/envoy\tv2.39.0"))
    for text in said(go_listener("main", [kit.go_filter(major, "basic")])):
        assert "it calls envoyGoFilterHttpAddWing, which Sluice does not have" in text


def test_validate_accepts_what_is_right_and_runs_nothing_of_it_here(library, tmp_path, monkeypatch):
    """A library whose init ends every process but a probe is fine for it: it never loads one itself."""
    listener = go_listener("main", [misbehaving(library, parse="exit", only_probe=False)])
    done = run("--mode", "validate", "--no-probe", config=config_of([listener]))
    assert done.returncode == 0, done  # nothing of it ran, in no process
    listener = go_listener("main", [kit.go_filter(library, "any")])
    done = run("--mode", "validate", config=config_of([listener]))
    assert (done.returncode, "OK" in done.stdout) == (0, True), done


def test_filters_can_tell_a_probe(library):
    """SLUICE_PROBE=1 there, and not where requests are."""
    listeners = [go_listener("main", [misbehaving(library, factory="panic", only_probe=True)])]
    assert "panicked while it made a filter" in run(config=config_of(listeners)).stderr
    listeners = [go_listener("main", [kit.go_filter(library, "environ")])]
    sluice = Proxy(config_of(listeners))
    assert sluice.get("/").header("x-env-probe") == ""
    stop(sluice)


@pytest.mark.parametrize("how", ["flag", "config"])
def test_the_probe_can_be_switched_off(library, how):
    """Then a mistake that only shows in a probe does no harm."""
    filter_ = misbehaving(library, factory="panic", only_probe=True)
    flags = ["--no-probe"] if how == "flag" else []
    if how == "config":
        filter_["typed_config"]["probe"]["disabled"] = True
    sluice = Proxy(config_of([go_listener("main", [filter_])]), flags=flags)
    assert sluice.get("/").status == 200
    stop(sluice)


def test_the_probe_is_gone_before_the_library_is_loaded(library, tmp_path):
    """The library takes a lock that two processes cannot have: init would fail in the second one."""
    lock = tmp_path / "lock"
    sluice = Proxy(
        config_of([go_listener("main", [kit.go_filter(library, "environ")])]), env={"SLUICE_TEST_LOCK": str(lock)}
    )
    assert sluice.get("/").status == 200
    children = pathlib.Path(f"/proc/{sluice.process.pid}/task/{sluice.process.pid}/children").read_text()
    assert children == ""
    stop(sluice)
    assert lock.read_text().count("init") == 2  # once in the probe, once here


def test_a_copy_of_a_library_is_not_tried_again(library, tmp_path, monkeypatch):
    """Each init leaves a line, and would fail beside another."""
    copies = [tmp_path / f"copy-{i}.so" for i in range(3)]
    for copy in copies:
        shutil.copy(library, copy)
    lock = tmp_path / "lock"
    monkeypatch.setenv("SLUICE_TEST_LOCK", str(lock))
    paths = [library, *copies]
    listener = go_listener("main", [kit.go_filter(path, "environ", library_id=str(path)) for path in paths])
    done = run("--mode", "validate", config=config_of([listener]))
    assert done.returncode == 0, done
    assert lock.read_text().count("init") == 1


def test_another_build_or_configuration_is_tried(tmp_path):
    """In the place of the library that passed, too: nothing is told by the name."""
    library, rebuilt = build("gcloop"), build("gcloop", strip=True)
    copy = tmp_path / "copy.so"

    def passed_over(first, second, **config):
        filters = [
            kit.go_filter(first, "gcloop", library_id="one"),
            kit.go_filter(second, "gcloop", kit.typed_struct(config) if config else None, library_id="two"),
        ]
        done = run("--mode", "validate", "-l", "debug", config=config_of([go_listener("main", filters)]))
        assert done.returncode == 0, done
        return done.stderr.count("and its configurations passed before")

    shutil.copy(library, copy)
    assert passed_over(library, copy) == 1
    assert passed_over(library, copy, other="config") == 0
    shutil.copy(rebuilt, copy)
    assert passed_over(library, copy) == 0


def test_the_mode_is_not_for_people():
    done = run("--ext-host")
    assert done.returncode == 2
    assert "--ext-host is for the proxy itself" in done.stderr
