"""An upstream of which each connection is one head, and then whatever the test makes of it."""

import contextlib
import socket
import threading


class HeadServer:
    def __init__(self):
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                peer, _ = self._socket.accept()
                threading.Thread(target=self._read, args=(peer,), daemon=True).start()

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
