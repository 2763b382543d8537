"""Clients of a rollout, which ask on and on, each request with a user of its own; and what is seen of it."""

import itertools
import threading

from harness import eventually


class Asked:
    """For a class with connect_client(), told(reply), which says who served it, and shown(), the rollout's state."""

    patience_s = 60

    def __init__(self, *args, **more):
        super().__init__(*args, **more)
        self.replies = []  # (user, status, told)
        self.done = threading.Event()
        self.clients = []

    def ask_on(self, users=None, threads=2):
        """Until the end, a connection each; users: whose requests, in turns."""

        def ask(number):
            turns = itertools.cycle(users) if users else (f"user-{number}-{n}" for n in itertools.count())
            with self.connect_client() as client:
                while not self.done.is_set():
                    user = next(turns)
                    reply = client.ask("GET", "/", headers=[("x-user", user)])
                    self.replies.append((user, reply.status, self.told(reply)))

        for number in range(threads):
            client = threading.Thread(target=ask, args=(number,))
            client.start()
            self.clients.append(client)

    def stop_asking(self):
        self.done.set()
        for client in self.clients:
            client.join()

    def wait_for(self, state, **wanted):
        def look():
            shown = self.shown()
            return shown if shown["state"] == state and all(shown[k] == v for k, v in wanted.items()) else None

        what = f"a rollout that is {state} {wanted}: {self.shown()}"
        return eventually(look, timeout_s=self.patience_s, what=what)

    def assert_nobody_went_back(self, users):
        """By the order of their requests a user has the old version, then the new one. Replies of two threads may
        change places in the list: a user that went back would do so for half of all his."""
        for user in users:
            told = [by for who, _, by in self.replies if who == user]
            changes = sum(a != b for a, b in itertools.pairwise(told))
            assert changes <= 3, (user, changes, told)
