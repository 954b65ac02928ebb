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
    "x-session-id",
)


def others(kept: Iterable[str] = KEPT) -> str:
    """Return a regular expression of all header names but these and HTTP/2's own.

    RE2 has no negation, so it is spelt out: a name leaves the tree of the kept ones at some
    character, or ends before one of them does.
    """
    return f"(?:{leaving(sorted(kept), first=True)})"


def leaving(words: list[str], *, first: bool = False) -> str:
    """Return a regular expression of all texts that begin with none of these words.

    Args:
        words: None of them begins another one.
        first: At the beginning of a header's name: HTTP/2's own and empty ones are left out.
    """
    ends = "" in words
    heads = sorted({each[0] for each in words if each})
    ways = [] if ends or first else [""]
    outside = "".join(re.escape(each) for each in heads) + (":" if first else "")
    ways.append(f"[^{outside}].*" if outside else ".+")
    ways += [
        re.escape(head) + f"(?:{leaving([w[1:] for w in words if w.startswith(head)])})"
        for head in heads
    ]
    return "|".join(ways)
