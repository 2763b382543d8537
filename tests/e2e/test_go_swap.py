"""The file of a Go library is replaced while the proxy serves: new requests run the new code."""

import contextlib
import json
import os
import shutil
import threading

import kit
import pytest
from go_support import Proxy, build, cluster, config_of, direct, eventually, go_listener, stop, write_in_pieces
from harness import TYPE
from harness import listener as plain_listener
from tcp_support import connect, tcp_listener
from wire import Origin


def level(name):
    return kit.typed_struct({"level": name})


def listeners(path, kept_copies):
    """The library's plugins, of which `merge` says with which levels it runs, on a route with a level of its own."""
    more = {"library_id": "lib", "hot_swap": {"kept_copies": kept_copies}}
    merge = kit.go_filter(path, "merge", level("filter"), name="go", **more)
    route = {**direct(200, "direct\n"), "typed_per_filter_config": {"go": kit.per_route(merge=level("route"))}}
    return [go_listener("main", [merge], [route]), go_listener("report", [kit.go_filter(path, "report", **more)])]


class Swappable:
    """A library in a file of its own, and a proxy that has it. Builds of one source differ by the linker's ids, and by
    the SDK that they say they have."""

    def __init__(self, folder, name, listeners, clusters=(), **more):
        self.builds = [build(name, sdk) for sdk in ("1.33", "1.32", "1.31")]
        self.path = folder / "lib.so"
        shutil.copy(self.builds[0], self.path)
        self.sluice = Proxy(config_of(listeners(self.path), clusters), **more)

    def put(self, data):
        """As a package manager does: a new inode, in one step."""
        part = self.path.with_suffix(".part")
        part.write_bytes(data)
        os.rename(part, self.path)

    def replace(self, source):
        self.put(source.read_bytes())

    def port(self, listener):
        return self.sluice.port(listener)

    def row(self):
        (row,) = json.loads(self.sluice.admin("/extensions"))["extensions"]
        return row

    def copies(self):
        """What is in flight in each, the current one first."""
        return [(copy["state"], copy["in_flight"]) for copy in self.row()["copies"]]

    def reload(self):
        return self.sluice.admin("/extensions/reload?library_id=lib", method="POST")

    def wait_for(self, **wanted):
        def look():
            row = self.row()
            return row if all(row[key] == value for key, value in wanted.items()) else None

        return eventually(look, what=f"a row with {wanted}")

    def wait_for_copies(self, *wanted):
        eventually(lambda: self.copies() == list(wanted), what=f"the copies {wanted}")

    def sdk(self):
        return kit.Reporter(self.port("report")).get()["sdk"]


class Swapped(Swappable):
    def __init__(self, folder, kept_copies=2):
        super().__init__(folder, "config", lambda path: listeners(path, kept_copies))

    def levels(self):
        with self.sluice.connect("main") as client:
            return client.ask("GET", "/").all("x-levels")


@pytest.fixture
def swapped(tmp_path):
    swapped = Swapped(tmp_path)
    yield swapped
    stop(swapped.sluice)


def test_a_new_file_serves_and_no_request_fails(swapped):
    """Keep-alive connections ask on and on; the file is replaced in one step, and later written over in place."""
    done = threading.Event()
    failed = []

    def ask():
        with swapped.sluice.connect("main") as client:
            while not done.is_set():
                reply = client.ask("GET", "/")
                if reply.status != 200 or reply.all("x-levels") != ["filter>route"]:
                    failed.append(reply)

    clients = [threading.Thread(target=ask) for _ in range(4)]
    for client in clients:
        client.start()
    assert swapped.row()["copies"][0]["sdk"].startswith("v1.33")
    swapped.replace(swapped.builds[1])
    row = swapped.wait_for(version=2, state="SERVING")
    assert row["copies"][0]["state"] == "CURRENT"
    assert row["copies"][0]["sdk"].startswith("v1.32")
    assert row["copies"][0]["memory_bytes"] > 1 << 20
    shutil.copyfile(swapped.builds[2], swapped.path)  # the same inode, cut off and filled again
    row = swapped.wait_for(version=3, state="SERVING")
    done.set()
    for client in clients:
        client.join()
    assert not failed
    assert row["reloads"] == 2
    assert swapped.sluice.stat("golang.library.lib.reloads") == 2
    assert swapped.sluice.stat("golang.library.lib.kept_copies") == 2
    # Nothing is in flight in the old ones any more, and their configurations have been given back.
    eventually(lambda: [c["state"] for c in swapped.row()["copies"]] == ["CURRENT", "DRAINED", "DRAINED"])
    row = swapped.row()
    assert sum(c["in_flight"] for c in row["copies"]) == 0
    assert all(c["memory_bytes"] > 1 << 20 for c in row["copies"])  # their runtimes are still there

    # So many are kept; the next one is refused, and what serves goes on.
    swapped.replace(swapped.builds[0])
    status = swapped.wait_for(failed_reloads=1)
    assert "kept_copies allows 2" in status["last_error"]
    assert "isolation: PROCESS" in status["last_error"]
    assert swapped.sluice.stat("golang.library.lib.failed_reloads") == 1
    assert status["version"] == 3
    assert swapped.levels() == ["filter>route"]


