"""The JSON scanner against Python's parser: documents by chance, good and damaged, in random spelling.

usage: json_differential.py PROGRAM    (json_tell)
"""

import json
import random
import struct
import subprocess
import sys

PATHS = ["a", "a.b", "m[*].r", "[0]", "[1].a"]
ROUNDS = 3000
DAMAGE = '{}[]:,"\\ \n0-.eEtnu\x80\xff\x01\ud83d9'
TEXTS = ["", "a", "user", 'say "hi"\n', "中文", "😀", "\x7f\u2028", "é\\", "\u0000"]
NUMBERS = ["0", "-0", "12", "-1.50", "1e9", "2E-7", "-0.0e+0", "12345678901234567890123"]


def spell(chance, text):
    """A JSON string of the text, with this or that character escaped."""
    spelled = json.dumps(text, ensure_ascii=chance.random() < 0.5)
    if chance.random() < 0.2:
        spelled = spelled.replace("a", "\\u0061").replace("m", "\\u006D")
    return spelled


def value(chance, depth=0):
    def gap():
        return chance.choice(("", "", "", " ", "\n\t", "\r\n"))

    kind = chance.randrange(2 if depth > 5 else 5)
    if kind == 0:
        return gap() + chance.choice([*NUMBERS, "true", "false", "null"]) + gap()
    if kind == 1:
        return gap() + spell(chance, chance.choice(TEXTS)) + gap()
    items = [value(chance, depth + 1) for _ in range(chance.randrange(4))]
    if kind == 2:
        return gap() + "[" + ",".join(items) + ("" if items else gap()) + "]" + gap()
    keys = [gap() + spell(chance, chance.choice(["a", "b", "m", "r", "", "中"])) + gap() for _ in items]
    return gap() + "{" + ",".join(f"{key}:{item}" for key, item in zip(keys, items, strict=True)) + "}" + gap()


def damaged(chance, text):
    text = list(text)
    for _ in range(chance.randrange(3)):
        at = chance.randrange(len(text))
        text[at : at + chance.randrange(2)] = chance.choice(DAMAGE)
    return "".join(text)


class Number(str):
    """As it was spelled."""


def constant(_):
    raise ValueError("NaN and Infinity are no JSON")


def parse(document):
    """Objects as lists of pairs, for a key may be there twice. ValueError: no JSON."""
    parsed = json.loads(
        document.decode("utf-8"),
        object_pairs_hook=lambda pairs: ("object", pairs),
        parse_int=Number,
        parse_float=Number,
        parse_constant=constant,
    )
    for each in strings(parsed):
        each.encode("utf-8")  # half a pair of surrogates: UnicodeEncodeError, a ValueError
    return parsed


def strings(parsed):
    if isinstance(parsed, str):
        yield parsed
    elif isinstance(parsed, list):
        for item in parsed:
            yield from strings(item)
    elif isinstance(parsed, tuple):
        for key, item in parsed[1]:
            yield key
            yield from strings(item)


def walk(parsed, steps=()):
    yield steps, parsed
    if isinstance(parsed, list):
        for index, item in enumerate(parsed):
            yield from walk(item, (*steps, index))
    elif isinstance(parsed, tuple):
        for key, item in parsed[1]:
            yield from walk(item, (*steps, key))


def paths_of(steps):
    """Those of PATHS that lead there."""
    rows = {
        ("a",): 0,
        ("a", "b"): 1,
        (0,): 3,
        (1, "a"): 4,
    }
    found = [rows[steps]] if steps in rows else []
    if len(steps) == 3 and steps[0] == "m" and isinstance(steps[1], int) and steps[2] == "r":
        found.append(2)
    return found


def shown(text):
    raw = text.encode("utf-8")
    if len(raw) > 24:
        return "(too long)"
    return "".join(chr(byte) if 0x20 < byte < 0x7F else f"\\x{byte:02x}" for byte in raw)


def tell(parsed):
    story, answered = [], set()
    for steps, item in walk(parsed):
        for path in paths_of(steps):
            again = "again" if path in answered else ""
            answered.add(path)
            if isinstance(item, Number):
                what = "n" + shown(item)
            elif isinstance(item, str):
                what = "s" + shown(item)
            elif isinstance(item, tuple):
                what = "o"
            elif isinstance(item, list):
                what = "a"
            else:
                what = {True: "Ttrue", False: "Ffalse", None: "0null"}[item]
            story.append(f"{path}{again}={what}|")
    return "".join(story) + "DONE"


def main():
    chance = random.Random(7)
    documents, expected = [], []
    for _ in range(ROUNDS):
        text = value(chance)
        if chance.random() < 0.5:
            text = damaged(chance, text)
        document = text.encode("utf-8", "surrogatepass")
        if chance.random() < 0.1:
            document = document[: chance.randrange(len(document) + 1)]
        try:
            expected.append(tell(parse(document)))
        except ValueError:
            expected.append(None)
        documents.append(document)
    given = b"".join(struct.pack("<I", len(each)) + each for each in documents)
    said = subprocess.run([sys.argv[1], *PATHS], input=given, stdout=subprocess.PIPE, check=True)
    lines = said.stdout.decode().splitlines()
    assert len(lines) == ROUNDS, len(lines)
    bad = 0
    for document, line, wanted in zip(documents, lines, expected, strict=True):
        if wanted is None:
            bad += 1
            assert "BAD" in line, f"{document!r} is no JSON to Python, but here {line}"
        else:
            assert line == wanted, f"{document!r}: Python has {wanted}, here it is {line}"
    assert ROUNDS // 10 < bad < ROUNDS * 6 // 10, f"{bad} documents of {ROUNDS} are no JSON: not much of a test"


if __name__ == "__main__":
    main()
