"""Heap profiles of before and after a spike, as they are asked for."""

import pytest
from harness import bootstrap, direct, listener, run
from test_admin import ask, status_of

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
    answer = ask(other, "/debug/heap/spikes")
    assert answer.status == 404
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
