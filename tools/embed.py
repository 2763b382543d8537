"""Turns a file into a C array: embed.py INPUT OUTPUT.c NAME makes NAME[] and NAME_len."""

import sys


def main(source, target, name):
    with open(source, "rb") as f:
        data = f.read()
    with open(target, "w") as out:
        out.write(f"extern const char {name}[];\nextern const unsigned long {name}_len;\n")
        out.write(f"const unsigned long {name}_len = {len(data)};\n")
        out.write(f"const char {name}[] = {{\n")
        for at in range(0, len(data), 16):
            # As signed numbers: what a char holds where it is signed.
            row = ",".join(str(b if b < 128 else b - 256) for b in data[at : at + 16])
            out.write(row + ",\n")
        out.write("0};\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
