"""The tables of docs/go-abi-notes.md name tests that exist, and that run; and every function that a library may call
has one."""

import pathlib
import re

from harness import SLUICE

ROOT = pathlib.Path(__file__).resolve().parents[2]
PYTHON = "".join(path.read_text() for path in (ROOT / "tests" / "e2e").glob("test_*.py"))
C = "".join(path.read_text() for path in (ROOT / "tests" / "unit" / "ext").glob("test_*.c"))

# Functions that only the SDK's own code calls in tests: end to end, by these.
END_TO_END = {
    "envoyGoClusterSpecifierGetHeader": "test_the_plugin_names_the_cluster",
    "envoyGoClusterSpecifierLogError": "test_each_plugin_has_a_default",
    "envoyGoFilterGetFilterState": "test_filter_state_is_seen_by_others",
    "envoyGoFilterSetFilterState": "test_filter_state_is_seen_by_others",
    "envoyGoFilterUpstreamConnect": "test_a_proxy_in_go",
    "envoyGoFilterLogLevel": "test_the_page_is_true",
}


def is_there(name):
    return f"def {name}(" in PYTHON or re.search(rf"cmocka_unit_test\(\s*{name}\)", C)


def rows(title):
    """What it is about, and the tests, of each row of a section's table."""
    section = (ROOT / "docs" / "go-abi-notes.md").read_text().partition(f"\n# {title}")[2].partition("\n# ")[0]
    table = [line.strip().strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return [(cells[0].strip(), re.findall(r"`(\w+)`", cells[-1])) for cells in table[2:]]


def check(table):
    for what, tests in table:
        assert tests, f"no test for: {what}"
        for name in tests:
            assert is_there(name), f"{name} does not exist; for: {what}"


def test_each_trap_has_a_test():
    table = rows("Traps")
    assert len(table) > 30
    check(table)


def test_what_envoys_tests_leave_out_has_a_test():
    table = rows("What Envoy's own tests")
    assert len(table) > 15
    check(table)


def test_each_function_for_libraries_has_a_test():
    functions = re.findall(r"X\([\w *]+, (envoyGo\w+),", (ROOT / "src/ext/go/go_exports.h").read_text())
    assert len(functions) > 40
    for name in functions:
        assert name in C or is_there(END_TO_END[name]), f"nobody calls {name}"
    assert set(END_TO_END) <= set(functions)


def test_the_sdks_clean_up_is_not_called():
    """It forces a collection and waits for all finalizers: for Envoy's tests under ASan. Who does not know its name
    cannot find it in a library."""
    binary = pathlib.Path(SLUICE).read_bytes()
    assert b"envoyGoFilterOnHttpDestroy" in binary
    assert b"envoyGoFilterCleanUp" not in binary
