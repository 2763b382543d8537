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
    "allocate_due": "of malloc, whose hooks do not park",
    "move": "of malloc, whose hooks do not park",
    "realloc": "of malloc, whose hooks do not park",
    "on_sigurg": "a signal handler; the handlers that it calls do not park",
    "call_new": "foreign code, called on the thread's own stack",
    "parse": "foreign code, called on the thread's own stack",
}

FUNCTION = re.compile(r"<([^>]*)>:$")
DIRECT = re.compile(r"\t(?:call|jmp)\s+.*<([^>+@]+)(@plt)?(?:\+0x[0-9a-f]+)?>$")
INDIRECT = re.compile(r"\tcall\s+\*")
SEGMENT = re.compile(r"%fs:(0x[0-9a-f]+)?")


def base_name(symbol):
    """Parts and clones of a function (f.cold, f.constprop.0) are that function."""
    return symbol.partition(".")[0]


def read_functions(lines):
    """({function: those it calls}, {functions that call through pointers}, {function: what it addresses})"""
    calls = collections.defaultdict(set)
    through_pointers = set()
    addresses = collections.defaultdict(set)
    here = None
    for line in lines:
        if match := FUNCTION.match(line):
            here = base_name(match.group(1))
        elif here is None:
            continue
        elif match := DIRECT.search(line):
            callee = base_name(match.group(1))
            if callee == "__errno_location":
                addresses[here].add("errno")
            elif callee != here:
                calls[here].add(callee)
        elif INDIRECT.search(line):
            through_pointers.add(here)
        if here and (match := SEGMENT.search(line)) and match.group(1) != CANARY:
            addresses[here].add(match.group(0))
    return calls, through_pointers, addresses


def that_reach(target, calls):
    callers = collections.defaultdict(set)
    for function, callees in calls.items():
        for callee in callees:
            callers[callee].add(function)
    found, todo = set(), [target]
    while todo:
        for caller in callers[todo.pop()] - found:
            found.add(caller)
            todo.append(caller)
    return found


def offenders(lines):
    """[(function, what it addresses, how it may park)]"""
    calls, through_pointers, addresses = read_functions(lines)
    if not any(SWITCH in callees for callees in calls.values()):
        raise ValueError(f"nothing calls {SWITCH}: was the program stripped?")
    parking = that_reach(SWITCH, calls)
    found = []
    for function in sorted(addresses.keys() - ALLOWED.keys()):
        if function in parking or function in through_pointers:
            how = "may park" if function in parking else "calls through a pointer"
            found.append((function, ", ".join(sorted(addresses[function])), how))
    return found


def main(arguments):
    if len(arguments) != 1:
        sys.exit(__doc__.splitlines()[2])
    dump = subprocess.run(
        ["objdump", "-d", "--no-show-raw-insn", "--no-addresses", arguments[0]],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    if not any("x86-64" in line for line in dump[:5]):
        print("check_parks: not a program for x86-64, which is all that is read here")
        return 0
    found = offenders(dump)
    for function, what, how in found:
        print(f"{function}: {how} and addresses {what}; move that into a NOINLINE function")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
