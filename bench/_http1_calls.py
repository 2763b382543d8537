"""System calls and calls of the allocator per request, counted between two readings while the connections
of the driver are open: none of them is of the opening."""

import os
import pathlib
import re
import signal
import struct
import subprocess
import time

from _load import WARM_UP_REQUESTS, http_asker, one_round
from _servers import compiled, process_tree

ATTACH_S = 20


def _tasks(pid):
    """{thread: its tracer, 0 for none} of a process tree."""
    found = {}
    for member in process_tree(pid):
        for task in pathlib.Path(f"/proc/{member}/task").iterdir():
            try:
                status = (task / "status").read_text()
            except OSError:
                continue  # it has ended meanwhile
            found[task.name] = int(re.search(r"TracerPid:\s*(\d+)", status).group(1))
    return found


def _attach(server):
    """An strace that has every thread of the server, or None where tracing is forbidden."""
    pids = [argument for pid in process_tree(server.pid) for argument in ("-p", str(pid))]
    tracer = subprocess.Popen(["strace", "-c", "-f", "-q", *pids], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + ATTACH_S
    while not all(_tasks(server.pid).values()):
        if tracer.poll() is not None or time.monotonic() > deadline:
            tracer.kill()
            tracer.communicate()
            return None
        time.sleep(0.01)
    return tracer


def trace(server, asker, done):
    """{system call: calls per unit} of a server while the asker asks, done(what it says) being the units; None where
    tracing is forbidden."""
    with asker:
        tracer = _attach(server)
        if not tracer:
            return None
        said = asker.go()
        tracer.send_signal(signal.SIGINT)
        table = tracer.communicate(timeout=30)[1]
    calls = {}
    for line in table.splitlines():
        fields = line.split()
        if len(fields) >= 5 and re.fullmatch(r"[\d.]+", fields[0]) and fields[-1] != "total":
            calls[fields[-1]] = int(fields[3]) / done(said)
    return calls


def allocations(farm, origin, make, requests):
    """Allocator calls per request of a server of its own, which make starts, with a counting allocator."""
    counter = farm.dir / "allocations"
    counter.write_bytes(bytes(8))
    # A sampled allocation of Sluice's goes past the counter; without the sampler there are none.
    env = {
        "LD_PRELOAD": compiled("count_malloc.c", "-shared", "-fPIC"),
        "ALLOCATION_COUNTER": str(counter),
        "SLUICE_HEAP_PROFILE_RATE": "0",
    }

    def count():
        return struct.unpack("Q", counter.read_bytes())[0]

    server = make(origin, env=env)
    try:
        one_round(farm, server, requests=WARM_UP_REQUESTS)
        if count() == 0:
            raise RuntimeError(f"{server.name} has an allocator that count_malloc.c does not see")
        with http_asker(farm, server, requests=requests) as driver:
            before = count()
            said = driver.go()
            return (count() - before) / said["requests"]
    finally:
        farm.stop(server)
        os.unlink(counter)
