"""The table of traps in docs/go-abi-notes.md names tests that exist, and that run."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def rows():
    section = (ROOT / "docs" / "go-abi-notes.md").read_text().partition("\n# Traps")[2]
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("|") and len(cells) == 3 and not set(cells[0]) <= set("-") and cells[0] != "trap":
            yield cells[0], re.findall(r"`(\w+)`", cells[2])


def test_each_trap_has_a_test():
    python = "".join(path.read_text() for path in (ROOT / "tests" / "e2e").glob("test_*.py"))
    c = "".join(path.read_text() for path in (ROOT / "tests" / "unit" / "ext").glob("test_*.c"))
    table = list(rows())
    assert len(table) > 20
    for trap, tests in table:
        assert tests, f"no test for: {trap}"
        for name in tests:
            there = f"def {name}(" in python or re.search(rf"cmocka_unit_test\(\s*{name}\)", c)
            assert there, f"{name} does not exist; for: {trap}"
