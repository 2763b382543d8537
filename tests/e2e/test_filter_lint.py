"""tools/filter-lint, as the author of a filter runs it."""

import pathlib
import subprocess

import pytest
from build import EXAMPLES, go_command

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOL = ROOT / "tools" / "filter-lint"


@pytest.fixture(scope="module")
def lint(tmp_path_factory):
    program = tmp_path_factory.mktemp("lint") / "filter-lint"
    subprocess.run([go_command(), "build", "-o", program, "."], cwd=TOOL, check=True, timeout=300)
    return program


def run(*command, cwd):
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)
    return done.returncode, done.stdout + done.stderr


def test_what_it_finds_and_what_it_leaves_alone():
    """Stands beside the lines of its testdata."""
    assert run(go_command(), "test", "./...", cwd=TOOL)[0] == 0


@pytest.mark.parametrize("module", [EXAMPLES, ROOT / "examples" / "go-filter"], ids=lambda at: at.name)
def test_the_examples_are_clean(lint, module):
    assert run(lint, "./...", cwd=module) == (0, "")


def test_go_vet_takes_it_as_its_tool(lint):
    assert run(go_command(), "vet", f"-vettool={lint}", "./...", cwd=ROOT / "examples" / "go-filter")[0] == 0


def test_a_filter_with_a_fault_fails(lint, tmp_path):
    """The five filters' own module, one line the worse."""
    for path in [*EXAMPLES.glob("go.*"), *EXAMPLES.rglob("*.go")]:
        copy = tmp_path / path.relative_to(EXAMPLES)
        copy.parent.mkdir(exist_ok=True)
        copy.write_text(path.read_text().replace("\tdefer callbacks.RecoverPanic()\n", ""))
    status, said = run(lint, "./authcall", cwd=tmp_path)
    assert status != 0
    assert "authcall.go" in said and "has no defer callbacks.RecoverPanic()" in said
