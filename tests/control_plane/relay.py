"""A TCP relay before the API server: counts bytes both ways; can cut, refuse, hold up and slow down connections."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from typing import Self

_PIECE = 1 << 16
_LOOK_S = 0.05


class Relay:
    """Relays `port` to `target` on 127.0.0.1 in a thread of its own; a context manager.

    Attributes:
        refusing: new connections are closed at once.
        holding: a black hole: connections are made and stay, nothing is passed on, nobody is told (no RST, no FIN).
        pause_s: with more than 0 what comes from the server is passed on octet by octet, so many seconds between two.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.to_server_bytes = 0
        self.to_client_bytes = 0
        self.attempts = 0
        self.connections = 0
        self.refusing = False
        self.holding = False
        self.pause_s = 0.0
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._threads: list[threading.Thread] = []
        self._stopping = False
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stopping = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        self._accepting.join(5)
        for thread in self._threads:
            thread.join(5)

    def cut(self) -> None:
        """End all connections."""
        for pair in self._pairs:
            for end in pair:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while not self._stopping:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.attempts += 1
            if self.refusing:
                client.close()
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self._target), timeout=5)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            self.connections += 1
            self._pairs.append((client, server))
            thread = threading.Thread(target=self._pump, args=(client, server), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _pump(self, client: socket.socket, server: socket.socket) -> None:
        with selectors.DefaultSelector() as ready, client, server:
            ready.register(client, selectors.EVENT_READ, server)
            ready.register(server, selectors.EVENT_READ, client)
            with contextlib.suppress(OSError):
                while not self._stopping:
                    if self.holding:
                        time.sleep(_LOOK_S)
                        continue
                    for key, _ in ready.select(_LOOK_S):
                        is_slow = self.pause_s > 0 and key.fileobj is server
                        piece = key.fileobj.recv(1 if is_slow else _PIECE)
                        if not piece:
                            return
                        while self.holding and not self._stopping:
                            time.sleep(_LOOK_S)
                        key.data.sendall(piece)
                        if is_slow:
                            time.sleep(self.pause_s)
                        if key.fileobj is client:
                            self.to_server_bytes += len(piece)
                        else:
                            self.to_client_bytes += len(piece)
