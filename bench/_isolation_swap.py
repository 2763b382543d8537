"""How soon a library's new file serves, under load: from the rename to the first answer of the new code.

    swaps(farm, origin, turns) -> ([ms, ...], failed, asked)

Two builds of bench/gofilter_go that differ by a number, which their plugin `version` answers with."""

import os
import pathlib
import shutil
import subprocess
import tempfile
import threading
import time
import urllib.request

from _gofilter_servers import AT_ONCE, go_filter
from _servers import ROOT, SLUICE, free_port, http_listener

LONGEST_S = 30
CLIENTS = 8


def build_version(folder, number):
    path = folder / f"version-{number}.so"
    flags = ["-buildmode=c-shared", f"-ldflags=-X main.version={number}", "-o", path]
    subprocess.run(["go", "build", *flags, "."], cwd=ROOT / "bench" / "gofilter_go", check=True)
    return path


class _Client(threading.Thread):
    """Asks again and again, and notes when an answer was the first of its version."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.url = f"http://127.0.0.1:{port}/"
        self.over = threading.Event()
        self.asked = self.failed = 0
        self.version = None

    def run(self):
        while not self.over.is_set():
            self.asked += 1
            try:
                with urllib.request.urlopen(self.url, timeout=LONGEST_S) as answer:
                    self.version = answer.read().decode()
            except OSError:
                self.failed += 1


def swaps(farm, origin, turns):
    with tempfile.TemporaryDirectory(prefix="sluice-swap-") as name:
        folder = pathlib.Path(name)
        builds = {number: build_version(folder, number) for number in ("1", "2")}
        path = folder / "library.so"
        shutil.copy(builds["1"], path)
        port = free_port()
        filters = [go_filter(path, "version", 0, isolation="PROCESS", restarts=AT_ONCE)]
        config = farm.bootstrap("swap", [http_listener("in", port, filters)], origin)
        command = [SLUICE, "-c", config, "--concurrency", str(farm.workers)]
        farm.start("swap", port, command)
        clients = [_Client(port) for _ in range(CLIENTS)]
        for client in clients:
            client.start()
        took = []
        for turn in range(turns):
            number = "2" if turn % 2 == 0 else "1"
            shutil.copy(builds[number], folder / "new")
            began = time.monotonic()
            os.rename(folder / "new", path)
            while not any(client.version == number for client in clients):
                if time.monotonic() - began > LONGEST_S:
                    raise RuntimeError("the new file does not serve")
                time.sleep(0.0005)
            took.append((time.monotonic() - began) * 1000)
            while not all(client.version == number for client in clients):
                time.sleep(0.001)
        for client in clients:
            client.over.set()
            client.join()
        return took, sum(client.failed for client in clients), sum(client.asked for client in clients)
