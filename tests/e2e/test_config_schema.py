"""The schema tables against the descriptors of Envoy's API, by tests/schema-go."""

import json
import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SLUICE = os.environ.get("SLUICE_BIN", str(ROOT / "build" / "sluice"))


def test_tables_say_what_envoys_descriptors_say(tmp_path):
    """Names, numbers, types and enums are Envoy's, and no field of Envoy's is forgotten."""
    schema = tmp_path / "schema.json"
    with schema.open("w") as out:
        subprocess.run([SLUICE, "--print-config-schema"], stdout=out, check=True, timeout=60)
    assert len(json.loads(schema.read_text())["messages"]) > 40

    checked = subprocess.run(
        ["go", "test", "-count=1", "-v", "./..."],
        cwd=ROOT / "tests" / "schema-go",
        env={**os.environ, "SLUICE_SCHEMA_JSON": str(schema)},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "--- SKIP" not in checked.stdout
    assert checked.stdout.count("--- PASS") == 3


def test_committed_docs_are_what_the_binary_prints():
    """docs/config.md is generated, so it cannot go stale."""
    printed = subprocess.run([SLUICE, "--print-config-docs"], capture_output=True, text=True, timeout=60, check=True)
    assert printed.stdout == (ROOT / "docs" / "config.md").read_text()
