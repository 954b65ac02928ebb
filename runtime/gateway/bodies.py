"""How much of clients' request bodies is held in memory at a time."""

from collections import Counter
from typing import Final

from runtime.gateway import refusals

MAX_HELD: Final = 256 * 2**20
"""Bytes of bodies that one gateway process holds; one client has half of them at most."""
SMALL: Final = 64 * 1024
"""Bodies of so many bytes are not counted: beside its connection's buffers one is little."""


class Bodies:
    """The bodies of all requests of one gateway process, from their heads to their answers."""

    __slots__ = ("_by_client", "_total")

    def __init__(self) -> None:
        """Begin with none."""
        self._total = 0
        self._by_client: Counter[str] = Counter()

    def take(self, client: str, size: int) -> None:
        """Count so many bytes of a client's body.

        Raises:
            RefusalError: 503: there is no room for them.
        """
        if self._total + size > MAX_HELD or self._by_client[client] + size > MAX_HELD // 2:
            raise refusals.no_room()
        self._total += size
        self._by_client[client] += size

    def give_back(self, client: str, size: int) -> None:
        """Count them no longer."""
        self._total -= size
        self._by_client[client] -= size
        if not self._by_client[client]:
            del self._by_client[client]
