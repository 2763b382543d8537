#!/usr/bin/env python3
"""Checks in a linked program that no function that may park keeps the address of a thread-local.

usage: check_parks.py PROGRAM

A coroutine may wake on another thread than the one it parked on. Compilers take the address of a
thread-local, errno among them, for a constant of the function and keep it over calls. So a function
that parks must mention neither; those that do are kept out of it by NOINLINE. The sources follow that
rule, but inlining, most of all at link time, decides what a function is in the end. So this looks
at the machine code: a function offends that calls __errno_location or addresses %fs, and from which
the switch of coroutines can be reached by direct calls, or that calls through a pointer (of which
nobody knows where it leads). Exit status 1 and a line for each. Only x86-64 is read; other programs pass.
"""

import collections
import re
import subprocess
import sys

SWITCH = "rt_ctx_switch"
CANARY = "0x28"  # of the stack protector: read anew each time

# Those that may, and why nothing can go wrong in them.
ALLOWED = {
    "m_main": "a thread's own loop, which stays on its thread",
    "create_filter": "of the host process, which has no coroutines",
    "ext_host_main": "of the host process, which has no coroutines",
    "seat_main": "of the host process, which has no coroutines",
    "main": "no coroutine: the first thread's, and stays there",
    "allocate_due": "of malloc, whose hooks do not park",
    "move": "of malloc, whose hooks do not park",
    "realloc": "of malloc, whose hooks do not park",
    "on_sigurg": "a signal handler; the handlers that it calls do not park",
    "go_config_parse": "foreign code, called on the thread's own stack",
    "parse": "foreign code, called on the thread's own stack",
    "prepare": "of supervisors' threads, and of configurations, which are built off the Ps",
}

SYMBOL = re.compile(r"([0-9a-f]+) (.{7}) \S+\t[0-9a-f]+\s+(?:\.\w+ )?(.+)$")
FUNCTION = re.compile(r"([0-9a-f]+) <([^>]*)>:$")
DIRECT = re.compile(r"\t(?:call|j\w+)\s+([0-9a-f]+) <([^>+@]+)(@plt)?(?:\+0x([0-9a-f]+))?>$")
INDIRECT = re.compile(r"\tcall\s+\*")
SEGMENT = re.compile(r"%fs:(0x[0-9a-f]+)?")
COLD = ".cold"


def base_name(symbol):
    """Clones of a function (f.constprop.0) are allowed what that is."""
    return symbol.partition(".")[0]


class Names:
    """What is called what. Files have static functions of the same names, so a function is its address; the
    table of symbols has those of a file behind the file's name."""

    def __init__(self):
        self.file = None, ""  # a number of its own, since files of several folders share a name
        self.functions = {}  # address: name
        self.files = {}  # address: of a static function, its file's name
        self.addresses = {}  # (the file's number, or None of a global one; name): address
        self.cold = []  # (address, the file's number, name of whose part it is)

    def add(self, address, flags, name):
        if flags.endswith("f"):
            self.file = len(self.addresses), name
        elif flags.endswith("F"):
            number = self.file[0] if flags.startswith("l") else None
            self.functions[address] = name
            self.addresses[number, name] = address
            if number is not None:
                self.files[address] = self.file[1]
            if name.endswith(COLD):
                self.cold.append((address, self.file[0], name.removesuffix(COLD)))

    def parts(self):
        """{address of what a compiler has put apart: that of the function it is of}"""
        found = {}
        for address, number, name in self.cold:
            whole = self.addresses.get((number, name), self.addresses.get((None, name)))
            if whole is not None:
                found[address] = whole
        return found

    def describe(self, address):
        name = base_name(self.functions.get(address, "?"))
        return f"{name} ({self.files[address]})" if address in self.files else name


def read_functions(lines):
    """(names, {function: those it calls}, {functions that call through pointers}, {function: what it addresses})"""
    names = Names()
    calls = collections.defaultdict(set)
    through_pointers = set()
    addresses = collections.defaultdict(set)
    parts = None
    here = None
    for line in lines:
        if match := FUNCTION.match(line):
            if parts is None:  # the table of symbols comes before
                parts = names.parts()
            here = int(match.group(1), 16)
            names.functions.setdefault(here, match.group(2))
            here = parts.get(here, here)
        elif here is None:
            if match := SYMBOL.match(line):
                names.add(int(match.group(1), 16), match.group(2), match.group(3))
        elif match := DIRECT.search(line):
            callee = int(match.group(1), 16) - int(match.group(4) or "0", 16)
            callee = parts.get(callee, callee)
            if match.group(2) == "__errno_location":
                addresses[here].add("errno")
            elif callee != here:
                calls[here].add(callee)
        elif INDIRECT.search(line):
            through_pointers.add(here)
        if here and (match := SEGMENT.search(line)) and match.group(1) != CANARY:
            addresses[here].add(match.group(0))
    return names, calls, through_pointers, addresses


def that_reach(targets, calls):
    callers = collections.defaultdict(set)
    for function, callees in calls.items():
        for callee in callees:
            callers[callee].add(function)
    found, todo = set(), list(targets)
    while todo:
        for caller in callers[todo.pop()] - found:
            found.add(caller)
            todo.append(caller)
    return found


def offenders(lines):
    """[(function, what it addresses, how it may park)]"""
    names, calls, through_pointers, addresses = read_functions(lines)
    switches = {address for address, name in names.functions.items() if name == SWITCH}
    if not any(switches & callees for callees in calls.values()):
        raise ValueError(f"nothing calls {SWITCH}: was the program stripped?")
    parking = that_reach(switches, calls)
    found = []
    for function in addresses:
        if base_name(names.functions[function]) in ALLOWED:
            continue
        if function in parking or function in through_pointers:
            how = "may park" if function in parking else "calls through a pointer"
            found.append((names.describe(function), ", ".join(sorted(addresses[function])), how))
    return sorted(found)


def read_program(program):
    """Its symbols, then its instructions."""
    return subprocess.run(
        ["objdump", "-t", "-d", "--no-show-raw-insn", program], capture_output=True, text=True, check=True
    ).stdout.splitlines()


def main(arguments):
    if len(arguments) != 1:
        sys.exit(__doc__.splitlines()[2])
    dump = read_program(arguments[0])
    if not any("x86-64" in line for line in dump[:5]):
        print("check_parks: not a program for x86-64, which is all that is read here")
        return 0
    found = offenders(dump)
    for function, what, how in found:
        print(f"{function}: {how} and addresses {what}; move that into a NOINLINE function")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