def test_what_cannot_serve_is_not_taken(swapped):
    """Half a file, another library, and the build that serves already; asked for by hand, which says why."""
    whole = swapped.builds[1].read_bytes()
    part = swapped.path.with_suffix(".part")
    part.write_bytes(whole[: len(whole) // 2])
    os.rename(part, swapped.path)
    row = swapped.wait_for(failed_reloads=1)
    assert "cut off" in row["last_error"] or "ELF" in row["last_error"]

    swapped.replace(build("gcloop"))  # it has no such plugin
    row = swapped.wait_for(failed_reloads=2)
    assert "merge" in row["last_error"]

    swapped.replace(swapped.builds[0])
    assert "is this build" in swapped.reload()
    row = swapped.row()
    assert (row["version"], row["kept_copies"], row["reloads"]) == (1, 0, 0)
    assert swapped.levels() == ["filter>route"]
    assert "is not taken, version 1 goes on" in swapped.sluice.log()


def test_a_file_that_is_written_over_piece_by_piece_is_taken_when_it_is_whole(swapped):
    with swapped.sluice.connect("main") as client:

        def is_answered():
            assert client.ask("GET", "/").status == 200

        write_in_pieces(swapped.path, swapped.builds[1].read_bytes(), is_answered)
    row = swapped.wait_for(version=2, state="SERVING")
    assert (row["reloads"], row["failed_reloads"], row["kept_copies"]) == (1, 0, 1)
    assert row["copies"][0]["sdk"].startswith("v1.32")


# ---- what is in flight ----------------------------------------------------------


@contextlib.contextmanager
def swappable(*args, **more):
    it = Swappable(*args, **more)
    yield it
    stop(it.sluice)


def scripted(path):
    more = {"library_id": "lib"}
    return [go_listener("main", [kit.go_filter(path, "basic", **more)]), report_listener_of(path, **more)]


def report_listener_of(path, **more):
    return go_listener("report", [kit.go_filter(path, "report", **more)])


def test_what_began_in_the_old_copy_ends_there(tmp_path):
    """One request is held by a goroutine, one by its body, one in a callback that blocks. New ones, on old connections,
    too, are served by the new copy; when the last old one has ended the old copy's configurations are given back."""
    go_on = tmp_path / "go-on"
    wait = ("waitfile", go_on)
    with contextlib.ExitStack() as stack, swappable(tmp_path, "basic", scripted) as lib:
        clients = [stack.enter_context(lib.sluice.connect("main")) for _ in range(4)]
        goroutine, body, callback, idle = clients
        assert idle.ask("GET", kit.path_of("/", dh="set:x-a:b")).status == 200
        goroutine.send("GET", kit.path_of("/", dh=["go", wait], eh="set:x-was:goroutine"))
        body.send_head("POST", kit.path_of("/", dh="ret:3", eh="set:x-was:body"), [("transfer-encoding", "chunked")])
        body.send_chunk(b"first")
        callback.send("GET", kit.path_of("/", dh=[wait], eh="set:x-was:callback"))
        eventually(lambda: lib.copies() == [("CURRENT", 3)], what="three requests in Go")
        assert lib.sdk() == "1.33"

        lib.replace(lib.builds[1])
        lib.wait_for_copies(("CURRENT", 0), ("DRAINING", 3))
        assert lib.sdk() == "1.32"
        for client in (idle, idle):
            assert client.ask("GET", kit.path_of("/", dh="set:x-a:b")).status == 200
        lib.wait_for_copies(("CURRENT", 0), ("DRAINING", 3))  # a request ends after its reply
        body.send_chunk(b"last")
        body.send_end()
        assert body.read_reply().header("x-was") == "body"
        lib.wait_for_copies(("CURRENT", 0), ("DRAINING", 2))
        assert "the last exchange of version 1 has ended" not in lib.sluice.log()

        go_on.touch()
        assert goroutine.read_reply().header("x-was") == "goroutine"
        assert callback.read_reply().header("x-was") == "callback"
        lib.wait_for_copies(("CURRENT", 0), ("DRAINED", 0))
        lib.sluice.wait_for_log("the last exchange of version 1 has ended")
        for client in clients:  # and all of them go on in the new one
            assert client.ask("GET", kit.path_of("/", eh="set:x-was:new")).header("x-was") == "new"


def test_a_client_that_leaves_while_its_request_is_in_the_old_copy(tmp_path):
    """Nobody reads the answer, but the callback is still at work in the old copy: it drains when that has returned."""
    go_on = tmp_path / "go-on"
    with swappable(tmp_path, "basic", scripted) as lib:
        client = lib.sluice.connect("main")
        client.send("GET", kit.path_of("/", dh=[("waitfile", go_on)]))
        eventually(lambda: lib.copies() == [("CURRENT", 1)], what="a request in Go")
        lib.replace(lib.builds[1])
        lib.wait_for_copies(("CURRENT", 0), ("DRAINING", 1))
        client.abort()
        go_on.touch()
        lib.wait_for_copies(("CURRENT", 0), ("DRAINED", 0))


# ---- network filters, cluster specifiers ----------------------------------------


def test_connections_stay_with_the_copy_that_they_began_in(tmp_path):
    origin = Origin()

    def go(kind, **more):
        return {"@type": TYPE + f"envoy.extensions.{kind}.v3alpha.Config", "library_id": "lib", **more}

    def all_kinds(path):
        network = go("filters.network.golang", library_path=str(path), plugin_name="script", is_terminal_filter=True)
        network["plugin_config"] = kit.typed_struct({"id": "script"})
        specifier = go("router.cluster_specifier.golang", library_path=str(path), default_cluster="alpha")
        specifier["config"] = kit.typed_struct({"cluster": "alpha"})
        inline = {"extension": {"name": "go", "typed_config": specifier}}
        route = {"match": {"prefix": "/"}, "route": {"inline_cluster_specifier_plugin": inline}}
        return [
            tcp_listener("script", {"name": "envoy.filters.network.golang", "typed_config": network}),
            plain_listener("chosen", [route]),
            report_listener_of(path, library_id="lib"),
        ]

    def said(sock, text):
        sock.sendall(f"say {text}\n".encode())
        return sock.makefile().readline().strip()

    def counts(lib, name):
        return kit.Reporter(lib.port("report")).get()["counts"].get(name, 0)

    names = ("alpha", "beta")
    with swappable(tmp_path, "network", all_kinds, [cluster(name, origin.port) for name in names]) as lib:
        old = connect(lib, "script")
        assert said(old, "one") == "one"
        assert lib.sluice.get("/name/beta", listener="chosen").status == 200
        assert counts(lib, "specified") == 1
        lib.wait_for_copies(("CURRENT", 1))

        lib.replace(lib.builds[1])
        lib.wait_for_copies(("CURRENT", 0), ("DRAINING", 1))
        assert lib.sdk() == "1.32"
        new = connect(lib, "script")
        assert (said(old, "two"), said(new, "three")) == ("two", "three")
        lib.wait_for_copies(("CURRENT", 1), ("DRAINING", 1))
        # What the new copy counts, of which it has begun anew.
        assert counts(lib, "specified") == 0
        assert lib.sluice.get("/name/beta", listener="chosen").status == 200
        assert counts(lib, "specified") == 1

        old.close()
        lib.wait_for_copies(("CURRENT", 1), ("DRAINED", 0))
        assert said(new, "four") == "four"
        new.close()
        lib.wait_for_copies(("CURRENT", 0), ("DRAINED", 0))
    origin.close()


# ---- files that cannot serve ----------------------------------------------------


def other_machine(elf):
    return elf[:18] + b"\x08\x00" + elf[20:]  # e_machine: MIPS


def without_symbol(elf):
    assert b"envoyGoFilterOnHttpData\0" in elf
    return elf.replace(b"envoyGoFilterOnHttpData\0", b"envoyGoFilterOnHttpDatX\0")


def misbehaving(path, **fields):
    plugin = kit.go_filter(path, "misbehave", kit.typed_struct(fields), library_id="lib")
    return [go_listener("main", [plugin]), report_listener_of(path, library_id="lib")]


def is_refused(lib, data, *words):
    """Said once in the log, counted, shown; what serves goes on, and has no second copy beside it."""
    lib.put(data)
    row = lib.wait_for(failed_reloads=1, state="SERVING")
    for word in words:
        assert word in row["last_error"], row["last_error"]
        assert word in lib.sluice.log()
    assert lib.sluice.log().count("is not taken, version 1 goes on") == 1
    assert (row["version"], row["reloads"]) == (1, 0)
    assert lib.sluice.stat("golang.library.lib.failed_reloads") == 1
    assert lib.sluice.get("/", listener="main").status == 200
    assert lib.sdk() == "1.33"
    return row


def is_taken(lib, source):
    """What was refused before is no obstacle."""
    lib.replace(source)
    row = lib.wait_for(reloads=1, state="SERVING")
    assert (row["last_error"], row["failed_reloads"]) == ("", 1)
    assert lib.sluice.get("/", listener="main").status == 200


@pytest.mark.parametrize(
    ("spoil", "words"),
    [(other_machine, ["machine"]), (without_symbol, ["envoyGoFilterOnHttpData"]), (lambda elf: b"#!/bin/sh", ["ELF"])],
)
def test_a_file_that_is_no_library_for_us(tmp_path, spoil, words):
    with swappable(tmp_path, "config", misbehaving) as lib:
        row = is_refused(lib, spoil(lib.builds[1].read_bytes()), *words)
        assert len(row["copies"]) == 1
        is_taken(lib, lib.builds[1])


def test_a_file_whose_init_panics(tmp_path):
    """It wants a lock that the old copy has: in the process that tries it first, which is why the proxy goes on."""
    env = {"SLUICE_TEST_LOCK": str(tmp_path / "lock")}
    with swappable(tmp_path, "config", misbehaving, env=env) as lib:
        row = is_refused(lib, lib.builds[1].read_bytes(), "another process has the lock")
        assert len(row["copies"]) == 1


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("error", ["careless: not like this"]),
        ("panic", ["panicked", "careless: panic"]),
        ("exit", ["careless: cannot"]),
    ],
)
def test_a_file_whose_parser_refuses(tmp_path, how, words):
    """As one does that has become stricter, or worse."""
    strict = tmp_path / "strict"
    with swappable(tmp_path, "config", lambda path: misbehaving(path, parse=how, if_file=str(strict))) as lib:
        strict.touch()
        row = is_refused(lib, lib.builds[1].read_bytes(), *words)
        assert len(row["copies"]) == 1
        strict.unlink()
        # By hand it is tried again, though nothing of the file has changed.
        assert "version 2 serves" in lib.reload()
        assert lib.sdk() == "1.32"


def test_a_file_that_is_refused_after_it_was_loaded(tmp_path):
    """It passed in the process that tried it, and says no in the proxy: its copy stays, as one that never served."""
    strict = tmp_path / "strict"
    fields = {"parse": "error", "if_file": str(strict), "never_probe": True}
    with swappable(tmp_path, "config", lambda path: misbehaving(path, **fields)) as lib:
        strict.touch()
        is_refused(lib, lib.builds[1].read_bytes(), "careless: not like this")
        assert lib.copies() == [("CURRENT", 0), ("REFUSED", 0)]
        strict.unlink()
        is_taken(lib, lib.builds[2])
        lib.wait_for_copies(("CURRENT", 0), ("REFUSED", 0), ("DRAINED", 0))
