"""Heads that repeat on a connection, which the parser reads once.

Clients and servers send the same head again, save for the length of the body and the ids of the
request. The parser's result for a head holds for the next head that differs in these values only;
any other head goes to the parser.
"""

import re
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

Meaning = TypeVar("Meaning")
LENGTH: Final = b"content-length"
_HEAD_END: Final = b"\r\n\r\n"
_VARYING: Final = re.compile(
    rb"\r\n(content-length|traceparent|tracestate|x-request-id): ?([!-~]{1,128})(?=\r\n)",
    re.IGNORECASE,
)
_SOUND: Final = re.compile(rb"[!-~]{1,128}")
"""Values that no parser takes for anything else, whatever the header: letters without blanks."""
_MAX_VALUE: Final = 128
_MAX_DIGITS: Final = 8
"""Upper bound of the digits of a length."""
MAX_REPEATED: Final = 16_384
"""Upper bound of a head that is read without the parser, bytes; longer heads are seldom, and their
size is the parser's to judge."""


@dataclass(slots=True)
class RepeatedHead(Generic[Meaning]):
    """A head, split around the values that vary, and its meaning but for these."""

    meaning: Meaning
    names: tuple[bytes, ...]
    """Lower-case names of the headers whose values vary, besides the length."""
    _start: bytes
    """The head up to the first value that varies."""
    _pieces: tuple[tuple[bool, bytes, int], ...]
    """By value that varies: whether the value is the length, what follows the value, and the size
    of what follows."""

    def split(self, data: bytes) -> tuple[int, bytes, list[bytes]] | None:
        """Return the length, the bytes behind the head, and the values of `names`.

        None: the data begins with another head.
        """
        if not data.startswith(self._start):
            return None
        at, length = len(self._start), 0
        values: list[bytes] = []
        for is_length, piece, size in self._pieces:
            end = data.find(b"\r", at, at + _MAX_VALUE + 1)
            if end < 0 or not data.startswith(piece, end):
                return None
            value = data[at:end]
            if not is_length:
                if _SOUND.fullmatch(value) is None:
                    return None
                values.append(value)
            elif value.isdigit() and end - at <= _MAX_DIGITS:
                length = int(value)
            else:
                return None
            at = end + size
        return length, data[at:], values


def repeated_head(data: bytes, meaning: Meaning) -> RepeatedHead[Meaning] | None:
    """Return the head at the start of parsed `data`; None: its length is not given exactly once."""
    head = data[: data.find(_HEAD_END) + len(_HEAD_END)]
    if len(head) > MAX_REPEATED:
        return None
    lowered = head.lower()
    found = [match for match in _VARYING.finditer(head) if lowered.count(match[1].lower()) == 1]
    names = [match[1].lower() for match in found]
    if LENGTH not in names or not found[names.index(LENGTH)][2].isdigit():
        return None
    ends = [*(match.start(2) for match in found[1:]), len(head)]
    pieces = tuple(
        (name == LENGTH, piece := head[match.end(2) : end], len(piece))
        for name, match, end in zip(names, found, ends, strict=True)
    )
    varying = tuple(name for name in names if name != LENGTH)
    return RepeatedHead(meaning, varying, head[: found[0].start(2)], pieces)
