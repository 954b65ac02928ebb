"""Heads that have been parsed before: the same bytes mean the same again.

Clients and servers repeat their heads on a connection byte for byte, save for the length of the
body. What the parser made of such a head holds for the next one that differs in those digits
only; any other goes to the parser.
"""

import re
from typing import Final, Generic, TypeVar

Meaning = TypeVar("Meaning")
_END: Final = b"\r\n\r\n"
_LENGTH: Final = re.compile(rb"\r\ncontent-length: ?([0-9]{1,8})\r\n", re.IGNORECASE)
_NAME: Final = b"content-length"
_DIGITS: Final = 8


class Recognized(Generic[Meaning]):
    """A head, split around the digits of its length, and what it means but for these."""

    __slots__ = ("_after", "_before", "meaning")

    def __init__(self, before: bytes, after: bytes, meaning: Meaning) -> None:
        self._before = before
        self._after = after
        self.meaning = meaning

    def split(self, data: bytes) -> tuple[int, bytes] | None:
        """Return the length and the rest of data that begins with this head, else None."""
        if not data.startswith(self._before):
            return None
        at = len(self._before)
        end = data.find(b"\r", at, at + _DIGITS + 1)
        digits = data[at:end]
        if end < 0 or not digits.isdigit() or not data.startswith(self._after, end):
            return None
        return int(digits), data[end + len(self._after) :]


def recognized(data: bytes, meaning: Meaning) -> Recognized[Meaning] | None:
    """Return the head at the start of `data`, which was parsed; None if it cannot be split.

    It can where its length is given once and the word stands nowhere else.
    """
    head = data[: data.find(_END) + len(_END)]
    found = _LENGTH.search(head)
    if found is None or head.lower().count(_NAME) != 1:
        return None
    return Recognized(head[: found.start(1)], head[found.end(1) :], meaning)
