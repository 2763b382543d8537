"""What check_parks.py makes of programs."""

import pathlib
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import check_parks

SWITCH = '__attribute__((noinline)) void rt_ctx_switch(void) { __asm__ volatile(""); }\n'
PARK = SWITCH + '__attribute__((noinline)) void park(void) { rt_ctx_switch(); __asm__ volatile(""); }\n'
MAIN = "int main(void) { f(); return 0; }\n"


class CheckParksTest(unittest.TestCase):
    def verdict(self, *sources):
        """Of a program of source files a.c, b.c, ..."""
        with tempfile.TemporaryDirectory() as folder:
            program = pathlib.Path(folder, "program")
            files = []
            for name, source in zip("abc", sources, strict=False):
                files.append(pathlib.Path(folder, f"{name}.c"))
                files[-1].write_text(source)
            subprocess.run(["cc", "-O2", *files, "-o", program], check=True)
            dump = check_parks.read_program(program)
            if not any("x86-64" in line for line in dump[:5]):
                self.skipTest("only the machine code of x86-64 is read")
            return [function for function, _, _ in check_parks.offenders(dump)]

    def test_errno_on_both_sides_of_a_park_offends(self):
        self.assertEqual(
            self.verdict(
                PARK
                + """
            #include <errno.h>
            __attribute__((noinline)) int f(void) { errno = 0; park(); return errno; }"""
                + MAIN
            ),
            ["f"],
        )

    def test_errno_in_a_function_of_its_own_does_not(self):
        self.assertEqual(
            self.verdict(
                PARK
                + """
            #include <errno.h>
            static __attribute__((noinline)) int error(void) { __asm__ volatile(""); return -errno; }
            __attribute__((noinline)) int f(void) { park(); return error(); }"""
                + MAIN
            ),
            [],
        )

    def test_inlining_makes_it_offend(self):
        self.assertEqual(
            self.verdict(
                PARK
                + """
            #include <errno.h>
            static int error(void) { return -errno; }
            __attribute__((noinline)) int f(void) { park(); return error(); }"""
                + MAIN
            ),
            ["f"],
        )

    def test_a_thread_local_offends(self):
        self.assertEqual(
            self.verdict(
                PARK
                + """
            _Thread_local int mine;
            __attribute__((noinline)) int f(void) { park(); return mine; }"""
                + MAIN
            ),
            ["f"],
        )

    def test_nobody_knows_where_a_pointer_leads(self):
        self.assertEqual(
            self.verdict(
                PARK
                + """
            _Thread_local int mine;
            void (*volatile hook)(void);
            __attribute__((noinline)) int f(void) { hook(); return mine; }
            void (*volatile use)(void) = park;"""
                + MAIN
            ),
            ["f"],
        )

    def test_static_functions_of_one_name_are_told_apart_by_their_files(self):
        """One parks, another one addresses errno: neither offends. Of two that do both, each is told of."""
        quiet = """
            #include <errno.h>
            static __attribute__((noinline)) void step(void) { errno = 1; __asm__ volatile(""); }
            void g(void) { step(); __asm__ volatile(""); }"""
        parks = """
            void g(void);
            static __attribute__((noinline)) void step(void) { park(); __asm__ volatile(""); }
            __attribute__((noinline)) int f(void) { step(); g(); return 0; }"""
        both = """
            #include <errno.h>
            void park(void);
            static __attribute__((noinline)) int step(void) { errno = 0; park(); return errno; }
            int g(void) { return step(); }"""
        self.assertEqual(self.verdict(PARK + parks + MAIN, quiet), [])
        self.assertEqual(self.verdict(PARK + parks + MAIN, both), ["step (b.c)"])

    def test_what_a_compiler_puts_apart_is_still_the_function(self):
        """Where it hardly ever comes, f addresses errno: that part lies elsewhere, by the name of f.cold."""
        self.assertEqual(
            self.verdict(
                PARK
                + """
            #include <errno.h>
            #include <stdlib.h>
            volatile int bad;
            __attribute__((noinline)) int f(void) {
                park();
                if (bad) { errno = 0; abort(); }
                return 0;
            }"""
                + MAIN
            ),
            ["f"],
        )

    def test_a_stripped_program_is_no_proof(self):
        with self.assertRaises(ValueError):
            check_parks.offenders(["x: file format elf64-x86-64", "0000000000001040 <main>:", "\tret"])


if __name__ == "__main__":
    unittest.main()
