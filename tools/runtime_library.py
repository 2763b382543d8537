#!/usr/bin/env python3
"""Makes libsluice-rt.a: one object with the public functions of the runtime and what they reach.

usage: runtime_library.py OUTPUT.a NM OBJCOPY AR --headers HEADER... --archives ARCHIVE... --cc CC...

In a static link all global names of all libraries meet, and ours are short: m_start, steal, g_new. So
the layers are linked to one relocatable object, in which everything is made local that no public
header declares. What no public function reaches (the proxy's statistics, say) is not in it at all.
"""

import os
import re
import subprocess
import sys
import tempfile


def public_symbols(text):
    """Names that a header of ours declares for the linker: functions, and variables with extern."""
    text = re.sub(r"/\*.*?\*/", " ", text, flags=re.S)
    text = re.sub(r"//[^\n]*", " ", text)
    text = re.sub(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", " ", text, flags=re.M)
    while (inner := re.sub(r"\{[^{}]*\}", ";", text)) != text:  # bodies, innermost first
        text = inner
    names = set()
    for statement in text.split(";"):
        words = statement.split()
        if not words or {"typedef", "static"} & set(words) or "_assert" in words[0]:
            continue
        statement = re.sub(r"__attribute__\s*\(\(.*?\)\)|PRINTF_LIKE\s*\([^)]*\)", " ", " ".join(words))
        if match := re.search(r"(\w+)\s*\(", statement):
            names.add(match.group(1))
        elif words[0] == "extern":
            names.add(re.findall(r"\w+", statement.split("[")[0])[-1])
    return names


def defined_globals(nm, path):
    lines = subprocess.run(
        [nm, "-g", "--defined-only", "-P", path], check=True, text=True, capture_output=True
    ).stdout.splitlines()
    return {line.split()[0] for line in lines if len(line.split()) > 1}


def main(argv):
    output, nm, objcopy, ar = argv[:4]
    headers_at, archives_at, cc_at = (argv.index(f"--{word}") for word in ("headers", "archives", "cc"))
    headers = argv[headers_at + 1 : archives_at]
    archives, cc = argv[archives_at + 1 : cc_at], argv[cc_at + 1 :]
    names = set()
    for header in headers:
        with open(header, encoding="utf-8") as file:
            names |= public_symbols(file.read())
    with tempfile.TemporaryDirectory() as scratch:
        whole = os.path.join(scratch, "sluice-rt.o")
        keep = os.path.join(scratch, "keep")
        with open(keep, "w", encoding="utf-8") as file:
            file.writelines(f"{name}\n" for name in sorted(names))
        subprocess.run(
            [
                *cc,
                "-r",
                "-nostdlib",
                "-o",
                whole,
                *(f"-Wl,-u,{name}" for name in sorted(names)),
                "-Wl,--start-group",
                *archives,
                "-Wl,--end-group",
            ],
            check=True,
        )
        if missing := names - defined_globals(nm, whole):
            sys.exit(f"public headers declare what no source defines: {', '.join(sorted(missing))}")
        subprocess.run([objcopy, f"--keep-global-symbols={keep}", whole], check=True)
        if os.path.exists(output):
            os.remove(output)  # ar would add to it
        subprocess.run([ar, "rcsD", output, whole], check=True)


if __name__ == "__main__":
    main(sys.argv[1:])
