"""What carries requests: from clients to the desk and from there to the servers.

`TRANSPORTS` names them. All decide the same, for none decides anything: one suite of tests
runs on each.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from runtime.gateway.desk import Desk


class Transport(Protocol):
    """A listening socket for clients and connections to servers."""

    async def open(self, host: str, port: int) -> int:
        """Listen; return the port, which is another one where 0 was asked for.

        Raises:
            OSError: the address cannot be had.
        """
        ...

    async def close(self, hurry: asyncio.Event) -> None:
        """Take no more requests, let running ones finish for `GRACE_S`, end the rest.

        Args:
            hurry: Once it is set, the rest is ended at once.
        """
        ...


def _protocol(desk: Desk) -> Transport:
    from runtime.gateway.transports.wire import Wire  # noqa: PLC0415 (one of two is needed)

    return Wire(desk)


def _aiohttp(desk: Desk) -> Transport:
    from runtime.gateway.transports.twin import Twin  # noqa: PLC0415 (one of two is needed)

    return Twin(desk)


DEFAULT: Final = "protocol"
TRANSPORTS: Final[Mapping[str, Callable[[Desk], Transport]]] = {
    "protocol": _protocol,
    "aiohttp": _aiohttp,
}
"""`protocol`: asyncio protocols and httptools; `aiohttp`: that library, four times the cost."""
