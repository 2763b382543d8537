"""What we ship beside the binary, examples and man page, is true of it."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

from harness import Proxy, eventually

ROOT = pathlib.Path(__file__).resolve().parents[2]
SLUICE = os.environ.get("SLUICE_BIN", str(ROOT / "build" / "sluice"))


def test_the_demo_shows_the_filter_at_work_and_leaves_nothing_running():
    demo = subprocess.run(
        [sys.executable, ROOT / "examples" / "demo.py", "--once"],
        capture_output=True,
        text=True,
        timeout=280,
        env={**os.environ, "SLUICE_BIN": SLUICE},
    )
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert "+ x-demo-response: GET /hello" in demo.stdout


@pytest.mark.parametrize("config", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda at: at.name)
def test_the_configs_are_valid(config, tmp_path):
    if config.name == "tls.yaml":
        subprocess.run([ROOT / "examples" / "make-test-certs.sh", tmp_path / "certs"], check=True, timeout=60)
    command = [SLUICE, "--mode", "validate", "-c", config]
    validate = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert validate.returncode == 0, validate.stdout + validate.stderr


def test_the_files_of_the_discovery_example_are_followed_as_it_says(tmp_path, monkeypatch):
    """Its own commands are run, on ports that are free."""
    monkeypatch.chdir(tmp_path)
    for file in (ROOT / "examples" / "discovery").iterdir():
        free = re.sub(r"port_value: (9901|10000)", "port_value: 0", file.read_text())
        tmp_path.joinpath(file.name).write_text(free)
    bootstrap = tmp_path.joinpath("bootstrap.yaml").read_text()
    commands = re.findall(r"^# {3}(.*)", bootstrap, re.MULTILINE)
    change = next(command for command in commands if command.startswith("sed"))
    answers = [command.split("# ")[1] for command in commands if command.startswith("curl")]

    validate = subprocess.run([SLUICE, "--mode", "validate", "-c", "bootstrap.yaml"], timeout=60)
    assert validate.returncode == 0
    proxy = Proxy(bootstrap)
    assert proxy.get("/hello", listener="web").body.decode().strip() == answers[0]
    subprocess.run(change, shell=True, check=True, timeout=60)
    eventually(lambda: proxy.get("/hello", listener="web").body.decode().strip() == answers[1])
    assert proxy.stop() == 0


def test_the_man_page_names_the_flags_that_there_are():
    def flags(text):
        return set(re.findall(r"--[a-z][a-z-]+", text))

    def in_help(*verb):
        done = subprocess.run([SLUICE, *verb, "--help"], capture_output=True, text=True, timeout=60, check=True)
        return flags(done.stdout)

    page = flags((ROOT / "docs" / "sluice.1").read_text().replace("\\-", "-"))
    of_verbs = in_help("filter-test") - in_help()
    assert page - of_verbs - {"--allow-unknown-fields"} == in_help()  # a second name that help leaves out
