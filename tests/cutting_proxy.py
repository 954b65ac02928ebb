"""A TCP proxy that cuts its first connection at a chosen message of the client."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field


@dataclass
class CuttingProxy:
    """A proxy on loopback, to a port of loopback."""

    target: int
    at: int = 0
    """The client's message, from 1, at which the first connection is cut; 0: none."""
    after: bool = False
    """Whether the message still reaches the server, whose answer is lost."""
    cut: bool = False
    _listener: socket.socket = field(default_factory=socket.socket)
    _open: list[socket.socket] = field(default_factory=list)

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def serve(self) -> None:
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        number = 0
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                number += 1
                threading.Thread(target=self._pass, args=(client, number == 1), daemon=True).start()

    def _pass(self, client: socket.socket, first: bool) -> None:  # noqa: FBT001 (an argument of a thread)
        with client, socket.create_connection(("127.0.0.1", self.target)) as server:
            self._open += [client, server]
            back = threading.Thread(target=_copy, args=(server, client), daemon=True)
            if not (first and self.after):
                back.start()
            number = 0
            with suppress(OSError):
                while message := client.recv(1 << 20):
                    number += 1
                    last = first and number == self.at
                    if last and not self.after:
                        break
                    if first and self.after:  # answers pass one by one, and the last does not
                        server.sendall(message)
                        if last:
                            server.recv(1)  # the server has worked on the message
                            break
                        client.sendall(server.recv(1 << 20))
                        continue
                    server.sendall(message)
            self.cut = self.cut or (first and number == self.at)
            for end in (client, server):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            if back.is_alive():
                back.join()

    def close(self) -> None:
        """Take no connection any more, and end those that are open."""
        for end in (self._listener, *self._open):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while message := source.recv(1 << 20):
            target.sendall(message)


@contextmanager
def cutting(target: int, at: int = 0, *, after: bool = False) -> Iterator[CuttingProxy]:
    """Run the proxy."""
    proxy = CuttingProxy(target, at, after)
    proxy.serve()
    try:
        yield proxy
    finally:
        proxy.close()
