"""Clients that ask all the time, while something is done to who answers."""

import threading

from harness import eventually


class Asking:
    """Clients that keep their connections as long as they may, and do nothing again that failed."""

    def __init__(self, edge, count=8, *, listener=None, connect=None):
        """connect(): a new connection, where that is another one than the proxy's own."""
        self.connect = connect or (lambda: edge.connect(listener, timeout_s=60))
        self.over = threading.Event()
        self.failures, self.answers = [], [0] * count
        self.threads = [threading.Thread(target=self._ask, args=(i,)) for i in range(count)]
        for thread in self.threads:
            thread.start()

    def ask(self, client):
        """Asks once, and judges the reply, which is returned."""
        reply = client.ask("GET", "/")
        assert reply.status == 200, reply
        return reply

    def _ask(self, number):
        client = None
        try:
            while not self.over.is_set():
                client = client or self.connect()
                reply = self.ask(client)
                self.answers[number] += 1
                if reply.header("connection") == "close":
                    client.close()
                    client = None
        except BaseException as e:
            self.failures.append(repr(e))
        finally:
            if client:
                client.close()

    def wait_for_more(self):
        """Each has asked again, twice: so at least once entirely after now."""
        before = list(self.answers)
        eventually(
            lambda: self.failures or all(now >= then + 2 for now, then in zip(self.answers, before, strict=True)),
            timeout_s=60,
            what="answers",
        )

    def __enter__(self):
        return self

    def __exit__(self, failure, *_):
        self.over.set()
        for thread in self.threads:
            thread.join(60)
        assert failure or not self.failures, self.failures
