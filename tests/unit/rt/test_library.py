#!/usr/bin/env python3
"""libsluice-rt.a as its users meet it: installed somewhere, found by pkg-config, compiled against with
nothing but that, and linked into programs with names of their own.

usage: test_library.py BUILD SOURCE run|compile NM OBJDUMP CC...
With "compile" programs are linked, not run: those of a cross compiler.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

BUILD, SOURCE, HOW, NM, OBJDUMP, *CC = sys.argv[1:]
sys.path.insert(0, str(Path(SOURCE, "tools")))
from runtime_library import defined_globals, public_symbols  # noqa: E402

EXAMPLES = Path(SOURCE, "examples", "rt")
WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"]
TIMEOUT_S = 180  # only a broken test waits for it

# Installed for the types in them; what they declare is not for users.
TYPES_ONLY = {"rt/spin.h", "rt/waiters.h"}

# Functions that may look at the thread's M. All others ask these, which are not inlined: see TlsTest.
READS_TLS_M = {"m_self", "p_self", "rt_now_ns", "m_main"}


def run(*command, **more):
    done = subprocess.run([str(word) for word in command], text=True, capture_output=True, timeout=TIMEOUT_S, **more)
    if done.returncode:
        raise AssertionError(f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def setUpModule():
    """One installation for all tests, and what pkg-config says of it."""
    global scratch, root, include, flags
    scratch = tempfile.TemporaryDirectory()
    root = Path(scratch.name, "root")
    run(
        sys.executable,
        "-m",
        "mesonbuild.mesonmain",
        "install",
        "-C",
        BUILD,
        "--no-rebuild",
        "--tags",
        "devel,man",
        "--destdir",
        root,
    )
    include = next(root.rglob("include/sluice-rt"))
    env = {
        **os.environ,
        "PKG_CONFIG_SYSROOT_DIR": str(root),
        "PKG_CONFIG_LIBDIR": str(next(root.rglob("sluice-rt.pc")).parent),
    }
    flags = run("pkg-config", "--cflags", "--libs", "--static", "sluice-rt", env=env).split()


def tearDownModule():
    scratch.cleanup()


def run_program(program):
    return run(program) if HOW == "run" else None


def headers():
    return sorted(path.relative_to(include).as_posix() for path in include.rglob("*.h"))


def declared():
    names = set()
    for header in set(headers()) - TYPES_ONLY:
        names |= public_symbols((include / header).read_text())
    return names


def compiled(source, *more):
    program = Path(scratch.name, Path(source).stem)
    run(*CC, *WARNINGS, *more, source, "-o", program, *flags)
    return program


class HeaderTest(unittest.TestCase):
    def test_each_header_compiles_alone(self):
        """In strict C11 too: what users include must not need our dialect. Only installed headers are
        in the path, so one that includes a private one fails here."""
        for header in headers():
            for standard in (["-std=c11", "-D_POSIX_C_SOURCE=200809L"], ["-std=gnu17"]):
                with self.subTest(header=header, standard=standard[0]):
                    source = Path(scratch.name, "alone.c")
                    source.write_text(f'#include "{header}"\n#include "{header}"\nint unused;\n')
                    run(*CC, *WARNINGS, *standard, "-I", include, "-fsyntax-only", source)

    def test_cplusplus_is_told_that_it_is_not_supported(self):
        source = Path(scratch.name, "plus.c")
        source.write_text('#include "rt/rt.h"\n')
        done = subprocess.run(
            [*CC, "-D__cplusplus=201703L", "-I", str(include), "-fsyntax-only", str(source)],
            text=True,
            capture_output=True,
            timeout=TIMEOUT_S,
        )
        self.assertIn("call it from a C file", done.stderr)


class SymbolTest(unittest.TestCase):
    def test_only_what_headers_declare_is_global(self):
        library = next(root.rglob("libsluice-rt.a"))
        self.assertEqual(defined_globals(NM, library), declared())

    def test_the_compiler_sees_the_same_declarations(self):
        """public_symbols is a few regular expressions; the compiler knows C."""
        if "Free Software Foundation" not in run(*CC, "--version"):
            self.skipTest("-aux-info is gcc's")
        source, info = Path(scratch.name, "all.c"), Path(scratch.name, "all.info")
        source.write_text("".join(f'#include "{header}"\n' for header in headers()))
        run(*CC, "-I", include, "-fsyntax-only", "-aux-info", info, source)
        seen, public = set(), {str(include / header) for header in set(headers()) - TYPES_ONLY}
        for line in info.read_text().splitlines():
            match = re.match(r"/\* (.*?):\d+:\w+ \*/ extern .*?(\w+) \(", line)
            if match and match.group(1) in public:
                seen.add(match.group(2))
        self.assertLessEqual(seen, declared())
        self.assertGreater(len(seen), 50)

    def test_a_program_may_use_our_internal_names(self):
        """A function named as one of ours, with another meaning, changes neither."""
        source = Path(scratch.name, "clash.c")
        source.write_text("""
            #include "rt/rt.h"
            int steal(void); int m_start(void); int g_new(void); int m_self; int log_rt; int stack_get;
            int steal(void) { return 1; }
            int m_start(void) { return 2; }
            int g_new(void) { return 3; }
            static void run(void *arg) { (void)arg; rt_stop(steal() + m_start() + g_new() + m_self); }
            int main(void) { return rt_run(&(struct rt_options){0}, run, 0) == 6 ? 0 : 1; }
        """)
        run_program(compiled(source))


class ExampleTest(unittest.TestCase):
    """Each with only what pkg-config says. They judge themselves by their exit status."""

    def run_example(self, name):
        return run_program(compiled(EXAMPLES / f"{name}.c", "-O2"))

    def test_all_are_tested(self):
        tested = {name[len("test_") :] for name in dir(self) if name.startswith("test_")}
        self.assertLessEqual({path.stem for path in EXAMPLES.glob("*.c")}, tested)

    def test_ping_pong(self):
        self.assertIn(self.run_example("ping_pong"), ("100000 returns\n", None))

    def test_blocking(self):
        self.assertIn("read !", self.run_example("blocking") or "read !")

    def test_pipeline(self):
        self.assertIn(self.run_example("pipeline"), ("1000 squares\n", None))

    def test_panic(self):
        self.assertIn("not a digit (recovered)", self.run_example("panic") or "not a digit (recovered)")

    def test_echo(self):
        program = compiled(EXAMPLES / "echo.c", "-O2")
        if HOW == "compile":
            return
        with subprocess.Popen([program], stdout=subprocess.PIPE, text=True) as server:
            try:
                port = int(server.stdout.readline().rsplit(":", 1)[1])
                clients = [socket.create_connection(("127.0.0.1", port), TIMEOUT_S) for _ in range(20)]
                sent = bytes(range(256)) * 4096  # more than the socket buffers hold
                for client in clients:
                    client.sendall(b"hello")
                for client in reversed(clients):
                    self.assertEqual(client.recv(5, socket.MSG_WAITALL), b"hello")
                for client in clients[1:]:
                    client.close()
                with clients[0] as client, client.dup() as writer:
                    child = os.fork()
                    if child == 0:  # to write while we read
                        writer.sendall(sent)
                        writer.shutdown(socket.SHUT_WR)
                        os._exit(0)
                    got = b"".join(iter(lambda: client.recv(1 << 16), b""))
                    os.waitpid(child, 0)
                    self.assertEqual(got, sent)
                server.send_signal(signal.SIGTERM)
                self.assertEqual(server.wait(TIMEOUT_S), 0)
            finally:
                server.kill()


class ManualTest(unittest.TestCase):
    def setUp(self):
        self.page = next(root.rglob("sluice-rt.7")).read_text()

    def test_its_example_is_complete(self):
        lines = self.page.split(".EX\n")[1].split(".EE\n")[0]
        source = Path(scratch.name, "manual.c")
        source.write_text(lines.replace("\\e", "\\").replace("\\-", "-"))
        self.assertIn(run_program(compiled(source)), ("100\n", None))

    def test_it_names_every_function(self):
        for_inline_functions = {name for name in declared() if name.endswith("_slowly")}
        self.assertFalse(declared() - for_inline_functions - set(re.findall(r"\w+", self.page)))


def functions(disassembly):
    """(name, its lines) of each function in objdump's output."""
    name, lines = None, []
    for line in disassembly.splitlines():
        if match := re.match(r"[0-9a-f]+ <(.*)>:$", line):
            if name:
                yield name, lines
            name, lines = match.group(1), []
        elif name:
            lines.append(line)
    if name:
        yield name, lines


