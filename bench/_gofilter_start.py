"""start_ms: from exec until /ready says LIVE, with 0, 1 and 5 Go libraries, all of them tried in processes of their
own first. What every other start waits for is the same: a configuration in one file, listeners on ports of the
kernel's choice.

    start_ms(binary, library) -> {0: [ms, ...], 1: [ms, ...], 5: [ms, ...]}

A library's own start is in it twice, once in the probe and once here. Turns go round, so that a slow moment of the
machine is everybody's."""

import contextlib
import http.client
import json
import pathlib
import subprocess
import tempfile
import time

from _gofilter_servers import go_filter
from _servers import http_listener, loopback

COUNTS = (0, 1, 5)
LONGEST_S = 60


def _config(libraries, plugin):
    filters = [go_filter(path, plugin, i, f"library-{i}") for i, path in enumerate(libraries)]
    return {
        "admin": {"address": loopback(0)},
        "static_resources": {"listeners": [http_listener("main", 0, filters, {"direct_response": {"status": 200}})]},
    }


def _is_ready(address_path):
    with contextlib.suppress(OSError, http.client.HTTPException):
        address = address_path.read_text()
        if address:
            host, _, port = address.rpartition(":")
            admin = http.client.HTTPConnection(host, int(port), timeout=5)
            admin.request("GET", "/ready")
            return admin.getresponse().read().startswith(b"LIVE")
    return False


def _start_once(binary, config_path, folder, flags):
    address_path = folder / "admin"
    address_path.unlink(missing_ok=True)
    began = time.monotonic()
    process = subprocess.Popen(
        [binary, "-c", config_path, "-l", "error", "--admin-address-path", address_path, *flags],
        stdin=subprocess.DEVNULL,
    )
    try:
        while not _is_ready(address_path):
            if process.poll() is not None:
                raise RuntimeError(f"the proxy ended with status {process.returncode}")
            if time.monotonic() - began > LONGEST_S:
                raise RuntimeError("the proxy is not ready")
            time.sleep(0.0005)
        return (time.monotonic() - began) * 1000
    finally:
        process.kill()
        process.wait()


def start_ms(binary, library, *, plugin="passthrough", turns=5, flags=()):
    """Milliseconds of each turn by number of libraries. Copies of `library` are libraries of their own to the loader,
    and for the probe, as each has another length; `plugin` is one that takes no configuration."""
    times = {count: [] for count in COUNTS}
    with tempfile.TemporaryDirectory(prefix="sluice-start-") as name:
        folder = pathlib.Path(name)
        copies = [folder / f"library-{i}.so" for i in range(max(COUNTS))]
        for i, copy in enumerate(copies):
            copy.write_bytes(pathlib.Path(library).read_bytes() + bytes(i))
        paths = {}
        for count in COUNTS:
            paths[count] = folder / f"config-{count}.yaml"
            paths[count].write_text(json.dumps(_config(copies[:count], plugin)))
        for turn in range(turns + 1):
            for count in COUNTS:
                took = _start_once(binary, paths[count], folder, flags)
                if turn:  # the first one reads files from the disk
                    times[count].append(took)
    return times
