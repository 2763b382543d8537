"""The benchmark itself: its figures are only as good as its being run."""

import json
import shutil
import subprocess
import sys

import pytest
from harness import ROOT

TOOLS = ("nginx", "haproxy", "wrk", "strace", "cc")


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
