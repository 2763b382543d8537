"""The file of a Go library is replaced while the proxy serves: new requests run the new code."""

import json
import os
import shutil
import threading
import time

import kit
import pytest
from go_support import Proxy, build, config_of, direct, eventually, go_listener, stop


def level(name):
    return kit.typed_struct({"level": name})


def listeners(path, kept_copies):
    """The library's plugins, of which `merge` says with which levels it runs, on a route with a level of its own."""
    more = {"library_id": "lib", "hot_swap": {"kept_copies": kept_copies}}
    merge = kit.go_filter(path, "merge", level("filter"), name="go", **more)
    route = {**direct(200, "direct\n"), "typed_per_filter_config": {"go": kit.per_route(merge=level("route"))}}
    return [go_listener("main", [merge], [route]), go_listener("report", [kit.go_filter(path, "report", **more)])]


class Swapped:
    def __init__(self, folder, kept_copies=2):
        # Two builds of one source: the linker's ids differ, and so does the SDK that they say they have.
        self.builds = [build("config", sdk) for sdk in ("1.33", "1.32", "1.31")]
        self.path = folder / "lib.so"
        shutil.copy(self.builds[0], self.path)
        self.sluice = Proxy(config_of(listeners(self.path, kept_copies)))

    def replace(self, source):
        """As a package manager does: a new inode, in one step."""
        part = self.path.with_suffix(".part")
        shutil.copy(source, part)
        os.rename(part, self.path)

    def row(self):
        (row,) = json.loads(self.sluice.admin("/extensions"))["extensions"]
        return row

    def reload(self):
        return self.sluice.admin("/extensions/reload?library_id=lib", method="POST")

    def wait_for(self, **wanted):
        def look():
            row = self.row()
            return row if all(row[key] == value for key, value in wanted.items()) else None

        return eventually(look, what=f"a row with {wanted}")

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
    assert sum(c["in_flight"] for c in swapped.row()["copies"]) == 0

    # So many are kept; the next one is refused, and what serves goes on.
    swapped.replace(swapped.builds[0])
    status = swapped.wait_for(failed_reloads=1)
    assert "kept_copies" in status["last_error"]
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
    """Opened and closed for each piece, so each is a change; and each but the last leaves a mixture of two builds."""
    new = swapped.builds[1].read_bytes()
    piece = len(new) // 12
    with swapped.sluice.connect("main") as client:
        for at in range(0, len(new), piece):
            with open(swapped.path, "r+b") as library:
                library.seek(at)
                library.write(new[at : at + piece])
                if at + piece >= len(new):
                    library.truncate()
            until = time.monotonic() + 0.15
            while time.monotonic() < until:
                assert client.ask("GET", "/").status == 200
    row = swapped.wait_for(version=2, state="SERVING")
    assert (row["reloads"], row["failed_reloads"], row["kept_copies"]) == (1, 0, 1)
    assert row["copies"][0]["sdk"].startswith("v1.32")
