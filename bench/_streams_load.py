"""What asks a StreamFarm's servers for something, in turns, and what that costs them: stream_load.c for bytes as
they are, handshakes.c, and load.c for HTTP over TLS, all in bench/native."""

import json
import subprocess

from _load import PATIENCE_S
from _servers import cpu_clock, settle
from _turns import take_turns

WRONG = ("broken", "bad_status", "bad_length", "bad_version", "not_resumed")


class Asker:
    """A program that is ready; it asks when it is told to go."""

    def __init__(self, farm, server, program, **options):
        self.server = server
        self.process = subprocess.Popen(
            [program, f"port={server.port}", *(f"{name}={value}" for name, value in options.items())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: settle(farm.drivers),
        )

    def __enter__(self):
        if self.process.stdout.readline() != "ready\n":
            raise self._failure(self.process.communicate(timeout=PATIENCE_S)[1])
        return self

    def __exit__(self, failure, *_):
        if failure:
            self.process.kill()
        self.process.communicate(timeout=PATIENCE_S)  # the end of its input is the end of it

    def _failure(self, why):
        return RuntimeError(f"{self.server.name}: {why.strip() or 'what asks it ended without a word'}")

    def go(self):
        """What it says in the end. All answers were right, those of before it was told to go as well."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        out = self.process.stdout.readline()
        if not out:
            raise self._failure(self.process.communicate(timeout=PATIENCE_S)[1])
        said = json.loads(out)
        wrong = {name: said[name] for name in WRONG if said.get(name)}
        if wrong:
            raise self._failure(f"of {said['requests']} answers some were wrong: {wrong}")
        return said


def one_turn(farm, server, program, **options):
    """What the program says, and the CPU time of the server meanwhile."""
    with Asker(farm, server, program, **options) as asker:
        cpu = cpu_clock(server.pid)
        said = asker.go()
        said["cpu"] = cpu_clock(server.pid) - cpu
    return said


def interleave(farm, servers, rounds, what, program, seconds, warm_up=None, **options):
    """{name: [what one_turn says]}; who is first changes. warm_up: options of a turn before, in place of these."""
    samples = {server.name: [] for server in servers}
    options["ms"] = round(seconds * 1000)

    def turn(server):
        samples[server.name].append(one_turn(farm, server, program, **options))

    for server in servers:
        one_turn(farm, server, program, **{**options, **(warm_up or {})})
    take_turns(rounds, [lambda server=server: turn(server) for server in servers], what)
    return samples


# ---- what a turn says ---------------------------------------------------------------------------


def cpu_us(sample):
    return sample["cpu"] * 1e6 / sample["requests"]


def per_second(sample):
    return sample["requests"] / sample["seconds"]


def cpu_ms_per_gb(sample):
    return sample["cpu"] * 1e3 / (sample["bytes"] / 1e9)


def gb_per_second(sample):
    return sample["bytes"] / 1e9 / sample["seconds"]


def busy(sample):
    return sample["cpu"] / sample["seconds"]
