"""Which of a client's headers Envoy looks at: all others are removed before anything reads them."""

import re
from collections.abc import Iterable
from typing import Final

KEPT: Final = (
    "accept",
    "authorization",
    "connection",
    "content-length",
    "content-type",
    "expect",
    "host",
    "transfer-encoding",
    "x-api-key",
    "x-session-id",
)


def others(kept: Iterable[str] = KEPT) -> str:
    """Return a regular expression of all header names but these and HTTP/2's own."""
    return f"(?:{_leaving(sorted(kept), ':')})"


def other_words(words: Iterable[str], end: str) -> str:
    """Return a regular expression of all texts but these words, as far as the character `end`."""
    return f"(?:{_leaving(sorted(words), '', end)})"


def _leaving(words: list[str], begin: str | None = None, end: str = "") -> str:
    """Return what is none of the words.

    RE2 has no negation, so it is spelt out: a text leaves the tree of the words at some
    character, or ends before one of them does.

    Args:
        words: At this place of the tree, what is left of each.
        begin: At the root: the character that no text begins with, empty for none.
        end: The character that no text holds, empty for none.
    """
    ends = "" in words
    heads = sorted({each[0] for each in words if each})
    ways = [] if ends or begin == ":" else [""]
    some = f"[^{end}]" if end else "."
    outside = "".join(re.escape(each) for each in heads) + (begin or "") + end
    ways.append(f"[^{outside}]{some}*" if heads else f"{some}+")
    ways += [
        re.escape(head) + f"(?:{_leaving([w[1:] for w in words if w.startswith(head)], end=end)})"
        for head in heads
    ]
    return "|".join(ways)
