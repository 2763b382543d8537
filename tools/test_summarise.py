#!/usr/bin/env python3
"""The closing line of a test run counts what ran; nothing that went wrong is a success."""

import io
import pathlib
import tempfile
import unittest

import summarise

MIXED = """<testsuites><testsuite>
  <testcase classname="e2e" name="good"/>
  <testcase classname="e2e" name="bad"><failure message="no"/></testcase>
  <testcase classname="e2e" name="broken"><error message="no"/></testcase>
  <testcase classname="e2e" name="left out"><skipped/></testcase>
</testsuite></testsuites>"""
GOOD = "<testsuites><testcase name='one'/><testcase name='two'/></testsuites>"


class Summarise(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.folder = pathlib.Path(scratch.name)

    def run_with(self, *steps):
        lines = []
        for number, (status, text) in enumerate(steps):
            path = self.folder / f"{number}.xml"
            if text is not None:
                path.write_text(text)
            lines.append(f"step {number}\t{status}\t{path}\n")
        out = io.StringIO()
        code = summarise.summarise(lines, out)
        return code, out.getvalue().splitlines()[-1]

    def test_adds_up_the_steps(self):
        self.assertEqual(self.run_with((0, GOOD), (0, GOOD)), (0, "4 passed, 0 failed"))

    def test_failures_and_errors_both_fail(self):
        self.assertEqual(self.run_with((0, GOOD), (1, MIXED)), (1, "3 passed, 2 failed, 1 skipped"))

    def test_a_step_that_crashed_counts_as_a_failure(self):
        self.assertEqual(self.run_with((0, GOOD), (139, None)), (1, "2 passed, 1 failed"))
        self.assertEqual(self.run_with((0, GOOD), (2, GOOD)), (1, "4 passed, 1 failed"))

    def test_a_build_counts_only_when_it_fails(self):
        out = io.StringIO()
        self.assertEqual(summarise.summarise(["build\t1\t-\n"], out), 1)
        self.assertEqual(out.getvalue().splitlines()[-1], "0 passed, 1 failed")
        path = self.folder / "unit.xml"
        path.write_text(GOOD)
        out = io.StringIO()
        self.assertEqual(summarise.summarise(["build\t0\t-\n", f"unit\t0\t{path}\n"], out), 0)
        self.assertEqual(out.getvalue().splitlines()[-1], "2 passed, 0 failed")

    def test_half_a_file_counts_as_a_failure(self):
        self.assertEqual(self.run_with((0, GOOD), (1, GOOD[:40])), (1, "2 passed, 1 failed"))

    def test_a_step_that_ran_no_test_fails(self):
        self.assertEqual(self.run_with((0, "<testsuites/>")), (1, "0 passed, 1 failed"))
        self.assertEqual(self.run_with((5, "<testsuites/>")), (1, "0 passed, 1 failed"))


if __name__ == "__main__":
    unittest.main()
