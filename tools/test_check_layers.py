#!/usr/bin/env python3
"""The layer check lets good includes through and names each bad one."""

import pathlib
import tempfile
import unittest

import check_layers


class CheckLayers(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.src = pathlib.Path(scratch.name)
        self.write("base/span.h", "#pragma once\n")
        self.write("rt/rt.h", '#include <stdint.h>\n#include "base/span.h"\n')

    def write(self, name, text):
        path = self.src / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)

    def violations(self):
        return [line.removeprefix(f"{self.src}/") for line in check_layers.violations(self.src)]

    def test_a_layer_may_include_itself_and_those_before_it(self):
        self.write("io/pump.c", '#include "rt/rt.h"\n#include "io/pump.h"\n')
        self.write("io/pump.h", '#include "base/span.h"\n')
        self.write("main.c", '#include "io/pump.h"\n#include "options.h"\n')
        self.write("options.h", "")
        self.assertEqual(self.violations(), [])

    def test_an_include_of_a_later_layer_is_named_with_its_line(self):
        self.write("base/list.c", '#include <stddef.h>\n\n#  include "rt/rt.h"\n')
        self.assertEqual(self.violations(), ['base/list.c:3: base includes "rt/rt.h" of a later layer'])

    def test_an_include_without_its_layer_is_refused(self):
        self.write("rt/chan.c", '#include "rt.h"\n#include "../base/span.h"\n')
        self.assertEqual(len(self.violations()), 2)

    def test_no_layer_includes_what_stands_beside_main(self):
        self.write("options.h", "")
        self.write("rt/chan.c", '#include "options.h"\n')
        self.assertEqual(len(self.violations()), 1)

    def test_a_folder_that_is_no_layer_is_refused(self):
        self.write("utils/misc.c", "")
        self.assertEqual(len(self.violations()), 1)

    def test_an_include_of_a_file_that_is_not_there_is_refused(self):
        self.write("rt/chan.c", '#include "base/gone.h"\n')
        self.assertEqual(self.violations(), ["rt/chan.c:1: there is no src/base/gone.h"])


if __name__ == "__main__":
    unittest.main()
