"""What was that spike: a library that has 10 MB all the time and makes a little noise all the time takes 10 MB
more now and then. Two heap profiles are written by themselves, and their difference names who it was."""

import pathlib
import re
import stat
import subprocess
import threading

import pytest
from go_support import Proxy, config_of, go_listener, kit, stop
from harness import bootstrap, direct, eventually, is_sanitized, listener, run
from test_admin import ask, status_of
from test_profiles import GO, Profile

from build import build

pytest_plugins = ["go_fixtures"]

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
MB = 1000 * 1000
CYCLES = 10  # the average, and the warm-up
NAME = r"heap-\d{8}T\d{6}\.\d{3}Z-(before|after)\.pb\.gz"

of_malloc = pytest.mark.skipif(is_sanitized(), reason="a sanitizer's malloc is not sampled")


class Noise:
    """Requests for /rand until the block ends."""

    def __init__(self, sluice):
        self.sluice, self.count, self.over = sluice, 0, threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        with self.sluice.connect("main") as client:
            while not self.over.is_set():
                assert client.ask("GET", "/rand").status == 200
                self.count += 1

    def __enter__(self):
        self.thread.start()
        eventually(lambda: self.count > 10)
        return self

    def __exit__(self, *exc):
        self.over.set()
        self.thread.join(60)


def close_cycles(sluice, count=1):
    """By asking for a profile of nothing, which takes little memory itself."""
    for _ in range(count):
        assert status_of(sluice, "/debug/pprof/heap?gc=1&min_age=24h&debug=1") == 200


def pairs_of(sluice):
    return ask(sluice, "/debug/heap/spikes?format=json").json()["pairs"]


@pytest.fixture
def start(tmp_path):
    """start(rule) gives a proxy that captures spikes in tmp_path / "spikes"."""
    made = []

    def make(rule, rate=16384):
        flags = ["--heap-spike-dir", str(tmp_path / "spikes"), "--heap-spike", rule]
        flags += ["--heap-profile-rate", str(rate)]
        config = config_of([go_listener("main", [kit.go_filter(build("heap"), "heap")])])
        made.append(Proxy(config, flags=flags))
        assert made[-1].get("/rand", listener="main").status == 200
        return made[-1]

    yield make
    for one in made:
        if one.alive():
            stop(one)


def bytes_of(profile, *flags):
    """{function: bytes of its own}, of what is in use."""
    found = {}
    flags = ["-top", "-nodecount=10000", "-nodefraction=0", "-unit=B", *flags]
    for line in profile.ask(*flags).splitlines():
        row = re.fullmatch(r" *(-?\d+)B? +\S+% +\S+% +-?\d+B? +\S+% +(\S+)(?: \(inline\))?", line)
        if row:
            found[row[2]] = int(row[1])
    return found


def download(sluice, name, folder):
    body = ask(sluice, f"/debug/heap/spikes?file={name}", read=lambda reply: reply.read())
    return Profile.of_bytes(body, folder / name)


def share_of_spike(sluice, pair, folder):
    before = download(sluice, pair["before"], folder)
    after = download(sluice, pair["after"], folder)
    assert before.ask("-comments") == after.ask("-comments")
    assert bytes_of(before)["heap_hold"] > 9 * MB
    assert "heap_spike" not in bytes_of(before)
    rose = bytes_of(after, "-base", str(before.path))
    assert rose["heap_spike"] > 9 * MB
    return rose["heap_spike"] / sum(abs(value) for value in rose.values()), rose


@of_malloc
def test_the_difference_of_both_profiles_names_the_spike_and_nothing_else(start, tmp_path):
    sluice = start("min=10MiB,diff=10%,cooldown=0s")
    with Noise(sluice):
        close_cycles(sluice, 2 * CYCLES)
        assert pairs_of(sluice) == []
        for number in (1, 2):
            assert sluice.get("/spike", listener="main").status == 200
            close_cycles(sluice)
            [pair, *others] = pairs_of(sluice)
            assert len(others) == number - 1, sluice.log()[-6000:]
            share, rose = share_of_spike(sluice, pair, tmp_path)
            assert share >= 0.95, rose
            # It is held for a while, and then it is not: none of both is a spike.
            close_cycles(sluice, 2)
            assert sluice.get("/release", listener="main").status == 200
            close_cycles(sluice, CYCLES)
            assert len(pairs_of(sluice)) == number, sluice.log()[-6000:]
    assert sluice.stat("heap.spikes") == 2
    assert sluice.stat("heap.spike_profiles_written") == 2 * 2
    assert sluice.stat("heap.spike_write_errors") == 0


@of_malloc
def test_operators_are_told_what_to_do(start, tmp_path):
    sluice = start("min=10MiB,diff=10%,cooldown=1h,abs=off")
    with Noise(sluice):
        close_cycles(sluice, CYCLES)
        assert sluice.get("/spike", listener="main").status == 200
        close_cycles(sluice)
    [pair] = pairs_of(sluice)
    # The line of the log has both names and a command to paste, which the page has as well.
    [line] = [line for line in sluice.log().splitlines() if "heap spike: " in line]
    assert re.search(r"live memory rose from \d+\.\d MiB to \d+\.\d MiB in cycle \d+", line)
    assert line.endswith(pair["command"])
    assert pair["before"] in line
    assert pair["after"] in line
    page = ask(sluice, "/debug/heap/spikes")
    assert page.headers["content-type"].startswith("text/html")
    assert f"<code>{pair['command']}</code>" in page.body
    assert set(re.findall(r'href="/debug/heap/spikes\?file=([^"]+)"', page.body)) == {
        pair["before"],
        pair["after"],
    }
    command = pair["command"].split()
    assert command[:4] == ["go", "tool", "pprof", "-base"]
    top = subprocess.run(
        [GO, "tool", "pprof", "-top", *command[3:]], capture_output=True, text=True, timeout=280, check=True
    )
    assert "heap_spike" in top.stdout
    # On the disk: two files, for us only.
    folder = tmp_path / "spikes"
    files = sorted(path.name for path in folder.iterdir())
    assert files == sorted([pair["before"], pair["after"]])
    assert all(re.fullmatch(NAME, name) for name in files)
    assert {stat.S_IMODE((folder / name).stat().st_mode) for name in files} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@of_malloc
