"""A program of bench/native that asks a server for something: it gets ready, is told to go, and says what came of
it."""

import json
import subprocess

from _servers import settle

PATIENCE_S = 60
WRONG = ("broken", "bad_status", "bad_length", "bad_version", "not_resumed")


class Asker:
    """A program that is ready; it asks when it is told to go."""

    def __init__(self, farm, server, program, forgiven=(), **options):
        """forgiven: of WRONG, what may happen."""
        self.server, self.forgiven = server, forgiven
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
        wrong = {name: said[name] for name in WRONG if said.get(name) and name not in self.forgiven}
        if wrong:
            raise self._failure(f"of {said['requests']} answers some were wrong: {wrong}")
        return said
