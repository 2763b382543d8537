"""The benchmarks themselves: their figures are only as good as their being run."""

import json
import shutil
import subprocess
import sys
from xml.etree import ElementTree

import pytest
from harness import ROOT, is_sanitized

TOOLS = ("nginx", "haproxy", "wrk", "strace", "cc")
RT_PINNED = ("switch", "spawn", "chan_same_p", "chan_unbuffered", "chan_buffered")
RT_CASES = (
    *RT_PINNED,
    "chan_cross_p",
    "select4",
    "mutex",
    "timer",
    "echo64",
    "foreign_call",
    "foreign_call_quick",
    "callback",
)
MEMORY_CASES = ("block_same_p", "block_cross_p", "handle_lookup")


@pytest.mark.skipif(
    not all(shutil.which(tool) for tool in TOOLS), reason="./dev bench installs the peers"
)
def test_a_quick_run_measures_every_server_and_says_what_it_costs(tmp_path):
    """One turn of a second each; what is not installed here, as Envoy may be, is left out."""
    output = tmp_path / "http1.json"
    command = [sys.executable, ROOT / "bench" / "http1.py", "--quick", "--small"]
    subprocess.run([*command, "--output", output], check=True, timeout=120)

    written = json.loads(output.read_text())
    assert written["bench"] == "http1"
    cost = {result["case"]: result for result in written["results"]}["h1_small_cpu_us"]
    assert cost["lower_is_better"]
    for server in ("sluice", "nginx", "haproxy", "bare"):
        figures = cost["values"][server]
        assert 0 < figures["min"] <= figures["median"] <= figures["max"]


def test_the_runtimes_bench_runs_every_case_on_both_sides(tmp_path):
    """A few operations of each, so that a case that hangs or breaks is found here; no figure is judged."""
    output = tmp_path / "rt.json"
    command = [sys.executable, ROOT / "bench" / "rt.py", "--quick", "--output", output]
    done = subprocess.run(command, check=True, timeout=240, stdout=subprocess.PIPE, text=True)

    written = json.loads(output.read_text())
    assert written["bench"] == "rt"
    assert set(RT_CASES) <= set(written["cases"])
    for name, case in written["cases"].items():
        assert 0 < case["aim"] <= 1, name
        assert name in done.stdout
        for who in ("sluice", "go"):
            assert case[who] >= 0, name  # so few operations may take no CPU time that is seen
            assert 0 < case["wall"][who]["min"] <= case["wall"][who]["max"], name
        assert ("sluice_pinned" in case) == (name in RT_PINNED), name
    for who in ("sluice", "go"):
        assert written["scaling"][who]["speedup"] > 0
        assert written["parked"]["1000"][who]["rss_bytes"]["median"] > 0
        for case in written["blocked"].values():
            assert 0 < case[who]["p50"]["median"] <= case[who]["max"]["median"]
    chart = ElementTree.parse(output.with_suffix(".svg")).getroot()
    labels = {text.text for text in chart.iter("{http://www.w3.org/2000/svg}text")}
    assert set(written["cases"]) <= labels


needs_malloc = pytest.mark.skipif(is_sanitized(), reason="the sanitizer has a malloc of its own")


@needs_malloc
def test_the_recyclers_bench_runs_the_same_program_with_and_without_it(tmp_path):
    """Two minutes of its clock, so that idle memory ages; only what must hold of any memory is judged."""
    output = tmp_path / "recycler.json"
    command = [sys.executable, ROOT / "bench" / "recycler.py", "--seconds", "120", "--output", output]
    subprocess.run(command, check=True, timeout=120)

    programs = json.loads(output.read_text())["programs"]
    assert set(programs) == {"go", "malloc", "channel", "recycler"}
    for name, found in programs.items():
        assert found["sys_per_byte_end"] >= 1, name
        rows = (tmp_path / f"recycler-{name}.csv").read_text().splitlines()
        assert rows[0] == "HeapSys,bytes,HeapAlloc,HeapIdle,HeapReleased,makes,frees,rss,grows,shrinks"
        assert len(rows) == 121
    for name in ("go", "malloc"):
        assert programs[name]["makes"] == 120
    for name in ("channel", "recycler"):
        assert programs[name]["makes"] < 60  # most were there already
    lines = ElementTree.parse(output.with_suffix(".svg")).getroot().iter("{http://www.w3.org/2000/svg}polyline")
    assert len(list(lines)) == 6 * len(programs)


@pytest.mark.skipif(
    not all(shutil.which(tool) for tool in TOOLS), reason="./dev bench installs the peers"
)
@needs_malloc
def test_the_memory_bench_runs_every_case(tmp_path):
    """A few operations and two turns of a second of requests; no figure is judged."""
    output = tmp_path / "memory.json"
    command = [sys.executable, ROOT / "bench" / "memory.py", "--quick", "--output", output]
    subprocess.run(command, check=True, timeout=120)

    cases = json.loads(output.read_text())["cases"]
    for name in ("malloc_pair", "malloc_mixed"):
        assert {"sluice", "sluice_off", "glibc"} <= set(cases[name]["values"])
    assert cases["malloc_pair"]["more_ns"]["min"] <= cases["malloc_pair"]["more_ns"]["max"]
    assert set(MEMORY_CASES) <= set(cases)
    overhead = cases["sampling_overhead"]
    assert set(overhead["values"]) == {"sluice", "off"}
    assert overhead["ratio"]["median"] > 0
