"""What tests of isolated libraries share."""

import contextlib
import json
import os
import pathlib
import shutil

import kit
from go_support import Proxy, build, config_of, eventually

# Tests end the same process again and again.
ALWAYS = {"max_failures": 0, "base_interval": "0.02s", "max_interval": "0.1s"}


def isolated(library, plugin="basic", **more):
    return kit.go_filter(library, plugin, isolation="PROCESS", **{"restarts": ALWAYS, **more})


def extension_of(sluice):
    """What /extensions says of the one that there is."""
    (entry,) = json.loads(sluice.admin("/extensions"))["extensions"]
    return entry


def pid_when_up(sluice, restarts):
    entry = extension_of(sluice)
    return entry["state"] == "up" and entry["restarts"] == restarts and entry["pid"]


class Swapped:
    """A library in a file of its own, which is replaced: by the same plugins on another SDK, which the listener
    `report` tells. `listeners` makes them of the file's path."""

    def __init__(self, folder, name, listeners, sdk="1.33"):
        self.name, self.folder = name, folder
        self.path = folder / "library.so"
        self.put(sdk)
        self.sluice = Proxy(config_of(listeners(self.path)))

    def put(self, sdk):
        """Beside it first, then in its place, as installers do."""
        new = self.folder / "new"
        shutil.copy(build(self.name, sdk), new)
        new.rename(self.path)

    def put_and_wait(self, sdk):
        self.put(sdk)
        eventually(lambda: self.sdk() == sdk, what="the new file")

    def sdk(self):
        return kit.Reporter(self.sluice.port("report")).get()["sdk"]

    def shown(self):
        return extension_of(self.sluice)


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
