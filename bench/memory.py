"""What memory costs: an allocation that may be sampled, a block, a handle, and a request with the heap
profiler at work.

    ./dev bench memory [--rounds N] [--only CASE ...] [--quick]

malloc is that of one program (bench/native/malloc_pair.c), with Sluice's allocator linked into it or
with others' preloaded; jemalloc and tcmalloc with and without their own heap samplers, at the same
rate. All sides of a case take turns, and what is compared is CPU time; medians, with the lowest and
highest of the rounds. sampling_overhead is ./dev bench http1's small request through two Sluices, one
with the profiler at its usual rate and one without.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

import _chart
from _load import case as http_case
from _load import cpu_us, interleave
from _servers import BUILT, ROOT, Farm
from _turns import Side, cell, chosen, end_progress, summary, take_turns

OUTPUT = ROOT / "build" / "bench" / "memory.json"
RATE = 512 << 10  # bytes per sample, everybody's
RATE_LOG2 = RATE.bit_length() - 1


def preloaded(name):
    """A shared library of the system by its name, or None."""
    for folder in ("/usr/lib", "/usr/lib64", *map(str, pathlib.Path("/usr/lib").glob("*-linux-gnu"))):
        path = pathlib.Path(folder) / name
        if path.exists():
            return str(path)
    return None


def allocators():
    """{who: (program, environment)}: those that are installed here."""
    ours, plain = BUILT / "bench_malloc_sluice", BUILT / "bench_malloc"
    found = {
        "sluice": (ours, {"SLUICE_HEAP_PROFILE_RATE": str(RATE)}),
        "sluice_off": (ours, {"SLUICE_HEAP_PROFILE_RATE": "0"}),
    }
    libraries = {
        "mimalloc": ("libmimalloc.so.2", {}),
        "jemalloc": ("libjemalloc.so.2", {}),
        "jemalloc_sampling": (
            "libjemalloc.so.2",
            {"MALLOC_CONF": f"prof:true,prof_active:true,lg_prof_sample:{RATE_LOG2}"},
        ),
        "tcmalloc": ("libtcmalloc.so.4", {}),
        "tcmalloc_sampling": ("libtcmalloc.so.4", {"TCMALLOC_SAMPLE_PARAMETER": str(RATE)}),
    }
    for who, (library, env) in libraries.items():
        path = preloaded(library)
        if path:
            found[who] = (plain, {"LD_PRELOAD": path, **env})
    found["glibc"] = (plain, {})
    return found


# Case: the program that does it and what an operation may cost, in ns of CPU time.
NATIVE_CASES = {
    "block_same_p": ("bench_blocks", 10),
    "block_cross_p": ("bench_blocks", 60),
    "pool_same_p": ("bench_blocks", None),
    "pool_cross_p": ("bench_blocks", None),
    "recycler_same_p": ("bench_blocks", None),
    "malloc_same_p": ("bench_blocks", None),
    "line_cross_p": ("bench_blocks", None),
    "handle_lookup": ("bench_handles", None),
    "handle_life": ("bench_handles", None),
    "loan_keep": ("bench_handles", None),
}
MALLOC = {"malloc_pair": "pair", "malloc_mixed": "mixed"}
PAIRS = 20_000_000
PROGRAMS = ("bench_malloc", "bench_malloc_sluice", "bench_heap_pair", "bench_blocks", "bench_handles")
MALLOC_MORE_NS = 2  # than mimalloc without a sampler
OVERHEAD_AIM = 1.01


def measure_malloc(name, options):
    sides = [Side(who, program, MALLOC[name], env) for who, (program, env) in allocators().items()]
    for side in sides:
        side.calibrate(options.count)
    take_turns(options.rounds, [side.turn for side in sides], name)
    values = {side.who: summary(side.cpu) for side in sides}
    result = {"unit": "ns/op", "values": values}
    if name == "malloc_pair":
        result["aim_more_ns"] = MALLOC_MORE_NS
        result["more_ns"] = measure_more(options)
    return result


def measure_more(options):
    """What sampling adds to mimalloc's own functions, in one process that goes to and fro between them."""
    more = []

    def turn():
        count = options.count or PAIRS
        command = [BUILT / "bench_heap_pair", count, RATE]
        lines = subprocess.run(
            [str(part) for part in command], stdout=subprocess.PIPE, text=True, check=True, timeout=120
        ).stdout.splitlines()
        (ours, _, cpu, ops), (plain, _, plain_cpu, plain_ops) = (line.split() for line in lines)
        assert (ours, plain) == ("malloc_pair", "mimalloc")
        more.append(int(cpu) / int(ops) - int(plain_cpu) / int(plain_ops))

    take_turns(options.rounds, [turn], "more than mimalloc")
    return summary(more, 2)