class TlsTest(unittest.TestCase):
    """A coroutine may wake on another thread, and compilers keep the address of a thread-local over a
    call. So the one that matters, tls_m, is read by a few functions that are never inlined. What the
    compiler made of that is in the relocations of the archive.

    The archive is machine code, so link-time optimisation of a program that uses it sees nothing of
    this. In a build of our own it keeps to it too: noinline forbids inlining and the asm volatile in each of
    them forbids taking two calls for one. Cloning is not forbidden (that would take noipa), but a clone is
    a function of the same name, and reads the variable anew. What is true of all thread-locals, errno
    among them, is checked in the linked program by tools/check_parks.py."""

    def readers(self, path, variable):
        """Functions with a relocation to the variable. Compilers may name another symbol and a distance,
        so addresses are compared, not names."""
        symbols = re.findall(r"^(\w{16}) .{7} (\S+)\t(\w{16}) (?:\.\w+ )?(\S+)$", run(OBJDUMP, "-t", path), re.M)
        (address,) = (int(value, 16) for value, _, _, name in symbols if name == variable)
        found, section = set(), None
        for line in run("readelf", "-rW", path).splitlines():
            if match := re.match(r"Relocation section '\.rela(\S+)'", line):
                section = match.group(1)
            match = re.match(
                r"(\w{16}) +\w{16} R_\w+_(?:DTPOFF|TPOFF|TLSDESC|TLSLE|TPREL)\w* +(\w{16}) "
                r".* ([+-]) (\w+)$",
                line,
            )
            if match and section.startswith(".text"):
                place, value, sign, addend = match.groups()
                if int(value, 16) + int(sign + addend, 16) == address:
                    place = int(place, 16)
                    found |= {
                        name.split(".")[0]
                        for start, where, size, name in symbols
                        if where == section and 0 <= place - int(start, 16) < int(size, 16)
                    }
        return found

    def test_few_functions_read_it_in_the_library(self):
        self.assertEqual(self.readers(next(root.rglob("libsluice-rt.a")), "tls_m"), READS_TLS_M)

    def test_few_functions_read_it_in_the_proxy(self):
        program = Path(BUILD, "sluice")
        if not program.exists():
            self.skipTest("only the runtime is built here")
        if "x86-64" not in run(OBJDUMP, "-f", program):
            self.skipTest("thread-locals are found by the addressing of x86-64")
        symbols = [line.split() for line in run(NM, program).splitlines() if line.endswith(" tls_m")]
        self.assertEqual(len(symbols), 1)
        segment = re.search(r"\n  TLS .*", run("readelf", "-lW", program)).group().split()
        size, align = int(segment[5], 16), int(segment[-1], 16)
        # Variables lie below the thread pointer; either the offset is in the access to %fs, or %fs:0
        # was loaded before and the offset is in the next access, which is none to the frame.
        offset = (size + align - 1) // align * align - int(symbols[0][0], 16)
        address = re.compile(rf"%fs:0x{2**64 - offset:x}\b|-0x{offset:x}\((?!%r[bs]p)")
        readers = set()
        for name, lines in functions(run(OBJDUMP, "-d", "--no-show-raw-insn", program)):
            text = "\n".join(lines)
            if re.search(r"%fs:0x(0|ffff)", text) and address.search(text):
                readers.add(name.split(".")[0])
        self.assertEqual(readers, READS_TLS_M)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
