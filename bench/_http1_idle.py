"""Memory of a keep-alive connection that has done a request and now idles.

What is looked at is the anonymous and shared memory of the server's processes, each page divided by how
many of them have it (Pss of smaps_rollup): so the pages that nginx's master and worker share count
once, where Private_Dirty would miss them and then count both copies when one is written to. Pages of
files, the code, are left out: whether they are "private" depends on who else runs the same program.
Page tables are the kernel's, but as many as the server's use of addresses asks for: a line of their
own. What the kernel has for the sockets is the same for all.

Two figures. h1_idle_conn_bytes is the growth from no connection to so many, divided by them. What a server
sets aside at its start for as many as it is configured for is not in that: h1_idle_conn_whole_bytes
is the growth from the same server configured for few.
"""

import pathlib
import re
import time

from _load import http_asker, one_round
from _servers import CONNECTIONS, Farm, memory_kb, process_tree

STEADY_KB = 16  # at rest is who changed by no more for so many seconds
REST_S = 15


def _tables_kb(pid):
    texts = (pathlib.Path(f"/proc/{member}/status").read_text() for member in process_tree(pid))
    return sum(int(kb) for text in texts for kb in re.findall(r"^VmPTE:\s*(\d+) kB", text, re.MULTILINE))


def at_rest(server, steady_s):
    """Its memory in bytes and that of its page tables, once they have stopped changing."""
    deadline = time.monotonic() + REST_S
    reference, since = memory_kb(server.pid), time.monotonic()
    while time.monotonic() - since < steady_s:
        now = memory_kb(server.pid)
        if abs(now - reference) > STEADY_KB:
            reference, since = now, time.monotonic()
        if time.monotonic() > deadline:
            print(f"  {server.name}: the memory does not come to rest; what is told is a moment's")
            break
        time.sleep(0.1)
    return memory_kb(server.pid) * 1024, _tables_kb(server.pid) * 1024


def _warm_and_rest(farm, server, steady_s):
    one_round(farm, server, connections=1, requests=16)  # what is only set up by the first ones
    return at_rest(server, steady_s)


def idle_round(make, connections, steady_s):
    """{bytes, whole, tables} per connection of the server that make(farm) starts."""
    with Farm(clients=CONNECTIONS) as farm:
        few, _ = _warm_and_rest(farm, make(farm)(farm.origin()), steady_s)
    with Farm(clients=connections) as farm:
        server = make(farm)(farm.origin())
        before, tables_before = _warm_and_rest(farm, server, steady_s)
        with http_asker(farm, server, connections=connections, idle=1) as driver:
            after, tables_after = at_rest(server, steady_s)
            said = driver.go()
    if said["still_open"] != connections:
        raise RuntimeError(f"{server.name} closed {connections - said['still_open']} idle connections")
    return {
        "bytes": (after - before) / connections,
        "whole": (after - few) / connections,
        "tables": (tables_after - tables_before) / connections,
    }
