"""The name under which a client asked, in the response: a client knows aliases and no versions."""

from functools import lru_cache
from typing import Final

import msgspec

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
