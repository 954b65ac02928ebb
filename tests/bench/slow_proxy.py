"""A TCP proxy that passes bytes at a bounded rate, and counts them."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

_PIECE: Final = 32 << 10
_BUFFER: Final = 64 << 10
"""Bytes that the kernel holds back; what it took from us counts as sent."""


@dataclass
class SlowProxy:
    """A proxy on loopback, to a port of loopback."""

    target: int
    pause_s: float
    """Pause after 32 KiB, in both directions."""
    down: int = 0
    """Bytes that went to clients."""
    up: int = 0
    """Bytes that went to the server."""
    _listener: socket.socket = field(default_factory=socket.socket)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def serve(self) -> None:
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self.target))
                for source, target, is_up in ((client, server, True), (server, client, False)):
                    ends = (source, target, is_up)
                    threading.Thread(target=self._copy, args=ends, daemon=True).start()

    def _copy(self, source: socket.socket, target: socket.socket, is_up: bool) -> None:  # noqa: FBT001 (an argument of a thread)
        with suppress(OSError):
            while piece := source.recv(_PIECE):
                target.sendall(piece)
                if is_up:
                    self.up += len(piece)
                else:
                    self.down += len(piece)
                time.sleep(self.pause_s)
        for end in (source, target):  # a peer that was killed ends both ways
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@contextmanager
def slowed(target: int, pause_s: float) -> Iterator[SlowProxy]:
    """Run the proxy."""
    proxy = SlowProxy(target, pause_s)
    proxy.serve()
    try:
        yield proxy
    finally:
        proxy.close()
