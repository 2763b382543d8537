"""An upstream of which each connection is one head, and then whatever the test makes of it."""

import contextlib
import socket
import threading


def serve_each(server, serve):
    """Calls serve(connection) for each, on a thread of its own, until the server is closed."""

    def accept():
        with contextlib.suppress(OSError):
            while True:
                connection, _ = server.accept()
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()


class HeadServer:
    def __init__(self):
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        serve_each(self._socket, self._read)

    def _read(self, peer):
        with peer, contextlib.suppress(OSError):
            data = b""
            while b"\r\n\r\n" not in data:
                more = peer.recv(65536)
                if not more:
                    return
                data += more
            head, _, rest = data.partition(b"\r\n\r\n")
            self.serve(peer, head.decode(), bytearray(rest))

    def serve(self, peer, head, rest):
        """head without its empty line; rest: what came behind it so far. The connection ends when this returns."""
        raise NotImplementedError

    def close(self):
        self._socket.close()
