#!/usr/bin/env python3
"""Checks that each layer of src/ includes only itself and the layers before it.

usage: check_layers.py [SRC]

Our sources write an include as "layer/file.h", relative to src/, also inside one layer: then the
line alone shows what is depended on, and this check needs no search path. Exit status 1 and one
line "file:line: why" for each include that breaks the rule.
"""

import pathlib
import re
import sys

LAYERS = "base mem rt heap io http config proxy filter ext discovery admin crash tool supervise".split()
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]*)"')


def violations(src):
    src = pathlib.Path(src)
    for path in sorted(src.rglob("*")):
        if path.suffix not in {".c", ".h", ".S", ".inc"}:
            continue
        parts = path.relative_to(src).parts
        if len(parts) == 1:
            reach = len(LAYERS)  # main.c and its like stand above all layers
        elif parts[0] in LAYERS:
            reach = LAYERS.index(parts[0]) + 1
        else:
            yield f"{path}: {parts[0]}/ is no layer; the layers are {' '.join(LAYERS)}"
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            match = INCLUDE.match(line)
            if not match:
                continue
            target = match.group(1)
            layer, slash, _ = target.partition("/")
            if not slash and len(parts) == 1 and (src / target).exists():
                continue  # the files beside main.c include one another by name
            if not slash or layer not in LAYERS:
                yield f'{path}:{number}: "{target}" is not written as "layer/file.h"'
            elif LAYERS.index(layer) >= reach:
                yield f'{path}:{number}: {parts[0]} includes "{target}" of a later layer'
            elif not (src / target).exists():
                yield f"{path}:{number}: there is no src/{target}"


def main(arguments):
    src = arguments[0] if arguments else pathlib.Path(__file__).resolve().parent.parent / "src"
    found = list(violations(src))
    print("\n".join(found), end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
