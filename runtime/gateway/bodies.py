"""How much of clients' requests and answers is held in memory at a time."""

from collections import Counter
from typing import Final

from runtime.gateway import refusals

MAX_HELD: Final = 256 * 2**20
"""Bytes that one gateway process holds; one client has half of them at most."""
MAX_COPIED: Final = 64 * 2**20
"""Bytes of bodies that it holds for copies to a shadow, beside those."""
SMALL: Final = 64 * 1024
"""Bodies of so many bytes are not counted: beside its connection's buffers one is little."""
UNREAD: Final = ""
"""In whose name answers count that their clients do not read."""


class Bodies:
    """What one gateway process holds for all its requests.

    Bodies, from their heads to their answers, and answers that their clients do not read; or the
    bodies of copies to a shadow.
    """

    __slots__ = ("_by_client", "_most", "_total")

    def __init__(self, most: int) -> None:
        """Begin with none of so many bytes."""
        self._most = most
        self._total = 0
        self._by_client: Counter[str] = Counter()

    def take(self, client: str, size: int) -> None:
        """Count so many bytes of a client's body.

        Raises:
            RefusalError: 503: there is no room for them.
        """
        if self._total + size > self._most or self._by_client[client] + size > self._most // 2:
            raise refusals.no_room()
        self._total += size
        self._by_client[client] += size

    def give_back(self, client: str, size: int) -> None:
        """Count them no longer."""
        self._total -= size
        self._by_client[client] -= size
        if not self._by_client[client]:
            del self._by_client[client]
