"""A TCP proxy that can go silent: connections stay open, and nothing comes through."""

from __future__ import annotations

import contextlib
import socket
import threading

_BYTES = 65_536


class SilentProxy:
    """Forwards connections to a port of this machine until told otherwise.

    ``silent`` swallows everything, of new connections too. ``swallow_answers_to`` is a
    text: once a client has sent it, the server gets it, and nothing comes back on that
    connection. ``swallow_from`` is a text that does not reach the server, nor does
    anything after it on that connection.

    Args:
        target: the port of the server.
        port: to listen on; 0 for a free one.
    """

    def __init__(self, target: int, *, port: int = 0) -> None:
        self.silent = threading.Event()
        self.stopped = False
        self.swallow_answers_to = b""
        self.swallow_from = b""
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port: int = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self) -> None:
        """Close everything."""
        self.stopped = True
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                return
            self._sockets += [client, server]
            mute = threading.Event()
            for source, sink, up in ((client, server, True), (server, client, False)):
                threading.Thread(
                    target=self._pump, args=(source, sink, up, mute), daemon=True
                ).start()

    def _pump(
        self, source: socket.socket, sink: socket.socket, up: bool, mute: threading.Event
    ) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_BYTES):
                if up and self.swallow_from and self.swallow_from in data:
                    mute.set()
                if self.silent.is_set() or mute.is_set():
                    continue
                if up and self.swallow_answers_to and self.swallow_answers_to in data:
                    mute.set()
                sink.sendall(data)
        # Also where the client was killed, and its end is a reset.
        if not (self.silent.is_set() or mute.is_set()):
            with contextlib.suppress(OSError):
                sink.shutdown(socket.SHUT_WR)
