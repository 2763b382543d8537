#!/usr/bin/env python3
"""Runs an aarch64 program under QEMU's user-mode emulation, on one core.

usage: emulate_aarch64.py PROGRAM [ARGUMENT...]

One core, because on x86-64 hosts QEMU lets a load overtake an earlier store where the architecture
forbids it: STLR then LDAR, which is what compilers make of a seq_cst store and load. (Dekker's test
in C11 atomics fails about 1 time in 100 under QEMU 7.2.) The runtime's way to sleep is Dekker's: with
two cores a wake-up gets lost every few thousand parks, that is never on real hardware. On one core
no such order can be seen. The core is chosen by process id, so that parallel tests spread.
"""

import os
import sys

cores = sorted(os.sched_getaffinity(0))
os.sched_setaffinity(0, {cores[os.getpid() % len(cores)]})
os.execvp("qemu-aarch64", ["qemu-aarch64", "-L", "/usr/aarch64-linux-gnu", *sys.argv[1:]])
