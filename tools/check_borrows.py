#!/usr/bin/env python3
"""Checks that borrowed bytes are given back: what src/ does with spans and with addresses of locals.

usage: check_borrows.py BUILD            every C file under src/ that BUILD/compile_commands.json names
       check_borrows.py --file FILE...   these files, as if they stood beside src/

A struct span borrows until the call it was passed to returns, unless the parameter is marked
BORROWED_BY(holder) (base/check.h): the rules are listed in RULES, and in CONTRIBUTING.md. Each finding
is one line "file:line: severity: rule: what is wrong; what would be right", and exit status 1.
`/* borrow-ok: why */` on its line, or ending on the line above, takes a finding back.
"""

import concurrent.futures
import functools
import glob
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys

from borrow_roots import Contracts, Function
from c_ast import forget_records
from clang import cindex
from clang.cindex import CursorKind as K

ROOT = pathlib.Path(__file__).resolve().parent.parent

# rule: (severity, what is right instead)
RULES = {
    "kept": ("error", "copy the bytes, or mark the parameter BORROWED_BY({holder})"),
    "coroutine": ("error", "give it memory that it owns, or say who waits for it"),
    "returned": ("error", "return bytes of the caller, or mark the parameter BORROWED_BY(result)"),
    "length": ("warning", "take the length from the pointer's owner"),
    "overlong": ("error", "end where the storage ends"),
    "appended": ("error", "make a new span of storage that has the bytes, or copy them"),
    "written": ("error", "keep the writable pointer beside the span, and write through that"),
}


EXCUSE = re.compile(r"/\* borrow-ok: \w")


class Checker:
    def __init__(self, folder):
        self.folder = folder
        self.findings = set()
        self.lines = {}

    def excused(self, path, line):
        lines = self.lines.get(path)
        if lines is None:
            lines = self.lines[path] = pathlib.Path(path).read_text(encoding="utf-8").splitlines()
        if EXCUSE.search(lines[line - 1]):
            return True
        # A comment above may run over several lines; it ends on the last of them.
        at = line - 2
        if at < 0 or not lines[at].endswith("*/"):
            return False
        while at > 0 and "/*" not in lines[at]:
            at -= 1
        return lines[at].lstrip().startswith("/*") and bool(EXCUSE.search(" ".join(lines[at : line - 1])))

    def report(self, cursor, rule, wrong, right=None, holder="holder"):
        path = cursor.location.file.name
        path = os.path.normpath(os.path.join(self.folder, path))
        line = cursor.location.line
        if not self.excused(path, line):
            severity, remedy = RULES[rule]
            shown = os.path.relpath(path, ROOT) if pathlib.Path(path).is_relative_to(ROOT) else path
            self.findings.add((shown, line, severity, rule, wrong, right or remedy.format(holder=holder)))

    def unit(self, path, arguments):
        unit = cindex.Index.create().parse(path, args=arguments)
        errors = [str(d) for d in unit.diagnostics if d.severity >= cindex.Diagnostic.Error]
        if errors:
            raise SystemExit(f"{path} cannot be read:\n" + "\n".join(errors[:5]))
        forget_records()
        contracts = Contracts(unit)
        functions = [
            c
            for c in unit.cursor.get_children()
            if c.kind == K.FUNCTION_DECL and c.is_definition() and not c.location.is_in_system_header
        ]
        before = None
        while before != (before := contracts.state()):
            self.findings.clear()
            for function in functions:
                Function(function, contracts, self.report).run()
        return self.findings


@functools.cache
def compiler_headers():
    """clang's own, for the wheel has none; of gcc's, those without built-ins serve as well."""
    versions = glob.glob("/usr/lib/llvm-*/lib/clang/*/include")
    if versions:
        return max(versions, key=lambda p: int(p.split("llvm-")[1].split("/")[0]))
    asked = subprocess.run(["cc", "-print-file-name=include"], capture_output=True, text=True, check=True)
    return asked.stdout.strip()


def flags(words):
    """Of a compile command, what decides how the file reads. Vector intrinsics are tied to one version of
    clang: the portable code beside them is read instead."""
    kept = [w for w in words if w.startswith(("-I", "-D", "-U", "-std"))]
    return [*kept, "-U__SSE2__", "-ferror-limit=0", "-w", "-isystem", compiler_headers()]


def check_file(path):
    arguments = flags(["-std=gnu17", f"-I{ROOT / 'src'}", "-D_GNU_SOURCE"])
    return Checker(os.getcwd()).unit(path, arguments)


def check_entry(entry):
    arguments = flags(shlex.split(entry["command"])) + ["-working-directory", entry["directory"]]
    return Checker(entry["directory"]).unit(os.path.join(entry["directory"], entry["file"]), arguments)


def entries(build):
    """One compile command for each C file of src/."""
    database = json.loads((pathlib.Path(build) / "compile_commands.json").read_text())
    found = {}
    for entry in database:
        path = os.path.normpath(os.path.join(entry["directory"], entry["file"]))
        if path.startswith(f"{ROOT}/src/") and path.endswith(".c"):
            found.setdefault(path, entry)
    if not found:
        raise SystemExit(f"{build}/compile_commands.json names no file of src/")
    return list(found.values())


def main(arguments):
    if arguments[:1] == ["--file"]:
        results = map(check_file, arguments[1:])
    elif len(arguments) == 1:
        with concurrent.futures.ProcessPoolExecutor(os.cpu_count()) as pool:
            results = list(pool.map(check_entry, entries(arguments[0]), chunksize=8))
    else:
        raise SystemExit(__doc__.split("\n\n")[1])
    findings = sorted(set().union(*results))
    for path, line, severity, rule, wrong, right in findings:
        print(f"{path}:{line}: {severity}: {rule}: {wrong}; {right}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
