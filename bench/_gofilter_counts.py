"""What a request costs that does not depend on the machine: calls of Go, calls that Go makes, and what is copied
between the two. Sluice counts it (/stats, golang.plugin.*), not timed."""

import re
import time
import urllib.request

from _gofilter_servers import CASES
from _load import http_asker

# Name of ours: counters of a plugin that are added up.
COUNTERS = {
    "calls of Go": ("calls",),
    "calls by Go": ("crossings",),
    "header copies": ("header_copies",),
    "header bytes": ("header_bytes_to_go", "header_bytes_from_go"),
    "body bytes": ("body_bytes_to_go", "body_bytes_from_go"),
}
REQUESTS = 500
PATIENCE_S = 20


def _counters(port, plugin):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/stats", timeout=PATIENCE_S) as answer:
        text = answer.read().decode()
    found = dict(re.findall(rf"^golang\.plugin\.bench\.{plugin}\.(\S+): (\d+)$", text, re.MULTILINE))
    return {row: sum(int(found[name]) for name in names) for row, names in COUNTERS.items()}


def _settled(port, plugin):
    """Once nothing more is added: a request's counts are handed in when it has ended, which is after its answer."""
    deadline = time.monotonic() + PATIENCE_S
    before = None
    while (now := _counters(port, plugin)) != before:
        if time.monotonic() > deadline:
            raise RuntimeError(f"the counters of {plugin} do not come to rest")
        before = now
        time.sleep(0.05)
    return now


def per_request(lineup, name):
    """{counter: so many per request} of a case."""
    each = CASES[name]
    with http_asker(lineup.farm, lineup.servers["sluice"][name], each.path, post=each.post, requests=REQUESTS) as asker:
        before = _settled(lineup.admin, each.plugin)
        requests = asker.go()["requests"]
        after = _settled(lineup.admin, each.plugin)
    return {row: (after[row] - before[row]) / requests for row in COUNTERS}
