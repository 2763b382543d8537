"""What tests of isolated libraries share."""

import contextlib
import os
import pathlib

import kit

# Tests end the same process again and again.
ALWAYS = {"max_failures": 0, "base_interval": "0.02s", "max_interval": "0.1s"}


# The next process may take its time on a loaded machine.
PATIENT = "60s"


def isolated(library, plugin="basic", **more):
    patiently = {"restarts": ALWAYS, "seat_wait_timeout": PATIENT}
    return kit.go_filter(library, plugin, isolation="PROCESS", **{**patiently, **more})


def host_pids(sluice):
    """The proxy's host processes."""
    children = pathlib.Path(f"/proc/{sluice.process.pid}/task").glob("*/children")
    pids = [int(pid) for path in children for pid in read_proc(path).split()]
    return [pid for pid in pids if "--ext-host" in read_proc(pathlib.Path(f"/proc/{pid}/cmdline"))]


def kill_hosts(sluice):
    """Each that there is, at once. The spare may end by itself when it takes the place of the first."""
    for pid in host_pids(sluice):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, 9)


def read_proc(path):
    """Nothing of what is gone by now."""
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def is_alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
