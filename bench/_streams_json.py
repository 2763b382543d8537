"""A value of a JSON body of 1 MiB: http/json_scan, which takes it in spans as they come, beside simdjson's on-demand
parser, which needs all of it in one buffer, and parsers that make something of everything.

  chat      what is sent to a language model: an array of messages, most bytes are text in long strings
  records   an array of small objects: a bracket, a comma, a quote or a number every few bytes
  pretty    the same with a line for each value

The field is before the array (early) or behind it (late). All but `until` go on to the document's end.

  sluice            validates the whole document; spans of 16 KiB
  sluice_sse2, sluice_words    the same as on a machine without AVX2, and without any vectors that we know of
  simdjson          checks UTF-8 and strings in all of it, grammar and numbers only on its way
  simdjson_copied   after the spans were gathered in a buffer
  yajl              validates, an event for each value; spans of 16 KiB
  jansson           a tree of everything; jansson_copied after the spans were gathered
"""

import json
import os
import pathlib
import platform
import random
import shutil
import struct
import subprocess
import tempfile

from _load import case
from _servers import NATIVE, built, compiled, settle
from _turns import PATIENCE_S, take_turns

KEY, VALUE = "model", "gpt-4o"
SIZE = 1 << 20
SEED = 3
WORDS = """the of and to in is that for it as was with be by on not he his but at are this have from or had an they
    which one you were all her she there would their we him been has when who will no more if out so said""".split()
PARSERS = {"yajl": "yajl/yajl_parse.h", "jansson": "jansson.h"}
NAMES = [
    "sluice",
    "sluice_sse2",
    "sluice_words",
    "simdjson",
    "simdjson_copied",
    "yajl",
    "jansson",
    "jansson_copied",
]


# ---- documents ----------------------------------------------------------------------------------


def text(chance, size):
    words, length = [], 0
    while length < size:
        word = chance.choice(WORDS)
        word = chance.choices((word, f'"{word}"', f"{word}.\n"), (96, 1, 3))[0]
        words.append(word)
        length += len(word) + 1
    return " ".join(words)


def message(chance):
    return {
        "role": chance.choice(("user", "assistant")),
        "content": text(chance, chance.choice((80, 400, 2000, 9000))),
    }


def record(chance):
    return {
        "id": chance.randrange(10**9),
        "name": chance.choice(WORDS),
        "score": round(chance.uniform(-100, 100), 3),
        "tags": chance.sample(WORDS, 3),
        "active": chance.random() < 0.5,
        "parent": None,
        "at": {"x": chance.randrange(4000), "y": chance.randrange(4000)},
    }


def documents(make, indent):
    """{early, late}: the same items, of SIZE bytes and a little more."""
    chance, items, size = random.Random(SEED), [], 0
    while size < SIZE:
        items.append(make(chance))
        size += len(json.dumps(items[-1], indent=indent)) + 2
    early, late = {KEY: VALUE, "items": items}, {"items": items, KEY: VALUE}
    return {"early": json.dumps(early, indent=indent), "late": json.dumps(late, indent=indent)}


# ---- programs -----------------------------------------------------------------------------------


def has_header(name, language):
    probe = ["cc", "-x", language, "-E", "-", "-o", os.devnull]
    line = f"#include <{name}>\n".encode()
    return subprocess.run(probe, input=line, stderr=subprocess.DEVNULL, check=False).returncode == 0


def scanners():
    """{name: command, with the file's place open}."""
    scan = [built("bench_json_scan"), "{}", KEY, "{seconds}"]
    kernels = ("sse2", "words") if platform.machine() == "x86_64" else ()
    others = {f"sluice_{kernel}": [*scan, "spans", kernel] for kernel in kernels}
    return {"sluice": [*scan, "spans"], **others, "until": [*scan, "until"]}


def parties(folder):
    """Who takes part. Peers, if their libraries are there."""
    found = scanners()
    if shutil.which("c++") and has_header("simdjson.h", "c++"):
        program = folder / "json_simdjson"
        source = NATIVE / "json_simdjson.cc"
        flags = ["-std=c++17", "-O3", "-DNDEBUG", "-o", program, source, "-lsimdjson"]
        subprocess.run(["c++", *flags], check=True)
        found["simdjson"] = [program, "{}", KEY, "{seconds}"]
        found["simdjson_copied"] = [program, "{}", KEY, "{seconds}", "copied"]
    if all(has_header(name, "c") for name in PARSERS.values()):
        program = compiled("json_parsers.c", *(f"-l{name}" for name in PARSERS))
        for peer in ("yajl", "jansson", "jansson_copied"):
            found[peer] = [program, peer, "{}", KEY, "{seconds}"]
    return found


def measure(command, path, seconds, env=None):
    words = [str(word).format(path, seconds=seconds) for word in command]
    done = subprocess.run(
        words,
        stdout=subprocess.PIPE,
        check=True,
        timeout=PATIENCE_S,
        env={**os.environ, **(env or {})},
        preexec_fn=lambda: settle(os.sched_getaffinity(0)),
    )
    said = json.loads(done.stdout)
    if said["found"] != VALUE:
        raise RuntimeError(f"{words[0]} found {said['found']}")
    return said


def allocations(folder, command, path):
    counter = folder / "allocations"
    counter.write_bytes(struct.pack("Q", 0))
    env = {"LD_PRELOAD": compiled("count_malloc.c", "-shared", "-fPIC"), "ALLOCATION_COUNTER": str(counter)}
    said = measure(command, path, 0.01, env)
    if struct.unpack("Q", counter.read_bytes())[0] == 0:
        raise RuntimeError(f"{command[0]} has an allocator that count_malloc.c does not see")
    return said


def gb_per_second(said):
    return said["bytes"] / said["ns_per_round"]


def per_round(said):
    return said["allocations_per_round"]


def run(_lineup, options):
    """Rows of the report."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as name:
        folder = pathlib.Path(name)
        who = parties(folder)
        until = who.pop("until")
        for kind, make, indent in (("chat", message, None), ("records", record, None), ("pretty", record, 2)):
            for place, document in documents(make, indent).items():
                path = folder / f"{kind}_{place}.json"
                path.write_text(document)
                samples = {name: [] for name in who}

                def turn(name, path=path, samples=samples):
                    samples[name].append(measure(who[name], path, options.seconds))

                turns = [lambda name=name, turn=turn: turn(name) for name in who]
                take_turns(options.rounds, turns, f"json {kind} {place}")
                case_name = f"json_{place}" if kind == "chat" else f"json_{kind}_{place}"
                rows.append(case(f"{case_name}_gb_per_s", "GB/s", False, samples, gb_per_second))
            counted = {name: [allocations(folder, command, path)] for name, command in who.items()}
            rows.append(case(f"json_{kind}_allocations", "allocations/document", True, counted, per_round, 2))
        first = [measure(until, folder / "chat_early.json", options.seconds) for _ in range(options.rounds)]
        rows.append(case("json_until_early_us", "us", True, {"sluice": first}, lambda said: said["ns_per_round"] / 1e3))
    return rows
