"""Whole lines of a stream that comes in parts, and the asked name in them."""

from functools import lru_cache
from typing import Final

import msgspec

from runtime.gateway import errors

MAX_ANSWER: Final = 64 * 2**20
"""Upper bound of a whole answer, and of a line of a stream, bytes. 2,048 embeddings of 4,096
numbers in base64 are 45 million; the last event of a stream of responses has all that was said."""


class LineBuffer:
    """The part of a stream that has come and is no whole line yet."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self.size = 0
        """Bytes that wait for the end of their line."""

    def feed(self, chunk: bytes) -> bytes:
        """Return all lines that are whole with this chunk, with their ends.

        Raises:
            ApiError: 413, a line has more than `MAX_ANSWER` bytes.
        """
        if not self._parts and chunk.endswith(b"\n"):
            return chunk
        end = chunk.rfind(b"\n") + 1
        if not end:
            self.size += len(chunk)
            if self.size > MAX_ANSWER:
                raise errors.answer_too_large()
            self._parts.append(chunk)
            return b""
        whole, rest = (chunk, b"") if end == len(chunk) else (chunk[:end], chunk[end:])
        if self._parts:
            whole = b"".join([*self._parts, whole])
            self._parts.clear()
        if rest:
            self._parts.append(rest)
        self.size = len(rest)
        return whole

    def take(self) -> bytes:
        """Return the bytes of a line without an end, and forget them."""
        rest = b"".join(self._parts)
        self._parts.clear()
        self.size = 0
        return rest


_BEFORE: Final = (b'"model":', b'"model": ')
"""Before the name of the model: vLLM writes JSON without spaces, other servers with one."""


@lru_cache(maxsize=16_384)
def spellings(adapter: str, asked: str) -> tuple[tuple[bytes, bytes], ...]:
    """Return the spellings of an adapter's name in a response, with those of the asked name."""
    old, new = msgspec.json.encode(adapter), msgspec.json.encode(asked)
    return tuple((before + old, before + new) for before in _BEFORE)


def with_asked_name(data: bytes, adapter: str, asked: str) -> bytes:
    """Return whole lines of a response with the asked name where `model` is the adapter's name.

    No text of a model is changed, since JSON escapes the quotation marks in a text.
    """
    for old, new in spellings(adapter, asked):
        data = data.replace(old, new)
    return data
