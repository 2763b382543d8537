#!/usr/bin/env python3
"""Each rule about borrowed bytes flags its file in tests/static line by line, and lets the other one be.

In NAME_bad.c a line that ends in "/* finding */" must be found under the rule NAME, or under the rule
that the comment names ("/* finding: kept */"); every other line, and all of NAME_good.c, must not be."""

import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

try:
    import check_borrows
except ImportError as error:  # the wheel libclang is in requirements-lint.txt
    raise unittest.SkipTest(str(error)) from error

FILES = pathlib.Path(__file__).resolve().parent.parent / "tests" / "static"
MARK = re.compile(r"/\* finding(?:: (\w+)\b)?")


def found(path):
    return {(line, rule) for _, line, _, rule, *_ in check_borrows.check_file(str(path))}


def marked(path, rule):
    lines = path.read_text(encoding="utf-8").splitlines()
    marks = ((number, MARK.search(text)) for number, text in enumerate(lines, 1))
    return {(number, mark[1] if mark[1] in check_borrows.RULES else rule) for number, mark in marks if mark}


class EachRule(unittest.TestCase):
    def test_flags_every_marked_line_of_its_bad_file_and_no_other(self):
        for rule in check_borrows.RULES:
            with self.subTest(rule=rule):
                path = FILES / f"{rule}_bad.c"
                expected = marked(path, rule)
                self.assertTrue(expected)
                self.assertEqual(found(path), expected)

    def test_lets_its_good_file_be(self):
        for rule in check_borrows.RULES:
            with self.subTest(rule=rule):
                self.assertEqual(found(FILES / f"{rule}_good.c"), set())

    def test_has_its_row_in_the_table(self):
        table = (FILES.parent.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
        for rule, (severity, _) in check_borrows.RULES.items():
            self.assertRegex(table, rf"\| `{rule}` \|.*\| {severity} \|")


class TheChecker(unittest.TestCase):
    def run_it(self, text):
        with tempfile.TemporaryDirectory() as scratch:
            path = pathlib.Path(scratch) / "case.c"
            path.write_text('#include "base/span.h"\n' + text)
            return subprocess.run(
                [sys.executable, check_borrows.__file__, "--file", str(path)],
                capture_output=True,
                text=True,
                check=False,
            )

    def test_prints_place_severity_rule_and_remedy_and_fails(self):
        ran = self.run_it("struct span same(struct span s) {\n    return s;\n}\n")
        self.assertEqual(ran.returncode, 1)
        self.assertRegex(ran.stdout, r"^/.*/case\.c:3: error: returned: .*'s'.*; .*BORROWED_BY\(result\).*\n$")

    def test_names_the_holder_to_be_declared(self):
        ran = self.run_it("void put(struct span *to, struct span s) {\n    *to = s;\n}\n")
        self.assertIn("BORROWED_BY(to)", ran.stdout)

    def test_a_clean_file_passes_in_silence(self):
        ran = self.run_it("size_t len(struct span s) {\n    return s.len;\n}\n")
        self.assertEqual((ran.returncode, ran.stdout, ran.stderr), (0, "", ""))

    def test_a_file_that_cannot_be_read_fails(self):
        ran = self.run_it("struct span f(struct spam s) { return s; }\n")
        self.assertNotEqual(ran.returncode, 0)
        self.assertIn("cannot be read", ran.stderr)


if __name__ == "__main__":
    unittest.main()