def test_garbage_is_a_spike_when_asked(start, tmp_path):
    """Taken and given back within a cycle: nothing of it is in use when that closes."""
    sluice = start("min=1GiB,garbage=5MiB,diff=100%,cooldown=1h")
    close_cycles(sluice, CYCLES)
    assert pairs_of(sluice) == []
    for path in ("/spike", "/release", "/spike", "/release", "/spike", "/release"):
        assert sluice.get(path, listener="main").status == 200
    close_cycles(sluice)
    [pair] = pairs_of(sluice)
    before = download(sluice, pair["before"], tmp_path)
    after = download(sluice, pair["after"], tmp_path)
    rose = bytes_of(after, "-base", str(before.path))  # the files say themselves what is to be shown
    assert rose["heap_spike"] > 27 * MB
    assert rose["heap_spike"] == max(rose.values())


@of_malloc
def test_a_folder_that_goes_bad_costs_a_line_and_a_count(start, tmp_path):
    sluice = start("min=10MiB,diff=10%,cooldown=0s")
    close_cycles(sluice, CYCLES)
    folder = tmp_path / "spikes"
    folder.rmdir()
    folder.write_text("in the way")
    assert sluice.get("/spike", listener="main").status == 200
    close_cycles(sluice)
    sluice.wait_for_log("(--heap-spike-dir)")
    assert sluice.stat("heap.spike_write_errors") == 1
    assert sluice.stat("heap.spike_profiles_written") == 0
    assert ask(sluice, "/debug/heap/spikes").status == 503
    assert sluice.get("/rand", listener="main").status == 200  # traffic has not noticed


# ---- Asking for it ----


@pytest.fixture
def idle(proxy, tmp_path):
    """One that has captured nothing."""
    flags = ["--heap-spike-dir", str(tmp_path / "it's <here>")]
    return proxy([listener("edge", [direct(200, "hi")])], flags=flags)


def test_there_may_have_been_none(idle, tmp_path):
    page = ask(idle, "/debug/heap/spikes")
    assert page.status == 200
    assert "No spike so far." in page.body
    assert "it's &lt;here>" in page.body
    listed = ask(idle, "/debug/heap/spikes?format=json").json()
    assert listed == {"dir": str(tmp_path / "it's <here>"), "pairs": []}
    assert idle.stat("heap.spikes") == 0
    assert "heap.spike_write_errors: 0" in idle.admin("/stats")


@pytest.mark.parametrize("name", ["", "x", "../log", "%2Fetc%2Fpasswd", "..%2f..%2fetc%2fpasswd"])
def test_only_files_of_pairs_are_given_out(idle, name):
    assert status_of(idle, f"/debug/heap/spikes?file={name}") == 400


def test_what_is_not_there_and_what_makes_no_sense(idle, proxy):
    absent = "heap-20200101T000000.000Z-before.pb.gz"
    assert status_of(idle, f"/debug/heap/spikes?file={absent}") == 404
    assert status_of(idle, "/debug/heap/spikes?format=xml") == 400
    other = proxy([listener("edge", [direct(200, "hi")])])
    for path, status in (("", 200), ("?format=json", 404), (f"?file={absent}", 404)):
        answer = ask(other, f"/debug/heap/spikes{path}")
        assert answer.status == status
        assert "--heap-spike-dir" in answer.body


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--heap-spike", "min=5"], "--heap-spike 'min=5': min must be a size, as in min=64MiB"),
        (["--heap-spike", "diff=900%"], "diff must be from 1% to 899%"),
        (["--heap-spike", "max=1GiB"], "must be a list of min=SIZE"),
        (["--heap-spike", "min=1GiB"], "does nothing without --heap-spike-dir DIR"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(flags, said):
    done = run(*flags, config=bootstrap([listener("edge", [direct(200, "hi")])]))
    assert done.returncode == 1
    assert said in done.stderr


def test_a_folder_that_cannot_be_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    config = bootstrap([listener("edge", [direct(200, "hi")])])
    done = run("--heap-spike-dir", str(tmp_path / "file"), config=config)
    assert done.returncode == 1
    assert "Not a directory: name a folder that this user may write to" in done.stderr


def test_without_samples_there_is_a_warning(proxy, tmp_path):
    flags = ["--heap-spike-dir", str(tmp_path / "spikes"), "--heap-profile-rate", "0"]
    edge = proxy([listener("edge", [direct(200, "hi")])], flags=flags)
    assert "nothing is sampled, so no spike is seen; set --heap-profile-rate" in edge.log()


def test_the_manuals_have_the_rule_that_is_built_in():
    [rule] = re.findall(r"min=\S+disk=\S+", run("--help").stdout)
    assert rule in (ROOT / "docs" / "sluice.1").read_text()
    table = (ROOT / "docs" / "memory.md").read_text()
    values = dict(item.split("=") for item in rule.split(","))
    pairs, disk = values.pop("pairs"), values.pop("disk")
    assert f"| `pairs`, `disk` | `{pairs}`, `{disk}` |" in table
    for key, value in values.items():
        assert f"| `{key}` | `{value}` |" in table
