"""How soon a version of a library that fails too often is withdrawn, under load: from the moment at which those who ask
could know it to the last answer of that version.

    rollbacks(farm, origin, turns) -> ([ms, ...], [share of all requests that failed, ...])

It goes out to every tenth client and fails every tenth request; max_error_rate is 0.8 %. Known it is when the clients
have had MIN_REQUESTS answers of it, more than that rate of which are failures: what the proxy needs beyond that, to
tell it from chance and to act, is what is measured."""

import http.client
import os
import pathlib
import shutil
import tempfile
import threading
import time

from _gofilter_servers import go_filter
from _isolation_swap import build_version
from _servers import SLUICE, free_port, http_listener

CLIENTS = 8
LONGEST_S = 60
GOOD, BAD = "1", "2-bad"
MIN_REQUESTS, MOST_ERRORS, SHARE_PERCENT = 100, 0.008, 10
ROLLOUT = {
    "steps": [SHARE_PERCENT, 100],
    "step_duration": "600s",
    "max_error_rate": MOST_ERRORS,
    "min_requests": MIN_REQUESTS,
    "hash_on": {"header": "x-user"},
}


class _Answers:
    """Of all clients."""

    def __init__(self):
        self.lock = threading.Lock()
        self.all = self.bad = self.failed = 0
        self.known = self.last = None

    def note(self, version, status):
        with self.lock:
            self.all += 1
            if version != BAD:
                return
            self.bad += 1
            self.failed += status != 200
            self.last = time.monotonic()
            if not self.known and self.bad >= MIN_REQUESTS and self.failed > MOST_ERRORS * self.bad:
                self.known = self.last


def _ask_on(port, number, answers, over):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LONGEST_S)
    turn = 0
    while not over.is_set():
        turn += 1
        connection.request("GET", "/", headers={"x-user": f"{number}-{turn}"})
        reply = connection.getresponse()
        answers.note(reply.read().decode(), reply.status)
    connection.close()


def _admin(port, path, method="GET"):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LONGEST_S)
    connection.request(method, path)
    said = connection.getresponse().read().decode()
    connection.close()
    return said


def _turn(farm, origin, builds, folder):
    path, port, admin = folder / "library.so", free_port(), free_port()
    shutil.copy(builds[GOOD], path)
    filters = [go_filter(path, "version", 0, isolation="PROCESS", hot_swap={"rollout": ROLLOUT})]
    config = farm.bootstrap("rollback", [http_listener("in", port, filters)], origin, admin=admin)
    server = farm.start("rollback", port, [SLUICE, "-c", config, "--concurrency", str(farm.workers)])
    answers, over = _Answers(), threading.Event()
    clients = [
        threading.Thread(target=_ask_on, args=(port, number, answers, over), daemon=True) for number in range(CLIENTS)
    ]
    for client in clients:
        client.start()
    shutil.copy(builds[BAD], folder / "new")
    os.rename(folder / "new", path)
    deadline = time.monotonic() + LONGEST_S
    while '"WITHDRAWN"' not in _admin(admin, "/extensions"):
        if time.monotonic() > deadline:
            raise RuntimeError("the bad version is not withdrawn")
        time.sleep(0.02)
    time.sleep(0.2)  # what had begun
    over.set()
    for client in clients:
        client.join()
    farm.stop(server)
    return (answers.last - answers.known) * 1000, answers.failed / answers.all


def rollbacks(farm, origin, turns):
    with tempfile.TemporaryDirectory(prefix="sluice-rollback-") as name:
        folder = pathlib.Path(name)
        builds = {version: build_version(folder, version) for version in (GOOD, BAD)}
        took, failed = zip(*(_turn(farm, origin, builds, folder) for _ in range(turns)), strict=True)
        return list(took), list(failed)