def measure_native(name, options):
    program, aim = NATIVE_CASES[name]
    side = Side("sluice", BUILT / program, name)
    side.calibrate(options.count)
    take_turns(options.rounds, [side.turn], name)
    return {"unit": "ns/op", "aim": aim, "values": {"sluice": summary(side.cpu)}}


def measure_overhead(options):
    rounds, seconds = (1, 0.2) if options.quick else (options.requests_rounds, 1)
    with Farm() as farm:
        origin = farm.origin()
        servers = [
            farm.sluice(origin, {"SLUICE_HEAP_PROFILE_RATE": rate}, name)
            for name, rate in (("sluice", str(RATE)), ("off", "0"))
        ]
        samples = interleave(farm, servers, rounds, "sampling_overhead", seconds=seconds)
    result = http_case("sampling_overhead", "us/request", True, samples, cpu_us)
    pairs = [cpu_us(ours) / cpu_us(off) for ours, off in zip(samples["sluice"], samples["off"], strict=True)]
    result["ratio"] = summary(pairs, 3)
    # The standard error of a median, from the distance of the quartiles.
    quartiles = statistics.quantiles(pairs, n=4) if len(pairs) > 1 else pairs * 3
    result["ratio_error"] = round(0.93 * (quartiles[2] - quartiles[0]) / len(pairs) ** 0.5, 4)
    result["aim"] = OVERHEAD_AIM
    return result


# ---- the report -------------------------------------------------------------------------------


def print_malloc(name, result):
    print(f"\n{name}, CPU ns of an allocation and its free, median (min .. max)")
    for who, value in result["values"].items():
        print(f"  {who:20}{cell(value):>26}")
    if "more_ns" in result:
        more = result["more_ns"]
        print(
            f"  sluice costs {more['median']:+.2f} ns ({more['min']:+.2f} .. {more['max']:+.2f}) "
            f"more than mimalloc in one process; the aim is at most {MALLOC_MORE_NS:+}"
        )


def print_native(name, result):
    aim = f"the aim is at most {result['aim']}" if result["aim"] else ""
    print(f"{name:22}{cell(result['values']['sluice']):>26} ns  {aim}")


def print_overhead(result):
    print("\nsampling_overhead, CPU us of a small request, median (min .. max)")
    for who, value in result["values"].items():
        print(f"  {who:20}{cell(value):>26}")
    ratio = result["ratio"]
    print(
        f"  with sampling {ratio['median']:.3f} of without, +- {result['ratio_error']:.3f} "
        f"(rounds {ratio['min']:.3f} .. {ratio['max']:.3f}); the aim is at most {OVERHEAD_AIM}"
    )


def draw(cases, path):
    """What an allocation costs with each allocator, beside mimalloc without a sampler."""
    values = cases["malloc_pair"]["values"]
    base = values["mimalloc"]["median"]
    bars = [
        _chart.Bar(
            label=who,
            value=value["median"] / base,
            low=value["min"] / base,
            high=value["max"] / base,
            aim=1 + MALLOC_MORE_NS / base,
            note=f"{value['median']:g} ns",
        )
        for who, value in values.items()
    ]
    path.write_text(_chart.ratios("CPU time of a malloc and a free, over mimalloc's", bars))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--requests-rounds", type=int, default=40, help="of sampling_overhead")
    parser.add_argument("--only", nargs="*", help="only these cases")
    parser.add_argument("--quick", action="store_true", help="shows that it runs, and nothing else")
    parser.add_argument("--output", type=pathlib.Path, default=OUTPUT)
    options = parser.parse_args()
    options.count = 2000 if options.quick else 0
    if options.quick:
        options.rounds = 1
    wanted = chosen("memory", options.only, [*MALLOC, *NATIVE_CASES, "sampling_overhead"])
    for program in PROGRAMS:
        if not (BUILT / program).is_file():
            sys.exit(f"memory: {BUILT / program} is not built; ./dev bench memory builds it")

    cases = {name: measure_malloc(name, options) for name in MALLOC if name in wanted}
    cases |= {name: measure_native(name, options) for name in NATIVE_CASES if name in wanted}
    if "sampling_overhead" in wanted:
        cases["sampling_overhead"] = measure_overhead(options)
    end_progress()

    for name, result in cases.items():
        if name in MALLOC:
            print_malloc(name, result)
        elif name in NATIVE_CASES:
            print_native(name, result)
        else:
            print_overhead(result)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps({"bench": "memory", "cases": cases}, indent=2) + "\n")
    written = [options.output]
    if "mimalloc" in cases.get("malloc_pair", {}).get("values", {}):
        written.append(options.output.with_suffix(".svg"))
        draw(cases, written[-1])
    print(f"\nwritten: {', '.join(os.path.relpath(path) for path in written)}")


if __name__ == "__main__":
    main()
