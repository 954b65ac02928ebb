"""How many clients may be connected: each may need a server's connection too.

Without a bound clients use up the descriptors, and then neither servers nor the admin side can be
reached any more.
"""

import asyncio
import resource
import sys
from typing import Final, cast

from runtime.gateway import refusals
from runtime.gateway.desk import Answer
from runtime.gateway.transports import heads

RESERVE: Final = 64
"""Descriptors for the admin side, the log, the table and checks of health."""


def raise_limit() -> None:
    """Raise the process's limit on open files to what it may be raised to."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    except (ValueError, OSError):  # macOS allows less than it says
        return


def most_clients() -> int:
    """Return how many connections of clients the limit on open files leaves room for."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return sys.maxsize
    return max(1, (limit - RESERVE) // 2)


class Full(asyncio.Protocol):
    """A connection beyond what there is room for: 503 at once, and the end."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Answer without waiting for a request."""
        to = cast("asyncio.Transport", transport)  # uvloop's is none by name
        status, headers, body = Answer.of(refusals.no_connection(), "")
        to.write(heads.answer(status, headers, len(body), closing=True) + body)
        to.close()
